"""What some bytes are: format, size, digest, and whether they are a whole picture; and names for files."""

import hashlib
import io
import math
import re
import unicodedata
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.structure import Torn, proof

if TYPE_CHECKING:
    from PIL.Image import Image

# No picture of any model comes near this; a file that claims more is built to fill the memory.
_MOST_PIXELS = 200_000_000
_LONGEST_SLUG = 60  # bytes: place, shot and digest are to come, and 255 is the limit of most file systems
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # devices, to Windows

_FORMATS = {
    "PNG": ("image/png", "png"),
    "JPEG": ("image/jpeg", "jpg"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
    "HEIC": ("image/heic", "heic"),
}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole picture, as its bytes say it is, whatever anybody declared."""

    format: str  # 'PNG', 'JPEG', …
    mime: str
    extension: str  # without a dot
    width: int
    height: int
    sha256: str  # hex
    size: int  # bytes
    mark: str | None = None  # how it says that a machine made it: 'c2pa', 'xmp', or not at all


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes that are no whole picture, and why, for people."""

    reason: str


def sniff(data: bytes) -> str | None:
    """The format that the first bytes claim, or None. Looks at 12 bytes, decodes nothing."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "HEIC"
    return None


def mime_of(picture_format: str) -> str:
    """'image/jpeg' for 'JPEG'."""
    return _FORMATS[picture_format][0]


def extension_of(mime: str) -> str:
    """'jpg' for 'image/jpeg', without a dot."""
    return next((extension for known, extension in _FORMATS.values() if known == mime), "bin")


def look(data: bytes) -> Picture | Broken:
    """What these bytes are, proven whole by their structure. Decodes no pixel where the format allows that."""
    found = sniff(data)
    if found is None:
        return Broken(f"no picture: {described(data)}")
    shape = _shape(data, found)
    if isinstance(shape, Broken):
        return shape
    mime, extension = _FORMATS[found]
    width, height, mark = shape
    digest = hashlib.sha256(data).hexdigest()
    return Picture(found, mime, extension, width, height, digest, len(data), mark)


def header_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header says, nothing decoded; None where there is no telling."""
    if sniff(data) == "HEIC":
        return _heic_size(data)
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def described(data: bytes) -> str:
    """What bytes that are no picture look like, so that people know what went wrong."""
    if not data:
        return "an empty file"
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps of a login"
    if start.startswith((b"<svg", b"<?xml")):
        return "XML or SVG"
    if start.startswith(b"%pdf"):
        return "a PDF"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself"
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return "a TIFF"
    if data[4:12] == b"ftypavif":
        return "an AVIF"
    if data[4:8] == b"ftyp" or data.startswith(b"\x1aE\xdf\xa3") or data[8:12] == b"AVI ":
        return "a video, which no model takes"
    if data.startswith((b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3")) or data[8:12] == b"WAVE":
        return "a sound, which no model takes"
    if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in data[:64]):
        return f"text, {data[:24].decode('ascii')!r}"
    return f"bytes that begin {data[:8].hex(' ')}"


def slug(key: str) -> str:
    """A piece of a file name for people, valid on every system for any key, never empty.

    Different keys may share one, also by letter case: names stay apart by what else is in them.
    """
    plain = unicodedata.normalize("NFC", key)
    name = re.sub(r"[^\w.-]+|\s+", "-", plain)
    name = re.sub(r"-{2,}|\.{2,}", "-", name).strip("-._")
    name = name.encode()[:_LONGEST_SLUG].decode(errors="ignore").rstrip("-._")
    if not name:
        return "row"
    return f"row-{name}" if _RESERVED.match(name) else name


def _shape(data: bytes, picture_format: str) -> tuple[int, int, str | None] | Broken:
    try:
        shape = proof(data, picture_format)
    except Torn as error:
        return Broken(f"no whole {picture_format}: it {error}")
    if shape is None:  # what no model makes: decoding is the only proof
        image = decoded(data)
        return image if isinstance(image, Broken) else (*image.size, None)
    if shape.width * shape.height > _MOST_PIXELS:
        return Broken(f"claims {shape.width}x{shape.height} pixels, more than any picture has")
    return shape.width, shape.height, shape.mark


def decoded(data: bytes, *, side: int | None = None) -> "Image | Broken":
    """Every pixel of it. A JPEG may come smaller, its longer side no less than `side`; all of it is read anyway."""
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow warns of big pictures where models make them; what is too big is decided here.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MOST_PIXELS:
                return Broken(f"claims {image.width}x{image.height} pixels, more than any picture has")
            if side is not None and max(image.size) > side:
                share = side / max(image.size)
                image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
            image.load()
            return image
    except UnidentifiedImageError:
        return Broken("begins like a picture, but cannot be read as one")
    except Image.DecompressionBombError:
        return Broken("claims more pixels than any picture has")
    # Pillow's decoders raise all of these on broken bytes.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError) as error:
        # The library's own words differ between its versions, and what is written must not.
        return Broken(f"cannot be decoded ({type(error).__name__})")


def _heic_size(data: bytes) -> tuple[int, int] | None:
    """The largest of its sizes: Pillow reads none of them, and thumbnails have one too."""
    sizes = []
    for found in re.finditer(b"ispe\x00{4}", data[: 1 << 16]):
        box = data[found.end() : found.end() + 8]
        if len(box) == 8:
            sizes.append((int.from_bytes(box[:4], "big"), int.from_bytes(box[4:], "big")))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)
