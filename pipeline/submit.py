"""Planned batches become tickets, each paid for once.

The one dangerous moment lies between "the provider took our money" and "we wrote the ticket down": creating a job
is not idempotent, and there is no request id. So an intent is written first. It covers one create call with an input
file of its own, and it has an end. Whoever finds an intent without a ticket asks the provider's listing, and may only
send again when the listing is complete, shows the newest job that this account is known to have made, is ten minutes
younger than the intent's end by the provider's own clock, and still shows nothing after the intent's input file was
removed. A listing that does not show what was made after the job in question is known to lie: so what is still to be
sent goes first; and where nothing was made after it, the listing has an hour to tell the truth.

What stays open: a create call that the provider accepted, but does not list for more than an hour, that no longer
needs its input file, and next to which nothing else was sent. Nothing was seen to behave so; a second job would then be
paid, and nobody here would know.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache

from pipeline import tables
from pipeline.backends import wire
from pipeline.backends.base import Backend, Found, MaybeBought, NotBought, Origin
from pipeline.backends.online import span
from pipeline.errors import Corrupt, NightshootError
from pipeline.events import Disowned, Held, PutBack, Recut, Submitted, Submitting
from pipeline.gate import check
from pipeline.run import Run, is_inline, job_of, plan_file, reference_file, requests_file
from pipeline.shown import Reference, Shown
from pipeline.state import GRACE, Batch, Illegal, OverBudget, Stage, model_of
from pipeline.storage.base import NotFound

log = logging.getLogger(__name__)

WINDOW = timedelta(seconds=60)
"""How long an intent allows its create call."""

MARGIN = timedelta(seconds=5)
"""A create call is not begun this close to the end of its intent."""

SHORTEST = 30.0
"""Seconds that a batch waits at least when the provider has no room, whatever it says."""

TRIES = 4
"""So often a batch is refused before it may be taken for too large: some ten minutes of waiting."""

SMALLEST_QUEUE = 1_000_000
"""Tokens that any account may have waiting, where nothing is known of a model."""

PATIENCE = timedelta(hours=1)
"""How long a listing may be incomplete or behind before the batch is held for a person to look at; and how old an
intent is before a listing is believed that nothing else vouches for."""


def label_of(run: Run, batch: Batch) -> str:
    """What our remote job is called: the same for every driver, and for no other batch in the world."""
    assert batch.planned is not None
    return f"nightshoot-{run.created.run}-{batch.number:05}-{batch.planned.digest[:12]}"


def submit(run: Run, backend: Backend, number: int, *, shown: Shown | None = None) -> bool:
    """Send a planned batch. False: not now, or somebody else did. Raises OverBudget if the cap has no room.

    `shown` is what this driver knows of the references that the provider has; what it lacks is read from the run.
    """
    batch = run.state.batches[number]
    if batch.stage is not Stage.PLANNED or not batch.sends:
        return False
    if _is_full(run, batch):
        return False
    if not batch.online and _is_too_large(run, batch):
        return _recut(run, batch)
    try:
        check(run.state, _intent(run, backend, batch, staged=""))  # before bytes are moved for nothing
    except OverBudget:
        raise
    except Illegal:
        return False
    return _send(run, backend, batch, shown or Shown(run, backend), replaces=None, found=None)


def _is_full(run: Run, batch: Batch) -> bool:
    """Whether the provider lately refused this batch, or another of its model: then the line waits as one."""
    now = run.clock.now()
    return any(
        other.put_back is not None and now < other.put_back.not_before
        for other in run.state.at(Stage.PLANNED)
        if model_of(other) == model_of(batch) and other.online == batch.online
    )


def _is_too_large(run: Run, batch: Batch) -> bool:
    """Whether the provider will never take it: it refuses it again and again while nothing of ours is there, and no
    smaller account could queue so much. What would fit into any queue only waits for its turn behind others' jobs.
    """
    assert batch.planned is not None
    if batch.put_backs < TRIES or batch.planned.requests < 2 or not _is_alone(run, batch):
        return False
    queues = run.created.models[batch.planned.model].get("enqueued_tokens")
    return batch.planned.tokens > min(queues or (SMALLEST_QUEUE,))


def _is_alone(run: Run, batch: Batch) -> bool:
    """Whether nothing else of this run, of the same model, is at the provider."""
    there = run.state.at(Stage.SUBMITTING) + run.state.at(Stage.SUBMITTED) + run.state.at(Stage.HELD)
    return not any(model_of(other) == model_of(batch) for other in there)


def _recut(run: Run, batch: Batch) -> bool:
    assert batch.planned is not None
    assert batch.put_back is not None
    log.warning("batch %d is too large for this account's queue; it is cut in two", batch.number)
    return run.try_record(Recut(batch=batch.number, at=batch.planned.requests // 2, why=batch.put_back.why))


def resolve(run: Run, backend: Backend, number: int, *, shown: Shown | None = None) -> bool:
    """Find out what became of an intent without a ticket; send again only if it is certain that nothing was bought."""
    batch = run.state.batches[number]
    intent = batch.submitting
    if intent is None or not _is_unclear(batch, backend):
        return False
    if batch.online:
        # Its folder says of each request whether it was asked. Nothing of it is sent twice: the rest is drawn anew.
        assert batch.intent is not None
        return run.try_record(Submitted(batch=number, intent=batch.intent, ticket=intent.input, adopted=True))
    found = backend.find(intent.label)
    if found.candidates:
        return _adopt(run, batch, found)
    if not _is_evidence(run, batch, found):
        return _hold_if_old(run, batch, found)
    assert found.at is not None
    if found.at < intent.until + GRACE or _witness_may_come(run, backend, batch, found):
        return False
    backend.unstage(intent.input)
    # Once more: what was under way when the file went is listed now, or never.
    found = backend.find(intent.label)
    if found.candidates:
        return _adopt(run, batch, found)
    if not _is_evidence(run, batch, found):
        return False
    if run.state.stopped is not None:
        assert batch.intent is not None
        back = PutBack(batch=number, intent=batch.intent, why="stopped", not_before=run.clock.now())
        return run.try_record(back)
    return _send(run, backend, batch, shown or Shown(run, backend), replaces=batch.intent, found=found)


def adopt(run: Run, backend: Backend, number: int) -> bool:
    """Take as a batch's own the one remote job that carries its label. Sends nothing, whatever the listing shows."""
    batch = run.state.batches[number]
    intent = batch.submitting
    if intent is None or not _is_unclear(batch, backend):
        return False
    found = backend.find(intent.label)
    return len(found.candidates) == 1 and _adopt(run, batch, found)


