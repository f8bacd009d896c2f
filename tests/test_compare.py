"""Checks on the way from a job file to the index: what is flagged, what is unfit, and that all drivers say the same."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from benchmarks.products import Product, photo, shot
from pipeline import staged
from pipeline.backends.base import Drawing, Outcome
from pipeline.backends.developer import Developer
from pipeline.drive import Driver
from pipeline.errors import BadInput
from pipeline.index import parts, read_index
from pipeline.job import job_for, read_job
from pipeline.results import Line
from pipeline.run import place_of, staged_file
from tests.bench import Bench, fingerprints, outcomes


def product(n: int) -> Product:
    return Product("watch", n)


class Studio(Developer):
    """The emulator's answers, with pictures of the products in them in place of its own."""

    picture: Callable[[int], bytes]  # by place

    def outcome(self, line: Line) -> Outcome:
        wire = self.line_id(line, ticket="")
        place = place_of(wire, 0) if wire is not None else None
        assert place is not None
        return dataclasses.replace(
            super().outcome(line), drawings=(Drawing(type(self).picture(place), "image/jpeg"),)
        )


def make_shop(bench: Bench, rows: int, **said: object) -> None:
    for n in range(rows):
        (bench.folder / f"{n}.jpg").write_bytes(photo(product(n), Random(n)))
    bench.make_job(rows=rows, max_requests=1000, photo=lambda n: f"{n}.jpg", **{"aspect_ratio": None} | said)


def collected(bench: Bench, picture: Callable[[int], bytes]) -> pd.DataFrame:
    """A run of that shop to its end, with these pictures for answers."""
    studio = type("Studio", (Studio,), {"picture": staticmethod(picture)})
    driver = bench.begin()
    backend = studio(key=bench.key, service=bench.service.url, clock=bench.clock)
    Driver(driver.run, backend, planner=driver._planner).to_the_end()
    return read_index(driver.run)


def flagged(index: pd.DataFrame, check: str) -> list[tuple[str, int]]:
    return sorted((row.key, row.variant) for row in index.itertuples() if check in list(row.checks))


def test_swapped_pictures_are_flagged_and_stay_where_their_keys_say(bench: Bench) -> None:
    """Two answers came under each other's key: the witness names both rows, and moves nothing."""
    make_shop(bench, 8, checks={"swapped": "flag"})
    order = [0, 1, 2, 4, 3, 5, 6, 7]
    index = collected(bench, lambda place: shot(product(order[place]), Random(place)))
    assert flagged(index, "swapped") == [("sku-3", 0), ("sku-4", 0)]
    assert outcomes(index) == {"ok": 8}
    row = index.set_index("key").loc["sku-3"]
    assert row["numbers"]["swapped"] < 0.82
    assert list(row["pictures"][0]["checks"]) == ["swapped"]
    assert (bench.folder / "runs" / "run" / row["path"]).read_bytes() == shot(product(4), Random(3))


def test_a_job_may_take_no_swapped_picture_for_a_success(bench: Bench) -> None:
    make_shop(bench, 4, checks={"swapped": "error"})
    order = [1, 0, 2, 3]
    index = collected(bench, lambda place: shot(product(order[place]), Random(place)))
    assert outcomes(index) == {"ok": 2, "unfit": 2}
    assert set(index[index["outcome"] == "unfit"]["key"]) == {"sku-0", "sku-1"}


def test_nobody_is_suspected_where_nothing_was_swapped(bench: Bench) -> None:
    make_shop(bench, 8, checks={"swapped": "flag"})
    index = collected(bench, lambda place: shot(product(place), Random(place)))
    assert flagged(index, "swapped") == []
    assert all(numbers["swapped"] > 0.82 for numbers in index["numbers"])


def test_two_pictures_of_one_product_that_are_alike_are_flagged(bench: Bench) -> None:
    """Of three variants two are the same. Another product may look like the third: that is no double."""
    make_shop(bench, 2, variants=3, checks={"near_duplicate": "flag"})
    pictures = [(0, 7), (0, 7), (0, 8), (0, 8), (1, 8), (1, 9)]
    index = collected(bench, lambda place: shot(product(pictures[place][0]), Random(pictures[place][1])))
    assert flagged(index, "near_duplicate") == [("sku-0", 0), ("sku-0", 1)]


