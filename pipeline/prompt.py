"""A row poured into a shot: the one thing that models are asked, whatever backend carries it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.references import Reference


@dataclass(frozen=True, slots=True)
class Prompt:
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


@dataclass(frozen=True, slots=True)
class Request:
    """One row x shot x variant."""

    row: int  # ordinal of the manifest's row, from 0
    key: str
    shot: str
    variant: int  # from 0
    fields: Mapping[str, str]
    prompt: Prompt | None  # None: refused by the plan
    fingerprint: str  # sha256 hex over all that the model would see; '' where refused
    refusal: str | None = None  # why the plan refuses it, in a person's words
