"""Rows times axes, and a sample of that: how a dataset gets its variety out of a short table."""

import hashlib
import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import msgspec

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
    once; for each of its rows times combinations eight bytes are in memory meanwhile, and one byte after that.
    """
    if not axes and sample is None:
        return source
    if taken := [axis for axis in axes if axis in source.columns]:
        raise BadInput(f"axes: {taken[0]!r} is a column of the manifest", hint="give the axis another name")
    combined = combinations(axes)
    chosen = None if sample is None else _chosen(source, combined, sample, seed, name_of)

    def lines() -> Iterator[Line]:
        is_next = itertools.repeat(1) if chosen is None else iter(chosen)
        for line in source.lines():
            for one in combined:
                if next(is_next, 0):  # a file that has grown meanwhile is refused by its digest
                    yield _with(line, one) if axes else line

    return replace(source, columns=(*source.columns, *axes), lines=lines)


def _with(line: Line, one: Combination) -> Line:
    return msgspec.structs.replace(line, cells=[*line.cells, *one.values])


def _chosen(
    source: Source,
    combined: Sequence[Combination],
    sample: int,
    seed: int,
    name_of: Callable[[Line], str],
) -> bytes:
    """For each row and combination in order, whether it is drawn."""
    import numpy as np

    scores = array("d")
    for line in source.lines():
        name = name_of(line)
        scores.extend(_score(seed, name, one) for one in combined)
    found = np.frombuffer(scores, dtype=np.float64)
    if len(found) <= sample:
        return b"\1" * len(found)
    return bytes(found <= np.partition(found, sample - 1)[sample - 1])


def _score(seed: int, name: str, one: Combination) -> float:
    """Small for what is drawn first: an exponential variable of the weight's rate (Efraimidis and Spirakis)."""
    text = "\0".join([str(seed), name, *one.values])
    number = int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())
    return -math.log((number + 1) / 2**64) / one.weight


def suffix(fields: Mapping[str, str], axes: Sequence[str]) -> str:
    """What tells one combination's row from another's, for its name."""
    return "".join(f"-{fields[axis]}" for axis in axes)
