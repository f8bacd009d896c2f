"""A finished job's rows, laid out as the bytes of its result file; nothing is made before it is read."""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass
from random import Random

from pipeline.emulator.answers import Answer, Maker
from pipeline.emulator.settings import Settings

BLOCK = 1024**2


@dataclass(frozen=True, slots=True)
class Emitted:
    """One line to come: whose answer, under which key, and which take of it."""

    answer: Answer
    key: str | None
    take: int


class Result:
    """The result file of one job. Holds some hundred bytes a row, whatever the pictures weigh."""

    def __init__(self, maker: Maker, lines: list[Emitted], *, cut: bool = False) -> None:
        self._maker = maker
        self._lines = lines
        self._ends = array("q")
        end = 0
        for line in lines:
            end += maker.length(line.answer, line.key, line.take)
            self._ends.append(end)
        last = end - (self._ends[-2] if len(lines) > 1 else 0)
        self.size = end - last // 2 if cut else end

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The spans, about a megabyte and at least one line each, that together are these bytes."""
        stop = min(stop, self.size)
        while start < stop:
            last = bisect_right(self._ends, max(start, min(start + BLOCK, stop) - 1))
            end = min(stop, self._ends[min(last, len(self._ends) - 1)])
            yield start, end
            start = end

    def read(self, start: int, stop: int) -> bytes:
        """These bytes of the file. Costs as much as the lines they touch."""
        first = bisect_right(self._ends, start)
        position = self._ends[first - 1] if first else 0
        skip, pieces = start - position, []
        while position < stop:
            line = self._lines[first]
            pieces.append(self._maker.line(line.answer, line.key, line.take))
            position = self._ends[first]
            first += 1
        data = b"".join(pieces) if len(pieces) > 1 else pieces[0]
        return data[skip : skip + stop - start]

    def __len__(self) -> int:
        return len(self._lines)

    def line(self, number: int) -> bytes:
        line = self._lines[number]
        return self._maker.line(line.answer, line.key, line.take)


def lay_out(answers: list[Answer], *, shuffle: str | None) -> list[Emitted]:
    """The lines of a result in the order they come: rows doubled, dropped, under wrong keys, and shuffled."""
    keys = [answer.key for answer in answers]
    for place, answer in enumerate(answers):
        if "swapped_keys" in answer.flags:
            other = (place + 1) % len(answers)
            keys[place], keys[other] = keys[other], keys[place]
        if "unknown_key" in answer.flags:
            keys[place] = f"nobody-sent-{place + 1}"
        if "no_key" in answer.flags:
            keys[place] = None
    lines = [
        Emitted(answer, key, take)
        for answer, key in zip(answers, keys, strict=True)
        for take in range(answer.lines)
    ]
    if shuffle is not None:
        Random(shuffle).shuffle(lines)
    return lines


def shuffle_of(answers: list[Answer], faults: Container[str], settings: Settings) -> str | None:
    """What decides the order of a result: equal rows come in equal order, whatever the job is called."""
    if "in_order" in faults:
        return None
    seeds = b"".join(answer.asked.seed for answer in answers if answer.asked)
    return f"{settings.seed} {hashlib.sha256(seeds).hexdigest()}"
