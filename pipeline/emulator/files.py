"""The Files API: what was uploaded, by whom, and until when; and uploads in progress."""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.emulator.clock import SECOND, VirtualClock, rfc3339
from pipeline.emulator.lines import Reference
from pipeline.emulator.pictures import look
from pipeline.emulator.problems import INVALID_ARGUMENT, Problem, RowProblem
from pipeline.emulator.settings import Settings

GRANULARITY = 8 * 1024**2
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(slots=True)
class File:
    """An uploaded file. Its bytes are on disk until nobody can ask for them any more."""

    number: int
    account: str
    name: str  # files/<id>
    display_name: str | None
    mime: str
    size: int
    digest: str
    rows: int  # lines, were it a JSONL file
    path: Path
    created: int
    expires: int
    users: int = 0  # jobs that still need the bytes
    reference: Reference | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but how it looks, which is looked up again: every snapshot would carry it."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "reference"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.reference = None
        for name, value in state.items():
            setattr(self, name, value)

    def as_json(self, base: str) -> dict[str, Any]:
        resource = {
            "name": self.name,
            "displayName": self.display_name,
            "mimeType": self.mime,
            "sizeBytes": str(self.size),
            "createTime": rfc3339(self.created),
            "updateTime": rfc3339(self.created),
            "expirationTime": rfc3339(self.expires),
            # The hash's hex digits in base64, not its bytes; a client should take either.
            "sha256Hash": base64.b64encode(self.digest.encode()).decode(),
            "uri": f"{base}/v1beta/{self.name}",
            "state": "ACTIVE",
            "source": "UPLOADED",
        }
        return {name: value for name, value in resource.items() if value is not None}


