"""A process that drives a run to its end, and may be killed on the way.

python -m tests.driver RUN SERVICE FOLDER [WHEN KIND [NTH]]. It says 'ready', waits for a line, and drives; in the end
it says how many records it lost the race for. With WHEN (before, after) and KIND (of a record, or the beginning of a
file's name) it kills itself there, at the first such write or a later one, as the kernel does when memory runs out.
BROUGHT names a file that has a byte for each byte of results that it read, which outlives it.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
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

    def __init__(self, storage: Storage, when: str, kind: str, nth: str = "1") -> None:
        self._storage, self._when, self._kind = storage, when, kind
        self._left, self._lock = int(nth), threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        self._die("before", name, b"")
        self._storage.put(name, data, content_type=content_type)
        self._die("after", name, b"")

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        end = self._storage.begin(name, data, content_type=content_type)

        def ended() -> None:
            self._die("before", name, b"")
            end()
            self._die("after", name, b"")

        return ended

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        self._die("before", name, data)
        self._storage.put_if_absent(name, data, content_type=content_type)
        self._die("after", name, data)

    def _die(self, when: str, name: str, data: bytes) -> None:
        is_it = fnmatchcase(name, f"{self._kind}*") or f'"kind":"{self._kind}"'.encode() in data
        if when == self._when and is_it:
            with self._lock:
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)


class Counted(io.RawIOBase):
    """A stream of a result, of which every byte that is read is counted in a file."""

    def __init__(self, stream: Any, file: str) -> None:
        self._stream, self._file = stream, os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read1(len(buffer))
        buffer[: len(piece)] = piece
        size = os.fstat(self._file).st_size
        os.ftruncate(self._file, size + len(piece))
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        os.close(self._file)
        super().close()


class Counting:
    """A backend that counts what it brings where a kill does not reach."""

    def __init__(self, backend: Any, file: str) -> None:
        self._backend, self._file = backend, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        stream = self._backend.open(ticket, file, start=start, end=end)
        return io.BufferedReader(Counted(stream, self._file), 1 << 16)


def main(url: str, service: str, folder: str, *deadly: str) -> None:
    storage: Any = open_storage(url)
    if deadly:
        storage = Deadly(storage, *deadly)
    clock = EmulatorClock(service)
    run = open_run(storage, clock)
    backend: Any = open_backend(job_of(run), service=service, clock=clock, place=url)
    driver = Driver(
        run,
        Counting(backend, os.environ["BROUGHT"]) if "BROUGHT" in os.environ else backend,
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
