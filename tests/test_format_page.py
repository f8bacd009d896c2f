"""docs/format.md against a real run: what the page says is there, and nothing is there that it does not say."""

import re
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.events import Event, from_json
from pipeline.review import apply
from tests.bench import Bench
from tests.shell import HOUSE

PAGE = (HOUSE / "docs" / "format.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(bench: Bench) -> Path:
    """A run with everything in it: photos, retries, strays, several batches."""
    photos = HOUSE / "sample_manifests" / "photos"
    for photo in photos.glob("*.jpg"):
        (bench.folder / photo.name).write_bytes(photo.read_bytes())
    bench.make_job(
        rows=6,
        references=["photo"],
        model="gemini-3.1-flash-image",
        thoughts=True,
        turns=["by night"],
        night={"finish_online_below": "2 rows"},
    )
    names = sorted(path.name for path in photos.glob("*.jpg"))
    lines = (bench.folder / "shoes.csv").read_text().splitlines()
    rows = [line + names[n] for n, line in enumerate(lines[1:])]
    (bench.folder / "shoes.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    bench.service.fault("no_image", prompt="Shoe 2", times=1)
    bench.service.fault("duplicate_line", prompt="Shoe 1", times=1)
    bench.service.fault("unknown_key", prompt="Shoe 3", times=1)
    driver = bench.begin()
    driver.to_the_end()
    (bench.folder / "decisions.csv").write_text("key,turn,decision\nsku-0,0,approved\n")
    apply(driver.run, bench.folder / "decisions.csv")
    return bench.folder / "runs" / "run"


def documented_files() -> list[re.Pattern[str]]:
    """The names in the page's tree, as patterns: digits and digests stand for any."""
    tree = PAGE.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    names = [line.split()[0] for line in tree.splitlines() if re.match(r"[a-z]+/\S", line)]
    patterns = []
    for name in names:
        pattern = re.escape(name).replace("…", "[0-9a-f]+")
        pattern = re.sub(r"3fa2c1d0|3fa2|3f", "[0-9a-f]+", pattern)
        pattern = pattern.replace(r"sku\-8812\-hero\-0", r"[\w.-]+")
        pattern = pattern.replace(r"\.jpg", r"\.(jpg|png)")
        patterns.append(re.compile(re.sub(r"\d{3,}", r"\\d+", pattern)))
    return patterns


def test_every_file_of_a_run_is_on_the_page_and_the_other_way_round(folder: Path) -> None:
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    patterns = documented_files()
    assert len(patterns) > 7
    unknown = [file for file in files if not any(pattern.fullmatch(file) for pattern in patterns)]
    assert not unknown
    unused = [pattern.pattern for pattern in patterns if not any(map(pattern.fullmatch, files))]
    assert not unused


def test_every_kind_of_record_is_on_the_page_and_nothing_else() -> None:
    kinds = {str(kind.__struct_config__.tag) for kind in get_args(Event)}
    table = PAGE.partition("## Records")[2].partition("## The index")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == kinds


def test_the_index_has_the_columns_of_the_page_in_their_order(folder: Path) -> None:
    table = PAGE.partition("## The index")[2].partition("Outcomes:")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    documented = [name for cell in cells for name in re.findall(r"`([\w.<>]+)`", cell)]
    files = sorted((folder / "index").iterdir())
    assert len(files) > 2
    for file in files:
        schema = pa.parquet.read_schema(file)
        ours = [name for name in schema.names if not name.startswith(tables.USER)]
        assert ours == documented[:-1]
        assert schema.names[len(ours) :] == ["row.sku", "row.title", "row.colour", "row.photo"]


def test_the_outcomes_of_the_page_are_the_ones_that_people_can_read() -> None:
    from pipeline.console import REASONS

    line = PAGE.partition("Outcomes: ")[2].partition(".\n")[0]
    assert set(re.findall(r"`(\w+)`", line)) == {"ok", *REASONS}


def test_records_are_numbered_without_a_gap_and_can_be_read_by_anybody(folder: Path) -> None:
    files = sorted((folder / "journal").iterdir())
    assert [file.name for file in files] == [f"{n:08}.json" for n in range(len(files))]
    assert [from_json(file.read_bytes()).number for file in files] == list(range(len(files)))


def test_what_a_record_names_is_there_with_that_digest(folder: Path) -> None:
    import hashlib
    import json

    def named(value: object) -> list[dict[str, object]]:
        if isinstance(value, dict):
            if set(value) == {"name", "size", "sha256"}:
                return [value]
            return [file for each in value.values() for file in named(each)]
        return [file for each in value for file in named(each)] if isinstance(value, list) else []

    files = [
        file
        for path in (folder / "journal").iterdir()
        for file in named(json.loads(path.read_bytes())["event"])
    ]
    assert len(files) > 8
    for file in files:
        data = (folder / str(file["name"])).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