def test_a_reference_that_comes_back_unchanged_is_flagged(bench: Bench) -> None:
    make_shop(bench, 3, checks={"unchanged": "flag"})
    index = collected(bench, lambda n: (photo if n == 1 else shot)(product(n), Random(n)))
    assert flagged(index, "unchanged") == [("sku-1", 0)]


def test_what_a_job_sets_to_error_is_unfit_kept_and_not_asked_again(bench: Bench) -> None:
    bench.make_job(
        rows=4, max_requests=4, photo=lambda n: "", references=[], checks={"white_background": "error"}
    )
    index = bench.run()
    assert outcomes(index) == {"unfit": 4}
    assert set(index["message"]) == {"fails what the job sets to error: white_background"}
    assert set(index["attempt"]) == {1}
    assert all((Path(bench.place().url) / path).is_file() for path in index["path"])
    assert sum(job["rows"] for job in bench.service.ledger()["jobs"]) == 4


def test_without_checks_nothing_is_measured(bench: Bench) -> None:
    make_shop(bench, 2)
    driver = bench.begin()
    driver.to_the_end()
    likenesses = staged.column_in(driver.run.storage, staged_file(0, 0), "likeness")
    assert likenesses == [None, None]
    index = read_index(driver.run)
    assert [list(words) for words in index["checks"]] == [[], []]


def test_many_parts_and_a_second_driver_say_the_same(bench: Bench) -> None:
    make_shop(bench, 8, checks={"profile": "amazon-main"})
    whole, cut = bench.begin(), bench.begin(storage=bench.place("cut"), part_bytes=20_011)
    for driver in (whole, cut):
        driver.to_the_end()
    assert [*parts(whole.run)] == [*parts(cut.run)]
    assert fingerprints(whole.run.storage, ["pictures"]) == fingerprints(cut.run.storage, ["pictures"])


def test_checks_are_read_from_a_job_and_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = 'manifest = "m.csv"\n[checks]\nprofile = "merchant"\nfill = "off"\nshots.hero = "amazon-main"\n'
    text += '[shots.hero]\nprompt = "x"\n'
    (tmp_path / "job.toml").write_text(text)
    checks = read_job(tmp_path / "job.toml").checks
    assert (checks.profile, checks.fill, checks.shots) == ("merchant", "off", {"hero": "amazon-main"})
    (tmp_path / "job.toml").write_text(
        text.replace('"off"', '"warn"').replace("merchant", "ebay").replace("shots.hero =", "shots.hro =")
    )
    with pytest.raises(BadInput) as refused:
        read_job(tmp_path / "job.toml")
    said = f"{refused.value} {refused.value.hint}"
    assert all(word in said for word in ("ebay", "warn", "hro"))


def test_a_check_can_be_set_from_the_command_line() -> None:
    job = job_for("m.csv", prompt="x").with_settings({"checks.profile": "merchant", "checks.blank": "flag"})
    assert (job.checks.profile, job.checks.blank) == ("merchant", "flag")


def test_a_limit_that_nobody_named_is_not_held_against_anything() -> None:
    """No shop, no least side: what could never say anything is not taken in silence."""
    with pytest.raises(BadInput) as refused:
        job_for("m.csv", prompt="x", checks={"min_side": "error", "file_size": "flag", "blank": "flag"})
    said = [f"{name}: no limit to hold it against" for name in ("min_side", "file_size")]
    assert all(words in str(refused.value) for words in said)
    assert "2 problems" in str(refused.value)
    shops: list[dict[str, object]] = [
        {"profile": "merchant"},
        {"shots": {"main": "merchant"}},
        {"min_side": "off", "file_size": "off"},
    ]
    for said in shops:
        assert job_for("m.csv", prompt="x", checks={"min_side": "error", "file_size": "flag"} | said).checks
