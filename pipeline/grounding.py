"""What an answer rests on: its sources, its queries and the search chip, out of the provider's own words.

What it fears: those words come from a server, and hold what strangers' pages are called. Anything may be missing or be
something else; what is read here is text, and nothing of it is followed.
"""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.patient import parse

KINDS = ("web", "image", "maps", "retrievedContext")


@dataclass(frozen=True, slots=True)
class Source:
    """Something that was found. Of one that cannot be read all is None: supports count sources by their places."""

    kind: str | None = None  # web, image, or what else a chunk is called
    title: str | None = None
    uri: str | None = None  # of the page; of a picture the page that contains it, never the picture itself
    image_uri: str | None = None  # of a picture: the picture itself
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Grounding:
    """What a model looked up for one answer."""

    sources: tuple[Source, ...] = ()
    web_queries: tuple[str, ...] = ()
    image_queries: tuple[str, ...] = ()
    chip: str | None = None  # HTML that is to be shown with the answer, just as it is


NOTHING = Grounding()


def read(text: str | None) -> Grounding:
    """The provider's `groundingMetadata` as the index keeps it, in parts. Never raises."""
    if text is None:
        return NOTHING
    found = _dict(parse(text.encode(errors="replace")))
    return Grounding(
        sources=tuple(map(_source, _list(_of(found, "groundingChunks", "grounding_chunks")))),
        web_queries=_texts(_of(found, "webSearchQueries", "web_search_queries")),
        image_queries=_texts(_of(found, "imageSearchQueries", "image_search_queries")),
        chip=_text(
            _of(
                _dict(_of(found, "searchEntryPoint", "search_entry_point")),
                "renderedContent",
                "rendered_content",
            )
        ),
    )


def columns_of(text: str | None) -> dict[str, Any]:
    """The same as the columns of the index."""
    found = read(text)
    return {
        "sources": [asdict(source) for source in found.sources],
        "web_queries": list(found.web_queries),
        "image_queries": list(found.image_queries),
        "search_chip": found.chip,
    }


def _source(chunk: object) -> Source:
    """The guide calls a picture's page `uri` and the picture `image_uri`; the service `sourceUri` and `imageUri`."""
    for kind, value in sorted(_dict(chunk).items(), key=lambda each: each[0] not in KINDS):
        if isinstance(value, dict):
            return Source(
                kind=_text(kind),
                title=_text(value.get("title")),
                uri=_text(_of(value, "sourceUri", "source_uri", "uri")),
                image_uri=_text(_of(value, "imageUri", "image_uri")),
                domain=_text(value.get("domain")),
            )
    return Source()


def _of(found: dict[str, Any], *names: str) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, _list(value))))


def _text(value: object) -> str | None:
    """A text that every file can hold: a lone surrogate is legal JSON, and no legal text."""
    return value.encode(errors="replace").decode() if isinstance(value, str) and value else None
