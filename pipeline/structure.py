"""Whether a picture's file is whole, by its structure alone: no pixel is decoded.

What it proves: the file goes on to its own end, and what carries checksums (PNG) is unharmed. What it cannot see: a
flipped bit inside a JPEG or WebP, which a full decode mostly overlooks too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

try:
    from isal.isal_zlib import crc32
except ImportError:  # no such package for this machine: the same, many times slower
    from zlib import crc32

_PNG_TYPE = re.compile(rb"[A-Za-z]{4}")
_STRETCH = 1 << 18  # bytes of coded data looked at in one go: what stays in the processor's cache
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_SOURCE_TYPE = b"digitalsourcetype"  # of IPTC, in whatever case it is written


class Torn(ValueError):
    """A file that is not whole, and why, for people."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a whole file says of itself."""

    width: int
    height: int
    mark: str | None  # how it says that a machine made it: 'c2pa', 'xmp', or not at all


def proof(data: bytes, picture_format: str) -> Shape | None:
    """The shape of a whole file; None: this format has no proof here. Raises Torn. Copies nothing large."""
    prove = _PROOFS.get(picture_format)
    if prove is None:
        return None
    try:
        shape = prove(memoryview(data))
    except IndexError as error:
        raise Torn("is cut short") from error
    if shape.width <= 0 or shape.height <= 0:
        raise Torn(f"claims {shape.width}x{shape.height} pixels")
    return shape


def _png(data: memoryview) -> Shape:
    place, pixels, mark = 8, False, None
    width = height = 0
    while True:
        length, kind = _number(data, place, 4), bytes(data[place + 4 : place + 8])
        end = place + 12 + length
        if end > len(data):
            raise Torn("is cut short")
        if not _PNG_TYPE.fullmatch(kind):
            raise Torn("has no chunk where one should be")
        if crc32(data[place + 4 : end - 4]) != _number(data, end - 4, 4):
            raise Torn(f"has a damaged chunk {kind.decode()}")
        if place == 8:
            if kind != b"IHDR" or length != 13:
                raise Torn("has no header")
            width, height = _number(data, place + 8, 4), _number(data, place + 12, 4)
        elif kind == b"IEND":
            break
        elif kind == b"IDAT":
            pixels = True
        elif kind in (b"caBX", b"iTXt"):
            mark = _stronger(mark, _png_mark(kind, data[place + 8 : end - 4]))
        place = end
    if not pixels:
        raise Torn("has no pixels")
    return Shape(width, height, mark)


def _png_mark(kind: bytes, content: memoryview) -> str | None:
    if kind == b"caBX":
        return "c2pa" if b"c2pa" in bytes(content) else None
    return _xmp_mark(content) if bytes(content[:17]) == b"XML:com.adobe.xmp" else None


def _jpeg(data: memoryview) -> Shape:
    place, scans, mark = 2, 0, None
    width = height = 0
    while True:
        if data[place] != 0xFF:
            raise Torn("has no marker where one should be")
        while data[place] == 0xFF:  # any number of them may come before a marker
            place += 1
        marker = data[place]
        place += 1
        if marker == 0xD9:
            break
        if marker in _ALONE:
            continue
        length = _number(data, place, 2)
        content = data[place + 2 : place + length]
        if length < 2 or place + length > len(data):
            raise Torn("is cut short")
        place += length
        if marker in _FRAMES and len(content) >= 5 and not width:
            height, width = _number(content, 1, 2), _number(content, 3, 2)
        elif marker in (0xE1, 0xEB):
            mark = _stronger(mark, _jpeg_mark(marker, content))
        elif marker == 0xDA:
            place = _end_of_scan(data, place)
            scans += 1
    if not scans or not width:
        raise Torn("has no pixels")
    return Shape(width, height, mark)


def _end_of_scan(data: memoryview, start: int) -> int:
    """Where the coded data end: at a marker that is neither a stuffed byte nor a restart nor filling."""
    import numpy as np

    for begin in range(start, len(data) - 1, _STRETCH):
        piece = np.frombuffer(data[begin : begin + _STRETCH + 1], np.uint8)
        marked = np.flatnonzero(piece[:-1] == 0xFF)
        after = piece[marked + 1]
        ends = marked[(after != 0) & (after != 0xFF) & (after & 0xF8 != 0xD0)]
        if len(ends):
            return begin + int(ends[0])
    raise Torn("is cut short")


def _jpeg_mark(marker: int, content: memoryview) -> str | None:
    if marker == 0xEB:
        return "c2pa" if bytes(content[:2]) == b"JP" and b"c2pa" in bytes(content) else None
    return _xmp_mark(content) if bytes(content[: len(_XMP)]) == _XMP else None


def _webp(data: memoryview) -> Shape:
    end = 8 + _number(data, 4, 4, "little")
    if end > len(data):
        raise Torn("is cut short")
    place, mark = 12, None
    canvas: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    while place + 8 <= end:
        kind, length = bytes(data[place : place + 4]), _number(data, place + 4, 4, "little")
        content = data[place + 8 : place + 8 + length]
        if place + 8 + length > end:
            raise Torn("is cut short")
        if kind == b"VP8X":
            canvas = _number(content, 4, 3, "little") + 1, _number(content, 7, 3, "little") + 1
        elif kind in (b"VP8 ", b"VP8L", b"ANMF"):
            frame = frame or _WEBP_SIZES[kind](content)
        elif kind == b"XMP ":
            mark = _stronger(mark, _xmp_mark(content))
        elif kind == b"C2PA":
            mark = "c2pa"
        place += 8 + length + length % 2
    if frame is None:
        raise Torn("has no pixels")
    return Shape(*(canvas or frame), mark)


def _lossy(content: memoryview) -> tuple[int, int]:
    if bytes(content[3:6]) != b"\x9d\x01\x2a":
        raise Torn("has no header")
    return _number(content, 6, 2, "little") & 0x3FFF, _number(content, 8, 2, "little") & 0x3FFF


def _lossless(content: memoryview) -> tuple[int, int]:
    if content[0] != 0x2F:
        raise Torn("has no header")
    bits = _number(content, 1, 4, "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _moving(content: memoryview) -> tuple[int, int]:
    return _number(content, 6, 3, "little") + 1, _number(content, 9, 3, "little") + 1


_WEBP_SIZES: dict[bytes, Callable[[memoryview], tuple[int, int]]] = {
    b"VP8 ": _lossy,
    b"VP8L": _lossless,
    b"ANMF": _moving,
}
_PROOFS: dict[str, Callable[[memoryview], Shape]] = {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp}


def _xmp_mark(content: memoryview) -> str | None:
    return "xmp" if _SOURCE_TYPE in bytes(content).lower() else None


def _stronger(one: str | None, other: str | None) -> str | None:
    """Of two marks the signed one."""
    return "c2pa" if "c2pa" in (one, other) else one or other


def _number(data: memoryview, place: int, size: int, order: str = "big") -> int:
    piece = data[place : place + size]
    if len(piece) < size:
        raise IndexError(place)
    return int.from_bytes(piece, "little" if order == "little" else "big")
