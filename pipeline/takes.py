"""What ended without its picture, asked once more because a person says so."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pipeline import tables
from pipeline.asked import prompt_of
from pipeline.events import FINAL, Drawn, Takes, Turns
from pipeline.models import Model
from pipeline.money import Estimate, estimate, served
from pipeline.plan import write_again
from pipeline.run import Run, index_file, plan_file
from pipeline.state import Stage, model_of
from pipeline.turns import why_not

USUAL = ("text_only", "no_image", "truncated", "broken", "error", "missing", "expired", "cancelled")
"""What another try may better. Who wants what was refused for what it shows tried again has to say so."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Requests of one batch that ended alike: without a picture."""

    source: Takes
    likely: int
    high: int

    @property
    def requests(self) -> int:
        return len(self.source.places)


def failed(run: Run, outcomes: Collection[str] = USUAL) -> list[Failed]:
    """Everything of a run that ended so, and was not asked once more yet."""
    return list(_failed(run, outcomes))


def _failed(run: Run, outcomes: Collection[str]) -> Iterator[Failed]:
    for batch in run.state.at(Stage.COLLECTED):
        if not batch.sends or batch.collected is None or batch.collected.outcomes.keys().isdisjoint(outcomes):
            continue
        index = tables.from_parquet(run.storage.read(index_file(batch.number)), columns=["place", "outcome"])
        ended = {row["place"]: row["outcome"] for row in tables.rows_of(index)}
        wrong = {place for place, how in ended.items() if how in outcomes} - batch.taken
        if wrong:
            plan = tables.from_parquet(
                run.storage.read(plan_file(batch.number)), columns=["place", "likely", "high"]
            )
            rows = [row for row in tables.rows_of(plan) if row["place"] in wrong]
            were = Counter(ended[place] for place in wrong)
            source = Takes(batch.number, tuple(sorted(wrong)), dict(sorted(were.items())))
            yield Failed(source, sum(row["likely"] for row in rows), sum(row["high"] for row in rows))


def following(run: Run, those: Collection[Failed]) -> tuple[int, Estimate]:
    """How many requests were never sent for want of these pictures, and will be once they come; and their price."""
    reasons = {why for one in those for why in _reasons(run, one.source)}
    found = Estimate()
    seen: set[tuple[object, ...]] = set()  # a take that failed as well has told the same once more
    for batch in run.state.at(Stage.COLLECTED):
        if not (isinstance(batch.source, Turns) and batch.source.lane == FINAL):
            continue
        for row in tables.rows_of(tables.from_parquet(run.storage.read(plan_file(batch.number)))):
            which = row["key"], row["shot"], row["variant"], row["turn"]
            if row["refusal"] in reasons and which not in seen:
                seen.add(which)
                found += _price(run, {**row, "refusal": None})
    return len(seen), found


def _reasons(run: Run, source: Takes) -> Iterator[str]:
    """What is said of all that comes after each of these."""
    columns = ["place", "key", "shot", "variant", "turn", "outcome"]
    index = tables.from_parquet(run.storage.read(index_file(source.batch)), columns=columns)
    places = frozenset(source.places)
    return (why_not(row, row) for row in tables.rows_of(index) if row["place"] in places)


def _price(run: Run, row: Mapping[str, Any]) -> Estimate:
    prompt = prompt_of(row)
    assert prompt is not None
    model = msgspec.convert(run.created.models[prompt.model], Model)
    return estimate(prompt, model, served(model, run.created.backend))


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
