"""What a run has come to so far, in pictures and dollars: told from its records alone."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.events import (
    FINAL,
    ON_ITS_WAY,
    UNASKED,
    Cut,
    Planned,
    Rejected,
    Retries,
    Rows,
    Source,
    Takes,
    Turns,
)
from pipeline.run import Run
from pipeline.state import RESERVING, Batch, Stage, State


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests are counted once, however often they were sent. Money is in billionths of a dollar."""

    name: str
    url: str
    service: str
    requests: int  # to send, as the plan said
    refused: int  # left out by the plan
    reused: int  # answered by earlier runs, so nothing is sent
    before: int  # of those, the ones that have a picture
    expected: int  # and those whose answer an unfinished run has yet to collect
    sent: int  # of the requests, how many Google has or had at least once
    answered: int  # how many are in the index, those left out included
    again: int  # waiting for another attempt
    to_review: int  # follow-ups that wait until a person has judged what they go on from
    pictures: int  # requests that have theirs
    files: int  # pictures on disk: an answer may have several
    outcomes: dict[str, int]
    batches: int
    in_flight: int
    held: int
    low: int  # first attempts, as planned so far
    likely: int
    high: int
    spent: int
    unconfirmed: int
    reserved: int
    overrun: int
    cap: int | None
    surplus: int
    causes: dict[str, int]  # why what it took differs from what was said, largest first
    tokens: dict[str, int]
    began: datetime | None  # the first batch was sent
    finished: bool

    @property
    def total(self) -> int:
        """Every planned request: each ends up in the index once."""
        return self.requests + self.refused + self.reused

    @property
    def without(self) -> int:
        """Requests that ended without their picture."""
        return self.answered - self.pictures - self.before - self.expected


def tally(run: Run) -> Tally:
    """Count. A few microseconds a batch."""
    state, created = run.state, run.created
    settled = [batch.collected for batch in state.batches if batch.collected is not None]
    tokens: Counter[str] = Counter()
    asked_anew = [batch.source for batch in state.batches if isinstance(batch.source, Takes)]
    again = sum(books.turns_again for books in settled)
    outcomes = _replaced(asked_anew, again)
    for books in settled:
        outcomes.update(books.outcomes)
        counts = books.tokens
        tokens.update(prompt=counts.prompt, image=counts.image, text=counts.text, thought=counts.thought)
    # Attempts beyond the first are orders of their own, and no part of what the plan said.
    first = [(b, b.planned) for b in state.batches if b.planned is not None and _is_first(state, b)]
    # What a further take brought along was in one of the first batches, and never sent from there.
    late = [b.planned for b in state.batches if b.planned is not None and _is_late(state, b)]
    sent = [plan.requests for batch, plan in first if batch.sends and _was_sent(batch.stage)]
    sent += [plan.requests for plan in late]
    times = [batch.submitting.until for batch in state.batches if batch.submitting is not None]
    asked = [*created.lanes.items(), *created.follow_ups.items()]
    likely = created.said or sum(plan.likely for _, plan in first)
    return Tally(
        name=created.name,
        url=run.storage.url,
        service=created.service,
        requests=sum(count for lane, count in asked if lane not in UNASKED),
        refused=sum(count for lane, count in asked if lane == FINAL) - created.carried,
        reused=created.carried,
        before=sum(books.carried.get("ok", 0) for books in settled),
        expected=sum(books.carried.get(ON_ITS_WAY, 0) for books in settled),
        sent=min(sum(sent), sum(count for lane, count in asked if lane not in UNASKED)),
        answered=sum(books.indexed for books in settled)
        - sum(len(source.places) for source in asked_anew)
        - again,
        again=sum(books.retry for books in settled if books.batch in state.retries),
        to_review=state.to_review,
        pictures=outcomes["ok"],
        files=sum(books.pictures for books in settled),
        outcomes={name: count for name, count in sorted(outcomes.items()) if count},
        batches=len(state.batches),
        in_flight=len(state.at(Stage.SUBMITTED)) + len(state.at(Stage.SUBMITTING)),
        held=len(state.at(Stage.HELD)),
        low=sum(plan.low for _, plan in first),
        likely=likely,
        high=sum(plan.high for _, plan in first),
        spent=state.spent,
        unconfirmed=state.unconfirmed,
        reserved=state.reserved,
        overrun=state.overrun,
        cap=state.cap,
        surplus=sum(books.surplus for books in settled),
        causes=_causes(state, likely, first, late) if state.finished else {},
        tokens=dict(tokens),
        began=min(times, default=None),
        finished=state.finished,
    )


