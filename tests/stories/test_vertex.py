"""Runs on Vertex AI: by command and from Python, in a folder and in a bucket, paid once whatever happens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google import genai
from google.cloud import storage as cloud
from google.oauth2.credentials import Credentials
from PIL import Image

import nightshoot
from pipeline import emulator
from pipeline.backends.base import Backend
from pipeline.drive import Driver
from pipeline.errors import Denied, Refused
from pipeline.index import read_index
from pipeline.run import Run, open_run
from pipeline.state import Stage
from pipeline.storage import open_storage
from tests.bench import Bench, fingerprints, outcomes, write_rows
from tests.faulty import Dying, PowerCut
from tests.shell import Shell
from tests.stories.processes import finish, kill, release, start

MADE = ("references", "plan", "requests", "pictures")
HOUR = 3600


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    """Six rows in three batches; the run lives in a folder, and what Vertex AI sees of it in a bucket."""
    for name, colour in ("red.png", "red"), ("blue.png", "blue"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    bench = Bench(service, tmp_path, key="catalog")
    job_of(bench)
    return bench


def job_of(bench: Bench, **said: Any) -> None:
    bench.make_job(
        **(
            {"backend": "vertex", "bucket": "shoes/night", "photo": lambda n: ("red.png", "blue.png")[n % 2]}
            | said
        )
    )


def objects(service: emulator.Service, prefix: str = "") -> list[str]:
    """The names in the bucket."""
    return [blob.name for blob in cloud.Client(project="p").list_blobs("shoes", prefix=prefix)]


def planned(bench: Bench) -> Driver:
    driver = bench.begin()
    while driver.draw():
        pass
    return driver


def assert_paid_once(bench: Bench, run: Run, *, rows: int = 6) -> None:
    run.catch_up()
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": rows}
    assert set(bench.paid().values()) == {1}
    assert run.state.spent == bench.bill()
    assert run.state.unconfirmed == run.state.reserved == 0


# --- what people do ---------------------------------------------------------------------------------------------


JOB = """
manifest = "shoes.csv"
key = "sku"
backend = "vertex"
max_usd = 5
[defaults]
model = "gemini-3.1-flash-image"
references = ["photo"]
[shots.hero]
prompt = "Studio photo of {{ title }} in {{ colour }}"
"""


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    write_rows(tmp_path / "shoes.csv", 4, photo=lambda n: "red.png")
    (tmp_path / "shoes.toml").write_text(JOB, encoding="utf-8")
    environment = service.environment()
    del environment["GEMINI_API_KEY"]  # nobody needs one here
    return Shell(tmp_path, environment)


def test_a_run_in_a_bucket_is_shot_where_it_lies(shell: Shell, service: emulator.Service) -> None:
    """Its own references are what the model is shown: nothing is copied, and all it writes lies under the run."""
    said = shell("run", "shoes.toml", "--runs", "gs://shoes/runs", "--yes", "--json")
    assert said.code == 0, said.all
    assert "(Vertex AI, project emulator, global)" in said.err
    done = json.loads(said.out)
    assert done["outcomes"] == {"ok": 4}
    assert done["usd"]["spent"] == service.ledger()["total"]["usd"]
    home = done["url"].removeprefix("gs://shoes/")
    names = objects(service)
    assert all(name.startswith(home) for name in names)
    assert sum(name.endswith(".png") and "references/" in name for name in names) == 1
    (job,) = service.ledger()["jobs"]
    assert job["displayName"].startswith("nightshoot-")
    again = shell("run", "shoes.toml", "--runs", "gs://shoes/runs", "--yes", "--json")
    assert (again.code, json.loads(again.out)["url"]) == (0, done["url"])
    assert len(service.ledger()["jobs"]) == 1
    assert again.err.splitlines()[-1] == (following := f"Next: nightshoot index {done['url']}")
    assert len(shell(*following.split()[2:]).out.splitlines()) == 5, "and does, as it stands there"


def test_a_run_in_a_folder_needs_a_bucket_beside_it(shell: Shell, service: emulator.Service) -> None:
    """Which is said before anything is asked or written; with one, the photo is put there once."""
    said = shell("run", "shoes.toml", "--yes")
    assert said.code == 2
    assert "Vertex AI reads and writes in a bucket, and this run lives in runs" in said.err
    assert 'bucket = "gs://my-bucket/nightshoot"' in said.err
    assert not (shell.folder / "runs").exists()
    said = shell("run", "shoes.toml", "--yes", "--set", "bucket=gs://shoes/night", "--json")
    assert said.code == 0, said.all
    name = Path(json.loads(said.out)["url"]).name
    inside = {path.removeprefix(f"night/{name}/").partition("/")[0] for path in objects(service)}
    assert inside == {"references", "vertex"}


@pytest.mark.parametrize(
    ("without", "change", "words"),
    [
        ("GOOGLE_CLOUD_PROJECT", "location=global", "no project for Vertex AI"),
        ("GOOGLE_CLOUD_LOCATION", "image_size=2K", "the nearest is 1K"),
    ],
)
def test_what_is_missing_or_too_much_is_said_at_once(
    shell: Shell, service: emulator.Service, without: str, change: str, words: str
) -> None:
    del shell.environment[without]
    said = shell("run", "shoes.toml", "--yes", "--runs", "gs://shoes/runs", "--set", change)
    assert (said.code, words in said.err) == (2, True), said.all
    assert objects(service) == []


def test_a_machine_without_credentials_is_told_how_to_get_them(
    shell: Shell, service: emulator.Service
) -> None:
    """They are asked for only where the service is not an emulator of this machine's."""
    shell.environment["GOOGLE_VERTEX_BASE_URL"] = "https://aiplatform.invalid"
    shell.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(shell.folder / "none.json")
    del shell.environment["NIGHTSHOOT_CLOCK"]
    said = shell("run", "shoes.toml", "--yes", "--runs", "gs://shoes/runs")
    assert said.code == 4, said.all
    assert "no Google credentials on this machine" in said.err
    assert "gcloud auth application-default login" in said.err


