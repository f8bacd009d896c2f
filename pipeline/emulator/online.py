"""Answers at once, at the full price: `generateContent` on both platforms, and Imagen's `predict`."""

import asyncio
import base64
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from pipeline.emulator.answers import Answer, Maker
from pipeline.emulator.calls import Call
from pipeline.emulator.clock import VirtualClock
from pipeline.emulator.faults import Faults
from pipeline.emulator.fields import LINE, REQUEST, VERTEX_LINE, VERTEX_REQUEST
from pipeline.emulator.imagen import HARM, PREDICT, Imagen, Order, find_imagen
from pipeline.emulator.lines import Resolve
from pipeline.emulator.models import find
from pipeline.emulator.pictures import render
from pipeline.emulator.problems import HTTP_CODES, Problem
from pipeline.emulator.reading import Reader
from pipeline.emulator.settings import Settings

Platform = Literal["developer", "vertex"]
FILTERED = ("no_image", "image_safety")
"""Faults of rows that leave Imagen with a reason instead of a picture, or of so many `pictures` of a call."""

_BLOCKED = (
    "The prompt could not be submitted. This prompt contains sensitive words that violate Google's Responsible AI"
    " practices. Try rephrasing the prompt. If you think this was an error, send feedback. Support codes: 61493863"
)
_WITHHELD = (
    "Unable to show {which} images. {which} images were filtered out because they violated Vertex AI's usage"
    " guidelines. You will not be charged for blocked images. Try rephrasing the prompt. If you think this was an"
    " error, send feedback. Support codes: {code}"
)


@dataclass(frozen=True, slots=True)
class Billed:
    """One answered call, as the cash register has it."""

    number: int
    at: int
    method: str
    account: str
    model: str
    pictures: int
    nanodollars: int


class Online:
    """Answers calls, and remembers what each has cost."""

    def __init__(self, settings: Settings, clock: VirtualClock, faults: Faults, workers: Executor) -> None:
        self._settings = settings
        self._clock = clock
        self._faults = faults
        self._workers = workers
        self.billed: list[Billed] = []
        self.calls = 0

    async def generate(self, call: Call, *, platform: Platform, account: str, resolve: Resolve) -> Response:
        """One request, answered with what a batch job would have given it."""
        name = call.request.path_params["model"]
        call.meet(model=name)
        model = find(name, now=self._clock.now())
        if model is None or call.faults.retired(name, at=self._clock.now()):
            raise Problem(404, f"models/{name} is not found, or is not supported for generateContent.")
        self._check_size(call, await call.request.body())
        body = await call.json(REQUEST if platform == "developer" else VERTEX_REQUEST)
        self.calls += 1
        reader = Reader(
            self._settings,
            self._faults,
            model=model,
            display_name=None,
            resolve=resolve,
            shape=LINE if platform == "developer" else VERTEX_LINE,
        )
        answer = await self._in_worker(
            lambda: reader.answer({"request": body}, self.calls, key=None, where="")
        )
        if answer.error is not None:
            code, message = answer.error
            raise Problem(HTTP_CODES.get(code, 500), message)
        maker = Maker(model, self._settings.picture_bytes, platform, online=True, marked=self._settings.c2pa)
        data = await self._in_worker(lambda: whole(maker, answer))
        self._bill(call, account, model.name, pictures=answer.pictures, cost=maker.usage(answer).nanodollars)
        return Response(data, media_type="application/json")

    async def predict(self, call: Call, *, platform: Platform, account: str) -> Response:
        """Pictures for one prompt by Imagen, which answers at once or not at all."""
        name = call.request.path_params["model"]
        call.meet(model=name)
        model = find_imagen(name, now=self._clock.now(), platform=platform)
        if model is None or call.faults.retired(name, at=self._clock.now()):
            raise Problem(404, f"models/{name} is not found, or is not supported for predict.")
        order = model.read(await call.json(PREDICT), salt=str(self._settings.seed).encode())
        self.calls += 1
        kinds = self._faults.of_row(
            order.seed, key=None, prompt=order.prompt, number=self.calls, display_name=None, model=name
        )
        for kind, told in kinds:
            if kind == "row_error":
                raise Problem(HTTP_CODES.get(told["code"], 500), told["message"])
            if kind == "prompt_blocked":
                raise Problem(400, _BLOCKED)
        code = order.withheld_for()
        filtered = order.count if code else _filtered(kinds, order.count)
        body = await self._in_worker(lambda: self._predictions(model, order, filtered, code or HARM))
        made = order.count - filtered
        self._bill(call, account, model.name, pictures=made, cost=made * model.nanodollars)
        data = _afflicted(msgspec.json.encode(body), [kind for kind, _ in kinds])
        return Response(data, media_type="application/json")

    def _predictions(self, model: Imagen, order: Order, filtered: int, code: str) -> dict[str, Any]:
        predictions: list[dict[str, Any]] = []
        for number in range(order.count - filtered):
            picture = model.picture(order, number, weight=self._settings.picture_bytes)
            data = base64.b64encode(render(picture)).decode()
            more: dict[str, Any] = {"prompt": order.enhanced} if order.enhance else {}
            more |= {"safetyAttributes": order.attributes(number)} if order.scores else {}
            predictions.append({"bytesBase64Encoded": data, "mimeType": order.mime} | more)
        if filtered and order.reasons:
            which = "All" if filtered == order.count else "Some"
            predictions.append({"raiFilteredReason": _WITHHELD.format(which=which, code=code)})
        if order.scores:
            of_prompt = {"contentType": "Positive Prompt", "safetyAttributes": order.attributes(None)}
            predictions.append(of_prompt)
        return {"predictions": predictions} if predictions else {}

    def _check_size(self, call: Call, body: bytes) -> None:
        if len(body) > self._settings.inline_limit:
            limit = self._settings.inline_limit
            raise Problem(400, f"Request payload size exceeds the limit: {limit} bytes.")

    def _bill(self, call: Call, account: str, model: str, *, pictures: int, cost: int) -> None:
        number = len(self.billed) + 1
        self.billed.append(Billed(number, self._clock.now(), call.method, account, model, pictures, cost))

    async def _in_worker(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)


def _filtered(kinds: Iterable[tuple[str, Mapping[str, Any]]], count: int) -> int:
    """How many pictures of a call are withheld by order."""
    told = [arguments.get("pictures") for kind, arguments in kinds if kind in FILTERED]
    return max((count if most is None else min(most, count) for most in told), default=0)


def _afflicted(body: bytes, kinds: Collection[str]) -> bytes:
    """The answer as misfortune leaves it, the first of its pictures spoilt."""
    value = msgspec.json.decode(body)
    pictures = [one for one in value.get("predictions", ()) if "bytesBase64Encoded" in one]
    if not pictures or not {"broken_picture", "wrong_mime"} & {*kinds}:
        return body
    if "broken_picture" in kinds:
        pictures[0]["bytesBase64Encoded"] = pictures[0]["bytesBase64Encoded"][:4000]
    if "wrong_mime" in kinds:
        other = {"image/png": "image/jpeg", "image/jpeg": "image/png"}
        pictures[0]["mimeType"] = other[pictures[0]["mimeType"]]
    return msgspec.json.encode(value)


def whole(maker: Maker, answer: Answer) -> bytes:
    """The response alone, with its pictures."""
    value, pictures = maker.value(answer, 0)
    return maker.filled(answer, value["response"], pictures)
