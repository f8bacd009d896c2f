"""A row poured into a shot: the one thing that models are asked, whatever backend carries it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline.errors import BadInput
from pipeline.events import FINAL, LATER
from pipeline.imagen import Imagen, said_by
from pipeline.imagen import problems as problems_of_imagen
from pipeline.job import DEFAULT_MODEL, Job, Shot
from pipeline.manifest import Row
from pipeline.models import Model, Models
from pipeline.problems import Problem, did_you_mean, refusal
from pipeline.references import Pins, Reference
from pipeline.scale import Rule
from pipeline.shot import SHOWN, Mould, Origin, Source, in_turn, numbers_of, unknown_columns
from pipeline.templates import BadTemplate, context_of, names_of

DEFAULT_MODALITIES = ("TEXT", "IMAGE")
TO_COME = Reference("", "0" * 64, "image/png", 0, 0, 0)
"""A picture that is shown and not made yet: it counts, and is no more than that."""

_MOST_REMEMBERED = 10_000
_ROWS_AHEAD = 64
_TEXT = "\0text\0"  # nobody's system instruction has it behind an unescaped quote


# Rows, prompts and requests are structs and no dataclasses: a million are made, in a fifth of the time.
class Prompt(msgspec.Struct, frozen=True):
    """What the model reads, and how it is to answer. Two equal prompts are the same request."""

    model: str
    text: str
    references: tuple[Reference, ...] = ()
    system: str | None = None
    aspect_ratio: str | None = None  # None: the model follows its input, or its default
    image_size: str | None = None  # '512', '1K', '2K', '4K'
    modalities: tuple[str, ...] = ("TEXT", "IMAGE")
    thinking: str | None = None  # 'minimal', 'low', 'medium', 'high'
    search: tuple[str, ...] = ()  # 'web', 'image'
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    safety: tuple[tuple[str, str], ...] = ()  # kind of harm, threshold; sorted
    store: bool | None = None  # None: as the project is set
    thoughts: bool = False  # whether they come with the answer; it thinks all the same
    after: str | None = None  # the fingerprint of the request that this one goes on from
    context: int = 0  # tokens that the history adds to what is read, about: for the price
    history: str | None = None  # the conversation before this turn: JSON of its contents
    imagen: Imagen | None = None  # what only Imagen is asked; of a Gemini model None


class Parent(NamedTuple):
    """The request whose picture another one edits."""

    key: str
    shot: str
    variant: int
    turn: int


class Request(msgspec.Struct, frozen=True):
    """One row x shot x variant."""

    row: int  # ordinal of the manifest's row, from 0
    key: str
    shot: str
    variant: int  # from 0
    fields: Mapping[str, str]
    prompt: Prompt | None  # None: refused by the plan
    refusal: str | None = None  # why the plan refuses it, in a person's words
    problems: tuple[Problem, ...] = ()  # the same, to be grouped
    carried: Mapping[str, Any] | None = None  # what an earlier run answered: nothing is sent
    turns: tuple[Prompt, ...] = ()  # the follow-ups still to come, in order
    turn: int = 0  # its place in a conversation: it is a follow-up where an earlier run has what came before
    mark: str | None = None  # its fingerprint, where that is not its prompt's
    continued: str | None = None  # how a follow-up goes on: conversation, picture
    origin: Origin | None = None  # the picture that it edits, as the row says it
    parent: Parent | None = None  # and as it is
    wave: int = 0  # how many come before it, one after the other

    @property
    def fingerprint(self) -> str:
        """sha256 hex over all that the model would see; '' where refused. Worked out anew each time."""
        if self.mark is not None:
            return self.mark
        return "" if self.prompt is None else fingerprint(self.prompt, variant=self.variant)

    @property
    def lane(self) -> str:
        """Which batches it goes into: those of its model, or those of which nothing is sent."""
        if self.prompt is None or self.carried is not None:
            return FINAL
        return self.prompt.model if self.parent is None else LATER


def requests(
    job: Job, rows: Iterable[Row], *, models: Models, base: Path, pins: Pins | None = None
) -> Iterator[Request]:
    """Every request of the rows that the job's `where` takes, in order: row, shot, variant.

    Reads references, relative to base; holds one row. A row with something wrong has requests that say what.
    """
    gate = _Gate(job, models, pins or pins_for(job, base))
    columns: tuple[str, ...] | None = None
    moulds: list[Mould] = []
    for row in _fetched_ahead(gate, job, rows, moulds):
        if (these := tuple(row.fields)) != columns:  # once for a manifest
            columns, moulds[:] = these, [Mould(job, shot, these) for shot in job.shots]
        context = context_of(row.fields)
        try:
            problems = [Problem(row.trouble)] if row.trouble else []
            if not problems and not job.chooses(row):
                continue
        except BadTemplate as error:
            problems = [Problem(f"where: {error}")]
        for mould in moulds:
            yield from _shot_of(gate, mould, row, context, problems)


def pins_for(job: Job, base: Path) -> Pins:
    """Whoever finds this job's references, relative to base."""
    return Pins(
        base,
        base / job.references_dir if job.references_dir else None,
        rule=Rule(job.references.max_side, job.references.convert),
        allow_private=job.allow_private,
    )


