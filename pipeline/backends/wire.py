"""Gemini's JSON lines, both halves: a prompt becomes a line, a line becomes an outcome. Pure."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import pybase64

from pipeline.backends.base import Drawing, Outcome
from pipeline.money import Usage
from pipeline.prompt import Prompt
from pipeline.references import Reference
from pipeline.results import payload

PLACEHOLDER = re.compile(rb'"fileUri":"nightshoot:sha256/([0-9a-f]{64})","mimeType":"(image/[a-z]+)"')
"""A reference in requests/. Inside a string of the user's the quotes would be escaped, so it matches only ours."""

_SHOWN = re.compile(rb'\{"fileData":\{' + PLACEHOLDER.pattern + rb"\}\}")

_MADE = re.compile(
    rb'(?:"inlineData":\{"data"|"thoughtSignature"|"thought_signature"):'
    rb'"(nightshoot:(picture|signature)/([0-9a-f]{64})/(\d+)/([^"\\]+))"'
)
"""What the model made, within a conversation: a picture or a long signature, its digest, its bytes, and its file."""

LONG = 8192
"""Characters of a signature that is kept in a file of its own: each further turn says all of them again."""

TRANSIENT = frozenset({1, 2, 4, 8, 10, 13, 14, 408, 429, 500, 502, 503, 504})
"""Codes of a row's error that another attempt may cure: gRPC's on the Developer API, HTTP's on Vertex."""

BLOCKED = frozenset(
    [
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "SAFETY",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "SPII",
        "RECITATION",
        "MODEL_ARMOR",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
    ]
)
OURS = frozenset({"MISSING_THOUGHT_SIGNATURE", "LANGUAGE", "MALFORMED_FUNCTION_CALL"})
"""Reasons that mean the request was wrong: sending it again unchanged ends the same."""

THRESHOLDS = {
    "low": "BLOCK_LOW_AND_ABOVE",
    "medium": "BLOCK_MEDIUM_AND_ABOVE",
    "high": "BLOCK_ONLY_HIGH",
    "none": "BLOCK_NONE",
    "off": "OFF",
}
"""Google's words for from which probability of harm on something is blocked."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*=*")
_NO_FILE = re.compile(r"\bFile files/\S+ or it may not exist")
_TEXT = "\0text\0"  # no other text has it between unescaped quotes
_CONTENTS = b',"request":{"contents":['
MOST = 10**12
"""No count of anything in one answer is larger."""

_encode = msgspec.json.Encoder(order="deterministic").encode
_as_given = msgspec.json.Encoder(enc_hook=lambda long: long.text()).encode


def encode(wire_id: str, prompt: Prompt) -> bytes:
    """A line of requests/. The same prompt is always the same bytes."""
    before, after = _around_the_text(
        prompt.references,
        prompt.system,
        prompt.aspect_ratio,
        prompt.image_size,
        prompt.modalities,
        prompt.thinking,
        prompt.search,
        prompt.seed,
        None if prompt.temperature is None else repr(prompt.temperature),  # 0 and 0.0 are one key
        None if prompt.top_p is None else repr(prompt.top_p),
        prompt.top_k,
        prompt.safety,
        prompt.store,
        prompt.thoughts,
    )
    if prompt.history is not None:
        # Every line begins with its contents, and this turn is the last of them.
        before = before.replace(_CONTENTS, _CONTENTS + prompt.history[1:-1].encode() + b",", 1)
    return b'{"key":%b%b%b%b' % (_encode(wire_id), before, _encode(prompt.text), after)


@lru_cache(maxsize=1024)
def _around_the_text(
    references: tuple[Reference, ...],
    system: str | None,
    aspect_ratio: str | None,
    image_size: str | None,
    modalities: tuple[str, ...],
    thinking: str | None,
    search: tuple[str, ...],
    seed: int | None,
    temperature: str | None,
    top_p: str | None,
    top_k: int | None,
    safety: tuple[tuple[str, str], ...],
    store: bool | None,
    thoughts: bool,
) -> tuple[bytes, bytes]:
    """A line from behind its key to its text, and from there to its end: most lines share these."""
    prompt = Prompt(
        "",
        _TEXT,
        references,
        system,
        aspect_ratio,
        image_size,
        modalities,
        thinking,
        search,
        seed,
        None if temperature is None else float(temperature),
        None if top_p is None else float(top_p),
        top_k,
        safety,
        store,
        thoughts,
    )
    before, _, after = _whole("", prompt).removeprefix(b'{"key":""').partition(_encode(_TEXT))
    return before, after


def _asked(prompt: Prompt) -> dict[str, Any]:
    """A prompt's own turn of the conversation."""
    parts: list[dict[str, Any]] = [
        {"fileData": {"fileUri": f"nightshoot:sha256/{shown.sha256}", "mimeType": shown.mime}}
        for shown in prompt.references
    ]
    parts.append({"text": prompt.text})
    return {"role": "user", "parts": parts}


