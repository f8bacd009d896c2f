"""Rows that edit another row's picture: each is asked when that is home, and shown it byte for byte."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pipeline.console import status_lines
from pipeline.drive import Driver
from pipeline.errors import Corrupt
from pipeline.index import read_index
from pipeline.job import Job, job_for
from pipeline.survey import survey
from pipeline.takes import draw, failed
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
    Image.new("RGB", (32, 32), "red").save(bench.folder / "sky.png")
    driver = shoot(
        bench,
        {"id": "night", "prompt": "make it night", "from": "base", "references": "sky.png"},
        {"id": "base", "prompt": "a red shoe"},
        {"id": "snow", "prompt": "with snow", "from": "night", "aspect_ratio": "16:9"},
    )
    index = read_index(driver.run).set_index("key")
    assert dict(index["outcome"]) == dict.fromkeys(("base", "night", "snow"), "ok")
    assert dict(index["continued"].dropna()) == {"night": "picture", "snow": "picture"}
    for child, parent in (("night", "base"), ("snow", "night")):
        assert index.loc[child, "parent"] == {"key": parent, "shot": "main", "variant": 0, "turn": 0}
        assert index.loc[child, "references"][0]["sha256"] == index.loc[parent, "sha256"]
    assert [shown["source"] for shown in index.loc["night", "references"]][1:] == ["sky.png"]
    assert bench.bill() == driver.run.state.spent
    now = tally(driver.run)
    assert (now.total, now.answered, now.pictures, now.sent) == (3, 3, 3, 3)


def test_many_edit_one_picture_by_other_models_too_and_only_those_fail_whose_own_fails(bench: Bench) -> None:
    bench.service.fault("image_safety", prompt="spoon", times=9)
    rows = [
        {"id": f"e{n}", "prompt": f"with a {word}", "from": "base"} for n, word in enumerate(("cup", "spoon"))
    ]
    rows.append({"id": "other", "prompt": "as a sketch", "from": "base", "model": "gemini-2.5-flash-image"})
    rows.append({"id": "on", "prompt": "closer", "from": "e1"})
    driver = shoot(bench, *rows, {"id": "base", "prompt": "a table"})
    index = read_index(driver.run).set_index("key")
    assert dict(index["outcome"]) == {
        "base": "ok",
        "e0": "ok",
        "e1": "blocked",
        "other": "ok",
        "on": "no_parent",
    }
    assert index.loc["on", "message"] == "e1 main has no picture to go on from: blocked"
    assert index.loc["on", "usd"] == 0
    assert bench.bill() == driver.run.state.spent
    now = tally(driver.run)
    assert sum(now.causes.values()) == now.spent - now.likely
    assert now.causes["not sent"] == pytest.approx(-now.likely / 5, rel=0.2), "what was spared is said"


def test_what_is_edited_is_the_end_of_a_conversation_and_an_edit_has_follow_ups_of_its_own(
    bench: Bench,
) -> None:
    driver = shoot(
        bench,
        {"id": "edit", "prompt": "as a poster", "from": "talk", "turns": ["in Spanish"]},
        {"id": "talk", "prompt": "a chart", "turns": ["bigger", "bolder"]},
        {"id": "again", "prompt": "on a wall", "from": "edit"},
    )
    index = read_index(driver.run).set_index(["key", "turn"])
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert index.loc[("edit", 0), "parent"]["turn"] == 2
    assert index.loc[("again", 0), "parent"] == {"key": "edit", "shot": "main", "variant": 0, "turn": 1}
    shown = [index.loc[(key, 0), "references"][0]["sha256"] for key in ("edit", "again")]
    assert shown == [index.loc[("talk", 2), "sha256"], index.loc[("edit", 1), "sha256"]]
    assert index.loc[("edit", 1), "continued"] == "conversation"
    assert index.loc[("edit", 1), "parent"] is None


def test_a_shot_may_edit_the_same_rows_picture_of_another_shot(bench: Bench) -> None:
    """Three views from one: the variants go with each other."""
    shots = {
        "hero": {"prompt": "{{ title }}"},
        "night": {"prompt": "at night", "from": "/hero"},
        "rain": {"prompt": "in rain", "from": "/hero"},
    }
    write(bench.folder, {"id": "a", "title": "boot"}, {"id": "b", "title": "clog"})
    bench.job = edits(shots=shots, variants=2)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run).set_index(["key", "shot", "variant"])
    assert outcomes(read_index(driver.run)) == {"ok": 12}
    for key in ("a", "b"):
        for shot in ("night", "rain"):
            for variant in (0, 1):
                (shown,) = index.loc[(key, shot, variant), "references"]
                assert shown["sha256"] == index.loc[(key, "hero", variant), "sha256"]


def test_a_machine_without_the_manifest_goes_on_with_the_edits(bench: Bench) -> None:
    write(bench.folder, {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y", "from": "a"})
    bench.job = edits()
    driver = bench.begin()
    while driver.draw():
        pass
    (bench.folder / "edits.jsonl").unlink()
    run = driver.run
    Driver(run, bench.backend_of(run), planner=None).to_the_end()
    assert outcomes(read_index(run)) == {"ok": 2}


def test_nothing_settles_before_all_that_waits_is_planned(bench: Bench) -> None:
    """Who would settle a picture before its edits are known would lose them."""
    write(bench.folder, {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y", "from": "a"})
    bench.job = edits()
    driver = bench.begin()
    assert not driver.run.state.may_settle
    assert driver.draw()
    assert driver.run.state.may_settle, "those that wait are planned first"
    driver.to_the_end()
    plans = sorted(driver.run.storage.list("requests/"))
    assert plans == ["requests/00001.jsonl", "requests/00002.jsonl"]


def test_edits_of_a_run_that_is_stopped_are_not_sent(bench: Bench) -> None:
    from pipeline.events import Stopped

    write(bench.folder, {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y", "from": "a", "turns": ["z"]})
    bench.job = edits()
    driver = bench.begin()
    while driver.draw():
        pass
    driver.run.record(Stopped(why="asked"))
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"not_sent": 3}
    assert bench.bill() == 0


def test_an_edit_that_got_lost_is_noticed(bench: Bench) -> None:
    """The books of a run balance, its waves too."""
    write(bench.folder, {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y", "from": "a"})
    bench.job = edits()
    driver = bench.begin()
    while driver.draw():
        pass
    later = next(batch for batch in driver.run.state.batches if batch.waits)
    place = bench.folder / "runs" / "run" / "plan" / f"{later.number:05}.parquet"
    other = bench.folder / "runs" / "run" / "plan" / "00001.parquet"
    place.write_bytes(other.read_bytes())
    with pytest.raises(Corrupt, match="1 rows wait for a picture"):
        driver.to_the_end()


def test_another_night_carries_edits_over_and_asks_only_for_what_changed(bench: Bench) -> None:
    from pipeline.runs import nights
    from pipeline.survey import begin, planner

    home, clock, service = str(bench.folder / "runs"), bench.clock, bench.service.url
    base = {"id": "base", "prompt": "a red shoe"}
    night, snow = ({"id": word, "prompt": word, "from": "base"} for word in ("night", "snow"))
    rows = [night, base, snow, {"id": "late", "prompt": "later", "from": "night"}]

    def look(*rows: dict[str, object]):
        write(bench.folder, *rows)
        job = edits(reuse=["latest 9"])
        return survey(
            job, base=bench.folder, nights=nights(job, folder=home, service=service, clock=clock), runs=home
        )

    def go(day: int, *rows: dict[str, object]):
        found = look(*rows)
        name = f"edits-2026-11-{day:02}"
        run = begin(found, name=name, storage=bench.place(name), service=service, clock=clock, cap=None)
        driver = Driver(run, bench.backend_of(run), planner=planner(found, run))
        driver.to_the_end()
        return run

    go(1, *rows)
    paid = bench.bill()
    same = go(2, *rows)
    assert bench.bill() == paid
    assert outcomes(read_index(same)) == {"reused": 4}
    rows[2] = snow | {"prompt": "deep snow"}
    found = look(*rows)
    assert (found.waves, found.carried) == ((0, 1), {"ok": 3})
    third = go(3, *rows)
    index = read_index(third).set_index("key")
    assert index.loc["snow", "outcome"] == "ok"
    assert index.loc["snow", "references"][0]["sha256"] == index.loc["base", "sha256"]
    assert outcomes(read_index(third)) == {"reused": 3, "ok": 1}
    rows[0] = night | {"prompt": "a darker night"}
    assert look(*rows).waves == (0, 1, 1), "who is made from what changed is made anew"


def test_a_further_take_of_a_lost_picture_brings_its_edits_along(bench: Bench) -> None:
    bench.service.fault("image_safety", prompt="a table", times=1)
    driver = shoot(
        bench,
        {"id": "base", "prompt": "a table"},
        {"id": "edit", "prompt": "with a cup", "from": "base", "turns": ["with two"]},
    )
    run = driver.run
    assert outcomes(read_index(run)) == {"blocked": 1, "no_parent": 2}
    those, paid = failed(run, ["blocked"]), bench.bill()
    assert those[0].follow_ups == 2
    assert draw(run, those) == 1
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 3}
    took = bench.bill() - paid
    assert took <= those[0].high, "all three are in what was said"
    assert set(read_index(run)["take"]) == {2}
    assert len(read_index(run, takes="all")) == 6
    now = tally(run)
    assert (now.total, now.answered, now.pictures, run.state.unreleased) == (3, 3, 3, 0)
    assert now.sent == 3, "two of them only now"
    assert "to send" not in "".join(status_lines(now))
    assert "not sent" not in now.causes
    assert sum(now.causes.values()) == now.spent - now.likely
    assert bench.bill() == run.state.spent


def test_a_further_take_of_a_picture_brings_those_that_were_made_from_it(bench: Bench) -> None:
    """An edit that failed by itself is not asked twice, and the edit of the edit comes along."""
    bench.service.fault("wrong_size", prompt="a table", times=1)
    bench.service.fault("no_image", prompt="with a cup", times=1)
    driver = shoot(
        bench,
        {"id": "base", "prompt": "a table", "aspect_ratio": "1:1"},
        {"id": "cup", "prompt": "with a cup", "from": "base"},
        {"id": "spoon", "prompt": "with a spoon", "from": "base", "turns": ["with two"]},
        {"id": "shelf", "prompt": "on a shelf", "from": "spoon"},
    )
    run = driver.run
    assert outcomes(read_index(run)) == {"wrong_size": 1, "no_image": 1, "ok": 3}
    (again,) = failed(run, ("wrong_size", "no_image"))
    assert (again.source.were, again.source.after) == ({"wrong_size": 1}, {"no_image": 1, "ok": 3})
    bench.service.clear_faults()
    draw(run, [again])
    driver.to_the_end()
    assert outcomes(read_index(run)) == tally(run).outcomes == {"ok": 5}
    assert set(read_index(run)["take"]) == {2}
    assert not failed(run, ("wrong_size", "no_image"))
    assert bench.bill() == run.state.spent


def test_what_an_unfinished_night_will_make_from_its_pictures_is_on_its_way_too(bench: Bench) -> None:
    """The night before still waits for the first picture: its edits, and theirs, are not asked for by the next."""
    from pipeline.runs import nights
    from pipeline.survey import begin, planner

    home, clock, service = str(bench.folder / "runs"), bench.clock, bench.service.url
    base = {"id": "base", "prompt": "a red shoe", "turns": ["larger"]}
    edit = {"id": "edit", "prompt": "by night", "from": "base", "turns": ["with snow"]}
    write(bench.folder, {"id": "late", "prompt": "framed", "from": "edit"}, edit, base)
    found, name = survey(edits(), base=bench.folder), "edits-2026-11-01"
    run = begin(found, name=name, storage=bench.place(name), service=service, clock=clock, cap=None)
    driver = Driver(run, bench.backend_of(run), planner=planner(found, run))
    while driver.draw():
        pass
    driver.tick()
    assert run.state.reserved
    job = edits(reuse=["latest 9"])
    there = nights(job, folder=home, service=service, clock=clock)
    found = survey(job, base=bench.folder, nights=there, runs=home)
    assert (found.requests, found.follow_ups, found.expected) == (0, {}, {name: 5})
