"""The Files API over HTTP: resumable uploads as the service has them, get, list, delete."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from pipeline.emulator.calls import Call, nothing, page_token
from pipeline.emulator.fields import ANY, NUMBER, TEXT
from pipeline.emulator.files import GRANULARITY, Files, Upload
from pipeline.emulator.problems import Problem

FILE = {
    "name": TEXT,
    "displayName": TEXT,
    "mimeType": TEXT,
    "sizeBytes": NUMBER,
    "videoMetadata": ANY,
    "source": TEXT,
}
SPOOLED = 1024**2
LONGEST_ID = 40


class FileCalls:
    def __init__(self, files: Files) -> None:
        self._files = files

    async def start(self, call: Call) -> Response:
        """The first request of an upload: who, what, how long. The URL it answers with is the credential for
        the rest.
        """
        account, headers = call.account, call.request.headers
        asked: dict[str, Any] = (await call.json({"file": FILE})).get("file") or {}
        call.meet(display_name=asked.get("displayName"), name=asked.get("name"))
        if (
            headers.get("x-goog-upload-protocol") != "resumable"
            or headers.get("x-goog-upload-command") != "start"
        ):
            raise Problem(400, "Only resumable uploads are known, and they begin with the command 'start'.")
        upload = self._files.begin(
            account,
            asked,
            size=whole(
                headers.get("x-goog-upload-header-content-length") or asked.get("sizeBytes"), "content length"
            ),
            mime=headers.get("x-goog-upload-header-content-type")
            or asked.get("mimeType")
            or "application/octet-stream",
        )
        url = f"{call.base}{call.request.url.path}?upload_id={upload.id}&upload_protocol=resumable"
        return Response(headers=upload.headers() | {"x-goog-upload-url": url})

    async def go_on(self, call: Call) -> Response:
        """Any later request of an upload, told apart by its command."""
        upload = self._files.upload(call.request.query_params["upload_id"])
        call.meet(display_name=upload.display_name, name=f"files/{upload.name}" if upload.name else None)
        commands = {word.strip() for word in call.request.headers.get("x-goog-upload-command", "").split(",")}
        if not commands or commands - {"upload", "finalize", "query", "cancel"}:
            raise Problem(
                400, f"Unknown upload command {call.request.headers.get('x-goog-upload-command')!r}."
            )
        if commands == {"cancel"}:
            self._files.cancel(upload)
            return Response(headers={"x-goog-upload-status": "cancelled"})
        if "upload" in commands and not upload.final:
            await self._receive(call, upload, final="finalize" in commands)
        if "finalize" not in commands:
            return Response(headers=self._said(call, upload))
        if upload.received != upload.size:
            message = f"Upload has {upload.received} of {upload.size} bytes and cannot be finalized."
            raise Problem(400, message, headers=upload.headers())
        file = self._files.finish(upload)
        body = {"file": file.as_json(call.base)}
        if call.faults.take("upload_no_file", **call.facts) is not None:
            body = {}
        return JSONResponse(body, headers=self._said(call, upload))

    def _said(self, call: Call, upload: Upload) -> dict[str, str]:
        """What a chunk's reply says of the upload."""
        headers = upload.headers()
        if call.faults.take("upload_no_status", **call.facts) is not None:
            del headers["x-goog-upload-status"]
        return headers

    async def _receive(self, call: Call, upload: Upload, *, final: bool) -> None:
        """Take a chunk at its offset. When the client goes away, whole granules of it are kept."""
        offset = whole(call.request.headers.get("x-goog-upload-offset"), "offset")
        if offset != upload.received:
            message = f"Upload offset {offset} is wrong: {upload.received} bytes have been received."
            raise Problem(400, message, headers=upload.headers())
        length = whole(call.request.headers.get("content-length"), "content length")
        if not final and length % GRANULARITY:
            message = f"A chunk of {length} bytes that is not the last must be a multiple of {GRANULARITY}."
            raise Problem(400, message, headers=upload.headers())
        if offset + length > upload.size:
            raise Problem(400, f"More bytes than the {upload.size} announced.", headers=upload.headers())
        waiting = bytearray()
        with upload.open() as spool:
            async for piece in call.request.stream():
                waiting += piece
                if len(waiting) >= GRANULARITY:
                    await run_in_threadpool(keep, upload, spool, bytes(waiting[:GRANULARITY]))
                    del waiting[:GRANULARITY]
            await run_in_threadpool(keep, upload, spool, bytes(waiting))

    async def get(self, call: Call) -> Response:
        name = self._named(call)
        return JSONResponse(self._files.get(call.account, name).as_json(call.base))

    async def delete(self, call: Call) -> Response:
        name = self._named(call)
        self._files.delete(call.account, name)
        return nothing()

    async def list(self, call: Call) -> Response:
        account = call.account
        call.meet()
        size, last = call.page(10)
        files = [file for file in self._files.of(account) if last is None or file.number < last]
        shown = files[: min(size, 100)]
        page: dict[str, Any] = {"files": [file.as_json(call.base) for file in shown]} if shown else {}
        if len(files) > len(shown):
            page["nextPageToken"] = page_token(shown[-1])
        return JSONResponse(page)

    def _named(self, call: Call) -> str:
        """The file asked for. Ids of results are longer than this method takes: it answers 400, as the real
        one does.
        """
        name = call.request.path_params["file"]
        call.meet(name=f"files/{name}")
        if len(name) > LONGEST_ID:
            raise Problem(400, f"The id of a file has at most {LONGEST_ID} characters: {name}")
        return f"files/{name}"


def keep(upload: Upload, spool: Any, data: bytes) -> None:
    spool.write(data)
    spool.flush()
    upload.keep(data)


def whole(text: Any, what: str) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        raise Problem(400, f"The upload's {what} is missing or no number: {text!r}") from None
