"""The index, read back."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.errors import BadInput, Corrupt, Unavailable
from pipeline.events import Submitting
from pipeline.index import PATIENCE, follow, pictures, read_index, show, told, write
from pipeline.job import job_for
from pipeline.journal import Journal
from pipeline.run import Run, open_run
from pipeline.storage import open_storage
from tests.bench import Bench


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six shoes, one without its picture."""
    with emulator.start(queue=(5, 30), run=(10, 60)) as service:
        bench = Bench(service, tmp_path_factory.mktemp("index"))
        service.fault("image_safety", prompt="Shoe 3")
        driver = bench.begin()
        driver.to_the_end()
        return driver.run


def test_all_rows_of_all_batches_are_there_once(run: Run) -> None:
    frame = read_index(run)
    assert sorted(frame["key"]) == [f"sku-{n}" for n in range(6)]
    assert frame["batch"].nunique() == 3


def test_columns_come_as_they_are_asked_for(run: Run) -> None:
    assert list(read_index(run, columns=["usd", "key"]).columns) == ["usd", "key"]


def test_rows_are_chosen_by_any_column_shown_or_not(run: Run) -> None:
    frame = read_index(run, columns=["key"], where="outcome != 'ok' and `row.colour` == 'olive'")
    assert list(frame["key"]) == ["sku-3"]


def test_an_unknown_column_names_the_nearest(run: Run) -> None:
    with pytest.raises(BadInput) as error:
        read_index(run, columns=["kye"])
    assert error.value.hint == "did you mean 'key'?"


@pytest.mark.parametrize("where", ["outcome !=", "nosuch == 1", "__import__('os').system('true')", "key >"])
def test_a_choice_that_cannot_be_read_is_said(run: Run, where: str) -> None:
    with pytest.raises(BadInput, match="--where"):
        read_index(run, where=where)


def test_only_rows_with_a_picture_have_one(run: Run) -> None:
    shown = list(pictures(run))
    assert [one.row["key"] for one in shown] == ["sku-0", "sku-1", "sku-2", "sku-4", "sku-5"]
    with shown[0].open() as stream:
        assert stream.read(4) == b"\x89PNG"
    assert Path(shown[0].path).is_file()


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl", "all.parquet"])
def test_it_is_written_in_the_format_of_the_name(run: Run, tmp_path: Path, name: str) -> None:
    write(read_index(run), tmp_path / name)
    readers = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".jsonl": lambda p: pd.read_json(p, lines=True),
    }
    assert len(readers[Path(name).suffix](tmp_path / name)) == 6


def test_a_cell_of_a_csv_that_holds_a_list_is_json(run: Run, tmp_path: Path) -> None:
    write(read_index(run), tmp_path / "all.csv")
    read = pd.read_csv(tmp_path / "all.csv").set_index("key")
    (picture,) = json.loads(read.loc["sku-0", "pictures"])
    assert picture["path"] == read.loc["sku-0", "path"]
    assert json.loads(read.loc["sku-0", "effective"])["aspect_ratio"] == "1:1"


def test_an_unknown_format_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no format '\.xls'"):
        write(read_index(run), tmp_path / "all.xls")


def test_the_first_rows_are_shown_and_the_rest_counted(run: Run) -> None:
    lines, document = show(read_index(run), rows=2)
    assert len(lines) == 4
    assert lines[-1] == "... 4 more rows; --rows 0 shows all"
    assert len(document["index"]) == 2
    assert show(read_index(run, where="key == 'x'"), rows=2)[0] == ["(no rows)"]


def test_cells_are_on_one_line_and_command_no_terminal(bench: Bench) -> None:
    """A key may hold anything. Files and JSON have it as it is; a table has what can be seen of it."""
    keys = ["two\nlines", "red\x1b[31m\x9b1m", "left\u202eright", "a" * 2000 + "z" * 3000, "naïve 鞋 👟"]
    (bench.folder / "shoes.csv").write_text("sku,title\n" + "".join(f'"{key}",Shoe\n' for key in keys))
    bench.job = job_for("shoes.csv", prompt="{{ title }}", model="gemini-2.5-flash-image")
    frame = bench.run()
    table, document = show(frame, rows=0)
    watched = list(told(frame))
    assert (len(table), len(watched)) == (6, 5)
    for lines in (table[1:], watched):
        assert all(line.isprintable() for line in lines)
        assert ["two\\nlines" in lines[0], "red\\x1b[31m\\x9b1m" in lines[1]] == [True, True]
        assert "left\\u202eright" in lines[2]
        assert f"{'a' * 59}…{'z' * 60} " in lines[3]
        assert "naïve 鞋 👟" in lines[4]
        assert all(path in line for path, line in zip(frame["path"], lines, strict=True)), "a path is whole"
    assert max(map(len, table)) < 400
    assert [row["key"] for row in document["index"]] == keys


def test_what_is_missing_is_a_dash(run: Run) -> None:
    lines, _ = show(read_index(run, where="key == 'sku-3'"), rows=0)
    assert lines[1].split()[3:] == ["blocked", "-", "-", lines[1].split()[6], "-"]
    shown = read_index(run, columns=["key", "width", "checks", "text", "temperature"], where="key == 'sku-3'")
    assert list(told(shown)) == ["sku-3  -  []  -  -"]


