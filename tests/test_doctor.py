"""Whether a night could begin, as a person asks for it; and that asking costs nothing and leaves nothing."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline import emulator
from pipeline.doctor import of_disk, of_folder
from pipeline.findings import Level
from tests.bench import write_rows
from tests.servers import serve
from tests.shell import Said, Shell

MODEL = "gemini-3-pro-image"
JOB = f"""
manifest = "../shoes.csv"
tier = 2
[defaults]
model = "{MODEL}"
prompt = "Photo of {{{{ title }}}}"
"""


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    """A folder with one job that has nothing wrong with it."""
    write_rows(tmp_path / "shoes.csv", 2)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "shoes.toml").write_text(JOB)
    return Shell(tmp_path, service.environment())


def findings(said: Said) -> dict[str, dict[str, Any]]:
    """What was found, by what it is about."""
    return {finding["about"]: finding for finding in json.loads(said.out)["findings"]}


def level(shell: Shell, about: str, *arguments: str) -> str:
    return str(findings(shell("doctor", "--json", *arguments))[about]["level"])


def everything_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*"))


def test_a_healthy_setup_is_told_in_a_line_each(shell: Shell, service: emulator.Service) -> None:
    """Nothing is bought, nothing sent, and the folder is as it was: not even the folder of runs is made."""
    before = everything_in(shell.folder)
    said = shell("doctor")
    assert said.code == 0, said.out
    found = findings(shell("doctor", "--json"))
    assert {about for about, finding in found.items() if finding["level"] == "ok"} == {
        *("program", "job", "key", "account", "clock", "model", "runs", "disk", "prices", "life", "quota")
    }
    assert found["service"]["level"] == "warning", "an emulator is not Google, and that is said"
    assert "  ok           model      gemini-3-pro-image is there, in batches" in said.out
    assert said.err == "Next: nightshoot plan\n"
    assert everything_in(shell.folder) == before
    assert service.ledger() == {
        "jobs": [],
        "calls": [],
        "total": {"rows": 0, "nanodollars": 0, "usd": 0},
    }
    called = {event["what"] for event in service.events()}
    assert called == {"list", "models.get"}


def test_offline_asks_nobody(shell: Shell, service: emulator.Service) -> None:
    """Neither the service, nor its clock, nor a bucket; and what could not be asked is said as that."""
    said = shell("doctor", "--offline", "--json", "--runs", "gs://shoes/runs")
    assert said.code == 0
    assert {name for name, found in findings(said).items() if found["level"] == "not checked"} == {
        "account",
        "runs",
    }
    assert service.events() == []
    service.stop()
    assert shell("doctor", "--offline").code == 0


# --- the key, the service, the models ------------------------------------------------------------------------------


def test_without_a_key_the_rest_is_looked_at_all_the_same(shell: Shell) -> None:
    del shell.environment["GEMINI_API_KEY"]
    said = shell("doctor")
    assert said.code == 1
    assert "problem      key        none in the environment" in said.out
    assert "hint: export GEMINI_API_KEY=" in said.out
    assert "not checked  account    there is nobody to ask as" in said.out
    assert "ok           runs" in said.out
    assert "Next: mend it" in said.err


def test_a_key_is_named_by_its_last_characters_only(shell: Shell) -> None:
    shell.environment |= {
        "GEMINI_API_KEY": "AIzaSyFirstFirstFirst",
        "GOOGLE_API_KEY": "AIzaSyOtherOtherOther",
    }
    said = shell("doctor")
    assert "warning      key        GEMINI_API_KEY, ...irst; GOOGLE_API_KEY holds another" in said.out
    assert "AIza" not in said.all


@pytest.mark.parametrize("code", [400, 401, 403])
def test_a_key_that_the_service_refuses_is_a_problem(
    shell: Shell, service: emulator.Service, code: int
) -> None:
    service.fault("refused", method="list", code=code, message="API key not valid.")
    said = shell("doctor")
    assert said.code == 1
    assert "problem      account    could not read batches: " in said.out
    assert "API key not valid" in said.out
    assert "check GEMINI_API_KEY" in said.out


def test_a_service_that_does_not_answer_is_a_problem(shell: Shell) -> None:
    del shell.environment["NIGHTSHOOT_CLOCK"]
    shell.environment["GOOGLE_GEMINI_BASE_URL"] = "http://127.0.0.1:9"
    found = findings(shell("doctor", "--json"))
    assert found["account"]["level"] == "problem"
    assert found["model"]["level"] == "not checked"


def test_an_emulator_that_is_gone_is_told_with_what_to_unset(shell: Shell, service: emulator.Service) -> None:
    service.stop()
    said = shell("doctor")
    assert said.code == 1
    assert "this shell exports the address of an emulator" in said.out
    assert "unset GEMINI_API_KEY" in said.out


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("gemini-none", "the service has none of this name"),
        ("gemini-2.0-flash-preview-image-generation", "is retired"),
        ("imagen-4.0-generate-001", "never comes in batches on the Developer API"),
    ],
)
def test_a_model_that_cannot_be_shot_with_is_a_problem(shell: Shell, model: str, words: str) -> None:
    said = shell("doctor", "--model", model)
    assert said.code == 1
    assert words in said.out


def test_a_model_that_was_switched_off_yesterday_is_noticed_though_no_table_knows(
    shell: Shell, service: emulator.Service
) -> None:
    service.fault("model_retired", model=MODEL)
    found = findings(shell("doctor", "--json"))
    assert (found["model"]["level"], found["life"]["level"]) == ("problem", "ok")


def test_a_model_that_may_not_be_looked_at_is_not_checked(shell: Shell, service: emulator.Service) -> None:
    """It may be shot with all the same: that is another right."""
    service.fault("refused", method="models.get", code=403)
    said = shell("doctor", "--json")
    assert said.code == 0
    assert findings(said)["model"]["level"] == "not checked"


def test_a_clock_that_is_off_is_told_by_how_much(shell: Shell, service: emulator.Service) -> None:
    """By the Date of the service's own answer. Here it is days ahead of this machine."""
    del shell.environment["NIGHTSHOOT_CLOCK"]
    service.advance(3_000_000_000)
    found = findings(shell("doctor", "--json"))["clock"]
    assert found["level"] == "problem"
    assert "s behind the service's" in found["words"]
    assert "NTP" in found["hint"]


