"""The gate: whether an event may happen now."""

from collections.abc import Sequence
from functools import singledispatch

from pipeline.events import (
    FINAL,
    UNASKED,
    Capped,
    Cleared,
    Collected,
    Created,
    Cut,
    Disowned,
    Drawn,
    Ended,
    Event,
    Held,
    Piece,
    Planned,
    PutBack,
    Recut,
    Rejected,
    Released,
    Retries,
    Reviewed,
    Rows,
    Stopped,
    Submitted,
    Submitting,
    Swept,
    Takes,
    Turns,
    Uploaded,
    Withdrawn,
)
from pipeline.state import (
    GRACE,
    Batch,
    Illegal,
    NotYet,
    OverBudget,
    Stage,
    State,
    kept,
    model_of,
    trouble_of,
)


def check(state: State, event: Event) -> None:
    """The gate: raise Illegal if the event may not happen now."""
    if (state.created is None) != isinstance(event, Created):
        raise Illegal("a run is created once, and first")
    _gate(event, state)


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
            if set(batches) & set(state.held_back):
                raise Illegal(f"retries of {batches}, of which {state.held_back} wait for a person")
        case Takes(batch, places):
            settled = _batch(state, batch, Stage.COLLECTED)
            if not settled.sends or not places or list(places) != sorted({*places} - settled.taken):
                raise Illegal(f"takes of batch {batch}, places {places[:5]}")
            if state.stopped is not None:
                raise Illegal("the run was stopped")
        case Turns(lane, pieces, reviewed):
            _gate_reviewed(state, reviewed)
            _gate_turns(state, lane, pieces)
        case Rejected():
            _gate_rejected(state, event.source)
        case Cut():
            raise Illegal("a batch is cut by a record of its own")


def _gate_reviewed(state: State, reviewed: int) -> None:
    """What is drawn was looked over with every decision that there is: one that came meanwhile counts."""
    if reviewed != len(state.reviews):
        raise Illegal(f"after {reviewed} files of decisions, where {len(state.reviews)} were applied")


def _gate_turns(state: State, lane: str, pieces: Sequence[Piece]) -> None:
    """Each follow-up is drawn once, in the order of its file."""
    if not pieces or len({piece.batch for piece in pieces}) != len(pieces):
        raise Illegal(f"follow-ups of {pieces}")
    for piece in pieces:
        settled = _batch(state, piece.batch, Stage.COLLECTED)
        drawn, there = _open(settled, lane)
        if piece.start != drawn or not piece.start < piece.stop <= there:
            raise Illegal(f"follow-ups {piece}, where {drawn} to {there} of {lane} are open")
        if not kept(settled, lane, piece.start, piece.stop):
            raise Illegal(f"follow-ups {piece}, all of which were rejected")
        if state.waits_for_review(settled, lane):
            raise Illegal(f"follow-ups {piece}, before what they go on from is judged")


def _gate_rejected(state: State, source: Rejected) -> None:
    """What is not asked is nowhere else: it was not drawn, and is not again."""
    _gate_reviewed(state, source.reviewed)
    settled = _batch(state, source.batch, Stage.COLLECTED)
    drawn, there = _open(settled, source.lane)
    places = source.places
    if source.lane == FINAL or state.follow_ups == "always" or not state.reviews:
        raise Illegal(f"follow-ups of batch {source.batch} are asked whatever was decided")
    if not places or list(places) != sorted({*places} - settled.rejected.get(source.lane, frozenset())):
        raise Illegal(f"rejected follow-ups {places[:5]} of batch {source.batch}")
    if not drawn <= places[0] or places[-1] >= there:
        raise Illegal(f"rejected follow-ups {places[:5]}, where {drawn} to {there} are open")


def _open(batch: Batch, lane: str) -> tuple[int, int]:
    """From where to where its follow-ups of a lane are not drawn yet."""
    assert batch.collected is not None
    return batch.turns_drawn.get(lane, 0), batch.collected.turns.get(lane, 0)


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
    if isinstance(batch.source, Rows) and batch.source.lane not in (*UNASKED, event.model):
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
    if state.stopped is not None:
        raise Illegal("the run was stopped")
    if event.replaces is not None:
        raise Illegal(f"no intent {event.replaces} to take over")
    _gate_canary(state, batch)
    if state.cap is not None and state.committed + batch.high > state.cap:
        raise OverBudget(f"batch {event.batch} may cost {batch.high}; {state.cap - state.committed} is left")


