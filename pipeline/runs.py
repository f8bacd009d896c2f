"""The runs of a folder: which there are, and which one a command means."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from pipeline.clock import Clock
from pipeline.earlier import Night, night, resolved
from pipeline.errors import BadInput
from pipeline.job import Job, of_a_store
from pipeline.manifest import STANDARD_INPUT, open_manifest
from pipeline.money import nanos
from pipeline.problems import did_you_mean
from pipeline.run import Run, open_run
from pipeline.state import Batch, Stage, model_of, trouble_of
from pipeline.storage import Storage, open_storage
from pipeline.survey import Survey, is_from, is_of

_NAME = re.compile(r"(?P<job>.+)-(?P<day>\d{4}-\d\d-\d\d)(?:-(?P<count>\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A run's name, in the order in which runs were made."""

    day: str
    count: int  # 1 for the first of a day
    job: str

    def __str__(self) -> str:
        return f"{self.job}-{self.day}" + (f"-{self.count}" if self.count > 1 else "")


def parse(name: str) -> Name | None:
    """The parts of a run's name, or None if it is none."""
    match = _NAME.fullmatch(name)
    return Name(match["day"], int(match["count"] or 1), match["job"]) if match else None


def names(folder: Storage, job: str | None = None) -> list[Name]:
    """The runs in a folder, oldest first: of one job, or of all."""
    found = (parse(name) for name in _folders(folder, "" if job is None else f"{job}-"))
    return sorted(name for name in found if name is not None and job in (None, name.job))


def _folders(folder: Storage, prefix: str) -> Iterator[str]:
    """The sub-folders whose names start so. One listing each, however many files they hold."""
    after = ""
    while True:
        name = next(iter(folder.list(prefix, after=after)), None)
        if name is None:
            return
        head, slash, _ = name.partition("/")
        if slash:
            yield head
        after = f"{head}/\U0010ffff" if slash else name


def next_name(folder: Storage, job: str, day: date) -> Name:
    """What a new run of today is called."""
    today = [name.count for name in names(folder, job) if name.day == day.isoformat()]
    return Name(day.isoformat(), max(today, default=0) + 1, job)


def place(folder: str, name: Name | str) -> str:
    """Where a run of this folder lives."""
    return f"{folder.rstrip('/')}/{name}"


def proofs_of(job: str) -> str:
    """What the proofs of a job are called, where its runs are called after the job itself."""
    return f"{job}-proof"


class Choice(Enum):
    """What `run JOB` means."""

    NEW = "new run"
    CONTINUE = "continued"
    FINISHED = "finished"
    ASK = "the job was edited, and its unfinished run has sent something already"


LOOKED_AT = 20
"""How many of a job's runs are looked at, newest first: a job that is shot every night has hundreds."""


def choose(folder: str, found: Survey, *, service: str, clock: Clock) -> tuple[Choice, Run | None]:
    """One rule: the job's unfinished run goes on, whatever its date; an edited job is a new run.

    An edited job whose unfinished run has paid for something is a question for a person. Runs that talk to another
    service, such as rehearsals, are none of this job's.
    """
    finished, edited = None, None
    for run in recent(folder, found.job.name, service=service, clock=clock):
        if is_of(run, found):
            if not run.state.finished:
                return Choice.CONTINUE, run
            finished = finished or run
        elif not run.state.finished and has_sent(run):
            edited = edited or run
    if finished is not None:
        return Choice.FINISHED, finished
    return (Choice.ASK, edited) if edited is not None else (Choice.NEW, None)


def planned(folder: str, job: Job, *, base: Path, service: str, clock: Clock) -> Run | None:
    """The job's unfinished run, if it needs neither manifest nor photos any more: whatever became of those."""
    if job.manifest == STANDARD_INPUT:  # it can be read once, and is read by whoever looks the job over
        return None
    try:
        manifest = open_manifest(job.manifest_path(base), key=job.key)
        digest, job = manifest.digest, of_a_store(job, manifest)
    except BadInput:
        digest = None
    for run in recent(folder, job.name, service=service, clock=clock):
        whole = run.state.all_drawn and not run.state.at(Stage.DRAWN) and not run.state.finished
        if whole and is_from(run, job, digest or run.created.manifest_sha256):
            return run
    return None


def recent(folder: str, job: str, *, service: str, clock: Clock) -> Iterator[Run]:
    """A job's latest runs that talk to this service, newest first."""
    for name in reversed(names(open_storage(folder), job)[-LOOKED_AT:]):
        run = open_run(open_storage(place(folder, name)), clock)
        if run.created.service == service:
            yield run


def left_this_month(
    job: Job, folder: str, *, service: str, clock: Clock, but: str | None = None
) -> int | None:
    """What this month's runs and proofs of a job, but one, leave of what all may cost together.

    None: nobody says how much.
    """
    if job.max_usd_month is None:
        return None
    month = clock.now().strftime("%Y-%m-")
    left = nanos(job.max_usd_month)
    there = open_storage(folder)
    for name in [*names(there, job.name), *names(there, proofs_of(job.name))]:
        if name.day.startswith(month) and str(name) != but:
            run = open_run(open_storage(place(folder, name)), clock)
            if run.created.service == service:
                left -= run.state.committed
    return max(0, left)


