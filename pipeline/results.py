"""Bytes in, lines out: how a result is cut, its pictures left where they stand. Knows no provider.

What it fears: a payload of megabytes that is parsed as JSON or becomes a text; a line that is legal and odd; a line
that never ends. So long strings are cut out before the rest is parsed, and put back only where the parsed rest holds
their mark; whatever does not go by that is parsed whole, slowly and by the book.
"""

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec
import pybase64

from pipeline.blocks import BLOCK, Bytes, Source, blocks_of

LONGEST = 100_000_000
"""Bytes of a line that is held in memory. The longest that a model is known to send has a tenth of it."""

SHOWN = 1 << 16
"""Bytes that are kept of a line that is longer than that."""

LONG = 1024
"""Characters of a string that is worth cutting out."""

MANY = 50_000
"""Strings in one line, at most: a line with more holds something else than pictures."""

_MARK = "\x7f"
"""What stands for a string that was cut out, with its number behind it. A line that has this character anywhere else,
written or escaped, is parsed whole: so no text of anybody's can be taken for a mark."""
_MARKED = _MARK.encode()
_ESCAPED_MARK = b"\\u007"  # f or F: a text of 'p' or '\x70' is parsed whole as well, which does no harm

_BACKSLASH = 0x5C
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: megabytes need no stack
_ESCAPE = re.compile(rb"\\u00(2[BbDdFf]|3[Dd]|5[Ff])")  # + - / = _
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_PAYLOADS = {"inlineData": "data", "inline_data": "data", "predictions": "bytesBase64Encoded"}
"""Members that hold pictures, and what those are called in them; in a list of such as well."""
_BLANK = b" \t\r\n"  # what JSON calls space; a line of anything else has something in it

