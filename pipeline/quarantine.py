"""Lines that nobody claims, kept with their bytes: what was billed and not asked for is there to be looked at."""

import base64
import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, BinaryIO

import msgspec

from pipeline import staged
from pipeline.backends.base import Backend, Missing
from pipeline.errors import Corrupt, Unavailable
from pipeline.events import File
from pipeline.joined import Joined
from pipeline.run import Run, quarantine_file, staged_file
from pipeline.spool import spool
from pipeline.state import Batch
from pipeline.storage.base import AlreadyThere, Storage

_TRIPLETS = 3 << 18
"""Bytes at a time whose base64 can be joined."""

_json = msgspec.json.Encoder(order="deterministic").encode


def quarantine(run: Run, backend: Backend, batch: Batch, found: Joined) -> File:
    """Every unclaimed line: with its bytes, or where pictures of it were written with what it said beside them. One is
    in memory at a time."""
    name = quarantine_file(batch.number)
    digest = hashlib.sha256()
    with spool() as file:
        for piece in _entries(run, backend, batch, found):
            digest.update(piece)
            file.write(piece)
        size = file.tell()
        file.seek(0)
        try:
            run.storage.put(name, file, content_type="application/jsonl")
        except AlreadyThere:
            file.seek(0)
            return _there(run.storage, name, file)
    return File(name, size, digest.hexdigest())


def _there(storage: Storage, name: str, ours: BinaryIO) -> File:
    """What somebody else put there. It may have bytes of lines that are gone by now; the lines are the same."""
    digest, size = hashlib.sha256(), 0
    with storage.open(name) as theirs:
        for one, other in zip_longest(iter(theirs.readline, b""), iter(ours.readline, b"")):
            if one is None or other is None or _which(one) != _which(other):
                raise Corrupt(
                    f"{storage.url}: {name} is there with other lines than were worked out now",
                    hint="two drivers disagree; the program versions may differ between them",
                )
            digest.update(one)
            size += len(one)
    return File(name, size, digest.hexdigest())


def _which(entry: bytes) -> list[Any]:
    line = msgspec.json.decode(entry)
    return [line[name] for name in ("why", "wire_id", "outcome", "file", "offset", "length", "spent")]


def _entries(run: Run, backend: Backend, batch: Batch, found: Joined) -> Iterator[bytes]:
    """The quarantine's lines, in pieces."""
    for stray, line in zip(found.strays, _bytes_of(run, batch, found), strict=True):
        row = found.line(stray.line)
        is_whole = line is not None and len(line) == row["length"]
        entry = _json(
            {
                "why": stray.why,
                **{name: row[name] for name in ("wire_id", "outcome", "file", "offset", "length", "spent")},
                "pictures": [
                    each["path"] for each in (*(row["pictures"] or []), *(row["thought_pictures"] or []))
                ],
                **({name: row[name] for name in _SAID if row[name] is not None} if row["pictures"] else {}),
                **({"line_file": row["kept"]} if row["kept"] else {}),
                **(_readable(line) if line is not None and is_whole else {}),
            }
        )
        if is_whole or row["kept"] or row["pictures"]:
            yield entry + b"\n"
        else:
            yield from _with_its_bytes(entry, _base64_of(backend, batch, row))


_SAID = (
    *("reason", "message", "text", "thoughts", "grounding", "safety_scores", "enhanced_prompt"),
    *("model_version", "response_id"),
)
"""What is told of an answer beside its pictures, which are kept as files."""


def _with_its_bytes(entry: bytes, encoded: Iterator[bytes]) -> Iterator[bytes]:
    try:
        first = next(encoded, b"")
    except Missing:  # the result is gone by now: that must not keep the batch from being settled
        yield entry + b"\n"
        return
    yield entry[:-1] + b',"line_base64":"' + first
    yield from encoded
    yield b'"}\n'


def _bytes_of(run: Run, batch: Batch, found: Joined) -> Iterator[bytes | None]:
    """What was kept of each stray. Those of one part follow each other, but for a few: one part is in memory."""
    part, raw = -1, None
    for stray in found.strays:
        place = bisect_right(found.starts, stray.line) - 1
        if place != part:
            part, raw = place, None  # one at a time
            raw = staged.column_in(run.storage, staged_file(batch.number, place), "raw")
        assert raw is not None
        yield raw[stray.line - found.starts[part]]


def _readable(line: bytes) -> dict[str, str]:
    try:
        return {"line": line.decode()}
    except UnicodeDecodeError:
        return {"line_base64": base64.b64encode(line).decode()}


def _base64_of(backend: Backend, batch: Batch, row: dict[str, Any]) -> Iterator[bytes]:
    """A line that was not kept when it came, for it is long, streamed once more."""
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
