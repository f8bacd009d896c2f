"""Whether a night could begin: key, model, place for the runs, clocks and tables, each looked at once.

It spends nothing, sends nothing to be shot, and leaves nothing behind: what it writes on a disk is gone again, and a
bucket is asked, not tried, since who may create there need not be allowed to delete.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from pipeline import __version__
from pipeline.backends import (
    KEYS,
    check_backend,
    location_of,
    open_backend,
    project_of,
    service_of,
    staging_of,
)
from pipeline.backends.base import Backend
from pipeline.clock import EXPORTED, Clock, MachineClock, clock_for
from pipeline.console import is_emulated
from pipeline.errors import BadInput, Denied, NightshootError, Unavailable
from pipeline.findings import (
    Finding,
    Level,
    models_of,
    of_clocks,
    of_life,
    of_prices,
    of_quota,
    of_regions,
    ok,
    problem,
    trouble,
    unchecked,
    warning,
)
from pipeline.job import Job, job_for
from pipeline.models import Models, load_models
from pipeline.runs import place
from pipeline.session import meant, only_job
from pipeline.storage import inspect_bucket
from pipeline.storage.local import LocalStorage

NEEDED = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
"""What a run asks of a bucket. It neither overwrites nor deletes."""

REMOVED = "storage.objects.delete"
"""What is asked besides where Vertex AI reads: an input file that must not be read any more is removed."""

ENOUGH, LEAST = 10_000_000_000, 1_000_000_000  # bytes free on a disk: to be at ease with, to begin with
SPOOLED = 2_000_000_000  # bytes of the temporary folder that sending a batch may take

Link = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: the job if there is one, and where it would go."""

    job: Job  # as it is where none is named: to the Developer API, without a tier
    named: Finding  # what became of the job that was named
    runs: str
    models: tuple[str, ...]
    table: Models
    tabled: Finding  # and of its own table of models
    service: str


def patient_of(what: str | None, *, runs: str | None = None, model: str | None = None) -> Patient:
    """The job a person means, or the only one there is, or none. A job that cannot be read hides nothing else."""
    job, base, named = _job(what, model=model)
    table, tabled = _table(job, base)
    meant = job or job_for("nothing.csv")
    models = (model,) if model else tuple(models_of(job))
    return Patient(meant, named, runs or meant.runs, models, table, tabled, service_of(meant))


def examine(patient: Patient, *, offline: bool = False) -> Iterator[Finding]:
    """Every finding, one after the other, as soon as it is there. What needs another that failed is not checked."""
    yield of_program()
    yield patient.named
    yield of_service(patient.service)
    clock, silent = (MachineClock(), None) if offline else _clock(patient.service)
    if silent is not None:
        yield silent
    account = of_key() if patient.job.backend == "developer" else _of_project(patient)
    yield account
    if offline or account.level is Level.PROBLEM:
        yield unchecked("account", "offline" if offline else "there is nobody to ask as")
    else:
        yield from _of_account(patient, clock)
    yield from of_place(patient.runs, offline=offline)
    if patient.job.backend == "vertex" and account.level is not Level.PROBLEM:
        yield from _of_staging(patient, offline=offline)
    if patient.tabled.level is not Level.OK:
        yield patient.tabled
    yield of_prices(patient.table, clock.now())
    for name in patient.models:
        yield _of_model(name, patient, clock.now())
    yield from of_quota(patient.job if patient.named.level is Level.OK else None, patient.table)


# --- what is here ------------------------------------------------------------------------------------------------


def of_program() -> Finding:
    """Which program this is: what to say when somebody is asked for help."""
    words = f"nightshoot {__version__}, Python {platform.python_version()}, google-genai {version('google-genai')}"
    return ok("program", words)


def _job(what: str | None, *, model: str | None) -> tuple[Job | None, Path, Finding]:
    named = only_job(what)
    if named is None:
        return None, Path(), unchecked("job", "none is named", "nightshoot doctor JOB")
    try:
        job, base = meant(named, model=model)
    except NightshootError as error:
        return None, Path(), trouble("job", error)
    return job, base, ok("job", f"{named} can be read")


