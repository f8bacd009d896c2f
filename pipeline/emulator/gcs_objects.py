"""Buckets and the objects in them: what is there, under which generation, and who may replace it.

Nothing here waits, so in one event loop a check and the change that hangs on it are one step, and races are
decided right.
"""

import base64
import bisect
import hashlib
import io
import os
import re
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

IN_MEMORY = 1_000_000
"""Bytes. Larger bodies are files in a folder of their own."""

PAGE = 1000
"""Names at most in one page of a listing, whatever was asked for."""

CHANGEABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
)


class Problem(Exception):
    """An answer that is not the one hoped for."""

    def __init__(self, status: int, message: str, *, reason: str = "invalid") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [error]}}


def not_found(what: str) -> Problem:
    return Problem(404, what, reason="notFound")


def condition_not_met() -> Problem:
    return Problem(
        412, "At least one of the pre-conditions you specified did not hold.", reason="conditionNotMet"
    )


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of one generation, which never change."""

    size: int
    crc32c: str  # base64, as declared and listed
    md5: str  # the same; empty where nobody knows it
    held: bytes | Path

    def open(self) -> BinaryIO:
        """Stays readable when the generation is gone."""
        return io.BytesIO(self.held) if isinstance(self.held, bytes) else self.held.open("rb")

    def drop(self) -> None:
        if isinstance(self.held, Path):
            self.held.unlink(missing_ok=True)


class Draft:
    """A body that is still arriving: in memory, and from a million bytes on in a file."""

    def __init__(self, folder: Path, *, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self.size = 0
        self._folder = folder
        self._crc32c: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._crc32c.update(data)
        self._md5.update(data)
        if self._file is None and self.size > self._in_memory:
            descriptor, path = tempfile.mkstemp(dir=self._folder)
            self._path, self._file = Path(path), os.fdopen(descriptor, "wb")
            self._file.write(self._memory)
            self._memory.clear()
        if self._file:
            self._file.write(data)
        else:
            self._memory += data

    def finish(self) -> Body:
        if self._file:
            self._file.close()
        return Body(
            size=self.size,
            crc32c=base64.b64encode(self._crc32c.digest()).decode(),
            md5=base64.b64encode(self._md5.digest()).decode(),
            held=self._path or bytes(self._memory),
        )

    def drop(self) -> None:
        if self._file:
            self._file.close()
        if self._path:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Object:
    """One generation of one name."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    created: datetime
    updated: datetime
    body: Body
    fields: Mapping[str, Any] = field(default_factory=dict)  # those of CHANGEABLE that are set

    def resource(self, base_url: str) -> dict[str, Any]:
        """As the JSON API shows it: 64-bit numbers are strings."""
        path = f"{self.bucket}/o/{_quoted(self.name)}"
        return {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{base_url}/storage/v1/b/{path}",
            "mediaLink": f"{base_url}/download/storage/v1/b/{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": "STANDARD",
            "size": str(self.body.size),
            "crc32c": self.body.crc32c,
            **({"md5Hash": self.body.md5} if self.body.md5 else {}),
            "etag": self.etag,
            "timeCreated": stamp(self.created),
            "updated": stamp(self.updated),
            "timeStorageClassUpdated": stamp(self.created),
            **self.fields,
        }

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold of the object that is there now, or the request is not done."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Conditions":
        known = {name.lower(): value for name, value in query.items() if name.lower().startswith("if")}

        def number(name: str) -> int | None:
            value = known.get(name)
            if value is None:
                return None
            if not value.isascii() or not value.isdigit():
                raise Problem(400, f"Invalid value for {name}: {value!r}")
            return int(value)

        return cls(
            number("ifgenerationmatch"),
            number("ifgenerationnotmatch"),
            number("ifmetagenerationmatch"),
            number("ifmetagenerationnotmatch"),
        )

    def check(self, current: Object | None, *, unchanged: int = 412) -> None:
        """Raises 412; where a reader already has what it asks for, `unchanged`."""
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else None
        if self.generation is not None and self.generation != generation:
            raise condition_not_met()
        if self.metageneration is not None and self.metageneration != metageneration:
            raise condition_not_met()
        if self.not_generation == generation or (
            self.not_metageneration is not None and self.not_metageneration == metageneration
        ):
            raise (
                Problem(unchanged, "Not Modified", reason="notModified")
                if unchanged == 304
                else (condition_not_met())
            )


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a listing."""

    objects: list[Object]
    prefixes: list[str]
    next: str | None  # where the following page starts


@dataclass(slots=True)
class Bucket:
    """Its objects, and their names in the order of their UTF-8 (which is that of Python's strings)."""

    name: str
    created: datetime
    objects: dict[str, Object] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def resource(self, base_url: str) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "selfLink": f"{base_url}/storage/v1/b/{self.name}",
            "projectNumber": "123456789012",
            "metageneration": "1",
            "location": "US",
            "locationType": "multi-region",
            "storageClass": "STANDARD",
            "timeCreated": stamp(self.created),
            "updated": stamp(self.created),
            "etag": "CAE=",
        }

    def page(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: str = "",
        end: str = "",
        limit: int = PAGE,
        matching: re.Pattern[str] | None = None,
    ) -> Page:
        """Names from start on, before end; with a delimiter behind the prefix, folded into prefixes."""
        limit = min(max(limit, 1), PAGE)
        objects: list[Object] = []
        prefixes: list[str] = []
        place = bisect.bisect_left(self.names, max(start, prefix))
        while place < len(self.names):
            name = self.names[place]
            if not name.startswith(prefix) or (end and name >= end):
                break
            if matching is not None and not matching.fullmatch(name):
                place += 1
                continue
            if len(objects) + len(prefixes) == limit:
                return Page(objects, prefixes, name)
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                objects.append(self.objects[name])
                place += 1
            else:
                folder = name[: cut + len(delimiter)]
                prefixes.append(folder)
                place = bisect.bisect_left(self.names, _behind(folder), place)
        return Page(objects, prefixes, None)


