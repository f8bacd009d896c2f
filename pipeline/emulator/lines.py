"""One line of a batch job's input, read as strictly as the service does: what is asked of the model."""

import binascii
import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec

from pipeline.emulator.fields import LINE, Shape, normal
from pipeline.emulator.models import Model
from pipeline.emulator.pictures import Look, look
from pipeline.emulator.problems import INVALID_ARGUMENT, RowProblem
from pipeline.emulator.thoughts import check_turns

WORDS = 96  # characters of the prompt that go into the picture

NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SEVERAL = re.compile(
    rf"\b(\d{{1,2}}|{'|'.join(NUMBERS)})(?:[ -][\w-]+){{0,3}}? "
    r"(?:pictures|images|photos|photographs|illustrations|drawings|views|variations|panels)\b",
    re.IGNORECASE,
)
ILLUSTRATED = re.compile(r"\billustrated (?:recipe|story|guide)|\balongside the text", re.IGNORECASE)
MOST_PICTURES = 10


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture shown to the model, known by its bytes alone."""

    digest: str
    look: Look


Resolve = Callable[
    [str], Reference
]  # the file behind a URI, as it was when the job began; RowProblem if it is gone


@dataclass(frozen=True, slots=True)
class Asked:
    """What one row asks of a model. Equal asks have equal seeds, whatever the files and rows are called."""

    seed: bytes
    words: str
    references: tuple[Reference, ...]
    ratio: str
    size: str
    text: bool  # whether words are wanted besides the picture
    level: Literal["", "MINIMAL", "LOW", "MEDIUM", "HIGH"]  # of thinking
    thoughts: bool  # whether thoughts are to be shown
    prompt_tokens: int
    pictures: int = 1  # that the prompt asks for
    searches: tuple[str, ...] = ()  # what it may look up: web, image
    mime: str = ""  # the model's own where it is empty


def load(line: bytes, *, where: str) -> dict[str, Any]:
    """The line's JSON object. RowProblem when it is none."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RowProblem(INVALID_ARGUMENT, f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RowProblem(INVALID_ARGUMENT, f"{where}: not a JSON object")
    return value


def read(
    value: dict[str, Any],
    *,
    where: str,
    model: Model,
    resolve: Resolve,
    salt: bytes,
    lenient: bool = False,
    shape: Shape = LINE,
) -> tuple[Asked, str]:
    """What the line asks, and its last prompt whole. RowProblem, with the line and the field, for anything
    the service would refuse.
    """
    try:
        line = normal(value, shape, where="", lenient=lenient)
        if not line.get("request"):
            raise RowProblem(INVALID_ARGUMENT, "'request' is missing or empty")
        return ask(line["request"], model=model, resolve=resolve, salt=salt)
    except RowProblem as problem:
        raise RowProblem(problem.code, f"{where}: {problem.message}" if where else problem.message) from None


def ask(request: dict[str, Any], *, model: Model, resolve: Resolve, salt: bytes) -> tuple[Asked, str]:
    references: list[Reference] = []
    contents = request.get("contents") or []
    if not contents:
        raise RowProblem(INVALID_ARGUMENT, "'request.contents' is empty")
    canonical = [
        canonical_content(content, number, resolve, references) for number, content in enumerate(contents)
    ]
    settings = request.get("generationConfig") or {}
    ratio, size = frame(settings.get("imageConfig") or {}, model, references)
    level, thoughts = thinking(settings.get("thinkingConfig") or {}, model)
    if (candidates := int(settings.get("candidateCount") or 1)) != 1:
        raise RowProblem(
            INVALID_ARGUMENT, f"candidateCount {candidates}: only one candidate can be asked for"
        )
    check_turns(contents, model)
    # What a request is called or billed under is no part of what is asked.
    rest = {
        name: request[name]
        for name in request.keys() - {"contents", "labels", "model", "store", "serviceTier"}
    }
    whole = msgspec.json.encode([model.name, canonical, rest], order="sorted")
    prompt = "\n".join(part["text"] for part in contents[-1].get("parts", ()) if part.get("text"))
    asked = Asked(
        seed=hashlib.sha256(salt + whole).digest(),
        words=" ".join(prompt[: 2 * WORDS].split())[:WORDS],
        references=tuple(references),
        ratio=ratio,
        size=size,
        text="TEXT" in modalities(settings, model),
        level=level,
        thoughts=thoughts,
        prompt_tokens=text_tokens(contents, request.get("systemInstruction")),
        pictures=wanted(prompt),
        searches=searches(request.get("tools") or (), model),
        mime=mime_of(settings.get("imageConfig") or {}),
    )
    return asked, prompt


def wanted(prompt: str) -> int:
    """How many pictures a prompt asks for, in words or in digits."""
    if found := SEVERAL.search(prompt):
        number = found[1].lower()
        return max(1, min(MOST_PICTURES, int(number) if number.isdigit() else NUMBERS.index(number) + 2))
    return 3 if ILLUSTRATED.search(prompt) else 1


def searches(tools: Iterable[dict[str, Any]], model: Model) -> tuple[str, ...]:
    """What the model may look up: the web, unless the tool says otherwise."""
    found: list[str] = []
    for tool in tools:
        if "googleSearch" not in tool:
            continue
        types = (tool["googleSearch"] or {}).get("searchTypes") or {"webSearch": {}}
        found += (name.removesuffix("Search") for name in types)
    if unknown := [kind for kind in found if kind not in model.searches]:
        raise RowProblem(INVALID_ARGUMENT, f"{unknown[0]} search as a tool is not enabled for {model.name}")
    return tuple(dict.fromkeys(found))


