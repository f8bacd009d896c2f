"""Objects made from objects: composed, copied, rewritten and moved, each decided at one moment."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.emulator.gcs_faults import Faults, after, before
from pipeline.emulator.gcs_objects import CHANGEABLE, Conditions, Draft, Object, Objects, Problem
from pipeline.emulator.gcs_requests import base_of, number_of, parsed

MOST_SOURCES = 32


class Copies:
    """The verbs that need no bytes from the client."""

    def __init__(self, objects: Objects, faults: Faults) -> None:
        self._objects = objects
        self._faults = faults

    async def compose(self, request: Request) -> Response:
        """Several objects of a bucket end to end. Nobody has its MD5."""
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        body = parsed(await request.body())
        fault = self._faults.meet("compose", name)
        await before(fault, request)
        wanted = body.get("sourceObjects") or []
        if not 1 <= len(wanted) <= MOST_SOURCES:
            message = f"The number of source components provided ({len(wanted)}) is not 1 to {MOST_SOURCES}."
            raise Problem(400, message)
        sources = [self._source(bucket, each) for each in wanted]
        draft = self._objects.draft()
        for source in sources:
            poured(source, draft)
        fields = {"contentType": sources[0].fields.get("contentType", "application/octet-stream")}
        fields |= settings(body.get("destination") or {})
        fields["componentCount"] = sum(int(source.fields.get("componentCount", 1)) for source in sources)
        made = self._commit(bucket, name, draft, fields, Conditions.of(request.query_params), md5=False)
        return await after(fault, request, JSONResponse(made.resource(base_of(request))))

    def _source(self, bucket: str, wanted: Mapping[str, Any]) -> Object:
        generation = wanted.get("generation")
        found = self._objects.find(
            bucket, str(wanted.get("name")), generation=int(generation) if generation else None
        )
        Conditions.of(
            {name: str(value) for name, value in (wanted.get("objectPreconditions") or {}).items()}
        ).check(found)
        return found

    async def copy(self, request: Request) -> Response:
        fault, made = await self._copied(request)
        return await after(fault, request, JSONResponse(made.resource(base_of(request))))

    async def rewrite(self, request: Request) -> Response:
        """A copy that a big object may need several calls for; here one is always enough."""
        fault, made = await self._copied(request)
        size = str(made.body.size)
        answer = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": size,
            "objectSize": size,
            "done": True,
            "resource": made.resource(base_of(request)),
        }
        return await after(fault, request, JSONResponse(answer))

    async def _copied(self, request: Request) -> tuple[Any, Object]:
        path, query = request.path_params, request.query_params
        changes = parsed(await request.body())
        fault = self._faults.meet("copy", path["to_name"])
        await before(fault, request)
        source = self._objects.find(
            path["bucket"], path["name"], generation=number_of(query, "sourceGeneration")
        )
        source_conditions(query).check(source)
        draft = self._objects.draft()
        poured(source, draft)
        fields = settings(changes) or dict(source.fields)
        fields.setdefault("contentType", source.fields.get("contentType", "application/octet-stream"))
        conditions = Conditions.of(query)
        made = self._commit(
            path["to_bucket"], path["to_name"], draft, fields, conditions, md5=bool(source.body.md5)
        )
        return fault, made

    async def move(self, request: Request) -> Response:
        """Another name in the same bucket, in one step."""
        path, query = request.path_params, request.query_params
        fault = self._faults.meet("copy", path["to_name"])
        await before(fault, request)
        source = self._objects.find(path["bucket"], path["name"])
        source_conditions(query).check(source)
        Conditions.of(query).check(self._objects.current(path["bucket"], path["to_name"]))
        draft = self._objects.draft()
        poured(source, draft)
        made = self._commit(
            path["bucket"],
            path["to_name"],
            draft,
            dict(source.fields),
            Conditions(),
            md5=bool(source.body.md5),
        )
        self._objects.delete(source)
        return await after(fault, request, JSONResponse(made.resource(base_of(request))))

    def _commit(
        self,
        bucket: str,
        name: str,
        draft: Draft,
        fields: dict[str, Any],
        conditions: Conditions,
        *,
        md5: bool,
    ) -> Object:
        body = draft.finish()
        try:
            if not md5:
                body = replace(body, md5="")
            return self._objects.insert(bucket, name, body, fields=fields, conditions=conditions)
        except Problem:
            draft.drop()
            raise


def poured(source: Object, draft: Draft) -> None:
    with source.body.open() as data:
        while piece := data.read(1024**2):
            draft.write(piece)


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in CHANGEABLE if given.get(name) is not None}


def source_conditions(query: Mapping[str, str]) -> Conditions:
    """What must hold of the source, which a request says with a prefix of its own."""
    prefix = "ifsource"
    return Conditions.of(
        {
            "if" + name[len(prefix) :]: value
            for name, value in query.items()
            if name.lower().startswith(prefix)
        }
    )
