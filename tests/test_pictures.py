"""Bytes are believed, names and declarations are not."""

import hashlib
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.pictures import Broken, Picture, described, header_size, look, slug, sniff


def drawn(form: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    image = Image.effect_noise(size, 80).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


HEIC = (
    b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"
    b"\x00\x00\x00\x14ispe\x00\x00\x00\x00\x00\x00\x00\xa0\x00\x00\x00\x78"
    b"\x00\x00\x00\x14ispe\x00\x00\x00\x00\x00\x00\x0f\xc0\x00\x00\x0b\xd0"
)


@pytest.mark.parametrize(
    ("form", "mime", "extension"),
    [
        ("PNG", "image/png", "png"),
        ("JPEG", "image/jpeg", "jpg"),
        ("WEBP", "image/webp", "webp"),
        ("GIF", "image/gif", "gif"),
    ],
)
def test_a_whole_picture_is_described_by_its_bytes(form, mime, extension):
    data = drawn(form)
    sha256 = hashlib.sha256(data).hexdigest()
    assert look(data) == Picture(form, mime, extension, 40, 30, sha256, len(data))
    assert sniff(data) == form
    assert header_size(data) == (40, 30)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_picture_that_was_cut_short_is_broken_at_whatever_byte(form, share):
    data = drawn(form)
    assert isinstance(look(data[: int(len(data) * share)]), Broken)


def test_a_flipped_bit_in_a_png_is_noticed():
    data = bytearray(drawn("PNG"))
    data[len(data) // 2] ^= 1
    assert isinstance(look(bytes(data)), Broken)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"%PDF-1.7", "a PDF"),
        (b"II*\x00 and more", "a TIFF"),
        (b"hello there", "text, 'hello there'"),
        (b"\x00\x01\x02\x03", "bytes that begin 00 01 02 03"),
    ],
)
def test_what_is_no_picture_is_called_what_it_looks_like(data, words):
    assert described(data).startswith(words)
    assert look(data).reason.startswith(f"no picture: {words}")


def test_a_picture_that_claims_to_be_endless_is_broken_before_it_is_decoded():
    huge = bytearray(drawn("PNG"))
    huge[16:24] = (200_000).to_bytes(4, "big") * 2
    assert isinstance(look(bytes(huge)), Broken)


def test_the_largest_pictures_that_models_make_are_whole():
    stream = io.BytesIO()
    Image.new("L", (12288, 1536)).save(stream, "PNG")
    assert look(stream.getvalue()).width == 12288


def test_heic_is_known_and_measured_though_pillow_cannot_read_it():
    assert sniff(HEIC) == "HEIC"
    assert header_size(HEIC) == (4032, 3024)


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\x00\x00\x00WEBP", b"GIF89a", HEIC]),
    st.binary(),
)
def test_no_bytes_make_a_traceback(start, rest):
    assert isinstance(look(start + rest), Broken)
    header_size(start + rest)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("SKU-8812", "SKU-8812"),
        ("a/b\\c:d*e?", "a-b-c-d-e"),
        ("../../etc/passwd", "etc-passwd"),
        ("Größe 42", "Größe-42"),
        ("靴 一", "靴-一"),
        ("con", "row-con"),
        ("NUL.txt", "row-NUL.txt"),
        ("...", "row"),
        ("👟", "row"),
        ("-rf", "rf"),
        ("x" * 500, "x" * 60),
    ],
)
def test_a_key_becomes_a_name_that_people_recognize(key, name):
    assert slug(key) == name


@given(st.text())
def test_any_key_becomes_a_name_that_every_system_takes(key):
    name = slug(key)
    assert 0 < len(name.encode()) <= 64
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\s]', name)
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert name.partition(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert slug(key) == name
