"""Rows become batches: each row in exactly one of each lane, whoever draws it and whoever finishes it."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import tables
from pipeline.again import draw_retries, plan_again
from pipeline.drive import Driver
from pipeline.errors import BadInput, Unavailable
from pipeline.events import Drawn, Retries, Rows
from pipeline.index import read_index
from pipeline.job import job_for
from pipeline.plan import Planner
from pipeline.run import Run, open_run, plan_file
from pipeline.state import Stage
from pipeline.storage import Storage
from pipeline.survey import Survey, begin, planner, survey
from tests.bench import Bench, outcomes, write_rows
from tests.fakes import Crash, FakeClock, MemoryStorage, Moody
from tests.faulty import Dying, PowerCut

NANO, PRO = "gemini-2.5-flash-image", "gemini-3-pro-image"


def surveyed(folder: Path, *, rows: int = 23) -> Survey:
    """Two models, so two lanes; and every fifth row names a photo that is not there, so a third."""
    write_rows(folder / "shoes.csv", rows, photo=lambda n: "missing.png" if n % 5 == 3 else "-")
    job = job_for(
        "shoes.csv",
        shots={"hero": {"model": NANO}, "detail": {"model": PRO}},
        prompt="Photo of {{ title }}",
        references=["photo"],
        batches={"max_requests": 4},
    )
    return survey(job, base=folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return surveyed(tmp_path_factory.mktemp("shoes"))


def begun(found: Survey) -> MemoryStorage:
    storage = MemoryStorage()
    begin(found, name="run", storage=storage, service="http://127.0.0.1:1", clock=FakeClock(), cap=None)
    return storage


def opened(storage: Storage, found: Survey) -> tuple[Run, Planner]:
    run = open_run(storage, FakeClock())
    return run, planner(found, run)


def planned_rows(storage: Storage) -> Counter[tuple[str, str]]:
    """How often each key and shot is in a plan."""
    names = list(storage.list("plan/"))
    rows = [row for name in names for row in tables.rows_of(tables.from_parquet(storage.read(name)))]
    return Counter((row["key"], row["shot"]) for row in rows)


def everything(rows: int = 23) -> Counter[tuple[str, str]]:
    return Counter({(f"sku-{n}", shot): 1 for n in range(rows) for shot in ("hero", "detail")})


@given(turns=st.lists(st.integers(0, 2), max_size=40))
@settings(deadline=None, max_examples=40)
def test_however_drivers_race_each_row_is_planned_once(found: Survey, turns: list[int]) -> None:
    """A driver that has not caught up loses the race for its batch, and plans on without losing or doubling a row."""
    storage = begun(found)
    drivers = [opened(storage, found) for _ in range(3)]
    for turn in turns:
        drivers[turn][1].draw()
    run, last = drivers[0]
    while last.draw():
        pass
    run.catch_up()
    assert run.state.all_drawn
    assert planned_rows(storage) == everything()
    assert all(batch.stage is Stage.PLANNED for batch in run.state.batches)
    for batch in run.state.batches:
        assert batch.planned is not None
        assert batch.planned.requests <= 4 or not batch.sends


def test_drivers_write_the_same_bytes_whoever_plans(found: Survey) -> None:
    """One planner alone, and three that take turns, leave the same files."""
    alone, together = begun(found), begun(found)
    _, only = opened(alone, found)
    while only.draw():
        pass
    drivers = [opened(together, found) for _ in range(3)]
    while not drivers[0][0].state.all_drawn:
        for _, driver in drivers:
            driver.draw()
    names = [name for name in alone.list("") if not name.startswith("journal/")]
    assert names == [name for name in together.list("") if not name.startswith("journal/")]
    assert sorted(alone.read(name) for name in names) == sorted(together.read(name) for name in names)


def test_a_batch_that_a_dead_driver_drew_is_planned_by_another(found: Survey) -> None:
    """The record says what goes into it, so anybody with the manifest comes to the same files."""
    storage, whole = begun(found), begun(found)
    dead, _ = opened(storage, found)
    run, undisturbed = opened(whole, found)
    assert undisturbed.draw()
    first = run.state.batches[0].source
    dead.record(Drawn(batch=0, source=first))
    run, other = opened(storage, found)
    assert plan_again(run, 0, planner=other)
    assert storage.read(plan_file(0)) == whole.read(plan_file(0))
    while other.draw():
        pass
    assert planned_rows(storage) == everything()


@pytest.mark.parametrize("mood", ["crash before", "lost reply"])
@pytest.mark.parametrize("batches", [0, 1, 4])
def test_a_draw_that_failed_is_done_again_with_the_same_rows(found: Survey, mood: str, batches: int) -> None:
    """They were read from the manifest already, and must not be stepped over."""
    storage = Moody(begun(found))
    run, driver = opened(storage, found)
    for _ in range(batches):
        driver.draw()
    storage.mood = mood
    with pytest.raises((Crash, Unavailable)):
        driver.draw()
    while driver.draw():
        pass
    for batch in run.state.at(Stage.DRAWN):
        assert plan_again(run, batch.number, planner=driver)
    assert planned_rows(storage) == everything()


def test_without_the_manifest_rows_that_were_drawn_cannot_be_planned(found: Survey) -> None:
    storage = begun(found)
    run, _ = opened(storage, found)
    run.record(Drawn(batch=0, source=Rows(0, 4, NANO)))
    assert not plan_again(run, 0, planner=None)


def test_a_planner_for_another_manifest_is_refused(found: Survey, tmp_path: Path) -> None:
    """A changed manifest is a new run: the old one goes on with what it was made from, or not at all."""
    storage = begun(found)
    changed = surveyed(tmp_path, rows=22)
    with pytest.raises(BadInput, match="is not the manifest that run was made from"):
        opened(storage, changed)


# --- what came back for another attempt -----------------------------------------------------------------------------


def until_retries_are_open(bench: Bench) -> Driver:
    """Three batches, settled, with one row of each to be asked again."""
    for shoe in (0, 2, 4):
        bench.service.fault("no_image", prompt=f"Shoe {shoe} ", times=1)
    driver = bench.begin()
    while not (driver.run.state.all_drawn and driver.run.state.settled):
        if not driver.step():
            bench.service.advance(60)
    assert driver.run.state.retries == (0, 1, 2)
    return driver


def test_of_two_drivers_that_draw_retries_one_does_and_the_other_plans_on(bench: Bench) -> None:
    """Both saw the same open retries; each row is asked again once, not twice."""
    first, second = until_retries_are_open(bench).run, open_run(bench.place(), bench.clock)
    assert draw_retries(first)
    assert draw_retries(second), "it lost, and has to look again"
    assert second.lost_races == 1
    assert draw_retries(second)
    assert [batch.source for batch in second.state.batches[3:]] == [Retries((0, 1)), Retries((2,))]
    bench.again().to_the_end()
    assert outcomes(read_index(open_run(bench.place(), bench.clock))) == {"ok": 6}
    assert set(bench.paid().values()) == {1}


def test_retries_that_a_dead_driver_drew_are_planned_by_another(bench: Bench) -> None:
    """Even without the manifest: all of it is in the run."""
    until_retries_are_open(bench).run.record(Drawn(batch=3, source=Retries((0, 2))))
    run = open_run(bench.place(), bench.clock)
    assert plan_again(run, 3, planner=None)
    rows = list(tables.rows_of(tables.from_parquet(run.storage.read(plan_file(3)))))
    assert [(row["place"], row["key"], row["attempt"]) for row in rows] == [(0, "sku-0", 2), (1, "sku-4", 2)]
    assert run.state.retries == (1,)


def test_retries_of_several_batches_keep_to_what_a_batch_may_hold(bench: Bench) -> None:
    """Not by their number alone: together they may put too many tokens into the provider's queue."""
    driver = until_retries_are_open(bench)
    planned = driver.run.state.batches[0].planned
    assert planned is not None
    run = driver.run
    tight = msgspec.structs.replace(run.created.limits, requests=100, tokens=planned.tokens)
    run.state.created = msgspec.structs.replace(run.created, limits=tight)
    while draw_retries(run):
        pass
    assert [batch.source for batch in run.state.batches[3:]] == [Retries((0, 1)), Retries((2,))]


