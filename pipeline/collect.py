"""Results stream into pictures and staged parts; the last part settles the batch.

What it fears: a result larger than memory, a line that is not what it should be, and a picture under the wrong name.
Lines are joined by their wire id and by nothing else.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from pipeline import staged, tables
from pipeline.answer import Wanted, judged, thoughts, unless_unfit, written
from pipeline.backends import wire
from pipeline.backends.base import Backend, Gone, Missing, Outcome
from pipeline.checks import Checks, Rules, rules_of
from pipeline.compare import compare
from pipeline.errors import Unavailable
from pipeline.events import Part
from pipeline.hand import IN_HAND_BYTES, Ending, Hand, Work
from pipeline.joined import joined
from pipeline.models import Model
from pipeline.money import Lane, actual
from pipeline.pictures import slug
from pipeline.results import Line, lines
from pipeline.run import (
    Run,
    line_file,
    pictures_folder,
    place_of,
    signature_file,
    staged_file,
    thoughts_folder,
)
from pipeline.settle import settle
from pipeline.state import Batch, Stage, lane_of

log = logging.getLogger(__name__)

FEW = 1 << 14
"""Bytes of a line that are kept with its part, where nobody claims it, or no picture of it is kept: another answer may
come to the same request. Such a line may be as long as any other, and a part is in memory whole."""

TRIES = 3
"""How often a result that ends too early is asked for again, without a byte more."""


def collect(run: Run, backend: Backend, number: int, *, pool: Executor) -> bool:
    """Bring a batch's results home. Safe to repeat and to do by several at once. False: somebody else settled it."""
    batch = run.state.batches[number]
    if batch.waits or not run.state.may_settle:
        return False
    is_unsent = batch.stage is Stage.PLANNED and (not batch.sends or run.state.stopped is not None)
    if not is_unsent and (batch.stage is not Stage.ENDED or batch.may_be_late):
        return False  # more may come of it
    rules = {} if is_unsent else _bring_all(run, backend, batch, pool=pool)
    with joined(run, batch) as found:
        noticed = compare(run, number, found.answer, rules=rules, pool=pool)
        return settle(run, backend, batch, found, noticed=noticed, rules=rules)


def _bring_all(run: Run, backend: Backend, batch: Batch, *, pool: Executor) -> Mapping[str, Rules]:
    """Every part that is not there yet. Tells how the pictures of each shot are judged."""
    asked = _asked(run, batch)
    there = set(run.storage.list(f"staged/{batch.number:05}-"))
    for span in _missing(batch.parts, lambda place: staged_file(batch.number, place) in there):
        try:
            _bring(run, backend, batch, span, asked, pool=pool)
        except Missing as missing:
            _write_off(run, backend, batch, span, missing)
    return asked.of_shot


@dataclass(frozen=True, slots=True)
class _Asked:
    """What collecting needs to know of a batch's requests: a few hundred bytes each."""

    wanted: list[Wanted]
    of_shot: dict[str, Rules]  # the same, a few values that all rows share
    model: Model
    lane: Lane
    leads_on: frozenset[int]  # places that another turn goes on from


def _asked(run: Run, batch: Batch) -> _Asked:
    assert batch.planned is not None
    columns = ["key", "shot", "variant", "take", "aspect_ratio", "image_size", "include_thoughts", "imagen"]
    columns += ["turn", "turns"]
    plan = run.plan(batch.number)
    model = msgspec.convert(run.created.models[batch.planned.model], Model)
    checks = msgspec.convert(run.created.job.get("checks", {}), Checks)
    wanted = []
    of_shot: dict[str, Rules] = {}
    leads_on = set()
    for place, row in enumerate(tables.rows_in(plan, columns=columns)):
        if row["turns"] is not None:
            leads_on.add(place)
        if row["shot"] not in of_shot:
            of_shot[row["shot"]] = rules_of(checks, row["shot"])
        which = f"-turn{row['turn']}" if row["turn"] else ""
        which += f"-take{row['take']}" if row["take"] > 1 else ""
        pixels = model.pixels(row["aspect_ratio"], row["image_size"]) if row["aspect_ratio"] else None
        wanted.append(
            Wanted(
                name=f"{slug(row['key'])}-{slug(row['shot'])}-{row['variant']}{which}",
                size=row["image_size"],
                pixels=pixels,
                rules=of_shot[row["shot"]],
                pictures=row["imagen"]["pictures"] if row["imagen"] else 1,
                thoughts=bool(row["include_thoughts"]),
            )
        )
    return _Asked(wanted, of_shot, model, lane_of(batch), frozenset(leads_on))


