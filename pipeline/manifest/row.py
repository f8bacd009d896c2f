"""One line of a manifest, and how it is called."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import msgspec

from pipeline.templates import name_of

# A product's number names a row only where nobody gave the row a name of its own.
_KEYS = ("id", "custom_id", "key", "request_id", "sku", "handle", "product_id", "item_id")


class Row(msgspec.Struct, frozen=True):
    """One line of the manifest. All values are text; what is absent is ''."""

    ordinal: int  # its place, from 0
    line: int  # where it starts in the file, from 1: what an editor shows
    key: str  # what the user calls it
    fields: Mapping[str, str]
    trouble: str | None = None  # why it cannot be read as it stands; its fields are then as good as they get


class Line(msgspec.Struct, frozen=True):
    """What a reader hands over: the cells in the order of the columns."""

    number: int
    cells: Sequence[str]
    trouble: str | None = None
    raw: str = ""  # what stood there, where it could not be read


def key_column(columns: Sequence[str]) -> str | None:
    """The column that names rows, or None: then a row is called after its content."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(name_of(column), column)
    return next((by_name[name] for name in _KEYS if name in by_name), None)


def content_key(fields: Mapping[str, str], *, raw: str = "") -> str:
    """A name that follows from the content alone: a row inserted above changes nothing and costs nothing.

    Empty cells do not count, so neither does a new column that is still empty. 48 bits: two of a million
    different rows share a name in one manifest of 500, and then it is noticed.
    """
    said = sorted((column, value) for column, value in fields.items() if value)
    text = json.dumps([said, raw] if raw else said)
    return "row-" + hashlib.sha256(text.encode()).hexdigest()[:12]
