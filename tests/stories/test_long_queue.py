"""Many batches: through a narrow door, and through a whole night."""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.index import read_index
from pipeline.run import Run, open_run
from tests.bench import Bench, outcomes
from tests.stories.processes import finish, release, start

HOUR = 3600


def calls(service: emulator.Service) -> Counter[str]:
    """How often the provider was asked for what."""
    return Counter(event["what"] for event in service.events() if event["what"] != "fault")


def assert_each_paid_once(bench: Bench, run: Run, batches: int) -> None:
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": batches}
    assert set(bench.paid().values()) == {1}
    assert len(bench.paid()) == batches
    assert (run.state.spent, run.state.unconfirmed) == (bench.bill(), 0)


@pytest.mark.parametrize("batches", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_many_batches_go_through_a_door_for_three(tmp_path: Path, batches: int) -> None:
    """The account takes three jobs at once. None gets lost, and the provider is not asked again and again."""
    settings = {"queue": (60, 600), "run": (60, 600), "picture_bytes": 500, "jobs_limit": 3}
    with emulator.start(**settings) as service:
        bench = Bench(service, tmp_path)
        bench.make_job(rows=batches, max_requests=1, model="gemini-3.1-flash-image", image_size="512")
        driver = bench.begin()
        driver.to_the_end()
        assert_each_paid_once(bench, driver.run, batches)
        refused = calls(service)["create"] - batches
        assert refused <= 2.5 * batches, "at most two or three refusals for each"


def a_night(folder: Path, *, batches: int, drivers: int) -> tuple[float, float]:
    """A night of a day in which everything takes its time, lived by processes: calls for each batch, and seconds."""
    settings = {
        "queue": (HOUR, 12 * HOUR),
        "run": (HOUR, 10 * HOUR),
        "picture_bytes": 10_000,
        "jobs_limit": 500,
    }
    with emulator.start(**settings) as service:
        bench = Bench(service, folder)
        bench.make_job(rows=batches, max_requests=1, model="gemini-3.1-flash-image", image_size="512")
        run = bench.begin().run
        began, started = service.clock(), time.perf_counter()
        processes = [start(bench, run.storage.url) for _ in range(drivers)]
        release(*processes)
        finish(processes, within=400)
        seconds = time.perf_counter() - started
        assert (service.clock() - began).total_seconds() > 6 * HOUR
        assert_each_paid_once(bench, open_run(bench.place(), bench.clock), batches)
        return sum(calls(service).values()) / batches, seconds


def test_a_short_night_asks_little(tmp_path: Path) -> None:
    asked, _ = a_night(tmp_path, batches=6, drivers=1)
    assert asked <= 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_night_of_two_hundred_batches_is_lived_in_half_a_minute_and_asks_little(tmp_path: Path) -> None:
    asked, seconds = a_night(tmp_path, batches=200, drivers=1)
    sys.stdout.write(f"{asked:.1f} calls for each batch, {seconds:.0f} seconds\n")
    assert asked <= 60
    assert seconds < 45  # 24 where nothing else runs, on two cores
