"""Results stream into pictures and staged parts; the last part settles the batch.

What it fears: a result larger than memory, a line that is not what it should be, and a picture under the wrong name.
Lines are joined by their wire id and by nothing else.
"""

import base64
import hashlib
import logging
import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from threading import Condition
from typing import Any, BinaryIO

import msgspec

from pipeline import tables, turns
from pipeline.answer import Wanted, judged, thoughts, written
from pipeline.backends import wire
from pipeline.backends.base import Backend, Gone, Missing, Outcome
from pipeline.checks import Checks, Rules, rules_of
from pipeline.compare import Noticed, compare
from pipeline.errors import Corrupt, Unavailable
from pipeline.events import Collected, Cut, File, Part, Rejected, Retries, Tokens, Turns
from pipeline.grounding import columns_of
from pipeline.models import Model
from pipeline.money import Lane, actual, nanos
from pipeline.pictures import slug
from pipeline.results import Line, lines
from pipeline.run import (
    Run,
    index_file,
    line_file,
    place_of,
    plan_file,
    quarantine_file,
    retry_file,
    signature_file,
    staged_file,
    turns_file,
)
from pipeline.state import Batch, Illegal, Stage, lane_of

log = logging.getLogger(__name__)

IN_HAND, IN_HAND_BYTES = 64, 12_000_000
"""Lines whose pictures are being looked at and written, at most, while the download goes on: so many, or so large."""

FEW = 1 << 14
"""Bytes of a line that nobody claims which are kept with its part. Such a line may be as long as any other, and a part
is in memory whole."""

TRIES = 3
"""How often a result that ends too early is asked for again, without a byte more."""

_TRIPLETS = 3 << 18
"""Bytes at a time whose base64 can be joined."""

AGAIN = frozenset({"text_only", "no_image", "truncated", "broken", "error", "missing", "expired"})
"""Outcomes that another attempt may better. All others are final."""

UNANSWERED = {"succeeded": "missing", "failed": "error", "cancelled": "cancelled", "expired": "expired"}
"""What a request is that no line came back for, by how its batch ended."""

MOST_ATTEMPTS = 10
"""Nothing is asked more often by itself, whatever the reasons."""

_json = msgspec.json.Encoder(order="deterministic").encode


def collect(run: Run, backend: Backend, number: int, *, pool: Executor) -> bool:
    """Bring a batch's results home. Safe to repeat and to do by several at once. False: somebody else settled it."""
    batch = run.state.batches[number]
    if batch.waits or not run.state.may_settle:
        return False
    if batch.stage is Stage.PLANNED and (not batch.sends or run.state.stopped is not None):
        return _settle(run, backend, batch, _Answers(tables.staged_schema().empty_table()))
    if batch.stage is not Stage.ENDED or batch.ended is None:
        return False
    if batch.may_be_late:
        return False  # more may come of it
    asked = _asked(run, batch)
    there = set(run.storage.list(f"staged/{number:05}-"))
    for span in _missing(batch.parts, lambda place: staged_file(number, place) in there):
        try:
            _bring(run, backend, batch, span, asked, pool=pool)
        except Missing as missing:
            _write_off(run, backend, batch, span, missing)
    found = _answers(run, batch)
    noticed = compare(run, number, partial(_seen, found), rules=asked.of_shot, pool=pool)
    return _settle(
        run, backend, batch, found, noticed={n: (each, asked.wanted[n].rules) for n, each in noticed.items()}
    )


# --- one part ---------------------------------------------------------------------------------------------------


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
    plan = _read(run, plan_file(batch.number), columns)
    model = msgspec.convert(run.created.models[batch.planned.model], Model)
    checks = msgspec.convert(run.created.job.get("checks", {}), Checks)
    wanted = []
    of_shot: dict[str, Rules] = {}
    leads_on = set()
    for place, row in enumerate(tables.rows_of(plan)):
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


def _read(run: Run, name: str, columns: list[str] | None = None) -> Any:
    return tables.from_parquet(run.storage.read(name), columns=columns)


