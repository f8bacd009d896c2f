"""Model by mode: what each of them is asked in each way it can be asked, and where. docs/models.md is held against it.

A mode is one entry of MODES: the sample that shows it, what is said above the sample, which models can do it, and what
has to be true of the answers beyond what is true of all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.models import Model, load_models

TABLE = load_models()
Can = Callable[[Model], str | None]
"""Why a model cannot; None: it can."""


@dataclass(frozen=True)
class Mode:
    """One way of asking."""

    name: str  # as the page calls it
    sample: str  # a manifest of sample_manifests/, or a job of jobs/
    can: Can = lambda model: None
    there: Callable[[Model, str], str | None] = lambda model, surface: None  # why it cannot on one surface
    keys: Callable[[Model, str], tuple[str, ...]] = (
        lambda model, surface: ()
    )  # of the sample's rows; none: all
    said: Callable[[Model], dict[str, Any]] = lambda model: {}  # as --set
    limit: int | None = None  # of the sample's rows
    follows: bool = False  # the ratio of what it is shown
    about: str = ""  # a sentence for the page

    @property
    def path(self) -> str:
        """Where the sample lies in the house."""
        return self.sample if "/" in self.sample else f"sample_manifests/{self.sample}"


@dataclass(frozen=True)
class Cell:
    """One model asked in one way in one place."""

    model: str
    mode: Mode
    surface: str  # developer or vertex

    @property
    def id(self) -> str:
        return f"{self.model}-{self.mode.name}-{self.surface}".replace(" ", "-")


# --- who can what ------------------------------------------------------------------------------------------------


def _takes(count: int) -> Can:
    def can(model: Model) -> str | None:
        most = model.references.most
        return None if most is None or most >= count else "it takes no references"

    return can


def _talks(model: Model) -> str | None:
    return None if ("TEXT", "IMAGE") in model.modalities else "it answers with pictures alone"


def _searches(kind: str) -> Can:
    return lambda model: None if kind in model.search else f"it has no {kind} search"


def _level(model: Model) -> str | None:
    if model.thinking:
        return None
    return "it always thinks, and takes no level" if model.always_thinks else "it does not think"


def _thinks(model: Model) -> str | None:
    return None if model.thinks else "it does not think"


def _sized(model: Model) -> str | None:
    return None if model.size_settable else f"it makes {model.default_size}, and takes no size"


def _shaped(model: Model) -> str | None:
    return None if model.ratios else "its picture follows its input, and takes no ratio"


def _converses(model: Model) -> str | None:
    return None if model.converses else "one prompt, one answer"


def _reframes(model: Model) -> str | None:
    return _converses(model) or (None if "2K" in model.sizes else "it makes 1K, and no other size")


def _makes_2k(model: Model, surface: str) -> str | None:
    return None if "2K" in model.batch_sizes.get(surface, model.sizes) else "it makes 1K there"


def _imagen(model: Model) -> str | None:
    return None if model.call == "predict" else "Imagen's alone"


def _alone(model: Model) -> str | None:
    return None if ("IMAGE",) in model.modalities else "it answers with words and pictures, or not at all"


# --- which rows --------------------------------------------------------------------------------------------------

_SIZES = {"stamp": "512", "postcard": "1K", "poster": "2K", "banner": "4K"}
_LEVELS = {"quick": "minimal", "even": "medium", "careful": "high"}
_RATIOS = {
    "tile": "1:1",
    "book": "2:3",
    "photo": "3:2",
    "portrait": "3:4",
    "slide": "4:3",
    "print": "4:5",
    "frame": "5:4",
    "phone": "9:16",
    "screen": "16:9",
    "cinema": "21:9",
    "bookmark": "1:4",
    "banner": "4:1",
    "ribbon": "1:8",
    "frieze": "8:1",
}


def _sizes_of(model: Model, surface: str) -> tuple[str, ...]:
    made = model.batch_sizes.get(surface, model.sizes)
    return tuple(key for key, size in _SIZES.items() if size in made)


def _ratios_of(model: Model, surface: str) -> tuple[str, ...]:
    return tuple(key for key, ratio in _RATIOS.items() if ratio in model.ratios)


def _levels_of(model: Model, surface: str) -> tuple[str, ...]:
    return tuple(key for key, level in _LEVELS.items() if level in model.thinking)


def _drawn_by(model: Model, surface: str) -> tuple[str, ...]:
    """The samples of Imagen in a size that this one makes."""
    return () if "2K" in model.sizes else ("market", "kite")


def _group_of(model: Model, surface: str) -> tuple[str, ...]:
    """As many as it takes, and as many of each kind as it keeps alike."""
    if (model.references.most or 0) < 14:
        return ("three",)
    return ("six-and-five",) if model.references.objects == 6 else ("ten-and-four",)


# --- the modes ---------------------------------------------------------------------------------------------------

MODES = (
    Mode(
        "text to picture", "minimal.csv", about="A prompt becomes a picture, square where no ratio is said."
    ),
    Mode(
        "editing",
        "editing.csv",
        _takes(1),
        keys=lambda *_: ("recolour",),
        about="A picture is shown, and comes back changed.",
    ),
    Mode(
        "ratio of its input",
        "people.csv",
        _takes(1),
        follows=True,
        about="Where no ratio is said, the picture has that of the first one that is shown.",
    ),
    Mode(
        "composition",
        "jobs/composition.toml",
        _takes(3),
        keys=lambda *_: ("swatch",),
        about="Several pictures become one, each named in the prompt by what it is shown for.",
    ),
    Mode(
        "as many references as it takes",
        "group.csv",
        _takes(3),
        keys=_group_of,
        about="Fourteen pictures or three, with as many objects and people as the model keeps alike, in their order.",
    ),
    Mode(
        "interleaved",
        "illustrated.jsonl",
        _talks,
        about="Words and pictures in turn, kept in the order in which they were said.",
    ),
    Mode(
        "web search",
        "grounding.jsonl",
        _searches("web"),
        keys=lambda *_: ("tides",),
        about="The model looks things up; its queries, sources and search chip are in the index.",
    ),
    Mode(
        "image search",
        "grounding.jsonl",
        _searches("image"),
        keys=lambda *_: ("kingfisher",),
        about="It looks at pictures on the web, and names the pages that contain them.",
    ),
    Mode(
        "web and image search",
        "grounding.jsonl",
        _searches("image"),
        keys=lambda *_: ("ferry",),
        about="Both at once; every query is paid for.",
    ),
    Mode(
        "thinking levels",
        "thinking.csv",
        _level,
        keys=_levels_of,
        about="Each level that the model knows, with its tokens in the books.",
    ),
    Mode(
        "thoughts",
        "jobs/thoughts.toml",
        _thinks,
        said=lambda model: {"thinking": "-"},
        about="What it thought comes with the answer, and is kept apart from it.",
    ),
    Mode(
        "sizes",
        "sizes.csv",
        _sized,
        keys=_sizes_of,
        about="Every size that it makes there: Vertex AI makes 1K.",
    ),
    Mode(
        "ratios", "ratios.csv", _shaped, keys=_ratios_of, about="Every ratio that it makes: ten, or fourteen."
    ),
    Mode(
        "image alone",
        "minimal.csv",
        _alone,
        said=lambda model: {"modalities": "IMAGE"},
        about="`--set modalities=IMAGE`: a picture without a word. The plan refuses it where a model cannot.",
    ),
    Mode(
        "prompt library",
        "jobs/library.toml",
        limit=1,
        about="Every shot of `nightshoot shots` over the first sample shoe; of Imagen those that show nothing.",
    ),
    Mode(
        "several turns",
        "conversations.csv",
        _converses,
        keys=lambda *_: ("car",),
        about="A picture, and two follow-ups: each is told the conversation from its beginning, signatures and all.",
    ),
    Mode(
        "a turn in another size",
        "edits.jsonl",
        _reframes,
        _makes_2k,
        keys=lambda *_: ("leaf",),
        about="A follow-up in another language, ratio and size than the picture before it.",
    ),
    Mode(
        "views around a thing",
        "jobs/views.toml",
        lambda model: _takes(1)(model) or _converses(model),
        limit=1,
        about="Four views of a product from one photo, each asked with those before it.",
    ),
    Mode(
        "pictures of other rows",
        "edits.jsonl",
        _takes(1),
        keys=lambda *_: ("boot", "boot-spring", "boot-autumn"),
        about="`from`: two pictures are made from the picture of a third row.",
    ),
    Mode(
        "Imagen's own settings",
        "jobs/imagen.toml",
        _imagen,
        keys=_drawn_by,
        said=lambda model: {"pictures": min(2, model.most_pictures)},
        about="Several results of one call, what is not to be seen, who may be, an enhanced prompt, JPEG.",
    ),
)


def surfaces(model: Model) -> tuple[str, ...]:
    """Where it is served: in batches, or at once where it comes in none."""
    return model.batch or model.online


MODELS = TABLE.models


def cells() -> Iterator[Cell]:
    """All that is run."""
    for mode in MODES:
        for name, model in MODELS.items():
            for surface in surfaces(model):
                if why_not(mode, model, surface) is None:
                    yield Cell(name, mode, surface)


# --- the page ----------------------------------------------------------------------------------------------------

HEADS = {"developer": "Developer API", "vertex": "Vertex AI"}
_IN_BATCHES = {"developer": "D", "vertex": "V"}


def why_not(mode: Mode, model: Model, surface: str | None = None) -> str | None:
    """Why there is no such cell; None: there is one."""
    reason = mode.can(model)
    if reason is None and surface is not None and surface not in surfaces(model):
        return "it is not served there"
    return reason or (mode.there(model, surface) if surface is not None else None)


def page() -> Iterator[str]:
    """The tables of docs/models.md, a line at a time."""
    yield from _overview()
    for mode in MODES:
        yield from ("", f"### {mode.name}", "", f"{mode.about} Sample: [`{mode.path}`](../{mode.path}).", "")
        yield f"| model | {' | '.join(HEADS.values())} |"
        yield "| --- " * (1 + len(HEADS)) + "|"
        for name, model in TABLE.models.items():
            cells = (_told(Cell(name, mode, surface), model) for surface in HEADS)
            yield f"| {name} | {' | '.join(cells)} |"


def _overview() -> Iterator[str]:
    yield f"| model | {' | '.join(mode.name for mode in MODES)} |"
    yield "| --- " * (1 + len(MODES)) + "|"
    for name, model in TABLE.models.items():
        yield f"| {name} | {' | '.join(_where(mode, model) for mode in MODES)} |"


def _where(mode: Mode, model: Model) -> str:
    """Capital letters for batches, small ones for calls that are answered at once."""
    letters = (_IN_BATCHES[surface] for surface in HEADS if not why_not(mode, model, surface))
    told = " ".join(letter if model.batch else letter.lower() for letter in letters)
    return told or "–"


def _told(cell: Cell, model: Model) -> str:
    reason = why_not(cell.mode, model, cell.surface)
    return f"– {reason}" if reason else f"`test_every_mode[{cell.id}]`"
