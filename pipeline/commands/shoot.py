"""What shoots, and what is asked before: from a manifest to pictures."""

import sys
from pathlib import Path
from typing import Any

import click

from pipeline.commands.ending import TO_SEND, finish, go_on
from pipeline.commands.options import common, console_of, job_argument, json, spend, verbose_option
from pipeline.errors import BadInput


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--from", "source", type=click.Path(path_type=Path), help="The manifest; the same as FILE.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Instead of jobs/NAME.toml.")
@click.option("--tier", type=click.IntRange(1, 3), help="Of your Google account; asked for on a terminal.")
@common
def init(
    file: Path | None,
    source: Path | None,
    output: Path | None,
    tier: int | None,
    as_json: bool,
    verbose: int,
    runs: str | None,
) -> None:
    """Write a first job for a manifest.

    \b
      nightshoot init products.csv       writes jobs/products.toml
    """
    from pipeline.draft import write_job
    from pipeline.manifest import open_manifest

    chosen = file or source
    if chosen is None:
        raise BadInput("no manifest given", hint="nightshoot init products.csv")
    path = output or Path("jobs") / f"{chosen.name.split('.')[0]}.toml"
    manifest = open_manifest(chosen)
    if path.exists():
        raise BadInput(f"{path}: is there already", hint="edit it, or write another: -o FILE")
    console = console_of(as_json, verbose)
    if tier is None and console.can_ask():
        said = console.answer("Your Google tier (1, 2, 3; see aistudio.google.com)?", default="1")
        tier = int(said) if said in ("1", "2", "3") else 1
    text = write_job(path, manifest, tier=tier)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    console.note(*([str(manifest.feed)] if manifest.feed else []))
    console.note(*(f"warning: {warning}" for warning in manifest.warnings))
    lines = [f"wrote {path}", f"Next: edit the prompt, then  nightshoot plan {path}"]
    console.result(lines, {"job": str(path), "columns": list(manifest.columns), "key": manifest.key})


@click.command()
@job_argument
@click.option("--detailed-exitcode", is_flag=True, help="8 if there is something to send.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Keep it in a file; run that file to buy just this."
)
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Say what this is enough for.")
def plan(
    job: str | None,
    detailed_exitcode: bool,
    save: Path | None,
    max_usd: float | None,
    as_json: bool,
    verbose: int,
    runs: str | None,
    **chosen: Any,
) -> None:
    """Say what a job would make, send and cost. Nothing is sent.

    \b
      nightshoot plan jobs/shoes.toml
      nightshoot plan prompts.csv --prompt '{{ caption }}' --limit 50
    """
    from pipeline.bounds import check_room
    from pipeline.money import nanos
    from pipeline.overview import notes, plan_document, plan_lines
    from pipeline.session import bad_rows_left_out, refuse_bad_rows, surveyed

    console = console_of(as_json, verbose)
    found = surveyed(job, runs=runs, **chosen)
    console.note(*notes(found))
    usd = found.job.max_usd if max_usd is None else max_usd
    cap = None if usd is None else nanos(usd)
    console.result(plan_lines(found, cap=cap, verbose=verbose), plan_document(found, cap=cap))
    check_room(found, runs or found.job.runs)
    if save is not None:
        from pipeline.saved import save as keep

        keep(save, found, job=job, chosen=chosen)
    if found.problems and not (found.bears_its_bad_rows and found.requests):
        refuse_bad_rows(found, go_on=go_on())
    console.note(*bad_rows_left_out(found))
    if detailed_exitcode and found.requests:
        sys.exit(TO_SEND)


@click.command()
@job_argument
def expand(job: str | None, as_json: bool, verbose: int, runs: str | None, **chosen: Any) -> None:
    """Print every request as JSON: what you see is what is sent.

    A line for each; together they are a manifest themselves.

    \b
      nightshoot expand jobs/shoes.toml --limit 5
    """
    from pipeline.overview import expanded, notes
    from pipeline.session import refuse_bad_rows, surveyed
    from pipeline.survey import requests_of

    del as_json
    console = console_of(False, verbose)
    # Whole, whatever was answered before: a conversation that begins in the middle is no row of a manifest.
    found = surveyed(job, runs=runs, nights_too=False, **chosen)
    console.note(*notes(found))
    console.stream(expanded(request) for request in requests_of(found))
    if found.problems:
        refuse_bad_rows(found, go_on=go_on())


@click.command()
@job_argument
@spend
@click.option(
    "--canary/--no-canary", default=True, help="On a big run, send 20 first and the rest when they are well."
)
@click.option(
    "--fail-under", type=click.FloatRange(0, 1), default=1.0, help="Exit 0 from this share of pictures on."
)
def run(
    job: str | None, fail_under: float, as_json: bool, verbose: int, runs: str | None, **chosen: Any
) -> None:
    """Shoot a job: send it, wait, bring the pictures home. Said again, it goes on.

    \b
      nightshoot run jobs/shoes.toml --max-usd 20
      nightshoot run prompts.parquet --prompt '{{ caption }}' --limit 50
    """

    from pipeline.session import begin_or_continue, shown_to_the_end

    console = console_of(as_json, verbose)
    driver = begin_or_continue(console, job, runs, go_on=go_on(), **chosen)
    shown_to_the_end(console, driver)
    finish(console, driver.run, fail_under)


@click.command()
@click.option(
    "--in", "folder", type=click.Path(path_type=Path), default=Path("demo"), help="Where; demo/ otherwise."
)
@json
@verbose_option
def demo(folder: Path, as_json: bool, verbose: int) -> None:
    """A whole run on the built-in emulator: no key, nothing paid.

    \b
      nightshoot demo
    """
    from pipeline.demonstration import demonstrate

    demonstrate(console_of(as_json, verbose), folder)