def _table(job: Job | None, base: Path) -> tuple[Models, Finding]:
    try:
        table = load_models(base / job.models if job is not None and job.models else None)
    except BadInput as error:
        return load_models(), trouble("models", error)
    return table, ok("models", "")


def of_service(service: str) -> Finding:
    """Whom everything here would be sent to."""
    if not is_emulated(service):
        return ok("service", f"Google, at {service}")
    hint = f"for Google:  unset {' '.join(EXPORTED)}"
    return warning("service", f"the EMULATOR at {service}: nothing is shot or paid", hint)


def of_key() -> Finding:
    """Whether there is a key, and which one is taken where there are two."""
    there = {name: os.environ[name] for name in KEYS if os.environ.get(name)}
    if not there:
        return problem(
            "key",
            "none in the environment",
            f"export {KEYS[0]}=...; get one at https://aistudio.google.com/apikey",
        )
    name = next(iter(there))
    words = f"{name}, ...{there[name][-4:]}" if len(there[name]) >= 16 else name
    if len(set(there.values())) > 1:
        return warning("key", f"{words}; {KEYS[1]} holds another", f"unset {KEYS[1]}, or make them equal")
    return ok("key", words)


def _of_project(patient: Patient) -> Finding:
    """Where on Vertex AI it would be shot, and whether all is said that is needed for that."""
    try:
        check_backend(patient.job, folder=patient.runs)
    except NightshootError as error:
        return trouble("project", error)
    return ok("project", f"{project_of(patient.job)}, {location_of(patient.job)}")


# --- what the service says ---------------------------------------------------------------------------------------


def _clock(service: str) -> tuple[Clock, Finding | None]:
    """The clock a run would go by. An emulator's that is gone is a finding, and this machine's takes its place."""
    try:
        clock = clock_for(service)
        clock.now()
    except NightshootError as error:
        return MachineClock(), trouble("clock", error)
    return clock, None


def _of_account(patient: Patient, clock: Clock) -> Iterator[Finding]:
    """What only the service can say: whether it takes the key, what time it is there, and whether it has the models."""
    try:
        there_to_be = place(patient.runs, patient.job.name)
        backend = open_backend(patient.job, service=patient.service, clock=clock, place=there_to_be)
        there = backend.time()
    except NightshootError as error:
        yield trouble("account", error)
        yield unchecked("model", f"{', '.join(patient.models)}: the service did not answer")
        return
    here = clock.now()
    yield ok("account", "the service knows it, and lists its batches")
    yield of_clocks(here, there)
    for name in patient.models:
        yield of_offer(backend, name)


def of_offer(backend: Backend, name: str) -> Finding:
    """Whether the service has a model, and in batches. A free GET of it."""
    about = "model"
    try:
        offer = backend.offer(name)
    except Denied as error:  # the account is fine: to shoot with a model is another right than to look at it
        return unchecked(about, f"{name}: {error.message}", "the first batch tells; a small one:  --live")
    except NightshootError as error:
        return trouble(about, error)
    if offer is None:
        return problem(
            about, f"{name}: the service has none of this name for this key", "another: --model NAME"
        )
    if offer.batches is None:
        return ok(about, f"{name} is there; the service does not say whether in batches")
    if not offer.batches:
        return problem(about, f"{name} is there, but not in batches", "choose another: --model NAME")
    return ok(about, f"{name} is there, in batches")


def _of_model(name: str, patient: Patient, now: datetime) -> Finding:
    try:
        return of_life(patient.table.find(name), now, patient.job.backend)
    except BadInput as error:
        return trouble("life", error)


# --- where runs live ---------------------------------------------------------------------------------------------


