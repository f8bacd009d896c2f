"""The last part settles a batch: every planned request into the index or the retries, every other line into quarantine.

What it fears: a request that is in neither or in both, money that nobody counted, and two drivers that say otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline import tables, turns
from pipeline.answer import unless_unfit
from pipeline.backends.base import Backend
from pipeline.checks import Rules
from pipeline.compare import Noticed
from pipeline.errors import Corrupt
from pipeline.events import Collected, Cut, File, Rejected, Retries, Tokens, Turns
from pipeline.grounding import columns_of
from pipeline.joined import Joined
from pipeline.models import Model
from pipeline.money import nanos
from pipeline.quarantine import quarantine
from pipeline.run import Run, index_file, retry_file, turns_file
from pipeline.state import Batch, Illegal, Stage

AGAIN = frozenset({"text_only", "no_image", "truncated", "broken", "error", "missing", "expired"})
"""Outcomes that another attempt may better. All others are final."""

UNANSWERED = {"succeeded": "missing", "failed": "error", "cancelled": "cancelled", "expired": "expired"}
"""What a request is that no line came back for, by how its batch ended."""

MOST_ATTEMPTS = 10
"""Nothing is asked more often by itself, whatever the reasons."""


@dataclass(slots=True)
class _Books:
    """What a batch comes to, added up while its rows are written."""

    outcomes: dict[str, int] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)
    pictures: int = 0
    picture_bytes: int = 0
    spent: int = 0
    surplus_spent: int = 0  # of it, what nobody asked for
    unconfirmed: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    dearest: int = 0  # what the dearest request may have cost


def settle(
    run: Run,
    backend: Backend,
    batch: Batch,
    found: Joined,
    *,
    noticed: Mapping[int, Noticed],
    rules: Mapping[str, Rules],
    together: int = tables.ROW_GROUP,
) -> bool:
    """Every planned request into the index or the retries, every line that is neither into quarantine; one record.

    Safe to repeat and to do by several at once. False: somebody else settled it. So many rows are in memory together.
    """
    columns = run.created.columns
    books = _Books()
    with (
        tables.sheet(tables.index_schema(columns), together=together) as index,
        tables.sheet(tables.retry_schema(columns), together=together) as retry,
        tables.sheet(tables.turns_schema(columns), together=tables.FEW_TOGETHER) as turned,
    ):
        follow_ups = _Turns(turned)
        answered = _answered(run, batch, found, noticed, rules)
        _write(run, batch, answered, books, index=index, retry=retry, follow_ups=follow_ups)
        _count_strays(books, found)
        event = Collected(
            batch=batch.number,
            indexed=index.rows,
            retry=retry.rows,
            surplus=len(found.strays),
            outcomes=dict(sorted(books.outcomes.items())),
            carried=dict(sorted(books.carried.items())),
            again=dict(sorted(books.again.items())),
            pictures=books.pictures,
            picture_bytes=books.picture_bytes,
            tokens=books.tokens,
            spent=books.spent,
            surplus_spent=books.surplus_spent,
            unconfirmed=books.unconfirmed,
            index=_keep(run, index, index_file(batch.number)),
            retries=_keep(run, retry, retry_file(batch.number)),
            quarantine=quarantine(run, backend, batch, found) if found.strays else None,
            turns=dict(sorted(follow_ups.lanes.items())),
            released=follow_ups.released,
            turns_again=follow_ups.again,
            turns_file=_keep(run, turned, turns_file(batch.number)),
        )
    return _record(run, batch, event)


def _write(
    run: Run,
    batch: Batch,
    answered: Iterable[tuple[dict[str, Any], dict[str, Any]]],
    books: _Books,
    *,
    index: tables.Sheet,
    retry: tables.Sheet,
    follow_ups: "_Turns",
) -> None:
    """Each request into the one or the other, what follows from it behind it, and both into the books."""
    waiting = turns.Waiting(run, batch.number)
    models = {name: msgspec.convert(row, Model) for name, row in run.created.models.items()}
    for row, answer in answered:
        _count(books, answer, high=row["high"])
        if batch.ended is not None and _is_worth_more(run, batch, row, answer):
            _add(books.again, answer["outcome"])
            retry.add(_to_retry(row, answer))
            continue
        _add(books.outcomes, answer["outcome"])
        if answer.get("earlier"):
            _add(books.carried, answer["earlier"])
        index.add(_to_index(row, answer, batch.number, models.get(row["model"])))
        follow_ups.add(turns.next_turn(run, row, answer))
        for released in waiting.released(row, answer):
            follow_ups.add(released)
            follow_ups.released += released["take"] == 1


def _keep(run: Run, sheet: tables.Sheet, name: str) -> File | None:
    return sheet.keep(run.storage, name) if sheet.rows else None


def _answered(
    run: Run, batch: Batch, found: Joined, noticed: Mapping[int, Noticed], rules: Mapping[str, Rules]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every planned request, and what came of it; a few at a time in memory."""
    last = _last_outcomes(run, batch) if batch.ended is None and batch.sends else {}
    for row in tables.rows_in(run.plan(batch.number)):
        place = row["place"]
        answer = found.answer(place) or last.get(place) or _no_answer(batch, row, lines=found.lines)
        if place in noticed:
            answer = _compared(answer, noticed[place], rules[row["shot"]])
        yield row, answer


