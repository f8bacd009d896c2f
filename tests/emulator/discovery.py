"""Holds a value against the schemas of a discovery document, stricter than Google does: no stray members."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


class Schemas:
    """The schemas of one document."""

    def __init__(self, path: Path) -> None:
        self._schemas: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["schemas"]

    def faults(self, value: Any, name: str) -> list[str]:
        """Everything that does not fit, each with its place."""
        return list(self._check(value, {"$ref": name}, ""))

    def _check(self, value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        match schema.get("type"):
            case "object" if isinstance(value, dict):
                yield from self._check_members(value, schema, where)
            case "array" if isinstance(value, list):
                for number, item in enumerate(value):
                    yield from self._check(item, schema["items"], f"{where}[{number}]")
            case "string" if isinstance(value, str):
                yield from check_text(value, schema, where)
            case "integer" | "number" if isinstance(value, int | float) and not isinstance(value, bool):
                return
            case "boolean" if isinstance(value, bool):
                return
            case "any":
                return
            case kind:
                yield f"{where}: {value!r:.60} is no {kind}"

    def _check_members(self, value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
        for missing in set(schema.get("required", ())) - value.keys():
            yield f"{where}.{missing} is missing"
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            inner = known.get(name, others)
            if inner is None and (known or others is None):
                yield f"{where}.{name} is unknown"
            elif inner is not None:
                yield from self._check(item, inner, f"{where}.{name}")


def check_text(value: str, schema: dict[str, Any], where: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not one of {schema['enum']}"
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        yield f"{where}: {value!r:.60} does not match {schema['pattern']}"
    if schema.get("format") == "int64" and not re.fullmatch(r"-?\d+", value):
        yield f"{where}: {value!r:.60} is no int64"
    if schema.get("format") == "byte" and not BASE64.fullmatch(value):
        yield f"{where}: no base64"


def google(document: str) -> Path | None:
    """A discovery document that Google ships in its API client, if that is installed."""
    found = find_spec("googleapiclient")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "discovery_cache" / "documents" / document
    return path if path.exists() else None
