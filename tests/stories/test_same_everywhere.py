"""A run is the same run in a folder and in a bucket, and needs no more rights than to create, read and list."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette

from pipeline import emulator
from pipeline.emulator.gcs import CloudStorage
from pipeline.index import read_index
from pipeline.run import Run, open_run
from pipeline.storage import Storage, open_storage
from tests.bench import Bench, outcomes
from tests.create_only import CreateOnly
from tests.faulty import Dying, PowerCut
from tests.servers import serve

TIME = re.compile(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"')


def finished(bench: Bench, storage: Storage) -> Run:
    """Six rows, two of them answered badly once, so that there is every kind of file."""
    bench.make_job(rows=6, max_requests=2, model="gemini-3.1-flash-image", image_size="512")
    bench.service.fault("no_image", prompt="Shoe 1", times=1)
    bench.service.fault("duplicate_line", prompt="Shoe 2", times=1)
    driver = bench.begin(storage=storage)
    driver.to_the_end()
    return driver.run


def files(run: Run) -> dict[str, bytes]:
    """Everything but the journal."""
    names = [name for name in run.storage.list("") if not name.startswith("journal/")]
    return {name: run.storage.read(name) for name in names}


def story(run: Run) -> list[str]:
    """What the journal tells, without times, writers, the run's id, and who of two that ended together was first."""
    told = []
    for name in run.storage.list("journal/"):
        record = msgspec.json.decode(run.storage.read(name))
        event = msgspec.json.encode(record["event"], order="sorted").decode()
        told.append(
            TIME.sub('"time"', event.replace(run.created.run, "run").replace(run.created.service, ""))
        )
    return sorted(told)


def test_a_run_in_a_folder_and_in_a_bucket_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same names and the same bytes. Two emulators of one seed, so that even tickets are called the same."""
    runs = []
    for place in (str(tmp_path / "runs" / "run"), "gs://shoes/runs/run"):
        with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=2000, buckets=("shoes",)) as service:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
            run = finished(Bench(service, tmp_path), open_storage(place))
            runs.append((files(run), story(run), list(run.storage.list("journal/"))))
    here, there = runs
    assert here[0].keys() == there[0].keys()
    assert {name.partition("/")[0] for name in here[0]} == {
        "plan", "requests", "pictures", "staged", "index", "retry", "quarantine",
    }  # fmt: skip
    assert here == there


@pytest.fixture(params=[412, 403])
def account(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CreateOnly]:
    """A bucket in which nothing can be overwritten or deleted, whichever way it says that a name is taken."""
    cloud = CloudStorage(lambda: datetime.now(UTC), buckets=("shoes",))
    only = CreateOnly(Starlette(routes=cloud.routes), taken=request.param)
    with serve(only) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield only


def test_an_account_that_may_only_create_finishes_what_another_began(
    bench: Bench, account: CreateOnly
) -> None:
    """Two drivers die in the middle, so that the third does much of it again; nothing is ever replaced."""
    bench.make_job(rows=6, max_requests=2, model="gemini-3.1-flash-image", image_size="512")
    place = "gs://shoes/runs/run"
    for n in (5, 12):
        with pytest.raises(PowerCut):
            bench.go_on(storage=Dying(open_storage(place), at=n, when="after")).to_the_end()
    bench.go_on(storage=open_storage(place)).to_the_end()
    run = open_run(open_storage(place), bench.clock)
    assert outcomes(read_index(run)) == {"ok": 6}
    assert set(bench.paid().values()) == {1}
    assert account.refused == []


class Counting:
    """A storage that counts what it is asked."""

    def __init__(self, storage: Storage) -> None:
        self.url = storage.url
        self.listings: list[str] = []
        self.reads: list[str] = []
        self._storage = storage
        self.open, self.put, self.put_if_absent = storage.open, storage.put, storage.put_if_absent

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        self.listings.append(prefix)
        return self._storage.list(prefix, after=after)

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        self.reads.append(name)
        return self._storage.read(name, start=start, end=end)


def test_opening_a_run_costs_one_listing_and_each_record_once(bench: Bench) -> None:
    """And nothing but the journal is looked at, however much there is."""
    run = finished(bench, bench.place())
    counting = Counting(bench.place())
    opened = open_run(counting, bench.clock)
    assert opened.state == run.state
    assert counting.listings == ["journal/"]
    assert sorted(counting.reads) == list(run.storage.list("journal/"))
