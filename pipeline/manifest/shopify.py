"""A Shopify product export: many lines are one product, and each of its variants is a row of ours."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from pipeline.manifest.feed import COLOURS, Feed, Layout, bare, distinct, mapped, named, plain_text
from pipeline.manifest.row import Line
from pipeline.manifest.source import Source
from pipeline.pictures import slug

# Ours, and what the two generations of headers call it.
_NAMES = {
    "group": ("handle", "url_handle"),
    "image": ("image_src", "product_image_url"),
    "position": ("image_position",),
    "variant_image": ("variant_image", "variant_image_url"),
    "sku": ("variant_sku", "sku"),
    "price": ("variant_price", "price"),
    "title": ("title",),
    "description": ("body_html", "description"),
    "brand": ("vendor",),
}
_OF_A_VARIANT = {
    "sku", "barcode", "price", "compare_at_price", "cost_per_item", "inventory_quantity", "image_position",
    "image_src", "image_alt_text", "product_image_url", "weight_value_grams", "option1_value", "option2_value",
    "option3_value",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Header:
    """Where everything is; None where the export has no such column."""

    group: int
    image: int
    position: int | None
    variant_image: int | None
    sku: int | None
    price: int | None
    title: int | None
    description: int | None
    brand: int | None
    options: tuple[tuple[int | None, int], ...]  # name and value of each option
    inherited: tuple[int, ...]  # said on a product's first line for all of it


def feed_of(source: Source) -> Source | None:
    """The source as one row a variant, if its header is Shopify's."""
    header = _header_of(source.columns)
    if header is None:
        return None
    new = "url_handle" in named(source.columns)
    told = {
        "title": header.title,
        "sku": header.sku,
        "reference_images": header.image,
        "description": header.description,
        "brand": header.brand,
        "variant": header.options[0][1] if header.options else None,
        "group": header.group,
    }
    name = f"Shopify export ({'new' if new else 'old'} headers)"
    layout = Layout(source.columns)
    return replace(
        source,
        columns=layout.columns,
        lines=lambda: _lines(source, header, layout),
        feed=Feed(name, mapped(source.columns, told)),
    )


def _header_of(columns: Sequence[str]) -> _Header | None:
    places = named(columns)
    found = {ours: _first(places, theirs) for ours, theirs in _NAMES.items()}
    group, image = found.pop("group"), found.pop("image")
    if group is None or image is None:
        return None
    options = tuple(
        (places.get(f"option{n}_name"), places[f"option{n}_value"])
        for n in (1, 2, 3)
        if f"option{n}_value" in places
    )
    inherited = tuple(
        place
        for name, place in places.items()
        if name not in _OF_A_VARIANT and not name.startswith("variant_")
    )
    return _Header(group=group, image=image, options=options, inherited=inherited, **found)


def _first(places: dict[str, int], names: Sequence[str]) -> int | None:
    return next((places[name] for name in names if name in places), None)


def _lines(source: Source, header: _Header, layout: Layout) -> Iterator[Line]:
    """One product in memory at a time: an export keeps its lines together."""
    product: list[Line] = []
    for line in source.lines():
        handle = line.cells[header.group].strip()
        if product and handle and handle != product[0].cells[header.group].strip():
            yield from _product(product, header, layout)
            product = []
        product.append(line)
    if product:
        yield from _product(product, header, layout)


def _product(lines: list[Line], header: _Header, layout: Layout) -> Iterator[Line]:
    first = lines[0].cells
    images = _images(lines, header)
    variants = [line for place, line in enumerate(lines) if not place or _is_variant(line.cells, header)]
    names = [first[name].strip().casefold() if name is not None else "" for name, _ in header.options]
    claimed = {bare(_cell(line.cells, header.variant_image)) for line in variants} - {""}
    for line in variants:
        cells = list(line.cells)
        for place in (header.group, *header.inherited):
            cells[place] = cells[place] or first[place]
        own = _cell(cells, header.variant_image)
        # The gallery shows every colour; what another variant claims would mix it into this one.
        shown = [image for image in images if not own or bare(image) not in claimed]
        values = [cells[place].strip() for _, place in header.options]
        variant = " / ".join(value for value in values if value and value != "Default Title")
        ours = {
            "sku": _cell(cells, header.sku) or _named_after(cells[header.group], variant),
            "title": _cell(cells, header.title),
            "description": plain_text(_cell(cells, header.description)),
            "brand": _cell(cells, header.brand),
            "color": next((v for n, v in zip(names, values, strict=True) if n in COLOURS), ""),
            "variant": variant,
            "group": cells[header.group].strip(),
            "reference_images": distinct([own, *shown]),
        }
        made = layout.line(line.number, ours, cells)
        yield msgspec.structs.replace(made, trouble=line.trouble, raw=line.raw)


def _images(lines: list[Line], header: _Header) -> list[str]:
    """The gallery, by position; where two share one, or have none, in the order of the lines."""

    def position(line: Line) -> float:
        text = _cell(line.cells, header.position)
        return int(text) if text.isdecimal() else math.inf

    pictured = [line for line in lines if line.cells[header.image].strip()]
    return [line.cells[header.image].strip() for line in sorted(pictured, key=position)]


def _is_variant(cells: Sequence[str], header: _Header) -> bool:
    places = [header.sku, header.price, *(place for _, place in header.options)]
    return any(_cell(cells, place) for place in places)


def _named_after(handle: str, variant: str) -> str:
    """A variant without a SKU still needs a name that stays."""
    handle = handle.strip()
    return f"{handle}-{slug(variant)}" if handle and variant else handle


def _cell(cells: Sequence[str], place: int | None) -> str:
    return "" if place is None else cells[place].strip()
