"""Words and numbers about single pictures: each check sees what it is for, and lets the rest pass."""

import io
from random import Random

import pytest
from PIL import Image, ImageDraw, ImageFilter

from pipeline.checks import NAMES, Checks, Seen, examine, rules_of
from pipeline.pictures import Broken, Picture, look

SIDE = 600


def packshot(*, share: float = 0.9, ground: object = "white", mode: str = "RGB") -> Image.Image:
    """A product with some detail in the middle of its frame, so large in it."""
    image = Image.new(mode, (SIDE, SIDE), ground)  # type: ignore[arg-type]
    pencil = ImageDraw.Draw(image)
    margin = int(SIDE * (1 - share) / 2)
    pencil.rounded_rectangle((margin, 150, SIDE - margin, 450), 30, (150, 40, 30))
    random = Random(1)
    for _ in range(200):
        x, y = random.randint(margin, SIDE - margin - 20), random.randint(150, 440)
        pencil.rectangle((x, y, x + 14, y + 8), random.choice(((20, 20, 20), (220, 200, 160), (60, 90, 160))))
    return image


def scene(*, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A picture from edge to edge."""
    image = Image.effect_noise((width // 4, height // 4), 90).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return image.convert("RGB")


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def seen(image: Image.Image, form: str = "PNG", *, profile: str = "amazon-main", **said: str) -> Seen:
    data = saved(image, form, **({"quality": 75} if form == "JPEG" else {}))
    picture = look(data)
    assert isinstance(picture, Picture)
    checks = {"min_side": "off"} | said
    found = examine(data, picture, rules_of(Checks(profile=profile, **checks), "main"))  # type: ignore[arg-type]
    assert isinstance(found, Seen)
    return found


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_good_packshot_passes_everything(form: str) -> None:
    found = seen(packshot(), form)
    assert found.words == []
    assert found.numbers["white_background"] == 1
    assert found.numbers["fill"] == pytest.approx(0.9, abs=0.02)
    assert found.numbers["sharpness"] > 100


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.new("RGB", (SIDE, SIDE), "white"), ["blank"]),
        (Image.new("RGB", (SIDE, SIDE), (12, 40, 90)), ["blank"]),
        (packshot(ground=(248, 248, 248)), ["white_background"]),
        (packshot(share=0.5), ["fill"]),
        (packshot(share=0.86).filter(ImageFilter.GaussianBlur(10)), ["sharpness"]),
    ],
)
def test_each_fault_has_its_word_and_no_other(image: Image.Image, words: list[str], form: str) -> None:
    assert seen(image, form).words == words


def test_bars_are_seen_along_either_axis_and_a_white_ground_is_no_bar() -> None:
    for box, size in (((0, 90), (SIDE, SIDE - 180)), ((90, 0), (SIDE - 180, SIDE))):
        for colour in ("black", "white"):
            image = Image.new("RGB", (SIDE, SIDE), colour)
            image.paste(scene(width=size[0], height=size[1]), box)
            found = seen(image, profile="merchant")
            assert "border" in found.words
            assert found.numbers["border"] == pytest.approx(0.3, abs=0.02)
    assert seen(scene(), profile="merchant").numbers["border"] == 0


@pytest.mark.parametrize("ground", ["white", "black"])
@pytest.mark.parametrize("share", [0.9, 0.92, 0.95])
def test_a_wide_and_straight_product_is_no_bar(ground: str, share: float) -> None:
    image = Image.new("RGB", (SIDE, SIDE), ground)
    width, height = round(SIDE * share), SIDE // 2
    image.paste(scene(width=width, height=height), ((SIDE - width) // 2, (SIDE - height) // 2))
    assert "border" not in seen(image, profile="merchant").words


def test_nearly_white_is_white_to_one_shop_and_not_to_another() -> None:
    image = packshot(ground=(251, 251, 251))
    assert "white_background" in seen(image).words
    assert "white_background" not in seen(image, profile="merchant", white_background="flag").words


def test_what_is_transparent_lies_on_white() -> None:
    assert seen(packshot(ground=(0, 0, 0, 0), mode="RGBA")).words == []


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "1", "I;16"])
def test_every_mode_of_a_picture_is_looked_at(mode: str) -> None:
    image = packshot().convert("L" if mode == "I;16" else mode)
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert seen(image.convert(mode), form).numbers["blank"] >= 0


def test_a_shop_s_least_size_and_most_bytes_are_read_from_the_header() -> None:
    """Nothing is decoded for that: what is behind the header may be anything."""
    rules = rules_of(Checks(min_side="flag", file_size="flag"), "main")
    amazon = rules_of(Checks(profile="amazon-main"), "main")
    small = Picture("PNG", "image/png", "png", 999, 500, "0" * 64, 5)
    heavy = Picture("PNG", "image/png", "png", 2000, 2000, "0" * 64, 10_000_001)
    assert examine(b"", small, rules) == Seen([], {}, None), "no shop, no least size"
    data = saved(packshot())
    assert "min_side" in examine(data, small, amazon).words  # type: ignore[union-attr]
    assert "file_size" in examine(data, heavy, amazon).words  # type: ignore[union-attr]


def test_without_checks_no_pixel_is_decoded() -> None:
    picture = Picture("PNG", "image/png", "png", 10, 10, "0" * 64, 5)
    assert examine(b"no picture at all", picture, rules_of(Checks(), "main")) == Seen([], {}, None)


def test_a_check_finds_broken_what_only_decoding_shows() -> None:
    data = bytearray(saved(packshot()))
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    import zlib

    data[start + 4 : start + 4 + length] = bytes(length)  # no deflated pixels, under a right checksum
    data[start + 4 + length : start + 8 + length] = zlib.crc32(data[start : start + 4 + length]).to_bytes(
        4, "big"
    )
    picture = look(bytes(data))
    assert isinstance(picture, Picture)
    assert isinstance(examine(bytes(data), picture, rules_of(Checks(blank="flag"), "main")), Broken)


def test_a_profile_holds_for_its_shots_and_single_words_stand_above_it() -> None:
    checks = Checks(
        profile="merchant", shots={"hero": "amazon-main", "mood": "none"}, fill="off", swapped="error"
    )
    hero, mood, other = (rules_of(checks, shot) for shot in ("hero", "mood", "other"))
    assert hero.want("white_background")
    assert not other.want("white_background")
    assert hero.profile.longer == 1000
    assert not any(rules.want("fill") for rules in (hero, mood, other))
    assert [name for name in NAMES if mood.want(name)] == ["swapped"]
    assert other.fatal(["blank", "border", "swapped", "declared_mime"]) == ["blank", "swapped"]
