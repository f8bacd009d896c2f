"""A result that was there and is not any more: looked for as long as it may come back, then counted as lost."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage as cloud

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.errors import Denied, NightshootError, Refused, Unavailable
from pipeline.index import read_index
from pipeline.state import Stage
from tests.bench import Bench, outcomes

HOUR = 3600
LIFE = {"developer": 72, "vertex": 120}
"""Hours after its end in which a result may come back."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=["developer", "vertex"])
def surface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def job_of(bench: Bench, surface: str, **said: Any) -> None:
    bench.make_job(**({"backend": "vertex", "bucket": "shoes/night"} if surface == "vertex" else {}) | said)


def polled(bench: Bench, **said: Any) -> Driver:
    """Everything of a run has ended, and nothing is home."""
    driver = bench.begin(**said)
    while driver.draw() or driver.submit():
        pass
    bench.service.advance(HOUR)
    driver.poll()
    return driver


def lose(bench: Bench, surface: str) -> None:
    """The result of batch 1 goes: at Google, or from the bucket."""
    if surface == "developer":
        bench.service.fault("refused", method="download", display_name="-00001-", code=404, times=None)
        return
    for blob in cloud.Client(project="p").list_blobs("shoes", prefix="night/run/vertex/"):
        if "-00001-" in blob.name.split("/")[3] and "predictions" in blob.name:
            blob.delete()


def stages(driver: Driver) -> list[Stage]:
    return [batch.stage for batch in driver.run.state.batches]


def test_a_result_that_is_gone_keeps_no_other_from_coming_home_and_is_lost_in_the_end(
    bench: Bench, surface: str, caplog: pytest.LogCaptureFixture
) -> None:
    job_of(bench, surface, again={"missing": 1})
    driver = polled(bench)
    lose(bench, surface)
    start = bench.service.clock()
    with pytest.raises(Unavailable, match="the result of batch 1 is not there") as said:
        driver.to_the_end()
    assert f"{LIFE[surface] // 24} days after its end it counts as lost, and as spent" in (
        said.value.hint or ""
    )
    assert stages(driver) == [Stage.COLLECTED, Stage.ENDED, Stage.COLLECTED]
    assert timedelta(minutes=30) <= bench.service.clock() - start < timedelta(hours=1), "looked for meanwhile"
    bench.service.advance((LIFE[surface] - 3) * HOUR)
    driver = bench.again()
    with pytest.raises(Unavailable, match="not there"):
        driver.tick()
    assert driver.run.state.unconfirmed == 0
    bench.service.advance(3 * HOUR)
    driver = bench.again()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 4, "missing": 2}
    assert "counts as spent" in caplog.text
    lost = driver.run.state.batches[1]
    assert lost.collected is not None
    assert (lost.collected.spent, lost.collected.unconfirmed) == (0, lost.high)
    assert driver.run.state.spent < bench.bill() <= driver.run.state.spent + driver.run.state.unconfirmed
    words = set(index[index["outcome"] == "missing"]["message"])
    assert words == {"the service counts 2 answers and sent 0"}


def test_a_result_that_comes_back_in_time_is_brought_home(bench: Bench) -> None:
    driver = polled(bench)
    lose(bench, "developer")
    with pytest.raises(Unavailable):
        driver.to_the_end()
    bench.service.advance(48 * HOUR)
    bench.service.clear_faults()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert (driver.run.state.spent, driver.run.state.unconfirmed) == (bench.bill(), 0)


def test_another_key_never_takes_a_result_for_lost(bench: Bench) -> None:
    """It is told the same of one that is there."""
    driver = polled(bench)
    bench.service.advance(500 * HOUR)
    other = bench.again(key="another-key-altogether")
    with pytest.raises(Unavailable, match="is not there"):
        other.tick()
    assert stages(other) == [Stage.ENDED] * 3
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_what_came_home_before_a_result_went_is_kept(bench: Bench) -> None:
    """The line breaks in a later part, and when it is taken up again there is nothing any more."""
    bench.make_job(rows=8, max_requests=8, again={"missing": 1})
    driver = polled(bench, part_bytes=40_000)
    assert driver.run.state.batches[0].ended is not None
    (file,) = driver.run.state.batches[0].ended.files
    assert file.size is not None
    assert file.size > 5 * 40_000
    bench.service.fault("cut", bytes=file.size // 2)
    bench.service.fault("refused", method="download", every=4, code=404, times=1)
    with pytest.raises(NightshootError):
        driver.collect()
    bench.service.fault("refused", method="download", code=404, times=None)
    bench.service.advance(80 * HOUR)
    driver = bench.again()
    driver.to_the_end()
    found = outcomes(read_index(driver.run))
    assert found["ok"] >= 1
    assert found["missing"] >= 1
    assert found["ok"] + found["missing"] == 8


def test_a_download_that_is_forbidden_keeps_no_other_from_coming_home(bench: Bench) -> None:
    driver = polled(bench)
    bench.service.fault("refused", method="download", display_name="-00001-", code=403, times=None)
    with pytest.raises(Denied, match="403"):
        driver.to_the_end()
    assert stages(driver) == [Stage.COLLECTED, Stage.ENDED, Stage.COLLECTED]
    bench.service.clear_faults()
    driver = bench.again()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_success_that_never_has_a_result_is_not_bought_again_by_itself(bench: Bench, surface: str) -> None:
    """It was billed, and nobody can read it: that it is asked again is for a person to say."""
    job_of(bench, surface, rows=12, max_requests=12)
    bench.service.fault("late_output", seconds=9000 * HOUR)
    driver = bench.begin()
    driver.tick()
    bench.service.advance((LIFE[surface] - 1) * HOUR)
    driver.tick()
    assert stages(driver) == [Stage.SUBMITTED]
    bench.service.advance(2 * HOUR)
    with pytest.raises(Refused, match="12 of 12 requests of batch 0 came to nothing for one reason: missing"):
        driver.to_the_end()
    assert len(bench.paid()) == 1
    ended = driver.run.state.batches[0].ended
    assert ended is not None
    assert (ended.how, ended.files) == ("succeeded", ())
    assert "its result cannot be read" in (ended.error or "")
    assert driver.run.state.unconfirmed >= bench.bill() > 0


def test_what_is_left_behind_names_the_parts_that_are_lost(bench: Bench) -> None:
    """As empty tables: another driver does not look for them again."""
    bench.make_job(again={"missing": 1})
    driver = polled(bench)
    lose(bench, "developer")
    bench.service.advance(80 * HOUR)
    driver.to_the_end()
    staged = sorted(path.name for path in (Path(driver.run.storage.url) / "staged").iterdir())
    assert staged == ["00000-000.arrows", "00001-000.arrows", "00002-000.arrows"]
