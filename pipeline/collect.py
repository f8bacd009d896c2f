"""Results stream into pictures and staged parts; the last part settles the batch.

What it fears: a result larger than memory, a line that is not what it should be, and a picture under the wrong name.
Lines are joined by their wire id and by nothing else.
"""

import base64
import hashlib
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgspec

from pipeline import tables
from pipeline.backends.base import Backend, Drawing, Outcome
from pipeline.errors import Corrupt
from pipeline.events import Collected, Cut, File, Part, Retries, Tokens
from pipeline.models import Model
from pipeline.money import actual, nanos
from pipeline.pictures import Broken, Picture, look, slug
from pipeline.results import Line, lines
from pipeline.run import (
    Run,
    index_file,
    picture_file,
    place_of,
    plan_file,
    quarantine_file,
    retry_file,
    staged_file,
)
from pipeline.state import Batch, Illegal, Stage

IN_HAND, IN_HAND_BYTES = 16, 64_000_000
"""Lines whose pictures are being looked at and written, at most, while the download goes on: so many, or so large."""

AGAIN = frozenset({"text_only", "no_image", "truncated", "broken", "error", "missing", "expired"})
"""Outcomes that another attempt may better. All others are final."""

UNANSWERED = {"succeeded": "missing", "failed": "error", "cancelled": "cancelled", "expired": "expired"}
"""What a request is that no line came back for, by how its batch ended."""

MOST_ATTEMPTS = 10
"""Nothing is asked more often by itself, whatever the reasons."""

TOLERANCE = 0.02
"""How far a picture's ratio may be off the asked one."""

_json = msgspec.json.Encoder(order="deterministic").encode


def collect(run: Run, backend: Backend, number: int, *, pool: Executor) -> bool:
    """Bring a batch's results home. Safe to repeat and to do by several at once. False: somebody else settled it."""
    batch = run.state.batches[number]
    if batch.stage is Stage.PLANNED and (not batch.sends or run.state.stopped is not None):
        return _settle(run, batch, {}, [])
    if batch.stage is not Stage.ENDED or batch.ended is None:
        return False
    if batch.broke_off and batch.swept is None:
        return False  # more may come of it
    asked = _asked(run, batch)
    there = set(run.storage.list(f"staged/{number:05}-"))
    for place, part in enumerate(batch.parts):
        if staged_file(number, place) not in there:
            _stage(run, backend, batch, place, part, asked, pool=pool)
    answers, strays = _answers(run, batch, asked)
    return _settle(run, batch, answers, strays)


# --- one part ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """What collecting needs to know of a batch's requests: a few hundred bytes each."""

    names: list[str]  # for the file names of pictures
    sizes: list[tuple[int, int] | None]  # pixels that were asked for
    model: Model


def _asked(run: Run, batch: Batch) -> _Asked:
    assert batch.planned is not None
    columns = ["key", "shot", "variant", "take", "aspect_ratio", "image_size"]
    plan = _read(run, plan_file(batch.number), columns)
    model = msgspec.convert(run.created.models[batch.planned.model], Model)
    names, sizes = [], []
    for row in tables.rows_of(plan):
        take = f"-take{row['take']}" if row["take"] > 1 else ""
        names.append(f"{slug(row['key'])}-{slug(row['shot'])}-{row['variant']}{take}")
        sizes.append(model.pixels(row["aspect_ratio"], row["image_size"]) if row["aspect_ratio"] else None)
    return _Asked(names, sizes, model)


def _read(run: Run, name: str, columns: list[str] | None = None) -> Any:
    return tables.from_parquet(run.storage.read(name), columns=columns)