def test_a_part_that_is_gone_is_named(run: Run) -> None:
    batch = run.state.batches[0].collected
    assert batch is not None
    assert batch.index is not None
    path = Path(run.storage.url) / batch.index.name
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(Corrupt, match="index/00000"):
        read_index(run)
    path.write_bytes(data)


def test_a_row_says_what_was_asked_and_what_it_came_to(bench: Bench) -> None:
    """What the job said stands beside what the picture's own pixels say, and beside what the model does unasked."""
    bench.make_job(
        rows=2,
        model="gemini-3.1-flash-image",
        system="You are a photographer.",
        aspect_ratio="4:3",
        seed=7,
        temperature=0.5,
        safety={"harassment": "high"},
    )
    bench.service.fault("wrong_size", prompt="Shoe 1")
    index = bench.run().set_index("key")
    right, wrong = index.loc["sku-0"], index.loc["sku-1"]
    asked = ("system", "aspect_ratio", "image_size", "thinking", "seed", "temperature", "top_k")
    assert [None if pd.isna(right[name]) else right[name] for name in asked] == [
        "You are a photographer.", "4:3", None, None, 7, 0.5, None,
    ]  # fmt: skip
    assert list(right["safety"]) == ["harassment=high"]
    assert list(right["modalities"]) == ["TEXT", "IMAGE"]
    assert right["effective"] == {"aspect_ratio": "4:3", "image_size": "1K", "thinking": "minimal"}
    assert (wrong["outcome"], wrong["aspect_ratio"]) == ("wrong_size", "4:3")
    assert wrong["effective"]["aspect_ratio"] != "4:3"


def test_what_was_looked_up_is_there_as_the_service_wrote_it(bench: Bench) -> None:
    bench.make_job(rows=1, model="gemini-3-pro-image", search=["web"])
    (row,) = bench.run().to_dict("records")
    found = json.loads(row["grounding"])
    assert row["searches"] == len(found["webSearchQueries"]) >= 1
    assert list(found)[:2] == ["webSearchQueries", "searchEntryPoint"], "in the service's order"
    assert found["groundingChunks"][0]["web"]["domain"] == "example.com"


def test_times_of_a_batch_come_from_the_journal(run: Run) -> None:
    """When its create call was made, and when the provider was done: files of a run hold no time of anybody's clock."""
    frame = read_index(run, columns=["batch", "sent_at", "ended_at"])
    intents = {
        record.event.batch: record.at
        for record in Journal(run.storage, run.clock, writer="reader").since(0)
        if isinstance(record.event, Submitting)
    }
    for row in frame.itertuples():
        ended = run.state.batches[row.batch].ended
        assert ended is not None
        assert (row.sent_at, row.ended_at) == (intents[row.batch], ended.at)
        assert row.sent_at < row.ended_at


def test_a_run_in_a_bucket_is_read_without_further_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pandas would want gcsfs for that; we read through our own storage."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with emulator.start(queue=(0, 0), run=(0, 0), buckets=("shoes",)) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        bench = Bench(service, tmp_path)
        storage = open_storage("gs://shoes/runs/run")
        bench.begin(storage=storage).to_the_end()
        there = open_run(open_storage("gs://shoes/runs/run"), bench.clock)
        frame = read_index(there, columns=["key", "sent_at"], where="outcome == 'ok'")
        assert (len(frame), frame["sent_at"].isna().sum()) == (6, 0)
        assert len(list(pictures(there))) == 6


class Meanwhile:
    """A clock by which, whenever somebody waits, something else goes on; else time passes."""

    def __init__(self, bench: Bench, driver: Driver | None) -> None:
        self._clock = bench.clock
        self._driver = driver
        self.waited = 0

    def now(self) -> datetime:
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        self.waited += 1
        if self._driver is None or not self._driver.step():
            self._clock.sleep(seconds)

    def sleep_until(self, moment: datetime) -> None:
        self.sleep((moment - self.now()).total_seconds())


def test_an_index_is_followed_while_it_grows(bench: Bench) -> None:
    """Every row once, as soon as it is final and long before the run is over; then it ends by itself."""
    bench.service.fault("no_image", prompt="Shoe 0", times=1)
    driver = bench.begin()
    clock = Meanwhile(bench, driver)
    seen, finished = [], []
    for frame in follow(open_run(bench.place(), clock), where="outcome == 'ok'"):
        seen += list(frame["key"])
        finished.append(driver.run.state.finished)
        assert len(read_index(open_run(bench.place(), clock))) >= len(seen), "it can be read half way through"
    assert sorted(seen) == [f"sku-{n}" for n in range(6)]
    assert seen[-1] == "sku-0", "the one that was asked twice came last"
    assert finished[0] is False
    assert 0 < clock.waited < 1000


def test_a_run_that_nobody_drives_is_not_followed_for_ever(bench: Bench) -> None:
    bench.begin()
    clock = Meanwhile(bench, None)
    began = clock.now()
    with pytest.raises(Unavailable, match="nothing has happened to it for 50 hours"):
        list(follow(open_run(bench.place(), clock)))
    assert PATIENCE < clock.now() - began < PATIENCE + timedelta(hours=1)