def _is_unclear(batch: Batch, backend: Backend) -> bool:
    """Whether an intent of this account is without its ticket. A held batch is looked for too: a listing recovers, or a
    person removes what was too many."""
    return batch.is_of(backend.account) and batch.stage in (Stage.SUBMITTING, Stage.HELD)


def _send(
    run: Run, backend: Backend, batch: Batch, shown: Shown, *, replaces: int | None, found: Found | None
) -> bool:
    assert batch.planned is not None
    label = label_of(run, batch)
    inline = is_inline(run)
    uris = {} if inline else shown.place(batch.number, _references(run, backend, batch))
    lines = inline_lines(run, batch) if inline else _lines(run, batch, uris)
    staged = backend.stage(label, lines)
    # The intent's end is in the provider's time, as the listing is that may end it: a wrong clock here shifts nothing.
    offset = (backend.time() or run.clock.now()) - run.clock.now()
    event = _intent(run, backend, batch, staged=staged, offset=offset, replaces=replaces, found=found)
    try:
        intent = run.record(event).number
    except OverBudget:
        _forget(backend, staged)
        raise  # another driver spent it meanwhile
    except Illegal:
        _forget(backend, staged)
        return False
    if run.clock.now() + offset > event.until - MARGIN:
        # Late, so nothing is sent: the record says that nothing was bought, which nobody else could know.
        return _put_back(run, backend, batch, intent, NotBought("too slow", wait=0.0), staged=staged)
    try:
        ticket = backend.submit(label, batch.planned.model, staged)
    except NotBought as refusal:
        return _put_back(run, backend, batch, intent, refusal, staged=staged)
    except MaybeBought as doubt:
        log.debug("batch %d: %s", batch.number, doubt)
        return True  # resolve() will ask the listing
    if run.try_record(Submitted(batch=batch.number, intent=intent, ticket=ticket)):
        return True
    if batch.intent != intent:
        _disown(run, backend, batch, ticket)
    return False  # or another driver found this very job in the listing first


