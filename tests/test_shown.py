"""References go up once for a run, are renewed in time, and are removed when a person says so."""

import json
from pathlib import Path

import httpx2
import pytest
from google import genai
from PIL import Image

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.index import read_index
from pipeline.run import open_run
from pipeline.shown import LIFE, Shown
from pipeline.state import Stage
from pipeline.storage import open_storage
from pipeline.submit import submit
from tests.bench import Bench, outcomes
from tests.shell import Shell

HOUR = 3600


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    """Six shoes in three batches, each shown one of two photos."""
    for name, colour in ("red.png", "red"), ("blue.png", "blue"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    bench = Bench(service, tmp_path)
    bench.make_job(photo=lambda n: ("red.png", "blue.png")[n % 2])
    return bench


def planned(bench: Bench) -> Driver:
    driver = bench.begin()
    while driver.draw():
        pass
    return driver


def files(bench: Bench) -> list[genai.types.File]:
    """What lies at Google, as a person with this key sees it."""
    with genai.Client(api_key=bench.key, http_options={"base_url": bench.service.url}) as client:
        return list(client.files.list())


def photos(bench: Bench) -> int:
    return sum(file.mime_type == "image/png" for file in files(bench))


def test_a_photo_goes_up_once_for_all_batches_and_all_drivers(bench: Bench) -> None:
    """A driver each for every batch, as three processes would be: the second and third read what the first wrote."""
    driver = planned(bench)
    for number in range(3):
        run = open_run(driver.run.storage, bench.clock)
        assert submit(run, bench.backend(), number)
    assert photos(bench) == 2
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert photos(bench) == 2


def test_another_key_shows_its_own(bench: Bench) -> None:
    """It cannot see the first one's files."""
    driver = planned(bench)
    assert submit(driver.run, bench.backend(), 0)
    run = open_run(driver.run.storage, bench.clock)
    assert submit(run, bench.backend("another-key-altogether"), 1)
    bench.service.advance(HOUR)
    jobs = bench.service.ledger()["jobs"]
    assert [job["billedRows"] for job in jobs] == [2, 2], "a row without its photo fails, and costs nothing"


def test_a_photo_that_would_die_in_the_queue_is_shown_anew(bench: Bench) -> None:
    """Whatever a batch names is there for a day and a half from then on."""
    driver = planned(bench)
    assert submit(driver.run, bench.backend(), 0)
    bench.service.advance(11 * HOUR)
    assert submit(driver.run, bench.backend(), 1)
    assert photos(bench) == 2
    bench.service.advance(2 * HOUR)
    assert submit(driver.run, bench.backend(), 2)
    assert photos(bench) == 4
    now = bench.service.clock()
    (newest, *_) = sorted((event.until for event in driver.run.state.uploaded), reverse=True)
    assert newest - now > LIFE
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


def test_a_photo_that_died_in_the_queue_all_the_same_costs_an_attempt_and_nothing_else(bench: Bench) -> None:
    """Named at its eleventh hour, by a batch that waits for forty: the row is asked again with a new one."""
    driver = planned(bench)
    assert submit(driver.run, bench.backend(), 0)
    bench.service.advance(11 * HOUR)
    bench.service.fault("job_stalled", seconds=40 * HOUR, display_name="-00001-")
    driver.to_the_end()
    index = read_index(driver.run).set_index("key")
    assert outcomes(index) == {"ok": 6}
    assert dict(index["attempt"]) == {f"sku-{n}": 2 if n in (2, 3) else 1 for n in range(6)}
    assert driver.run.state.spent == bench.bill()


def test_what_is_known_of_many_is_forgotten_and_shown_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has a bound; what falls out of it costs bytes."""
    monkeypatch.setattr("pipeline.shown.REMEMBERED", 1)
    driver = planned(bench)
    shown = Shown(driver.run, bench.backend())
    for number in range(3):
        assert submit(driver.run, bench.backend(), number, shown=shown)
    assert 2 < photos(bench) <= 6
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}


# --- tidy -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(bench: Bench, tmp_path: Path) -> Shell:
    return Shell(tmp_path, bench.service.environment() | {"GEMINI_API_KEY": bench.key})


def names(bench: Bench) -> set[str | None]:
    return {file.name for file in files(bench)}


def test_what_a_finished_run_left_goes_when_a_person_says_so(bench: Bench, shell: Shell) -> None:
    """Its inputs and its photos, and nothing of anybody else's; the run itself stays as it is."""
    other = bench.begin(storage=bench.place("shoes-2026-11-20"))
    other.step()
    with genai.Client(api_key=bench.key, http_options={"base_url": bench.service.url}) as client:
        mine = client.files.upload(file=shell.folder / "red.png", config={"display_name": "my own"})
    before = names(bench)
    bench.begin(storage=bench.place("shoes-2026-11-21")).to_the_end()
    assert len(names(bench)) == len(before) + 3 + 2
    said = shell("tidy", "shoes-2026-11-21")
    assert said.code == 3
    assert "5 files" in said.err
    assert len(names(bench)) == len(before) + 5, "nobody was asked, so nothing went"
    said = shell("tidy", "shoes-2026-11-21", "--yes", "--json")
    assert (said.code, json.loads(said.out)["removed"]) == (0, 5)
    assert names(bench) == before
    assert mine.name in before
    assert shell("tidy", "shoes-2026-11-21", "--yes").out == "nothing to remove\n"
    other.to_the_end()
    assert outcomes(read_index(other.run)) == {"ok": 6}


def test_what_a_run_still_needs_stays(bench: Bench, shell: Shell) -> None:
    """One batch is home and another at Google: the first one's input goes, and the photos stay for the second."""
    bench.service.fault("job_stalled", seconds=20 * HOUR, display_name="-00002-")
    driver = planned(bench)
    while len(driver.run.state.at(Stage.COLLECTED)) < 2:
        driver.step()
        bench.service.advance(60)
    said = shell("tidy", "runs/run", "--yes", "--json")
    assert json.loads(said.out)["removed"] == 2
    assert photos(bench) == 2
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert json.loads(shell("tidy", "runs/run", "--yes", "--json").out)["removed"] == 3
    assert files(bench) == []


def test_what_a_run_on_vertex_ai_left_goes_and_its_own_references_stay(
    bench: Bench, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent and written goes; beside a run in a folder the photos' copies go too."""
    url = bench.service.url
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    httpx2.post(f"{url}/storage/v1/b", json={"name": "shoes"}, trust_env=False).raise_for_status()
    left = {}
    for place, bucket in (("gs://shoes/runs/one", None), ("runs/two", "shoes/beside")):
        bench.make_job(photo=lambda n: "red.png", backend="vertex", bucket=bucket)
        bench.key = "emulator"
        where = place if bucket is None else str(shell.folder / place)
        bench.begin(storage=open_storage(where)).to_the_end()
        said = shell("tidy", where, "--yes", "--json")
        assert said.code == 0, said.all
        left[place] = json.loads(said.out)["removed"]
        assert shell("index", where).code == 0
    assert left == {"gs://shoes/runs/one": 3 + 3 * 2, "runs/two": 3 + 3 * 2 + 1}
    found = httpx2.get(f"{url}/storage/v1/b/shoes/o", trust_env=False).json()["items"]
    assert [item["name"] for item in found if "/vertex/" in item["name"] or "beside" in item["name"]] == []
    assert sum(item["name"].startswith("runs/one/references/") for item in found) == 1
