"""CSV and its relatives: any of , ; tab | between the cells, told from the header line."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source, checked_columns
from pipeline.manifest.text import TextFile, examine, readable

_DELIMITERS = "\t;|,"


def read(path: Path) -> Source:
    """A table whose first line names its columns."""
    text = examine(path)
    with readable(path), text.open(newline="") as lines:
        delimiter = _delimiter_of(next((line for line in lines if line.strip()), ""))
    with readable(path), text.open(newline="") as lines:
        header = next((cells for _, cells in _records(lines, path, delimiter=delimiter)), [])
    columns = checked_columns(header, path=path)
    kind = {"\t": "TSV", ",": "CSV"}.get(delimiter, "table")
    return Source(
        columns, text.warnings, lambda: _lines(text, delimiter=delimiter, width=len(columns)), kind=kind
    )


def _lines(text: TextFile, *, delimiter: str, width: int) -> Iterator[Line]:
    with readable(text.path), text.open(newline="") as lines:
        for number, cells in itertools.islice(_records(lines, text.path, delimiter=delimiter), 1, None):
            if len(cells) == width:
                yield Line(number, cells)
            elif len(cells) < width:  # spreadsheets leave out what is empty at the end of a line
                yield Line(number, cells + [""] * (width - len(cells)))
            elif any(cells[width:]):
                trouble = f"{len(cells)} cells under {width} columns: a {_NAMES[delimiter]} without quotes?"
                yield Line(number, cells[:width], trouble, raw=delimiter.join(cells))
            else:
                yield Line(number, cells[:width])


def _records(lines: Iterator[str], path: Path, *, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every record that says something, with the line it starts on. A line of nothing is no row."""
    reader = csv.reader(lines, delimiter=delimiter)
    start = 1
    try:
        for cells in reader:
            if any(cells):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        hint = "is a quote opened there and never closed?"
        raise BadInput(f"{path}:{start}: cannot be read as a table: {error}", hint=hint) from error


_NAMES = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}


def _delimiter_of(header: str) -> str:
    """The most frequent one outside quotes. Cells hold commas too, so only the header is asked."""
    bare = "".join(header.split('"')[::2])
    best = max(_DELIMITERS, key=bare.count)
    return best if best in bare else ","
