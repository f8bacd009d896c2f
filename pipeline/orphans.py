"""Remote jobs that nobody waits for: on the account, under the label of a run, and no run's own.

One is left where the money was spent and the record of it never written: the machine died in between and nobody went
on, or the run's directory is gone. To adopt one is to write that record, by the same rules as the run itself would.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.backends.base import Backend, RemoteJob
from pipeline.clock import Clock
from pipeline.errors import BadInput, Unavailable
from pipeline.events import Created, Disowned, Submitted, Unknown, Unreadable, from_json
from pipeline.journal import Journal, record_name
from pipeline.models import load_models
from pipeline.money import dollars, estimate
from pipeline.prompt import Prompt
from pipeline.run import Run, open_run
from pipeline.runs import names, place
from pipeline.state import Batch, Stage
from pipeline.storage import NotFound, open_storage
from pipeline.submit import adopt

log = logging.getLogger(__name__)

_LABEL = re.compile(r"nightshoot-(?P<run>[0-9a-f]+)-(?P<batch>\d{5,})-(?P<digest>[0-9a-f]{12})")

_UNPAID = ("FAILED", "EXPIRED")
"""States in which a job of the Developer API has no result, and none is billed."""


@dataclass(slots=True)
class Orphan:
    """A remote job with a run's label that is no run's own."""

    job: RemoteJob
    run_id: str
    batch: int
    run: Run | None  # None: it is not in this folder
    why: str | None  # it cannot be adopted; None: it can
    likely: int | None  # what it costs or has cost; None: nobody can tell
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class Orphans:
    """All that were found, and whether the listing was read to its end."""

    found: tuple[Orphan, ...]
    complete: bool


def find_orphans(backend: Backend, folder: str, *, clock: Clock) -> Orphans:
    """Look through the account's jobs for those that no run of this folder has as its own. Changes nothing."""
    labelled: list[tuple[RemoteJob, re.Match[str]]] = []
    complete = True
    try:
        for job in backend.jobs():
            if match := _LABEL.fullmatch(job.label or ""):
                labelled.append((job, match))
    except Unavailable:
        complete = False
    runs = _runs_called({match["run"] for _, match in labelled}, folder, clock)
    own, disowned = _tickets(runs.values())
    alike = Counter(job.label for job, _ in labelled)
    found: list[Orphan] = []
    for job, match in labelled:
        if job.ticket in own:
            continue
        run, number = runs.get(match["run"]), int(match["batch"])
        batch = run.state.batches[number] if run and number < len(run.state.batches) else None
        why = _why_not(job, run, batch, backend, alike=alike[job.label])
        if job.ticket in disowned:
            why = "its run had sent this batch already, and has cancelled this one"
        elif why is None and not complete:
            why = "the listing broke off, and another job may carry its name"
        found.append(Orphan(job, match["run"], number, run, why, _likely(job, batch)))
    return Orphans(tuple(found), complete)


def take_in(orphan: Orphan, backend: Backend) -> None:
    """Make it its run's own, if it may be. The run then goes on with it as if it had never been lost."""
    if orphan.why is not None or orphan.run is None:
        return
    orphan.run.catch_up()
    orphan.adopted = adopt(orphan.run, backend, orphan.batch)
    if not orphan.adopted:
        orphan.why = "the run moved on meanwhile, or the listing shows something else now; look again"


def _runs_called(ids: set[str], folder: str, clock: Clock) -> dict[str, Run]:
    """The runs of a folder that have these ids. Of all others only the first record is read."""
    found: dict[str, Run] = {}
    for name in reversed(names(open_storage(folder)) if ids else []):
        if found.keys() == ids:
            break
        storage = open_storage(place(folder, name))
        try:
            first = from_json(storage.read(record_name(0))).event
        except (NotFound, Unknown, Unreadable) as error:
            log.warning("%s: passed over: its first record %s", storage.url, error)
            continue
        if isinstance(first, Created) and first.run in ids:
            found[first.run] = open_run(storage, clock)
    return found


