"""The fold, and the gate: what a run's records amount to, and whether an event may happen now."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import singledispatch

from pipeline.events import (
    FINAL,
    Capped,
    Collected,
    Created,
    Disowned,
    Drawn,
    Ended,
    Event,
    Held,
    Planned,
    PutBack,
    Record,
    Retries,
    Rows,
    Source,
    Submitted,
    Submitting,
    Uploaded,
)

GRACE = timedelta(minutes=10)
"""How long after its deadline an intent's create call may still arrive at the provider. Measured on a prototype:
without it, two drivers paid twice in every trial."""


class Illegal(Exception):
    """The event makes no sense now: another driver moved the run on, or the caller is wrong."""


class OverBudget(Illegal):
    """The event would reserve more than the cap has left."""


class Stage(Enum):
    """How far a batch is."""

    DRAWN = "drawn"
    PLANNED = "planned"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    HELD = "held"
    ENDED = "ended"
    COLLECTED = "collected"


RESERVING = frozenset({Stage.SUBMITTING, Stage.SUBMITTED, Stage.HELD, Stage.ENDED})
"""Stages in which a batch may cost up to its high, and nobody knows better yet."""


@dataclass(slots=True)
class Batch:
    """One batch, as its records tell it. The newest record of each kind."""

    number: int
    source: Source
    stage: Stage = Stage.DRAWN
    planned: Planned | None = None
    intent: int | None = None  # number of the newest submitting record
    submitting: Submitting | None = None
    put_back: PutBack | None = None
    put_backs: int = 0  # in a row
    submitted: Submitted | None = None
    held: Held | None = None
    ended: Ended | None = None
    collected: Collected | None = None
    retries_drawn: bool = False
    replaced: int = 0  # intents that were taken over

    @property
    def sends(self) -> bool:
        """Whether anything of it goes to a provider."""
        return not (isinstance(self.source, Rows) and self.source.lane == FINAL)

    @property
    def high(self) -> int:
        return self.planned.high if self.planned else 0


@dataclass(slots=True)
class State:
    """All that a driver needs to know of a run, about a kilobyte per batch."""

    created: Created | None = None
    batches: list[Batch] = field(default_factory=list)
    next: int = 0  # the number of the next record
    drawn: dict[str, int] = field(default_factory=dict)  # of each lane, the rows below this are in batches
    cap: int | None = None
    reserved: int = 0
    spent: int = 0
    unconfirmed: int = 0
    overrun: int = 0  # of what was spent, the part beyond the reservations
    uploaded: list[Uploaded] = field(default_factory=list)

    @property
    def committed(self) -> int:
        """What the run has cost or may still cost, with nothing more sent."""
        return self.spent + self.unconfirmed + self.reserved

    @property
    def all_drawn(self) -> bool:
        """Every row of the manifest is in a batch."""
        return self.created is not None and all(row >= self.created.rows for row in self.drawn.values())

    @property
    def needs_manifest(self) -> bool:
        """Whether rows are still to be drawn, or were drawn and never planned."""
        unplanned = any(isinstance(batch.source, Rows) for batch in self.at(Stage.DRAWN))
        return self.created is not None and (not self.all_drawn or unplanned)

    @property
    def settled(self) -> bool:
        """Nothing is under way."""
        return all(batch.stage is Stage.COLLECTED for batch in self.batches)

    @property
    def retries(self) -> tuple[int, ...]:
        """Batches whose retry file nobody has drawn yet."""
        return tuple(
            batch.number
            for batch in self.batches
            if batch.collected is not None and batch.collected.retry and not batch.retries_drawn
        )

    @property
    def finished(self) -> bool:
        """Every planned request is in the index."""
        return self.all_drawn and self.settled and not self.retries

    def at(self, stage: Stage) -> list[Batch]:
        return [batch for batch in self.batches if batch.stage is stage]


def model_of(batch: Batch) -> str | None:
    """The one model a batch asks, once that is planned."""
    return batch.planned.model if batch.planned else None


def apply(state: State, record: Record) -> None:
    """Let a record happen. Raises Illegal, and then nothing has changed."""
    check(state, record.event)
    if record.number != state.next:
        raise Illegal(f"record {record.number} where {state.next} was due")
    _change(record.event, state, record.number)
    state.next += 1


def check(state: State, event: Event) -> None:
    """The gate: raise Illegal if the event may not happen now."""
    if (state.created is None) != isinstance(event, Created):
        raise Illegal("a run is created once, and first")
    _gate(event, state)


def _batch(state: State, number: int, *stages: Stage) -> Batch:
    if not 0 <= number < len(state.batches):
        raise Illegal(f"no batch {number}")
    batch = state.batches[number]
    if batch.stage not in stages:
        raise Illegal(f"batch {number} is {batch.stage.value}")
    return batch


# --- may it happen ----------------------------------------------------------------------------------------


@singledispatch
def _gate(event: Event, state: State) -> None:
    raise AssertionError(f"no gate for {type(event).__name__}")


@_gate.register
def _(event: Created, state: State) -> None:
    if event.rows < 0 or min(event.lanes.values(), default=0) < 0:
        raise Illegal("counts below zero")


@_gate.register
def _(event: Drawn, state: State) -> None:
    if event.batch != len(state.batches):
        raise Illegal(f"batch {event.batch} where {len(state.batches)} was due")
    match event.source:
        case Rows(start, stop, lane):
            _gate_rows(state, start, stop, lane)
        case Retries(batches):
            if not batches or len(set(batches)) != len(batches) or not set(batches) <= set(state.retries):
                raise Illegal(f"retries of {batches}, where {state.retries} are open")
            if len({model_of(state.batches[batch]) for batch in batches}) != 1:
                raise Illegal(f"retries of {batches}, which ask different models")


def _gate_rows(state: State, start: int, stop: int, lane: str) -> None:
    assert state.created is not None
    if lane not in state.drawn:
        raise Illegal(f"no lane {lane!r}")
    if start != state.drawn[lane] or not start < stop <= state.created.rows:
        raise Illegal(f"rows {start} to {stop} where {state.drawn[lane]} was due, of {state.created.rows}")


@_gate.register
def _(event: Planned, state: State) -> None:
    batch = _batch(state, event.batch, Stage.DRAWN)
    if not 0 <= event.low <= event.likely <= event.high or event.requests < 0:
        raise Illegal(f"an estimate of {event.low}, {event.likely}, {event.high}")
    if isinstance(batch.source, Rows) and batch.source.lane not in (FINAL, event.model):
        raise Illegal(f"batch {event.batch} asks {event.model}, but was drawn for {batch.source.lane}")
    _gate_lane(state, batch, event.requests)
    if batch.sends != (event.lines is not None):
        raise Illegal(f"batch {event.batch} {'has no' if batch.sends else 'has'} lines to send")


def _gate_lane(state: State, batch: Batch, requests: int) -> None:
    """When all rows of a lane are planned, all of its requests are: none may get lost on the way."""
    assert state.created is not None
    if not isinstance(batch.source, Rows) or state.drawn[batch.source.lane] < state.created.rows:
        return
    lane = batch.source.lane
    others = [
        b for b in state.batches if isinstance(b.source, Rows) and b.source.lane == lane and b is not batch
    ]
    if any(other.planned is None for other in others):
        return
    found = requests + sum(other.planned.requests for other in others if other.planned is not None)
    if found != state.created.lanes[lane]:
        raise Illegal(f"{found} requests of {lane}, where {state.created.lanes[lane]} were counted")


@_gate.register
def _(event: Uploaded, state: State) -> None:
    _batch(state, event.batch, *set(Stage) - {Stage.DRAWN})


@_gate.register
def _(event: Submitting, state: State) -> None:
    batch = _batch(state, event.batch, Stage.PLANNED, Stage.SUBMITTING, Stage.HELD)
    if not batch.sends:
        raise Illegal(f"batch {event.batch} has nothing to send")
    if batch.stage is not Stage.PLANNED:
        _gate_take_over(event, batch)
        return  # its money is reserved already
    if event.replaces is not None:
        raise Illegal(f"no intent {event.replaces} to take over")
    if state.cap is not None and state.committed + batch.high > state.cap:
        raise OverBudget(f"batch {event.batch} may cost {batch.high}; {state.cap - state.committed} is left")


def _gate_take_over(event: Submitting, batch: Batch) -> None:
    """Paying twice is worse than waiting: everything has to be right."""
    old = batch.submitting
    assert old is not None
    if event.replaces != batch.intent:
        raise Illegal(f"batch {batch.number} is being submitted under intent {batch.intent}")
    if event.account != old.account:
        raise Illegal(f"batch {batch.number} is {old.account}'s")
    if event.seen is None or event.seen < old.until + GRACE:
        raise Illegal(f"intent {batch.intent} may still arrive until {old.until + GRACE:%H:%M:%S}")
    if event.input == old.input:
        raise Illegal("a new intent needs an input file of its own")


@_gate.register
def _(event: PutBack, state: State) -> None:
    _own(_batch(state, event.batch, Stage.SUBMITTING), event.intent)


@_gate.register
def _(event: Submitted, state: State) -> None:
    batch = _batch(state, event.batch, Stage.SUBMITTING, Stage.HELD)
    _own(batch, event.intent)
    if batch.stage is Stage.HELD and not event.adopted:
        raise Illegal(f"batch {event.batch} is held")


@_gate.register
def _(event: Held, state: State) -> None:
    _own(_batch(state, event.batch, Stage.SUBMITTING), event.intent)


def _own(batch: Batch, intent: int) -> None:
    if intent != batch.intent:
        raise Illegal(f"batch {batch.number} is under intent {batch.intent}, no longer {intent}")


@_gate.register
def _(event: Ended, state: State) -> None:
    _batch(state, event.batch, Stage.SUBMITTED)
    names = {file.name for file in event.files}
    if any(part.file not in names for part in event.parts):
        raise Illegal("a part of a file that is not listed")


@_gate.register
def _(event: Collected, state: State) -> None:
    batch = _batch(state, event.batch, Stage.ENDED, Stage.PLANNED)
    if (batch.stage is Stage.PLANNED) == batch.sends:
        raise Illegal(f"batch {event.batch} is {batch.stage.value}")
    assert batch.planned is not None
    if event.indexed + event.retry != batch.planned.requests:
        raise Illegal(f"{event.indexed} indexed and {event.retry} to retry of {batch.planned.requests}")
    if sum(event.outcomes.values()) != event.indexed or sum(event.again.values()) != event.retry:
        raise Illegal("outcomes that do not add up")
    if min(event.spent, event.unconfirmed, event.indexed, event.retry, event.surplus) < 0:
        raise Illegal("books below zero")


@_gate.register
def _(event: Disowned, state: State) -> None:
    batch = _batch(state, event.batch, *Stage)
    if batch.submitted is not None and batch.submitted.ticket == event.ticket:
        raise Illegal(f"{event.ticket} is batch {event.batch}'s own")


@_gate.register
def _(event: Capped, state: State) -> None:
    if event.cap is not None and event.cap < state.committed:
        raise OverBudget(f"{state.committed} is spent or reserved already")


# --- let it happen ----------------------------------------------------------------------------------------


@singledispatch
def _change(event: Event, state: State, number: int) -> None:
    raise AssertionError(f"no change for {type(event).__name__}")


@_change.register
def _(event: Created, state: State, number: int) -> None:
    state.created = event
    state.cap = event.cap
    state.drawn = {lane: 0 for lane, requests in event.lanes.items() if requests}


@_change.register
def _(event: Drawn, state: State, number: int) -> None:
    state.batches.append(Batch(event.batch, event.source))
    match event.source:
        case Rows(_, stop, lane):
            state.drawn[lane] = stop
        case Retries(batches):
            for batch in batches:
                state.batches[batch].retries_drawn = True


@_change.register
def _(event: Planned, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    batch.stage, batch.planned = Stage.PLANNED, event


@_change.register
def _(event: Uploaded, state: State, number: int) -> None:
    state.uploaded.append(event)


@_change.register
def _(event: Submitting, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    if batch.stage is Stage.PLANNED:
        state.reserved += batch.high
    else:
        batch.replaced += 1
    batch.stage, batch.submitting, batch.intent = Stage.SUBMITTING, event, number


@_change.register
def _(event: PutBack, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    state.reserved -= batch.high
    batch.stage, batch.put_back, batch.submitting, batch.intent = Stage.PLANNED, event, None, None
    batch.put_backs += 1


@_change.register
def _(event: Submitted, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    batch.stage, batch.submitted, batch.put_backs = Stage.SUBMITTED, event, 0


@_change.register
def _(event: Held, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    batch.stage, batch.held = Stage.HELD, event


@_change.register
def _(event: Ended, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    batch.stage, batch.ended = Stage.ENDED, event


@_change.register
def _(event: Collected, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    if batch.stage is Stage.ENDED:
        state.reserved -= batch.high
    state.spent += event.spent
    state.unconfirmed += event.unconfirmed
    state.overrun += max(0, event.spent + event.unconfirmed - batch.high)
    batch.stage, batch.collected = Stage.COLLECTED, event


@_change.register
def _(event: Disowned, state: State, number: int) -> None:
    # It was cancelled, and nobody will read what of it was billed.
    state.unconfirmed += state.batches[event.batch].high


@_change.register
def _(event: Capped, state: State, number: int) -> None:
    state.cap = event.cap
