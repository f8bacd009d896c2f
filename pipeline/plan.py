"""Rows become batches: a drawn record, plan/00017.parquet, requests/00017.jsonl, a planned record.

Offline, free, and the same every time. What goes into a batch is decided in the journal before any file of it exists;
the rest follows from that record, so drivers that do it at once write the same bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from operator import add
from typing import Any, NamedTuple

import msgspec

from pipeline import tables
from pipeline.asked import columns_of, prompt_of
from pipeline.backends import lines, schema, wire
from pipeline.errors import BadInput
from pipeline.events import (
    FINAL,
    LATER,
    UNASKED,
    Drawn,
    File,
    Limits,
    Planned,
    Rows,
)
from pipeline.manifest import Manifest, Row
from pipeline.models import Model
from pipeline.money import Estimate, estimate, served
from pipeline.prompt import TO_COME, Prompt, Request, fingerprint
from pipeline.references import Reference
from pipeline.run import Run, is_inline, plan_file, reference_file, requests_file, wire_id
from pipeline.state import Illegal, Stage, lane_of
from pipeline.storage.base import AlreadyThere

FINAL_REQUESTS = 50_000
"""How many requests without a result go into one batch: nothing is sent, so only memory counts."""

AT_ONCE = 40
"""Requests to a batch that goes online: as many as can be asked in the time that one has."""

Pour = Callable[[Iterable[Row]], Iterator[Request]]
"""Rows in, requests out, in order, one row at a time."""


class Size(NamedTuple):
    """What counts against the limits of a batch."""

    requests: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    tokens: int = 0

    def __add__(self, other: "Size") -> "Size":  # type: ignore[override]
        return Size(*map(add, self, other))

    def fits(self, limits: Limits) -> bool:
        """Whether this is not too much for one batch."""
        return (
            self.requests <= limits.requests
            and self.input_bytes <= limits.input_bytes
            and self.output_bytes <= limits.output_bytes
            and self.tokens <= limits.tokens
        )


def tokens(price: Estimate) -> int:
    """What Google is taken to count against its queue. It does not say whether answers count: so they do."""
    return price.tokens_in + price.tokens_out


class Planner:
    """Whoever has the manifest, and can plan a run's batches from it."""

    def __init__(
        self,
        run: Run,
        *,
        manifest: Manifest,
        pour: Pour,
        load: Callable[[Reference], bytes],
    ) -> None:
        if manifest.digest != run.created.manifest_sha256:
            raise BadInput(
                f"{manifest.path}: is not the manifest that {run.name} was made from",
                hint="undo the change to go on with that run, or start a new one with --new",
            )
        self._run = run
        self._manifest = manifest
        self._pour = pour
        self._load = load
        self._stored: set[str] = set()
        self._models = {name: msgspec.convert(row, Model) for name, row in run.created.models.items()}
        self._streams = {lane: _Stream(self, lane) for lane in run.state.drawn}

    def draw(self) -> bool:
        """Plan the next batch of any lane. False: all rows are drawn."""
        # Those that wait come first: nothing is settled before all of them are planned.
        for lane, start in sorted(self._run.state.drawn.items(), key=lambda each: each[0] != LATER):
            if start < self._run.created.rows:
                return self._draw(lane, start)
        return False

    def _draw(self, lane: str, start: int) -> bool:
        stop, requests = self._streams[lane].cut(start)
        number = len(self._run.state.batches)
        drawn = Drawn(batch=number, source=Rows(start, stop, lane), online=self.only_at_once(lane))
        if not self._run.try_record(drawn):
            return True  # another driver drew these rows, or took the number: look again
        self.write(number, lane, requests)
        return True

    def plan_again(self, number: int, source: Rows) -> None:
        """Do once more what another driver began."""
        rows = (row for row in self._manifest.rows() if source.start <= row.ordinal < source.stop)
        requests = list(self._pour(rows))
        if FINAL not in self._run.created.lanes:
            _check_good(self._run, requests)
        self.write(number, source.lane, [request for request in requests if request.lane == source.lane])

    def write(self, number: int, lane: str, requests: list[Request]) -> None:
        for request in requests:
            if request.prompt is None or request.carried:
                continue
            for prompt in (request.prompt, *request.turns):
                for reference in prompt.references:
                    self._keep(reference)
        by = lane_of(self._run.state.batches[number])

        def likely(prompt: Prompt) -> int:
            model = self._models[prompt.model]
            return estimate(prompt, model, served(model, self._run.created.backend, by)).likely

        rows = [_plan_row(place, request, likely) for place, request in enumerate(requests)]
        model = self._models.get(lane)
        asked = [None if request.carried else request.prompt for request in requests]
        write_batch(self._run, number, rows, model=model, asked=asked)

    def _keep(self, reference: Reference) -> None:
        """Store what the model is shown, once: after planning nobody reads the user's files again."""
        if reference.sha256 in self._stored:
            return
        data = self._load(reference)
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise BadInput(
                f"{reference.source}: changed while it was being planned", hint="run the same command again"
            )
        name = reference_file(reference.sha256, reference.mime)
        self._run.storage.put(name, data, content_type=reference.mime)
        self._stored.add(reference.sha256)

    def rows_from(self, start: Callable[[], int]) -> Iterator[tuple[int, list[Request]]]:
        """Rows and what they become; rows below start, asked anew for each, are stepped over unread."""
        stop = self._run.created.rows
        rows = takewhile(lambda row: row.ordinal < stop, self._manifest.rows())
        wanted = (row for row in rows if row.ordinal >= start())
        for ordinal, poured in groupby(self._pour(wanted), key=lambda request: request.row):
            requests = list(poured)
            if FINAL not in self._run.created.lanes:
                _check_good(self._run, requests)
            yield ordinal, requests

    def model(self, lane: str) -> Model | None:
        return self._models.get(lane)

    def only_at_once(self, lane: str) -> bool:
        """Whether this model is served by calls that are answered at once, and in no other way."""
        model = self._models.get(lane)
        return model is not None and model.only_at_once(self._run.created.backend)

    def limits(self, lane: str) -> Limits:
        limits = self._run.created.limits
        if not self.only_at_once(lane):
            return limits
        return msgspec.structs.replace(limits, requests=min(AT_ONCE, limits.requests))

    @property
    def inline(self) -> bool:
        return is_inline(self._run)

    @property
    def canary(self) -> int:
        return self._run.created.canary

    @property
    def rows(self) -> int:
        return self._run.created.rows


