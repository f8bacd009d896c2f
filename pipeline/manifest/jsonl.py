"""JSON Lines: an object a line; its columns are all names that any line uses."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipeline.errors import BadInput
from pipeline.manifest.cells import text_of
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source, checked_columns
from pipeline.manifest.text import TextFile, examine, readable


def read(path: Path) -> Source:
    """Reads the file once to its end to learn its columns."""
    text = examine(path)
    names: dict[str, None] = {}
    for _, values, _ in _objects(text):
        if isinstance(values, dict):
            names.update(dict.fromkeys(values))
    if not names:
        raise BadInput(f"{path}: no line of it is a JSON object", hint="each line is a row, written {…}")
    columns = checked_columns(list(names), path=path)
    return Source(columns, text.warnings, lambda: _lines(text, columns=columns, names=tuple(names)))


def _lines(text: TextFile, *, columns: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Line]:
    empty = [""] * len(columns)
    for number, values, raw in _objects(text):
        match values:
            case dict():
                yield Line(number, [text_of(values.get(name)) for name in names])
            case _:
                yield Line(number, empty, "no JSON object: a row is written {…}", raw=raw)


def _objects(text: TextFile) -> Iterator[tuple[int, object, str]]:
    """Line number, what it says (None where it is no JSON), and the line itself."""
    decode = msgspec.json.Decoder().decode
    # Lines end at \n only: a U+2028 inside a string is part of it.
    with readable(text.path), text.open(newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, decode(line), line
            except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
                yield number, None, line
