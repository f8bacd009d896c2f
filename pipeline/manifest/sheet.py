"""A spreadsheet as it was saved: `products.xlsx#Sheet` is one sheet of it, `products.xlsx` the first."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.manifest.cells import text_of
from pipeline.manifest.row import Line, key_column
from pipeline.manifest.source import Source, checked_columns
from pipeline.problems import did_you_mean

_LOOKED_AT = 100


def read(path: Path, sheet: str | None) -> Source:
    """The first line that says something names the columns. The sheet is in memory while its lines are read."""
    header = next(_records(path, sheet), None)
    if header is None:
        raise BadInput(f"{path}: an empty sheet", hint="its first line names the columns")
    cells = list(header[1])
    while cells and not cells[-1].strip():  # formatting reaches further than the table
        cells.pop()
    columns = checked_columns(cells, path=path)
    source = Source(columns, (), lambda: _lines(path, sheet, width=len(columns)), kind="spreadsheet")
    return Source(columns, _lost_zeros(path, sheet, columns), source.lines, kind=source.kind)


def _lines(path: Path, sheet: str | None, *, width: int) -> Iterator[Line]:
    for number, cells in islice(_records(path, sheet), 1, None):
        padded = [*cells, *[""] * (width - len(cells))]
        if any(padded[width:]):
            trouble = f"cells behind the last column, in {len(cells)} of {width}"
            yield Line(number, padded[:width], trouble, raw="\t".join(cells))
        else:
            yield Line(number, padded[:width])


def _records(path: Path, sheet: str | None) -> Iterator[tuple[int, list[str]]]:
    """Every line that says something, with its number, which is what the spreadsheet shows."""
    for number, values in _values(path, sheet):
        cells = [text_of(value) for value in values]
        if any(cell.strip() for cell in cells):
            yield number, cells


def _values(path: Path, sheet: str | None) -> Iterator[tuple[int, Sequence[Any]]]:
    calamine = _calamine(path)
    try:
        with path.open("rb") as file, calamine.CalamineWorkbook.from_filelike(file) as book:
            if sheet is not None and sheet not in book.sheet_names:
                hint = did_you_mean(sheet, book.sheet_names)
                raise BadInput(f"{path}: no sheet {sheet!r}", hint=hint)
            chosen = book.get_sheet_by_name(sheet) if sheet is not None else book.get_sheet_by_index(0)
            yield from enumerate(chosen.iter_rows(), start=1)  # empty lines above the table are counted
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise BadInput(
            f"{path}: cannot be read as a spreadsheet: {error}", hint="save it once more, or as CSV in UTF-8"
        ) from error


def _lost_zeros(path: Path, sheet: str | None, columns: tuple[str, ...]) -> tuple[str, ...]:
    """A key that is a number has lost its leading zeros long before we see it; we can only say so."""
    key = key_column(columns)
    if key is None:
        return ()
    place = columns.index(key)
    rows = (values for _, values in islice(_values(path, sheet), 1, _LOOKED_AT))
    if not any(isinstance(row[place], int | float) for row in rows if len(row) > place):
        return ()
    return (
        f"{path}: {key!r} holds numbers: zeros in front of them, if there were any, were lost in the spreadsheet",
    )


def _calamine(path: Path) -> Any:
    try:
        import python_calamine
    except ImportError as error:
        raise BadInput(
            f"{path}: a spreadsheet, and what reads those is not installed",
            hint="pip install 'nightshoot[xlsx]', or save it as CSV in UTF-8 and give that file",
        ) from error
    return python_calamine
