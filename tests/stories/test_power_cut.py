"""The power goes at every single write, before it landed and after: nothing is lost, and nothing is paid twice."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from pipeline import emulator
from pipeline.index import read_index
from pipeline.run import Run
from tests.bench import Bench, fingerprints
from tests.faulty import Dying, PowerCut

MADE = ("references", "plan", "requests", "pictures", "index", "retry", "quarantine")
"""Every folder of a run but journal/, where times and writers are, and staged/, which names remote files."""

When = Literal["before", "after"]
both = pytest.mark.parametrize("when", ["before", "after"])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Little time and little pictures, for a hundred runs."""
    for name, colour in ("red.png", "red"), ("blue.png", "blue"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=1000) as service:
        yield Bench(service, tmp_path)


def job_of(bench: Bench, rows: int) -> None:
    """A batch for each row; every other row is shown the same photo."""
    bench.make_job(
        rows=rows,
        max_requests=1,
        model="gemini-3.1-flash-image",
        image_size="512",
        photo=lambda n: ("red.png", "blue.png")[n % 2],
    )


def reference(bench: Bench) -> tuple[Run, int]:
    """A run that nothing happened to, and how many writes it took."""
    storage = Dying(bench.place("reference"))
    driver = bench.begin(storage=storage)
    driver.to_the_end()
    return driver.run, len(storage.writes)


def cut_and_resumed(bench: Bench, n: int, when: When) -> Run:
    """A run whose storage died at its n-th write, finished by another driver."""
    bench.key = f"key of run {n}"  # an account each, so that nobody reads the listings of all runs before
    storage = bench.place(str(n))
    with pytest.raises(PowerCut):
        bench.begin(storage=Dying(storage, at=n, when=when)).to_the_end()
    driver = bench.go_on(storage=storage)
    driver.to_the_end()
    return driver.run


def assert_paid_once(bench: Bench, runs: list[Run], *, batches: int) -> None:
    """By the emulator's own count, which knows of every job that was ever accepted."""
    paid = bench.paid()
    assert set(paid.values()) == {1}, [label for label, times in paid.items() if times != 1]
    jobs = Counter(label.split("-")[1] for label in paid)
    assert jobs == {run.created.run: batches for run in runs}


@both
def test_a_run_cut_at_any_write_ends_as_one_that_was_never_cut(bench: Bench, when: When) -> None:
    """The same names and the same bytes, picture for picture and file for file."""
    job_of(bench, rows=3)
    whole, writes = reference(bench)
    expected = fingerprints(whole.storage, MADE)
    runs = [whole]
    for n in range(1, writes + 1):
        runs.append(cut_and_resumed(bench, n, when))
        assert fingerprints(runs[-1].storage, MADE) == expected, f"cut {when} write {n}"
    assert_paid_once(bench, runs, batches=3)


@both
def test_a_row_that_is_tried_again_survives_any_cut_too(bench: Bench, when: When) -> None:
    """Retries may be drawn at another moment: the rows, their outcomes and their pictures are the same."""

    def one_bad_row() -> None:
        bench.service.clear_faults()
        bench.service.fault("no_image", prompt="Shoe 1", times=1)

    job_of(bench, rows=2)
    one_bad_row()
    whole, writes = reference(bench)
    expected = answers(whole)
    assert sorted(attempt for _, _, attempt in expected.values()) == [1, 2]
    runs = [whole]
    # What comes before the retries is cut at every write above; of those from there on, all are.
    for n in (*range(1, writes // 2, 4), *range(writes // 2, writes + 1)):
        one_bad_row()
        runs.append(cut_and_resumed(bench, n, when))
        assert answers(runs[-1]) == expected, f"cut {when} write {n}"
    assert_paid_once(bench, runs, batches=3)


def answers(run: Run) -> dict[tuple[Any, ...], tuple[str, str, int]]:
    """What came of every request: its outcome, its picture's digest as the file has it, and its attempts."""
    index = read_index(run)
    found = {
        (row.key, row.shot, row.variant, row.turn): (row.outcome, digest(run, row.path), row.attempt)
        for row in index.itertuples()
    }
    assert len(found) == len(index), "no request is there twice"
    return found


def digest(run: Run, picture: str) -> str:
    return hashlib.sha256(run.storage.read(picture)).hexdigest()
