"""A process that drives a run to its end, and may be killed on the way.

python -m tests.driver RUN SERVICE FOLDER [WHEN KIND]. It says 'ready', waits for a line, and drives; in the end
it says how many records it lost the race for. With WHEN (before, after) and KIND (of a record, or the beginning of a
file's name) it kills itself there, at the first such write, as the kernel does when memory runs out.
"""

import os
import signal
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.backends import open_backend
from pipeline.clock import EmulatorClock
from pipeline.drive import Driver
from pipeline.run import open_run
from pipeline.storage import Storage, open_storage
from pipeline.survey import job_of, planner_for


class Deadly:
    """A storage on which one kind of write kills the process, before or after it landed."""

    def __init__(self, storage: Storage, when: str, kind: str) -> None:
        self._storage, self._when, self._kind = storage, when, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        self._die("before", name, b"")
        self._storage.put(name, data, content_type=content_type)
        self._die("after", name, b"")

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        self._die("before", name, data)
        self._storage.put_if_absent(name, data, content_type=content_type)
        self._die("after", name, data)

    def _die(self, when: str, name: str, data: bytes) -> None:
        is_it = fnmatchcase(name, f"{self._kind}*") or f'"kind":"{self._kind}"'.encode() in data
        if when == self._when and is_it:
            os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, service: str, folder: str, *deadly: str) -> None:
    storage: Any = open_storage(url)
    if deadly:
        storage = Deadly(storage, *deadly)
    clock = EmulatorClock(service)
    run = open_run(storage, clock)
    driver = Driver(
        run,
        open_backend(job_of(run), service=service, clock=clock, place=url),
        planner=planner_for(run, base=Path(folder)),
        workers=2,
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    driver.to_the_end()
    sys.stdout.write(f"{run.lost_races}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
