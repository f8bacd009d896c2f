"""What earlier runs have answered already, by fingerprint: tomorrow is cheap.

In memory is a table of 27 bytes for each earlier request, and a few batches' answers at a time. What an earlier run
recorded after this one was begun does not count, so that every driver of this run finds the same.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline import tables
from pipeline.asked import COLUMNS, prompt_of
from pipeline.clock import Clock, MachineClock
from pipeline.errors import BadInput, Corrupt
from pipeline.events import ON_ITS_WAY, Reused
from pipeline.fold import apply
from pipeline.journal import Journal
from pipeline.prompt import Prompt, Request, fingerprint
from pipeline.references import Reference
from pipeline.run import Run, index_file, plan_file
from pipeline.state import RESERVING, State
from pipeline.storage import NotFound, Storage, open_storage

SETTLED = frozenset({"ok", "blocked", "invalid", "wrong_size", "unfit", "reused"})
"""Outcomes that are carried over. Others are asked for again, on a few more nights."""

GOOD = frozenset({"ok", "wrong_size"})
"""Of these, those with a picture that a follow-up goes on from."""

MADE = "run:"
"""What the source of a reference begins with that an earlier run made."""

_TRIED = frozenset({"text_only", "no_image", "truncated", "broken", "error", "missing", "expired"})
_CARRIED = (
    "outcome",
    "reason",
    "message",
    "path",
    "width",
    "height",
    "mime",
    "bytes",
    "sha256",
    "pictures",
    "text",
    "grounding",
    "checks",
    "numbers",
    "parts",
    "thoughts",
    "thought_pictures",
    "enhanced_prompt",
    "safety_scores",
)
_ANSWERED = ("model_version", "response_id", "answered_at", "earlier", "made_in")
_BATCHES_AT_HAND = 8
_REQUEST = ("key", "shot", "variant", "turn")

_ENTRY = np.dtype(
    [("mark", "u8"), ("rest", "u8"), ("run", "u2"), ("batch", "i4"), ("place", "i4"), ("stands", "u1")]
)
_TRIED_ONCE, _SETTLED, _PAID = range(3)  # how an entry stands
_KNOWN = np.dtype([("which", "u8"), ("text", "u4"), ("shown", "u4"), ("model", "u4"), ("settings", "u4")])


@dataclass(frozen=True, slots=True)
class Night:
    """An earlier run, as far as its journal counts."""

    reused: Reused
    storage: Storage
    state: State


def night(storage: Storage, *, home: str, records: int | None = None, clock: Clock | None = None) -> Night:
    """The run in this place, by its first so many records; None: all there are now."""
    state = State()
    for record in Journal(storage, clock or MachineClock(), writer="reader").since(0):
        if records is not None and record.number >= records:
            break
        apply(state, record)
    if state.created is None:
        raise BadInput(
            f"{storage.url}: no run here, and its answers were to be reused", hint="take it out of reuse"
        )
    if records is not None and state.next < records:
        raise Corrupt(f"{storage.url}: {state.next} records where {records} were there before")
    reused = Reused(
        place=told(storage.url, home),
        run=state.created.run,
        records=state.next,
        unfinished=any(batch.stage in RESERVING for batch in state.batches),
    )
    return Night(reused, storage, state)


def nights_of(run: Run) -> list[Night]:
    """The earlier runs that this one was begun with, as they were then."""
    home = run.storage.url.rpartition("/")[0]
    return [
        night(open_storage(resolved(one.place, home)), home=home, records=one.records, clock=run.clock)
        for one in run.created.reused
    ]


def told(url: str, home: str) -> str:
    """How a run in this folder of runs names another: by its name alone where that lies beside it."""
    parent, _, name = url.rpartition("/")
    if url.startswith("gs://"):
        return name if parent == home.rstrip("/") else url
    path = Path(url).resolve()
    return path.name if not home.startswith("gs://") and path.parent == Path(home).resolve() else str(path)


def resolved(place: str, home: str) -> str:
    """The opposite."""
    return place if "/" in place or "\\" in place else f"{home.rstrip('/')}/{place}"


class Earlier:
    """The earlier runs that count, newest first."""

    def __init__(
        self, nights: Sequence[Night], *, home: str, retry_nights: int, across: Sequence[str] = ()
    ) -> None:
        self._nights = nights
        self._home = home
        self._retry_nights = retry_nights
        # What may differ is neutral on both sides. Without any, stored fingerprints are taken as they are.
        self._neutral: dict[str, Any] = {name: getattr(_NEUTRAL, name) for name in across}
        self._at_hand: OrderedDict[tuple[int, int], dict[int, dict[str, Any]]] = OrderedDict()
        self._pictures: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()

    @property
    def reused(self) -> tuple[Reused, ...]:
        return tuple(one.reused for one in self._nights)

    @property
    def is_all_proofs(self) -> bool:
        """Whether no night is among them, and so nobody has to be told why anything is shot."""
        return all(one.state.created is None or one.state.created.online for one in self._nights)

    @cached_property
    def proofs(self) -> frozenset[str]:
        """Those of them that are proofs, as an answer's `made_in` names them."""
        proofs = (one for one in self._nights if one.state.created and one.state.created.online)
        return frozenset(told(one.storage.url, self._home) for one in proofs)

    def answer(self, request: Request) -> dict[str, Any] | None:
        """What an earlier run says to this very request, as this run's index will hold it; None: nobody knows."""
        if request.prompt is None:
            return None
        mark = self._mark(request.prompt, request.variant)
        tried, paid = None, None
        count = 0
        for entry in self._entries_of(mark):
            run = int(entry["run"])
            if entry["stands"] == _PAID:
                paid = run if paid is None else paid
                continue
            row = self._row(run, int(entry["batch"]), int(entry["place"]))
            if entry["stands"] == _SETTLED:
                carried = self._carried(run, row)
                if self._is_there(carried):
                    return carried
            else:
                count += 1
                tried = tried or (run, row)
        if paid is not None:
            return self._expected(paid)
        if tried is not None and count > self._retry_nights:
            return self._carried(*tried)
        return None

    def answered(self, request: Request) -> Iterator[Request]:
        """The request, with the answer that an earlier run has, if one has; and then its follow-ups, as far as those
        are answered too. The first that is not goes on from the picture before it.
        """
        answer = self.answer(request)
        if answer is None:
            yield request
            return
        now = msgspec.structs.replace(request, carried=answer)
        while now.turns:
            turn = msgspec.structs.replace(
                now,
                prompt=now.turns[0],
                turn=now.turn + 1,
                turns=now.turns[1:],
                carried=None,
                origin=None,
                parent=None,
                wave=0,
                mark=fingerprint(now.turns[0], variant=now.variant),
            )
            answer = self.answer(turn)
            if answer is not None:
                yield msgspec.structs.replace(now, turns=())
                now = msgspec.structs.replace(turn, carried=answer)
                continue
            picture = picture_of(now.carried)
            if picture is not None:
                yield msgspec.structs.replace(now, turns=())
                now = _going_on(turn, picture)
            break  # without a picture before them, the rest of them come to nothing, and are told so
        yield now

    def load(self, picture: Reference) -> bytes:
        """The bytes of a picture that an earlier run made, and that is shown now."""
        where, _, path = picture.source.removeprefix(MADE).partition("/pictures/")
        try:
            return open_storage(resolved(where, self._home)).read(f"pictures/{path}")
        except NotFound as error:
            hint = "run the same command again: what goes on from it is then asked from its beginning"
            raise BadInput(f"{where}: pictures/{path} is gone", hint=hint) from error

    def is_gone(self, request: Request) -> str | None:
        """The picture that would have answered this request, and is not there any more."""
        if request.prompt is None:
            return None
        mark = self._mark(request.prompt, request.variant)
        for entry in self._entries_of(mark):
            if entry["stands"] != _SETTLED:
                continue
            run = int(entry["run"])
            row = self._carried(run, self._row(run, int(entry["batch"]), int(entry["place"])))
            if not self._is_there(row):
                return f"{row['made_in']}/{row['path']}"
        return None

    def why(self, request: Request) -> str:
        """Why nobody has answered it: what changed since the newest run that asked for this picture."""
        assert request.prompt is not None
        which = (request.key, request.shot, request.variant, request.turn)
        asked = _known(which, request.prompt, continued=request.continued)
        place = int(np.searchsorted(self._known["which"], asked[0]))
        if place == len(self._known) or self._known[place]["which"] != asked[0]:
            return "new"
        before = self._known[place]
        names = {"shown": "photo", "text": "prompt", "model": "model", "settings": "settings"}
        parts = dict(zip(_KNOWN.names or (), asked, strict=True))
        return next((word for name, word in names.items() if before[name] != parts[name]), "never answered")

    def _mark(self, prompt: Prompt, variant: int) -> str:
        neutral = msgspec.structs.replace(prompt, **self._neutral) if self._neutral else prompt
        return fingerprint(neutral, variant=variant)

    def _entries_of(self, mark: str) -> Iterator[Any]:
        wanted = int(mark[:16], 16)
        place = int(np.searchsorted(self._entries["mark"], np.uint64(wanted)))
        rest = int(mark[16:32], 16)
        while place < len(self._entries) and int(self._entries[place]["mark"]) == wanted:
            if int(self._entries[place]["rest"]) == rest:
                yield self._entries[place]
            place += 1

    @cached_property
    def _entries(self) -> Any:
        """Every request that earlier runs have settled, tried or paid for, by mark; the newest run first."""
        pieces: list[Any] = [np.empty(0, _ENTRY), *self._paid()]
        for run, batch, table in self._indexes(["fingerprint", "outcome", "place", "earlier"]):
            marks = table["fingerprint"].to_pylist()
            if self._neutral:
                marks = self._neutral_marks(run, batch, table["place"].to_pylist(), marks)
            outcomes = table["outcome"].to_pylist()
            known = zip(
                marks, outcomes, table["earlier"].to_pylist(), table["place"].to_pylist(), strict=True
            )
            rows = [
                (*_halves(mark), run, batch, place, _SETTLED if outcome in SETTLED else _TRIED_ONCE)
                for mark, outcome, earlier, place in known
                # Who waited for another run has no answer of its own.
                if mark and earlier != ON_ITS_WAY and (outcome in SETTLED or outcome in _TRIED)
            ]
            pieces.append(np.array(rows, _ENTRY))
        entries: Any = np.concatenate(pieces)
        # Of one run the later batch first: a further take answers for the one it was to better.
        return entries[np.lexsort((-entries["batch"], entries["run"], entries["mark"]))]

    def _paid(self) -> Iterator[Any]:
        """What is with the provider, or may be: to order it again would be to pay twice. So would be what is made from
        it, which will be asked there too.
        """
        for run, one in enumerate(self._nights):
            there: set[tuple[str, str, int]] = set()
            for batch in one.state.batches:
                if batch.stage in RESERVING:
                    rows = self._rows_of(run, batch.number)
                    there |= {_which(row)[:3] for row in rows}
                    yield self._paid_of(run, batch.number, rows)
            if there:
                yield from self._edits_of(run, there)

    def _rows_of(self, run: int, batch: int) -> list[dict[str, Any]]:
        columns = [*_REQUEST, "fingerprint", "place", "turns", "parent"]
        return list(tables.rows_of(self._table(run, plan_file(batch), columns)))

    def _edits_of(self, run: int, there: set[tuple[str, str, int]]) -> Iterator[Any]:
        """The rows that edit a picture of these, and those that edit theirs: nobody said them in any order."""
        waiting = [batch.number for batch in self._nights[run].state.batches if batch.waits and batch.planned]
        pairs = [
            (_which(row)[:3], _edited(row))
            for number in waiting
            for row in tables.rows_of(self._table(run, plan_file(number), [*_REQUEST, "parent"]))
        ]
        known = 0
        while known < len(there):
            known = len(there)
            there |= {which for which, edited in pairs if edited in there}
        for number in waiting:
            yield self._paid_of(
                run, number, [row for row in self._rows_of(run, number) if _edited(row) in there]
            )

    def _paid_of(self, run: int, batch: int, rows: list[dict[str, Any]]) -> Any:
        places = [row["place"] for row in rows]
        marks: list[str | None] = [row["fingerprint"] for row in rows]
        if self._neutral:
            marks = self._neutral_marks(run, batch, places, marks)
        paid = [
            (*_halves(mark), run, batch, place, _PAID)
            for mark, place in zip(marks, places, strict=True)
            if mark
        ]
        # What comes after it will be asked there too.
        paid += [
            (*_halves(turn["fingerprint"]), run, batch, row["place"], _PAID)
            for row in rows
            for turn in msgspec.json.decode(row["turns"] or "[]")
        ]
        return np.array(paid, _ENTRY)

    def _expected(self, run: int) -> dict[str, Any]:
        """A pointer to the run that will have the answer."""
        made_in = told(self._nights[run].storage.url, self._home)
        nothing = dict.fromkeys((*_CARRIED, *_ANSWERED))
        return nothing | {"outcome": "reused", "earlier": ON_ITS_WAY, "made_in": made_in}

    def _neutral_marks(
        self, run: int, batch: int, places: list[int], marks: list[str | None]
    ) -> list[str | None]:
        plan = self._table(run, plan_file(batch), ["place", "variant", "refusal", *COLUMNS])
        asked: dict[int, str] = {}
        for row in tables.rows_of(plan):
            if (prompt := prompt_of(row)) is not None and prompt.model:
                asked[row["place"]] = self._mark(prompt, row["variant"])
        return [asked.get(place) if mark else None for place, mark in zip(places, marks, strict=True)]

    @cached_property
    def _known(self) -> Any:
        """Every picture that earlier runs asked for, by which it is: 24 bytes each, of the newest run that did."""
        pieces: list[Any] = [np.empty(0, _KNOWN)]
        for run, one in enumerate(self._nights):
            for batch in one.state.batches:
                if batch.planned is None:
                    continue
                columns = ["key", "shot", "variant", "turn", "continued", "refusal", *COLUMNS]
                rows = tables.rows_of(self._table(run, plan_file(batch.number), columns))
                asked = ((row, prompt_of(row)) for row in rows)
                told = [
                    _known(_which(row), prompt, continued=row["continued"])
                    for row, prompt in asked
                    if prompt is not None and prompt.model
                ]
                pieces.append(np.array(told, _KNOWN))
        known: Any = np.concatenate(pieces)
        _, first = np.unique(known["which"], return_index=True)  # sorted, and of equal ones the newest run's
        return known[first]

    def _indexes(self, columns: list[str]) -> Iterator[tuple[int, int, Any]]:
        for run, one in enumerate(self._nights):
            for batch in one.state.batches:
                if batch.collected is not None and batch.collected.index is not None:
                    yield run, batch.number, self._table(run, batch.collected.index.name, columns)

    def _table(self, run: int, name: str, columns: list[str]) -> Any:
        storage = self._nights[run].storage
        try:
            return tables.from_parquet(storage.read(name), columns=columns)
        except NotFound as error:
            hint = "restore it, or take the run out of reuse"
            raise Corrupt(f"{storage.url}: {name} is gone", hint=hint) from error

    def _row(self, run: int, batch: int, place: int) -> dict[str, Any]:
        if (run, batch) not in self._at_hand:
            table = self._table(run, index_file(batch), ["place", *_CARRIED, *_ANSWERED])
            self._at_hand[run, batch] = {row["place"]: row for row in tables.rows_of(table)}
            if len(self._at_hand) > _BATCHES_AT_HAND:
                self._at_hand.popitem(last=False)
        self._at_hand.move_to_end((run, batch))
        return self._at_hand[run, batch][place]

    def _carried(self, run: int, row: dict[str, Any]) -> dict[str, Any]:
        """The answer with a pointer to the run that made the picture, however often it was carried over since."""
        url = self._nights[run].storage.url
        if row["outcome"] == "reused":
            made_in, earlier = resolved(row["made_in"], url.rpartition("/")[0]), row["earlier"]
        else:
            made_in, earlier = url, row["outcome"]
        carried = {name: row[name] for name in (*_CARRIED, *_ANSWERED)}
        return carried | {"outcome": "reused", "earlier": earlier, "made_in": told(made_in, self._home)}

    def _is_there(self, carried: dict[str, Any]) -> bool:
        path = carried["path"]
        if path is None:
            return True
        where = resolved(carried["made_in"], self._home)
        folder = path.rpartition("/")[0] + "/"
        if (where, folder) not in self._pictures:
            self._pictures[where, folder] = frozenset(open_storage(where).list(folder))
            if len(self._pictures) > _BATCHES_AT_HAND:
                self._pictures.popitem(last=False)
        return path in self._pictures[where, folder]


