"""Every line of a batch's result, joined to the request that it answers by its wire id and by nothing else.

What it fears: an answer under the wrong name, and a batch that is larger than memory. Lines come in whatever order the
provider had, requests are settled in that of the plan: in between each line lies on this machine's disk, from where it
is read when its turn comes. Of each a few numbers are in memory.
"""

from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from pipeline import staged
from pipeline.run import Run, place_of, staged_file
from pipeline.spool import spool
from pipeline.state import Batch
from pipeline.tables import STAGED

COLUMNS = tuple(name for name in STAGED.names if name != "raw")
"""All of a staged row but the bytes of unclaimed lines, which are copied one at a time."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A line nobody claims: billed, and nobody asked for it."""

    why: str
    line: int  # of the batch, from 0


class Joined:
    """The answer to each place, and the lines that are none; added in the order of the parts and their bytes."""

    def __init__(self, batch: int, file: BinaryIO) -> None:
        self.strays: list[Stray] = []
        self.starts: list[int] = []  # of each part: its first line
        self._batch = batch
        self._file = file
        self._ends = array("q", [0])  # of each line, in the file
        self._is_ok = bytearray()
        self._to: dict[int, int] = {}  # which line answers a place

    @property
    def lines(self) -> int:
        """How many there are of all kinds."""
        return len(self._is_ok)

    def answer(self, place: int) -> dict[str, Any] | None:
        """What came back for the request in this place."""
        return self.line(self._to[place]) if place in self._to else None

    def line(self, number: int) -> dict[str, Any]:
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        return dict(zip(COLUMNS, msgspec.msgpack.decode(self._file.read(end - start)), strict=True))

    def add(self, row: Mapping[str, Any]) -> None:
        """The next line. Of several answers for one place the first that is ok wins."""
        line, wire_id, kind = self.lines, row["wire_id"], row["outcome"]
        self._ends.append(self._ends[-1] + self._file.write(_packed([row[name] for name in COLUMNS])))
        self._is_ok.append(kind == "ok")
        if wire_id is None:
            self.strays.append(Stray("unreadable" if kind is None else "unknown id", line))
            return
        place = place_of(wire_id, self._batch)
        assert place is not None
        before = self._to.setdefault(place, line)
        if before == line:
            return
        if self._is_ok[line] and not self._is_ok[before]:
            line, self._to[place] = before, line
        self.strays.append(Stray("second answer", line))


_packed = msgspec.msgpack.Encoder().encode


@contextmanager
def joined(run: Run, batch: Batch) -> Iterator[Joined]:
    """All that came home of a batch. Each of its parts is read once, whatever the order of what is in them."""
    with spool() as file:
        found = Joined(batch.number, file)
        for part in range(len(batch.parts)):
            found.starts.append(found.lines)
            for row in staged.rows_in(run.storage, staged_file(batch.number, part), columns=COLUMNS):
                found.add(row)
        yield found
