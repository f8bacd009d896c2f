"""Rows with follow-ups: each turn is asked when the one before it is home, with the whole conversation before it."""

import json
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import msgspec
import pytest
from PIL import Image

from pipeline import emulator, takes
from pipeline.drive import Driver
from pipeline.errors import Corrupt, Refused
from pipeline.events import Capped, Stopped, Turns
from pipeline.index import read_index
from pipeline.money import nanos
from pipeline.run import Run, create_run
from pipeline.survey import planner, survey
from pipeline.tally import tally
from tests.bench import Bench, outcomes

THINKS = "gemini-3.1-flash-image"
SURFACES = {"developer": {}, "vertex": {"backend": "vertex", "bucket": "shoes/night"}}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a job says to have its pictures made there."""
    return SURFACES[request.param]


def lines_of(run: Run) -> dict[tuple[str, int], dict[str, Any]]:
    """What was asked last in each turn of each row, as it is stored."""
    by_wire = {}
    for name in run.storage.list("requests/"):
        told = map(json.loads, run.storage.read(name).splitlines())
        by_wire |= {line["key"]: line["request"] for line in told}
    found = {}
    for row in read_index(run).itertuples():
        if (wire := f"b{row.batch:05}-{row.place:04}") in by_wire:
            found[str(row.key), int(row.turn)] = by_wire[wire]
    return found


def opened(run: Run, path: str) -> Image.Image:
    return Image.open(BytesIO(run.storage.read(path))).convert("RGB")


def shown_in(picture: Image.Image, count: int) -> list[tuple[int, ...]]:
    """The colours of the strip at the lower end: what the model was shown, in order."""
    bottom = picture.height - picture.height // 40
    return [
        picture.getpixel(((2 * n + 1) * picture.width // (2 * count), bottom))  # type: ignore[misc]
        for n in range(count)
    ]


def colour(picture: Image.Image) -> tuple[int, ...]:
    return picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[return-value]


def is_near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(one, other, strict=True))


def refused(bench: Bench) -> list[str]:
    """What the service had to say against requests of ours."""
    rows = bench.service.ledger()["rows"]
    return [row["error"] for row in rows if row.get("error")]


def test_each_turn_is_asked_with_the_conversation_before_it(bench: Bench, surface: dict[str, Any]) -> None:
    """Three rows, two follow-ups each: nine pictures in three waves, and the bill is right to the cent."""
    bench.make_job(rows=3, model=THINKS, turns=["make it night", "add snow to {{ title }}"], **surface)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 9}
    assert driver.run.state.spent == bench.bill()
    asked = lines_of(driver.run)
    for n in range(3):
        first, second, third = (asked[f"sku-{n}", turn]["contents"] for turn in range(3))
        made = [index[(index.key == f"sku-{n}") & (index.turn == turn)].iloc[0] for turn in range(3)]
        assert third[:3] == second[:3]
        assert second[0] == first[0]
        assert [content["role"] for content in third] == ["user", "model"] * 2 + ["user"]
        assert third[4]["parts"] == [{"text": f"add snow to Shoe {n}"}]
        for place, row in ((1, made[0]), (3, made[1])):
            picture = next(part for part in third[place]["parts"] if "inlineData" in part)
            assert picture["inlineData"]["data"] == f"nightshoot:picture/{row.sha256}/{row.bytes}/{row.path}"
            assert picture["thoughtSignature"]
        assert [row.continued for row in made[1:]] == ["conversation", "conversation"]
        assert made[2].prompt_tokens > made[1].prompt_tokens > made[0].prompt_tokens
        before = [colour(opened(driver.run, row.path)) for row in made[:2]]
        drawn = shown_in(opened(driver.run, made[2].path), 2)
        assert all(map(is_near, drawn, before)), "the model saw both earlier pictures, in their order"


def test_a_turn_may_have_settings_of_its_own(bench: Bench, surface: dict[str, Any]) -> None:
    """Another language, ratio and level in turn two come back so; turn three has what the shot says."""
    turns = [{"prompt": "Now in Spanish", "aspect_ratio": "16:9", "thinking": "high"}, "Back to the square"]
    bench.make_job(rows=2, model=THINKS, turns=turns, **surface)
    index = bench.run()
    assert outcomes(index) == {"ok": 6}
    sizes = index.sort_values(["key", "turn"])[["width", "height"]].to_numpy().tolist()
    assert sizes == [[1024, 1024], [1376, 768], [1024, 1024]] * 2
    levels = {int(row.turn): row.thinking for row in index.itertuples() if isinstance(row.thinking, str)}
    assert levels == {1: "high"}


def test_a_larger_picture_can_come_of_a_smaller_one(bench: Bench) -> None:
    bench.make_job(
        rows=1, model=THINKS, image_size="512", turns=[{"prompt": "the same, larger", "image_size": "2K"}]
    )
    index = bench.run()
    assert index["width"].tolist() == [512, 2048]


def test_without_signatures_the_picture_alone_goes_on(bench: Bench, surface: dict[str, Any]) -> None:
    """The model's words cannot be told to it again, so the next turn is shown the picture; and the index says so."""
    bench.service.fault("no_signature", prompt="Shoe 1")
    bench.make_job(rows=3, model=THINKS, turns=["make it night", "add snow"], **surface)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run).set_index(["key", "turn"])
    assert outcomes(index) == {"ok": 9}
    assert driver.run.state.spent == bench.bill()
    assert index.loc[("sku-1", 1), "continued"] == "picture"
    assert index.loc[("sku-1", 2), "continued"] == "conversation", "what came signed is told again"
    assert index.loc[("sku-0", 1), "continued"] == "conversation"
    first, second = index.loc[("sku-1", 0)], index.loc[("sku-1", 1)]
    assert [shown["sha256"] for shown in second["references"]] == [first["sha256"]]
    contents = lines_of(driver.run)["sku-1", 1]["contents"]
    assert [list(part) for content in contents for part in content["parts"]] == [["fileData"], ["text"]]
    (drawn,) = shown_in(opened(driver.run, second["path"]), 1)
    assert is_near(drawn, colour(opened(driver.run, first["path"])))
    third = lines_of(driver.run)["sku-1", 2]["contents"]
    assert third[0] == contents[0]


