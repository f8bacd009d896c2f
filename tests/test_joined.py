"""Lines and requests meet by wire id: in whatever order they come, in however many parts."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline import staged
from pipeline.events import Ended, Part, Rows
from pipeline.joined import COLUMNS, joined
from pipeline.run import Run, create_run, staged_file, wire_id
from pipeline.state import Batch, Stage
from tests import events as e
from tests.fakes import FakeClock, MemoryStorage

Line = Mapping[str, Any]


class Read(MemoryStorage):
    """A storage that notes what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        self.names.append(name)
        return super().read(name, start=start, end=end)


def line(place: int, outcome: str = "ok", **more: Any) -> Line:
    return {"wire_id": wire_id(0, place), "outcome": outcome, "text": f"of {place}", "spent": place, **more}


def home(*parts: list[Line]) -> tuple[Run, Batch]:
    """A batch whose result came home in these parts."""
    run = create_run(Read(), FakeClock(), e.created())
    for part, lines in enumerate(parts):
        staged.keep(run.storage, staged_file(0, part), lines)
    ended = Ended(batch=0, how="succeeded", at=e.NOW, parts=tuple(Part("r", n) for n in range(len(parts))))
    return run, Batch(0, Rows(0, 10, e.MODEL), Stage.ENDED, ended=ended)


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_shuffled_answers_find_their_places_and_every_part_is_read_once(parts: int) -> None:
    """However lines lie, the order of the plan is no reason to go through a result again and again."""
    places = list(range(2500))
    random.Random(7).shuffle(places)
    run, batch = home(*([line(place) for place in places[part::parts]] for part in range(parts)))
    with joined(run, batch) as found:
        assert [(found.answer(place) or {})["text"] for place in range(2500)] == [
            f"of {place}" for place in range(2500)
        ]
    assert found.lines == 2500
    assert isinstance(run.storage, Read)
    staged = [name for name in run.storage.names if name.startswith("staged/")]
    assert staged == [staged_file(0, part) for part in range(parts)]


def test_an_answer_is_read_as_it_was_kept() -> None:
    """Times, bytes, lists and what is missing: to the last value what its part holds."""
    picture = {"path": "pictures/a.png", "bytes": 1 << 40, "role": "final", "checks": ["size"]}
    whole = line(
        0, pictures=[picture], numbers={"fill": 0.1}, likeness=b"\0\xff", answered_at=e.NOW, text="\u2028 é"
    )
    run, batch = home([whole])
    (kept,) = staged.rows_in(run.storage, staged_file(0, 0), columns=COLUMNS)
    with joined(run, batch) as found:
        assert found.answer(0) == kept
        assert found.answer(1) is None
    assert (kept["likeness"], kept["answered_at"], kept["message"]) == (b"\0\xff", e.NOW, None)


@pytest.mark.parametrize(
    ("outcomes", "wins"),
    [
        (["ok", "ok", "ok"], 0),
        (["error", "ok", "ok"], 1),
        (["error", "error", "blocked"], 0),
        (["ok", "error", "ok"], 0),
        (["blocked", "error", "ok"], 2),
    ],
)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_of_several_answers_the_first_that_is_ok_wins(outcomes: list[str], wins: int, parts: int) -> None:
    """Also where they lie in several parts. The others are strays, each once."""
    lines = [line(4, outcome, spent=n) for n, outcome in enumerate(outcomes)]
    cut = [lines[: 4 - parts], *([each] for each in lines[4 - parts :])]
    run, batch = home(*cut)
    with joined(run, batch) as found:
        assert (found.answer(4) or {})["spent"] == wins
        strays = {(stray.why, found.line(stray.line)["spent"]) for stray in found.strays}
    assert len(found.strays) == 2
    assert strays == {("second answer", n) for n in range(3) if n != wins}


def test_what_answers_nothing_is_a_stray_with_its_reason_and_its_part() -> None:
    unknown, unreadable = {"outcome": "ok", "spent": 7}, {"raw": b"{"}
    run, batch = home([line(0), unknown], [unreadable, line(1)])
    with joined(run, batch) as found:
        assert [(stray.why, stray.line) for stray in found.strays] == [("unknown id", 1), ("unreadable", 2)]
        assert found.starts == [0, 2]
        assert found.line(1)["spent"] == 7


def test_of_a_batch_that_was_never_sent_nothing_came() -> None:
    run, _ = home()
    with joined(run, Batch(0, Rows(0, 10, e.MODEL), Stage.PLANNED)) as found:
        assert (found.lines, found.strays, found.answer(0)) == (0, [], None)
