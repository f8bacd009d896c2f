"""What holds a run back is said before it begins: the queue, the line, the disk."""

from pathlib import Path

import pytest

from pipeline.bounds import bounds, check_room, needed, rounds, short_of, size
from pipeline.errors import BadInput
from pipeline.job import job_for
from pipeline.overview import plan_document, plan_lines
from pipeline.survey import Survey, queue_tokens, survey
from tests.bench import write_rows


def look(folder: Path, rows: int = 10, **said: object) -> Survey:
    write_rows(folder / "shoes.csv", rows)
    said = {"prompt": "{{ title }}", "model": "gemini-3.1-flash-image", "aspect_ratio": "1:1"} | said
    return survey(job_for("shoes.csv", **said), base=folder)


def words(found: Survey) -> dict[str, str]:
    return {bound.name: bound.words for bound in bounds(found)}


def test_a_small_job_is_held_back_by_nothing(tmp_path: Path) -> None:
    assert words(look(tmp_path)) == {}


def test_the_queue_of_tier_1_makes_rounds_and_the_next_tier_is_named(tmp_path: Path) -> None:
    found = look(tmp_path, rows=3000)
    assert rounds(found, tier=1) == 4
    assert words(found)["queue"] == (
        "tier 1, since the job names none: about 4 rounds, 4 to 20 h; tier 2: all at once"
    )
    assert "queue" not in words(look(tmp_path, rows=3000, tier=2))
    assert any("rounds" in line for line in plan_lines(found))
    assert plan_document(found)["binds"]["queue"] == words(found)["queue"]


def test_what_may_be_spent_in_ten_minutes_is_weighed(tmp_path: Path) -> None:
    found = look(tmp_path, rows=3000)
    assert found.price.likely == pytest.approx(101e9, rel=0.01)
    assert words(found)["spend"] == (
        "tier 1, since the job names none: $10 in 10 minutes, so at least 1.7 h; tier 2: 20 min"
    )
    assert words(look(tmp_path, rows=3000, tier=2))["spend"].startswith("tier 2: $50 in 10 minutes")
    assert "spend" not in words(look(tmp_path, rows=3000, tier=3))
    assert "spend" not in words(look(tmp_path, rows=200)), "$6.74"


def test_a_model_whose_queue_nobody_published_is_taken_for_the_scarcest(tmp_path: Path) -> None:
    table = look(tmp_path).table
    assert [queue_tokens(table, "gemini-nano-banana-2.1", tier=tier) for tier in (1, 2, 3)] == [
        1_000_000,
        250_000_000,
        750_000_000,
    ]


def test_a_slow_line_and_many_batches_are_told(tmp_path: Path) -> None:
    found = look(tmp_path, rows=150, line_mbit=2, batches={"max_requests": 1})
    told = words(found)
    assert told["jobs"] == "150 batches, of which Google takes 100 at once"
    assert told["line"].endswith("min to receive, at 2 Mbit/s")


def test_pictures_that_will_not_fit_on_the_disk_are_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    found = look(tmp_path)
    check_room(found, str(tmp_path / "runs"))
    found.price = found.price.times(10**9)
    with pytest.raises(BadInput, match="TB are needed") as caught:
        check_room(found, str(tmp_path / "runs"))
    assert caught.value.hint == "free some, shoot fewer with --limit, or put the runs elsewhere with --runs"
    check_room(found, "gs://bucket/runs")


def test_a_small_disk_is_told_in_figures_that_show_and_with_what_is_to_stay_free() -> None:
    """An almost empty one of a hundred megabytes, for a few pictures."""
    assert short_of(6_200_000, free=96_000_000) == (
        "6.2 MB are needed beside 1.0 GB that are to stay free, and 96 MB are free there: 910 MB too little"
    )
    assert short_of(6_200_000, free=1_006_200_000) is None


def test_what_is_asked_at_once_needs_room_for_its_replies_too(tmp_path: Path) -> None:
    found = look(tmp_path)
    at_once = survey(found.job, base=tmp_path, lane="standard")
    assert needed(at_once) == needed(found) + found.price.output_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (48_000_000, "48 MB"), (6.1e12, "6.1 TB")],
)
def test_bytes_are_written_as_people_write_them(count: float, text: str) -> None:
    assert size(int(count)) == text
