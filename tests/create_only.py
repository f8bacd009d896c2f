"""An account that may create, read and list, but neither overwrite nor delete."""

import json
from typing import Any
from urllib.parse import parse_qs


class CreateOnly:
    """ASGI middleware that refuses every request which could replace or remove an object, and counts them.

    An insert has to say ifGenerationMatch=0; where the name is taken, the server behind answers with 412.
    With `taken=403` it is answered as an account hears that lacks storage.objects.delete.
    """

    def __init__(self, app: Any, *, taken: int = 412) -> None:
        self._app = app
        self._taken = taken
        self.refused: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _could_change(scope):
            self.refused.append(f"{scope['method']} {scope['path']}")
            await _forbid(send)
        elif scope["type"] == "http" and _is_upload(scope) and self._taken == 403:
            await self._app(scope, receive, _Forbidding(send))
        else:
            await self._app(scope, receive, send)


class _Forbidding:
    """Sends 403 in the place of 412."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._forbidden = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] == 412:
            self._forbidden = True
            await _forbid(self._send)
        elif not self._forbidden:
            await self._send(message)


def _is_upload(scope: Any) -> bool:
    return str(scope["path"]).startswith("/upload/storage/")


def _could_change(scope: Any) -> bool:
    method, path = scope["method"], str(scope["path"])
    if method in ("GET", "HEAD"):
        return False
    query = parse_qs(scope["query_string"].decode())
    if _is_upload(scope):
        in_session = method in ("PUT", "DELETE") and "upload_id" in query  # judged when it was started
        return not in_session and query.get("ifGenerationMatch") != ["0"]
    if path.startswith(("/storage/v1/b/", "/batch/")):
        return method != "POST" or query.get("ifGenerationMatch") != ["0"]
    return method == "PUT" and path.count("/") >= 2  # the XML API


async def _forbid(send: Any) -> None:
    message = "does not have storage.objects.delete access to the Google Cloud Storage object."
    body = json.dumps({"error": {"code": 403, "message": message, "errors": []}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
