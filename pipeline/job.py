"""A job: what to shoot and how, as a TOML file says it, checked whole before anything else happens."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from pipeline.checks import Checks, without_limit
from pipeline.clock import duration
from pipeline.errors import BadInput
from pipeline.imagen import SETTINGS, Filter, Language, Output, People
from pipeline.library import library, unusable
from pipeline.manifest import STANDARD_INPUT, Manifest, Row, open_manifest
from pipeline.manifest.cells import is_none, ratio, size, split, text_of
from pipeline.manifest.feed import COLUMNS
from pipeline.manifest.values import is_file, values_of
from pipeline.problems import Problem, did_you_mean, refusal
from pipeline.templates import BadTemplate, context_of, expression, name_of, template

DEFAULT_MODEL = "gemini-nano-banana-2.1"
SET = "--set"
NONE = "-"  # a setting that is explicitly none, against a default

# What columns and --set may call a setting, besides its own name.
ALIASES = {
    "ratio": "aspect_ratio",
    "size": "image_size",
    "n": "variants",
    "num_images": "variants",
    "repeat": "variants",
    "from": "from_",  # as Python has to write it
}
REFERENCE_COLUMNS = (
    "reference_images",
    "references",
    "refs",
    "images",
    "image",
    "image_url",
    "image_urls",
    "image_input",
    "image_link",
)
PROMPT_COLUMNS = ("prompt", "text", "caption")
TEMPLATES = ("prompt", "system", "negative_prompt")  # the settings that are
_BACKENDS = ("developer", "vertex")
_SHOT_NAME = re.compile(r"[\w-]{1,40}")
_SHARE = r"(\d{1,3}(?:\.\d+)?)\s*%"
_NO_JOB_NAME = re.compile(r"^\.|^\s*$|[/\\\x00-\x1f]")

Harm = Literal["harassment", "hate_speech", "sexually_explicit", "dangerous_content", "civic_integrity"]
Threshold = Literal[
    "low", "medium", "high", "none", "off"
]  # blocked from this probability on; never; not looked at

Role = Literal["object", "person", "style", "background"]  # what a reference is shown for
ROLES: tuple[Role, ...] = get_args(Role)

Crossed = Literal[
    "model", "aspect_ratio", "image_size", "thinking", "search", "seed", "temperature", "system", "thoughts"
]

Outcome = Literal[
    "text_only",
    "no_image",
    "truncated",
    "broken",
    "error",
    "missing",
    "expired",
    "cancelled",
    "wrong_size",
    "unfit",
    "blocked",
]
FollowUps = Literal["always", "unless_rejected", "approved"]
Attempts = Annotated[int, msgspec.Meta(ge=1, le=10)]
Label = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_-]{0,62}$")]
Weight = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How pictures are asked for. None is 'not said', so the layer below decides; '-' is 'none at all'."""

    prompt: str | None = None  # a template
    system: str | None = None  # a template
    model: str | None = None
    aspect_ratio: str | None = None
    image_size: str | None = None
    modalities: tuple[str, ...] | None = None
    thinking: str | None = None
    search: tuple[str, ...] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    safety: Mapping[Harm, Threshold] | None = (
        None  # what is blocked, by kind of harm; unsaid: Google's default
    )
    store: bool | None = None  # whether Google may keep requests and answers; unsaid: as the project is set
    variants: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    references: tuple[str, ...] | None = None  # columns, templates, or files beside the manifest
    roles: Mapping[str, Role] | None = None  # of these, by column, template or file
    thoughts: bool | None = None  # whether what the model thought is kept beside its answer
    from_: str | None = msgspec.field(name="from", default=None)  # a template: whose picture is edited
    # What is asked after it, each with its prompt; what one does not say is as in the turn before all of them.
    turns: tuple["Settings", ...] | None = None
    # Imagen's alone: see pipeline/imagen.py
    pictures: Annotated[int, msgspec.Meta(ge=1, le=4)] | None = None  # of one call
    negative_prompt: str | None = None  # a template: what is not to be seen
    person_generation: People | None = None
    safety_filter: Filter | None = None  # one threshold for all kinds of harm
    guidance: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None  # how closely the prompt is followed
    language: Language | None = None  # of the prompt
    enhance_prompt: bool | None = None  # whether the service may write a better one
    watermark: bool | None = None
    output: Output | None = None
    quality: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None  # of a JPEG
    safety_scores: bool | None = None  # whether the index is to hold how harmful it may be