def pour(
    job: Job, shot: Shot, row: Row, *, references: tuple[Reference, ...] = (), variant: int = 0
) -> Prompt:
    """One row in one shot, as the job and the row say it. Raises BadInput for a row that cannot be poured."""
    mould = Mould(job, shot, tuple(row.fields))
    problems: list[Problem] = []
    context = context_of(row.fields)
    values = mould.values(row, problems)
    imagen = mould.imagen(row, values, context, problems)
    prompt = _poured(mould, values, context, references, problems, imagen=imagen)
    if problems:
        raise refusal([mould.placed(problem, row) for problem in problems])
    return _varied(prompt, variant)


def fingerprint(prompt: Prompt, *, variant: int = 0) -> str:
    """sha256 over all that the model would see. This is a format: earlier runs are known by it.

    A seed already tells variants apart; without one the variant's number does, except for the first, so that
    asking for a second picture leaves the first as it was.
    """
    before, after = _around_the_text(
        prompt.model,
        tuple(reference.mark for reference in prompt.references),
        prompt.system,
        prompt.aspect_ratio,
        prompt.image_size,
        prompt.modalities,
        prompt.thinking,
        prompt.search,
        prompt.seed,
        # 0 and 0.0 are one key and two spellings.
        None if prompt.temperature is None else json.dumps(prompt.temperature),
        None if prompt.top_p is None else json.dumps(prompt.top_p),
        prompt.top_k,
        prompt.safety,
        variant if prompt.seed is None else 0,
        prompt.thoughts,
        prompt.imagen,
    )
    asked = before + json.dumps(prompt.text) + after
    if prompt.after is not None:
        # By what it goes on from, and not by its history: that is known beforehand, the words of a model are not.
        asked = f'{{"after":{json.dumps(prompt.after)},"asked":{asked}}}'
    return hashlib.sha256(asked.encode()).hexdigest()


