"""What each model can do and what it costs: reads models.toml, resolves names, says what a model refuses.

Its values are kept in a run's first record: msgspec's to_builtins and convert bring them back as they were.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from pipeline.errors import BadInput
from pipeline.problems import Problem, did_you_mean, nearest

_TABLE = Path(__file__).with_name("models.toml")
TOLERANCE = 0.02
"""How far a picture's ratio may be off the asked one."""

_SURFACES = {"developer": "the Developer API", "vertex": "Vertex AI"}


Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Asked(Protocol):
    """What a model is asked for, as far as it may refuse it."""

    @property
    def references(self) -> Sequence[object]: ...
    @property
    def aspect_ratio(self) -> str | None: ...
    @property
    def image_size(self) -> str | None: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def thinking(self) -> str | None: ...
    @property
    def search(self) -> tuple[str, ...]: ...
    @property
    def thoughts(self) -> bool: ...


class Retirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A day on which somebody says the model ends."""

    on: date
    says: str
    sure: bool = False  # Google says so itself, and nobody says otherwise: such a model is not planned with
    surface: str | None = None  # None: everywhere


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A doubt about a model that matters to some only."""

    says: str
    about: str  # a surface, a size, 'references', 'negative_prompt', 'queue', or 'global' for that location


class References(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many references a model takes; None where nobody knows."""

    most: int | None = None  # more are refused
    best: int | None = None  # more make it worse
    objects: int | None = None
    people: int | None = None


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens, except where another unit is named; None where it is unknown."""

    text_in: float | None = None  # references cost the same
    text_out: float | None = None  # thoughts cost the same
    image_out: float | None = None
    search: float | None = None  # dollars per search
    picture: Mapping[str, float] = {}  # dollars per picture, as listed, by size


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    batch: Rates | None = None
    standard: Rates | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of models.toml."""

    name: str
    status: Literal["current", "leaving", "retired"] = "current"
    replaced_by: str | None = None
    retires: tuple[Retirement, ...] = ()
    notes: tuple[str | Note, ...] = ()
    languages: tuple[str, ...] = ()  # that it works best in
    batch: tuple[str, ...] = ()
    online: tuple[str, ...] = ()
    sizes: tuple[str, ...]
    default_size: str = "1K"
    size_settable: bool = True  # False: the only size, which must not be sent
    batch_sizes: Mapping[str, tuple[str, ...]] = {}
    ratios: tuple[str, ...]
    follows_input: bool = False  # takes no ratio at all
    pixel_table: Mapping[str, Mapping[str, str]] = {}
    references: References = References()
    thinking: tuple[str, ...] = ()
    default_thinking: str | None = None
    always_thinks: bool = False
    search: tuple[str, ...] = ()
    modalities: tuple[tuple[str, ...], ...]
    converses: bool = True  # takes follow-ups
    container: str
    call: Literal["generateContent", "predict"] = (
        "generateContent"  # predict: Imagen's, with settings of its own
    )
    most_pictures: int = 1  # that a single call may ask for
    tokens: Mapping[str, int] = {}  # output tokens of one picture, by size
    picture_bytes: Mapping[str, int] = {}  # of one picture in a result, by size
    text_bytes_per_token: int = 4
    reference_tokens: tuple[int, int] = (0, 0)  # likely, high; so are those below
    thoughts: Mapping[str, tuple[int, int]] = {}
    words: tuple[int, int] = (0, 0)
    searches: tuple[int, int] = (0, 0)
    search_billed: Literal["query", "prompt"] = "query"  # what its price of a search is for
    enqueued_tokens: tuple[int, int, int] | None = None  # by tier; None: unknown
    prices: Prices = Prices()

    def searches_paid(self, queries: int) -> int:
        """How many searches are billed for an answer with so many queries."""
        return min(queries, 1) if self.search_billed == "prompt" else queries

    def only_at_once(self, surface: str) -> bool:
        """Whether this surface serves it by calls that are answered at once, and in no other way."""
        priced = self.prices.standard is not None
        return surface not in self.batch and surface in self.online and priced

    @property
    def thinks(self) -> bool:
        return bool(self.thinking) or self.always_thinks

    @property
    def signs(self) -> bool:
        """Whether it signs what it says, and wants its pictures back with their signature: all do that think."""
        return self.thinks

    @property
    def context_at_most(self) -> int:
        """So many times the likely tokens of a turn are those of the worst one."""
        (shown, shown_high), (said, said_high) = self.reference_tokens, self.words
        ratios = (-(-shown_high // max(1, shown)), -(-(shown_high + said_high) // max(1, shown + said)))
        return max(self.text_bytes_per_token, *ratios)

    def pixels(self, ratio: str | None, size: str | None) -> tuple[int, int] | None:
        """Width and height; None where the model decides, or the table cannot be trusted."""
        cell = self.pixel_table.get(ratio or "", {}).get(size or self.default_size)
        if cell is None:
            return None
        width, height = cell.split("x")
        return int(width), int(height)

    def named(self, width: int, height: int) -> tuple[str | None, str | None]:
        """What this model calls such pixels: ratio and size; None where it has no word for them."""
        pixels = f"{width}x{height}"
        for ratio, cells in self.pixel_table.items():
            for size, cell in cells.items():
                if cell == pixels:
                    return ratio, size
        shape = Fraction(width, height)
        quotients = {ratio: (_as_number(ratio) or 1) / shape for ratio in self.ratios}
        near = min(quotients, key=lambda ratio: max(quotients[ratio], 1 / quotients[ratio]), default=None)
        return (near if near and abs(quotients[near] - 1) <= TOLERANCE else None), None

    def problems(self, asked: Asked, surface: str = "developer") -> list[Problem]:
        """All that this model refuses on this surface, in batches where it comes in them, each with the nearest
        thing it takes."""
        return [
            *self._surface_problems(surface),
            *self._size_problems(asked, surface),
            *self._ratio_problems(asked),
            *self._reference_problems(asked),
            *self._thinking_problems(asked),
            *self._search_problems(asked),
            *self._modality_problems(asked),
        ]

    def sure_end(self, surface: str = "developer") -> Retirement | None:
        """The first of its ends that nobody doubts."""
        sure = [end for end in self.retires if end.sure and end.surface in (None, surface)]
        return min(sure, key=lambda end: end.on, default=None)

    def warnings(self, day: date, *, back: date | None = None, surface: str = "developer") -> list[str]:
        """What a person should know of this model's end before choosing it on this day. Nothing here stops a run.

        `back` is the day on which the last of what is sent now may come back.
        """
        instead = f"; {self.replaced_by} is its successor" if self.replaced_by else ""
        ends = [end for end in self.retires if end.surface in (None, surface)]
        if self.status == "retired":
            return [f"{self.name} is retired{instead}"]
        if not ends:
            return []
        first = min(end.on for end in ends)
        verb = "will be switched off"
        if first <= day:
            verb = "may have been switched off"
        elif back is not None and first <= back:
            verb = f"may be switched off before all of this is back, on {back} at the latest"
        return [f"{self.name} {verb}: {', '.join(f'{end.says} says {end.on}' for end in ends)}{instead}"]

    def _surface_problems(self, surface: str) -> Iterator[Problem]:
        if surface in self.batch or self.only_at_once(surface):
            return
        where = _SURFACES.get(surface, surface)
        elsewhere = next((other for other in self.online if self.only_at_once(other)), None)
        if elsewhere is not None:
            hint = f'shut down there; {_SURFACES[elsewhere]} serves it: backend = "{elsewhere}"'
            yield Problem(f"{self.name} is not served on {where}", column="model", hint=hint)
        else:
            others = f"; {self.replaced_by} is its successor" if self.replaced_by else ""
            hint = "choose a model that comes in batches" + others
            yield Problem(f"{self.name} never comes in batches on {where}", column="model", hint=hint)

    def _size_problems(self, asked: Asked, surface: str) -> Iterator[Problem]:
        sizes = self.batch_sizes.get(surface, self.sizes)
        if asked.image_size is not None and asked.image_size not in sizes:
            where = f" in batches on {_SURFACES.get(surface, surface)}" if sizes != self.sizes else ""
            yield Problem(
                f"{self.name} makes no such size{where}",
                column="image_size",
                value=asked.image_size,
                hint=f"the nearest is {_nearest_size(asked.image_size, sizes)}; it makes {', '.join(sizes)}",
            )

    def _ratio_problems(self, asked: Asked) -> Iterator[Problem]:
        if asked.aspect_ratio is None or asked.aspect_ratio in self.ratios:
            return
        hint = "leave the ratio out: the picture follows its reference"
        if not self.follows_input:
            near = _nearest_ratio(asked.aspect_ratio, self.ratios)
            hint = (f"the nearest is {near}; " if near else "") + f"it makes {', '.join(self.ratios)}"
        message = f"{self.name} makes no such ratio"
        yield Problem(message, column="aspect_ratio", value=asked.aspect_ratio, hint=hint)

    def _reference_problems(self, asked: Asked) -> Iterator[Problem]:
        yield from self._role_problems(asked)
        most = self.references.most
        if most is None or len(asked.references) <= most:
            return
        message = f"{self.name} takes no references" if most == 0 else f"{self.name} takes {most} references"
        hint = "leave them out" if most == 0 else f"leave out {len(asked.references) - most}"
        yield Problem(message, column="references", value=str(len(asked.references)), hint=hint)

    def _role_problems(self, asked: Asked) -> Iterator[Problem]:
        """More of one kind than the model keeps alike. What has no role counts for none."""
        roles = [getattr(reference, "role", None) for reference in asked.references]
        for role, things, most in (
            ("object", "objects", self.references.objects),
            ("person", "people", self.references.people),
        ):
            if most is not None and (count := roles.count(role)) > most:
                message = f"{self.name} takes {most} {things} among its references"
                hint = f"leave out {count - most}, or show them without this role"
                yield Problem(message, column="references", value=f"{count} {things}", hint=hint)

    def _thinking_problems(self, asked: Asked) -> Iterator[Problem]:
        if asked.thoughts and not self.thinks:
            hint = "leave it out: it does not think"
            yield Problem(f"{self.name} has no thoughts to show", column="thoughts", value="true", hint=hint)
        if asked.thinking is None or asked.thinking in self.thinking:
            return
        hint = "leave it out" + (": it always thinks" if self.always_thinks else "")
        if self.thinking:
            near = _nearest_thinking(asked.thinking, self.thinking)
            hint = f"the nearest is {near}; it knows {', '.join(self.thinking)}"
        message = f"{self.name} has no such level of thinking"
        yield Problem(message, column="thinking", value=asked.thinking, hint=hint)

    def _search_problems(self, asked: Asked) -> Iterator[Problem]:
        for kind in asked.search:
            if kind not in self.search:
                hint = (
                    f"it searches: {', '.join(self.search)}"
                    if self.search
                    else "leave it out: it has no search"
                )
                yield Problem(f"{self.name} has no such search", column="search", value=kind, hint=hint)

    def _modality_problems(self, asked: Asked) -> Iterator[Problem]:
        if not any(set(asked.modalities) == set(allowed) for allowed in self.modalities):
            allowed = " or ".join("+".join(each) for each in self.modalities)
            yield Problem(
                f"{self.name} does not answer in these modalities alone",
                column="modalities",
                value="+".join(asked.modalities),
                hint=f"it answers in {allowed}",
            )


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name that stands for another."""

    of: str = msgspec.field(name="is")
    ended: date | None = None  # the day the name itself stopped working


class Models(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole table, with its date and where it is from."""

    as_of: date
    sources: tuple[str, ...]
    again: tuple[Share, Share] = (0, 0)  # the share of requests that each further attempt buys: likely, high
    spend: tuple[int, int, int] | None = None  # dollars in ten minutes, by tier; None: unknown
    names: Mapping[str, Alias] = {}
    models: Mapping[str, Model]

    def find(self, name: str) -> Model:
        """The model of this name, or the one that took its place."""
        alias = self.names.get(name.removeprefix("models/"))
        model = self.models.get(alias.of if alias else name.removeprefix("models/"))
        if model is None:
            raise BadInput(f"unknown model {name!r}", hint=self._hint(name))
        return model

    def note(self, name: str) -> str | None:
        """What to tell a person who used a name that no longer works."""
        alias = self.names.get(name.removeprefix("models/"))
        if alias is None or alias.ended is None:
            return None
        return f"the name {name} ended on {alias.ended}; {alias.of} is used in its place"

    def _hint(self, name: str) -> str:
        near = nearest(name, [*self.models, *self.names])
        if near is None:
            return did_you_mean(name, (m.name for m in self.models.values() if m.status == "current"))
        model = self.find(near)
        instead = f" ({model.status}; {model.replaced_by} is its successor)" if model.replaced_by else ""
        note = f" ({note})" if (note := self.note(near)) else ""
        return f"did you mean {near!r}?{instead}{note}"


def load_models(extra: Path | None = None) -> Models:
    """The table of this release, with the user's own file laid over it, value by value."""
    document = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    if extra is None:
        return _models_of(document, where=str(_TABLE))
    try:
        own = tomllib.loads(extra.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{extra}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{extra}: no TOML: {error}") from error
    return _models_of(_laid_over(document, own), where=str(extra))


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = below.get(name)
        both = isinstance(value, dict) and isinstance(under, dict)
        merged[name] = _laid_over(under or {}, value) if both else value
    return merged


def _models_of(document: dict[str, Any], *, where: str) -> Models:
    ratios, pixels = document.pop("ratios", {}), document.pop("pixels", {})
    assumed, languages = document.pop("assumed", {}), document.pop("languages", {})
    try:
        document["models"] = {
            name: _spelled_out(name, row, ratios=ratios, pixels=pixels, assumed=assumed, languages=languages)
            for name, row in document["models"].items()
        }
        return msgspec.convert(document, Models)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where}: {error}", hint="its rows are written as those in models.toml") from error


def _spelled_out(
    name: str,
    row: Mapping[str, Any],
    *,
    ratios: Mapping[str, Any],
    pixels: Mapping[str, Any],
    assumed: Mapping[str, Any],
    languages: Mapping[str, Any],
) -> dict[str, Any]:
    """A row that stands alone: named tables in place of their names, assumptions where it says nothing."""
    full = {**assumed, **row, "name": name}
    if isinstance(full["ratios"], str):
        full["ratios"] = ratios[full["ratios"]]
    if isinstance(spoken := full.get("languages"), str):
        full["languages"] = languages[spoken]
    table = pixels[full.pop("pixels")] if "pixels" in full else {}
    full["pixel_table"] = {
        ratio: {size: cell for size, cell in cells.items() if size in full["sizes"]}
        for ratio, cells in table.items()
        if ratio in full["ratios"]
    }
    full["picture_bytes"] = {s: b for s, b in full.get("picture_bytes", {}).items() if s in full["sizes"]}
    return full


def _nearest_ratio(asked: str, ratios: Collection[str]) -> str | None:
    wanted = _as_number(asked)
    if wanted is None or not ratios:
        return None
    # By quotient, not by difference: 8:1 is as far from 1:1 as 1:8 is.
    return min(ratios, key=lambda ratio: max(q := (_as_number(ratio) or 1) / wanted, 1 / q))


def _as_number(ratio: str) -> Fraction | None:
    width, _, height = ratio.partition(":")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return Fraction(int(width), int(height))


def _nearest_size(asked: str, sizes: Sequence[str]) -> str:
    def side(size: str) -> int:
        digits = "".join(c for c in size if c.isdecimal()) or "1024"
        return int(digits) * (1024 if size.upper().endswith("K") else 1)

    return min(sizes, key=lambda size: abs(side(size) - side(asked)))


def _nearest_thinking(asked: str, levels: Sequence[str]) -> str:
    order = ["none", "minimal", "low", "medium", "high", "xhigh"]
    if asked not in order:
        return nearest(asked, levels) or levels[0]
    return min(levels, key=lambda level: abs(order.index(level) - order.index(asked)))
