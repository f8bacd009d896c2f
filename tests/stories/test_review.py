"""People judge pictures while a run goes on: what they reject is not gone on from, where the job says so."""

import csv
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline import emulator, takes
from pipeline.drive import Driver
from pipeline.errors import BadInput, Refused
from pipeline.events import Rejected, Stopped, Turns
from pipeline.index import read_index
from pipeline.review import Applied, apply
from pipeline.run import Run, open_run
from pipeline.runs import nights
from pipeline.survey import begin, planner, survey
from pipeline.tally import tally
from tests.bench import Bench, fingerprints, outcomes
from tests.faulty import Dying, PowerCut
from tests.stories import processes

THINKS = "gemini-3.1-flash-image"
SURFACES = {"developer": {}, "vertex": {"backend": "vertex", "bucket": "shoes/night"}}
TURNS = ["make it night", "add snow"]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=500, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SURFACES[request.param]


def shoot(bench: Bench, follow_ups: str, *, rows: int = 3, max_requests: int = 100, **said: Any) -> Driver:
    """A driver for a run of a job with two follow-ups to each picture."""
    said = {"turns": TURNS, "model": THINKS} | said
    bench.make_job(rows=rows, max_requests=max_requests, follow_ups=follow_ups, **said)
    return bench.begin()


def until(driver: Driver, done: Callable[[Run], bool]) -> Run:
    """Drive a run on as far as that."""
    for _ in range(500):
        if done(driver.run):
            return driver.run
        driver.step()
        driver.run.clock.sleep(7)
    raise AssertionError("it never came to that")


def home(number: int) -> Callable[[Run], bool]:
    """Whether this batch is settled. What follows from it is drawn in a later step."""
    return lambda run: len(run.state.batches) > number and run.state.batches[number].collected is not None


def decide(bench: Bench, run: Run, *said: tuple[str, ...], columns: str = "key decision reason") -> Applied:
    """What a person wrote into a table, applied."""
    path = bench.folder / "decisions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns.split(), *said])
    return apply(run, path)


def came(run: Run) -> dict[tuple[str, int], str]:
    return {(row.key, row.turn): row.outcome for row in read_index(run).itertuples()}


def test_nothing_goes_on_from_a_rejected_picture(bench: Bench, surface: dict[str, Any]) -> None:
    """Of three conversations one ends at its first picture. Both of its follow-ups are in the index, and were free."""
    driver = shoot(bench, "unless_rejected", **surface)
    run = until(driver, home(0))
    decide(bench, run, ("sku-1", "rejected", "two left shoes"))
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 7, "no_parent": 2}
    index = read_index(run).set_index(["key", "turn"])
    assert index.loc[("sku-1", 0), ["outcome", "decision"]].tolist() == ["ok", "rejected"]
    for turn in (1, 2):
        row = index.loc[("sku-1", turn)]
        assert row["outcome"] == "no_parent"
        assert row["message"] == "sku-1 main was rejected: two left shoes"
        assert row["usd"] == 0
        assert isinstance(row["continued"], float), "it goes on from nothing"
    assert run.state.spent == bench.bill()
    now = tally(run)
    assert (now.answered, now.total, now.pictures, now.sent) == (9, 9, 7, 7)
    assert now.causes["not sent"] < 0
    assert bench.service.ledger(rows=False)["total"]["rows"] == 7


def test_without_the_setting_a_rejection_stops_nothing(bench: Bench) -> None:
    driver = shoot(bench, "always")
    run = until(driver, home(0))
    decide(bench, run, ("sku-1", "rejected", ""))
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 9}


def family(bench: Bench) -> None:
    rows = [
        {"id": "boot", "prompt": "a boot"},
        {"id": "snow", "prompt": "in snow", "from": "boot"},
        {"id": "poster", "prompt": "a poster", "from": "snow"},
        {"id": "cap", "prompt": "a cap"},
        {"id": "rain", "prompt": "in rain", "from": "cap"},
    ]
    path = bench.folder / "shoes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "prompt", "from"])
        writer.writeheader()
        writer.writerows(rows)