def test_a_model_that_does_not_think_needs_no_signatures(bench: Bench, surface: dict[str, Any]) -> None:
    bench.make_job(rows=2, turns=["make it night"], **surface)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 4}
    assert index["continued"].dropna().tolist() == ["conversation"] * 2
    (_, said, _) = lines_of(driver.run)["sku-0", 1]["contents"]
    assert not any("thoughtSignature" in part for part in said["parts"])


def test_references_are_shown_again_in_every_turn(bench: Bench, surface: dict[str, Any]) -> None:
    for name in ("red", "blue"):
        Image.new("RGB", (64, 64), name).save(bench.folder / f"{name}.png")
    photos = ["red.png", "blue.png"]
    bench.make_job(rows=2, model=THINKS, photo=lambda n: photos[n], turns=["make it night"], **surface)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run).set_index(["key", "turn"])
    assert outcomes(index) == {"ok": 4}
    for n, shown in enumerate([(255, 0, 0), (0, 0, 255)]):
        first, second = (opened(driver.run, index.loc[(f"sku-{n}", turn), "path"]) for turn in (0, 1))
        drawn = shown_in(second, 2)
        assert is_near(drawn[0], shown)
        assert is_near(drawn[1], colour(first))


def test_what_comes_after_a_picture_that_was_not_made_ends_with_its_reason(bench: Bench) -> None:
    """Two follow-ups each: those of the blocked row cost nothing, and are in the index with the reason."""
    bench.service.fault("image_safety", prompt="photo of Shoe 1")
    bench.service.fault("image_safety", prompt="Shoe 2 by night")
    bench.make_job(rows=3, model=THINKS, turns=["{{ title }} by night", "add snow"])
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run).set_index(["key", "turn"])
    assert driver.run.state.spent == bench.bill()
    assert driver.run.state.finished
    assert len(index) == 9
    ended = {
        f"sku-{n}": [str(index.loc[(f"sku-{n}", turn), "outcome"]) for turn in range(3)] for n in range(3)
    }
    assert ended == {
        "sku-0": ["ok"] * 3,
        "sku-1": ["blocked", "no_parent", "no_parent"],
        "sku-2": ["ok", "blocked", "no_parent"],
    }
    assert index.loc[("sku-2", 2), "message"] == "sku-2 main, turn 1 has no picture to go on from: blocked"
    causes = tally(driver.run).causes
    assert causes["not sent"] < 0
    assert "asked again" not in causes or abs(causes["asked again"]) < -causes["not sent"] / 10
    for turn in (1, 2):
        row = index.loc[("sku-1", turn)]
        assert row["message"] == "sku-1 main has no picture to go on from: blocked"
        assert row["usd"] == 0
    assert driver.run.state.committed == driver.run.state.spent


