"""docs/turns.md says what is: its jobs and rows can be planned, and the plan that it shows is the plan."""

import re
import shutil
import tomllib
from pathlib import Path

import msgspec
import pytest

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
    (block,) = blocks("console")
    command, _, shown = block.partition("\n")
    said = Shell(samples, {})(*command.split()[2:])
    told = [line for line in said.out.splitlines() if not line.startswith("  cap")]
    assert "\n".join(told) + "\n" == shown


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
