"""What only Imagen is asked, and what it refuses: the parameters of its `predict` that no Gemini model has."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import msgspec

from pipeline.models import Model
from pipeline.problems import Problem

People = Literal["dont_allow", "allow_adult", "allow_all"]  # who may be in a picture
Filter = Literal["low", "medium", "high", "none"]  # withheld from this probability of harm on
Language = Literal["auto", "en", "zh", "zh-CN", "zh-TW", "hi", "ja", "ko", "pt", "es"]  # of the prompt
Output = Literal["png", "jpeg"]


class Imagen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one call asks for beside the prompt, the ratio and the size. None: as the service has it."""

    pictures: int = 1  # of one call, each a result
    negative_prompt: str | None = None
    person_generation: People | None = None
    safety_filter: Filter | None = None
    guidance: float | None = None
    language: Language | None = None
    enhance_prompt: bool | None = None
    watermark: bool | None = None
    output: Output | None = None
    quality: int | None = None
    safety_scores: bool | None = None


SETTINGS = Imagen.__struct_fields__


class Asked(Protocol):
    """A prompt, as far as Imagen may refuse it beyond what its row in the table of models says."""

    @property
    def imagen(self) -> Imagen | None: ...
    @property
    def system(self) -> str | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def top_k(self) -> int | None: ...
    @property
    def safety(self) -> tuple[tuple[str, str], ...]: ...


def imagen_of(values: Mapping[str, Any]) -> Imagen | None:
    """What these settings say to Imagen alone; None: nothing."""
    own = Imagen(**{name: values[name] for name in SETTINGS if values.get(name) is not None})
    return None if own == Imagen() else own


def said_by(asked: Imagen | None) -> dict[str, Any]:
    """Every setting that is not as the service has it, by name."""
    plain: dict[str, Any] = {} if asked is None else msgspec.to_builtins(asked)
    return plain


def problems(model: Model, asked: Asked) -> Iterator[Problem]:
    """What this model refuses of the settings that only Imagen has; and of those that it alone has not."""
    if model.call == "predict":
        yield from _missing_settings(model, asked)
        yield from _own_settings(model, asked, asked.imagen or Imagen())
        return
    for name, value in said_by(asked.imagen).items():
        hint = f"only Imagen has {name}: leave it out"
        yield Problem(f"{model.name} has no such setting", column=name, value=_word(value), hint=hint)


def _missing_settings(model: Model, asked: Asked) -> Iterator[Problem]:
    words = {"system": "system instruction", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
    for name, called in words.items():
        if getattr(asked, name) is not None:
            yield Problem(f"{model.name} takes no {called}", column=name, hint="leave it out")
    if asked.safety:
        hint = 'say it as safety_filter = "high" in place of safety'
        yield Problem(f"{model.name} has one threshold for all kinds of harm", column="safety", hint=hint)


def _own_settings(model: Model, asked: Asked, own: Imagen) -> Iterator[Problem]:
    if own.pictures > model.most_pictures:
        most = "1 picture" if model.most_pictures == 1 else f"{model.most_pictures} pictures"
        hint = f"variants = {own.pictures} asks for as many, a call for each"
        message = f"{model.name} makes {most} a call"
        yield Problem(message, column="pictures", value=str(own.pictures), hint=hint)
    if asked.seed is not None and own.watermark is not False:
        message = f"{model.name} draws by a seed only without a watermark"
        hint = "add watermark = false, or leave the seed out"
        yield Problem(message, column="seed", value=str(asked.seed), hint=hint)
    if own.quality is not None and own.output != "jpeg":
        message, hint = "only a JPEG has a quality", 'add output = "jpeg", or leave the quality out'
        yield Problem(message, column="quality", value=str(own.quality), hint=hint)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
