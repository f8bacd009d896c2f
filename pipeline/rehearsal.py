"""Tonight's job on an emulator of its own, misfortune included: nothing is paid, and a night takes seconds."""

import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.backends import service_of
from pipeline.backends.developer import Developer
from pipeline.clock import EmulatorClock, clock_for
from pipeline.console import Console, document_of, place_line, summary_lines
from pipeline.drive import Driver
from pipeline.emulator import Service, launch
from pipeline.errors import BadInput, Unavailable
from pipeline.money import dollars, nanos
from pipeline.overview import notes, plan_lines
from pipeline.runs import named_nights, next_name, place
from pipeline.session import bad_rows_left_out, meant, refuse_bad_rows, shown_to_the_end
from pipeline.storage import open_storage
from pipeline.survey import begin, check_ends, planner, survey
from pipeline.tally import tally

FOLDER = "rehearsals"


def rehearse(
    console: Console,
    job: str | None,
    *,
    scenario: str | None,
    max_usd: float | None,
    skip_bad: bool,
    go_on: str,
    **chosen: Any,
) -> Driver:
    """The job, shot into `rehearsals/` against an emulator that goes when the run is over, and the night told.

    Record 0 names that emulator, so the run can never be taken for a real one, nor gone on with as one.
    """
    said, base = meant(job, **chosen)
    said = msgspec.structs.replace(said, follow_ups="always")  # nobody judges the emulator's pictures
    real = service_of(said)
    before = named_nights(said, folder=said.runs, service=real, clock=clock_for(real))
    found = survey(said, base=base, nights=before, runs=said.runs)
    check_ends(found, clock_for(real).now().date())
    if found.job.backend != "developer":
        hint = "it knows developer only; nightshoot emulator plays Vertex AI, too"
        raise BadInput(f"no rehearsal for backend {found.job.backend!r}", hint=hint)
    console.note(*notes(found))
    skip_bad = skip_bad or found.bears_its_bad_rows
    if not found.requests or (found.problems and not skip_bad):
        refuse_bad_rows(found, go_on=go_on)
    console.note(*bad_rows_left_out(found))
    usd = found.job.max_usd if max_usd is None else max_usd
    cap = None if usd is None else nanos(usd)
    with started(scenario) as service:
        clock = EmulatorClock(service.url)
        backend = Developer(key="rehearsal", service=service.url, clock=clock)
        name = next_name(open_storage(FOLDER), found.job.name, clock.now().date())
        first = place_line(str(name), "rehearsal", service.url, backend.account)
        console.note(first, *plan_lines(found, cap=cap, verbose=console.verbose))
        storage = open_storage(place(FOLDER, name))
        run = begin(found, name=str(name), storage=storage, service=service.url, clock=clock, cap=cap)
        driver = Driver(run, backend, planner=planner(found, run))
        shown_to_the_end(console, driver)
        tell(console, driver, service, begun=run.created_at)
    return driver


def started(scenario: str | None, *arguments: str) -> Service:
    """An emulator in a process of its own that goes with this one."""
    if scenario is not None:
        from pipeline.emulator.scenario import read

        try:
            read(scenario)
        except ValueError as error:
            raise BadInput(str(error), hint="docs/emulator.md says what a scenario can hold") from error
        arguments += ("--scenario", str(Path(scenario)))
    try:
        return launch("--with-parent", str(os.getpid()), *arguments)
    except OSError as error:
        raise Unavailable(
            f"the emulator did not start: {error}", hint="nightshoot emulator says why"
        ) from error


def tell(console: Console, driver: Driver, service: Service, *, begun: datetime) -> None:
    """What became of the job, what went wrong on purpose, and what the other side has on its bill."""
    from pipeline.emulator.faults import KINDS

    now, ended = tally(driver.run), service.clock()
    fired = Counter(event["kind"] for event in service.events() if event["what"] == "fault")
    billed = service.ledger(rows=False)["total"]
    hours, minutes = divmod(round((ended - begun).total_seconds() / 60), 60)
    lines = [
        *summary_lines(now),
        "",
        f"  the night    {begun:%H:%M} to {ended:%H:%M} UTC: {hours} h {minutes} min of the EMULATOR's time",
        f"  its bill     {dollars(billed['nanodollars'])} for {billed['rows']:,} answers, were it Google",
        *(("  misfortune",) if fired else ("  misfortune   none",)),
        *(f"    {count:>5,} x  {KINDS[kind].imitates}" for kind, count in fired.most_common()),
    ]
    night = {"seconds": (ended - begun).total_seconds(), "billed_usd": billed["usd"], "faults": dict(fired)}
    console.result(lines, document_of(now) | {"night": night})
