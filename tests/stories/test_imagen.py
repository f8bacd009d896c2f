"""Imagen on Vertex AI: asked at once, paid by the picture, and brought home as everything else is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.index import read_index
from pipeline.run import Run
from pipeline.survey import survey
from tests.bench import Bench, outcomes

IMAGEN = "imagen-4.0-generate-001"
PRICES = {
    "imagen-3.0-generate-001": 40_000_000,
    "imagen-3.0-generate-002": 40_000_000,
    "imagen-4.0-generate-001": 40_000_000,
    "imagen-4.0-fast-generate-001": 20_000_000,
    "imagen-4.0-ultra-generate-001": 60_000_000,
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(0, 0), run=(0, 0), picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    """Six rows for Imagen."""
    bench = Bench(service, tmp_path, key="catalog")
    job_of(bench)
    return bench


def job_of(bench: Bench, **said: Any) -> None:
    """A job for Imagen, quick enough for a test: a hundred calls a minute."""
    there = {"backend": "vertex", "bucket": "shoes/night", "online": {"per_minute": 100}}
    bench.make_job(**({"model": IMAGEN, "max_requests": 40} | there | said))


def calls(bench: Bench) -> int:
    return len(bench.service.ledger()["calls"])


def assert_paid_once(bench: Bench, run: Run) -> None:
    """Spent is what the ledger has, to the billionth; nothing is open, and nothing went in a batch."""
    run.catch_up()
    assert run.state.finished
    assert run.state.spent == bench.bill()
    assert run.state.unconfirmed == run.state.reserved == run.state.overrun == 0
    assert bench.service.ledger()["jobs"] == []


@pytest.mark.parametrize("model", PRICES)
def test_every_imagen_runs_to_its_end_at_the_price_the_plan_said(bench: Bench, model: str) -> None:
    job_of(bench, model=model)
    found = survey(bench.job, base=bench.folder)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert set(index["model"]) == {model}
    assert list(zip(index["width"], index["height"], strict=True)) == [(1024, 1024)] * 6
    assert found.price.low == found.price.likely == 6 * PRICES[model] == bench.bill()
    assert calls(bench) == 6
    assert_paid_once(bench, driver.run)
