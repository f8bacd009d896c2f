"""A plan kept in a file: what was asked for, and what came of looking it over. A run of it refuses anything else."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import BadInput, Refused
from pipeline.overview import plan_document
from pipeline.survey import Survey

VERSION = 1
_MARK = "nightshoot_plan"


@dataclass(frozen=True, slots=True)
class Saved:
    """A plan as it was saved."""

    path: Path
    job: str  # as it was named on the command line
    chosen: dict[str, Any]  # and the options beside it
    found: dict[str, Any]  # everything that must be as it was

    def check(self, now: Survey) -> None:
        """Raises Refused where anything changed: what was agreed to is not what would be bought."""
        found = _essence(now)
        changed = sorted(name for name in found if found[name] != self.found.get(name))
        if changed:
            raise Refused(
                f"{self.path}: not as it was planned any more: {', '.join(changed)}",
                hint="look at it again: nightshoot plan, and save that",
            )


def save(path: Path, found: Survey, *, job: str | None, chosen: dict[str, Any]) -> None:
    """Write it down, for `nightshoot run` to take up where nothing changed."""
    document = {
        _MARK: VERSION,
        "job": job or "",
        "chosen": chosen,
        "found": _essence(found),
        "plan": plan_document(found),
    }
    try:
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from error


def read(path: Path) -> Saved | None:
    """The plan in this file; None where it holds something else."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or _MARK not in document:
        return None
    if document[_MARK] != VERSION:
        raise BadInput(f"{path}: a plan of another version", hint="save it again with this one")
    return Saved(path, document["job"], document["chosen"], document["found"])


def _essence(found: Survey) -> dict[str, Any]:
    return {
        "job": json.loads(msgspec.json.encode(found.job)),
        "manifest": found.manifest.digest,
        "photos": found.photos,
        "rows": found.rows,
        "requests": dict(sorted(found.lanes.items())),
        "follow-ups": dict(sorted(found.follow_ups.items())),
        "earlier nights": [msgspec.to_builtins(one) for one in found.earlier.reused] if found.earlier else [],
        "prices": [found.table.as_of.isoformat(), found.price.likely, found.price.high],
    }
