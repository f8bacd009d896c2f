"""docs/python.md is a program, and shows what it shows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import emulator

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    for name in ("jobs", "sample_manifests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def run(page: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.page", str(page)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_everything_the_page_shows_is_what_happens(service: emulator.Service, samples: Path):
    done = run(PAGE, samples, **service.environment())
    assert (done.returncode, done.stdout) == (0, "16 results are as shown\n"), done.stderr
    assert len(service.ledger(rows=False)["jobs"]) == 2


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("# about $0.45,", "# about $0.46,"), ("# (0.45, {'ok': 24})", "# (0.45, {'ok': 23})")],
)
def test_a_page_that_shows_something_else_is_found_out(
    service: emulator.Service, samples: Path, right: str, wrong: str
):
    page = samples / "page.md"
    text = PAGE.read_text(encoding="utf-8")
    assert right in text
    page.write_text(text.replace(right, wrong), encoding="utf-8")
    done = run(page, samples, **service.environment())
    assert done.returncode == 1
    assert wrong.removeprefix("# ") in done.stderr
