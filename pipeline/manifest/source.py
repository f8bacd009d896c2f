"""What a reader of one format gives: columns, warnings, and lines as often as they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.manifest.feed import Feed
from pipeline.manifest.row import Line

_MOST_COLUMNS = 2000


@dataclass(frozen=True, slots=True)
class Source:
    columns: tuple[str, ...]
    warnings: tuple[str, ...]
    lines: Callable[[], Iterator[Line]]  # from the start, each time; holds a few lines in memory at most
    feed: Feed | None = None  # a store's own table; its columns begin with ours
    kind: str = "table"  # for people


def checked_columns(names: Sequence[str], *, path: Path) -> tuple[str, ...]:
    """The header as columns: each has a name, and no name comes twice."""
    columns = tuple(name.strip() or f"column_{number}" for number, name in enumerate(names, start=1))
    if not any(name.strip() for name in names):
        raise BadInput(f"{path}: empty, not even a header", hint="its first line names the columns")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise BadInput(f"{path}: two columns are called {twice[0]!r}", hint="give one of them another name")
    if len(columns) > _MOST_COLUMNS:
        raise BadInput(f"{path}: {len(columns):,} columns, more than {_MOST_COLUMNS:,}: is this a table?")
    return columns
