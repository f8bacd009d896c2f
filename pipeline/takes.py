"""What ended without its picture, asked once more because a person says so; what follows it comes along."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from pipeline import tables
from pipeline.again import write_again
from pipeline.asked import prompt_of
from pipeline.events import LATER, Drawn, Takes
from pipeline.models import Model
from pipeline.money import Lane, estimate, served
from pipeline.prompt import TO_COME
from pipeline.run import Run
from pipeline.state import Stage, model_of
from pipeline.turns import PICTURED

USUAL = ("text_only", "no_image", "truncated", "broken", "error", "missing", "expired", "cancelled")
"""What another try may better. Who wants what was refused for what it shows tried again has to say so."""

NAMED = (*USUAL, "wrong_size", "unfit", "blocked", "invalid")
"""All that is asked once more where a person says this word."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Requests of one batch that ended alike: without a picture."""

    source: Takes
    likely: int  # with what follows them
    high: int
    follow_ups: int = 0  # requests that are asked anew because these are

    @property
    def requests(self) -> int:
        return len(self.source.places)


def failed(run: Run, outcomes: Collection[str] = USUAL) -> list[Failed]:
    """Everything of a run that ended so, and was not asked once more yet.

    Not what follows something that is asked once more, here or already: that brings it along, and it would be paid
    twice. What has a picture that others go on from is asked again only when all of those are home.
    """
    return list(_failed(run, outcomes))


def _failed(run: Run, outcomes: Collection[str]) -> Iterator[Failed]:
    settled = [batch.collected for batch in run.state.at(Stage.COLLECTED) if batch.sends]
    if all(books is None or books.outcomes.keys().isdisjoint(outcomes) for books in settled):
        return
    kin = _Kin(run)
    wanted = kin.wanted(outcomes)
    brought = kin.brought(wanted)
    for number in sorted({kin.latest[which].batch for which in wanted}):
        yield _of_batch(
            run, number, kin, {which for which in wanted if kin.latest[which].batch == number}, brought
        )


_Which = tuple[str, str, int, int]


class _Answer(NamedTuple):
    """Where the answer to a request is, and which request that goes on from."""

    batch: int
    place: int
    take: int
    outcome: str
    above: _Which | None


@dataclass(slots=True)
class _Brought:
    """What is asked anew because what it follows is."""

    were: Counter[str] = field(default_factory=Counter)
    places: list[tuple[int, int]] = field(default_factory=list)
    take: int = 1  # the highest of them


class _Kin:
    """The newest answer to each request of a run, and what follows what: a few hundred bytes each."""

    def __init__(self, run: Run) -> None:
        self._state = run.state
        self._has_waves = bool(run.created.follow_ups) or LATER in run.created.lanes
        self.latest: dict[_Which, _Answer] = {}
        columns = ["place", "key", "shot", "variant", "turn", "take", "outcome", "parent"]
        for batch in run.state.at(Stage.COLLECTED):
            if batch.collected is None or batch.collected.index is None:
                continue
            index = tables.from_parquet(run.read(batch.collected.index), columns=columns)
            for row in tables.rows_of(index):
                *row_of, turn = which = row["key"], row["shot"], row["variant"], row["turn"]
                parent = row["parent"] and tuple(row["parent"].values())
                above = (*row_of, turn - 1) if turn else parent
                answer = _Answer(batch.number, row["place"], row["take"], row["outcome"], above)
                self.latest[which] = max(answer, self.latest.get(which, answer), key=lambda one: one.take)

    def wanted(self, outcomes: Collection[str]) -> set[_Which]:
        """What is to be asked once more, and does not come along with something else."""
        found = {
            which
            for which, answer in self.latest.items()
            if answer.outcome in outcomes
            and self._state.batches[answer.batch].sends
            and not self._is_taken(answer)
        }
        if self._has_waves and not self._state.finished:
            # What goes on from that picture may be under way: it would come home after what replaces it.
            found = {which for which in found if self.latest[which].outcome not in PICTURED}
        return {which for which in found if not self._comes_along(which, found)}

    def brought(self, wanted: Collection[_Which]) -> dict[_Which, _Brought]:
        """What follows each of them."""
        found: dict[_Which, _Brought] = {}
        for which, answer in self.latest.items():
            for above in self._above(which):
                if above in wanted:
                    brought = found.setdefault(above, _Brought())
                    brought.were[answer.outcome] += 1
                    brought.places.append((answer.batch, answer.place))
                    brought.take = max(brought.take, answer.take)
        return found

    def _is_taken(self, answer: _Answer) -> bool:
        return answer.place in self._state.batches[answer.batch].taken

    def _comes_along(self, which: _Which, wanted: Collection[_Which]) -> bool:
        """Whether what a request follows is asked again, now or lately: that brings it along."""
        return any(
            above in wanted
            or self._is_taken(self.latest[above])
            or self.latest[above].take > self.latest[which].take
            for above in self._above(which)
        )

    def _above(self, which: _Which) -> Iterator[_Which]:
        above = self.latest[which].above
        while above is not None and above in self.latest:
            yield above
            above = self.latest[above].above


def _of_batch(
    run: Run, number: int, kin: _Kin, wanted: Collection[_Which], brought: dict[_Which, _Brought]
) -> Failed:
    places = {kin.latest[which].place for which in wanted}
    plan = tables.from_parquet(run.plan(number), columns=["place", "likely", "high"])
    rows = [row for row in tables.rows_of(plan) if row["place"] in places]
    with_them = [brought[which] for which in wanted if which in brought]
    after = sum((each.were for each in with_them), Counter[str]())
    source = Takes(
        number,
        tuple(sorted(places)),
        dict(sorted(Counter(kin.latest[which].outcome for which in wanted).items())),
        after=dict(sorted(after.items())),
        above=max((each.take for each in with_them), default=1),
    )
    likely, high = _price(run, [place for each in with_them for place in each.places])
    return Failed(
        source,
        sum(row["likely"] for row in rows) + likely,
        (sum(row["high"] for row in rows) + high) * run.most_attempts,
        sum(after.values()),
    )


def _price(run: Run, places: Collection[tuple[int, int]]) -> tuple[int, int]:
    """What these requests would cost, were they asked: likely, and at most."""
    lane: Lane = "standard" if run.created.online else "batch"
    likely = high = 0
    for number in sorted({batch for batch, _ in places}):
        wanted = {place for batch, place in places if batch == number}
        for row in tables.rows_of(tables.from_parquet(run.plan(number))):
            known = run.created.models.get(row["model"])
            prompt = prompt_of({**row, "refusal": None}) if row["place"] in wanted else None
            if prompt is None or known is None:
                continue
            if row["refusal"] is not None and row["parent"] is not None:
                prompt = msgspec.structs.replace(prompt, references=(*prompt.references, TO_COME))
            model = msgspec.convert(known, Model)
            price = estimate(prompt, model, served(model, run.created.backend, lane))
            likely, high = likely + price.likely, high + price.high
    return likely, high


def draw(run: Run, those: Collection[Failed]) -> int:
    """Put them into batches of their own, one for each they were in. Says how many requests that are."""
    count = 0
    for one in those:
        number = len(run.state.batches)
        # What can be asked at once only is asked so again.
        name = model_of(run.state.batches[one.source.batch]) or ""
        model = msgspec.convert(run.created.models[name], Model)
        online = model.only_at_once(run.created.backend)
        if not run.try_record(Drawn(batch=number, source=one.source, online=online)):
            continue  # somebody else did
        write_again(run, run.state.batches[number])
        count += one.requests
    return count
