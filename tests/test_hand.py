"""Lines in hand: none is lost, none waits for another that waits for it, and errors are heard of."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.hand import MOST_EYES, Ending, Hand, eyes, processors


def line(number: int, *endings: Ending) -> Callable[[], tuple[dict[str, Any], list[Ending]]]:
    return lambda: ({"line": number}, list(endings))


class Kept:
    """What was kept of each part."""

    def __init__(self) -> None:
        self.parts: dict[int, list[int]] = {}

    def __call__(self, part: int, rows: Iterator[dict[str, Any]]) -> None:
        self.parts[part] = [row["line"] for row in rows]


def test_parts_are_kept_in_the_order_of_their_lines_by_one_hand_alone() -> None:
    """One worker is enough, however many parts wait for it: no part waits for lines that wait for its worker."""
    kept = Kept()
    with eyes() as looking, ThreadPoolExecutor(1) as pool:
        hand = Hand(looking, pool, kept, room=1000)
        for part in range(20):
            for number in range(10):
                hand.take(50, line(10 * part + number, lambda: None))
            hand.close(part)
        hand.close(20)
        hand.finish()
    assert kept.parts == {part: list(range(10 * part, 10 * part + 10)) for part in range(20)} | {20: []}


def test_a_part_is_not_kept_before_the_last_of_its_endings() -> None:
    go_on, kept = threading.Event(), threading.Event()

    def keep(_part: int, rows: Iterator[dict[str, Any]]) -> None:
        assert [row["line"] for row in rows] == [0, 1]
        kept.set()

    with eyes() as looking, ThreadPoolExecutor(4) as pool:
        hand = Hand(looking, pool, keep, room=1000)
        hand.take(50, line(0, lambda: None))
        hand.take(50, line(1, lambda: go_on.wait(30) and None))
        hand.close(0)
        assert not kept.wait(0.2)
        go_on.set()
        hand.finish()
    assert kept.is_set()


def test_as_many_are_looked_at_together_as_there_are_processors() -> None:
    """And no more, while any number of them waits for the disk."""
    together, most, lock, full = 0, 0, threading.Lock(), threading.Barrier(min(MOST_EYES, processors()))

    def look() -> tuple[dict[str, Any], list[Ending]]:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        full.wait(30)
        time.sleep(0.02)
        with lock:
            together -= 1
        return {"line": 0}, []

    with eyes() as looking, ThreadPoolExecutor(8) as pool:
        hand = Hand(looking, pool, Kept(), room=10**9)
        for _ in range(3 * full.parties):
            hand.take(1, look)
        hand.close(0)
        hand.finish()
    assert most == full.parties


@pytest.mark.parametrize("room", [100, 10**9])
def test_no_more_is_in_hand_than_there_is_room_for(room: int) -> None:
    """Bytes, or lines; what waits to be written counts until it is."""
    begun, most, lock = 0, 0, threading.Lock()

    def look() -> tuple[dict[str, Any], list[Ending]]:
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun)
        return {"line": 0}, [end]

    def end() -> None:
        nonlocal begun
        with lock:
            begun -= 1

    kept = Kept()
    with eyes() as looking, ThreadPoolExecutor(2) as pool:
        hand = Hand(looking, pool, kept, room=room)
        for _ in range(500):
            hand.take(40, look)
        hand.close(0)
        hand.finish()
    assert len(kept.parts[0]) == 500
    assert most <= (3 if room == 100 else 64)


@pytest.mark.parametrize("where", ["looking", "ending", "keeping"])
def test_an_error_reaches_whoever_takes_the_next_line_or_finishes(where: str) -> None:
    def fail(*_: object) -> Any:
        raise OSError("no room")

    def collect() -> None:
        hand = Hand(looking, pool, fail if where == "keeping" else Kept(), room=1000)
        hand.take(50, fail if where == "looking" else line(0, *([fail] if where == "ending" else [])))
        hand.close(0)
        hand.finish()

    with eyes() as looking, ThreadPoolExecutor(2) as pool, pytest.raises(OSError, match="no room"):
        collect()


def test_a_line_larger_than_the_room_is_taken_by_itself() -> None:
    kept = Kept()
    with eyes() as looking, ThreadPoolExecutor(2) as pool:
        hand = Hand(looking, pool, kept, room=10)
        for number in range(3):
            hand.take(1000, line(number, lambda: None))
        hand.close(0)
        hand.finish()
    assert kept.parts == {0: [0, 1, 2]}
