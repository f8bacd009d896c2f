"""Batch jobs over HTTP: create, get, list, cancel, delete."""

from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from pipeline.emulator.batches import Batches, lines_of, operation
from pipeline.emulator.calls import Call, nothing, page_token
from pipeline.emulator.clock import SECOND, VirtualClock
from pipeline.emulator.fields import ANY, NUMBER, TEXT
from pipeline.emulator.files import File, Files
from pipeline.emulator.models import find
from pipeline.emulator.problems import Problem
from pipeline.emulator.quota import Quota
from pipeline.emulator.settings import Settings
from pipeline.emulator.webhooks import check_address

CREATE = {
    "batch": {
        "name": TEXT,
        "model": TEXT,
        "displayName": TEXT,
        "inputConfig": {"fileName": TEXT, "requests": {"requests": [{"request": ANY, "metadata": ANY}]}},
        "priority": NUMBER,
        "webhookConfig": {"uris": [TEXT], "userMetadata": ANY},
    }
}
PAGE, LARGEST_PAGE = 50, 100


class BatchCalls:
    def __init__(
        self, settings: Settings, clock: VirtualClock, batches: Batches, files: Files, *, quota: Quota
    ) -> None:
        self._quota = quota
        self._settings = settings
        self._clock = clock
        self._batches = batches
        self._files = files

    async def create(self, call: Call) -> Response:
        """Accept a job and bill it in due time. Nothing in the request could say that it is a repetition."""
        account = call.account
        batch: dict[str, Any] = (await call.json(CREATE)).get("batch") or {}
        name = call.request.path_params["model"]
        call.meet(display_name=batch.get("displayName"), model=name)
        model = find(name, now=self._clock.now())
        if model is None or call.faults.retired(name, at=self._clock.now()):
            raise Problem(404, f"models/{name} is not found, or is not supported for batchGenerateContent.")
        size = int(call.request.headers["content-length"])
        source = self._source(account, batch.get("inputConfig") or {}, size)
        for uri in (batch.get("webhookConfig") or {}).get("uris") or ():
            check_address(uri)
        weight = await self._quota.weigh(call.facts, model, lambda: lines_of(source))
        self._quota.admit(call.facts, account, model, weight=weight)
        job = self._batches.create(
            account,
            model=model,
            source=source,
            display_name=batch.get("displayName"),
            priority=int(batch.get("priority") or 0),
            webhook=batch.get("webhookConfig"),
        )
        job.weight = weight
        call.facts["job"] = job.name
        return JSONResponse(operation(job, job.created - 1))  # even a job without a queue is pending at first

    def _source(self, account: str, config: dict[str, Any], size: int) -> File | list[bytes]:
        requests = (config.get("requests") or {}).get("requests")
        if bool(requests) == bool(config.get("fileName")):
            raise Problem(400, "A batch has either a fileName or requests, and not none.")
        if not requests:
            name = str(config["fileName"])
            if not name.startswith("files/"):
                raise Problem(400, f"inputConfig.fileName {name!r} is not files/<id>.")
            return self._files.get(account, name)
        if size > self._settings.inline_limit:
            raise Problem(
                400, f"Request payload size exceeds the limit: {self._settings.inline_limit} bytes."
            )
        return [inline_line(request) for request in requests]

    async def get(self, call: Call) -> Response:
        account, name = call.account, call.request.path_params["batch"]
        job = self._batches.get(account, name)
        call.meet(display_name=job.display_name, model=job.model.name, name=job.name)
        odd = call.faults.take("unknown_state", **call.facts)
        limit = call.faults.take("no_reply_over", **call.facts) if isinstance(job.source, list) else None
        if limit is not None and job.result is not None and job.result.size > limit["bytes"]:
            raise Problem(503, "The service is currently unavailable.")
        return JSONResponse(operation(job, self._clock.now(), state=odd["value"] if odd else None))

    async def list(self, call: Call) -> Response:
        account = call.account
        call.meet()
        size, last = call.page(PAGE)
        now = self._clock.now()
        jobs = [job for job in self._batches.of(account) if last is None or job.number < last]
        if (lag := call.faults.take("list_lags", **call.facts)) is not None:
            jobs = [job for job in jobs if job.created <= now - round(lag["seconds"] * SECOND)]
        truncated = call.faults.take("list_truncated", **call.facts)
        if call.faults.take("list_empty", **call.facts) is not None:
            jobs = []
        shown = jobs[: min((truncated or {}).get("size") or size, LARGEST_PAGE)]
        page: dict[str, Any] = {
            "operations": [operation(job, now, outputs=self._small(job)) for job in shown]
        }
        if not shown:
            return nothing()
        if len(jobs) > len(shown) and truncated is None:
            page["nextPageToken"] = page_token(shown[-1])
        return JSONResponse(page)

    def _small(self, job: Any) -> bool:
        """A listing names result files; it does not carry pictures."""
        return isinstance(job.source, File)

    async def cancel(self, call: Call) -> Response:
        self._batches.cancel(self._one(call))
        return nothing()

    async def delete(self, call: Call) -> Response:
        self._batches.delete(self._one(call))
        return nothing()

    def _one(self, call: Call) -> Any:
        job = self._batches.get(call.account, call.request.path_params["batch"])
        call.meet(display_name=job.display_name, model=job.model.name, name=job.name)
        return job


def inline_line(request: dict[str, Any]) -> bytes:
    """An inline request as the line it would have been."""
    metadata = request.get("metadata") or {}
    key = {"key": metadata["key"]} if isinstance(metadata, dict) and "key" in metadata else {}
    return msgspec.json.encode(key | {"request": request.get("request")})