def test_rows_that_edit_a_rejected_picture_are_stopped_too(bench: Bench, surface: dict[str, Any]) -> None:
    """And the rows that edit theirs; those of another picture are not."""
    bench.make_job(model=THINKS, max_requests=100, follow_ups="unless_rejected", prompt=None, **surface)
    family(bench)
    driver = bench.begin()
    run = until(driver, lambda run: any(b.sends and b.collected for b in run.state.batches))
    decide(bench, run, ("boot", "rejected", ""))
    driver.to_the_end()
    assert came(run) == {
        ("boot", 0): "ok",
        ("snow", 0): "no_parent",
        ("poster", 0): "no_parent",
        ("cap", 0): "ok",
        ("rain", 0): "ok",
    }
    stopped = read_index(run, where="outcome == 'no_parent'")
    assert set(stopped["message"]) == {"boot main was rejected"}
    assert all(len(shown) == 0 for shown in stopped["references"])
    assert run.state.spent == bench.bill()


def test_what_is_on_its_way_comes_home_and_what_follows_it_is_stopped(bench: Bench) -> None:
    """The first picture is rejected while the second is with Google: that one is paid for, the third never asked."""
    driver = shoot(bench, "unless_rejected", rows=2)
    run = until(
        driver, lambda run: any(isinstance(b.source, Turns) and b.submitted for b in run.state.batches)
    )
    decide(bench, run, ("sku-0", "rejected", "too dark"))
    driver.to_the_end()
    assert came(run)["sku-0", 1] == "ok"
    assert came(run)["sku-0", 2] == "no_parent"
    assert came(run)["sku-1", 2] == "ok"


def test_the_nearest_picture_that_was_judged_decides(bench: Bench) -> None:
    """The first is bad, but the second came out well in spite of it: its follow-up is asked."""
    driver = shoot(bench, "unless_rejected", rows=2)
    run = until(driver, lambda run: len(run.state.batches) > 1 and run.state.batches[1].submitted is not None)
    decide(bench, run, ("sku-0", "rejected", ""))
    until(driver, home(1))
    decide(bench, run, ("sku-0", "1", "approved"), columns="key turn decision")
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 6}


def test_a_batch_of_which_all_is_rejected_ends_well(bench: Bench) -> None:
    driver = shoot(bench, "unless_rejected", rows=2)
    run = until(driver, home(0))
    decide(bench, run, ("sku-0", "rejected", ""), ("sku-1", "rejected", ""))
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 2, "no_parent": 4}
    assert len(bench.paid()) == 1


def test_a_later_decision_replaces_an_earlier_one(bench: Bench) -> None:
    driver = shoot(bench, "unless_rejected", rows=2)
    run = until(driver, home(0))
    decide(bench, run, ("sku-0", "rejected", "blurred"), ("sku-1", "approved", ""))
    decide(bench, run, ("sku-0", "approved", "looked again"), ("sku-1", "rejected", ""))
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 4, "no_parent": 2}
    index = read_index(run, where="turn == 0").set_index("key")
    assert index["decision"].to_dict() == {"sku-0": "approved", "sku-1": "rejected"}
    assert index.loc["sku-0", "decision_reason"] == "looked again"
    assert index["decision_reason"].isna()["sku-1"]


# --- approval ----------------------------------------------------------------------------------------------------


def test_nothing_goes_on_before_somebody_approved(bench: Bench, surface: dict[str, Any]) -> None:
    """The run stops between its waves, says so, and goes on with what is approved: three waves, two reviews."""
    driver = shoot(bench, "approved", **surface)
    with pytest.raises(Refused, match="3 follow-ups wait for your review"):
        driver.to_the_end()
    run = driver.run
    assert not run.state.finished
    assert (tally(run).to_review, len(bench.paid())) == (3, 1)
    decide(bench, run, ("sku-0", "approved", ""), ("sku-1", "rejected", "blurred"))
    with pytest.raises(Refused, match="3 follow-ups wait for your review"):
        bench.again().tick()
    decide(bench, run, ("sku-2", "approved", ""))
    with pytest.raises(Refused, match="2 follow-ups wait for your review"):
        bench.again().to_the_end()
    run.catch_up()
    assert came(run)["sku-1", 1] == came(run)["sku-1", 2] == "no_parent"
    decide(bench, run, ("sku-0", "1", "approved"), ("sku-2", "1", "approved"), columns="key turn decision")
    last = bench.again()
    last.to_the_end()
    assert outcomes(read_index(last.run)) == {"ok": 7, "no_parent": 2}
    assert last.run.state.spent == bench.bill()
    assert set(bench.paid().values()) == {1}


def test_batches_wait_each_for_its_own_pictures(bench: Bench) -> None:
    driver = shoot(bench, "approved", rows=4, max_requests=2, turns=TURNS[:1])
    with pytest.raises(Refused, match="4 follow-ups wait"):
        driver.to_the_end()
    decide(bench, driver.run, ("sku-0", "approved", ""), ("sku-1", "approved", ""))
    with pytest.raises(Refused, match="2 follow-ups wait"):
        driver.to_the_end()
    assert [turn for _, turn in came(driver.run)].count(1) == 2


