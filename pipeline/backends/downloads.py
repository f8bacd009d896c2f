"""Remote files as streams that outlive their connections."""

import io
from collections.abc import Callable
from typing import Any

import httpx2

from pipeline.clock import Clock
from pipeline.errors import NightshootError

PATIENCE = 5  # downloads that may fail in a row without a byte of progress
CHUNK = 1 << 20
Explain = Callable[[Exception, str], NightshootError]
"""Says what went wrong, in which call, as one of our errors."""


class Download(io.RawIOBase):
    """A remote file from some byte on. A cut connection is taken up where it broke."""

    def __init__(self, http: httpx2.Client, url: str, start: int, *, clock: Clock, explain: Explain) -> None:
        self._http, self._url, self._clock, self._explain = http, url, clock, explain
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
                    continue  # what was stepped over may have left bytes in hand
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
        self._chunks = response.iter_raw()  # as they come: to gather them costs more than to read them
        if response.status_code == 206:
            self._total = total_of(response.headers.get("content-range", ""))
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
            raise self._explain(error or httpx2.ReadError("cut short"), what) from error
        self._clock.sleep(min(60.0, 2.0**self._failures))

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._chunks = None, iter(())


def total_of(content_range: str) -> int | None:
    """How long the whole is, as a Content-Range says it."""
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else None
