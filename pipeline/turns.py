"""Follow-ups: what a settled request leads to, as the plan row of the next turn.

A pure function of what is in the run: whoever settles a batch writes the same turns/.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa

from pipeline import tables
from pipeline.asked import COLUMNS, called, prompt_of
from pipeline.backends import wire
from pipeline.earlier import resolved
from pipeline.errors import Corrupt
from pipeline.events import FINAL
from pipeline.run import Run, plan_file, reference_file, turns_file
from pipeline.storage import Storage, open_storage
from pipeline.storage.base import NotFound

CONVERSATION, PICTURE = "conversation", "picture"
"""How a follow-up goes on: with all that was said and shown before it, or with the final picture alone."""

PICTURED = frozenset({"ok", "wrong_size"})
"""Outcomes that another turn can go on from."""

_PINNED = ("source", "sha256", "mime", "size", "width", "height", "made_from", "rule", "generation", "role")
_encode = msgspec.json.Encoder(order="deterministic").encode


def lane_of(row: Mapping[str, Any]) -> str:
    """Which batches a follow-up goes into: its model's, or those of which nothing is sent."""
    return FINAL if row["refusal"] is not None or row["carried"] is not None else str(row["model"])


def next_turn(run: Run, row: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request that follows this one, now that its answer is final; None if it was the last.

    It keeps the place of the one before it. Where that has no picture it is refused, and keeps its own follow-ups:
    each ends for the same reason, with a row of its own in the index.
    """
    if row["turns"] is None:
        return None
    asked, *rest = msgspec.json.decode(row["turns"])
    turn = {
        **row,
        **dict.fromkeys(COLUMNS),
        "model": row["model"],
        "refusal": None,
        "carried": None,
        "parent": None,
        "continued": None,
        **asked,
        "turn": row["turn"] + 1,
        "turns": _encode(rest).decode() if rest else None,
        "attempt": 1,
        "spent": 0,
    }
    return turn | _going_on(run, row, answer, turn)


class Waiting:
    """The rows that edit a picture of one batch, as they were planned: pressed, and a few at a time as plain values."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._plans: list[pa.Table] = []
        self._places: dict[
            tuple[object, ...], list[tuple[int, int]]
        ] = {}  # in which of these, and where there
        there = [batch.number for batch in run.state.batches if batch.waits]
        if not there:
            return
        import pyarrow.compute as pc

        keys = tables.from_parquet(run.storage.read(plan_file(number)), columns=["key"])["key"]
        for each in there:
            plan = tables.from_parquet(run.storage.read(plan_file(each)))
            parents = pc.struct_field(plan["parent"], "key")
            ours = plan.filter(pc.is_in(parents, value_set=keys.combine_chunks()))
            for place, row in enumerate(tables.rows_of(ours.select(["parent"]))):
                which = _which(row["parent"])
                self._places.setdefault(which, []).append((len(self._plans), place))
            self._plans.append(ours)

    def released(self, parent: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows that edit this request's picture, now that its answer is final, in the order of the manifest."""
        if not self._places or parent["turns"] is not None:
            return  # the last turn of a conversation is what others edit
        places = self._places.get(_which(parent), [])
        outcome = _outcome(answer)
        shown = as_reference(self._run, answer) if places and outcome in PICTURED else None
        for row in self._rows(places):
            now = {**row, "take": parent["take"]}
            if shown is not None:
                yield now | {"continued": PICTURE, "references": [shown, *(row["references"] or ())]}
            elif outcome == "not_sent":
                yield now  # the run was stopped: it is not sent either
            else:
                yield now | {"refusal": why_not(parent, answer)}

    def _rows(self, places: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
        for plan, some in groupby(places, key=lambda each: each[0]):
            yield from tables.rows_of(self._plans[plan].take([place for _, place in some]))


def _which(row: Mapping[str, Any]) -> tuple[object, ...]:
    return row["key"], row["shot"], row["variant"], row["turn"]


def _outcome(answer: Mapping[str, Any]) -> str:
    """What a request came to, in whichever run."""
    return str(answer["earlier"] if answer["outcome"] == "reused" else answer["outcome"])


def _going_on(
    run: Run, row: Mapping[str, Any], answer: Mapping[str, Any], turn: Mapping[str, Any]
) -> dict[str, Any]:
    """What a turn's columns say of the one before it."""
    outcome = _outcome(answer)
    if turn["carried"] is not None or outcome == "not_sent":
        return {}  # the run was stopped: it is not sent either
    if outcome not in PICTURED:
        return {"refusal": why_not(row, answer)}
    said = answer.get("said")
    prompt = prompt_of(row)
    if said is None or prompt is None:
        shown = [as_reference(run, answer), *(turn["references"] or ())]
        return {"continued": PICTURE, "references": shown, "context": 0}
    return {"continued": CONVERSATION, "history": wire.conversation(prompt, said)}


def not_asked(row: Mapping[str, Any], *, why: str) -> dict[str, Any]:
    """A follow-up that has something to go on from, and shall not: as if there were nothing."""
    shown = row["references"]
    if row["continued"] == PICTURE:
        shown = shown[1:]
    return {**row, "refusal": why, "continued": None, "history": None, "references": shown}


def why_not(row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Why nothing can go on from a request: in a person's words, and with its name."""
    if answer["outcome"] == "no_parent":
        return str(answer["message"])  # of the one where it began
    outcome = _outcome(answer)
    return f"{called(row)} has no picture to go on from: {outcome}"


def as_reference(run: Run, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A final picture as the reference of another request: its bytes are put where references are kept."""
    home = run.storage
    if answer["outcome"] == "reused":
        home = open_storage(resolved(answer["made_in"], run.storage.url.rpartition("/")[0]))
    data = _picture(home, answer["path"], answer["sha256"])
    name = reference_file(answer["sha256"], answer["mime"])
    run.storage.put(name, data, content_type=answer["mime"])
    told = {name: answer[name] for name in ("sha256", "mime", "width", "height")}
    return dict.fromkeys(_PINNED) | told | {"source": answer["path"], "size": answer["bytes"]}


def _picture(home: Storage, path: str, sha256: str) -> bytes:
    """A picture of a run's. Raises Corrupt where it is not what was recorded."""
    try:
        data = home.read(path)
    except NotFound as error:
        hint = "restore it: another picture goes on from it"
        raise Corrupt(f"{home.url}: {path} is gone", hint=hint) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        hint = "restore it: another picture goes on from it"
        raise Corrupt(f"{home.url}: {path} is not the picture that was made", hint=hint)
    return data


def follow_ups(
    run: Run, number: int, lane: str, *, start: int, stop: int | None = None
) -> Iterator[dict[str, Any]]:
    """Those of a settled batch that go into a lane, from one to another, in the order of their file."""
    import pyarrow.compute as pc  # a sixth of what the others cost together, and few runs need it

    def ours(table: pa.Table) -> pa.BooleanArray:
        unsent = pc.or_(pc.is_valid(table["refusal"]), pc.is_valid(table["carried"]))
        if lane != FINAL:
            unsent = pc.and_(pc.invert(unsent), pc.equal(table["model"].cast(pa.string()), lane))
        return unsent.combine_chunks()

    data = run.storage.read(turns_file(number))
    # Of what was carried over its outcome says that there is something.
    by = ["refusal", "carried.outcome", "model"]
    return tables.some_of(data, ours, by=by, start=start, stop=stop)