def _behind(prefix: str) -> str:
    """The first text that sorts behind all that start with the prefix."""
    return prefix + "\U0010ffff" * 2


class Objects:
    """All buckets. Generations are unique, and grow with the clock that is passed in."""

    def __init__(
        self, now: Callable[[], datetime], *, buckets: Iterable[str] = (), folder: Path | None = None
    ) -> None:
        """Bodies are kept in the folder, all of them; without one, large ones are in one that goes with us."""
        self._now = now
        self._spool = tempfile.TemporaryDirectory(prefix="gcs-") if folder is None else None
        self.folder = folder or Path(self._spool.name if self._spool else "")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._in_memory = IN_MEMORY if folder is None else 0
        self._generation = 0
        self.buckets: dict[str, Bucket] = {}
        for name in buckets:
            self.create_bucket(name)

    def close(self) -> None:
        """Take everything off the disk, unless it is to stay."""
        if self._spool is not None:
            self._spool.cleanup()

    def state(self) -> tuple[Any, ...]:
        return self.buckets, self._generation

    def take_up(self, state: tuple[Any, ...]) -> None:
        there = state[0]
        self.buckets, self._generation = self.buckets | there, state[1]

    def create_bucket(self, name: str) -> Bucket:
        if not 3 <= len(name) <= 222 or "/" in name:
            raise Problem(400, f"Invalid bucket name: '{name}'")
        if name in self.buckets:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise Problem(409, message, reason="conflict")
        self.buckets[name] = Bucket(name, self._now())
        return self.buckets[name]

    def delete_bucket(self, name: str) -> None:
        if self.bucket(name).objects:
            raise Problem(409, "The bucket you tried to delete is not empty.", reason="conflict")
        del self.buckets[name]

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise not_found("The specified bucket does not exist.")
        return self.buckets[name]

    def draft(self) -> Draft:
        return Draft(self.folder, in_memory=self._in_memory)

    def current(self, bucket: str, name: str) -> Object | None:
        return self.bucket(bucket).objects.get(name)

    def find(self, bucket: str, name: str, *, generation: int | None = None) -> Object:
        found = self.current(bucket, name)
        if found is None or generation not in (None, found.generation):
            suffix = "" if generation is None else f"#{generation}"
            raise not_found(f"No such object: {bucket}/{name}{suffix}")
        return found

    def insert(
        self,
        bucket: str,
        name: str,
        body: Body,
        *,
        fields: Mapping[str, Any],
        conditions: Conditions,
        at: datetime | None = None,
    ) -> Object:
        """Make a generation of these bytes the live one, if the conditions hold at this very moment.

        Its date is another one than now if `at` says so.
        """
        holder = self.bucket(bucket)
        previous = holder.objects.get(name)
        conditions.check(previous)
        now = at or self._now()
        made = Object(bucket, name, self._next_generation(now), 1, now, now, body, dict(fields))
        if previous is None:
            bisect.insort(holder.names, name)
        else:
            previous.body.drop()
        holder.objects[name] = made
        return made

    def change(self, found: Object, changes: Mapping[str, Any], *, whole: bool) -> Object:
        """Other fields for the same bytes. With `whole`, fields that are not named are forgotten."""
        fields = {} if whole else dict(found.fields)
        for name in CHANGEABLE:
            if name not in changes:
                continue
            value = changes[name]
            if name == "metadata" and isinstance(value, dict):
                merged = {**fields.get("metadata", {}), **value}
                value = {key: text for key, text in merged.items() if text is not None}
            fields[name] = value
        kept = {name: value for name, value in fields.items() if value is not None}
        changed = replace(found, metageneration=found.metageneration + 1, updated=self._now(), fields=kept)
        self.bucket(found.bucket).objects[found.name] = changed
        return changed

    def delete(self, found: Object) -> None:
        holder = self.bucket(found.bucket)
        del holder.objects[found.name]
        del holder.names[bisect.bisect_left(holder.names, found.name)]
        found.body.drop()

    def _next_generation(self, now: datetime) -> int:
        self._generation = max(self._generation + 1, int(now.timestamp() * 1_000_000))
        return self._generation
