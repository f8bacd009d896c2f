"""One call of the API: whose key it carries, which misfortune meets it, and its place among the events."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from pipeline.emulator.events import Events
from pipeline.emulator.faults import Faults
from pipeline.emulator.fields import Shape, normal
from pipeline.emulator.problems import Problem, RowProblem


class Hangup(Response):
    """No reply at all: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["transport"].abort()
        await gone(receive)


async def gone(receive: Receive) -> None:
    """Return when the client is no longer there."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Unsent(Exception):
    """The call ends before anything is done."""


def fingerprint(key: str) -> str:
    """What an account is called wherever a key must not be shown."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


class Call:
    """What a handler needs to know of the request it answers."""

    def __init__(self, method: str, request: Request, faults: Faults) -> None:
        self.method = method
        self.request = request
        self.faults = faults
        self.facts: dict[str, Any] = {"method": method}

    @property
    def account(self) -> str:
        """The account, as its key's fingerprint; any key will do."""
        key = self.request.headers.get("x-goog-api-key") or self.request.query_params.get("key")
        if not key:
            raise Problem(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). "
                "Please use API Key or other form of API consumer identity to call this API.",
            )
        self.facts["account"] = fingerprint(key)
        return fingerprint(key)

    @property
    def base(self) -> str:
        """This server as the client knows it; links lead back to it and nowhere else."""
        return f"http://{self.request.headers.get('host', '127.0.0.1')}"

    def meet(self, **facts: Any) -> None:
        """What the call is about is known: let the misfortune happen that comes before anything is done."""
        self.facts |= facts
        if (refusal := self.faults.take("refused", **self.facts)) is not None:
            wait = refusal["retry_after"]
            headers = {"retry-after": str(wait)} if wait is not None else None
            raise Problem(refusal["code"], refusal["message"] or "Refused, as ordered.", headers=headers)
        if self.faults.take("unsent", **self.facts) is not None:
            raise Unsent

    def afterwards(self, response: Response) -> Response:
        """Everything is done: let the misfortune happen that only the reply suffers."""
        if self.faults.take("lost", **self.facts) is not None:
            return Hangup()
        if (failure := self.faults.take("done_but_error", **self.facts)) is not None:
            return Problem(
                failure["code"], failure["message"] or "An internal error has occurred."
            ).response()
        return response

    async def json(self, shape: Shape) -> dict[str, Any]:
        """The body, with camelCase names. Problem 400 names a field that does not belong."""
        body = await self.request.body()
        try:
            return cast("dict[str, Any]", normal(msgspec.json.decode(body or b"{}"), shape, where="body"))
        except msgspec.DecodeError as error:
            raise Problem(400, f"Invalid JSON payload received: {error}") from None
        except RowProblem as problem:
            raise Problem(400, f"Invalid JSON payload received: {problem.message}") from None

    def page(self, default: int) -> tuple[int, int | None]:
        """How many are wanted, and the number that came last on the page before."""
        query = self.request.query_params
        try:
            size = int(query.get("pageSize") or default)
            token = query.get("pageToken")
            return max(1, min(size, 1000)), int(token, 36) if token else None
        except ValueError:
            raise Problem(400, "pageSize or pageToken is not valid.") from None


class Numbered(Protocol):
    """What is listed newest first, and has the number it was made with."""

    number: int


Handler = Callable[[Call], Awaitable[Response]]


def endpoint(
    method: str, handler: Handler, *, before: Callable[[], Awaitable[None]], faults: Faults, events: Events
) -> Callable[[Request], Awaitable[Response]]:
    """The handler as Starlette wants it, with everything every call has in common."""

    async def answer(request: Request) -> Response:
        await before()
        call = Call(method, request, faults)
        try:
            response = call.afterwards(await handler(call))
        except Problem as problem:
            response = problem.response()
        except (Unsent, ClientDisconnect):
            response = Hangup()
        outcome = "cut" if isinstance(response, Hangup) else response.status_code
        facts = {name: value for name, value in call.facts.items() if name not in ("method", "model")}
        events.record(method, **facts, outcome=outcome)
        return response

    return answer


def nothing() -> JSONResponse:
    return JSONResponse({})


def refused(code: int, message: str) -> Response:
    return Problem(code, message).response()


def page_token(last: Numbered) -> str:
    """Where the next page goes on; it stays right when newer ones are made meanwhile."""
    digits, number = "", last.number
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
