"""Rows with follow-ups on a machine that is killed at every record of the journal, between the waves and within them.

The run goes on from another machine, and ends as one that nobody killed: the same pictures under the same names, each
paid for once. With several batches to a wave it is chance which follow-ups are asked together; what comes of them is
not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from pipeline import emulator
from pipeline.index import read_index
from pipeline.run import Run
from tests.bench import Bench, fingerprints, outcomes
from tests.faulty import Dying, PowerCut

MADE = ("references", "plan", "requests", "pictures", "index", "retry", "turns", "quarantine")
WAVES = 3

When = Literal["before", "after"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    for name, colour in ("red.png", "red"), ("blue.png", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / name)
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=500, buckets=("shoes",)) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        yield Bench(service, tmp_path)


def job_of(bench: Bench, surface: str, *, rows: int, max_requests: int = 100) -> None:
    """One row's first picture is blocked, and another's comes without signatures."""
    on_vertex = {"backend": "vertex", "bucket": "shoes/night"}
    bench.service.clear_faults()
    bench.service.fault("image_safety", prompt="photo of Shoe 1 ")
    bench.service.fault("no_signature", prompt="photo of Shoe 2 ")
    bench.make_job(
        rows=rows,
        max_requests=max_requests,
        model="gemini-3.1-flash-image",
        photo=lambda n: ("red.png", "blue.png")[n % 2],
        turns=["{{ title }} by night", "the same in snow"],
        **(on_vertex if surface == "vertex" else {"image_size": "512"}),
    )


def whole(bench: Bench, name: str) -> tuple[Run, list[int]]:
    """A run that nothing happens to, and which of its writes are records."""
    bench.key = f"account-{name}"
    storage = Dying(bench.place(name))
    driver = bench.begin(storage=storage)
    driver.to_the_end()
    return driver.run, [n for n, name in enumerate(storage.writes, 1) if name.startswith("journal/")]


def killed(bench: Bench, name: str, at: int, when: When) -> Run:
    """A run that was killed at this write, and finished by somebody else."""
    bench.key = f"account-{name}"  # so that nobody reads the listings of all runs before
    storage = bench.place(name)
    with pytest.raises(PowerCut):
        bench.begin(storage=Dying(storage, at=at, when=when)).to_the_end()
    driver = bench.go_on(storage=storage)
    driver.to_the_end()
    return driver.run


def bill_of(bench: Bench, run: Run) -> int:
    """What this run was billed. No job of it was bought twice."""
    jobs = [job for job in bench.service.ledger(rows=False)["jobs"] if run.created.run in job["displayName"]]
    names = [job["displayName"] for job in jobs]
    assert len(set(names)) == len(names), "a batch was paid twice"
    return sum(job["nanodollars"] for job in jobs)


def told(run: Run) -> list[tuple[Any, ...]]:
    """What came of each request, whatever batch it was in."""
    index = read_index(run).astype({"outcome": str, "continued": str})
    names = ["key", "turn", "variant", "take", "outcome", "sha256", "continued", "usd", "prompt_tokens"]
    return sorted(tuple(str(value) for value in row) for row in index[names].itertuples(index=False))


def sweep(bench: Bench, surface: str, *, rows: int, when: When, places: slice = slice(None)) -> None:
    """One run after the other, each killed at another record; those that are chosen."""
    # When a row was answered stands in the index, and on Vertex AI that is another moment for each run.
    folders = [name for name in MADE if surface == "developer" or name != "index"]
    job_of(bench, surface, rows=rows)
    first, records = whole(bench, f"{surface}-whole")
    assert outcomes(read_index(first)) == {"ok": 3 * rows - 3, "blocked": 1, "no_parent": 2}
    assert len(records) > 5 * WAVES
    made, came = fingerprints(first.storage, folders), told(first)
    price = bill_of(bench, first)
    assert first.state.spent == price
    for at in records[when == "before" :][places]:  # before its first record there is no run
        job_of(bench, surface, rows=rows)
        run = killed(bench, f"{surface}-{when}-{at}", at, when)
        assert run.state.finished
        assert fingerprints(run.storage, folders) == made, (surface, when, at)
        assert told(run) == came, (surface, when, at)
        assert bill_of(bench, run) == run.state.spent == price, (surface, when, at)


@pytest.mark.parametrize(("surface", "when", "first"), [("developer", "after", 0), ("vertex", "before", 2)])
def test_killed_at_a_record_it_ends_as_if_nobody_had(
    bench: Bench, surface: str, when: When, first: int
) -> None:
    """At every fourth here; at all of them, with fifty rows, where there is time."""
    sweep(bench, surface, rows=4, when=when, places=slice(first, None, 4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("surface", ["developer", "vertex"])
def test_fifty_rows_killed_at_any_record_end_as_if_nobody_had(bench: Bench, surface: str, when: When) -> None:
    sweep(bench, surface, rows=50, when=when)


def test_drivers_that_work_side_by_side_ask_every_turn_once(bench: Bench) -> None:
    """Three drivers, each a step at a time; one of them dies on the way. Batches of two rows are home at odd times."""
    job_of(bench, "developer", rows=7, max_requests=2)
    first, _ = whole(bench, "alone")
    job_of(bench, "developer", rows=7, max_requests=2)
    bench.key = "account-together"
    storage = bench.place("together")
    drivers = [bench.begin(storage=storage)]
    drivers += [bench.again(storage=storage), bench.again(storage=Dying(storage, at=25, when="after"))]
    while not drivers[0].run.state.finished:
        for driver in list(drivers):
            try:
                driver.step()
            except PowerCut:
                drivers.remove(driver)
        bench.clock.sleep(7)
    assert len(drivers) == 2
    assert told(drivers[0].run) == told(first)
    assert bill_of(bench, drivers[0].run) == drivers[0].run.state.spent == bill_of(bench, first)
