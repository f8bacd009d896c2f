"""What a picture looks like in a few hundred bytes, and what that tells: two that are one, and two that were swapped.

The bytes are whole numbers, and distances are sums of whole numbers: two machines say the same of the same pixels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.pixels import figure

if TYPE_CHECKING:
    from PIL.Image import Image

HASH, THUMB = 256 // 8, 4 * 4 * 3
"""Bytes of a likeness that tell doubles: which way brightness steps, and the colours in sixteen fields."""

SAME_BITS, SAME_LEVELS = 0.04, 16
"""Doubles differ in no more of their steps than this, and in their colours by no more levels."""

EXCHANGED, GAIN = 0.82, 110.0
"""Two rows are suspected when their pictures, exchanged, are nearer to the references by this share and by so much."""

PREFERRED, LEAD = 0.7, 70.0
"""So is one that is nearer to another row's reference than to its own, and than any other picture is, by as much."""

TOGETHER = 1000
"""Rows of a batch that are held against each other: time and memory grow with the square of this."""

_GRID, _CELLS, _CROP = 72, 4, 32  # dots of the colour part's side; cells and dots of the outline's
_LEVELS, _HUES, _REACH = 3, 6, 90
_DIRECTIONS = 6
_COMMON = 0.5  # a reference that so many products share, a style or a person, tells none of them apart


@dataclass(frozen=True, slots=True)
class Double:
    """How near a picture is to another one."""

    bits: float  # the share of steps that differ
    levels: float  # how far colours differ

    @property
    def same(self) -> bool:
        return self.bits <= SAME_BITS and self.levels <= SAME_LEVELS


def likeness(small: "Image") -> bytes:
    """A picture in colours, some hundreds of dots wide, as bytes to compare. Takes a millisecond."""
    return _steps(small) + _colours_and_outline(small)


def double(one: bytes, other: bytes) -> Double:
    """How near two likenesses are. Size, light compression and a white margin make no difference."""
    import numpy as np

    steps = int.from_bytes(one[:HASH], "big") ^ int.from_bytes(other[:HASH], "big")
    a, b = (np.frombuffer(each, np.uint8)[HASH : HASH + THUMB].astype(np.int16) for each in (one, other))
    return Double(round(steps.bit_count() / (8 * HASH), 4), round(int(abs(a - b).sum()) / THUMB, 2))


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Whether a row seems to have another row's picture."""

    swapped: bool
    ratio: float  # of the distances to the references, the pictures exchanged with the likeliest row's: low is likely


def suspicions(
    pictures: Sequence[bytes], shown: Sequence[frozenset[str]], references: Mapping[str, bytes]
) -> list[Suspicion | None]:
    """What the witness says to each row. `shown` names the rows' references; rows of one product share theirs.

    None: the row has no reference of its own, or nobody to be swapped with.
    """
    common = _common(shown)
    sets = [frozenset(each & references.keys()) - common for each in shown]
    found: list[Suspicion | None] = [None] * len(pictures)
    told = [row for row, each in enumerate(sets) if each]
    for begin in range(0, len(told), TOGETHER):
        rows = told[begin : begin + TOGETHER]
        said = _among([pictures[row] for row in rows], [sets[row] for row in rows], references)
        for row, each in zip(rows, said, strict=True):
            found[row] = each
    return found


def _common(shown: Sequence[frozenset[str]]) -> frozenset[str]:
    products = set(shown)
    if len(products) < 4:
        return frozenset()
    counts = Counter(reference for each in products for reference in each)
    return frozenset(one for one, count in counts.items() if count > _COMMON * len(products))


