"""The Gemini Developer API through google-genai: the only module that knows that SDK.

What it fears: the SDK drops an operation's error, its counters and its response, and fails on odd ones, so operations
are read raw; its create call has no request id, so it is sent once and never repeated here; and neither its uploads
nor its downloads continue after a cut.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx2
import msgspec
from google import genai
from google.genai import errors as genai_errors

from pipeline.backends import wire
from pipeline.backends.base import Attached, Candidate, Ending, Found, Gone, MaybeBought, NotBought, Outcome
from pipeline.clock import Clock
from pipeline.errors import BadInput, Denied, NightshootError, Unavailable
from pipeline.events import ResultFile
from pipeline.prompt import Prompt
from pipeline.results import Line

CONTROL_TIMEOUT = 60.0  # seconds, for calls that answer with a page of JSON
UPLOAD_TIMEOUT = 600.0  # seconds, for one chunk of 8 MiB
PATIENCE = 5  # downloads that may fail in a row without a byte of progress
CHUNK = 1 << 20
STILL = frozenset({"PENDING", "RUNNING", "QUEUED", "UNSPECIFIED", "CANCELLING", "PAUSED", "UPDATING"})
ENDINGS = {
    "SUCCEEDED": "succeeded",
    "PARTIALLY_SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
T = TypeVar("T")


def fingerprint(key: str) -> str:
    """An account's name in records and messages: enough to tell keys apart, nothing to use one with."""
    return f"developer:{hashlib.sha256(key.encode()).hexdigest()[:8]}:{key[-4:] if len(key) >= 16 else ''}"


