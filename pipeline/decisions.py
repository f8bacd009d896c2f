"""What people decided about pictures, read back from review/: of one picture the last decision counts."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from pipeline import tables
from pipeline.asked import called
from pipeline.run import Run, plan_file

APPROVED, REJECTED = "approved", "rejected"

_Request = tuple[str, str, int, int]  # key, shot, variant, turn


class Decision(NamedTuple):
    """What a person said of a picture."""

    word: str
    reason: str | None


def applied(run: Run, *, reviewed: int | None = None) -> Iterator[dict[str, Any]]:
    """All decisions, by the first so many files, in the order in which they were recorded."""
    for review in run.state.reviews[:reviewed]:
        yield from tables.rows_of(tables.from_parquet(run.storage.read(review.file.name)))


def standing(run: Run) -> dict[tuple[int, int], Decision]:
    """The decision about each picture that was judged, by the batch and the place of its request."""
    return {(row["batch"], row["place"]): Decision(row["decision"], row["reason"]) for row in applied(run)}


class Judged:
    """What follow-ups have to know of the pictures before them: a few hundred bytes for each that was judged.

    A pure function of these decisions and of the run's first plan, so that every driver finds the same.
    """

    def __init__(self, run: Run, decisions: Iterable[Mapping[str, Any]]) -> None:
        self._run = run
        self._said = {
            (_request(row), row["take"]): Decision(row["decision"], row["reason"]) for row in decisions
        }

    def has_parent_of(self, row: Mapping[str, Any]) -> bool:
        """Whether somebody judged the very picture that this follow-up goes on from."""
        return (_parent(row), row["take"]) in self._said

    def why_not(self, row: Mapping[str, Any]) -> str | None:
        """Why this follow-up is not to be asked: of the pictures before it the nearest that was judged is rejected."""
        which = _parent(row)
        while which is not None:
            said = self._said.get((which, row["take"]))
            if said is not None:
                return _words(which, said) if said.word == REJECTED else None
            which = self._before(which)
        return None

    def _before(self, which: _Request) -> _Request | None:
        key, shot, variant, turn = which
        return (key, shot, variant, turn - 1) if turn else self._edited.get(which)

    @cached_property
    def _edited(self) -> dict[_Request, _Request]:
        """Of the rows that edit another row's picture: which that is."""
        there = [batch.number for batch in self._run.state.batches if batch.waits]
        columns = ["key", "shot", "variant", "turn", "parent"]
        plans = (tables.from_parquet(self._run.storage.read(plan_file(n)), columns=columns) for n in there)
        return {_request(row): _request(row["parent"]) for plan in plans for row in tables.rows_of(plan)}


def _request(row: Mapping[str, Any]) -> _Request:
    return row["key"], row["shot"], row["variant"], row["turn"]


def _parent(row: Mapping[str, Any]) -> _Request | None:
    """The request that a follow-up goes on from."""
    if row["parent"] is not None:
        return _request(row["parent"])
    key, shot, variant, turn = _request(row)
    return (key, shot, variant, turn - 1) if turn else None


def _words(which: _Request, said: Decision) -> str:
    name = called(dict(zip(("key", "shot", "variant", "turn"), which, strict=True)))
    return f"{name} was rejected" + (f": {said.reason}" if said.reason else "")
