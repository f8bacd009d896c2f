"""What was asked before and is asked again, and what comes after it: retries, further takes, cuts, follow-ups.

Nobody needs the manifest for it: everything is in the files of the batches that these requests come from.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from pipeline import tables
from pipeline.asked import prompt_of
from pipeline.decisions import Judged, applied
from pipeline.errors import BadInput, Corrupt
from pipeline.events import FINAL, Cut, Drawn, Piece, Rejected, Retries, Rows, Source, Takes, Turns
from pipeline.job import tail
from pipeline.models import Model
from pipeline.money import estimate, nanos
from pipeline.plan import AT_ONCE, FINAL_REQUESTS, Planner, Size, size_of, write_batch
from pipeline.run import Run, is_inline, job_of
from pipeline.state import Batch, Stage, model_of
from pipeline.turns import follow_ups, not_asked

MOST_AT_ONCE = 200
"""More retries than that are no tail: asking for them one by one would take half the night."""

MOST_SAID = 100_000_000
"""Characters of earlier turns in one batch: signatures are long, and a batch is in memory while it is planned."""


def plan_again(run: Run, number: int, *, planner: Planner | None) -> bool:
    """Finish a batch that is drawn and was not planned. False: that needs the manifest, and there is none."""
    batch = run.state.batches[number]
    if batch.stage is not Stage.DRAWN:
        return False
    if not isinstance(batch.source, Rows):
        write_again(run, batch)
        return True
    if planner is None:
        return False
    planner.plan_again(number, batch.source)
    return True


def draw_retries(run: Run) -> bool:
    """Put what is worth another attempt into a new batch, as many settled batches of one model as fit."""
    open_batches = run.state.next_retries
    if not open_batches:
        return False
    name = model_of(run.state.batches[open_batches[0]])
    model = _model(run, open_batches[0])
    at_once = model.only_at_once(run.created.backend)
    taken: list[int] = []
    size = Size()
    for number in open_batches:
        if model_of(run.state.batches[number]) != name:
            continue
        size += _size_of_retries(run, number, model)
        if taken and not (size.fits(run.created.limits) and (not at_once or size.requests <= AT_ONCE)):
            break
        taken.append(number)
    number = len(run.state.batches)
    online = at_once or _goes_online(run, taken, model)
    if not run.try_record(Drawn(batch=number, source=Retries(tuple(taken)), online=online)):
        return True  # another driver drew them
    write_again(run, run.state.batches[number])
    return True


def _goes_online(run: Run, numbers: Sequence[int], model: Model) -> bool:
    """Whether these retries are asked at once: so few that the job wants no more nights for them, or what it wants
    so after a stall. They go in a batch all the same where the cap has no room for the standard price."""
    said, state = job_of(run).night, run.state
    if run.created.backend not in model.online:
        return False
    few = tail(said.finish_online_below or "")
    begun = any(state.batches[number].online for number in numbers)
    stalled = said.on_stall == "online" and any(_has_stalled(state.batches[number]) for number in numbers)
    if few is None and not begun and not stalled:
        return False
    prompts = [prompt for number in numbers for row in _retries(run, number) if (prompt := prompt_of(row))]
    if len(prompts) > MOST_AT_ONCE:
        return False
    try:
        price = sum(estimate(prompt, model, "standard").high for prompt in prompts)
    except BadInput:  # nobody knows it
        return False
    if state.cap is not None and state.committed + price > state.cap:
        return False
    if begun or stalled or few is None:
        return True
    return (few.rows is None or len(prompts) <= few.rows) and (few.usd is None or price <= nanos(few.usd))


def _has_stalled(batch: Batch) -> bool:
    return batch.withdrawn is not None and batch.withdrawn.why == "stalled"


def _size_of_retries(run: Run, number: int, model: Model) -> Size:
    size = Size()
    for row in _retries(run, number):
        if (prompt := prompt_of(row)) is not None:
            size += size_of(prompt, model, inline=is_inline(run))
    return size


def _retries(run: Run, number: int) -> Iterator[dict[str, Any]]:
    return tables.rows_of(tables.from_parquet(run.retries(number)))


def _model(run: Run, number: int) -> Model:
    name = model_of(run.state.batches[number])
    if name is None:
        raise Corrupt(f"{run.storage.url}: batch {number} was settled and never planned")
    return msgspec.convert(run.created.models[name], Model)


def write_again(run: Run, batch: Batch) -> None:
    """The files of a batch whose requests other batches had before."""
    rows = [{**row, "place": place} for place, row in enumerate(_rows_again(run, batch.source))]
    write_batch(run, batch.number, rows, model=_model_asked(run, batch.source))


def _model_asked(run: Run, source: Source) -> Model | None:
    """Whom requests go to that follow from other batches; None where nothing of them is sent."""
    if isinstance(source, Rejected):
        return None
    if not isinstance(source, Turns):
        return _model(run, parents_of(source)[0])
    known = run.created.models.get(source.lane)
    return None if known is None else msgspec.convert(known, Model)


def parents_of(source: Source) -> tuple[int, ...]:
    """The batches that these requests were in before."""
    match source:
        case Retries(batches):
            return batches
        case Cut(batch) | Takes(batch) | Rejected(batch):
            return (batch,)
        case Turns(_, pieces):
            return tuple(piece.batch for piece in pieces)
    return ()


def _rows_again(run: Run, source: Source) -> Iterator[dict[str, Any]]:
    match source:
        case Retries(batches):
            for row in (row for number in batches for row in _retries(run, number)):
                again = {name: value for name, value in row.items() if not name.startswith("last_")}
                # What there was no time to ask for was no attempt.
                asked = row["last_outcome"] != "not_sent"
                yield {**again, "attempt": row["attempt"] + asked}
        case Cut(batch, start, stop):
            yield from islice(_planned(run, batch), start, stop)
        case Turns(lane, pieces):
            for piece in pieces:
                for _, row in _kept(run, piece.batch, lane, start=piece.start, stop=piece.stop):
                    yield row
        case Rejected(batch, lane, which, reviewed):
            yield from _rejected(run, batch, lane, which, reviewed=reviewed)
        case Takes(batch, places):
            wanted = frozenset(places)
            for row in (row for row in _planned(run, batch) if row["place"] in wanted):
                # What follows has its number, which has to be higher than any that it had.
                take = max(row["take"], source.above) + 1
                yield {**row, "take": take, "attempt": 1, "spent": 0}


def draw_turns(run: Run) -> bool:
    """Put follow-ups of settled requests into a new batch, as many of one lane as fit. False: there are none."""
    there = run.state.turns_due
    if not there:
        return False
    lane, numbers = next(iter(there.items()))
    # What follows a further take was asked before: it goes apart, as it counts.
    again = run.state.batches[numbers[0]].brings_again
    numbers = tuple(number for number in numbers if run.state.batches[number].brings_again == again)
    reviewed = len(run.state.reviews)
    wave = Turns(lane, tuple(_pieces(run, lane, numbers)), reviewed)
    # What a person does not want is taken out first, and the rest of it drawn when that is recorded.
    source = _unwanted(run, wave) or wave
    number = len(run.state.batches)
    model = _model_asked(run, source)
    online = model is not None and model.only_at_once(run.created.backend)
    if run.try_record(Drawn(batch=number, source=source, online=online)):
        write_again(run, run.state.batches[number])
    return True  # or another driver drew them, or somebody decided something meanwhile


def _unwanted(run: Run, source: Turns) -> Rejected | None:
    """Of the first batch that has some: the follow-ups that are not to be asked, since somebody said so."""
    if run.state.follow_ups == "always" or source.lane == FINAL or not source.reviewed:
        return None
    judged = Judged(run, applied(run))
    for piece in source.pieces:
        rows = _kept(run, piece.batch, source.lane, start=piece.start, stop=piece.stop)
        places = tuple(place for place, row in rows if judged.why_not(row) is not None)
        if places:
            return Rejected(piece.batch, source.lane, places, source.reviewed)
    return None


def _rejected(
    run: Run, number: int, lane: str, places: Sequence[int], *, reviewed: int
) -> Iterator[dict[str, Any]]:
    judged, wanted = Judged(run, applied(run, reviewed=reviewed)), frozenset(places)
    rows = follow_ups(run, number, lane, start=places[0], stop=places[-1] + 1)
    for place, row in enumerate(rows, places[0]):
        if place in wanted:
            yield not_asked(row, why=judged.why_not(row) or "")


def _kept(
    run: Run, number: int, lane: str, *, start: int, stop: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The follow-ups of a settled batch in a lane, counted in the order of their file, without the rejected ones."""
    gone = run.state.batches[number].rejected.get(lane, frozenset())
    for place, row in enumerate(follow_ups(run, number, lane, start=start, stop=stop), start):
        if place not in gone:
            yield place, row


def _pieces(run: Run, lane: str, numbers: Iterable[int]) -> Iterator[Piece]:
    """As many follow-ups, batch after batch, as go together."""
    size, said = Size(), 0
    model = _model_asked(run, Turns(lane, ()))
    at_once = model is not None and model.only_at_once(run.created.backend)
    for number in numbers:
        start = run.state.batches[number].turns_drawn.get(lane, 0)
        stop = start
        for place, row in _kept(run, number, lane, start=start):
            prompt = prompt_of(row) if model is not None else None
            size += (
                Size(1) if model is None or prompt is None else size_of(prompt, model, inline=is_inline(run))
            )
            said += len(row["history"] or "")
            fits = size.requests <= FINAL_REQUESTS if model is None else size.fits(run.created.limits)
            fits = fits and (not at_once or size.requests <= AT_ONCE)
            if size.requests > 1 and not (fits and said <= MOST_SAID):
                if stop > start:
                    yield Piece(number, start, stop)
                return
            stop = place + 1
        yield Piece(number, start, stop)


def _planned(run: Run, number: int) -> Iterator[dict[str, Any]]:
    return tables.rows_of(tables.from_parquet(run.plan(number)))
