"""Imagen's `predict`, both halves: a prompt becomes a line, an answer becomes an outcome. Pure.

What it fears: a filtered picture that takes its neighbours with it, and a reason that is read as a picture.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pipeline.backends.base import Drawing, Outcome
from pipeline.backends.wire import THRESHOLDS, TRANSIENT
from pipeline.money import Usage
from pipeline.prompt import Prompt
from pipeline.results import payload

_encode = msgspec.json.Encoder(order="deterministic").encode
_CODES = re.compile(r"Support codes?:\s*([\d,\s]+)")
_POLICY = re.compile(r"Responsible AI|Support codes?:|usage guidelines", re.IGNORECASE)
"""What a refused prompt is told, in words only: its code is 400, as that of a wrong parameter."""


class _Line(msgspec.Struct):
    predict: msgspec.Raw = msgspec.Raw()


def encode(wire_id: str, prompt: Prompt) -> bytes:
    """A line of requests/. The same prompt is always the same bytes."""
    asked = {"instances": [{"prompt": prompt.text}], "parameters": dict(_parameters(prompt))}
    return _encode({"key": wire_id, "predict": asked})


def _parameters(prompt: Prompt) -> Iterator[tuple[str, Any]]:
    own = prompt.imagen
    assert own is not None
    said = {
        "sampleCount": own.pictures,
        "includeRaiReason": True,  # or nobody could tell what was withheld, and why
        "aspectRatio": prompt.aspect_ratio,
        "sampleImageSize": prompt.image_size,
        "negativePrompt": own.negative_prompt,
        "personGeneration": own.person_generation and own.person_generation.upper(),
        "safetySetting": None if own.safety_filter is None else THRESHOLDS[own.safety_filter],
        "seed": prompt.seed,
        "guidanceScale": own.guidance,
        "language": own.language,
        "enhancePrompt": own.enhance_prompt,
        "addWatermark": own.watermark,
        "includeSafetyAttributes": own.safety_scores,
    }
    yield from ((name, value) for name, value in said.items() if value is not None)
    if own.output is not None:
        quality = {} if own.quality is None else {"compressionQuality": own.quality}
        yield "outputOptions", {"mimeType": f"image/{own.output}"} | quality


def is_predict(line: bytes) -> bool:
    """Whether a line of requests/ is one of Imagen's."""
    return bool(bytes(msgspec.json.decode(line, type=_Line).predict))


def predict_of(line: bytes, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """The body of the call that a line asks for, with these labels; None: it is not one of Imagen's."""
    if not is_predict(line):
        return None
    body: dict[str, Any] = msgspec.json.decode(line)["predict"]
    return body | ({"labels": dict(labels)} if labels else {})


def outcome(answer: Mapping[str, Any]) -> Outcome:
    """What an answer says: its pictures, each a result, and what was withheld. Never raises for anything a server
    could send."""
    if isinstance(error := answer.get("error"), dict):
        return _refused(error)
    found = answer.get("predictions", [])
    if not isinstance(found, list):
        return Outcome(kind="error", message="the answer holds no predictions")
    predictions = [each for each in found if isinstance(each, dict)]
    drawings, broken = _drawings(predictions)
    reasons = list(
        dict.fromkeys(filter(None, (_text(each.get("raiFilteredReason")) for each in predictions)))
    )
    return Outcome(
        kind="ok" if drawings else "broken" if broken else "blocked" if reasons else "no_image",
        reason=_codes(reasons),
        message="; ".join([*reasons, *(["a picture of it could not be read"] if broken else [])]) or None,
        drawings=tuple(drawings),
        usage=Usage(pictures=len(drawings) + broken),
        alternatives=True,
        safety_scores=_scores(predictions),
    )


def _refused(error: Mapping[str, Any]) -> Outcome:
    """What a call was refused for: its prompt, something else that asking again would not better, or the hour."""
    message, code = _text(error.get("message")) or "", error.get("code")
    if _POLICY.search(message):
        return Outcome(kind="blocked", reason=_codes([message]), message=message, billed=False)
    kind = "error" if code in TRANSIENT else "invalid"
    return Outcome(kind, _text(error.get("status")) or str(code), message or "refused", billed=False)


def _drawings(predictions: list[dict[str, Any]]) -> tuple[list[Drawing], int]:
    """The pictures of an answer in order, and how many of it could not be read."""
    drawings, broken = [], 0
    for each in predictions:
        data = each.get("bytesBase64Encoded")
        if data is None:
            continue
        try:
            drawing = Drawing(payload(data), _text(each.get("mimeType")), _text(each.get("prompt")))
        except (ValueError, AttributeError):
            broken += 1
        else:
            drawings.append(drawing)
    return drawings, broken


def _codes(reasons: list[str]) -> str | None:
    """Google's numbers for why something was withheld, which its page explains."""
    codes = {
        code for reason in reasons for found in _CODES.findall(reason) for code in re.findall(r"\d+", found)
    }
    return " ".join(sorted(codes)) or ("RAI" if reasons else None)


def _scores(predictions: list[dict[str, Any]]) -> str | None:
    """The safety attributes of the prompt and of each picture, as they came."""
    found = [
        {name: each[name] for name in ("contentType", "safetyAttributes") if name in each}
        for each in predictions
        if isinstance(each.get("safetyAttributes"), dict)
    ]
    try:
        return _encode(found).decode() if found else None
    except (TypeError, ValueError, RecursionError):  # a payload, or a number beyond all bounds, among them
        return None


def _text(value: object) -> str | None:
    """A text that every file can hold: a lone surrogate is legal JSON, and no legal text."""
    return value.encode(errors="replace").decode() if isinstance(value, str) and value else None
