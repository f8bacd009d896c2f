"""Pictures made from what was asked: always the same bytes, of exactly the asked size, and quick to make.

A picture has the colour of the first reference for its ground, a pattern of its own, the prompt's first
words, small copies of the first three references, and a strip with the colour of each, so that a person can
judge a contact sheet and a test can tell whose reference went in. What is drawn is a canvas of about 128
pixels, enlarged in whole blocks; the file is then padded inside its own format to a length known in
advance, so that a result of gigabytes has offsets before one picture is drawn.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random
from typing import BinaryIO

from PIL import Image, ImageDraw, ImageFont

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

Colour = tuple[int, int, int]

COPY = 40  # dots of the canvas, about a third of its side, that a reference's copy may have each way
COPIES = 3  # of the first references; the rest are in the strip only

LEAST_BYTES = 32_000  # of a 1K picture: below this a drawing may not fit
NOISE_BYTES = 4 * 1024**2
MARK_BYTES = 1024  # more than a mark ever has
C2PA = bytes.fromhex("6332706100110010800000aa00389b71")  # the type of a C2PA manifest store


@dataclass(frozen=True, slots=True)
class Look:
    """What a reference looks like, as far as pictures made from it care."""

    colour: Colour  # the mean of all
    width: int
    height: int
    copy: bytes  # all of it in a few dots: `small(width, height)` of them, red, green and blue


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that can be made at any moment."""

    seed: bytes  # 32 bytes; the same seed and shape is the same picture
    width: int
    height: int
    mime: str
    words: str = ""
    references: tuple[Look, ...] = ()
    weight: int = LEAST_BYTES  # bytes of a picture of 1024 x 1024
    marked: bool = False  # whether it says, as C2PA does, that a machine made it

    def length(self) -> int:
        """How many bytes `render` will give, without rendering: in proportion to the pixels, a tenth more or
        less.
        """
        share = 0.9 + 0.2 * self.seed[0] / 255
        return 16_384 + int(max(self.weight, LEAST_BYTES) * share * self.width * self.height / 1024**2)


