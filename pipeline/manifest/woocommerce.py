"""A WooCommerce product export: variations follow from their parents and have what those say for all."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from pipeline.manifest.feed import COLOURS, Feed, Layout, distinct, mapped, named, plain_text
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source


@dataclass(frozen=True, slots=True)
class _Parent:
    """What a variable product says for its variations."""

    sku: str
    description: str
    brand: str
    images: tuple[str, ...]


def feed_of(source: Source) -> Source | None:
    """The source with our columns beside the shop's, if its header is WooCommerce's.

    Reads it once for the parents, which stay in memory: some hundred bytes for each product with variations.
    """
    places = named(source.columns)
    if not {"type", "sku", "name", "images"} <= places.keys():
        return None
    layout = Layout(source.columns)
    told = {
        "title": places["name"],
        "sku": places["sku"],
        "reference_images": places["images"],
        "description": places.get("description"),
        "brand": places.get("brands", places.get("brand")),
        "variant": places.get("attribute_1_value_s"),
        "group": places.get("parent"),
    }
    parents = _parents(source, places)
    return replace(
        source,
        columns=layout.columns,
        lines=lambda: _lines(source, places, layout, parents),
        feed=Feed("WooCommerce export", mapped(source.columns, told)),
    )


def _parents(source: Source, places: dict[str, int]) -> dict[str, _Parent]:
    """By SKU and by number, since a variation may name either."""
    parents: dict[str, _Parent] = {}
    for line in source.lines():
        cell = _Cells(line.cells, places)
        if not cell("type").casefold().startswith("variable"):
            continue
        parent = _Parent(_sku(cell), cell.description, cell.brand, tuple(cell.images))
        parents[parent.sku] = parent
        if number := cell("id"):
            parents[f"id:{number}"] = parent
    return parents


def _lines(
    source: Source, places: dict[str, int], layout: Layout, parents: dict[str, _Parent]
) -> Iterator[Line]:
    for line in source.lines():
        cell = _Cells(line.cells, places)
        parent = parents.get(cell("parent"))
        is_variation = cell("type").casefold().startswith("variation")
        attributes = cell.attributes
        ours = {
            "sku": _sku(cell),
            "title": cell("name"),
            "description": cell.description or (parent.description if parent else ""),
            "brand": cell.brand or (parent.brand if parent else ""),
            "color": next((value for name, value in attributes if name.casefold() in COLOURS), ""),
            "variant": " / ".join(value for _, value in attributes) if is_variation else "",
            "group": parent.sku if parent else cell("parent") or _sku(cell),
            "reference_images": cell.images or list(parent.images if parent else ()),
        }
        yield msgspec.structs.replace(
            layout.line(line.number, ours, line.cells), trouble=line.trouble, raw=line.raw
        )


class _Cells:
    """One line, by the names of its columns."""

    def __init__(self, cells: Sequence[str], places: dict[str, int]) -> None:
        self._cells, self._places = cells, places

    def __call__(self, name: str) -> str:
        return self._cells[self._places[name]].strip() if name in self._places else ""

    @property
    def images(self) -> list[str]:
        return distinct(re.split(r",\s+|,(?=https?://)", self("images")))

    @property
    def description(self) -> str:
        return plain_text(
            self("description").replace("\\n", " ") or self("short_description").replace("\\n", " ")
        )

    @property
    def brand(self) -> str:
        return self("brands") or self("brand")

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """Names and values. A product with several values of one has them in one cell."""
        pairs = ((self(f"attribute_{n}_name"), self(f"attribute_{n}_value_s")) for n in range(1, 10))
        return [(name, value) for name, value in pairs if name and value]


def _sku(cell: _Cells) -> str:
    return cell("sku") or (f"id-{cell('id')}" if cell("id") else "")
