"""A chain of three waves, three edits of each picture and a follow-up of each edit, killed at every record.

Whoever goes on ends with the same pictures under the same names, each paid for once.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.index import read_index
from pipeline.job import job_for
from tests.bench import Bench, fingerprints, outcomes
from tests.stories.test_turns_killed import MADE, When, bill_of, killed, told, whole

EDITS = ("at night", "in snow", "from above")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=500, buckets=("shoes",)) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        yield Bench(service, tmp_path)


def chain(bench: Bench, surface: str, *, roots: int) -> None:
    """The edits stand before what they edit. One picture is blocked, and one edit of another."""
    bench.service.clear_faults()
    bench.service.fault("image_safety", prompt="shoe 1 on", times=1)
    bench.service.fault("image_safety", prompt="edit 0 at night", times=1)
    rows: list[dict[str, object]] = []
    for n in range(roots):
        for k, words in enumerate(EDITS):
            row = {"id": f"e{n}-{k}", "from": f"shoe{n}", "turns": [f"closer, {n}"]}
            rows.append(
                {
                    **row,
                    "prompt": f"edit {n} {words}",
                    "size": ("1K", "512")[k % 2 and surface == "developer"],
                }
            )
        rows.append({"id": f"shoe{n}", "prompt": f"shoe {n} on white", "size": "1K"})
    (bench.folder / "chain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    on_vertex = {"backend": "vertex", "bucket": "shoes/night"} if surface == "vertex" else {}
    bench.job = job_for("chain.jsonl", model="gemini-3.1-flash-image", attempts=1, **on_vertex)


def sweep(bench: Bench, surface: str, *, roots: int, when: When, places: slice = slice(None)) -> None:
    folders = [name for name in MADE if surface == "developer" or name != "index"]
    chain(bench, surface, roots=roots)
    first, records = whole(bench, f"{surface}-whole")
    assert outcomes(read_index(first)) == {"ok": 7 * roots - 9, "blocked": 2, "no_parent": 7}
    made, came, price = fingerprints(first.storage, folders), told(first), bill_of(bench, first)
    assert first.state.spent == price
    for at in records[when == "before" :][places]:
        chain(bench, surface, roots=roots)
        run = killed(bench, f"{surface}-{when}-{at}", at, when)
        assert (run.state.finished, run.state.unreleased) == (True, 0)
        assert fingerprints(run.storage, folders) == made, (surface, when, at)
        assert told(run) == came, (surface, when, at)
        assert bill_of(bench, run) == run.state.spent == price, (surface, when, at)


@pytest.mark.parametrize(("surface", "when", "first"), [("developer", "before", 0), ("vertex", "after", 2)])
def test_edits_of_a_killed_run_are_made_once(bench: Bench, surface: str, when: When, first: int) -> None:
    """Every fourth record; all of them where there is time."""
    sweep(bench, surface, roots=2, when=when, places=slice(first, None, 4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("surface", ["developer", "vertex"])
def test_fifty_pictures_and_their_edits_killed_at_any_record(bench: Bench, surface: str, when: When) -> None:
    sweep(bench, surface, roots=50, when=when)
