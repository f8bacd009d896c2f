"""A few pictures of a run, small, on one page of HTML that needs no other file."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from pipeline.attribution import credits_of
from pipeline.index import Shown
from pipeline.storage import NotFound

_SIDE = 192  # pixels: a dozen of them in a notebook are a few hundred kilobytes


@dataclass(frozen=True, slots=True)
class Framed:
    """A picture as it hangs there."""

    caption: str
    path: str
    thumbnail: str | None  # a data URI; None: it cannot be drawn small
    credits: str = ""  # what has to be shown with it, as HTML


@dataclass(frozen=True, slots=True, repr=False)
class Gallery:
    """What a notebook shows of a run. Elsewhere it reads as a list of files."""

    pictures: tuple[Framed, ...]
    below: str  # what there is to say under them

    def __repr__(self) -> str:
        return "\n".join([*(f"{framed.caption}  {framed.path}" for framed in self.pictures), self.below])

    def _repr_html_(self) -> str:
        figures = "".join(map(_figure, self.pictures))
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div><p>{escape(self.below)}</p>'


def gallery(pictures: Iterable[Shown], *, below: str) -> Gallery:
    """Read these pictures, one in memory at a time, and keep them small."""
    return Gallery(tuple(map(_framed, pictures)), below)


def _framed(shown: Shown) -> Framed:
    row = shown.row
    numbers = [f"{name} {row[name]}" if row[name] else "" for name in ("variant", "turn")]
    which = [row["key"], row["shot"], *numbers, row["outcome"]]
    try:
        return Framed(", ".join(filter(None, which)), shown.path, small(shown.read()), credits_of(row))
    except NotFound:
        return Framed(", ".join(filter(None, [*which, "the file is gone"])), shown.path, None)


def small(data: bytes, *, side: int = _SIDE) -> str | None:
    """A picture as a data URI that a page can hold, no larger than this; None: it cannot be drawn."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (side, side))  # a JPEG is decoded no larger than is needed
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (UnidentifiedImageError, OSError):
        return None  # HEIC, which Pillow cannot read
    upright.thumbnail((side, side))
    paper = Image.new("RGBA", upright.size, "white")
    paper.alpha_composite(upright)
    small = io.BytesIO()
    paper.convert("RGB").save(small, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode()}"


def _figure(framed: Framed) -> str:
    if framed.thumbnail is None:
        image = f'<div style="width:{_SIDE}px">no small picture of {escape(framed.path)}</div>'
    else:
        image = f'<img src="{framed.thumbnail}" alt="{escape(framed.caption)}" title="{escape(framed.path)}">'
    return f'<figure style="margin:0">{image}<figcaption>{escape(framed.caption)}</figcaption>{framed.credits}</figure>'
