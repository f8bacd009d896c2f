"""Two small pictures on the service, as a person asks for them: what they cost at most, and which assumptions held."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline import emulator
from pipeline.behaviours import FACTS
from tests.shell import HOUSE, Said, Shell

LIVE = ("doctor", "--live", "--yes", "--model", "gemini-2.5-flash-image")
KEY = "AIzaSyNobodyMaySeeThisKeyAnywhere"


@pytest.fixture
def shell(service: emulator.Service, tmp_path: Path) -> Shell:
    return Shell(tmp_path, service.environment() | {"GEMINI_API_KEY": KEY})


def facts(said: Said) -> dict[str, bool | None]:
    """Which held, by name."""
    return {fact["name"]: fact["held"] for fact in json.loads(said.out)["facts"]}


def test_where_the_service_is_as_expected_everything_holds(shell: Shell, service: emulator.Service) -> None:
    """One batch of two requests, one of them shown a picture, for less than ten cents; and told in plain words."""
    said = shell(*LIVE)
    assert said.code == 0, said.all
    assert said.out.count("  held  ") == len(FACTS)
    assert "in one batch, for about $0.0389, at most $0.10" in said.err
    assert "206, the byte alone" in said.out
    [job] = service.ledger()["jobs"]
    assert (job["rows"], job["billedRows"]) == (2, 2)
    assert service.ledger()["total"]["usd"] <= 0.10
    [run] = (path for path in (shell.folder / "runs").iterdir() if path.name == "doctor-2026-11-21")
    assert len(list(run.glob("pictures/00000/*"))) == 2
    assert len(list(run.glob("references/*/*"))) == 1


@pytest.mark.parametrize(
    "model", ["gemini-nano-banana-2.1", "gemini-3.1-flash-image", "gemini-3.1-flash-lite-image"]
)
def test_every_model_that_fits_the_cap_can_be_tried(
    shell: Shell, service: emulator.Service, model: str
) -> None:
    said = shell("doctor", "--live", "--yes", "--json", "--model", model)
    assert said.code == 0, said.out
    assert None not in facts(said).values()
    assert service.ledger()["total"]["usd"] <= 0.10


@pytest.mark.parametrize(
    ("fault", "told", "broken"),
    [
        ("no_range", {}, {"range"}),
        ("no_key", {}, {"key", "pictures"}),
        ("unknown_key", {"prompt": "ceramic"}, {"key", "pictures"}),
        ("swapped_keys", {"prompt": "enamel"}, {"pixels", "reference"}),
        ("duplicate_line", {"prompt": "ceramic"}, {"key", "price"}),
        ("wrong_size", {"prompt": "ceramic"}, {"pixels"}),
        ("wrong_mime", {"prompt": "ceramic"}, {"container"}),
        (
            "row_error",
            {"prompt": "ceramic", "code": 3, "message": "no such field: 'store'"},
            {"fields", "pictures"},
        ),
        ("row_error", {"prompt": "ceramic", "code": 13}, {"pictures"}),
        ("image_safety", {"prompt": "ceramic"}, {"pictures"}),
        ("stats_odd", {}, {"counters"}),
        ("unknown_state", {"value": "BATCH_STATE_DREAMING"}, {"states"}),
        ("list_empty", {}, {"listing"}),
        ("job_failed", {}, {"pictures"}),
    ],
)
def test_what_does_not_hold_is_told(
    shell: Shell, service: emulator.Service, fault: str, told: dict[str, Any], broken: set[str]
) -> None:
    """Each by its name, with what follows; and that which holds all the same is not doubted."""
    service.fault(fault, **told)
    said = shell(*LIVE, "--json")
    assert said.code == 1, said.all
    assert {name for name, held in facts(said).items() if held is False} == broken


def test_what_follows_from_it_is_said_to_people(shell: Shell, service: emulator.Service) -> None:
    service.fault("row_error", prompt="ceramic", code=3, message="no such field: 'store'")
    said = shell(*LIVE)
    assert "  DID NOT HOLD  fields     every field that a job can set is taken" in said.out
    assert "reference: no such field: 'store'" in said.out
    assert "so: requests with that field end as invalid: leave it out of the job" in said.out


def test_the_report_lies_beside_the_run_and_is_not_replaced(shell: Shell) -> None:
    """Readable, and as JSON; the second trial of a day has a report of its own."""
    first = shell(*LIVE)
    assert shell(*LIVE).code == 0
    runs = shell.folder / "runs"
    for name in ("doctor-2026-11-21", "doctor-2026-11-21-2"):
        assert (runs / name).is_dir()
        document = json.loads((runs / f"{name}.report.json").read_text())
        assert (document["run"], document["emulator"], document["held"]) == (name, True, True)
    text = (runs / "doctor-2026-11-21.report.txt").read_text()
    assert first.out == f"{text}\n  report  runs/doctor-2026-11-21.report.txt\n"
    assert "the EMULATOR at http://127.0.0.1:" in text
    assert shell("status", "doctor").code == 0, "its run is a run, and what lies beside it is none"


def test_nothing_of_the_key_is_left_anywhere(shell: Shell, service: emulator.Service) -> None:
    service.fault("refused", method="get", code=503, message=f"for {KEY[:4]}")
    said = shell(*LIVE, "-vv")
    assert KEY not in said.all
    files = [path for path in shell.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".txt" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


# --- money ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--live",), "nobody is here to ask"),
        (("--live", "--yes", "--max-usd", "0.01"), "the cap is $0.01"),
        (("--live", "--yes", "--model", "gemini-3-pro-image"), "the cap is $0.10"),
        (("--live", "--yes", "--model", "gemini-3-pro-image", "--max-usd", "5"), "the cap is $0.10"),
    ],
)
def test_nothing_is_bought_unasked_or_beyond_ten_cents(
    shell: Shell, service: emulator.Service, arguments: tuple[str, ...], words: str
) -> None:
    """A cap that is said can only be lower."""
    said = shell("doctor", *arguments)
    assert said.code == 3
    assert words in said.err.replace("$0.0100", "$0.01")
    assert "hint: " in said.err
    assert service.ledger()["jobs"] == []
    assert not (shell.folder / "runs").exists()


@pytest.mark.parametrize(("answer", "code", "jobs"), [("y\n", 0, 1), ("n\n", 3, 0)])
def test_at_a_terminal_it_asks(
    shell: Shell, service: emulator.Service, answer: str, code: int, jobs: int
) -> None:
    ended, seen = shell.on_a_terminal("doctor", "--live", answer=answer)
    assert "Go on for at most $0.10? [y/N]" in seen
    assert (ended, len(service.ledger()["jobs"])) == (code, jobs), seen


def test_a_trial_that_was_stopped_goes_on_and_buys_nothing_twice(
    shell: Shell, service: emulator.Service
) -> None:
    """The reply to the purchase was lost and then the service was gone: said again, it finds its job."""
    service.fault("lost")
    service.fault("refused", method="list", code=403, message="Billing is off.")
    stopped = shell(*LIVE)
    assert stopped.code == 4
    assert "stopped: could not read batches: 403 Billing is off." in stopped.out
    assert "  not seen      pixels" in stopped.out
    service.clear_faults()
    again = shell(*LIVE)
    assert again.code == 0, again.all
    assert again.err.startswith("doctor-2026-11-21, continued, ")
    assert len(service.ledger()["jobs"]) == 1
    assert (shell.folder / "runs" / "doctor-2026-11-21.report-2.txt").is_file()


def test_a_refusal_of_the_service_is_a_result(shell: Shell, service: emulator.Service) -> None:
    service.fault("refused", method="create", code=400, message="No batches here.")
    said = shell(*LIVE)
    assert said.code == 2
    assert "stopped: could not submit a batch: 400 No batches here." in said.out
    assert service.ledger()["jobs"] == []


def test_offline_and_live_contradict_each_other(shell: Shell) -> None:
    assert shell("doctor", "--live", "--offline").code == 2


def test_the_job_s_model_table_and_runs_are_those_of_the_trial(shell: Shell) -> None:
    (shell.folder / "jobs").mkdir()
    (shell.folder / "jobs" / "mine.toml").write_text("[models.gemini-3-pro-image]\ntokens = { 1K = 500 }\n")
    (shell.folder / "jobs" / "shoes.toml").write_text(
        'manifest = "shoes.csv"\nmodels = "mine.toml"\nruns = "out"\n[defaults]\nmodel = "gemini-3-pro-image"\n'
        'prompt = "x"\n'
    )
    said = shell("doctor", "--live", "--yes", "--json", "shoes")
    document = json.loads(said.out)
    assert document["model"] == "gemini-3-pro-image"
    assert {fact["name"] for fact in document["facts"] if fact["held"] is False} == {"tokens", "price"}
    assert (shell.folder / "out" / "doctor-2026-11-21").is_dir()


def test_on_vertex_the_same_facts_are_seen_in_other_places(shell: Shell, service: emulator.Service) -> None:
    (shell.folder / "jobs").mkdir()
    (shell.folder / "jobs" / "shoes.toml").write_text(
        'manifest = "shoes.csv"\nbackend = "vertex"\nproject = "catalog"\nbucket = "gs://shoes/night"\n'
        '[defaults]\nmodel = "gemini-3.1-flash-image"\nprompt = "x"\n'
    )
    requests.post(f"{service.url}/storage/v1/b", json={"name": "shoes"}, timeout=10).raise_for_status()
    said = shell("doctor", "--live", "--yes", "--json")
    assert said.code == 0, said.all
    assert {name for name, held in facts(said).items() if held is not True} == set()
    assert len(service.ledger()["jobs"]) == 1


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_page_has_every_fact_as_the_trial_words_it() -> None:
    """And says of each since when it has been seen on the real service."""
    page = (HOUSE / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert [(row[0].strip(" `"), row[1].strip()) for row in rows] == [(f.name, f.words) for f in FACTS]
