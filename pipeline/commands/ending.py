"""How commands end: their last lines, and their exit codes."""

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.run import Run

STILL_RUNNING, TO_SEND = 6, 8


def report(console: "Console", run: "Run") -> None:
    from pipeline.console import document_of, status_lines
    from pipeline.tally import tally

    now = tally(run)
    console.result(status_lines(now), document_of(now))


def finish(console: "Console", run: "Run", fail_under: float) -> None:
    """The morning's lines; and the exit code says whether there is something for a person to do."""
    from pipeline.console import document_of, summary_lines
    from pipeline.tally import tally

    now = tally(run)
    console.result(summary_lines(now), document_of(now))
    # Where the run does not lie in the usual folder it is named by its place.
    which = "" if now.url == f"runs/{now.name}" else f" {shlex.quote(now.url)}"
    console.note(f"Next: nightshoot index{which}" + (" --where \"outcome != 'ok'\"" if now.without else ""))
    if now.pictures + now.before < fail_under * now.total:
        sys.exit(1)


def go_on() -> str:
    """The command that shoots the good rows."""
    arguments = [
        "run" if argument in ("plan", "expand") else argument for argument in sys.argv[1:2]
    ] + sys.argv[2:]
    return shlex.join(["nightshoot", *arguments, "--skip-bad"])
