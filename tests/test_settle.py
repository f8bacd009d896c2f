"""Settling says the same whoever does it, however much of a batch is in memory."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import tables
from pipeline.drive import Driver
from pipeline.events import Collected
from pipeline.index import read_index
from pipeline.joined import joined
from pipeline.night import stop
from pipeline.run import Run, index_file, open_run, plan_file, quarantine_file, retry_file, turns_file
from pipeline.settle import settle
from pipeline.storage import Storage
from tests.bench import Bench, fingerprints

MADE = ("index", "retry", "turns", "quarantine")


@pytest.fixture
def home(bench: Bench) -> Run:
    """A batch of twelve whose every part is home, with answers of all kinds; and it is settled."""
    bench.make_job(rows=12, max_requests=12)
    for n, fault in enumerate(("no_image", "unknown_key", "duplicate_line", "garbage_line")):
        bench.service.fault(fault, prompt=f"Shoe {n + 2}", times=1)
    driver = bench.begin(part_bytes=20_000)
    while driver.draw() or driver.submit():
        pass
    bench.service.advance(3600)
    driver.poll()
    Driver(open_run(bench.place(), bench.clock), bench.backend()).collect()
    return open_run(bench.place(), bench.clock)


def unsettled(bench: Bench, home: Run, name: str) -> Run:
    """The same run on another machine, right before its batch was settled."""
    other = bench.place(name)
    for each in list(home.storage.list("")):
        data = home.storage.read(each)
        is_later = each.startswith(MADE) or (each.startswith("journal/") and b'"collected"' in data)
        if not is_later:
            other.put(each, data)
    return open_run(other, bench.clock)


def settled(bench: Bench, run: Run, together: int) -> Collected:
    batch = run.state.batches[0]
    with joined(run, batch) as found:
        assert settle(run, bench.backend(), batch, found, noticed={}, rules={}, together=together)
    collected = run.state.batches[0].collected
    assert collected is not None
    return collected


def told(event: Collected) -> dict[str, Any]:
    """What it says, but for the files' sizes and digests."""
    return {
        name: value["name"] if isinstance(value, dict) and "sha256" in value else value
        for name, value in msgspec.to_builtins(event).items()
    }


def rows(storage: Storage, name: str) -> list[dict[str, Any]]:
    return list(tables.rows_in(storage.read(name)))


@pytest.mark.parametrize("together", [1, 5, 12, 1000])
def test_however_many_rows_are_in_memory_together_the_files_say_the_same(
    bench: Bench, home: Run, together: int
) -> None:
    """Twelve rows in one group or in twelve: the same rows in the same order, the same books, the same strays."""
    whole = home.state.batches[0].collected
    assert whole is not None
    assert whole.retry
    assert whole.surplus == 3
    run = unsettled(bench, home, "again")
    assert told(settled(bench, run, together)) == told(whole)
    for name in (index_file(0), retry_file(0)):
        assert rows(run.storage, name) == rows(home.storage, name)
    assert run.storage.read(quarantine_file(0)) == home.storage.read(quarantine_file(0))
    groups = pq.ParquetFile(pa.BufferReader(run.storage.read(index_file(0)))).metadata
    assert groups.row_group(0).num_rows == min(together, whole.indexed)


def test_what_is_to_be_asked_again_keeps_what_came_of_it_last(bench: Bench) -> None:
    """Words in place of a picture say why there is none: they are paid for, and a person may have to read them."""
    bench.make_job(rows=2, max_requests=2)
    bench.service.fault("text_only", prompt="Shoe 1", times=1)
    driver = bench.begin()
    while not driver.run.state.retries:
        driver.step()
        bench.service.advance(600)
    (row,) = rows(bench.place(), retry_file(0))
    assert (row["key"], row["last_outcome"], row["attempt"]) == ("sku-1", "text_only", 1)
    assert "I cannot draw" in row["last_text"]
    assert row["spent"] > 0
    driver.to_the_end()
    planned = rows(bench.place(), plan_file(1))
    assert [(again["key"], again["attempt"], again["spent"]) for again in planned] == [
        ("sku-1", 2, row["spent"])
    ]


def test_what_is_not_asked_again_after_all_keeps_what_was_said(bench: Bench) -> None:
    bench.make_job(rows=2, max_requests=2)
    bench.service.fault("text_only", prompt="Shoe 1")
    driver = bench.begin()
    while not driver.run.state.retries:
        driver.step()
        bench.service.advance(600)
    stop(driver.run, driver.backend, why="asked")
    driver.to_the_end()
    row = read_index(driver.run).set_index("key").loc["sku-1"]
    assert (row["outcome"], row["attempt"]) == ("text_only", 2)
    assert "I cannot draw" in row["text"]


def test_two_drivers_write_the_same_bytes(bench: Bench, home: Run) -> None:
    one, other = (unsettled(bench, home, name) for name in ("one", "other"))
    assert settled(bench, one, 5) == settled(bench, other, 5)
    assert fingerprints(one.storage, MADE) == fingerprints(other.storage, MADE) != {}


def test_who_finds_the_files_there_in_other_groups_takes_them_as_they_are(bench: Bench, home: Run) -> None:
    """Another version may write fewer rows together. Its record names what lies there."""
    run = unsettled(bench, home, "again")
    for name in (index_file(0), retry_file(0)):
        run.storage.put(name, home.storage.read(name))
    event = settled(bench, run, 5)
    assert event == home.state.batches[0].collected


def test_what_is_empty_has_no_file(bench: Bench) -> None:
    bench.make_job(rows=2)
    bench.run()
    for name in (retry_file(0), turns_file(0), quarantine_file(0)):
        assert not (Path(bench.place().url) / name).exists()