NO_TURNS = (Settings(prompt=NONE),)
"""That a picture has no follow-ups, said against a default."""

MOST_TURNS = 20
"""Follow-ups of one picture: each waits for the one before it, and what was said before is paid for again."""


class Shot(Settings, frozen=True, kw_only=True, omit_defaults=True):
    """A prompt template with settings of its own, poured over every row."""

    name: str


class Exclude(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Shots x rows that are not shot: of these shots (none named: all), the rows that are meant."""

    shots: tuple[str, ...] = ()
    where: str | None = None  # an expression over a row
    keys: tuple[str, ...] = ()

    def means(self, shot: str, row: Row) -> bool:
        """Raises BadTemplate where the row's values allow no answer."""
        if (self.shots and shot not in self.shots) or (self.keys and row.key not in self.keys):
            return False
        return self.where is None or bool(expression(self.where)(context_of(row.fields)))


class Include(Settings, frozen=True, kw_only=True, omit_defaults=True):
    """Shots x rows that are shot whatever is excluded, with settings of their own."""

    shots: tuple[str, ...] = ()
    where: str | None = None
    keys: tuple[str, ...] = ()

    def means(self, shot: str, row: Row) -> bool:
        return Exclude(shots=self.shots, where=self.where, keys=self.keys).means(shot, row)


class Batches(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a batch is full, whichever comes first, and how much is sent at once. None: what the backend allows."""

    max_requests: Count | None = None
    max_bytes: Count | None = None  # of what is sent
    max_output_bytes: Count = 1_000_000_000  # of what is expected back
    in_flight: Count | None = None  # batches at the provider at once
    queue_tokens: Count | None = None  # of one model that may wait there at once
    stored_bytes: Count | None = None  # of files that may lie there at once


class References(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is done to references before they are sent, and how they are. Nothing, unless it is said."""

    max_side: Annotated[int, msgspec.Meta(ge=64, le=16384)] | None = None  # pixels of the longer side
    convert: Literal["PNG", "JPEG"] | None = None  # what no model reads is sent as that
    inline: bool = False  # within each request that shows them; else each is uploaded once


class Night(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run gets through a long night. Lengths of time are written as '90 min', '2 h', '1 d'."""

    canary: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None  # requests of each model that go first
    canary_wait: str = "2 h"  # so long the rest waits for them
    on_late_canary: Literal["go_on", "hold"] = "go_on"
    stall_after: str = "24 h"  # from when a batch counts as stalled
    on_stall: Literal["wait", "resubmit", "online", "give_up"] = "wait"
    finish_online_below: str | None = (
        None  # retries that go at once: '20 rows', '$2', or '20 rows, $2' for both
    )
    deadline: str | None = None  # so long after its begin the run is over; unsaid: when all is home


class Tail(NamedTuple):
    """How much is little enough to be finished at once. None: as many rows, or as much money, as there are."""

    rows: int | None = None
    usd: float | None = None


_TAIL = re.compile(r"(?:(\d+) rows?)?(?:(?<=[sw]), )?(?:\$(\d+(?:\.\d+)?))?")


def tail(said: str) -> Tail | None:
    """What '20 rows', '$2' or '20 rows, $2' means; None: nothing."""
    match = _TAIL.fullmatch(said.strip())
    if match is None or not any(match.groups()):
        return None
    return Tail(int(match[1]) if match[1] else None, float(match[2]) if match[2] else None)


class Online(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How pictures are asked for at once: a proof's, and the last few of a night."""

    per_minute: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10  # calls; any paid account may make so many
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8  # calls at once: what a crash may cost again


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to shoot and how, kept whole in the run's first record: nothing in it names this machine."""

    name: str
    manifest: str  # as written: relative to the folder of the job file
    key: str | None = None  # the column that names rows
    where: str | None = None  # an expression over a row: which rows are shot
    keys: tuple[str, ...] = ()  # only these rows; none: all
    limit: Count | None = None  # only so many of the chosen rows, the first ones
    data: tuple[str, ...] = ()  # columns that are the user's own, though they are called like a setting
    references_dir: str | None = None  # where else references are looked for; relative as the manifest is
    allow_private: bool = False  # references may be fetched from private networks
    models: str | None = None  # a file laid over the table of models; relative as the manifest is
    backend: str = "developer"
    project: str | None = None  # of Google Cloud, for Vertex AI; unsaid: GOOGLE_CLOUD_PROJECT
    location: str | None = None  # of Vertex AI; unsaid: GOOGLE_CLOUD_LOCATION, else global
    labels: Mapping[Label, str] = {}  # on jobs and requests at Vertex AI, for the bill
    bucket: str | None = None  # where Vertex AI reads and writes; unsaid: where the run lives
    runs: str = "runs"  # a folder or a gs:// URL
    max_usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_usd_month: Annotated[float, msgspec.Meta(gt=0)] | None = None  # of all its runs of one month together
    max_bad: str | int | None = None  # rows with problems that are left out unasked: 20, or '2 %'
    line_mbit: Annotated[float, msgspec.Meta(gt=0)] = 20  # of the line, for saying how long sending takes
    tier: Annotated[int, msgspec.Meta(ge=1, le=3)] | None = None  # of the Google account; unsaid: 1
    attempts: Attempts = 2
    again: Mapping[Outcome, Attempts] = {}  # outcomes with a number of attempts of their own
    follow_ups: FollowUps = (
        "always"  # which are asked: all; none of a rejected picture; those of approved ones
    )
    night: Night = Night()
    online: Online = Online()
    batches: Batches = Batches()
    references: References = References()
    checks: Checks = Checks()
    reuse: tuple[str, ...] = ()  # earlier runs whose answers count: names, globs, 'latest 3', places
    retry_nights: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3  # later ones that try what came to nothing
    reuse_across: tuple[Crossed, ...] = ()  # settings that may differ from what was asked then
    defaults: Settings = Settings()
    shots: tuple[Shot, ...]
    axes: Mapping[str, Mapping[str, Weight]] = {}  # values with their weights: each row times each of them
    sample: Count | None = None  # as many rows, times axes, as are drawn
    seed: int = 0  # of that draw
    include: tuple[Include, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    settings: Settings = Settings()  # --set: above all else, the rows' own cells included

    def manifest_path(self, folder: Path) -> Path:
        """The manifest of this job, if its file lies in this folder."""
        return Path(STANDARD_INPUT) if self.manifest == STANDARD_INPUT else folder / self.manifest

    def open_manifest(self, folder: Path) -> Manifest:
        """The manifest of this job as it is shot: its rows times the axes, or a sample of that."""
        return self.drawn(open_manifest(self.manifest_path(folder), key=self.key))

    def drawn(self, manifest: Manifest) -> Manifest:
        return manifest.times(self.axes, sample=self.sample, seed=self.seed)

    def with_settings(self, changes: Mapping[str, Any]) -> "Job":
        """This job, changed as --set does it. Values may be text. Raises one BadInput for all that is wrong.

        'model' and its like hold for every picture and outrank the rows' cells; 'shots.hero.prompt' is for
        one shot; 'max_usd' and 'batches.max_requests' are for the job.
        """
        document = _document_of(self)
        for name, value in changes.items():
            setting = ALIASES.get(name, name)
            path = ["settings", setting] if setting in Settings.__struct_fields__ else name.split(".")
            _put(document, path, value)
        return _job_of(document, where=SET)

    def bears(self, bad: int, of: int) -> bool:
        """Whether this many bad rows are few enough to go on without them."""
        if self.max_bad is None:
            return False
        share = re.fullmatch(_SHARE, str(self.max_bad))
        return bad <= (int(self.max_bad) if share is None else of * float(share[1]) / 100)

    def chooses(self, row: Row) -> bool:
        """Whether `keys` and `where` take this row. Raises BadTemplate where the row's values allow no answer."""
        if self.keys and row.key not in self.keys:
            return False
        return self.where is None or bool(expression(self.where)(context_of(row.fields)))


def read_job(path: Path) -> Job:
    """A job file, whole or not at all: everything that is wrong with it is one BadInput."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such job", hint=_other_jobs(path)) from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no TOML: {error}") from error
    if "settings" in document:  # where --set goes
        raise BadInput(f"{path}: unknown key 'settings'", hint="say it in [defaults] or in a shot")
    return _job_of({"name": path.stem, **_with_axes(document, path.parent)}, where=str(path))


def job_for(
    manifest: str | Path,
    *,
    prompt: str | None = None,
    shots: Mapping[str, Mapping[str, Any]] | None = None,
    **said: Any,
) -> Job:
    """A job where only a manifest is given, relative to the working folder.

    What else is said (model, variants, key) goes where it belongs: settings into the defaults, so a row's
    own cells outrank them.
    """
    name = "stdin" if str(manifest) == STANDARD_INPUT else Path(manifest).name
    document: dict[str, Any] = {"name": name.split(".")[0] or name, "manifest": str(manifest), "defaults": {}}
    document["shots"] = {shot: dict(settings) for shot, settings in (shots or {}).items()}
    for key, value in {"prompt": prompt, **said}.items():
        if value is not None:
            setting = ALIASES.get(key, key)
            _put(document, ["defaults", setting] if setting in Settings.__struct_fields__ else [key], value)
    return _job_of(_with_axes(document, Path()), where=str(manifest))


def of_a_store(job: Job, manifest: Manifest) -> Job:
    """The job for a store's feed: what the store itself calls 'size' or 'images' is no setting of ours."""
    if manifest.feed is None:
        return job
    called = {*Settings.__struct_fields__, *ALIASES, *REFERENCE_COLUMNS, *PROMPT_COLUMNS} - {*COLUMNS}
    theirs = [column for column in manifest.columns if column not in COLUMNS and name_of(column) in called]
    return msgspec.structs.replace(job, data=tuple(dict.fromkeys([*job.data, *theirs])))


def _other_jobs(path: Path) -> str:
    others = sorted(each.name for each in path.parent.glob("*.toml"))
    return did_you_mean(path.name, others) if others else "nightshoot init writes one"


# From a document (a TOML file's tables) to a Job


def _document_of(job: Job) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(job)
    document["shots"] = {
        shot["name"]: {key: value for key, value in shot.items() if key != "name"}
        for shot in document["shots"]
    }
    return document


def _put(document: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        under = document.setdefault(name, {})
        if not isinstance(under, dict):
            raise BadInput(f"unknown setting {'.'.join(path)!r}", hint=f"{name} is no table")
        document = under
    document[path[-1]] = value


def _job_of(document: Mapping[str, Any], *, where: str) -> Job:
    """The one door to a Job: all that is wrong is collected first, and said at once."""
    problems: list[Problem] = []
    values = _checked(Job, document, where=where, problems=problems)
    values["defaults"] = Settings(
        **_checked(Settings, document.get("defaults", {}), f"{where} [defaults]", problems)
    )
    values["settings"] = Settings(**_checked(Settings, document.get("settings", {}), where, problems))
    values["batches"] = Batches(
        **_checked(Batches, document.get("batches", {}), f"{where} [batches]", problems)
    )
    values["night"] = Night(**_checked(Night, document.get("night", {}), f"{where} [night]", problems))
    problems += _no_lengths(values["night"], f"{where} [night]")
    values["online"] = Online(**_checked(Online, document.get("online", {}), f"{where} [online]", problems))
    values["references"] = References(
        **_checked(References, document.get("references", {}), f"{where} [references]", problems)
    )
    values["checks"] = Checks(**_checked(Checks, document.get("checks", {}), f"{where} [checks]", problems))
    for name in without_limit(values["checks"]):
        hint = 'a shop says how much that is: profile = "merchant", or "amazon-main"'
        said = getattr(values["checks"], name)
        problems.append(
            Problem("no limit to hold it against", f"{where} [checks]", column=name, value=said, hint=hint)
        )
    for name, kind in (("include", Include), ("exclude", Exclude)):
        values[name] = _picks_of(kind, name, document, where, problems)
    values["shots"] = _shots_of(document.get("shots", {}), where, problems)
    for shot in values["checks"].shots.keys() - {shot.name for shot in values["shots"]}:
        known = [shot.name for shot in values["shots"]]
        problems.append(
            Problem("unknown shot", f"{where} [checks]", value=shot, hint=did_you_mean(shot, known))
        )
    if _NO_JOB_NAME.search(name := values.get("name", "job")):
        hint = "its runs are folders called after it: no slash, and no dot in front"
        problems.append(Problem("not a name for a job", where, column="name", value=name, hint=hint))
    bad = values.get("max_bad")
    if isinstance(bad, str) and not (re.fullmatch(_SHARE, bad) or bad.isdecimal()):
        hint = 'a number of rows, max_bad = 20, or a share, max_bad = "2 %"'
        problems.append(
            Problem("neither a number nor a share", where, column="max_bad", value=bad, hint=hint)
        )
    if "manifest" not in document:
        problems.append(Problem("no manifest", where, hint='add manifest = "products.csv"'))
    if values.get("backend", "developer") not in _BACKENDS:
        hint = did_you_mean(values["backend"], _BACKENDS)
        problems.append(
            Problem("unknown backend", where, column="backend", value=values["backend"], hint=hint)
        )
    if values["references"].inline and values.get("backend") == "vertex":
        hint = "take inline out: Vertex AI reads them from the bucket, each once"
        problems.append(Problem("no inline references there", f"{where} [references]", hint=hint))
    problems += _template_problems(values, where)
    if problems:
        raise refusal(problems)
    return Job(**values)


def _no_lengths(night: Night, where: str) -> Iterator[Problem]:
    for name in ("canary_wait", "stall_after", "deadline"):
        said = getattr(night, name)
        try:
            duration(said or "0 s")
        except ValueError:
            yield Problem("no length of time", where, column=name, value=said, hint=f'as in {name} = "2 h"')
    name, said = "finish_online_below", night.finish_online_below
    if said is not None and tail(said) is None:
        yield Problem(
            "neither rows nor dollars", where, column=name, value=said, hint=f'as in {name} = "20 rows, $2"'
        )


def _picks_of(
    kind: Any, name: str, document: Mapping[str, Any], where: str, problems: list[Problem]
) -> tuple[Any, ...]:
    entries = document.get(name, [])
    if not isinstance(entries, list | tuple):
        problems.append(Problem(f"written as [[{name}]], once for each", where, column=name))
        return ()
    known = list(document["shots"]) if isinstance(document.get("shots"), dict) else []
    picks = []
    for number, entry in enumerate(entries, start=1):
        place = f"{where} [[{name}]] {number}"
        pick = kind(**_checked(kind, entry, place, problems))
        for shot in pick.shots:
            if shot not in (known or ["main"]):
                problems.append(Problem("unknown shot", place, value=shot, hint=did_you_mean(shot, known)))
        problems.extend(_unreadable(expression, pick.where, place, "where"))
        picks.append(pick)
    return tuple(picks)


def _shots_of(tables: Any, where: str, problems: list[Problem]) -> tuple[Shot, ...]:
    if not isinstance(tables, dict):
        problems.append(Problem("shots are tables, as in [shots.hero]", where))
        return ()
    shots = []
    for name, table in (tables or {"main": {}}).items():
        place = f"{where} [shots.{name}]"
        if not _SHOT_NAME.fullmatch(name):
            hint = "letters, digits, - and _, at most 40: it becomes part of file names"
            problems.append(Problem("not a name for a shot", place, value=name, hint=hint))
        shots.append(
            Shot(name=name, **_checked(Settings, _written_out(table, place, problems), place, problems))
        )
    return tuple(shots)


def _written_out(table: Any, place: str, problems: list[Problem]) -> Any:
    """A shot that uses one of the library, as if the job had written its prompt itself."""
    if not isinstance(table, dict) or not {"use", "fill"} & table.keys():
        return table
    rest = {name: value for name, value in table.items() if name not in ("use", "fill")}
    use, fill = table.get("use"), table.get("fill", {})
    if not isinstance(use, str) or not isinstance(fill, dict) or "prompt" in rest:
        hint = 'as in use = "product-studio" and fill = { product = "{{ title }}" }, without a prompt'
        problems.append(Problem("no use of the library", place, column="use", hint=hint))
        return rest
    fill = {name: text_of(value) for name, value in fill.items()}
    wrong = list(unusable(use, fill, place))
    problems.extend(wrong)
    return rest if wrong else {**rest, "prompt": library()[use].template(fill)}


_TABLES = {
    "defaults",
    "settings",
    "batches",
    "night",
    "online",
    "references",
    "checks",
    "shots",
    "include",
    "exclude",
}  # checked one by one


def _checked(kind: Any, table: Any, where: str, problems: list[Problem]) -> dict[str, Any]:
    """The values of one table, each of its field's type; what is unknown or wrong becomes a problem."""
    if not isinstance(table, dict):
        problems.append(Problem("this is a table", where, value=text_of(table)))
        return {}
    apart = _TABLES if kind is Job else set()
    types = {field.name: field.type for field in msgspec.structs.fields(kind) if field.name not in apart}
    values = {}
    for said, value in table.items():
        name = ALIASES[said] if said == "from" else said
        if kind is Job and name in _TABLES:
            continue
        if name not in types:
            known = [*types, *sorted(_TABLES - {"settings"})] if kind is Job else [*types]
            if where == SET:
                known = [*Settings.__struct_fields__, *known]
            known = [each.rstrip("_") for each in known]
            hint = did_you_mean(name, known)
            problems.append(Problem(f"unknown key {name!r}", where, hint=hint))
            continue
        if name == "turns":
            values[name] = turns_of(_from_library(value, where, problems), where, problems)
            continue
        try:
            # Not strict: what --set gives is text.
            meant = _weighted(value) if name == "axes" else _meant(name, value, types[name])
            values[name] = msgspec.convert(meant, types[name], strict=False)
        except msgspec.ValidationError as error:
            problems.append(Problem(_plain(error, types[name]), where, column=said, value=text_of(value)))
    return values


_NOT_IN_TURNS = {
    "model": "a conversation stays with the model of its shot",
    "variants": "each variant of the shot has follow-ups of its own",
    "turns": "write the next turn behind it",
    "roles": "say them in the shot",
    "from_": "it goes on from the turn before it",
    **dict.fromkeys(SETTINGS, "only Imagen has it, which takes no follow-ups"),
}


def _from_library(turns: Any, where: str, problems: list[Problem]) -> Any:
    """A job's turns, those that use a prompt of the library written out."""
    if not isinstance(turns, list | tuple):
        return turns
    return [
        _written_out(turn, f"{where} turn {number}", problems) for number, turn in enumerate(turns, start=1)
    ]


def turns_of(said: Any, where: str, problems: list[Problem]) -> tuple[Settings, ...]:
    """Follow-ups as a job or a row says them: texts, or tables with a prompt and settings of their own."""
    entries = _in_text(said) if isinstance(said, str) else said
    if not isinstance(entries, list | tuple):
        hint = 'as in turns = ["make it night", { prompt = "now from above", aspect_ratio = "16:9" }]'
        problems.append(Problem("turns are a list", where, column="turns", value=text_of(said), hint=hint))
        return ()
    if entries and all(isinstance(entry, str) and is_none(entry) for entry in entries):
        return NO_TURNS
    if len(entries) > MOST_TURNS:
        message = f"{len(entries)} turns, of {MOST_TURNS} at most"
        hint = "each turn sends the whole conversation again: make several rows of it, with `from`"
        problems.append(Problem(message, where, column="turns", hint=hint))
    return tuple(_turn_of(entry, f"{where} turn {n}".strip(), problems) for n, entry in enumerate(entries, 1))


_BEGINS_AS_JSON = re.compile(r'\s*\[\s*[{"]')


def _in_text(cell: str) -> Any:
    """Follow-ups in one cell: JSON, or prompts with a | or a new line between them. Commas belong to prompts."""
    if cell.lstrip().startswith("["):
        with suppress(msgspec.DecodeError):  # a prompt may begin with a bracket
            return msgspec.json.decode(cell)
        if _BEGINS_AS_JSON.match(cell):
            return cell  # which is no list: nobody means to send that
    return [item for item in re.split(r"\s*[|\n]\s*", cell.strip()) if item]


def _turn_of(entry: Any, where: str, problems: list[Problem]) -> Settings:
    if isinstance(entry, str) and entry.lstrip().startswith("{"):  # a table that came through a cell
        with suppress(msgspec.DecodeError):  # a prompt may begin with a brace
            entry = msgspec.json.decode(entry)
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if isinstance(entry, dict):
        entry = {ALIASES.get(name, name): value for name, value in entry.items()}
        for name in _NOT_IN_TURNS.keys() & entry.keys():
            message = f"a turn has no {name.rstrip('_')} of its own"
            problems.append(Problem(message, where, hint=_NOT_IN_TURNS[name]))
        entry = {name: value for name, value in entry.items() if name not in _NOT_IN_TURNS}
    said = _checked(Settings, entry, where, problems)
    if isinstance(entry, dict) and not str(said.get("prompt") or "").strip():
        problems.append(Problem("a turn without a prompt", where))
    return Settings(**said)


_SPELLED: dict[str, Callable[[str], str]] = {
    "aspect_ratio": ratio,
    "image_size": size,
    "thinking": str.lower,
    "search": str.lower,
    "modalities": str.upper,
    "convert": str.upper,
    "person_generation": str.lower,
    "safety_filter": str.lower,
    "output": lambda said: said.lower().removeprefix("image/").replace("jpg", "jpeg"),
}


def _meant(name: str, value: Any, kind: Any) -> Any:
    """A value as it is spelled inside: a ratio that TOML took for a time, a list that is one text."""
    spelled = _SPELLED.get(name, str)
    if "tuple" in str(kind):
        items = split(value) if isinstance(value, str) else value
        return (
            [spelled(item) if isinstance(item, str) else item for item in items]
            if isinstance(items, list)
            else items
        )
    return spelled(text_of(value)) if name in _SPELLED else value


def _with_axes(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document with the values of those axes that are said as files, relative to this folder."""
    axes = document.get("axes")
    if not isinstance(axes, Mapping):
        return document
    read = {
        axis: values_of(axis, said, folder=folder) if is_file(said) else said for axis, said in axes.items()
    }
    return document | {"axes": read}


def _weighted(axes: Any) -> Any:
    """Axes with a weight for each value: a list of values has them all alike."""
    if not isinstance(axes, Mapping):
        return axes
    return {
        axis: {text_of(value): 1.0 for value in values} if isinstance(values, list | tuple) else values
        for axis, values in axes.items()
    }


def _plain(error: msgspec.ValidationError, meant: Any) -> str:
    text = str(error).replace("`", "").partition(" - at ")[0].replace(" | null", "")
    text = text[:1].lower() + text[1:]
    choices = ", ".join(_choices(meant))
    return f"none of {choices}" if choices and text.startswith("invalid enum value") else text


def _choices(meant: Any) -> Iterator[str]:
    """The words that a setting of this type may be."""
    for inner in get_args(meant):
        if isinstance(inner, str) and get_origin(meant) is Literal:
            yield inner
        yield from _choices(inner)


def _template_problems(values: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """Templates that nobody could read, whatever the columns."""
    places: list[tuple[str, Settings]] = [
        (f"{where} [defaults]", values["defaults"]),
        (where, values["settings"]),
    ]
    places += [(f"{where} [shots.{shot.name}]", shot) for shot in values["shots"]]
    places += [(f"{where} [[include]]", include) for include in values["include"]]
    places += [
        (f"{place} turn {n}", turn) for place, said in places for n, turn in enumerate(said.turns or (), 1)
    ]
    for place, settings in places:
        texts = {name: getattr(settings, name) for name in TEMPLATES} | {"from": settings.from_}
        texts |= {f"references {text}": text for text in settings.references or ()}
        for name, text in texts.items():
            yield from _unreadable(template, text, place, name)
    yield from _unreadable(expression, values.get("where"), where, "where")


def _unreadable(read: Callable[[str], object], text: str | None, place: str, name: str) -> Iterator[Problem]:
    if text is None:
        return
    try:
        read(text)
    except BadTemplate as error:
        yield Problem(str(error), place, column=name, value=text)