def test_another_attempt_keeps_what_comes_after_it(bench: Bench) -> None:
    bench.service.fault("no_image", prompt="Shoe 1", times=1)
    bench.make_job(rows=3, model=THINKS, turns=["make it night"])
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert driver.run.state.spent == bench.bill()
    again = index[(index.key == "sku-1")].set_index("turn")
    assert again["attempt"].to_dict() == {0: 2, 1: 1}


def test_a_further_take_brings_what_comes_after_it(bench: Bench) -> None:
    """A person asks once more for what was blocked: it has its follow-ups then, and nothing counts twice."""
    bench.service.fault("image_safety", prompt="Shoe 1", times=1)
    bench.make_job(rows=3, model=THINKS, turns=["make it night", "add snow"])
    driver = bench.begin()
    driver.to_the_end()
    assert tally(driver.run).outcomes == {"ok": 6, "blocked": 1, "no_parent": 2}
    assert not takes.failed(driver.run, ("no_parent",)), "its parent is to be asked again"
    takes.draw(driver.run, takes.failed(driver.run, ("blocked",)))
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 9}
    assert index[index.key == "sku-1"].sort_values("turn")["take"].tolist() == [2, 2, 2]
    assert driver.run.state.spent == bench.bill()
    counted = tally(driver.run)
    assert (counted.outcomes, counted.answered, counted.total) == ({"ok": 9}, 9, 9)
    assert len(read_index(driver.run, takes="all")) == 12


def test_a_further_take_of_a_wrong_size_replaces_what_follows_it(bench: Bench) -> None:
    """Its follow-ups were made from what it was: all of them are made anew, and each counts once."""
    bench.service.fault("wrong_size", prompt="photo of Shoe 1", times=1)
    bench.make_job(rows=2, model=THINKS, turns=["make it night", "add snow"])
    driver = bench.begin(canary=False)
    driver.to_the_end()
    run = driver.run
    before = read_index(run).set_index(["key", "turn"])
    assert tally(run).outcomes == {"ok": 5, "wrong_size": 1}
    (again,) = takes.failed(run, ("wrong_size",))
    assert (again.source.after, again.follow_ups) == ({"ok": 2}, 2)
    assert again.high > again.likely > 3 * before.loc[("sku-1", 0), "usd"] * 0.9e9, "for all three"
    takes.draw(run, [again])
    now = tally(run)
    assert (now.outcomes, now.answered) == ({"no_parent": 2, "ok": 3}, 5)
    driver.to_the_end()
    after = read_index(run).set_index(["key", "turn"])
    assert after.loc["sku-1"]["take"].to_dict() == {0: 2, 1: 2, 2: 2}
    assert set(after.loc["sku-1"]["sha256"]).isdisjoint(before.loc["sku-1"]["sha256"])
    now = tally(run)
    assert (now.outcomes, now.answered, now.total) == ({"ok": 6}, 6, 6)
    assert run.state.spent == bench.bill()


