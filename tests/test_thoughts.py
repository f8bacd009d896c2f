"""Thoughts on demand: kept beside the answer, apart from it, and never taken for a result."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.emulator.models import MODELS as EMULATED
from pipeline.index import pictures, read_index
from pipeline.job import job_for
from pipeline.models import load_models
from pipeline.money import estimate
from pipeline.runs import nights
from pipeline.survey import Survey, requests_of, survey
from pipeline.tally import tally
from tests.bench import Bench, write_rows

PRO = "gemini-3-pro-image"


def look(folder: Path, **said: object) -> Survey:
    write_rows(folder / "shoes.csv", 4)
    return survey(job_for("shoes.csv", prompt="{{ title }}", **said), base=folder)


def test_thoughts_come_with_the_answer_and_are_kept_apart(bench: Bench) -> None:
    """Words in a column, drafts in a folder of their own; the picture is the one that was answered."""
    bench.make_job(rows=6, model=PRO, thoughts=True)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert set(index["outcome"]) == {"ok"}
    assert index["thoughts"].str.contains("I compose the scene").all()
    assert not index["text"].fillna("").str.contains("I compose the scene").any()
    drafts = [list(row) for row in index["thought_pictures"]]
    assert {len(each) for each in drafts} == {1, 2}, "up to two"
    for row, each in zip(index.itertuples(), drafts, strict=True):
        assert {draft["role"] for draft in each} == {"thought"}
        assert each[-1]["sha256"] == row.sha256, "the last is the final picture"
        assert all(draft["path"].startswith("thoughts/") for draft in each)
        assert [picture["role"] for picture in row.pictures] == ["final"]
        assert all(part["path"] in (None, row.path) for part in row.parts)
        assert row.include_thoughts
        least, further = EMULATED[PRO].thoughts["LOW"]
        assert least <= row.thought_tokens < least + further
    assert_no_result_is_a_thought(bench, index)
    assert tally(driver.run).pictures == 6
    assert driver.run.state.spent == bench.bill()


def assert_no_result_is_a_thought(bench: Bench, index: pd.DataFrame) -> None:
    run = bench.folder / "runs" / "run"
    named = {path for row in index["pictures"] for path in (picture["path"] for picture in row)}
    assert {str(path.relative_to(run)) for path in run.glob("pictures/*/*")} == named
    kept = {draft["path"] for row in index["thought_pictures"] for draft in row}
    assert {str(path.relative_to(run)) for path in run.glob("thoughts/*/*")} == kept
    assert len(list(pictures(bench.again().run))) == len(index)


def test_unasked_thoughts_are_dropped(bench: Bench) -> None:
    bench.make_job(rows=2, model=PRO)
    bench.service.fault("interim_picture", prompt="Shoe 1")
    index = bench.run()
    assert index["thoughts"].isna().all()
    assert [len(row) for row in index["thought_pictures"]] == [0, 0]
    assert not (bench.folder / "runs" / "run" / "thoughts").exists()
    assert [len(row) for row in index["pictures"]] == [1, 1]


def test_an_answer_that_is_only_thought_is_none(bench: Bench) -> None:
    """Drafts and no picture: the row has no picture, and what it thought says why."""
    bench.make_job(rows=1, model=PRO, thoughts=True, attempts=1)
    bench.service.fault("text_only", prompt="Shoe 0")
    bench.service.fault("interim_picture", prompt="Shoe 0")
    (row,) = bench.run().to_dict("records")
    assert row["outcome"] == "text_only"
    assert pd.isna(row["path"])
    assert len(row["thought_pictures"]) == 1
    assert row["thoughts"]


def test_thoughts_of_a_story_are_none_of_its_parts(bench: Bench) -> None:
    bench.make_job(rows=2, model=PRO, thoughts=True, prompt="Three pictures of {{ title }}")
    for row in bench.run().itertuples():
        assert [part["kind"] for part in row.parts].count("picture") == len(row.pictures) == 3
        assert row.thought_pictures[-1]["sha256"] == row.sha256


def test_they_change_neither_price_nor_picture_and_are_fetched(tmp_path: Path) -> None:
    """Google bills thinking whether it is told or not; drafts are free, and two pictures more on the line."""
    with_them, without = (look(tmp_path, model=PRO, thoughts=on) for on in (True, False))
    assert with_them.price.likely == without.price.likely
    assert with_them.price.output_bytes > 2.9 * without.price.output_bytes
    (one, *_) = requests_of(with_them)
    assert one.prompt is not None
    assert estimate(one.prompt, load_models().find(PRO)).images == 1


def test_asking_for_them_asks_anew_and_not_asking_is_as_before(tmp_path: Path) -> None:
    marks = [
        [request.fingerprint for request in requests_of(look(tmp_path, model=PRO, **said))]
        for said in ({}, {"thoughts": False}, {"thoughts": True})
    ]
    assert marks[0] == marks[1]
    assert not set(marks[0]) & set(marks[2])


def test_a_night_that_wants_them_may_take_pictures_that_came_without(bench: Bench) -> None:
    bench.make_job(rows=2, model=PRO)
    bench.begin().to_the_end()
    bench.make_job(
        rows=2, model=PRO, thoughts=True, reuse=[f"{bench.folder}/runs/run"], reuse_across=["thoughts"]
    )
    known = nights(bench.job, folder=str(bench.folder / "runs"), service=bench.service.url, clock=bench.clock)
    found = survey(bench.job, base=bench.folder, nights=known, runs=str(bench.folder / "runs"))
    assert (found.requests, sum(found.carried.values())) == (0, 2)


@pytest.mark.parametrize("name", ["gemini-2.5-flash-image", "imagen-4.0-generate-001"])
def test_a_model_that_does_not_think_has_none_to_show(tmp_path: Path, name: str) -> None:
    found = look(tmp_path, model=name, thoughts=True)
    (told,) = [kind for kind in found.problems if "thoughts" in str(kind)]
    assert f"{name} has no thoughts to show" in str(told)
