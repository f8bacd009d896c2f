"""The fold: how a record changes what there was before it."""

from functools import singledispatch

from pipeline.events import (
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
    Planned,
    PutBack,
    Record,
    Recut,
    Rejected,
    Released,
    Retries,
    Reviewed,
    Rows,
    Source,
    Stopped,
    Submitted,
    Submitting,
    Swept,
    Takes,
    Turns,
    Uploaded,
    Withdrawn,
)
from pipeline.gate import check
from pipeline.state import (
    Batch,
    Illegal,
    Stage,
    State,
    kept,
)


def apply(state: State, record: Record) -> None:
    """Let a record happen. Raises Illegal, and then nothing has changed."""
    check(state, record.event)
    if record.number != state.next:
        raise Illegal(f"record {record.number} where {state.next} was due")
    _change(record.event, state, record.number)
    if isinstance(record.event, Submitting):
        state.batches[record.event.batch].sent_at = record.at
    state.next += 1


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
    assert state.created is not None
    online = event.online or state.created.online
    state.batches.append(Batch(event.batch, event.source, online=online, wave=_wave(state, event.source)))
    match event.source:
        case Rows(_, stop, lane):
            state.drawn[lane] = stop
        case Retries(batches):
            for batch in batches:
                state.batches[batch].retries_drawn = True
        case Takes(number, places):
            state.batches[number].taken |= set(places)
        case Turns(lane, pieces):
            for piece in pieces:
                settled = state.batches[piece.batch]
                _take(settled, lane, kept(settled, lane, piece.start, piece.stop))
                settled.turns_drawn[lane] = piece.stop
        case Rejected(number, lane, places):
            settled = state.batches[number]
            _take(settled, lane, len(places))
            settled.rejected[lane] = settled.rejected.get(lane, frozenset()) | set(places)
        case Cut():
            pass


def _take(batch: Batch, lane: str, count: int) -> None:
    batch.turns_taken[lane] = batch.turns_taken.get(lane, 0) + count


def _wave(state: State, source: Source) -> int:
    match source:
        case Rows():
            return 0
        case Retries(batches):
            return max(state.batches[number].wave for number in batches)
        case Cut(number) | Takes(number):
            return state.batches[number].wave
        case Turns(_, pieces):
            return 1 + max(state.batches[piece.batch].wave for piece in pieces)
        case Rejected(number):
            return 1 + state.batches[number].wave


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
def _(event: Recut, state: State, number: int) -> None:
    batch = state.batches[event.batch]
    assert batch.planned is not None
    batch.stage = Stage.CUT
    for start, stop in ((0, event.at), (event.at, batch.planned.requests)):
        piece = Cut(event.batch, start, stop)
        state.batches.append(Batch(len(state.batches), piece, online=batch.online, wave=batch.wave))


@_change.register
def _(event: Withdrawn, state: State, number: int) -> None:
    state.batches[event.batch].withdrawn = event


@_change.register
def _(event: Swept, state: State, number: int) -> None:
    state.batches[event.batch].swept = event


@_change.register
def _(event: Cleared, state: State, number: int) -> None:
    state.batches[event.batch].cleared = True


@_change.register
def _(event: Released, state: State, number: int) -> None:
    for batch in event.batches:
        state.batches[batch].released = True


@_change.register
def _(event: Stopped, state: State, number: int) -> None:
    state.stopped = event


@_change.register
def _(event: Disowned, state: State, number: int) -> None:
    # It was cancelled, and nobody will read what of it was billed.
    state.unconfirmed += state.batches[event.batch].high


@_change.register
def _(event: Reviewed, state: State, number: int) -> None:
    state.reviews.append(event)
    for lane, numbers in event.decided.items():
        for batch in numbers:
            state.batches[batch].decided.add(lane)


@_change.register
def _(event: Capped, state: State, number: int) -> None:
    state.cap = event.cap
