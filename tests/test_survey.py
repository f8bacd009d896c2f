"""A job looked over: counts, problems and dollars; and what a run begun from it remembers."""

import json
from pathlib import Path

import pytest

from pipeline.errors import BadInput
from pipeline.job import Job, job_for
from pipeline.models import load_models
from pipeline.money import estimate
from pipeline.overview import expanded, plan_document, plan_lines, problem_lines, question
from pipeline.prompt import Prompt
from pipeline.survey import Survey, begin, is_of, planner_for, requests_of, survey
from tests.bench import write_rows
from tests.fakes import FakeClock, MemoryStorage

MODEL = "gemini-2.5-flash-image"
PHOTO = Path(__file__).parent.parent / "sample_manifests" / "photos" / "ns-1001.jpg"


def job(**said: object) -> Job:
    return job_for("shoes.csv", **{"prompt": "{{ title }}", "model": MODEL, "aspect_ratio": "1:1"} | said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "shoes.csv", 10)
    return tmp_path


def with_bad_rows(folder: Path, count: int = 2) -> None:
    with (folder / "shoes.csv").open("a") as file:
        for n in range(count):
            file.write(f"bad-{n},,red,\n")


def test_rows_shots_and_variants_are_counted(folder: Path) -> None:
    shots = {"hero": {"variants": 2}, "side": {"prompt": "side of {{ title }}"}}
    found = survey(job(shots=shots), base=folder)
    assert (found.chosen_rows, found.requests, found.lanes) == (10, 30, {MODEL: 30})
    assert found.shots == {"hero": 20, "side": 10}


def test_the_price_is_the_sum_of_its_requests(folder: Path) -> None:
    found = survey(job(), base=folder)
    model = load_models().find(MODEL)
    each = [estimate(Prompt(model=MODEL, text=f"Shoe {n}", aspect_ratio="1:1"), model) for n in range(10)]
    assert found.price.likely - found.price.retrying == sum(one.likely for one in each)
    assert found.price.low <= found.price.likely <= found.price.high
    assert found.at_once is not None
    assert found.at_once > 1.9 * found.price.likely


def test_a_model_per_row_makes_a_lane_per_model(folder: Path) -> None:
    (folder / "shoes.csv").write_text(f"sku,title,model\na,A,{MODEL}\nb,B,gemini-3-pro-image\nc,C,\n")
    found = survey(job(), base=folder)
    assert found.lanes == {MODEL: 2, "gemini-3-pro-image": 1}


def test_bad_rows_are_counted_once_however_many_shots_they_spoil(folder: Path) -> None:
    with_bad_rows(folder)
    found = survey(job(shots={"a": {}, "b": {}}), base=folder)
    assert (found.chosen_rows, found.bad_rows, found.good_rows) == (12, 2, 10)
    assert found.lanes == {MODEL: 20, "final": 4}
    assert [str(kind) for kind in found.problems] == ["2 rows: the prompt is empty, e.g. row 12"]


def test_a_limit_counts_rows_that_are_chosen(folder: Path) -> None:
    found = survey(job(where="colour != 'red'"), base=folder, limit=3)
    assert found.chosen_rows == 3
    assert found.rows == 4, "the first is red, and is not counted"


def test_photos_are_counted_once(folder: Path) -> None:
    photos = sorted((Path(__file__).parent.parent / "sample_manifests" / "photos").glob("*.jpg"))[:2]
    for photo in photos:
        (folder / photo.name).write_bytes(photo.read_bytes())
    write_rows(folder / "shoes.csv", 10, photo=lambda n: photos[n % 2].name)
    found = survey(job(references=["photo"]), base=folder)
    assert found.references == 2
    assert found.reference_bytes == sum(photo.stat().st_size for photo in photos)


def test_no_row_chosen_is_said(folder: Path) -> None:
    with pytest.raises(BadInput, match="no row is chosen"):
        survey(job(where="colour == 'pink'"), base=folder)


def test_a_key_that_two_rows_share_stops_it_even_beyond_the_limit(folder: Path) -> None:
    with (folder / "shoes.csv").open("a") as file:
        file.write("sku-3,Again,red,\n")
    with pytest.raises(BadInput, match="same key as an earlier row"):
        survey(job(), base=folder, limit=1)


def test_the_same_plan_twice_is_the_same(folder: Path) -> None:
    assert plan_document(survey(job(), base=folder)) == plan_document(survey(job(), base=folder))


def test_a_run_remembers_all_that_two_drivers_could_see_differently(folder: Path) -> None:
    found = survey(job(), base=folder)
    run = begin(found, name="r", storage=MemoryStorage(), service="http://x", clock=FakeClock(), cap=7)
    created = run.created
    assert created.manifest_sha256 == found.manifest.digest
    assert created.models[MODEL]["name"] == MODEL
    assert created.models[MODEL]["prices"]["batch"]
    assert (created.rows, created.lanes, created.cap) == (10, {MODEL: 10}, 7)
    assert str(folder) not in json.dumps(created.job), "nothing of this machine"


def test_a_run_knows_the_job_it_was_made_from(folder: Path) -> None:
    found = survey(job(), base=folder)
    run = begin(found, name="r", storage=MemoryStorage(), service="http://x", clock=FakeClock(), cap=None)
    assert is_of(run, survey(job(), base=folder))
    assert not is_of(run, survey(job(prompt="other {{ title }}"), base=folder))
    assert not is_of(run, survey(job(), base=folder, limit=3))
    write_rows(folder / "shoes.csv", 11)
    assert not is_of(run, survey(job(), base=folder))