def test_the_same_from_python(
    shell: Shell, service: emulator.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shell.folder)
    for name, value in shell.environment.items():
        monkeypatch.setenv(name, value)
    run = nightshoot.job("shoes.toml", runs="gs://shoes/runs").plan().submit(max_usd=5)
    status = run.wait()
    assert status.outcomes == {"ok": 4}
    assert "(Vertex AI)" in repr(status)
    assert [Image.open(picture.open()).size for picture in run.pictures()] == [(1024, 1024)] * 4
    assert len(service.ledger()["jobs"]) == 1


# --- the money --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lost", "unsent", "done_but_error"])
def test_a_create_call_without_an_answer_buys_one_job(bench: Bench, fault: str) -> None:
    """What was accepted is found by its label; what never arrived is made again, from an input of its own."""
    driver = planned(bench)
    bench.service.fault(fault)
    driver.to_the_end()
    first = driver.run.state.batches[0]
    assert first.submitted is not None
    assert (first.submitted.adopted, first.replaced) == (fault != "unsent", int(fault == "unsent"))
    assert_paid_once(bench, driver.run)


def test_what_was_sent_is_found_by_its_labels_alone(bench: Bench) -> None:
    """Whatever it is called: that is what people change."""
    driver = planned(bench)
    backend = bench.backend_of(driver.run)
    staged = backend.stage("nightshoot-0a1b2c3d-00007-0123456789ab", [b'{"key":"b00007-0000","request":{}}'])
    labels = {"nightshoot-run": "0a1b2c3d", "nightshoot-batch": "00007", "nightshoot-digest": "0123456789ab"}
    client = genai.Client(
        vertexai=True,
        project="catalog",
        location="global",
        credentials=Credentials(token="any"),
        http_options={"base_url": bench.service.url},
    )
    config: Any = {"display_name": "my shoes", "http_options": {"extra_body": {"labels": labels}}}
    job = client.batches.create(model="gemini-2.5-flash-image", src=staged, config=config)
    found = backend.find("nightshoot-0a1b2c3d-00007-0123456789ab")
    assert [(one.ticket, one.input) for one in found.candidates] == [(job.name, staged)]
    assert backend.find("nightshoot-0a1b2c3d-00008-0123456789ab").candidates == ()


def test_a_listing_that_hides_what_it_must_show_sends_nothing(bench: Bench) -> None:
    driver = planned(bench)
    bench.service.fault("lost", display_name="-00001-")
    driver.submit()
    bench.service.fault("list_empty")
    for _ in range(60):
        bench.service.advance(120)
        driver.step()
    assert driver.run.state.batches[1].stage is Stage.HELD
    with pytest.raises(Refused, match="batch 1 is held"):
        driver.to_the_end()
    bench.service.clear_faults()
    driver = bench.again()
    driver.to_the_end()
    assert_paid_once(bench, driver.run)


