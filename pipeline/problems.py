"""What is wrong with a row or a setting, as a value: collected, grouped, and said all at once."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where. The message names no value, so that equal problems group."""

    message: str  # lower case, no full stop: 'reference not found'
    where: str = ""  # the file, as the user wrote it; with a table of it in brackets
    row: int | None = None  # the line of the file, counted from 1
    column: str | None = None
    value: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        places = [self.where, "" if self.row is None else f"row {self.row}", self.column or ""]
        value = "" if self.value is None else f" {shortened(self.value)!r}"
        return ": ".join([place for place in places if place] + [self.message + value])


@dataclass(slots=True)
class Group:
    """Problems that say the same; the first of them stands for all."""

    example: Problem
    count: int = 1  # rows, not problems: a photo that is missing for three shots is one row's trouble
    last: int | None = None

    def __str__(self) -> str:
        if self.example.row is None:
            return str(self.example)
        problem = self.example
        example = " ".join(part for part in (f"row {problem.row}", shortened(problem.value or "")) if part)
        return f"{self.count:,} {'row' if self.count == 1 else 'rows'}: {problem.message}, e.g. {example}"


def group(problems: Iterable[Problem]) -> list[Group]:
    """Group a stream of problems, most rows first. Problems of one row follow each other; memory grows with
    the different messages only.
    """
    groups: dict[tuple[str, str | None], Group] = {}
    for problem in problems:
        # Without a row there is nothing to count: each such problem is a line of its own.
        kind = (problem.message if problem.row is not None else str(problem), problem.column)
        known = groups.setdefault(kind, Group(problem, count=0))
        if problem.row is None or known.last != problem.row:
            known.count += 1
        known.last = problem.row
    return sorted(groups.values(), key=lambda known: -known.count)


def refusal(problems: Sequence[Problem]) -> BadInput:
    """All problems as one exception; each of several has its own line, with its hint."""
    if len(problems) == 1:
        return BadInput(str(problems[0]), hint=problems[0].hint)
    lines = [f"  {problem}" + (f" ({problem.hint})" if problem.hint else "") for problem in problems]
    return BadInput(f"{len(problems)} problems\n" + "\n".join(lines))


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The name that was probably meant."""
    by_lower = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that is never empty: the nearest name, or all there are."""
    names = list(known)
    if match := nearest(name, names):
        return f"did you mean {match!r}?"
    if not names:
        return "there are none to choose from"
    return "there are " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def shortened(value: str, *, length: int = 60) -> str:
    """One line of a value, for a message."""
    line = " ".join(value.split())
    return line if len(line) <= length else line[: length - 1] + "…"
