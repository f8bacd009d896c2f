"""A file is whole or torn, and says so without one pixel being decoded."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.emulator.pictures import Picture as Emulated
from pipeline.emulator.pictures import render
from pipeline.pictures import Broken, Picture, look, sniff
from pipeline.structure import Torn, proof

XMP = b"<x:xmpmeta><rdf:Description Iptc4xmpExt:DigitalSourceType='trainedAlgorithmicMedia'/></x:xmpmeta>"


def drawn(form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((70, 50), 80).convert("RGB").save(stream, form, **options)
    return stream.getvalue()


WHOLE = {
    "png": drawn("PNG"),
    "png in two chunks": drawn("PNG", compress_level=0),
    "jpeg": drawn("JPEG"),
    "jpeg in several scans": drawn("JPEG", progressive=True),
    "jpeg with restarts": drawn("JPEG", restart_marker_blocks=3),
    "jpeg with a thumbnail": drawn("JPEG", exif=b"Exif\0\0" + drawn("JPEG")),
    "webp": drawn("WEBP"),
    "webp without loss": drawn("WEBP", lossless=True),
    "webp with more to say": drawn("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_says_its_size(kind: str) -> None:
    seen = look(WHOLE[kind])
    assert isinstance(seen, Picture)
    assert (seen.width, seen.height, seen.mark) == (70, 50, None)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_is_torn_at_whatever_byte_it_ends(kind: str) -> None:
    """Every single cut of a small file, the one that lacks its last byte too."""
    data = WHOLE[kind]
    whole = [length for length in range(12, len(data)) if isinstance(look(data[:length]), Picture)]
    assert whole in ([], [len(data) - 1]), "a chunk of odd length may lack the byte that fills it up"
    assert not whole or "webp" in kind


def test_every_flipped_byte_of_a_png_is_noticed() -> None:
    data = WHOLE["png"]
    for place in range(8, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x10
        assert isinstance(look(bytes(changed)), Broken), place


def test_what_follows_the_end_is_nobody_s_business() -> None:
    """Phones append films to their photos."""
    assert isinstance(look(WHOLE["jpeg"] + b"film"), Picture)
    assert isinstance(look(WHOLE["png"] + b"film"), Picture)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


HEADER = (b"IHDR", struct.pack(">IIBBBBB", 7, 5, 8, 2, 0, 0, 0))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (png(HEADER, (b"IEND", b"")), "has no pixels"),
        (png((b"IDAT", b"x"), (b"IEND", b"")), "has no header"),
        (png(HEADER, (b"ID\0T", b"x"), (b"IEND", b"")), "has no chunk where one should be"),
        (png((b"IHDR", bytes(13)), (b"IDAT", b"x"), (b"IEND", b"")), "claims 0x0 pixels"),
        (png(HEADER, (b"IDAT", b"x")), "is cut short"),
        (b"\xff\xd8\xff\xd9", "has no pixels"),
        (b"\xff\xd8\xffnonsense", "is cut short"),
    ],
)
def test_a_torn_file_says_what_is_wrong_with_it(data: bytes, why: str) -> None:
    with pytest.raises(Torn, match=why):
        proof(data, str(sniff(data)))


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg"])
@pytest.mark.parametrize("marked", [True, False])
def test_content_credentials_are_noted(mime: str, marked: bool) -> None:
    picture = look(render(Emulated(bytes(32), 256, 256, mime, marked=marked)))
    assert isinstance(picture, Picture)
    assert picture.mark == ("c2pa" if marked else None)


def test_a_mark_in_words_is_noted_and_yields_to_a_signed_one() -> None:
    assert look(drawn("JPEG", xmp=XMP)).mark == "xmp"
    assert look(drawn("WEBP", xmp=XMP)).mark == "xmp"
    text = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    credentials = (b"caBX", b"....jumb....c2pa")
    rest = ((b"IDAT", b"x"), (b"IEND", b""))
    assert look(png(HEADER, text, *rest)).mark == "xmp"
    assert look(png(HEADER, text, credentials, *rest)).mark == "c2pa"
    assert look(png(HEADER, credentials, text, *rest)).mark == "c2pa"


@given(st.sampled_from(list(WHOLE)), st.data())
def test_no_damage_makes_a_traceback(kind: str, data: st.DataObject) -> None:
    changed = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(look(bytes(changed)), Picture | Broken)