def test_an_account_that_may_not_delete_is_told_once_all_else_is_home(bench: Bench) -> None:
    """A batch whose sending is unclear is not sent again before its old input is gone."""
    driver = planned(bench)
    bench.service.fault("unsent", display_name="-00000-")
    order = json.dumps({"on": "delete", "fault": "403", "times": 100})
    url = f"{bench.service.url}/_gcs/faults"
    httpx2.post(url, content=order, trust_env=False).raise_for_status()
    with pytest.raises(Denied) as refused:
        driver.to_the_end()
    assert "storage.objectUser" in (refused.value.hint or "")
    stages = [batch.stage for batch in driver.run.state.batches]
    assert stages == [Stage.SUBMITTING, Stage.COLLECTED, Stage.COLLECTED]
    httpx2.delete(url, trust_env=False).raise_for_status()
    driver = bench.again()
    driver.to_the_end()
    assert_paid_once(bench, driver.run)


class Interrupted:
    """A backend before whose create call something else happens, once."""

    def __init__(self, backend: Backend, before: Any) -> None:
        self._backend, self._before = backend, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def submit(self, label: str, model: str, staged: str) -> str:
        before, self._before = self._before, lambda: None
        before()
        return self._backend.submit(label, model, staged)


def test_who_was_taken_over_makes_a_job_that_finds_no_input(bench: Bench) -> None:
    """The fence: the late call is accepted, and its job can only fail. Its author cancels it and says so."""

    def others_do_it_all() -> None:
        bench.service.advance(20 * 60)
        bench.again().to_the_end()

    driver = planned(bench)
    late = Driver(driver.run, Interrupted(bench.backend_of(driver.run), others_do_it_all))
    late.to_the_end()
    bench.service.advance(HOUR)
    jobs = [job for job in bench.service.ledger()["jobs"] if "-00000-" in job["displayName"]]
    assert sorted(job["state"] for job in jobs) in (["CANCELLED", "SUCCEEDED"], ["FAILED", "SUCCEEDED"])
    assert outcomes(read_index(late.run)) == {"ok": 6}
    assert late.run.state.spent == bench.bill()


def test_a_cancelled_job_is_paid_as_far_as_it_went_and_brought_home_so_far(bench: Bench) -> None:
    """Unlike on the Developer API, what was done by then has been written."""
    job_of(bench, rows=40, max_requests=40)
    driver = bench.begin()
    while not driver.run.state.at(Stage.SUBMITTED):
        driver.step()
    (batch,) = driver.run.state.batches
    assert batch.submitted is not None
    while bench.service.ledger()["jobs"][0]["state"] != "RUNNING":
        bench.service.advance(2)
    bench.service.advance(8)
    bench.backend_of(driver.run).cancel(batch.submitted.ticket)
    driver.to_the_end()
    found = outcomes(read_index(driver.run))
    assert found["ok"] >= 1
    assert found["ok"] + found["cancelled"] == 40
    assert driver.run.state.spent == bench.bill()


def test_rows_that_fail_say_why_and_are_tried_again_where_that_may_help(bench: Bench) -> None:
    bench.service.fault("row_error", prompt="Shoe 1", code=8, times=1)
    bench.service.fault("row_error", prompt="Shoe 2", code=3)
    bench.service.fault("image_safety", prompt="Shoe 3")
    index = bench.run().set_index("key")
    assert dict(index["outcome"][["sku-1", "sku-2", "sku-3"]]) == {
        "sku-1": "ok", "sku-2": "invalid", "sku-3": "blocked",
    }  # fmt: skip
    assert index["attempt"]["sku-1"] == 2
    assert index["reason"]["sku-2"] == "INVALID_ARGUMENT"
    assert index["answered_at"].notna().all()


def test_a_job_waits_longer_here_before_it_is_given_up(bench: Bench) -> None:
    """Three days in the queue and one at work: after three and a half it may still come."""
    bench.service.fault("job_stalled", seconds=71 * HOUR)
    bench.service.fault("refused", method="get", code=404, times=None)
    driver = planned(bench)
    driver.submit()
    bench.service.advance(84 * HOUR)
    assert not driver.poll()
    bench.service.clear_faults()
    driver.to_the_end()
    assert_paid_once(bench, driver.run)


# --- photos that lie in a bucket ----------------------------------------------------------------------------------


def sent_with(bench: Bench) -> set[str]:
    """Which photos the model was shown, as the rows that went out name them."""
    found = set()
    bucket = cloud.Client(project="p").bucket("shoes")
    for name in objects(bench.service, "night/run/vertex/"):
        if "predictions" not in name:
            for line in bucket.blob(name).download_as_bytes().splitlines():
                parts = json.loads(line)["request"]["contents"][0]["parts"]
                found |= {part["fileData"]["fileUri"] for part in parts if "fileData" in part}
    return found


def in_the_bucket(bench: Bench, photo: str) -> None:
    data = (bench.folder / photo).read_bytes()
    cloud.Client(project="p").bucket("shoes").blob("photos/front.png").upload_from_string(data)