class _Stream:
    """One lane's requests, cut into batches. Reads the manifest once, however many batches that makes."""

    def __init__(self, planner: Planner, lane: str) -> None:
        self._planner = planner
        self._lane = lane
        self._start = 0
        self._rows = planner.rows_from(lambda: self._start)
        self._ahead: tuple[int, list[Request]] | None = None
        self._stop: int | None = None  # of the cut that begins at _start, once there is one
        self._taken: list[Request] = []

    def cut(self, start: int) -> tuple[int, list[Request]]:
        """The requests of the next batch from this row on, and the row it stops before.

        A batch ends right before a row that would not fit, so trailing rows of other lanes belong to it too.
        Asked again from the same row, it says the same: a cut is not drawn before its record is written.
        """
        if self._stop is None or self._start != start:
            self._start, self._taken, self._stop = start, [], None
            self._stop = self._take()
        return self._stop, self._taken

    def _take(self) -> int:
        size = Size()
        for row, requests in self._next_rows():
            larger = self._with(size, requests)
            if self._taken and not self._fits(larger):
                self._ahead = (row, requests)
                return row
            self._taken += requests
            size = larger
        return self._planner.rows

    def _next_rows(self) -> Iterator[tuple[int, list[Request]]]:
        if self._ahead is not None and self._ahead[0] >= self._start:
            ahead, self._ahead = self._ahead, None
            yield ahead
        for row, requests in self._rows:
            ours = [request for request in requests if request.lane == self._lane]
            # Some rows are read ahead, so they may have been before others drew batches from here on.
            if ours and row >= self._start:
                yield row, ours

    def _with(self, size: Size, requests: list[Request]) -> Size:
        model, inline = self._planner.model(self._lane), self._planner.inline
        for request in requests:
            if request.prompt is None or request.carried or model is None:
                size += Size(1)
            else:
                size += size_of(request.prompt, model, inline=inline)
        return size

    def _fits(self, size: Size) -> bool:
        if self._lane in UNASKED:
            return size.requests <= FINAL_REQUESTS
        goes_first = self._start == 0 and self._planner.canary
        return size.fits(self._planner.limits(self._lane)) and not (
            goes_first and size.requests > self._planner.canary
        )


def size_of(prompt: Prompt, model: Model, *, inline: bool) -> Size:
    """What one request adds to a batch."""
    price = estimate(prompt, model, "batch" if model.prices.batch else "standard")
    length = len(lines.encode("", prompt)) + 1 + (wire.inline_bytes(prompt) if inline else 0)
    length += wire.made_bytes(prompt)
    return Size(1, length, price.output_bytes, tokens(price))