def _tickets(runs: Iterable[Run]) -> tuple[set[str], set[str]]:
    """Every remote job that these runs ever had as their own, and those that they disowned."""
    own: set[str] = set()
    disowned: set[str] = set()
    for run in runs:
        for record in Journal(run.storage, run.clock, writer="").since(0):
            if isinstance(record.event, Submitted):
                own.add(record.event.ticket)
            elif isinstance(record.event, Disowned):
                disowned.add(record.event.ticket)
    return own, disowned


def _why_not(
    job: RemoteJob, run: Run | None, batch: Batch | None, backend: Backend, *, alike: int
) -> str | None:
    """Why a job cannot be adopted. None: it can."""
    if run is None:
        return "its run is not in this folder; --runs DIR looks elsewhere"
    if batch is None:
        return "its run knows no such batch"
    if batch.submitted is not None:
        return f"its run has another job for this batch, which is {batch.stage.value}"
    if batch.submitting is None or batch.stage not in (Stage.SUBMITTING, Stage.HELD):
        return f"its run is not sending this batch, which is {batch.stage.value}"
    if batch.submitting.label != job.label:
        return "its run asks something else in this batch"
    if batch.submitting.account != backend.account:
        return f"its run sends this batch with another key: {batch.submitting.account}"
    if batch.submitting.until > run.clock.now():
        return "it is being sent just now"
    if alike > 1:
        return f"{alike} jobs carry its name; cancel or remove all but one at Google, by hand"
    return None


def _likely(job: RemoteJob, batch: Batch | None) -> int | None:
    """What a job costs: as its run has planned it; else as so many pictures of its model usually do."""
    if job.state.endswith(_UNPAID):
        return 0
    if batch is not None and batch.planned is not None:
        return batch.planned.likely
    if job.model is None or job.requests is None:
        return None
    try:
        model = load_models().find(job.model)
        return estimate(Prompt(model=model.name, text=""), model).likely * job.requests
    except BadInput:
        return None


# --- said --------------------------------------------------------------------------------------------------------


def lines_of(found: Orphans) -> list[str]:
    """Two lines for each: which job it is, and what can be done with it."""
    lines = [] if found.found else ["  no job on this account is lost"]
    for orphan in found.found:
        job = orphan.job
        sent = f"sent {job.at:%Y-%m-%d %H:%M} UTC" if job.at else "sent nobody knows when"
        cost = "cost unknown" if orphan.likely is None else f"about {dollars(orphan.likely)}"
        pictures = f"{job.requests:,} requests, {cost}" if job.requests is not None else cost
        named = orphan.run.name if orphan.run is not None else f"run {orphan.run_id}"
        lines.append(f"  {job.ticket}  {plain(job.state)}, {sent}, {pictures}")
        lines.append(f"      {named}, batch {orphan.batch}: {_what(orphan)}")
    if not found.complete:
        lines.append("  the listing broke off: there may be more")
    return lines


def _what(orphan: Orphan) -> str:
    if orphan.adopted:
        return "adopted"
    return "can be adopted" if orphan.why is None else f"not adopted: {orphan.why}"


def plain(state: str) -> str:
    """A state without its prefix, as people say it."""
    return state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").lower().replace("_", " ")


def document_of(orphan: Orphan) -> dict[str, Any]:
    """One for programs."""
    job = orphan.job
    return {
        "job": job.ticket,
        "label": job.label,
        "run_id": orphan.run_id,
        "run": orphan.run.name if orphan.run is not None else None,
        "batch": orphan.batch,
        "model": job.model,
        "state": job.state,
        "at": job.at.isoformat() if job.at else None,
        "requests": job.requests,
        "likely_usd": None if orphan.likely is None else orphan.likely / 1e9,
        "adopted": orphan.adopted,
        "why_not": orphan.why,
    }
