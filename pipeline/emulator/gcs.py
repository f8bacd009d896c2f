"""Cloud Storage on 127.0.0.1: the JSON API as far as Google's clients use it for plain objects.

What comes in is there whole or not at all, what goes out carries its checksums, and preconditions are decided
at the moment of the change. Old generations are not kept. Bad luck comes from gcs_faults.
"""

import functools
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.emulator.gcs_batch import Batch
from pipeline.emulator.gcs_copies import Copies
from pipeline.emulator.gcs_faults import Faults, Severed, after, before
from pipeline.emulator.gcs_media import media as media_of
from pipeline.emulator.gcs_objects import PAGE, Conditions, Object, Objects, Problem, not_found
from pipeline.emulator.gcs_requests import base_of, chosen, glob, number_of, parsed
from pipeline.emulator.gcs_uploads import Session, commit, hashes_of, split_multipart, target_of
from pipeline.emulator.gcs_xml import XmlApi

_FINISHED = 200
"""Sessions whose outcome is remembered, for clients that lost the answer."""

Handler = Callable[[Request], Awaitable[Response]]


class CloudStorage:
    """The routes of a Cloud Storage, what it holds, and the faults it is to have."""

    def __init__(
        self, now: Callable[[], datetime], *, buckets: Iterable[str] = (), folder: Path | None = None
    ) -> None:
        self.objects = Objects(now, buckets=buckets, folder=folder)
        self.faults = Faults()
        self._sessions: dict[str, Session] = {}
        upload = "/upload/storage/v1/b/{bucket}/o"
        media = "/download/storage/v1/b/{bucket}/o/{name:path}"
        buckets_path, objects_path = "/storage/v1/b", "/storage/v1/b/{bucket}/o"
        named, elsewhere = objects_path + "/{name:path}", "/b/{to_bucket}/o/{to_name:path}"
        copies = Copies(self.objects, self.faults)
        xml = XmlApi(self.objects, self.faults)
        routes = [
            Route("/_gcs/faults", _answering(self.faults.endpoint), methods=["GET", "POST", "DELETE"]),
            Route(upload, _answering(self._upload), methods=["POST"]),
            Route(upload, _answering(self._resume), methods=["PUT"]),
            Route(upload, _answering(self._cancel), methods=["DELETE"]),
            Route(media, _answering(self._get), methods=["GET"]),
            Route(named + "/compose", _answering(copies.compose), methods=["POST"]),
            Route(named + "/copyTo" + elsewhere, _answering(copies.copy), methods=["POST"]),
            Route(named + "/rewriteTo" + elsewhere, _answering(copies.rewrite), methods=["POST"]),
            Route(named + "/moveTo/o/{to_name:path}", _answering(copies.move), methods=["POST"]),
            Route(objects_path + "/{name:path}", _answering(self._get), methods=["GET"]),
            Route(objects_path + "/{name:path}", _answering(self._change), methods=["PATCH", "PUT"]),
            Route(objects_path + "/{name:path}", _answering(self._delete), methods=["DELETE"]),
            Route(objects_path, _answering(self._list), methods=["GET"]),
            Route(buckets_path, _answering(self._create_bucket), methods=["POST"]),
            Route(buckets_path, _answering(self._list_buckets), methods=["GET"]),
            Route(buckets_path + "/{bucket}", _answering(self._get_bucket), methods=["GET"]),
            Route(
                buckets_path + "/{bucket}/iam/testPermissions", _answering(self._permissions), methods=["GET"]
            ),
            Route(buckets_path + "/{bucket}", _answering(self._delete_bucket), methods=["DELETE"]),
        ]
        batch = Batch(routes)
        self.routes = [
            *routes,
            Route("/batch/storage/v1", _answering(batch.answer), methods=["POST"]),
            # Last of all, here and among all the emulator's routes: any two words could be meant.
            Route("/{bucket}", _answering(xml.bucket), methods=["GET"]),
            Route(
                "/{bucket}/{name:path}",
                _answering(xml.answer),
                methods=["GET", "HEAD", "PUT", "POST", "DELETE"],
            ),
        ]

    async def _upload(self, request: Request) -> Response:
        match request.query_params.get("uploadType"):
            case "media":
                return await self._upload_media(request)
            case "multipart":
                return await self._upload_multipart(request)
            case "resumable":
                return await self._start(request)
            case other:
                raise Problem(400, f"Invalid upload type: {other!r}")

    async def _upload_media(self, request: Request) -> Response:
        bucket = self.objects.bucket(request.path_params["bucket"]).name
        kind = request.headers.get("content-type")
        target = target_of(bucket, request.query_params, {}, kind)
        fault = self.faults.meet("insert", target.name)
        await before(fault, request)
        draft = self.objects.draft()
        async for piece in request.stream():
            draft.write(piece)
        made = commit(self.objects, draft, target, hashes_of(request.headers))
        return await after(fault, request, JSONResponse(made.resource(base_of(request))))

    async def _upload_multipart(self, request: Request) -> Response:
        bucket = self.objects.bucket(request.path_params["bucket"]).name
        body = await request.body()
        metadata, kind, media = split_multipart(body, request.headers.get("content-type", ""))
        target = target_of(bucket, request.query_params, metadata, kind)
        fault = self.faults.meet("insert", target.name)
        await before(fault, request)
        draft = self.objects.draft()
        draft.write(bytes(media))
        made = commit(self.objects, draft, target, hashes_of(request.headers))
        return await after(fault, request, JSONResponse(made.resource(base_of(request))))

    async def _start(self, request: Request) -> Response:
        bucket = self.objects.bucket(request.path_params["bucket"]).name
        metadata = parsed(await request.body())
        target = target_of(
            bucket, request.query_params, metadata, request.headers.get("x-upload-content-type")
        )
        fault = self.faults.meet("start", target.name)
        await before(fault, request)
        target.conditions.check(self.objects.current(bucket, target.name))
        announced = request.headers.get("x-upload-content-length")
        session = Session(self.objects, target, int(announced) if announced else None)
        self._sessions[session.id] = session
        self._forget_finished()
        location = f"{base_of(request)}{request.url.path}?uploadType=resumable&upload_id={session.id}"
        headers = {"location": location, "x-guploader-uploadid": session.id}
        return await after(fault, request, Response(headers=headers))

    async def _resume(self, request: Request) -> Response:
        session = self._session(request)
        fault = self.faults.meet("insert", session.target.name)
        await before(fault, request)
        made = await session.take(request)
        if made is not None:
            answer: Response = JSONResponse(made.resource(base_of(request)))
        else:
            received = {"range": f"bytes=0-{session.received - 1}"} if session.received else {}
            answer = Response(status_code=308, headers=received)
        return await after(fault, request, answer)

    async def _cancel(self, request: Request) -> Response:
        session = self._session(request)
        session.cancel()
        del self._sessions[session.id]
        return Response(status_code=499)

    def _session(self, request: Request) -> Session:
        session = self._sessions.get(request.query_params.get("upload_id", ""))
        if session is None or session.target.bucket != request.path_params["bucket"]:
            raise not_found("Upload session not found.")
        return session

    def _forget_finished(self) -> None:
        finished = [key for key, session in self._sessions.items() if session.done]
        for key in finished[:-_FINISHED]:
            del self._sessions[key]

    async def _get(self, request: Request) -> Response:
        """An object's metadata, or with alt=media its bytes."""
        media = request.query_params.get("alt") == "media"
        fault = self.faults.meet("get" if media else "metadata", request.path_params["name"])
        await before(fault, request)
        found = self._found(request)
        Conditions.of(request.query_params).check(found, unchanged=304)
        if media:
            answer = media_of(found, request.headers)
        else:
            shown = chosen(found.resource(base_of(request)), request.query_params.get("fields"))
            answer = JSONResponse(shown, headers={"etag": found.etag})
        return await after(fault, request, answer)

    async def _change(self, request: Request) -> Response:
        fault = self.faults.meet("patch", request.path_params["name"])
        changes = parsed(await request.body())
        await before(fault, request)
        found = self._found(request)
        Conditions.of(request.query_params).check(found)
        changed = self.objects.change(found, changes, whole=request.method == "PUT")
        return await after(fault, request, JSONResponse(changed.resource(base_of(request))))

    async def _delete(self, request: Request) -> Response:
        fault = self.faults.meet("delete", request.path_params["name"])
        await before(fault, request)
        found = self._found(request)
        Conditions.of(request.query_params).check(found)
        self.objects.delete(found)
        return await after(fault, request, Response(status_code=204))

    def _found(self, request: Request) -> Object:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        return self.objects.find(bucket, name, generation=number_of(request.query_params, "generation"))

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        fault = self.faults.meet("list", query.get("prefix", ""))
        await before(fault, request)
        for unknown in ("softDeleted", "filter"):
            if query.get(unknown, "false") != "false":
                raise Problem(400, f"this emulator does not know {unknown}")
        limit = number_of(query, "maxResults")
        pattern = query.get("matchGlob")
        if pattern and query.get("delimiter"):
            raise Problem(400, "matchGlob and delimiter cannot be had together")
        page = self.objects.bucket(request.path_params["bucket"]).page(
            matching=glob(pattern) if pattern else None,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            start=_from_token(query.get("pageToken")) or query.get("startOffset", ""),
            end=query.get("endOffset", ""),
            limit=PAGE if limit is None else limit,
        )
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if page.objects:
            answer["items"] = [found.resource(base_of(request)) for found in page.objects]
        if page.prefixes:
            answer["prefixes"] = page.prefixes
        if page.next is not None:
            answer["nextPageToken"] = page.next.encode().hex()
        return await after(fault, request, JSONResponse(chosen(answer, query.get("fields"))))

    async def _create_bucket(self, request: Request) -> Response:
        name = parsed(await request.body()).get("name")
        return JSONResponse(self.objects.create_bucket(str(name or "")).resource(base_of(request)))

    async def _list_buckets(self, request: Request) -> Response:
        items = [one.resource(base_of(request)) for _, one in sorted(self.objects.buckets.items())]
        return JSONResponse({"kind": "storage#buckets", "items": items})

    async def _get_bucket(self, request: Request) -> Response:
        return JSONResponse(self.objects.bucket(request.path_params["bucket"]).resource(base_of(request)))

    async def _permissions(self, request: Request) -> Response:
        """Which of these the caller has: here all of them."""
        self.objects.bucket(request.path_params["bucket"])
        asked = request.query_params.getlist("permissions")
        return JSONResponse({"kind": "storage#testIamPermissionsResponse", "permissions": asked})

    async def _delete_bucket(self, request: Request) -> Response:
        self.objects.delete_bucket(request.path_params["bucket"])
        return Response(status_code=204)


def _answering(handler: Handler) -> Handler:
    """A problem is an answer too."""

    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            if problem.status == 304:
                return Response(status_code=304)
            return JSONResponse(problem.body(), status_code=problem.status)
        except Severed:
            return Response()  # to nobody

    return answer


def _from_token(token: str | None) -> str:
    try:
        return bytes.fromhex(token or "").decode()
    except ValueError:
        raise Problem(400, f"Invalid pageToken: {token!r}") from None
