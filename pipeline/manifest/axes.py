"""Rows times axes, and a sample of that: how a dataset gets its variety out of a short table."""

import hashlib
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from pipeline.errors import BadInput
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source

_MOST_COMBINATIONS = 100_000
"""Of the axes alone: they are in memory."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One value of each axis, and how likely it is to be drawn against others."""

    values: tuple[str, ...]
    weight: float


def combinations(axes: Mapping[str, Mapping[str, float]]) -> list[Combination]:
    """The product of all axes, each given as its values with their weights, in their order."""
    if math.prod(map(len, axes.values())) > _MOST_COMBINATIONS:
        raise BadInput(f"axes: more than {_MOST_COMBINATIONS:,} combinations", hint="take some values out")
    return [
        Combination(tuple(value for value, _ in one), math.prod(weight for _, weight in one))
        for one in product(*(values.items() for values in axes.values()))
    ]


def drawn(
    source: Source,
    axes: Mapping[str, Mapping[str, float]],
    *,
    sample: int | None,
    seed: int,
    name_of: Callable[[Line], str],
) -> Source:
    """The source times the axes, as many of it as the sample says, in the order of the file.

    What is drawn depends on the seed, the row's name and its combination, so a larger sample holds the smaller one,
    and a row that is inserted takes no other's place but at the margin. To know how far to draw, the source is read
    once; eight bytes for each of its rows times combinations are in memory meanwhile.
    """
    if not axes and sample is None:
        return source
    if taken := [axis for axis in axes if axis in source.columns]:
        raise BadInput(f"axes: {taken[0]!r} is a column of the manifest", hint="give the axis another name")
    combined = combinations(axes)

    def scored() -> Iterator[tuple[float, Line, Combination]]:
        for line in source.lines():
            name = "" if sample is None else name_of(line)
            for one in combined:
                yield (0.0 if sample is None else _score(seed, name, one)), line, one

    limit = math.inf if sample is None else _limit((score for score, _, _ in scored()), sample)

    def lines() -> Iterator[Line]:
        for score, line, one in scored():
            if score <= limit:
                yield replace(line, cells=[*line.cells, *one.values])

    return replace(source, columns=(*source.columns, *axes), lines=lines)


def _score(seed: int, name: str, one: Combination) -> float:
    """Small for what is drawn first: an exponential variable of the weight's rate (Efraimidis and Spirakis)."""
    text = "\0".join([str(seed), name, *one.values])
    number = int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())
    return -math.log((number + 1) / 2**64) / one.weight


def _limit(scores: Iterator[float], count: int) -> float:
    """The score of the last that is drawn."""
    import numpy as np

    found = np.frombuffer(array("d", scores), dtype=np.float64)
    return math.inf if len(found) <= count else float(np.partition(found, count - 1)[count - 1])


def suffix(fields: Mapping[str, str], axes: Sequence[str]) -> str:
    """What tells one combination's row from another's, for its name."""
    return "".join(f"-{fields[axis]}" for axis in axes)