def test_who_does_not_want_to_judge_can_leave_it_at_that(bench: Bench) -> None:
    """Stopped, the run waits for nobody: what was rejected is so, and the rest was not sent."""
    driver = shoot(bench, "approved", turns=TURNS[:1])
    with pytest.raises(Refused, match="wait for your review"):
        driver.to_the_end()
    decide(bench, driver.run, ("sku-0", "rejected", ""))
    driver.run.record(Stopped(why="asked"))
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 3, "no_parent": 1, "not_sent": 2}


def test_the_deadline_does_not_wait_for_a_review(bench: Bench) -> None:
    driver = shoot(bench, "approved", turns=TURNS[:1], night={"deadline": "6 h"})
    with pytest.raises(Refused, match="wait for your review"):
        driver.to_the_end()
    bench.clock.sleep(6 * 3600)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 3, "not_sent": 3}


def test_a_decision_about_an_older_take_stops_nothing(bench: Bench) -> None:
    """The picture was asked for once more: it is the newer one that is gone on from, and that is to be judged."""
    bench.service.fault("wrong_size", prompt="Shoe 0", times=1)
    driver = shoot(bench, "unless_rejected", rows=2, turns=TURNS[:1])
    driver.to_the_end()
    run = driver.run
    assert came(run)["sku-0", 0] == "wrong_size"
    takes.draw(run, takes.failed(run, ("wrong_size",)))
    until(driver, lambda run: run.state.batches[-1].collected is not None and not run.state.finished)
    columns = "key turn take decision"
    decide(bench, run, ("sku-0", "0", "1", "rejected"), columns=columns)
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 4}
    told = read_index(run, takes="all", where="key == 'sku-0' and turn == 0").set_index("take")
    assert told["decision"].isna().to_dict() == {1: False, 2: True}


def test_without_a_take_the_latest_is_meant(bench: Bench) -> None:
    bench.service.fault("wrong_size", prompt="Shoe 0", times=1)
    driver = shoot(bench, "unless_rejected", rows=2, turns=TURNS[:1])
    driver.to_the_end()
    run = driver.run
    takes.draw(run, takes.failed(run, ("wrong_size",)))
    until(driver, lambda run: run.state.batches[-1].collected is not None and not run.state.finished)
    decide(bench, run, ("sku-0", "0", "rejected"), columns="key turn decision")
    driver.to_the_end()
    last = read_index(run).set_index(["key", "turn"])
    assert last.loc[("sku-0", 1), ["outcome", "take"]].tolist() == ["no_parent", 2]
    now = tally(run)
    assert (now.answered, now.total, now.outcomes) == (4, 4, {"no_parent": 1, "ok": 3})


