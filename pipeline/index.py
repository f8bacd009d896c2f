"""What came of every request, read back: as a table, or picture by picture."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from pipeline import tables
from pipeline.cell import cell
from pipeline.decisions import Decision, standing
from pipeline.earlier import resolved
from pipeline.errors import BadInput, Unavailable
from pipeline.money import nanos
from pipeline.problems import did_you_mean
from pipeline.query import chosen
from pipeline.run import Run
from pipeline.state import Batch
from pipeline.storage import NotFound, Storage, open_storage

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
        """The bytes that the model made, as a stream. Raises NotFound, which says where they should be."""
        try:
            return self._storage.open(self.row["path"])
        except NotFound:
            raise NotFound(self.path) from None

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()


def parts(run: Run, columns: Sequence[str] | None = None, *, takes: str = "latest") -> Iterator[pa.Table]:
    """The index, a batch at a time. What no record names is not there."""
    newer = _superseded(run) if takes == "latest" else {}
    for batch in run.state.batches:
        if batch.collected is None or batch.collected.index is None:
            continue
        yield _part(run, batch, columns, newer.get(batch.number))


def _part(run: Run, batch: Batch, columns: Sequence[str] | None, gone: set[int] | None) -> pa.Table:
    """The rows of one batch, but for those that are gone."""
    assert batch.collected is not None
    assert batch.collected.index is not None
    table = tables.from_parquet(run.read(batch.collected.index), columns=columns)
    return table.filter(pa.array(n not in gone for n in range(len(table)))) if gone else table


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
        data = run.read(batch.collected.index)
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
    _check(columns, _nothing(run))
    # The rows are chosen by any column, so all are read if there is a choice to make.
    wanted = None if where or columns is None else sorted({"key", "place", *columns} - {*TIMES, *JUDGED})
    newer = _superseded(run) if takes == "latest" else {}
    judged = standing(run)
    found = [
        _joined(_part(run, batch, wanted, newer.get(batch.number)), batch, judged)
        for batch in run.state.batches
        if batch.collected is not None and batch.collected.index is not None
    ]
    return _framed(pa.concat_tables(found) if found else _nothing(run), columns, where)


def read_again(run: Run, *, columns: Sequence[str] | None = None, where: str | None = None) -> "pd.DataFrame":
    """What waits to be asked again, with what came of it last, in those of the index's columns that say so.

    It is in none of the index's files: a row is there once, when its outcome is final.
    """
    nothing = _timed(_as_indexed(run, tables.retry_schema(run.created.columns).empty_table(), 0), None)
    _check(columns, nothing, there="of what waits to be asked again")
    batches = [run.state.batches[number] for number in run.state.retries]
    return _framed(pa.concat_tables([nothing, *(_waiting(run, batch) for batch in batches)]), columns, where)


def _waiting(run: Run, batch: Batch) -> pa.Table:
    """The rows of a batch that are worth another attempt, which nobody has begun yet."""
    return _timed(_as_indexed(run, tables.from_parquet(run.retries(batch.number)), batch.number), batch)


def _as_indexed(run: Run, retries: pa.Table, batch: int) -> pa.Table:
    """A retry file under the names that the index has for the same. What only who asks again reads is left out."""
    table = retries.rename_columns([name.removeprefix("last_") for name in retries.column_names])
    if "text" not in table.column_names:  # settled by an older version
        table = table.append_column("text", pa.nulls(len(table), pa.string()))
    usd = [spent / nanos(1) for spent in table["spent"].to_pylist()]
    table = table.append_column("batch", pa.repeat(pa.scalar(batch, pa.int32()), len(table)))
    table = table.append_column("usd", pa.array(usd, pa.float64()))
    known = tables.index_schema(run.created.columns).names
    return table.select([name for name in known if name in table.column_names])


FIRST, LATEST = timedelta(seconds=5), timedelta(minutes=5)
"""How soon to look again whether a run has gone on, at first and at last."""

PATIENCE = timedelta(hours=50)
"""No job of a provider is under way for longer: a run of which nothing was recorded for so long has no driver."""


def follow(
    run: Run, *, columns: Sequence[str] | None = None, where: str | None = None
) -> Iterator["pd.DataFrame"]:
    """The index as it grows: the rows of each batch, once, when they are final. Ends when the run does.

    Waits by the run's clock. Raises Unavailable where nobody has moved the run on for longer than any job takes.
    """
    _check(columns, _nothing(run))
    _framed(_nothing(run), columns, where)  # words that cannot be read are refused before anything is there
    told: set[int] = set()
    heard, known, pause = run.clock.now(), -1, FIRST
    while True:
        run.catch_up()
        for batch in run.state.batches:
            if batch.collected is None or batch.number in told:
                continue
            told.add(batch.number)
            if batch.collected.index is not None:
                yield _framed(_joined(_part(run, batch, None, None), batch, standing(run)), columns, where)
        if run.state.finished:
            return
        now = run.clock.now()
        if run.state.next != known:
            heard, known, pause = now, run.state.next, FIRST
        elif now - heard > PATIENCE:
            raise Unavailable(
                f"{run.name}: nothing has happened to it for {PATIENCE.total_seconds() / 3600:.0f} hours",
                hint=f"nobody seems to drive it; nightshoot status {run.name} says how far it is",
            )
        run.clock.sleep(pause.total_seconds())
        pause = min(pause * 1.5, LATEST)


TIMES = ("sent_at", "ended_at")
"""Columns that the journal fills when the index is read: its files say the same whenever they were written."""

JUDGED = ("decision", "decision_reason")
"""Columns that review/ fills: a picture may be judged long after its row is final."""

_time = pa.timestamp("us", tz="UTC")


def _joined(table: pa.Table, batch: Batch, judged: Mapping[tuple[int, int], Decision]) -> pa.Table:
    """With the times of the batch, and what people said."""
    table = _timed(table, batch)
    said = [judged.get((batch.number, place), _UNJUDGED) for place in table["place"].to_pylist()]
    for name, values in zip(JUDGED, zip(*said, strict=True) if said else ((), ()), strict=True):
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


_UNJUDGED = (None, None)


def _timed(table: pa.Table, batch: Batch | None) -> pa.Table:
    """With when the batch was sent, and when the provider was done with it."""
    sent = batch.sent_at if batch is not None and batch.submitted else None
    ended = batch.ended.at if batch is not None and batch.ended is not None else None
    for name, at in zip(TIMES, (sent, ended), strict=True):
        table = table.append_column(name, pa.repeat(pa.scalar(at, _time), len(table)))
    return table


def _nothing(run: Run) -> pa.Table:
    nothing = _timed(tables.index_schema(run.created.columns).empty_table(), None)
    for name in JUDGED:
        nothing = nothing.append_column(name, pa.array([], pa.string()))
    return nothing


def _check(columns: Sequence[str] | None, nothing: pa.Table, *, there: str = "in the index") -> None:
    known = nothing.schema.names
    for place, name in enumerate(columns or ()):
        if name not in known:
            raise BadInput(f"no column {name!r} {there}", hint=did_you_mean(name, known))
        if columns is not None and name in columns[:place]:
            raise BadInput(f"column {name!r} is named twice", hint="name each column once")


def _framed(table: pa.Table, columns: Sequence[str] | None, where: str | None) -> "pd.DataFrame":
    frame = _to_pandas(table)
    if where is not None:
        frame = chosen(frame, where)
    return frame if columns is None else frame[list(columns)]


def _to_pandas(table: pa.Table) -> "pd.DataFrame":
    """Whole numbers stay whole where some are missing too, also within lists and structs."""
    import pandas as pd

    whole = {pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole.get, integer_object_nulls=True)
    return frame


def pictures(run: Run) -> Iterator[Shown]:
    """Every final picture with its row, in order, a batch in memory at a time."""
    for part in parts(run):
        for row in tables.rows_of(part):
            if row["path"] is not None:
                yield Shown(row, home_of(row, run))


def home_of(row: Mapping[str, Any], run: Run) -> Storage:
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
    match path.suffix.lower():
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".csv":
            _unnested(frame).to_csv(path, index=False)
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, date_format="iso", force_ascii=False)
        case _:
            raise BadInput(f"{path}: no format {path.suffix!r}", hint="name a .csv, .jsonl or .parquet file")


def _unnested(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Lists and structs as JSON: a cell of a CSV holds one text."""
    import numpy as np

    nested = [str(name) for name in frame if any(isinstance(each, dict | np.ndarray) for each in frame[name])]
    plain = _plain(frame[nested]) if nested else []
    return frame.assign(
        **{name: [json.dumps(row[name], ensure_ascii=False) for row in plain] for name in nested}
    )


