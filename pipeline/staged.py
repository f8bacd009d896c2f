"""What each part of a result held, a row for each of its lines, until its batch is settled.

What it fears: a result that is larger than memory, and a file that was cut or changed. All other tables of a run are
Parquet, which is made to be small and to be read for a few columns. A part has eighty columns, often no more than
thirty rows, and is read once and whole: a stream in Arrow's own format is written and read in a fraction of the time.
It proves nothing of itself, so its digest stands behind it.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import SEEK_END
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.errors import Corrupt
from pipeline.spool import spool
from pipeline.storage.base import AlreadyThere, Storage
from pipeline.tables import AT_HAND, STAGED

_TYPE = "application/vnd.apache.arrow.stream"
_DIGEST = hashlib.sha256().digest_size


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
            if not _are_same(rows_in(storage, name), _rows(file, STAGED.names)):
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


def column_in(storage: Storage, name: str, column: str) -> pa.ChunkedArray:
    """One column of a part, whole."""
    with _fetched(storage, name) as file:
        pieces = [batch.column(column) for batch in _batches(file, [column])]
        return pa.chunked_array(pieces, type=STAGED.field(column).type)


@contextmanager
def _fetched(storage: Storage, name: str) -> Iterator[BinaryIO]:
    """A part's file, on this machine, proven whole."""
    with spool() as file:
        with storage.open(name) as there:
            shutil.copyfileobj(there, file)
        size = file.seek(0, SEEK_END) - _DIGEST
        file.seek(max(0, size))
        digest = file.read()
        file.truncate(max(0, size))
        file.seek(0)
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise Corrupt(
                f"{storage.url}: {name} was cut or changed",
                hint="restore it, or remove it to have its part of the result fetched again",
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
    try:
        return all(one == other for one, other in zip(some, others, strict=True))
    except ValueError:  # one has more of them
        return False
