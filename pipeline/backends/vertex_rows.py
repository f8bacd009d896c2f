"""Vertex AI's JSON lines, where they differ from the Developer API's: who a row is, and how it failed. Pure.

A row has no key here. It carries a label, which comes back with the request that every answer repeats; and the rest of
that request is a second witness.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import msgspec

from pipeline.backends import wire
from pipeline.backends.base import Outcome
from pipeline.results import Line, Payload, payload

LABEL = "nightshoot"
"""What a row's label is called. It says the wire id and the mark of the request: b00017-0212-3fa2c1d0e4b5a697."""

_PHRASES = {status.phrase: status.value for status in HTTPStatus}
_encode = msgspec.json.Encoder(order="deterministic").encode

Asked = Mapping[str, tuple[str, ...]]
"""The wire ids of a batch by the mark of what they ask."""


def row(line: bytes, labels: Mapping[str, str] | None = None) -> bytes:
    """A line of requests/, its references in place, as Vertex AI reads it; with labels of the user's own."""
    said = msgspec.json.decode(line)
    request = said["request"]
    request.pop("store", None)  # Vertex AI keeps nothing, and knows no such field
    request["labels"] = {**(labels or {}), LABEL: f"{said['key']}-{mark(request)}"}
    return _encode({"request": request})


def asked(lines: Iterable[bytes]) -> Asked:
    """What a file of rows asks."""
    found: dict[str, list[str]] = {}
    for line in lines:
        label = msgspec.json.decode(line)["request"]["labels"][LABEL]
        wire_id, _, said = label.rpartition("-")
        found.setdefault(said, []).append(wire_id)
    return {said: tuple(sorted(ids)) for said, ids in found.items()}


def mark(request: Mapping[str, Any]) -> str:
    """What tells one request from another, however it is written: a digest without labels, nulls and spelling."""
    plain = _plain({name: value for name, value in request.items() if name != "labels"})
    return hashlib.sha256(_encode(plain)).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """One spelling of a value, which its way through the service may have written otherwise."""
    match value:
        case Mapping():
            return {
                _camel(name): _digest(each) if name == "data" else _plain(each)
                for name, each in value.items()
                if each is not None
            }
        case list():
            return [_plain(each) for each in value]
        case float():
            # A float travels in 32 bits: 0.7 may come back as 0.699999988.
            return f"{value:.6g}"
        case int() if not isinstance(value, bool):
            return f"{value:.6g}" if abs(value) < 10**6 else str(value)
    return value


def _digest(data: Any) -> Any:
    """What a picture is in a mark, however its base64 is written: megabytes of it need no copy."""
    try:
        return hashlib.sha256(payload(data)).hexdigest()
    except (ValueError, AttributeError):  # no base64, or no text
        return data.text() if isinstance(data, Payload) else _plain(data)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


def identity(line: Line, known: Callable[[], Asked | None]) -> str | None:
    """The wire id that a line answers. `known` says what was asked, and is called where the label is not enough.

    The label decides, unless the rest of the request is another row's. Without a label the request decides: rows that
    ask the very same are interchangeable, and each of their answers goes to one of them, always the same one.
    """
    request = line.body.get("request") if line.body else None
    if not isinstance(request, dict):
        return None
    labels = request.get("labels")
    label = labels.get(LABEL) if isinstance(labels, dict) else None
    said = mark(request)
    wire_id, _, meant = label.rpartition("-") if isinstance(label, str) else ("", "", "")
    if wire_id and meant == said:
        return wire_id
    others = (known() or {}).get(said, ())
    if wire_id:
        # Written back in a way nobody foresaw, or under another row's label: what it asks tells the two apart.
        return None if others else wire_id
    if not others:
        return None
    turn = int.from_bytes(hashlib.sha256(line.raw).digest()[:8], "big")
    return others[turn % len(others)]


def outcome(line: Line) -> Outcome:
    """What a line says. Anything it leaves out, or says oddly, is taken as not said."""
    assert line.body is not None, "an unreadable line has no outcome"
    response, status = line.body.get("response"), line.body.get("status")
    answered = isinstance(response, dict) and bool(response)
    body = {"response": response} if answered else {"error": _error(status)}
    found = wire.outcome(body)
    return replace(found, at=wire.moment(line.body.get("processed_time")) or found.at)


def _error(status: object) -> dict[str, Any]:
    """A failed row's status, words with a body of JSON behind them, as the Developer API would say it."""
    if not isinstance(status, str) or not status:
        return {}
    phrase, _, rest = status.partition(":")
    try:
        error = msgspec.json.decode(rest.strip().encode(errors="replace"))["error"]
        if isinstance(error, dict) and error.get("code") is not None:
            return error
    except (msgspec.DecodeError, KeyError, TypeError, IndexError):
        pass
    return {"code": _PHRASES.get(phrase.strip()), "message": status[:1000]}
