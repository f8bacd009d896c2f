"""Bad luck for Cloud Storage, put in line by a test and met by the next requests that it fits."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive

from pipeline.emulator.gcs_objects import Problem

if TYPE_CHECKING:
    import asyncio

VERBS = ("start", "insert", "get", "metadata", "list", "patch", "delete", "compose", "copy")
"""What a request does. 'start' opens a resumable upload, 'insert' carries bytes; 'get' reads them."""

KINDS = {
    "reset": "the connection is reset before anything is done",
    "lost": "it is done, and then the connection is reset",
    "garbled": "it is done, and the answer is half of its JSON",
    "cut": "it is done, and the connection ends in the middle of the answer",
    "corrupt": "one byte of the answer is another one, and its headers are right",
    "stall": "nothing is done and nothing answered until the client goes away",
}
"""Besides these, any status from 400 to 599: nothing is done."""


@dataclass(slots=True)
class Fault:
    """One kind of bad luck, for so many requests."""

    on: str
    fault: str
    times: int = 1
    name: str = ""  # only for objects whose name contains this
    skip: int = 0  # so many requests that fit go well before
    after: int | None = None  # 'cut': so many bytes of the answer; else half of them

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Fault":
        unknown = set(given) - {"on", "fault", "times", "name", "skip", "after"}
        if unknown or given.get("on") not in VERBS:
            raise Problem(400, f"a fault has on (one of {', '.join(VERBS)}), fault, times, name, skip, after")
        fault = cls(**{**given, "fault": str(given.get("fault", ""))})
        if fault.fault not in KINDS and not (fault.fault.isdigit() and 400 <= int(fault.fault) < 600):
            raise Problem(400, f"{fault.fault!r} is no fault: a status, or one of {', '.join(KINDS)}")
        return fault


@dataclass(slots=True)
class Faults:
    """Those that wait for their request, and what has happened."""

    waiting: list[Fault] = field(default_factory=list)
    happened: list[dict[str, Any]] = field(default_factory=list)

    def add(self, on: str, fault: str | int, **how: Any) -> None:
        """Put one in line; `how` are the other fields of Fault."""
        self.waiting.append(Fault.parse({"on": on, "fault": fault, **how}))

    def meet(self, verb: str, name: str) -> Fault | None:
        """The first that fits, used up by one."""
        for fault in self.waiting:
            if fault.on == verb and fault.name in name:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                self.happened.append({"on": verb, "fault": fault.fault, "name": name})
                return fault
        return None

    async def endpoint(self, request: Request) -> Response:
        """POST puts faults in line, DELETE forgets them, GET shows them."""
        match request.method:
            case "POST":
                given = json.loads(await request.body())
                many = given if isinstance(given, list) else [given]
                self.waiting.extend(Fault.parse(one) for one in many)
            case "DELETE":
                self.waiting.clear()
                self.happened.clear()
        return JSONResponse({"waiting": [asdict(one) for one in self.waiting], "happened": self.happened})


async def before(fault: Fault | None, request: Request) -> None:
    """What goes wrong before anything is done."""
    if fault is None:
        return
    if fault.fault.isdigit():
        await request.body()
        raise Problem(int(fault.fault), f"a fault: {fault.fault}", reason="backendError")
    if fault.fault == "reset":
        await sever(request.receive)
    if fault.fault == "stall":
        await gone(request.receive)


async def after(fault: Fault | None, request: Request, response: Response) -> Response:
    """What goes wrong when it is done."""
    if fault is None:
        return response
    match fault.fault:
        case "lost":
            await sever(request.receive)
        case "garbled":
            half = bytes(response.body)[: len(response.body) // 2]
            kept = {key: value for key, value in response.headers.items() if key != "content-length"}
            return Response(half, status_code=response.status_code, headers=kept)
        case "cut":
            return _cut(response, fault.after, request.receive)
        case "corrupt":
            return _corrupt(response)
    return response


class Severed(Exception):
    """The connection is gone; there is nobody to answer."""


async def sever(receive: Receive) -> None:
    """Reset the connection this request came on, with no answer at all. Raises Severed."""
    _transport(receive).abort()
    await gone(receive)


async def gone(receive: Receive) -> None:
    """Wait until the client has left, and raise Severed."""
    while (await receive())["type"] != "http.disconnect":
        pass
    raise Severed


def _transport(receive: Receive) -> "asyncio.Transport":
    # ASGI has no word for hanging up. This is uvicorn's private door: a request's cycle knows its transport.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("only uvicorn's connections can be reset")
    return cast("asyncio.Transport", transport)


async def _pieces(response: Response) -> AsyncIterator[bytes]:
    if isinstance(response, StreamingResponse):
        async for piece in response.body_iterator:
            yield piece if isinstance(piece, bytes) else bytes(str(piece), "utf-8")
    else:
        yield bytes(response.body)


def _streamed(response: Response, pieces: AsyncIterator[bytes]) -> Response:
    streamed = StreamingResponse(pieces, status_code=response.status_code)
    streamed.raw_headers = response.raw_headers
    return streamed


def _cut(response: Response, wanted: int | None, receive: Receive) -> Response:
    size = int(response.headers.get("content-length", "0"))
    left = size // 2 if wanted is None else wanted

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal left
        async for piece in _pieces(response):
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                _transport(receive).close()  # when all until here is sent
                with contextlib.suppress(Severed):
                    await gone(receive)
                return

    return _streamed(response, pieces())


def _corrupt(response: Response) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        first = True
        async for piece in _pieces(response):
            yield bytes([piece[0] ^ 1]) + piece[1:] if first and piece else piece
            first = first and not piece

    return _streamed(response, pieces())
