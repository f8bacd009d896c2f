"""A job looked over before anything is sent: every problem, every dollar, nothing written. And a run begun from it."""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import chain, groupby, islice, takewhile
from pathlib import Path
from typing import Any

import msgspec

from pipeline import __version__
from pipeline.advice import Asked, endings, hints
from pipeline.backends import lines, location_of, wire
from pipeline.backends.base import ROOM
from pipeline.clock import Clock
from pipeline.earlier import MADE, Earlier, Night, nights_of
from pipeline.errors import BadInput
from pipeline.events import FINAL, FORMAT, LATER, ON_ITS_WAY, UNASKED, Created, Limits
from pipeline.families import Families, edit_others
from pipeline.job import Job, of_a_store
from pipeline.manifest import Manifest, Row, duplicate_keys
from pipeline.models import Model, Models, load_models
from pipeline.money import Estimate, Lane, estimate, retries, served
from pipeline.plan import AT_ONCE, Planner, tokens
from pipeline.problems import Group, Problem, group, refusal
from pipeline.prompt import TO_COME, Prompt, Request, pins_for, problems_of_templates, requests
from pipeline.references import Pins, Reference
from pipeline.run import Run, create_run
from pipeline.run import job_of as job_of
from pipeline.storage import Storage

BATCH_REQUESTS = 10_000
IN_FLIGHT = 100  # jobs at once, says Google
UNCOUNTED = 10**15  # tokens, where no queue counts them

CANARY, MANY = 20, 500
"""So many requests go first where there are more than that many, unless the job says otherwise."""

TURNS = 20
"""What the worst case of a run leaves no room for is sent in so many turns, as earlier ones turn out cheaper."""

PART_BYTES = 64_000_000
"""Results are read in parts of this size: a restart repeats at most one."""


@dataclass(slots=True)
class Survey:
    """What a job would make, send, take and cost."""

    job: Job
    base: Path  # the folder that the manifest is relative to
    manifest: Manifest
    table: Models
    pins: Pins
    lane: Lane = "batch"
    earlier: Earlier | None = None
    families: Families | None = None  # None: no row edits another's picture
    warnings: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()  # what is worth knowing, and no reason to stop
    asked: dict[str, Asked] = field(default_factory=dict)  # of each model
    by: dict[str, Lane] = field(default_factory=dict)  # how each model's requests go
    rows: int = 0  # of the manifest, up to the last one that counts
    chosen_rows: int = 0
    bad_rows: int = 0
    lanes: dict[str, int] = field(default_factory=dict)  # of the rows' own requests
    follow_ups: dict[str, int] = field(default_factory=dict)  # and of those that come after them
    later: list[int] = field(default_factory=list)  # how many can be sent in each wave after the first
    shots: dict[str, int] = field(default_factory=dict)
    problems: list[Group] = field(default_factory=list)
    price: Estimate = field(default_factory=Estimate)
    tokens: dict[str, int] = field(default_factory=dict)  # that each model's queue will count
    prices: dict[Estimate, int] = field(default_factory=dict)  # how many requests cost just this
    carried: dict[str, int] = field(default_factory=dict)  # what earlier runs settled, by outcome
    proved: dict[str, int] = field(default_factory=dict)  # of these, what proofs did
    expected: dict[str, int] = field(default_factory=dict)  # what unfinished runs have paid for, by run
    again: dict[str, list[Any]] = field(default_factory=dict)  # why others are shot, how many, and an example
    gone: list[str] = field(default_factory=list)  # pictures that would have answered, a few of them by name
    at_once: int | None = 0  # the likely price outside of batches; None where one is unknown
    input_bytes: int = 0
    references: int = 0
    reference_bytes: int = 0
    photos: str = ""  # sha256 over the digests of all references

    @property
    def requests(self) -> int:
        """Requests that can be sent, the follow-ups among them."""
        return self.waves[0] + sum(self.later)

    @property
    def models(self) -> tuple[str, ...]:
        """All that are asked."""
        asked = {*self.lanes, *self.follow_ups} - UNASKED
        return tuple(sorted(asked))

    @property
    def waves(self) -> tuple[int, ...]:
        """How many can be sent at first, and in each wave after that."""
        first = sum(count for lane, count in self.lanes.items() if lane not in UNASKED)
        return (first, *self.later)

    @property
    def only_at_once(self) -> int:
        """Of these, the ones that are asked at once because their model is served in no other way."""
        return sum(
            count
            for lane, count in self.lanes.items()
            if lane not in UNASKED and self.table.find(lane).only_at_once(self.job.backend)
        )

    @property
    def good_rows(self) -> int:
        return self.chosen_rows - self.bad_rows

    @property
    def bears_its_bad_rows(self) -> bool:
        """Whether the job says that so few bad rows are left out, asked or not."""
        return self.job.bears(self.bad_rows, self.chosen_rows)

    @property
    def left_to_others(self) -> int:
        """Requests that earlier runs have answered, or have paid for."""
        return sum(self.carried.values()) + sum(self.expected.values())

    @property
    def folder(self) -> Path:
        """What references are relative to."""
        return self.manifest.path.parent