def show(frame: "pd.DataFrame", *, rows: int, narrow: bool = True) -> tuple[list[str], dict[str, Any]]:
    """The first rows for people, with all columns or the usual ones, and with all for programs."""
    shown = first(frame, rows)
    seen = _narrow(shown, turns=True) if narrow else shown
    lines = _table(seen) if len(shown) else ["(no rows)"]
    if len(shown) < len(frame):
        lines.append(f"... {len(frame) - len(shown):,} more rows; --rows 0 shows all")
    document = {"rows": len(frame), "index": _plain(shown)}
    return lines, document


def first(frame: "pd.DataFrame", rows: int) -> "pd.DataFrame":
    """So many rows; 0: all."""
    return frame.head(rows) if rows else frame


def _table(frame: "pd.DataFrame") -> list[str]:
    """A line for the names, and one for each row, whatever is in its cells."""
    from pandas.api.types import is_float_dtype

    texts = frame.copy(deep=False)
    for name in frame:
        if not is_float_dtype(frame[name].dtype):  # those pandas lines up by their points
            texts[name] = [_cell(str(name), value) for value in frame[name]]
    texts.columns = [cell(name) for name in frame]
    return texts.to_string(index=False, na_rep="-").splitlines()


def _cell(name: str, value: Any) -> str:
    """A path is of use whole only, and as long as we made it."""
    return cell(value, widest=sys.maxsize) if name == "path" else cell(value)


def told(frame: "pd.DataFrame", *, narrow: bool = True) -> Iterator[str]:
    """A line for each row, for people who watch them come."""
    seen = _narrow(frame) if narrow else frame
    for row in seen.itertuples(index=False):
        yield "  ".join(_cell(str(name), value) for name, value in zip(seen, row, strict=True))


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows as plain values, for programs."""
    return list(_plain(frame))


def _narrow(frame: "pd.DataFrame", *, turns: bool = False) -> "pd.DataFrame":
    """The columns that most people look for first."""
    usual = ["key", "shot", "variant", "outcome", "width", "height", "usd", "path"]
    if "path" not in frame:  # what waits has no picture, and reasons instead
        why = [name for name in ("reason", "message", "text") if name in frame and frame[name].notna().any()]
        usual = ["key", "shot", "variant", "outcome", "attempt", "usd", *why]
    if turns and "turn" in frame and frame["turn"].any():
        usual.insert(3, "turn")
    if "made_in" in frame and frame["made_in"].notna().any():
        usual.append("made_in")  # or nobody would find what an earlier run has
    return frame[[name for name in usual if name in frame]]


def _plain(frame: "pd.DataFrame") -> Any:
    return json.loads(frame.to_json(orient="records", date_format="iso"))
