"""Files to Google's Files API by its resumable protocol, on from where the server stands after a cut or a restart.

What it fears: the session's address is a credential. It is kept in the user's cache, for this user alone, and nowhere
else: not in a run, not in a message. And a session that two processes went on with would give both one file, where
each must have its own; so whoever uploads holds a lock on the note of it, and a note is gone before its file is used.
"""

import base64
import contextlib
import hashlib
import io
import logging
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
import msgspec

from pipeline.backends.downloads import Explain
from pipeline.cache import users_folder
from pipeline.clock import Clock, MachineClock
from pipeline.errors import Unavailable

try:
    import fcntl
except ImportError:  # on Windows an upload goes on after a cut, but not in another process
    fcntl = None  # type: ignore[assignment]

GRANULE = 8 << 20
"""Bytes. What the server keeps of a broken chunk is a multiple of it, so no chunk is larger."""

TIMEOUT = 600.0  # seconds, for one chunk
PATIENCE = 12  # failures in a row without a byte of progress
LIFE = timedelta(days=7)
"""After so long nobody goes on with an upload: the note of it is swept away."""


class Uploads:
    """One account's uploads. `address` is where they begin; `explain` says what went wrong, in the account's words."""

    def __init__(
        self, address: str, *, headers: dict[str, str], account: str, clock: Clock, explain: Explain
    ) -> None:
        self._address, self._headers, self._account = address, headers, account
        self._clock, self._explain = clock, explain
        # Without the key: the session's address is enough, and may lead to another host.
        self._http = httpx2.Client(timeout=httpx2.Timeout(60.0, read=TIMEOUT, write=TIMEOUT))
        weakref.finalize(self, self._http.close)
        _keep_quiet()

    def send(self, data: BinaryIO, *, sha256: str, mime: str, name: str) -> dict[str, Any]:
        """The file as the service has it now: a new one each time, whatever there is already. Free.

        In memory there is one chunk. Raises Unavailable where it cannot be sent, or did not arrive as it was sent.
        """
        size = data.seek(0, io.SEEK_END)
        upload = _Upload(data, size, mime, name)
        with _note(f"{self._account} {self._address} {name} {sha256}", wanted=size > GRANULE) as note:
            file = self._sent(upload, note)
            note.forget()  # before anybody can use the file: the next upload of these bytes is to be another one
        _check(file, name, size=size, sha256=sha256)
        return file

    def _sent(self, upload: "_Upload", note: "_Note") -> dict[str, Any]:
        """Chunk after chunk. After any doubt the server is asked how far it is."""
        url, reached = note.read(), None
        failures = lost = 0
        while True:
            try:
                if url is None:
                    url, reached = self._begun(upload), _Reached(0)
                    note.write(url)
                if reached is None:
                    reached = self._asked(url)
                if reached.file is not None:
                    return reached.file
                reached = self._chunk(upload, url, reached)
                failures = 0
                continue
            except _Lost as error:
                problem: Exception = error
                url, lost = None, lost + 1
            except httpx2.HTTPError as error:
                problem = error
            reached, failures = None, failures + 1
            if max(failures, lost) >= PATIENCE or _is_for_good(problem):
                raise self._explain(problem, f"upload {upload.name}") from problem
            self._clock.sleep(min(20.0, 2.0**failures))

    def _begun(self, upload: "_Upload") -> str:
        """A new session's address."""
        headers = {
            **self._headers,
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(upload.size),
            "x-goog-upload-header-content-type": upload.mime,
        }
        asked = {"display_name": upload.name, "mime_type": upload.mime, "size_bytes": upload.size}
        answer = self._http.post(self._address, headers=headers, json={"file": asked})
        if answer.status_code != 200:
            raise _said_no(answer)
        url: str = answer.headers.get("x-goog-upload-url", "")
        if not url:
            raise httpx2.RemoteProtocolError("it was begun, and nobody said where to go on")
        return url

    def _chunk(self, upload: "_Upload", url: str, reached: "_Reached") -> "_Reached":
        """Send what comes next."""
        upload.data.seek(reached.size)
        chunk = upload.data.read(GRANULE)
        end = reached.size + len(chunk)
        last = end >= upload.size
        answer = self._command(
            url, "upload, finalize" if last else "upload", offset=reached.size, content=chunk
        )
        status = answer.headers.get("x-goog-upload-status")
        if status == "active" and not last:
            return _Reached(end)
        if status == "final" and (file := _file_of(answer)):
            return _Reached(end, file)
        raise httpx2.RemoteProtocolError("the answer does not say what became of it")

    def _asked(self, url: str) -> "_Reached":
        """How far the server says it is."""
        answer = self._command(url, "query")
        received = answer.headers.get("x-goog-upload-size-received", "")
        status = answer.headers.get("x-goog-upload-status")
        if status == "active" and received.isdigit():
            return _Reached(int(received))
        if status == "final":
            # Whole, and the answer that named the file was lost. Said once more it is answered once more.
            file = _file_of(answer) or _file_of(self._command(url, "finalize"))
            if file is not None:
                return _Reached(0, file)
        raise _Lost("the server does not know how far it is")

    def _command(
        self, url: str, command: str, *, offset: int | None = None, content: bytes = b""
    ) -> httpx2.Response:
        headers = {"x-goog-upload-command": command}
        if offset is not None:
            headers["x-goog-upload-offset"] = str(offset)
        answer = self._http.post(url, headers=headers, content=content)
        if answer.status_code in (404, 410):
            raise _Lost("the server does not know it any more")
        if answer.status_code != 200:
            raise _said_no(answer)
        return answer


