"""The few names of Python: a job, its plan, its run. Each shows itself in a notebook as the command line would."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline import index
from pipeline.backends import check_backend, open_backend, service_of
from pipeline.clock import Clock, MachineClock, clock_for
from pipeline.console import Console, place_line, reasons, status_lines
from pipeline.drive import Driver
from pipeline.errors import BadInput, Refused
from pipeline.events import Capped
from pipeline.gallery import Gallery, gallery
from pipeline.index import Shown
from pipeline.job import Job as JobFile
from pipeline.job import job_for, read_job
from pipeline.manifest import frame_manifest, open_manifest
from pipeline.money import Estimate, dollars, estimate, nanos, served
from pipeline.overview import notes, plan_lines, problem_lines
from pipeline.prompt import Prompt, Request, requests
from pipeline.run import Run as RunDirectory
from pipeline.run import open_run as open_directory
from pipeline.runs import Choice, choose, find, next_name, nights, place
from pipeline.state import Illegal
from pipeline.storage import open_storage
from pipeline.survey import Survey, begin, check_ends, job_of, planner, planner_for, survey
from pipeline.tally import tally

if TYPE_CHECKING:
    import pandas as pd

JOBS = Path("jobs")


def job(
    path: str | Path | None = None,
    *,
    rows: "pd.DataFrame | None" = None,
    shots: Mapping[str, str | Mapping[str, Any]] | None = None,
    prompt: str | None = None,
    model: str | None = None,
    name: str | None = None,
    runs: str | Path | None = None,
    **settings: Any,
) -> "Job":
    """What to shoot: a job file or its name in jobs/, a manifest, or the rows of a DataFrame.

    `shots` are prompts by name, or tables as a job file has them. Any other setting of a job may be given too:
    with a job file it outranks what the file says, else it is the default of every row. References are relative
    to the manifest; those of a DataFrame to the current directory. A DataFrame is copied.
    """
    said = {"prompt": prompt, "model": model, "name": name, **settings}
    said = {key: value for key, value in said.items() if value is not None}
    if (path is None) == (rows is None):
        raise BadInput("give either a path or rows", hint='nightshoot.job("jobs/shoes.toml")')
    if rows is not None:
        return _of_frame(rows, _shots(shots), said, runs)
    assert path is not None
    file = Path(path)
    if not file.suffix and not file.exists():
        file = JOBS / f"{file}.toml"
    if file.suffix != ".toml":
        return Job(job_for(file, shots=_shots(shots), **said), Path(), _folder(runs))
    if shots is not None:
        raise BadInput(f"{file}: has shots of its own", hint="add yours there, or give the manifest instead")
    meant = read_job(file)
    return Job(meant.with_settings(said) if said else meant, file.parent, _folder(runs))


def open_run(run: str | Path | None = None, *, runs: str | Path | None = None) -> "Run":
    """A run that is there: its directory or gs:// URL, its name, or its job's name; without one the newest."""
    what = None if run is None else str(run)
    return Run(find(what, folder=_folder(runs) or "runs", clock=MachineClock()))


@dataclass(frozen=True, slots=True)
class Job:
    """What to shoot and how."""

    _job: JobFile = field(repr=False)
    _base: Path = field(repr=False)  # what its manifest is relative to
    _runs: str | None = field(repr=False)
    _frame: "pd.DataFrame | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self._job.name

    def __repr__(self) -> str:
        return f"job {self.name}: {self._job.manifest}, {', '.join(shot.name for shot in self._job.shots)}"

    def plan(self, *, limit: int | None = None, where: str | None = None, keys: Sequence[str] = ()) -> "Plan":
        """What it would make and cost, and what is wrong with its rows. Reads all of them, sends nothing."""
        chosen = {"where": where, "keys": list(keys) or None}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        meant = self._job.with_settings(chosen) if chosen else self._job
        frame = self._frame
        rows = None if frame is None else frame_manifest(frame, meant.manifest, key=meant.key)
        folder = self._runs or meant.runs
        service = service_of(meant)
        before = nights(meant, folder=folder, service=service, clock=clock_for(service))
        found = survey(meant, base=self._base, limit=limit, manifest=rows, nights=before, runs=folder)
        check_ends(found, clock_for(service).now().date())
        file = found.manifest.path if frame is None else None
        return Plan(found, folder=self._runs or found.job.runs, file=file)


