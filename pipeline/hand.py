"""Lines in hand: looked at by a few, one for each processor, and waited for by many.

What it fears: more pictures in memory than were allowed, and an error that nobody hears of.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread
from typing import Any

IN_HAND, IN_HAND_BYTES = 64, 24_000_000
"""Lines whose pictures are being looked at and written, at most, while the download goes on: so many, or so large."""

MOST_EYES = 16

OPEN_PARTS = 3
"""Parts that are not kept yet, at most, besides the one whose lines come."""

Ending = Callable[[], None]
"""The other half of writing a picture, which keeps no processor busy."""

Work = Callable[[], tuple[dict[str, Any], Sequence[Ending]]]
"""Looks at a line and begins its pictures: its row, and what is left to be done until they are there."""


@dataclass(slots=True)
class _Part:
    """Rows in the order of their lines. Packed, for a part may have many small ones: so they take a tenth."""

    rows: list[bytes] = field(default_factory=list)
    left: int = 0  # that are not done
    number: int | None = None  # known when no more lines of it will come


class Hand:
    """Lines whose pictures are looked at and written while the download goes on: so many, or so large.

    As many are looked at together as there are processors, each by whoever fetched it, from the first byte of it to
    the last of its picture: another one would have to bring all of it close to another processor again. It is others
    who wait for disk and network.

    What is done makes room at once, in whatever order; rows are kept in the order of their lines, and a part when the
    last of its lines is done.
    """

    def __init__(
        self, pool: Executor, keep: Callable[[int, Iterator[dict[str, Any]]], object], *, room: int
    ) -> None:
        self._pool = pool
        self._room = room  # bytes
        self._keep = keep  # a part, and its rows
        self._turn = Lock()  # to fetch the next line
        self._changed = Condition()
        self._part = _Part()
        self._lines = self._bytes = self._open = 0  # lines and their bytes, and parts, that are not done
        self._looking = 0
        self._error: BaseException | None = None  # of a line, or of a part
        self._broken: BaseException | None = None  # of who brings the lines
        self._is_over = False

    def take(self, lines: Iterator[tuple[int, Work]]) -> None:
        """All of these lines, the size of each and how to look at it. Raises what goes wrong with them or with one.

        They are asked for one at a time, by whoever has nothing to look at, and not before there is room. Who is
        interrupted does not wait for those who look: one of them may be waiting for the network, for minutes.
        """
        try:
            for number in range(eyes()):
                with self._changed:
                    self._looking += 1
                Thread(target=self._look_on, args=(lines,), name=f"eyes-{number}", daemon=True).start()
            with self._changed:
                self._changed.wait_for(lambda: not self._looking)
        finally:
            self._stop()
        if self._broken is not None:
            raise self._broken
        self._complain()

    def close(self, number: int) -> None:
        """This was a part, and no more lines of it will come. To be called by who brings the lines."""
        with self._changed:
            self._changed.wait_for(lambda: self._open < OPEN_PARTS or self._is_stopped)
            part, self._part = self._part, _Part()
            part.number = number
            self._open += 1
            is_done = not part.left
        if is_done:
            self._put_away(part)

    def finish(self) -> None:
        """Wait until everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open or self._error is not None)
        self._complain()

    @property
    def _is_stopped(self) -> bool:
        return self._is_over or self._error is not None

    def _complain(self) -> None:
        if self._error is not None:
            raise self._error

    def _stop(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _look_on(self, lines: Iterator[tuple[int, Work]]) -> None:
        try:
            while self._look_at_one(lines):
                pass
        except BaseException as error:  # noqa: BLE001 - it is raised where lines were to be taken
            self._broken = error
            self._stop()
        with self._changed:
            self._looking -= 1
            self._changed.notify_all()

    def _look_at_one(self, lines: Iterator[tuple[int, Work]]) -> bool:
        """False: there are no more, or there is no sense in it."""
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: self._has_room() or self._is_stopped)
            if self._is_stopped or (line := next(lines, None)) is None:
                return False
            size, work = line
            with self._changed:
                self._lines += 1
                self._bytes += size
                part, place = self._part, len(self._part.rows)
                part.left += 1
                part.rows.append(b"")

        def done(row: bytes) -> None:
            part.rows[place] = row
            with self._changed:
                self._lines -= 1
                self._bytes -= size
                part.left -= 1
                is_done = part.number is not None and not part.left
                self._changed.notify_all()
            if is_done:
                self._put_away(part)

        with self._heard():
            self._look(work, done)
        return True

    def _has_room(self) -> bool:
        return self._lines < IN_HAND and (self._bytes <= self._room or not self._lines)

    def _look(self, work: Work, done: Callable[[bytes], None]) -> None:
        told, endings = work()
        row = pickle.dumps(told)
        if not endings:
            done(row)
            return

        def end() -> None:
            with self._heard():
                for each in endings:
                    each()
                done(row)

        self._pool.submit(end)

    def _put_away(self, part: _Part) -> None:
        """Have a part kept that is done. Not sooner: who keeps it would wait for lines that wait for the same hands."""
        assert part.number is not None
        number = part.number

        def keep() -> None:
            with self._heard():
                self._keep(number, map(pickle.loads, part.rows))
                with self._changed:
                    self._open -= 1
                    self._changed.notify_all()

        self._pool.submit(keep)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """What goes wrong is told to whoever waits for it."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - as every executor does
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()


def eyes() -> int:
    """How many look at pictures together."""
    return min(MOST_EYES, processors())


def processors() -> int:
    """Those that this process may use, where the system tells."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
