"""The index, read back."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline import emulator
from pipeline.errors import BadInput, Corrupt
from pipeline.index import pictures, read_index, show, write
from pipeline.run import Run
from tests.bench import Bench


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six shoes, one without its picture."""
    with emulator.start(queue=(0, 0), run=(0, 0)) as service:
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


def test_an_unknown_format_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no format '\.xls'"):
        write(read_index(run), tmp_path / "all.xls")


def test_the_first_rows_are_shown_and_the_rest_counted(run: Run) -> None:
    lines, document = show(read_index(run), rows=2)
    assert len(lines) == 4
    assert lines[-1] == "... 4 more rows; --rows 0 shows all"
    assert len(document["index"]) == 2
    assert show(read_index(run, where="key == 'x'"), rows=2)[0] == ["(no rows)"]


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
