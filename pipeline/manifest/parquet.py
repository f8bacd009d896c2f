"""Parquet: read a few thousand rows at a time, whatever the size of its row groups."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.manifest.cells import text_of
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source, checked_columns

_ROWS_AT_A_TIME = 2000


def read(path: Path) -> Source:
    """Columns of bytes are left out, with a warning: a cell is text."""
    import pyarrow as pa

    schema = _opened(path).schema_arrow
    bytes_like = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    names = [name for name in schema.names if name not in bytes_like]
    warnings = tuple(f"{path}: column {name!r} holds bytes and is left out" for name in bytes_like)
    return Source(checked_columns(names, path=path), warnings, lambda: _lines(path, names=names))


def _lines(path: Path, *, names: list[str]) -> Iterator[Line]:
    import pyarrow as pa

    number = 0
    try:
        for batch in _opened(path).iter_batches(batch_size=_ROWS_AT_A_TIME, columns=names):
            columns = [_texts(batch.column(name)) for name in names]
            for cells in zip(*columns, strict=True):
                number += 1
                yield Line(number, cells)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: broken after row {number:,}: {error}") from error


def _texts(column: Any) -> list[str]:
    return [value if type(value) is str else text_of(value) for value in column.to_pylist()]


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: no readable Parquet file: {error}") from error
