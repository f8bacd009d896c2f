"""A Google Merchant Center feed: a table, or RSS and Atom with Google's own names in them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec

from pipeline.errors import BadInput
from pipeline.manifest.cells import split, text_of
from pipeline.manifest.feed import Feed, Layout, distinct, mapped, named, plain_text
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source, checked_columns
from pipeline.manifest.text import open_bytes, readable

_CHUNK = 1 << 16
_ITEMS = {"item", "entry"}  # RSS, Atom
_DEEPEST = 30
_LONGEST = 1_000_000  # characters of one value


def feed_of(source: Source) -> Source | None:
    """The source with our columns beside Google's, if its header is Google's."""
    places = named(source.columns)
    if not {"id", "title", "image_link"} <= places.keys():
        return None
    layout = Layout(source.columns)
    told = {
        "title": places["title"],
        "sku": places["id"],
        "reference_images": places["image_link"],
        "description": places.get("description"),
        "brand": places.get("brand"),
        "color": places.get("color"),
        "group": places.get("item_group_id"),
    }
    return replace(
        source,
        columns=layout.columns,
        lines=lambda: _lines(source, places, layout),
        feed=Feed(f"Google Merchant Center feed ({source.kind})", mapped(source.columns, told)),
    )


def _lines(source: Source, places: dict[str, int], layout: Layout) -> Iterator[Line]:
    for line in source.lines():
        cells = line.cells

        def cell(name: str, cells: Sequence[str] = cells) -> str:
            return cells[places[name]].strip() if name in places else ""

        ours = {
            "sku": cell("id"),
            "title": cell("title"),
            "description": plain_text(cell("description")),
            "brand": cell("brand"),
            "color": cell("color"),
            "variant": " / ".join(
                filter(None, (cell(name) for name in ("color", "size", "material", "pattern")))
            ),
            "group": cell("item_group_id") or cell("id"),
            "reference_images": distinct([cell("image_link"), *_more(cell("additional_image_link"))]),
        }
        yield msgspec.structs.replace(
            layout.line(line.number, ours, cells), trouble=line.trouble, raw=line.raw
        )


def _more(cell: str) -> list[str]:
    """Google separates by commas alone: one inside an address is written %2C."""
    return split(cell) if "|" in cell or cell.startswith("[") else cell.split(",")


# --- the same as XML ---------------------------------------------------------------------------------------------


def read_xml(path: Path) -> Source:
    """Reads the file once to its end to learn its columns."""
    names: dict[str, None] = {}
    for _, values in _items(path):
        names.update(dict.fromkeys(values))
    if not names:
        hint = "each product is an <item> of an RSS channel, or an <entry> of an Atom feed"
        raise BadInput(f"{path}: XML without products", hint=hint)
    columns = checked_columns(list(names), path=path)
    source = Source(columns, (), lambda: _xml_lines(path, columns), kind="XML")
    return feed_of(source) or source


def _xml_lines(path: Path, columns: tuple[str, ...]) -> Iterator[Line]:
    for number, values in _items(path):
        yield Line(number, [text_of(values.get(column, "")) for column in columns])


def _items(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every product, and the line it starts on. A chunk and a product in memory."""
    reader = _Reader(path)
    with readable(path), open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            yield from reader.take(chunk)
        yield from reader.take(b"", final=True)


class _Reader:
    """Expat, with all that makes XML dangerous refused: document types, and with them entities of one's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._depth = 0
        self._item = 0  # the depth of the item we are in; 0: in none
        self._line = 0
        self._name = ""
        self._pieces: list[str] = []
        self._length = 0
        self._values: dict[str, Any] = {}
        self._done: list[tuple[int, dict[str, Any]]] = []

    def take(self, chunk: bytes, *, final: bool = False) -> list[tuple[int, dict[str, Any]]]:
        """The products that this piece completes."""
        try:
            self._parser.Parse(chunk, final)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise BadInput(
                f"{self._path}:{self._parser.CurrentLineNumber}: broken XML: {str(error).partition(':')[0]}",
                hint="export or download the feed again",
            ) from error
        done, self._done = self._done, []
        return done

    def _refuse(self, *declared: object) -> None:
        raise BadInput(
            f"{self._path}:{self._parser.CurrentLineNumber}: declares a document type, which a feed never needs",
            hint="is this a web page? export the feed once more, or take the <!DOCTYPE …> out",
        )

    def _start(self, tag: str, attributes: object) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise BadInput(f"{self._path}:{self._parser.CurrentLineNumber}: XML nested deeper than any feed")
        name = _local(tag)
        if not self._item and name in _ITEMS:
            self._item, self._line, self._values = self._depth, self._parser.CurrentLineNumber, {}
        elif self._item and self._depth == self._item + 1:
            self._name, self._pieces, self._length = name, [], 0

    def _end(self, tag: str) -> None:
        if self._item and self._depth == self._item + 1:
            text = "".join(self._pieces).strip()
            before = self._values.get(self._name)
            if before is None:
                self._values[self._name] = text
            else:  # said twice, as more pictures are: a list
                self._values[self._name] = [*(before if isinstance(before, list) else [before]), text]
        elif self._item == self._depth:
            self._done.append((self._line, self._values))
            self._item = 0
        self._depth -= 1

    def _text(self, data: str) -> None:
        if self._item and self._depth > self._item:
            self._length += len(data)
            if self._length > _LONGEST:
                raise BadInput(f"{self._path}:{self._line}: a value longer than a million characters")
            self._pieces.append(data)


def _local(tag: str) -> str:
    """The name without its namespace: Google's own and RSS's mean the same where both have it."""
    return re.sub(r"^.* ", "", tag)
