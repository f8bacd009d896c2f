"""A storage whose power is cut at a chosen write: the driver on it dies there, as a process does."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

from pipeline.storage import Storage


class PowerCut(BaseException):
    """Not an Exception: nothing that the program does about errors may catch it."""


class Dying:
    """Any storage, and how many writes it has seen. It dies at the n-th, counted from 1, and stays dead.

    when='before': that write leaves nothing. when='after': it is there, and nobody heard of it.
    """

    def __init__(
        self, storage: Storage, *, at: int | None = None, when: Literal["before", "after"] = "before"
    ) -> None:
        self.url = storage.url
        self.writes: list[str] = []
        self._storage = storage
        self._at = at
        self._when = when

    @property
    def is_dead(self) -> bool:
        return self._at is not None and len(self.writes) >= self._at

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        self._live()
        return self._storage.read(name, start=start, end=end)

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        self._live()
        return self._storage.open(name, start=start)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        self._live()
        return self._storage.list(prefix, after=after)

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        self._enter(name)
        try:
            self._storage.put(name, data, content_type=content_type)
        finally:
            self._live()

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        self._live()
        end = self._storage.begin(name, data, content_type=content_type)

        def ended() -> None:
            self._enter(name)
            try:
                end()
            finally:
                self._live()

        return ended

    def settle(self, folder: str) -> None:
        self._live()
        self._storage.settle(folder)

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        self._enter(name)
        try:
            self._storage.put_if_absent(name, data, content_type=content_type)
        finally:
            self._live()

    def _enter(self, name: str) -> None:
        self._live()
        self.writes.append(name)
        if self._when == "before":
            self._live()

    def _live(self) -> None:
        if self.is_dead:
            raise PowerCut(f"the power was cut at write {self._at}, {self.writes[-1]}")
