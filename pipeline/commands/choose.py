"""What helps to choose words and settings before a whole run is paid for."""

import sys
from typing import Any

import click

from pipeline.commands.ending import go_on
from pipeline.commands.options import common, console_of, job_argument, json


@click.command()
@click.argument("job", required=False)
@click.option("--rows", type=click.IntRange(1, 100), help="How many; 6 otherwise.")
@click.option("--where", metavar="EXPR", help="Of rows for which it holds: \"colour == 'red'\".")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Just this row; may be repeated.")
@click.option("--set", "changes", multiple=True, metavar="K=V", help="Above job and manifest: model, ...")
@click.option("--prompt", metavar="TEXT", help="With a manifest for a job: the prompt, '{{ caption }}'.")
@click.option("--model", metavar="NAME", help="The model, whatever the job says.")
@click.option("--models", metavar="FILE", help="Laid over the table of models and prices.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Never order more than this.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs a cap.")
@common
def proof(job: str | None, as_json: bool, verbose: int, runs: str | None, **chosen: Any) -> None:
    """Shoot a few rows at once, at full price, onto one page.

    \b
      nightshoot proof jobs/shoes.toml
      nightshoot proof jobs/shoes.toml --rows 3 --where "colour == 'red'"
    """
    from pipeline.proof import prove

    if not prove(console_of(as_json, verbose), job, runs=runs, **chosen):
        sys.exit(1)


@click.command()
@click.argument("name", required=False)
@json
def shots(name: str | None, as_json: bool) -> None:
    """Prompts that work, to be used by name in a job.

    \b
      nightshoot shots
      nightshoot shots product-studio    its words, and a job that uses it
    """
    from pipeline.library import document_of, find, lines_of

    recipes = find(name)
    console_of(as_json, 0).result(lines_of(recipes), {"shots": document_of(recipes)})


@click.command()
@job_argument
@click.option(
    "--scenario", metavar="FILE", help="How the night goes: quiet-night, bad-night, or a TOML file."
)
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="The cap of the real run.")
@click.option("--skip-bad", is_flag=True, help="Rehearse the good rows.")
def rehearse(job: str | None, as_json: bool, verbose: int, runs: str | None, **chosen: Any) -> None:
    """Shoot a job on an emulator of its own: a night in seconds.

    \b
      nightshoot rehearse jobs/shoes.toml --scenario bad-night
    """
    from pipeline.rehearsal import rehearse as live_through

    del runs
    live_through(console_of(as_json, verbose), job, go_on=go_on(), **chosen)