class Developer:
    """A Backend on one API key."""

    def __init__(self, *, key: str, service: str, clock: Clock) -> None:
        self.account = fingerprint(key)
        self.service = service.rstrip("/")
        self._clock = clock
        self._key = key
        options = genai.types.HttpOptions(base_url=self.service, timeout=int(CONTROL_TIMEOUT * 1000))
        # vertexai is said out loud: an environment that asks for Vertex must not turn this key's client into another.
        self._client = genai.Client(vertexai=False, api_key=key, http_options=options)
        self._version = self._client._api_client._http_options.api_version or "v1"
        self._http = httpx2.Client(
            timeout=httpx2.Timeout(CONTROL_TIMEOUT, read=CONTROL_TIMEOUT), headers={"x-goog-api-key": key}
        )
        self._attached: dict[str, Attached] = {}

    def encode(self, wire_id: str, prompt: Prompt) -> bytes:
        return wire.encode(wire_id, prompt)

    def line_id(self, line: Line) -> str | None:
        key = line.body.get("key") if line.body else None
        return key if isinstance(key, str) else None

    def outcome(self, line: Line) -> Outcome:
        return wire.outcome(line)

    # --- before the money -------------------------------------------------------------------------------------------

    def attach(self, sha256: str, data: BinaryIO, *, mime: str, until: datetime) -> Attached:
        known = self._attached.get(sha256)
        if known is not None and (known.expires is None or known.expires > until):
            return known
        file = self._upload(data, mime=mime, name=f"nightshoot-{sha256[:16]}")
        if not file.uri:
            raise Unavailable(
                f"the upload of reference {sha256[:16]} was answered without a URI", hint="try again"
            )
        attached = Attached(file.uri, file.expiration_time)
        self._attached[sha256] = attached
        return attached

    def stage(self, label: str, lines: Iterable[bytes]) -> str:
        with tempfile.TemporaryFile() as spool:
            for line in lines:
                spool.write(line + b"\n")
            spool.seek(0)
            file = self._upload(spool, mime="application/jsonl", name=label)
        if not file.name:
            raise Unavailable(f"the upload of {label} was answered without a name", hint="try again")
        return str(file.name)

    def _upload(self, data: BinaryIO, *, mime: str, name: str) -> genai.types.File:
        config = genai.types.UploadFileConfig(
            mime_type=mime,
            display_name=name,
            http_options=genai.types.HttpOptions(timeout=int(UPLOAD_TIMEOUT * 1000)),
        )
        size = data.seek(0, io.SEEK_END)
        data.seek(0)
        # The SDK tells files from paths by io.IOBase, which a wrapped temporary file is not.
        stream = data if isinstance(data, io.IOBase) else io.BufferedReader(_Borrowed(data))
        file = _translated(lambda: self._client.files.upload(file=stream, config=config), f"upload {name}")
        if file.size_bytes is not None and file.size_bytes != size:
            raise Unavailable(
                f"{name}: {size} bytes were sent and {file.size_bytes} arrived", hint="try again"
            )
        return file

    def unstage(self, staged: str) -> None:
        try:
            self._client.files.delete(name=staged)
        except genai_errors.APIError as error:
            if error.code not in (403, 404):  # gone already: files of others and missing ones are told alike
                raise _translate(error, f"remove {staged}") from error
        except httpx2.HTTPError as error:
            raise _translate(error, f"remove {staged}") from error

    # --- the money --------------------------------------------------------------------------------------------------

    def submit(self, label: str, model: str, staged: str) -> str:
        try:
            job = self._client.batches.create(model=model, src=staged, config={"display_name": label})
        except genai_errors.ClientError as error:
            raise _refusal(error, staged) from error
        except httpx2.ConnectError as error:
            raise NotBought("no connection", wait=30.0) from error
        except (genai_errors.APIError, httpx2.HTTPError, ValueError) as error:
            # A 5xx, a cut or an unreadable answer: the job may be there all the same.
            raise MaybeBought(f"{type(error).__name__}: {error}"[:200]) from error
        if not job.name:
            raise MaybeBought("the answer names no job")
        return str(job.name)

    def time(self) -> datetime | None:
        _, headers = self._raw("batches?pageSize=1")
        return _date(headers)

    def find(self, label: str) -> Found:
        candidates: list[Candidate] = []
        seen: set[str] = set()
        at: datetime | None = None
        token = ""
        while True:
            more = f"&pageToken={quote(token, safe='')}" if token else ""
            try:
                body, headers = self._raw(f"batches?pageSize=100{more}")
            except Unavailable:
                return Found(tuple(candidates), frozenset(seen), at, complete=False)
            at = at or _date(headers)
            for operation in body.get("operations") or []:
                metadata = operation.get("metadata") or {}
                name = operation.get("name") or metadata.get("name") or ""
                seen.add(name)
                if metadata.get("displayName") == label:
                    candidates.append(Candidate(name, (metadata.get("inputConfig") or {}).get("fileName")))
            token = body.get("nextPageToken") or ""
            if not token:
                return Found(tuple(candidates), frozenset(seen), at, complete=True)

    def cancel(self, ticket: str) -> None:
        _translated(lambda: self._client.batches.cancel(name=ticket), f"cancel {ticket}")

    # --- after it ---------------------------------------------------------------------------------------------------

    def ending(self, ticket: str) -> Ending | None:
        try:
            operation, _ = self._raw(ticket)
        except _Missing as error:
            raise Gone(f"Google knows no {ticket}") from error
        metadata = operation.get("metadata") or {}
        how = ENDINGS.get(_state(metadata.get("state")))
        if how is None:
            return None
        answer = operation.get("response") or {}
        name = (metadata.get("output") or {}).get("responsesFile") or answer.get("responsesFile")
        files = () if not name else (ResultFile(name, self._size(name)),)
        if how == "succeeded" and (not files or files[0].size is None):
            raise Gone(f"{ticket} is said to be done, and its result cannot be read")
        failure = operation.get("error") or {}
        return Ending(
            how=how,
            at=wire.moment(metadata.get("endTime")) or wire.moment(metadata.get("updateTime")),
            files=tuple(file for file in files if file.size is not None),
            stats=_stats(metadata.get("batchStats")),
            error=failure.get("message"),
        )

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        return io.BufferedReader(_Download(self._http, self._url(file), start, self._clock), CHUNK)

    def _url(self, file: str) -> str:
        return f"{self.service}/{self._version}/{file}:download?alt=media"

    def _size(self, file: str) -> int | None:
        """How long a result is. None: it cannot be read yet. Its metadata cannot be asked for: its id is too long."""
        try:
            with self._http.stream("GET", self._url(file), headers={"range": "bytes=0-0"}) as answer:
                if answer.status_code == 416:
                    return 0
                if answer.status_code == 206:
                    return _total(answer.headers.get("content-range", ""))
                if answer.status_code == 200:
                    length = answer.headers.get("content-length")
                    return int(length) if length else None
                if answer.status_code in (404, 429) or answer.status_code >= 500:
                    return None
                answer.read()
        except httpx2.HTTPError as error:
            raise _translate(error, f"ask for the size of {file}") from error
        raise _from_status(answer.status_code, answer.text, f"ask for the size of {file}")

    def _raw(self, path: str) -> tuple[dict[str, Any], dict[str, str]]:
        """An answer as it came. The one place that goes through the SDK's private door; its key and address apply."""

        def call() -> tuple[dict[str, Any], dict[str, str]]:
            answer = self._client._api_client.request("get", path, {})
            headers = {name.lower(): value for name, value in (answer.headers or {}).items()}
            body = msgspec.json.decode(answer.body or b"{}")
            return (body if isinstance(body, dict) else {}), headers

        return _translated(call, f"read {path.partition('?')[0]}")


class _Missing(Unavailable):
    """The service knows nothing of this name, or says so."""