class _Lost(Exception):
    """A session that nobody can go on with. The upload begins again; nothing but bytes is lost."""


@dataclass(frozen=True, slots=True)
class _Upload:
    data: BinaryIO
    size: int
    mime: str
    name: str


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far an upload is, and the file once it is whole."""

    size: int
    file: dict[str, Any] | None = None


def _said_no(answer: httpx2.Response) -> httpx2.HTTPStatusError:
    """An answer that is none, in its own words: the address stays unsaid."""
    try:
        words = str(msgspec.json.decode(answer.content)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        words = answer.text
    return httpx2.HTTPStatusError(words[:200], request=answer.request, response=answer)


def _is_for_good(problem: Exception) -> bool:
    """Whether asking again would get the same answer. A chunk at the wrong offset is a 400 and is asked about."""
    if not isinstance(problem, httpx2.HTTPStatusError):
        return False
    begins = problem.request.headers.get("x-goog-upload-command") == "start"
    return problem.response.status_code in ((400, 401, 403, 404, 413, 429) if begins else (401, 403))


def _file_of(answer: httpx2.Response) -> dict[str, Any] | None:
    try:
        file = msgspec.json.decode(answer.content)["file"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
    return file if isinstance(file, dict) and file.get("name") else None


def _check(file: dict[str, Any], name: str, *, size: int, sha256: str) -> None:
    """What arrived is what was sent, as far as the service says."""
    arrived = file.get("sizeBytes")
    if arrived is not None and str(arrived) != str(size):
        raise Unavailable(f"{name}: {size} bytes were sent and {arrived} arrived", hint="try again")
    try:
        digest = base64.b64decode(file.get("sha256Hash") or "")
    except ValueError:
        return
    # Whether it is of the digest or of its hexadecimal spelling is not told.
    if digest and digest not in (bytes.fromhex(sha256), sha256.encode()):
        raise Unavailable(f"{name}: other bytes arrived than were sent", hint="try again")


# --- the note of an upload under way ------------------------------------------------------------------------------


class _Note:
    """Where an upload's address is kept while it is under way. Without a descriptor nothing is."""

    def __init__(self, path: Path | None = None, descriptor: int = -1) -> None:
        self._path, self._descriptor = path, descriptor

    def read(self) -> str | None:
        if self._path is None:
            return None
        url = os.pread(self._descriptor, 10_000, 0).decode(errors="replace")
        return url if url.startswith(("https://", "http://")) else None

    def write(self, url: str) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):  # a full disk keeps nobody from sending
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, url.encode(), 0)

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _note(what: str, *, wanted: bool) -> Iterator[_Note]:
    """The note of this upload, ours alone until the block ends; an empty one where another process has it."""
    descriptor = _locked(what) if wanted and fcntl is not None else None
    if descriptor is None:
        yield _Note()
        return
    try:
        yield _Note(_place(what), descriptor)
    finally:
        os.close(descriptor)


def _place(what: str) -> Path:
    return users_folder("uploads") / hashlib.sha256(what.encode()).hexdigest()


def _locked(what: str) -> int | None:
    path = _place(what)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        # The kernel takes the lock back from a process that is killed.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else its last owner was done with it between open and lock
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _sweep(folder: Path) -> None:
    oldest = (MachineClock().now() - LIFE).timestamp()
    for path in folder.iterdir():
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


class _Unsaid(logging.Filter):
    """Keeps the addresses of uploads out of what a library logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "upload_id" not in record.getMessage()


def _keep_quiet() -> None:
    for name in ("httpx2", "httpcore2.http11", "httpcore2.http2"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Unsaid) for each in logger.filters):
            logger.addFilter(_Unsaid())