def test_a_photo_in_a_bucket_is_named_where_it_lies(bench: Bench) -> None:
    """Nothing is copied for it, and the plan says which generation it was."""
    in_the_bucket(bench, "red.png")
    job_of(bench, photo=lambda n: "gs://shoes/photos/front.png")
    bench.run()
    assert sent_with(bench) == {"gs://shoes/photos/front.png"}
    assert objects(bench.service, "night/run/references/") == []


def test_a_photo_that_was_changed_since_is_shown_as_it_was_planned(bench: Bench) -> None:
    """Another picture under this name would be the wrong one: the run's own copy is what was priced and pinned."""
    in_the_bucket(bench, "red.png")
    job_of(bench, photo=lambda n: "gs://shoes/photos/front.png")
    driver = planned(bench)
    in_the_bucket(bench, "blue.png")
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    (shown,) = sent_with(bench)
    copy = cloud.Client(project="p").bucket("shoes").blob(shown.removeprefix("gs://shoes/"))
    assert shown.startswith("gs://shoes/night/run/references/")
    assert copy.download_as_bytes() == (bench.folder / "red.png").read_bytes()


def test_labels_of_the_user_s_own_are_on_jobs_and_requests(bench: Bench, service: emulator.Service) -> None:
    """Beside ours, by which everything is found again."""
    job_of(bench, labels={"team": "catalog"})
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    bucket = cloud.Client(project="p").bucket("shoes")
    inputs = [name for name in objects(service, "night/run/vertex/") if "predictions" not in name]
    rows = [
        json.loads(line) for name in inputs for line in bucket.blob(name).download_as_bytes().splitlines()
    ]
    assert len(rows) == 6
    assert {row["request"]["labels"]["team"] for row in rows} == {"catalog"}
    ticket = driver.run.state.batches[0].submitted
    assert ticket is not None
    assert driver.backend.raw(ticket.ticket)["labels"]["team"] == "catalog"


# --- lost labels ------------------------------------------------------------------------------------------------


def test_rows_that_come_back_without_their_labels_are_known_by_what_they_ask(bench: Bench) -> None:
    """All of a result is robbed of its labels behind everybody's back; every picture still finds its row."""
    whole = bench.begin(storage=bench.place("whole"))
    whole.to_the_end()
    driver = planned(bench)
    driver.submit()
    bench.service.advance(HOUR)
    bucket = cloud.Client(project="p").bucket("shoes")
    robbed = 0
    for name in objects(bench.service, "night/run/vertex/"):
        if "predictions" in name and driver.run.created.run in name:
            rows = [json.loads(line) for line in bucket.blob(name).download_as_bytes().splitlines()]
            for row in rows:
                robbed += row["request"].pop("labels", None) is not None
            bucket.blob(name).upload_from_string(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    assert robbed == 6
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert fingerprints(driver.run.storage, ["pictures"]) == fingerprints(whole.run.storage, ["pictures"])


# --- the power --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_cut_at_any_write_ends_as_one_that_was_never_cut(bench: Bench, when: Any) -> None:
    job_of(bench, rows=1, max_requests=1)

    times = ["sent_at", "ended_at", "answered_at"]
    storage = Dying(bench.place("whole"))
    whole = bench.begin(storage=storage)
    whole.to_the_end()
    expected = fingerprints(bench.place("whole"), MADE)
    index = read_index(whole.run).drop(columns=times).to_json(date_format="iso")  # the rest is the same
    for n in range(1, len(storage.writes) + 1):
        bench.key = f"project-{n}"
        with pytest.raises(PowerCut):
            bench.begin(storage=Dying(bench.place(str(n)), at=n, when=when)).to_the_end()
        driver = bench.go_on(storage=bench.place(str(n)))
        driver.to_the_end()
        assert fingerprints(driver.run.storage, MADE) == expected, f"cut {when} write {n}"
        assert read_index(driver.run).drop(columns=times).to_json(date_format="iso") == index
    assert set(bench.paid().values()) == {1}
    assert len(bench.paid()) == len(storage.writes) + 1


def test_a_run_in_a_bucket_survives_every_process_that_worked_on_it(bench: Bench) -> None:
    """Killed right after an intent and right after a create call: one is taken over, the other found."""
    job_of(bench, bucket=None)
    url = "gs://shoes/runs/killed"
    bench.begin(storage=open_storage(url))
    kill(bench, url, "after", "submitting")
    kill(bench, url, "before", "submitted")
    last = start(bench, url)
    release(last)
    finish([last])
    run = open_run(open_storage(url), bench.clock)
    assert_paid_once(bench, run)
    assert [batch.replaced for batch in run.state.batches].count(1) == 1
