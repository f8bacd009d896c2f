"""One batch of two small pictures on the real service, taken to its end, and which assumptions held.

It is a run as any other, in the folder of runs and under a cap, so that what it proves is what a night does. Stopped
in the middle, it goes on when it is said again, and buys nothing twice.
"""

import csv
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline import tables
from pipeline.backends import check_backend, open_backend, service_of
from pipeline.backends.base import Backend, Gone
from pipeline.behaviours import REFERENCE, Evidence, behaviours
from pipeline.clock import clock_for
from pipeline.console import Console, place_line
from pipeline.drive import Driver
from pipeline.errors import BadInput, NightshootError, Refused
from pipeline.findings import models_of
from pipeline.index import parts
from pipeline.job import Job, job_for
from pipeline.models import Model, load_models
from pipeline.money import dollars, nanos
from pipeline.run import Run, quarantine_file
from pipeline.runs import Choice, choose, next_name, place
from pipeline.session import meant, only_job
from pipeline.storage import open_storage
from pipeline.survey import Survey, begin, planner, survey
from pipeline.verdict import Verdict, document_of, keep, lines_of

NAME = "doctor"
MOST = nanos("0.10")
"""What a trial orders at most, whatever else is said."""

LOOK = timedelta(seconds=10)
"""How often its state is looked at beside what the run itself does."""

SYSTEM = "You are a photographer of products."
PROMPTS = {
    "settings": "A red enamel mug on a white table, from the side",
    REFERENCE: "The thing in the picture as a ceramic tile on a grey wall",
}


@dataclass(slots=True)
class Trial:
    """One trial: its run, and what was seen of it so far."""

    driver: Driver
    backend: Backend
    model: Model
    found: Survey
    states: list[str] = field(default_factory=list)
    stopped: NightshootError | None = None
    _looked: datetime | None = None

    @property
    def run(self) -> Run:
        return self.driver.run

    @property
    def ticket(self) -> str | None:
        submitted = self.run.state.batches[0].submitted if self.run.state.batches else None
        return submitted.ticket if submitted else None

    def look(self) -> None:
        """Note the state that the provider says the job is in, if that was not done just now."""
        now = self.run.clock.now()
        if self.ticket is None or (self._looked is not None and now - self._looked < LOOK):
            return
        self._looked = now
        try:
            job = self.backend.raw(self.ticket)
        except (Gone, NightshootError):
            return  # the run itself says so, if it lasts
        state = str((job.get("metadata") or job).get("state") or "")
        if state and state not in self.states:
            self.states.append(state)


def try_it(
    console: Console,
    what: str | None,
    *,
    runs: str | None,
    model: str | None,
    max_usd: float | None,
    yes: bool,
) -> int:
    """Ask, shoot, judge, and keep the report beside the run. 0 where all that could be seen held; 1 where not; and
    what an error exits with that stopped it."""
    with tempfile.TemporaryDirectory(prefix="nightshoot-doctor-") as own:
        named = only_job(what)
        said, base = (None, Path()) if named is None else meant(named)
        folder = runs or (said.runs if said else "runs")
        job = _job(said, base, Path(own), model=model)
        check_backend(job, folder=folder)
        found = survey(job, base=Path(own), runs=folder)
        run, backend = _run(console, found, folder, max_usd=max_usd, yes=yes)
        driver = Driver(run, backend, planner=planner(found, run))
        trial = Trial(driver, backend, found.table.find(next(iter(found.lanes))), found)
        _live_through(console, trial)
    verdict = _verdict(trial)
    report = place(folder, keep(verdict, open_storage(folder)))
    console.result([*lines_of(verdict), "", f"  report  {report}"], document_of(verdict) | {"report": report})
    if trial.stopped is not None:
        return trial.stopped.exit_code
    return 0 if verdict.held else 1


# --- what is shot ------------------------------------------------------------------------------------------------


_WHERE = ("backend", "project", "location", "bucket")