def of_place(folder: str, *, offline: bool) -> Iterator[Finding]:
    """Whether runs can live there: a folder is tried, a bucket is asked."""
    if "://" not in folder:
        yield of_folder(folder)
        yield of_disk(folder)
    elif offline:
        yield unchecked("runs", f"{folder}: offline")
    else:
        yield from of_bucket(folder)
    free = _free(Path(tempfile.gettempdir()))
    if free < SPOOLED:
        words = f"{tempfile.gettempdir()} has {free / 1e9:,.1f} GB free; a batch is put together there"
        yield warning("temporary", words, "free some space, or set TMPDIR to a larger disk")


def of_folder(folder: str, *, link: Link = os.link) -> Finding:
    """Whether a file can be written there as a run's are: on the disk, then linked to its name.

    It is tried in a folder of its own beside the runs, which is gone afterwards.
    """
    beside = _nearest(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=beside) as own:
            try:
                LocalStorage(own, link=link).put("probe", b"nightshoot doctor\n")
            except NightshootError as error:
                return problem("runs", error.message.replace(own, str(beside)), error.hint)
    except OSError as error:
        words = f"{beside}: {(error.strerror or str(error)).lower()}"
        return problem("runs", words, "let this user write there, or choose another folder: --runs")
    made = "" if Path(folder).exists() else ", made by the first run"
    return ok("runs", f"{folder} can be written, with hard links{made}")


def _free(place: Path) -> int:
    return shutil.disk_usage(place).free


def of_disk(folder: str, *, free: Callable[[Path], int] = _free) -> Finding:
    """Whether there is room to begin. How much a run needs is the plan's to say."""
    there = free(_nearest(folder))
    words = f"{there / 1e9:,.0f} GB free; a picture of 1K takes about 2 MB on its way"
    if there < LEAST:
        return problem("disk", f"{there / 1e9:,.1f} GB free", "free some, or put the runs elsewhere: --runs")
    if there < ENOUGH:
        return warning("disk", words, "nightshoot plan says how much a run needs")
    return ok("disk", words)


def _nearest(folder: str) -> Path:
    """The folder, or whatever is there of its path."""
    place = Path(folder).expanduser().absolute()
    while not place.exists():
        place = place.parent
    return place


def of_bucket(
    url: str, *, about: str = "runs", needed: tuple[str, ...] = NEEDED, location: str | None = None
) -> Iterator[Finding]:
    """Whether this account may do in the bucket what a run does. It is asked: an object tried could stay for ever.

    With a location of Vertex AI also whether the bucket lies near it.
    """
    try:
        bucket = inspect_bucket(url)
        missing = sorted(set(needed) - bucket.allows(needed))
    except NightshootError as error:
        yield trouble(about, error)
        return
    if missing:
        words = f"{url}: this account lacks {', '.join(missing)}"
        roles = "the roles storage.objectCreator and storage.objectViewer"
        yield problem(
            about, words, f"give it {roles if needed == NEEDED else 'the role storage.objectUser'} there"
        )
    else:
        yield ok(about, f"{url}: this account may {', '.join(name.rpartition('.')[2] for name in needed)}")
    try:
        lies = bucket.location()
    except (Denied, Unavailable) as error:
        yield unchecked(
            "bucket", f"where it lies: {error.message}", "the permission storage.buckets.get tells"
        )
    else:
        yield of_regions(location, lies) if location else ok("bucket", f"lies in {lies}")


def _of_staging(patient: Patient, *, offline: bool) -> Iterator[Finding]:
    """Whether this account, and Vertex AI in its own name, can read and write where they meet."""
    staging = staging_of(patient.job, place(patient.runs, patient.job.name)).rpartition("/")[0]
    if offline:
        yield unchecked("staging", f"{staging}: offline")
        return
    location = location_of(patient.job)
    yield from of_bucket(staging, about="staging", needed=(*NEEDED, REMOVED), location=location)
    yield unchecked(
        "agent",
        f"whether Vertex AI's service agent may read and write {staging}: nobody but it could tell",
        "it may in buckets of its own project, once Vertex AI was used there; elsewhere give it storage.objectUser",
    )
