"""Decisions of people about pictures: read from their file, held against the index, and recorded.

What it fears: a decision about another picture than was meant. So a file is applied whole or not at all, and everything
that is wrong with it is said at once. Safe to repeat: what stands already is not applied again.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from pipeline import tables
from pipeline.decisions import APPROVED, REJECTED, Decision, Judged, applied, standing
from pipeline.errors import BadInput
from pipeline.events import FINAL, File, Reviewed
from pipeline.manifest import Manifest, Row, open_manifest
from pipeline.problems import Problem, did_you_mean, refusal
from pipeline.run import Run, plan_file, review_file
from pipeline.storage import AlreadyThere
from pipeline.turns import follow_ups

WORDS = (APPROVED, REJECTED)
REASONS = ("decision_reason", "reason")
"""Where a reason stands. The first is what our own index calls it: there `reason` is the model's."""

_NUMBERS = ("variant", "turn", "take")
_ONE_OF = ("shot", "variant", "turn")
_NUMBER = re.compile(r"(\d{1,5})(?:\.0*)?", re.ASCII)  # as spreadsheets write it
_INDEX = ["key", *_ONE_OF, "take", "outcome", "path", "sha256", "batch", "place"]
_PLAN = ["key", *_ONE_OF, "take", "turns"]
_SAID = 50  # problems that are said: who has more of them has one problem
_GUESSED = 5  # unknown keys whose nearest is looked for: a run may have millions


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a file of decisions."""

    approved: int
    rejected: int
    undecided: int  # rows that hold none
    file: str | None  # None: all of it stood already, and nothing was written


class _Said(NamedTuple):
    """A decision as it is written. None: not said of the picture."""

    line: int
    key: str
    shot: str | None
    variant: int | None
    turn: int | None
    take: int | None
    word: str
    reason: str | None

    def means(self, row: Mapping[str, Any], *names: str) -> bool:
        return all(getattr(self, name) in (None, row[name]) for name in names)


def apply(run: Run, path: Path) -> Applied:
    """Record what a person decided. Raises BadInput with all that is wrong, and has then written nothing."""
    manifest = open_manifest(path, key="key")
    said, undecided, trouble = _read(manifest)
    while True:
        run.catch_up()
        rows = _matched(run, said, trouble, where=str(path))
        words = [row["decision"] for row in rows]
        done = Applied(words.count(APPROVED), words.count(REJECTED), undecided, None)
        before = standing(run)
        if all(before.get((row["batch"], row["place"])) == _decision(row) for row in rows):
            return done
        number, file = _keep(run, rows)
        event = Reviewed(
            number=number,
            file=file,
            reviewed=len(run.state.reviews),
            approved=done.approved,
            rejected=done.rejected,
            decided=_decided(run, rows),
        )
        if run.try_record(event):  # else somebody else applied theirs meanwhile
            return replace(done, file=file.name)


def _decision(row: Mapping[str, Any]) -> Decision:
    return Decision(row["decision"], row["reason"])


def _keep(run: Run, rows: Sequence[Mapping[str, Any]]) -> tuple[int, File]:
    """The decisions in a file with the next free number: one that nobody came to record keeps its own."""
    data = tables.to_parquet(rows, tables.review_schema())
    first = max((review.number for review in run.state.reviews), default=-1) + 1
    for number in count(first):
        try:
            run.storage.put_if_absent(
                review_file(number), data, content_type="application/vnd.apache.parquet"
            )
        except AlreadyThere:
            continue
        return number, File(review_file(number), len(data), hashlib.sha256(data).hexdigest())
    raise AssertionError("numbers do not end")


def _decided(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Of each lane, the batches whose follow-ups wait for nobody any more, now that these are judged."""
    if run.state.follow_ups != "approved":
        return {}
    judged = Judged(run, [*applied(run), *rows])
    found: dict[str, list[int]] = defaultdict(list)
    for number in sorted({row["batch"] for row in rows}):
        batch = run.state.batches[number]
        for lane in sorted(batch.turns.keys() - batch.decided - {FINAL}):
            if all(judged.has_parent_of(turn) for turn in follow_ups(run, number, lane, start=0)):
                found[lane].append(number)
    return {lane: tuple(numbers) for lane, numbers in found.items()}


