"""The online lane: asked at once, paid once but for what was in flight, and collected as everything else is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.index import read_index
from pipeline.run import Run
from pipeline.survey import begin, planner, survey
from tests.bench import Bench, outcomes

MODEL = "gemini-2.5-flash-image"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=["developer", "vertex"])
def bench(request: pytest.FixtureRequest, service: emulator.Service, tmp_path: Path) -> Bench:
    """Six rows with photos, on either surface."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    bench = Bench(service, tmp_path, key="catalog")
    there = {"backend": "vertex", "bucket": "shoes/night"} if request.param == "vertex" else {}
    bench.make_job(photo=lambda n: "red.png", max_requests=40, **there)
    return bench


def at_once(bench: Bench, *, cap: int | None = None, storage: Any = None, **said: Any) -> Driver:
    """A run of this bench's job, every batch of it online."""
    job = msgspec.structs.replace(bench.job, **said)
    found = survey(job, base=bench.folder, lane="standard")
    place = storage or bench.place()
    url, clock = bench.service.url, bench.clock
    run = begin(found, name="run", storage=place, service=url, clock=clock, cap=cap)
    return Driver(run, bench.backend_of(run), planner=planner(found, run))


def calls(bench: Bench) -> int:
    return len(bench.service.ledger()["calls"])


def assert_books_hold(bench: Bench, run: Run) -> None:
    """What the books say was spent, or may have been, covers the bill; and nothing went in a batch."""
    assert run.state.spent + run.state.unconfirmed >= bench.bill()
    assert run.state.reserved == 0
    assert bench.service.ledger()["jobs"] == []


def test_every_request_is_answered_at_once_and_paid_once_at_the_standard_price(bench: Bench) -> None:
    """Both surfaces, photos included; spend equals the ledger to the billionth."""
    driver = at_once(bench)
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert set(index["attempt"]) == {1}
    assert calls(bench) == 6
    assert driver.run.state.spent == bench.bill() > 0
    assert driver.run.state.unconfirmed == 0
    (batch,) = driver.run.state.batches
    assert batch.online
    assert batch.planned is not None
    assert batch.planned.likely == 6 * driver_price(bench)
    names = list(driver.run.storage.list("results/"))
    assert sum(name.endswith("/requests.jsonl") for name in names) == 1
    assert sum(name.endswith(".asked") for name in names) == 6


def driver_price(bench: Bench) -> int:
    found = survey(bench.job, base=bench.folder)
    assert found.at_once is not None
    return found.at_once // 6
