"""Runs in a bucket of Cloud Storage: every write is create-only, and Google's errors become ours.

An account that may create, read and list, but neither overwrite nor delete, is enough.
"""

import base64
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from requests.adapters import HTTPAdapter

from pipeline.errors import BadInput, Corrupt, Denied, NightshootError, Unavailable
from pipeline.storage.base import AlreadyThere, NotFound, Stored
from pipeline.storage.names import check, is_name

# Otherwise the client asks for every bucket's metadata behind our back, which needs one more permission.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

CONNECTIONS = 64
"""As many threads can be at work without waiting for each other's connections."""

_Checksum: Callable[..., Any] = google_crc32c.Checksum  # untyped

_PIECE = 8 << 20
"""Bytes of a stream in memory, in both directions. What is no larger is sent in one request."""

_LONGEST_PREFIX = 120
"""Bytes. Together with the longest name of a file, what Cloud Storage allows."""

_TROUBLE = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    InvalidResponse,
    DataCorruption,
    ConnectionError,
)
"""All that Google's client is known to raise when a request goes wrong."""

_UNDECIDED = {308, 400, 403, 404, 409, 410, 412}
"""Answers to a write that leave open whether the file is there."""


class GcsStorage:
    """A prefix of a bucket. It is not asked for anything before the first call, and nothing is ever replaced.

    Every request may be repeated, since a write creates or does nothing; so each is, until `patience` seconds
    have passed. STORAGE_EMULATOR_HOST is honoured.
    """

    def __init__(self, url: str, *, patience: float = 60.0, timeout: tuple[float, float] = (5, 30)) -> None:
        bucket, _, prefix = url.removeprefix("gs://").partition("/")
        prefix = prefix.rstrip("/")
        if not bucket or (prefix and not is_name(prefix)) or len(prefix.encode()) > _LONGEST_PREFIX:
            raise BadInput(f"{url}: no bucket with a folder", hint="write gs://bucket/folder")
        self.url = url
        self._prefix = prefix + "/" if prefix else ""
        with _explained(url):
            # No project: it is asked for nothing but making buckets.
            self._client = storage.Client(project=None)
        for scheme in ("https://", "http://"):
            adapter = HTTPAdapter(pool_connections=4, pool_maxsize=CONNECTIONS)
            self._client._http.mount(scheme, adapter)
        self._bucket = self._client.bucket(bucket)
        self._timeout = timeout
        self._retry = DEFAULT_RETRY.with_timeout(patience).with_delay(initial=0.25, maximum=8)

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        if start < 0:
            raise ValueError(f"{name}: no file has a byte {start}")
        check(name)
        if end is not None and end <= start:
            self._look(name)
            return b""
        with _explained(f"{self.url}: {name}"):
            for last in (False, True):
                data, declared = self._fetch(name, start, end)
                # The whole file can be checked, however many requests it took; a range of it cannot.
                if start > 0 or end is not None or declared in (None, _crc32c(data)):
                    return data
                if last:
                    break
        raise _damaged(f"{self.url}: {name}")

    def version(self, name: str) -> tuple[int, int]:
        found = self._look(name)  # other people's objects are called as they like
        return found.size, found.generation

    def read_version(self, name: str, version: int) -> bytes:
        with _explained(f"{self.url}: {name}"):
            data, declared = self._fetch(name, 0, None, version)
        if declared not in (None, _crc32c(data)):
            raise _damaged(f"{self.url}: {name}")
        return data

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        if start < 0:
            raise ValueError(f"{name}: no file has a byte {start}")
        return io.BufferedReader(_Pieces(self, check(name), start))

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        check(name)
        with _body(data) as body:

            def is_there() -> bool:
                there = self._look(name)
                return (there.size, there.crc32c) == (body.size, body.crc32c)

            self._write(name, body, content_type, is_there)

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        return partial(self.put, name, data, content_type=content_type)

    def settle(self, folder: str) -> None:
        pass  # what is in a bucket is durable

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        check(name)
        with _body(data) as body:
            # A checksum is not proof enough where two drivers race.
            self._write(name, body, content_type, lambda: self.read(name) == data)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        with _explained(self.url):
            found = self._client.list_blobs(
                self._bucket,
                prefix=self._prefix + prefix,
                start_offset=self._prefix + after,
                fields="items(name),nextPageToken",
                timeout=self._timeout,
                retry=self._retry,
            )
            for blob in found:
                name = blob.name.removeprefix(self._prefix)
                if name > after and is_name(name):
                    yield name

    def allows(self, permissions: Collection[str]) -> frozenset[str]:
        with _explained(self.url):
            return frozenset(
                self._bucket.test_iam_permissions(list(permissions), timeout=self._timeout, retry=self._retry)
            )

    def location(self) -> str:
        with _explained(self.url):
            found = self._client.bucket(self._bucket.name)
            found.reload(timeout=self._timeout, retry=self._retry)
            return str(found.location)

    # --- a bucket in which another program works beside us ------------------------------------------------------------

    def files(self, prefix: str) -> Iterator[Stored]:
        with _explained(self.url):
            found = self._client.list_blobs(
                self._bucket,
                prefix=self._prefix + prefix,
                fields="items(name,size,generation),nextPageToken",
                timeout=self._timeout,
                retry=self._retry,
            )
            for blob in found:
                yield Stored(blob.name.removeprefix(self._prefix), int(blob.size or 0), int(blob.generation))

    def open_version(self, name: str, version: int, *, start: int = 0) -> BinaryIO:
        return io.BufferedReader(_Pieces(self, name, start, version))

    def remove(self, name: str) -> None:
        try:
            with _explained(f"{self.url}: {name}"):
                self._bucket.blob(self._prefix + name).delete(timeout=self._timeout, retry=self._retry)
        except Denied as error:
            raise Denied(error.message, hint="give this account the role storage.objectUser there") from error
        except BadInput:  # a 404: gone already, or with its bucket
            return

    def _write(
        self, name: str, body: "_Body", content_type: str | None, is_there: Callable[[], bool]
    ) -> None:
        """Create the file, or find out that it is there: after a lost answer the name seems taken."""
        where = f"{self.url}: {name}"
        for last in (False, True):
            try:
                self._create(name, body, content_type)
                return
            except _TROUBLE as error:
                if not _may_be_there(error):
                    raise _explain(error, where) from error
                try:
                    if is_there():
                        return
                except NotFound:
                    if last:
                        raise _explain(error, where) from error
                    continue
                raise AlreadyThere(name) from error

    def _create(self, name: str, body: "_Body", content_type: str | None) -> None:
        blob = self._bucket.blob(self._prefix + name, chunk_size=_PIECE)
        blob.crc32c = body.crc32c  # the server refuses other bytes
        body.file.seek(0)
        blob.upload_from_file(
            body.file,
            size=body.size,
            content_type=content_type,
            if_generation_match=0,
            # Ours is declared above; the client's own would make it delete an object that it doubts.
            checksum=None,
            timeout=self._timeout,
            retry=self._retry,
        )

    def _look(self, name: str, generation: int | None = None) -> "_File":
        with _explained(f"{self.url}: {name}"):
            blob = self._bucket.get_blob(
                self._prefix + name, generation=generation, timeout=self._timeout, retry=self._retry
            )
        if blob is None:
            raise NotFound(name)
        return _File(int(blob.size or 0), blob.crc32c, int(blob.generation))

    def _fetch(
        self, name: str, start: int, end: int | None, generation: int | None = None
    ) -> tuple[bytes, str | None]:
        """Some bytes, and the declared checksum of the whole file."""
        blob = self._bucket.blob(self._prefix + name, generation=generation)
        try:
            data: bytes = blob.download_as_bytes(
                start=start or None,
                end=None if end is None else end - 1,
                raw_download=True,
                # The client checks only what came in a single request.
                checksum=None,
                timeout=self._timeout,
                retry=self._retry,
            )
        except api.RequestRangeNotSatisfiable:
            return b"", None
        except api.NotFound as error:
            raise NotFound(name) from error
        return data, blob.crc32c


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    crc32c: str | None
    generation: int


