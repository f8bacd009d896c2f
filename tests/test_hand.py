"""Lines in hand: none is lost, none waits for another that waits for it, and errors are heard of."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.hand import MOST_EYES, Ending, Hand, Work, eyes, processors


def line(number: int, *endings: Ending) -> Callable[[], tuple[dict[str, Any], list[Ending]]]:
    return lambda: ({"line": number}, list(endings))


class Kept:
    """What was kept of each part."""

    def __init__(self) -> None:
        self.parts: dict[int, list[int]] = {}

    def __call__(self, part: int, rows: Iterator[dict[str, Any]]) -> None:
        self.parts[part] = [row["line"] for row in rows]


def bring(
    pool: Executor, keep: Callable[..., object], *looks: Work, room: int = 1000, size: int = 50
) -> None:
    """These lines as the only part there is."""
    hand = Hand(pool, keep, room=room)
    hand.take((size, look) for look in looks)
    hand.close(0)
    hand.finish()


def test_parts_are_kept_in_the_order_of_their_lines_by_one_hand_alone() -> None:
    """One worker is enough, however many parts wait for it: no part waits for lines that wait for its worker."""
    kept = Kept()

    def lines() -> Iterator[tuple[int, Work]]:
        for number in range(200):
            if number and number % 10 == 0:
                hand.close(number // 10 - 1)
            yield 50, line(number, lambda: None)

    with ThreadPoolExecutor(1) as pool:
        hand = Hand(pool, kept, room=1000)
        hand.take(lines())
        for part in (19, 20):
            hand.close(part)
        hand.finish()
    assert kept.parts == {part: list(range(10 * part, 10 * part + 10)) for part in range(20)} | {20: []}


def test_rows_come_in_the_order_of_their_lines_whatever_is_done_first() -> None:
    kept, seen = Kept(), threading.Event()

    def slow() -> tuple[dict[str, Any], list[Ending]]:
        return {"line": 0}, [lambda: seen.wait(30) and None]

    def last() -> tuple[dict[str, Any], list[Ending]]:
        return {"line": 2}, [seen.set]

    with ThreadPoolExecutor(4) as pool:
        bring(pool, kept, slow, line(1), last)
    assert kept.parts == {0: [0, 1, 2]}


def test_a_part_is_not_kept_before_the_last_of_its_endings() -> None:
    go_on, kept = threading.Event(), threading.Event()

    def keep(_part: int, rows: Iterator[dict[str, Any]]) -> None:
        assert [row["line"] for row in rows] == [0, 1]
        kept.set()

    with ThreadPoolExecutor(4) as pool:
        hand = Hand(pool, keep, room=1000)
        hand.take(iter([(50, line(0, lambda: None)), (50, line(1, lambda: go_on.wait(30) and None))]))
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

    with ThreadPoolExecutor(8) as pool:
        bring(pool, Kept(), *[look] * (3 * full.parties), room=10**9, size=1)
    assert most == full.parties


def test_lines_are_asked_for_one_at_a_time_and_not_before_there_is_room() -> None:
    """They are views of what was read: a line that waits for its turn is memory."""
    looked_at, asked_by = 0, 0

    def look() -> tuple[dict[str, Any], list[Ending]]:
        nonlocal looked_at
        time.sleep(0.001)
        with lock:
            looked_at += 1
        return {"line": 0}, []

    def lines() -> Iterator[tuple[int, Work]]:
        nonlocal asked_by
        for asked in range(100):
            asked_by += 1
            assert asked_by == 1
            with lock:
                assert asked - looked_at < eyes()
            asked_by -= 1
            yield 10, look

    lock, kept = threading.Lock(), Kept()
    with ThreadPoolExecutor(2) as pool:
        hand = Hand(pool, kept, room=10**9)
        hand.take(lines())
        hand.close(0)
        hand.finish()
    assert len(kept.parts[0]) == 100


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
    with ThreadPoolExecutor(2) as pool:
        bring(pool, kept, *[look] * 500, room=room, size=40)
    assert len(kept.parts[0]) == 500
    assert most <= (3 if room == 100 else 64)


@pytest.mark.parametrize("where", ["bringing", "looking", "ending", "keeping"])
def test_an_error_reaches_whoever_takes_lines_or_finishes(where: str) -> None:
    def fail(*_: object) -> Any:
        raise OSError("no room")

    def lines() -> Iterator[tuple[int, Work]]:
        yield 50, fail if where == "looking" else line(0, *([fail] if where == "ending" else []))
        if where == "bringing":
            fail()
        for number in range(1, 10_000):
            looked_at.append(number)
            yield 50, line(number)

    def collect() -> None:
        hand = Hand(pool, fail if where == "keeping" else Kept(), room=1000)
        hand.take(lines())
        hand.close(0)
        hand.finish()

    looked_at: list[int] = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(OSError, match="no room"):
        collect()
    assert len(looked_at) < 9_999 or where == "keeping"


def test_what_came_before_the_lines_broke_off_is_kept() -> None:
    kept = Kept()

    def lines() -> Iterator[tuple[int, Work]]:
        yield 50, line(0, lambda: time.sleep(0.05))
        hand.close(0)
        yield 50, line(1)
        raise LookupError("the result is gone")

    with ThreadPoolExecutor(2) as pool:
        hand = Hand(pool, kept, room=1000)
        with pytest.raises(LookupError):
            hand.take(lines())
        hand.finish()
    assert kept.parts == {0: [0]}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started in the background of a script is told to ignore interrupts, and Python then does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_who_is_interrupted_does_not_bring_the_rest() -> None:
    """A result may have hours to go."""
    lines = 0

    def many() -> Iterator[tuple[int, Work]]:
        nonlocal lines
        while lines < 5_000:
            lines += 1
            if lines == 100:
                os.kill(os.getpid(), signal.SIGINT)
            if lines >= 100:
                time.sleep(0.001)
            yield 50, line(lines, lambda: None)

    with ThreadPoolExecutor(2) as pool:
        hand = Hand(pool, Kept(), room=1000)
        with pytest.raises(KeyboardInterrupt):
            hand.take(many())
        seen = lines
        time.sleep(0.2)
    assert 100 <= lines <= seen + eyes()


@pytest.mark.usefixtures("interruptible")
def test_who_is_interrupted_does_not_wait_for_the_network() -> None:
    """It may answer in a minute, or be asked five times."""
    answer = threading.Event()

    def silent() -> Iterator[tuple[int, Work]]:
        yield 50, line(0)
        os.kill(os.getpid(), signal.SIGINT)
        answer.wait(60)

    with ThreadPoolExecutor(2) as pool:
        hand, start = Hand(pool, Kept(), room=1000), time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            hand.take(silent())
        assert time.monotonic() - start < 30
        answer.set()


def test_a_line_larger_than_the_room_is_taken_by_itself() -> None:
    kept = Kept()
    with ThreadPoolExecutor(2) as pool:
        bring(pool, kept, *(line(number, lambda: None) for number in range(3)), room=10, size=1000)
    assert kept.parts == {0: [0, 1, 2]}
