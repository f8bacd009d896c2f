"""Rows that edit another row's picture: each is asked when that is home, and shown it byte for byte."""

import json
from pathlib import Path

import pytest

from pipeline.drive import Driver
from pipeline.errors import Corrupt
from pipeline.index import read_index
from pipeline.job import Job, job_for
from pipeline.survey import survey
from pipeline.tally import tally
from tests.bench import Bench, outcomes


def write(folder: Path, *rows: dict[str, object]) -> None:
    (folder / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def edits(**said: object) -> Job:
    plain = {"model": "gemini-3.1-flash-image", "batches": {"max_requests": 4}, "attempts": 1}
    return job_for("edits.jsonl", **plain | said)


def shoot(bench: Bench, *rows: dict[str, object], **said: object) -> Driver:
    write(bench.folder, *rows)
    bench.job = edits(**said)
    driver = bench.begin()
    driver.to_the_end()
    return driver


def test_a_row_is_shown_the_picture_that_it_edits_before_its_own(bench: Bench) -> None:
    driver = shoot(
        bench,
        {"id": "night", "prompt": "make it night", "from": "base"},
        {"id": "base", "prompt": "a red shoe"},
        {"id": "snow", "prompt": "with snow", "from": "night", "aspect_ratio": "16:9"},
    )
    index = read_index(driver.run).set_index("key")
    assert dict(index["outcome"]) == dict.fromkeys(("base", "night", "snow"), "ok")
    assert dict(index["continued"].fillna("")) == {"base": "", "night": "picture", "snow": "picture"}
    for child, parent in (("night", "base"), ("snow", "night")):
        assert index.loc[child, "parent"] == {"key": parent, "shot": "main", "variant": 0, "turn": 0}
        assert [shown["sha256"] for shown in index.loc[child, "references"]] == [index.loc[parent, "sha256"]]
    assert bench.bill() == driver.run.state.spent
    now = tally(driver.run)
    assert (now.total, now.answered, now.pictures, now.sent) == (3, 3, 3, 3)