def test_who_has_the_manifest_can_plan_on_and_nobody_else(folder: Path, tmp_path: Path) -> None:
    run = begin(
        survey(job(), base=folder),
        name="r",
        storage=MemoryStorage(),
        service="http://x",
        clock=FakeClock(),
        cap=None,
    )
    assert planner_for(run, base=folder) is not None
    assert planner_for(run, base=tmp_path / "elsewhere") is None
    write_rows(folder / "shoes.csv", 11)
    assert planner_for(run, base=folder) is None, "it is not the same manifest any more"


# --- as people see it --------------------------------------------------------------------------------------------


def lines(found: Survey, **said: int) -> str:
    return "\n".join(plan_lines(found, **said))


def test_the_table_says_pictures_bytes_and_dollars(folder: Path) -> None:
    said = lines(survey(job(), base=folder))
    assert "pictures          10  of 10 rows; gemini-2.5-flash-image" in said
    assert "price          $0.19  from $0.19 to $0." in said
    assert "prices of 20" in said
    assert "batch" not in said, "nobody needs to hear of batches for ten pictures"


def test_batches_are_named_where_there_are_many_pictures_or_somebody_asks(folder: Path) -> None:
    found = survey(job(batches={"max_requests": 3}), base=folder)
    assert "in about 4 batches" in lines(found, verbose=1)
    write_rows(folder / "shoes.csv", 600)
    assert "in about 200 batches" in lines(survey(job(batches={"max_requests": 3}), base=folder))


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (1.0, "enough in the worst case"),
        (0.99, "enough for 9 of 10 in the worst case, all if likely"),
        (0.5, "not enough: for 5 of 10 in the worst case, 6 if likely"),
    ],
)
def test_a_cap_is_set_beside_the_estimate(folder: Path, share: float, says: str) -> None:
    found = survey(job(), base=folder)
    assert says in lines(found, cap=int(found.price.high * share))


def test_the_price_is_told_in_parts_that_add_up(folder: Path) -> None:
    (folder / "photo.jpg").write_bytes(PHOTO.read_bytes())
    write_rows(folder / "shoes.csv", 100, photo=lambda n: "photo.jpg")
    found = survey(job(references=["photo"], model="gemini-3-pro-image", search=["web"]), base=folder)
    said = lines(found)
    for part in (
        "pictures $6.72",
        "photos and words $0.0",
        "thinking $0.26",
        "searches $1.40",
        "retries $0.0",
    ):
        assert part in said
    parts = plan_document(found)["usd"]
    assert parts["likely"] == pytest.approx(sum(parts["of"].values()))
    assert "searches" not in lines(survey(job(), base=folder)), "what costs nothing is not listed"


def test_what_may_be_bought_again_is_in_likely_and_high_and_in_no_count(folder: Path) -> None:
    once, twice, often = (survey(job(attempts=n), base=folder).price for n in (1, 2, 10))
    assert once.retrying == 0
    assert 0 < twice.retrying < often.retrying
    assert twice.likely == once.likely + twice.retrying
    assert twice.high == pytest.approx(1.2 * once.high)
    assert often.high < 1.26 * once.high
    assert {(p.low, p.images, p.tokens_out, p.output_bytes) for p in (once, twice, often)} == {
        (once.low, 10, once.tokens_out, once.output_bytes)
    }


def test_problems_are_said_with_their_hint(folder: Path) -> None:
    with_bad_rows(folder)
    found = survey(job(), base=folder)
    said = "\n".join(problem_lines(found))
    assert said.startswith("2 of 12 rows have problems")
    assert "shoes.csv: 2 rows: the prompt is empty, e.g. row 12" in said
    assert question(found) == "2 rows have problems. Shoot the other 10 for about $0.19?"


def test_many_kinds_of_problems_are_counted_beyond_a_dozen(folder: Path) -> None:
    rows = "".join(f"s-{n},Shoe,{n}:7{n}\n" for n in range(1, 16))
    (folder / "shoes.csv").write_text("sku,title,aspect_ratio\n" + rows)
    found = survey(job(), base=folder)
    assert found.bad_rows == 15
    assert len(problem_lines(found)) < 40


@pytest.mark.parametrize(
    ("said", "bears"), [(None, False), (1, False), (2, True), ("2", True), ("16 %", False), ("16.7%", True)]
)
def test_a_job_may_bear_a_few_bad_rows(folder: Path, said: object, bears: bool) -> None:
    with_bad_rows(folder)
    found = survey(job(**({} if said is None else {"max_bad": said})), base=folder)
    assert found.job.bears(found.bad_rows, found.chosen_rows) is bears


def test_a_share_that_is_none_is_said() -> None:
    with pytest.raises(BadInput, match="neither a number nor a share"):
        job(max_bad="few")


def test_what_is_expanded_is_a_manifest_that_asks_for_the_same(folder: Path) -> None:
    """What you see is what is sent: the flat lines, planned, are the very same requests."""
    found = survey(job(prompt="{{ title }} {{ '{{' }} in {{ colour }}", seed=3), base=folder, limit=3)
    lines = [expanded(request) for request in requests_of(found)]
    (folder / "flat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flat = survey(job_for("flat.jsonl"), base=folder)
    assert [r.fingerprint for r in requests_of(flat)] == [line["fingerprint"] for line in lines]
    assert [line["id"] for line in lines] == ["sku-0-main", "sku-1-main", "sku-2-main"]
