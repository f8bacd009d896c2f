"""One line of a Vertex AI result: the row's own request, and what came of it."""

import json
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from pipeline.emulator.answers import GARBAGE, Maker
from pipeline.emulator.clock import moment
from pipeline.emulator.problems import HTTP_CODES, Problem
from pipeline.emulator.results import Emitted

ABSENT = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode")
"""What a part can be; the service's echo has a null for each that it is not."""

REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}
OTHER_SPELLINGS = {"inline_data": "inlineData", "file_data": "fileData"}


def written(
    line: Emitted, maker: Maker, spool: BinaryIO, *, spans: Sequence[tuple[int, int]], at: int
) -> bytes:
    """The line. Each row's echo lies in the spool, at the span with the number that is the row's key."""
    answer = line.answer
    if "garbage_line" in answer.flags:
        return GARBAGE
    value, pictures = maker.value(answer, line.take)
    whole = {
        "status": status(value["error"]) if "error" in value else "",
        "processed_time": moment(at).isoformat(timespec="milliseconds"),
        "request": msgspec.Raw(request_of(line.key, spool, spans)),
        "response": value.get("response", {}),
    }
    return maker.filled(answer, whole, pictures)


def status(error: dict[str, Any]) -> str:
    """A row's error as this service has it: words, and a body with HTTP's code."""
    code = HTTP_CODES.get(error["code"], 500)
    body = json.dumps(Problem(code, error["message"]).body())
    return f"{REASONS.get(code, 'Internal Server Error')}: {body}"


def request_of(key: str | None, spool: BinaryIO, spans: Sequence[tuple[int, int]]) -> bytes:
    """The request that is echoed: with swapped keys another row's, with an unknown one nobody's."""
    if key is None:
        return b"null"
    if not key.isdigit():
        return msgspec.json.encode({"contents": [], "labels": {"nobody": key}})
    start, length = spans[int(key)]
    spool.seek(start)
    return spool.read(length)


def echo(request: Any) -> bytes:
    """A request as the service writes it back: every part with a null for what it is not."""
    contents = request.get("contents") if isinstance(request, dict) else None
    if isinstance(contents, list):
        request = {**request, "contents": [echoed(content) for content in contents]}
    return msgspec.json.encode(request)


def echoed(content: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(content.get("parts"), list):
        return content
    parts = [
        dict.fromkeys(ABSENT) | {OTHER_SPELLINGS.get(name, name): value for name, value in part.items()}
        if isinstance(part, dict)
        else part
        for part in content["parts"]
    ]
    return {**content, "parts": parts}
