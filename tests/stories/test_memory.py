"""Nothing that grows with the run is held in memory."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.collecting import begin_ours
from pipeline import staged
from pipeline.run import staged_file, wire_id
from pipeline.storage import open_storage
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


def answer(place: int) -> dict[str, Any]:
    """A line of a result as its part keeps it, about as long as they are."""
    sha256 = hashlib.sha256(b"%d" % place).hexdigest()
    final = {"path": f"pictures/00000/{place:04}-sku-{place}-{sha256[:8]}.png", "sha256": sha256}
    final |= {"width": 1024, "height": 1024, "mime": "image/png", "bytes": 1_500_000}
    return {
        "wire_id": wire_id(0, place),
        "file": "files/r",
        "offset": place * 2_000_000,
        "length": 2_000_000,
        "outcome": "ok",
        "text": f"Here is a photo of shoe {place} as you asked for it: {sha256}",
        "pictures": [final | {"declared_mime": "image/png", "role": "final", "checks": []}],
        "checks": [],
        "spent": 39_000_000,
        "response_id": sha256[:20],
        **final,
    }


def settled(folder: Path, rows: int) -> int:
    """The most memory, in bytes, of a process that settles a batch of so many rows, which are all home."""
    folder.mkdir()
    (folder / "result.jsonl").write_bytes(b"{}")
    begin_ours(folder=str(folder), pictures=rows)
    staged.keep(open_storage(str(folder / "run")), staged_file(0, 0), map(answer, range(rows)))
    # Not getrusage: a process inherits there what the one had that started it.
    program = (
        "import sys; from pathlib import Path; from benchmarks.collecting import collect_ours\n"
        "collect_ours(folder=sys.argv[1], pictures=int(sys.argv[2]))\n"
        "print(*[n.split()[1] for n in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in n])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(rows)],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux tells of memory")
def test_ten_times_the_rows_of_one_batch_are_settled_in_the_same_memory(tmp_path: Path) -> None:
    """Kept of each row is where its line lies and how it is judged. What its index says would be 20 MB more."""
    few, many = settled(tmp_path / "few", 1_000), settled(tmp_path / "many", 10_000)
    assert many - few < 10_000_000
