"""The seams of a driver: before and after every call to the provider and every write. It can die at any of them, and
others can do something there."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, BinaryIO

from pipeline import emulator
from pipeline.storage import Storage
from tests.faulty import PowerCut

CALLS = frozenset({"attach", "stage", "submit", "unstage", "time", "find", "ending", "open", "cancel"})


def _nothing() -> None:
    pass


class Seams:
    """Counts the seams of one driver, dies at the n-th, counted from 1, and stays dead. `there` happens at each."""

    def __init__(self, *, at: int | None = None, there: Callable[[], None] = _nothing) -> None:
        self.seen: list[str] = []
        self._at, self._there = at, there
        self._thread = threading.get_ident()

    @property
    def is_dead(self) -> bool:
        return self._at is not None and len(self.seen) >= self._at

    def pass_(self, name: str) -> None:
        self.live()
        self.seen.append(name)
        self.live()
        if threading.get_ident() == self._thread:  # pictures are written by others, in no order
            self._there()

    def live(self) -> None:
        if self.is_dead:
            raise PowerCut(f"the power was cut at seam {self._at}, {self.seen[-1]}")


class SeamedStorage:
    """Any storage, with a seam before and after each write."""

    def __init__(self, storage: Storage, seams: Seams) -> None:
        self.url = storage.url
        self._storage, self._seams = storage, seams

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        self._seams.live()
        return self._storage.read(name, start=start, end=end)

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        self._seams.live()
        return self._storage.open(name, start=start)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        self._seams.live()
        return self._storage.list(prefix, after=after)

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        self._seams.pass_(f"before {name}")
        self._storage.put(name, data, content_type=content_type)
        self._seams.pass_(f"after {name}")

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        self._seams.live()
        end = self._storage.begin(name, data, content_type=content_type)

        def ended() -> None:
            self._seams.pass_(f"before {name}")
            end()
            self._seams.pass_(f"after {name}")

        return ended

    def settle(self, folder: str) -> None:
        self._seams.live()
        self._storage.settle(folder)

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        self._seams.pass_(f"before {name}")
        self._storage.put_if_absent(name, data, content_type=content_type)
        self._seams.pass_(f"after {name}")


class SeamedBackend:
    """Any backend, with a seam before and after each call."""

    def __init__(self, backend: Any, seams: Seams) -> None:
        self._backend, self._seams = backend, seams

    def __getattr__(self, name: str) -> Any:
        what = getattr(self._backend, name)
        if name not in CALLS:
            return what

        def call(*arguments: Any, **said: Any) -> Any:
            self._seams.pass_(f"before {name}")
            answer = what(*arguments, **said)
            self._seams.pass_(f"after {name}")
            return answer

        return call


class Hands:
    """The emulator's clock, read once for each time it is pushed: nobody else pushes it here."""

    def __init__(self, service: emulator.Service) -> None:
        self._service, self._now = service, service.clock()

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now = self._service.advance(seconds)

    def sleep_until(self, moment: datetime) -> None:
        self.sleep(max(0.0, (moment - self._now).total_seconds()))
