"""What the model looked up for a row that may search, as the service says it beside the answer."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from pipeline.emulator.lines import Asked

SOURCES = 3
DOMAINS = ("example.com", "example.org", "example.net")
REDIRECT = "https://vertexaisearch.cloud.google.com/grounding-api-redirect/"
CHIP = '<style>.chip {{ display: inline-block }}</style><div class="container">{chips}</div>'


@dataclass(frozen=True, slots=True)
class Grounding:
    """The queries of one answer and what they found. Every query is paid for."""

    web: tuple[str, ...]
    images: tuple[str, ...]
    chunks: tuple[dict[str, Any], ...]
    said: str

    @property
    def queries(self) -> int:
        return len(self.web) + len(self.images)

    def as_json(self) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        if self.web:
            whole["webSearchQueries"] = list(self.web)
        if self.images:
            whole["imageSearchQueries"] = list(self.images)
        chips = "".join(f'<a class="chip">{escaped(query)}</a>' for query in (*self.web, *self.images))
        whole["searchEntryPoint"] = {"renderedContent": CHIP.format(chips=chips)}
        whole["groundingChunks"] = list(self.chunks)
        if self.said:
            segment = {"endIndex": len(self.said.encode()), "text": self.said}
            whole["groundingSupports"] = [{"segment": segment, "groundingChunkIndices": [0]}]
        return whole


def grounding(asked: Asked, *, said: str) -> Grounding:
    """The same for equal asks; nothing where nothing may be looked up."""
    words = asked.words or "picture"
    web = (words, f"{words} in detail")[: 1 + asked.seed[9] % 2] if "web" in asked.searches else ()
    images = (f"{words} photo",) if "image" in asked.searches else ()
    chunks = [web_chunk(asked.seed, number) for number in range(SOURCES if web else 0)]
    chunks += [image_chunk(asked.seed, number) for number in range(2 if images else 0)]
    return Grounding(web, images, tuple(chunks), said)


def web_chunk(seed: bytes, number: int) -> dict[str, Any]:
    domain = DOMAINS[number % len(DOMAINS)]
    return {"web": {"uri": redirect(seed, f"web {number}"), "title": domain, "domain": domain}}


def image_chunk(seed: bytes, number: int) -> dict[str, Any]:
    domain = DOMAINS[number % len(DOMAINS)]
    found = {"sourceUri": redirect(seed, f"page {number}"), "imageUri": redirect(seed, f"image {number}")}
    return {"image": found | {"title": f"Photo {number + 1}", "domain": domain}}


def redirect(seed: bytes, what: str) -> str:
    token = hashlib.sha256(seed + what.encode()).digest()
    return REDIRECT + base64.urlsafe_b64encode(token).decode().rstrip("=")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
