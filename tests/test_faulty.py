"""The power cut is only worth something if it comes when it is said to."""

import contextlib
from pathlib import Path

import pytest

from pipeline.storage import Storage
from pipeline.storage.local import LocalStorage
from tests.faulty import Dying, PowerCut


def write_three(storage: Storage) -> None:
    storage.put("a", b"")
    storage.put_if_absent("b", b"")
    storage.put("c", b"")


def test_it_counts_the_writes_of_a_driver_that_lives(tmp_path: Path) -> None:
    storage = Dying(LocalStorage(tmp_path))

    write_three(storage)

    assert storage.writes == ["a", "b", "c"]
    assert not storage.is_dead
    assert storage.url == str(tmp_path)


@pytest.mark.parametrize(("when", "left"), [("before", ["a"]), ("after", ["a", "b"])])
def test_it_dies_at_the_second_write_and_stays_dead(tmp_path: Path, when: str, left: list[str]) -> None:
    storage = Dying(LocalStorage(tmp_path), at=2, when=when)  # type: ignore[arg-type]

    with pytest.raises(PowerCut, match="at write 2, b"):
        write_three(storage)

    assert storage.is_dead
    assert list(LocalStorage(tmp_path).list("")) == left
    for call in (
        lambda: storage.read("a"),
        lambda: storage.open("a"),
        lambda: storage.list(""),
        lambda: storage.put("d", b""),
        lambda: storage.put_if_absent("d", b""),
    ):
        with pytest.raises(PowerCut):
            call()
    assert list(LocalStorage(tmp_path).list("")) == left


def test_no_handler_of_errors_survives_it(tmp_path: Path) -> None:
    storage = Dying(LocalStorage(tmp_path), at=1)

    with pytest.raises(PowerCut), contextlib.suppress(Exception):
        storage.put("a", b"")


def test_it_dies_also_where_the_write_itself_says_no(tmp_path: Path) -> None:
    LocalStorage(tmp_path).put("a", b"others")
    storage = Dying(LocalStorage(tmp_path), at=1, when="after")

    with pytest.raises(PowerCut):
        storage.put("a", b"")
