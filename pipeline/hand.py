"""Lines in hand: looked at by a few, one for each processor, and waited for by many.

What it fears: more pictures in memory than were allowed, and an error that nobody hears of.
"""

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from threading import Condition
from typing import Any

IN_HAND, IN_HAND_BYTES = 64, 24_000_000
"""Lines whose pictures are being looked at and written, at most, while the download goes on: so many, or so large."""

MOST_EYES = 16

Ending = Callable[[], None]
"""The other half of writing a picture, which keeps no processor busy."""

Work = Callable[[], tuple[dict[str, Any], Sequence[Ending]]]
"""Looks at a line and begins its pictures: its row, and what is left to be done until they are there."""


class Hand:
    """Lines whose pictures are looked at and written while the download goes on: so many, or so large.

    As many are looked at together as there are processors. More than those would only take a picture from the
    processor's cache before it is done with; it is others who wait for disk and network.

    What is done makes room at once, in whatever order; rows are kept in the order of their lines, and a part when the
    last of its lines is done.
    """

    def __init__(
        self,
        eyes: Executor,
        pool: Executor,
        keep: Callable[[int, Iterator[dict[str, Any]]], object],
        *,
        room: int,
    ) -> None:
        self._eyes = eyes
        self._pool = pool
        self._room = room  # bytes
        self._keep = keep  # a part, and its rows
        self._rows: deque[Future[bytes]] = deque()  # of the part at hand
        self._packed: list[bytes] = []  # those before them, which are done
        self._kept: deque[Future[object]] = deque()
        self._changed = Condition()
        self._lines = self._bytes = 0  # that are not done
        self._error: BaseException | None = None

    def take(self, size: int, work: Work) -> None:
        """One more line. Waits until there is room for the next, and raises what went wrong with one before."""
        with self._changed:
            self._lines += 1
            self._bytes += size
        row: Future[bytes] = Future()
        row.add_done_callback(partial(self._done, size))
        self._rows.append(row)
        self._eyes.submit(self._look, work, row)
        with self._changed:
            while self._lines >= IN_HAND or (self._bytes > self._room and self._lines > 1):
                self._changed.wait()
        if self._error is not None:
            raise self._error
        while self._rows and self._rows[0].done():
            self._packed.append(self._rows.popleft().result())

    def close(self, part: int) -> None:
        """No more lines of this part will come."""
        while len(self._kept) > 2:
            self._kept.popleft().result()
        kept: Future[object] = Future()
        self._kept.append(kept)
        rows, self._rows = self._rows, deque()
        packed = chain(self._packed, (row.result() for row in rows))
        self._packed = []
        left = len(rows) + 1

        def one_is_done(_: object) -> None:
            nonlocal left
            with self._changed:
                left -= 1
                is_last = left == 0
            if is_last:  # not before: nobody is to wait here for those who need the same hands
                with _told(kept):
                    self._pool.submit(self._keep_all, part, packed, kept)

        for row in rows:
            row.add_done_callback(one_is_done)
        one_is_done(None)

    def finish(self) -> None:
        """Wait until everything is written."""
        while self._kept:
            self._kept.popleft().result()

    def _look(self, work: Work, row: Future[bytes]) -> None:
        with _told(row):
            told, endings = work()
            packed = pickle.dumps(told)  # a part may have many small ones: so they take a tenth of the memory
            if endings:
                self._pool.submit(self._end, endings, packed, row)
            else:
                row.set_result(packed)

    def _end(self, endings: Sequence[Ending], packed: bytes, row: Future[bytes]) -> None:
        with _told(row):
            for end in endings:
                end()
            row.set_result(packed)

    def _keep_all(self, part: int, packed: Iterator[bytes], kept: Future[object]) -> None:
        with _told(kept):
            kept.set_result(self._keep(part, map(pickle.loads, packed)))

    def _done(self, size: int, row: Future[bytes]) -> None:
        with self._changed:
            self._error = self._error or row.exception()
            self._lines -= 1
            self._bytes -= size
            self._changed.notify()


def processors() -> int:
    """Those that this process may use, where the system tells."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


@contextmanager
def eyes() -> Iterator[Executor]:
    """Who looks at pictures: one for each processor."""
    pool = ThreadPoolExecutor(min(MOST_EYES, processors()), thread_name_prefix="eyes")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _told(future: Future[Any]) -> Iterator[None]:
    """What goes wrong is told to whoever asks for it."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - as every executor does
        future.set_exception(error)