class _Borrowed(io.RawIOBase):
    """A stream that an upload may read and close, without closing ours."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Download(io.RawIOBase):
    """A remote file from some byte on. A cut connection is taken up where it broke."""

    def __init__(self, http: httpx2.Client, url: str, start: int, clock: Clock) -> None:
        self._http, self._url, self._clock = http, url, clock
        self._position = start
        self._total: int | None = None
        self._failures = 0
        self._response: httpx2.Response | None = None
        self._chunks: Any = iter(())
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._drop()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if self._total is not None and self._position >= self._total:
                return 0
            try:
                if self._response is None:
                    self._connect()
                chunk = next(self._chunks, b"")
            except httpx2.HTTPError as error:
                self._fail(error)
                continue
            if not chunk:
                if self._total is None:
                    return 0
                self._fail(None)
                continue
            self._failures = 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._position += count
        return count

    def _connect(self) -> None:
        request = self._http.build_request("GET", self._url, headers={"range": f"bytes={self._position}-"})
        response = self._response = self._http.send(request, stream=True)
        if response.status_code == 416:
            self._total = self._position
            return
        if response.status_code not in (200, 206):
            response.read()
            raise httpx2.HTTPStatusError(
                f"{response.status_code}: {response.text[:200]}", request=request, response=response
            )
        self._chunks = response.iter_raw(CHUNK)
        if response.status_code == 206:
            self._total = _total(response.headers.get("content-range", ""))
            return
        # The server knows no ranges: it sends all of it again, and what we have is stepped over.
        self._total = (
            int(response.headers["content-length"]) if "content-length" in response.headers else None
        )
        behind = 0
        while behind < self._position:
            chunk = next(self._chunks, b"")
            if not chunk:
                raise httpx2.RemoteProtocolError("ended before the byte that was asked for", request=request)
            behind += len(chunk)
            if behind > self._position:
                self._rest = memoryview(chunk)[len(chunk) - (behind - self._position) :]

    def _fail(self, error: httpx2.HTTPError | None) -> None:
        self._drop()
        self._failures += 1
        status = error.response.status_code if isinstance(error, httpx2.HTTPStatusError) else None
        if self._failures >= PATIENCE or (status is not None and status < 500 and status not in (408, 429)):
            what = f"download {self._url.rpartition('/')[2]} from byte {self._position}"
            raise _translate(error or httpx2.ReadError("cut short"), what) from error
        self._clock.sleep(min(60.0, 2.0**self._failures))

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._chunks = None, iter(())


def _state(value: object) -> str:
    """A state's plain name: raw operations say BATCH_STATE_X, others JOB_STATE_X."""
    return str(value or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")


def _stats(value: object) -> dict[str, int]:
    """Counters: strings on the wire, and absent where zero."""
    if not isinstance(value, dict):
        return {}
    return {name: int(count) for name, count in value.items() if str(count).isdigit()}


def _total(content_range: str) -> int | None:
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _date(headers: dict[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def _retry_after(error: genai_errors.APIError) -> float:
    headers = getattr(error.response, "headers", None) or {}
    value = headers.get("retry-after") or ""
    return float(value) if value.isdigit() else 60.0


def _refusal(error: genai_errors.ClientError, staged: str) -> NotBought | MaybeBought:
    """What a 4xx to a create call means. Where somebody gave up or got in the way nothing is told; else it is a no."""
    words = error.message or str(error.code)
    if error.code in (408, 409, 499):
        return MaybeBought(str(error.code))
    if error.code == 429:
        return NotBought(error.message or "too much at once", wait=max(1.0, _retry_after(error)))
    if error.code in (403, 404) and staged.removeprefix("files/") in words:
        # The input file is gone: it died, or another driver takes the batch over. It is staged anew next time.
        return NotBought(words, wait=1.0)
    fatal = _translate(error, "submit a batch")
    if isinstance(fatal, Unavailable):  # a 404 is about the model here: waiting will not help
        fatal = BadInput(fatal.message, hint="the service refused what was sent; its words are above")
    return NotBought(words, wait=0.0, fatal=fatal)


def _translated(call: Callable[[], T], what: str) -> T:
    try:
        return call()
    except (genai_errors.APIError, httpx2.HTTPError, msgspec.DecodeError, ValueError, KeyError) as error:
        raise _translate(error, what) from error


def _translate(error: Exception, what: str) -> NightshootError:
    """The SDK's errors, and its HTTP library's, as what the user can do about them."""
    if isinstance(error, genai_errors.APIError):
        return _from_status(error.code, error.message or "", what)
    if isinstance(error, httpx2.HTTPStatusError):
        return _from_status(error.response.status_code, str(error), what)
    if isinstance(error, httpx2.TimeoutException):
        return Unavailable(
            f"could not {what}: no answer in time", hint="nothing is lost; run the same command again"
        )
    return Unavailable(f"could not {what}: {error}", hint="nothing is lost; run the same command again")


def _from_status(status: int, message: str, what: str) -> NightshootError:
    said = f"could not {what}: {status} {message}".rstrip()[:400]
    if status in (401, 403) or (status == 400 and "API key" in message):
        return Denied(said, hint="check GEMINI_API_KEY: is it the key that made this run, and is billing on?")
    if status == 404:
        return _Missing(said, hint="a job or file is visible only to the key that made it")
    if status in (400, 409, 413, 416):
        return BadInput(said, hint="the service refused what was sent; its words are above")
    return Unavailable(said, hint="nothing is lost; run the same command again later")
