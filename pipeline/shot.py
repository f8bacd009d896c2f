"""A shot as it is for the rows of one manifest: settings in layers, templates, the columns that count."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import msgspec

from pipeline.imagen import SETTINGS, Imagen, People, imagen_of
from pipeline.job import (
    ALIASES,
    DEFAULT_MODEL,
    NO_TURNS,
    NONE,
    PROMPT_COLUMNS,
    REFERENCE_COLUMNS,
    ROLES,
    TEMPLATES,
    Job,
    Role,
    Settings,
    Shot,
    turns_of,
)
from pipeline.manifest import Row
from pipeline.manifest.cells import is_none, ratio, size, split
from pipeline.problems import Problem, did_you_mean, nearest
from pipeline.templates import BadTemplate, name_of, names_of, template, unknown_names

_MOST_VARIANTS = 1000

SHOWN = "shown"
"""What a prompt calls its references by their roles: picture {{ shown.person }}. A column of that name comes first."""

TURNS, FROM = "turns", "from_"
_PROMPT_COLUMN = re.compile(r"prompt_([2-9])")
_ROLE_COLUMN = re.compile(rf"ref_({'|'.join(ROLES)})(_\d{{1,2}})?")


class Source(NamedTuple):
    """A reference as a row names it, and what it is shown for."""

    name: str
    role: str | None = None


class FollowUp(NamedTuple):
    """What is asked after a picture, as one row says it."""

    column: str  # where a person would look for it
    text: str
    system: str | None
    values: Mapping[str, Any]  # settings
    sources: list[Source]


class Origin(NamedTuple):
    """Whose picture a row edits, as it says it: KEY, KEY/SHOT, or /SHOT for its own."""

    said: str
    column: str  # where it says so
    line: int


def numbers_of(roles: Iterable[str | None]) -> dict[str, str]:
    """The places of the references of each role, from 1, as a prompt says them: '2', '1, 3', or nothing."""
    places: dict[str, list[str]] = {role: [] for role in ROLES}
    for place, role in enumerate(roles, start=1):
        if role is not None:
            places[role].append(str(place))
    return {role: ", ".join(found) for role, found in places.items()}


def unknown_columns(text: str, columns: tuple[str, ...], *, place: str, name: str) -> Iterator[Problem]:
    """A problem for each name in a template that no column answers to, with the nearest that does."""
    for unknown in unknown_names(text, (*columns, SHOWN) if name in TEMPLATES else columns):
        hint = did_you_mean(unknown, names_of(columns))
        yield Problem(f"unknown column {unknown!r}", place, column=name, hint=hint)


class Mould:
    """A shot as it is for the rows of one manifest: layers of settings, templates, the columns that matter.

    From low to high: what is built in, [defaults], the shot, the row's own cells, --set.
    """

    def __init__(self, job: Job, shot: Shot, columns: tuple[str, ...]) -> None:
        self.job, self.shot, self._columns = job, shot, columns
        own = {column for column in columns if column in job.data or name_of(column) in job.data}
        self._offered = [column for column in columns if column not in own]
        self._below: dict[str, Any] = _BUILT_IN | _said(job.defaults) | _said(shot)
        self._above = _said(job.settings)
        self._cells = _setting_columns(self._offered)
        self._fixed = None if self._cells else self._below | self._above
        said = self._below | self._above
        prompts = [f"{{{{ {name} }}}}" for name in PROMPT_COLUMNS if name in names_of(columns)]
        self._prompt = said["prompt"] or (prompts[0] if prompts else None)
        self._system = said["system"]
        self._negative = said["negative_prompt"]
        self._negatives = next((c for c in self._offered if name_of(c) == "negative_prompt"), None)
        self._says_imagen = (
            self._negatives is not None
            or any(said[name] is not None for name in SETTINGS)
            or not {*self._cells.values()}.isdisjoint(SETTINGS)
        )
        self._references = said["references"]
        self._from = said[FROM]
        self._roles: Mapping[str, Role] = said["roles"] or {}
        self._known_roles: dict[str, str | None] = {}
        self.tells_roles = SHOWN in f"{self._prompt} {self._system}"
        named = self.shot.name
        self._includes = [
            (n, pick) for n, pick in enumerate(job.include) if named in (pick.shots or (named,))
        ]
        self._excludes = [pick for pick in job.exclude if named in (pick.shots or (named,))]
        self._others: dict[tuple[int, ...], Mould] = {}
        self._turns = tuple(self._turn(turn) for turn in said[TURNS] or ())
        self._turn_cells = {} if TURNS in self._above else self._columns_of_turns()
        self.edits = said[FROM] is not None or FROM in self._cells.values()
        self.has_turns = bool(self._turns or self._turn_cells)

    def chosen(self, row: Row) -> "Mould | None":
        """This shot as it is for one row, or None where that is excluded. Raises BadTemplate."""
        if not (self._includes or self._excludes):
            return self
        meant = tuple(place for place, pick in self._includes if pick.means(self.shot.name, row))
        if not meant:
            excluded = any(pick.means(self.shot.name, row) for pick in self._excludes)
            return None if excluded else self
        return self._other(meant)

    def _other(self, meant: tuple[int, ...]) -> "Mould":
        """This shot with what these includes say, which is above the shot's own and below a row's cells."""
        if meant not in self._others:
            layers = [_settings_of(self.job.include[number]) for number in meant]
            said = {name: value for layer in layers for name, value in layer.items()}
            bare = msgspec.structs.replace(self.job, include=(), exclude=())
            shot = msgspec.structs.replace(self.shot, **said)
            self._others[meant] = Mould(bare, shot, self._columns)
        return self._others[meant]

    def values(self, row: Row, problems: list[Problem]) -> dict[str, Any]:
        """All settings of this row; what a cell says wrong is a problem, and counts as not said."""
        if self._fixed is not None:
            return self._fixed
        values = dict(self._below)
        for column, setting in self._cells.items():
            cell = row.fields[column].strip()
            if not cell:
                continue
            try:
                values[setting] = None if is_none(cell) else _READ[setting](cell)
            except ValueError as error:
                problems.append(Problem(f"{column} is {error}", column=setting, value=cell))
        return values | self._above

    def texts(self, context: Mapping[str, Any], problems: list[Problem]) -> tuple[str, str | None]:
        """Prompt and system instruction, trimmed; an empty prompt is a problem."""
        text = self._filled(self._prompt, context, "prompt", problems)
        system = self._filled(self._system, context, "system", problems)
        if text == "":
            problems.append(Problem("the prompt is empty", column="prompt"))
        return text or "", system or None

    def imagen(
        self, row: Row, values: Mapping[str, Any], context: Mapping[str, Any], problems: list[Problem]
    ) -> Imagen | None:
        """What this row says to Imagen alone; None: nothing."""
        if not self._says_imagen:
            return None
        return imagen_of({**values, "negative_prompt": self._not_seen(row, context, problems)})

    def _not_seen(self, row: Row, context: Mapping[str, Any], problems: list[Problem]) -> str | None:
        """What is not to be seen: as the row's own cell says, which is no template, or else as the shot does."""
        cell = "" if self._negatives is None else row.fields[self._negatives].strip()
        if cell and "negative_prompt" not in self._above:
            return None if is_none(cell) else cell
        return self._filled(self._negative, context, "negative_prompt", problems) or None

    def sources(
        self,
        row: Row,
        context: Mapping[str, Any],
        problems: list[Problem],
        named_after: Callable[[str], list[str]] = lambda key: [],
        *,
        needed: bool = True,
    ) -> list[Source]:
        """The files this row shows, as it writes them; if it names none, those of the folder called after its key.

        Where the job asks for some, a row without any is wrong: a product without a photo would be invented.
        '-' in the cell says that this is meant; so does a row that edits another's picture, where none is needed.
        """
        if self._references is None:
            sources = [
                Source(source, self._role_of(column))
                for column in self._reference_columns
                for source in split(row.fields[column])
            ]
            if not sources and self.job.references_dir is not None:
                sources = [Source(name) for name in named_after(row.key)]
                if not sources and needed:
                    hint = (
                        f"{self.job.references_dir} has no picture called after {row.key}; write - for none"
                    )
                    problems.append(Problem("no reference picture", column="references", hint=hint))
            return [source for source in sources if not is_none(source.name)]
        named = [entry for entry in self._references if self._is_file(entry)]
        asked = [entry for entry in self._references if entry not in named]
        files = [Source(entry, self._role_of(entry)) for entry in named]
        cells = [self._cell_of(entry, row, context, problems) for entry in asked]
        if asked and not files and not any(cell.strip() for cell in cells):
            files = [Source(name) for name in named_after(row.key)]
        if asked and not files and needed and not any(cell.strip() for cell in cells) and not problems:
            hint = "write - in the cell to shoot it without one"
            problems.append(Problem("no reference picture", column=", ".join(asked), hint=hint))
        return files + [
            Source(source, self._role_of(entry))
            for entry, cell in zip(asked, cells, strict=True)
            for source in split(cell)
            if not is_none(source)
        ]

    def origin(
        self, row: Row, values: Mapping[str, Any], context: Mapping[str, Any], problems: list[Problem]
    ) -> Origin | None:
        """Whose picture this row edits, if it edits one."""
        said = values[FROM]
        column = next((c for c, s in self._cells.items() if s == FROM and row.fields[c].strip()), None)
        if said is not None and (column is None or FROM in self._above):
            column, said = "from", self._filled(said, context, "from", problems)
        if said is None or not said.strip() or is_none(said):
            return None
        return Origin(said.strip(), column or "from", row.line)

    def follow_ups(
        self,
        row: Row,
        values: Mapping[str, Any],
        context: Mapping[str, Any],
        problems: list[Problem],
        *,
        system: str | None,
    ) -> list[FollowUp]:
        """What is asked after this row's picture, in order: the row's own, or else the shot's.

        What a turn does not say is as in the first one, its system instruction too; but for references: those were
        shown already.
        """
        own = self._own_turns(row, problems)
        if own is not None:
            return [self._own_follow_up(column, turn, values, system) for column, turn in own]
        found = []
        for number, (said, mould) in enumerate(self._turns, start=1):
            wrong: list[Problem] = []
            text, own_system = mould.texts(context, wrong)
            sources = mould.sources(row, context, wrong)
            problems += [in_turn(number, problem, TURNS) for problem in wrong]
            instruction = own_system if self._is_instructed(said) else system
            found.append(FollowUp(TURNS, text, instruction, {**values, **said, **self._above}, sources))
        return found

    def _turn(self, turn: Settings) -> "tuple[dict[str, Any], Mould]":
        """What a turn of the job says, and a shot that is nothing but that turn."""
        said = _said(turn)
        alone = msgspec.structs.replace(
            self.job, include=(), exclude=(), defaults=Settings(), settings=Settings()
        )
        shot = Shot(
            name=self.shot.name,
            prompt=turn.prompt,
            system=said.get("system"),
            references=turn.references or (NONE,),
            roles=self._roles or None,
        )
        return said, Mould(alone, shot, self._columns)

    def _is_instructed(self, turn: Mapping[str, Any]) -> bool:
        """Whether a turn has a system instruction of its own, or none at all, against that of the first."""
        return "system" in turn and "system" not in self._above

    def _columns_of_turns(self) -> dict[str, int]:
        """The columns that hold follow-ups of rows, by their numbers; 0 holds all of them. None that the words of this
        shot name: those are what the words are filled with.
        """
        turns = [mould for _, mould in self._turns]
        words = [text for each in (self, *turns) for text in (each._prompt, each._system) if text is not None]
        named = {name for text in words for name in _names_in(text)}
        found = {}
        for column in self._offered:
            match = _PROMPT_COLUMN.fullmatch(name := name_of(column))
            if name not in named and column not in named and (match or name == TURNS):
                found[column] = int(match[1]) if match else 0
        return dict(sorted(found.items(), key=lambda each: each[1]))

    def _own_turns(self, row: Row, problems: list[Problem]) -> list[tuple[str, Settings]] | None:
        """The row's own follow-ups, and the column that each is in. None: it says nothing of them."""
        said = [
            (number, column, cell)
            for column, number in self._turn_cells.items()
            if (cell := row.fields[column].strip())
        ]
        if not said:
            return None
        first, column, cell = said[0]
        if first == 0:
            if len(said) > 1:
                hint = f"say them in {column} or in {said[1][1]}"
                problems.append(Problem("follow-ups are said twice", column=said[1][1], hint=hint))
            wrong: list[Problem] = []
            turns = turns_of(cell, "", wrong)
            problems += [replace(each, message=_located(each), column=column) for each in wrong]
            return [] if turns == NO_TURNS else [(column, turn) for turn in turns]
        filled = [each for each in said if not is_none(each[2])]
        for due, (number, column, cell) in enumerate(filled, start=2):
            if number != due:
                hint = f"fill prompt_{due}, or move it there"
                message = f"prompt_{number} without a prompt_{due}"
                problems.append(Problem(message, column=column, value=cell, hint=hint))
                break
        return [(column, Settings(prompt=cell)) for _, column, cell in filled]

    def _own_follow_up(
        self, column: str, turn: Settings, values: Mapping[str, Any], system: str | None
    ) -> FollowUp:
        """A row's own words are never rendered, in a follow-up as in a first prompt."""
        said = _said(turn)
        instruction = said["system"] if self._is_instructed(said) else system
        sources = [Source(source) for source in turn.references or () if not is_none(source)]
        return FollowUp(
            column, str(turn.prompt).strip(), instruction, {**values, **said, **self._above}, sources
        )

    def _role_of(self, entry: str) -> str | None:
        """What the references of an entry are shown for: as the job says, or as its column is called."""
        if entry not in self._known_roles:
            column = self._column_of(entry)
            name = "" if column is None else name_of(column)
            match = _ROLE_COLUMN.fullmatch(name)
            by_name = match[1] if match else None
            said = (self._roles.get(called) for called in (entry, column or entry, name))
            self._known_roles[entry] = next(filter(None, said), by_name)
        return self._known_roles[entry]

    def unknown_columns(self) -> Iterator[Problem]:
        """What the templates of this shot name and no column answers to."""
        yield from self._unknown_in_picks()
        if self._prompt is None:
            near = nearest("prompt", names_of(self._columns), cutoff=0.7)
            hint = "add a column prompt, or give a template: --prompt '{{ title }}'"
            hint += f"; did you mean {near!r}?" if near else ""
            yield Problem("no prompt", self._place_of("prompt"), hint=hint)
        yield from self.unknown_in_words()
        yield from self._idle_roles()
        for number, (_, turn) in enumerate(self._turns, start=1):
            for problem in turn.unknown_in_words():
                yield in_turn(number, replace(problem, where=self._place_of(TURNS)), TURNS)

    def unknown_in_words(self) -> Iterator[Problem]:
        """The same in prompt, system instruction and references alone."""
        texts = {"prompt": self._prompt, "system": self._system, "negative_prompt": self._negative}
        for name, text in texts.items():
            yield from unknown_columns(text or "", self._columns, place=self._place_of(name), name=name)
        if self._from is not None:
            yield from unknown_columns(self._from, self._columns, place=self._place_of(FROM), name="from")
        for entry in self._references or ():
            place = self._place_of("references")
            if _is_template(entry):
                yield from unknown_columns(entry, self._columns, place=place, name="references")
            elif self._column_of(entry) is None and not self._is_file(entry):
                hint = did_you_mean(entry, names_of(self._columns))
                yield Problem(f"unknown column {entry!r}", place, column="references", hint=hint)

    def _idle_roles(self) -> Iterator[Problem]:
        """Roles of what this shot does not show."""
        entries = self._reference_columns if self._references is None else self._references
        shown = {*entries, *(name_of(entry) for entry in entries)}
        for entry in self._roles:
            if entry not in shown and self._column_of(entry) not in shown:
                hint = f"add it to references; {did_you_mean(entry, entries)}"
                yield Problem(f"no reference {entry!r}", self._place_of("roles"), column="roles", hint=hint)

    def _unknown_in_picks(self) -> Iterator[Problem]:
        """The same for what is included with settings of its own, and for every `where`."""
        wheres = [(f"[[include]] {number + 1}", pick.where) for number, pick in self._includes]
        wheres += [("[[exclude]]", pick.where) for pick in self._excludes]
        for place, where in wheres:
            text = "{{ " + (where or "''") + " }}"
            yield from unknown_columns(text, self._columns, place=place, name="where")
        for number, _ in self._includes:
            yield from self._other((number,)).unknown_columns()

    def placed(self, problem: Problem, row: Row) -> Problem:
        """A problem with the row, and with the column its value came from."""
        cells = {**self._cells, **({self._negatives: "negative_prompt"} if self._negatives else {})}
        column = next((c for c, s in cells.items() if s == problem.column and row.fields[c].strip()), None)
        hint = problem.hint
        if column is not None:
            own = f'if {column!r} is a column of your own, add data = ["{column}"] to the job'
            hint = f"{hint}; {own}" if hint else own
        return replace(
            problem, where=self.job.manifest, row=row.line, column=column or problem.column, hint=hint
        )

    @property
    def _reference_columns(self) -> list[str]:
        return _reference_columns(tuple(self._offered))

    def _column_of(self, entry: str) -> str | None:
        return entry if entry in self._columns else names_of(self._columns).get(entry)

    def _is_file(self, entry: str) -> bool:
        return (
            not _is_template(entry) and self._column_of(entry) is None and bool(re.search(r"[./\\]", entry))
        )

    def _cell_of(self, entry: str, row: Row, context: Mapping[str, Any], problems: list[Problem]) -> str:
        if column := self._column_of(entry):
            return row.fields[column]
        return self._filled(entry, context, "references", problems) or ""

    def _filled(
        self, text: str | None, context: Mapping[str, Any], column: str, problems: list[Problem]
    ) -> str | None:
        if text is None:
            return None
        try:
            return str(template(text)(context)).strip()
        except BadTemplate as error:
            problems.append(Problem(f"{column}: {error}", column=column))
            return None

    def _place_of(self, setting: str) -> str:
        """Where a person would look for this setting."""
        if getattr(self.job.settings, setting) is not None:
            return "--set"
        return f"[shots.{self.shot.name}]" if getattr(self.shot, setting) is not None else "[defaults]"


