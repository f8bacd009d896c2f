"""Bytes in, lines out: how a result is cut, its pictures left where they stand. Knows no provider.

What it fears: a payload of megabytes that is parsed as JSON or becomes a text; a line that is legal and odd; a line
that never ends. So long strings are cut out before the rest is parsed, and put back only where the parsed rest holds
their mark; whatever does not go by that is parsed whole, slowly and by the book.
"""

import re
from collections.abc import Generator, Iterable
from dataclasses import KW_ONLY, dataclass, field
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
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_PAYLOADS = {"inlineData": "data", "inline_data": "data", "predictions": "bytesBase64Encoded"}
"""Members that hold pictures, and what those are called in them; in a list of such as well."""
_ECHO = "request"
"""The member that repeats what was asked. Who needs a payload of it decodes that one, and holds no others."""
_BLANK = b" \t\r\n"  # what JSON calls space; a line of anything else has something in it

_decode = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class Payload:
    """A base64 string of a picture, where it stands: a view of its line."""

    characters: Bytes
    data: bytes | None = None  # what they say, where that was their proof

    def text(self) -> str:
        """What a parser would have made of it."""
        return str(self.characters, "ascii")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a result: where it stood, and what it says."""

    offset: int
    raw: Bytes  # without its line end; its beginning, where it is too long to be held
    _: KW_ONLY
    start: int = 0  # where that is in the block that it is a view of
    ended: bool = True  # False: nothing came behind it, not even a line end
    whole: int | None = None  # its length, where raw is its beginning only
    _body: list[dict[str, Any] | None] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def length(self) -> int:
        """Bytes, without its line end."""
        return len(self.raw) if self.whole is None else self.whole

    @property
    def body(self) -> dict[str, Any] | None:
        """The JSON object that it is; None if it is none. Read when it is first asked for, by whoever asks: that is
        most of the work there is with a line, and it brings the line close to the processor that goes on with it.

        The long strings of inlineData, and of predictions, are Payloads; all else is as any parser says.
        """
        if not self._body:  # no cached_property: before Python 3.12 one line would wait for all others
            self._body.append(self._read() if self.whole is None else None)
        return self._body[0]

    def _read(self) -> dict[str, Any] | None:
        block = self.raw.obj if isinstance(self.raw, memoryview) else self.raw
        return read_object(block, self.start, len(self.raw))


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
            yield Line(offset, shown, ended=ended, whole=size - ended)
        else:
            raw = _stripped(source, size)
            if raw is not None:
                yield Line(offset, source.view(raw), start=source.head, ended=ended)
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
            if _put_back(body, [memoryview(buffer)[opening:closing] for opening, closing in cuts]):
                return body
    body = _parse(memoryview(buffer)[start:end])
    return body if isinstance(body, dict) else None


def _cut(buffer: Any, start: int, end: int, long: int) -> list[tuple[int, int]]:
    """The long strings of a line: where each begins and ends, its quotes counted in.

    Every quote of a line opens a string, closes one, or is escaped in one. So the strings are found by hopping from
    quote to quote, whatever is in them, and a payload is stepped over at the speed of memchr.
    """
    found: list[tuple[int, int]] = []
    at, strings, find = start, 0, buffer.find
    while end - at > long and (opening := find(b'"', at, end)) >= 0:
        closing = find(b'"', opening + 1, end)
        if closing >= 0 and buffer[closing - 1] == _BACKSLASH:
            match = _STRING.match(buffer, opening, end)
            closing = match.end() - 1 if match else -1
        strings += 1
        if closing < 0 or strings > MANY:
            return []  # no legal line, or none with pictures in it
        at = closing + 1
        if at - opening > long:
            found.append((opening, at))
    return found


def _without(buffer: Any, start: int, end: int, cuts: list[tuple[int, int]]) -> bytes:
    """The line with a mark for each string that was cut out."""
    pieces = []
    for number, (opening, closing) in enumerate(cuts):
        pieces += [buffer[start:opening], b'"%b%d"' % (_MARKED, number)]
        start = closing
    return b"".join([*pieces, buffer[start:end]])


def _put_back(body: dict[str, Any], cuts: list[memoryview]) -> bool:
    """Every string to the place of its mark: payloads as they are, others as texts. False: that cannot be done."""
    # Of each value: what a payload in it is called, and whether it repeats what was asked.
    waiting: list[tuple[Any, str | None, bool]] = [(body, None, False)]
    left = len(cuts)
    while waiting and left:
        node, called, repeats = waiting.pop()
        is_named = type(node) is dict  # a parser gives plain ones, and isinstance is slow
        items: Iterable[tuple[Any, Any]] = node.items() if is_named else enumerate(node)
        for name, value in items:
            kind = type(value)
            if kind is str:
                if value[:1] == _MARK:
                    string = cuts[int(value[1:])]
                    payload = _payload(string[1:-1], needed=not repeats) if name == called else None
                    try:
                        node[name] = payload or _decode(string)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        return False
                    left -= 1
            elif kind is dict or kind is list:
                inside = _PAYLOADS.get(name) if is_named else called
                waiting.append((value, inside, repeats or (node is body and name == _ECHO)))
    return left == 0  # a mark may be the name of a member, or the first of two that are called the same


def _payload(characters: memoryview, *, needed: bool) -> Payload | None:
    """A string that is a payload, proven to be one that JSON allows; None for one that has to be read by the book.

    What is needed is decoded at once: what is base64 to its last character holds nothing that a string may not.
    """
    if needed:
        try:
            return Payload(characters, _decoded(characters))
        except ValueError:
            pass
    return Payload(characters) if _is_plain(characters) else None


def _is_plain(characters: memoryview) -> bool:
    """Whether these mean themselves in a JSON string: printable ASCII, without escapes."""
    import numpy as np

    # As signed numbers all that is no ASCII is negative: one look tells it and the control characters.
    signed = np.frombuffer(characters, np.int8)
    return bool(signed.min(initial=0x20) >= 0x20 and (signed != _BACKSLASH).all())


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
    if isinstance(value, Payload):
        return _decoded(value.characters) if value.data is None else value.data
    return _decoded(value.encode("ascii"))


def _decoded(characters: Bytes) -> bytes:
    try:
        return pybase64.b64decode(characters, validate=True)
    except ValueError:
        data = bytes(characters).translate(_URLSAFE).rstrip(b"=")
    return pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
