"""Imagen: what it can do and costs, how it is asked, and what it draws."""

import hashlib
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


@dataclass(frozen=True, slots=True)
class Imagen:
    """One model. It is asked one prompt at a time, and never in a batch."""

    name: str
    nanodollars: int  # for a picture
    sizes: tuple[str, ...]
    most: int = 4

    def read(self, body: dict[str, Any], *, salt: bytes) -> Order:
        """The order. Problem 400 names what cannot be had."""
        instances = body.get("instances") or []
        if len(instances) != 1 or not instances[0].get("prompt"):
            raise Problem(400, "instances: exactly one with a prompt.")
        asked = body.get("parameters") or {}
        ratio, size = asked.get("aspectRatio") or "1:1", asked.get("sampleImageSize") or "1K"
        count = int(asked.get("sampleCount") or self.most)
        output = asked.get("outputOptions") or {}
        mime = output.get("mimeType") or "image/png"
        self._check("aspectRatio", ratio, tuple(PIXELS))
        self._check("sampleImageSize", size, self.sizes)
        self._check("outputOptions.mimeType", mime, ("image/png", "image/jpeg"))
        self._check("personGeneration", str(asked.get("personGeneration") or PEOPLE[1]).lower(), PEOPLE)
        if not 1 <= count <= self.most:
            raise Problem(400, f"parameters.sampleCount {count} is not between 1 and {self.most}.")
        if asked.get("storageUri"):
            raise Problem(400, "parameters.storageUri: this emulator answers with bytes only.")
        whole = msgspec.json.encode([self.name, instances, asked], order="sorted")
        return Order(
            seed=hashlib.sha256(salt + whole).digest(),
            prompt=instances[0]["prompt"],
            count=count,
            ratio=ratio,
            size=size,
            mime=mime,
            enhance=bool(asked.get("enhancePrompt")),
            reasons=bool(asked.get("includeRaiReason")),
        )

    def _check(self, name: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            raise Problem(400, f"parameters.{name} {value!r} is not one of {', '.join(known)}.")

    def picture(self, order: Order, number: int, *, weight: int) -> Picture:
        width, height = PIXELS[order.ratio]
        times = 2 if order.size == "2K" else 1
        seed = salted(order.seed, f"picture {number}" if number else "")
        words = " ".join(order.prompt.split())[:96]
        return Picture(seed, width * times, height * times, order.mime, words, weight=weight)


MODELS: Mapping[str, Imagen] = {
    model.name: model
    for model in (
        Imagen("imagen-3.0-generate-001", 30_000_000, ("1K",)),
        Imagen("imagen-3.0-generate-002", 30_000_000, ("1K",)),
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