@lru_cache(maxsize=1024)
def _around_the_text(
    model: str,
    marks: tuple[str, ...],
    system: str | None,
    aspect_ratio: str | None,
    image_size: str | None,
    modalities: tuple[str, ...],
    thinking: str | None,
    search: tuple[str, ...],
    seed: int | None,
    temperature: str | None,
    top_p: str | None,
    top_k: int | None,
    safety: tuple[tuple[str, str], ...],
    variant: int,
    thoughts: bool,
    imagen: Imagen | None,
) -> tuple[str, str]:
    """The JSON that is digested, before and behind the one value that is another in every row."""
    seen: dict[str, Any] = {
        "model": model,
        "text": _TEXT,
        "references": marks,
        "system": system,
        "aspect_ratio": aspect_ratio,
        "image_size": image_size,
        "modalities": modalities,
        "thinking": thinking,
        "search": search,
        "seed": seed,
        "temperature": None if temperature is None else json.loads(temperature),
        "top_p": None if top_p is None else json.loads(top_p),
        "top_k": top_k,
        "safety": safety,
        # Whether Google keeps it changes no picture.
    }
    if variant:
        seen["variant"] = variant
    if thoughts:  # the picture is the same, and an answer without them is not what was asked for
        seen["thoughts"] = True
    if said := said_by(imagen):
        seen["imagen"] = said
    # What is not said is left out, so that a setting invented later changes no fingerprint of before.
    said = {name: value for name, value in seen.items() if value not in (None, (), [])}
    before, _, after = json.dumps(said, sort_keys=True, separators=(",", ":")).partition(json.dumps(_TEXT))
    return before, after


def problems_of_templates(job: Job, columns: Iterable[str]) -> list[Problem]:
    """Every column that the job names and the manifest does not have, before any row is read."""
    names = tuple(columns)
    expression = "{{ " + (job.where or "''") + " }}"
    problems = list(unknown_columns(expression, names, place="", name="where"))
    for column in job.data:
        if column not in names and column not in names_of(names):
            hint = did_you_mean(column, names)
            problems.append(Problem(f"unknown column {column!r}", column="data", hint=hint))
    for shot in job.shots:
        problems += Mould(job, shot, names).unknown_columns()
    told: dict[Problem, None] = {}  # what [defaults] says wrong is wrong in every shot
    for problem in problems:
        told.setdefault(replace(problem, where=f"{job.name} {problem.where}".strip()))
    return list(told)


def _shot_of(
    gate: "_Gate", mould: Mould, row: Row, context: Mapping[str, Any], problems: Sequence[Problem]
) -> Iterator[Request]:
    """One row in one shot, unless that is excluded."""
    chosen: Mould | None = mould
    try:
        chosen = mould.chosen(row) if not problems else mould
    except BadTemplate as error:
        problems = [Problem(f"include or exclude: {error}")]
    if chosen is not None:
        yield from _requests_of(gate, chosen, row, context, problems)


def _fetched_ahead(gate: "_Gate", job: Job, rows: Iterable[Row], moulds: Sequence[Mould]) -> Iterator[Row]:
    """The rows as they come, while none needs the network. From then on some are read ahead, and what they
    show is fetched at once instead of one after the other.
    """
    coming, count = iter(rows), 2
    for row in coming:
        yield row
        while gate.pins.fetches and (some := list(islice(coming, count))):
            count = min(2 * count, _ROWS_AHEAD)  # a proof of five rows does not fetch sixty
            chosen = [(row, context_of(row.fields)) for row in some if _is_chosen(job, row)]
            gate.pins.ahead(
                source
                for mould in moulds
                for row, context in chosen
                for source, _ in mould.sources(row, context, [])
            )
            yield from some


def _is_chosen(job: Job, row: Row) -> bool:
    try:
        return not row.trouble and job.chooses(row)
    except BadTemplate:
        return False


def _requests_of(
    gate: "_Gate", mould: Mould, row: Row, context: Mapping[str, Any], before: Sequence[Problem]
) -> Iterator[Request]:
    """All variants of one row in one shot."""
    problems = list(before)
    prompt: Prompt | None = None
    later: Sequence[Prompt] = ()
    origin: Origin | None = None
    variants = 1
    if not problems:
        values = mould.values(row, problems)
        variants = values["variants"] or 1
        origin = mould.origin(row, values, context, problems) if mould.edits else None
        sources = mould.sources(row, context, problems, gate.pins.named_after, needed=origin is None)
        references = gate.references(sources, problems)
        imagen = mould.imagen(row, values, context, problems)
        poured = _poured(mould, values, context, references, problems, imagen=imagen)
        says_how = bool(values["modalities"])
        prompt = gate.passed(poured, problems, says_how=says_how, more=origin is not None)
        later = _follow_ups(gate, mould, row, values, context, prompt, problems) if mould.has_turns else []
    told = tuple(mould.placed(problem, row) for problem in problems)
    why = "; ".join(f"{p.message} {p.value}" if p.value else p.message for p in told) or None
    for variant in range(variants):
        this = None if prompt is None or told else _varied(prompt, variant)
        request = Request(row.ordinal, row.key, mould.shot.name, variant, row.fields, this, why, told)
        if this is not None and (later or origin is not None):
            turns = gate.chained(this, later, variant)
            request = msgspec.structs.replace(request, turns=turns, origin=origin)
        yield request