def _of_frame(
    rows: "pd.DataFrame",
    shots: Mapping[str, Mapping[str, Any]],
    said: Mapping[str, Any],
    runs: str | Path | None,
) -> Job:
    import pandas as pd

    if not isinstance(rows, pd.DataFrame):
        raise BadInput(f"rows is a {type(rows).__name__}, no DataFrame", hint="pandas.DataFrame(rows)")
    called = {"name": "notebook", **said}
    meant = job_for(str(called["name"]), shots=shots, **called)
    # What is planned is what was priced, whatever happens to the frame in the cells between.
    return Job(meant, Path(), _folder(runs), rows.copy())


def _shots(shots: Mapping[str, str | Mapping[str, Any]] | None) -> dict[str, Mapping[str, Any]]:
    return {name: {"prompt": said} if isinstance(said, str) else said for name, said in (shots or {}).items()}


def _folder(runs: str | Path | None) -> str | None:
    """Where runs live, as said here or in the environment, as for the command; None: where the job says."""
    return str(runs) if runs is not None else os.environ.get("NIGHTSHOOT_RUNS")


# --- a plan ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Price:
    """What a plan costs, in dollars."""

    likely: float
    low: float
    high: float  # every assumption at its upper end

    def __repr__(self) -> str:
        likely, low, high = (dollars(nanos(usd)) for usd in (self.likely, self.low, self.high))
        return f"about {likely}, from {low} to {high}"


