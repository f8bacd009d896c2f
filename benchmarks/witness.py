"""How many swapped pictures the witness catches, and how many rows it suspects for nothing."""

import io
from dataclasses import dataclass
from random import Random

from PIL import Image

from benchmarks.products import HELD_OUT, TUNED, Product, differ, photo, shot
from pipeline.likeness import likeness, suspicions
from pipeline.pixels import reduced

SHARE = 0.1
"""Of a batch's rows, how many have another row's picture."""

DRAWS = 5
"""Times that a batch's pictures are swapped, each time others of them; once they are all left where they belong."""


@dataclass(slots=True)
class Verdict:
    """Counts of rows. Swaps are counted between products that anybody sees to be different."""

    swapped: int = 0
    caught: int = 0
    right: int = 0
    suspected: int = 0  # of the right ones

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.swapped + other.swapped,
            self.caught + other.caught,
            self.right + other.right,
            self.suspected + other.suspected,
        )

    def __str__(self) -> str:
        caught, false = self.caught / self.swapped, self.suspected / self.right
        return (
            f"{caught:>6.1%} of {self.swapped:,} swaps caught   "
            f"{false:>6.2%} of {self.right:,} right rows suspected"
        )


def judged(families: tuple[str, ...], *, rows: int, seed: str) -> Verdict:
    """A batch of products of these families, as it is and with some of its pictures swapped in pairs."""
    random = Random(seed)
    products = [Product(random.choice(families), random.randrange(10**6)) for _ in range(rows)]
    references = {str(row): _seen(photo(product, random)) for row, product in enumerate(products)}
    pictures = [_seen(shot(product, random)) for product in products]
    shown = [frozenset([str(row)]) for row in range(rows)]
    verdict = Verdict()
    for pairs in (0, *[max(1, int(rows * SHARE / 2))] * DRAWS):
        places = _swapped(rows, pairs, random)
        said = suspicions([pictures[place] for place in places], shown, references)
        for row, (place, suspicion) in enumerate(zip(places, said, strict=True)):
            assert suspicion is not None
            if place == row:
                verdict += Verdict(right=1, suspected=suspicion.swapped)
            elif differ(products[row], products[place]):
                verdict += Verdict(swapped=1, caught=suspicion.swapped)
    return verdict


def _swapped(rows: int, pairs: int, random: Random) -> list[int]:
    """Whose picture each row has."""
    places = list(range(rows))
    chosen = random.sample(range(rows), 2 * pairs)
    for one, other in zip(chosen[::2], chosen[1::2], strict=True):
        places[one], places[other] = other, one
    return places


def _seen(data: bytes) -> bytes:
    return likeness(reduced(Image.open(io.BytesIO(data))))


def witness(*, small: bool) -> None:
    """swaps among generated products, each shot anew on another ground, in other light and place, as a model might."""
    rows, batches = (20, 1) if small else (150, 6)
    for name, families in (("held out", HELD_OUT), ("tuned on", TUNED)):
        total = Verdict()
        for number in range(batches):
            total += judged(families, rows=rows, seed=f"{name} {number}")
        print(f"  {name}, shops of many kinds   {total}")
        alike = Verdict()
        for family in families[:1] if small else families:
            alike += judged((family,), rows=rows * 2 // 3, seed=family)
        print(f"  {name}, shops of one kind     {alike}")
