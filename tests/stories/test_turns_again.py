"""Conversations night after night: a chain is carried over from its front, and goes on from the last picture it has."""

import pytest

from pipeline.index import read_index
from pipeline.job import Job
from pipeline.tally import tally
from tests.bench import Bench
from tests.test_earlier import Nights

THREE = ["make it night", "now with snow"]


class Talks(Nights):
    """A job whose pictures have follow-ups."""

    def job(self, **said: object) -> Job:
        return super().job(**{"turns": THREE, "model": "gemini-3.1-flash-image"} | said)


@pytest.fixture
def talks(bench: Bench) -> Talks:
    shop = Talks(bench)
    shop.rows(2)
    return shop


def told(run) -> list[tuple[int, str, str | None, str | None]]:
    """What came of each turn, row after row."""
    index = read_index(run).sort_values(["key", "turn"])
    columns = index[["turn", "outcome", "earlier", "continued"]].astype(object)
    return [tuple(row) for row in columns.where(columns.notna(), None).itertuples(index=False)]


def test_a_second_night_costs_nothing_and_has_every_turn(talks: Talks) -> None:
    talks.shoot(1)
    paid = talks.bench.bill()
    found = talks.look()
    assert (found.requests, found.carried, found.follow_ups) == (0, {"ok": 6}, {})
    run = talks.shoot(2).run
    assert talks.bench.bill() == paid
    assert told(run) == [(turn, "reused", "ok", None) for turn in (0, 1, 2)] * 2
    assert set(read_index(run)["made_in"]) == {"shoes-2026-11-01"}
    assert (tally(run).total, tally(run).before) == (6, 6)


def test_a_changed_turn_goes_on_from_the_picture_before_it(talks: Talks) -> None:
    """Only the last turn is bought. It shows the picture of the night before, byte for byte."""
    first = talks.shoot(1).run
    changed = {"turns": ["make it night", "now with rain"]}
    found = talks.look(**changed)
    assert (found.waves, found.carried, found.references) == ((2,), {"ok": 4}, 2)
    assert found.again == {"prompt": [2, "sku-0, main"]}
    second = talks.shoot(2, **changed).run
    assert (
        told(second) == [(0, "reused", "ok", None), (1, "reused", "ok", None), (2, "ok", None, "picture")] * 2
    )
    before, after = read_index(first), read_index(second)
    for key in ("sku-0", "sku-1"):
        night = before[(before["key"] == key) & (before["turn"] == 1)].iloc[0]
        rain = after[(after["key"] == key) & (after["turn"] == 2)].iloc[0]
        (shown,) = rain["references"]
        assert (shown["sha256"], rain["prompt"]) == (night["sha256"], "now with rain")
    third = talks.look(**changed)
    assert (third.requests, third.carried) == (0, {"ok": 6}), "it is known by what it went on from"


def test_a_turn_that_is_added_asks_for_itself_and_nothing_before(talks: Talks) -> None:
    talks.shoot(1)
    longer = {"turns": [*THREE, "closer", "from above"]}
    found = talks.look(**longer)
    assert (found.waves, found.follow_ups) == ((2, 2), {"gemini-3.1-flash-image": 2})
    run = talks.shoot(2, **longer).run
    assert told(run)[3:5] == [(3, "ok", None, "picture"), (4, "ok", None, "conversation")]
    assert tally(run).total == tally(run).answered == 10


def test_a_changed_first_prompt_asks_for_the_whole_chain(talks: Talks) -> None:
    talks.shoot(1)
    found = talks.look(prompt="Sketch of {{ title }}")
    assert (found.waves, found.carried) == ((2, 2, 2), {})


def test_what_follows_an_answer_without_a_picture_is_told_so_again(talks: Talks) -> None:
    """A refusal is carried over, and its follow-ups end as they did, for nothing."""
    talks.bench.service.fault("image_safety", prompt="Shoe 1 ", times=9)
    talks.shoot(1)
    paid = talks.bench.bill()
    run = talks.shoot(2).run
    assert talks.bench.bill() == paid
    index = read_index(run)
    lost = index[index["key"] == "sku-1"].sort_values("turn")
    assert list(lost["outcome"]) == ["reused", "no_parent", "no_parent"]
    assert lost["message"].str.contains("sku-1 main has no picture to go on from: blocked").sum() == 2
    now = tally(run)
    assert now.total == now.answered == 6
    assert (now.likely, now.causes) == (0, {})


def test_what_an_unfinished_night_will_ask_is_on_its_way(talks: Talks) -> None:
    """The follow-ups of what Google has are that night's, not this one's."""
    unfinished = talks.begin(1)
    while unfinished.draw():
        pass
    unfinished.tick()
    found = talks.look()
    assert (found.requests, found.expected) == (0, {"shoes-2026-11-01": 6})