def write_batch(
    run: Run,
    number: int,
    rows: list[dict[str, Any]],
    *,
    model: Model | None,
    asked: Sequence[Prompt | None] | None = None,
) -> None:
    """The batch's files, then the record that names them. Without a model nothing is to be sent.

    What is asked follows from the rows; who has it at hand may give it.
    """
    encoded, inlined = [], 0
    lane = lane_of(run.state.batches[number])
    prices: Counter[Estimate] = Counter()  # most requests of a batch cost one of a few amounts
    shapes: set[Hashable] = set()
    inline = is_inline(run)
    for row, prompt in zip(rows, asked or map(prompt_of, rows), strict=True):
        if model is None or prompt is None:
            continue
        line = lines.encode(wire_id(number, row["place"]), prompt)
        if (shape := _shape(prompt)) not in shapes:  # a batch asks for a handful of different things
            shapes.add(shape)
            schema.check(line)
        price = estimate(prompt, model, lane)
        row["likely"], row["high"] = price.likely, price.high
        encoded.append(line + b"\n")
        inlined += (wire.inline_bytes(prompt) if inline else 0) + wire.made_bytes(prompt)
        prices[price] += 1
    total = sum((price.times(count) for price, count in prices.items()), Estimate())
    if model is None:
        total = _spared(rows)
    stored = b"".join(encoded)
    digest = hashlib.sha256(stored).hexdigest()
    kept = None
    if model is not None:
        try:
            run.storage.put(requests_file(number), stored, content_type="application/jsonl")
        except AlreadyThere as error:
            raise _changed(run, error.message) from error
        kept = File(requests_file(number), len(stored), digest)
    event = Planned(
        batch=number,
        model=model.name if model else "",
        requests=len(rows),
        tokens=tokens(total),
        sent_bytes=sum(map(len, encoded)) + inlined,
        low=total.low,
        likely=total.likely,
        high=total.high,
        digest=digest,
        plan=tables.keep(run.storage, plan_file(number), rows, tables.plan_schema(run.created.columns)),
        lines=kept,
    )
    try:
        run.record(event)
    except Illegal as error:
        if run.state.batches[number].stage is Stage.DRAWN:
            raise _changed(run, str(error)) from error
        return  # another driver finished the same plan first


def _spared(rows: Iterable[Mapping[str, Any]]) -> Estimate:
    """What follow-ups would likely have cost that have nothing to go on from: the plan counted with them."""
    spared = sum(row["likely"] for row in rows if row["refusal"] is not None)
    return Estimate(likely=spared, high=spared)


def _shape(prompt: Prompt) -> Hashable:
    """What two requests share that only texts and pictures tell apart."""
    told = (prompt.aspect_ratio, prompt.image_size, prompt.modalities, prompt.thinking, prompt.search)
    sampled = (
        prompt.temperature,
        prompt.top_p,
        prompt.top_k,
        prompt.safety,
        prompt.store,
        prompt.thoughts,
    )
    own = prompt.imagen and msgspec.structs.replace(prompt.imagen, negative_prompt=None)
    return (
        told,
        sampled,
        own,
        prompt.system is None,
        prompt.seed is None,
        bool(prompt.references),
        prompt.history is None,
    )


def _check_good(run: Run, requests: Iterable[Request]) -> None:
    """Rows were all good when they were looked over. One that is not any more must not get lost on the way."""
    for request in requests:
        if request.prompt is None:
            raise _changed(run, f"row {request.row + 1} ({request.key}): {request.refusal}")


def _changed(run: Run, what: str) -> BadInput:
    return BadInput(
        f"{run.name}: something changed since it was looked over: {what}",
        hint="put the photos back as they were and run the same command again; nothing is lost",
    )


def _plan_row(place: int, request: Request, likely: Callable[[Prompt], int]) -> dict[str, Any]:
    prompt = request.prompt
    row: dict[str, Any] = {
        "place": place,
        "row": request.row,
        "key": request.key,
        "shot": request.shot,
        "variant": request.variant,
        "turn": request.turn,
        "take": 1,
        "attempt": 1,
        "fingerprint": request.fingerprint or None,
        "refusal": request.refusal,
        "carried": request.carried,
        "likely": 0,
        "high": 0,
        "spent": 0,
        "turns": None,
        "continued": request.continued,
        "parent": None if request.parent is None else request.parent._asdict(),
    }
    if prompt is not None:
        row |= columns_of(prompt)
    if request.lane == LATER and prompt is not None:
        row["likely"] = likely(msgspec.structs.replace(prompt, references=(*prompt.references, TO_COME)))
    if request.turns:
        # What comes after an answer that another run had was not counted with: it has no picture, and costs nothing.
        costs = [0 if request.carried else likely(turn) for turn in request.turns]
        turns = [
            _follow_up(turn, request.variant, cost) for turn, cost in zip(request.turns, costs, strict=True)
        ]
        row["turns"] = msgspec.json.encode(turns).decode()
    return row | {tables.USER + name: value for name, value in request.fields.items()}


def _follow_up(turn: Prompt, variant: int, likely: int) -> dict[str, Any]:
    """What a later row says otherwise than the one it goes on from. The model stays."""
    said = columns_of(turn)
    del said["model"], said["history"]
    return {**said, "fingerprint": fingerprint(turn, variant=variant), "likely": likely, "high": 0}
