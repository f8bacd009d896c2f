"""A driver does all that can be done now, waits as long as is sensible, and says when waiting will not help."""

import gc
import warnings
from datetime import timedelta
from typing import Any

import pytest

from pipeline.drive import Driver
from pipeline.errors import BadInput, Denied, Unavailable
from pipeline.events import Drawn, Rows
from pipeline.index import read_index
from pipeline.run import Run, open_run
from pipeline.state import Stage
from tests.bench import Bench, outcomes

HOUR = 3600


def stages(run: Run) -> list[str]:
    return [batch.stage.value for batch in run.state.batches]


def test_a_tick_does_what_can_be_done_and_waits_for_nothing(bench: Bench) -> None:
    """The first sends everything; one in the meantime does nothing; one in the morning brings all home."""
    start = bench.service.clock()
    bench.begin().tick()
    run = open_run(bench.place(), bench.clock)
    assert stages(run) == ["submitted"] * 3
    assert bench.service.clock() == start
    bench.again().tick()
    run.catch_up()
    assert stages(run) == ["submitted"] * 3
    bench.service.advance(8 * HOUR)
    bench.again().tick()
    run.catch_up()
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": 6}


def test_a_tick_of_a_finished_run_does_nothing(bench: Bench) -> None:
    bench.run()
    before = len(list(bench.place().list("")))
    bench.again().tick()
    assert len(list(bench.place().list(""))) == before


def test_the_pieces_done_one_by_one_make_a_whole_run(bench: Bench) -> None:
    """Each by a process of its own, which knows only what is in the run."""
    bench.begin()
    while bench.again().draw():
        pass
    assert bench.again().submit()
    bench.service.advance(HOUR)
    assert bench.again().poll()
    assert bench.again().collect()
    run = open_run(bench.place(), bench.clock)
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": 6}


def test_a_job_that_takes_all_night_is_asked_after_ever_more_seldom(bench: Bench) -> None:
    """Twenty hours: some three hundred questions, not the fourteen thousand of every five seconds."""
    bench.make_job(rows=2, max_requests=2)
    bench.service.fault("job_stalled", seconds=20 * HOUR)
    bench.run()
    asked = [event for event in bench.service.events() if event["what"] == "get"]
    assert 20 < len(asked) < 400


def test_every_step_of_a_waiting_driver_waits(bench: Bench) -> None:
    """Where nothing moved, time passes: nobody asks again and again in the same moment."""
    driver = bench.begin()
    idle = 0
    while not driver.run.state.finished:
        now = bench.service.clock()
        if not driver.step():
            idle += 1
            driver.run.clock.sleep_until(driver._next())
            assert bench.service.clock() - now >= timedelta(seconds=0.1)
    assert 0 < idle < 100


def test_a_driver_of_many_wakes_for_several_at_once(bench: Bench) -> None:
    """Twenty batches that take a night: each is asked after by itself, and nobody wakes for each."""
    bench.make_job(rows=20, max_requests=1)
    bench.service.fault("job_stalled", times=20, seconds=6 * HOUR)
    driver = bench.begin()
    wakes = 0
    while not driver.run.state.finished:
        wakes += 1
        if not driver.step():
            driver.run.clock.sleep_until(driver._next())
    asked = [event for event in bench.service.events() if event["what"] == "get"]
    assert len(asked) > 20 * 10
    assert wakes < len(asked) / 3


def test_nothing_stays_open_behind_a_driver(bench: Bench) -> None:
    """In a circle of garbage as well, in which a socket may go before whoever would close it."""
    gc.collect()  # what others left is not ours
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ResourceWarning)
        driver: Any = bench.begin()
        driver.to_the_end()
        driver.itself = driver
        del driver
        gc.collect()
    assert [str(each.message) for each in heard] == []


def test_a_run_without_its_manifest_says_that_it_is_needed(bench: Bench) -> None:
    """All that is planned comes home first, and nothing is lost when the manifest is there again."""
    driver = bench.begin()
    assert driver.draw()
    without = Driver(open_run(bench.place(), bench.clock), bench.backend())
    with pytest.raises(BadInput, match="the manifest is needed"):
        without.to_the_end()
    assert stages(without.run) == ["collected"]
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_planned_run_needs_neither_manifest_nor_photos(bench: Bench) -> None:
    """Any machine can go on with it: all that is sent is in the run."""
    driver = bench.begin()
    while driver.draw():
        pass
    (bench.folder / "shoes.csv").unlink()
    elsewhere = Driver(open_run(bench.place(), bench.clock), bench.backend())
    elsewhere.to_the_end()
    assert outcomes(read_index(elsewhere.run)) == {"ok": 6}


