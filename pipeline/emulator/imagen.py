"""Imagen: what it can do and costs, how it is asked, and what it draws."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from pipeline.emulator.clock import parse
from pipeline.emulator.fields import ANY, FLAG, NUMBER, TEXT
from pipeline.emulator.models import Pixels
from pipeline.emulator.pictures import Picture, salted
from pipeline.emulator.problems import Problem

PREDICT = {
    "instances": [{"prompt": TEXT}],
    "parameters": {
        "sampleCount": NUMBER,
        "aspectRatio": TEXT,
        "negativePrompt": TEXT,
        "seed": NUMBER,
        "guidanceScale": NUMBER,
        "safetySetting": TEXT,
        "personGeneration": TEXT,
        "includeRaiReason": FLAG,
        "includeSafetyAttributes": FLAG,
        "language": TEXT,
        "outputOptions": {"mimeType": TEXT, "compressionQuality": NUMBER},
        "addWatermark": FLAG,
        "sampleImageSize": TEXT,
        "enhancePrompt": FLAG,
        "storageUri": TEXT,
    },
    "labels": ANY,
}
PIXELS: Mapping[str, Pixels] = {
    "1:1": (1024, 1024),
    "3:4": (896, 1280),
    "4:3": (1280, 896),
    "9:16": (768, 1408),
    "16:9": (1408, 768),
}
PEOPLE = ("dont_allow", "allow_adult", "allow_all")
FILTERS = ("block_low_and_above", "block_medium_and_above", "block_only_high", "block_none")
LANGUAGES = ("auto", "en", "zh", "zh-CN", "zh-TW", "hi", "ja", "ko", "pt", "es")
MIMES = ("image/png", "image/jpeg")

_GROWN_UP = re.compile(r"\b(person|people|man|men|woman|women|portrait|crowd)\b", re.IGNORECASE)
_YOUNG = re.compile(r"\b(child|children|kid|kids|girl|boy|baby)\b", re.IGNORECASE)
FACE, CHILD, HARM = "39322892", "17301594", "56562880"
"""Google's codes for what a picture was withheld for: people or faces, children, violence."""

CATEGORIES = ("Death, Harm & Tragedy", "Firearms & Weapons", "Hate", "Porn", "Toxic", "Violence")
DEVELOPER_END = parse("2026-09-17")  # on the Developer API; Vertex AI went on


@dataclass(frozen=True, slots=True)
class Order:
    """What one call asks for. Equal orders have equal seeds."""

    seed: bytes
    prompt: str
    count: int
    ratio: str
    size: str
    mime: str
    enhance: bool
    reasons: bool  # whether filtered pictures are to be explained
    scores: bool  # whether safety attributes are wanted
    people: str  # who may be in it

    def withheld_for(self) -> str | None:
        """The code of what none of its pictures may show, as far as its words tell."""
        if self.people != "allow_all" and _YOUNG.search(self.prompt):
            return CHILD
        return FACE if self.people == "dont_allow" and _GROWN_UP.search(self.prompt) else None

    @property
    def enhanced(self) -> str:
        """What the service makes of the prompt before it draws."""
        return f"{self.prompt}, in soft light"

    def attributes(self, number: int | None) -> dict[str, Any]:
        """How likely a picture is to harm, by category; of the prompt, where no picture is named."""
        seed = salted(self.seed, f"safety {number}")
        scores = [round(seed[place] / 2550, 1) for place in range(len(CATEGORIES))]
        return {"categories": list(CATEGORIES), "scores": scores}