def _job(said: Job | None, base: Path, own: Path, *, model: str | None) -> Job:
    """Two shots of one row, in a folder of its own: one with every setting, one that is shown a picture."""
    if said is not None and said.models:
        (own / "models.toml").write_bytes((base / said.models).read_bytes())
    table = load_models(own / "models.toml" if said is not None and said.models else None)
    asked = table.find(model or models_of(said)[0])
    if asked.call == "predict":
        raise BadInput(
            f"{asked.name}: this tries what comes in batches, and it comes in none",
            hint="try it for the price of a picture:  nightshoot proof JOB --rows 1",
        )
    with (own / f"{NAME}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "photo"), ("tile", "tile.png")])
    _draw(own / "tile.png")
    size = asked.batch_sizes.get(said.backend if said else "developer", asked.sizes)[0]
    common: dict[str, Any] = {"image_size": size if asked.size_settable else None}
    settings: dict[str, Any] = {
        "aspect_ratio": "1:1" if "1:1" in asked.ratios else None,
        "system": SYSTEM,
        "seed": 7,
        "thinking": asked.default_thinking,
        "thoughts": asked.thinks or None,
        "safety": {"dangerous_content": "high"},
        "store": False,
    }
    shown: dict[str, Any] = {
        "aspect_ratio": "4:3" if "4:3" in asked.ratios else None,
        "references": ["photo"],
    }
    shots = {"settings": common | settings, REFERENCE: common | shown}
    return job_for(
        f"{NAME}.csv",
        key="id",
        shots={
            name: {"prompt": PROMPTS[name]} | {key: value for key, value in shot.items() if value is not None}
            for name, shot in shots.items()
        },
        model=asked.name,
        attempts=1,
        models="models.toml" if said is not None and said.models else None,
        **({name: getattr(said, name) for name in _WHERE} if said is not None else {}),
    )


def _draw(path: Path) -> None:
    """A tile that nobody has the rights of: a blue ring on yellow."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (256, 256), (240, 200, 60))
    ImageDraw.Draw(image).ellipse((64, 64, 192, 192), outline=(30, 60, 160), width=24)
    image.save(path, "PNG")


def _run(
    console: Console, found: Survey, folder: str, *, max_usd: float | None, yes: bool
) -> tuple[Run, Backend]:
    """The trial that is under way, or a new one, if a person wants it; and whoever makes its pictures."""
    service = service_of(found.job)
    clock = clock_for(service)
    choice, there = choose(folder, found, service=service, clock=clock)
    goes_on = there is not None and choice is Choice.CONTINUE
    name = there.name if goes_on and there else str(next_name(open_storage(folder), NAME, clock.now().date()))
    url = place(folder, name)
    backend = open_backend(found.job, service=service, clock=clock, place=url)
    if goes_on and there is not None:
        console.note(place_line(name, choice.value, service, backend.account))
        return there, backend
    cap = MOST if max_usd is None else min(MOST, nanos(max_usd))
    console.note(place_line(name, Choice.NEW.value, service, backend.account))
    _ask(console, found, cap=cap, yes=yes)
    run = begin(found, name=name, storage=open_storage(url), service=service, clock=clock, cap=cap)
    return run, backend


def _ask(console: Console, found: Survey, *, cap: int, yes: bool) -> None:
    model = next(iter(found.lanes))
    words = f"Two pictures of {model} in one batch, for about {dollars(found.price.likely)}, at most {dollars(cap)}"
    if found.price.high > cap:
        raise Refused(
            f"two pictures of {model} may cost {dollars(found.price.high)}, and the cap is {dollars(cap)}",
            hint="try another model: --live --model gemini-3.1-flash-lite-image",
        )
    console.note(f"{words}. It may take Google minutes, or a day")
    if yes:
        return
    if not console.can_ask():
        raise Refused(
            "nobody is here to ask", hint=f"add --yes to go on without asking; the cap is {dollars(cap)}"
        )
    if not console.ask(f"Go on for at most {dollars(cap)}?"):
        raise Refused("not sent", hint="nothing was written and nothing was paid")


def _live_through(console: Console, trial: Trial) -> None:
    """To the end, or to where only a person can go on: that is a result too."""
    with console.progress(trial.run) as progress:

        def listen(run: Run) -> None:
            progress.update(run)
            trial.look()

        trial.driver.listener = listen
        try:
            trial.driver.to_the_end()
        except NightshootError as error:
            trial.stopped = error


# --- what was seen -----------------------------------------------------------------------------------------------


def _verdict(trial: Trial) -> Verdict:
    run, evidence = trial.run, _evidence(trial)
    return Verdict(
        run=run.storage.url.rstrip("/").rpartition("/")[2],
        at=run.created_at,
        service=run.created.service,
        account=trial.backend.account,
        model=trial.model.name,
        prices_as_of=run.created.prices_as_of,
        said=trial.found.price.likely,
        took=run.state.spent,
        seen=tuple(behaviours(evidence)),
        stopped=trial.stopped,
    )


def _evidence(trial: Trial) -> Evidence:
    """All that the run and the provider can tell now."""
    run, ticket = trial.run, trial.ticket
    batch = run.state.batches[0] if run.state.batches else None
    ended = batch.ended if batch else None
    evidence: dict[str, Any] = {}
    if ticket is not None and batch is not None and batch.submitting is not None:
        with _asked(trial):
            evidence["job"] = trial.backend.raw(ticket)
        with _asked(trial):
            candidates = trial.backend.find(batch.submitting.label).candidates
            evidence["listed"] = [candidate.ticket for candidate in candidates] == [ticket]
        if ended is not None and ended.files:
            with _asked(trial):
                evidence["ranges"] = trial.backend.takes_ranges(ticket, ended.files[0].name)
    return Evidence(
        model=trial.model,
        rows=[row for part in parts(run) for row in tables.rows_of(part)],
        strays=list(_strays(run)),
        ended=ended,
        ticket=ticket,
        states=trial.states,
        said=trial.found.price,
        took=run.state.spent if batch is not None and batch.collected is not None else None,
        **evidence,
    )


@contextmanager
def _asked(trial: Trial) -> Iterator[None]:
    """A question that may stay without an answer: then there is nothing to see."""
    try:
        yield
    except Gone:
        return
    except NightshootError as error:
        trial.stopped = trial.stopped or error


def _strays(run: Run) -> Iterator[dict[str, Any]]:
    for batch in run.state.batches:
        if batch.collected is not None and batch.collected.quarantine is not None:
            for line in run.storage.read(quarantine_file(batch.number)).splitlines():
                yield json.loads(line)
