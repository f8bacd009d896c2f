"""What a run's records amount to: its batches, and what can be read off them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

from pipeline.events import (
    FINAL,
    LATER,
    UNASKED,
    Collected,
    Created,
    Ended,
    Held,
    Part,
    Planned,
    PutBack,
    Rejected,
    Reviewed,
    Rows,
    Source,
    Stopped,
    Submitted,
    Submitting,
    Swept,
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


def kept(batch: Batch, lane: str, start: int, stop: int) -> int:
    """How many of its follow-ups in this span are asked."""
    return stop - start - sum(start <= place < stop for place in batch.rejected.get(lane, ()))
