"""What came of every request, read back: as a table, or picture by picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from pipeline import tables
from pipeline.earlier import resolved
from pipeline.errors import BadInput
from pipeline.problems import did_you_mean
from pipeline.run import Run
from pipeline.storage import Storage, open_storage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a run: its row of the index, and its bytes on demand."""

    row: dict[str, Any]
    _storage: Storage

    @property
    def path(self) -> str:
        """Where it lies, as a person would open it."""
        return f"{self._storage.url}/{self.row['path']}"

    def open(self) -> BinaryIO:
        """The bytes that the model made, as a stream."""
        return self._storage.open(self.row["path"])

    def read(self) -> bytes:
        return self._storage.read(self.row["path"])


def parts(run: Run, columns: Sequence[str] | None = None, *, takes: str = "latest") -> Iterator[pa.Table]:
    """The index, a batch at a time. What no record names is not there."""
    newer = _superseded(run) if takes == "latest" else {}
    for batch in run.state.batches:
        if batch.collected is None or batch.collected.index is None:
            continue
        data = run.storage.read(batch.collected.index.name)
        table = tables.from_parquet(data, columns=columns)
        if gone := newer.get(batch.number):
            table = table.filter(pa.array(n not in gone for n in range(len(table))))
        yield table


_WHICH = ["key", "shot", "variant", "turn", "take"]


def _superseded(run: Run) -> dict[int, set[int]]:
    """Of each batch, the rows of its index that a later take has answered."""
    if not any(batch.taken for batch in run.state.batches):
        return {}
    latest: dict[tuple[Any, ...], tuple[int, int, int]] = {}
    gone: dict[int, set[int]] = {}
    for batch in run.state.batches:
        if batch.collected is None or batch.collected.index is None:
            continue
        data = run.storage.read(batch.collected.index.name)
        for number, row in enumerate(tables.rows_of(tables.from_parquet(data, columns=_WHICH))):
            *which, take = (row[name] for name in _WHICH)
            this = (take, batch.number, number)
            older = min(this, latest.get(tuple(which), this))
            latest[tuple(which)] = max(this, latest.get(tuple(which), this))
            if older != latest[tuple(which)]:
                gone.setdefault(older[1], set()).add(older[2])
    return gone


def read_index(
    run: Run, *, columns: Sequence[str] | None = None, where: str | None = None, takes: str = "latest"
) -> "pd.DataFrame":
    """All of the index, or the columns and rows that are asked for. `where` is a pandas query.

    Of a picture that was asked for once more the latest answer counts; takes="all" has the earlier ones too.
    """
    schema = tables.index_schema(run.created.columns)
    unknown = [name for name in columns or () if name not in schema.names]
    if unknown:
        raise BadInput(f"no column {unknown[0]!r} in the index", hint=did_you_mean(unknown[0], schema.names))
    # The rows are chosen by any column, so all are read if there is a choice to make.
    found = list(parts(run, None if where else columns, takes=takes))
    table = pa.concat_tables(found) if found else schema.empty_table()
    frame: pd.DataFrame = table.to_pandas()
    if where is not None:
        frame = _chosen(frame, where)
    return frame if columns is None else frame[list(columns)]


def _chosen(frame: "pd.DataFrame", where: str) -> "pd.DataFrame":
    try:
        return frame.query(where)
    except (ValueError, SyntaxError, KeyError, TypeError, NameError, AttributeError) as error:
        raise BadInput(
            f"--where {where}: {error}",
            hint="write it as in \"outcome != 'ok'\", names with dots in backticks",
        ) from error


def pictures(run: Run) -> Iterator[Shown]:
    """Every final picture with its row, in order, a batch in memory at a time."""
    for part in parts(run):
        for row in tables.rows_of(part):
            if row["path"] is not None:
                yield Shown(row, _home_of(row, run))


def _home_of(row: dict[str, Any], run: Run) -> Storage:
    """Where its picture is: an earlier run's pictures stay there."""
    if row["made_in"] is None:
        return run.storage
    return open_storage(resolved(row["made_in"], run.storage.url.rpartition("/")[0]))


def write(frame: "pd.DataFrame", path: Path) -> None:
    """The table into one file, by its name."""
    try:
        _write(frame, path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from error


def _write(frame: "pd.DataFrame", path: Path) -> None:
    match path.suffix:
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".csv":
            frame.to_csv(path, index=False)
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, date_format="iso", force_ascii=False)
        case _:
            raise BadInput(f"{path}: no format {path.suffix!r}", hint="name a .csv, .jsonl or .parquet file")


def show(frame: "pd.DataFrame", *, rows: int) -> tuple[list[str], dict[str, Any]]:
    """The first rows for people, and all that is shown for programs."""
    shown = frame if rows == 0 else frame.head(rows)
    usual = ["key", "shot", "variant", "outcome", "width", "height", "usd", "path"]
    narrow = shown[[name for name in usual if name in shown]] if len(shown.columns) > len(usual) else shown
    lines = narrow.to_string(index=False).splitlines() if len(shown) else ["(no rows)"]
    if len(shown) < len(frame):
        lines.append(f"... {len(frame) - len(shown):,} more rows; --rows 0 shows all")
    document = {"rows": len(frame), "index": _plain(shown)}
    return lines, document


def _plain(frame: "pd.DataFrame") -> Any:
    import json

    return json.loads(frame.to_json(orient="records", date_format="iso"))
