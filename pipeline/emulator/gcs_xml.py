"""Cloud Storage's XML API, as far as signed addresses and uploads in parts need it.

A signature is not checked: whoever reaches this machine may do everything anyway.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pipeline.emulator.gcs_faults import Faults, after, before
from pipeline.emulator.gcs_media import media
from pipeline.emulator.gcs_objects import Conditions, Draft, Object, Objects, Problem, not_found, stamp
from pipeline.emulator.gcs_requests import number_of
from pipeline.emulator.gcs_uploads import commit, hashes_of, target_of

SHORTEST_BUCKET = 3
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
CODES = {404: "NoSuchKey", 412: "PreconditionFailed", 400: "InvalidArgument", 409: "Conflict"}


@dataclass(slots=True)
class Upload:
    """An upload in parts that may come in any order, and twice."""

    bucket: str
    name: str
    kind: str | None
    metadata: Mapping[str, Any]
    parts: dict[int, Draft] = field(default_factory=dict)


class XmlApi:
    """Objects at `/bucket/name`."""

    def __init__(self, objects: Objects, faults: Faults) -> None:
        self._objects = objects
        self._faults = faults
        self._uploads: dict[str, Upload] = {}

    async def answer(self, request: Request) -> Response:
        """One request; problems are answered in XML as well."""
        check_bucket(request)
        try:
            return await self._answer(request)
        except Problem as problem:
            if problem.status == 304:
                return Response(status_code=304)
            code = CODES.get(problem.status, "InternalError")
            body = f"<Error><Code>{code}</Code><Message>{escape(problem.message)}</Message></Error>"
            return xml(body, status=problem.status)

    async def _answer(self, request: Request) -> Response:
        query = request.query_params
        match request.method:
            case "PUT" if "partNumber" in query:
                return await self._part(request)
            case "POST" if "uploads" in query:
                return await self._begin(request)
            case "POST" if "uploadId" in query:
                return await self._complete(request)
            case "DELETE" if "uploadId" in query:
                return self._abort(request)
            case "PUT":
                return await self._put(request)
            case "DELETE":
                return await self._delete(request)
            case "GET" | "HEAD":
                return await self._get(request)
            case other:
                raise Problem(400, f"{other} is not known here")

    async def bucket(self, request: Request) -> Response:
        """A listing, second version."""
        check_bucket(request)
        bucket, query = request.path_params["bucket"], request.query_params
        fault = self._faults.meet("list", query.get("prefix", ""))
        await before(fault, request)
        try:
            page = self._objects.bucket(bucket).page(
                prefix=query.get("prefix", ""),
                delimiter=query.get("delimiter", ""),
                start=query.get("continuation-token") or past(query.get("start-after", "")),
                limit=number_of(query, "max-keys") or 1000,
            )
        except Problem as problem:
            return xml("<Error><Code>NoSuchBucket</Code></Error>", status=problem.status)
        items = "".join(
            f"<Contents><Key>{escape(found.name)}</Key><Generation>{found.generation}</Generation>"
            f"<LastModified>{stamp(found.updated)}</LastModified><ETag>&quot;{etag(found)}&quot;</ETag>"
            f"<Size>{found.body.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for found in page.objects
        )
        folders = "".join(
            f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>" for prefix in page.prefixes
        )
        more = (
            "" if page.next is None else f"<NextContinuationToken>{escape(page.next)}</NextContinuationToken>"
        )
        counted = len(page.objects) + len(page.prefixes)
        return await after(
            fault,
            request,
            xml(
                f"<ListBucketResult xmlns='{NAMESPACE}'><Name>{bucket}</Name><KeyCount>{counted}</KeyCount>"
                f"<IsTruncated>{str(page.next is not None).lower()}</IsTruncated>{more}{items}{folders}"
                "</ListBucketResult>"
            ),
        )

    async def _get(self, request: Request) -> Response:
        bucket, name = place(request)
        head = request.method == "HEAD"
        fault = self._faults.meet("metadata" if head else "get", name)
        await before(fault, request)
        found = self._objects.find(bucket, name, generation=number_of(request.query_params, "generation"))
        conditions(request).check(found, unchanged=304)
        answer = media(found, request.headers, whole=head)
        answer.headers["etag"] = f'"{etag(found)}"'
        if head:
            return Response(status_code=200, headers=dict(answer.headers))
        return await after(fault, request, answer)

    async def _put(self, request: Request) -> Response:
        bucket, name = place(request)
        self._objects.bucket(bucket)
        target = target_of(bucket, {"name": name}, fields_of(request), request.headers.get("content-type"))
        target = target.under(conditions(request))
        fault = self._faults.meet("insert", name)
        await before(fault, request)
        draft = self._objects.draft()
        async for piece in request.stream():
            draft.write(piece)
        made = commit(self._objects, draft, target, hashes_of(request.headers))
        return await after(fault, request, Response(headers=headers_of(made)))

    async def _delete(self, request: Request) -> Response:
        bucket, name = place(request)
        fault = self._faults.meet("delete", name)
        await before(fault, request)
        found = self._objects.find(bucket, name)
        conditions(request).check(found)
        self._objects.delete(found)
        return await after(fault, request, Response(status_code=204))

    async def _begin(self, request: Request) -> Response:
        bucket, name = place(request)
        self._objects.bucket(bucket)
        fault = self._faults.meet("start", name)
        await before(fault, request)
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = Upload(
            bucket, name, request.headers.get("content-type"), fields_of(request)
        )
        said = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{upload_id}</UploadId>"
        answer = xml(
            f"<InitiateMultipartUploadResult xmlns='{NAMESPACE}'>{said}</InitiateMultipartUploadResult>"
        )
        return await after(fault, request, answer)

    async def _part(self, request: Request) -> Response:
        upload = self._upload(request)
        number = number_of(request.query_params, "partNumber") or 0
        fault = self._faults.meet("insert", upload.name)
        await before(fault, request)
        draft = self._objects.draft()
        async for piece in request.stream():
            draft.write(piece)
        if number in upload.parts:
            upload.parts[number].drop()
        upload.parts[number] = draft
        body = draft.finish()
        headers = {"etag": f'"{body.md5}"', "x-goog-hash": f"crc32c={body.crc32c},md5={body.md5}"}
        return await after(fault, request, Response(headers=headers))

    async def _complete(self, request: Request) -> Response:
        upload = self._upload(request)
        numbers = [
            int(found) for found in re.findall(rb"<PartNumber>(\d+)</PartNumber>", await request.body())
        ]
        if numbers != sorted(numbers) or not numbers or any(number not in upload.parts for number in numbers):
            raise Problem(400, "A part is missing, or they are not in order.")
        fault = self._faults.meet("insert", upload.name)
        await before(fault, request)
        draft = self._objects.draft()
        for number in numbers:
            with upload.parts[number].finish().open() as data:
                while piece := data.read(1024**2):
                    draft.write(piece)
        target = target_of(upload.bucket, {"name": upload.name}, upload.metadata, upload.kind)
        made = commit(self._objects, draft, target.under(conditions(request)), {})
        self._forget(request.query_params["uploadId"])
        said = f"<Bucket>{made.bucket}</Bucket><Key>{escape(made.name)}</Key><ETag>{etag(made)}</ETag>"
        answer = xml(
            f"<CompleteMultipartUploadResult xmlns='{NAMESPACE}'>{said}</CompleteMultipartUploadResult>"
        )
        return await after(fault, request, answer)

    def _abort(self, request: Request) -> Response:
        self._upload(request)
        self._forget(request.query_params["uploadId"])
        return Response(status_code=204)

    def _forget(self, upload_id: str) -> None:
        for draft in self._uploads.pop(upload_id).parts.values():
            draft.drop()

    def _upload(self, request: Request) -> Upload:
        upload = self._uploads.get(request.query_params["uploadId"])
        if upload is None or (upload.bucket, upload.name) != place(request):
            raise not_found("The requested upload was not found.")
        return upload


def check_bucket(request: Request) -> None:
    """No bucket has so short a name: it is the version of an API that is not there."""
    if len(request.path_params["bucket"]) < SHORTEST_BUCKET:
        raise HTTPException(404)


def place(request: Request) -> tuple[str, str]:
    return request.path_params["bucket"], request.path_params["name"]


def past(name: str) -> str:
    return f"{name}\x00" if name else ""


def etag(found: Object) -> str:
    return found.body.md5 or found.etag


def headers_of(made: Object) -> dict[str, str]:
    hashes = [f"crc32c={made.body.crc32c}"] + ([f"md5={made.body.md5}"] if made.body.md5 else [])
    return {
        "etag": f'"{etag(made)}"',
        "x-goog-generation": str(made.generation),
        "x-goog-metageneration": str(made.metageneration),
        "x-goog-hash": ",".join(hashes),
        "x-goog-stored-content-length": str(made.body.size),
    }


def conditions(request: Request) -> Conditions:
    """What must hold, from headers or, in a signed address, from its query."""
    start = "x-goog-if-"
    said = {**request.query_params, **request.headers}
    return Conditions.of(
        {
            "if" + name[len(start) :].replace("-", ""): value
            for name, value in ((name.lower(), value) for name, value in said.items())
            if name.startswith(start)
        }
    )


def fields_of(request: Request) -> dict[str, Any]:
    """An object's settings, as headers say them."""
    headers = request.headers
    start = "x-goog-meta-"
    fields: dict[str, Any] = {
        "cacheControl": headers.get("cache-control"),
        "contentDisposition": headers.get("content-disposition"),
        "contentEncoding": headers.get("content-encoding"),
        "contentLanguage": headers.get("content-language"),
        "metadata": {key[len(start) :]: value for key, value in headers.items() if key.startswith(start)}
        or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def xml(body: str, *, status: int = 200) -> Response:
    return Response(
        f"<?xml version='1.0' encoding='UTF-8'?>{body}", status_code=status, media_type="application/xml"
    )