def _put_back(
    run: Run, backend: Backend, batch: Batch, intent: int, refusal: NotBought, *, staged: str
) -> bool:
    """Nothing was bought, so the batch is in line again. Raises what the user has to hear, if it is still ours."""
    # Twice as long each time: a queue that is full for a night must not fill the journal.
    wait = max(refusal.wait, SHORTEST) * 2 ** min(batch.put_backs, 5) if refusal.wait else 0.0
    later = run.clock.now() + timedelta(seconds=wait)
    ours = run.try_record(PutBack(batch=batch.number, intent=intent, why=refusal.why, not_before=later))
    if ours and refusal.wait and batch.put_backs == 1 and _is_alone(run, batch):
        log.warning(
            "no room (%s), though nothing of this run is there: other jobs of the account may fill the queue,"
            " nightshoot orphans lists them; trying again",
            refusal.why,
        )
    _forget(backend, staged)
    # Whoever took it over removed our input file: then the refusal says that, and is nobody's fault.
    if ours and refusal.fatal is not None:
        raise refusal.fatal from refusal
    return ours


def _disown(run: Run, backend: Backend, batch: Batch, ticket: str) -> None:
    """Cancel a remote job of ours whose batch another driver has sent meanwhile, and say so in the books."""
    run.try_record(Disowned(batch=batch.number, ticket=ticket))
    log.warning("batch %d was taken over while it was being sent; cancelling %s", batch.number, ticket)
    try:
        backend.cancel(ticket)
    except NightshootError as error:
        log.warning("could not cancel %s: %s", ticket, error)


def _intent(
    run: Run,
    backend: Backend,
    batch: Batch,
    *,
    staged: str,
    offset: timedelta = timedelta(),
    replaces: int | None = None,
    found: Found | None = None,
) -> Submitting:
    assert batch.planned is not None
    window = span(batch.planned.requests, job_of(run).online) if batch.online else WINDOW
    return Submitting(
        batch=batch.number,
        account=backend.account,
        label=label_of(run, batch),
        input=staged,
        until=run.clock.now() + offset + window,
        replaces=replaces,
        seen=found.at if found else None,
    )


def _references(run: Run, backend: Backend, batch: Batch) -> dict[str, Reference]:
    """The references that a batch shows, each once. Raises Corrupt before anything is uploaded."""
    found: dict[str, Reference] = {}
    for line in _stored(run, batch):
        found.update((sha256, Reference(mime)) for sha256, mime in wire.references_of(line))
    if found and backend.reads_buckets:
        plan = tables.from_parquet(run.storage.read(plan_file(batch.number)), columns=["references"])
        for row in tables.rows_of(plan):
            for shown in row["references"] or ():
                if shown["generation"] is not None and shown["sha256"] in found:
                    origin = Origin(shown["source"], shown["generation"])
                    found[shown["sha256"]] = Reference(shown["mime"], origin)
    return found


def _lines(run: Run, batch: Batch, uris: Mapping[str, str]) -> Iterator[bytes]:
    """The batch's requests as they are uploaded. Raises Corrupt if they are not what was planned."""
    for line in _told(run, batch):
        yield wire.put_in_place(line, lambda sha256, mime: uris[sha256])


def inline_lines(run: Run, batch: Batch) -> Iterator[bytes]:
    """The same with the references in them. A few are in memory: neighbours often show the same."""
    read = lru_cache(maxsize=4)(lambda sha256, mime: run.storage.read(reference_file(sha256, mime)))
    for line in _told(run, batch):
        yield wire.put_inline(line, read)


def _told(run: Run, batch: Batch) -> Iterator[bytes]:
    """The stored lines, with what the model made in the conversations that show it. One line is in memory."""
    for line in _stored(run, batch):
        yield wire.put_made(line, lambda sha256, path: _made(run, sha256, path))


