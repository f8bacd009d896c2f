"""The judges that no misfortune of an emulator makes say no: shown what a service could answer, they do."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.behaviours import FACTS, Evidence, behaviours
from pipeline.events import Ended, ResultFile
from pipeline.models import load_models
from pipeline.money import Estimate

MODEL = load_models().find("gemini-nano-banana-2.1")


def row(shot: str, **said: Any) -> dict[str, Any]:
    """A row of the index with its picture."""
    picture = {"role": "final", "declared_mime": "image/jpeg"}
    whole = {
        "shot": shot,
        "outcome": "ok",
        "reason": None,
        "message": None,
        "path": "pictures/a.jpg",
        "width": 1024,
        "height": 1024,
        "aspect_ratio": "1:1",
        "image_size": "1K",
        "mime": "image/jpeg",
        "pictures": [picture],
        "prompt_tokens": 1150 if shot == "reference" else 20,
        "image_tokens": 1120,
        "thought_tokens": 300,
    }
    return whole | said


GOOD = Evidence(
    model=MODEL,
    rows=(row("settings"), row("reference")),
    ended=Ended(
        batch=0,
        how="succeeded",
        at=datetime(2026, 11, 21, tzinfo=UTC),
        files=(ResultFile("files/batch-abc"),),
    ),
    ticket="batches/abc",
    job={
        "metadata": {
            "createTime": "2026-11-21T00:00:00.123456789Z",
            "endTime": "2026-11-21T00:10:00Z",
            "batchStats": {"requestCount": "2", "successfulRequestCount": "2"},
        }
    },
    states=("BATCH_STATE_RUNNING", "BATCH_STATE_SUCCEEDED"),
    listed=True,
    ranges=True,
    said=Estimate(low=100, likely=150, high=200),
    took=150,
)


def judged(evidence: Evidence) -> dict[str, bool | None]:
    return {each.fact.name: each.seen.held for each in behaviours(evidence)}


def test_a_service_as_it_is_described_bears_out_every_fact() -> None:
    assert set(judged(GOOD).values()) == {True}


def test_where_nothing_came_back_nothing_is_claimed() -> None:
    assert set(judged(Evidence(model=MODEL)).values()) == {None}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tokens", {"image_tokens": 1290}),
        ("tokens", {"thought_tokens": 1001}),
        ("pixels", {"width": 1003}),
        ("pixels", {"width": 512, "height": 512}),
        ("container", {"mime": "image/png"}),
        ("reference", {"prompt_tokens": 20}),
        ("reference", {"prompt_tokens": 5000}),
    ],
)
def test_a_row_that_differs_is_noticed(name: str, said: dict[str, Any]) -> None:
    """And by the one who looks for it, no other."""
    shown = row("reference", **said)
    odd = judged(replace(GOOD, rows=(row("settings"), shown)))
    assert {fact for fact, held in odd.items() if held is False} == {name}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("price", {"took": 99}),
        ("price", {"took": 201}),
        ("range", {"ranges": False}),
        ("listing", {"listed": False}),
        ("states", {"states": ("BATCH_STATE_RUNNING", "BATCH_STATE_THROTTLED")}),
        ("output", {"ticket": "batches/xyz"}),
        ("key", {"strays": ({"why": "unknown id"},)}),
    ],
)
def test_a_run_that_differs_is_noticed(name: str, changes: dict[str, Any]) -> None:
    odd = judged(replace(GOOD, **changes))
    assert {fact for fact, held in odd.items() if held is False} == {name}


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("counters", {"batchStats": {"requestCount": 2, "successfulRequestCount": 2}}),
        ("counters", {"batchStats": {"requestCount": "2", "successfulRequestCount": "1"}}),
        ("counters", {"batchStats": None}),
        ("times", {"endTime": "2026-11-20T00:00:00Z"}),
        ("times", {"endTime": "soon"}),
    ],
)
def test_a_job_that_is_shown_otherwise_is_noticed(name: str, metadata: dict[str, Any]) -> None:
    """Counters are strings, times are times."""
    odd = judged(replace(GOOD, job={"metadata": GOOD.job["metadata"] | metadata}))
    assert {fact for fact, held in odd.items() if held is False} == {name}


def test_vertex_ai_says_the_same_in_other_places() -> None:
    job = {
        "createTime": "2026-11-21T00:00:00Z",
        "endTime": "2026-11-21T00:10:00Z",
        "completionStats": {"successfulCount": "2"},
    }
    place = "gs://shoes/out/prediction-model-1/predictions_00001.jsonl#12"
    assert GOOD.ended is not None
    ended = Ended(batch=0, how="succeeded", at=GOOD.ended.at, files=(ResultFile(place),))
    states = ("JOB_STATE_QUEUED", "JOB_STATE_SUCCEEDED")
    assert set(judged(replace(GOOD, job=job, ended=ended, states=states)).values()) == {True}
    odd = replace(GOOD, job=job, ended=replace_file(ended, "gs://shoes/out/errors.jsonl#1"), states=states)
    assert judged(odd)["output"] is False


def replace_file(ended: Ended, name: str) -> Ended:
    return Ended(batch=0, how=ended.how, at=ended.at, files=(ResultFile(name),))


def test_a_picture_whose_size_the_model_chooses_is_not_judged() -> None:
    follows = load_models().find("gemini-2.0-flash-preview-image-generation")
    rows = (row("settings", aspect_ratio=None, image_size=None),)
    assert judged(replace(GOOD, model=follows, rows=rows))["pixels"] is None


def test_every_fact_is_worded_once_and_says_what_follows() -> None:
    assert len({fact.name for fact in FACTS}) == len({fact.words for fact in FACTS}) == len(FACTS)
    assert all(fact.otherwise and len(fact.name) <= 9 for fact in FACTS)