def _stage(
    run: Run, backend: Backend, batch: Batch, place: int, part: Part, asked: _Asked, *, pool: Executor
) -> None:
    """Pictures are written while the download goes on; the staged file, last, says that they all are there."""
    assert batch.submitted is not None
    ticket = batch.submitted.ticket
    start = part.start - 1 if part.start else 0
    rows: list[dict[str, Any]] = []
    with backend.open(ticket, part.file, start=start, end=part.end) as stream:
        in_hand: deque[tuple[Future[dict[str, Any]], int]] = deque()
        held = 0
        for line in lines(stream, start=part.start, end=part.end):
            taken = pool.submit(_take, run, backend, batch.number, part.file, line, asked)
            in_hand.append((taken, len(line.raw)))
            held += len(line.raw)
            while len(in_hand) >= IN_HAND or (held > IN_HAND_BYTES and len(in_hand) > 1):
                taken, size = in_hand.popleft()
                rows.append(taken.result())
                held -= size
        rows.extend(taken.result() for taken, _ in in_hand)
    tables.keep(run.storage, staged_file(batch.number, place), rows, tables.staged_schema())


def _take(run: Run, backend: Backend, batch: int, file: str, line: Line, asked: _Asked) -> dict[str, Any]:
    """One line: its pictures written, and its row for the staged file."""
    where = {"file": file, "offset": line.offset, "length": len(line.raw)}
    if line.body is None:
        return {**where, "raw": line.raw}
    sent = run.state.batches[batch].submitted
    wire = backend.line_id(line, ticket=sent.ticket) if sent is not None else None
    place = place_of(wire, batch) if wire is not None else None
    outcome = backend.outcome(line)
    bill = _bill(outcome, asked.model)
    if place is None or place >= len(asked.names):
        return {**where, **bill, "outcome": outcome.kind, "raw": line.raw}
    pictures, broken = _write(run, batch, place, asked.names[place], outcome.drawings)
    kind, checks = _judge(outcome, pictures, broken=broken is not None, wanted=asked.sizes[place])
    final = pictures[-1] if pictures and pictures[-1]["final"] else {}
    return {
        **where,
        **bill,
        "wire_id": wire,
        "outcome": kind,
        "reason": outcome.reason,
        "message": broken.reason if broken is not None else outcome.message,
        "text": outcome.text,
        "pictures": pictures,
        "checks": checks,
        "model_version": outcome.model_version,
        "response_id": outcome.response_id,
        "answered_at": outcome.at,
        **{name: final.get(name) for name in ("path", "width", "height", "mime", "bytes", "sha256")},
    }


def _bill(outcome: Outcome, model: Model) -> dict[str, Any]:
    """What a line cost. Nothing is known of it where the provider gave no counts for an answer."""
    usage = outcome.usage
    if usage is None:
        return {"spent": None if outcome.billed else 0}
    return {
        "prompt_tokens": usage.prompt,
        "image_tokens": usage.image,
        "text_tokens": usage.text,
        "thought_tokens": usage.thought,
        "searches": usage.searches,
        "spent": actual(usage, model),
    }


def _write(
    run: Run, batch: int, place: int, name: str, drawings: Iterable[Drawing]
) -> tuple[list[dict[str, Any]], Broken | None]:
    """Every whole picture of an answer, byte for byte; and what is wrong with the last one, the final one, if so."""
    pictures: list[dict[str, Any]] = []
    broken: Broken | None = None
    for drawing in drawings:
        picture = look(drawing.data)
        if isinstance(picture, Broken):
            broken = picture
            continue
        broken = None
        path = picture_file(batch, place, name, picture.sha256, picture.extension)
        run.storage.put(path, drawing.data, content_type=picture.mime)
        pictures.append(_described(path, picture, drawing.declared_mime))
    if pictures and broken is None:
        pictures[-1]["final"] = True
    return pictures, broken


def _described(path: str, picture: Picture, declared: str | None) -> dict[str, Any]:
    return {
        "path": path,
        "width": picture.width,
        "height": picture.height,
        "mime": picture.mime,
        "declared_mime": declared,
        "bytes": picture.size,
        "sha256": picture.sha256,
        "final": False,
    }


