"""Tomorrow is cheap: what a night has answered is not asked again, and what changed is, and nothing else."""

from pathlib import Path

import pytest

from pipeline.drive import Driver
from pipeline.earlier import night, nights_of
from pipeline.index import pictures, read_index
from pipeline.job import Job, job_for
from pipeline.overview import plan_document, plan_lines
from pipeline.runs import nights
from pipeline.survey import Survey, begin, planner, planner_for, survey
from pipeline.takes import draw, failed
from pipeline.tally import tally
from tests.bench import Bench, write_rows


class Nights:
    """A job that is shot night after night into one folder of runs."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.folder = bench.folder
        self.home = str(bench.folder / "runs")
        self.rows(6)

    def rows(self, count: int) -> None:
        write_rows(self.folder / "shoes.csv", count)

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "shoes.csv"
        path.write_text(path.read_text().replace(old, new))

    def job(self, **said: object) -> Job:
        said = {
            "prompt": "Photo of {{ title }} in {{ colour }}",
            "model": "gemini-2.5-flash-image",
            "aspect_ratio": "1:1",
            "attempts": 1,
            "batches": {"max_requests": 4},
            "reuse": ["latest 9"],
        } | said
        return job_for("shoes.csv", **said)

    def look(self, **said: object) -> Survey:
        job = self.job(**said)
        clock, service = self.bench.clock, self.bench.service.url
        before = nights(job, folder=self.home, service=service, clock=clock)
        return survey(job, base=self.folder, nights=before, runs=self.home)

    def shoot(self, day: int, **said: object) -> Driver:
        driver = self.begin(day, **said)
        driver.to_the_end()
        return driver

    def begin(self, day: int, **said: object) -> Driver:
        found = self.look(**said)
        name = f"shoes-2026-11-{day:02}"
        run = begin(
            found,
            name=name,
            storage=self.bench.place(name),
            service=self.bench.service.url,
            clock=self.bench.clock,
            cap=None,
        )
        return Driver(run, self.bench.backend(), planner=planner(found, run))


@pytest.fixture
def shop(bench: Bench) -> Nights:
    return Nights(bench)


def test_a_second_night_without_changes_costs_nothing_and_has_every_row(shop: Nights) -> None:
    shop.shoot(1)
    paid = shop.bench.bill()
    run = shop.shoot(2).run
    index = read_index(run)
    assert shop.bench.bill() == paid
    assert list(index["outcome"]) == ["reused"] * 6
    assert list(index["earlier"]) == ["ok"] * 6
    assert set(index["made_in"]) == {"shoes-2026-11-01"}
    now = tally(run)
    assert (now.total, now.before, now.without, now.refused) == (6, 6, 0, 0)
    assert [len(shown.read()) > 100 for shown in pictures(run)] == [True] * 6


def test_every_picture_of_an_answer_and_every_thought_is_carried_over(shop: Nights) -> None:
    said = {"model": "gemini-3-pro-image", "thoughts": True}
    shop.bench.service.fault("two_pictures", prompt="Shoe 2")
    first = read_index(shop.shoot(1, **said).run).set_index("key")
    second = read_index(shop.shoot(2, **said).run).set_index("key")
    assert set(second["outcome"]) == {"reused"}
    assert len(second.loc["sku-2", "pictures"]) == 2
    assert any(len(each) for each in second["thought_pictures"])
    for column in ("pictures", "thought_pictures"):
        assert second[column].map(str).to_dict() == first[column].map(str).to_dict()


def test_the_pointer_is_always_to_the_run_that_made_the_picture(shop: Nights) -> None:
    shop.shoot(1)
    shop.shoot(2, reuse=["shoes-2026-11-01"])
    index = read_index(shop.shoot(3, reuse=["shoes-2026-11-02"]).run)
    assert set(index["made_in"]) == {"shoes-2026-11-01"}
    assert set(index["earlier"]) == {"ok"}


def test_a_further_take_answers_for_the_request_it_was_to_better(shop: Nights) -> None:
    shop.bench.service.fault("image_safety", prompt="Shoe 1 ", times=1)
    first = shop.shoot(1)
    draw(first.run, failed(first.run, ["blocked"]))
    first.to_the_end()
    index = read_index(shop.shoot(2).run)
    assert list(index["earlier"]) == ["ok"] * 6
    assert index["path"].notna().all()


def test_what_an_unfinished_run_has_paid_for_is_not_bought_again(shop: Nights) -> None:
    unfinished = shop.begin(1)
    while unfinished.draw():
        pass
    assert unfinished.submit()
    shop.rows(7)
    found = shop.look()
    assert (found.carried, found.expected) == ({}, {"shoes-2026-11-01": 6})
    assert "  on their way         6  paid for by shoes-2026-11-01, which is not finished" in plan_lines(
        found
    )
    second = shop.shoot(2).run
    assert read_index(second)["earlier"].value_counts().to_dict() == {"on_its_way": 6}
    assert (tally(second).expected, tally(second).without) == (6, 0)
    unfinished.to_the_end()
    third = read_index(shop.shoot(3, reuse=["latest"]).run)
    assert set(third["earlier"]) == {"ok"}, "the second night alone would not know what it left to the first"
    assert sorted(third["made_in"].unique()) == ["shoes-2026-11-01", "shoes-2026-11-02"]


def test_only_what_changed_is_shot_again_and_the_plan_says_why(shop: Nights) -> None:
    shop.shoot(1)
    shop.rows(8)
    shop.edit("Shoe 2,", "Clog 2,")
    found = shop.look()
    assert found.carried == {"ok": 5}
    assert found.again == {"prompt": [1, "sku-2, main"], "new": [2, "sku-6, main"]}
    assert found.requests == 3
    text = "\n".join(plan_lines(found))
    assert "as before          5" in text
    assert "e.g. sku-6, main" in text
    assert plan_document(found)["why_again"]["prompt"] == {"requests": 1, "example": "sku-2, main"}
    index = read_index(shop.shoot(2).run)
    assert index["outcome"].value_counts().to_dict()["ok"] == 3


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"model": "gemini-3-pro-image"}, "model"),
        ({"aspect_ratio": "4:5"}, "settings"),
        ({"prompt": "A drawing of {{ title }}"}, "prompt"),
        ({"system": "Be calm"}, "prompt"),
    ],
)
def test_why_everything_is_shot_again_is_told_by_what_changed(
    shop: Nights, said: dict[str, object], why: str
) -> None:
    shop.shoot(1)
    assert shop.look(**said).again == {why: [6, "sku-0, main"]}


def test_a_photo_that_changed_shoots_exactly_its_rows_again(shop: Nights) -> None:
    photos = sorted((Path(__file__).parent.parent / "sample_manifests" / "photos").glob("*.jpg"))[:3]
    for number in (0, 1):
        (shop.folder / f"{number}.jpg").write_bytes(photos[number].read_bytes())
    write_rows(shop.folder / "shoes.csv", 6, photo=lambda n: f"{n % 2}.jpg")
    shop.shoot(1, references=["photo"])
    (shop.folder / "1.jpg").write_bytes(photos[2].read_bytes())
    found = shop.look(references=["photo"])
    assert (found.carried, found.again) == ({"ok": 3}, {"photo": [3, "sku-1, main"]})


def test_a_new_model_may_be_for_new_rows_only(shop: Nights) -> None:
    shop.shoot(1)
    shop.rows(7)
    found = shop.look(model="gemini-3-pro-image", reuse_across=["model"])
    assert found.carried == {"ok": 6}
    assert found.lanes == {"final": 6, "gemini-3-pro-image": 1}


def test_a_block_is_carried_over_and_what_came_to_nothing_is_tried_on_three_more_nights(shop: Nights) -> None:
    shop.bench.service.fault("image_safety", prompt="Shoe 0 ")
    shop.bench.service.fault("no_image", prompt="Shoe 1 ")
    index = read_index(shop.shoot(1).run).set_index("key")
    assert (index.loc["sku-0", "outcome"], index.loc["sku-1", "outcome"]) == ("blocked", "no_image")
    for day in (2, 3, 4):
        assert shop.look().carried == {"blocked": 1, "ok": 4}
        assert shop.look().again == {"never answered": [1, "sku-1, main"]}
        shop.shoot(day)
    assert shop.look().carried == {"blocked": 1, "no_image": 1, "ok": 4}
    assert shop.look(retry_nights=4).carried == {"blocked": 1, "ok": 4}


def test_a_job_may_leave_what_came_to_nothing_at_that(shop: Nights) -> None:
    shop.bench.service.fault("no_image", prompt="Shoe 1 ")
    shop.shoot(1)
    assert shop.look(retry_nights=0).carried == {"no_image": 1, "ok": 5}


def test_a_picture_that_is_gone_is_named_and_shot_again(shop: Nights) -> None:
    run = shop.shoot(1).run
    path = read_index(run).set_index("key").loc["sku-3", "path"]
    (shop.folder / "runs" / "shoes-2026-11-01" / path).unlink()
    found = shop.look()
    assert found.gone == [f"shoes-2026-11-01/{path}"]
    assert (found.requests, found.again) == (1, {"picture gone": [1, "sku-3, main"]})


def test_what_an_earlier_run_learns_later_does_not_change_a_run_that_was_begun(shop: Nights) -> None:
    """Two drivers of one run find the same, whenever each looks."""
    first = begin(
        found := shop.look(),
        name="shoes-2026-11-01",
        storage=shop.bench.place("shoes-2026-11-01"),
        service=shop.bench.service.url,
        clock=shop.bench.clock,
        cap=None,
    )
    second_found = shop.look()
    second = begin(
        second_found,
        name="shoes-2026-11-02",
        storage=shop.bench.place("shoes-2026-11-02"),
        service=shop.bench.service.url,
        clock=shop.bench.clock,
        cap=None,
    )
    Driver(first, shop.bench.backend(), planner=planner(found, first)).to_the_end()
    assert [one.reused.records for one in nights_of(second)] == [1]
    other = planner_for(second, base=shop.folder)
    assert other is not None
    Driver(second, shop.bench.backend(), planner=other).to_the_end()
    assert set(read_index(second)["outcome"]) == {"ok"}


def test_two_drivers_of_a_night_plan_the_same_bytes(shop: Nights) -> None:
    shop.shoot(1)
    shop.rows(9)
    run = shop.shoot(2).run
    again = planner_for(run, base=shop.folder)
    assert again is not None
    for batch in run.state.batches:
        assert batch.planned is not None
        again.plan_again(batch.number, batch.source)  # raises Corrupt where the bytes differ


def test_a_rehearsal_answers_nothing_for_the_real_service(shop: Nights) -> None:
    shop.shoot(1)
    job = shop.job()
    assert nights(job, folder=shop.home, service="https://example.com", clock=shop.bench.clock) == []


def test_runs_are_named_by_globs_by_count_and_by_place(shop: Nights) -> None:
    for day in (1, 2, 3):
        shop.shoot(day)

    def meant(*reuse: str) -> list[str]:
        job = shop.job(reuse=list(reuse))
        found = nights(job, folder=shop.home, service=shop.bench.service.url, clock=shop.bench.clock)
        return [one.reused.place[-2:] for one in found]

    assert meant("latest 2") == ["03", "02"]
    assert meant("latest") == ["03"]
    assert meant("shoes-*-0[12]", "latest") == ["02", "01", "03"]
    assert meant(f"{shop.home}/shoes-2026-11-01") == ["01"]
    elsewhere = night(shop.bench.place("shoes-2026-11-01"), home="other/runs")
    assert Path(elsewhere.reused.place).is_absolute()
