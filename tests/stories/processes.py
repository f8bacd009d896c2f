"""Real processes for stories: drivers that start together, and drivers that are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import Bench

ROOT = Path(__file__).parents[2]


def start(bench: Bench, url: str, *deadly: str) -> "subprocess.Popen[str]":
    """A driver of this run in a process of its own, ready to go when it is told."""
    command = [sys.executable, "-m", "tests.driver", url, bench.service.url, str(bench.folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), **bench.service.environment()}
    environment |= {"GEMINI_API_KEY": bench.key, "GOOGLE_CLOUD_PROJECT": bench.key}
    return subprocess.Popen(
        [*command, *deadly],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=bench.folder,
        env=environment,
    )


def release(*drivers: "subprocess.Popen[str]") -> None:
    """Wait until all are ready, and let them go at once."""
    for driver in drivers:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("go\n")
        driver.stdin.flush()


def finish(drivers: Sequence["subprocess.Popen[str]"], *, within: float = 60) -> list[int]:
    """How many records each lost the race for. All have come to the end."""
    said = [driver.communicate(timeout=within)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0] * len(drivers)
    return [int(text) for text in said]


def kill(bench: Bench, url: str, when: str, kind: str, nth: int = 1) -> None:
    """A driver that works until the kernel takes it away, right before or right after the nth write of this kind."""
    driver = start(bench, url, when, kind, str(nth))
    release(driver)
    driver.communicate(timeout=60)
    assert driver.returncode == -signal.SIGKILL, f"it was to die {when} {kind} {nth}"
