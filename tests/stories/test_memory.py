"""Nothing that grows with the run is held in memory."""

import json
import subprocess
import sys
from pathlib import Path

from tests.shell import HOUSE


def planned(folder: Path, rows: int) -> int:
    """The most memory, in bytes, of a process that looks over so many rows and draws all their batches."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--inside", "plan_rows"],
        input=json.dumps({"folder": str(folder), "rows": rows}),
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def test_ten_times_the_rows_are_planned_in_the_same_memory(tmp_path: Path) -> None:
    """Kept of each row are the eight bytes that find a key given twice. Its text alone would be ten megabytes more."""
    few, many = planned(tmp_path / "few", 2_000), planned(tmp_path / "many", 20_000)
    assert many - few < 10_000_000
