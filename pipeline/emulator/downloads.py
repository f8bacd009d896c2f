"""Result files over HTTP: streamed as they are made, from any byte."""

import asyncio
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipeline.emulator.batches import Batches
from pipeline.emulator.calls import Call, gone
from pipeline.emulator.clock import SECOND, VirtualClock
from pipeline.emulator.problems import Problem
from pipeline.emulator.results import Result
from pipeline.emulator.settings import Settings

AHEAD = 3  # blocks being made while another is on its way; more would only be memory
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Downloads:
    def __init__(self, settings: Settings, clock: VirtualClock, batches: Batches, workers: Executor) -> None:
        self._settings = settings
        self._clock = clock
        self._batches = batches
        self._workers = workers

    async def download(self, call: Call) -> Response:
        """A job's result; uploaded files stay where they are."""
        account, name = call.account, call.request.path_params["file"]
        call.meet(name=f"files/{name}")
        if not name.startswith("batch-"):
            raise Problem(400, f"files/{name} was uploaded; only generated files can be downloaded.")
        job = self._batches.get(account, name.removeprefix("batch-"))
        call.meet(display_name=job.display_name, model=job.model.name)
        now = self._clock.now()
        if job.result is None or not job.delivered(now):
            raise Problem(404, f"files/{name} was not found.")
        if now >= job.ends + round(self._settings.result_life * SECOND):
            raise Problem(404, f"files/{name} has expired.")
        ranges = self._settings.ranges and call.faults.take("no_range", **call.facts) is None
        asked = call.request.headers.get("range") if ranges else None
        call.facts["range"] = asked
        start, stop = span(asked, job.result.size)
        body = Streamed(
            job.result, self._workers, start=start, stop=stop, part=asked is not None, ranges=ranges
        )
        if call.request.method == "HEAD":
            body.stop_after = 0
        elif (cut := call.faults.take("cut", **call.facts)) is not None:
            body.stop_after, body.then = start + cut["bytes"], "cut"
        elif (stall := call.faults.take("stalled", **call.facts)) is not None:
            body.stop_after, body.then = start + stall["bytes"], "stall"
        if (slow := call.faults.take("slow", **call.facts)) is not None:
            body.rate = slow["rate"]
        return body


def span(asked: str | None, size: int) -> tuple[int, int]:
    """The bytes a Range header asks for; all of them when it asks in a way nobody knows."""
    found = RANGE.fullmatch(asked.replace(" ", "")) if asked else None
    if found is None or found[0] == "bytes=-":
        return 0, size
    first, last = found[1], found[2]
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= stop:
        message = f"Requested range {asked} is not within {size} bytes."
        raise Problem(416, message, headers={"content-range": f"bytes */{size}"})
    return start, stop


class Streamed(Response):
    """A stretch of a result, a few megabytes of it in memory at any time."""

    def __init__(
        self, result: Result, workers: Executor, *, start: int, stop: int, part: bool, ranges: bool
    ) -> None:
        headers = {"content-length": str(stop - start)}
        if ranges:
            headers["accept-ranges"] = "bytes"
        if part:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{result.size}"
        super().__init__(
            status_code=206 if part else 200, headers=headers, media_type="application/octet-stream"
        )
        self._result = result
        self._workers = workers
        self._start = start
        self._stop = stop
        self.stop_after = stop
        self.then = "end"
        self.rate: int | None = None  # bytes a second of real time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        leaving = asyncio.ensure_future(gone(receive))
        try:
            await self._stream(send, leaving)
            if self.then == "cut":
                scope["state"]["transport"].close()  # what was sent arrives first
            if self.then != "end":
                await leaving
        finally:
            leaving.cancel()
        await send({"type": "http.response.body", "body": b""})

    def _pieces(self, block: bytes) -> Iterator[bytes]:
        """The block, or the tenths of a second that a slow download makes of it."""
        if self.rate is None:
            return iter((block,))
        step = max(1, self.rate // 10)
        return (block[start : start + step] for start in range(0, len(block), step))

    async def _stream(self, send: Send, leaving: "asyncio.Future[None]") -> None:
        """Make blocks on every core, send them in order, stop when nobody listens."""
        loop = asyncio.get_running_loop()
        blocks = self._result.blocks(self._start, min(self._stop, self.stop_after))
        making: deque[asyncio.Future[bytes]] = deque()
        try:
            while not leaving.done():
                while len(making) < AHEAD and (block := next(blocks, None)) is not None:
                    making.append(loop.run_in_executor(self._workers, self._result.read, *block))
                if not making:
                    return
                for piece in self._pieces(await making.popleft()):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    if self.rate is not None:
                        await asyncio.wait([leaving], timeout=len(piece) / self.rate)
        finally:
            for future in making:
                future.cancel()