_BUILT_IN: dict[str, Any] = dict.fromkeys(Settings.__struct_fields__) | {
    "model": DEFAULT_MODEL,
    "variants": 1,
}


def _settings_of(settings: Settings) -> dict[str, Any]:
    """What a layer says, as it is written."""
    values = {name: getattr(settings, name) for name in Settings.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None}


def in_turn(number: int, problem: Problem, column: str) -> Problem:
    """A problem with a follow-up, which is known by its number: 1 is the first one."""
    return replace(problem, message=f"turn {number}: {problem.message}", column=column)


def _located(problem: Problem) -> str:
    return f"{problem.where}: {problem.message}" if problem.where else problem.message


def _names_in(text: str) -> Collection[str]:
    """The columns that a template names."""
    try:
        return unknown_names(text, ())
    except BadTemplate:  # said elsewhere
        return ()


def _said(settings: Settings) -> dict[str, Any]:
    """What one layer says; '-' is said, and is none."""

    def meant(value: Any) -> Any:
        return None if value == NONE else () if value in ((NONE,), NO_TURNS) else value

    return {name: meant(value) for name, value in _settings_of(settings).items()}


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(cell: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,12}(\.0+)?", cell) or not least <= int(float(cell)) <= most:
            raise ValueError(f"no whole number from {least} to {most:,}")
        return int(float(cell))

    return read


