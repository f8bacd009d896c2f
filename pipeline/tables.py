"""The schemas of a run's tables, written down once, and how such files are written and read."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedRandom, BytesIO
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.checks import MEASURED
from pipeline.errors import Corrupt
from pipeline.events import File
from pipeline.spool import spool
from pipeline.storage.base import AlreadyThere, Storage

USER = "row."
"""What the user's columns are prefixed with, so that they never meet ours."""

ROW_GROUP = 1_000
"""Rows that are in memory together where a file is read or written a few at a time; a scan skips as many by their
statistics. Half as many would make files a quarter larger."""

FEW_TOGETHER = 500
"""The same where a file is read a few rows at a time, over and over."""

AT_HAND = 200
"""Rows that are held as Python values: those take ten times the memory."""

_word = pa.dictionary(pa.int32(), pa.string())  # few values, often repeated
_time = pa.timestamp("us", tz="UTC")

_NUMBERS = pa.struct([(name, pa.float64()) for name in MEASURED])
_PICTURE = pa.struct(
    [
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mime", pa.string()),
        ("declared_mime", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        # final; interleaved: one of those before it; alternative: a result as good as it; thought: a draft, no result
        ("role", pa.string()),
        ("mark", pa.string()),
        ("checks", pa.list_(pa.string())),
        ("numbers", _NUMBERS),
        ("enhanced_prompt", pa.string()),
    ]
)
_PART = pa.struct(
    [
        ("kind", pa.string()),  # text or picture
        ("text", pa.string()),  # what was said; of a picture that is no whole one, why
        ("path", pa.string()),
    ]
)
_SHOWN = pa.struct(
    [
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("mime", pa.string()),
        ("made_from", pa.string()),
        ("role", pa.string()),  # object, person, style, background
    ]
)
_PINNED = pa.struct(
    [
        *_SHOWN,
        pa.field("rule", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("generation", pa.int64()),  # of the object that was read, where its very bytes are sent
    ]
)

_WHICH = [
    ("key", pa.string()),
    ("shot", _word),
    ("variant", pa.int16()),
    ("turn", pa.int16()),
    ("take", pa.int16()),
]

_ANSWER: list[tuple[str, pa.DataType]] = [
    ("outcome", _word),
    ("reason", _word),
    ("message", pa.string()),
    ("path", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("mime", _word),
    ("bytes", pa.int64()),
    ("sha256", pa.string()),
    ("pictures", pa.list_(_PICTURE)),
    ("text", pa.string()),
    ("grounding", pa.string()),  # JSON, as the provider wrote it
    ("checks", pa.list_(pa.string())),
    ("numbers", _NUMBERS),
    ("parts", pa.list_(_PART)),
    ("thoughts", pa.string()),
    ("thought_pictures", pa.list_(_PICTURE)),
    ("enhanced_prompt", pa.string()),  # what the service made of it
    ("safety_scores", pa.string()),  # JSON, as the provider wrote it
]

_TOKENS = [
    ("prompt_tokens", pa.int64()),
    ("reference_tokens", pa.int64()),
    ("image_tokens", pa.int64()),
    ("text_tokens", pa.int64()),
    ("thought_tokens", pa.int64()),
    ("searches", pa.int32()),
]

_ANSWERED: list[tuple[str, pa.DataType]] = [("response_id", pa.string()), ("answered_at", _time)]

_IMAGEN = pa.struct(  # what only Imagen is asked
    [
        ("pictures", pa.int16()),
        ("negative_prompt", pa.string()),
        ("person_generation", pa.string()),
        ("safety_filter", pa.string()),
        ("guidance", pa.float64()),
        ("language", pa.string()),
        ("enhance_prompt", pa.bool_()),
        ("watermark", pa.bool_()),
        ("output", pa.string()),
        ("quality", pa.int16()),
        ("safety_scores", pa.bool_()),
    ]
)
_SETTINGS = [
    ("aspect_ratio", _word),
    ("image_size", _word),
    ("modalities", pa.list_(pa.string())),
    ("thinking", _word),
    ("search", pa.list_(pa.string())),
    ("seed", pa.int64()),
    ("temperature", pa.float64()),
    ("top_p", pa.float64()),
    ("top_k", pa.int32()),
    ("safety", pa.list_(pa.string())),  # harassment=high
    ("store", pa.bool_()),
    ("include_thoughts", pa.bool_()),
    ("imagen", _IMAGEN),
]

_EFFECTIVE = pa.struct(
    [("aspect_ratio", pa.string()), ("image_size", pa.string()), ("thinking", pa.string())]
)

_CARRIED = [
    ("earlier", _word),  # of what is reused: the outcome it had
    ("made_in", pa.string()),  # and the run whose directory holds its picture: a sibling's name, or a place
]

_SOURCE = pa.struct([(name, pa.string()) for name in ("kind", "title", "uri", "image_uri", "domain")])
_GROUNDED: list[tuple[str, pa.DataType]] = [  # what `grounding` says, in columns
    ("sources", pa.list_(_SOURCE)),
    ("web_queries", pa.list_(pa.string())),
    ("image_queries", pa.list_(pa.string())),
    ("search_chip", pa.string()),
]
_PARENT = pa.struct(
    [("key", pa.string()), ("shot", pa.string()), ("variant", pa.int16()), ("turn", pa.int16())]
)
_GOES_ON: list[tuple[str, pa.DataType]] = [
    ("continued", _word),  # how a follow-up goes on: conversation, or picture
    ("parent", _PARENT),  # of another row: the request whose picture this one edits
]

_INDEX = [
    *_WHICH,
    *_ANSWER,
    ("prompt", pa.string()),
    ("system", pa.string()),
    ("model", _word),
    ("model_version", _word),
    *_SETTINGS,
    ("effective", _EFFECTIVE),
    ("references", pa.list_(_SHOWN)),
    ("fingerprint", pa.string()),
    ("batch", pa.int32()),
    ("place", pa.int32()),
    ("attempt", pa.int16()),
    *_TOKENS,
    ("usd", pa.float64()),
    *_ANSWERED,
    *_CARRIED,
    *_GROUNDED,
    *_GOES_ON,
]

_ANSWER_OF_ANOTHER = pa.struct(
    [
        (name, pa.string() if kind is _word else kind)
        for name, kind in [*_ANSWER, ("model_version", _word), *_ANSWERED, *_CARRIED]
    ]
)

_PLAN = [
    ("place", pa.int32()),
    ("row", pa.int64()),
    *_WHICH,
    ("attempt", pa.int16()),
    ("prompt", pa.string()),
    ("system", pa.string()),
    ("model", _word),
    *_SETTINGS,
    ("references", pa.list_(_PINNED)),
    ("fingerprint", pa.string()),
    ("refusal", pa.string()),
    ("carried", _ANSWER_OF_ANOTHER),  # what an earlier run answered
    ("likely", pa.int64()),  # billionths of a dollar
    ("high", pa.int64()),
    ("spent", pa.int64()),  # on earlier attempts
    ("turns", pa.string()),  # the follow-ups still to come: JSON, a list of the columns of their rows
    ("after", pa.string()),  # the fingerprint of the request that this one goes on from
    ("context", pa.int32()),  # tokens that its history adds, about
    ("history", pa.string()),  # the conversation before it: JSON, the contents as the provider reads them
    *_GOES_ON,
]

_STAGED: list[tuple[str, pa.DataType]] = [
    ("wire_id", pa.string()),  # a line that cannot be read has none
    ("file", _word),
    ("offset", pa.int64()),  # of the line's first byte in its result file: decides between several answers
    ("length", pa.int64()),
    *_ANSWER,
    ("model_version", _word),
    *_TOKENS,
    ("spent", pa.int64()),
    *_ANSWERED,
    ("likeness", pa.binary()),  # of the final picture, for comparing it with others of its batch
    ("said", pa.string()),  # the model's parts, where another turn goes on from them: JSON
    ("raw", pa.binary()),  # the line itself, where nobody claims it or it has no picture
    ("kept", pa.string()),  # or the file that holds it, where it is long
]

STAGED = pa.schema([(name, pa.string() if kind == _word else kind) for name, kind in _STAGED])
"""What one part of a result held, a row for each line. Not Parquet: its words are written out."""


_REVIEW: list[tuple[str, pa.DataType]] = [
    *_WHICH,
    ("decision", _word),  # approved, rejected
    ("reason", pa.string()),  # in the words of who decided
    ("batch", pa.int32()),
    ("place", pa.int32()),
    ("sha256", pa.string()),  # of the picture that was judged
]


def _users(columns: Sequence[str]) -> list[tuple[str, pa.DataType]]:
    return [(USER + column, pa.string()) for column in columns]


def index_schema(columns: Sequence[str]) -> pa.Schema:
    """Requests whose outcome is final. Flat columns for the final picture, so that nobody unnests for it."""
    return pa.schema(_INDEX + _users(columns))


def plan_schema(columns: Sequence[str]) -> pa.Schema:
    """The requests of a batch, as asked."""
    return pa.schema(_PLAN + _users(columns))


def retry_schema(columns: Sequence[str]) -> pa.Schema:
    """The requests of a batch that are worth another attempt, and what came of the last one."""
    last = [
        ("last_outcome", _word),
        ("last_reason", _word),
        ("last_message", pa.string()),
        ("last_text", pa.string()),  # what the model said instead
    ]
    return pa.schema(_PLAN + last + _users(columns))


def turns_schema(columns: Sequence[str]) -> pa.Schema:
    """The requests that follow those of a batch, as they will be asked; their places are those they follow."""
    return plan_schema(columns)


def review_schema() -> pa.Schema:
    """What people decided about pictures, as it was applied together."""
    return pa.schema(_REVIEW)


_TYPE = "application/vnd.apache.parquet"
_WRITTEN = {"compression": "zstd", "use_dictionary": True, "write_statistics": True}


def to_parquet(
    rows: Iterable[Mapping[str, Any]] | pa.Table, schema: pa.Schema, *, together: int = ROW_GROUP
) -> bytes:
    """The file's bytes. The same rows and the same library give the same bytes."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
    sink = BytesIO()
    pq.write_table(table, sink, row_group_size=together, **_WRITTEN)
    return sink.getvalue()


@contextmanager
def sheet(schema: pa.Schema, *, together: int = ROW_GROUP) -> Iterator["Sheet"]:
    """An empty one. Its file is this machine's until it is kept."""
    with spool() as file:
        empty = Sheet(schema, file, together=together)
        try:
            yield empty
        finally:
            empty.close()


class Sheet:
    """Rows on their way into a file. In memory is no more than a row group of them, and few as Python values.

    The same rows and the same library give the same bytes, whoever adds them.
    """

    def __init__(self, schema: pa.Schema, file: BufferedRandom, *, together: int) -> None:
        self.rows = 0
        self._schema = schema
        self._file = file  # to be written and read
        self._together = together
        self._loose: list[Mapping[str, Any]] = []
        self._pressed: list[pa.Table] = []
        self._writer = pq.ParquetWriter(file, schema, **_WRITTEN)

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows += 1
        self._loose.append(row)
        is_group = self.rows % self._together == 0
        if is_group or len(self._loose) == AT_HAND:
            self._pressed.append(pa.Table.from_pylist(self._loose, schema=self._schema))
            self._loose = []
        if is_group:
            self._write()

    def keep(self, storage: Storage, name: str) -> File:
        """Put the file under its name, as `keep` does. Nothing can be added any more."""
        if self.rows % self._together or not self.rows:
            self._pressed.append(pa.Table.from_pylist(self._loose, schema=self._schema))
            self._write()
        self.close()
        self._file.seek(0)
        digest, size = hashlib.file_digest(self._file, "sha256").hexdigest(), self._file.tell()
        self._file.seek(0)
        try:
            storage.put(name, self._file, content_type=_TYPE)
        except AlreadyThere:
            there = _there(storage, name, self._file)
            digest, size = hashlib.sha256(there).hexdigest(), len(there)
        return File(name, size, digest)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._writer.is_open = (
                False  # where there is no room it would try again when nobody listens any more
            )

    def _write(self) -> None:
        """What was pressed is a row group."""
        table = pa.concat_tables(self._pressed).unify_dictionaries().combine_chunks()
        self._pressed = []
        self._writer.write_table(table, row_group_size=self._together)


def from_parquet(data: bytes, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in these bytes."""
    try:
        # Not read_table: that loads all of Arrow's query engine, which is 50 MB, to read one file.
        # On no threads of Arrow's: one that lets go of these bytes while Python ends takes the process down with it.
        table = pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)
        return table if columns is None else table.select(columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> Corrupt:
    return Corrupt(
        f"a Parquet file of the run cannot be read: {error}", hint="it was cut or changed: restore it"
    )


def rows_of(table: pa.Table, *, step: int = AT_HAND) -> Iterator[dict[str, Any]]:
    """The rows as plain values, a few at a time in memory."""
    for batch in table.to_batches(max_chunksize=step):
        yield from batch.to_pylist()


def some_of(
    data: bytes,
    wanted: Callable[[pa.Table], pa.Array],
    *,
    by: Sequence[str],
    start: int,
    stop: int | None,
) -> Iterator[dict[str, Any]]:
    """Of the rows in these bytes that are wanted by these columns those from one to another, a few at a time in memory.

    What is before them and behind them is not read, but for those columns.
    """
    try:
        file, seen = pq.ParquetFile(pa.BufferReader(data)), 0
        for group in range(file.num_row_groups):
            if stop is not None and seen >= stop:
                return
            chosen = wanted(file.read_row_group(group, columns=by, use_threads=False))
            first, seen = seen, seen + chosen.true_count
            if seen > start:
                rows = file.read_row_group(group, use_threads=False).filter(chosen)
                yield from rows_of(
                    rows.slice(max(0, start - first), None if stop is None else stop - max(start, first))
                )
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(error) from error


def rows_in(
    data: bytes, *, columns: Sequence[str] | None = None, step: int = AT_HAND
) -> Iterator[dict[str, Any]]:
    """The rows of the file in these bytes, a few at a time in memory, however many lie together."""
    return _rows(pa.BufferReader(data), columns, step=step)


def _rows(
    file: Any, columns: Sequence[str] | None = None, *, step: int = AT_HAND
) -> Iterator[dict[str, Any]]:
    try:
        opened = pq.ParquetFile(file)
        for group in range(opened.num_row_groups):
            yield from rows_of(opened.read_row_group(group, columns=columns, use_threads=False), step=step)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(error) from error


def keep(storage: Storage, name: str, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> File:
    """Put a table under a name, once. Whoever was first is kept, if they said the same.

    Another version of the library writes other bytes for the same rows, and may.
    """
    data = to_parquet(rows, schema)
    try:
        storage.put_if_absent(name, data, content_type=_TYPE)
    except AlreadyThere:
        data = _there(storage, name, BytesIO(data))
    return File(name, len(data), hashlib.sha256(data).hexdigest())


def _there(storage: Storage, name: str, ours: BinaryIO) -> bytes:
    """What somebody else put under this name. Raises Corrupt where it says something else than ours."""
    there = storage.read(name)
    if not _are_same(there, ours):
        raise Corrupt(
            f"{storage.url}: {name} is there with other rows than were worked out now",
            hint="two drivers disagree; the program versions or the manifest may differ between them",
        )
    return there


def _are_same(there: bytes, ours: BinaryIO) -> bool:
    try:
        one, other = (pq.ParquetFile(file) for file in (pa.BufferReader(there), ours))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(error) from error
    names, others = set(one.schema_arrow.names), set(other.schema_arrow.names)
    if not (names <= others or others <= names) or one.metadata.num_rows != other.metadata.num_rows:
        return False
    return all(_agree(a, b) for a, b in zip(_rows(pa.BufferReader(there)), _rows(ours), strict=True))


def _agree(one: Any, other: Any) -> bool:
    """Whether they say the same, as far as both know of it: a version that came later may have more columns."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_agree(one[name], other[name]) for name in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_agree, one, other))
    return bool(one == other)
