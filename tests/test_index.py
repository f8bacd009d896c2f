"""The index, read back."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline import emulator, tables
from pipeline.drive import Driver
from pipeline.errors import BadInput, Corrupt, Refused, Unavailable
from pipeline.events import Submitting
from pipeline.index import PATIENCE, follow, pictures, read_again, read_index, records, show, told, write
from pipeline.job import job_for
from pipeline.journal import Journal
from pipeline.night import held_back, release
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


def test_a_column_that_is_named_twice_is_said(run: Run) -> None:
    with pytest.raises(BadInput, match="'key' is named twice"):
        read_index(run, columns=["key", "usd", "key"])


ODD = (
    "", "(", "(" * 500, "outcome !=", "key >", "key ==", "nosuch == 1", "`no such`", "`no.such` == 1", "@x", "@run",
    "@frame", "1", "True", "None", "'a'", "[0, 1]", "key", "batch", "width", "checks", "sent_at", "width > 'a'",
    "width.sum() > 1", "key.iloc[:1] == 'sku-0'", "key.nosuch", "key.str.contains('(')", "key.map(print)",
    "key.to_csv('/nowhere/keys.csv')", "key = 1", "key == 'a'; 1", "key\nkey", "lambda row: True", "1 / 0", "~key",
    "key if key else 1", "[x for x in key]", "__import__('os').system('true')", "import os", "`key", "\0", "\x1b[31m",
    "outcome > 'a'", "sent_at > 'yesterday evening'", "sent_at > 1.5",
    "sent_at in ['2026-11-21']", "ended_at not in ['x']", "sent_at > ('2026-11-21')", "sent_at == ''",
)  # fmt: skip


@pytest.mark.parametrize("where", ODD)
def test_a_choice_that_cannot_be_read_is_said(run: Run, where: str) -> None:
    """Whatever pandas makes of it: an error of whoever wrote it, and never rows that nobody meant."""
    with pytest.raises(BadInput, match="--where") as error:
        read_index(run, where=where)
    assert error.value.hint


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("key.str.startswith('sku-1')", [1]),
        ("width == 1024", [0, 1, 2, 4, 5]),
        ("width != 1024", [3]),
        ("not width > 0", [3]),
        ("width.isna() or batch == 0", [0, 1, 3]),
        ("checks.str.len() > 0", []),
        ("grounding.str.contains('a') or earlier.str.contains('ok')", []),
        ("include_thoughts", []),
        ("store == True", []),
        ("`row.colour` in ['red', 'olive']", [0, 3, 5]),
    ],
)
def test_rows_are_chosen_as_pandas_would_also_where_some_have_no_number(
    run: Run, where: str, numbers: list[int]
) -> None:
    """A width that is missing is another than 1024: whoever asks for these rows wants to see them."""
    assert list(read_index(run, where=where)["key"]) == [f"sku-{n}" for n in numbers]


def test_an_unknown_column_of_a_choice_names_the_nearest(run: Run) -> None:
    for where, name in (("colour == 'red'", "colour"), ("`row.color` == 'red'", "row.color")):
        with pytest.raises(BadInput, match=f"no column '{name}'") as error:
            read_index(run, where=where)
        assert error.value.hint == "did you mean 'row.colour'? (names with dots in backticks)"


def test_times_are_compared_with_a_date_or_a_time_in_utc(run: Run) -> None:
    frame = read_index(run)
    times = sorted(frame["sent_at"])
    first, last = times[0], times[-1]
    before = [
        f"sent_at < '{last.isoformat()}'",
        f"sent_at < '{last:%Y-%m-%d %H:%M:%S.%f}'",
        f"'{last.tz_convert('Asia/Kolkata').isoformat()}' > `sent_at`",
        f"'{first:%Y-%m-%d}' <= sent_at < '{last:%Y-%m-%dT%H:%M:%S.%fZ}'",
    ]
    for where in before:
        assert list(read_index(run, where=where)["sent_at"]) == [at for at in times if at < last], where
    assert set(read_index(run, where=f"sent_at == '{first:%Y-%m-%d %H:%M:%S.%f}'")["sent_at"]) == {first}
    assert len(read_index(run, where="sent_at >= '2020-01-01' and ended_at > '2020-01-01'")) == 6
    assert read_index(run, where="key == 'a > b' or sent_at > '2999-12-31'").empty


def test_whole_numbers_stay_whole_where_a_row_has_none(run: Run, tmp_path: Path) -> None:
    """In pandas, in a CSV, in JSON: 1024, and nothing where nothing is known."""
    frame = read_index(run).set_index("key")
    whole = ("width", "height", "bytes", "prompt_tokens", "searches", "seed", "batch", "variant")
    assert {str(frame[name].dtype) for name in whole} == {"Int16", "Int32", "Int64"}
    assert (frame["width"]["sku-0"], frame["width"].isna().sum(), frame["width"].sum()) == (1024, 1, 5 * 1024)
    write(read_index(run), tmp_path / "all.csv")
    read = pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False).set_index("key")
    assert (read.loc["sku-0", "width"], read.loc["sku-3", "width"], read.loc["sku-3", "bytes"]) == (
        "1024",
        "",
        "",
    )
    write(read_index(run), tmp_path / "all.jsonl")
    (picture,) = [line for line in (tmp_path / "all.jsonl").read_text().splitlines() if '"sku-0"' in line]
    assert '"width":1024,"height":1024,' in picture
    write(read_index(run), tmp_path / "all.parquet")
    assert str(pa.parquet.read_schema(tmp_path / "all.parquet").field("width").type) == "int32"
    rows = records(read_index(run))
    assert [repr(row["width"]) for row in rows] == ["1024", "1024", "1024", "None", "1024", "1024"]


def test_whole_numbers_within_lists_stay_whole(bench: Bench) -> None:
    """Of two pictures the size of one is not known: that of the other is no broken number for it."""
    bench.make_job(rows=1)
    bench.service.fault("two_pictures", prompt="Shoe 0")
    driver = bench.begin()
    driver.to_the_end()
    file = Path(bench.place().url) / "index" / "00000.parquet"
    (row,) = tables.rows_in(file.read_bytes())
    row["pictures"][0]["width"] = None
    bench.rewrite(
        "index/00000.parquet", tables.to_parquet([row], tables.index_schema(driver.run.created.columns))
    )
    frame = read_index(open_run(bench.place(), bench.clock))
    assert [repr(picture["width"]) for picture in frame["pictures"][0]] == ["None", "1024"]
    assert [repr(picture["width"]) for picture in records(frame)[0]["pictures"]] == ["None", "1024"]


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
    keys = [
        "two\nlines",
        "red\x1b[31m\x9b1m",
        "left\u202eright",
        "a" * 2000 + "z" * 3000,
        "naïve 鞋 👩\u200d🚀",
    ]
    (bench.folder / "shoes.csv").write_text("sku,title\n" + "".join(f'"{key}",Shoe\n' for key in keys))
    bench.job = job_for("shoes.csv", prompt="{{ title }}", model="gemini-2.5-flash-image")
    frame = bench.run()
    table, document = show(frame, rows=0)
    watched = list(told(frame))
    assert (len(table), len(watched)) == (6, 5)
    for lines in (table[1:], watched):
        assert all(line.replace("\u200d", "").isprintable() for line in lines), "and emoji stay whole"
        assert ["two\\nlines" in lines[0], "red\\x1b[31m\\x9b1m" in lines[1]] == [True, True]
        assert "left\\u202eright" in lines[2]
        assert f"{'a' * 59}…{'z' * 60} " in lines[3]
        assert "naïve 鞋 👩\u200d🚀" in lines[4]
        assert all(path in line for path, line in zip(frame["path"], lines, strict=True)), "a path is whole"
    assert max(map(len, table)) < 400
    assert [row["key"] for row in document["index"]] == keys


def test_what_is_missing_is_a_dash(run: Run) -> None:
    lines, _ = show(read_index(run, where="key == 'sku-3'"), rows=0)
    assert lines[1].split()[3:] == ["blocked", "-", "-", lines[1].split()[6], "-"]
    shown = read_index(run, columns=["key", "width", "checks", "text", "temperature"], where="key == 'sku-3'")
    assert list(told(shown, narrow=False)) == ["sku-3  -  []  -  -"]


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


def halted(bench: Bench) -> Run:
    """A run that waits for a person: of twenty shoes in one batch eleven came to words."""
    bench.make_job(rows=20, max_requests=20)
    bench.service.fault("text_only", prompt="Shoe 1", times=1)
    driver = bench.begin()
    with pytest.raises(Refused, match="came to nothing for one reason"):
        driver.to_the_end()
    return driver.run


def test_what_waits_to_be_asked_again_is_told_in_the_words_of_the_index(bench: Bench) -> None:
    """What was asked, what came of it last, what it cost: under the same names, in their order, of their types."""
    run = halted(bench)
    final, waiting = read_index(run), read_again(run)
    assert (len(final), len(waiting)) == (9, 11)
    assert not set(final["key"]) & set(waiting["key"])
    assert set(waiting["outcome"]) == {"text_only"}
    assert waiting["text"].str.contains("I cannot draw").all()
    assert waiting["usd"].sum() + final["usd"].sum() == pytest.approx(run.state.spent / 1e9)
    assert list(waiting.columns) == [name for name in final.columns if name in waiting.columns]
    assert set(final.columns) - set(waiting.columns) >= {"path", "width", "pictures", "decision"}
    same = [name for name in waiting.columns if name != "references" and waiting[name].dtype != "category"]
    assert waiting[same].dtypes.to_dict() == final[same].dtypes.to_dict()
    one = read_again(
        run, columns=["key"], where="`row.colour` == 'green' and sent_at > '2020-01-01' and place < 5"
    )
    assert one.to_dict("records") == [{"key": "sku-1"}]
    with pytest.raises(BadInput, match="no column 'width'"):
        read_again(run, where="width > 0")


def test_what_is_asked_again_waits_no_longer(bench: Bench) -> None:
    run = halted(bench)
    assert release(run, held_back(run))
    bench.again().to_the_end()
    run.catch_up()
    assert (len(read_again(run)), len(read_index(run))) == (0, 20)


def test_what_waits_is_read_from_a_run_of_an_older_version_too(bench: Bench) -> None:
    """Its files know outcome, reason and message, and not yet the words."""
    halted(bench)
    file = Path(bench.place().url) / "retry" / "00000.parquet"
    older = tables.from_parquet(file.read_bytes()).drop_columns(["last_text"])
    bench.rewrite("retry/00000.parquet", tables.to_parquet(older, older.schema))
    run = open_run(bench.place(), bench.clock)
    waiting = read_again(run)
    assert (len(waiting), waiting["text"].isna().all(), set(waiting["outcome"])) == (11, True, {"text_only"})
    assert release(run, held_back(run))
    bench.again().to_the_end()
    run.catch_up()
    assert set(read_index(run)["outcome"]) == {"ok"}


def test_an_index_of_another_run_is_not_shown_for_this_one(bench: Bench) -> None:
    bench.make_job(rows=2, max_requests=1)
    driver = bench.begin()
    driver.to_the_end()
    folder = Path(bench.place().url) / "index"
    (folder / "00000.parquet").write_bytes((folder / "00001.parquet").read_bytes())
    with pytest.raises(Corrupt, match=r"index/00000.parquet is not what was recorded"):
        read_index(driver.run)


def test_a_picture_that_is_gone_is_named_with_its_place(bench: Bench) -> None:
    bench.make_job(rows=1)
    driver = bench.begin()
    driver.to_the_end()
    (shown,) = pictures(driver.run)
    Path(shown.path).unlink()
    for read in (shown.read, shown.open):
        with pytest.raises(Corrupt, match=f"{shown.path} is not there"):
            read()


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


def test_a_choice_is_refused_before_there_is_anything_to_choose_from(bench: Bench) -> None:
    clock = Meanwhile(bench, None)
    run = open_run(bench.begin().run.storage, clock)
    with pytest.raises(BadInput, match="no column 'colour'"):
        next(follow(run, where="colour == 'red'"))
    assert clock.waited == 0


def test_a_run_that_nobody_drives_is_not_followed_for_ever(bench: Bench) -> None:
    bench.begin()
    clock = Meanwhile(bench, None)
    began = clock.now()
    with pytest.raises(Unavailable, match="nothing has happened to it for 50 hours"):
        list(follow(open_run(bench.place(), clock)))
    assert PATIENCE < clock.now() - began < PATIENCE + timedelta(hours=1)
