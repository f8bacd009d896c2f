"""Which runs there are, and which one is meant."""

from pathlib import Path

import pytest

from pipeline.errors import BadInput
from pipeline.run import create_run
from pipeline.runs import Name, find, names, next_name, parse
from pipeline.storage import open_storage
from tests import events as e
from tests.fakes import FakeClock, MemoryStorage

TODAY = e.NOW.date()


def folder_with(*runs: str) -> MemoryStorage:
    storage = MemoryStorage()
    for run in runs:
        for n in range(3):
            storage.put(f"{run}/journal/{n:08}.json", b"{}")
            storage.put(f"{run}/pictures/00000/{n}.jpg", b"x")
    return storage


@pytest.mark.parametrize(
    "text", ["shoes-2026-11-21", "shoes-2026-11-21-2", "a-2026-1-b-2026-11-21-12", "ß-2026-11-21"]
)
def test_a_name_is_read_as_it_is_written(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", ["shoes", "2026-11-21", "shoes-2026-11", ".tmp", "shoes-2026-11-21-x"])
def test_other_folders_are_no_runs(text: str) -> None:
    assert parse(text) is None


def test_runs_are_told_in_the_order_in_which_they_were_made() -> None:
    storage = folder_with("b-2026-11-21-10", "b-2026-11-21-9", "a-2026-11-21", "b-2026-11-20", "notes")
    assert [str(name) for name in names(storage)] == [
        "b-2026-11-20",
        "a-2026-11-21",
        "b-2026-11-21-9",
        "b-2026-11-21-10",
    ]
    assert [str(name) for name in names(storage, "a")] == ["a-2026-11-21"]


def test_a_job_whose_name_begins_like_another_s_has_its_own_runs() -> None:
    storage = folder_with("shoes-2026-11-21", "shoes-red-2026-11-21")
    assert [str(name) for name in names(storage, "shoes")] == ["shoes-2026-11-21"]


def test_finding_runs_costs_a_listing_each_however_many_files_they_hold() -> None:
    storage = folder_with("a-2026-11-21", "b-2026-11-21")
    for n in range(2000):
        storage.put(f"a-2026-11-21/pictures/00001/{n}.jpg", b"x")
    storage.listings = 0
    assert len(names(storage)) == 2
    assert storage.listings == 3


def test_the_second_run_of_a_day_has_a_number() -> None:
    assert str(next_name(folder_with(), "shoes", TODAY)) == "shoes-2026-11-21"
    assert str(next_name(folder_with("shoes-2026-11-21"), "shoes", TODAY)) == "shoes-2026-11-21-2"
    assert str(next_name(folder_with("shoes-2026-11-21-7"), "shoes", TODAY)) == "shoes-2026-11-21-8"
    assert str(next_name(folder_with("shoes-2026-11-20"), "shoes", TODAY)) == "shoes-2026-11-21"


def test_what_a_person_names_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("runs")
    clock = FakeClock()
    for name in ("hats-2026-11-19", "shoes-2026-11-20", "shoes-2026-11-21"):
        create_run(open_storage(str(folder / name)), clock, e.created())
    for what, expected in {
        None: "shoes-2026-11-21",
        "shoes": "shoes-2026-11-21",
        "jobs/shoes.toml": "shoes-2026-11-21",
        "shoes-2026-11-20": "shoes-2026-11-20",
        "hats": "hats-2026-11-19",
        str(folder / "hats-2026-11-19"): "hats-2026-11-19",
    }.items():
        assert find(what, folder=str(folder), clock=clock).storage.url.endswith(expected)
    with pytest.raises(BadInput) as error:
        find("shoos", folder=str(folder), clock=clock)
    assert error.value.hint == "did you mean 'shoes'?"


def test_the_newest_is_what_was_begun_last_whatever_it_is_called(tmp_path: Path) -> None:
    """A proof has its job's name and a bit more, so by its name it would always be the last of its day."""
    clock = FakeClock()
    for name in ("shoes-proof-2026-11-21", "shoes-2026-11-21"):
        create_run(open_storage(str(tmp_path / name)), clock, e.created())
        clock.sleep(60)
    for to_drive in (False, True):
        found = find(None, folder=str(tmp_path), clock=clock, to_drive=to_drive)
        assert found.storage.url.endswith("/shoes-2026-11-21")


def test_a_run_that_is_named_is_no_other_job_s(tmp_path: Path) -> None:
    clock = FakeClock()
    for name in ("shoes-2026-11-21", "shoes-2026-11-21-2026-11-22"):
        create_run(open_storage(str(tmp_path / name)), clock, e.created())
    found = find("shoes-2026-11-21", folder=str(tmp_path), clock=clock)
    assert found.storage.url.endswith("/shoes-2026-11-21")


def test_names_sort_by_day_then_count() -> None:
    assert Name("2026-11-21", 2, "a") < Name("2026-11-21", 10, "a") < Name("2026-11-22", 1, "a")
