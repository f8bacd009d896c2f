"""What the pictures of a batch say about each other and about what the model was shown, once all of them are there."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from pipeline import tables
from pipeline.checks import COMPARED, Rules
from pipeline.likeness import double, likeness, suspicions
from pipeline.pictures import Broken, decoded
from pipeline.pixels import SIDE, reduced
from pipeline.run import Run, reference_file
from pipeline.storage.base import NotFound

_WHICH = ["place", "key", "shot", "references"]
_PICTURED = ("ok", "wrong_size", "unfit")


@dataclass(slots=True)
class _Row:
    """One picture, with what it is compared by."""

    place: int
    key: str
    rules: Rules
    likeness: bytes
    shown: dict[str, str]  # its references' types, by digest


@dataclass(slots=True)
class Noticed:
    """What was found about one row's final picture."""

    words: list[str]
    numbers: dict[str, float]


def compare(
    run: Run,
    batch: int,
    answer: Callable[[int], Mapping[str, Any] | None],
    *,
    rules: Mapping[str, Rules],
    pool: Executor,
) -> dict[int, Noticed]:
    """What is to be added to the rows of a batch, by place. Reads every reference once; the same for every driver.

    Rows are compared within their batch, and never with what was settled before: that would depend on who was first.
    """
    if not any(each.want(*COMPARED) for each in rules.values()):
        return {}
    rows = list(_rows(run, batch, answer, rules))
    found = {row.place: Noticed([], {}) for row in rows}
    _twins([row for row in rows if row.rules.want("near_duplicate")], found)
    edited = [row for row in rows if row.rules.want("unchanged", "swapped")]
    references = _references(run, edited, pool)
    _unchanged([row for row in edited if row.rules.want("unchanged")], references, found)
    _swapped([row for row in edited if row.rules.want("swapped")], references, found)
    return found


def _rows(
    run: Run, batch: int, answers: Callable[[int], Mapping[str, Any] | None], rules: Mapping[str, Rules]
) -> Iterator[_Row]:
    for row in tables.rows_in(run.plan(batch), columns=_WHICH):
        answer = answers(row["place"])
        if answer is None or answer["outcome"] not in _PICTURED or answer["likeness"] is None:
            continue
        shown = {one["sha256"]: one["mime"] for one in row["references"] or []}
        yield _Row(row["place"], row["key"], rules[row["shot"]], answer["likeness"], shown)


def _references(run: Run, rows: list[_Row], pool: Executor) -> dict[str, bytes]:
    """The likeness of each reference, several read at once. What cannot be decoded here, as HEIC, is left out."""
    wanted = {digest: mime for row in rows for digest, mime in row.shown.items()}
    told = pool.map(partial(_likeness_of, run), wanted.items())
    return {digest: each for digest, each in zip(wanted, told, strict=True) if each is not None}


def _likeness_of(run: Run, reference: tuple[str, str]) -> bytes | None:
    from PIL import ImageOps

    try:
        image = decoded(run.storage.read(reference_file(*reference)), side=SIDE)
    except NotFound:  # an object that is named to the provider, and not kept here
        return None
    # Cameras write how they were held, and models mind it.
    return None if isinstance(image, Broken) else likeness(reduced(ImageOps.exif_transpose(image)))


def _twins(rows: list[_Row], found: dict[int, Noticed]) -> None:
    products: dict[str, list[_Row]] = {}
    for row in rows:
        products.setdefault(row.key, []).append(row)
    for product in products.values():
        for one, other in combinations(product, 2):
            near = double(one.likeness, other.likeness)
            for row in (one, other):
                _note(found[row.place], "near_duplicate", near.bits, near.same)


def _unchanged(rows: list[_Row], references: Mapping[str, bytes], found: dict[int, Noticed]) -> None:
    for row in rows:
        for digest in row.shown.keys() & references.keys():
            near = double(row.likeness, references[digest])
            _note(found[row.place], "unchanged", near.bits, near.same)


def _swapped(rows: list[_Row], references: Mapping[str, bytes], found: dict[int, Noticed]) -> None:
    said = suspicions([row.likeness for row in rows], [frozenset(row.shown) for row in rows], references)
    for row, suspicion in zip(rows, said, strict=True):
        if suspicion is not None:
            _note(found[row.place], "swapped", suspicion.ratio, suspicion.swapped)


def _note(noticed: Noticed, check: str, number: float, failed: bool) -> None:
    """The lowest number counts; the word stands once."""
    noticed.numbers[check] = min(number, noticed.numbers.get(check, number))
    if failed and check not in noticed.words:
        noticed.words.append(check)
