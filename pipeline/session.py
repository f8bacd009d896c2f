"""What a command works on: the job and the run that a person means, and a driver for them."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.backends import check_backend, open_backend, service_of
from pipeline.backends.base import Backend
from pipeline.bounds import check_room
from pipeline.clock import Clock, MachineClock, clock_for
from pipeline.complaints import FILE, write_problems
from pipeline.console import Console, is_emulated, place_line
from pipeline.drive import Driver
from pipeline.earlier import Night, nights_of
from pipeline.errors import BadInput, Refused
from pipeline.events import Capped
from pipeline.frugal import be_frugal
from pipeline.job import Job, job_for, read_job
from pipeline.manifest import STANDARD_INPUT
from pipeline.money import dollars, nanos
from pipeline.night import Held, clear, held_back, release, stop
from pipeline.overview import SHOWN, notes, plan_lines, problem_lines, question
from pipeline.plan import Planner
from pipeline.problems import did_you_mean
from pipeline.run import Run, open_run
from pipeline.runs import (
    Choice,
    choose,
    find,
    is_proved,
    left_this_month,
    next_name,
    nights,
    place,
    planned,
    recent,
)
from pipeline.saved import read as read_saved
from pipeline.state import Illegal, Stage
from pipeline.storage import open_storage
from pipeline.survey import Survey, begin, check_ends, job_of, planner, planner_for, survey
from pipeline.takes import NAMED, USUAL, Failed, draw, failed
from pipeline.tally import tally
from pipeline.tidy import needless

JOBS = Path("jobs")


def meant(
    job: str | None,
    *,
    limit: int | None = None,
    where: str | None = None,
    keys: Sequence[str] = (),
    changes: Sequence[str] = (),
    prompt: str | None = None,
    model: str | None = None,
    models: str | None = None,
) -> tuple[Job, Path]:
    """The job a person means, changed as they say, and the folder its manifest is relative to."""
    said, base = _found(job, prompt=prompt)
    settings: dict[str, Any] = {"model": model, "where": where, "keys": list(keys) or None, "limit": limit}
    if models is not None:
        settings["models"] = Path(os.path.relpath(models, base)).as_posix()
    if said.manifest != job:
        settings["prompt"] = prompt
    settings = {name: value for name, value in settings.items() if value is not None} | _changes(changes)
    return (said.with_settings(settings) if settings else said), base


def surveyed(job: str | None, *, runs: str | None = None, nights_too: bool = True, **chosen: Any) -> Survey:
    """The job a person means, looked over, with what earlier nights have answered. Nothing is written or sent."""
    said, base = meant(job, **chosen)
    folder = runs or said.runs
    known = _nights(said, folder) if nights_too else []
    found = survey(said, base=base, nights=known, runs=folder)
    check_ends(found, clock_for(service_of(said)).now().date())
    return found


def _nights(job: Job, folder: str) -> list[Night]:
    """The earlier nights that the job wants to know of, and its proofs, as they are now."""
    service = service_of(job)
    return nights(job, folder=folder, service=service, clock=clock_for(service))


def _found(job: str | None, *, prompt: str | None) -> tuple[Job, Path]:
    """A job file, the name of one in jobs/, or a manifest; and the folder its manifest is relative to."""
    path = Path(job) if job is not None else _only_job()
    if path.is_dir():
        raise BadInput(f"{path}: is a folder", hint="name a job or a manifest in it")
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


def only_job(what: str | None) -> str | None:
    """The job a person names, or the only one in jobs/, or none: for commands that can do without."""
    there = list(JOBS.glob("*.toml"))
    return str(there[0]) if what is None and len(there) == 1 else what


def account_of(what: str | None, runs: str | None) -> tuple[Backend, str, Clock]:
    """Whoever shoots this job, the folder of its runs, and the clock. Without a job: the key in the environment."""
    named = only_job(what)
    job = None if named is None else meant(named)[0]
    service = service_of(job)
    clock = clock_for(service)
    folder = runs or (job.runs if job else "runs")
    return open_backend(job, service=service, clock=clock, place=folder), folder, clock


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
    if found.job.max_bad is not None and not found.bears_its_bad_rows and found.problems:
        go_on = f"max_bad = {found.job.max_bad} allows fewer bad ones; {go_on}"
    if found.requests:
        hint = f"{found.good_rows:,} of {found.chosen_rows:,} rows are good; {go_on}"
    raise BadInput("\n".join([*problem_lines(found), *_written_down(found)]), hint=hint)


def bad_rows_left_out(found: Survey) -> list[str]:
    """All of them, named, where the others are shot nevertheless."""
    return [*problem_lines(found), *_written_down(found)] if found.problems else []


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
    canary: bool = True,
    **chosen: Any,
) -> Driver:
    """The run that `run JOB` means, said in the first line, with a driver for it."""
    saved = read_saved(Path(job)) if job is not None and job.endswith(".json") else None
    if saved is not None:
        job, chosen = saved.job or None, saved.chosen
    said, base = meant(job, **chosen)
    folder = runs or said.runs
    usd = finite(said.max_usd if max_usd is None else max_usd)
    service = service_of(said)
    clock = clock_for(service)
    check_backend(said, folder=folder)
    there = None if new else planned(folder, said, base=base, service=service, clock=clock)
    if there is not None:
        left = left_this_month(said, folder, service=service, clock=clock, but=there.name)
        return _continued(console, there, Choice.CONTINUE, usd=usd, left=left, plans=None, canary=canary)
    # To see whether a run goes on, the job is looked over with the earlier nights that one was begun with.
    before = None if new else next(recent(folder, said.name, service=service, clock=clock), None)
    known = nights_of(before) if before else _nights(said, folder)
    found = survey(said, base=base, nights=known, runs=folder)
    choice, there = (Choice.NEW, None) if new else choose(folder, found, service=service, clock=clock)
    if there is not None and choice is Choice.ASK:
        _ask_for_another(console, there)
        there = None
    if there is not None:
        left = left_this_month(said, folder, service=service, clock=clock, but=there.name)
        plans = planner(found, there)
        return _continued(console, there, choice, usd=usd, left=left, plans=plans, canary=canary)
    if before is not None:  # a new night also knows what the last one answered, and what was proved since
        now = _nights(said, folder)
        if [one.reused for one in now] != [one.reused for one in known]:
            found = survey(said, base=base, nights=now, runs=folder)
    if saved is not None:
        saved.check(found)
    check_ends(found, clock.now().date())
    cap = cap_of(said, folder, service=service, clock=clock, usd=usd)
    name = next_name(open_storage(folder), said.name, clock.now().date())
    backend = open_backend(said, service=service, clock=clock, place=place(folder, name))
    console.note(place_line(str(name), Choice.NEW.value, service, backend.account))
    _ask(console, found, folder, cap=cap, yes=yes, skip_bad=skip_bad, go_on=go_on)
    storage = open_storage(place(folder, name))
    canary = canary and not is_proved(folder, found, service=service, clock=clock)
    run = begin(found, name=str(name), storage=storage, service=service, clock=clock, cap=cap, canary=canary)
    return Driver(run, backend, planner=planner(found, run))


def cap_of(job: Job, folder: str, *, service: str, clock: Clock, usd: float | None) -> int | None:
    """What a new run may cost: what is said for it, and no more than this month has left."""
    left = left_this_month(job, folder, service=service, clock=clock)
    if left == 0:
        raise Refused(
            f"this month's ${job.max_usd_month:g} for {job.name} are spent or reserved by its other runs",
            hint="raise max_usd_month in the job, or wait for the next month",
        )
    return _less(None if usd is None else nanos(usd), left)


def _less(*caps: int | None) -> int | None:
    return min((cap for cap in caps if cap is not None), default=None)


def _continued(
    console: Console,
    run: Run,
    choice: Choice,
    *,
    usd: float | None,
    left: int | None,  # of this month's money
    plans: Planner | None,
    canary: bool,
) -> Driver:
    backend = _backend_of(run)
    console.note(place_line(run.name, choice.value, backend.service, backend.account))
    change_cap(run, usd)
    lower = _less(run.state.cap, left)
    if lower != run.state.cap and lower is not None:
        change_cap(run, max(lower, run.state.committed) / 1e9)
    if not canary:
        clear(run)
    return Driver(run, backend, planner=plans)


def _ask_for_another(console: Console, there: Run) -> None:
    what = f"{there.name}: {Choice.ASK.value}"
    if not (console.can_ask() and console.ask(f"{what}. Start a new run beside it?")):
        raise Refused(what, hint="undo the change to go on with it, or start a new run beside it with --new")


def finite(usd: float | None) -> float | None:
    if usd is not None and not math.isfinite(usd):
        raise BadInput(
            f"--max-usd {usd}: is no sum of money", hint="say what it may cost at most: --max-usd 20"
        )
    return usd


def _ask(
    console: Console, found: Survey, folder: str, *, cap: int | None, yes: bool, skip_bad: bool, go_on: str
) -> None:
    """One table and one question, before anything is sent."""
    console.note(*notes(found))
    skip_bad = skip_bad or found.bears_its_bad_rows
    nothing_to_send = not found.requests and not (found.left_to_others and not found.problems)
    if nothing_to_send or (found.problems and not skip_bad and (yes or not console.can_ask())):
        refuse_bad_rows(found, go_on=go_on)
    console.note(*plan_lines(found, cap=cap, verbose=console.verbose))
    console.note(*bad_rows_left_out(found))
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


def change_cap(run: Run, usd: float | None) -> None:
    """Let a run that is there cost so much from here on. None: as before."""
    if not run.state.finished:
        _record_cap(run, usd)


def _record_cap(run: Run, usd: float | None) -> None:
    cap = None if usd is None else nanos(usd)
    if cap is None or cap == run.state.cap:
        return
    try:
        run.record(Capped(cap=cap))
    except Illegal as error:
        raise Refused(f"--max-usd {usd:g}: {error}", hint="give a higher one") from error


# --- a run that is there already ---------------------------------------------------------------------------------


def opened(what: str | None, runs: str | None, *, to_drive: bool = False) -> Run:
    """The run a person names, as it is."""
    return find(what, folder=runs or "runs", clock=MachineClock(), to_drive=to_drive)


def cancelled(console: Console, what: str | None, runs: str | None, *, yes: bool) -> Driver:
    """A driver for a run of which nothing more is sent, once a person has said so."""
    driver = driver_of(console, what, runs)
    run, backend = driver.run, driver.backend
    if run.state.finished:
        raise BadInput(f"{run.name} is finished", hint="there is nothing to cancel")
    state = run.state
    there = [batch for batch in state.at(Stage.SUBMITTED) if batch.is_of(backend.account)]
    now = tally(run)
    waiting = max(0, now.requests - now.sent - now.outcomes.get("no_parent", 0))
    whom = "the EMULATOR" if is_emulated(now.service) else "Google"
    sent = _count(sum(batch.planned.requests for batch in there if batch.planned), "request")
    console.note(
        f"{_count(len(there), 'batch', 'batches')} with {sent} {'is' if len(there) == 1 else 'are'} at {whom},"
        f" which bills what it has made by now; {_count(waiting, 'request')} not sent",
        f"spent {dollars(state.spent + state.unconfirmed)}, and at most {dollars(state.reserved)} more",
    )
    if not yes and not (console.can_ask() and console.ask("Stop it?")):
        raise Refused("nothing was stopped", hint="say --yes where nobody can be asked")
    stop(run, backend, why="asked")
    return driver


def asked_again(
    console: Console,
    what: str | None,
    runs: str | None,
    *,
    outcomes: Sequence[str],
    max_usd: float | None,
    yes: bool,
) -> Driver:
    """A driver for a run of which what ended so is asked once more, once a person has said so."""
    _check_outcomes(outcomes)
    driver = driver_of(console, what, runs)
    run = driver.run
    if run.state.stopped is not None:
        raise BadInput(
            f"{run.name} was stopped: nothing more is sent for it",
            hint='run the job anew; with reuse = ["latest"] in it, what this run has costs nothing',
        )
    held = held_back(run, outcomes)
    those = [] if held.batches and not outcomes else failed(run, outcomes or USUAL)
    if not held.batches and not those:
        raise _nothing_again(run, outcomes)
    console.note(_again_words(held, those))
    if yes and run.state.cap is None and max_usd is None:
        raise Refused("--yes without a cap", hint="say what it may cost at most: --max-usd 20")
    if not yes and not (console.can_ask() and console.ask("Ask again?")):
        raise Refused("nothing was asked again", hint="say --yes where nobody can be asked")
    _record_cap(run, finite(max_usd))
    release(run, held)
    draw(run, those)
    return driver


def _check_outcomes(outcomes: Sequence[str]) -> None:
    unknown = next((word for word in outcomes if word not in NAMED), None)
    if unknown is None:
        return
    if unknown in ("ok", "reused"):
        hint = "a run of its own makes another picture: nightshoot run JOB --key KEY --new"
    else:
        hint = f"{did_you_mean(unknown, NAMED)}; more than one is --outcome A --outcome B"
    raise BadInput(f"--outcome {unknown}: nothing that ends so is asked again", hint=hint)


def _nothing_again(run: Run, outcomes: Sequence[str]) -> BadInput:
    """What to say where there is nothing of that."""
    now, held = tally(run), held_back(run).came
    ended = Counter({word: count for word, count in now.outcomes.items() if word in NAMED})
    wanted = f" of what ended {' or '.join(outcomes)}" if outcomes else ""
    if not held.keys().isdisjoint(outcomes):
        why = max(held, key=held.__getitem__)
        hint = f"that is held back with its batch, all of which --outcome {why} asks again"
    elif not ended.keys().isdisjoint(outcomes):
        hint = "what goes on from their pictures has to be home first, or they are under way again"
    elif came := held + ended:
        hint = f"it has {_came(came)}; name what you mean, as in --outcome {came.most_common(1)[0][0]}"
    elif now.finished:
        hint = "every request that was sent has its picture"
    else:
        hint = f"the run is not over, and asks again by itself what came to nothing: nightshoot status {run.name}"
    return BadInput(f"{run.name}: nothing to ask again{wanted}", hint=hint)


def _again_words(held: Held, those: Sequence[Failed]) -> str:
    """What is asked again, what came of it before, and what that costs."""
    words = []
    if held.batches:
        words.append(
            f"{_count(held.came.total(), 'request')} held back ({_came(held.came)}),"
            f" for about {dollars(held.likely)}, at most {dollars(held.high)}"
        )
    if those:
        came = sum((Counter(one.source.were) for one in those), Counter[str]())
        likely, high = sum(one.likely for one in those), sum(one.high for one in those)
        words.append(
            f"{_count(came.total(), 'request')} ({_came(came)}),{_with_them(those)}"
            f" for about {dollars(likely)}, at most {dollars(high)}"
        )
    return " and ".join(words)


def _came(came: Counter[str]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in came.most_common())


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _with_them(those: Sequence[Failed]) -> str:
    count = sum(one.follow_ups for one in those)
    return f" and {count:,} that {'follows' if count == 1 else 'follow'}," if count else ""


def shown_to_the_end(console: Console, driver: Driver) -> None:
    """Drive a run until nothing is left to do, with a line of progress."""
    be_frugal()
    with console.progress(driver.run, lambda: driver.answered) as progress:
        driver.listener = progress.update
        driver.to_the_end()


def driver_of(console: Console, what: str | None, runs: str | None) -> Driver:
    """A driver for the run a person names. It can plan on where it finds the job's manifest."""
    there = opened(what, runs, to_drive=True)
    clock = clock_for(there.created.service)
    run = open_run(there.storage, clock)
    backend = _backend_of(run)
    console.note(which(run, backend))
    return Driver(run, backend, planner=_planner_of(run, what) if run.state.needs_manifest else None)


