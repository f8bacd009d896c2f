"""What store feeds have in common: columns of ours, filled from theirs, and theirs beside them."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

from pipeline.manifest.cells import text_of
from pipeline.manifest.row import Line
from pipeline.templates import name_of

COLUMNS = ("sku", "title", "description", "brand", "color", "variant", "group", "reference_images")
"""What every feed has after it was read, whatever the store calls it."""

COLOURS = {
    "color",
    "colour",
    "colors",
    "colours",
    "farbe",
    "couleur",
    "colore",
    "kleur",
    "pa_color",
    "pa_colour",
}


@dataclass(frozen=True, slots=True)
class Feed:
    """A store's own table, recognised by its header."""

    name: str  # for people: 'Shopify export (new headers)'
    mapping: tuple[tuple[str, str], ...]  # a column of ours, and what it is filled from

    def __str__(self) -> str:
        return f"{self.name}: " + "; ".join(f"{ours} <- {theirs}" for ours, theirs in self.mapping)


class Layout:
    """The columns of a feed: ours first, then theirs; what is called the same is there once, as ours."""

    def __init__(self, theirs: Sequence[str]) -> None:
        self._kept = [place for place, name in enumerate(theirs) if name_of(name) not in COLUMNS]
        self.columns = (*COLUMNS, *(theirs[place] for place in self._kept))

    def line(self, number: int, ours: Mapping[str, str | Sequence[str]], theirs: Sequence[str]) -> Line:
        cells = [text_of(ours.get(name, "")) for name in COLUMNS]
        return Line(number, cells + [theirs[place] for place in self._kept])


def named(columns: Sequence[str]) -> dict[str, int]:
    """Where each column is, by the name a template would give it; the first where two share one."""
    places: dict[str, int] = {}
    for place, column in enumerate(columns):
        places.setdefault(name_of(column), place)
    return places


def mapped(columns: Sequence[str], places: Mapping[str, int | None]) -> tuple[tuple[str, str], ...]:
    """The mapping for people: what is not there is not said."""
    return tuple((ours, columns[place]) for ours, place in places.items() if place is not None)


def plain_text(markup: str) -> str:
    """The words of a piece of HTML, on one line."""
    if "<" not in markup and "&" not in markup:
        return " ".join(markup.split())
    words = _Words()
    words.feed(markup)
    words.close()
    return " ".join("".join(words.pieces).split())


def distinct(urls: Sequence[str]) -> list[str]:
    """Every picture once, in order. Shops append a version, which makes no other picture."""
    seen: dict[str, str] = {}
    for url in urls:
        if url := url.strip():
            seen.setdefault(bare(url), url)
    return list(seen.values())


def bare(url: str) -> str:
    """A picture's address without the version a shop appends."""
    return re.sub(r"\?v=\d+$", "", html.unescape(url.strip()))


class _Words(HTMLParser):
    """Collects text. Never fails: HTMLParser takes any text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style")
        self.pieces.append(" " if tag not in _INLINE else "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") and self._hidden:
            self._hidden -= 1
        self.pieces.append(" " if tag not in _INLINE else "")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


_INLINE = {"a", "b", "em", "i", "span", "strong", "sub", "sup", "u", "small"}