def night(bench: Bench, name: str, rows: list[list[str]]) -> Driver:
    """A run over this table that knows what the nights before it answered."""
    with (bench.folder / "shoes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "prompt", "prompt_2", "from"], *rows])
    folder, service = str(bench.folder / "runs"), bench.service.url
    known = nights(bench.job, folder=folder, service=service, clock=bench.clock)
    found = survey(bench.job, base=bench.folder, nights=known, runs=folder)
    run = begin(found, name=name, storage=bench.place(name), service=service, clock=bench.clock, cap=None)
    return Driver(run, bench.backend_of(run), planner=planner(found, run))


def test_what_an_earlier_night_made_is_judged_for_the_rows_that_edit_it(bench: Bench) -> None:
    """A conversation that is carried over goes on at once; a new row waits for the word on its picture."""
    bench.make_job(model=THINKS, follow_ups="approved", prompt=None, reuse=("latest",))
    boot, cap = ["boot", "a boot", "", ""], ["cap", "a cap", "", ""]
    night(bench, "shoes-2026-11-21", [boot, cap]).to_the_end()
    later = night(
        bench, "shoes-2026-11-22", [boot, ["cap", "a cap", "in red", ""], ["snow", "in snow", "", "boot"]]
    )
    with pytest.raises(Refused, match="1 follow-up waits for your review"):
        later.to_the_end()
    assert came(later.run) == {("boot", 0): "reused", ("cap", 0): "reused", ("cap", 1): "ok"}
    decide(bench, later.run, ("boot", "approved", ""))
    later.to_the_end()
    assert came(later.run)["snow", 0] == "ok"


def test_what_is_not_even_planned_is_said_before_what_waits_for_a_review(bench: Bench) -> None:
    """On a machine without the manifest the review would bring home half of a run."""
    driver = shoot(bench, "approved", rows=4, max_requests=2, turns=TURNS[:1])
    assert driver.draw()
    without = Driver(open_run(bench.place(), bench.clock), bench.backend())
    with pytest.raises(BadInput, match="the manifest is needed"):
        without.to_the_end()
    assert without.run.state.to_review == 2


# --- misfortune --------------------------------------------------------------------------------------------------

MADE = ("references", "plan", "requests", "pictures", "index", "turns", "review")


def judged(bench: Bench, name: str, *, at: int | None = None, deadly: bool = False) -> tuple[Run, list[str]]:
    """A run of which two pictures are judged when they are home, by whoever drives on from there."""
    bench.key = f"account-{name}"
    storage = bench.place(name)
    driver = bench.begin(storage=storage)
    run = until(driver, home(0))
    decide(bench, run, ("sku-1", "rejected", "blurred"))
    dying = Dying(storage, at=at, when="after")
    again = bench.again(storage=dying)
    if at is None:
        again.to_the_end()
        return again.run, dying.writes
    with pytest.raises(PowerCut):
        again.to_the_end()
    again = bench.again(storage=storage)
    again.to_the_end()
    return again.run, []


def test_killed_at_any_write_it_ends_as_if_nobody_had(bench: Bench) -> None:
    """Between the record of what is not asked, its file, and the record of what is."""
    bench.make_job(rows=3, max_requests=100, model=THINKS, turns=TURNS[:1], follow_ups="unless_rejected")
    whole, writes = judged(bench, "whole")
    made = fingerprints(whole.storage, MADE)
    last = next(n for n, name in enumerate(writes, 1) if name.startswith("requests/"))
    for at in range(1, last + 1):
        run, _ = judged(bench, f"killed-{at}", at=at)
        assert fingerprints(run.storage, MADE) == made, at
        assert run.state.spent == whole.state.spent, at
        sources = [type(batch.source) for batch in run.state.batches]
        assert (sources.count(Rejected), sources.count(Turns)) == (1, 1)


def test_a_driver_that_the_kernel_takes_away_leaves_nothing_half_done(bench: Bench) -> None:
    """A process dies right after it recorded what is not asked; somebody decides anew; another process goes on."""
    bench.make_job(rows=3, max_requests=100, model=THINKS, turns=TURNS[:1], follow_ups="unless_rejected")
    driver = bench.begin()
    run = until(driver, home(0))
    decide(bench, run, ("sku-1", "rejected", "blurred"))
    processes.kill(bench, run.storage.url, "after", "drawn")
    run.catch_up()
    assert isinstance(run.state.batches[-1].source, Rejected)
    decide(bench, run, ("sku-1", "approved", "too late"), ("sku-2", "rejected", "worse"))
    survivor = processes.start(bench, run.storage.url)
    processes.release(survivor)
    processes.finish([survivor])
    run.catch_up()
    index = read_index(run).set_index(["key", "turn"])
    assert index.loc[("sku-1", 1), "message"] == "sku-1 main was rejected: blurred"
    assert index.loc[("sku-2", 1), "message"] == "sku-2 main was rejected: worse"
    assert outcomes(index) == {"ok": 4, "no_parent": 2}
    assert run.state.spent == bench.bill()
    assert set(bench.paid().values()) == {1}


def test_drivers_side_by_side_and_a_person_between_them(bench: Bench) -> None:
    """Each decision counts for what is drawn after it, whoever draws; every request is asked once or not at all."""
    bench.make_job(rows=6, max_requests=2, model=THINKS, turns=TURNS, follow_ups="unless_rejected")
    drivers = [bench.begin(), bench.again(), bench.again()]
    run = drivers[0].run
    said = [("sku-0", "rejected", ""), ("sku-3", "rejected", ""), ("sku-5", "approved", "")]
    for _ in range(500):
        if run.state.finished:
            break
        for driver in drivers:
            driver.step()
        there = came(run)
        for each in [each for each in said if (each[0], 0) in there]:
            decide(bench, run, each)
            said.remove(each)
        bench.clock.sleep(7)
    found = came(run)
    assert len(found) == 18
    assert set(bench.paid().values()) == {1}
    assert run.state.spent == bench.bill()
    for key in ("sku-0", "sku-3"):
        assert found[key, 2] == "no_parent"
    assert found["sku-5", 2] == "ok"
