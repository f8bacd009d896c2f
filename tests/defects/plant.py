"""One defect, planted in a copy of the house, and whether the tests notice."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parent.parent.parent
COPIED = (
    "pipeline",
    "tests",
    "nightshoot.py",
    "pyproject.toml",
    "sample_manifests",
    "jobs",
    "docs",
    "benchmarks",
)


PATIENCE = 300.0
"""Seconds for the tests of one defect. One that makes them hang is to be planted otherwise: nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Defect:
    """A line that somebody could write, and the tests that must not let it pass."""

    name: str  # what is wrong, in words
    file: str
    old: str  # stands in the file exactly once
    new: str
    tests: tuple[str, ...]  # where it must be noticed: files, or single tests


@dataclass(frozen=True, slots=True)
class Verdict:
    defect: Defect
    noticed: bool
    by: str  # the first test that failed, or what else happened


def try_defect(defect: Defect) -> Verdict:
    """Copy, plant, test. A defect that breaks the import, or no longer fits its file, proves nothing: it raises."""
    with tempfile.TemporaryDirectory(prefix="defect-") as folder:
        copy = Path(folder) / "house"
        copy.mkdir()
        for name in COPIED:
            source = HOUSE / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        plant(defect, copy)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        done = subprocess.run(
            [*command, *defect.tests],
            cwd=copy,
            env={
                **os.environ,
                "PYTHONPATH": str(copy),
                "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / ".hypothesis"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    if done.returncode not in (0, 1):
        raise AssertionError(
            f"{defect.name}: the tests did not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return Verdict(defect, done.returncode == 1, failed[1] if failed else "every test passed")


def plant(defect: Defect, house: Path) -> None:
    path = house / defect.file
    text = path.read_text(encoding="utf-8")
    if text.count(defect.old) != 1:
        raise AssertionError(
            f"{defect.name}: {defect.old!r} stands {text.count(defect.old)} times in {defect.file}"
        )
    path.write_text(text.replace(defect.old, defect.new), encoding="utf-8")
