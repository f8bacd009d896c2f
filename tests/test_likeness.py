"""Two pictures that are one, and two that were swapped: told from a few hundred bytes of each."""

import io
from random import Random

import pytest
from PIL import Image, ImageOps

from benchmarks.products import HELD_OUT, Product, shot
from benchmarks.witness import Verdict, judged
from pipeline.likeness import TOGETHER, double, likeness, suspicions
from pipeline.pixels import reduced


def product(seed: int, *, family: str = "bag") -> Image.Image:
    """On white, and with a margin."""
    image = Image.new("RGB", (512, 512), "white")
    layer = Product(family, seed).drawn().resize((440, 440))
    image.paste(layer, (36, 36), layer)
    return image


def of(image: Image.Image) -> bytes:
    return likeness(reduced(image))


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return Image.open(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.resize((1024, 1024)),
        compressed,
        lambda image: ImageOps.expand(image, 100, "white"),
        lambda image: image.point(lambda level: min(255, level + 6)),
    ],
)
def test_the_same_picture_is_known_again_in_another_size_margin_and_compression(change) -> None:
    assert double(of(product(1)), of(change(product(1)))).same


def test_another_product_another_colour_and_another_side_are_no_doubles() -> None:
    bag = of(product(1))
    others = [of(product(seed)) for seed in range(2, 40)]
    assert not any(double(bag, other).same for other in others)
    repainted = ImageOps.invert(product(1).convert("L")).convert("RGB")
    assert not double(bag, of(repainted)).same
    assert not double(of(product(3, family="shoe")), of(ImageOps.mirror(product(3, family="shoe")))).same


def test_swaps_between_visibly_different_products_are_caught_and_right_rows_left_alone() -> None:
    """At least 95 % of the swaps, under 1 % of the others, on things that no number was chosen by."""
    total = Verdict()
    for number in range(2):
        total += judged(HELD_OUT, rows=100, seed=f"test {number}")
    assert total.swapped > 60
    assert total.caught / total.swapped >= 0.95
    assert total.suspected / total.right < 0.01


def shop(count: int) -> tuple[list[bytes], list[frozenset[str]], dict[str, bytes]]:
    """Products, each with its picture and a photo of its own."""
    random = Random(3)
    things = [Product("watch", seed) for seed in range(count)]
    pictures = [of(Image.open(io.BytesIO(shot(thing, random)))) for thing in things]
    photos = {str(n): of(Image.open(io.BytesIO(shot(thing, random)))) for n, thing in enumerate(things)}
    return pictures, [frozenset([str(n)]) for n in range(count)], photos


def suspected(pictures: list[bytes], shown: list[frozenset[str]], photos: dict[str, bytes]) -> list[int]:
    said = suspicions(pictures, shown, photos)
    return [row for row, suspicion in enumerate(said) if suspicion is not None and suspicion.swapped]


def test_a_swap_is_a_suspicion_of_both_rows_and_of_no_other() -> None:
    pictures, shown, photos = shop(12)
    assert suspected(pictures, shown, photos) == []
    pictures[4], pictures[9] = pictures[9], pictures[4]
    assert suspected(pictures, shown, photos) == [4, 9]


def test_pictures_that_moved_on_by_one_are_suspected_too() -> None:
    pictures, shown, photos = shop(12)
    assert len(suspected([*pictures[1:], pictures[0]], shown, photos)) >= 8


def test_rows_of_one_product_share_their_photo_and_cannot_be_swapped() -> None:
    pictures, shown, photos = shop(4)
    twice = [each for each in pictures for _ in range(2)]
    said = [each for each in shown for _ in range(2)]
    assert suspected(twice, said, photos) == []
    assert suspected([twice[1], twice[0], *twice[2:]], said, photos) == []


def test_a_photo_that_all_rows_are_shown_tells_none_of_them_apart() -> None:
    pictures, shown, photos = shop(6)
    style = {"style": of(product(5))}
    both = [each | {"style"} for each in shown]
    assert suspected(pictures, both, photos | style) == []
    pictures[0], pictures[1] = pictures[1], pictures[0]
    assert suspected(pictures, both, photos | style) == [0, 1]
    assert suspicions(pictures, [frozenset(["style"])] * 6, style) == [None] * 6


def test_who_has_no_photo_or_is_alone_is_not_judged() -> None:
    pictures, shown, photos = shop(3)
    assert suspicions(pictures, [frozenset(), frozenset(["gone"]), shown[2]], photos) == [None] * 3
    assert suspicions([], [], {}) == []


def test_a_batch_of_any_size_is_compared_in_bounded_pieces() -> None:
    pictures, _, photos = shop(2)
    many = TOGETHER + 3
    shown = [frozenset([f"{n}"]) for n in range(many)]
    references = {f"{n}": photos[str(n % 2)] for n in range(many)}
    said = suspicions([pictures[n % 2] for n in range(many)], shown, references)
    assert len(said) == many
    assert not any(suspicion is None or suspicion.swapped for suspicion in said)
