"""What looks into runs, this machine and the account."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.ending import STILL_RUNNING, report
from pipeline.commands.options import common, console_of, run_argument, was_given
from pipeline.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd

    from pipeline.console import Console
    from pipeline.run import Run


@click.command()
@run_argument
@click.option("--exit-code", is_flag=True, help="6 while the run goes on.")
@common
def status(run: str | None, exit_code: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """How far a run is, from its directory alone.

    \b
      nightshoot status                  the newest run
      nightshoot status shoes            the newest run of a job
    """

    from pipeline.console import batch_lines
    from pipeline.session import opened, which

    console = console_of(as_json, verbose)
    found = opened(run, runs)
    console.note(which(found))
    report(console, found)
    console.detail(*batch_lines(found))
    if exit_code and not found.state.finished:
        sys.exit(STILL_RUNNING)


@click.command()
@run_argument
@click.option("--columns", metavar="A,B", help="These columns only.")
@click.option("--where", metavar="EXPR", help="These rows only, as pandas' query: \"outcome != 'ok'\".")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="The first so many; 0: all. With --json or -o all, unless it is given.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Into one .csv, .jsonl or .parquet file."
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Answers of words and pictures, a Markdown file each, with their pictures.",
)
@click.option("--follow", is_flag=True, help="Every row as it becomes final, until the run is finished.")
@click.option("--again", is_flag=True, help="What waits to be asked again, with what came of it last.")
@click.option(
    "--takes",
    type=click.Choice(["latest", "all"]),
    default="latest",
    show_default=True,
    help="Of what was asked once more: the latest answer, or the earlier ones too.",
)
@common
def index(
    run: str | None,
    columns: str | None,
    where: str | None,
    rows: int,
    output: Path | None,
    markdown: Path | None,
    follow: bool,
    again: bool,
    takes: str,
    as_json: bool,
    verbose: int,
    runs: str | None,
) -> None:
    """Every request and what came of it.

    \b
      nightshoot index --where "outcome != 'ok'" --columns key,shot,message
      nightshoot index -o shoes.csv
      nightshoot index --again --columns key,outcome,text
      nightshoot index --markdown recipes
      nightshoot index --follow --json
    """
    from pipeline.index import read_again, read_index
    from pipeline.session import opened, which
    from pipeline.tally import tally

    given = {name for name, option in _NAMES.items() if was_given(option)}
    _check_together(given)
    console = console_of(as_json, verbose)
    found = opened(run, runs)
    console.note(which(found))
    chosen = [name.strip() for name in columns.split(",")] if columns is not None else None
    if follow:
        _follow(console, found, chosen, where)
        return
    if markdown is not None:
        _tell(console, found, markdown, where)
        return
    if "--rows" not in given and (as_json or output is not None):
        rows = 0  # twenty are for people to look at
    if again:
        table = read_again(found, columns=chosen, where=where)
    else:
        table = read_index(found, columns=chosen, where=where, takes=takes)
    waits = tally(found).again
    more = [] if again else _more(waits)
    if output is not None:
        _write(console, found, table, output, rows=rows, waits=waits, more=more)
        return
    _show(console, found, table, rows=rows, narrow=chosen is None, waits=waits, more=more)


_NAMES = {
    "--columns": "columns",
    "--rows": "rows",
    "-o": "output",
    "--markdown": "markdown",
    "--follow": "follow",
    "--again": "again",
    "--takes": "takes",
}
_NO_FILE = ("--follow prints rows and writes no file", "nightshoot index --follow --json > rows.jsonl")
_OF_ITS_OWN = "--markdown writes files of its own"
_WITHOUT = "leave one of them out; --where chooses rows for --markdown too"
_APART = {
    ("--follow", "-o"): _NO_FILE,
    ("--follow", "--markdown"): _NO_FILE,
    ("--follow", "--rows"): (
        "--follow prints every row as it becomes final",
        "leave --rows out; --where chooses rows for --follow too",
    ),
    ("--follow", "--again"): (
        "--follow prints what is final, and that is not",
        "nightshoot index --again tells what waits now",
    ),
    ("--follow", "--takes"): ("--follow prints every take as it becomes final", "leave --takes out"),
    ("--again", "--takes"): ("what waits has one answer, its last", "leave --takes out"),
    ("--markdown", "--takes"): (_OF_ITS_OWN, "leave --takes out: the latest takes are written about"),
    ("--markdown", "--again"): (
        "what waits to be asked again has no pictures to write about",
        "nightshoot index --again -o waiting.csv",
    ),
    ("--markdown", "-o"): (_OF_ITS_OWN, "run it twice: with --markdown, and with -o"),
    ("--markdown", "--columns"): (_OF_ITS_OWN, _WITHOUT),
    ("--markdown", "--rows"): (_OF_ITS_OWN, _WITHOUT),
}
"""Options of which one would be ignored: what the first does instead, and what to do."""


def _check_together(given: "Collection[str]") -> None:
    """Raises BadInput where one option says nothing beside another."""
    for (option, other), (why, hint) in _APART.items():
        if option in given and other in given:
            raise BadInput(f"{option} {other}: {why}", hint=hint)


def _more(waits: int) -> list[str]:
    """What the index does not have yet, though there was an answer."""
    match waits:
        case 0:
            return []
        case 1:
            return ["1 more waits to be asked again; --again shows it"]
        case count:
            return [f"{count:,} more wait to be asked again; --again shows them"]


def _show(
    console: "Console",
    found: "Run",
    table: "pd.DataFrame",
    *,
    rows: int,
    narrow: bool,
    waits: int,
    more: "Sequence[str]",
) -> None:
    from pipeline.console import table_mark
    from pipeline.index import show

    _, marks = table_mark(found.created.service)
    lines, document = show(table, rows=rows, narrow=narrow)
    document |= {"again": waits, **marks}
    console.result([*lines, *more], document)  # lines alone: they are piped, and the first note has said it


def _write(
    console: "Console",
    found: "Run",
    table: "pd.DataFrame",
    output: Path,
    *,
    rows: int,
    waits: int,
    more: "Sequence[str]",
) -> None:
    from pipeline.console import table_mark
    from pipeline.index import first, write

    mark, marks = table_mark(found.created.service)
    some = first(table, rows)
    write(some, output)
    what = (
        f"{len(table):,} rows"
        if len(some) == len(table)
        else f"the first {len(some):,} of {len(table):,} rows"
    )
    wrote = f"wrote {what} to {output}" + (f", {mark}" if mark else "")
    document = {"rows": len(some), "of": len(table), "file": str(output), "again": waits}
    console.result([wrote, *more], document | marks)


def _tell(console: "Console", found: "Run", folder: Path, where: str | None) -> None:
    from pipeline import story
    from pipeline.console import table_mark
    from pipeline.index import read_index

    mark, marks = table_mark(found.created.service)
    rows = read_index(found, columns=["batch", "place"], where=where)
    told = story.write(found, folder, chosen=set(zip(rows["batch"], rows["place"], strict=True)))
    files = "1 file" if told.files == 1 else f"{told.files:,} files"
    wrote = f"wrote {files} with {told.pictures:,} pictures into {folder}" + (f", {mark}" if mark else "")
    shown = [f"Google asks that what is in {folder / story.CREDITS} be shown with them"]
    if not told.files:
        wrote = "wrote nothing: no answer has words beside its picture, or several pictures"
    document = {"folder": str(folder), "files": told.files, "pictures": told.pictures}
    console.result([wrote, *(shown if told.credits else [])], document | marks)


def _follow(console: "Console", found: "Run", columns: list[str] | None, where: str | None) -> None:
    from pipeline.clock import clock_for
    from pipeline.console import table_mark
    from pipeline.index import follow, records, told
    from pipeline.run import open_run

    _, marks = table_mark(found.created.service)
    run = open_run(found.storage, clock_for(found.created.service))
    for frame in follow(run, columns=columns, where=where):
        rows = (
            [{"row": row, **marks} for row in records(frame)]
            if console.as_json
            else told(frame, narrow=columns is None)
        )
        if not console.stream(rows):
            return


@click.command()
@click.argument("job", required=False)
@click.option("--model", metavar="NAME", help="The model, whatever the job says.")
@click.option("--offline", is_flag=True, help="Only what needs no network.")
@click.option("--live", is_flag=True, help="Shoot two small pictures for at most $0.10, and see what holds.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="With --live: a lower cap.")
@click.option("-y", "--yes", is_flag=True, help="With --live: ask nothing.")
@common
def doctor(
    job: str | None,
    model: str | None,
    offline: bool,
    live: bool,
    max_usd: float | None,
    yes: bool,
    as_json: bool,
    verbose: int,
    runs: str | None,
) -> None:
    """See whether a night could begin: key, model, place, clock, prices. Spends nothing. Exit 1 on a problem.

    \b
      nightshoot doctor jobs/shoes.toml
      nightshoot doctor --live           one batch of two pictures, for at most $0.10
    """
    console = console_of(as_json, verbose)
    if live and offline:
        raise BadInput("--live --offline: one of them", hint="nightshoot doctor --live asks before it spends")
    if live:
        from pipeline.trial import try_it

        sys.exit(try_it(console, job, runs=runs, model=model, max_usd=max_usd, yes=yes))
    from pipeline.console import table_mark
    from pipeline.doctor import examine, patient_of
    from pipeline.findings import Level, document_of, lines_of

    patient = patient_of(job, runs=runs, model=model)
    findings = list(examine(patient, offline=offline))
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    _, marks = table_mark(patient.service)
    documents = [document_of(finding) for finding in findings]
    console.result(lines_of(findings), {"problems": problems, "findings": documents, **marks})
    console.note("Next: nightshoot plan" if not problems else "Next: mend it, and  nightshoot doctor  again")
    sys.exit(1 if problems else 0)


@click.command()
@click.argument("job", required=False)
@click.option("--adopt", is_flag=True, help="Give those back to their runs that may be given back.")
@common
def orphans(job: str | None, adopt: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Jobs on your account that are paid for and that no run waits for. Exit 1 if some are left.

    \b
      nightshoot orphans --adopt
    """
    from pipeline.console import table_mark
    from pipeline.orphans import document_of, find_orphans, lines_of, take_in
    from pipeline.session import account_of

    console = console_of(as_json, verbose)
    backend, folder, clock = account_of(job, runs)
    found = find_orphans(backend, folder, clock=clock)
    for orphan in found.found if adopt else ():
        take_in(orphan, backend)
    documents = [document_of(orphan) for orphan in found.found]
    _, marks = table_mark(backend.service)
    console.result(lines_of(found), {"orphans": documents, "complete": found.complete, **marks})
    adopted = sorted({orphan.run.name for orphan in found.found if orphan.adopted and orphan.run})
    console.note(*(f"Next: nightshoot tick {name}" for name in adopted))
    if not adopt and any(orphan.why is None for orphan in found.found):
        console.note("Next: nightshoot orphans --adopt")
    if not found.complete:
        sys.exit(5)
    sys.exit(1 if any(not orphan.adopted for orphan in found.found) else 0)
