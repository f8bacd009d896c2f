"""Each measurement in a process of its own, so that its memory is its own; with a watch on it from outside."""

import json
import mmap
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parent.parent
MOST_WARM, SPARE = 9 << 30, 1 << 30  # bytes: what the largest side takes, and what the machine itself needs
INTERVAL = 0.02  # seconds between two looks at a process's memory


def child(name: str, facts: dict[str, object], *, watched: bool = True) -> dict[str, float]:
    """What a measurement told; and 'memory', the most that it and its children had at once, imports included."""
    os.sync()  # what another one wrote is not to be waited for by this one
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--inside", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HOUSE,
    )
    watch = _Watch(process.pid)
    if watched:
        watch.start()
    said, trouble = process.communicate(json.dumps(facts))
    watch.ended.set()
    if watched:
        watch.join()
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{trouble}")
    told: dict[str, float] = json.loads(said.splitlines()[-1])
    return {**told, "memory": watch.most or told["peak"]} if watched else told


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are measured against each other."""

    name: str
    measurement: str
    facts: dict[str, object]
    made: Path  # what it makes
    begin: Callable[[], object] = lambda: None  # what it needs first


def race(sides: Sequence[Side], *, rounds: int) -> dict[str, dict[str, float]]:
    """What each side told when it was fastest: by turns, for a machine's other guests only ever slow it down.

    And how much memory it took, in a round of its own: to look at a process's memory holds it up, the larger the
    longer. What was made is put aside: a disk from which a thousand files were just removed is slow to take new ones.
    """
    told: dict[str, dict[str, float]] = {}
    for turn in range(rounds + 1):
        for side in sides:
            side.begin()
            if rounds > 1:
                warm()
            one = child(side.measurement, side.facts, watched=turn == rounds)
            aside = side.made.with_name(f"{side.made.name} {turn}")
            side.made.rename(aside)
            _forget(aside)
            best = told.setdefault(side.name, one)
            if turn == rounds:
                best["memory"] = one["memory"]
            elif one["seconds"] < best["seconds"]:
                told[side.name] = one
    return told


def _forget(folder: Path) -> None:
    """What lies there is on the disk, and takes no memory from those who come next."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm() -> None:
    """Have this machine's memory at hand. Where it is a virtual one its host takes back what lies idle, and a page
    costs many times as much for whoever touches it first: that is not to be one side's bad luck.
    """
    told = {"/proc/meminfo": "", "/sys/fs/cgroup/memory.max": ""}
    for name in told:
        with suppress(OSError):
            told[name] = Path(name).read_text()
    free = re.search(r"MemFree: +(\d+) kB", told["/proc/meminfo"])
    allowed = told["/sys/fs/cgroup/memory.max"].strip()
    size = min(MOST_WARM, (int(free[1]) << 10) - SPARE) if free else 0
    size = min(size, int(allowed) // 2) if allowed.isdigit() else size
    if size > 0:
        with mmap.mmap(-1, size) as memory:
            for page in range(0, size, mmap.PAGESIZE):
                memory[page] = 1


class _Watch(threading.Thread):
    """The proportional set size of a process and its children: memory shared among them counts once."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.most = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(INTERVAL):
            self.most = max(self.most, sum(_size(each) for each in _family(self._process)))


def _family(process: int) -> Iterator[int]:
    yield process
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = tasks.read_text().split()
        except OSError:  # it has ended meanwhile
            continue
        for each in children:
            yield from _family(int(each))


def _size(process: int) -> int:
    """Bytes; 0 where the system does not tell."""
    try:
        told = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in told.splitlines() if line.startswith("Pss:"))