def waiting(follow_ups: int) -> str:
    """That a run stands still until somebody has looked at its pictures."""
    return f"{follow_ups:,} {'follow-up waits' if follow_ups == 1 else 'follow-ups wait'} for your review"


def _is_first(state: State, batch: Batch) -> bool:
    """Whether its requests were never asked before. Of a batch that was cut the pieces count."""
    return batch.stage is not Stage.CUT and _comes_first(state, batch.source)


def _comes_first(state: State, source: Source) -> bool:
    match source:
        case Rows():
            return True
        case Cut(number):
            return _comes_first(state, state.batches[number].source)
        case Turns(_, pieces):
            return not any(state.batches[piece.batch].brings_again for piece in pieces)
        case Rejected(number):
            return not state.batches[number].brings_again
    return False


def _is_late(state: State, batch: Batch) -> bool:
    """Whether a further take brought its requests along, of which most were never sent before."""
    if not batch.sends or not _was_sent(batch.stage):
        return False
    source = batch.source
    while isinstance(source, Cut):
        source = state.batches[source.batch].source
    return isinstance(source, Turns) and not _comes_first(state, source)


def _replaced(takes: Sequence[Takes], again: int) -> Counter[str]:
    """What further takes leave of the outcomes that were there before, to be added to those: less than none of some."""
    outcomes: Counter[str] = Counter()
    for source in takes:
        outcomes.subtract(source.were)
        # What follows has nothing to go on from until that is home,
        outcomes.subtract(source.after)
        outcomes["no_parent"] += sum(source.after.values())
    # and then is asked anew, one wave after the other.
    outcomes.subtract({"no_parent": again})
    return outcomes


def _causes(
    state: State, likely: int, first: Sequence[tuple[Batch, Planned]], late: Sequence[Planned]
) -> dict[str, int]:
    """What makes the difference between what was said and what it took, in billionths of a dollar."""
    shares = _shares_of_firsts(state)
    books = [batch.collected for batch in state.batches if batch.collected is not None]
    surplus = sum(b.surplus_spent for b in books)
    firsts = sum(round((b.spent - b.surplus_spent) * shares[b.batch]) for b in books)
    unsent = sum(round(plan.likely * shares[batch.number]) for batch, plan in _unsent(state))
    said = sum(plan.likely for _, plan in first)
    since = min(unsent, sum(plan.likely for plan in late))
    causes = {
        "asked again": state.spent - surplus - firsts - (likely - said) - since,
        "surplus answers": surplus,
        "cannot be read": state.unconfirmed,
        "not sent": since - unsent,
        "other tokens than expected": firsts - (said - unsent),
    }
    return dict(sorted(((why, by) for why, by in causes.items() if by), key=lambda each: -abs(each[1])))


def _unsent(state: State) -> Iterator[tuple[Batch, Planned]]:
    for batch in state.batches:
        if batch.planned is not None and batch.submitting is None and batch.stage is not Stage.CUT:
            yield batch, batch.planned


def _shares_of_firsts(state: State) -> list[float]:
    """Of each batch, what part of it was asked for the first time there."""
    shares: list[float] = []
    for batch in state.batches:  # what a batch comes from has a lower number
        shares.append(_share_of_firsts(state, batch.source, shares))
    return shares


def _share_of_firsts(state: State, source: Source, shares: Sequence[float]) -> float:
    match source:
        case Cut(number):
            return shares[number]
        case Retries(batches):
            # What there was no time to ask is no attempt, and is drawn together with what is asked again. The records
            # count both, and all are of one model: so many of the requests are taken for as much of the money.
            books = [b for number in batches if (b := state.batches[number].collected) is not None]
            unasked = sum(b.again.get("not_sent", 0) * shares[b.batch] for b in books)
            return unasked / max(1, sum(b.retry for b in books))
    return 1.0 if _comes_first(state, source) else 0.0


def _was_sent(stage: Stage) -> bool:
    return stage is Stage.COLLECTED or (stage in RESERVING and stage is not Stage.SUBMITTING)