def _judge(
    outcome: Outcome, pictures: list[dict[str, Any]], *, broken: bool, wanted: tuple[int, int] | None
) -> tuple[str, list[str]]:
    """The outcome now that the pictures were looked at, and what is odd about them."""
    if outcome.kind != "ok":
        return outcome.kind, []
    if broken or not pictures:
        return "broken", []
    final = pictures[-1]
    checks = [] if final["declared_mime"] in (None, final["mime"]) else ["declared_mime"]
    if wanted is not None and not _fits(final["width"], final["height"], wanted):
        return "wrong_size", [*checks, "size"]
    return "ok", checks


def _fits(width: int, height: int, wanted: tuple[int, int]) -> bool:
    ratio = (width / height) / (wanted[0] / wanted[1])
    return abs(ratio - 1) <= TOLERANCE and max(width, height) >= (1 - TOLERANCE) * max(wanted)


# --- all parts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stray:
    """A line nobody claims: billed, and nobody asked for it."""

    why: str
    part: int
    row: dict[str, Any]


def _answers(run: Run, batch: Batch, asked: _Asked) -> tuple[dict[int, dict[str, Any]], list[_Stray]]:
    """The answer to each place, and the lines that are none.

    Of several answers for one place the first that is ok wins, in the order of the files and their bytes; the parts
    are listed in that order.
    """
    assert batch.ended is not None
    answers: dict[int, dict[str, Any]] = {}
    origin: dict[int, int] = {}
    strays: list[_Stray] = []
    for part in range(len(batch.parts)):
        for row in tables.rows_of(_read(run, staged_file(batch.number, part), _SETTLING)):
            if row["wire_id"] is None:
                strays.append(_Stray("unreadable" if row["outcome"] is None else "unknown id", part, row))
                continue
            place = place_of(row["wire_id"], batch.number)
            assert place is not None
            loser: dict[str, Any] | None = row
            if place not in answers:
                answers[place], origin[place], loser = row, part, None
            elif answers[place]["outcome"] != "ok" and row["outcome"] == "ok":
                loser, answers[place] = answers[place], row
            if loser is not None:
                strays.append(_Stray("second answer", part, loser))
    return answers, strays


_SETTLING = [name for name in tables.staged_schema().names if name != "raw"]
"""All of a staged row but the bytes of unclaimed lines, which are copied one at a time."""


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


def _settle(run: Run, batch: Batch, answers: dict[int, dict[str, Any]], strays: list[_Stray]) -> bool:
    """Every planned request into the index or the retries, every line that is neither into quarantine; one record."""
    books = _Books()
    index, retry = [], []
    dearest = 0
    last = _last_outcomes(run, batch) if batch.ended is None and batch.sends else {}
    for row in tables.rows_of(_read(run, plan_file(batch.number))):
        answer = answers.get(row["place"]) or last.get(row["place"]) or _no_answer(batch, row)
        dearest = max(dearest, row["high"])
        _count(books, answer, high=row["high"])
        if batch.ended is not None and _is_worth_more(run, batch, row, answer):
            _add(books.again, answer["outcome"])
            retry.append(_to_retry(row, answer))
        else:
            _add(books.outcomes, answer["outcome"])
            if answer.get("earlier"):
                _add(books.carried, answer["earlier"])
            index.append(_to_index(row, answer, batch.number))
    for stray in strays:
        if stray.row["spent"] is not None:
            books.spent += stray.row["spent"]
        elif stray.row["outcome"] is not None:
            books.unconfirmed += dearest  # an answer was billed, and does not say how much
    columns = run.created.columns
    event = Collected(
        batch=batch.number,
        indexed=len(index),
        retry=len(retry),
        surplus=len(strays),
        outcomes=dict(sorted(books.outcomes.items())),
        carried=dict(sorted(books.carried.items())),
        again=dict(sorted(books.again.items())),
        pictures=books.pictures,
        picture_bytes=books.picture_bytes,
        tokens=books.tokens,
        spent=books.spent,
        unconfirmed=books.unconfirmed,
        index=_keep(run, index_file(batch.number), index, tables.index_schema(columns)),
        retries=_keep(run, retry_file(batch.number), retry, tables.retry_schema(columns)),
        quarantine=_quarantine(run, batch, strays) if strays else None,
    )
    try:
        run.record(event)
    except Illegal as error:
        if batch.stage is not Stage.COLLECTED:
            raise Corrupt(f"{run.storage.url}: batch {batch.number} cannot be settled: {error}") from error
        return False  # another driver did
    return True


