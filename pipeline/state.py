"""The fold, and the gate: what a run's records amount to, and whether an event may happen now."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import singledispatch
from typing import Literal

from pipeline.events import (
    FINAL,
    LATER,
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
    Part,
    Piece,
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

GRACE = timedelta(minutes=10)
"""How long after its deadline an intent's create call may still arrive at the provider. Measured on a prototype:
without it, two drivers paid twice in every trial."""


class Illegal(Exception):
    """The event makes no sense now: another driver moved the run on, or the caller is wrong."""


class NotYet(Illegal):
    """The event may happen once a canary is home."""


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
    CUT = "cut"  # its requests are in two other batches


SHARE, MANY = 0.2, 10
"""What came to nothing for one reason is asked again by itself up to this share of a batch, or fewer than so many."""

_NOBODYS = frozenset({"expired", "cancelled", "not_sent"})

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
    withdrawn: Withdrawn | None = None
    ended: Ended | None = None
    swept: Swept | None = None
    collected: Collected | None = None
    retries_drawn: bool = False
    released: bool = False  # a person wants its retries drawn, whatever their share
    sent_at: datetime | None = None  # when the newest intent was written: right before the create call
    taken: frozenset[int] = frozenset()  # places that a person had asked once more
    cleared: bool = False  # the canary it is keeps nobody waiting any more
    replaced: int = 0  # intents that were taken over
    online: bool = False  # its requests are asked at once, each by a call of its own, at the standard price
    wave: int = 0  # so many turns, or rows whose pictures are edited, come before it
    turns_drawn: dict[str, int] = field(default_factory=dict)  # of each lane, up to where its follow-ups
    turns_taken: dict[str, int] = field(default_factory=dict)  # and how many: some beyond that were rejected
    rejected: dict[str, frozenset[int]] = field(default_factory=dict)  # which these are
    decided: set[str] = field(default_factory=set)  # lanes whose follow-ups wait for no decision any more

    @property
    def sends(self) -> bool:
        """Whether anything of it goes to a provider."""
        if isinstance(self.source, Rejected):
            return False
        return not (isinstance(self.source, Rows | Turns) and self.source.lane in UNASKED)

    @property
    def waits(self) -> bool:
        """Whether its requests go into batches of later waves, one by one: it is never settled itself."""
        return isinstance(self.source, Rows) and self.source.lane == LATER

    @property
    def turns(self) -> dict[str, int]:
        """How many follow-ups it leads to that nobody has drawn yet, by their lane."""
        if self.collected is None or not self.collected.turns:
            return {}
        left = {lane: n - self.turns_taken.get(lane, 0) for lane, n in self.collected.turns.items()}
        return {lane: count for lane, count in left.items() if count}

    @property
    def brings_again(self) -> bool:
        """Whether what follows it was there before: a person wanted a further take."""
        return self.collected is not None and self.collected.turns_again > 0

    @property
    def high(self) -> int:
        return self.planned.high if self.planned else 0

    def is_of(self, account: str) -> bool:
        """Whether this account sent it: another cannot even see it."""
        return self.submitting is not None and self.submitting.account == account

    @property
    def may_be_late(self) -> bool:
        """Whether more may come of it than it ended with: nobody has looked since."""
        return self.broke_off and self.swept is None

    @property
    def broke_off(self) -> bool:
        """Whether it ended before the provider was done, so that more may come of it."""
        return self.ended is not None and self.ended.how in ("cancelled", "expired")

    @property
    def parts(self) -> tuple[Part, ...]:
        """All byte ranges that its results are read in. Of a batch that broke off none, until it was swept."""
        if self.broke_off:
            return self.swept.parts if self.swept is not None else ()
        return self.ended.parts if self.ended is not None else ()

    @property
    def common_trouble(self) -> str | None:
        """The one reason that much of it came to nothing for: to ask for all that again may cost as much again.

        That a job expired, or that there was no time to ask, is none: it says nothing of what was asked, and is not
        billed.
        """
        if self.collected is None or self.planned is None:
            return None
        again = {why: n for why, n in self.collected.again.items() if why not in _NOBODYS}
        most = max(again, key=again.__getitem__, default=None)
        if most is None or again[most] < MANY or again[most] <= self.planned.requests * SHARE:
            return None
        return most


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
    stopped: Stopped | None = None
    reviews: list[Reviewed] = field(default_factory=list)

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
        return all(
            batch.stage in (Stage.COLLECTED, Stage.CUT) or (batch.waits and batch.stage is Stage.PLANNED)
            for batch in self.batches
        )

    @property
    def may_settle(self) -> bool:
        """Whether every row that edits another's picture is planned: who settles that one has to know of it."""
        if self.created is None or LATER not in self.drawn:
            return self.created is not None
        if self.drawn[LATER] < self.created.rows:
            return False
        return not any(batch.waits and batch.stage is Stage.DRAWN for batch in self.batches)

    @property
    def unreleased(self) -> int:
        """How many rows still wait for the picture that they edit."""
        if LATER not in self.drawn:
            return 0
        waiting = sum(b.planned.requests for b in self.batches if b.waits and b.planned is not None)
        return waiting - sum(b.collected.released for b in self.batches if b.collected is not None)

    @property
    def retries(self) -> tuple[int, ...]:
        """Batches whose retry file nobody has drawn yet."""
        return tuple(
            batch.number
            for batch in self.batches
            if batch.collected is not None and batch.collected.retry and not batch.retries_drawn
        )

    @property
    def next_retries(self) -> tuple[int, ...]:
        """Batches whose retries go into batches together: those of the earliest wave."""
        ours = [number for number in self.retries if number not in self.held_back]
        first = min((self.batches[number].wave for number in ours), default=0)
        return tuple(number for number in ours if self.batches[number].wave == first)

    @property
    def retries_due(self) -> bool:
        """Whether those can be drawn: all that was asked before or beside them is home. What follows from it is not
        waited for: that takes another night.
        """
        ours, home = self.next_retries, (Stage.COLLECTED, Stage.CUT)
        return (
            bool(ours)
            and self.all_drawn
            and all(b.wave > self.batches[ours[0]].wave or b.stage in home or b.waits for b in self.batches)
        )

    @property
    def turns_open(self) -> dict[str, tuple[int, ...]]:
        """Of each lane, the batches with follow-ups that nobody has drawn yet."""
        found: dict[str, list[int]] = {}
        for batch in self.batches:
            for lane in batch.turns:
                found.setdefault(lane, []).append(batch.number)
        return {lane: tuple(numbers) for lane, numbers in found.items()}

    @property
    def turns_due(self) -> dict[str, tuple[int, ...]]:
        """The same, without those that go on from pictures which a person has to judge first."""
        due = {
            lane: tuple(n for n in numbers if not self.waits_for_review(self.batches[n], lane))
            for lane, numbers in self.turns_open.items()
        }
        return {lane: numbers for lane, numbers in due.items() if numbers}

    @property
    def to_review(self) -> int:
        """How many follow-ups wait for a person to judge the pictures that they go on from."""
        return sum(
            count
            for batch in self.batches
            for lane, count in batch.turns.items()
            if self.waits_for_review(batch, lane)
        )

    @property
    def follow_ups(self) -> str:
        """Which follow-ups are asked: always, unless_rejected, approved."""
        return str(self.created.job.get("follow_ups", "always")) if self.created is not None else "always"

    def waits_for_review(self, batch: Batch, lane: str) -> bool:
        """Whether these follow-ups are not to be asked yet. What is stopped waits for nobody."""
        return (
            self.follow_ups == "approved"
            and self.stopped is None
            and lane != FINAL
            and lane not in batch.decided
        )

    @property
    def held_back(self) -> tuple[int, ...]:
        """Batches with retries that wait for a person's word."""
        if self.stopped is not None:
            return ()
        return tuple(
            n for n in self.retries if self.batches[n].common_trouble and not self.batches[n].released
        )

    @property
    def requests_held_back(self) -> int:
        """How many requests wait for it."""
        books = (self.batches[number].collected for number in self.held_back)
        return sum(each.retry for each in books if each is not None)

    def canary(self, lane: str) -> Batch | None:
        """The batch of a model that goes first, where one does. One that had to be cut goes first no more."""
        if self.created is None or not self.created.canary:
            return None
        firsts = (b for b in self.batches if isinstance(b.source, Rows) and b.source.start == 0)
        first = next((b for b in firsts if isinstance(b.source, Rows) and b.source.lane == lane), None)
        return first if first is not None and first.sends and first.stage is not Stage.CUT else None

    @property
    def finished(self) -> bool:
        """Every planned request is in the index."""
        return self.all_drawn and self.settled and not self.retries and not self.turns_open

    def at(self, stage: Stage) -> list[Batch]:
        return [batch for batch in self.batches if batch.stage is stage]