def test_a_photo_that_goes_while_planning_takes_no_row_along(bench: Bench) -> None:
    """The plan counted six rows. One whose photo is gone since is named, and the run waits for it."""
    for n in range(6):
        Image.new("RGB", (8, 8), (n, n, n)).save(bench.folder / f"{n}.png")
    bench.make_job(rows=6, max_requests=2, photo=lambda n: f"{n}.png")
    driver = bench.begin()
    (bench.folder / "4.png").rename(bench.folder / "kept.png")
    driver.draw()
    with pytest.raises(BadInput, match=r"row 5 \(sku-4\): reference not found"):
        driver.draw()
    (bench.folder / "kept.png").rename(bench.folder / "4.png")
    driver = bench.go_on()
    driver.to_the_end()
    assert len(read_index(driver.run)) == 6


def test_a_photo_that_changes_between_two_drivers_is_said_and_not_mixed(bench: Bench) -> None:
    """The first died with its requests written; the second must not write others under the same name."""
    for n in range(2):
        Image.new("RGB", (8, 8), (n, n, n)).save(bench.folder / f"{n}.png")
    bench.make_job(rows=2, max_requests=2, photo=lambda n: f"{n}.png")
    storage = Dying(bench.place(), at=6, when="before")
    with pytest.raises(PowerCut):
        bench.begin(storage=storage).to_the_end()
    assert "requests/00000.jsonl" in storage.writes
    Image.new("RGB", (8, 8), "red").save(bench.folder / "1.png")
    with pytest.raises(BadInput, match="put the photos back") as error:
        bench.go_on().to_the_end()
    assert error.value.hint is not None