# --- the person's file -------------------------------------------------------------------------------------------


def _read(manifest: Manifest) -> tuple[list[_Said], int, list[Problem]]:
    """Its decisions, how many rows hold none, and what is wrong with how they are written."""
    if "decision" not in manifest.columns:
        hint = did_you_mean("decision", manifest.columns)
        raise BadInput(f"{manifest.path}: no column 'decision'", hint=hint)
    said: list[_Said] = []
    undecided = 0
    problems: list[Problem] = []
    for row in manifest.rows():
        wrong = list(_wrong(row, where=str(manifest.path)))
        problems += wrong
        if not wrong and _cell(row, "decision"):
            said.append(_said(row))
        undecided += not wrong and not _cell(row, "decision")
    if not said and not problems:
        hint = f"write {' or '.join(WORDS)} into its column decision"
        raise BadInput(f"{manifest.path}: no decision in it", hint=hint)
    return said, undecided, problems


def _wrong(row: Row, *, where: str) -> Iterator[Problem]:
    if row.trouble is not None:
        yield Problem(row.trouble, where=where, row=row.line)
        return
    word = _cell(row, "decision")
    if not word:
        return
    if word.lower() not in WORDS:
        hint = did_you_mean(word, WORDS)
        yield Problem("no such decision", where=where, row=row.line, column="decision", value=word, hint=hint)
    if not _cell(row, "key"):
        yield Problem("a decision about no picture", where=where, row=row.line, column="key")
    for name in _NUMBERS:
        if _cell(row, name) and _number(row, name) is None:
            yield Problem("no number", where=where, row=row.line, column=name, value=_cell(row, name))


def _said(row: Row) -> _Said:
    reason = next((_cell(row, name) for name in REASONS if name in row.fields), "")
    return _Said(
        row.line,
        _cell(row, "key"),
        _cell(row, "shot") or None,
        word=_cell(row, "decision").lower(),
        reason=reason or None,
        **{name: _number(row, name) for name in _NUMBERS},
    )


def _cell(row: Row, name: str) -> str:
    return row.fields.get(name, "").strip()


def _number(row: Row, name: str) -> int | None:
    match = _NUMBER.fullmatch(_cell(row, name))
    return int(match[1]) if match else None


# --- the pictures that are meant ---------------------------------------------------------------------------------


def _matched(
    run: Run, said: Sequence[_Said], trouble: Sequence[Problem], *, where: str
) -> list[dict[str, Any]]:
    """The rows of a review file, in the order of the index. Raises BadInput with all problems there are."""
    there = _rows_of(run, {one.key for one in said})
    problems = list(trouble)
    found: dict[tuple[int, int], tuple[_Said, dict[str, Any]]] = {}
    absent: list[_Said] = []
    for one in said:
        row = _meant(one, there.get(one.key, ()), where=where)
        if row is None:
            absent.append(one)
        elif isinstance(row, Problem):
            problems.append(row)
        else:
            known, _ = found.setdefault((row["batch"], row["place"]), (one, row))
            if known.word != one.word:
                problems.append(
                    _problem(
                        one,
                        "another decision about the same picture",
                        "decision",
                        where=where,
                        hint=f"row {known.line} says {known.word}",
                    )
                )
    problems += _absences(run, absent, where=where)
    if problems:
        raise _refusal(sorted(problems, key=lambda problem: problem.row or 0))
    return [{**row, "decision": one.word, "reason": one.reason} for _, (one, row) in sorted(found.items())]


