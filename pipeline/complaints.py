"""Every problem of every row, in a table that a person opens beside the manifest."""

import csv
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from pipeline.problems import Problem
from pipeline.survey import Survey, requests_of

FILE = "problems.csv"
HEADER = ("file", "row", "key", "column", "value", "problem", "hint")


def write_problems(found: Survey, path: Path) -> int:
    """Write them all, a row at a time, reading the manifest once more. How many there are."""
    count = 0
    # With a byte order mark, and lines as Excel ends them: that is where it will be opened.
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for _, asked in groupby(requests_of(found), key=lambda request: request.row):
            told: dict[Problem, str] = {}
            for request in asked:
                told.update(dict.fromkeys(request.problems, request.key))
            count += _write(writer, told.items())
    return count


def _write(writer: object, told: Iterable[tuple[Problem, str]]) -> int:
    lines = [
        [problem.where, problem.row, key, problem.column, problem.value, problem.message, problem.hint]
        for problem, key in told
    ]
    writer.writerows([[_harmless(cell) for cell in line] for line in lines])  # type: ignore[attr-defined]
    return len(lines)


def _harmless(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
