"""Our reading of a line against a plain parser's, and of a stream against its lines."""

import base64
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from pipeline.results import Payload, lines, read_object


class Mismatch(AssertionError):
    """Ours and the plain parser's are not the same."""


def plain(raw: bytes) -> Any:
    """The line's object as Python's own parser reads it; None where it is none."""

    def number(digits: str) -> int | float:
        return int(digits) if len(digits.lstrip("-")) <= sys.get_int_max_str_digits() else float(digits)

    try:
        body = json.loads(raw.decode("utf-8-sig", "surrogatepass"), parse_int=number)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def said(body: Any) -> list[str]:
    """All that a value says, in order, with texts where payloads were left in place. As deep as it has to be.

    Numbers by what they look like: 1 is not True, and what is no number is the same as itself.
    """
    found, waiting = [], [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found.append(f"members {len(value)}")
            for name, each in value.items():
                waiting += [each, name]
        elif isinstance(value, list):
            found.append(f"values {len(value)}")
            waiting += value
        else:
            found.append(repr(value.text() if isinstance(value, Payload) else value))
    return found


def check_line(raw: bytes, *, long: int) -> None:
    """Raises Mismatch. Strings are cut out from so many characters on: the fewer, the more is cut."""
    body = read_object(raw, long=long)
    if said(body) != said(plain(raw)):
        raise Mismatch(f"{raw!r:.9999}\n  ours  {said(body)!s:.9999}\n  plain {said(plain(raw))!s:.9999}")
    for each in payloads_in(body):
        if each.data is not None and each.data != decoded(each.text()):
            raise Mismatch(f"{raw!r:.9999}\n  {each.text():.999} is decoded as {each.data!r:.999}")


def payloads_in(body: Any) -> Iterator[Payload]:
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Payload):
            yield value
        elif isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


def decoded(text: str) -> bytes:
    """What base64 says in either alphabet, with its padding or without."""
    plain_text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(plain_text + "=" * (-len(plain_text) % 4), validate=True)


class Trickle(io.RawIOBase):
    """A stream that brings a few bytes at a time, cut wherever the chance has it."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._at, self._sizes, self._turn = data, 0, sizes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._sizes[self._turn % len(self._sizes)]
        self._turn += 1
        piece = self._data[self._at : self._at + min(size, len(buffer))]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def check_stream(data: bytes, sizes: list[int], *, block: int) -> None:
    """Raises Mismatch unless the stream, however it trickles, holds the lines that a plain split finds."""
    stream: Any = Trickle(data, sizes)
    found = [
        (line.offset, bytes(line.raw), said(line.body))
        for line in lines(stream, start=0, end=None, block=block)
    ]
    expected, offset = [], 0
    for piece in data.split(b"\n"):
        if piece.strip(b" \t\r"):
            raw = piece.rstrip(b"\r")
            expected.append((offset, raw, said(plain(raw))))
        offset += len(piece) + 1
    if found != expected:
        raise Mismatch(f"{data!r:.9999} by {sizes}\n  ours  {found!r:.9999}\n  plain {expected!r:.9999}")
