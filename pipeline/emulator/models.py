"""What the emulated models can do: sizes in pixels, tokens, prices, and until when they answer.

The tables are Google's, from its image-generation and pricing pages of 2026. This is the emulator's own
copy, so that a wrong number on the client's side does not agree with itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.emulator.clock import parse

Pixels = tuple[int, int]

GEMINI_2_PIXELS: Mapping[str, Pixels] = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}
GEMINI_3_PIXELS: dict[str, Pixels] = {
    "1:1": (1024, 1024),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
}
LONG_PIXELS: Mapping[str, Pixels] = GEMINI_3_PIXELS | {
    "1:4": (512, 2048),
    "4:1": (2048, 512),
    "1:8": (384, 3072),
    "8:1": (3072, 384),
}
# Every other size is the 1K table times this. The page prints 792x168 for 21:9 at 512; the rule gives
# 792x336.
SCALES = {"512": 0.5, "1K": 1, "2K": 2, "4K": 4}


# Tokens of thought by level: the least, and how far it goes beyond that. Google publishes none; one answer of 3 Pro
# was measured, with 337. The others are a guess, and the middle of each is what a planner would guess too: what a
# clean night then tells apart is whether thinking is counted at all, and at which price.
THOUGHTS: Mapping[str, tuple[int, int]] = {
    "MINIMAL": (40, 120),
    "LOW": (40, 120),
    "MEDIUM": (130, 300),
    "HIGH": (200, 800),
}

QUERY = 14_000_000  # nanodollars for one search; a batch job has no discount on it


@dataclass(frozen=True, slots=True)
class Price:
    """Nanodollars per token at batch price, which is half the price of an answer at once."""

    text_in: int
    text_out: int  # thoughts cost the same
    image_out: int


@dataclass(frozen=True, slots=True)
class Model:
    """One image model. `until` is when it stops to answer, in virtual time."""

    name: str
    mime: str
    pixels: Mapping[str, Pixels]  # by ratio, at 1K
    tokens: Mapping[str, int]  # of one picture, by size; the sizes it can make
    price: Price
    reference_tokens: int = 1120  # 3 Pro counts half as many, the models before a quarter
    thoughts: Mapping[str, tuple[int, int]] = field(default_factory=lambda: THOUGHTS)
    levels: tuple[str, ...] = ()  # of thinking; none means it does not think
    unasked: str = ""  # the level where none is asked for; unsaid: the lowest
    settable_size: bool = True
    image_alone: bool = True  # whether it answers without text when asked
    searches: tuple[str, ...] = ()  # what it can look up
    until: int | None = None

    def size(self, ratio: str, size: str) -> Pixels:
        width, height = self.pixels[ratio]
        return round(width * SCALES[size]), round(height * SCALES[size])

    def nearest_ratio(self, width: int, height: int) -> str:
        """The ratio a picture follows that was shown a reference of this shape and told nothing else."""
        return min(self.pixels, key=lambda ratio: abs(shape(ratio) * height - width) / (width + height))


def shape(ratio: str) -> float:
    width, height = ratio.split(":")
    return int(width) / int(height)


FLASH_31 = Model(
    "gemini-3.1-flash-image",
    "image/jpeg",
    LONG_PIXELS,
    {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
    Price(250, 1500, 30_000),
    levels=("MINIMAL", "HIGH"),
    searches=("web", "image"),
)
PRO_3 = Model(
    "gemini-3-pro-image",
    "image/jpeg",
    GEMINI_3_PIXELS,
    {"1K": 1120, "2K": 1120, "4K": 2000},
    Price(1000, 6000, 60_000),
    reference_tokens=560,
    thoughts={"LOW": (237, 200), "HIGH": (400, 800)},  # it always thinks
    levels=("LOW", "HIGH"),
    searches=("web",),
)
FLASH_25 = Model(
    "gemini-2.5-flash-image",
    "image/png",
    GEMINI_2_PIXELS,
    {"1K": 1290},
    Price(150, 1250, 15_000),
    reference_tokens=258,
    settable_size=False,
)
FLASH_20 = Model(
    "gemini-2.0-flash-preview-image-generation",
    "image/png",
    GEMINI_2_PIXELS,
    {"1K": 1290},
    Price(50, 200, 15_000),
    reference_tokens=258,
    settable_size=False,
    image_alone=False,
    until=parse("2025-11-14"),
)


def named(model: Model, name: str, *, until: str | None = None) -> Model:
    """The same model under another name that may have died earlier."""
    return replace(model, name=name, until=parse(until) if until else model.until)


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        FLASH_31,
        PRO_3,
        FLASH_25,
        FLASH_20,
        Model(
            "gemini-3.1-flash-lite-image",
            "image/jpeg",
            GEMINI_3_PIXELS,
            {"1K": 1120},
            Price(125, 750, 15_000),
            levels=("MINIMAL", "HIGH"),
        ),
        Model(
            "gemini-nano-banana-2.1",
            "image/jpeg",
            LONG_PIXELS,
            {"1K": 1120, "2K": 1680, "4K": 2520},
            Price(750, 3750, 15_000),
            levels=("MINIMAL", "MEDIUM", "HIGH"),
            unasked="MEDIUM",
            searches=("web", "image"),
        ),
        named(FLASH_31, "gemini-3.1-flash-image-preview", until="2026-06-25"),
        named(PRO_3, "gemini-3-pro-image-preview", until="2026-06-25"),
        named(FLASH_25, "gemini-2.5-flash-image-preview", until="2026-01-15"),
        named(FLASH_20, "gemini-2.0-flash-exp-image-generation"),
        named(FLASH_20, "gemini-2.0-flash-exp"),
    )
}


def find(name: str, *, now: int) -> Model | None:
    """The model of this name, with or without `models/`, if it still answers."""
    model = MODELS.get(name.removeprefix("models/"))
    if model is None or (model.until is not None and now >= model.until):
        return None
    return model
