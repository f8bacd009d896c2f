"""The cash register: what was billed, to whom, for which job and row, in nanodollars."""

from collections.abc import Iterable
from typing import Any

from pipeline.emulator.answers import Maker
from pipeline.emulator.batches import Job
from pipeline.emulator.clock import rfc3339
from pipeline.emulator.files import File

NANODOLLARS = 1_000_000_000


def ledger(jobs: Iterable[Job], *, now: int, rows: bool = True) -> dict[str, Any]:
    """Every job that was ever accepted, and what its rows have cost by now, deleted or not."""
    entries = [entry(job, now=now, rows=rows) for job in jobs]
    nanodollars = sum(entry["nanodollars"] for entry in entries)
    billed = sum(entry["billedRows"] for entry in entries)
    return {
        "jobs": entries,
        "total": {"rows": billed, "nanodollars": nanodollars, "usd": nanodollars / NANODOLLARS},
    }


def entry(job: Job, *, now: int, rows: bool) -> dict[str, Any]:
    paid = list(prices(job)) if job.billed(now) else []
    nanodollars = sum(price for _, price in paid)
    whole: dict[str, Any] = {
        "at": rfc3339(job.created),
        "job": job.name,
        "displayName": job.display_name,
        "inputFile": job.source.name if isinstance(job.source, File) else None,
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


def prices(job: Job) -> Iterable[tuple[str | None, int]]:
    """What each answer cost; a line that came twice was made twice, one that got lost was made too."""
    maker = Maker(job.model, 0)
    for answer in job.answers:
        price = maker.usage(answer).nanodollars
        if price:
            yield from ((answer.key, price) for _ in range(max(1, answer.lines)))
