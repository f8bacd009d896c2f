"""A process that is killed, again and again, and another one that finishes what it began."""

from pipeline.index import read_index
from pipeline.run import open_run
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