def _among(
    pictures: list[bytes], sets: list[frozenset[str]], references: Mapping[str, bytes]
) -> list[Suspicion | None]:
    import numpy as np

    far, others = _distances_between_rows(pictures, sets, references)
    own = np.diag(far)[:, None]
    both = own + own.T
    exchanged = far + far.T
    # Each of two rows must be better off: one that fits everything is no evidence against the other.
    better = others & (far < own) & (far.T < own.T)
    gain = np.where(better & (exchanged < EXCHANGED * both) & (both - exchanged >= GAIN), both - exchanged, 0)
    best = gain.argmax(axis=1)
    rows = np.arange(len(pictures))
    mutual = (gain[rows, best] > 0) & (best[best] == rows)
    lesser = np.minimum(own, own.T)
    preferred = others & (far < PREFERRED * lesser) & (lesser - far >= LEAD) & (far <= far.min(axis=0))
    swapped = mutual | preferred.any(axis=1)
    ratio = np.where(better, exchanged / np.maximum(both, 1e-6), 1).min(axis=1)
    return [
        Suspicion(bool(swapped[row]), round(float(ratio[row]), 3)) if others[row].any() else None
        for row in rows
    ]


def _distances_between_rows(
    pictures: list[bytes], sets: list[frozenset[str]], references: Mapping[str, bytes]
) -> tuple[Any, Any]:
    """How far each row's picture is from each row's references, and which rows could be told apart by them."""
    import numpy as np

    columns = {name: place for place, name in enumerate(sorted(frozenset[str]().union(*sets)))}
    products = {each: place for place, each in enumerate(dict.fromkeys(sets))}
    far = _distances(pictures, [references[name] for name in columns])
    nearest = [far[:, [columns[name] for name in each]].min(axis=1) for each in products]
    of_row = np.array([products[each] for each in sets])
    apart = np.array([[not one & other for other in products] for one in products])
    return np.stack(nearest, axis=1)[:, of_row], apart[np.ix_(of_row, of_row)]


def _distances(pictures: list[bytes], references: list[bytes]) -> Any:
    import numpy as np

    ours, theirs = (
        np.stack([np.frombuffer(each, np.uint8)[HASH + THUMB :] for each in side]).astype(np.float64)
        for side in (pictures, references)
    )
    # Exact, in whatever order a library adds: whole numbers far below 2 to the 53rd.
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)[None, :] - 2 * ours @ theirs.T
    return np.sqrt(squares).astype(np.float32)


# --- the bytes -----------------------------------------------------------------------------------------------------


def _steps(small: "Image") -> bytes:
    """Of what stands in the picture: where brightness rises from left to right, and its colours in sixteen fields."""
    import numpy as np
    from PIL import Image

    box = figure(small)
    if box[2] - box[0] < 8 or box[3] - box[1] < 8:
        box = (0, 0, *small.size)
    grey = small.convert("L").resize((17, 16), Image.Resampling.BOX, box=box)
    levels = np.asarray(grey, np.int16)
    # Two levels of tolerance: in an even area noise would throw dice.
    rising = levels[:, 1:] - levels[:, :-1] > 2
    thumb = small.resize((4, 4), Image.Resampling.BOX, box=box)
    return bytes(np.packbits(rising)) + thumb.tobytes()


def _colours_and_outline(small: "Image") -> bytes:
    import numpy as np
    from PIL import Image

    dots = np.asarray(small.resize((_GRID, _GRID), Image.Resampling.BOX), np.float64)
    standing = _standing(dots)
    colours = _colours(dots, (standing + 1e-3) * _middle())
    outline = _outline(small, standing)
    return bytes(np.rint(np.concatenate([colours, outline * 0.9]) * 255).astype(np.uint8))


@cache
def _middle() -> Any:
    """What is in the middle counts more."""
    import numpy as np

    place = (np.arange(_GRID) - _GRID / 2) / (_GRID * 0.35)
    return np.exp(-(place[:, None] ** 2 + place[None, :] ** 2) / 2)