def _temperature(cell: str) -> float:
    if not re.fullmatch(r"\d{1,3}([.,]\d+)?", cell) or float(cell.replace(",", ".")) > 2:
        raise ValueError("no number from 0 to 2")
    return float(cell.replace(",", "."))


def _people(cell: str) -> str:
    if cell.lower() not in get_args(People):
        raise ValueError(f"none of {', '.join(get_args(People))}")
    return cell.lower()


_READ: dict[str, Callable[[str], Any]] = {
    "model": str,
    FROM: str,
    "aspect_ratio": ratio,
    "image_size": size,
    "variants": _whole(1, _MOST_VARIANTS),
    "seed": _whole(0, 2**31 - 1),
    "temperature": _temperature,
    "thinking": str.lower,
    "search": lambda cell: tuple(item.lower() for item in split(cell)),
    "person_generation": _people,
}


def _setting_columns(columns: Sequence[str]) -> dict[str, str]:
    """The columns that are settings of ours; under its own name a setting comes before its aliases."""
    by_setting: dict[str, str] = {}
    for column in sorted(columns, key=lambda column: name_of(column) in ALIASES):
        setting = ALIASES.get(name_of(column), name_of(column))
        if setting in _READ:
            by_setting.setdefault(setting, column)
    return {column: setting for setting, column in by_setting.items()}


@lru_cache(maxsize=64)
def _reference_columns(columns: tuple[str, ...]) -> list[str]:
    """Where nobody says otherwise: the columns called like references, the numbered ones in order."""
    numbered = {}
    for column in columns:
        if match := re.fullmatch(r"reference_image_(\d{1,2})", name_of(column)):
            numbered[int(match[1])] = column
    plain = [column for column in columns if name_of(column) in REFERENCE_COLUMNS]
    roles = [column for column in columns if _ROLE_COLUMN.fullmatch(name_of(column))]
    return plain + [numbered[number] for number in sorted(numbered)] + roles


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text
