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
from pipeline.problems import did_you_mean
from pipeline.query import chosen
from pipeline.run import Run
from pipeline.state import Batch
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
        yield _part(run, batch, columns, newer.get(batch.number))


def _part(run: Run, batch: Batch, columns: Sequence[str] | None, gone: set[int] | None) -> pa.Table:
    """The rows of one batch, but for those that are gone."""
    assert batch.collected is not None
    assert batch.collected.index is not None
    table = tables.from_parquet(run.storage.read(batch.collected.index.name), columns=columns)
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
    _check(run, columns)
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
    _check(run, columns)
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
    """With the times of the batch, when it was sent and when the provider was done with it, and what people said."""
    ended = batch.ended.at if batch.ended is not None else None
    for name, at in zip(TIMES, (batch.sent_at if batch.submitted else None, ended), strict=True):
        table = table.append_column(name, pa.repeat(pa.scalar(at, _time), len(table)))
    said = [judged.get((batch.number, place), _UNJUDGED) for place in table["place"].to_pylist()]
    for name, values in zip(JUDGED, zip(*said, strict=True) if said else ((), ()), strict=True):
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


_UNJUDGED = (None, None)


def _nothing(run: Run) -> pa.Table:
    schema = tables.index_schema(run.created.columns)
    for name in TIMES:
        schema = schema.append(pa.field(name, _time))
    for name in JUDGED:
        schema = schema.append(pa.field(name, pa.string()))
    return schema.empty_table()


def _check(run: Run, columns: Sequence[str] | None) -> None:
    known = _nothing(run).schema.names
    for place, name in enumerate(columns or ()):
        if name not in known:
            raise BadInput(f"no column {name!r} in the index", hint=did_you_mean(name, known))
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
    match path.suffix:
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


def show(frame: "pd.DataFrame", *, rows: int) -> tuple[list[str], dict[str, Any]]:
    """The first rows for people, and all that is shown for programs."""
    shown = first(frame, rows)
    lines = _table(_narrow(shown, turns=True)) if len(shown) else ["(no rows)"]
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


def told(frame: "pd.DataFrame") -> Iterator[str]:
    """A line for each row, for people who watch them come."""
    narrow = _narrow(frame)
    for row in narrow.itertuples(index=False):
        yield "  ".join(_cell(str(name), value) for name, value in zip(narrow, row, strict=True))


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows as plain values, for programs."""
    return list(_plain(frame))


def _narrow(frame: "pd.DataFrame", *, turns: bool = False) -> "pd.DataFrame":
    usual = ["key", "shot", "variant", "outcome", "width", "height", "usd", "path"]
    if turns and "turn" in frame and frame["turn"].any():
        usual.insert(3, "turn")
    return frame[[name for name in usual if name in frame]] if len(frame.columns) > len(usual) else frame


def _plain(frame: "pd.DataFrame") -> Any:
    return json.loads(frame.to_json(orient="records", date_format="iso"))
