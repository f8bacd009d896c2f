"""A reference is found where people expect it, believed by its bytes, and read once."""

import hashlib
import io
import os

import pytest
from PIL import Image

from pipeline.problems import Problem
from pipeline.references import Pins, Reference, find_references, pin


def picture(form: str = "JPEG", colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("photos/boot.jpg", "photos/boot, side.jpg", "elsewhere/clog.jpg", "elsewhere/boot.jpg"):
        (tmp_path / name).write_bytes(picture())
    return tmp_path


def test_files_are_found_beside_the_manifest_first_and_lists_come_apart(photos):
    cells = ["photos/boot.jpg | clog.jpg", "", '["photos/boot, side.jpg"]', "boot.jpg"]
    assert find_references(cells, photos, photos / "elsewhere") == [
        ("photos/boot.jpg", photos / "photos/boot.jpg"),
        ("clog.jpg", photos / "elsewhere/clog.jpg"),
        ("photos/boot, side.jpg", photos / "photos/boot, side.jpg"),
        ("boot.jpg", photos / "elsewhere/boot.jpg"),
    ]


def test_a_missing_file_is_answered_with_the_one_that_was_meant(photos):
    boot, folder, nothing = find_references(
        ["photos/boots.jpg", "fotos/boot.jpg", "photos/zzzzzzzzz"], photos
    )
    assert (boot.message, boot.value, boot.hint) == (
        "reference not found",
        "photos/boots.jpg",
        "did you mean photos/boot.jpg?",
    )
    assert folder.hint == f"there is no folder {photos / 'fotos'}"
    assert nothing.hint == f"looked in {photos / 'photos'}"


@pytest.mark.parametrize("source", ["https://example.com/a.jpg", "gs://bucket/a.jpg", "files/abc"])
def test_what_lies_elsewhere_is_refused_in_plain_words_for_now(photos, source):
    (problem,) = find_references([source], photos)
    assert problem.message.startswith("reference is not a local file (")
    assert "download it" in problem.hint


@pytest.mark.parametrize(
    ("form", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_a_reference_is_known_by_its_bytes_whatever_its_name(tmp_path, form, mime):
    data = picture(form)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    assert pin("photo.png", path) == Reference(
        "photo.png", hashlib.sha256(data).hexdigest(), mime, len(data), 8, 6
    )


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "reference is no picture", "a.jpg is an empty file"),
        (b"<!doctype html>", "reference is no picture", "a.jpg is a web page, perhaps of a login"),
        (b"\xff\xd8\xff and no more", "reference is no picture", "a.jpg is a broken JPEG"),
        (
            picture("GIF"),
            "reference is a GIF",
            "models read PNG, JPEG, WEBP and HEIC: save it as one of them",
        ),
    ],
)
def test_what_is_no_picture_says_what_it_looks_like(tmp_path, data, message, hint):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert pin("refs/a.jpg", path) == Problem(message, value="refs/a.jpg", hint=hint)


def test_a_file_that_changes_is_looked_at_again_and_one_that_does_not_is_not(tmp_path):
    path = tmp_path / "a.jpg"
    pins = Pins()
    path.write_bytes(picture(colour="red"))
    red = pins.pin("a.jpg", path)
    assert pins.pin("a.jpg", path) is red
    path.write_bytes(picture(colour="blue"))
    os.utime(path, ns=(1, 1))
    assert pins.pin("a.jpg", path).sha256 != red.sha256
    path.unlink()
    assert pins.pin("a.jpg", path).message == "reference cannot be read (no such file or directory)"


def test_one_file_under_two_names_keeps_the_name_each_row_wrote(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(picture())
    pins = Pins()
    assert pins.pin("a.jpg", path).source == "a.jpg"
    assert pins.pin("./a.jpg", path).source == "./a.jpg"
