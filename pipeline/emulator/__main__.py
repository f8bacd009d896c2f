"""`python -m pipeline.emulator`: serve until told to stop, and say first what to export."""

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from pipeline.emulator import START, Service
from pipeline.emulator.app import build
from pipeline.emulator.clock import VirtualClock, parse
from pipeline.emulator.server import Server, bind, server
from pipeline.emulator.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    clock = VirtualClock(parse(options.start), speed=options.speed)
    with tempfile.TemporaryDirectory(prefix="emulator-") as folder:
        data = options.data or Path(folder)
        data.mkdir(parents=True, exist_ok=True)
        running = server(build(settings(options, data), clock))
        listener = bind(options.port)
        announce(f"http://127.0.0.1:{listener.getsockname()[1]}")
        if options.with_parent:
            threading.Thread(target=leave_with_parent, args=(running,), daemon=True).start()
        running.run(sockets=[listener])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data", type=Path, help="where uploads are spooled; a temporary folder otherwise")
    parser.add_argument("--start", default=START, help="the virtual time it begins at")
    parser.add_argument("--speed", type=float, default=1.0, help="virtual seconds a second; 0 stands still")
    parser.add_argument("--seed", type=int, default=0, help="of pictures, durations and order")
    parser.add_argument("--queue", type=float, nargs=2, metavar=("FROM", "TO"), help="virtual seconds")
    parser.add_argument("--run", type=float, nargs=2, metavar=("FROM", "TO"), help="virtual seconds")
    parser.add_argument("--bucket", action="append", default=[], help="of Cloud Storage; may be given again")
    parser.add_argument(
        "--picture-bytes", type=int, help="size of a 1K picture; the real ones have about 1500000"
    )
    parser.add_argument("--no-range", action="store_true", help="downloads ignore Range")
    parser.add_argument("--lenient", action="store_true", help="unknown fields in lines are ignored")
    parser.add_argument(
        "--with-parent", action="store_true", help="end when the process that started it does"
    )
    return parser


def settings(options: argparse.Namespace, data: Path) -> Settings:
    given = {
        "queue": tuple(options.queue) if options.queue else None,
        "run": tuple(options.run) if options.run else None,
        "picture_bytes": options.picture_bytes,
    }
    return Settings(
        data=data,
        seed=options.seed,
        buckets=tuple(options.bucket),
        ranges=not options.no_range,
        lenient=options.lenient,
        **{name: value for name, value in given.items() if value is not None},
    )


def announce(url: str) -> None:
    """What to export, a line each, at once: whoever started this reads it through a pipe."""
    for name, value in Service(url).environment().items():
        sys.stdout.write(f"export {name}={value}\n")
    sys.stdout.flush()


def leave_with_parent(running: Server) -> None:
    """An orphan is adopted by somebody else; that is how it notices."""
    parent, never = os.getppid(), threading.Event()
    while not never.wait(0.2):
        if os.getppid() != parent:
            running.stop()
            return


if __name__ == "__main__":
    main()
