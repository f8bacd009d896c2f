"""What a table and two clocks say by themselves."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from pipeline.findings import Level, lines_of, models_of, of_clocks, of_life, of_prices, of_regions, problem
from pipeline.job import job_for
from pipeline.models import Retirement, load_models

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TABLE = load_models()


@pytest.mark.parametrize(("days", "level"), [(0, Level.OK), (90, Level.OK), (91, Level.WARNING)])
def test_prices_are_old_after_ninety_days(days: int, level: Level) -> None:
    of_the_table = datetime.combine(TABLE.as_of, NOW.time(), UTC)
    assert of_prices(TABLE, of_the_table + timedelta(days=days)).level is level


@pytest.mark.parametrize(
    ("model", "day", "surface", "level", "words"),
    [
        ("gemini-3-pro-image", NOW, "developer", Level.OK, "no end is announced"),
        ("gemini-2.5-flash-image", NOW, "developer", Level.WARNING, "may have ended: Google's pricing page"),
        ("gemini-3.1-flash-image", datetime(2026, 10, 1, tzinfo=UTC), "developer", Level.WARNING, "will end"),
        ("gemini-3.1-flash-image", NOW, "vertex", Level.OK, "no end is announced"),
        ("imagen-4.0-generate-001", NOW, "vertex", Level.WARNING, "may have ended: a caution"),
        ("imagen-4.0-generate-001", NOW, "developer", Level.PROBLEM, "never comes in batches"),
    ],
)
def test_a_model_s_end_is_told_by_who_says_it(
    model: str, day: datetime, surface: str, level: Level, words: str
) -> None:
    """Sources that disagree are both told; what ends on one platform goes on on the other."""
    found = of_life(TABLE.find(model), day, surface)
    assert found.level is level
    assert words in found.words


@pytest.mark.parametrize(("days", "level"), [(3, Level.WARNING), (2, Level.PROBLEM), (-1, Level.PROBLEM)])
def test_an_end_that_nobody_doubts_is_a_problem_once_a_run_may_not_be_back_by_then(
    days: int, level: Level
) -> None:
    end = Retirement(on=(NOW + timedelta(days=days)).date(), says="Google", sure=True)
    model = replace(TABLE.find("gemini-3-pro-image"), retires=(end,))
    assert of_life(model, NOW, "developer").level is level


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(0, Level.OK), (-29, Level.OK), (31, Level.WARNING), (-299, Level.WARNING), (301, Level.PROBLEM)],
)
def test_a_clock_may_be_a_little_off(seconds: float, level: Level) -> None:
    assert of_clocks(NOW + timedelta(seconds=seconds), NOW).level is level


def test_a_service_that_does_not_tell_the_time_is_no_problem() -> None:
    assert of_clocks(NOW, None).level is Level.UNCHECKED


@pytest.mark.parametrize(
    ("location", "bucket", "fits"),
    [
        ("us-central1", "US-CENTRAL1", True),
        ("us-central1", "US", True),
        ("us-central1", "NAM4", True),
        ("europe-west4", "EU", True),
        ("eu", "EU", True),
        ("global", "ASIA", True),
        ("us-west1", "NAM4", False),
        ("us-central1", "EU", False),
        ("europe-west4", "EUROPE-WEST1", False),
    ],
)
def test_a_bucket_fits_the_location_that_reads_it(location: str, bucket: str, fits: bool) -> None:
    found = of_regions(location, bucket)
    assert (found.level is Level.OK) is fits


def test_every_model_that_a_job_names_is_known() -> None:
    job = job_for("shoes.csv", prompt="x", shots={"hero": {"model": "a"}, "side": {}, "back": {"model": "-"}})
    assert models_of(job.with_settings({})) == ["a", "gemini-nano-banana-2.1"]
    assert models_of(job.with_settings({"model": "b"})) == ["b"]


def test_a_hint_stands_below_its_line() -> None:
    assert lines_of([problem("key", "none", "get one")]) == [
        "  problem      key        none",
        "                        hint: get one",
    ]
