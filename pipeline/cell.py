"""One value as a cell of a table that people read on a terminal."""

import unicodedata
from typing import Any

WIDEST = 120
"""Characters of a cell. What is longer loses its middle: beginning and end tell most keys and sentences apart."""


def cell(value: Any, *, widest: int = WIDEST) -> str:
    """On one line, and nothing in it that a terminal would obey. What is missing is a dash."""
    if not isinstance(value, str):
        import pandas as pd

        if pd.api.types.is_scalar(value) and pd.isna(value):
            return "-"
    text = _legible(str(value))
    if len(text) <= widest:
        return text
    end = widest // 2
    return f"{text[: widest - end - 1]}…{text[-end:]}"


_JOINERS = "\u200c\u200d"
"""They have no shape of their own, and give others theirs: letters of some scripts, and many emoji."""


def _legible(text: str) -> str:
    """With whatever has no shape of its own, from line ends to escape sequences, written out: \\n, \\x1b."""
    if text.isprintable():
        return text
    return "".join(each.encode("unicode_escape").decode() if _has_no_shape(each) else each for each in text)


def _has_no_shape(character: str) -> bool:
    if character in _JOINERS:
        return False
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")
