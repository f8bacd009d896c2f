"""Vertex AI's batch prediction through google-genai: rows read from a bucket, answers written into it.

What it fears, beside what every backend does: that a row has no key here, so its label and the request that comes back
with it say who it is; and that nobody says whether a create call looks at its input, so one whose input was removed is
counted on to fail, not to be refused.
"""

import io
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import google.auth
import msgspec
from google import genai
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError
from google.oauth2.credentials import Credentials as Token

from pipeline.backends import imagen, lines, vertex_rows, wire
from pipeline.backends.base import (
    Attached,
    Candidate,
    Ending,
    Found,
    Gone,
    Missing,
    Offer,
    Origin,
    Outcome,
    Remote,
    RemoteJob,
)
from pipeline.backends.sdk import CONTROL_TIMEOUT, Calls, counters, ending_of, unreadable
from pipeline.clock import LOOPBACK
from pipeline.errors import BadInput, Denied
from pipeline.events import ResultFile
from pipeline.prompt import Prompt
from pipeline.references import reference_file
from pipeline.results import Line
from pipeline.storage import Bucket, NotFound, open_bucket

FOLDER = "vertex"
"""Below a run: what is shown to Vertex AI, and what it writes."""

JOBS = "batchPredictionJobs"
_OURS = re.compile(r"nightshoot-([0-9a-f]+)-(\d+)-([0-9a-f]+)")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Vertex:
    """A Backend in one project and location, for one run. `staging` is the place in a bucket that is the run's own."""

    reads_buckets = True
    life = timedelta(hours=72 + 24 + 24)  # 72 hours in the queue, 24 hours at work, and a day beyond

    def __init__(
        self,
        *,
        project: str,
        location: str,
        service: str,
        staging: str,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.account = f"vertex:{project}:{location}"
        self.service = service.rstrip("/")
        self._answered: dict[str, int] = {}  # of each job that goes on
        self._client = genai.Client(
            vertexai=True,
            project=project,
            location=location,
            credentials=credentials_for(self.service),
            http_options=genai.types.HttpOptions(base_url=self.service, timeout=int(CONTROL_TIMEOUT * 1000)),
        )
        self._calls = Calls(
            self._client,
            denied=f"give this account the role aiplatform.user in project {project}, and enable Vertex AI there",
            missing="a job is known only in the project and location that made it",
            gone=(404,),
        )
        self._buckets: dict[str, Bucket] = {}
        self._staging = staging.rstrip("/")
        self._labels = dict(labels or {})  # the user's own
        self._asked: dict[str, vertex_rows.Asked | None] = {}
        self._lock, self._reading = threading.Lock(), threading.Lock()

    def encode(self, wire_id: str, prompt: Prompt) -> bytes:
        return lines.encode(wire_id, prompt)

    def line_id(self, line: Line, *, ticket: str) -> str | None:
        return vertex_rows.identity(line, lambda: self._asked_by(ticket))

    def outcome(self, line: Line) -> Outcome:
        return vertex_rows.outcome(line)

    # --- before the money -------------------------------------------------------------------------------------------

    def attach(
        self, sha256: str, data: Callable[[], BinaryIO], *, mime: str, origin: Origin | None = None
    ) -> Attached:
        if origin is not None and self._is_unchanged(origin):
            return Attached(origin.address, None, "")
        address = f"{self._staging}/{reference_file(sha256, mime)}"
        bucket, name = self._place(address)
        try:
            bucket.version(name)  # of a run that lives in the bucket it is there already
        except NotFound:
            with data() as stream:
                bucket.put(name, stream, content_type=mime)
        return Attached(address, None, address)

    def _is_unchanged(self, origin: Origin) -> bool:
        bucket, name = self._place(origin.address)
        try:
            return bucket.version(name)[1] == origin.generation
        except (NotFound, BadInput, Denied):  # then the run's own copy is shown
            return False

    def stage(self, label: str, lines: Iterable[bytes]) -> str:
        address = f"{self._staging}/{FOLDER}/{label}-{secrets.token_hex(4)}.jsonl"
        rows = _Joined(vertex_rows.row(line, self._labels) + b"\n" for line in lines)
        bucket, name = self._place(address)
        bucket.put(name, io.BufferedReader(rows, 1 << 20), content_type="application/jsonl")
        return address

    def remote(self) -> Iterator[Remote]:
        for folder in (FOLDER, "references"):
            address = f"{self._staging}/{folder}/"
            bucket, prefix = self._place(address)
            for stored in bucket.files(prefix):
                inside = stored.name.removeprefix(prefix)
                called = re.match(r"(.+?)-[0-9a-f]{8}(?=[/.])", inside) if folder == FOLDER else None
                yield Remote(f"{address}{inside}", called[1] if called else "", stored.size)

    def unstage(self, staged: str) -> None:
        bucket, name = self._place(staged)
        bucket.remove(name)

    # --- the money --------------------------------------------------------------------------------------------------

    def submit(self, label: str, model: str, staged: str) -> str:
        config = genai.types.CreateBatchJobConfig(
            display_name=label,
            dest=staged.removesuffix(".jsonl"),  # its own: two jobs never write side by side
            # The SDK has no word for labels.
            http_options=genai.types.HttpOptions(extra_body={"labels": self._labels | labels_of(label)}),
        )
        return self._calls.create(
            lambda: self._client.batches.create(model=model, src=staged, config=config), staged
        )

    def ask(self, model: str, line: bytes, *, timeout: timedelta) -> bytes:
        path = f"publishers/google/models/{quote(model, safe='')}"
        if (body := imagen.predict_of(line, self._labels)) is not None:
            return self._calls.ask(f"{path}:predict", body, timeout=timeout)
        request = msgspec.json.decode(vertex_rows.row(line, self._labels))["request"]
        return self._calls.ask(f"{path}:generateContent", request, timeout=timeout)

    def time(self) -> datetime | None:
        return self._calls.time(JOBS)

    def find(self, label: str) -> Found:
        wanted = labels_of(label)

        def mine(job: dict[str, Any]) -> Candidate | None:
            labels = job.get("labels") or {}
            labelled = bool(wanted) and wanted.items() <= labels.items()
            if not labelled and job.get("displayName") != label:
                return None
            return Candidate(job.get("name") or "", _input_of(job))

        return self._calls.listing(JOBS, JOBS, mine)

    def cancel(self, ticket: str) -> None:
        self._calls.translated(lambda: self._client.batches.cancel(name=ticket), f"cancel {ticket}")

    # --- after it ---------------------------------------------------------------------------------------------------

    def ending(self, ticket: str) -> Ending | None:
        job = self._job(ticket)
        how, stats = ending_of(job.get("state")), counters(job.get("completionStats"))
        if how is None:
            self._answered[ticket] = sum(stats.get(f"{each}Count", 0) for each in ("successful", "failed"))
            return None
        directory = (job.get("outputInfo") or {}).get("gcsOutputDirectory")
        files = tuple(self._files(directory)) if directory else ()
        failure = job.get("error") or {}
        ending = Ending(
            how=how,
            at=wire.moment(job.get("endTime")) or wire.moment(job.get("updateTime")),
            files=files,
            stats=stats,
            error=self._calls.safe(str(failure["message"])) if failure.get("message") else None,
        )
        if not files and (how == "succeeded" or stats.get("successfulCount")):
            raise unreadable(ticket, ending)
        return ending

    def answered(self, ticket: str) -> int:
        return self._answered.get(ticket, 0)

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        address, _, version = file.rpartition("#")
        bucket, name = self._place(address)
        try:
            return bucket.open_version(name, int(version), start=start)
        except NotFound as error:
            raise Missing(
                f"{address} is not there any more", hint="restore it: it holds answers that were paid for"
            ) from error

    # --- for whoever looks ------------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[RemoteJob]:
        for job in self._calls.members(JOBS, JOBS):
            stats = counters(job.get("completionStats"))  # there are none before the end
            yield RemoteJob(
                ticket=job.get("name") or "",
                label=job.get("displayName"),
                model=str(job.get("model") or "").rpartition("/")[2] or None,
                state=str(job.get("state") or ""),
                at=wire.moment(job.get("createTime")),
                requests=sum(stats.values()) if stats else None,
            )

    def offer(self, model: str) -> Offer | None:
        try:
            self._calls.read(f"publishers/google/models/{quote(model.removeprefix('models/'), safe='')}")
        except Missing:
            return None
        return Offer(model, None)

    def raw(self, ticket: str) -> Mapping[str, Any]:
        return self._job(ticket)

    def takes_ranges(self, ticket: str, file: str) -> bool:
        with self.open(ticket, file, start=1, end=2) as stream:
            return len(stream.read(1)) == 1

    # --- inside -----------------------------------------------------------------------------------------------------

    def _job(self, ticket: str) -> dict[str, Any]:
        try:
            return self._calls.read(ticket)[0]
        except Missing as error:
            raise Gone(f"Google knows no {ticket}") from error

    def _files(self, directory: str) -> Iterator[ResultFile]:
        """The shards of a result. Their generation is part of their name, so that what was listed is what is read."""
        bucket, name = self._place(directory)
        for stored in bucket.files(f"{name.rstrip('/')}/predictions"):
            if stored.name.endswith(".jsonl"):
                address = f"{directory.removesuffix(name)}{stored.name}#{stored.version}"
                yield ResultFile(address, stored.size)

    def _place(self, address: str) -> tuple[Bucket, str]:
        """The bucket of an address, and the name in it."""
        called, _, name = address.removeprefix("gs://").partition("/")
        with self._lock:
            if called not in self._buckets:
                self._buckets[called] = open_bucket(f"gs://{called}")
            return self._buckets[called], name

    def _asked_by(self, ticket: str) -> vertex_rows.Asked | None:
        """What a job was asked, read from its own input. None: that is gone."""
        with self._reading:
            if ticket not in self._asked:
                self._asked = {ticket: self._read_input(ticket)}  # of one batch at a time
            return self._asked[ticket]

    def _read_input(self, ticket: str) -> vertex_rows.Asked | None:
        try:
            bucket, name = self._place(_input_of(self._job(ticket)) or "")
            with bucket.open_version(name, bucket.version(name)[1]) as lines:
                return vertex_rows.asked(lines)
        except (NotFound, Gone):
            return None


def credentials_for(service: str) -> Credentials:
    """Whose name is given to this service. An emulator on this machine is told no real one."""
    if urlsplit(service).hostname in LOOPBACK:
        return Token(token="emulator")  # type: ignore[no-untyped-call]
    try:
        return google.auth.default(scopes=[_SCOPE])[0]
    except DefaultCredentialsError as error:
        raise Denied(
            "no Google credentials on this machine",
            hint="run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
        ) from error


def labels_of(label: str) -> dict[str, str]:
    """A remote job's labels, for people who look at it in the console and for whoever looks for it: run, batch,
    digest. None where the label is not one of a run."""
    match = _OURS.fullmatch(label)
    if match is None:
        return {}
    return {"nightshoot-run": match[1], "nightshoot-batch": match[2], "nightshoot-digest": match[3]}


def _input_of(job: dict[str, Any]) -> str | None:
    uris = ((job.get("inputConfig") or {}).get("gcsSource") or {}).get("uris")
    return uris if isinstance(uris, str) else next(iter(uris or ()), None)


class _Joined(io.RawIOBase):
    """Lines as one stream, each made when it is read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._lines, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
