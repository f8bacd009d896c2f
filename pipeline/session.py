"""What a command works on: the job and the run that a person means, and a driver for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.backends import open_backend, service_in_environment
from pipeline.backends.base import Backend
from pipeline.bounds import check_room
from pipeline.clock import MachineClock, clock_for
from pipeline.complaints import FILE, write_problems
from pipeline.console import Console, place_line
from pipeline.drive import Driver
from pipeline.earlier import Night, nights_of
from pipeline.errors import BadInput, Refused
from pipeline.events import Capped
from pipeline.job import Job, job_for, read_job
from pipeline.manifest import STANDARD_INPUT
from pipeline.money import nanos
from pipeline.overview import SHOWN, notes, plan_lines, problem_lines, question
from pipeline.plan import Planner
from pipeline.problems import did_you_mean
from pipeline.run import Run, open_run
from pipeline.runs import Choice, choose, find, latest, next_name, nights, place
from pipeline.state import Illegal
from pipeline.storage import open_storage
from pipeline.survey import Survey, begin, planner, planner_for, survey

JOBS = Path("jobs")


def surveyed(
    job: str | None,
    *,
    limit: int | None = None,
    where: str | None = None,
    keys: Sequence[str] = (),
    changes: Sequence[str] = (),
    prompt: str | None = None,
    model: str | None = None,
    runs: str | None = None,
    like_before: bool = False,
) -> Survey:
    """The job a person means, changed as they say, looked over. Nothing is written or sent.

    Like before: with the earlier nights that its newest run was begun with, to see whether that one goes on.
    """
    meant, base = _meant(job, prompt=prompt)
    settings: dict[str, Any] = {"model": model, "where": where, "keys": list(keys) or None}
    if meant.manifest != job:
        settings["prompt"] = prompt
    settings = {name: value for name, value in settings.items() if value is not None} | _changes(changes)
    meant = meant.with_settings(settings) if settings else meant
    folder = runs or meant.runs
    return survey(meant, base=base, limit=limit, nights=_nights(meant, folder, like_before), runs=folder)


def _nights(job: Job, folder: str, like_before: bool) -> list[Night]:
    if not job.reuse:
        return []
    service = service_in_environment()
    clock = clock_for(service)
    there = latest(folder, job.name, clock) if like_before else None
    if there is not None and there.created.service == service:
        return nights_of(there)
    return nights(job, folder=folder, service=service, clock=clock)


def _meant(job: str | None, *, prompt: str | None) -> tuple[Job, Path]:
    """A job file, the name of one in jobs/, or a manifest; and the folder its manifest is relative to."""
    path = Path(job) if job is not None else _only_job()
    named = JOBS / f"{path}.toml"
    if not path.suffix and not path.exists() and named.exists():
        path = named
    if path.suffix == ".toml":
        return read_job(path), path.parent
    if not path.suffix and not path.exists() and str(path) != STANDARD_INPUT:
        known = [each.stem for each in JOBS.glob("*.toml")]
        raise BadInput(f"{path}: no such job or manifest", hint=did_you_mean(str(path), known))
    return job_for(str(path), prompt=prompt), Path()


def _only_job() -> Path:
    jobs = sorted(JOBS.glob("*.toml"))
    if len(jobs) == 1:
        return jobs[0]
    if not jobs:
        raise BadInput(
            "no job given, and there is none in jobs/", hint="nightshoot init products.csv writes one"
        )
    raise BadInput(f"no job given, and there are {len(jobs)} in jobs/", hint=f"name one, as in {jobs[0]}")


def _changes(changes: Sequence[str]) -> dict[str, str]:
    for change in changes:
        if "=" not in change:
            raise BadInput(
                f"--set {change}: no value", hint="write --set name=value, as in --set image_size=2K"
            )
    return {name: value for name, _, value in (change.partition("=") for change in changes)}


def refuse_bad_rows(found: Survey, *, go_on: str) -> None:
    """Bad rows never stop or vanish in silence: they are all named, with the command that goes on."""
    hint = None
    if found.requests:
        hint = f"{found.good_rows:,} of {found.chosen_rows:,} rows are good; {go_on}"
    raise BadInput("\n".join([*problem_lines(found), *_written_down(found)]), hint=hint)


def _written_down(found: Survey) -> list[str]:
    """What does not fit on a screen is written into a file beside us."""
    if found.bad_rows <= SHOWN:
        return []
    path = Path(FILE)
    try:
        write_problems(found, path)
    except OSError as error:
        return [f"  {path} cannot be written: {error.strerror}"]
    return [f"  all of them, row by row: {path}"]


# --- a run, new or continued -------------------------------------------------------------------------------------


def begin_or_continue(
    console: Console,
    job: str | None,
    runs: str | None,
    *,
    max_usd: float | None,
    yes: bool,
    new: bool,
    skip_bad: bool,
    go_on: str,
    **chosen: Any,
) -> Driver:
    """The run that `run JOB` means, said in the first line, with a driver for it."""
    service = service_in_environment()
    clock = clock_for(service)
    found = surveyed(job, runs=runs, like_before=not new, **chosen)
    folder = runs or found.job.runs
    backend = open_backend(found.job.backend, service=service, clock=clock)
    there = None if new else latest(folder, found.job.name, clock)
    choice = choose(there, survey=found, service=service)
    if there is not None and choice is Choice.ASK:
        if not (
            console.can_ask() and console.ask(f"{there.name}: {choice.value}. Start a new run beside it?")
        ):
            raise Refused(
                f"{there.name}: {choice.value}",
                hint="undo the change to go on with it, or start a new run beside it with --new",
            )
        choice = Choice.NEW
    if there is not None and choice in (Choice.CONTINUE, Choice.FINISHED):
        console.note(place_line(there.name, choice.value, service, backend.account))
        _change_cap(there, max_usd)
        return Driver(there, backend, planner=planner(found, there))
    if found.job.reuse and there is not None:
        found = surveyed(job, runs=runs, **chosen)  # a new night also knows what the last one answered
    usd = found.job.max_usd if max_usd is None else max_usd
    cap = None if usd is None else nanos(usd)
    name = next_name(open_storage(folder), found.job.name, clock.now().date())
    console.note(place_line(str(name), choice.value, service, backend.account))
    _ask(console, found, folder, cap=cap, yes=yes, skip_bad=skip_bad, go_on=go_on)
    storage = open_storage(place(folder, name))
    run = begin(found, name=str(name), storage=storage, service=service, clock=clock, cap=cap)
    return Driver(run, backend, planner=planner(found, run))


def _ask(
    console: Console, found: Survey, folder: str, *, cap: int | None, yes: bool, skip_bad: bool, go_on: str
) -> None:
    """One table and one question, before anything is sent."""
    console.note(*notes(found))
    skip_bad = skip_bad or found.job.bears(found.bad_rows, found.chosen_rows)
    nothing_to_send = not found.requests and not (found.carried and not found.problems)
    if nothing_to_send or (found.problems and not skip_bad and (yes or not console.can_ask())):
        refuse_bad_rows(found, go_on=go_on)
    console.note(*plan_lines(found, cap=cap, verbose=console.verbose))
    if found.problems:
        console.note(*problem_lines(found), *_written_down(found))
    check_room(found, folder)
    if not found.requests:
        return  # all of it is there already: that costs nothing
    if yes and cap is None:
        raise Refused("--yes without a cap", hint="say what it may cost at most: --max-usd 20")
    if yes:
        return
    if not console.can_ask():
        raise Refused(
            "nobody is here to ask", hint="add --yes and a cap, --max-usd 20, to go on without asking"
        )
    if not console.ask(question(found)):
        raise Refused("not sent", hint="nothing was written and nothing was paid")


def _change_cap(run: Run, max_usd: float | None) -> None:
    cap = None if max_usd is None else nanos(max_usd)
    if cap is None or cap == run.state.cap or run.state.finished:
        return
    try:
        run.record(Capped(cap=cap))
    except Illegal as error:
        raise Refused(f"--max-usd {max_usd}: {error}", hint="give a higher one") from error


# --- a run that is there already ---------------------------------------------------------------------------------


def opened(what: str | None, runs: str | None) -> Run:
    """The run a person names, to be read and not driven."""
    return find(what, folder=runs or "runs", clock=MachineClock())


def driver_of(console: Console, what: str | None, runs: str | None) -> Driver:
    """A driver for the run a person names. It can plan on where it finds the job's manifest."""
    there = opened(what, runs)
    clock = clock_for(there.created.service)
    run = open_run(there.storage, clock)
    backend = open_backend(run.created.backend, service=run.created.service, clock=clock)
    console.note(which(run, backend))
    return Driver(run, backend, planner=None if run.state.all_drawn else _planner_of(run, what))


def _planner_of(run: Run, what: str | None) -> Planner | None:
    """A job file that is named, the folder of jobs, or the one we are in: whichever leads to the manifest."""
    bases = [Path(what).parent] if what is not None and what.endswith(".toml") else []
    planners = (planner_for(run, base=base) for base in [*bases, JOBS, Path()])
    return next((found for found in planners if found is not None), None)


def which(run: Run, backend: Backend | None = None) -> str:
    """Which run a command means: its first line."""
    what = "finished" if run.state.finished else "under way"
    return place_line(run.name, what, run.created.service, backend.account if backend else None)
