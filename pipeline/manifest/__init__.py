"""Who supplies rows: tables, sheets, feeds, JSON Lines, Parquet, a DataFrame; told apart by what is in them."""

import difflib
import hashlib
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.manifest.axes import drawn, suffix
from pipeline.manifest.feed import Feed
from pipeline.manifest.row import Line, Row, content_key, key_column
from pipeline.manifest.source import Source
from pipeline.manifest.text import first_character
from pipeline.problems import Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STANDARD_INPUT", "Feed", "Manifest", "Row", "duplicate_keys", "frame_manifest", "open_manifest"]

STANDARD_INPUT = "-"

_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Manifest:
    """The user's table. Opening it tells what it is; its rows are a stream, again and again."""

    path: Path
    digest: str  # sha256 hex of the file's bytes
    key: str | None  # the column that names rows; None: they are named after their content
    _source: Source
    axes: tuple[
        str, ...
    ] = ()  # columns that are not in the file: each row is there once for each combination
    _spooled: object = None  # what came from standard input is kept as long as this is

    @property
    def feed(self) -> Feed | None:
        """The store whose own table this is, if it is one."""
        return self._source.feed

    @property
    def columns(self) -> tuple[str, ...]:
        return self._source.columns

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._source.warnings

    def rows(self) -> Iterator[Row]:
        """All rows in order, a few in memory at a time. What cannot be read is a row too, with trouble."""
        columns = self._source.columns
        for ordinal, line in enumerate(self._source.lines()):
            fields = dict(zip(columns, line.cells, strict=True))
            key = fields[self.key].strip() if self.key is not None else ""
            named = f"{key}{suffix(fields, self.axes)}" if key else content_key(fields, raw=line.raw)
            yield Row(ordinal, line.number, named, fields, trouble=line.trouble)

    def times(
        self, axes: Mapping[str, Mapping[str, float]], *, sample: int | None = None, seed: int = 0
    ) -> "Manifest":
        """Each row once for each combination of these values, or a sample of that, weighted and repeatable."""
        columns = self._source.columns

        def name_of(line: Line) -> str:
            fields = dict(zip(columns, line.cells, strict=True))
            key = fields[self.key].strip() if self.key is not None else ""
            return key or content_key(fields, raw=line.raw)

        source = drawn(self._source, axes, sample=sample, seed=seed, name_of=name_of)
        return replace(self, _source=source, axes=tuple(axes))


def open_manifest(path: Path, *, key: str | None = None) -> Manifest:
    """Look at a file and be ready to read it. Raises BadInput where there is nothing to read."""
    spooled = _spooled() if str(path) == STANDARD_INPUT else None
    place, sheet = (Path(spooled.name) / "standard-input", None) if spooled else _sheet_of(path)
    source = _source_of(place, sheet)
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _with_rows(Manifest(path, digest, _checked_key(key, source, path=path), source, _spooled=spooled))


def frame_manifest(frame: "pd.DataFrame", name: str = "frame", *, key: str | None = None) -> Manifest:
    """A DataFrame as a manifest; its index is no column, its digest is over its content."""
    from pipeline.manifest import frame as frames

    source = frames.read(frame, name=name)
    path = Path(name)
    return _with_rows(Manifest(path, frames.digest(source), _checked_key(key, source, path=path), source))


def duplicate_keys(manifest: Manifest) -> Iterator[Problem]:
    """Every row whose key an earlier row has. Eight bytes of memory a row, a second look where needed."""
    # hash() differs between processes, but only decides where to look twice: the answer is exact.
    hashes = array("q", (hash(row.key) for row in manifest.rows()))
    suspects = _repeated(hashes)
    first: dict[str, int] = {}
    for row in manifest.rows() if suspects else ():
        if hash(row.key) not in suspects:
            continue
        line = first.setdefault(row.key, row.line)
        if line != row.line:
            yield Problem(
                "same key as an earlier row" if manifest.key else "the same row twice",
                where=str(manifest.path),
                row=row.line,
                column=manifest.key,
                value=row.key,
                hint=f"row {line} has it too"
                + ("" if manifest.key else ": take one out, or give them a column id"),
            )


def _repeated(hashes: "array[int]") -> set[int]:
    if len(set(hashes[:1000])) == len(hashes):  # a small manifest needs no numpy
        return set()
    import numpy as np

    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    return {int(each) for each in ordered[1:][ordered[1:] == ordered[:-1]]}


def _spooled() -> "tempfile.TemporaryDirectory[str]":
    """Standard input in a file, since a manifest is read more than once. It goes when the program does."""
    folder = tempfile.TemporaryDirectory(prefix="nightshoot-")
    with (Path(folder.name) / "standard-input").open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return folder


def _sheet_of(path: Path) -> tuple[Path, str | None]:
    """'products.xlsx#Spring' is a file and one of its sheets, unless a file is really called so."""
    name, hash_, sheet = path.name.partition("#")
    return (path.with_name(name), sheet) if hash_ and name and sheet and not path.exists() else (path, None)


def _source_of(path: Path, sheet: str | None = None) -> Source:
    """The reader is chosen by what the file begins with; its name only helps to explain."""
    head = _head(path)
    if head.startswith(b"PAR1"):
        from pipeline.manifest import parquet

        return parquet.read(path)
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        from pipeline.manifest import sheet as sheets

        return _fed(sheets.read(path, sheet))
    if sheet is not None:
        raise BadInput(f"{path}: no spreadsheet, so it has no sheet {sheet!r}", hint=f"name {path} alone")
    start = first_character(path)
    if start == "{":
        from pipeline.manifest import jsonl

        return jsonl.read(path)
    if start == "[":
        raise BadInput(f"{path}: a JSON array", hint="write one object a line, without brackets around them")
    if start == "<":
        from pipeline.manifest import merchant

        return merchant.read_xml(path)
    from pipeline.manifest import table

    return _fed(table.read(path))


def _fed(source: Source) -> Source:
    """The source as a store's feed, if its header is one's. Told by its columns, never by its name."""
    from pipeline.manifest import merchant, shopify, woocommerce

    return shopify.feed_of(source) or woocommerce.feed_of(source) or merchant.feed_of(source) or source


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file", hint=_neighbours(path)) from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise BadInput(
            f"{path}: an empty file", hint="its first line names the columns, each further one is a row"
        )
    return head


def _neighbours(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    near = difflib.get_close_matches(path.name, [each.name for each in path.parent.iterdir()], n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else None


def _checked_key(key: str | None, source: Source, *, path: Path) -> str | None:
    if key is None:
        return "sku" if source.feed is not None else key_column(source.columns)
    if key not in source.columns:
        raise BadInput(f"{path}: no column {key!r} to name the rows", hint=did_you_mean(key, source.columns))
    return key


def _with_rows(manifest: Manifest) -> Manifest:
    if next(iter(manifest.rows()), None) is None:
        raise BadInput(f"{manifest.path}: no rows below the header", hint="there is nothing to shoot")
    return manifest
