"""Our own protocols, kept by things that live in memory and fail on demand."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import BinaryIO

from pipeline.errors import Unavailable
from pipeline.storage.base import AlreadyThere, NotFound, Storage


@dataclass(frozen=True)
class Asked:
    """What one request wants of a model."""

    references: tuple[str, ...] = ()
    aspect_ratio: str | None = None
    image_size: str | None = None
    modalities: tuple[str, ...] = ("TEXT", "IMAGE")
    thinking: str | None = None
    search: tuple[str, ...] = ()
    thoughts: bool = False


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self, now: datetime = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def sleep_until(self, moment: datetime) -> None:
        self.time = max(self.time, moment)


class MemoryStorage:
    """A Storage in a dictionary."""

    url = "memory:"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.listings = 0

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        if name not in self.files:
            raise NotFound(name)
        return self.files[name][start:end]

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        return io.BytesIO(self.read(name, start=start))

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        self.put_if_absent(name, data if isinstance(data, bytes) else data.read())

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        return partial(self.put, name, data)

    def settle(self, folder: str) -> None:
        pass

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        # setdefault is one step in CPython: of several threads one wins.
        if self.files.setdefault(name, data) != data:
            raise AlreadyThere(name)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        self.listings += 1
        return iter(
            sorted(
                (n for n in self.files if n.startswith(prefix) and n > after), key=lambda name: name.encode()
            )
        )


class Crash(BaseException):
    """The process is gone: nothing may catch this."""


class Moody:
    """A Storage whose next put does what it is told: 'fine', 'crash before', 'crash after' or 'lost reply'."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.url = storage.url
        self.mood = "fine"
        self.read, self.open, self.list = storage.read, storage.open, storage.list

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        self.put_if_absent(name, data if isinstance(data, bytes) else data.read())

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        return partial(self.put, name, data)

    def settle(self, folder: str) -> None:
        self._storage.settle(folder)

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        mood, self.mood = self.mood, "fine"
        if mood == "crash before":
            raise Crash
        self._storage.put_if_absent(name, data)
        if mood == "crash after":
            raise Crash
        if mood == "lost reply":
            raise Unavailable("no answer")