@dataclass(slots=True)
class Upload:
    """A resumable upload: whole granules stay when a connection breaks, the rest of a chunk is forgotten."""

    id: str
    account: str
    size: int
    name: str | None
    display_name: str | None
    mime: str
    path: Path
    received: int = 0
    rows: int = 0
    last: bytes = b"\n"
    hash: Any = field(default_factory=hashlib.sha256)
    final: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "hash"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What was received is hashed again: a hash under way cannot be kept."""
        for name, value in state.items():
            setattr(self, name, value)
        self.hash = hashlib.sha256()
        if not self.final and self.path.exists():
            with self.path.open("rb") as spool:
                self.hash.update(spool.read(self.received))

    def headers(self) -> dict[str, str]:
        return {
            "x-goog-upload-status": "final" if self.final else "active",
            "x-goog-upload-size-received": str(self.received),
            "x-goog-upload-chunk-granularity": str(GRANULARITY),
        }

    def open(self) -> BinaryIO:
        """The spool, at the end of what was received; what a broken chunk left beyond it is cut off."""
        spool = self.path.open("r+b" if self.path.exists() else "w+b")
        spool.truncate(self.received)
        spool.seek(self.received)
        return spool

    def keep(self, data: bytes) -> None:
        """Count these bytes, already in the spool, as received."""
        self.hash.update(data)
        self.received += len(data)
        self.rows += data.count(b"\n")
        self.last = data[-1:] or self.last


class Files:
    """All accounts' files. Expired ones are not there any more, whether swept or not."""

    def __init__(self, settings: Settings, clock: VirtualClock) -> None:
        self._settings = settings
        self._clock = clock
        self._files: dict[str, File] = {}
        self._uploads: dict[str, Upload] = {}
        self._number = 0
        self._held: list[File] = []

    def state(self) -> tuple[Any, ...]:
        return self._files, self._uploads, self._number, self._held

    def take_up(self, state: tuple[Any, ...]) -> None:
        self._files, self._uploads, self._number, self._held = state

    def begin(self, account: str, asked: dict[str, Any], *, size: int, mime: str) -> Upload:
        """A new upload. Problem when its name is taken or malformed, or it is too big."""
        name = asked.get("name")
        if name is not None:
            name = str(name).removeprefix("files/")
            if not NAME.fullmatch(name):
                raise Problem(
                    400, f"File name {name!r} is not 1 to 40 lowercase letters, digits and inner dashes."
                )
            self._free(f"files/{name}")
        if not 0 < size <= self._settings.file_limit:
            raise Problem(400, f"File size {size} is not between 1 and {self._settings.file_limit} bytes.")
        stored = sum(file.size for file in self.of(account))
        if stored + size > self._settings.storage_limit:
            raise Problem(429, f"Storage quota of {self._settings.storage_limit} bytes would be exceeded.")
        self._number += 1
        upload = Upload(
            id=self._id("upload", 60),
            account=account,
            size=size,
            name=name,
            display_name=asked.get("displayName"),
            mime=mime,
            path=self._settings.data / f"upload-{self._number:06d}",
        )
        self._uploads[upload.id] = upload
        return upload

    def upload(self, upload_id: str) -> Upload:
        if (upload := self._uploads.get(upload_id)) is None:
            raise Problem(404, "Upload not found: it was cancelled, or never begun.")
        return upload

    def cancel(self, upload: Upload) -> None:
        del self._uploads[upload.id]
        upload.path.unlink(missing_ok=True)

    def finish(self, upload: Upload) -> File:
        """The whole upload becomes a file; said twice, it is the same file."""
        name = f"files/{upload.name or upload.id[-12:]}"
        if upload.final:
            return self.get(upload.account, name)
        self._free(name)
        now = self._clock.now()
        self._number += 1
        file = File(
            number=self._number,
            account=upload.account,
            name=name,
            display_name=upload.display_name,
            mime=upload.mime,
            size=upload.size,
            digest=upload.hash.hexdigest(),
            rows=upload.rows + (upload.last != b"\n"),
            path=upload.path,
            created=now,
            expires=now + round(self._settings.file_life * SECOND),
        )
        upload.final = True
        self._files[name] = file
        return file

    def get(self, account: str, name: str) -> File:
        """The file. Problem 404 for other accounts' files, deleted and expired ones alike."""
        file = self._files.get(name)
        if file is None or file.account != account or file.expires <= self._clock.now():
            raise Problem(404, f"File {name} was not found, or was deleted or expired.")
        return file

    def of(self, account: str) -> Iterator[File]:
        """The account's files, newest first."""
        now = self._clock.now()
        return (
            file for file in reversed(self._files.values()) if file.account == account and file.expires > now
        )

    def delete(self, account: str, name: str) -> None:
        file = self.get(account, name)
        del self._files[name]
        self._drop(file)

    def sweep(self) -> None:
        """Take what has expired off the disk. Call it only when every job that is due has read its
        references.
        """
        now = self._clock.now()
        for file in [file for file in self._files.values() if file.expires <= now]:
            del self._files[file.name]
            self._drop(file)
        for file in [file for file in self._held if not file.users]:
            self._held.remove(file)
            file.path.unlink(missing_ok=True)

    def reference(self, account: str, uri: str, *, at: int) -> Reference:
        """What a line's `fileUri` shows, as of a moment. RowProblem when the account has no such picture
        then.
        """
        name = "files/" + uri.rpartition("files/")[2]
        file = self._files.get(name)
        if "files/" not in uri or "://" not in uri:
            raise RowProblem(INVALID_ARGUMENT, f"Cannot fetch content from the provided URL: {uri}")
        if file is None or file.account != account or file.expires <= at:
            raise RowProblem(7, f"You do not have permission to access the File {name} or it may not exist.")
        if file.reference is None:
            file.reference = seen(file)
        return file.reference

    def _free(self, name: str) -> None:
        file = self._files.get(name)
        if file is not None and file.expires > self._clock.now():
            raise Problem(409, f"Requested entity already exists: {name}")

    def _drop(self, file: File) -> None:
        if file.users:
            self._held.append(file)
        else:
            file.path.unlink(missing_ok=True)

    def _id(self, kind: str, length: int) -> str:
        """A name that looks random and is the same in every identical sequence of calls."""
        whole = hashlib.sha256(f"{self._settings.seed} {kind} {self._number}".encode()).hexdigest()
        return whole[:length]


def seen(file: File) -> Reference:
    try:
        with file.path.open("rb") as data:
            return Reference(file.digest, look(data))
    except (OSError, ValueError):
        raise RowProblem(
            INVALID_ARGUMENT, f"Unable to process input image: {file.name} is no picture"
        ) from None
