"""What requests to Cloud Storage have in common: numbers, bodies, names by pattern, and a choice of fields."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from starlette.requests import Request

from pipeline.emulator.gcs_objects import Problem

TOKEN = re.compile(r"[\w*-]+|[(),/]")


def base_of(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object; nothing is an empty one."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise Problem(400, "Parse Error", reason="parseError") from None
    if not isinstance(value, dict):
        raise Problem(400, "Parse Error", reason="parseError")
    return value


def number_of(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise Problem(400, f"Invalid value for {name}: {value!r}")
    return int(value)


@lru_cache(maxsize=64)
def glob(pattern: str) -> re.Pattern[str]:
    """A `matchGlob`: a star stays between slashes, two do not, braces are alternatives."""
    pieces, depth, place = [], 0, 0
    while place < len(pattern):
        two, one = pattern[place : place + 2], pattern[place]
        if two == "**":
            pieces.append(".*")
            place += 2
            continue
        if one == "[" and (end := pattern.find("]", place + 2)) > 0:
            inside = pattern[place + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            pieces.append(f"[{'^' + inside[1:] if inside[0] == '!' else inside}]")
            place = end + 1
            continue
        depth += (one == "{") - (one == "}" and depth > 0)
        known = {"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}
        pieces.append("|" if one == "," and depth else known.get(one, re.escape(one)))
        place += 1
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error:
        raise Problem(400, f"Invalid matchGlob: {pattern!r}") from None


def chosen(value: Any, fields: str | None) -> Any:
    """The answer with only the members that `fields` names; all of them without it."""
    if not fields or fields == "*":
        return value
    return kept(value, wanted(TOKEN.findall(fields)))


def wanted(tokens: list[str]) -> dict[str, Any]:
    """`items(name,size),nextPageToken` or `items/name` as a tree; tokens are taken from the front."""
    tree: dict[str, Any] = {}
    while tokens:
        name = tokens.pop(0)
        if name == ")":
            return tree
        if name == ",":
            continue
        below = tree.setdefault(name, {})
        while tokens and tokens[0] == "/":
            tokens.pop(0)
            below = below.setdefault(tokens.pop(0) if tokens else "*", {})
        if tokens and tokens[0] == "(":
            tokens.pop(0)
            below |= wanted(tokens)
    return tree


def kept(value: Any, tree: Mapping[str, Any]) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [kept(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: kept(item, tree[name]) for name, item in value.items() if name in tree}