def survey(
    job: Job,
    *,
    base: Path = Path(),
    limit: int | None = None,
    manifest: Manifest | None = None,
    nights: Sequence[Night] = (),
    runs: str | None = None,
    lane: Lane = "batch",
) -> Survey:
    """Read the whole manifest once and say what follows. Raises BadInput where no row can be right.

    What the runs of these nights have answered is not asked again; `runs` is the folder this one will lie in. By the
    lane it is priced, and sent: in batches, or at once.
    """
    if limit is not None:
        job = msgspec.structs.replace(job, limit=limit)
    table = load_models(base / job.models if job.models else None)
    manifest = job.open_manifest(base) if manifest is None else job.drawn(manifest)
    job = of_a_store(job, manifest)
    # What is wrong with the whole job, and a key that two rows share, stop it whatever rows are skipped.
    if problems := problems_of_templates(job, manifest.columns) + list(islice(duplicate_keys(manifest), 20)):
        raise refusal(problems)
    pins = pins_for(job, manifest.path.parent)
    found = Survey(job, base, manifest, table, pins, lane=lane, warnings=manifest.warnings)
    if nights:
        found.earlier = Earlier(
            nights, home=runs or job.runs, retry_nights=job.retry_nights, across=job.reuse_across
        )
    found.families = _families(found)
    found.problems = group(_problems(found))
    once = sum((price.times(count) for price, count in found.prices.items()), Estimate())
    found.price = once + retries(once, attempts=job.attempts, shares=table.again)
    found.warnings += tuple(note for name in found.models if (note := table.note(name)))
    waits = rounds(found, tier=job.tier or 1) > 1
    where = location_of(job) if job.backend == "vertex" else None
    found.hints = tuple(hints(found.asked, surface=job.backend, waits=waits, location=where))
    if not found.chosen_rows:
        raise BadInput(f"{manifest.path}: no row is chosen", hint="loosen --where, --key or --limit")
    return found


def check_ends(found: Survey, day: date) -> None:
    """Warn of models that may end before what is sent on this day is back. Raises BadInput for a sure end."""
    times = max(rounds(found, tier=found.job.tier or 1), len(found.waves))
    found.warnings += tuple(
        endings(found.models, found.table, surface=found.job.backend, day=day, rounds=times)
    )


def _problems(found: Survey) -> Iterator[Problem]:
    """Everything that is wrong with the rows, while they are counted."""
    seen: set[bytes] = set()
    rows = groupby(_pour(found, found.manifest.rows()), key=lambda request: request.row)
    for ordinal, asked in islice(rows, found.job.limit):
        found.rows = ordinal + 1
        found.chosen_rows += 1
        told: dict[Problem, None] = {}
        for request in asked:
            _count(found, request, seen)
            told.update(dict.fromkeys(request.problems))
        found.bad_rows += bool(told)
        yield from told
    found.photos = hashlib.sha256(b"".join(sorted(seen))).hexdigest()


def requests_of(found: Survey) -> Iterator[Request]:
    """Everything that was looked over, once more, one row at a time."""
    rows = takewhile(lambda row: row.ordinal < found.rows, found.manifest.rows())
    return _pour(found, rows)


def _families(found: Survey) -> Families | None:
    """Who edits whose picture, among the rows that are chosen."""
    if not edit_others(found.job, found.manifest.columns):
        return None

    def pour() -> Iterator[Request]:
        rows = groupby(_asked(found, found.manifest.rows()), key=lambda request: request.row)
        return chain.from_iterable(asked for _, asked in islice(rows, found.job.limit))

    return Families(pour, job=found.job, manifest=found.manifest, table=found.table)


def _asked(found: Survey, rows: Iterable[Row]) -> Iterator[Request]:
    return requests(found.job, rows, models=found.table, base=found.folder, pins=found.pins)


def _pour(found: Survey, rows: Iterable[Row]) -> Iterator[Request]:
    poured = _asked(found, rows)
    if found.families is not None:
        poured = map(found.families.placed, poured)
    return poured if found.earlier is None else chain.from_iterable(map(found.earlier.answered, poured))


