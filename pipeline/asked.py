"""A request as plan/ and retry/ hold it, both ways: what was asked, in columns."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import msgspec

from pipeline.imagen import Imagen
from pipeline.prompt import Prompt
from pipeline.references import Reference

_SETTINGS = (
    "system",
    "model",
    "aspect_ratio",
    "image_size",
    "modalities",
    "thinking",
    "search",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "store",
    "after",
    "context",
    "history",
)
_SHOWN = ("source", "sha256", "mime", "size", "width", "height", "made_from", "rule", "generation", "role")

_settings_of, _shown_of = attrgetter(*_SETTINGS), attrgetter(*_SHOWN)

COLUMNS = ("prompt", "references", "safety", *_SETTINGS, "include_thoughts", "imagen")
"""All that a prompt is made of."""


def columns_of(prompt: Prompt) -> dict[str, Any]:
    """A prompt in columns."""
    asked: dict[str, Any] = dict(zip(_SETTINGS, _settings_of(prompt), strict=True))
    shown = [dict(zip(_SHOWN, _shown_of(reference), strict=True)) for reference in prompt.references]
    safety = [f"{harm}={threshold}" for harm, threshold in prompt.safety]
    imagen = None if prompt.imagen is None else msgspec.structs.asdict(prompt.imagen)
    return asked | {
        "prompt": prompt.text,
        "references": shown,
        "safety": safety,
        "include_thoughts": prompt.thoughts,
        "imagen": imagen,
    }


def called(row: Mapping[str, Any]) -> str:
    """What a request is called in a sentence: by what tells it from others."""
    variant = f", variant {row['variant']}" if row["variant"] else ""
    turn = f", turn {row['turn']}" if row["turn"] else ""
    return f"{row['key']} {row['shot']}{variant}{turn}"


def prompt_of(row: Mapping[str, Any]) -> Prompt | None:
    """The prompt a row was made from, or None where the plan refused it."""
    if row.get("refusal") is not None:
        return None
    settings = {name: row[name] for name in _SETTINGS}
    settings |= {name: tuple(settings[name] or ()) for name in ("modalities", "search")}
    settings["context"] = settings["context"] or 0
    shown = tuple(Reference(**reference) for reference in row["references"] or ())
    pairs = (said.partition("=") for said in row["safety"] or ())
    safety = tuple((harm, threshold) for harm, _, threshold in pairs)
    settings["thoughts"] = bool(row["include_thoughts"])
    imagen = Imagen(**row["imagen"]) if row.get("imagen") else None
    return Prompt(text=row["prompt"], references=shown, safety=safety, imagen=imagen, **settings)
