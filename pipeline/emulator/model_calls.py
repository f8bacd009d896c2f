"""What each platform says of a model, and whether it has it at all. Asking costs nothing."""

from typing import Any

from starlette.responses import JSONResponse, Response

from pipeline.emulator.calls import Call
from pipeline.emulator.clock import VirtualClock
from pipeline.emulator.imagen import find_imagen
from pipeline.emulator.models import find
from pipeline.emulator.problems import Problem

METHODS = ("generateContent", "countTokens", "batchGenerateContent")
INPUT_TOKENS, OUTPUT_TOKENS = 65_536, 32_768


class ModelCalls:
    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    async def get(self, call: Call) -> Response:
        """A model of the Developer API, with the methods that it can be asked by."""
        name = call.request.path_params["model"]
        call.meet(model=name, account=call.account)
        now = self._clock.now()
        methods: tuple[str, ...] = METHODS if find(name, now=now) else ()
        if find_imagen(name, now=now, platform="developer"):
            methods = ("predict",)
        if not methods or call.faults.retired(name, at=now):
            raise Problem(404, f"models/{name} is not found for API version v1.")
        model: dict[str, Any] = {
            "name": f"models/{name}",
            "version": "001",
            "displayName": name,
            "inputTokenLimit": INPUT_TOKENS,
            "outputTokenLimit": OUTPUT_TOKENS,
            "supportedGenerationMethods": list(methods),
        }
        return JSONResponse(model)

    async def get_on_vertex(self, call: Call) -> Response:
        """A publisher's model. It does not say whether it comes in batches."""
        kind, _, token = call.request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise Problem(401, "Request is missing required authentication credential.")
        name, now = call.request.path_params["model"], self._clock.now()
        call.meet(model=name)
        known = find(name, now=now) or find_imagen(name, now=now, platform="vertex")
        if known is None or call.faults.retired(name, at=now):
            raise Problem(404, f"Publisher Model `publishers/google/models/{name}` was not found.")
        return JSONResponse(
            {"name": f"publishers/google/models/{name}", "versionId": "default", "launchStage": "GA"}
        )