def _follow_ups(
    gate: "_Gate",
    mould: Mould,
    row: Row,
    values: Mapping[str, Any],
    context: Mapping[str, Any],
    first: Prompt | None,
    problems: list[Problem],
) -> list[Prompt]:
    """What is asked after the first prompt of a row, each looked over as that is."""
    if first is None:
        return []
    shown = SHOWN not in context
    context = {**context, SHOWN: numbers_of(each.role for each in first.references)} if shown else context
    found = []
    turns = mould.follow_ups(row, values, context, problems, system=first.system)
    if turns and not gate.converses(first, turns[0].column, problems):
        return []
    for number, turn in enumerate(turns, start=1):
        wrong: list[Problem] = []
        references = gate.references(turn.sources, wrong)
        said = {**turn.values, "model": first.model}
        asked = _asked(said, turn.text, turn.system, references)
        prompt = gate.passed(asked, wrong, says_how=True, more=bool(references))
        # What it has from the first prompt was said of that.
        problems += [in_turn(number, problem, turn.column) for problem in wrong if problem not in problems]
        if prompt is not None:
            found.append(prompt)
    return found


def _poured(
    mould: Mould,
    values: Mapping[str, Any],
    context: Mapping[str, Any],
    references: tuple[Reference, ...],
    problems: list[Problem],
    *,
    imagen: Imagen | None,
) -> Prompt:
    if mould.tells_roles and SHOWN not in context:
        context = {**context, SHOWN: numbers_of(reference.role for reference in references)}
    text, system = mould.texts(context, problems)
    return _asked(values, text, system, references, imagen=imagen)


def _asked(
    values: Mapping[str, Any],
    text: str,
    system: str | None,
    references: tuple[Reference, ...],
    *,
    imagen: Imagen | None = None,
) -> Prompt:
    return Prompt(
        model=values["model"] or DEFAULT_MODEL,
        text=text,
        references=references,
        system=system,
        aspect_ratio=values["aspect_ratio"],
        image_size=values["image_size"],
        modalities=values["modalities"] or DEFAULT_MODALITIES,
        thinking=values["thinking"],
        search=values["search"] or (),
        seed=values["seed"],
        temperature=values["temperature"],
        top_p=values["top_p"],
        top_k=values["top_k"],
        safety=tuple(sorted((values["safety"] or {}).items())),
        store=values["store"],
        thoughts=bool(values["thoughts"]),
        imagen=imagen,
    )


def _varied(prompt: Prompt, variant: int) -> Prompt:
    if not variant or prompt.seed is None:
        return prompt
    return msgspec.structs.replace(prompt, seed=prompt.seed + variant)


def chained(first: Prompt, later: Iterable[Prompt], *, variant: int, model: Model) -> tuple[Prompt, ...]:
    """Follow-ups that know what they go on from, and what is read again with them."""
    after, context, chain = fingerprint(first, variant=variant), _remembered(first, model), []
    if first.after is not None:
        context += model.reference_tokens[0]  # the picture that it edits
    for prompt in later:
        follow_up = msgspec.structs.replace(prompt, after=after, context=context)
        after = fingerprint(follow_up, variant=variant)
        context += _remembered(follow_up, model)
        chain.append(follow_up)
    return tuple(chain)


