"""The emulated services under one address: the Developer API, Cloud Storage, and the controls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.emulator.batch_calls import BatchCalls
from pipeline.emulator.batches import Batches
from pipeline.emulator.calls import Call, Handler, endpoint, nothing, refused
from pipeline.emulator.clock import VirtualClock, http_date, moment, parse, rfc3339
from pipeline.emulator.disk import Disk, Kept
from pipeline.emulator.downloads import Downloads
from pipeline.emulator.events import Events
from pipeline.emulator.faults import Faults, ordered
from pipeline.emulator.files import Files
from pipeline.emulator.gcs import CloudStorage
from pipeline.emulator.ledger import ledger
from pipeline.emulator.model_calls import ModelCalls
from pipeline.emulator.online import Online
from pipeline.emulator.problems import Problem
from pipeline.emulator.quota import Quota
from pipeline.emulator.scenario import Scenario
from pipeline.emulator.settings import Settings
from pipeline.emulator.upload_calls import FileCalls
from pipeline.emulator.vertex import Predictions
from pipeline.emulator.vertex_calls import PredictionCalls, bearer
from pipeline.emulator.webhook_calls import WebhookCalls
from pipeline.emulator.webhooks import Webhooks

VERSIONS = ("v1", "v1beta")
TICK = 0.1  # seconds of real time
VERTEX_VERSIONS = ("v1", "v1beta1")
WORKERS = 3  # one more than the usual test machine's cores: some of the work waits for the others' lock


class Emulator:
    """All state there is, and the routes to it. Everything but making pictures happens on the server's one
    loop.
    """

    def __init__(self, settings: Settings, clock: VirtualClock) -> None:
        self.clock = clock
        self.events = Events(clock)
        self.faults = Faults(self.events)
        self.files = Files(settings, clock)
        self.batches = Batches(settings, clock, self.files, self.faults)
        self.workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="pictures")
        self.storage = CloudStorage(
            lambda: moment(clock.now()),
            buckets=settings.buckets,
            folder=settings.data / "objects" if settings.keep else None,
        )
        self.predictions = Predictions(settings, clock, self.storage.objects, self.faults)
        self.webhooks = Webhooks(settings, clock, self.events)
        self._messenger = ThreadPoolExecutor(1, thread_name_prefix="webhooks")
        self._telling: asyncio.Future[None] | None = None
        self._webhook_calls = WebhookCalls(clock, self.webhooks)
        self.online = Online(settings, clock, self.faults, self.workers)
        quota = Quota(settings, clock, self.faults, batches=self.batches, predictions=self.predictions)
        self._batch_calls = BatchCalls(settings, clock, self.batches, self.files, quota=quota)
        self._prediction_calls = PredictionCalls(clock, self.predictions, self.storage.objects, quota=quota)
        self._file_calls = FileCalls(self.files)
        self._model_calls = ModelCalls(clock)
        self._downloads = Downloads(settings, clock, self.batches, self.workers)
        self._catching_up = asyncio.Lock()
        self._said, self._happened = 0, False
        self.resumed = False
        self.disk = Disk(settings.data, self) if settings.keep else None
        if self.disk is not None:
            self.disk.load()

    @property
    def changed(self) -> bool:
        """Whether something happened, beside what was asked for, that is to be kept."""
        return self._happened or self.events.faults != self._said

    @changed.setter
    def changed(self, value: bool) -> None:
        self._happened, self._said = value, self.events.faults

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """For as long as it takes nothing begins or ends by the clock."""
        async with self._catching_up:
            yield

    def state(self) -> dict[str, Any]:
        """Everything that a restart must not lose, as it is at this moment."""
        return {
            "clock": (self.clock.now(), self.clock.speed),
            "faults": self.faults.all(),
            "files": self.files.state(),
            "batches": self.batches.state(),
            "predictions": self.predictions.jobs,
            "objects": self.storage.objects.state(),
            "storage faults": (self.storage.faults.waiting, self.storage.faults.happened),
            "webhooks": self.webhooks.state(),
            "online": (self.online.billed, self.online.calls),
        }

    def take_up(self, state: dict[str, Any]) -> None:
        """Go on from what another process has left."""
        self.resumed = True
        self.clock.take_up(state["clock"])
        for fault in state["faults"]:
            self.faults.add(fault)
        self.files.take_up(state["files"])
        self.batches.take_up(state["batches"])
        self.predictions.jobs.update(state["predictions"])
        self.storage.objects.take_up(state["objects"])
        self.storage.faults.waiting, self.storage.faults.happened = state["storage faults"]
        self.online.billed, self.online.calls = state["online"]
        self.webhooks.take_up(state["webhooks"])

    async def catch_up(self) -> None:
        """Before anything is answered, whatever the clock says has happened happens."""
        async with self._catching_up:
            loop = asyncio.get_running_loop()
            if self.batches.due():
                self._happened = True
                await loop.run_in_executor(self.workers, self.batches.begin_due)
            if self.predictions.due():
                self._happened = True
                files = await loop.run_in_executor(self.workers, self.predictions.begin_due)
                self.predictions.publish(files)
            self.files.sweep()
            self.webhooks.notice(self.batches.all())
        self._tell()

    def _tell(self) -> None:
        """Have what is due sent, by a task of its own: a receiver may ask us before it answers."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._send_due())

    async def _send_due(self) -> None:
        for notice in self.webhooks.due():
            await asyncio.get_running_loop().run_in_executor(self._messenger, self.webhooks.send, notice)

    async def keep_time(self) -> None:
        """While the clock runs by itself, jobs end unasked, and somebody may wait to be told."""
        while True:
            await asyncio.sleep(TICK)
            if self.clock.speed and self.webhooks.waits(self.batches.all()):
                await self.catch_up()

    def routes(self) -> list[Route]:
        developer = (route for version in VERSIONS for route in self._developer(version))
        vertex = (route for version in VERTEX_VERSIONS for route in self._vertex(version))
        return [*self._controls(), *developer, *vertex, *self.storage.routes]

    def close(self) -> None:
        self.workers.shutdown(wait=False, cancel_futures=True)
        self._messenger.shutdown(wait=False, cancel_futures=True)
        if self.disk is not None:
            self.disk.save_now()
        self.events.close()
        self.storage.objects.close()

    def _developer(self, version: str) -> list[Route]:
        batches, files, downloads = self._batch_calls, self._file_calls, self._downloads
        base = f"/{version}"
        return [
            self._route(f"{base}/models/{{model}}:batchGenerateContent", "POST", "create", batches.create),
            self._route(f"{base}/models/{{model}}:generateContent", "POST", "generate", self._generate),
            self._route(f"{base}/models/{{model}}:predict", "POST", "predict", self._predict),
            self._route(f"{base}/models/{{model}}", "GET", "models.get", self._model_calls.get),
            self._route(f"{base}/batches", "GET", "list", batches.list),
            self._route(f"{base}/batches/{{batch}}:cancel", "POST", "cancel", batches.cancel),
            self._route(f"{base}/batches/{{batch}}", "GET", "get", batches.get),
            self._route(f"{base}/batches/{{batch}}", "DELETE", "delete", batches.delete),
            *self._hooks(f"{base}/webhooks"),
            self._upload(f"/upload{base}/files"),
            self._route(f"/download{base}/files/{{file}}:download", "GET", "download", downloads.download),
            self._route(f"{base}/files/{{file}}:download", "GET", "download", downloads.download),
            self._route(f"{base}/files", "GET", "files.list", files.list),
            self._route(f"{base}/files/{{file}}", "GET", "files.get", files.get),
            self._route(f"{base}/files/{{file}}", "DELETE", "files.delete", files.delete),
        ]

    def _hooks(self, base: str) -> list[Route]:
        hooks, one = self._webhook_calls, f"{base}/{{webhook}}"
        return [
            self._route(base, "POST", "webhooks.create", hooks.create),
            self._route(base, "GET", "webhooks.list", hooks.list),
            self._route(f"{one}:ping", "POST", "webhooks.ping", self._ping),
            self._route(f"{one}:rotateSigningSecret", "POST", "webhooks.rotate", hooks.rotate),
            self._route(one, "GET", "webhooks.get", hooks.get),
            self._route(one, "PATCH", "webhooks.update", hooks.update),
            self._route(one, "DELETE", "webhooks.delete", hooks.delete),
        ]

    async def _ping(self, call: Call) -> Response:
        response = await self._webhook_calls.ping(call)
        self._tell()
        return response

    def _vertex(self, version: str) -> list[Route]:
        jobs = self._prediction_calls
        place = f"/{version}/projects/{{project}}/locations/{{location}}"
        base, model = f"{place}/batchPredictionJobs", f"{place}/publishers/google/models/{{model}}"
        published = f"/{version}/publishers/google/models/{{model}}"
        return [
            self._route(published, "GET", "models.get", self._model_calls.get_on_vertex),
            self._route(base, "POST", "create", jobs.create),
            self._route(base, "GET", "list", jobs.list),
            self._route(f"{base}/{{job}}:cancel", "POST", "cancel", jobs.cancel),
            self._route(f"{base}/{{job}}", "GET", "get", jobs.get),
            self._route(f"{base}/{{job}}", "DELETE", "delete", jobs.delete),
            self._route(f"{model}:generateContent", "POST", "generate", self._generate_on_vertex),
            self._route(f"{model}:predict", "POST", "predict", self._predict_on_vertex),
        ]

    async def _generate(self, call: Call) -> Response:
        account = call.account
        at = self.clock.now()
        return await self.online.generate(
            call,
            platform="developer",
            account=account,
            resolve=lambda uri: self.files.reference(account, uri, at=at),
        )

    async def _generate_on_vertex(self, call: Call) -> Response:
        return await self.online.generate(
            call, platform="vertex", account=bearer(call), resolve=self.predictions.reference
        )

    async def _predict(self, call: Call) -> Response:
        return await self.online.predict(call, platform="developer", account=call.account)

    async def _predict_on_vertex(self, call: Call) -> Response:
        return await self.online.predict(call, platform="vertex", account=bearer(call))

    def _endpoint(self, method: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        return endpoint(method, handler, before=self.catch_up, faults=self.faults, events=self.events)

    def _route(self, path: str, verb: str, method: str, handler: Handler) -> Route:
        return Route(path, self._endpoint(method, handler), methods=[verb])

    def _upload(self, path: str) -> Route:
        """One path for all of an upload: the first request has no id yet."""
        start = self._endpoint("upload.start", self._file_calls.start)
        chunk = self._endpoint("upload.chunk", self._file_calls.go_on)

        async def upload(request: Request) -> Response:
            return await (chunk if "upload_id" in request.query_params else start)(request)

        return Route(path, upload, methods=["POST"])

    def _controls(self) -> list[Route]:
        return [
            Route("/_clock", self._clock, methods=["GET", "POST"]),
            Route("/_faults", self._faults, methods=["GET", "POST", "DELETE"]),
            Route("/_ledger", self._ledger, methods=["GET"]),
            Route("/_events", self._events, methods=["GET"]),
            Route("/_webhooks", self._webhooks, methods=["GET"]),
            Route("/.well-known/jwks.json", self._keys, methods=["GET"]),
        ]

    async def _clock(self, request: Request) -> Response:
        if request.method == "POST":
            order: dict[str, Any] = msgspec.json.decode(await request.body())
            try:
                turn(self.clock, order)
            except (KeyError, TypeError, ValueError) as error:
                return refused(400, f"not an order for the clock: {error}")
            await self.catch_up()
        return JSONResponse({"now": rfc3339(self.clock.now()), "speed": self.clock.speed})

    async def _faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults.clear()
            return nothing()
        if request.method == "POST":
            try:
                orders: Any = msgspec.json.decode(await request.body())
                faults = [ordered(order) for order in (orders if isinstance(orders, list) else [orders])]
            except (AttributeError, TypeError, ValueError) as error:
                return refused(400, f"not a fault: {error}")
            for fault in faults:
                self.faults.add(fault)
        return JSONResponse(self.faults.as_json())

    async def _ledger(self, request: Request) -> Response:
        await self.catch_up()
        rows = request.query_params.get("rows") != "0"
        jobs, predictions = self.batches.all(), self.predictions.jobs.values()
        return JSONResponse(ledger(jobs, predictions, self.online.billed, now=self.clock.now(), rows=rows))

    async def _webhooks(self, _request: Request) -> Response:
        await self.catch_up()
        return JSONResponse([notice.as_json() for notice in self.webhooks.notices])

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(lambda: self.webhooks.keys))

    async def _events(self, request: Request) -> Response:
        after = int(request.query_params.get("after") or 0)
        return JSONResponse({"events": list(self.events.after(after))})


