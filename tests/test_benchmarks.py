"""The benchmarks run, in small; their figures mean nothing here."""

import subprocess
import sys

import pytest

from tests.shell import HOUSE


@pytest.mark.parametrize(
    "name",
    [
        "collecting",
        "downloading",
        "growing",
        "planning",
        "dataset",
        "inlining",
        "journal",
        "serving",
        "checking",
        "witness",
    ],
)
def test_a_benchmark_says_what_it_measured_on_what(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", "--small", "--only", name]
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("on ")
    assert f"\n{name}: " in done.stdout
