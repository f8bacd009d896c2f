"""The cash register: what was billed, to whom, for which job and row, in nanodollars."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.emulator.answers import Answer, Maker
from pipeline.emulator.batches import Job
from pipeline.emulator.clock import rfc3339
from pipeline.emulator.files import File
from pipeline.emulator.online import Billed
from pipeline.emulator.vertex import Prediction, inputs_of

NANODOLLARS = 1_000_000_000


def ledger(
    jobs: Iterable[Job],
    predictions: Iterable[Prediction] = (),
    calls: Iterable[Billed] = (),
    *,
    now: int,
    rows: bool = True,
) -> dict[str, Any]:
    """Every job that was ever accepted and every call that was answered, and what they have cost by now."""
    entries = [entry(job, now=now, rows=rows) for job in jobs]
    entries += [entry_of_prediction(job, now=now, rows=rows) for job in predictions]
    entries.sort(key=lambda entry: entry["at"])  # stable: of one moment in the order they came
    online = [entry_of_call(call) for call in calls]
    nanodollars = sum(entry["nanodollars"] for entry in (*entries, *online))
    billed = sum(entry["billedRows"] for entry in entries) + len(online)
    return {
        "jobs": entries,
        "calls": online,
        "total": {"rows": billed, "nanodollars": nanodollars, "usd": nanodollars / NANODOLLARS},
    }


def entry(job: Job, *, now: int, rows: bool) -> dict[str, Any]:
    source = job.source.name if isinstance(job.source, File) else None
    paid = list(prices(job.answers, Maker(job.model, 0))) if job.billed(now) else []
    return whole_entry(job, paid, source=source, now=now, rows=rows)


def entry_of_prediction(job: Prediction, *, now: int, rows: bool) -> dict[str, Any]:
    """A Vertex AI job: its rows have no keys, so they are billed under their place in the input, from 0."""
    done = job.done_answers or [] if now >= job.over else []
    paid = list(prices(done, Maker(job.model, 0, "vertex")))
    return whole_entry(job, paid, source=inputs_of(job.asked)[0], now=now, rows=rows)


def entry_of_call(call: Billed) -> dict[str, Any]:
    return {
        "at": rfc3339(call.at),
        "call": call.method,
        "account": call.account,
        "model": call.model,
        "pictures": call.pictures,
        "nanodollars": call.nanodollars,
        "usd": call.nanodollars / NANODOLLARS,
    }


def whole_entry(
    job: Job | Prediction, paid: list[tuple[str | None, int]], *, source: str | None, now: int, rows: bool
) -> dict[str, Any]:
    nanodollars = sum(price for _, price in paid)
    whole: dict[str, Any] = {
        "at": rfc3339(job.created),
        "job": job.name,
        "displayName": job.display_name,
        "inputFile": source,
        "account": job.account,
        "model": job.model.name,
        "state": job.state(now)[0],
        "rows": job.rows,
        "billedRows": len(paid),
        "nanodollars": nanodollars,
        "usd": nanodollars / NANODOLLARS,
    }
    if rows:
        whole["billed"] = [{"key": key, "nanodollars": price} for key, price in paid]
    return whole


def prices(answers: Iterable[Answer], maker: Maker) -> Iterator[tuple[str | None, int]]:
    """What each answer cost; a line that came twice was made twice, one that got lost was made too."""
    for answer in answers:
        price = maker.usage(answer).nanodollars
        if price:
            yield from ((answer.key, price) for _ in range(max(1, answer.lines)))