def _whole(wire_id: str, prompt: Prompt) -> bytes:
    request: dict[str, Any] = {
        "contents": [_asked(prompt)],
        "generationConfig": _config(prompt),
    }
    if prompt.system:
        request["systemInstruction"] = {"parts": [{"text": prompt.system}]}
    if prompt.safety:
        request["safetySettings"] = [
            {"category": f"HARM_CATEGORY_{harm.upper()}", "threshold": THRESHOLDS[threshold]}
            for harm, threshold in prompt.safety
        ]
    if prompt.store is not None:
        request["store"] = prompt.store
    if prompt.search:
        request["tools"] = [
            {"googleSearch": {"searchTypes": {f"{kind}Search": {} for kind in prompt.search}}}
        ]
    return _encode({"key": wire_id, "request": request})


def _config(prompt: Prompt) -> dict[str, Any]:
    image = {"aspectRatio": prompt.aspect_ratio, "imageSize": prompt.image_size}
    thinking = {
        "thinkingLevel": prompt.thinking.upper() if prompt.thinking else None,
        "includeThoughts": prompt.thoughts or None,
    }
    config: dict[str, Any] = {
        "responseModalities": list(prompt.modalities),
        "imageConfig": {name: value for name, value in image.items() if value is not None},
        "thinkingConfig": {name: value for name, value in thinking.items() if value is not None},
        "seed": prompt.seed,
        "temperature": prompt.temperature,
        "topP": prompt.top_p,
        "topK": prompt.top_k,
    }
    return {name: value for name, value in config.items() if value not in (None, {})}


def references_of(line: bytes) -> Iterator[tuple[str, str]]:
    """Digest and type of every reference that a stored line names."""
    return ((match[1].decode(), match[2].decode()) for match in PLACEHOLDER.finditer(line))


def put_in_place(line: bytes, uri: Callable[[str, str], str]) -> bytes:
    """The line as it is uploaded: every reference by the remote URI of its digest and type."""

    def put(match: re.Match[bytes]) -> bytes:
        digest, mime = match[1].decode(), match[2].decode()
        return b'"fileUri":' + _encode(uri(digest, mime)) + b',"mimeType":' + _encode(mime)

    return PLACEHOLDER.sub(put, line)


def put_inline(line: bytes, read: Callable[[str, str], bytes]) -> bytes:
    """The line as it is uploaded where it carries its references itself. No JSON encoder sees them."""
    pieces: list[bytes] = []
    end = 0
    for match in _SHOWN.finditer(line):
        data = pybase64.b64encode(read(match[1].decode(), match[2].decode()))
        pieces += [
            line[end : match.start()],
            b'{"inlineData":{"data":"',
            data,
            b'","mimeType":"',
            match[2],
            b'"}}',
        ]
        end = match.end()
    return b"".join([*pieces, line[end:]])


def inline_bytes(prompt: Prompt) -> int:
    """How much longer a request is that carries its references itself."""
    return sum(_base64(shown.size) for shown in prompt.references)


def made_bytes(prompt: Prompt) -> int:
    """How much longer a request is whose conversation has in it what the model made."""
    if prompt.history is None:
        return 0
    found = _MADE.finditer(prompt.history.encode())
    return sum(int(match[4]) if match[2] == b"signature" else _base64(int(match[4])) for match in found)


def put_made(line: bytes, read: Callable[[str, str], bytes]) -> bytes:
    """The line with what the model made in it, each read by its digest and the name of its file."""
    pieces: list[bytes] = []
    end = 0
    for match in _MADE.finditer(line):
        data = read(match[3].decode(), match[5].decode())
        pieces += [line[end : match.start(1)], data if match[2] == b"signature" else pybase64.b64encode(data)]
        end = match.end(1)
    return b"".join([*pieces, line[end:]]) if pieces else line


