"""The places where the storage contract has to hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from pipeline.storage import Storage, open_storage


class Place(Protocol):
    """Somewhere runs can live. Every open is another driver's."""

    url: str
    lacks: frozenset[str]

    def open(self) -> Storage: ...

    def fill(self, names: Iterable[str]) -> None:
        """Put empty files there, quickly and behind the storage's back."""


@dataclass
class Folder:
    url: str
    lacks: frozenset[str] = frozenset()

    def open(self) -> Storage:
        return open_storage(self.url)

    def fill(self, names: Iterable[str]) -> None:
        for name in names:
            path = Path(self.url, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.fixture(params=["local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Folder(str(tmp_path / "runs" / "shoes"))
