"""What a job, a table of models and a pair of clocks say by themselves: findings, each a line for people.

Pure: nothing here asks the network or a disk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from pipeline.advice import AT_WORST
from pipeline.errors import BadInput, NightshootError
from pipeline.job import DEFAULT_MODEL, NONE, Job
from pipeline.models import Model, Models
from pipeline.survey import queue_tokens

OLD = timedelta(days=90)
"""A table of prices that is older than this is worth a look at Google's pages."""

NEAR, FAR = timedelta(seconds=30), timedelta(minutes=5)
"""How far a clock may be off: unnoticed, and before signed requests are refused."""

_MULTI = {
    "US": ("us", "northamerica"),
    "EU": ("eu", "europe"),
    "ASIA": ("asia",),
    "NAM4": ("us-central1", "us-east1"),
    "EUR4": ("europe-north1", "europe-west4"),
    "EUR5": ("europe-west1", "europe-west2"),
    "EUR7": ("europe-west2", "europe-west3"),
    "EUR8": ("europe-west3", "europe-west6"),
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
}
"""What Cloud Storage's places of several regions hold, as the beginnings of Vertex AI's locations."""


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNCHECKED = "not checked"  # nobody could be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at one thing came to."""

    about: str
    level: Level
    words: str
    hint: str | None = None


def ok(about: str, words: str) -> Finding:
    return Finding(about, Level.OK, words)


def warning(about: str, words: str, hint: str | None = None) -> Finding:
    return Finding(about, Level.WARNING, words, hint)


def problem(about: str, words: str, hint: str | None = None) -> Finding:
    return Finding(about, Level.PROBLEM, words, hint)


def unchecked(about: str, words: str, hint: str | None = None) -> Finding:
    return Finding(about, Level.UNCHECKED, words, hint)


def trouble(about: str, error: NightshootError) -> Finding:
    """An error as a finding."""
    return problem(about, error.message, error.hint)


def lines_of(findings: Iterable[Finding]) -> list[str]:
    """A line each, and a second one for what to do."""
    lines = []
    for finding in findings:
        lines.append(f"  {finding.level.value:<11}  {finding.about:<9}  {finding.words}")
        if finding.hint is not None and finding.level is not Level.OK:
            lines.append(f"{'hint: ':>30}{finding.hint}")
    return lines


def document_of(finding: Finding) -> dict[str, str | None]:
    """The same for programs."""
    return {
        "about": finding.about,
        "level": finding.level.value,
        "words": finding.words,
        "hint": finding.hint,
    }


def models_of(job: Job | None) -> list[str]:
    """The models that a job names itself. A row may name another, which the plan looks at."""
    if job is None:
        return [DEFAULT_MODEL]
    named = [
        job.settings.model or shot.model or job.defaults.model or DEFAULT_MODEL
        for shot in (*job.shots, *job.include)
    ]
    return list(dict.fromkeys(DEFAULT_MODEL if name == NONE else name for name in named))


def of_prices(table: Models, now: datetime) -> Finding:
    """How old the table is that every price comes from."""
    days = (now.date() - table.as_of).days
    if days <= OLD.days:
        return ok("prices", f"of {table.as_of}")
    return warning(
        "prices",
        f"of {table.as_of}, {days} days old",
        "compare them with https://ai.google.dev/pricing; what differs goes into a file of yours, "
        'models = "FILE" in the job',
    )


def of_life(model: Model, now: datetime, surface: str) -> Finding:
    """Whether the table knows an end of a model."""
    name, about = model.name, "life"
    instead = f"try its successor: --model {model.replaced_by}" if model.replaced_by else None
    if surface not in model.batch and not model.only_at_once(surface):
        return problem(about, f"{name} never comes in batches on {_SURFACES.get(surface, surface)}", instead)
    if model.status == "retired":
        return problem(about, f"{name} is retired", instead)
    sure = model.sure_end(surface)
    if sure is not None and sure.on <= now.date() + AT_WORST:
        return problem(about, f"{name} ends on {sure.on}, says {sure.says}: too soon for a run", instead)
    ends = [end for end in model.retires if end.surface in (None, surface)]
    if not ends:
        return ok(about, f"{name}: no end is announced")
    verb = "may have ended" if any(end.on <= now.date() for end in ends) else "will end"
    said = ", ".join(f"{end.says} says {end.on}" for end in ends)
    return warning(about, f"{name} {verb}: {said}", instead)


_SURFACES = {"developer": "the Developer API", "vertex": "Vertex AI"}


def of_quota(job: Job | None, table: Models) -> Iterator[Finding]:
    """How much may wait in Google's queue, by the job's tier."""
    if job is None:
        yield unchecked("quota", "the tier of your Google account stands in a job")
        return
    tier = job.tier
    for name in models_of(job):
        try:
            model = table.find(name)
        except BadInput:
            continue  # said elsewhere
        if model.only_at_once(job.backend):
            continue  # it waits in no queue
        waiting = queue_tokens(table, model.name, tier=tier or 1)
        told = f"tier {tier}" if tier else "tier 1, since the job names none"
        words = f"{told}: {waiting:,} tokens of {model.name} may wait at once"
        if model.enqueued_tokens is None:
            words += ", assumed: Google publishes no number"
        yield ok("quota", words) if tier else warning("quota", words, "add tier = 2 to the job, if it is")


def of_clocks(here: datetime, there: datetime | None) -> Finding:
    """This machine's clock beside the provider's."""
    if there is None:
        return unchecked("clock", "the service does not say its time")
    off = here - there
    words = f"{abs(off).total_seconds():,.0f} s {'ahead of' if off > timedelta() else 'behind'} the service's"
    if abs(off) <= NEAR:
        return ok("clock", "as the service's")
    hint = "set this machine's clock: turn on its time service (NTP)"
    return (problem if abs(off) > FAR else warning)("clock", words, hint)


def of_regions(location: str, bucket: str) -> Finding:
    """Whether Vertex AI in this location reads and writes a bucket that lies there without a detour."""
    words = f"bucket in {bucket}, Vertex AI in {location}"
    near = _MULTI.get(bucket.upper(), (bucket.lower(),))
    if location == "global" or location.lower().startswith(near):
        return ok("region", words)
    return warning(
        "region",
        f"{words}: jobs may be refused, and bytes between regions cost money",
        f"take a bucket in {location}, or run in a location of the bucket's: location = ... in the job",
    )
