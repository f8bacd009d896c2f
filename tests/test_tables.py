"""The Parquet files: one schema, cheap to scan by everybody's tools, put once."""

import hashlib
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import tables
from pipeline.errors import Corrupt
from tests.fakes import MemoryStorage

COLUMNS = ("sku", "title")
SCHEMA = tables.index_schema(COLUMNS)


def row(n: int, **more: Any) -> dict[str, Any]:
    return {
        "key": f"sku-{n:05}",
        "shot": "hero",
        "outcome": "ok",
        "batch": n // 100,
        "place": n % 100,
        "usd": 0.02,
        "pictures": [{"path": f"p/{n}.jpg", "role": "final"}],
        "checks": [],
        "references": [],
        "row.sku": str(n),
    } | more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five parts of a hundred rows."""
    for part in range(5):
        rows = [row(n) for n in range(100 * part, 100 * part + 100)]
        (tmp_path / f"{part:05}.parquet").write_bytes(tables.to_parquet(rows, SCHEMA))
    return tmp_path


def test_the_same_rows_are_the_same_bytes() -> None:
    assert tables.to_parquet([row(1)], SCHEMA) == tables.to_parquet([row(1)], SCHEMA)


def test_pandas_reads_the_folder_as_it_is(folder: Path) -> None:
    frame = pd.read_parquet(folder)
    assert len(frame) == 500
    assert frame["outcome"].dtype == "category"


def test_duckdb_reads_the_folder_as_it_is(folder: Path) -> None:
    found = duckdb.sql(f"select count(*), sum(usd) from '{folder}/*.parquet' where outcome = 'ok'").fetchall()
    assert found == [(500, pytest.approx(10))]


def test_a_scan_for_one_key_opens_one_part(folder: Path) -> None:
    """Statistics of keys and batches are in every part, so the others are skipped unread."""
    fragments = ds.dataset(folder).get_fragments(filter=ds.field("key") == "sku-00250")
    matching = [f for f in fragments if f.subset(filter=ds.field("key") == "sku-00250").row_groups]
    assert len(matching) == 1
    statistics = pq.ParquetFile(folder / "00002.parquet").metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == ("sku-00200", "sku-00299")


def test_times_are_utc() -> None:
    at = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
    table = tables.from_parquet(tables.to_parquet([row(1, answered_at=at)], SCHEMA))
    assert str(table.schema.field("answered_at").type) == "timestamp[us, tz=UTC]"
    assert table["answered_at"][0].as_py() == at


def test_a_part_without_a_value_has_the_column_all_the_same() -> None:
    """Every file has the same columns in the same order, so that they read as one."""
    assert tables.from_parquet(tables.to_parquet([row(1)], SCHEMA)).schema.equals(SCHEMA)


def test_a_table_is_put_once_and_the_first_bytes_are_kept() -> None:
    storage = MemoryStorage()
    kept = tables.keep(storage, "index/00000.parquet", [row(1)], SCHEMA)
    assert tables.keep(storage, "index/00000.parquet", [row(1)], SCHEMA) == kept


def test_the_same_rows_in_other_bytes_are_kept_as_they_are() -> None:
    """Another version of the library writes other bytes for the same rows, and may."""
    storage = MemoryStorage()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row(1)], schema=SCHEMA), sink, compression="snappy")
    storage.put("index/00000.parquet", sink.getvalue().to_pybytes())
    kept = tables.keep(storage, "index/00000.parquet", [row(1)], SCHEMA)
    assert kept.size == len(storage.files["index/00000.parquet"])


def test_other_rows_under_the_same_name_are_corrupt() -> None:
    storage = MemoryStorage()
    tables.keep(storage, "index/00000.parquet", [row(1)], SCHEMA)
    with pytest.raises(Corrupt, match="other rows"):
        tables.keep(storage, "index/00000.parquet", [row(2)], SCHEMA)


def test_rows_of_a_version_that_knew_less_are_the_same_rows() -> None:
    """A driver of another version may go on with the run. What both know must agree, down to the last field."""
    schema, carried = tables.plan_schema(()), {"outcome": "ok", "path": "a.png", "pictures": []}
    older = schema.remove(schema.get_field_index("after"))
    older = older.set(
        older.get_field_index("carried"),
        pa.field(
            "carried",
            pa.struct([field for field in schema.field("carried").type if field.name != "pictures"]),
        ),
    )
    storage = MemoryStorage()
    storage.put("plan/0.parquet", tables.to_parquet([{"key": "a", "carried": carried}], older))
    there = storage.read("plan/0.parquet")
    kept = tables.keep(storage, "plan/0.parquet", [{"key": "a", "carried": carried}], schema)
    assert (kept.size, storage.read("plan/0.parquet")) == (len(there), there)
    for other in ({"key": "b", "carried": carried}, {"key": "a", "carried": carried | {"path": "b.png"}}):
        with pytest.raises(Corrupt, match="other rows"):
            tables.keep(storage, "plan/0.parquet", [other], schema)


def test_a_column_of_the_user_never_meets_ours() -> None:
    schema = tables.index_schema(("key", "path", "usd"))
    assert len(set(schema.names)) == len(schema.names)
    assert [name for name in schema.names if name.startswith("row.")] == ["row.key", "row.path", "row.usd"]


def test_duplicate_keys_of_a_dictionary_are_not_needed_to_read_rows() -> None:
    table = tables.from_parquet(tables.to_parquet([row(n) for n in range(2500)], SCHEMA))
    assert [one["key"] for one in tables.rows_of(table)] == [f"sku-{n:05}" for n in range(2500)]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads that Linux shows")
def test_reading_starts_no_thread(folder: Path) -> None:
    """One of Arrow's that lets go of Python's bytes while Python ends would abort the process: exit code 134 for 3."""
    part = next(folder.rglob("*.parquet"))
    program = (
        "import os, sys; from pathlib import Path; from pipeline import tables\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "before, data = threads(), Path(sys.argv[1]).read_bytes()\n"
        "tables.from_parquet(data); list(tables.rows_in(data)); print(threads() - before)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(part)], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == "0"


EVEN = [n for n in range(200) if n % 2 == 0]


def some(data: bytes, start: int, stop: int | None, read: list[int] | None = None) -> list[int]:
    """Which rows of an even place are found there."""

    def even(table: pa.Table) -> pa.BooleanArray:
        assert table.column_names == ["place"]
        if read is not None:
            read.append(len(table))
        return pa.array([place.as_py() % 2 == 0 for place in table["place"]])

    return [one["place"] for one in tables.some_of(data, even, by=["place"], start=start, stop=stop)]


@pytest.mark.parametrize("together", [7, 20, 200, tables.ROW_GROUP])
def test_some_rows_are_those_that_all_of_them_would_have_given(together: int) -> None:
    """However many rows lie together, and wherever one begins and stops."""
    rows = [row(n, place=n) for n in range(200)]
    data = tables.to_parquet(rows, SCHEMA, together=together)
    for start, stop in (
        (0, None),
        (0, 100),
        (0, 1),
        (3, 4),
        (9, 11),
        (19, 61),
        (99, 100),
        (80, None),
        (100, None),
    ):
        assert some(data, start, stop) == EVEN[start:stop], (start, stop)


def test_what_is_behind_the_last_row_that_is_wanted_is_not_read() -> None:
    data = tables.to_parquet([row(n, place=n) for n in range(200)], SCHEMA, together=20)
    read: list[int] = []
    assert some(data, 12, 18, read) == EVEN[12:18]
    assert sum(read) == 40


def test_rows_of_a_damaged_file_are_said_to_be_unreadable() -> None:
    data = tables.to_parquet([row(1, place=0)], SCHEMA)
    with pytest.raises(Corrupt, match="cannot be read"):
        some(data[:-50], 0, None)


def sheet(rows: int, together: int, storage: MemoryStorage) -> bytes:
    """The file of a sheet with so many rows."""
    with tables.sheet(SCHEMA, together=together) as open_sheet:
        for n in range(rows):
            open_sheet.add(row(n, place=n, message=f"{n % 7}"))
        kept = open_sheet.keep(storage, "index/00000.parquet")
    data = storage.files["index/00000.parquet"]
    assert (kept.size, kept.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


@pytest.mark.parametrize(
    ("rows", "together"),
    [
        (0, 7),
        (1, 7),
        (20, 7),
        (21, 7),
        (199, 200),
        (200, 200),
        (201, 200),
        (450, 250),
        (999, 1000),
        (2500, 1000),
    ],
)
def test_a_sheet_has_every_row_in_its_order_and_so_many_together(rows: int, together: int) -> None:
    data = sheet(rows, together, MemoryStorage())
    assert [one["place"] for one in tables.rows_in(data)] == list(range(rows))
    told = pq.ParquetFile(pa.BufferReader(data)).metadata
    groups = [told.row_group(n).num_rows for n in range(told.num_row_groups)]
    assert groups == [together] * (rows // together) + [rows % together] * (rows % together > 0 or not rows)
    assert tables.from_parquet(data).schema.equals(SCHEMA)


def test_a_sheet_of_the_same_rows_is_the_same_bytes_and_of_other_rows_is_corrupt() -> None:
    storage = MemoryStorage()
    assert sheet(450, 200, storage) == sheet(450, 200, storage), "the second finds the first there"
    assert sheet(450, 7, storage) == sheet(450, 200, storage), "other groups, the same rows: as it is"
    with pytest.raises(Corrupt, match="other rows"):
        sheet(451, 200, storage)


def test_a_sheet_that_is_given_up_says_nothing_more() -> None:
    """Whatever went wrong with its rows is what is heard."""

    def give_up() -> None:
        with tables.sheet(SCHEMA, together=2) as given_up:
            for n in range(5):
                given_up.add(row(n))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        give_up()


def test_rows_of_a_file_are_read_a_group_at_a_time() -> None:
    """So many bytes of Arrow's are in use at most, whatever the length of the file."""
    most = []
    for rows in (1000, 10_000):
        data = tables.to_parquet([row(n, message=str(n) * 50) for n in range(rows)], SCHEMA)
        before = pa.total_allocated_bytes()
        most.append(max(pa.total_allocated_bytes() - before for _ in tables.rows_in(data)))
    assert 0 < most[1] < 2 * most[0]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits the size of files as Unix does")
def test_a_disk_without_room_for_a_sheet_is_said_to_be_full() -> None:
    """In a process of its own, which may write no file larger than 20 KB. No traceback of a writer's follows."""
    program = """if True:
        import resource, signal
        from pipeline import tables
        from pipeline.storage.base import NoRoom
        schema = tables.index_schema(())
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            with tables.sheet(schema, together=10) as sheet:
                for n in range(1000):
                    sheet.add({"key": f"sku-{n}"})
        except NoRoom as error:
            print(error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "file too large" in done.stdout
    assert done.stderr == ""