def mime_of(asked: dict[str, Any]) -> str:
    mime = (asked.get("imageOutputOptions") or {}).get("mimeType") or ""
    if mime not in ("", "image/png", "image/jpeg"):
        raise RowProblem(INVALID_ARGUMENT, f"'imageOutputOptions.mimeType' {mime!r} is not supported")
    return str(mime)


def canonical_content(
    content: dict[str, Any], number: int, resolve: Resolve, references: list[Reference]
) -> dict[str, Any]:
    """The content with every picture replaced by its digest; pictures are noted as references."""
    where = f"request.contents[{number}]"
    role = content.get("role", "user")
    if role not in ("user", "model", "function"):
        raise RowProblem(INVALID_ARGUMENT, f"'{where}.role' is {role!r}; valid roles are user and model")
    if not content.get("parts"):
        raise RowProblem(INVALID_ARGUMENT, f"'{where}.parts' is empty")
    parts = []
    for place, part in enumerate(content["parts"]):
        found = reference(part, f"{where}.parts[{place}]", resolve)
        if found is None:
            parts.append(part)
            continue
        references.append(found)
        parts.append({"picture": found.digest})
    return {"role": role, "parts": parts}


def reference(part: dict[str, Any], where: str, resolve: Resolve) -> Reference | None:
    if "text" in part and not part["text"]:
        raise RowProblem(INVALID_ARGUMENT, f"'{where}.text' is empty")
    if (file := part.get("fileData")) is not None:
        if not file.get("fileUri"):
            raise RowProblem(INVALID_ARGUMENT, f"'{where}.fileData.fileUri' is missing")
        return resolve(file["fileUri"])
    if (blob := part.get("inlineData")) is not None:
        if not blob.get("mimeType"):
            raise RowProblem(INVALID_ARGUMENT, f"'{where}.inlineData.mimeType' is missing")
        return seen(decoded(blob.get("data") or "", where))
    if not part.keys() - {"thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"}:
        raise RowProblem(INVALID_ARGUMENT, f"'{where}' has neither text nor data")
    return None


def decoded(text: str, where: str) -> bytes:
    """Base64 in either alphabet, padded or not."""
    try:
        plain = text.replace("-", "+").replace("_", "/").rstrip("=")
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise RowProblem(INVALID_ARGUMENT, f"'{where}.inlineData.data' is not base64") from None


@lru_cache(maxsize=32)
def seen(data: bytes) -> Reference:
    try:
        return Reference(hashlib.sha256(data).hexdigest(), look(data))
    except (OSError, ValueError):
        raise RowProblem(INVALID_ARGUMENT, "Unable to process input image: the data is no picture") from None


def frame(asked: dict[str, Any], model: Model, references: list[Reference]) -> tuple[str, str]:
    """The ratio and the size of the picture to make."""
    size = asked.get("imageSize")
    if size is not None and not model.settable_size:
        raise RowProblem(INVALID_ARGUMENT, f"'imageConfig.imageSize' cannot be set for {model.name}")
    if size is not None and size not in model.tokens:
        raise RowProblem(
            INVALID_ARGUMENT, f"'imageConfig.imageSize' {size!r} is not one of {', '.join(model.tokens)}"
        )
    ratio = asked.get("aspectRatio")
    if ratio is None:
        shown = references[0].look if references else None
        return (model.nearest_ratio(shown.width, shown.height) if shown else "1:1"), size or "1K"
    if ratio not in model.pixels:
        raise RowProblem(
            INVALID_ARGUMENT, f"'imageConfig.aspectRatio' {ratio!r} is not one of {', '.join(model.pixels)}"
        )
    return ratio, size or "1K"


def thinking(
    asked: dict[str, Any], model: Model
) -> tuple[Literal["", "MINIMAL", "LOW", "MEDIUM", "HIGH"], bool]:
    level = asked.get("thinkingLevel")
    if not model.levels:
        if level is not None or asked.get("includeThoughts"):
            raise RowProblem(INVALID_ARGUMENT, f"Thinking is not enabled for {model.name}")
        return "", False
    match str(level or model.unasked or model.levels[0]).upper():
        case ("MINIMAL" | "LOW" | "MEDIUM" | "HIGH") as known if known in model.levels:
            return known, bool(asked.get("includeThoughts"))
        case _:
            raise RowProblem(
                INVALID_ARGUMENT, f"thinkingLevel {level!r} is not one of {', '.join(model.levels)}"
            )


def modalities(settings: dict[str, Any], model: Model) -> set[str]:
    wanted = {str(name).upper() for name in settings.get("responseModalities") or ("TEXT", "IMAGE")}
    if unknown := wanted - {"TEXT", "IMAGE"}:
        raise RowProblem(INVALID_ARGUMENT, f"responseModalities {sorted(unknown)} are not supported")
    if wanted == {"IMAGE"} and not model.image_alone:
        raise RowProblem(INVALID_ARGUMENT, f"{model.name} answers with TEXT and IMAGE only")
    return wanted


def text_tokens(contents: list[dict[str, Any]], system: dict[str, Any] | None) -> int:
    letters = sum(
        len(part.get("text") or "")
        for content in (*contents, *([system] if system else ()))
        for part in content.get("parts") or ()
    )
    return math.ceil(letters / 4)
