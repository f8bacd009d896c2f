"""A reference is found where people expect it, believed by its bytes, and read once."""

import hashlib
import io
import os
import shutil

import pytest
from PIL import Image

from pipeline.cache import Cache
from pipeline.job import job_for
from pipeline.manifest import Row
from pipeline.manifest.cells import split
from pipeline.models import load_models
from pipeline.problems import Problem
from pipeline.prompt import requests
from pipeline.references import Pins, Reference, find, reference_of
from pipeline.scale import Rule, applied


def picture(form: str = "JPEG", colour: str = "red", size: tuple[int, int] = (8, 6), **said) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, form, **said)
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
    assert [find(source, photos, photos / "elsewhere") for cell in cells for source in split(cell)] == [
        ("photos/boot.jpg", photos / "photos/boot.jpg"),
        ("clog.jpg", photos / "elsewhere/clog.jpg"),
        ("photos/boot, side.jpg", photos / "photos/boot, side.jpg"),
        ("boot.jpg", photos / "elsewhere/boot.jpg"),
    ]


def test_a_missing_file_is_answered_with_the_one_that_was_meant(photos):
    boot, folder, nothing = (
        find(source, photos) for source in ("photos/boots.jpg", "fotos/boot.jpg", "photos/zzzzzzzzz")
    )
    assert (boot.message, boot.value, boot.hint) == (
        "reference not found",
        "photos/boots.jpg",
        "did you mean photos/boot.jpg?",
    )
    assert folder.hint == f"there is no folder {photos / 'fotos'}"
    assert nothing.hint == f"looked in {photos / 'photos'}"


@pytest.mark.parametrize("source", ["ftp://example.com/a.jpg", "s3://bucket/a.jpg", "files/abc"])
def test_what_lies_where_nobody_looks_is_refused_in_plain_words(photos, source):
    problem = find(source, photos)
    assert problem.message.startswith("reference is not a local file (")
    assert "https:// addresses" in problem.hint


@pytest.mark.parametrize(
    ("form", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_a_reference_is_known_by_its_bytes_whatever_its_name(form, mime):
    data = picture(form)
    assert reference_of("photo.png", data) == Reference(
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
def test_what_is_no_picture_says_what_it_looks_like(data, message, hint):
    problem = reference_of("refs/a.jpg", data)
    assert (problem.message, problem.value) == (message, "refs/a.jpg")
    assert problem.hint.startswith(hint)


@pytest.fixture
def pins(tmp_path):
    def make(**rule):
        return Pins(tmp_path, tmp_path / "photos", rule=Rule(**rule), cache=Cache(tmp_path / "cache"))

    return make


def test_a_file_that_changes_is_looked_at_again_and_one_that_does_not_is_not(tmp_path, pins):
    path = tmp_path / "a.jpg"
    pins = pins()
    path.write_bytes(picture(colour="red"))
    red = pins.pin("a.jpg")
    assert pins.pin("a.jpg") is red
    path.write_bytes(picture(colour="blue"))
    os.utime(path, ns=(1, 1))
    assert pins.pin("a.jpg").sha256 != red.sha256
    path.unlink()
    assert pins.pin("a.jpg").message == "reference not found"


def test_one_file_under_two_names_keeps_the_name_each_row_wrote(tmp_path, pins):
    (tmp_path / "a.jpg").write_bytes(picture())
    pins = pins()
    assert pins.pin("a.jpg").source == "a.jpg"
    assert pins.pin("./a.jpg").source == "./a.jpg"


# Scaled and converted


def test_a_large_picture_is_scaled_by_a_rule_that_is_recorded(tmp_path, pins):
    data = picture("JPEG", size=(400, 100))
    (tmp_path / "a.jpg").write_bytes(data)
    pins = pins(max_side=200)
    reference = pins.pin("a.jpg")
    assert (reference.width, reference.height, reference.mime) == (200, 50, "image/jpeg")
    assert reference.made_from == hashlib.sha256(data).hexdigest()
    assert reference.rule == "max_side=200 JPEG quality=92"
    sent = pins.load(reference)
    assert hashlib.sha256(sent).hexdigest() == reference.sha256


def test_what_was_scaled_is_the_same_bytes_without_the_cache(tmp_path, pins):
    (tmp_path / "a.png").write_bytes(picture("PNG", size=(400, 100)))
    reference = pins(max_side=200).pin("a.png")
    shutil.rmtree(tmp_path / "cache")
    again = pins(max_side=200)
    assert hashlib.sha256(again.load(reference)).hexdigest() == reference.sha256
    assert again.pin("a.png") == reference


def test_a_small_picture_is_sent_as_it_is_whatever_the_rule(tmp_path, pins):
    data = picture()
    (tmp_path / "a.jpg").write_bytes(data)
    reference = pins(max_side=200, convert="PNG").pin("a.jpg")
    assert (reference.sha256, reference.made_from) == (hashlib.sha256(data).hexdigest(), None)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP"])
@pytest.mark.parametrize(("convert", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_what_no_model_reads_is_converted_where_the_job_says_so(tmp_path, pins, form, convert, mime):
    (tmp_path / "a.img").write_bytes(picture(form))
    assert pins(convert=convert).pin("a.img").mime == mime
    assert isinstance(pins().pin("a.img"), Problem)


def test_a_photo_held_upright_stays_so_when_it_is_scaled(tmp_path, pins):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    (tmp_path / "a.jpg").write_bytes(picture("JPEG", size=(400, 100), exif=exif))
    reference = pins(max_side=200).pin("a.jpg")
    assert (reference.width, reference.height) == (50, 200)


def test_a_transparent_picture_becomes_a_jpeg_on_white():
    stream = io.BytesIO()
    Image.new("RGBA", (8, 6), (255, 0, 0, 0)).save(stream, "TIFF")
    made, _ = applied(stream.getvalue(), Rule(convert="JPEG"))
    with Image.open(io.BytesIO(made)) as image:
        assert image.getpixel((0, 0)) == (255, 255, 255)


# Called after the row


def test_a_folder_is_searched_for_pictures_called_after_the_row(photos, pins):
    folder = photos / "photos"
    for name in ("S-1.jpg", "S-1-2.png", "S-1_back.webp", "S-10.jpg", "S-1.txt", "S-2.jpg"):
        (folder / name).write_bytes(picture())
    (folder / "S-1").mkdir()
    (folder / "S-1" / "side.jpg").write_bytes(picture())
    assert pins().named_after("S-1") == ["S-1.jpg", "S-1-2.png", "S-1/side.jpg", "S-1_back.webp"]
    assert pins().named_after("S-3") == []
    assert pins().named_after("..") == []


def test_a_row_without_any_picture_in_the_folder_is_wrong_and_a_dash_says_it_is_meant(photos):
    (photos / "photos" / "S-1.jpg").write_bytes(picture())
    rows = [Row(n, n, f"S-{n}", {"image": cell}) for n, cell in [(1, ""), (2, ""), (3, "-")]]
    job = job_for("shoes.csv", prompt="x", references_dir="photos")
    one, two, three = requests(job, rows, models=load_models(), base=photos)
    assert [reference.source for reference in one.prompt.references] == ["S-1.jpg"]
    assert two.problems[0].message == "no reference picture"
    assert (three.refusal, three.prompt.references) == (None, ())