# --- the job, the tables -------------------------------------------------------------------------------------------


def test_a_job_that_cannot_be_read_hides_nothing_else(shell: Shell) -> None:
    (shell.folder / "jobs" / "shoes.toml").write_text("manifest = 1\nbackend = 'none'\n")
    found = findings(shell("doctor", "--json"))
    assert found["job"]["level"] == "problem"
    assert found["account"]["level"] == "ok"
    assert found["quota"]["level"] == "not checked"


def test_several_jobs_are_none_until_one_is_named(shell: Shell) -> None:
    (shell.folder / "jobs" / "mugs.toml").write_text(JOB)
    assert level(shell, "job") == "not checked"
    assert level(shell, "job", "mugs") == "ok"


def test_a_job_without_a_tier_is_told_what_that_means(shell: Shell) -> None:
    (shell.folder / "jobs" / "shoes.toml").write_text(JOB.replace("tier = 2", ""))
    said = shell("doctor")
    assert "warning      quota      tier 1, since the job names none: 2,000,000 tokens" in said.out
    assert said.code == 0


def test_a_table_of_models_that_cannot_be_read_is_a_problem(shell: Shell) -> None:
    (shell.folder / "jobs" / "shoes.toml").write_text('models = "mine.toml"\n' + JOB)
    found = findings(shell("doctor", "--json"))
    assert found["models"]["level"] == "problem"
    assert found["prices"]["level"] == "ok", "those of the release"


# --- where runs live -----------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_a_problem(shell: Shell) -> None:
    found = findings(shell("doctor", "--json", "--runs", "shoes.csv/runs"))["runs"]
    assert found["level"] == "problem"
    assert found["words"] == f"{shell.folder / 'shoes.csv'}: not a directory"


def test_a_disk_without_hard_links_is_a_problem_and_nothing_stays_of_the_trial(tmp_path: Path) -> None:
    """As on some network drives, where two drivers could not be kept apart."""

    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    found = of_folder(str(tmp_path / "runs"), link=no_links)
    assert found.level is Level.PROBLEM
    assert found.words == f"{tmp_path}: this file system has no hard links, which keep two writers apart"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("free", "expected"),
    [(50_000_000_000, Level.OK), (5_000_000_000, Level.WARNING), (500_000_000, Level.PROBLEM)],
)
def test_a_disk_that_fills_up_is_told_before_it_is_full(free: int, expected: Level, tmp_path: Path) -> None:
    assert of_disk(str(tmp_path / "runs"), free=lambda place: free).level is expected


def with_bucket(shell: Shell, url: str) -> None:
    requests.post(f"{url}/storage/v1/b", json={"name": "shoes"}, timeout=10).raise_for_status()
    shell.environment["STORAGE_EMULATOR_HOST"] = url


