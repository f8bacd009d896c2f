"""Rows that edit another row's picture: who is made from whom.

What is remembered are the rows that others name, not those that name them: a thousand edits of one picture are one row.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import msgspec

from pipeline.job import Job, Settings
from pipeline.manifest import Manifest, Row
from pipeline.models import Models
from pipeline.problems import Problem, did_you_mean, nearest
from pipeline.prompt import Parent, Prompt, Request, chained, fingerprint
from pipeline.shot import Mould, Origin
from pipeline.templates import context_of, name_of

MOST_WAVES = 20
"""So many turns and edits may follow one another: each waits for the one before it."""

_LOOKED_FOR = 20
"""Unknown rows for which the nearest key is looked for."""

_AT_ONCE = 2000
_CIRCLE, _LEFT_OUT = "pictures made from each other", "what it is made from is left out"
_OWN = 'if it is a column of your own, add data = ["from"] to the job'
_Which = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Made:
    """The picture that others edit: whose it is, by which fingerprint it is known, how many waves it takes."""

    parent: Parent
    after: str
    waves: int


class Families:
    """Who edits whose picture, in one run. The rows are read when that is first asked: who only goes on need not."""

    def __init__(
        self, pour: Callable[[], Iterable[Request]], *, job: Job, manifest: Manifest, table: Models
    ) -> None:
        self._job, self._manifest, self._table, self._pour = job, manifest, table, pour
        # What is asked is kept only until it is known what others edit there.
        self._members: dict[str, dict[tuple[str, int], _Made | Problem | Request]] = {}
        self._absent: dict[str, Problem] | None = None

    def _look(self) -> dict[str, Problem]:
        """Read all rows twice: who is named, and what is asked of those. Says who is named and not there."""
        pour = self._pour
        named = {_named(request, request.origin) for request in pour() if request.origin is not None}
        for request in pour():
            if request.key in named or f"{request.key}/{request.shot}" in named:
                bare = msgspec.structs.replace(request, fields={})
                made = self._last_of(bare, None) if request.origin is None else bare
                self._members.setdefault(request.key, {})[request.shot, request.variant] = made
        return dict(self._looked_for({name for name in named if self._row_of(name) is None}))

    def placed(self, request: Request) -> Request:
        """The request with what it edits, or with what is wrong with that."""
        if request.origin is None or request.prompt is None:
            return request
        if self._absent is None:
            self._absent = self._look()
        made = self._parent_of(request)
        if isinstance(made, Problem):
            return self._refused(request, request.origin, made)
        return self._edit(request, request.prompt, made)

    def _edit(self, request: Request, prompt: Prompt, made: _Made) -> Request:
        # That its picture alone is gone on from makes it another request than a turn of the same words.
        first = msgspec.structs.replace(prompt, after=f"{made.after} picture")
        turns = chained(first, request.turns, variant=request.variant, model=self._table.find(prompt.model))
        return msgspec.structs.replace(
            request, prompt=first, turns=turns, parent=made.parent, wave=made.waves
        )

    def _refused(self, request: Request, origin: Origin, problem: Problem) -> Request:
        placed = replace(problem, where=self._job.manifest, row=origin.line, column=origin.column)
        why = f"{problem.message} {problem.value}" if problem.value else problem.message
        return msgspec.structs.replace(request, prompt=None, turns=(), refusal=why, problems=(placed,))

    def _parent_of(self, request: Request) -> _Made | Problem:
        """What a request edits. Looks as far up as is not known yet, and remembers what it found there."""
        above: dict[_Which, Request] = {}
        below = request
        made: _Made | Problem | None = None
        while below.origin is not None and below.prompt is not None:
            which = self._resolved(below, below.origin)
            if isinstance(which, Problem):
                made = which
                break
            known = self._members[which[0]][which[1:]]
            if not isinstance(known, Request):
                made = known
                break
            if which in above or which == _which(request):
                made = _circle([_which(request), *above], which)
                break
            above[which] = below = known
        for which, each in reversed(above.items()):
            made = self._members[which[0]][which[1:]] = self._last_of(each, made)
        assert made is not None
        if isinstance(made, _Made) and made.waves + len(request.turns) > MOST_WAVES:
            hint = "let some of them edit an earlier one"
            return Problem(
                f"more than {MOST_WAVES} pictures made one from the other",
                value=_name(_which(request)),
                hint=hint,
            )
        return made

    def _last_of(self, request: Request, edited: _Made | Problem | None) -> _Made | Problem:
        """The end of a request's conversation, which is what others edit."""
        if isinstance(edited, Problem):
            why = edited.message
            return edited if why == _CIRCLE else Problem(_LEFT_OUT, value=_name(_which(request)), hint=why)
        if request.prompt is None:
            return Problem(_LEFT_OUT, value=_name(_which(request)), hint=request.refusal)
        edit = request if edited is None else self._edit(request, request.prompt, edited)
        last = edit.turns[-1] if edit.turns else edit.prompt
        assert last is not None
        parent = Parent(request.key, request.shot, request.variant, len(edit.turns))
        return _Made(parent, fingerprint(last, variant=request.variant), edit.wave + len(edit.turns) + 1)

    def _resolved(self, request: Request, origin: Origin) -> _Which | Problem:
        """The request that a row means: of the same shot and variant, where nothing else is said."""
        name = _named(request, origin)
        found = self._row_of(name)
        if found is None:
            return (self._absent or {}).get(name) or Problem("no such row", value=origin.said)
        key, shot = found
        of_row = self._members[key]
        shots = list(dict.fromkeys(each for each, _ in of_row))
        if shot is None:
            shot = request.shot if request.shot in shots else shots[0] if len(shots) == 1 else None
        if shot is None:
            hint = "say which: " + " or ".join(f"{key}/{each}" for each in shots)
            return Problem("the row that it is made from has several shots", value=origin.said, hint=hint)
        return key, shot, request.variant if (shot, request.variant) in of_row else 0

    def _row_of(self, name: str) -> tuple[str, str | None] | None:
        """Key and shot of a row of this run. A key may have a slash in it."""
        if name in self._members:
            return name, None
        key, _, shot = name.rpartition("/")
        return (key, shot) if (shot, 0) in self._members.get(key, {}) else None

    def _looked_for(self, names: set[str]) -> Iterator[tuple[str, Problem]]:
        """Why rows are not in this run that others are made from."""
        if not names:
            return
        shots = {shot.name for shot in self._job.shots}
        keys = {
            name: key if shot in shots else name for name in names for key, _, shot in [name.rpartition("/")]
        }
        meant = {*keys.values(), *(name.rpartition("/")[0] for name in names)}
        there = {row.key for row in self._manifest.rows() if row.key in meant}
        for number, name in enumerate(sorted(names)):
            key = keys[name]
            if key in self._members:
                known = [f"{key}/{shot}" for shot, _ in self._members[key]]
                yield name, Problem("that row has no such shot", value=name, hint=did_you_mean(name, known))
            elif key in there:
                hint = "choose it too: it is left out by keys, where, limit or exclude"
                yield name, Problem("what it is made from is not in this run", value=name, hint=hint)
            elif name.rpartition("/")[0] in there:
                hint = did_you_mean(name.rpartition("/")[2], shots)
                yield name, Problem("no shot of that name", value=name, hint=hint)
            else:
                near = self._nearest(key) if number < _LOOKED_FOR else None
                hint = f"did you mean {near!r}?" if near else "from names another row by its key; " + _OWN
                yield name, Problem("no such row", value=name, hint=hint)

    def _nearest(self, key: str) -> str | None:
        """Of all keys, a few thousand at a time."""
        keys = (row.key for row in self._manifest.rows())
        found: list[str] = []
        while some := list(islice(keys, _AT_ONCE)):
            found += [near] if (near := nearest(key, some)) else []
        return nearest(key, found)


