"""Each measurement in a process of its own, so that its memory is its own; with a watch on it from outside."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

HOUSE = Path(__file__).parent.parent
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


def race(name: str, facts: dict[str, object], made: Path, *, begin: Callable[[], object]) -> dict[str, float]:
    """The same for a measurement that counts seconds: how many, and in another go how much memory.

    To look at a process's memory holds it up, the larger the longer. What it made is put aside: a disk from which a
    thousand files were just removed is slow to take new ones.
    """
    begin()
    alone = child(name, facts, watched=False)
    made.rename(made.with_name(f"{made.name} before"))
    begin()
    return {**alone, "memory": child(name, facts)["memory"]}


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
