"""A few rows of a job shot at once, to see how its words do: what a person does before a night.

A proof is a run as any other, in the folder of runs and under a cap. Its pictures count as answered in the runs that
follow, so what is right the first time is bought once.
"""

import hashlib
import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from pipeline.backends import check_backend, open_backend, service_of
from pipeline.bounds import check_room
from pipeline.clock import Clock, clock_for
from pipeline.console import Console, came, document_of, is_emulated, money_line, place_line, reasons
from pipeline.drive import Driver
from pipeline.earlier import nights_of
from pipeline.errors import BadInput, Denied, NightshootError, Refused, Unavailable
from pipeline.families import alone
from pipeline.job import Job, of_a_store
from pipeline.manifest import Manifest, Row
from pipeline.money import dollars
from pipeline.overview import notes
from pipeline.problems import Problem, group, refusal, shortened
from pipeline.prompt import problems_of_templates
from pipeline.run import Run
from pipeline.runs import Choice, next_name, nights, place, proofs_of, recent
from pipeline.session import cap_of, change_cap, finite, meant, shown_to_the_end
from pipeline.sheet import sheet
from pipeline.storage import open_storage
from pipeline.storage.base import NoRoom
from pipeline.survey import Survey, begin, check_ends, is_of, planner, requests_of, survey
from pipeline.tally import Tally, tally
from pipeline.templates import BadTemplate

FOLDER = Path("proofs")

ROWS = 6
"""So many where nobody says how many, or which."""

SPARE = 4
"""So many times the rows that are wanted are looked at, since some may have problems."""


def prove(
    console: Console,
    what: str | None,
    *,
    runs: str | None,
    rows: int | None,
    max_usd: float | None,
    yes: bool,
    **chosen: Any,
) -> bool:
    """Choose, say the price, ask, shoot, and write the sheet. True: every request has its picture."""
    said, base = meant(what, **chosen)
    if rows is not None and said.keys:
        raise BadInput(
            f"--rows {rows}: the rows are named already: {shortened(', '.join(said.keys))}",
            hint="leave out --rows to prove those that are named, or --key to have some chosen",
        )
    folder = runs or said.runs
    service = service_of(said)
    clock = clock_for(service)
    check_backend(said, folder=folder)
    # All of its turns hang on one page, so nobody is waited for.
    job = msgspec.structs.replace(spread(said, base, rows or ROWS), follow_ups="always")
    driver = _driver(console, job, base, folder, service, clock, max_usd=finite(max_usd), yes=yes)
    begun = clock.now()
    try:
        shown_to_the_end(console, driver)
    except NoRoom:
        raise  # nor is there any for a page
    except (Denied, Refused, Unavailable) as trouble:
        if tally(driver.run).answered:
            _show(console, driver.run, job.name, begun=begun, trouble=trouble)
        raise
    now = _show(console, driver.run, job.name, begun=begun)
    console.note("Next: change the prompt and prove again, or  nightshoot run")
    return now.pictures + now.before == now.total


# --- which rows --------------------------------------------------------------------------------------------------


def spread(job: Job, base: Path, count: int) -> Job:
    """The job for so many of its good rows: those whose keys have the smallest digests, so that it is always the same
    ones, and a new row changes one at most. None that edit another row's picture. For rows that are named: all of
    them."""
    if job.keys:
        return job
    manifest = job.open_manifest(base)
    chooser = of_a_store(job, manifest)
    # The rows that are found are looked over by their keys alone: nobody reads `where` after this.
    if problems := problems_of_templates(chooser, manifest.columns):
        raise refusal(problems)
    needs_no_other = alone(chooser, manifest.columns)
    rows = (row for row in manifest.rows() if _is_wanted(chooser, row) and needs_no_other(row))
    keys = [row.key for row in heapq.nsmallest(count * SPARE, rows, key=_digest)]
    if not keys:
        raise _none_chosen(chooser, manifest)
    found = survey(_of_rows(job, keys), base=base, lane="standard")
    good = set(_good(found))
    best = [key for key in keys if key in good][:count]
    # Where all of those have problems, whoever looks it over next says which.
    return _of_rows(job, best or keys[:count])


