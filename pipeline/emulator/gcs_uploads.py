"""How bytes come in: alone, in one body with their metadata, or in a session that survives cuts."""

import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import ClientDisconnect, Request

from pipeline.emulator.gcs_objects import CHANGEABLE, Body, Conditions, Draft, Object, Objects, Problem

GRANULE = 256 * 1024
"""Bytes. What a session keeps of a request that is not its last is a multiple of this."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Target:
    """What an upload is to become."""

    bucket: str
    name: str
    fields: Mapping[str, Any]
    declared: Mapping[str, str]  # crc32c and md5Hash, as far as the client says them
    conditions: Conditions

    def under(self, conditions: Conditions) -> "Target":
        """The same under other conditions."""
        return replace(self, conditions=conditions)


def target_of(bucket: str, query: Mapping[str, str], metadata: Mapping[str, Any], kind: str | None) -> Target:
    """`kind` is the content type where the metadata names none. Raises 400 for a bad name."""
    name = query.get("name") or metadata.get("name")
    if not isinstance(name, str) or not name:
        raise Problem(400, "Required", reason="required")
    if len(name.encode("utf-8", "replace")) > 1024 or "\r" in name or "\n" in name or name in (".", ".."):
        raise Problem(
            400, f"Disallowed unicode characters present in object name, or it is too long: {name!r}"
        )
    fields = {key: metadata[key] for key in CHANGEABLE if metadata.get(key) is not None}
    fields.setdefault("contentType", kind or "application/octet-stream")
    declared = {key: str(metadata[key]) for key in ("crc32c", "md5Hash") if metadata.get(key)}
    return Target(bucket, name, fields, declared, Conditions.of(query))


def hashes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """What X-Goog-Hash and Content-MD5 declare."""
    declared = {}
    for part in headers.get("x-goog-hash", "").split(","):
        kind, _, value = part.strip().partition("=")
        if kind in ("crc32c", "md5"):
            declared["md5Hash" if kind == "md5" else kind] = value
    if "content-md5" in headers:
        declared["md5Hash"] = headers["content-md5"]
    return declared


def check_hashes(body: Body, declared: Mapping[str, str]) -> None:
    for key, actual in (("crc32c", body.crc32c), ("md5Hash", body.md5)):
        if key in declared and declared[key] != actual:
            kind = "CRC32C" if key == "crc32c" else "MD5 hash"
            raise Problem(
                400, f'Provided {kind} "{declared[key]}" doesn\'t match calculated {kind} "{actual}".'
            )


def commit(objects: Objects, draft: Draft, target: Target, declared: Mapping[str, str]) -> Object:
    """The moment at which an object is there, whole. What is refused leaves nothing behind."""
    body = draft.finish()
    try:
        check_hashes(body, {**target.declared, **declared})
        return objects.insert(
            target.bucket, target.name, body, fields=target.fields, conditions=target.conditions
        )
    except Problem:
        draft.drop()
        raise


def split_multipart(body: bytes, content_type: str) -> tuple[dict[str, Any], str | None, memoryview]:
    """The metadata, the media's own content type, and the media, of one multipart/related body."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not found:
        raise Problem(400, "Multipart content has no boundary.")
    boundary = b"--" + found[1].encode()
    end = body.rfind(boundary + b"--")
    metadata_start = body.find(boundary)
    media_start = body.find(boundary, metadata_start + len(boundary))
    if not 0 <= metadata_start < media_start < end:
        raise Problem(400, "Missing end boundary in multipart body.")
    _, metadata = _headers_and_rest(body[metadata_start + len(boundary) : media_start])
    media_at = media_start + len(boundary)
    headers, skipped = _headers(body, media_at)
    closing = 2 if body[end - 2 : end] == b"\r\n" else 1
    try:
        parsed = json.loads(metadata or b"{}")
    except ValueError:
        raise Problem(400, "Parse Error", reason="parseError") from None
    return parsed, headers.get("content-type"), memoryview(body)[skipped : max(end - closing, skipped)]


def _headers_and_rest(part: bytes) -> tuple[dict[str, str], bytes]:
    headers, start = _headers(part, 0)
    return headers, part[start:]


def _headers(body: bytes, start: int) -> tuple[dict[str, str], int]:
    """The header lines from start on, and where they end."""
    blank = re.compile(rb"\r?\n\r?\n").search(body, start)
    if not blank:
        raise Problem(400, "Malformed multipart body.")
    lines = body[start : blank.start()].decode("latin-1").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}, blank.end()


class Session:
    """One resumable upload: what it is to become, and how far it has come."""

    def __init__(self, objects: Objects, target: Target, total: int | None) -> None:
        self.id = uuid.uuid4().hex
        self.target = target
        self.done: Object | None = None
        self._refused: Problem | None = None
        self._objects = objects
        self._total = total
        self._draft = objects.draft()
        self._declared: dict[str, str] = {}
        self._requests = 0

    @property
    def received(self) -> int:
        return self._draft.size

    async def take(self, request: Request) -> Object | None:
        """Take what one request brings. The object if it is complete now, else None.

        A request that is cut leaves its whole granules; one that a later one overtook leaves nothing more.
        """
        self._requests += 1
        start, self._total = self._announced(request)
        self._declared.update(hashes_of(request.headers))
        if start is not None:
            await self._append(request, start)
        if self._total is None or self.received < self._total:
            return None
        if self.done is None:
            self.done = self._commit()
        return self.done

    def _commit(self) -> Object:
        if self._refused is None:
            try:
                return commit(self._objects, self._draft, self.target, self._declared)
            except Problem as problem:
                self._refused = problem
        raise self._refused

    def _announced(self, request: Request) -> tuple[int | None, int | None]:
        """Where this request's bytes begin (None: it has none, and asks how far we are); the whole size."""
        said = request.headers.get("content-range")
        if said is None:
            length = request.headers.get("content-length")
            return 0, self._total if length is None else int(length)
        parsed = _CONTENT_RANGE.fullmatch(said)
        if not parsed:
            raise Problem(400, f"Invalid Content-Range: {said!r}")
        start, _, total = parsed.groups()
        size = self._total if total == "*" else int(total)
        if self._total is not None and size != self._total:
            raise Problem(400, f"The upload was announced as {self._total} bytes, and now as {size}.")
        return None if start is None else int(start), size

    async def _append(self, request: Request, start: int) -> None:
        if start > self.received:
            raise Problem(400, f"Bytes from {start} on, but only {self.received} were received.")
        mine, skip = self._requests, self.received - start
        pending = bytearray()
        async for piece in _until_cut(request):
            if self._requests != mine or self.done:
                return
            pending += piece[skip:]
            skip = max(skip - len(piece), 0)
            whole = len(pending) - len(pending) % GRANULE
            self._draft.write(bytes(pending[:whole]))
            del pending[:whole]
        if self._requests == mine and self.received + len(pending) == self._total:
            self._draft.write(bytes(pending))
        if self._total is not None and self.received > self._total:
            raise Problem(400, f"More than the {self._total} bytes that were announced.")

    def cancel(self) -> None:
        if self.done is None:
            self._draft.drop()


async def _until_cut(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        return
