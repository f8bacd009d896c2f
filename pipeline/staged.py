"""What each part of a result held, a row for each of its lines, until its batch is settled.

What it fears: a result that is larger than memory, and a file that was cut or changed. All other tables of a run are
Parquet, which is made to be small and to be read for a few columns. A part has eighty columns, nested ones counted,
often no more than thirty rows, and is read once and whole: a stream in Arrow's own format is written and read in a
fraction of the time. It proves nothing of itself, so its digest stands behind it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import SEEK_END
from itertools import islice, zip_longest
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.errors import Corrupt
from pipeline.spool import spool
from pipeline.storage.base import AlreadyThere, Storage
from pipeline.tables import AT_HAND, STAGED

_TYPE = "application/vnd.apache.arrow.stream"
_DIGEST = hashlib.sha256().digest_size
_SAID = [name for name in STAGED.names if name != "raw"]
"""What two drivers have to agree on. The bytes of a line say no more than that, and which are kept may change."""
_PIECE = 16 << 20  # bytes that are fetched at a time: nearly always all of them


def keep(storage: Storage, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put a part's rows under its name, once. Raises Corrupt where somebody else put others there."""
    waiting = iter(rows)
    with spool() as file:
        with pa.ipc.new_stream(file, STAGED) as writer:
            while some := list(islice(waiting, AT_HAND)):
                writer.write_batch(pa.RecordBatch.from_pylist(some, schema=STAGED))
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").digest())
        file.seek(0)
        try:
            storage.put(name, file, content_type=_TYPE)
        except AlreadyThere:
            file.seek(0)
            if not _are_same(rows_in(storage, name, columns=_SAID), _rows(file, _SAID)):
                raise Corrupt(
                    f"{storage.url}: {name} is there with other rows than were worked out now",
                    hint="two drivers disagree; the program versions may differ between them",
                ) from None


def rows_in(
    storage: Storage, name: str, *, columns: Sequence[str] = tuple(STAGED.names)
) -> Iterator[dict[str, Any]]:
    """The rows of a part in their order, a few at a time in memory."""
    with _fetched(storage, name) as file:
        yield from _rows(file, columns)


def column_in(storage: Storage, name: str, column: str) -> list[Any]:
    """One column of a part, and nothing else of it in memory."""
    return [row[column] for row in rows_in(storage, name, columns=[column])]


@contextmanager
def _fetched(storage: Storage, name: str) -> Iterator[BinaryIO]:
    """A part's file, on this machine, proven whole."""
    with spool() as file:
        while len(piece := storage.read(name, start=file.tell(), end=file.tell() + _PIECE)) == _PIECE:
            file.write(piece)
        file.write(piece)
        size = file.seek(0, SEEK_END) - _DIGEST
        file.seek(max(0, size))
        digest = file.read()
        file.truncate(max(0, size))
        file.seek(0)
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise Corrupt(
                f"{storage.url}: {name} was cut or changed",
                hint="restore it; while the provider has the result, removing it has its part fetched again",
            )
        file.seek(0)
        if not size or pa.ipc.read_schema(file) != STAGED:
            raise Corrupt(
                f"{storage.url}: {name} has other columns than this version of nightshoot writes",
                hint="finish the run with the version that began it",
            )
        file.seek(0)
        yield file


def _rows(file: BinaryIO, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for batch in _batches(file, columns):
        yield from batch.to_pylist()


def _batches(file: BinaryIO, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    wanted = [place for place, name in enumerate(STAGED.names) if name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
    with pa.ipc.open_stream(file, options=options) as reader:
        yield from reader


def _are_same(some: Iterator[dict[str, Any]], others: Iterator[dict[str, Any]]) -> bool:
    return all(one == other for one, other in zip_longest(some, others))
