"""What people write into cells, and what they meant: lists, ratios that became times, sizes, none."""

import datetime
import json
import math
import re
from typing import Any

_NONE = {"-", "none"}
_LIST_SEPARATOR = re.compile(r"\s*(?:[|;\n]|,(?=\s)|,(?=[a-z][a-z0-9+.-]*://))\s*")
_RATIO = re.compile(r"^'?\s*(\d{1,2})\s*[:：x×/]\s*(\d{1,2})(?::00)?(?:\.0+)?\s*(am|pm)?$", re.IGNORECASE)
_TIME_ON_A_DAY = re.compile(r"^\d{4}-\d\d-\d\d[T ](\d{1,2}:\d\d:00)(?:\.0+)?$|^0 days (\d{1,2}:\d\d:00)$")
_SIZES = {"512": "512", "0.5k": "512", "1024": "1K", "2048": "2K", "4096": "4K"}


def text_of(value: Any) -> str:
    """A value as text: nothing and NaN are '', whole numbers have no '.0', lists are joined."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if math.isnan(value):
            return ""
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case list() | tuple() | set():
            return _joined([text_of(item) for item in value])
        case dict():
            return json.dumps(value, ensure_ascii=False, sort_keys=True, default=text_of)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return text_of(value.tolist())
    return str(value)


def split(cell: str) -> list[str]:
    """The items of a list in a cell: a JSON array, or separated by |, ;, a new line, or a comma and a space.

    A comma alone separates only before a scheme (https://), since file names and URLs may hold commas.
    """
    cell = cell.strip()
    if cell.startswith("["):
        try:
            items = json.loads(cell)
        except ValueError:
            items = None  # a file name may begin with a bracket
        if isinstance(items, list):
            return [text for item in items if (text := text_of(item).strip())]
    return [item for item in _LIST_SEPARATOR.split(cell) if item]


def is_none(cell: str) -> bool:
    """Explicitly none, against a default: '-' or 'none'. 'NA' and 'null' are text like any other."""
    return cell.strip().casefold() in _NONE


def ratio(cell: str) -> str:
    """A ratio as models spell it, also where a spreadsheet made a time of it; anything else as it stands."""
    text = " ".join(cell.split())
    if on_a_day := _TIME_ON_A_DAY.match(text):
        text = on_a_day[1] or on_a_day[2]
    match = _RATIO.match(text)
    if match is None:
        return text
    width, height = int(match[1]), int(match[2])
    half = (match[3] or "").lower()
    if half == "pm" and width < 12:
        width += 12  # 4:09 PM was 16:09
    return f"{width}:{height}"


def size(cell: str) -> str:
    """A size as models spell it: 1k, 1K and 1024 are 1K; 512 has no K. Anything else as it stands."""
    text = "".join(cell.split()).removesuffix("px").casefold()
    side, _, other = text.replace("×", "x").partition("x")
    if other == side:
        text = side
    if text in _SIZES:
        return _SIZES[text]
    return text.upper() if re.fullmatch(r"\d+k", text) else cell.strip()


def _joined(items: list[str]) -> str:
    # A list is text that split() takes apart again; where the plain form would not be, it is a JSON array.
    plain = "|".join(items)
    return plain if split(plain) == items else json.dumps(items, ensure_ascii=False)