def _is_worth_more(run: Run, batch: Batch, row: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether another attempt may better this. What the job says of an outcome is above what is usual."""
    outcome, created = answer["outcome"], run.created
    if outcome in ("cancelled", "expired") and batch.withdrawn is not None:
        return batch.withdrawn.again and row["attempt"] < MOST_ATTEMPTS
    attempts = created.again.get(outcome, created.attempts if outcome in AGAIN else 1)
    return bool(row["attempt"] < attempts)


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


def _no_answer(batch: Batch, row: dict[str, Any]) -> dict[str, Any]:
    """What is known of a request that no line came back for."""
    if row["carried"] is not None:
        return {**row["carried"], "spent": 0}
    if batch.ended is None and batch.sends:
        return {"outcome": "not_sent", "spent": 0}
    if batch.ended is None:
        return {"outcome": "refused_by_plan", "message": row["refusal"], "spent": 0}
    return {"outcome": UNANSWERED[batch.ended.how], "message": batch.ended.error, "spent": None}


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


def _to_index(row: dict[str, Any], answer: dict[str, Any], batch: int) -> dict[str, Any]:
    spent = row["spent"] + (answer["spent"] or 0)
    shown = [
        {name: one[name] for name in ("source", "sha256", "mime", "made_from", "role")}
        for one in row["references"] or []
    ]
    return {
        **{name: answer.get(name) for name in _ANSWERS},
        **{name: value for name, value in row.items() if name not in ("spent", "references")},
        "pictures": answer.get("pictures") or [],
        "checks": answer.get("checks") or [],
        "references": shown,
        "batch": batch,
        "usd": spent / nanos(1),
    }


_ANSWERS = frozenset(tables.index_schema(()).names) & {*tables.staged_schema().names, "earlier", "made_in"}


def _keep(run: Run, name: str, rows: list[dict[str, Any]], schema: Any) -> File | None:
    return tables.keep(run.storage, name, rows, schema) if rows else None


def _quarantine(run: Run, batch: Batch, strays: list[_Stray]) -> File:
    """Every unclaimed line, with its bytes where no picture of it was written. One is in memory at a time."""
    name = quarantine_file(batch.number)
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as spool:
        for entry in _entries(run, batch, strays):
            digest.update(entry)
            spool.write(entry)
        size = spool.tell()
        spool.seek(0)
        run.storage.put(name, _stream(spool), content_type="application/jsonl")
    return File(name, size, digest.hexdigest())


def _stream(spool: Any) -> BinaryIO:
    return spool  # type: ignore[no-any-return]


def _entries(run: Run, batch: Batch, strays: list[_Stray]) -> Iterator[bytes]:
    raw: dict[int, Any] = {}
    for stray in strays:
        if stray.part not in raw:
            raw = {stray.part: _read(run, staged_file(batch.number, stray.part), ["file", "offset", "raw"])}
        entry = {
            "why": stray.why,
            **{name: stray.row[name] for name in ("wire_id", "outcome", "file", "offset", "length", "spent")},
            "pictures": [picture["path"] for picture in stray.row["pictures"] or []],
            **_bytes_of(raw[stray.part], stray.row["offset"]),
        }
        yield _json(entry) + b"\n"


def _bytes_of(part: Any, offset: int) -> dict[str, str]:
    import pyarrow.compute as pc

    line = part.filter(pc.field("offset") == offset)["raw"][0].as_py()
    if line is None:
        return {}
    try:
        return {"line": line.decode()}
    except UnicodeDecodeError:
        return {"line_base64": base64.b64encode(line).decode()}
