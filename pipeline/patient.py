"""JSON by the book, for lines that the fast parser refuses: lone surrogates, endless numbers, any depth."""

import json
import re
from typing import Any

_space = re.compile(r"[ \t\n\r]*").match


def parse(raw: bytes | memoryview) -> Any:
    """The value of a JSON text in UTF-8; None for what is none."""
    try:
        # Half a pair of surrogates is legal when it is escaped, and some write it out.
        text = str(raw, "utf-8-sig", "surrogatepass")
        try:
            return _decoder.decode(text)
        except RecursionError:
            return _deep(text)
    except ValueError:
        return None


def _number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python reads no integer of more than 4,300 digits
        return float(digits)


_decoder = json.JSONDecoder(parse_int=_number)


def _deep(text: str) -> Any:
    """The same with a stack of its own, which is as deep as it has to be. Raises ValueError."""
    whole: list[Any] = []
    above: list[Any] = []
    node, name, at = whole, "", 0
    while True:
        at = _skip(text, at)
        if text[at : at + 1] in ("{", "["):
            child: Any = {} if text[at] == "{" else []
            _hang(node, name, child)
            above.append(node)
            node, at = child, _skip(text, at + 1)
            if not _closes(text, at, node):
                name, at = _name(text, at, node)
                continue
        else:
            value, at = _decoder.raw_decode(text, at)
            _hang(node, name, value)
        at = _skip(text, at)
        while above and _closes(text, at, node):
            node, at = above.pop(), _skip(text, at + 1)
        if not above:
            break
        if text[at : at + 1] != ",":
            raise ValueError(f"no comma at {at}")
        name, at = _name(text, _skip(text, at + 1), node)
    if at != len(text):
        raise ValueError(f"more behind the value at {at}")
    return whole[0]


def _skip(text: str, at: int) -> int:
    match = _space(text, at)
    return match.end() if match else at


def _closes(text: str, at: int, node: Any) -> bool:
    return text[at : at + 1] == ("}" if isinstance(node, dict) else "]")


def _hang(node: Any, name: str, value: Any) -> None:
    if isinstance(node, dict):
        node[name] = value
    else:
        node.append(value)


def _name(text: str, at: int, node: Any) -> tuple[str, int]:
    """The name of the member that comes next; none in a list."""
    if not isinstance(node, dict):
        return "", at
    if text[at : at + 1] != '"':
        raise ValueError(f"no name at {at}")
    name, at = _decoder.raw_decode(text, at)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise ValueError(f"no colon at {at}")
    return name, at + 1