def test_a_driver_takes_up_what_another_drew_and_did_not_plan(bench: Bench) -> None:
    """The other died between its record and the first file; nobody's rows are left behind."""
    dead = bench.begin()
    dead.run.record(Drawn(batch=0, source=Rows(0, 2, dead.run.created.job["defaults"]["model"])))
    driver = bench.again()
    driver.to_the_end()
    assert stages(driver.run) == ["collected"] * 3
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_driver_tells_its_listener_of_every_step(bench: Bench) -> None:
    """What people see moves with it, up to the last batch."""
    seen: list[int] = []
    driver = bench.begin()
    driver.listener = lambda run: seen.append(len(run.state.at(Stage.COLLECTED)))
    driver.to_the_end()
    assert seen[0] == 0
    assert set(seen) == {0, 1, 2, 3}
    assert seen == sorted(seen)


def test_a_result_that_cannot_be_read_for_a_while_is_read_later(bench: Bench) -> None:
    """Twelve downloads are refused in a row, over minutes: the run waits, and all of it comes home."""
    bench.service.fault("refused", method="download", code=503, times=12)
    assert outcomes(bench.run()) == {"ok": 6}


def test_a_provider_that_stays_silent_ends_the_run_with_nothing_lost(bench: Bench) -> None:
    bench.service.fault("refused", method="get", code=503, times=10_000)
    with pytest.raises(Unavailable) as error:
        bench.run()
    assert error.value.hint is not None
    bench.service.clear_faults()
    driver = bench.again()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert set(bench.paid().values()) == {1}


def test_a_silent_provider_is_asked_again_before_the_deadline(bench: Bench) -> None:
    """A quarter of an hour without a line at the start of a night costs that time, and not the night."""
    bench.make_job(night={"deadline": "12 h"})
    bench.service.fault("refused", method="upload", code=503, times=60)
    begun = bench.service.clock()
    assert outcomes(bench.run()) == {"ok": 6}
    assert bench.service.clock() - begun < timedelta(hours=1)


def test_who_asks_hourly_asks_again_soon_where_nobody_answered(bench: Bench) -> None:
    """Two questions in a row that go unanswered are no half hour of silence, however seldom a batch is asked after."""
    bench.make_job(rows=2, max_requests=2)
    bench.service.fault("job_stalled", seconds=20 * HOUR)
    driver = bench.begin()
    begun = bench.service.clock()
    while bench.service.clock() - begun < timedelta(hours=6):
        if not driver.step():
            driver.run.clock.sleep_until(driver._next())
    bench.service.fault("refused", method="get", code=503, times=2)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 2}


def test_a_result_that_is_not_there_yet_is_looked_for_before_the_deadline(bench: Bench) -> None:
    """Also by a driver that never asked after its batch, since that had ended before."""
    bench.make_job(rows=2, max_requests=2, night={"deadline": "20 h"})
    driver = bench.begin()
    driver.tick()
    bench.service.advance(8 * HOUR)
    assert driver.poll()
    bench.service.fault("refused", method="download", code=404, times=5)
    begun = bench.service.clock()
    driver = bench.again()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 2}
    assert bench.service.clock() - begun < timedelta(hours=1)


def test_a_batch_that_broke_off_under_another_key_is_waited_for_by_nobody(bench: Bench) -> None:
    """Only the key that sent it can ask once more what came of it."""
    bench.make_job(rows=2, max_requests=2)
    bench.service.fault("job_expired")
    driver = bench.begin()
    driver.tick()
    for _ in range(200):
        bench.service.advance(HOUR / 2)
        if driver.poll():
            break
    (batch,) = driver.run.state.at(Stage.ENDED)
    assert batch.may_be_late
    with pytest.raises(Denied, match="batch 0 was sent with another key"):
        bench.again(key="of-a-colleague").tick()
    bench.again().to_the_end()
