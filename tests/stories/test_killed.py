"""A process that is killed, again and again, and another one that finishes what it began."""

import random
import sys
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.events import Ended
from pipeline.index import read_index
from pipeline.run import Run, open_run
from pipeline.survey import PART_BYTES
from tests.bench import Bench, fingerprints, outcomes
from tests.stories.processes import finish, kill, release, start

MADE = ("plan", "requests", "pictures", "index")


def test_a_run_survives_every_process_that_worked_on_it(bench: Bench) -> None:
    """Killed right after an intent, right after a create call, while pictures are written, and before the books
    are closed; the fifth process comes to the end. Each batch is paid once, and the files are those of a quiet run.
    """
    bench.make_job(rows=6, max_requests=2, model="gemini-3.1-flash-image", image_size="512")
    quiet = bench.begin(storage=bench.place("quiet"))
    quiet.to_the_end()
    run = bench.begin().run
    url = run.storage.url
    kill(bench, url, "after", "submitting")
    kill(bench, url, "before", "submitted")
    kill(bench, url, "after", "pictures/")
    kill(bench, url, "before", "collected")
    last = start(bench, url)
    release(last)
    finish([last])
    run = open_run(bench.place(), bench.clock)
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": 6}
    assert fingerprints(run.storage, MADE) == fingerprints(quiet.run.storage, MADE)
    assert set(bench.paid().values()) == {1}
    assert len(bench.paid()) == 6
    assert [batch.replaced for batch in run.state.batches].count(1) == 1


@pytest.mark.parametrize(
    ("rows", "picture", "part", "times"),
    [(24, 500_000, 5_000_000, 4), pytest.param(150, 1_500_000, PART_BYTES, 10, marks=pytest.mark.slow)],
    ids=["16 MB", "300 MB"],
)
def test_a_download_that_is_cut_and_killed_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, picture: int, part: int, times: int
) -> None:
    """Processes are killed at any picture of their part, each after a cut at any byte; the last one comes to the end.
    Nothing of a part that was home is fetched again, and no byte differs from those of a quiet run.
    """
    brought = tmp_path / "brought"
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=picture) as service:
        bench = Bench(service, tmp_path)
        bench.make_job(rows=rows, max_requests=rows)
        quiet = bench.begin(storage=bench.place("quiet"))
        quiet.to_the_end()
        size = sum(file.size or 0 for file in ended_of(quiet.run).files)
        assert size > 3 * part
        url = bench.begin(part_bytes=part).run.storage.url
        kill(bench, url, "after", "submitted")
        monkeypatch.setenv("BROUGHT", str(brought))
        chance, a_part = random.Random(7), part * rows // size  # pictures of it
        for _ in range(times):
            service.fault("cut", method="download", bytes=chance.randrange(part), times=1)
            kill(bench, url, "after", "pictures/", chance.randint(1, a_part))
        last = start(bench, url)
        release(last)
        finish([last])
        run = open_run(bench.place(), bench.clock)
        assert outcomes(read_index(run)) == {"ok": rows}
        again = (brought.stat().st_size - size) / part
        sys.stdout.write(f"{again:.1f} parts fetched again after {times} kills and cuts\n")
        assert 0 <= again < times + 1  # a kill costs less than a part, and a cut a line or two
        assert fingerprints(run.storage, MADE) == fingerprints(quiet.run.storage, MADE)
        assert set(bench.paid().values()) == {1}


def ended_of(run: Run) -> Ended:
    ended = run.state.batches[0].ended
    assert ended is not None
    return ended