class Plan:
    """A job looked over. Nothing is sent or written until it is submitted."""

    def __init__(self, found: Survey, *, folder: str, file: Path | None) -> None:
        self._found = found
        self._folder = folder  # of runs
        self._file = file  # the manifest, unless it is a DataFrame

    @property
    def usd(self) -> Price:
        price = self._found.price
        return Price(price.likely / 1e9, price.low / 1e9, price.high / 1e9)

    @cached_property
    def problems(self) -> "pd.DataFrame":
        """Everything that is wrong with the rows, a line each."""
        import pandas as pd

        told = [
            (request.row, request.key, problem) for request in self._poured() for problem in request.problems
        ]
        lines = [
            (problem.row, key, problem.column, problem.value, problem.message, problem.hint)
            for _, key, problem in dict.fromkeys(told)  # the same in several shots is said once
        ]
        return pd.DataFrame(lines, columns=["row", "key", "column", "value", "message", "hint"])

    @cached_property
    def requests(self) -> "pd.DataFrame":
        """Every picture that would be asked for, in order. Of a big job look at a few: `job.plan(limit=5)`."""
        import pandas as pd

        lines = [
            {
                "key": request.key,
                "shot": request.shot,
                "variant": request.variant,
                "prompt": request.prompt.text,
                "model": request.prompt.model,
                "references": [reference.source for reference in request.prompt.references],
                "usd": self._priced(request.prompt).likely / 1e9,
            }
            for request in self._poured()
            if request.prompt is not None
        ]
        columns = ["key", "shot", "variant", "prompt", "model", "references", "usd"]
        return pd.DataFrame(lines, columns=columns)

    def _priced(self, prompt: Prompt) -> Estimate:
        model = self._found.table.find(prompt.model)
        return estimate(prompt, model, served(model, self._found.job.backend))

    def submit(self, *, max_usd: float, skip_bad: bool = False, new: bool = False) -> "Run":
        """Plan all of it and send it, as far as the cap and Google's limits allow; wait for nothing.

        Safe to repeat: the unfinished run of this job goes on, with this cap, and a finished one stays so; `new`
        makes another. Rows with problems are refused, or left out with `skip_bad`.
        """
        cap = _cap(max_usd)
        job = self._found.job
        service = service_of(job)
        clock = clock_for(service)
        check_backend(job, folder=self._folder)
        self._check_unchanged()
        directory = None if new else self._continued(service, clock, cap=cap)
        if directory is None:
            self._check_rows(skip_bad=skip_bad)
            directory = self._begun(service, clock, cap=cap)
        backend = open_backend(job, service=service, clock=clock, place=directory.storage.url)
        driver = Driver(directory, backend, planner=planner(self._found, directory))
        with _interruptible():
            # All of it is planned here: another process may go on with the run, and it has no DataFrame.
            while not directory.state.finished and (driver.draw() or driver.submit()):
                pass
        return Run(directory, driver)

    def _continued(self, service: str, clock: Clock, *, cap: int) -> RunDirectory | None:
        """The run of this very job that is there already."""
        choice, there = choose(self._folder, self._found, service=service, clock=clock)
        if there is None or choice is Choice.NEW:
            return None
        if choice is Choice.ASK:
            raise Refused(
                f"{there.name}: {choice.value}",
                hint="undo the change to go on with it, or submit(..., new=True) starts a run beside it",
            )
        if choice is Choice.CONTINUE and cap != there.state.cap:
            try:
                there.record(Capped(cap=cap))
            except Illegal as error:
                raise Refused(f"max_usd={cap / 1e9:g}: {error}", hint="give a higher one") from error
        return there

    def _begun(self, service: str, clock: Clock, *, cap: int) -> RunDirectory:
        found = self._found
        name = next_name(open_storage(self._folder), found.job.name, clock.now().date())
        storage = open_storage(place(self._folder, name))
        return begin(found, name=str(name), storage=storage, service=service, clock=clock, cap=cap)

    def __repr__(self) -> str:
        found = self._found
        lines = notes(found) + plan_lines(found)
        return "\n".join(lines + (problem_lines(found) if found.problems else []))

    def _repr_html_(self) -> str:
        return _pre(repr(self))

    def _poured(self) -> Iterator[Request]:
        """What the rows become, once more: those that were looked over, and no more."""
        found = self._found
        rows = takewhile(lambda row: row.ordinal < found.rows, found.manifest.rows())
        return requests(found.job, rows, models=found.table, base=found.folder)

    def _check_unchanged(self) -> None:
        """A file may have been edited since it was looked over, cells or hours ago."""
        manifest = self._found.manifest
        if self._file is not None and open_manifest(self._file, key=manifest.key).digest != manifest.digest:
            raise BadInput(f"{self._file}: changed since it was planned", hint="plan it again")

    def _check_rows(self, *, skip_bad: bool) -> None:
        found = self._found
        skip_bad = skip_bad or found.bears_its_bad_rows
        if found.problems and not (skip_bad and found.requests):
            others = f"submit(..., skip_bad=True) shoots the other {found.requests:,} pictures"
            raise BadInput("\n".join(problem_lines(found)), hint=others if found.requests else None)


def _cap(max_usd: float) -> int:
    """The cap, which nobody may leave out: not by None either."""
    if not isinstance(max_usd, int | float) or not 0 < max_usd < math.inf:
        raise BadInput(
            f"max_usd={max_usd!r}: not a number of dollars", hint="say what it may cost at most: max_usd=20"
        )
    return nanos(max_usd)


# --- a run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spending:
    """Dollars: what the plan said, what it took, and what may still come."""

    likely: float
    low: float
    high: float
    spent: float
    reserved: float  # at most this much more is ordered
    unconfirmed: float  # may have been spent, and nobody can read how much
    overrun: float  # of what is spent, beyond what was ordered
    cap: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Status:
    """How far a run is, told from its directory alone. Requests are counted once, however often they were sent."""

    name: str
    url: str
    finished: bool
    requests: int  # to send, as the plan said
    left_out: int  # by the plan
    sent: int
    answered: int  # in the index, those left out included
    again: int  # waiting for another attempt
    to_review: int  # follow-ups that wait until a person has judged what they go on from
    pictures: int
    outcomes: dict[str, int]
    surplus: int  # answers that nobody asked for
    held: int  # sendings of which nobody can tell whether Google has them
    usd: Spending
    tokens: dict[str, int]
    _lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self._lines)

    def _repr_html_(self) -> str:
        return _pre(repr(self))


