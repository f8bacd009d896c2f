"""The places where the storage contract has to hold."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest
import requests
from starlette.applications import Starlette

from pipeline.emulator.gcs import CloudStorage
from pipeline.storage import Storage, open_storage
from tests.create_only import CreateOnly
from tests.servers import independent_cloud_storage, serve


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


@dataclass
class Bucket:
    url: str
    server: str
    lacks: frozenset[str] = frozenset()

    def open(self) -> Storage:
        return open_storage(self.url)

    def fill(self, names: Iterable[str]) -> None:
        bucket, _, prefix = self.url.removeprefix("gs://").partition("/")
        with requests.Session() as session:
            for name in names:
                session.post(
                    f"{self.server}/upload/storage/v1/b/{bucket}/o",
                    params={"uploadType": "media", "name": f"{prefix}/{name}", "ifGenerationMatch": "0"},
                    data=b"",
                ).raise_for_status()


@pytest.fixture(scope="session")
def emulator_url() -> Iterator[str]:
    cloud = CloudStorage(lambda: datetime.now(UTC))
    with serve(Starlette(routes=cloud.routes)) as url:
        yield url


@pytest.fixture(scope="session")
def create_only_url() -> Iterator[str]:
    cloud = CloudStorage(lambda: datetime.now(UTC))
    account = CreateOnly(Starlette(routes=cloud.routes))
    with serve(account) as url:
        yield url
    assert account.refused == []


@pytest.fixture(scope="session")
def independent_url() -> Iterator[str]:
    with independent_cloud_storage() as url:
        yield url


@pytest.fixture(scope="session")
def bucket_names() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"bucket-{next(numbers)}"


SERVERS = {
    "emulator": "emulator_url",
    "create-only account": "create_only_url",
    "fake-gcs-server": "independent_url",
}


@pytest.fixture(params=["local", *SERVERS])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bucket_names: Callable[[], str],
) -> Place:
    if request.param == "local":
        return Folder(str(tmp_path / "runs" / "shoes"))
    server: str = request.getfixturevalue(SERVERS[request.param])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    bucket = bucket_names()
    requests.post(f"{server}/storage/v1/b", json={"name": bucket}, timeout=10).raise_for_status()
    # It ignores them there, and every one of sixteen racing writers wins.
    lacks = frozenset({"preconditions on resumable uploads"} if request.param == "fake-gcs-server" else ())
    return Bucket(f"gs://{bucket}/runs/shoes", server, lacks)