def _halves(mark: str) -> tuple[int, int]:
    return int(mark[:16], 16), int(mark[16:32], 16)


_NEUTRAL = Prompt(model="", text="", modalities=())


def _which(row: dict[str, Any]) -> tuple[str, str, int, int]:
    return row["key"], row["shot"], row["variant"], row["turn"]


def _edited(row: dict[str, Any]) -> tuple[str, str, int] | None:
    """The row whose picture this one edits."""
    parent = row["parent"]
    return None if parent is None else (parent["key"], parent["shot"], parent["variant"])


def _known(
    which: tuple[str, str, int, int], prompt: Prompt, *, continued: str | None
) -> tuple[int, int, int, int, int]:
    """Which picture it is, and what it was made of, as numbers."""
    marks = [reference.mark for reference in prompt.references]
    if continued == "picture":
        marks = marks[1:]  # what it goes on from, which is no photo of the user's
    plain = msgspec.structs.replace(
        prompt, text="", system=None, references=(), model="", store=None, after=None, context=0, history=None
    )
    return (
        _number(which, 8),
        _number([prompt.text, prompt.system, prompt.after], 4),
        _number(marks, 4),
        _number(prompt.model, 4),
        _number(repr(plain), 4),
    )


def picture_of(answer: Mapping[str, Any] | None) -> Reference | None:
    """The picture of an earlier run's answer, as one to show; None: it has none to go on from."""
    if answer is None or answer["earlier"] not in GOOD or answer["path"] is None:
        return None
    source = f"{MADE}{answer['made_in']}/{answer['path']}"
    size, width, height = answer["bytes"], answer["width"], answer["height"]
    return Reference(source, answer["sha256"], answer["mime"], size, width, height)


def _going_on(turn: Request, picture: Reference) -> Request:
    """A follow-up that is shown the picture before it. What was said there is in another run."""
    assert turn.prompt is not None
    shown = (picture, *turn.prompt.references)
    return msgspec.structs.replace(
        turn, prompt=msgspec.structs.replace(turn.prompt, references=shown, context=0), continued="picture"
    )


def _number(value: object, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(value), digest_size=size).digest())