def turn(clock: VirtualClock, order: dict[str, Any]) -> None:
    """One of `set`, `at_least`, `advance` and `speed`, or several, in this order."""
    if unknown := order.keys() - {"set", "at_least", "advance", "speed"}:
        raise ValueError(f"unknown {sorted(unknown)}")
    if "set" in order:
        clock.set(parse(order["set"]))
    if "at_least" in order:
        clock.at_least(parse(order["at_least"]))
    if "advance" in order:
        clock.advance(float(order["advance"]))
    if "speed" in order:
        clock.run_at(float(order["speed"]))


class Dated:
    """Every response carries the virtual time as its `Date`: clients may trust no other clock."""

    def __init__(self, app: ASGIApp, clock: VirtualClock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", http_date(self._clock.now()).encode())]
            await send(message)

        await self._app(scope, receive, dated)


NO_PATH = (
    "The request has no path: with an address of its own in the environment, Google's SDK leaves the path out on "
    "Vertex AI unless the program itself says project and location, as in "
    "genai.Client(vertexai=True, project='emulator', location='global', credentials=...)."
)


async def unknown_path(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    if code != 404:
        return Problem(code, str(error)).response()
    # The service would say no more than the second; a program that works there deserves to be told why not here.
    words = NO_PATH if request.url.path == "/" else "The requested URL was not found on this server."
    return Problem(404, words).response()


def build(settings: Settings, clock: VirtualClock, scenario: Scenario | None = None) -> ASGIApp:
    """The whole emulator as an ASGI application with a state of its own.

    Where it goes on from an earlier one's, the scenario's faults are in force already.
    """
    emulator = Emulator(settings, clock)
    if scenario is not None and not emulator.resumed:
        for fault in scenario.faults:
            emulator.faults.add(fault)
        emulator.storage.faults.waiting.extend(scenario.storage_faults)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        ticking = asyncio.ensure_future(emulator.keep_time())
        yield
        ticking.cancel()
        emulator.close()

    app = Starlette(
        routes=emulator.routes(),
        exception_handlers={HTTPException: unknown_path, 404: unknown_path, 405: unknown_path},
        lifespan=lifespan,
    )
    kept = app if emulator.disk is None else Kept(app, emulator, emulator.disk)
    return Dated(kept, clock)
