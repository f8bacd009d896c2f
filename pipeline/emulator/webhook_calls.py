"""The webhooks resource over HTTP, whose bodies are snake_case on this service."""

from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from pipeline.emulator.calls import Call, nothing, page_token
from pipeline.emulator.clock import VirtualClock
from pipeline.emulator.problems import Problem
from pipeline.emulator.webhooks import Endpoint, Webhooks

WRITABLE = {"name": str, "uri": str, "subscribed_events": list, "state": str}
STATES = ("enabled", "disabled", "disabled_due_to_failed_deliveries")


class WebhookCalls:
    def __init__(self, clock: VirtualClock, webhooks: Webhooks) -> None:
        self._clock = clock
        self._webhooks = webhooks

    async def create(self, call: Call) -> Response:
        account, asked = call.account, await body_of(call)
        call.meet(name=asked.get("name"))
        made = self._webhooks.register(
            account,
            uri=asked.get("uri", ""),
            events=asked.get("subscribed_events", []),
            name=asked.get("name"),
        )
        shown = made.as_json(self._clock.now())
        return JSONResponse(shown | {"new_signing_secret": made.secrets[0][0]})

    async def list(self, call: Call) -> Response:
        account = call.account
        call.meet()
        query = call.request.query_params
        size, last = call.page(int(query.get("page_size") or 50))
        there = [each for each in self._webhooks.of(account) if last is None or each.number < last]
        shown = there[:size]
        page: dict[str, Any] = {"webhooks": [each.as_json(self._clock.now()) for each in shown]}
        if len(there) > len(shown):
            page["next_page_token"] = page_token(shown[-1])
        return JSONResponse(page if shown else {})

    async def get(self, call: Call) -> Response:
        return JSONResponse(self._one(call).as_json(self._clock.now()))

    async def update(self, call: Call) -> Response:
        endpoint = self._one(call)
        self._webhooks.change(endpoint, await body_of(call))
        return JSONResponse(endpoint.as_json(self._clock.now()))

    async def delete(self, call: Call) -> Response:
        del self._webhooks.endpoints[self._one(call).id]
        return nothing()

    async def ping(self, call: Call) -> Response:
        self._webhooks.ping(self._one(call))
        return nothing()

    async def rotate(self, call: Call) -> Response:
        endpoint = self._one(call)
        behavior = msgspec.json.decode(await call.request.body() or b"{}").get("revocation_behavior", "")
        secret = self._webhooks.rotate(endpoint, at_once=behavior.endswith("immediately"))
        return JSONResponse({"secret": secret})

    def _one(self, call: Call) -> Endpoint:
        endpoint = self._webhooks.get(call.account, call.request.path_params["webhook"])
        call.meet(name=endpoint.id)
        return endpoint


async def body_of(call: Call) -> dict[str, Any]:
    """What may be written, each of its kind. Problem 400 names what may not."""
    try:
        asked = msgspec.json.decode(await call.request.body() or b"{}")
    except msgspec.DecodeError as error:
        raise Problem(400, f"Invalid JSON payload received: {error}") from None
    if not isinstance(asked, dict):
        raise Problem(400, "Invalid JSON payload received: not an object")
    for name, value in asked.items():
        if not isinstance(value, WRITABLE.get(name, ())):
            raise Problem(400, f"Invalid JSON payload received: {name!r} is unknown, or of another kind.")
    if asked.get("state", STATES[0]) not in STATES:
        raise Problem(400, f"state {asked['state']!r} is not one of {', '.join(STATES)}.")
    return asked
