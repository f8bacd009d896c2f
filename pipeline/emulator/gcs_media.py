"""An object's bytes on their way out: whole, a range of them, or unpacked."""

import gzip
import re
from collections.abc import AsyncIterator, Mapping
from email.utils import format_datetime
from typing import BinaryIO, cast

from starlette.responses import Response, StreamingResponse

from pipeline.emulator.gcs_objects import Object

PIECE = 256 * 1024
RANGE = re.compile(r"bytes=(?:(\d+)-|-(?=\d))(\d*)")


def media(found: Object, asked: Mapping[str, str], *, whole: bool = False) -> Response:
    """The bytes, all of them or one range; unpacked for who does not say that they take gzip."""
    wanted = None if whole else asked.get("range")
    size = found.body.size
    encoding = found.fields.get("contentEncoding")
    hashes = [f"crc32c={found.body.crc32c}"] + ([f"md5={found.body.md5}"] if found.body.md5 else [])
    headers = {
        "content-type": str(found.fields.get("contentType", "application/octet-stream")),
        "x-goog-hash": ",".join(hashes),
        "x-goog-generation": str(found.generation),
        "x-goog-metageneration": str(found.metageneration),
        "x-goog-storage-class": "STANDARD",
        "x-goog-stored-content-encoding": str(found.fields.get("contentEncoding", "identity")),
        "x-goog-stored-content-length": str(size),
        "etag": found.etag,
        "last-modified": format_datetime(found.updated, usegmt=True),
        "accept-ranges": "bytes",
    }
    for name, field in (("cache-control", "cacheControl"), ("content-disposition", "contentDisposition")):
        if field in found.fields:
            headers[name] = str(found.fields[field])
    if encoding == "gzip" and "gzip" not in asked.get("accept-encoding", ""):
        return unpacked(found, headers)
    if encoding:
        headers["content-encoding"] = str(encoding)
    parsed = RANGE.fullmatch(wanted or "")
    if not parsed:  # also several ranges at once: a server may answer with everything
        headers["content-length"] = str(size)
        return StreamingResponse(streamed(found.body.open(), size), headers=headers)
    start, end = span(parsed[1], parsed[2], size)
    if start >= end:
        headers = {"content-range": f"bytes */{size}"}
        return Response(b"The requested range cannot be satisfied.", status_code=416, headers=headers)
    headers |= {"content-length": str(end - start), "content-range": f"bytes {start}-{end - 1}/{size}"}
    file = found.body.open()
    file.seek(start)
    return StreamingResponse(streamed(file, end - start), status_code=206, headers=headers)


async def streamed(file: BinaryIO, left: int) -> AsyncIterator[bytes]:
    with file:
        while left and (piece := file.read(min(left, PIECE) if left > 0 else PIECE)):
            left -= len(piece)
            yield piece


def span(first: str | None, last: str, size: int) -> tuple[int, int]:
    """From and to, not including; empty where there is nothing to give."""
    if first is None:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def unpacked(found: Object, headers: dict[str, str]) -> Response:
    """What was stored packed, as it was before. Its length is known to nobody, and ranges mean nothing."""
    headers = {name: value for name, value in headers.items() if name != "accept-ranges"}
    file = cast("BinaryIO", gzip.GzipFile(fileobj=found.body.open()))
    return StreamingResponse(streamed(file, -1), headers=headers | {"warning": "214 UploadServer gunzipped"})