_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class Payload:
    """A long base64 string, not looked at yet: a view of the line it stands in."""

    characters: Bytes

    def text(self) -> str:
        """What a parser would have made of it."""
        return str(self.characters, "ascii")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a result: where it stood, and what it said.

    In its body the long strings of inlineData, and of predictions, are Payloads; all else is as any parser says.
    """

    offset: int
    raw: Bytes  # without its line end; its beginning, where it is too long to be held
    body: dict[str, Any] | None  # None: no JSON object
    ended: bool = True  # False: nothing came behind it, not even a line end
    whole: int | None = None  # its length, where raw is its beginning only

    @property
    def length(self) -> int:
        """Bytes, without its line end."""
        return len(self.raw) if self.whole is None else self.whole


def lines(
    stream: BinaryIO, *, start: int, end: int | None, longest: int = LONGEST, block: int = BLOCK
) -> Generator[Line, None, int]:
    """The lines whose first byte lies in start to end, and then the offset that was read up to.

    The stream begins at start, or one byte before it where start is not 0: that byte tells whether a line begins
    at start. Lines end at \\n only; U+2028 inside a string does not end one. A block of the stream is in memory at
    a time, and those that earlier lines are still held of: a line is a view of its block.
    """
    source = blocks_of(stream, block=block)
    offset = start
    if start:
        offset = start - 1 + _skip(source)[0]  # the rest of a line that began before
    while end is None or offset < end:
        size, ended = _seek_end(source, longest)
        if not size:
            return offset
        if size > longest:
            shown = bytes(source.view(min(size, SHOWN)))
            size, ended = _skip(source)
            yield Line(offset, shown, None, ended, whole=size - ended)
        else:
            raw = _stripped(source, size)
            if raw is not None:
                yield Line(offset, source.view(raw), read_object(source.buffer, source.head, raw), ended)
            source.drop(size)
        offset += size
    return offset


def _seek_end(source: Source, longest: int) -> tuple[int, bool]:
    """The length of the line at hand, with its line end, and whether it has one. Looks no further than longest."""
    seen = 0
    while seen <= longest:
        at = source.find(b"\n", seen)
        if at >= 0:
            return at + 1, True
        seen = source.held
        if not source.more():
            return seen, False
    return seen, False


def _skip(source: Source) -> tuple[int, bool]:
    """Step over the line at hand, whose bytes are not kept; its length with its line end, and whether it has one."""
    stepped = 0
    while (at := source.find(b"\n", 0)) < 0:
        stepped += source.held
        source.drop(source.held)
        if not source.more():
            return stepped, False
    source.drop(at + 1)
    return stepped + at + 1, True


def _stripped(source: Source, size: int) -> int | None:
    """The length of a line without its line end. None: there is nothing in it."""
    head, tail = source.head, source.head + size
    while tail > head and source.buffer[tail - 1] in b"\r\n":
        tail -= 1
    blank = tail - head < SHOWN and not source.buffer[head:tail].strip(_BLANK)
    return None if blank else tail - head


# --- one line ---------------------------------------------------------------------------------------------------


def read_object(
    buffer: Any, start: int = 0, size: int | None = None, *, long: int = LONG
) -> dict[str, Any] | None:
    """The JSON object that the bytes are; None if they are none. The long strings of pictures come as Payloads."""
    end = len(buffer) if size is None else start + size
    cuts = _cut(buffer, start, end, long)
    if cuts:
        rest = _without(buffer, start, end, cuts)
        if rest.count(_MARKED) == len(cuts) and _ESCAPED_MARK not in rest:
            body = _parse(rest)
            if not isinstance(body, dict):
                return None
            if _put_back(body, [characters for _, _, characters in cuts]):
                return body
    body = _parse(memoryview(buffer)[start:end])
    return body if isinstance(body, dict) else None


def _cut(buffer: Any, start: int, end: int, long: int) -> list[tuple[int, int, Bytes]]:
    """The long strings of a line that hold nothing but plain characters: where each stands, and its characters.

    Every quote of a line opens a string, closes one, or is escaped in one. So the strings are found by hopping from
    quote to quote, whatever is in them, and a payload is stepped over at the speed of memchr.
    """
    found: list[tuple[int, int, Bytes]] = []
    at, strings, find = start, 0, buffer.find
    while (opening := find(b'"', at, end)) >= 0:
        closing = find(b'"', opening + 1, end)
        if closing >= 0 and buffer[closing - 1] == _BACKSLASH:
            match = _STRING.match(buffer, opening, end)
            closing = match.end() - 1 if match else -1
        strings += 1
        if closing < 0 or strings > MANY:
            return []  # no legal line, or none with pictures in it
        if closing - opening > long:
            characters = _plain(buffer, opening + 1, closing)
            if characters is not None:
                found.append((opening + 1, closing, characters))
        at = closing + 1
    return found


def _plain(buffer: Any, start: int, end: int) -> Bytes | None:
    """The characters of a string, if they mean themselves: printable ASCII, no escapes but of + / = - _."""
    if buffer.find(b"\\", start, end) < 0:
        view = memoryview(buffer)[start:end]
        return view if _is_printable(view) else None
    # A backslash that is itself escaped loses its second half here, and the first one stays and gives it away.
    unescaped = _ESCAPE.sub(_unescape, bytes(buffer[start:end]).replace(b"\\/", b"/"))
    return unescaped if b"\\" not in unescaped and _is_printable(unescaped) else None


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())


def _is_printable(characters: Bytes) -> bool:
    """Whether a JSON string may hold these bytes as they are."""
    import numpy as np

    # As signed numbers all that is no ASCII is negative: one look tells it and the control characters.
    return bool(np.frombuffer(characters, np.int8).min() >= 0x20)


def _without(buffer: Any, start: int, end: int, cuts: list[tuple[int, int, Bytes]]) -> bytes:
    """The line with a mark for each string that was cut out."""
    pieces = []
    for number, (opening, closing, _) in enumerate(cuts):
        pieces += [buffer[start:opening], b"%b%d" % (_MARKED, number)]
        start = closing
    return b"".join([*pieces, buffer[start:end]])


def _put_back(body: dict[str, Any], cuts: list[Bytes]) -> bool:
    """Every string to the place of its mark: payloads as they are, others as texts. False: one is a member's name."""
    waiting: list[tuple[Any, str | None]] = [(body, None)]
    while waiting:
        node, called = waiting.pop()
        is_named = type(node) is dict  # a parser gives plain ones, and isinstance is slow
        if is_named and any(name[:1] == _MARK for name in node):
            return False
        items: Iterable[tuple[Any, Any]] = node.items() if is_named else enumerate(node)
        for name, value in items:
            kind = type(value)
            if kind is str:
                if value[:1] == _MARK:
                    payload = Payload(cuts[int(value[1:])])
                    node[name] = payload if name == called else payload.text()
            elif kind is dict or kind is list:
                waiting.append((value, _PAYLOADS.get(name) if is_named else called))
    return True


def _parse(raw: Bytes) -> Any:
    """Any JSON text's value; None for what is none."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        from pipeline.patient import (
            parse,
        )  # a lone surrogate, a number beyond all bounds, a thousand brackets

        return parse(raw)


def payload(value: str | Payload) -> bytes:
    """The bytes of a base64 string, either alphabet, padded or not. Raises ValueError."""
    characters = value.characters if isinstance(value, Payload) else value.encode("ascii")
    try:
        return pybase64.b64decode(characters, validate=True)
    except ValueError:
        data = bytes(characters).translate(_URLSAFE).rstrip(b"=")
    return pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