def test_a_bucket_is_asked_and_nothing_is_written_there(shell: Shell, service: emulator.Service) -> None:
    with_bucket(shell, service.url)
    found = findings(shell("doctor", "--json", "--runs", "gs://shoes/runs"))
    assert found["runs"]["words"] == "gs://shoes/runs: this account may create, get, list"
    assert found["bucket"]["words"] == "lies in US"
    listed = requests.get(f"{service.url}/storage/v1/b/shoes/o", timeout=10).json()
    assert "items" not in listed


def test_a_bucket_that_is_not_there_is_a_problem(shell: Shell) -> None:
    found = findings(shell("doctor", "--json", "--runs", "gs://nobodys/runs"))["runs"]
    assert found["level"] == "problem"
    assert "does not exist" in found["words"]


def test_an_account_that_may_only_read_is_told_what_it_lacks(shell: Shell, service: emulator.Service) -> None:
    """What it may not know besides, such as where the bucket lies, is no problem: a run does not need it."""
    with_bucket(shell, service.url)
    with serve(reader) as url:
        shell.environment["STORAGE_EMULATOR_HOST"] = url
        found = findings(shell("doctor", "--json", "--runs", "gs://shoes/runs"))
    assert found["runs"]["level"] == "problem"
    assert "lacks storage.objects.create" in found["runs"]["words"]
    assert "storage.objectCreator" in found["runs"]["hint"]
    assert found["bucket"]["level"] == "not checked"


async def reader(scope: Any, receive: Any, send: Any) -> None:
    """A bucket whose account has one role: to look at objects."""
    allowed = {"permissions": ["storage.objects.get", "storage.objects.list"]}
    refused = {"error": {"code": 403, "message": "does not have storage.buckets.get access."}}
    asks = scope["path"].endswith("/iam/testPermissions")
    body = json.dumps(allowed if asks else refused).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200 if asks else 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- Vertex AI -----------------------------------------------------------------------------------------------------

ON_VERTEX = (
    'backend = "vertex"\nproject = "catalog"\nlocation = "us-central1"\nbucket = "gs://shoes/night"\n' + JOB
)


@pytest.fixture
def vertex(shell: Shell, service: emulator.Service) -> Shell:
    """The same with a job for Vertex AI, and a bucket for it."""
    (shell.folder / "jobs" / "shoes.toml").write_text(ON_VERTEX)
    with_bucket(shell, service.url)
    del shell.environment["GEMINI_API_KEY"]
    return shell


def test_on_vertex_the_bucket_is_asked_and_the_agent_is_said_to_be_unchecked(
    vertex: Shell, service: emulator.Service
) -> None:
    """No key is missed, the bucket lies where the location is, and an input file may be removed."""
    said = vertex("doctor", "--json")
    assert said.code == 0, said.out
    found = findings(said)
    assert "key" not in found
    assert found["project"]["words"] == "catalog, us-central1"
    assert found["staging"]["words"] == "gs://shoes/night: this account may create, get, list, delete"
    assert found["region"]["words"] == "bucket in US, Vertex AI in us-central1"
    assert found["agent"]["level"] == "not checked"
    assert "storage.objectUser" in found["agent"]["hint"]
    assert "does not say whether in batches" in found["model"]["words"]
    assert service.ledger()["jobs"] == []


def test_on_vertex_a_bucket_far_away_is_a_warning(vertex: Shell) -> None:
    (vertex.folder / "jobs" / "shoes.toml").write_text(ON_VERTEX.replace("us-central1", "europe-west4"))
    assert level(vertex, "region") == "warning"


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ('bucket = "gs://shoes/night"\n', "reads and writes in a bucket"),
        ('project = "catalog"\n', "no project"),
    ],
)
def test_on_vertex_what_is_not_said_is_a_problem(vertex: Shell, without: str, words: str) -> None:
    vertex.environment.pop("GOOGLE_CLOUD_PROJECT")
    (vertex.folder / "jobs" / "shoes.toml").write_text(ON_VERTEX.replace(without, ""))
    said = vertex("doctor")
    assert said.code == 1
    assert words in said.out


def test_on_vertex_an_account_that_may_not_remove_is_told_so(vertex: Shell) -> None:
    """An input file that must not be read any more has to go."""
    with serve(reader) as url:
        vertex.environment["STORAGE_EMULATOR_HOST"] = url
        found = findings(vertex("doctor", "--json"))["staging"]
    assert found["words"].endswith("lacks storage.objects.create, storage.objects.delete")
    assert "storage.objectUser" in found["hint"]
