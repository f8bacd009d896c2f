"""The Gemini Developer API through google-genai.

What it fears: the SDK drops an operation's error, its counters and its response, and fails on odd ones, so operations
are read raw; and neither its uploads nor its downloads continue after a cut, so those are our own.
"""

import hashlib
import io
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import httpx2
import msgspec
from google import genai
from google.genai import errors as genai_errors

from pipeline.backends import lines, wire
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
from pipeline.backends.downloads import CHUNK, Download, total_of
from pipeline.backends.sdk import CONTROL_TIMEOUT, Calls, counters, ending_of, unreadable
from pipeline.backends.uploads import Uploads
from pipeline.clock import Clock
from pipeline.errors import Unavailable
from pipeline.events import ResultFile
from pipeline.prompt import Prompt
from pipeline.results import Line


def fingerprint(key: str) -> str:
    """An account's name in records and messages: enough to tell keys apart, nothing to use one with."""
    return f"developer:{hashlib.sha256(key.encode()).hexdigest()[:8]}:{key[-4:] if len(key) >= 16 else ''}"


class Developer:
    """A Backend on one API key."""

    reads_buckets = False
    life = timedelta(hours=72)  # Google ends a job after 48 hours

    def __init__(self, *, key: str, service: str, clock: Clock) -> None:
        self.account = fingerprint(key)
        self.service = service.rstrip("/")
        self._clock = clock
        self._key = key
        self._answered: dict[str, int] = {}  # of each job that goes on
        options = genai.types.HttpOptions(base_url=self.service, timeout=int(CONTROL_TIMEOUT * 1000))
        # vertexai is said out loud: an environment that asks for Vertex must not turn this key's client into another.
        self._client = genai.Client(vertexai=False, api_key=key, http_options=options)
        self._calls = Calls(
            self._client,
            denied="check GEMINI_API_KEY: is it the key that made this run, and is billing on?",
            missing="a job or file is visible only to the key that made it",
            gone=(403, 404),  # files of others and missing ones are told alike
            key=key,
        )
        self._version = self._client._api_client._http_options.api_version or "v1"
        self._http = httpx2.Client(
            timeout=httpx2.Timeout(CONTROL_TIMEOUT, read=CONTROL_TIMEOUT), headers={"x-goog-api-key": key}
        )
        weakref.finalize(self, self._http.close)
        self._uploads = Uploads(
            f"{self.service}/upload/{self._version}/files",
            headers={"x-goog-api-key": key},
            account=self.account,
            clock=clock,
            explain=self._calls.explain,
        )

    def encode(self, wire_id: str, prompt: Prompt) -> bytes:
        return lines.encode(wire_id, prompt)

    def line_id(self, line: Line, *, ticket: str) -> str | None:
        key = line.body.get("key") if line.body else None
        return key if isinstance(key, str) else None

    def outcome(self, line: Line) -> Outcome:
        assert line.body is not None, "an unreadable line has no outcome"
        return wire.outcome(line.body)

    # --- before the money -------------------------------------------------------------------------------------------

    def attach(
        self, sha256: str, data: Callable[[], BinaryIO], *, mime: str, origin: Origin | None = None
    ) -> Attached:
        with data() as stream:
            file = self._uploads.send(stream, sha256=sha256, mime=mime, name=f"nightshoot-{sha256[:16]}")
        if not isinstance(file.get("uri"), str):
            raise Unavailable(
                f"the upload of reference {sha256[:16]} was answered without a URI", hint="try again"
            )
        return Attached(file["uri"], wire.moment(file.get("expirationTime")), str(file["name"]))

    def stage(self, label: str, lines: Iterable[bytes]) -> str:
        digest = hashlib.sha256()
        with tempfile.TemporaryFile() as spool:
            for line in lines:
                digest.update(line + b"\n")
                spool.write(line + b"\n")
            file = self._uploads.send(
                cast("BinaryIO", spool),
                sha256=digest.hexdigest(),
                mime="application/jsonl",
                name=label,
            )
        return str(file["name"])

    def remote(self) -> Iterator[Remote]:
        for file in self._calls.members("files", "files"):
            label = file.get("displayName") or ""
            if label.startswith("nightshoot-") and file.get("source") != "GENERATED":
                yield Remote(file.get("name") or "", label, int(file.get("sizeBytes") or 0))

    def unstage(self, staged: str) -> None:
        try:
            self._client.files.delete(name=staged)
        except genai_errors.APIError as error:
            if error.code not in (403, 404):  # gone already: files of others and missing ones are told alike
                raise self._calls.explain(error, f"remove {staged}") from error
        except httpx2.HTTPError as error:
            raise self._calls.explain(error, f"remove {staged}") from error

    # --- the money --------------------------------------------------------------------------------------------------

    def submit(self, label: str, model: str, staged: str) -> str:
        return self._calls.create(
            lambda: self._client.batches.create(model=model, src=staged, config={"display_name": label}),
            staged,
        )

    def ask(self, model: str, line: bytes, *, timeout: timedelta) -> bytes:
        request = msgspec.json.decode(line)["request"]
        return self._calls.ask(f"models/{quote(model, safe='')}:generateContent", request, timeout=timeout)

    def time(self) -> datetime | None:
        return self._calls.time("batches")

    def find(self, label: str) -> Found:
        def mine(operation: dict[str, Any]) -> Candidate | None:
            metadata = operation.get("metadata") or {}
            if metadata.get("displayName") != label:
                return None
            name = operation.get("name") or metadata.get("name") or ""
            return Candidate(name, (metadata.get("inputConfig") or {}).get("fileName"))

        return self._calls.listing("batches", "operations", mine)

    def cancel(self, ticket: str) -> None:
        self._calls.translated(lambda: self._client.batches.cancel(name=ticket), f"cancel {ticket}")

    # --- after it ---------------------------------------------------------------------------------------------------

    def ending(self, ticket: str) -> Ending | None:
        try:
            operation, _ = self._calls.read(ticket)
        except Missing as error:
            raise Gone(f"Google knows no {ticket}") from error
        metadata = operation.get("metadata") or {}
        stats = counters(metadata.get("batchStats"))
        how = ending_of(metadata.get("state"))
        if how is None:
            self._answered[ticket] = sum(
                stats.get(f"{each}RequestCount", 0) for each in ("successful", "failed")
            )
            return None
        answer = operation.get("response") or {}
        name = (metadata.get("output") or {}).get("responsesFile") or answer.get("responsesFile")
        files = () if not name else (ResultFile(name, self._size(name)),)
        failure = operation.get("error") or {}
        ending = Ending(
            how=how,
            at=wire.moment(metadata.get("endTime")) or wire.moment(metadata.get("updateTime")),
            files=tuple(file for file in files if file.size is not None),
            stats=stats,
            error=self._calls.safe(str(failure["message"])) if failure.get("message") else None,
        )
        if how == "succeeded" and not ending.files:
            raise unreadable(ticket, ending)
        return ending

    def answered(self, ticket: str) -> int:
        return self._answered.get(ticket, 0)

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        return io.BufferedReader(
            Download(self._http, self._url(file), start, clock=self._clock, explain=self._calls.explain),
            CHUNK,
        )

    # --- for whoever looks ------------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[RemoteJob]:
        for operation in self._calls.members("batches", "operations"):
            metadata = operation.get("metadata") or {}
            yield RemoteJob(
                ticket=operation.get("name") or metadata.get("name") or "",
                label=metadata.get("displayName"),
                model=str(metadata.get("model") or "").removeprefix("models/") or None,
                state=str(metadata.get("state") or ""),
                at=wire.moment(metadata.get("createTime")),
                requests=counters(metadata.get("batchStats")).get("requestCount"),
            )

    def offer(self, model: str) -> Offer | None:
        try:
            body, _ = self._calls.read(f"models/{quote(model.removeprefix('models/'), safe='')}")
        except Missing:
            return None
        methods = body.get("supportedGenerationMethods")
        return Offer(model, "batchGenerateContent" in methods if isinstance(methods, list) else None)

    def raw(self, ticket: str) -> Mapping[str, Any]:
        try:
            return self._calls.read(ticket)[0]
        except Missing as error:
            raise Gone(f"Google knows no {ticket}") from error

    def takes_ranges(self, ticket: str, file: str) -> bool:
        try:
            with self._http.stream("GET", self._url(file), headers={"range": "bytes=1-1"}) as answer:
                if answer.status_code in (200, 206):
                    return answer.status_code == 206
                answer.read()
        except httpx2.HTTPError as error:
            raise self._calls.explain(error, f"ask for a byte of {file}") from error
        raise self._calls.of_status(answer.status_code, answer.text, f"ask for a byte of {file}")

    def _url(self, file: str) -> str:
        return f"{self.service}/{self._version}/{file}:download?alt=media"

    def _size(self, file: str) -> int | None:
        """How long a result is. None: it cannot be read yet. Its metadata cannot be asked for: its id is too long."""
        try:
            with self._http.stream("GET", self._url(file), headers={"range": "bytes=0-0"}) as answer:
                if answer.status_code == 416:
                    return 0
                if answer.status_code == 206:
                    return total_of(answer.headers.get("content-range", ""))
                if answer.status_code == 200:
                    length = answer.headers.get("content-length")
                    return int(length) if length else None
                if answer.status_code in (404, 429) or answer.status_code >= 500:
                    return None
                answer.read()
        except httpx2.HTTPError as error:
            raise self._calls.explain(error, f"ask for the size of {file}") from error
        raise self._calls.of_status(answer.status_code, answer.text, f"ask for the size of {file}")
