"""Four processes drive one run at once, after a fifth died with its intent written and nothing sent."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import emulator
from pipeline.index import read_index
from pipeline.run import open_run
from pipeline.storage import open_storage
from tests.bench import Bench, fingerprints, outcomes
from tests.stories.processes import finish, kill, release, start

ROWS = 12


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=2000, buckets=("shoes",)) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        bench = Bench(service, tmp_path)
        bench.make_job(rows=ROWS, max_requests=2, model="gemini-3.1-flash-image", image_size="512")
        yield bench


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_four_drivers_pay_each_batch_once(bench: Bench, place: str) -> None:
    """They race for every record, take over what the dead one left, and leave what one alone would have left."""
    url = {"folder": str(bench.folder / "runs" / "four"), "bucket": "gs://shoes/runs/four"}[place]
    bench.begin(storage=open_storage(url))
    kill(bench, url, "after", "submitting")
    four = [start(bench, url) for _ in range(4)]
    release(*four)
    lost = finish(four)
    run = open_run(open_storage(url), bench.clock)
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": ROWS}
    assert sum(lost) >= 10, f"too quiet to show anything: {lost}"
    assert any(batch.replaced for batch in run.state.batches), "nothing was taken over"
    assert set(bench.paid().values()) == {1}
    assert len(bench.paid()) == len(run.state.batches) == ROWS // 2
    assert run.state.spent == bench.bill()
    alone = bench.begin(storage=bench.place("alone"))
    alone.to_the_end()
    made = ("plan", "requests", "pictures", "index")
    assert fingerprints(run.storage, made) == fingerprints(alone.run.storage, made)