def _backend_of(run: Run) -> Backend:
    """Who makes the pictures of a run that is there."""
    return open_backend(job_of(run), service=run.created.service, clock=run.clock, place=run.storage.url)


def _planner_of(run: Run, what: str | None) -> Planner | None:
    """A job file that is named, the folder of jobs, or the one we are in: whichever leads to the manifest."""
    bases = [Path(what).parent] if what is not None and what.endswith(".toml") else []
    planners = (planner_for(run, base=base) for base in [*bases, JOBS, Path()])
    return next((found for found in planners if found is not None), None)


def which(run: Run, backend: Backend | None = None) -> str:
    """Which run a command means: its first line."""
    what = "finished" if run.state.finished else "under way"
    return place_line(
        run.name, what, run.created.service, backend.account if backend else run.created.backend
    )


def tidied(console: Console, what: str | None, runs: str | None, *, yes: bool) -> None:
    """Remove what a run left at its provider and nobody needs any more, once a person has said so."""
    there = opened(what, runs)
    run = open_run(there.storage, clock_for(there.created.service))
    backend = _backend_of(run)
    console.note(which(run, backend))
    files = list(needless(run, backend))
    size = sum(file.size for file in files)
    told = f"{len(files):,} files, {size / 1e6:,.1f} MB"
    if files and not yes:
        if not console.can_ask():
            raise Refused(f"{told} could go, and nobody is here to ask", hint="add --yes to remove them")
        if not console.ask(f"Remove {told}? The run stays as it is."):
            raise Refused("nothing removed")
    for file in files:
        backend.unstage(file.name)
    words = f"removed {told}" if files else "nothing to remove"
    console.result([words], {"removed": len(files), "bytes": size})