def _is_wanted(job: Job, row: Row) -> bool:
    try:
        return not row.trouble and job.chooses(row)
    except BadTemplate:
        return False


def _none_chosen(job: Job, manifest: Manifest) -> BadInput:
    """What to say where no row is wanted: why `where` has no answer, if it has none."""
    unclear = group(problem for row in manifest.rows() if (problem := _unclear(job, row)) is not None)
    if unclear:
        return BadInput(
            f"{job.manifest}: {unclear[0]}", hint="nightshoot plan names every row with a problem"
        )
    return BadInput(f"{job.manifest}: no row is chosen", hint="loosen --where")


def _unclear(job: Job, row: Row) -> Problem | None:
    """Why nobody can tell whether a row is wanted."""
    try:
        job.chooses(row)
    except BadTemplate as error:
        return Problem(f"where: {error}", row=row.line)
    return None


def _digest(row: Row) -> bytes:
    return hashlib.sha256(row.key.encode(errors="replace")).digest()


def _of_rows(job: Job, keys: list[str]) -> Job:
    return msgspec.structs.replace(job, keys=tuple(sorted(keys)), where=None, limit=None)


def _good(found: Survey) -> Iterator[str]:
    for key, asked in groupby(requests_of(found), key=lambda request: request.key):
        if all(request.prompt is not None for request in asked):
            yield key


# --- a run of them -----------------------------------------------------------------------------------------------


def _driver(
    console: Console,
    job: Job,
    base: Path,
    folder: str,
    service: str,
    clock: Clock,
    *,
    max_usd: float | None,
    yes: bool,
) -> Driver:
    """The proof that is under way, or a new one, if a person wants it."""
    called = proofs_of(job.name)
    before = next(recent(folder, called, service=service, clock=clock), None)
    if before is not None and not before.state.finished:
        found = survey(job, base=base, nights=nights_of(before), runs=folder, lane="standard")
        if is_of(before, found):
            _check_room(found, folder)
            backend = open_backend(job, service=service, clock=clock, place=before.storage.url)
            console.note(place_line(before.name, Choice.CONTINUE.value, service, backend.account))
            change_cap(before, max_usd)
            return Driver(before, backend, planner=planner(found, before))
    known = nights(job, folder=folder, service=service, clock=clock)
    found = survey(job, base=base, nights=known, runs=folder, lane="standard")
    check_ends(found, clock.now().date())
    _check_served(found)
    name = next_name(open_storage(folder), called, clock.now().date())
    backend = open_backend(job, service=service, clock=clock, place=place(folder, name))
    console.note(place_line(str(name), Choice.NEW.value, service, backend.account))
    cap = cap_of(job, folder, service=service, clock=clock, usd=max_usd)
    _ask(console, found, folder, cap=cap, yes=yes)
    storage = open_storage(place(folder, name))
    cap = min(most_of(found), most_of(found) if cap is None else cap)  # what was said holds
    run = begin(found, name=str(name), storage=storage, service=service, clock=clock, cap=cap)
    return Driver(run, backend, planner=planner(found, run))


def _check_served(found: Survey) -> None:
    """Raise for a model that answers in batches only, or not here."""
    for lane in found.models:
        if found.job.backend not in found.table.find(lane).online:
            raise BadInput(
                f"{lane}: does not answer at once on {found.job.backend}",
                hint="prove another model with --model, or shoot a few rows with  nightshoot run --limit 6",
            )


def _check_room(found: Survey, folder: str) -> None:
    """Raise where the disk has no room for what is paid for at once, before it is."""
    check_room(found, folder, fewer="prove fewer rows")


