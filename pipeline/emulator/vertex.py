"""Vertex AI's batch prediction jobs: rows read from Cloud Storage, answers written there when a job is over.

As with the Developer API's jobs nothing runs in the background: a fate is drawn at creation, rows are read
when the clock says that the job begins, and files are written when it says that the job is over, whether it
came to its end, was cancelled, or ran out of time. What was done by then is written and billed.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from pipeline.emulator.answers import Answer, Maker
from pipeline.emulator.clock import SECOND, VirtualClock, moment
from pipeline.emulator.faults import JOB_FAULTS, Faults
from pipeline.emulator.fields import VERTEX_LINE
from pipeline.emulator.gcs_objects import Conditions, Draft, Objects
from pipeline.emulator.gcs_objects import Problem as StorageProblem
from pipeline.emulator.lines import Reference, seen
from pipeline.emulator.models import Model
from pipeline.emulator.problems import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    Problem,
    RowProblem,
)
from pipeline.emulator.reading import Reader
from pipeline.emulator.results import Emitted, lay_out, shuffle_of
from pipeline.emulator.settings import Settings
from pipeline.emulator.vertex_lines import echo, written

State = Literal["QUEUED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLING", "CANCELLED", "EXPIRED"]


@dataclass(slots=True)
class Prediction:
    """One accepted create: its rows, and what has become of them."""

    number: int
    id: str
    parent: str  # projects/<project>/locations/<location>
    account: str
    model: Model
    asked: dict[str, Any]  # the resource as it was sent
    created: int
    starts: int
    ends: int
    cancelling: int  # nanoseconds it takes to stop
    deadline: int  # when it expires, running or not
    faults: dict[str, dict[str, Any]]
    cancelled: int | None = None
    deleted: bool = False
    answers: list[Answer] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)  # of each row in the spool
    spool: Path | None = None
    begun: bool = False
    exported: bool = False
    error: tuple[int, str] | None = None
    weight: int | None = None  # tokens it holds while it waits and runs, once somebody has counted
    done_answers: list[Answer] | None = None  # those it came to, once it is over

    @property
    def name(self) -> str:
        return f"{self.parent}/batchPredictionJobs/{self.id}"

    @property
    def display_name(self) -> str | None:
        name: str | None = self.asked.get("displayName")
        return name

    @property
    def directory(self) -> str:
        prefix = self.asked["outputConfig"]["gcsDestination"]["outputUriPrefix"].rstrip("/")
        return f"{prefix}/prediction-model-{moment(self.created).isoformat(timespec='microseconds')[:26]}Z"

    @property
    def rows(self) -> int:
        return len(self.answers)

    @property
    def over(self) -> int:
        """When nothing more is done for it."""
        end = min(self.ends, self.deadline)
        if self.error is not None:
            return self.starts
        if self.cancelled is None or self.cancelled >= end or "finishes_after_cancel" in self.faults:
            return end
        return self.cancelled + self.cancelling

    def state(self, now: int) -> tuple[State, int]:
        """The state at a moment, and since when."""
        end = min(self.ends, self.deadline)
        if self.cancelled is not None and self.cancelled < end and self.cancelled <= now:
            stopped = self.cancelled + self.cancelling
            if not ("finishes_after_cancel" in self.faults and now >= end):
                return ("CANCELLING", self.cancelled) if now < stopped else ("CANCELLED", stopped)
        if self.error is not None and now >= self.starts:
            return "FAILED", self.starts
        if now < end:
            return self._under_way(now)
        if self.ends > self.deadline:
            return "EXPIRED", self.deadline
        if "job_failed" in self.faults:
            return "FAILED", self.ends
        return ("CANCELLED" if "job_cancelled" in self.faults else "SUCCEEDED"), self.ends

    def _under_way(self, now: int) -> tuple[State, int]:
        prepared = self.created + (self.starts - self.created) // 2
        if now >= self.starts:
            return "RUNNING", self.starts
        return ("PENDING", prepared) if now >= prepared else ("QUEUED", self.created)

    def done(self, now: int) -> int:
        """How many of its rows are answered; they are done in the order of the result."""
        state, _ = self.state(now)
        if state == "SUCCEEDED":
            return self.rows
        if state in ("QUEUED", "PENDING") or self.error is not None or "job_failed" in self.faults:
            return 0
        until = min(now, self.ends, self.deadline, self.ends if self.cancelled is None else self.cancelled)
        if until <= self.starts or self.ends <= self.starts:
            return 0
        return self.rows * (until - self.starts) // (self.ends - self.starts)

    @property
    def delivery(self) -> int:
        """When its files can be had: some jobs are over for a while before."""
        late = self.faults["late_output"]["seconds"] if "late_output" in self.faults else 0
        return self.over + round(late * SECOND)

    def ended(self, now: int) -> bool:
        return self.state(now)[0] in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


class Predictions:
    """All projects' jobs."""

    def __init__(self, settings: Settings, clock: VirtualClock, objects: Objects, faults: Faults) -> None:
        self._settings = settings
        self._clock = clock
        self._objects = objects
        self._faults = faults
        self._seen: dict[tuple[str, str, int], Reference] = {}
        self.jobs: dict[str, Prediction] = {}

    def create(self, parent: str, account: str, *, model: Model, asked: dict[str, Any]) -> Prediction:
        """Accept a job. Saying it twice makes two, and both are paid for."""
        number, now = len(self.jobs) + 1, self._clock.now()
        faults = self._fate(asked.get("displayName"), model)
        draw = Random(f"{self._settings.seed} prediction {number}")
        queue, run = draw.uniform(*self._settings.queue), draw.uniform(*self._settings.run)
        stall = faults.get("job_stalled")
        if stall is not None and stall["state"] == "RUNNING":
            run += stall["seconds"]
        elif stall is not None:
            queue += stall["seconds"]
        if "job_expired" in faults:
            run += 2 * self._settings.run_life
        starts = now + round(queue * SECOND)
        expires = now + round(self._settings.queue_life * SECOND)
        job = Prediction(
            number=number,
            id=str(draw.randrange(10**18, 9 * 10**18)),
            parent=parent,
            account=account,
            model=model,
            asked=asked,
            created=now,
            starts=starts,
            ends=starts + round(run * SECOND),
            cancelling=round(self._settings.cancelling * SECOND),
            deadline=starts + round(self._settings.run_life * SECOND) if starts < expires else expires,
            faults=faults,
        )
        self.jobs[job.id] = job
        return job

    def get(self, parent: str, job_id: str) -> Prediction:
        job = self.jobs.get(job_id)
        if job is None or job.parent != parent or job.deleted:
            raise Problem(404, f"The BatchPredictionJob {parent}/batchPredictionJobs/{job_id} was not found.")
        return job

    def of(self, parent: str) -> Iterator[Prediction]:
        """The jobs of a place, newest first."""
        return (job for job in reversed(self.jobs.values()) if job.parent == parent and not job.deleted)

    def cancel(self, job: Prediction) -> None:
        """Begin to stop the job; one that has ended stays as it is."""
        now = self._clock.now()
        if job.cancelled is None and not job.ended(now):
            job.cancelled = now

    def delete(self, job: Prediction) -> None:
        """Take an ended job from every listing. What it wrote stays."""
        if not job.ended(self._clock.now()):
            raise Problem(400, "The job has not ended; cancel it first.", status="FAILED_PRECONDITION")
        job.deleted = True

    def due(self) -> bool:
        now = self._clock.now()
        return any(
            self._to_begin(job, now) or self._to_settle(job, now) or self._to_export(job, now)
            for job in self.jobs.values()
        )

    def begin_due(self) -> list[tuple[str, Draft, int]]:
        """Read the rows of every job that was to begin by now, and write the answers of those that are over.

        The files it returns are whole and not yet to be seen: `publish` makes them so, on the server's loop.
        """
        now = self._clock.now()
        for job in [job for job in self.jobs.values() if self._to_begin(job, now)]:
            self._begin(job)
        for job in [job for job in self.jobs.values() if self._to_settle(job, now)]:
            job.done_answers = ready(job, self._settings)[: job.done(job.over)]
        files = []
        for job in [job for job in self.jobs.values() if self._to_export(job, now)]:
            files += list(self._export(job))
            job.exported = True
            self._forget(job)
        return files

    def publish(self, files: list[tuple[str, Draft, int]]) -> None:
        """Make written files objects, dated by the end of their job. Call it on the server's loop."""
        for uri, draft, at in files:
            bucket, name = split(uri)
            try:
                self._objects.insert(
                    bucket,
                    name,
                    draft.finish(),
                    fields={"contentType": "application/octet-stream"},
                    conditions=Conditions(),
                    at=moment(at),
                )
            except StorageProblem:
                draft.drop()  # the bucket went meanwhile, and the answers with it

    def _to_begin(self, job: Prediction, now: int) -> bool:
        stopped = job.cancelled is not None and job.cancelled <= job.starts
        expired = job.starts > job.deadline
        return (
            not job.begun
            and job.starts <= now
            and not expired
            and (not stopped or "finishes_after_cancel" in job.faults)
        )

    def _to_settle(self, job: Prediction, now: int) -> bool:
        return job.begun and job.done_answers is None and now >= job.over

    def _to_export(self, job: Prediction, now: int) -> bool:
        return job.begun and not job.exported and now >= job.delivery and job.error is None

    def _fate(self, display_name: str | None, model: Model) -> dict[str, dict[str, Any]]:
        taken = (
            (kind, self._faults.take(kind, display_name=display_name, model=model.name))
            for kind in JOB_FAULTS
        )
        return {kind: arguments for kind, arguments in taken if arguments is not None}

    def _begin(self, job: Prediction) -> None:
        job.begun = True
        if self._faults.retired(job.model.name, at=job.starts):
            job.error = (NOT_FOUND, f"Publisher Model {job.model.name} was not found.")
            return
        # Pictures of 1K are all that batch prediction makes.
        model = replace(job.model, tokens={"1K": job.model.tokens["1K"]})
        reader = Reader(
            self._settings,
            self._faults,
            model=model,
            display_name=job.display_name,
            resolve=self.reference,
            lenient="lenient" in job.faults,
            shape=VERTEX_LINE,
        )
        descriptor, path = tempfile.mkstemp(dir=self._objects.folder, prefix="rows-")
        job.spool = Path(path)
        try:
            with os.fdopen(descriptor, "w+b") as spool:
                for number, value in reader.loaded(self._lines(inputs_of(job.asked))):
                    request = {"request": value.get("request")}
                    kept = echo(request["request"])
                    job.spans.append((spool.tell(), len(kept)))
                    spool.write(kept)
                    job.answers.append(reader.answer(request, number, key=str(number - 1), where=""))
        except RowProblem as problem:
            job.error = (problem.code, problem.message)
        except StorageProblem as problem:
            job.error = (NOT_FOUND, f"Failed to import data. {problem.message}")
        if job.error is not None:
            job.answers.clear()
            self._forget(job)

    def lines(self, job: Prediction) -> Iterator[bytes]:
        """What it is to read, as far as it is there."""
        return self.read_lines(inputs_of(job.asked))

    def read_lines(self, uris: list[str]) -> Iterator[bytes]:
        """Every line of these objects, for whom nothing depends on it: what is missing has none."""
        try:
            yield from self._lines(uris)
        except (RowProblem, StorageProblem):
            return

    def _lines(self, uris: list[str]) -> Iterator[bytes]:
        rows = size = 0
        for uri in uris:
            with self._objects.find(*split(uri)).body.open() as file:
                for line in file:
                    rows, size = rows + 1, size + len(line)
                    if rows > self._settings.vertex_rows or size > self._settings.vertex_bytes:
                        raise RowProblem(
                            INVALID_ARGUMENT, "The input has too many rows or bytes for one job."
                        )
                    if line.strip():
                        yield line

    def reference(self, uri: str) -> Reference:
        """What a `gs://` name shows as of now. A Files API's address means nothing here."""
        if not uri.startswith("gs://"):
            raise RowProblem(INVALID_ARGUMENT, f"Cannot fetch content from the provided URL: {uri}")
        try:
            found = self._objects.find(*split(uri))
        except StorageProblem as problem:
            raise RowProblem(PERMISSION_DENIED, f"{uri}: {problem.message}") from None
        place = (found.bucket, found.name, found.generation)
        if place not in self._seen:
            with found.body.open() as data:
                self._seen[place] = seen(data.read())
        return self._seen[place]

    def _export(self, job: Prediction) -> Iterator[tuple[str, Draft, int]]:
        """The answers that were ready, in another order than they were asked, over several files."""
        if not job.done_answers or job.spool is None:
            return
        ready_ones = set(map(id, job.done_answers))
        shuffle = shuffle_of(job.answers, job.faults, self._settings)
        lines = [line for line in lay_out(job.answers, shuffle=shuffle) if id(line.answer) in ready_ones]
        count = max(1, min(self._settings.shards, len(lines)))
        maker = Maker(
            job.model,
            self._settings.picture_bytes,
            "vertex",
            marked=self._settings.c2pa,
            keys=self._settings.show_keys,
        )
        with job.spool.open("rb") as spool:
            for shard in range(count):
                draft = self._objects.draft()
                for line in lines[shard::count]:
                    draft.write(written(line, maker, spool, spans=job.spans, at=self._at(job, line)))
                if "cut_last_line" in job.faults:
                    draft.write(b'{"status":"","processed_time":"')
                of = f"-{shard + 1:05d}-of-{count:05d}" if count > 1 else ""
                yield f"{job.directory}/predictions{of}.jsonl", draft, job.over

    def _at(self, job: Prediction, line: Emitted) -> int:
        """When a row was done: the rows are spread over the time it took."""
        return job.starts + (job.over - job.starts) * (1 + int(line.answer.key or 0)) // (job.rows + 1)

    def _forget(self, job: Prediction) -> None:
        if job.spool is not None:
            job.spool.unlink(missing_ok=True)
            job.spool = None


def ready(job: Prediction, settings: Settings) -> list[Answer]:
    """The answers in the order in which they got ready."""
    order = list(job.answers)
    shuffle = shuffle_of(job.answers, (), settings)
    Random(f"ready {shuffle}").shuffle(order)
    return order


def inputs_of(asked: dict[str, Any]) -> list[str]:
    """The objects a job reads; the documentation shows one as a bare string."""
    uris = asked["inputConfig"]["gcsSource"]["uris"]
    return [uris] if isinstance(uris, str) else list(uris)


def split(uri: str) -> tuple[str, str]:
    """Bucket and name of a `gs://` address."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name
