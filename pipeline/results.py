"""Bytes in, lines out: how a result is cut. Knows no provider."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec
import pybase64

_decode = msgspec.json.decode
_URLSAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a result: where it stood, and what it said."""

    offset: int
    raw: bytes  # without its line end
    body: dict[str, Any] | None  # None: no JSON object


def lines(stream: BinaryIO, *, start: int, end: int | None) -> Iterator[Line]:
    """The lines whose first byte lies in start to end. One line is in memory at a time.

    The stream begins at start, or one byte before it where start is not 0: that byte tells whether a line begins
    at start. Lines end at \\n only; U+2028 inside a string does not end one.
    """
    offset = start
    if start:
        offset = start - 1 + len(stream.readline())  # the rest of a line that began before
    while end is None or offset < end:
        raw = stream.readline()
        if not raw:
            return
        stripped = raw.rstrip(b"\r\n")
        if stripped.strip():
            yield Line(offset, stripped, _object(stripped))
        offset += len(raw)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _slow_object(raw)
    return body if isinstance(body, dict) else None


def _slow_object(raw: bytes) -> dict[str, Any] | None:
    """Legal JSON that the fast parser refuses, such as a lone surrogate."""
    import json

    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def payload(value: str) -> bytes:
    """The bytes of a base64 string, either alphabet, padded or not. Raises ValueError."""
    data = value.encode("ascii").translate(_URLSAFE).rstrip(b"=")
    return pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