def _ask(console: Console, found: Survey, folder: str, *, cap: int | None, yes: bool) -> None:
    """What it shoots and costs, and one question."""
    if found.problems:
        first = found.problems[0]
        raise BadInput(
            f"{found.job.manifest}: {first}", hint="nightshoot plan names every row with a problem"
        )
    console.note(*notes(found), *words_of(found))
    if not found.requests:
        return
    _check_room(found, folder)
    if yes and cap is None:
        raise Refused("--yes without a cap", hint="say what it may cost at most: --max-usd 1")
    if yes:
        return
    if not console.can_ask():
        raise Refused(
            "nobody is here to ask", hint="add --yes and a cap, --max-usd 1, to go on without asking"
        )
    if not console.ask("Go on?"):
        raise Refused("not sent", hint="nothing was written and nothing was paid")


def most_of(found: Survey) -> int:
    """What it costs at most: every request at its worst, as often as it may be asked."""
    attempts = max([found.job.attempts, *found.job.again.values()])
    return attempts * sum(price.high * count for price, count in found.prices.items())


def words_of(found: Survey) -> list[str]:
    """What a proof would shoot, and its full price, before anything is paid."""
    shots = ", ".join(found.shots or {shot.name: 0 for shot in found.job.shots})
    rows = "1 row" if found.good_rows == 1 else f"{found.good_rows:,} rows"
    proved = sum(found.carried.values())
    there = f"{proved:,} proved already" if proved else ""
    if not found.requests:
        return [f"{rows}, {shots}: {there or 'on their way'}, nothing to pay"]
    price = f"about {dollars(found.price.likely)}, at most {dollars(most_of(found))}"
    count = max(found.requests, found.price.images)  # a call may ask for several
    pictures = "1 picture" if count == 1 else f"{count:,} pictures"
    return [f"{', '.join(filter(None, [rows, shots, there]))}: {pictures} at once at full price: {price}"]


# --- what came ---------------------------------------------------------------------------------------------------


def _show(
    console: Console, run: Run, name: str, *, begun: datetime, trouble: NightshootError | None = None
) -> Tally:
    """Write the sheet and say what is on it, all or what came before there was trouble."""
    now = tally(run)
    seconds = round((run.clock.now() - begun).total_seconds())
    took = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    marked = " (EMULATOR)" if is_emulated(now.service) else ""
    path = _next_sheet(FOLDER, name)
    below = f"{run.name}: {came(now, now.pictures + now.before, now.total)}{marked}; {money_line(now)}"
    if trouble is not None:
        below += f"; {now.total - now.answered:,} missing: {trouble.message}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sheet(run, title=f"{name}, proof {path.stem.rpartition('-')[2]}", below=below))
    console.result(_lines(now, took, path), document_of(now) | {"seconds": seconds, "sheet": str(path)})
    return now


def _lines(now: Tally, took: str, path: Path) -> list[str]:
    pictures = now.pictures + now.before
    paid = (
        dollars(now.spent)
        if not is_emulated(now.service)
        else f"{dollars(now.spent)} (EMULATOR: nothing was paid)"
    )
    maybe = (
        f", {dollars(now.unconfirmed)} more may have been spent and cannot be read" if now.unconfirmed else ""
    )
    lines = [f"  {came(now, pictures, now.total)} in {took}, {paid}{maybe}"]
    if pictures:
        lines[0] += ". They count: the run will not buy them again"
    if without := reasons(now):
        lines.append(f"  {without}")
    if missing := now.total - now.answered:
        lines.append(f"  {missing:,} missing; the page shows which")
    return [*lines, f"Wrote {path} (photo | picture | prompt)"]


def _next_sheet(folder: Path, name: str) -> Path:
    numbers = [path.stem.rpartition("-")[2] for path in folder.glob(f"{name}-*.html")]
    number = max((int(each) for each in numbers if each.isdigit()), default=0) + 1
    return folder / f"{name}-{number}.html"
