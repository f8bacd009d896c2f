"""One answer on its way home: which picture counts, and what becomes of the ones that cannot be read."""

import io
from typing import Any

from PIL import Image

from pipeline.answer import Answer, Keep, Wanted, judged, thoughts, written
from pipeline.backends.base import Drawing, Outcome
from pipeline.checks import Checks, rules_of


def picture(colour: str, side: int = 64) -> Drawing:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return Drawing(file.getvalue(), "image/png")


TORN = Drawing(picture("red").data[:40], "image/png")


def wanted(**said: Any) -> Wanted:
    return Wanted(**({"name": "a", "size": None, "pixels": None, "rules": rules_of(Checks(), "main")} | said))


Kept = dict[str, bytes]


def bring(outcome: Outcome, **said: Any) -> tuple[Answer, str, list[str]]:
    kept: Kept = {}
    answer = written(outcome, batch=0, place=3, wanted=wanted(**said), keep=into(kept))
    assert [picture["path"] for picture in answer.pictures] == list(kept)
    return answer, *judged(outcome, answer, wanted(**said))


def into(kept: Kept) -> Keep:
    def keep(name: str, data: bytes, mime: str) -> None:
        assert mime == "image/png"
        kept[name] = data

    return keep


def test_a_torn_picture_in_a_story_keeps_its_place() -> None:
    """Its words do not come to stand beside another picture, and the row says why there is none."""
    drawings = (picture("red"), TORN, picture("blue"))
    outcome = Outcome(
        "ok", drawings=drawings, order=("First:", None, "Second:", None, "Third:", None, "Enjoy!")
    )
    answer, kind, _ = bring(outcome)
    told = [part["text"] or part["path"] for part in answer.parts]
    paths = [one["path"] for one in answer.pictures]
    assert kind == "ok"
    assert told[:3] == ["First:", paths[0], "Second:"]
    assert "no whole PNG" in told[3]
    assert answer.parts[3]["kind"] == "picture"
    assert told[4:] == ["Third:", paths[1], "Enjoy!"]
    assert [one["role"] for one in answer.pictures] == ["interleaved", "final"]


def test_an_answer_that_ends_in_a_torn_picture_has_none() -> None:
    """An interim result is not taken for the one that was asked for."""
    answer, kind, _ = bring(Outcome("ok", drawings=(picture("red"), TORN), order=(None, None)))
    assert (kind, answer.final) == ("broken", {})
    assert [one["role"] for one in answer.pictures] == ["interleaved"]


def test_of_alternatives_a_torn_one_costs_only_itself() -> None:
    drawings = (TORN, picture("green"), picture("blue"))
    answer, kind, checks = bring(Outcome("ok", drawings=drawings, alternatives=True), pictures=3)
    assert (kind, checks) == ("ok", ["fewer"])
    assert [one["role"] for one in answer.pictures] == ["final", "alternative"]
    assert "/0003-a-2-" in answer.final["path"], "named by its place in the answer"


def test_of_a_story_the_size_of_the_last_decides_and_of_alternatives_that_of_any() -> None:
    drawings = (picture("red", 32), picture("blue", 64))
    story = Outcome("ok", drawings=drawings, order=(None, None))
    answer, kind, checks = bring(story, pixels=(64, 64))
    assert (kind, checks) == ("ok", [])
    assert [one["checks"] for one in answer.pictures] == [["size"], []]
    _, kind, checks = bring(Outcome("ok", drawings=drawings, alternatives=True), pixels=(64, 64), pictures=2)
    assert (kind, checks) == ("wrong_size", ["size"])


def test_what_a_backend_tells_no_order_of_comes_as_it_is() -> None:
    answer, _, _ = bring(Outcome("ok", text="hello", drawings=(picture("red"), picture("blue"))))
    assert [part["kind"] for part in answer.parts] == ["picture", "picture"]


def test_thoughts_go_into_a_folder_of_their_own_and_torn_ones_nowhere() -> None:
    said = Outcome("text_only", thoughts=("Hm.", TORN, picture("red"), "Better."))
    files: Kept = {}
    kept = thoughts(said, batch=0, place=3, wanted=wanted(thoughts=True), keep=into(files))
    assert kept["thoughts"] == "Hm.\n\nBetter."
    (draft,) = kept["thought_pictures"]
    assert draft["path"].startswith("thoughts/00000/0003-a-")
    assert files == {draft["path"]: picture("red").data}
    assert thoughts(said, batch=0, place=3, wanted=wanted(), keep=into(files)) == {}
