"""The values of an axis, from a file beside the job: a column of a table, or the lines of a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.manifest import Manifest, open_manifest
from pipeline.manifest.text import examine, readable
from pipeline.problems import did_you_mean

MOST_VALUES = 10_000
"""Of one axis: all of them are in the run's first record. What has more is a manifest."""


def is_file(said: Any) -> bool:
    """Whether an axis is said as a file, not as its values."""
    return isinstance(said, str) or (isinstance(said, Mapping) and isinstance(said.get("file"), str))


def values_of(axis: str, said: str | Mapping[str, Any], *, folder: Path) -> dict[str, float]:
    """The values in their order with their weights; one that is there twice weighs twice as much.

    They become part of the job, so that a run holds what it was drawn from, and a file that changed is another job.
    """
    asked = {"file": said} if isinstance(said, str) else dict(said)
    if unknown := asked.keys() - {"file", "column", "weight"}:
        raise BadInput(f"axes.{axis}: unknown key {min(unknown)!r}", hint="it has file, column and weight")
    path = folder / asked["file"]
    pairs = _lines(path) if path.suffix == ".txt" else _cells(axis, path, asked)
    values: dict[str, float] = {}
    for value, weight in pairs:
        values[value] = values.get(value, 0.0) + weight
    if not values:
        raise BadInput(f"{path}: no values for the axis {axis!r}")
    if len(values) > MOST_VALUES:
        raise BadInput(
            f"{path}: {len(values):,} values for the axis {axis!r}, of {MOST_VALUES:,} at most",
            hint="make it the manifest, and the shorter table an axis",
        )
    return values


def _lines(path: Path) -> list[tuple[str, float]]:
    with readable(path), examine(path).open(newline="\n") as lines:
        return [(line.strip(), 1.0) for line in lines if line.strip()]


def _cells(axis: str, path: Path, asked: Mapping[str, Any]) -> list[tuple[str, float]]:
    table = open_manifest(path)
    column = _column(table, asked.get("column"), axis=axis)
    weights = None if "weight" not in asked else _column(table, asked["weight"], axis=axis)
    found = []
    for row in table.rows():
        if row.trouble:
            raise BadInput(f"{path}: row {row.line}: {row.trouble}")
        if value := row.fields[column].strip():
            weight = 1.0 if weights is None else _weight(row.fields[weights], f"{path}: row {row.line}")
            found.append((value, weight))
    return found


def _column(table: Manifest, name: Any, *, axis: str) -> str:
    """The column that is named; unsaid: the one called like the axis, or the only one there is."""
    wanted = axis if name is None else name
    if wanted in table.columns:
        return str(wanted)
    if name is None and len(table.columns) == 1:
        return table.columns[0]
    hint = f'{did_you_mean(str(wanted), table.columns)} Say it: {axis} = {{ file = "…", column = "…" }}'
    raise BadInput(f"{table.path}: no column {wanted!r} for the axis {axis!r}", hint=hint)


def _weight(cell: str, where: str) -> float:
    try:
        weight = float(cell.replace(",", "."))
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise BadInput(f"{where}: weight {cell!r} is no number above 0")
    return weight
