"""Options that several commands share, and the console that they ask for."""

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.console import Console

F = TypeVar("F", bound=Callable[..., Any])


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
verbose = click.option("-v", "--verbose", count=True, help="Say more; -vv also what libraries log.")
runs = click.option(
    "--runs",
    envvar="NIGHTSHOOT_RUNS",
    metavar="DIR",
    help="Where runs live: a folder, or gs://bucket/folder.",
)
common = options(json, verbose, runs)
run_argument = click.argument("run", required=False)


def console_of(as_json: bool, verbose: int) -> "Console":
    from pipeline.console import Console

    # What the house warns of is said to people; what libraries log, to who asks for it.
    level = logging.DEBUG if verbose > 1 else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="  %(message)s", force=True)
    for library in ("google_genai", "google", "urllib3", "httpx2"):
        logging.getLogger(library).setLevel(logging.DEBUG if verbose > 1 else logging.ERROR)
    return Console(as_json=as_json, verbose=verbose)
