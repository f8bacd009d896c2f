"""The nightshoot command. The only module that exits; it prints through console."""

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import BadInput, NightshootError
from pipeline.frugal import one_heap
from pipeline.look import review
from pipeline.options import common as _common
from pipeline.options import console_of as _console
from pipeline.options import json as _json
from pipeline.options import options as _options
from pipeline.options import run_argument as _run_argument
from pipeline.options import verbose as _verbose

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.run import Run

STILL_RUNNING, TO_SEND, BUG, INTERRUPTED, TERMINATED = 6, 8, 70, 130, 143

GROUPS = {
    "Shoot": ("init", "plan", "expand", "run", "demo"),
    "Choose": ("proof", "shots", "rehearse"),
    "Every night": ("tick", "tidy"),
    "Look inside": ("status", "index", "review", "retry", "cancel", "doctor", "orphans"),
    "Pieces": ("submit", "poll", "collect", "emulator"),
}
"""The commands as a person meets them. What is not named here is listed last."""


class Grouped(click.Group):
    """Help that fits one screen, by what people want to do."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        named = {name for names in GROUPS.values() for name in names}
        rest = tuple(name for name in self.list_commands(context) if name not in named)
        for title, names in (*GROUPS.items(), ("Other", rest)):
            commands = [(name, self.get_command(context, name)) for name in names]
            rows = [(name, command.get_short_help_str(90)) for name, command in commands if command]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    from pipeline import __version__

    click.echo(f"nightshoot {__version__} (google-genai {version('google-genai')})")
    context.exit()


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Say which."
)
def cli() -> None:
    """Shoots a catalog overnight: a manifest in, pictures and an index out.

    \b
      nightshoot demo                    a whole run, without a key
      nightshoot init products.csv       writes jobs/products.toml
      nightshoot run --max-usd 20        shoots it
    """


class _Terminated(BaseException):
    """Somebody sent SIGTERM: end like an interruption, with the same words."""


def main() -> None:
    """The command, with every error a person can cause said in two lines, and never a traceback for it."""
    signal.signal(signal.SIGTERM, _terminate)
    one_heap()
    try:
        code = cli(prog_name="nightshoot", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        code = _wrong_usage(error)
    except NightshootError as error:
        from pipeline.console import Console

        Console().error(error)
        code = error.exit_code
    except OSError as error:
        sys.stderr.write(
            f"error: {error.filename or 'this machine'}: {(error.strerror or str(error)).lower()}\n"
        )
        sys.stderr.write(
            "hint: nothing that was paid for is lost; mend that and run the same command again\n"
        )
        code = 5
    except (KeyboardInterrupt, click.Abort):
        code = _interrupted(INTERRUPTED)
    except _Terminated:
        code = _interrupted(TERMINATED)
    except Exception as error:  # noqa: BLE001 - a bug of ours: say where its traceback lies, then stop
        code = _bug(error)
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


_GOES_ON = ("run", "proof", "submit", "tick", "poll", "collect")


def _interrupted(code: int) -> int:
    sys.stderr.write("\ninterrupted")
    if sys.argv[1:2] and (sys.argv[1] in _GOES_ON or "--live" in sys.argv):
        # --new would begin once more, and pay once more.
        command = shlex.join(["nightshoot", *(a for a in sys.argv[1:] if a != "--new")])
        sys.stderr.write(f"; what was sent goes on at Google\nhint: go on from here with  {command}")
    sys.stderr.write("\n")
    return code


def _wrong_usage(error: click.ClickException) -> int:
    """Click's own errors, said as all others are."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "nightshoot"
    sys.stderr.write(f"error: {message[:1].lower()}{message[1:]}\nhint: {command} --help\n")
    return 2


