"""`nightshoot emulator`: Google on this machine. Says first what to export, then serves until told to stop."""

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.emulator import START, Service
from pipeline.emulator.app import build
from pipeline.emulator.clock import VirtualClock, checked, parse
from pipeline.emulator.gcs_objects import Problem as StorageProblem
from pipeline.emulator.scenario import Scenario, known, read, seconds
from pipeline.emulator.server import Server, bind, server
from pipeline.emulator.settings import Settings

WORDS = """
It serves the Developer API, Vertex AI and Cloud Storage on one address of 127.0.0.1, and prints the variables
to export, after which any program that uses Google's SDKs works against it. Its clock, faults, ledger and
events are at /_clock, /_faults, /_ledger and /_events; docs/emulator.md describes them.
"""
EXAMPLES = """
  nightshoot emulator --speed 60                       a minute takes a second
  nightshoot emulator --scenario bad-night --data e/   misfortune, kept across restarts
"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="emulator-") as folder:
        running, port = prepared(options, options.data or Path(folder))
        announce(f"http://127.0.0.1:{port.getsockname()[1]}")
        if options.with_parent is not None:
            watch = (running, options.with_parent)
            threading.Thread(target=leave_with_parent, args=watch, daemon=True).start()
        running.run(sockets=[port])


def prepared(options: argparse.Namespace, data: Path) -> tuple[Server, Any]:
    """A server that is ready to run, and the socket that clients can connect to already."""
    try:
        night = read(options.scenario) if options.scenario else None
        begins = options.start or (night.start if night else None) or START
        speed = options.speed if options.speed is not None else (night.speed if night else None) or 1.0
        clock = VirtualClock(parse(begins), speed=checked(speed))
        data.mkdir(parents=True, exist_ok=True)
        app = build(settings(options, data, night), clock, night)
        return server(app), bind(options.port)
    except (ValueError, OSError, StorageProblem) as error:
        sys.stderr.write(f"error: {error}\nhint: nightshoot emulator --help\n")
        raise SystemExit(2) from error


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nightshoot emulator",
        description=WORDS,
        epilog=f"examples:{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_argument_group("where and when")
    where.add_argument("--port", type=int, default=0, help="a free one otherwise")
    where.add_argument("--data", type=Path, metavar="DIR", help="keep all state here, and take it up again")
    where.add_argument("--start", metavar="TIME", help=f"the virtual time it begins at; {START} otherwise")
    where.add_argument("--speed", type=float, metavar="X", help="virtual seconds a second; 0 stands still; 1")
    where.add_argument(
        "--with-parent", type=int, metavar="PID", help="end with this process, which started it"
    )
    night = parser.add_argument_group("the night (options go before the scenario's settings)")
    night.add_argument(
        "--scenario", metavar="FILE", help=f"a TOML file of settings and faults, or {', '.join(known())}"
    )
    night.add_argument("--seed", type=int, help="of pictures, durations and order; 0")
    night.add_argument(
        "--queue", type=seconds, nargs=2, metavar=("FROM", "TO"), help="as in 20 90, or 5min 2h"
    )
    night.add_argument("--run", type=seconds, nargs=2, metavar=("FROM", "TO"), help="how long jobs run")
    service = parser.add_argument_group("the service")
    service.add_argument(
        "--bucket", action="append", metavar="NAME", help="of Cloud Storage; may be repeated"
    )
    service.add_argument(
        "--picture-bytes", type=int, metavar="N", help="of a 1K picture; the real ones have about 1500000"
    )
    service.add_argument("--no-range", action="store_true", help="downloads ignore Range")
    service.add_argument("--lenient", action="store_true", help="unknown fields in lines are ignored")
    service.add_argument("--show-keys", action="store_true", help="a row's key is written into its pictures")
    service.add_argument("--c2pa", action="store_true", help="every picture says that a machine made it")
    return parser


def settings(options: argparse.Namespace, data: Path, night: Scenario | None) -> Settings:
    """What is said on the command line, else what the scenario says, else what is usual."""
    given: dict[str, Any] = {
        "seed": options.seed,
        "queue": tuple(options.queue) if options.queue else None,
        "run": tuple(options.run) if options.run else None,
        "picture_bytes": options.picture_bytes,
        "buckets": tuple(options.bucket) if options.bucket else None,
        "ranges": False if options.no_range else None,
        "lenient": options.lenient or None,
        "show_keys": options.show_keys or None,
        "c2pa": options.c2pa or None,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    told = dict(night.settings) if night else {}
    return Settings(data=data, keep=options.data is not None, **{**told, **chosen})


def announce(url: str) -> None:
    """What to export, a line each, at once: whoever started this reads it through a pipe."""
    for name, value in Service(url).environment().items():
        sys.stdout.write(f"export {name}={value}\n")
    sys.stdout.flush()


def leave_with_parent(running: Server, parent: int) -> None:
    """An orphan is adopted by somebody else; that is how it notices.

    The parent is told and not looked up: it may have ended before there was anyone to look.
    """
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(0.2)
    running.stop()


if __name__ == "__main__":
    main()