@dataclass(slots=True)
class _Turns:
    """The follow-ups of a batch, on their way into its file."""

    sheet: tables.Sheet
    lanes: dict[str, int] = field(default_factory=dict)
    released: int = 0
    again: int = 0

    def add(self, row: dict[str, Any] | None) -> None:
        if row is not None:
            _add(self.lanes, turns.lane_of(row))
            self.again += row["take"] > 1
            self.sheet.add(row)


def _record(run: Run, batch: Batch, event: Collected) -> bool:
    """The books of a batch, closed. False: another driver did."""
    try:
        run.record(event)
    except Illegal as error:
        if batch.stage is not Stage.COLLECTED:
            raise Corrupt(f"{run.storage.url}: batch {batch.number} cannot be settled: {error}") from error
        return False
    return True


def _count_strays(books: _Books, found: Joined) -> None:
    """An answer that nobody planned was billed all the same; one that does not say how much, at the dearest."""
    for stray in found.strays:
        spent = found.line(stray.line)["spent"]
        if spent is not None:
            books.spent += spent
            books.surplus_spent += spent
        elif stray.why != "unreadable":
            books.unconfirmed += books.dearest


def _is_worth_more(run: Run, batch: Batch, row: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether another attempt may better this. What the job says of an outcome is above what is usual."""
    outcome, created = answer["outcome"], run.created
    if outcome in ("cancelled", "expired") and batch.withdrawn is not None:
        return batch.withdrawn.again and row["attempt"] < MOST_ATTEMPTS
    if outcome == "not_sent" and batch.online:
        return True  # there was no time to ask for it, which is no attempt; some of its batch was asked, so this ends
    attempts = created.again.get(outcome, created.attempts if outcome in AGAIN else 1)
    if outcome == "missing" and batch.online and attempts > 1:
        # Whoever asked is gone, which says nothing of the request: once more, be it the last attempt.
        attempts += 1
    return bool(row["attempt"] < min(attempts, MOST_ATTEMPTS))


def _last_outcomes(run: Run, batch: Batch) -> dict[int, dict[str, Any]]:
    """What came of requests when they were asked before, by their place in a batch that was never sent."""
    match batch.source:
        case Retries(batches):
            rows = (row for number in batches for row in tables.rows_in(run.retries(number)))
            return {
                place: {name: row.get(f"last_{name}") for name in ("outcome", "reason", "message", "text")}
                | {"spent": 0}
                for place, row in enumerate(rows)
            }
        case Cut(parent, start, stop):
            before = _last_outcomes(run, run.state.batches[parent])
            return {place - start: told for place, told in before.items() if start <= place < stop}
    return {}


def _no_answer(batch: Batch, row: dict[str, Any], *, lines: int) -> dict[str, Any]:
    """What is known of a request that no line came back for, where so many did."""
    if row["carried"] is not None:
        return {**row["carried"], "spent": 0}
    if batch.ended is None and batch.sends:
        return {"outcome": "not_sent", "spent": 0}
    if batch.ended is None:
        outcome = "no_parent" if isinstance(batch.source, Turns | Rejected) else "refused_by_plan"
        return {"outcome": outcome, "message": row["refusal"], "spent": 0}
    message = batch.ended.error or _shortage(batch.ended.stats, lines)
    return {"outcome": UNANSWERED[batch.ended.how], "message": message, "spent": None}


def _shortage(stats: dict[str, int], lines: int) -> str | None:
    """What to say where the service counts more answers than it sent."""
    counted = sum(count for name, count in stats.items() if name.startswith(("successful", "failed")))
    return f"the service counts {counted:,} answers and sent {lines:,}" if counted > lines else None


def _add(counts: dict[str, int], outcome: str) -> None:
    counts[outcome] = counts.get(outcome, 0) + 1


def _count(books: _Books, answer: dict[str, Any], *, high: int) -> None:
    books.dearest = max(books.dearest, high)
    if answer.get("made_in") is None:  # what is carried over lies with the run that made it
        books.pictures += len(answer.get("pictures") or [])
        books.picture_bytes += sum(picture["bytes"] for picture in answer.get("pictures") or [])
    if answer["spent"] is not None:
        books.spent += answer["spent"]
    else:
        books.unconfirmed += high  # it may have been billed, and nobody can read how much
    t = books.tokens
    books.tokens = Tokens(
        prompt=t.prompt + (answer.get("prompt_tokens") or 0),
        image=t.image + (answer.get("image_tokens") or 0),
        text=t.text + (answer.get("text_tokens") or 0),
        thought=t.thought + (answer.get("thought_tokens") or 0),
    )


def _compared(answer: dict[str, Any], noticed: Noticed, rules: Rules) -> dict[str, Any]:
    """An answer, with what the other pictures of its batch say about its own."""
    numbers = {**(answer["numbers"] or {}), **noticed.numbers}
    return {
        **answer,
        **unless_unfit(answer, noticed.words, rules),
        "checks": [*answer["checks"], *noticed.words],
        "numbers": numbers,
        "pictures": [
            {**picture, "checks": [*picture["checks"], *noticed.words], "numbers": numbers}
            if picture["role"] == "final"
            else picture
            for picture in answer["pictures"]
        ],
    }


def _to_retry(row: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "spent": row["spent"] + (answer["spent"] or 0),
        "last_outcome": answer["outcome"],
        "last_reason": answer.get("reason"),
        "last_message": answer.get("message"),
        "last_text": answer.get("text"),
    }


def _to_index(row: dict[str, Any], answer: dict[str, Any], batch: int, model: Model | None) -> dict[str, Any]:
    spent = row["spent"] + (answer["spent"] or 0)
    shown = [
        {name: one[name] for name in ("source", "sha256", "mime", "made_from", "role")}
        for one in row["references"] or []
    ]
    return {
        **{name: answer.get(name) for name in _ANSWERS},
        **{name: value for name, value in row.items() if name not in ("spent", "references")},
        "pictures": answer.get("pictures") or [],
        "parts": answer.get("parts") or [],
        "thought_pictures": answer.get("thought_pictures") or [],
        "checks": answer.get("checks") or [],
        "effective": _effective(row, answer, model) if model is not None else None,
        "references": shown,
        "batch": batch,
        "usd": spent / nanos(1),
        **columns_of(answer.get("grounding")),
    }


def _effective(row: dict[str, Any], answer: dict[str, Any], model: Model) -> dict[str, str | None]:
    """What the settings came to: ratio and size as the picture's own pixels say, and what was left to the model."""
    ratio, size = model.named(answer["width"], answer["height"]) if answer.get("width") else (None, None)
    thinking = row["thinking"] or model.default_thinking
    return {"aspect_ratio": ratio, "image_size": size, "thinking": thinking}


_ANSWERS = frozenset(tables.index_schema(()).names) & {*tables.STAGED.names, "earlier", "made_in"}