class _Pieces(io.RawIOBase):
    """An object as a stream, a range at a time, all of the generation that was there when it was opened.

    Read from its first byte to its last without a jump, it is checked, and the last read raises Corrupt.
    """

    def __init__(self, storage: GcsStorage, name: str, start: int, generation: int | None = None) -> None:
        self._storage, self._name = storage, name
        self._file = storage._look(name, generation)
        self._place = start
        self._piece, self._piece_start = b"", 0
        self._checksum = _Checksum()
        self._checked = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._name}: no file has a byte {base + offset}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._file.size:
            return 0
        if not self._piece_start <= self._place < self._piece_start + len(self._piece):
            self._fetch()
        at = self._place - self._piece_start
        count = min(len(buffer), len(self._piece) - at)
        buffer[:count] = memoryview(self._piece)[at : at + count]
        self._place += count
        return count

    def _fetch(self) -> None:
        start, end = self._place, min(self._place + _PIECE, self._file.size)
        where = f"{self._storage.url}: {self._name}"
        try:
            with _explained(where):
                self._piece, _ = self._storage._fetch(self._name, start, end, self._file.generation)
        except NotFound:
            self._piece = b""
        if len(self._piece) != end - start:
            raise Corrupt(
                f"{where} was removed or replaced while it was read",
                hint="look who else writes to the bucket",
            )
        self._piece_start = start
        self._check(where)

    def _check(self, where: str) -> None:
        if self._piece_start != self._checked:
            return
        self._checksum.update(self._piece)
        self._checked += len(self._piece)
        whole = self._checked == self._file.size
        if whole and self._file.crc32c not in (None, base64.b64encode(self._checksum.digest()).decode()):
            raise _damaged(where)