def test_what_comes_along_with_a_further_take_is_not_asked_by_itself_too(bench: Bench) -> None:
    """The picture of the wrong size and the failed follow-up of it: asked for both, the second would be paid twice."""
    bench.service.fault("wrong_size", prompt="photo of Shoe 1", times=1)
    bench.service.fault("no_image", prompt="Shoe 1 by night", times=1)
    bench.make_job(rows=2, model=THINKS, attempts=1, turns=["{{ title }} by night", "add snow"])
    driver = bench.begin(canary=False)
    driver.to_the_end()
    run = driver.run
    assert tally(run).outcomes == {"no_image": 1, "no_parent": 1, "ok": 3, "wrong_size": 1}
    both = takes.failed(run, ("wrong_size", "no_image"))
    assert [each.source.were for each in both] == [{"wrong_size": 1}]
    bench.service.clear_faults()
    assert takes.draw(run, both) == 1
    assert not takes.failed(run, ("wrong_size", "no_image")), "it is on its way, and brings the other along"
    driver.to_the_end()
    assert not takes.failed(run), "what was replaced has its picture"
    assert outcomes(read_index(run)) == tally(run).outcomes == {"ok": 6}
    assert not read_index(run, takes="all").duplicated(["key", "turn", "take"]).any()
    assert run.state.spent == bench.bill()


def test_the_newest_picture_counts_whichever_was_asked_again_first(bench: Bench) -> None:
    """First the follow-up twice, then what it follows: its third take was made from a picture that is replaced."""
    bench.service.fault("wrong_size", prompt="photo of Shoe 0", times=1)
    bench.service.fault("no_image", prompt="by night", times=9)
    bench.make_job(rows=1, model=THINKS, attempts=1, turns=["{{ title }} by night"])
    driver = bench.begin(canary=False)
    driver.to_the_end()
    run = driver.run
    for outcome in ("no_image", "no_image", "wrong_size"):
        if outcome == "wrong_size":
            bench.service.clear_faults()
        assert takes.draw(run, takes.failed(run, (outcome,))) == 1
        driver.to_the_end()
    index = read_index(run).set_index("turn")
    assert index["take"].to_dict() == {0: 4, 1: 4}
    assert "take4" in index.loc[1, "path"]
    assert (tally(run).outcomes, tally(run).answered) == ({"ok": 2}, 2)
    assert run.state.spent == bench.bill()


def test_a_picture_is_not_replaced_while_others_are_made_from_it(bench: Bench) -> None:
    bench.service.fault("wrong_size", prompt="photo of Shoe 1", times=1)
    bench.make_job(rows=2, model=THINKS, turns=["make it night"])
    driver = bench.begin(canary=False)
    while not driver.run.state.turns_open:
        driver.step() or driver.run.clock.sleep(5)
    assert not takes.failed(driver.run, ("wrong_size",))
    driver.to_the_end()
    assert takes.failed(driver.run, ("wrong_size",))


def test_what_a_further_take_brings_goes_apart_from_what_was_never_asked(bench: Bench) -> None:
    """Who asks again while the run goes on: first orders are counted as the plan said them."""
    bench.service.fault("image_safety", prompt="photo of Shoe 1", times=1)
    bench.make_job(rows=3, model=THINKS, max_requests=9, turns=["make it night"])
    driver = bench.begin(canary=False)
    while not driver.run.state.turns_open:
        driver.step() or driver.run.clock.sleep(5)
    run = driver.run
    takes.draw(run, takes.failed(run, ("blocked",)))
    driver.to_the_end()
    assert tally(run).outcomes == {"ok": 6}
    assert tally(run).sent == 6, "one of them for the first time as what a further take brought along"
    assert run.state.spent == bench.bill()