@dataclass(frozen=True, slots=True)
class Imagen:
    """One model. It is asked one prompt at a time, and never in a batch."""

    name: str
    nanodollars: int  # for a picture
    sizes: tuple[str, ...]
    most: int = 4
    rewrites: bool = True  # prompts, unless it is told not to

    def read(self, body: dict[str, Any], *, salt: bytes) -> Order:
        """The order. Problem 400 names what cannot be had."""
        instances = body.get("instances") or []
        if len(instances) != 1 or not instances[0].get("prompt"):
            raise Problem(400, "instances: exactly one with a prompt.")
        asked = body.get("parameters") or {}
        self._check_values(asked)
        _check_labels(body.get("labels"))
        count = int(asked.get("sampleCount") or self.most)
        if not 1 <= count <= self.most:
            raise Problem(400, f"parameters.sampleCount {count} is not between 1 and {self.most}.")
        whole = msgspec.json.encode([self.name, instances, asked], order="sorted")
        return Order(
            seed=hashlib.sha256(salt + whole).digest(),
            prompt=instances[0]["prompt"],
            count=count,
            ratio=asked.get("aspectRatio") or "1:1",
            size=asked.get("sampleImageSize") or "1K",
            mime=(asked.get("outputOptions") or {}).get("mimeType") or MIMES[0],
            enhance=self._rewrites(instances[0]["prompt"], asked.get("enhancePrompt")),
            reasons=bool(asked.get("includeRaiReason")),
            scores=bool(asked.get("includeSafetyAttributes")),
            people=str(asked.get("personGeneration") or PEOPLE[1]).lower(),
        )

    def _rewrites(self, prompt: str, asked: bool | None) -> bool:
        """Whether a rewritten prompt is given back: of longer ones it is not."""
        return (self.rewrites if asked is None else asked) and len(prompt.split()) < 30

    def _check_values(self, asked: dict[str, Any]) -> None:
        output = asked.get("outputOptions") or {}
        mime = output.get("mimeType") or MIMES[0]
        self._check("aspectRatio", asked.get("aspectRatio") or "1:1", tuple(PIXELS))
        self._check("sampleImageSize", asked.get("sampleImageSize") or "1K", self.sizes)
        self._check("outputOptions.mimeType", mime, MIMES)
        self._check("personGeneration", str(asked.get("personGeneration") or PEOPLE[1]).lower(), PEOPLE)
        self._check("safetySetting", str(asked.get("safetySetting") or FILTERS[1]).lower(), FILTERS)
        self._check("language", asked.get("language") or "en", LANGUAGES)
        quality = output.get("compressionQuality")
        if quality is not None and (mime != "image/jpeg" or not 0 <= quality <= 100):
            raise Problem(400, "outputOptions.compressionQuality: from 0 to 100, of image/jpeg only.")
        if asked.get("seed") is not None and asked.get("addWatermark") is not False:
            raise Problem(400, "Seed is not supported when watermark is enabled.")
        if not 0 <= (asked.get("guidanceScale") or 0) <= 500:
            raise Problem(400, "parameters.guidanceScale is out of bounds.")
        if asked.get("storageUri"):
            raise Problem(400, "parameters.storageUri: this emulator answers with bytes only.")

    def _check(self, name: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            raise Problem(400, f"parameters.{name} {value!r} is not one of {', '.join(known)}.")

    def picture(self, order: Order, number: int, *, weight: int) -> Picture:
        width, height = PIXELS[order.ratio]
        times = 2 if order.size == "2K" else 1
        seed = salted(order.seed, f"picture {number}" if number else "")
        words = " ".join(order.prompt.split())[:96]
        return Picture(seed, width * times, height * times, order.mime, words, weight=weight)


def _check_labels(labels: Any) -> None:
    for name, value in (labels or {}).items():
        if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
            raise Problem(400, f"labels: {name!r} is no label.")


MODELS: Mapping[str, Imagen] = {
    model.name: model
    for model in (
        Imagen("imagen-3.0-generate-001", 40_000_000, ("1K",), rewrites=False),
        Imagen("imagen-3.0-generate-002", 40_000_000, ("1K",)),
        Imagen("imagen-4.0-generate-001", 40_000_000, ("1K", "2K")),
        Imagen("imagen-4.0-fast-generate-001", 20_000_000, ("1K",)),
        Imagen("imagen-4.0-ultra-generate-001", 60_000_000, ("1K", "2K"), most=1),
    )
}


def find_imagen(name: str, *, now: int, platform: Literal["developer", "vertex"]) -> Imagen | None:
    """The model of this name, where and while it answers."""
    if platform == "developer" and now >= DEVELOPER_END:
        return None
    return MODELS.get(name)
