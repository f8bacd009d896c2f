"""Tickets become endings, and nothing but an ending is one."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import emulator
from pipeline.backends.base import Gone
from pipeline.drive import Driver
from pipeline.errors import Unavailable
from pipeline.events import Ended, Part, ResultFile
from pipeline.index import read_index
from pipeline.poll import cut, poll
from pipeline.state import Stage
from tests.bench import Bench, outcomes

HOUR = 3600


def sent(bench: Bench) -> Driver:
    """One batch of six rows, at the provider."""
    bench.make_job(rows=6, max_requests=6)
    driver = bench.begin()
    while not driver.run.state.at(Stage.SUBMITTED):
        driver.step()
    return driver


def ending(driver: Driver) -> Ended | None:
    return driver.run.state.batches[0].ended


@pytest.mark.parametrize(
    "state",
    ["BATCH_STATE_PONDERING", "JOB_STATE_QUEUED", "ALMOST_SUCCEEDED", "BATCH_STATE_PARTIALLY_SUCCEEDED"],
)
def test_a_state_nobody_knows_is_no_ending(bench: Bench, state: str) -> None:
    """Neither success nor failure, and the last one comes without a result: asked again, however long it takes."""
    driver = sent(bench)
    bench.service.fault("unknown_state", value=state, times=None)
    for _ in range(5):
        bench.service.advance(2 * HOUR)
        assert not driver.poll()
    assert ending(driver) is None
    bench.service.clear_faults()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_how_far_a_job_is_comes_from_the_service_where_it_counts(tmp_path: Path) -> None:
    """Half of its time is over, and so is half of it; nothing of that is home, and at the end it is nobody's news."""
    with emulator.start(queue=(60, 60), run=(3600, 3600), picture_bytes=500) as service:
        bench = Bench(service, tmp_path)
        bench.make_job(rows=6, max_requests=6)
        driver = bench.begin()
        while driver.draw() or driver.submit():
            pass
        driver.poll()
        assert driver.answered == 0
        service.advance(60 + 1800)
        driver.poll()
        assert driver.answered == 3
        driver.to_the_end()
        assert driver.answered == 0


def test_a_result_that_comes_later_than_its_success_is_waited_for(bench: Bench) -> None:
    """Said to be done for ten minutes before there is anything to read."""
    bench.service.fault("late_output", seconds=600)
    driver = sent(bench)
    bench.service.advance(120)
    assert not driver.poll()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_job_that_this_key_cannot_see_has_not_failed(bench: Bench) -> None:
    """The service says 404 to every key but the one that sent it. That is not even asked about."""
    driver = sent(bench)
    submitted = driver.run.state.batches[0].submitted
    assert submitted is not None
    bench.service.advance(HOUR)
    other = bench.again(key="another-key")
    with pytest.raises(Gone):
        bench.backend("another-key").ending(submitted.ticket)
    before = len(bench.service.events())
    assert not poll(other.run, bench.backend("another-key"), 0)
    assert len(bench.service.events()) == before
    assert poll(driver.run, bench.backend(), 0)


@pytest.mark.parametrize(
    ("fault", "how", "rows"),
    [
        ("job_failed", "failed", {"error": 6}),
        ("job_expired", "expired", {"expired": 6}),
        ("job_cancelled", "cancelled", {"cancelled": 6}),
    ],
)
def test_a_job_that_ends_without_a_result_says_how(
    bench: Bench, fault: str, how: str, rows: dict[str, int]
) -> None:
    """Every row of it is in the index with that reason, and the provider's words where it had any."""
    bench.service.fault(fault)
    driver = sent(bench)
    driver.to_the_end()
    ended = ending(driver)
    assert ended is not None
    assert (ended.how, ended.files) == (how, ())
    index = read_index(driver.run)
    assert outcomes(index) == rows
    if fault == "job_failed":
        assert set(index["message"]) == {"An internal error has occurred."}


def test_the_ending_carries_the_provider_s_time_and_the_parts_of_its_result(bench: Bench) -> None:
    """Frozen in the record, so that every driver reads the same ranges."""
    bench.make_job(rows=6, max_requests=6)
    driver = bench.begin(part_bytes=100_000)
    while (ended := ending(driver) if driver.run.state.batches else None) is None:
        if not driver.step():
            bench.service.advance(60)
    assert ended.at is not None
    assert ended.at < bench.service.clock()
    (file,) = ended.files
    assert file.size is not None
    assert [part.start for part in ended.parts] == list(range(0, file.size, 100_000))
    assert ended.parts[-1].end is None
    assert ended.stats["successfulRequestCount"] == 6


def test_a_provider_that_is_silent_for_a_while_is_asked_again(bench: Bench) -> None:
    driver = sent(bench)
    bench.service.fault("refused", method="get", code=503, times=4)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_provider_that_stays_silent_is_said_in_the_end(bench: Bench) -> None:
    """Its jobs go on, so nothing is lost: the same command brings them home."""
    driver = sent(bench)
    start = bench.service.clock()
    bench.service.fault("refused", method="get", code=503, times=None)
    with pytest.raises(Unavailable, match="503"):
        driver.to_the_end()
    assert (bench.service.clock() - start).total_seconds() >= HOUR / 2
    bench.service.clear_faults()
    driver = bench.again()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert set(bench.paid().values()) == {1}


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (None, [(0, None)]),
        (0, [(0, None)]),
        (10, [(0, None)]),
        (11, [(0, 10), (10, None)]),
        (20, [(0, 10), (10, None)]),
        (25, [(0, 10), (10, 20), (20, None)]),
    ],
)
def test_parts_cover_a_file_without_gap_or_overlap(size: int | None, parts: list[Any]) -> None:
    """And the last is open: a size that was told too small loses no line."""
    assert cut(ResultFile("files/x", size), 10) == [Part("files/x", start, end) for start, end in parts]


def test_a_job_that_nobody_knows_any_more_expires_after_three_days(bench: Bench) -> None:
    """Deleted by hand, say. Until then it may still show; then it counts as spent, and its rows are asked again."""
    driver = sent(bench)
    bench.service.fault("refused", method="get", name="batches/", code=404, times=10_000)
    bench.service.advance(48 * HOUR)
    assert not driver.poll()
    bench.service.advance(25 * HOUR)
    assert driver.poll()
    ended = driver.run.state.batches[0].ended
    assert ended is not None
    assert (ended.how, ended.files) == ("expired", ())
    bench.service.clear_faults()
    driver.to_the_end()
    assert driver.run.state.unconfirmed > 0
    assert outcomes(read_index(driver.run)) == {"ok": 6}