def _count(found: Survey, request: Request, seen: set[bytes]) -> None:
    lane = request.lane
    found.lanes[lane] = found.lanes.get(lane, 0) + 1
    if request.carried is not None:
        earlier, made_in = request.carried["earlier"], request.carried["made_in"]
        which, name = (found.expected, made_in) if earlier == ON_ITS_WAY else (found.carried, earlier)
        which[name] = which.get(name, 0) + 1
        if earlier != ON_ITS_WAY and found.earlier is not None and made_in in found.earlier.proofs:
            found.proved[earlier] = found.proved.get(earlier, 0) + 1
    elif request.prompt is not None and found.earlier is not None and not found.earlier.is_all_proofs:
        _say_why(found, request, found.earlier)
    if later := len(request.turns) + (lane == LATER):
        under = FINAL if lane == FINAL or request.prompt is None else request.prompt.model
        found.follow_ups[under] = found.follow_ups.get(under, 0) + later
    if request.prompt is None or request.carried is not None:
        return
    model = found.table.find(request.prompt.model)
    found.shots[request.shot] = found.shots.get(request.shot, 0) + 1 + len(request.turns)
    edits = request.parent is not None
    if later:
        _count_waves(found, range(request.wave if edits else 1, request.wave + len(request.turns) + 1))
    price = _add(found, model, request.prompt, request.key, seen, edits=edits)
    came_before = _weight(found, request.prompt, price) if later else 0
    for prompt in request.turns:
        found.input_bytes += came_before
        came_before += _weight(found, prompt, _add(found, model, prompt, request.key, seen))


def _count_waves(found: Survey, waves: range) -> None:
    """One more request in each of these."""
    found.later += [0] * (waves.stop - 1 - len(found.later))
    for wave in waves:
        found.later[wave - 1] += 1


def _add(
    found: Survey, model: Model, prompt: Prompt, key: str, seen: set[bytes], *, edits: bool = False
) -> Estimate:
    """One more request that is sent. What was said before it in a conversation is not counted here; where it edits a
    picture, that is.
    """
    lane = model.name
    asked = found.asked.get(lane)
    if asked is None:
        asked = found.asked[lane] = Asked(model)
        found.by[lane] = served(model, found.job.backend, found.lane)
    asked.add(prompt, key)
    shown = msgspec.structs.replace(prompt, references=(*prompt.references, TO_COME)) if edits else prompt
    price = estimate(shown, model, found.by[lane])
    found.input_bytes += price.output_bytes if edits else 0  # about as large as what comes of it
    if found.by[lane] == found.lane:  # what is asked at once alone waits in no queue
        found.tokens[lane] = found.tokens.get(lane, 0) + tokens(price)
    found.prices[price] = found.prices.get(price, 0) + 1
    inline = found.job.references.inline
    found.input_bytes += len(lines.encode("", prompt)) + 20 + (wire.inline_bytes(prompt) if inline else 0)
    found.at_once = _plus(found.at_once, shown, model)
    for reference in prompt.references:
        digest = bytes.fromhex(reference.sha256)
        if digest not in seen:
            seen.add(digest)
            found.references += 1
            found.reference_bytes += 0 if inline else reference.size
    return price


def _weight(found: Survey, prompt: Prompt, price: Estimate) -> int:
    """The bytes that a turn adds to each turn after it: its own, and those of the picture that came of it."""
    inline = found.job.references.inline
    own = len(prompt.text.encode()) + (wire.inline_bytes(prompt) if inline else 0)
    return own + price.output_bytes


def _say_why(found: Survey, request: Request, earlier: Earlier) -> None:
    """Count why this is shot though there were earlier nights, with the first as an example."""
    gone = earlier.is_gone(request)
    if gone is not None and len(found.gone) < 5:
        found.gone.append(gone)
    why = "picture gone" if gone is not None else earlier.why(request)
    found.again.setdefault(why, [0, f"{request.key}, {request.shot}"])[0] += 1


def _plus(total: int | None, prompt: Prompt, model: Model) -> int | None:
    try:
        return None if total is None else total + estimate(prompt, model, "standard").likely
    except BadInput:
        return None


# --- a run begun from it -----------------------------------------------------------------------------------------