def _base64(size: int) -> int:
    return -(-size // 3) * 4


# --- the conversation -------------------------------------------------------------------------------------------


def said(
    parts: Iterable[Mapping[str, Any]],
    pictures: Sequence[Mapping[str, Any]],
    *,
    signed: bool,
    keep: Callable[[str, bytes], str],
) -> str | None:
    """What a model said, to be told to it again: JSON of its parts, member for member and in their order; each
    picture by the file that holds it, and a long signature by the one that `keep` puts it in.

    None where that cannot be told again: a picture of it is not there, or wants a signature and has none. Thoughts
    that carry no signature were never part of the conversation.
    """
    told: list[dict[str, Any]] = []
    files = iter(pictures)
    for given in parts:
        part = {name: value for name, value in given.items() if value is not None}
        blob = _dict(part.pop("inlineData", None) or part.pop("inline_data", None))
        signature = part.get("thoughtSignature", part.get("thought_signature"))
        is_thought = part.get("thought") is True
        if (not blob and not part) or (is_thought and (blob or not signature)):
            continue
        begins = all(each.get("thought") is True for each in told)
        if signed and not signature and not is_thought and (blob or begins):
            return None
        if isinstance(signature, str):
            name = "thoughtSignature" if "thoughtSignature" in part else "thought_signature"
            part[name] = _kept_signature(signature, keep)
        if blob:
            if (file := next(files, None)) is None:
                return None
            part = {"inlineData": _kept_picture(blob, file), **part}
        told.append(part)
    return _written(told) if next(files, None) is None else None


def _kept_signature(signature: str, keep: Callable[[str, bytes], str]) -> str:
    if len(signature) < LONG or _BASE64.fullmatch(signature) is None:
        return signature
    data = signature.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    return f"nightshoot:signature/{sha256}/{len(data)}/{keep(sha256, data)}"


def _kept_picture(blob: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """A picture's data by its file, and whatever else was said of it."""
    names = ("data", "mimeType", "mime_type")
    more = {name: value for name, value in blob.items() if name not in names and value is not None}
    place = f"nightshoot:picture/{file['sha256']}/{file['bytes']}/{file['path']}"
    return {"data": place, "mimeType": file["declared_mime"] or file["mime"], **more}


def conversation(prompt: Prompt, said: str) -> str:
    """The history of the turn that follows this prompt, which was answered so: JSON of the contents."""
    before = [prompt.history[1:-1]] if prompt.history else []
    return (
        "["
        + ",".join([*before, _encode(_asked(prompt)).decode(), f'{{"parts":{said},"role":"model"}}'])
        + "]"
    )


def outcome(body: Mapping[str, Any]) -> Outcome:
    """What a line of the Developer API says. Anything it leaves out, or says oddly, is taken as not said."""
    response = body.get("response")
    if not isinstance(response, dict):
        return _error(_dict(body.get("error")))
    candidate = _dict((_list(response.get("candidates")) or [None])[0])
    parts = [_dict(part) for part in _list(_dict(candidate.get("content")).get("parts"))]
    answer = [part for part in parts if part.get("thought") is not True]
    thoughts, _ = _said(part for part in parts if part.get("thought") is True)
    said, broken = _said(answer)
    drawings = tuple(each for each in said if isinstance(each, Drawing))
    kind, reason = _kind(response, candidate, drawings=bool(drawings), broken=broken)
    return Outcome(
        kind=kind,
        reason=reason,
        message=_message(response, candidate),
        text="\n".join(each for each in said if isinstance(each, str)) or None,
        parts=tuple(parts),
        grounding=_grounding(candidate),
        drawings=drawings,
        usage=usage(response),
        model_version=_str(response.get("modelVersion")),
        response_id=_str(response.get("responseId")),
        at=moment(response.get("createTime")),
        order=tuple(each if isinstance(each, str) else None for each in said),
        thoughts=thoughts,
    )


def _error(error: dict[str, Any]) -> Outcome:
    code = _int(error.get("code"))
    # A reference that died in the queue is shown anew.
    transient = code is None or code in TRANSIENT or _NO_FILE.search(_str(error.get("message")) or "")
    return Outcome(
        kind="error" if transient else "invalid",
        reason=_str(error.get("status")) or (None if code is None else str(code)),
        message=_str(error.get("message")) or "the line holds neither a response nor an error",
        billed=not error,  # an error is not billed; nothing said is not nothing billed
    )


def _said(parts: Iterable[dict[str, Any]]) -> tuple[tuple[str | Drawing, ...], bool]:
    """The words and the pictures of some parts, in their order, and whether one of the pictures could not be read."""
    said: list[str | Drawing] = []
    broken = False
    for part in parts:
        if (text := _str(part.get("text"))) is not None:
            said.append(text)
        inline = _dict(part.get("inlineData", part.get("inline_data")))
        data, mime = inline.get("data"), _str(inline.get("mimeType", inline.get("mime_type")))
        if data is None or (mime is not None and not mime.startswith("image/")):
            continue
        try:
            said.append(Drawing(payload(data), mime))
        except (ValueError, AttributeError):
            broken = True
    return tuple(said), broken


def _kind(
    response: dict[str, Any], candidate: dict[str, Any], *, drawings: bool, broken: bool
) -> tuple[str, str | None]:
    reason = _str(candidate.get("finishReason"))
    refused = _str(_dict(response.get("promptFeedback")).get("blockReason"))
    if refused is not None and not drawings:
        return "blocked", refused
    if broken:
        return "broken", reason
    if drawings:
        return "ok", reason
    if reason in BLOCKED:
        return "blocked", reason
    if reason in OURS:
        return "invalid", reason
    if reason == "MAX_TOKENS":
        return "truncated", reason
    if reason == "STOP" and _dict(candidate.get("content")).get("parts"):
        return "text_only", reason
    return "no_image", reason


def _message(response: dict[str, Any], candidate: dict[str, Any]) -> str | None:
    return _str(candidate.get("finishMessage")) or _str(
        _dict(response.get("promptFeedback")).get("blockReasonMessage")
    )


def usage(response: dict[str, Any]) -> Usage | None:
    """Token counts by what they cost. Candidates hold pictures and words but no thoughts, so totals do not add up."""
    counts = _dict(response.get("usageMetadata"))
    if _int(counts.get("promptTokenCount")) is None and _int(counts.get("candidatesTokenCount")) is None:
        return None  # not said: that is not the same as nothing
    candidate = _dict((_list(response.get("candidates")) or [None])[0])
    details = [_dict(detail) for detail in _list(counts.get("candidatesTokensDetails"))]
    image = _of_pictures(details)
    candidates = _int(counts.get("candidatesTokenCount")) or 0
    if not details:
        # The dearer reading, where the provider does not say; but for an answer that is words and nothing else.
        image = 0 if _is_words(candidate) else candidates
    found = _looked_up(candidate)
    queries = ("webSearchQueries", "web_search_queries", "imageSearchQueries", "image_search_queries")
    return Usage(
        prompt=(_int(counts.get("promptTokenCount")) or 0)
        + (_int(counts.get("toolUsePromptTokenCount")) or 0),
        references=_of_pictures([_dict(detail) for detail in _list(counts.get("promptTokensDetails"))]),
        image=image,
        text=max(0, candidates - image),
        thought=_int(counts.get("thoughtsTokenCount")) or 0,
        searches=sum(len(_list(found.get(name))) for name in queries),
    )


def _is_words(candidate: dict[str, Any]) -> bool:
    parts = [_dict(part) for part in _list(_dict(candidate.get("content")).get("parts"))]
    pictured = any("inlineData" in part or "inline_data" in part for part in parts)
    # One that was withheld may have been billed.
    return not pictured and candidate.get("finishReason") in ("STOP", "MAX_TOKENS", "NO_IMAGE")


def _of_pictures(details: list[dict[str, Any]]) -> int:
    return sum(_int(each.get("tokenCount")) or 0 for each in details if each.get("modality") == "IMAGE")


def _looked_up(candidate: dict[str, Any]) -> dict[str, Any]:
    return _dict(candidate.get("groundingMetadata", candidate.get("grounding_metadata")))


def _grounding(candidate: dict[str, Any]) -> str | None:
    """All that the answer rests on, its members and their order as they came."""
    found = _looked_up(candidate)
    if not found:
        return None
    return _written(found)


def _written(found: Any) -> str | None:
    """JSON text of what was read, as it was given."""
    try:
        return _as_given(found).decode()
    except (ValueError, OverflowError, RecursionError):
        return _oddly_given(found)


def _oddly_given(found: Any) -> str | None:
    """The same of what no fast encoder writes: half a pair of surrogates, numbers beyond all bounds."""
    try:
        text = json.dumps(found, ensure_ascii=False, default=lambda long: long.text())
    except (ValueError, RecursionError):  # a number of more digits, or more brackets, than anybody reads
        return None
    return text.encode(errors="replace").decode()


def moment(value: object) -> datetime | None:
    """A time as Google writes it, with up to nine decimals; Python holds six."""
    match = (
        re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", value)
        if isinstance(value, str)
        else None
    )
    if match is None:
        return None
    try:
        return datetime.fromisoformat(f"{match[1]}{(match[2] or '')[:7]}{match[3]}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: object) -> str | None:
    """A text that every file can hold: a lone surrogate is legal JSON, and no legal text."""
    return value.encode(errors="replace").decode() if isinstance(value, str) and value else None


def _int(value: object) -> int | None:
    """A count: JSON writes int64 as a string, and some write floats. What is absurd counts as not said."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"\d{1,15}", value):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    count = int(value)
    return count if 0 <= count <= MOST else None