def _status_of(run: RunDirectory) -> Status:
    now = tally(run)
    usd = {name: getattr(now, name) / 1e9 for name in Spending.__slots__ if name != "cap"}
    what = "finished" if now.finished else "under way"
    return Status(
        name=now.name,
        url=now.url,
        finished=now.finished,
        requests=now.requests,
        left_out=now.refused,
        sent=now.sent,
        answered=now.answered,
        again=now.again,
        to_review=now.to_review,
        pictures=now.pictures,
        outcomes=now.outcomes,
        surplus=now.surplus,
        held=now.held,
        usd=Spending(**usd, cap=None if now.cap is None else now.cap / 1e9),
        tokens=now.tokens,
        _lines=(place_line(now.name, what, now.service, run.created.backend), *status_lines(now)),
    )


class Run:
    """One execution of a job. Looking at it needs its directory only; going on with it needs the key."""

    def __init__(self, directory: RunDirectory, driver: Driver | None = None) -> None:
        self._directory = directory
        self._driver = driver

    @property
    def name(self) -> str:
        return self._directory.name

    @property
    def url(self) -> str:
        """Where it lives: what open_run() takes, on this machine or another."""
        return self._directory.storage.url

    def status(self) -> Status:
        return _status_of(self._caught_up())

    def tick(self) -> Status:
        """Do what can be done now, and wait for nothing. Two at once are harmless."""
        if not self._caught_up().state.finished:
            with _interruptible():
                self._driven().tick()
        return self.status()

    def wait(self) -> Status:
        """Stay until every picture is there or has a reason, with a line of progress.

        An interruption leaves Google's batch jobs alone; so does closing the notebook.
        """
        if self._caught_up().state.finished:
            return self.status()
        driver = self._driven()
        silent = driver.listener
        with _interruptible(), Console().progress(driver.run, lambda: driver.answered) as progress:
            driver.listener = progress.update
            try:
                driver.to_the_end()
            finally:
                driver.listener = silent
        return self.status()

    def index(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        takes: Literal["latest", "all"] = "latest",
        again: bool = False,
    ) -> "pd.DataFrame":
        """Every request whose outcome is final. `where` is a pandas query, as in "outcome != 'ok'".

        Of what was asked once more the latest answer counts; takes="all" has the earlier ones too. What waits to be
        asked again is not final, and is what again=True has instead: with what came of it last.
        """
        if again and takes != "latest":
            raise BadInput(
                f"again=True, takes={takes!r}: what waits has one answer, its last",
                hint="leave one of them out",
            )
        if again:
            return index.read_again(self._caught_up(), columns=columns, where=where)
        if takes not in ("latest", "all"):
            raise BadInput(f"takes={takes!r}: no such choice", hint='takes="latest" or takes="all"')
        return index.read_index(self._caught_up(), columns=columns, where=where, takes=takes)

    def pictures(self) -> Iterator[Shown]:
        """Every final picture: its row of the index, its path, and its bytes by open() or read(). Streams."""
        return index.pictures(self._caught_up())

    def show(self, count: int = 12) -> Gallery:
        """The first pictures, small, for a notebook."""
        now = tally(self._caught_up())
        shown = islice(index.pictures(self._directory), count)
        others = f"; others: {why}" if (why := reasons(now)) else ""
        return gallery(shown, below=f"{now.pictures:,} of {now.requests:,} pictures in {self.url}{others}")

    def __repr__(self) -> str:
        return repr(self.status())

    def _repr_html_(self) -> str:
        return _pre(repr(self))

    def _caught_up(self) -> RunDirectory:
        self._directory.catch_up()
        return self._directory

    def _driven(self) -> Driver:
        """A driver for it, made when there is something to do: only that needs a key."""
        if self._driver is None:
            created = self._directory.created
            clock = clock_for(created.service)
            self._directory = open_directory(self._directory.storage, clock)
            place = self._directory.storage.url
            backend = open_backend(job_of(self._directory), service=created.service, clock=clock, place=place)
            planners = (planner_for(self._directory, base=base) for base in (JOBS, Path()))
            found = next((each for each in planners if each is not None), None)
            self._driver = Driver(self._directory, backend, planner=found)
        return self._driver


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C, or a notebook's stop, says what it did not do."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note("Google goes on with what was sent; the same call goes on from here")
        raise


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
