"""Several calls of the JSON API in one body, each answered as if it had come alone."""

import http
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from pipeline.emulator.gcs_objects import Problem

MOST_CALLS = 100
BOUNDARY = "batch_of_answers"


class Batch:
    """Takes a body apart and asks the routes for every part of it."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    async def answer(self, request: Request) -> Response:
        found = re.search(r'boundary="?([^";]+)"?', request.headers.get("content-type", ""))
        if not found:
            raise Problem(400, "A batch has no boundary.")
        parts = (await request.body()).split(b"--" + found[1].encode())[1:-1]
        if len(parts) > MOST_CALLS:
            raise Problem(400, f"A batch has at most {MOST_CALLS} calls, not {len(parts)}.")
        answers = [await self._one(request, part) for part in parts]
        body = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + answer + b"\r\n" for answer in answers)
        return Response(
            body + f"--{BOUNDARY}--".encode(), media_type=f'multipart/mixed; boundary="{BOUNDARY}"'
        )

    async def _one(self, request: Request, part: bytes) -> bytes:
        outer, _, inner = part.lstrip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")
        head, _, body = inner.partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        verb, target = first.split(" ")[:2]
        address = urlsplit(target)
        headers = [
            (name.strip().lower().encode(), value.strip().encode())
            for name, _, value in (line.partition(":") for line in lines if line)
        ]
        scope: dict[str, Any] = {
            **request.scope,
            "method": verb,
            "path": request.scope["path"].rpartition("/batch/")[0] + decoded(address.path),
            "raw_path": address.path.encode(),
            "query_string": address.query.encode(),
            "headers": [*headers, (b"host", request.headers.get("host", "").encode())],
        }
        response = await self._dispatch(scope, body.strip())
        known = re.search(rb"content-id:\s*<?([^>\n]+)>?", outer, re.IGNORECASE)
        name = known[1].decode().strip() if known else ""
        status = f"HTTP/1.1 {response.status_code} {http.HTTPStatus(response.status_code).phrase}"
        shown = "".join(f"{key}: {value}\r\n" for key, value in response.headers.items())
        start = (
            f"Content-Type: application/http\r\nContent-ID: <response-{name}>\r\n\r\n{status}\r\n{shown}\r\n"
        )
        return start.encode() + bytes(response.body)

    async def _dispatch(self, scope: dict[str, Any], body: bytes) -> Response:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                response = await route.endpoint(Request({**scope, **child}, receive))
                assert isinstance(response, Response)
                return response
        return Response(status_code=404)


def decoded(path: str) -> str:
    """A path as a server hands it to its routes."""
    return unquote(path)
