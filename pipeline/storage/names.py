"""Which names a file of a run may have: those that every place for runs can hold."""

import re

LONGEST = 900
"""Bytes of UTF-8. A bucket takes 1,024, and the folder of the run is part of the name there."""

_LONGEST_PART = 255
"""Bytes. What file systems allow between two slashes."""

# No part is empty or starts with a dot: that rules out '.', '..', a leading '/', and '.tmp/'.
_PART = re.compile(r"[^./\x00-\x1f\x7f-\x9f][^/\x00-\x1f\x7f-\x9f]*")


def is_name(name: str) -> bool:
    """Whether a file may be called that."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half a character, or a file name that is no UTF-8
        return False
    return size <= LONGEST and all(map(_is_part, name.split("/")))


def _is_part(part: str) -> bool:
    return _PART.fullmatch(part) is not None and len(part.encode()) <= _LONGEST_PART


def check(name: str) -> str:
    """The same name. Raises ValueError for one no file may have: names are made by us, so it is a bug."""
    if not is_name(name):
        raise ValueError(f"{name!r} is no name for a file of a run")
    return name