@lru_cache(maxsize=2)  # a range that continues in the middle of a line needs the same picture again
def render(picture: Picture) -> bytes:
    """The file, exactly `picture.length()` bytes of it."""
    factor = enlargement(picture.width, picture.height)
    for drawing in drawings(picture, picture.width // factor, picture.height // factor):
        data = encoded(drawing, picture, factor)
        if len(data) + 12 + (MARK_BYTES if picture.marked else 0) <= picture.length():
            break
    return padded_png(data, picture) if picture.mime == "image/png" else padded_jpeg(data, picture)


def encoded(canvas: Image.Image, picture: Picture, factor: int) -> bytes:
    if picture.mime == "image/png":
        return png(canvas, picture.width, picture.height, factor)
    return jpeg(canvas, picture.width, picture.height)


def enlargement(width: int, height: int) -> int:
    """How many pixels one dot of the canvas becomes: a power of two that leaves at least some sixty dots."""
    factor = 1
    while (
        factor < 64
        and width % (factor * 2) == height % (factor * 2) == 0
        and width * height > (factor * 160) ** 2
    ):
        factor *= 2
    return factor


def drawings(picture: Picture, width: int, height: int) -> Iterator[Image.Image]:
    """The picture, and what to fall back on where a file must be smaller: the last one always fits."""
    seed, references = picture.seed, picture.references
    ground = references[0].colour if references else (64 + seed[1] // 2, 64 + seed[2] // 2, 64 + seed[3] // 2)
    canvas = Image.new("RGB", (width, height), ground)
    pencil = ImageDraw.Draw(canvas)
    pattern(pencil, seed, ground, width, height)
    words(canvas, picture.words, ground)
    strip = max(4, height // 12)
    for number, reference in enumerate(references):
        left = number * width // len(references)
        right = (number + 1) * width // len(references)
        pencil.rectangle((left, height - strip, right - 1, height - 1), fill=reference.colour)
    if references:
        bare = canvas.copy()
        copies(canvas, references[:COPIES], strip)
        yield canvas
        canvas = bare
    yield canvas
    yield Image.new("RGB", canvas.size, ground)


def copies(canvas: Image.Image, references: tuple[Look, ...], strip: int) -> None:
    """Each reference whole, in rows from the lower left corner up, in the lower half of the canvas."""
    room = canvas.height // 2 - strip
    side = min(COPY, canvas.width - 2, room)
    columns = max(1, (canvas.width - 2) // (side + 2))
    side = min(side, room // -(-len(references) // columns) - 2)
    for number, reference in enumerate(references):
        copy = Image.frombytes("RGB", small(reference.width, reference.height), reference.copy)
        if max(copy.size) > side:
            copy = copy.resize(small(*copy.size, side=side), Image.Resampling.BOX)
        up, across = divmod(number, columns)
        bottom = canvas.height - strip - 2 - up * (side + 2)
        canvas.paste(copy, (2 + across * (side + 2), bottom - copy.height))


def small(width: int, height: int, *, side: int = COPY) -> tuple[int, int]:
    """The size of a copy in which the longer side has so many dots, and never more than the original's."""
    share = min(1.0, side / max(width, height))
    return max(1, round(width * share)), max(1, round(height * share))


def pattern(pencil: ImageDraw.ImageDraw, seed: bytes, ground: Colour, width: int, height: int) -> None:
    """A few shapes around the middle; no two seeds are likely to share them."""
    for number in range(3):
        x, y, size, tone, kind = seed[4 + number * 5 : 9 + number * 5]
        colour = shifted(ground, tone - 128)
        across = (min(width, height) * (64 + size // 2)) // 512
        centre_x = width // 5 + x * (width * 3 // 5) // 255
        centre_y = height // 3 + y * (height // 2) // 255
        box = (centre_x - across, centre_y - across, centre_x + across, centre_y + across)
        pencil.ellipse(box, fill=colour) if kind & 1 else pencil.rectangle(box, fill=colour)


def shifted(colour: Colour, by: int) -> Colour:
    """The same hue, lighter or darker, never the same."""
    red, green, blue = (max(0, min(255, part + (by if abs(by) > 24 else 48))) for part in colour)
    return red, green, blue


def words(canvas: Image.Image, text: str, ground: Colour) -> None:
    """The first words in three lines at most, dark on light ground and light on dark."""
    ink = (16, 16, 16) if sum(ground) > 384 else (240, 240, 240)
    top = 1
    for line in broken(text, max(6, canvas.width // 6))[:3]:
        stencil = lettering(line)
        canvas.paste(ink, (2, top), stencil)
        top += stencil.height
        if top > canvas.height // 2:
            return


def broken(text: str, across: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > across:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()[:across]
    return lines if lines[0] else []


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=10)


@lru_cache(maxsize=4096)
def lettering(line: str) -> Image.Image:
    """A line of text as a mask; catalogs repeat their words, and drawing glyphs is the slow part."""
    box = font().getbbox(line)
    mask = Image.new("L", (max(1, int(box[2]) + 1), 12), 0)
    ImageDraw.Draw(mask).text((0, 0), line, fill=255, font=font())
    return mask


def jpeg(canvas: Image.Image, width: int, height: int) -> bytes:
    """Dots become whole 8 x 8 blocks at the usual sizes, so the file stays small."""
    file = io.BytesIO()
    canvas.resize((width, height), Image.Resampling.NEAREST).save(file, "JPEG", quality=80)
    return file.getvalue()


def png(canvas: Image.Image, width: int, height: int, factor: int) -> bytes:
    """The same as Pillow would write, five times as fast: a row that repeats is 'as above', deflated only
    once.
    """
    dots = canvas.resize((width, height // factor), Image.Resampling.NEAREST).tobytes()
    above, packed_above, check_above = rows_as_above(width, factor - 1)
    # Level 1, no zlib header: the pieces are deflated apart and laid end to end, which is what full flushes
    # allow.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    pieces, check = [b"\x78\x01"], 1
    for start in range(0, len(dots), 3 * width):
        data = b"\x00" + dots[start : start + 3 * width]
        pieces += (deflate.compress(data), deflate.flush(zlib.Z_FULL_FLUSH), packed_above)
        check = adler_joined(zlib.adler32(data, check), check_above, above)
    pieces += (deflate.flush(), struct.pack(">I", check))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", b"".join(pieces)) + chunk(b"IEND", b"")


@lru_cache(maxsize=64)
def rows_as_above(width: int, count: int) -> tuple[int, bytes, int]:
    """The length, the deflated bytes and the checksum of so many rows that equal the one above (PNG's filter
    2).
    """
    data = (b"\x02" + bytes(width * 3)) * count
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    return len(data), deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH), zlib.adler32(data, 0)


def adler_joined(first: int, second: int, second_length: int) -> int:
    """The Adler-32 of two pieces end to end; the second one's was begun at 0, not at 1."""
    base = 65521
    low = (first & 0xFFFF) + (second & 0xFFFF)
    high = (first >> 16) + (second >> 16) + second_length * (first & 0xFFFF)
    return (high % base) << 16 | low % base


def chunk(name: bytes, data: bytes | memoryview) -> bytes:
    return b"".join(framed(name, data))


def framed(name: bytes, data: bytes | memoryview) -> tuple[bytes, bytes | memoryview, bytes]:
    """A chunk in pieces: whoever joins them copies a large one only once."""
    return struct.pack(">I", len(data)) + name, data, struct.pack(">I", crc32(data, crc32(name)))


def padded_png(data: bytes, picture: Picture) -> bytes:
    """Filled up with a private chunk after the header, which every reader skips."""
    mark = chunk(b"caBX", manifest(picture.seed)) if picture.marked else b""
    room = picture.length() - len(data) - len(mark) - 12
    return b"".join((data[:33], mark, *framed(b"nsPd", noise(picture.seed, room)), data[33:]))


def padded_jpeg(data: bytes, picture: Picture) -> bytes:
    """Filled up with comments after the first header, which every reader skips."""
    mark = app11(manifest(picture.seed)) if picture.marked else b""
    room, filled = picture.length() - len(data) - len(mark), 0
    filling = noise(picture.seed, room)
    comments: list[bytes | memoryview] = [mark]
    while left := room - filled:
        piece = min(left, 65_537)
        if 0 < left - piece < 4:  # what is left must hold a comment's own four bytes
            piece -= 4
        comments += (b"\xff\xfe", struct.pack(">H", piece - 2), filling[filled + 4 : filled + piece])
        filled += piece
    head = 4 + struct.unpack(">H", data[4:6])[0]
    return b"".join((data[:head], *comments, data[head:]))


def manifest(seed: bytes) -> bytes:
    """A JUMBF box as C2PA has it, by its type and label; what it claims is signed by nobody."""
    claim = (
        b'{"claim_generator":"emulator","digitalSourceType":'
        b'"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia","instance":"'
        + seed.hex().encode()
        + b'"}'
    )
    return box(b"jumb", box(b"jumd", C2PA + b"\x03c2pa\x00") + box(b"json", claim))


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def app11(jumbf: bytes) -> bytes:
    """The box in a JPEG segment, which counts boxes and packets and repeats the box's own head."""
    content = b"JP" + struct.pack(">HI", 1, 1) + jumbf
    return b"\xff\xeb" + struct.pack(">H", len(content) + 2) + content


@cache
def pool() -> bytes:
    return Random("noise").randbytes(NOISE_BYTES)


def noise(seed: bytes, length: int) -> bytes | memoryview:
    """Bytes nobody can compress, at no price; another stretch of one pool for every seed."""
    start = int.from_bytes(seed[-4:], "big") % NOISE_BYTES
    whole = memoryview(pool())
    if start + length <= NOISE_BYTES:
        return whole[start : start + length]
    again = (length - NOISE_BYTES + start) // NOISE_BYTES + 1
    return b"".join((whole[start:], *[whole] * again))[:length]


def look(data: bytes | BinaryIO) -> Look:
    """A reference's mean colour, its shape and its copy. OSError when it is no picture."""
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        width, height = image.size
        image.draft("RGB", (64, 64))
        whole = image.convert("RGB")
    red, green, blue = whole.resize((1, 1), Image.Resampling.BOX).tobytes()
    copy = whole.resize(small(width, height), Image.Resampling.BOX)
    return Look((red, green, blue), width, height, copy.tobytes())


def salted(seed: bytes, salt: str) -> bytes:
    """Another seed for the same request: a draft, a second picture, a second take."""
    return hashlib.sha256(seed + salt.encode()).digest() if salt else seed
