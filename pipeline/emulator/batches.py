"""Batch jobs: accepted, queued, run and ended by the clock; what each state looks like on the wire.

Nothing runs in the background. A job's fate is drawn when it is created, its rows are read when it is due
to begin, and its state is worked out whenever somebody asks.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from pipeline.emulator.answers import Answer, Maker
from pipeline.emulator.clock import SECOND, VirtualClock, rfc3339
from pipeline.emulator.faults import JOB_FAULTS, Faults
from pipeline.emulator.files import File, Files
from pipeline.emulator.lines import load
from pipeline.emulator.models import Model
from pipeline.emulator.problems import CANCELLED, DEADLINE_EXCEEDED, NOT_FOUND, Problem, RowProblem
from pipeline.emulator.reading import Reader
from pipeline.emulator.results import Result, lay_out, shuffle_of
from pipeline.emulator.settings import Settings

TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."

State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]


@dataclass(slots=True)
class Job:
    """One accepted create. It is in the ledger from then on, whatever becomes of it."""

    number: int
    id: str
    account: str
    model: Model
    display_name: str | None
    priority: int
    source: File | list[bytes]  # a file's, or the lines of an inline job
    webhook: dict[str, Any] | None  # who wants to be told of its end, instead of those registered
    created: int
    starts: int
    ends: int
    expires: int
    faults: dict[str, dict[str, Any]]
    cancelled: int | None = None
    deleted: bool = False
    answers: list[Answer] = field(default_factory=list)
    result: Result | None = None  # known once the job has begun
    error: tuple[int, str] | None = None  # of the whole job
    weight: int | None = None  # tokens it holds while it waits and runs, once somebody has counted

    @property
    def name(self) -> str:
        return f"batches/{self.id}"

    @property
    def output(self) -> str:
        return f"files/batch-{self.id}"

    @property
    def rows(self) -> int:
        if self.result is not None:
            return len(self.answers)
        return self.source.rows if isinstance(self.source, File) else len(self.source)

    def state(self, now: int) -> tuple[State, int]:
        """The state at a moment, and since when."""
        end = min(self.ends, self.expires)
        stopped = self.cancelled is not None and self.cancelled < end and self.cancelled <= now
        if (
            stopped
            and self.cancelled is not None
            and not ("finishes_after_cancel" in self.faults and now >= end)
        ):
            return "CANCELLED", self.cancelled
        if now >= self.starts and self.error is not None:
            return "FAILED", self.starts
        if now < end:
            return ("RUNNING", self.starts) if now >= self.starts else ("PENDING", self.created)
        if self.ends > self.expires:
            return "EXPIRED", self.expires
        if "job_failed" in self.faults:
            return "FAILED", self.ends
        return ("CANCELLED" if "job_cancelled" in self.faults else "SUCCEEDED"), self.ends

    def billed(self, now: int) -> bool:
        """Whether its rows have been paid for: those of a job that has succeeded."""
        return self.state(now)[0] == "SUCCEEDED"

    def delivered(self, now: int) -> bool:
        """Whether its result can be had: some jobs have succeeded for a while before it can."""
        late = self.faults["late_output"]["seconds"] if "late_output" in self.faults else 0
        return self.state(now)[0] == "SUCCEEDED" and now >= self.ends + round(late * SECOND)


class Batches:
    """All accounts' jobs."""

    def __init__(self, settings: Settings, clock: VirtualClock, files: Files, faults: Faults) -> None:
        self._settings = settings
        self._clock = clock
        self._files = files
        self._faults = faults
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []

    def state(self) -> tuple[Any, ...]:
        return self._jobs, self._waiting

    def take_up(self, state: tuple[Any, ...]) -> None:
        """Go on with these jobs; results are laid out again from their answers."""
        self._jobs, self._waiting = state
        for job in self._jobs.values():
            if job.answers and job.error is None:
                self._finish(job)

    def create(
        self,
        account: str,
        *,
        model: Model,
        source: File | list[bytes],
        display_name: str | None = None,
        priority: int = 0,
        webhook: dict[str, Any] | None = None,
    ) -> Job:
        """Accept a job. Saying it twice makes two, and both are paid for."""
        now = self._clock.now()
        active = sum(job.state(now)[0] in ("PENDING", "RUNNING") for job in self.of(account))
        if active >= self._settings.jobs_limit:
            raise Problem(
                429, f"There are {active} batch jobs already; {self._settings.jobs_limit} can be at once."
            )
        number = len(self._jobs) + 1
        faults = self._fate(display_name, model)
        starts, ends = self._schedule(number, now, faults)
        job = Job(
            number=number,
            id=hashlib.sha256(f"{self._settings.seed} job {number}".encode()).hexdigest()[:36],
            account=account,
            model=model,
            display_name=display_name,
            priority=priority,
            source=source,
            webhook=webhook,
            created=now,
            starts=starts,
            ends=ends,
            expires=now + round(self._settings.job_life * SECOND),
            faults=faults,
        )
        if isinstance(source, File):
            source.users += 1
        self._jobs[job.id] = job
        self._waiting.append(job)
        return job

    def get(self, account: str, job_id: str) -> Job:
        """The job. Problem 404 for those of other accounts."""
        job = self._jobs.get(job_id)
        if job is None or job.account != account or job.deleted:
            raise Problem(404, f"Batch batches/{job_id} was not found, or the key may not see it.")
        return job

    def of(self, account: str) -> Iterator[Job]:
        """The account's jobs, newest first."""
        return (job for job in reversed(self._jobs.values()) if job.account == account and not job.deleted)

    def all(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def cancel(self, job: Job) -> None:
        """Stop the job where it is; one that has ended stays as it is."""
        now = self._clock.now()
        if job.state(now)[0] in ("PENDING", "RUNNING"):
            job.cancelled = now

    def delete(self, job: Job) -> None:
        """Stop the job and take it from every listing; its result goes with it."""
        self.cancel(job)
        job.deleted = True

    def due(self) -> bool:
        now = self._clock.now()
        return any(job.starts <= now for job in self._waiting)

    def begin_due(self) -> None:
        """Read the rows of every job that was to begin by now, in the order they began: faults count
        attempts.
        """
        now = self._clock.now()
        due = sorted(
            (job for job in self._waiting if job.starts <= now), key=lambda job: (job.starts, job.number)
        )
        for job in due:
            self._waiting.remove(job)
            stopped = job.cancelled is not None and job.cancelled <= job.starts
            if not stopped or "finishes_after_cancel" in job.faults:
                self._begin(job)
            if isinstance(job.source, File):
                job.source.users -= 1

    def _fate(self, display_name: str | None, model: Model) -> dict[str, dict[str, Any]]:
        taken = (
            (kind, self._faults.take(kind, display_name=display_name, model=model.name))
            for kind in JOB_FAULTS
        )
        return {kind: arguments for kind, arguments in taken if arguments is not None}

    def _schedule(self, number: int, now: int, faults: dict[str, dict[str, Any]]) -> tuple[int, int]:
        draw = Random(f"{self._settings.seed} job {number}")
        queue, run = draw.uniform(*self._settings.queue), draw.uniform(*self._settings.run)
        stall = faults.get("job_stalled")
        if stall is not None and stall["state"] == "PENDING":
            queue += stall["seconds"]
        elif stall is not None:
            run += stall["seconds"]
        if "job_expired" in faults:
            run += 2 * self._settings.job_life
        starts = now + round(queue * SECOND)
        return starts, starts + round(run * SECOND)

    def _begin(self, job: Job) -> None:
        if self._faults.retired(job.model.name, at=job.starts):
            job.error = (NOT_FOUND, f"models/{job.model.name} is no longer available.")
            return
        reader = Reader(
            self._settings,
            self._faults,
            model=job.model,
            display_name=job.display_name,
            resolve=lambda uri: self._files.reference(job.account, uri, at=job.starts),
            lenient="lenient" in job.faults,
        )
        try:
            job.answers = reader.keyed(self.lines(job))
        except RowProblem as problem:
            job.error = (problem.code, problem.message)
            return
        self._finish(job)

    def _finish(self, job: Job) -> None:
        """Lay out the answers of a job as its result."""
        lines = lay_out(job.answers, shuffle=shuffle_of(job.answers, job.faults, self._settings))
        maker = Maker(
            job.model,
            self._settings.picture_bytes,
            marked=self._settings.c2pa,
            keys=self._settings.show_keys,
        )
        job.result = Result(maker, lines, cut="cut_last_line" in job.faults)

    def lines(self, job: Job) -> Iterator[bytes]:
        """What it is to read, until it has begun."""
        return lines_of(job.source)


def lines_of(source: File | list[bytes]) -> Iterator[bytes]:
    """Lines end at \n and nowhere else; empty ones are none."""
    if isinstance(source, list):
        yield from source
        return
    with source.path.open("rb") as file:
        yield from (line for line in file if line.strip())


def operation(job: Job, now: int, *, outputs: bool = True, state: str | None = None) -> dict[str, Any]:
    """The job as the service shows it: an Operation, int64 as strings, members that are zero left out."""
    known, since = job.state(now)
    metadata: dict[str, Any] = {"@type": f"{TYPE}GenerateContentBatch", "model": f"models/{job.model.name}"}
    if job.display_name is not None:
        metadata["displayName"] = job.display_name
    if isinstance(job.source, File):
        metadata["inputConfig"] = {"fileName": job.source.name}
    metadata["createTime"] = rfc3339(job.created)
    ended = known in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
    if ended:
        metadata["endTime"] = rfc3339(since)
    metadata["updateTime"] = rfc3339(since)
    if counters := stats(job, known, now):
        metadata["batchStats"] = counters
    if job.priority:
        metadata["priority"] = str(job.priority)
    metadata |= {"state": state or f"BATCH_STATE_{known}", "name": job.name}
    whole: dict[str, Any] = {"name": job.name, "metadata": metadata}
    if not ended or state:
        return whole
    whole["done"] = True
    if known != "SUCCEEDED":
        return whole | {"error": dict(zip(("code", "message"), ending(job, known), strict=True))}
    output = output_of(job) if outputs and job.delivered(now) else {}
    if output:
        metadata["output"] = output
    return whole | {"response": {"@type": f"{TYPE}GenerateContentBatchOutput", **output}}


def ending(job: Job, state: State) -> tuple[int, str]:
    """Why there is no result, as google.rpc has it."""
    match state:
        case "CANCELLED":
            return CANCELLED, "The operation was cancelled."
        case "EXPIRED":
            return DEADLINE_EXCEEDED, "The batch was not processed in time and has expired."
        case _ if job.error is not None:
            return job.error
        case _:
            arguments = job.faults["job_failed"]
            return arguments["code"], arguments["message"]


def stats(job: Job, state: State, now: int) -> dict[str, str]:
    """Counters, as far as it is: nobody says how Google's move while a job runs, so here they keep pace with time."""
    shape = job.faults["stats_odd"]["shape"] if "stats_odd" in job.faults else None
    if shape == "absent":
        return {}
    failed = sum(answer.error is not None for answer in job.answers)
    counts = {"requestCount": job.rows}
    if state == "SUCCEEDED":
        counts |= {"successfulRequestCount": job.rows - failed, "failedRequestCount": failed}
    elif state in ("PENDING", "RUNNING"):
        done = job.rows * (now - job.starts) // max(1, job.ends - job.starts) if state == "RUNNING" else 0
        counts |= {"successfulRequestCount": done, "pendingRequestCount": job.rows - done}
    else:
        counts["failedRequestCount"] = job.rows
    if shape == "zero":
        return dict.fromkeys(counts, "0")
    return {name: str(count) for name, count in counts.items() if count}


def output_of(job: Job) -> dict[str, Any]:
    if isinstance(job.source, File) or job.result is None:
        return {"responsesFile": job.output}
    # Inline results are the one thing made whole in memory, as the service makes them.
    lines = (job.result.line(number) for number in range(len(job.result)))
    return {"inlinedResponses": {"inlinedResponses": [inlined(line) for line in lines]}}


def inlined(data: bytes) -> dict[str, Any]:
    try:
        line = load(data, where="result")
    except RowProblem:
        return {}
    key = line.pop("key", None)
    return ({"metadata": {"key": key}} if key is not None else {}) | line