def _damaged(where: str) -> Corrupt:
    return Corrupt(
        f"{where} does not have the bytes that its checksum was made of",
        hint="run again; if that does not help, compare the object with `gcloud storage hash`",
    )


@dataclass(frozen=True, slots=True)
class _Body:
    """What is to be written, and can be sent more than once."""

    file: BinaryIO
    size: int
    crc32c: str


@contextlib.contextmanager
def _body(data: bytes | BinaryIO) -> Iterator[_Body]:
    """Large streams go through a temporary file: size and checksum are declared before a byte is sent."""
    if isinstance(data, bytes):
        yield _Body(io.BytesIO(data), len(data), _crc32c(data))
        return
    checksum, size = _Checksum(), 0
    with tempfile.SpooledTemporaryFile(max_size=_PIECE) as file:
        while chunk := data.read(1 << 20):
            checksum.update(chunk)
            size += len(chunk)
            try:
                file.write(chunk)
            except OSError as error:
                raise Unavailable(
                    f"{tempfile.gettempdir()}: {error.strerror}", hint="free some space there, or set TMPDIR"
                ) from error
        yield _Body(file, size, base64.b64encode(checksum.digest()).decode())  # type: ignore[arg-type]


def _crc32c(data: bytes) -> str:
    return base64.b64encode(_Checksum(data).digest()).decode()


def _may_be_there(error: Exception) -> bool:
    """Whether a failed write calls for a look at the name, and for another try if nothing is there.

    412 also answers the client's own second try, whose first answer was lost. 403 is what an account
    hears that may not overwrite. Half an answer or a vanished session say nothing about the name.
    """
    if isinstance(error, api.GoogleAPICallError):
        return error.code in _UNDECIDED
    return isinstance(error, requests.exceptions.JSONDecodeError | InvalidResponse)


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except _TROUBLE as error:
        raise _explain(error, where) from error


def _explain(error: Exception, where: str) -> NightshootError:
    words = _words(error)
    match error:
        case auth.TransportError():
            return Unavailable(f"{where}: {words}", hint="check the network, and run again")
        case auth.GoogleAuthError():
            return Denied(
                f"{where}: {words}",
                hint="run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
            )
        case api.Unauthorized() | api.Forbidden():
            return Denied(
                f"{where}: {words}",
                hint="give this account the roles storage.objectCreator and storage.objectViewer there",
            )
        case api.NotFound():
            return BadInput(
                f"{where}: {words}",
                hint="check the bucket's name, or make it with `gcloud storage buckets create`",
            )
        case api.BadRequest() if "bucket" in words.lower():
            return BadInput(f"{where}: {words}", hint="check the bucket's name")
        case _:
            return Unavailable(f"{where}: {words}", hint="run again; what was written is complete")


def _words(error: Exception) -> str:
    """What went wrong in a few words: the server's own where there are some."""
    cause = error.cause if isinstance(error, api.RetryError) and error.cause else error
    response = getattr(cause, "response", None)
    with contextlib.suppress(AttributeError, ValueError, TypeError, KeyError):
        return str(response.json()["error"]["message"]).rstrip(".")  # type: ignore[union-attr]
    return (str(cause).splitlines() or [type(cause).__name__])[0][:300]
