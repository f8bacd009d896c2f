"""docs/turns.md says what is: its jobs and rows can be planned, and the plan that it shows is the plan."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nightshoot
from pipeline import emulator
from pipeline.imagen import SETTINGS
from pipeline.job import Settings, job_for
from pipeline.survey import requests_of, survey
from tests.shell import Shell

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "turns.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    for name in ("jobs", "sample_manifests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_plan_on_the_page_is_what_is_said(samples: Path) -> None:
    block, _ = blocks("console")
    command, _, shown = block.partition("\n")
    said = Shell(samples, {})(*command.split()[2:])
    told = [line for line in said.out.splitlines() if not line.startswith("  cap")]
    assert "\n".join(told) + "\n" == shown


def test_a_run_that_waits_for_a_review_goes_on_as_the_page_says(
    service: emulator.Service, tmp_path: Path
) -> None:
    """The job that waits, and the two commands below it; in between somebody fills in the table."""
    shell, decisions = Shell(tmp_path, service.environment()), tmp_path / "decisions.csv"
    (job,) = (text for text in blocks("toml") if "follow_ups" in text)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "leaf.toml").write_text(f'manifest = "../leaves.csv"\n{job}')
    (tmp_path / "leaves.csv").write_text("id,title\na,soup\nb,stew\n")
    said = shell("run", "leaf", "--yes", "--max-usd", "5")
    assert (said.code, "2 follow-ups wait for your review" in said.err) == (3, True)
    assert "review    2 follow-ups wait for your review: nightshoot review apply" in shell("status").out
    assert json.loads(shell("status", "--json").out)["to_review"] == 2
    listed, applied = (line.split()[2:] for line in blocks("console")[1].splitlines())
    assert shell(*listed).code == 0
    head, one, other = decisions.read_text().splitlines()
    decisions.write_text(f"{head}\n{one[:-1]}rejected,cold\n{other[:-1]}approved,\n")
    said = shell(*applied)
    assert (said.code, "1 approved, 1 rejected" in said.out) == (0, True)
    assert "Next: nightshoot run leaf" in said.err
    assert "all of it is applied already" in shell(*applied).out
    assert shell("run", "leaf", "--yes", "--max-usd", "5").code == 1
    shown = shell("index", "--columns", "key,turn,outcome,message").out
    assert "a leaf was rejected: cold" in shown


@pytest.mark.parametrize("shots", blocks("toml"))
def test_every_job_on_the_page_plans(samples: Path, shots: str) -> None:
    folder = samples / "sample_manifests"
    job = job_for("shoes.csv", **tomllib.loads(shots))
    found = survey(job, base=folder)
    assert (found.problems, len(found.waves) > 1) == ([], True)


@pytest.mark.parametrize("rows", blocks("json"))
def test_every_row_on_the_page_plans(samples: Path, rows: str) -> None:
    folder = samples / "sample_manifests"
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    found = survey(job_for("rows.jsonl"), base=folder)
    assert (found.problems, len(found.waves)) == ([], 3)
    assert len(list(requests_of(found))) == rows.count("\n")


def test_every_setting_that_a_turn_may_say_is_listed() -> None:
    listed = re.search(r"A turn may say (.*?)\. What", PAGE, flags=re.DOTALL)
    assert listed is not None
    names = set(re.findall(r"`(\w+)`", listed[1]))
    apart = {"model", "variants", "roles", "turns", "from_", "references", *SETTINGS}
    assert names == {field.name for field in msgspec.structs.fields(Settings)} - apart


def test_the_last_of_each_conversation_is_what_the_page_says(
    service: emulator.Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is blocked at its last turn: what came of that has no path, and not the path of the turn before it."""
    (tmp_path / "cars.csv").write_text("id,prompt,prompt_2\na,a car,by night\nb,a van,in the rain\n")
    service.fault("image_safety", prompt="by night")
    shell = Shell(tmp_path, service.environment())
    shell("run", "cars.csv", "--yes", "--max-usd", "5")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    seen: dict[str, Any] = {}
    exec(code, seen)
    last = seen["last"].set_index("key")
    assert last["turn"].to_dict() == {"a": 1, "b": 1}
    assert last["outcome"].to_dict() == {"a": "blocked", "b": "ok"}
    assert last["path"].notna().to_dict() == {"a": False, "b": True}


def test_takes_are_the_latest_or_all(
    service: emulator.Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/running.md says of a retry."""
    (tmp_path / "cars.csv").write_text("id,prompt,prompt_2\na,a car,by night\n")
    service.fault("image_safety", prompt="a car", times=1)
    shell = Shell(tmp_path, service.environment())
    shell("run", "cars.csv", "--yes", "--max-usd", "5")
    said = shell("retry", "--outcome", "blocked", "--yes")
    assert "1 request (1 blocked), and 1 that follows, for about $0." in said.err
    monkeypatch.chdir(tmp_path)
    run = nightshoot.open_run()
    assert list(run.index()["outcome"]) == ["ok", "ok"]
    assert sorted(run.index(takes="all")["outcome"]) == ["blocked", "no_parent", "ok", "ok"]
    assert repr(run.show()).count(", turn 1, ok") == 1
    with pytest.raises(nightshoot.BadInput, match="takes"):
        run.index(takes="some")  # type: ignore[arg-type]