def _missing(parts: Sequence[Part], there: Callable[[int], bool]) -> Iterator[list[tuple[int, Part]]]:
    """The parts that are to be brought. Those that follow each other come together: they are one download."""
    span: list[tuple[int, Part]] = []
    for place, part in enumerate(parts):
        if span and (span[-1][1].file != part.file or there(place)):
            yield span
            span = []
        if not there(place):
            span.append((place, part))
    if span:
        yield span


def _bring(
    run: Run,
    backend: Backend,
    batch: Batch,
    span: list[tuple[int, Part]],
    asked: _Asked,
    *,
    pool: Executor,
) -> None:
    """Pictures are written while the download goes on; a part's staged file, last, says that all of its are there."""

    def keep(place: int, rows: Iterator[dict[str, Any]]) -> None:
        for folder in (pictures_folder, thoughts_folder):
            run.storage.settle(folder(batch.number))
        staged.keep(run.storage, staged_file(batch.number, place), rows)

    file = span[0][1].file
    # What is in hand when the power is cut is fetched again: it has to be little beside a part.
    hand = Hand(pool, keep, room=min(IN_HAND_BYTES, run.created.limits.part_bytes // 2))
    waiting = deque(span)

    def found() -> Generator[tuple[int, Work]]:
        for line in _lines(backend, batch, file, start=span[0][1].start, end=span[-1][1].end):
            while waiting[0][1].end is not None and line.offset >= waiting[0][1].end:
                hand.close(waiting.popleft()[0])
            yield line.length, partial(_take, run, backend, batch.number, file, line, asked)

    brought = found()
    try:
        hand.take(brought)
    except Missing:
        hand.finish()  # what was whole by then is there
        raise
    finally:
        with suppress(ValueError):  # who was interrupted may leave another one waiting in it
            brought.close()
    for place, _ in waiting:
        hand.close(place)
    hand.finish()


def _write_off(
    run: Run, backend: Backend, batch: Batch, span: list[tuple[int, Part]], missing: Missing
) -> None:
    """Parts of a result that is gone for good are there, with nothing in them. Raises Gone while it may come back."""
    assert batch.submitting is not None
    assert batch.ended is not None
    since = batch.ended.at or batch.submitting.until
    # Another key is told the same of a result that is there.
    if not batch.is_of(backend.account) or (backend.time() or run.clock.now()) < since + backend.life:
        raise Gone(missing.message) from missing
    log.warning(
        "batch %d: %s; %s after its end that is for good: what did not come home is missing, and counts as spent",
        batch.number,
        missing.message,
        f"{backend.life.days} days",
    )
    there = set(run.storage.list(f"staged/{batch.number:05}-"))
    for place, _ in span:
        if staged_file(batch.number, place) not in there:
            staged.keep(run.storage, staged_file(batch.number, place), [])


def _lines(backend: Backend, batch: Batch, file: str, *, start: int, end: int | None) -> Iterator[Line]:
    """The lines of a stretch of a result, each of them whole.

    A stream that ends before the length that the service told, and a last line that is cut and cannot be read, are
    asked for again from where they broke; such a line once, for the service may have nothing better.
    """
    assert batch.submitted is not None
    assert batch.ended is not None
    files = (batch.swept or batch.ended).files
    size = next((each.size for each in files if each.name == file), None)
    position, furthest, tries, again = start, start, 0, False
    while True:
        opened = backend.open(batch.submitted.ticket, file, start=max(0, position - 1), end=end)
        with opened as stream:
            reached, last = yield from _ended(lines(stream, start=position, end=end))
        is_short = size is not None and reached < size and (last is not None or end is None or reached < end)
        if not is_short and (last is None or last.body is not None or again):
            break
        tries = 0 if reached > furthest else tries + 1
        if tries == TRIES:
            raise Unavailable(
                f"{file}: the service said {size:,} bytes, and sends no more than {reached:,}",
                hint="nothing is lost; run the same command again later",
            )
        position, furthest, again = last.offset if last else reached, max(furthest, reached), True
    if last is not None:
        yield last


def _ended(found: Generator[Line, None, int]) -> Generator[Line, None, tuple[int, Line | None]]:
    """The lines that have an end; then how far was read, and the one that has none."""
    last = None
    while True:
        try:
            line = next(found)
        except StopIteration as stop:
            return stop.value, last
        if line.ended:
            yield line
        else:
            last = line


def _take(
    run: Run, backend: Backend, batch: int, file: str, line: Line, asked: _Asked
) -> tuple[dict[str, Any], list[Ending]]:
    """One line: its row for the staged file, and what is left to be done until what it says is kept."""
    where = {"file": file, "offset": line.offset, "length": line.length}
    endings: list[Ending] = []
    if line.body is None:
        return {**where, **_unclaimed(run, batch, line, endings)}, endings
    sent = run.state.batches[batch].submitted
    wire_id = backend.line_id(line, ticket=sent.ticket) if sent is not None else None
    place = place_of(wire_id, batch) if wire_id is not None else None
    outcome = backend.outcome(line)
    if place is None or place >= len(asked.wanted):
        bill = _bill(outcome, asked.model, asked.lane, size=None)
        kept = _unclaimed(run, batch, line, endings)
        return {**where, **bill, "outcome": outcome.kind, **kept}, endings
    bill = _bill(outcome, asked.model, asked.lane, size=asked.wanted[place].size)
    answer = _answered(run, batch, place, outcome, asked, endings)
    raw = bytes(line.raw) if not answer["pictures"] and len(line.raw) <= FEW else None
    return {**where, **bill, "wire_id": wire_id, "raw": raw, **answer}, endings


def _answered(
    run: Run, batch: int, place: int, outcome: Outcome, asked: _Asked, endings: list[Ending]
) -> dict[str, Any]:
    """What a row says of the answer that it is. Its pictures are begun."""

    def keep(name: str, data: bytes, mime: str) -> None:
        endings.append(run.storage.begin(name, data, content_type=mime))

    wanted = asked.wanted[place]
    home = written(outcome, batch=batch, place=place, wanted=wanted, keep=keep)
    kind, checks = judged(outcome, home, wanted)
    final = home.final
    told = None
    if place in asked.leads_on:
        told = _said(run, batch, place, outcome, home.pictures, asked.model, endings)
    answer = {"outcome": kind, "message": home.broken.reason if home.broken is not None else outcome.message}
    return {
        **unless_unfit(answer, final.get("checks", []), wanted.rules),
        "reason": outcome.reason,
        "text": outcome.text,
        "grounding": outcome.grounding,
        "safety_scores": outcome.safety_scores,
        "pictures": home.pictures,
        "checks": checks,
        "numbers": final.get("numbers"),
        "parts": home.parts,
        **thoughts(outcome, batch=batch, place=place, wanted=wanted, keep=keep),
        "likeness": home.seen.likeness if home.seen is not None else None,
        "model_version": outcome.model_version,
        "response_id": outcome.response_id,
        "answered_at": outcome.at,
        "said": told,
        **{name: final.get(name) for name in _FLAT},
    }


_FLAT = ("path", "width", "height", "mime", "bytes", "sha256", "enhanced_prompt")
"""What the row says of its final picture, so that nobody has to look into the list of all."""


def _said(
    run: Run,
    batch: int,
    place: int,
    outcome: Outcome,
    pictures: list[dict[str, Any]],
    model: Model,
    endings: list[Ending],
) -> str | None:
    """What another turn tells the model that it said."""

    def keep(sha256: str, signature: bytes) -> str:
        name = signature_file(batch, place, sha256)
        endings.append(partial(run.storage.put, name, signature, content_type="text/plain"))
        return name

    return wire.said(outcome.parts, pictures, signed=model.signs, keep=keep)


def _unclaimed(run: Run, batch: int, line: Line, endings: list[Ending]) -> dict[str, Any]:
    """The bytes of a line that is nobody's. Of one that is too long to be held they are fetched again at the end."""
    raw = bytes(line.raw)
    if len(raw) <= FEW or line.whole is not None:
        return {"raw": raw}
    name = line_file(batch, line.offset, hashlib.sha256(raw).hexdigest())
    endings.append(partial(run.storage.put, name, raw, content_type="application/octet-stream"))
    return {"kept": name}


def _bill(outcome: Outcome, model: Model, lane: Lane, *, size: str | None) -> dict[str, Any]:
    """What a line cost. Nothing is known of it where the provider gave no counts for an answer."""
    usage = outcome.usage
    if usage is None:
        return {"spent": None if outcome.billed else 0}
    if usage.pictures is not None:
        return {"spent": actual(usage, model, lane, size=size)}  # and nobody counted tokens
    return {
        "prompt_tokens": usage.prompt,
        "reference_tokens": usage.references,
        "image_tokens": usage.image,
        "text_tokens": usage.text,
        "thought_tokens": usage.thought,
        "searches": usage.searches,
        "spent": actual(usage, model, lane),
    }