def _named(request: Request, origin: Origin) -> str:
    """The row that is meant; with a slash in front, the row's own."""
    return f"{request.key}{origin.said}" if origin.said.startswith("/") else origin.said


def _which(request: Request) -> _Which:
    return request.key, request.shot, request.variant


def _name(which: _Which) -> str:
    key, shot, variant = which
    return f"{key}/{shot}" + (f", variant {variant}" if variant else "")


def _circle(path: list[_Which], again: _Which) -> Problem:
    """Requests that lead back to one of them."""
    circle = " from ".join(_name(which) for which in [*path[path.index(again) :], again])
    return Problem(_CIRCLE, value=circle, hint="let one of them begin anew")


def alone(job: Job, columns: tuple[str, ...]) -> Callable[[Row], bool]:
    """Which rows can be shot without any other: those that edit no picture, or their own."""
    moulds = [mould for shot in job.shots if (mould := Mould(job, shot, columns)).edits]

    def is_alone(row: Row) -> bool:
        for mould in moulds:
            origin = mould.origin(row, mould.values(row, []), context_of(row.fields), [])
            if origin is not None and not f"{origin.said}/".startswith(("/", f"{row.key}/")):
                return False
        return True

    return is_alone


def edit_others(job: Job, columns: Iterable[str]) -> bool:
    """Whether any row may edit another's picture: most manifests are read once less."""
    layers: list[Settings] = [job.settings, job.defaults, *job.shots, *job.include]
    names = {name_of(column) for column in columns if not {column, name_of(column)} & {*job.data}}
    return "from" in names or any(layer.from_ is not None for layer in layers)
