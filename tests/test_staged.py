"""What a part of a result held: every row as it was, or an error."""

import hashlib
import random
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import staged
from pipeline.errors import Corrupt
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage
from pipeline.tables import AT_HAND, STAGED
from tests import events as e
from tests.fakes import MemoryStorage

NAME = "staged/00000-000.arrows"


def row(n: int) -> dict[str, Any]:
    picture = {"path": f"pictures/{n}.png", "bytes": 1 << 40, "role": "final", "checks": ["size"]}
    return {
        "wire_id": f"b00000-{n:04}",
        "file": "files/r",
        "text": f"\u2028 é {n}",
        "pictures": [picture, {"role": "thought", "numbers": {"fill": 0.1}}],
        "checks": [],
        "answered_at": e.NOW,
        "likeness": b"\0\xff",
        "spent": n,
    }


def kept(rows: int, storage: MemoryStorage | None = None) -> MemoryStorage:
    """A storage that holds a part of so many rows."""
    storage = storage or MemoryStorage()
    staged.keep(storage, NAME, map(row, range(rows)))
    return storage


@pytest.mark.parametrize("rows", [0, 1, AT_HAND - 1, AT_HAND, AT_HAND + 1, 5 * AT_HAND])
def test_every_row_is_there_in_its_order_as_it_was(rows: int) -> None:
    there = list(staged.rows_in(kept(rows), NAME))
    assert there == pa.Table.from_pylist([row(n) for n in range(rows)], schema=STAGED).to_pylist()
    for n, one in enumerate(there):
        assert (one["spent"], one["text"], one["likeness"]) == (n, f"\u2028 é {n}", b"\0\xff")
        assert (one["answered_at"], one["checks"], one["raw"]) == (e.NOW, [], None)
        assert [picture["path"] for picture in one["pictures"]] == [f"pictures/{n}.png", None]


def test_of_the_columns_those_are_read_that_are_wanted() -> None:
    storage = kept(2 * AT_HAND + 1)
    some = list(staged.rows_in(storage, NAME, columns=["spent", "wire_id"]))
    assert some[-1] == {"spent": 2 * AT_HAND, "wire_id": f"b00000-{2 * AT_HAND:04}"}
    assert staged.column_in(storage, NAME, "spent") == list(range(2 * AT_HAND + 1))
    assert staged.column_in(kept(0), NAME, "raw") == []


def in_one_piece(rows: int, schema: pa.Schema = STAGED) -> bytes:
    """The same rows as another version of the library might write them: in other bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist([row(n) for n in range(rows)], schema=schema))
    stream: bytes = sink.getvalue().to_pybytes()
    return stream + hashlib.sha256(stream).digest()


@pytest.fixture(params=["in memory", "on a disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "in memory" else LocalStorage(tmp_path)


def test_a_part_is_put_once_and_the_same_rows_in_other_bytes_are_kept_as_they_are(storage: Storage) -> None:
    other = in_one_piece(300)
    assert other != kept(300).files[NAME]
    storage.put(NAME, other)
    staged.keep(storage, NAME, map(row, range(300)))
    assert storage.read(NAME) == other


@pytest.mark.parametrize("rows", [0, 299, 301])
def test_other_rows_under_the_same_name_are_corrupt(storage: Storage, rows: int) -> None:
    storage.put(NAME, in_one_piece(300))
    with pytest.raises(Corrupt, match="other rows"):
        staged.keep(storage, NAME, map(row, range(rows)))
    assert storage.read(NAME) == in_one_piece(300)


@pytest.mark.parametrize(
    "schema", [STAGED.remove(3), STAGED.append(STAGED.field(0).with_name("more")), pa.schema([])]
)
def test_a_part_of_another_version_is_not_taken_for_one_of_ours(schema: pa.Schema) -> None:
    """A column more or less may mean anything."""
    storage = MemoryStorage()
    storage.put(NAME, in_one_piece(3, schema))
    with pytest.raises(Corrupt, match="other columns") as error:
        list(staged.rows_in(storage, NAME))
    assert "the version that began it" in str(error.value.hint)


def test_a_part_that_was_cut_or_changed_is_corrupt() -> None:
    """Every bit of it counts: one more in a place would be a picture under another name."""
    storage, chance = kept(3), random.Random(5)
    whole = storage.files[NAME]
    damaged = [whole[:size] for size in range(0, len(whole), 97)]
    for _ in range(300):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed))
    for data in damaged:
        storage.files[NAME] = data
        with pytest.raises(Corrupt, match=f"{NAME} was cut or changed"):
            list(staged.rows_in(storage, NAME))
        with pytest.raises(Corrupt, match=f"{NAME} was cut or changed"):
            staged.column_in(storage, NAME, "raw")


def test_few_rows_are_in_memory_whatever_the_length_of_the_part() -> None:
    """This storage has the part in memory before; a copy of it would be two megabytes more."""
    assert most_of(20 * AT_HAND) < most_of(2 * AT_HAND) + 300_000


def most_of(rows: int) -> int:
    """Bytes that reading a part of so many rows takes at most: all of it, and then a column."""
    storage = kept(rows)
    tracemalloc.start()
    try:
        assert sum(1 for _ in staged.rows_in(storage, NAME)) == rows
        assert staged.column_in(storage, NAME, "raw") == [None] * rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads that Linux shows")
def test_reading_starts_no_thread() -> None:
    """One of Arrow's that lets go of Python's bytes while Python ends would abort the process."""
    program = (
        "import os; from pipeline import staged; from tests.fakes import MemoryStorage\n"
        "threads, storage = lambda: len(os.listdir('/proc/self/task')), MemoryStorage()\n"
        "before = threads()\n"
        "staged.keep(storage, 'a', [{'text': 'a'}]); staged.column_in(storage, 'a', 'raw')\n"
        "print(len(list(staged.rows_in(storage, 'a'))), threads() - before)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.split() == ["1", "0"]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits the size of files as Unix does")
def test_a_disk_without_room_for_a_part_is_said_to_be_full() -> None:
    """In a process of its own, which may write no file larger than 20 KB. Nothing is put."""
    program = """if True:
        import resource, signal
        from pipeline import staged
        from pipeline.storage.base import NoRoom
        from tests.fakes import MemoryStorage
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        storage = MemoryStorage()
        try:
            staged.keep(storage, "a", ({"text": "a" * 100} for _ in range(1000)))
        except NoRoom as error:
            print(len(storage.files), error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("0 ")
    assert "file too large" in done.stdout
    assert done.stderr == ""