def begin(
    found: Survey,
    *,
    name: str,
    storage: Storage,
    service: str,
    clock: Clock,
    cap: int | None,
    canary: bool = True,
    part_bytes: int = PART_BYTES,
) -> Run:
    """A new run of a surveyed job. Nothing is sent yet. Without a canary, all of it goes at once."""
    job = found.job
    room = ROOM[job.backend]
    limits = Limits(
        requests=min(_in_a_batch(found, cap=cap), room.requests if found.lane == "batch" else AT_ONCE),
        input_bytes=min(job.batches.max_bytes or room.input_bytes, room.input_bytes),
        output_bytes=job.batches.max_output_bytes,
        # A batch larger than the queue would never be taken.
        tokens=job.batches.queue_tokens
        or min(queue_tokens(found.table, lane, tier=job.tier or 1) for lane in found.models or (FINAL,))
        if room.queued
        else UNCOUNTED,
        in_flight=job.batches.in_flight or IN_FLIGHT,
        queue=job.batches.queue_tokens,
        stored=job.batches.stored_bytes,
        part_bytes=part_bytes,
    )
    created = Created(
        format=FORMAT,
        run=secrets.token_hex(4),
        name=name,
        job=_plain(job),
        models={name: _plain(found.table.find(name)) for name in found.models},
        prices_as_of=found.table.as_of.isoformat(),
        manifest=job.manifest,
        manifest_sha256=found.manifest.digest,
        columns=found.manifest.columns,
        rows=found.rows,
        photos=found.photos,
        lanes=dict(sorted(found.lanes.items())),
        follow_ups=dict(sorted(found.follow_ups.items())),
        backend=job.backend,
        service=service,
        limits=limits,
        attempts=job.attempts,
        cap=cap,
        version=__version__,
        reused=found.earlier.reused if found.earlier else (),
        carried=found.left_to_others,
        said=found.price.likely,
        canary=canary_of(found) if canary and found.lane == "batch" else 0,
        again={str(outcome): attempts for outcome, attempts in job.again.items()},
        online=found.lane == "standard",
    )
    return create_run(storage, clock, created)


def canary_of(found: Survey) -> int:
    """How many requests of each model go first."""
    said = found.job.night.canary
    return said if said is not None else CANARY if found.requests > MANY else 0


def _in_a_batch(found: Survey, *, cap: int | None) -> int:
    """How many requests a batch may hold. It is sent only if all of its worst case fits under the cap, so where the
    worst of the whole run does not, small ones go, unless the job says how large they are; and what they did not cost
    is free for the next.
    """
    said = found.job.batches.max_requests
    if said is not None or cap is None or cap >= found.price.high:
        return said or BATCH_REQUESTS
    return max(1, min(BATCH_REQUESTS, found.requests * cap // found.price.high // TURNS))


def rounds(found: Survey, *, tier: int) -> int:
    """How often the queue of this tier is filled: the model that needs it most often decides."""
    needs = (-(-count // queue_tokens(found.table, lane, tier=tier)) for lane, count in found.tokens.items())
    return max(needs, default=0)


def queue_tokens(table: Models, lane: str, *, tier: int) -> int:
    """What a model lets wait in the queue of a tier; where that is unknown, as little as the scarcest known."""
    known = None if lane == FINAL else table.find(lane).enqueued_tokens
    if known is not None:
        return known[tier - 1]
    return min(model.enqueued_tokens[tier - 1] for model in table.models.values() if model.enqueued_tokens)


def _plain(value: Job | Model) -> dict[str, Any]:
    """As a record holds it, so that it compares equal to what is read back."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain


def is_of(run: Run, found: Survey) -> bool:
    """Whether a run was made from this job, this manifest and these photos, as they are now."""
    created = run.created
    same = created.rows == found.rows and created.lanes == found.lanes and created.photos == found.photos
    same = same and created.follow_ups == found.follow_ups
    same = same and created.carried == found.left_to_others
    return same and is_from(run, found.job, found.manifest.digest)


def is_from(run: Run, job: Job, manifest: str) -> bool:
    """Whether a run was made from this job and the manifest of this digest. Where it lives and its cap count not."""
    return run.created.manifest_sha256 == manifest and _essence(job_of(run)) == _essence(job)


def _essence(job: Job) -> Job:
    return msgspec.structs.replace(job, max_usd=None, runs="runs", manifest=Path(job.manifest).name)


def planner(found: Survey, run: Run) -> Planner:
    """Whoever can plan this run, since the manifest is here."""
    return Planner(run, manifest=found.manifest, pour=partial(_pour, found), load=partial(_load, found))


def planner_for(run: Run, *, base: Path) -> Planner | None:
    """The same, from what the run knows of its job. None: its manifest is not here, or not the same."""
    job = job_of(run)
    try:
        manifest = job.open_manifest(base)
        table = load_models(base / job.models if job.models else None)
    except BadInput:
        return None
    if manifest.digest != run.created.manifest_sha256:
        return None
    home = run.storage.url.rpartition("/")[0]
    found = Survey(job, base, manifest, table, pins_for(job, manifest.path.parent))
    if nights := nights_of(run):
        found.earlier = Earlier(nights, home=home, retry_nights=job.retry_nights, across=job.reuse_across)
    found.families = _families(found)
    return planner(found, run)


def _load(found: Survey, reference: Reference) -> bytes:
    if found.earlier is not None and reference.source.startswith(MADE):
        return found.earlier.load(reference)
    data = found.pins.load(reference)
    if isinstance(data, Problem):
        raise refusal([data])
    return data