def _rows_of(run: Run, keys: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """What came of these rows of the manifest: every take."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for batch in run.state.batches:
        if batch.collected is not None and batch.collected.index is not None:
            for row in _chosen(run, batch.collected.index.name, _INDEX, keys):
                found[row["key"]].append(row)
    return found


def _chosen(run: Run, name: str, columns: list[str], keys: Collection[str]) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    table = tables.from_parquet(run.storage.read(name), columns=columns)
    yield from tables.rows_of(table.filter(pc.is_in(table["key"], value_set=pa.array(keys, pa.string()))))


def _meant(said: _Said, there: Iterable[dict[str, Any]], *, where: str) -> dict[str, Any] | Problem | None:
    """The one picture that is meant: without a take, the latest. None: it is not in the index."""
    rows = [row for row in there if said.means(row, *_ONE_OF, "take")]
    for name in _ONE_OF:
        several = sorted({row[name] for row in rows})
        if len(several) > 1:
            hint = f"say in a column {name} which: {', '.join(map(str, several[:12]))}"
            return _problem(said, "several pictures", "key", where=where, hint=hint)
    latest = max(rows, key=lambda row: row["take"], default=None)
    if latest is not None and latest["path"] is None:
        return _problem(said, f"no picture to judge, it is {latest['outcome']}:", "key", where=where)
    return latest


def _problem(said: _Said, message: str, column: str, *, where: str, hint: str | None = None) -> Problem:
    value = getattr(said, "word" if column == "decision" else column)
    return Problem(message, where=where, row=said.line, column=column, value=str(value), hint=hint)


def _absences(run: Run, absent: Sequence[_Said], *, where: str) -> Iterator[Problem]:
    """Why each of these is not in the index: nobody asked for it, or it is not home yet."""
    if not absent:
        return
    planned = _planned(run, {one.key for one in absent})
    unknown = [one for one in absent if one.key not in planned]
    keys = _keys(run) if unknown else []
    for place, one in enumerate(unknown):
        hint = did_you_mean(one.key, keys) if place < _GUESSED else None
        yield _problem(one, "no such row in the run", "key", where=where, hint=hint)
    for one in absent:
        if one.key in planned:
            yield _absence(one, planned[one.key], where=where)


def _absence(said: _Said, planned: Sequence[Mapping[str, Any]], *, where: str) -> Problem:
    rows = planned
    for name in (*_ONE_OF, "take"):
        known = sorted({row[name] for row in rows})
        rows = [row for row in rows if said.means(row, name)]
        if not rows:
            hint = (
                f"there are {', '.join(map(str, known[:12]))}" if len(known) > 1 else f"there is {known[0]}"
            )
            return _problem(said, f"no such {name}", name, where=where, hint=hint)
    hint = "nightshoot status says how far the run is; judge it when its picture is home"
    return _problem(said, "not collected yet", "key", where=where, hint=hint)


def _planned(run: Run, keys: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """What of these rows of the manifest is asked, or will be when what it goes on from is home."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for batch in run.state.batches:
        for row in _chosen(run, plan_file(batch.number), _PLAN, keys) if batch.planned is not None else ():
            coming = len(msgspec.json.decode(row["turns"])) if row["turns"] else 0
            found[row["key"]] += [{**row, "turn": row["turn"] + n} for n in range(coming + 1)]
    return found


def _keys(run: Run) -> list[str]:
    """How the rows of the run are called."""
    found: dict[str, None] = {}
    for batch in run.state.batches:
        if batch.planned is not None:
            plan = tables.from_parquet(run.storage.read(plan_file(batch.number)), columns=["key"])
            found.update(dict.fromkeys(plan["key"].to_pylist()))
    return list(found)


def _refusal(problems: Sequence[Problem]) -> BadInput:
    """All of them in one; of very many the first."""
    error = refusal(problems[:_SAID])
    if len(problems) <= _SAID:
        return error
    more = f"  and {len(problems) - _SAID:,} more"
    return BadInput(f"{error.message}\n{more}", hint="nothing was applied")