class _Hand:
    """Lines whose pictures are looked at and written while the download goes on: so many, or so large.

    What is done makes room at once, in whatever order; rows are kept in the order of their lines, and a part when the
    last of its lines is done.
    """

    def __init__(
        self, pool: Executor, keep: Callable[[int, list[dict[str, Any]]], object], *, room: int
    ) -> None:
        self._pool = pool
        self._room = room  # bytes
        self._keep = keep  # a part, and its rows
        self._rows: list[Future[dict[str, Any]]] = []  # of the part at hand
        self._kept: deque[Future[object]] = deque()
        self._changed = Condition()
        self._lines = self._bytes = 0  # that are not done
        self._error: BaseException | None = None

    def take(self, size: int, work: Callable[[], dict[str, Any]]) -> None:
        """One more line. Waits until there is room for the next, and raises what went wrong with one before."""
        with self._changed:
            self._lines += 1
            self._bytes += size
        row = self._pool.submit(work)
        row.add_done_callback(partial(self._done, size))
        self._rows.append(row)
        with self._changed:
            while self._lines >= IN_HAND or (self._bytes > self._room and self._lines > 1):
                self._changed.wait()
        if self._error is not None:
            raise self._error

    def close(self, part: int) -> None:
        """No more lines of this part will come."""
        rows, self._rows = self._rows, []
        while len(self._kept) > 2:
            self._kept.popleft().result()
        self._kept.append(self._pool.submit(lambda: self._keep(part, [row.result() for row in rows])))

    def finish(self) -> None:
        """Wait until everything is written."""
        while self._kept:
            self._kept.popleft().result()

    def _done(self, size: int, row: Future[dict[str, Any]]) -> None:
        with self._changed:
            self._error = self._error or (None if row.cancelled() else row.exception())
            self._lines -= 1
            self._bytes -= size
            self._changed.notify()


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
    run: Run, backend: Backend, batch: Batch, span: list[tuple[int, Part]], asked: _Asked, *, pool: Executor
) -> None:
    """Pictures are written while the download goes on; a part's staged file, last, says that all of its are there."""

    def keep(place: int, rows: list[dict[str, Any]]) -> object:
        return tables.keep(run.storage, staged_file(batch.number, place), rows, tables.staged_schema())

    file = span[0][1].file
    # What is in hand when the power is cut is fetched again: it has to be little beside a part.
    hand = _Hand(pool, keep, room=min(IN_HAND_BYTES, run.created.limits.part_bytes // 4))
    waiting = deque(span)
    try:
        for line in _lines(backend, batch, file, start=span[0][1].start, end=span[-1][1].end):
            while waiting[0][1].end is not None and line.offset >= waiting[0][1].end:
                hand.close(waiting.popleft()[0])
            hand.take(line.length, partial(_take, run, backend, batch.number, file, line, asked))
    except Missing:
        hand.finish()  # what was whole by then is there
        raise
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
            tables.keep(run.storage, staged_file(batch.number, place), [], tables.staged_schema())


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


def _take(run: Run, backend: Backend, batch: int, file: str, line: Line, asked: _Asked) -> dict[str, Any]:
    """One line: its pictures written, and its row for the staged file."""
    where = {"file": file, "offset": line.offset, "length": line.length}
    if line.body is None:
        return {**where, **_unclaimed(run, batch, line)}
    sent = run.state.batches[batch].submitted
    wire_id = backend.line_id(line, ticket=sent.ticket) if sent is not None else None
    place = place_of(wire_id, batch) if wire_id is not None else None
    outcome = backend.outcome(line)
    if place is None or place >= len(asked.wanted):
        bill = _bill(outcome, asked.model, asked.lane, size=None)
        return {**where, **bill, "outcome": outcome.kind, **_unclaimed(run, batch, line)}
    wanted = asked.wanted[place]
    bill = _bill(outcome, asked.model, asked.lane, size=wanted.size)
    home = written(run, outcome, batch=batch, place=place, wanted=wanted)
    kind, checks = judged(outcome, home, wanted)
    final = home.final
    told = _said(run, batch, place, outcome, home.pictures, asked.model) if place in asked.leads_on else None
    answer = {"outcome": kind, "message": home.broken.reason if home.broken is not None else outcome.message}
    return {
        **where,
        **bill,
        "wire_id": wire_id,
        **_unless_unfit(answer, final.get("checks", []), wanted.rules),
        "reason": outcome.reason,
        "text": outcome.text,
        "grounding": outcome.grounding,
        "safety_scores": outcome.safety_scores,
        "pictures": home.pictures,
        "checks": checks,
        "numbers": final.get("numbers"),
        "parts": home.parts,
        **thoughts(run, outcome, batch=batch, place=place, wanted=wanted),
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
    run: Run, batch: int, place: int, outcome: Outcome, pictures: list[dict[str, Any]], model: Model
) -> str | None:
    """What another turn tells the model that it said."""

    def keep(sha256: str, signature: bytes) -> str:
        name = signature_file(batch, place, sha256)
        run.storage.put(name, signature, content_type="text/plain")
        return name

    return wire.said(outcome.parts, pictures, signed=model.signs, keep=keep)


def _unclaimed(run: Run, batch: int, line: Line) -> dict[str, Any]:
    """The bytes of a line that is nobody's. Of one that is too long to be held they are fetched again at the end."""
    raw = bytes(line.raw)
    if len(raw) <= FEW or line.whole is not None:
        return {"raw": raw}
    name = line_file(batch, line.offset, hashlib.sha256(raw).hexdigest())
    run.storage.put(name, raw, content_type="application/octet-stream")
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


def _unless_unfit(answer: Mapping[str, Any], words: Iterable[str], rules: Rules) -> dict[str, Any]:
    """An answer's outcome and message, now that a check said these words of its picture."""
    failed = rules.fatal(words) if answer["outcome"] == "ok" else []
    if failed:
        return {"outcome": "unfit", "message": f"fails what the job sets to error: {', '.join(failed)}"}
    return {"outcome": answer["outcome"], "message": answer["message"]}


def _compared(answer: dict[str, Any], noticed: Noticed, rules: Rules) -> dict[str, Any]:
    """An answer, with what the other pictures of its batch say about its own."""
    numbers = {**(answer["numbers"] or {}), **noticed.numbers}
    return {
        **answer,
        **_unless_unfit(answer, noticed.words, rules),
        "checks": [*answer["checks"], *noticed.words],
        "numbers": numbers,
        "pictures": [
            {**picture, "checks": [*picture["checks"], *noticed.words], "numbers": numbers}
            if picture["role"] == "final"
            else picture
            for picture in answer["pictures"]
        ],
    }


# --- all parts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stray:
    """A line nobody claims: billed, and nobody asked for it."""

    why: str
    line: int  # in the table of all lines


@dataclass(frozen=True, slots=True)
class _Answers:
    """All lines of a batch, and what each is. The lines stay in a table: as Python values they are ten times larger."""

    lines: Any  # pa.Table, by staged_schema() without raw
    starts: Sequence[int] = ()  # of each part: its first line
    to: dict[int, int] = field(default_factory=dict)  # which line answers a place
    strays: list[_Stray] = field(default_factory=list)


def _answers(run: Run, batch: Batch) -> _Answers:
    """The answer to each place, and the lines that are none.

    Of several answers for one place the first that is ok wins, in the order of the files and their bytes; the parts
    are listed in that order.
    """
    import pyarrow as pa

    assert batch.ended is not None
    names = [staged_file(batch.number, part) for part in range(len(batch.parts))]
    parts = [_read(run, name, _SETTLING) for name in names]
    starts = list(accumulate((part.num_rows for part in parts), initial=0))
    empty = tables.staged_schema().empty_table().select(_SETTLING)
    found = _Answers(pa.concat_tables([empty, *parts]).unify_dictionaries(), starts)
    kinds = found.lines["outcome"].to_pylist()
    for line, (wire_id, kind) in enumerate(zip(found.lines["wire_id"].to_pylist(), kinds, strict=True)):
        if wire_id is None:
            found.strays.append(_Stray("unreadable" if kind is None else "unknown id", line))
            continue
        place = place_of(wire_id, batch.number)
        assert place is not None
        loser: int | None = line
        if place not in found.to:
            found.to[place], loser = line, None
        elif kinds[found.to[place]] != "ok" and kind == "ok":
            loser, found.to[place] = found.to[place], line
        if loser is not None:
            found.strays.append(_Stray("second answer", loser))
    return found


def _seen(found: _Answers) -> dict[int, dict[str, Any]]:
    """What pictures are compared by, for each place."""
    kinds, likenesses = (found.lines[name].to_pylist() for name in ("outcome", "likeness"))
    return {place: {"outcome": kinds[n], "likeness": likenesses[n]} for place, n in found.to.items()}


_SETTLING = [name for name in tables.staged_schema().names if name != "raw"]
"""All of a staged row but the bytes of unclaimed lines, which are copied one at a time."""


def _in_order(found: _Answers, places: Iterable[int]) -> Iterator[dict[str, Any] | None]:
    """The answers to these places, a few at a time in memory."""
    import pyarrow as pa

    which = pa.array([found.to.get(place) for place in places], pa.int64())
    for row in tables.rows_of(found.lines.take(which)):
        yield row if row["wire_id"] is not None else None


@dataclass(slots=True)
class _Books:
    """What a batch comes to, added up while its rows are written."""

    outcomes: dict[str, int] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)
    pictures: int = 0
    picture_bytes: int = 0
    spent: int = 0
    unconfirmed: int = 0
    tokens: Tokens = field(default_factory=Tokens)


def _settle(
    run: Run,
    backend: Backend,
    batch: Batch,
    found: _Answers,
    *,
    noticed: Mapping[int, tuple[Noticed, Rules]] | None = None,
) -> bool:
    """Every planned request into the index or the retries, every line that is neither into quarantine; one record."""
    books = _Books()
    columns = run.created.columns
    index, retry = tables.Sheet(tables.index_schema(columns)), tables.Sheet(tables.retry_schema(columns))
    follow_ups = _Turns(tables.Sheet(tables.turns_schema(columns)))
    waiting = turns.Waiting(run, batch.number)
    dearest = 0
    last = _last_outcomes(run, batch) if batch.ended is None and batch.sends else {}
    models = {name: msgspec.convert(row, Model) for name, row in run.created.models.items()}
    plan = _read(run, plan_file(batch.number))
    answers = _in_order(found, plan["place"].to_pylist())
    for row, answered in zip(tables.rows_of(plan), answers, strict=True):
        answer = answered or last.get(row["place"]) or _no_answer(batch, row, lines=found.lines.num_rows)
        if noticed and row["place"] in noticed:
            answer = _compared(answer, *noticed[row["place"]])
        dearest = max(dearest, row["high"])
        _count(books, answer, high=row["high"])
        if batch.ended is not None and _is_worth_more(run, batch, row, answer):
            _add(books.again, answer["outcome"])
            retry.add(_to_retry(row, answer))
        else:
            _add(books.outcomes, answer["outcome"])
            if answer.get("earlier"):
                _add(books.carried, answer["earlier"])
            index.add(_to_index(row, answer, batch.number, models.get(row["model"])))
            follow_ups.add(turns.next_turn(run, row, answer))
            for released in waiting.released(row, answer):
                follow_ups.add(released)
                follow_ups.released += released["take"] == 1
    _count_strays(books, found, dearest)
    event = Collected(
        batch=batch.number,
        indexed=index.rows,
        retry=retry.rows,
        surplus=len(found.strays),
        outcomes=dict(sorted(books.outcomes.items())),
        carried=dict(sorted(books.carried.items())),
        again=dict(sorted(books.again.items())),
        pictures=books.pictures,
        picture_bytes=books.picture_bytes,
        tokens=books.tokens,
        spent=books.spent,
        unconfirmed=books.unconfirmed,
        index=_keep(run, index_file(batch.number), index),
        retries=_keep(run, retry_file(batch.number), retry),
        quarantine=_quarantine(run, backend, batch, found) if found.strays else None,
        turns=dict(sorted(follow_ups.lanes.items())),
        released=follow_ups.released,
        turns_again=follow_ups.again,
        turns_file=_keep(run, turns_file(batch.number), follow_ups.sheet, together=tables.FEW_TOGETHER),
    )
    return _record(run, batch, event)


@dataclass(slots=True)
class _Turns:
    """The follow-ups of a batch, on their way into its file."""

    sheet: tables.Sheet
    lanes: dict[str, int] = field(default_factory=dict)
    released: int = 0
    again: int = 0

    def add(self, row: dict[str, Any] | None) -> None:
        if row is not None:
            _add(self.lanes, turns.lane_of(row))
            self.again += row["take"] > 1
            self.sheet.add(row)


def _record(run: Run, batch: Batch, event: Collected) -> bool:
    """The books of a batch, closed. False: another driver did."""
    try:
        run.record(event)
    except Illegal as error:
        if batch.stage is not Stage.COLLECTED:
            raise Corrupt(f"{run.storage.url}: batch {batch.number} cannot be settled: {error}") from error
        return False
    return True


def _count_strays(books: _Books, found: _Answers, dearest: int) -> None:
    """An answer that nobody planned was billed all the same; one that does not say how much, at the dearest."""
    for stray in found.strays:
        spent = found.lines["spent"][stray.line].as_py()
        if spent is not None:
            books.spent += spent
        elif stray.why != "unreadable":
            books.unconfirmed += dearest


def _is_worth_more(run: Run, batch: Batch, row: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether another attempt may better this. What the job says of an outcome is above what is usual."""
    outcome, created = answer["outcome"], run.created
    if outcome in ("cancelled", "expired") and batch.withdrawn is not None:
        return batch.withdrawn.again and row["attempt"] < MOST_ATTEMPTS
    if outcome == "not_sent" and batch.online:
        return True  # there was no time to ask for it, which is no attempt; some of its batch was asked, so this ends
    attempts = created.again.get(outcome, created.attempts if outcome in AGAIN else 1)
    return bool(row["attempt"] < min(attempts, MOST_ATTEMPTS))


def _last_outcomes(run: Run, batch: Batch) -> dict[int, dict[str, Any]]:
    """What came of requests when they were asked before, by their place in a batch that was never sent."""
    match batch.source:
        case Retries(batches):
            rows = (row for number in batches for row in tables.rows_of(_read(run, retry_file(number))))
            return {
                place: {name: row[f"last_{name}"] for name in ("outcome", "reason", "message")} | {"spent": 0}
                for place, row in enumerate(rows)
            }
        case Cut(parent, start, stop):
            before = _last_outcomes(run, run.state.batches[parent])
            return {place - start: told for place, told in before.items() if start <= place < stop}
    return {}


def _no_answer(batch: Batch, row: dict[str, Any], *, lines: int) -> dict[str, Any]:
    """What is known of a request that no line came back for, where so many did."""
    if row["carried"] is not None:
        return {**row["carried"], "spent": 0}
    if batch.ended is None and batch.sends:
        return {"outcome": "not_sent", "spent": 0}
    if batch.ended is None:
        outcome = "no_parent" if isinstance(batch.source, Turns | Rejected) else "refused_by_plan"
        return {"outcome": outcome, "message": row["refusal"], "spent": 0}
    message = batch.ended.error or _shortage(batch.ended.stats, lines)
    return {"outcome": UNANSWERED[batch.ended.how], "message": message, "spent": None}


def _shortage(stats: dict[str, int], lines: int) -> str | None:
    """What to say where the service counts more answers than it sent."""
    counted = sum(count for name, count in stats.items() if name.startswith(("successful", "failed")))
    return f"the service counts {counted:,} answers and sent {lines:,}" if counted > lines else None


def _add(counts: dict[str, int], outcome: str) -> None:
    counts[outcome] = counts.get(outcome, 0) + 1


def _count(books: _Books, answer: dict[str, Any], *, high: int) -> None:
    books.pictures += len(answer.get("pictures") or [])
    books.picture_bytes += sum(picture["bytes"] for picture in answer.get("pictures") or [])
    if answer["spent"] is not None:
        books.spent += answer["spent"]
    else:
        books.unconfirmed += high  # it may have been billed, and nobody can read how much
    t = books.tokens
    books.tokens = Tokens(
        prompt=t.prompt + (answer.get("prompt_tokens") or 0),
        image=t.image + (answer.get("image_tokens") or 0),
        text=t.text + (answer.get("text_tokens") or 0),
        thought=t.thought + (answer.get("thought_tokens") or 0),
    )


def _to_retry(row: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "spent": row["spent"] + (answer["spent"] or 0),
        "last_outcome": answer["outcome"],
        "last_reason": answer.get("reason"),
        "last_message": answer.get("message"),
    }


def _to_index(row: dict[str, Any], answer: dict[str, Any], batch: int, model: Model | None) -> dict[str, Any]:
    spent = row["spent"] + (answer["spent"] or 0)
    shown = [
        {name: one[name] for name in ("source", "sha256", "mime", "made_from", "role")}
        for one in row["references"] or []
    ]
    return {
        **{name: answer.get(name) for name in _ANSWERS},
        **{name: value for name, value in row.items() if name not in ("spent", "references")},
        "pictures": answer.get("pictures") or [],
        "parts": answer.get("parts") or [],
        "thought_pictures": answer.get("thought_pictures") or [],
        "checks": answer.get("checks") or [],
        "effective": _effective(row, answer, model) if model is not None else None,
        "references": shown,
        "batch": batch,
        "usd": spent / nanos(1),
        **columns_of(answer.get("grounding")),
    }


def _effective(row: dict[str, Any], answer: dict[str, Any], model: Model) -> dict[str, str | None]:
    """What the settings came to: ratio and size as the picture's own pixels say, and what was left to the model."""
    ratio, size = model.named(answer["width"], answer["height"]) if answer.get("width") else (None, None)
    thinking = row["thinking"] or model.default_thinking
    return {"aspect_ratio": ratio, "image_size": size, "thinking": thinking}


_ANSWERS = frozenset(tables.index_schema(()).names) & {*tables.staged_schema().names, "earlier", "made_in"}


def _keep(run: Run, name: str, sheet: tables.Sheet, *, together: int = tables.ROW_GROUP) -> File | None:
    if not sheet.rows:
        return None
    return tables.keep(run.storage, name, sheet.table(), sheet.schema, together=together)


def _quarantine(run: Run, backend: Backend, batch: Batch, found: _Answers) -> File:
    """Every unclaimed line, with its bytes where no picture of it was written. One is in memory at a time."""
    name = quarantine_file(batch.number)
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as spool:
        for piece in _entries(run, backend, batch, found):
            digest.update(piece)
            spool.write(piece)
        size = spool.tell()
        spool.seek(0)
        run.storage.put(name, _stream(spool), content_type="application/jsonl")
    return File(name, size, digest.hexdigest())


def _stream(spool: Any) -> BinaryIO:
    return spool  # type: ignore[no-any-return]


def _entries(run: Run, backend: Backend, batch: Batch, found: _Answers) -> Iterator[bytes]:
    """The quarantine's lines, in pieces."""
    for stray, line in zip(found.strays, _bytes_of(run, batch, found), strict=True):
        (row,) = found.lines.slice(stray.line, 1).to_pylist()
        entry = _json(
            {
                "why": stray.why,
                **{name: row[name] for name in ("wire_id", "outcome", "file", "offset", "length", "spent")},
                "pictures": [picture["path"] for picture in row["pictures"] or []],
                **({"line_file": row["kept"]} if row["kept"] else {}),
                **(_readable(line) if line is not None and len(line) == row["length"] else {}),
            }
        )
        if line is None or len(line) == row["length"]:
            yield entry + b"\n"
            continue
        yield entry[:-1] + b',"line_base64":"'
        yield from _base64_of(backend, batch, row)
        yield b'"}\n'


def _bytes_of(run: Run, batch: Batch, found: _Answers) -> Iterator[bytes | None]:
    """What was kept of each stray. Those of one part follow each other, but for a few: one part is in memory."""
    part, raw = -1, None
    for stray in found.strays:
        place = bisect_right(found.starts, stray.line) - 1
        if place != part:
            part, raw = place, _read(run, staged_file(batch.number, place), ["raw"])["raw"]
        assert raw is not None
        yield raw[stray.line - found.starts[part]].as_py()


def _readable(line: bytes) -> dict[str, str]:
    try:
        return {"line": line.decode()}
    except UnicodeDecodeError:
        return {"line_base64": base64.b64encode(line).decode()}


def _base64_of(backend: Backend, batch: Batch, row: dict[str, Any]) -> Iterator[bytes]:
    """A line that is too long to be held, streamed once more."""
    assert batch.submitted is not None
    left = row["length"]
    with backend.open(
        batch.submitted.ticket, row["file"], start=row["offset"], end=row["offset"] + left
    ) as stream:
        while left and (piece := stream.read(min(left, _TRIPLETS))):
            left -= len(piece)
            yield base64.b64encode(piece)
    if left:
        raise Unavailable(
            f"{row['file']}: {left:,} bytes of the line at byte {row['offset']:,} are no longer there",
            hint="nothing is lost; run the same command again later",
        )
