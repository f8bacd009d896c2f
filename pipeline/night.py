"""What a job says about a long night: when to stop, whom to give up, what keeps the rest waiting.

Nothing here is decided twice: each decision is a record, and whoever comes second finds it there.
"""

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pipeline import tables
from pipeline.backends.base import Backend
from pipeline.clock import duration
from pipeline.errors import NightshootError, Unavailable
from pipeline.events import Cleared, Released, Rows, Stopped, Withdrawn
from pipeline.job import Night
from pipeline.run import Run
from pipeline.state import Batch, Stage
from pipeline.submit import WINDOW

log = logging.getLogger(__name__)


def watch(run: Run, backend: Backend) -> bool:
    """Look at the clock of the run, and do what its job says for this hour. True: something was decided."""
    said = _said(run)
    return _is_late(run, backend, said) or _stalled(run, backend, said) or _canary_is_late(run, said)


def _said(run: Run) -> Night:
    return msgspec.convert(run.created.job.get("night", {}), Night)


def stop(run: Run, backend: Backend, *, why: str) -> bool:
    """Send nothing more, and give up what is at the provider. What it has made by then still comes home."""
    moved = run.state.stopped is None and run.try_record(Stopped(why=why))
    for batch in run.state.at(Stage.SUBMITTED):
        if batch.is_of(backend.account) and batch.withdrawn is None:
            moved |= _withdraw(run, batch, why=why, again=False)
    return moved


def cancel(run: Run, backend: Backend, number: int) -> bool:
    """Ask the provider to stop at a batch that was given up. May be said twice; only its end is an end."""
    batch = run.state.batches[number]
    if batch.stage is not Stage.SUBMITTED or batch.withdrawn is None or not batch.is_of(backend.account):
        return False
    try:
        backend.cancel(batch.withdrawn.ticket)
    except Unavailable:
        raise
    except NightshootError as error:  # it ended meanwhile, or went: asking after it will tell
        log.debug("could not cancel %s: %s", batch.withdrawn.ticket, error)
    return True


def _withdraw(run: Run, batch: Batch, *, why: str, again: bool) -> bool:
    """The record first: whoever finds it sees to the cancelling."""
    assert batch.submitted is not None
    ticket = batch.submitted.ticket
    return run.try_record(Withdrawn(batch=batch.number, ticket=ticket, why=why, again=again))


def clear(run: Run) -> None:
    """Let all the rest go, whatever the canaries bring: a person says so."""
    for lane in run.state.drawn:
        canary = run.state.canary(lane)
        if canary is not None and not canary.cleared:
            run.try_record(Cleared(batch=canary.number, why="asked"))


@dataclass(frozen=True, slots=True)
class Held:
    """Requests that are not asked again before a person says so."""

    batches: tuple[int, ...]
    came: Counter[str]  # what of them, when they were asked
    likely: int
    high: int


def held_back(run: Run, outcomes: Collection[str] = ()) -> Held:
    """All that is held back; or where outcomes are named, the batches that much of ended so.

    A batch goes as a whole: what else came to nothing in it is counted in.
    """
    batches = run.state.batches
    numbers = tuple(n for n in run.state.held_back if not outcomes or batches[n].common_trouble in outcomes)
    came: Counter[str] = Counter()
    likely = high = 0
    for number in numbers:
        for row in tables.rows_in(run.retries(number), columns=["last_outcome", "attempt", "likely", "high"]):
            came[row["last_outcome"]] += 1
            likely += row["likely"]
            high += row["high"] * max(1, run.most_attempts - row["attempt"])
    return Held(numbers, came, likely, high)


def release(run: Run, held: Held) -> bool:
    """Have it asked again. False: there is nothing, or somebody else did."""
    return bool(held.batches) and run.try_record(Released(batches=held.batches))


def sent_at(batch: Batch) -> datetime:
    """When it was sent, to the minute."""
    assert batch.submitting is not None
    return batch.submitting.until - WINDOW


def deadline_of(run: Run, said: Night) -> datetime | None:
    """When the run is to be over, whatever is missing then."""
    return None if said.deadline is None else run.created_at + duration(said.deadline)


def _is_late(run: Run, backend: Backend, said: Night) -> bool:
    deadline = deadline_of(run, said)
    return deadline is not None and run.clock.now() >= deadline and stop(run, backend, why="deadline")


def _stalled(run: Run, backend: Backend, said: Night) -> bool:
    if said.on_stall == "wait":
        return False
    patience, moved = duration(said.stall_after), False
    for batch in run.state.at(Stage.SUBMITTED):
        if (
            batch.withdrawn is None
            and batch.is_of(backend.account)
            and run.clock.now() >= sent_at(batch) + patience
        ):
            log.warning("batch %d has stalled and is given up", batch.number)
            moved |= _withdraw(run, batch, why="stalled", again=said.on_stall in ("resubmit", "online"))
    return moved


def _canary_is_late(run: Run, said: Night) -> bool:
    if said.on_late_canary == "hold":
        return False
    moved = False
    for batch in run.state.batches:
        if run.state.stopped is None and _keeps_waiting(run, batch):
            late = run.clock.now() >= sent_at(batch) + duration(said.canary_wait)
            moved |= late and run.try_record(Cleared(batch=batch.number, why="late"))
    return moved


def _keeps_waiting(run: Run, batch: Batch) -> bool:
    """Whether it is a canary that is out and that others wait for."""
    if not run.created.canary or not isinstance(batch.source, Rows) or batch.cleared:
        return False
    return batch.stage in (Stage.SUBMITTED, Stage.ENDED) and run.state.canary(batch.source.lane) is batch


def until_next(run: Run) -> list[datetime]:
    """The hours at which something may have to be decided."""
    said = _said(run)
    times = [deadline] if (deadline := deadline_of(run, said)) is not None else []
    if said.on_stall != "wait":
        times += [sent_at(batch) + duration(said.stall_after) for batch in run.state.at(Stage.SUBMITTED)]
    if said.on_late_canary != "hold":
        times += [
            sent_at(batch) + duration(said.canary_wait)
            for batch in run.state.batches
            if _keeps_waiting(run, batch)
        ]
    return times
