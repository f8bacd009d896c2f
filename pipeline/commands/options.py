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
verbose_option = click.option("-v", "--verbose", count=True, help="Say more; -vv also what libraries log.")
runs = click.option(
    "--runs",
    envvar="NIGHTSHOOT_RUNS",
    metavar="DIR",
    help="Where runs live: a folder, or gs://bucket/folder.",
)
common = options(json, verbose_option, runs)
run_argument = click.argument("run", required=False)

job_argument = options(
    click.argument("job", required=False),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows."),
    click.option("--where", metavar="EXPR", help="Only rows for which it holds: \"colour == 'red'\"."),
    click.option("--key", "keys", multiple=True, metavar="KEY", help="Only this row; may be repeated."),
    click.option("--set", "changes", multiple=True, metavar="K=V", help="Above job and manifest: model, ..."),
    click.option("--prompt", metavar="TEXT", help="With a manifest for a job: the prompt, '{{ caption }}'."),
    click.option("--model", metavar="NAME", help="The model, whatever the job says."),
    click.option("--models", metavar="FILE", help="Laid over the table of models and prices."),
    common,
)
spend = options(
    click.option(
        "--max-usd", type=click.FloatRange(min=0, min_open=True), help="Never order more than this."
    ),
    click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs a cap."),
    click.option("--new", is_flag=True, help="A new run, whatever there is."),
    click.option(
        "--skip-bad", is_flag=True, help="Shoot the good rows; the others are in the index with a reason."
    ),
)


def was_given(name: str) -> bool:
    """Whether the person said this option, and it is no default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def console_of(as_json: bool, verbose: int) -> "Console":
    from pipeline.console import Console

    # What the house warns of is said to people; what libraries log, to who asks for it.
    level = logging.DEBUG if verbose > 1 else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="  %(message)s", force=True)
    for library in ("google_genai", "google", "urllib3", "httpx2"):
        logging.getLogger(library).setLevel(logging.DEBUG if verbose > 1 else logging.ERROR)
    return Console(as_json=as_json, verbose=verbose)