def is_proved(folder: str, found: Survey, *, service: str, clock: Clock) -> bool:
    """Whether an earlier run asked these models for the same pictures of other rows, and they came as asked."""
    wanted = found.models
    for run in recent(folder, found.job.name, service=service, clock=clock):
        first = {lane: run.state.canary(lane) or _first_home(run, lane) for lane in wanted}
        well = (b is not None and b.collected is not None and trouble_of(b) is None for b in first.values())
        if _pictured(msgspec.convert(run.created.job, Job)) == _pictured(found.job) and all(well):
            return True
    return False


def _first_home(run: Run, lane: str) -> Batch | None:
    of_lane = (b for b in run.state.at(Stage.COLLECTED) if b.sends and model_of(b) == lane)
    return next(of_lane, None)


def _pictured(job: Job) -> tuple[object, ...]:
    """What a job says of the pictures themselves, whatever their rows."""
    return job.defaults, job.shots, job.include, job.settings, job.references, job.backend


def has_sent(run: Run) -> bool:
    """Whether money may have been spent on it."""
    return any(batch.intent is not None for batch in run.state.batches)


def nights(job: Job, *, folder: str, service: str, clock: Clock) -> list[Night]:
    """The earlier runs that the job's `reuse` names, newest first: names, globs, 'latest N' of this job, places. Before
    them its latest proofs, which count without being named.

    What another service answered, a rehearsal's above all, is none of this one's.
    """
    proofs = reversed(names(open_storage(folder), proofs_of(job.name))[-LOOKED_AT:])
    return _nights(job, [place(folder, name) for name in proofs], folder=folder, service=service, clock=clock)


def named_nights(job: Job, *, folder: str, service: str, clock: Clock) -> list[Night]:
    """The same without proofs."""
    return _nights(job, [], folder=folder, service=service, clock=clock)


def _nights(job: Job, proofs: list[str], *, folder: str, service: str, clock: Clock) -> list[Night]:
    there = names(open_storage(folder)) if job.reuse else []
    places: dict[str, None] = dict.fromkeys(proofs)
    for entry in job.reuse:
        if count := re.fullmatch(r"latest(?: +(\d+))?", entry):
            mine = [name for name in there if name.job == job.name]
            meant = [place(folder, name) for name in reversed(mine)][: int(count[1] or 1)]
        elif "/" in entry:
            meant = [entry.rstrip("/")]
        else:
            meant = [place(folder, name) for name in reversed(there) if fnmatchcase(str(name), entry)]
        places.update(dict.fromkeys(meant))
    found: dict[str, Night] = {}
    while places:
        url = next(iter(places))
        del places[url]
        one = found[url] = night(open_storage(url), home=folder, clock=clock)
        # What that run left to another, which was still at it, is known to the other alone.
        waited_for = {resolved(each, folder) for each in _waited_for(one)} - found.keys()
        places.update(dict.fromkeys(sorted(waited_for)))
    return [one for one in found.values() if one.state.created and one.state.created.service == service]


def _waited_for(one: Night) -> set[str]:
    created = one.state.created
    return {earlier.place for earlier in created.reused if earlier.unfinished} if created else set()


def find(what: str | None, *, folder: str, clock: Clock, to_drive: bool = False) -> Run:
    """The run a person names: a directory or URL, a run's name, a job's name; nothing means the newest."""
    if what is not None:
        direct = open_storage(what)
        if next(iter(direct.list("journal/")), None) is not None:
            return open_run(direct, clock)
    there = names(open_storage(folder))
    if not there:
        where = f"no runs in {folder}" if what is None else f"{what}: no run, and there are none in {folder}"
        raise BadInput(where, hint="nightshoot run JOB makes one; --runs DIR looks elsewhere")
    if what is None:
        return _newest(there, folder, clock, to_drive=to_drive)
    job = what.removesuffix(".toml").rpartition("/")[2]
    mine = [name for name in there if str(name) == what]
    mine = mine or [name for name in there if name.job in (what, job)]
    if not mine:
        known = {name.job for name in there} | {str(name) for name in there}
        raise BadInput(f"no run {what!r} in {folder}", hint=did_you_mean(what, sorted(known)))
    return open_run(open_storage(place(folder, mine[-1])), clock)


def _newest(there: list[Name], folder: str, clock: Clock, *, to_drive: bool) -> Run:
    """The last that was begun, whatever its job is called. To go on with: one of that day that is under way, first."""
    today = [name for name in there if name.day == there[-1].day]
    runs = [open_run(open_storage(place(folder, name)), clock) for name in today]
    return max(runs, key=lambda run: (to_drive and not run.state.finished, run.created_at))