def _made(run: Run, sha256: str, path: str) -> bytes:
    """A picture of the run's own, or a signature, as the model made it. Raises Corrupt if it is not."""
    hint = "restore it: another turn goes on from it; nothing was sent, and nothing is lost"
    try:
        data = run.storage.read(path)
    except NotFound as error:
        raise Corrupt(f"{run.storage.url}: {path} is gone", hint=hint) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Corrupt(f"{run.storage.url}: {path} is not what the model made", hint=hint)
    return data


def _stored(run: Run, batch: Batch) -> Iterator[bytes]:
    """The batch's requests as they are stored, without their line ends."""
    assert batch.planned is not None
    name = requests_file(batch.number)
    digest = hashlib.sha256()
    with run.storage.open(name) as stored:
        for line in stored:
            digest.update(line)
            yield line.rstrip(b"\n")
    if digest.hexdigest() != batch.planned.digest:
        raise Corrupt(
            f"{run.storage.url}: {name} is not what was planned", hint="restore it; nothing was sent"
        )


def _is_evidence(run: Run, batch: Batch, found: Found) -> bool:
    """Whether a listing that shows nothing of this batch means that there is nothing.

    It must show what was made right before and right after, or it ends too early; and the newest, or it lags.
    """
    assert batch.intent is not None
    assert batch.submitting is not None
    if not found.complete or found.at is None:
        return False
    tickets = {
        other.submitted.intent: other.submitted.ticket
        for other in run.state.batches
        if other.submitted is not None and other.is_of(batch.submitting.account)
    }
    before = max((intent for intent in tickets if intent < batch.intent), default=None)
    after = min((intent for intent in tickets if intent > batch.intent), default=None)
    known = {before, after, max(tickets, default=None)} - {None}
    return all(tickets[intent] in found.seen for intent in known if intent is not None)


def _witness_may_come(run: Run, backend: Backend, batch: Batch, found: Found) -> bool:
    """Whether the listing may yet be found out: by jobs that will be there soon, and that it has to show; or, where it
    showed none that was made later, by time. Waited for so long.
    """
    assert batch.intent is not None
    assert batch.submitting is not None
    assert found.at is not None
    if found.at >= batch.submitting.until + PATIENCE:
        return False
    unclear = run.state.at(Stage.SUBMITTING)
    return (
        not run.state.all_drawn
        or not _has_witness(run, batch)
        or any(other.sends for other in run.state.at(Stage.DRAWN))
        or any(other.intent is not None and other.intent > batch.intent for other in unclear)
        or any(other.sends and _may_go(run, backend, other) for other in run.state.at(Stage.PLANNED))
    )


def _has_witness(run: Run, batch: Batch) -> bool:
    """Whether a job is known that was made after it: a listing that shows that one is not behind."""
    assert batch.intent is not None
    assert batch.submitting is not None
    account, intent = batch.submitting.account, batch.intent
    sent = (other.submitted for other in run.state.batches if other.is_of(account))
    return any(submitted is not None and submitted.intent > intent for submitted in sent)


def _may_go(run: Run, backend: Backend, batch: Batch) -> bool:
    try:
        check(run.state, _intent(run, backend, batch, staged=""))
    except Illegal:
        return False
    return True


def _adopt(run: Run, batch: Batch, found: Found) -> bool:
    assert batch.intent is not None
    if len(found.candidates) > 1:
        names = ", ".join(candidate.ticket for candidate in found.candidates)
        return run.try_record(
            Held(batch=batch.number, intent=batch.intent, why=f"several remote jobs carry its name: {names}"),
        )
    ticket = found.candidates[0].ticket
    return run.try_record(Submitted(batch=batch.number, intent=batch.intent, ticket=ticket, adopted=True))


def _hold_if_old(run: Run, batch: Batch, found: Found) -> bool:
    assert batch.submitting is not None
    assert batch.intent is not None
    if (found.at or run.clock.now()) < batch.submitting.until + PATIENCE:
        return False
    return run.try_record(
        Held(batch=batch.number, intent=batch.intent, why="the provider's listing cannot be trusted")
    )


def _forget(backend: Backend, staged: str) -> None:
    """Remove an input file nobody will use. It costs nothing and would go by itself, so trouble here is none."""
    try:
        backend.unstage(staged)
    except NightshootError as error:
        log.debug("could not remove %s: %s", staged, error)