def _remembered(prompt: Prompt, model: Model) -> int:
    """The tokens that a turn and its answer are read as once more in each turn after them, about."""
    words = -(-len(prompt.text.encode()) // model.text_bytes_per_token)
    said = model.words[0] if "TEXT" in prompt.modalities else 0
    return words + said + model.reference_tokens[0] * (len(prompt.references) + 1)


def _with_more(prompt: Prompt) -> Prompt:
    return msgspec.structs.replace(prompt, references=(*prompt.references, TO_COME))


class _Gate:
    """What stands between a poured prompt and a request: the model's own limits, and the files on disk."""

    def __init__(self, job: Job, models: Models, pins: Pins) -> None:
        self._models, self.pins, self._surface = models, pins, job.backend
        self._found: dict[str, Model | Problem] = {}
        self._judged: dict[tuple[object, ...], list[Problem]] = {}

    def references(self, sources: Iterable[Source], problems: list[Problem]) -> tuple[Reference, ...]:
        pinned = []
        for source, role in sources:
            reference = self.pins.pin(source)
            if isinstance(reference, Problem):
                problems.append(replace(reference, column="references"))
            else:
                pinned.append(reference if role is None else replace(reference, role=role))
        return tuple(pinned)

    def passed(
        self, prompt: Prompt, problems: list[Problem], *, says_how: bool, more: bool = False
    ) -> Prompt | None:
        """The prompt as this model wants it said, with its full name; None if there is no such model.

        `says_how` is whether somebody chose the modalities; with `more` a picture that is not there yet will be shown
        with it.
        """
        model = self._model(prompt.model)
        if isinstance(model, Problem):
            problems.append(model)
            return None
        if model.call == "predict":
            how = prompt.modalities if says_how else ("IMAGE",)
            prompt = msgspec.structs.replace(prompt, imagen=prompt.imagen or Imagen(), modalities=how)
        problems += self._limits(model, prompt, more=more)
        unsaid = not model.size_settable and prompt.image_size in model.sizes
        size = None if unsaid else prompt.image_size
        if (prompt.model, prompt.image_size) == (model.name, size):
            return prompt
        return msgspec.structs.replace(prompt, model=model.name, image_size=size)

    def converses(self, first: Prompt, column: str, problems: list[Problem]) -> bool:
        """Whether the model remembers what was said, as follow-ups need it."""
        model = self._model(first.model)
        if isinstance(model, Model) and not model.converses:
            hint = "take the follow-ups out, or take another model"
            problems.append(
                Problem(f"{model.name} takes one prompt and no follow-ups", column=column, hint=hint)
            )
            return False
        return True

    def chained(self, first: Prompt, later: Iterable[Prompt], variant: int) -> tuple[Prompt, ...]:
        """Follow-ups, each as this variant asks it."""
        model = self._model(first.model)
        assert isinstance(model, Model)
        return chained(first, [_varied(prompt, variant) for prompt in later], variant=variant, model=model)

    def _model(self, name: str) -> Model | Problem:
        if name not in self._found:
            try:
                self._found[name] = self._models.find(name)
            except BadInput as error:
                return Problem("unknown model", column="model", value=name, hint=error.hint)
        return self._found[name]

    def _limits(self, model: Model, prompt: Prompt, *, more: bool) -> list[Problem]:
        if prompt.imagen is not None:
            asked = _with_more(prompt) if more else prompt
            return [*model.problems(asked, self._surface), *problems_of_imagen(model, prompt)]
        # A million rows ask for a handful of different things: each is judged once.
        kind = (
            model.name,
            prompt.aspect_ratio,
            prompt.image_size,
            prompt.modalities,
            prompt.thinking,
            prompt.search,
            tuple(shown.role for shown in prompt.references) if prompt.references else (),
            prompt.thoughts,
            more,
        )
        if kind not in self._judged:
            if len(self._judged) > _MOST_REMEMBERED:
                self._judged.clear()
            asked = _with_more(prompt) if more else prompt
            self._judged[kind] = model.problems(asked, self._surface)
        return self._judged[kind]