def model_of(batch: Batch) -> str | None:
    """The one model a batch asks, once that is planned."""
    return batch.planned.model if batch.planned else None


def lane_of(batch: Batch) -> Literal["batch", "standard"]:
    """Which of a model's prices it is billed by."""
    return "standard" if batch.online else "batch"


def apply(state: State, record: Record) -> None:
    """Let a record happen. Raises Illegal, and then nothing has changed."""
    check(state, record.event)
    if record.number != state.next:
        raise Illegal(f"record {record.number} where {state.next} was due")
    _change(record.event, state, record.number)
    if isinstance(record.event, Submitting):
        state.batches[record.event.batch].sent_at = record.at
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


def kept(batch: Batch, lane: str, start: int, stop: int) -> int:
    """How many of its follow-ups in this span are asked."""
    return stop - start - sum(start <= place < stop for place in batch.rejected.get(lane, ()))


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


def trouble_of(canary: Batch) -> str | None:
    """What is wrong with a canary that is home. Pictures that were refused for what they show are not."""
    assert canary.collected is not None
    assert canary.planned is not None
    outcomes = canary.collected.outcomes
    wrong = sum(outcomes.get(name, 0) for name in ("wrong_size", "invalid"))
    came, asked = outcomes.get("ok", 0), canary.planned.requests
    if wrong or came < asked / 2:
        all_of_it = {**outcomes, **canary.collected.again}
        told = ", ".join(f"{count} {name}" for name, count in sorted(all_of_it.items()) if name != "ok")
        return f"{came} of {asked} pictures as asked; {told}"
    return None


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