def test_a_deadline_between_two_waves_ends_the_run(bench: Bench) -> None:
    """What the second wave would have asked is not sent, each with its row; what is out is given up."""
    bench.make_job(
        rows=3, max_requests=3, model=THINKS, turns=["make it night", "snow"], night={"deadline": "1h"}
    )
    driver = bench.begin()
    run = driver.run
    while not run.state.turns_open:
        driver.step() or run.clock.sleep(5)
    run.clock.sleep(3600)
    driver.to_the_end()
    assert run.state.stopped is not None
    assert run.state.stopped.why == "deadline"
    assert outcomes(read_index(run)) == {"ok": 3, "not_sent": 6}
    assert run.state.committed == run.state.spent == bench.bill()


def test_a_run_that_is_stopped_has_every_turn_in_its_index(bench: Bench) -> None:
    """Stopped when the first wave is home: what was never asked is not sent, and nothing more is paid."""
    bench.make_job(rows=3, model=THINKS, turns=["make it night", "add snow"])
    driver = bench.begin()
    while not driver.run.state.turns_open:
        driver.step() or driver.run.clock.sleep(5)
    driver.run.record(Stopped(why="asked"))
    driver.to_the_end()
    index = read_index(driver.run)
    assert driver.run.state.finished
    assert not index.duplicated(["key", "turn"]).any()
    assert len(index) == 9
    assert outcomes(index) == {"ok": int((index.turn == 0).sum()), "not_sent": 6}
    assert driver.run.state.spent == bench.bill()


def test_the_cap_holds_for_every_wave(bench: Bench) -> None:
    """Each wave reserves when it is sent: the second finds no room, is said to, and goes when there is some."""
    bench.make_job(rows=3, model=THINKS, max_requests=3, turns=["make it night"])
    cap = nanos(0.15)
    driver = bench.begin(cap=cap)
    with pytest.raises(Refused, match="has no room for more"):
        driver.to_the_end()
    assert driver.run.state.spent == bench.bill() <= cap
    assert Counter(read_index(driver.run)["turn"]) == {0: 3}
    driver.run.record(Capped(cap=nanos(10)))
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert driver.run.state.spent == bench.bill()


def test_a_picture_that_is_gone_stops_the_turn_and_nothing_else(bench: Bench) -> None:
    """The error names the picture, nothing is sent, and with the picture back the run goes on."""
    bench.make_job(rows=2, model=THINKS, turns=["make it night"])
    driver = bench.begin()
    while not driver.run.state.turns_open:
        driver.step() or driver.run.clock.sleep(5)
    path = str(read_index(driver.run).iloc[0]["path"])
    picture = bench.folder / "runs" / "run" / path
    data, bill = picture.read_bytes(), bench.bill()
    picture.unlink()
    with pytest.raises(Corrupt, match=f"{path} is gone"):
        driver.to_the_end()
    picture.write_bytes(data[:-1])
    with pytest.raises(Corrupt, match=f"{path} is not what the model made"):
        bench.again().to_the_end()
    assert bench.bill() == bill
    picture.write_bytes(data)
    again = bench.again()
    again.to_the_end()
    assert outcomes(read_index(again.run)) == {"ok": 4}


def test_follow_ups_are_cut_by_what_their_conversations_weigh(bench: Bench) -> None:
    """Each carries a picture of some 50 kB: three fit where eight first prompts did."""
    bench.make_job(rows=8, model=THINKS, max_requests=100, turns=["make it night"])
    bench.job = bench.job.with_settings({"batches.max_bytes": 200_000})
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 16}
    waves = [batch for batch in driver.run.state.batches if isinstance(batch.source, Turns)]
    sizes = [batch.planned.sent_bytes for batch in waves if batch.planned is not None]
    assert len(sizes) > 2
    assert max(sizes) <= 200_000
    assert driver.run.state.spent == bench.bill()


def test_turns_go_online_too(bench: Bench) -> None:
    """A proof asks every turn at once, one after the other."""
    bench.make_job(rows=2, model=THINKS, turns=["make it night", "add snow"])
    driver = bench.begin()
    online = msgspec.structs.replace(driver.run.created, online=True)
    run = create_run(bench.place("proof"), bench.clock, online)
    driver = Driver(run, bench.backend(), planner=planner(survey(bench.job, base=bench.folder), run))
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 6}
    assert run.state.spent == bench.bill()
