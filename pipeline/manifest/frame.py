"""A pandas DataFrame as a manifest: what a notebook has instead of a file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.manifest.cells import text_of
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source, checked_columns

if TYPE_CHECKING:
    import pandas as pd

_ROWS_AT_A_TIME = 2000


def read(frame: "pd.DataFrame", *, name: str) -> Source:
    """The frame is read again for each pass: it must not change in between."""
    columns = checked_columns([str(column) for column in frame.columns], path=Path(name))
    return Source(columns, (), lambda: _lines(frame))


def digest(source: Source) -> str:
    """sha256 over the rows as JSON Lines, each an object of texts in the order of the columns."""
    sha256 = hashlib.sha256()
    for line in source.lines():
        row = dict(zip(source.columns, line.cells, strict=True))
        sha256.update(msgspec.json.encode(row) + b"\n")
    return sha256.hexdigest()


def _lines(frame: "pd.DataFrame") -> Iterator[Line]:
    for start in range(0, len(frame), _ROWS_AT_A_TIME):
        some = frame.iloc[start : start + _ROWS_AT_A_TIME]
        columns = [_texts(some.iloc[:, place]) for place in range(some.shape[1])]
        for number, cells in enumerate(zip(*columns, strict=True), start=start + 1):
            yield Line(number, cells)


def _texts(column: "pd.Series") -> list[str]:
    missing = column.isna().tolist()
    return ["" if none else text_of(value) for value, none in zip(column.tolist(), missing, strict=True)]