def _bug(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="nightshoot-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    sys.stderr.write(f"error: a bug in nightshoot: {type(error).__name__}: {error}\n")
    sys.stderr.write(f"hint: its traceback is in {file.name}; what is on disk stays as it is\n")
    return BUG


# --- options that several commands share -------------------------------------------------------------------------


_job = _options(
    click.argument("job", required=False),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows."),
    click.option("--where", metavar="EXPR", help="Only rows for which it holds: \"colour == 'red'\"."),
    click.option("--key", "keys", multiple=True, metavar="KEY", help="Only this row; may be repeated."),
    click.option("--set", "changes", multiple=True, metavar="K=V", help="Above job and manifest: model, ..."),
    click.option("--prompt", metavar="TEXT", help="With a manifest for a job: the prompt, '{{ caption }}'."),
    click.option("--model", metavar="NAME", help="The model, whatever the job says."),
    click.option("--models", metavar="FILE", help="Laid over the table of models and prices."),
    _common,
)
_spend = _options(
    click.option(
        "--max-usd", type=click.FloatRange(min=0, min_open=True), help="Never order more than this."
    ),
    click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs a cap."),
    click.option("--new", is_flag=True, help="A new run, whatever there is."),
    click.option(
        "--skip-bad", is_flag=True, help="Shoot the good rows; the others are in the index with a reason."
    ),
)


# --- Shoot -------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--from", "source", type=click.Path(path_type=Path), help="The manifest; the same as FILE.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Instead of jobs/NAME.toml.")
@click.option("--tier", type=click.IntRange(1, 3), help="Of your Google account; asked for on a terminal.")
@_common
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
    from pipeline.job import write_job
    from pipeline.manifest import open_manifest

    chosen = file or source
    if chosen is None:
        raise BadInput("no manifest given", hint="nightshoot init products.csv")
    path = output or Path("jobs") / f"{chosen.name.split('.')[0]}.toml"
    manifest = open_manifest(chosen)
    if path.exists():
        raise BadInput(f"{path}: is there already", hint="edit it, or write another: -o FILE")
    console = _console(as_json, verbose)
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


@cli.command()
@_job
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

    console = _console(as_json, verbose)
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
        refuse_bad_rows(found, go_on=_go_on())
    console.note(*bad_rows_left_out(found))
    if detailed_exitcode and found.requests:
        sys.exit(TO_SEND)


@cli.command()
@_job
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
    console = _console(False, verbose)
    # Whole, whatever was answered before: a conversation that begins in the middle is no row of a manifest.
    found = surveyed(job, runs=runs, nights_too=False, **chosen)
    console.note(*notes(found))
    console.stream(expanded(request) for request in requests_of(found))
    if found.problems:
        refuse_bad_rows(found, go_on=_go_on())


@cli.command()
@click.argument("job", required=False)
@click.option("--rows", type=click.IntRange(1, 100), default=6, show_default=True, help="How many.")
@click.option("--where", metavar="EXPR", help="Of rows for which it holds: \"colour == 'red'\".")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Just this row; may be repeated.")
@click.option("--set", "changes", multiple=True, metavar="K=V", help="Above job and manifest: model, ...")
@click.option("--prompt", metavar="TEXT", help="With a manifest for a job: the prompt, '{{ caption }}'.")
@click.option("--model", metavar="NAME", help="The model, whatever the job says.")
@click.option("--models", metavar="FILE", help="Laid over the table of models and prices.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Never order more than this.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs a cap.")
@_common
def proof(job: str | None, as_json: bool, verbose: int, runs: str | None, **chosen: Any) -> None:
    """Shoot a few rows at once, at full price, onto one page.

    \b
      nightshoot proof jobs/shoes.toml
      nightshoot proof jobs/shoes.toml --rows 3 --where "colour == 'red'"
    """
    from pipeline.proof import prove

    if not prove(_console(as_json, verbose), job, runs=runs, **chosen):
        sys.exit(1)


@cli.command()
@_job
@_spend
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

    console = _console(as_json, verbose)
    driver = begin_or_continue(console, job, runs, go_on=_go_on(), **chosen)
    shown_to_the_end(console, driver)
    _finish(console, driver.run, fail_under)


@cli.command()
@click.option(
    "--in", "folder", type=click.Path(path_type=Path), default=Path("demo"), help="Where; demo/ otherwise."
)
@_json
@_verbose
def demo(folder: Path, as_json: bool, verbose: int) -> None:
    """A whole run on the built-in emulator: no key, nothing paid.

    \b
      nightshoot demo
    """
    from pipeline.demonstration import demonstrate

    demonstrate(_console(as_json, verbose), folder)


# --- Choose ------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("name", required=False)
@_json
def shots(name: str | None, as_json: bool) -> None:
    """Prompts that work, to be used by name in a job.

    \b
      nightshoot shots
      nightshoot shots product-studio    its words, and a job that uses it
    """
    from pipeline.library import document_of, find, lines_of

    recipes = find(name)
    _console(as_json, 0).result(lines_of(recipes), {"shots": document_of(recipes)})


@cli.command()
@_job
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
    live_through(_console(as_json, verbose), job, go_on=_go_on(), **chosen)


# --- Every night, Look inside ------------------------------------------------------------------------------------


@cli.command()
@_run_argument
@click.option("--exit-code", is_flag=True, help="6 while the run goes on.")
@_common
def tick(run: str | None, exit_code: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Do what can be done now, and wait for nothing: for cron. Two at once are harmless.

    \b
      nightshoot tick shoes
    """

    from pipeline.session import driver_of

    console = _console(as_json, verbose)
    driver = driver_of(console, run, runs)
    driver.tick()
    _report(console, driver.run)
    sys.exit(STILL_RUNNING if exit_code and not driver.run.state.finished else 0)


@cli.command()
@_run_argument
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@_common
def tidy(run: str | None, yes: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Remove what a run uploaded and nobody needs any more. The run itself stays as it is.

    \b
      nightshoot tidy shoes
    """

    from pipeline.session import tidied

    tidied(_console(as_json, verbose), run, runs, yes=yes)


@cli.command()
@_run_argument
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@_common
def cancel(run: str | None, yes: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Stop a run, and bring home what Google has made by now.

    \b
      nightshoot cancel shoes
    """

    from pipeline.session import cancelled, shown_to_the_end

    console = _console(as_json, verbose)
    driver = cancelled(console, run, runs, yes=yes)
    shown_to_the_end(console, driver)
    _report(console, driver.run)


@cli.command()
@_run_argument
@click.option(
    "--outcome", "outcomes", multiple=True, metavar="WORD", help="These only, as in --outcome blocked."
)
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Never order more than this.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; needs a cap.")
@_common
def retry(
    run: str | None,
    outcomes: tuple[str, ...],
    max_usd: float | None,
    yes: bool,
    as_json: bool,
    verbose: int,
    runs: str | None,
) -> None:
    """Ask once more for what ended without a picture.

    \b
      nightshoot retry shoes --max-usd 25
      nightshoot retry shoes --outcome blocked
    """

    from pipeline.session import asked_again, shown_to_the_end

    console = _console(as_json, verbose)
    driver = asked_again(console, run, runs, outcomes=outcomes, max_usd=max_usd, yes=yes)
    shown_to_the_end(console, driver)
    _finish(console, driver.run, 1.0)


@cli.command()
@_run_argument
@click.option("--exit-code", is_flag=True, help="6 while the run goes on.")
@_common
def status(run: str | None, exit_code: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """How far a run is, from its directory alone.

    \b
      nightshoot status                  the newest run
      nightshoot status shoes            the newest run of a job
    """

    from pipeline.console import batch_lines
    from pipeline.session import opened, which

    console = _console(as_json, verbose)
    found = opened(run, runs)
    console.note(which(found))
    _report(console, found)
    console.detail(*batch_lines(found))
    if exit_code and not found.state.finished:
        sys.exit(STILL_RUNNING)


@cli.command()
@_run_argument
@click.option("--columns", metavar="A,B", help="These columns only.")
@click.option("--where", metavar="EXPR", help="These rows only, as pandas' query: \"outcome != 'ok'\".")
@click.option(
    "--rows", type=click.IntRange(min=0), default=20, show_default=True, help="How many to show; 0 shows all."
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
@_common
def index(
    run: str | None,
    columns: str | None,
    where: str | None,
    rows: int,
    output: Path | None,
    markdown: Path | None,
    follow: bool,
    as_json: bool,
    verbose: int,
    runs: str | None,
) -> None:
    """Every request and what came of it.

    \b
      nightshoot index --where "outcome != 'ok'" --columns key,shot,message
      nightshoot index -o shoes.csv
      nightshoot index --markdown recipes
      nightshoot index --follow --json
    """
    from pipeline.console import table_mark
    from pipeline.index import read_index, show, write
    from pipeline.session import opened, which

    console = _console(as_json, verbose)
    found = opened(run, runs)
    console.note(which(found))
    mark, marks = table_mark(found.created.service)
    chosen = columns.split(",") if columns else None
    if follow:
        if output is not None or markdown is not None:
            raise BadInput(
                "--follow prints rows and writes no file",
                hint="nightshoot index --follow --json > rows.jsonl",
            )
        _follow(console, found, chosen, where)
        return
    if markdown is not None:
        _tell(console, found, markdown, where)
        return
    table = read_index(found, columns=chosen, where=where)
    if output is not None:
        write(table, output)
        wrote = f"wrote {len(table):,} rows to {output}" + (f", {mark}" if mark else "")
        console.result([wrote], {"rows": len(table), "file": str(output), **marks})
        return
    lines, document = show(table, rows=rows)
    console.result(lines, document | marks)  # lines alone: they are piped, and the first note has said it


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
        rows = [{"row": row, **marks} for row in records(frame)] if console.as_json else told(frame)
        if not console.stream(rows):
            return


@cli.command()
@click.argument("job", required=False)
@click.option("--model", metavar="NAME", help="The model, whatever the job says.")
@click.option("--offline", is_flag=True, help="Only what needs no network.")
@click.option("--live", is_flag=True, help="Shoot two small pictures for at most $0.10, and see what holds.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="With --live: a lower cap.")
@click.option("-y", "--yes", is_flag=True, help="With --live: ask nothing.")
@_common
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
    console = _console(as_json, verbose)
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


@cli.command()
@click.argument("job", required=False)
@click.option("--adopt", is_flag=True, help="Give those back to their runs that may be given back.")
@_common
def orphans(job: str | None, adopt: bool, as_json: bool, verbose: int, runs: str | None) -> None:
    """Jobs on your account that are paid for and that no run waits for. Exit 1 if some are left.

    \b
      nightshoot orphans --adopt
    """
    from pipeline.console import table_mark
    from pipeline.orphans import document_of, find_orphans, lines_of, take_in
    from pipeline.session import account_of

    console = _console(as_json, verbose)
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


cli.add_command(review)


# --- Pieces ------------------------------------------------------------------------------------------------------


@cli.command()
@_job
@_spend
def submit(job: str | None, as_json: bool, verbose: int, runs: str | None, **chosen: Any) -> None:
    """Plan a job and send it, as far as the cap allows. Waits for nothing.

    \b
      nightshoot submit jobs/shoes.toml --max-usd 20 --yes
    """

    from pipeline.session import begin_or_continue

    console = _console(as_json, verbose)
    driver = begin_or_continue(console, job, runs, go_on=_go_on(), **chosen)
    while driver.draw() or driver.submit():
        pass
    _report(console, driver.run)
    if driver.has_no_room:
        raise driver.no_room()


@cli.command()
@_run_argument
@_common
def poll(run: str | None, as_json: bool, verbose: int, runs: str | None) -> None:
    """Ask Google after every batch of a run, once.

    \b
      nightshoot poll
    """

    from pipeline.session import driver_of

    console = _console(as_json, verbose)
    driver = driver_of(console, run, runs)
    driver.poll()
    _report(console, driver.run)


@cli.command()
@_run_argument
@_common
def collect(run: str | None, as_json: bool, verbose: int, runs: str | None) -> None:
    """Bring home what Google has finished: pictures and index. Exit 6 while more is to come.

    \b
      nightshoot collect
    """

    from pipeline.session import driver_of

    console = _console(as_json, verbose)
    driver = driver_of(console, run, runs)
    driver.poll()
    driver.collect()
    _report(console, driver.run)
    sys.exit(0 if driver.run.state.finished else STILL_RUNNING)


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Google on this machine: start it, export what it prints.

    \b
      nightshoot emulator --port 8085
    """
    from pipeline.emulator.__main__ import main as serve

    serve(arguments)


def _go_on() -> str:
    """The command that shoots the good rows."""
    arguments = [
        "run" if argument in ("plan", "expand") else argument for argument in sys.argv[1:2]
    ] + sys.argv[2:]
    return shlex.join(["nightshoot", *arguments, "--skip-bad"])


# --- how commands end --------------------------------------------------------------------------------------------


def _report(console: "Console", run: "Run") -> None:
    from pipeline.console import document_of, status_lines
    from pipeline.tally import tally

    now = tally(run)
    console.result(status_lines(now), document_of(now))


def _finish(console: "Console", run: "Run", fail_under: float) -> None:
    """The morning's lines; and the exit code says whether there is something for a person to do."""
    from pipeline.console import document_of, summary_lines
    from pipeline.tally import tally

    now = tally(run)
    console.result(summary_lines(now), document_of(now))
    console.note("Next: nightshoot index" + (" --where \"outcome != 'ok'\"" if now.without else ""))
    if now.pictures + now.before < fail_under * now.total:
        sys.exit(1)