def _gate_canary(state: State, batch: Batch) -> None:
    """Until a model's canary is home and well, nothing else that it is asked goes."""
    canary = state.canary(model_of(batch) or "")
    if canary is None or canary is batch or canary.cleared:
        return
    if canary.collected is None:
        raise NotYet(f"batch {batch.number} waits for its canary, batch {canary.number}")
    if why := trouble_of(canary):
        raise NotYet(f"the canary, batch {canary.number}, came back wrong: {why}")


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
    _own(_batch(state, event.batch, Stage.SUBMITTING, Stage.HELD), event.intent)


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
    if batch.waits or not state.may_settle:
        raise Illegal(f"batch {event.batch} cannot be settled" + ("" if batch.waits else " yet"))
    if not 0 <= event.released <= state.unreleased:
        raise Illegal(f"{event.released} rows that edit its pictures, where {state.unreleased} wait")
    unsent = batch.stage is Stage.PLANNED
    if unsent and batch.sends and state.stopped is None:
        raise Illegal(f"batch {event.batch} is {batch.stage.value}")
    if not unsent and batch.may_be_late:
        raise Illegal(f"batch {event.batch} was not swept for late results")
    if unsent and (event.retry or event.spent or event.unconfirmed):
        raise Illegal(f"batch {event.batch} was never sent")
    assert batch.planned is not None
    if event.indexed + event.retry != batch.planned.requests:
        raise Illegal(f"{event.indexed} indexed and {event.retry} to retry of {batch.planned.requests}")
    if sum(event.outcomes.values()) != event.indexed or sum(event.again.values()) != event.retry:
        raise Illegal("outcomes that do not add up")
    if min(event.spent, event.unconfirmed, event.indexed, event.retry, event.surplus) < 0:
        raise Illegal("books below zero")
    if min(event.turns.values(), default=1) < 1 or bool(event.turns) != (event.turns_file is not None):
        raise Illegal(f"follow-ups {event.turns} in {event.turns_file}")


@_gate.register
def _(event: Recut, state: State) -> None:
    batch = _batch(state, event.batch, Stage.PLANNED)
    if not batch.sends or batch.planned is None or not 0 < event.at < batch.planned.requests:
        raise Illegal(f"batch {event.batch} cannot be cut at {event.at}")
    if state.stopped is not None:
        raise Illegal("the run was stopped")


@_gate.register
def _(event: Withdrawn, state: State) -> None:
    batch = _batch(state, event.batch, Stage.SUBMITTED)
    if batch.withdrawn is not None:
        raise Illegal(f"batch {event.batch} is withdrawn already")
    if batch.submitted is None or event.ticket != batch.submitted.ticket:
        raise Illegal(f"{event.ticket} is not batch {event.batch}'s")


@_gate.register
def _(event: Swept, state: State) -> None:
    batch = _batch(state, event.batch, Stage.ENDED)
    if not batch.may_be_late:
        raise Illegal(f"batch {event.batch} is not to be swept")
    names = {file.name for file in event.files}
    if any(part.file not in names for part in event.parts):
        raise Illegal("a part of a file that is not listed")


@_gate.register
def _(event: Cleared, state: State) -> None:
    batch = _batch(state, event.batch, *Stage)
    if (
        batch.cleared
        or state.canary(batch.source.lane if isinstance(batch.source, Rows) else "") is not batch
    ):
        raise Illegal(f"batch {event.batch} keeps nobody waiting")


@_gate.register
def _(event: Released, state: State) -> None:
    if not event.batches or not set(event.batches) <= set(state.held_back):
        raise Illegal(f"{event.batches} where {state.held_back} are held back")


@_gate.register
def _(event: Stopped, state: State) -> None:
    if state.stopped is not None or state.finished:
        raise Illegal("the run is stopped already" if state.stopped is not None else "the run is finished")


@_gate.register
def _(event: Disowned, state: State) -> None:
    batch = _batch(state, event.batch, *Stage)
    if batch.submitted is not None and batch.submitted.ticket == event.ticket:
        raise Illegal(f"{event.ticket} is batch {event.batch}'s own")


@_gate.register
def _(event: Reviewed, state: State) -> None:
    _gate_reviewed(state, event.reviewed)
    if event.number <= max((each.number for each in state.reviews), default=-1):
        raise Illegal(f"decisions {event.number}, where later ones were applied already")
    if min(event.approved, event.rejected) < 0 or event.approved + event.rejected == 0:
        raise Illegal("no decisions")
    for lane, numbers in event.decided.items():
        settled = [_batch(state, number, Stage.COLLECTED).collected for number in numbers]
        if any(books is None or lane not in books.turns for books in settled):
            raise Illegal(f"batches {numbers}, not all of which lead to follow-ups of {lane}")


@_gate.register
def _(event: Capped, state: State) -> None:
    if event.cap is not None and event.cap < state.committed:
        raise OverBudget(f"{state.committed} is spent or reserved already")


def _batch(state: State, number: int, *stages: Stage) -> Batch:
    if not 0 <= number < len(state.batches):
        raise Illegal(f"no batch {number}")
    batch = state.batches[number]
    if batch.stage not in stages:
        raise Illegal(f"batch {number} is {batch.stage.value}")
    return batch
