"""Whatever goes wrong and whatever the cap: the books hold against the emulator's cash register."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.errors import NightshootError
from pipeline.index import read_index
from pipeline.night import held_back, release, stop
from pipeline.survey import begin, planner, survey
from tests.bench import Bench
from tests.seams import Hands

HOUR = 3600

READ_ROWS: tuple[dict[str, Any], ...] = (
    {"kind": "text_only"},
    {"kind": "no_image", "times": 1},
    {"kind": "image_safety"},
    {"kind": "prompt_blocked"},
    {"kind": "max_tokens", "times": 1},
    {"kind": "no_content"},
    {"kind": "row_error", "times": 1},
    {"kind": "row_error", "code": 3},
    {"kind": "duplicate_line", "lines": 3},
    {"kind": "unknown_key"},
    {"kind": "two_pictures"},
    {"kind": "no_signature"},
    {"kind": "interim_picture", "pictures": 2},
    {"kind": "broken_picture", "times": 1},
    {"kind": "wrong_size"},
)
READ_JOBS: tuple[dict[str, Any], ...] = (
    {"kind": "job_failed"},
    {"kind": "job_expired"},
    {"kind": "job_cancelled"},
    {"kind": "stats_odd"},
    {"kind": "late_output", "seconds": 2 * HOUR},
    {"kind": "job_stalled", "state": "RUNNING", "seconds": 90 * HOUR},
    {"kind": "job_stalled", "state": "PENDING", "seconds": 5 * HOUR},
)
READ_CALLS: tuple[dict[str, Any], ...] = (
    {"kind": "done_but_error"},
    {"kind": "lost"},
    {"kind": "unsent"},
    {"kind": "refused", "method": "create", "code": 429, "retry_after": 30},
    {"kind": "list_lags", "seconds": 200.0},
)
UNREAD_ROWS: tuple[dict[str, Any], ...] = ({"kind": "missing_line"}, {"kind": "garbage_line"})
UNREAD_JOBS: tuple[dict[str, Any], ...] = (
    {"kind": "late_output", "seconds": 9000 * HOUR},
    {"kind": "cut_last_line"},
    {"kind": "finishes_after_cancel"},
)


@dataclass(frozen=True, slots=True)
class Night:
    """What goes wrong. The same seed is the same night."""

    seed: int
    surface: str
    rows: int
    size: int  # of a batch
    share: float | None  # of the plan's worst case that the cap allows; None: no cap
    faults: tuple[dict[str, Any], ...]
    stopped: int | None  # after so many turns a person says stop
    is_readable: bool
    turns: int  # so many follow-ups has each row


def chosen(seed: int) -> Night:
    chance = random.Random(seed)
    rows = chance.randint(2, 6)
    is_readable = chance.random() < 0.6
    faults = []
    for _ in range(chance.randint(1, 3)):
        kinds = chance.choice((READ_ROWS, READ_ROWS, READ_JOBS, READ_CALLS))
        if not is_readable:
            kinds = chance.choice((kinds, UNREAD_ROWS, UNREAD_JOBS))
        order = chance.choice(kinds)
        if kinds in (READ_ROWS, UNREAD_ROWS):
            order = {"prompt": f"Shoe {chance.randrange(rows)} in"} | order
        elif kinds is not READ_CALLS:
            order = {"display_name": f"-{chance.randrange(3):05}-"} | order
        faults.append(order)
    return Night(
        seed,
        surface=("developer", "vertex")[seed % 2],
        rows=rows,
        size=chance.randint(1, 3),
        share=chance.choice((None, 0.4, 0.7, 1.2)),
        faults=tuple(faults),
        stopped=chance.choice((None, None, 2, 4)),
        is_readable=is_readable,
        turns=chance.choice((0, 0, 1, 2)),
    )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[emulator.Service]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with emulator.start(queue=(1, 30), run=(20, 200), picture_bytes=500, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


def live(bench: Bench, night: Night) -> None:
    """A night until nothing moves any more, and what the books say of it."""
    bench.service.clear_faults()
    bench.key = f"account-{night.seed}"
    is_vertex = night.surface == "vertex"
    said: dict[str, Any] = (
        {"backend": "vertex", "bucket": "shoes/night"} if is_vertex else {"image_size": "512"}
    )
    said["turns"] = [f"{{{{ title }}}} in picture {turn}" for turn in range(night.turns)]
    bench.make_job(rows=night.rows, max_requests=night.size, model="gemini-3.1-flash-image", **said)
    found = survey(bench.job, base=bench.folder)
    cap = None if night.share is None else int(found.price.high * night.share)
    clock = Hands(bench.service)
    storage = bench.place(f"night-{night.seed}")
    run = begin(found, name="run", storage=storage, service=bench.service.url, cap=cap, clock=clock)
    driver = Driver(run, bench.backend_of(run), planner=planner(found, run), workers=1)
    for order in night.faults:
        bench.service.fault(**order)
    work(driver, clock, night)
    clock.sleep(200 * HOUR)
    label = f"nightshoot-{run.created.run}-"
    ledger = bench.service.ledger(rows=False)["jobs"]
    bill = sum(job["nanodollars"] for job in ledger if job["displayName"].startswith(label))
    state = run.state
    assert state.reserved == 0 or not state.finished, night
    assert cap is None or bill - state.overrun <= cap, (night, bill, state.overrun, cap)
    assert cap is None or state.committed - state.overrun <= cap, night
    assert state.spent + state.unconfirmed >= bill, (night, state.spent, state.unconfirmed, bill)
    if night.is_readable:
        assert state.spent == bill, (night, state.spent, bill)
    if state.finished:
        index = read_index(run)
        told = len(index), len(index.drop_duplicates(["key", "turn"]))
        assert told == (night.rows * (1 + night.turns),) * 2, night
        assert not index["message"].astype(str).str.contains("signature").any(), night


def work(driver: Driver, clock: Hands, night: Night) -> None:
    """Until all is home, or nothing moves for a week."""
    chance, idle, turns = random.Random(night.seed), 0, 0
    while not driver.run.state.finished and idle < 24:
        turns += 1
        if turns == night.stopped:
            stop(driver.run, driver.backend, why="asked")
        try:
            moved = driver.step()
        except NightshootError:
            moved = False
        if not moved and release(driver.run, held_back(driver.run)):
            moved = True
        idle = 0 if moved else idle + 1
        if not moved:
            clock.sleep(chance.choice((15, 60, 900)) if idle < 8 else 8 * HOUR)


@pytest.mark.parametrize("block", range(2))
def test_the_books_hold_whatever_goes_wrong(bench: Bench, block: int) -> None:
    """Billed, less what is named as overrun, stays below the cap; spent and unconfirmed cover what was billed; to the
    cent where everything could be read."""
    for seed in range(block * 20, block * 20 + 20):
        live(bench, chosen(seed))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", range(10))
def test_the_books_hold_for_many_nights(bench: Bench, block: int) -> None:
    for seed in range(1000 + block * 50, 1000 + block * 50 + 50):
        live(bench, chosen(seed))