def _standing(dots: Any) -> Any:
    """How surely each dot belongs to what stands in the picture: how unlike it is to everything along the edge."""
    import numpy as np

    edges = (dots[:3], dots[-3:], dots[:, :3].swapaxes(0, 1), dots[:, -3:].swapaxes(0, 1))
    pieces = np.stack(edges).reshape(4, 3, 6, _GRID // 6, 3).swapaxes(1, 2).reshape(24, -1, 3)
    ground = np.median(pieces, axis=1).astype(np.float32)
    flat = dots.reshape(-1, 3).astype(
        np.float32
    )  # exact all the same: whole and half numbers below 2 to the 24th
    squares = (ground**2).sum(axis=1)[:, None] - 2 * ground @ flat.T
    distance = np.sqrt((squares.min(axis=0) + np.einsum("ij,ij->i", flat, flat)).clip(0)).reshape(
        _GRID, _GRID
    )
    return ((distance.astype(np.float64) - 16) / 48).clip(0, 1)


def _colours(dots: Any, weight: Any) -> Any:
    """How much there is of each colour, brightness in three steps and hue apart from it, so that light tells little."""
    import numpy as np

    seen = weight > weight.max() / 100
    part_of_all, dots = weight[seen], dots[seen]
    mean = dots.mean(axis=1)
    red, green, blue = (dots * (160 / (mean + 80))[:, None]).T
    axes = (
        mean / 255 * (_LEVELS - 1),
        ((red - green) / _REACH + 1) / 2 * (_HUES - 1),
        ((blue - (red + green) / 2) / _REACH + 1) / 2 * (_HUES - 1),
    )
    places, shares = [], []
    for axis, count in zip(axes, (_LEVELS, _HUES, _HUES), strict=True):
        held = axis.clip(0, count - 1 - 1e-9)
        places.append(held.astype(np.int64))
        shares.append(held - places[-1])
    found = np.zeros(_LEVELS * _HUES * _HUES)
    for corner in range(8):  # each dot is shared out between its nearest eight bins
        bits = corner & 1, corner >> 1 & 1, corner >> 2
        part = part_of_all
        for bit, share in zip(bits, shares, strict=True):
            part = part * (share if bit else 1 - share)
        bins = ((places[0] + bits[0]) * _HUES + places[1] + bits[1]) * _HUES + places[2] + bits[2]
        found += np.bincount(bins, part, len(found))
    return np.sqrt(found / found.sum())


def _outline(small: "Image", standing: Any) -> Any:
    """Which way edges run in sixteen fields of what stands in the picture."""
    import numpy as np
    from PIL import Image

    left, top, right, bottom = _box(standing)
    share = small.width / _GRID, small.height / _GRID
    box = (left * share[0], top * share[1], right * share[0], bottom * share[1])
    crop = small.convert("L").resize((_CROP + 2, _CROP + 2), Image.Resampling.BOX, box=box)
    grey = np.asarray(crop, np.float64)
    across, down = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]
    strength = np.sqrt(across**2 + down**2).ravel()
    turned = (np.arctan2(down, across) % np.pi / np.pi * _DIRECTIONS).ravel()
    first = turned.astype(np.int64) % _DIRECTIONS
    share_of_next = turned - np.floor(turned)
    field = np.arange(_CROP) // (_CROP // _CELLS)
    fields = (field[:, None] * _CELLS + field[None, :]).ravel() * _DIRECTIONS
    count = _CELLS * _CELLS * _DIRECTIONS
    found = np.bincount(fields + first, strength * (1 - share_of_next), count)
    found += np.bincount(fields + (first + 1) % _DIRECTIONS, strength * share_of_next, count)
    return np.sqrt(found / max(found.sum(), 1e-9))


def _box(standing: Any) -> tuple[int, int, int, int]:
    """What stands there, without the outermost fiftieth of its dots; the whole grid, if hardly anything does."""
    import numpy as np

    rows, columns = np.nonzero(standing > 0.5)
    if len(rows) <= 20:
        return 0, 0, _GRID, _GRID
    cut = len(rows) // 50
    rows, columns = np.sort(rows), np.sort(columns)
    return int(columns[cut]), int(rows[cut]), int(columns[-1 - cut]) + 1, int(rows[-1 - cut]) + 1
