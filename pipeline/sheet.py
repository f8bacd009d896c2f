"""A proof on one page of HTML that needs no other file: photo beside picture and prompt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import msgspec

from pipeline.attribution import credits_of
from pipeline.console import REASONS
from pipeline.events import Retries
from pipeline.gallery import small
from pipeline.index import home_of, parts
from pipeline.run import Run, reference_file, turns_file
from pipeline.state import Batch
from pipeline.storage import NotFound, Storage, open_storage
from pipeline.tables import index_schema, rows_in, rows_of

SIDE = 480  # pixels: a dozen of them are a megabyte

NOT_ASKED, NOT_HERE = "not asked yet", "asked, and not here yet"
"""Why there is no picture of what a run that could not go on has not brought home."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
section { display: grid; grid-template-columns: minmax(8rem, 1fr) minmax(12rem, 2fr) minmax(12rem, 2fr);
  gap: 1.5rem; padding: 1.5rem 0; border-top: 1px solid #ccc }
img { max-width: 100%; height: auto; display: block; margin-bottom: .5rem }
h2 { font-size: 1rem; margin: 0 } .small { color: #666; font-size: .85rem } pre { white-space: pre-wrap; font: inherit }
""".strip()

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="script-src 'none'">
<title>{title}</title><style>{style}</style>
<h1>{title}</h1><p class="small">{below}</p>
{sections}</html>
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a proof, as it hangs there."""

    row: dict[str, Any]
    home: Storage  # where its pictures lie
    photos: tuple[str, ...]  # data URIs
    missing: str  # why there is no picture, where there is none


def sheet(run: Run, *, title: str, below: str) -> bytes:
    """The page. One picture in full is in memory at a time; what cannot be drawn small is named."""
    sections = "\n".join(map(_section, _entries(run)))
    page = _PAGE.format(title=escape(title), style=_STYLE, below=escape(below), sections=sections)
    return page.encode(errors="replace")


def _entries(run: Run) -> Iterator[Entry]:
    """In the order of the manifest's keys, shots side by side, a conversation from its beginning."""
    rows = {_which(row): (row, _why(row["outcome"])) for part in parts(run) for row in rows_of(part)}
    for _, (row, why) in sorted((_unanswered(run) | rows).items()):
        yield Entry(row, home_of(row, run), tuple(_photos(run, row)), why)


def _which(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return row["key"], row["shot"], row["variant"], row["turn"]


def _why(outcome: str) -> str:
    return REASONS.get(outcome, outcome)


def _unanswered(run: Run) -> dict[tuple[str, str, int, int], tuple[dict[str, Any], str]]:
    """What was planned and is not final, as rows of the index, and why: for a run that could not go on. Some of it is
    final nevertheless, and was so in another batch."""
    if run.state.finished:
        return {}
    blank = dict.fromkeys(index_schema(()).names)
    left = {}
    for batch in run.state.batches:  # what became of a request last is in the last of its batches
        for row, why in _left_of(run, batch):
            left[_which(row)] = ({**blank, **row}, why)
            for later in _follow_ups(row):
                left[_which(later)] = ({**blank, **later}, NOT_ASKED)
    return left


def _left_of(run: Run, batch: Batch) -> Iterator[tuple[dict[str, Any], str]]:
    """What is not final of a batch, and what was to follow from it."""
    books = batch.collected
    if books is None and batch.planned is not None:
        if batch.submitting is None and isinstance(batch.source, Retries):
            return  # the batches they come from tell more
        why = NOT_ASKED if batch.submitting is None else NOT_HERE
        yield from ((row, why) for row in rows_in(run.plan(batch.number)))
    if books is not None and books.retry:
        for row in rows_in(run.retries(batch.number)):
            asked = row["last_outcome"] != "not_sent"
            why = f"{_why(row['last_outcome'])}, and not asked again yet" if asked else NOT_ASKED
            yield {**row, "message": row["last_message"]}, why
    if books is not None and books.turns:
        yield from ((row, NOT_ASKED) for row in rows_in(run.storage.read(turns_file(batch.number))))


def _follow_ups(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The turns that come after this one."""
    turns = msgspec.json.decode(row["turns"]) if row["turns"] else []
    for number, turn in enumerate(turns, row["turn"] + 1):
        yield {**row, **turn, "turn": number, "message": None}


def _photos(run: Run, row: dict[str, Any]) -> Iterator[str]:
    """What the model was shown; a picture that was there already was shown it by an earlier run."""
    homes = [run.storage]
    if row["made_in"] is not None:
        earlier = row["made_in"]
        parent = run.storage.url.rpartition("/")[0]
        homes.append(open_storage(earlier if "/" in earlier else f"{parent}/{earlier}"))
    for shown in row["references"] or ():
        for home in homes:
            try:
                data = home.read(reference_file(shown["sha256"], shown["mime"]))
            except NotFound:
                continue
            if (uri := small(data, side=SIDE // 2)) is not None:
                yield uri
            break


def _section(entry: Entry) -> str:
    row = entry.row
    photos = "".join(f'<img src="{uri}" alt="photo of {escape(row["key"])}">' for uri in entry.photos)
    which = row["shot"] + (f", variant {row['variant']}" if row["variant"] else "")
    which += f", turn {row['turn']}" if row["turn"] else ""
    asked = ", ".join(str(row[name]) for name in ("model", "aspect_ratio", "image_size") if row[name])
    none = "it goes on from the one above" if row["turn"] else "no photo"
    return (
        f"<section><div>{photos or f'<p class=small>{none}</p>'}</div><div>{_pictures(entry)}{credits_of(row)}</div>"
        f"<div><h2>{escape(row['key'])}</h2><p class=small>{escape(which)}; {escape(asked)}</p>"
        f"<pre>{escape(row['prompt'] or '')}</pre></div></section>"
    )


def _pictures(entry: Entry) -> str:
    """All that the answer shows, in its order: a recipe has many, and so may a call of Imagen."""
    row = entry.row
    if row["path"] is None:
        words = row["message"] or row["text"] or ""
        return f"<p><b>no picture: {escape(entry.missing)}</b></p><p class=small>{escape(words)}</p>"
    # What an older version carried over has the final picture alone.
    once = {each["path"]: each for each in row["pictures"] or [row]}
    return "".join(_picture(entry, each) for each in once.values())


def _picture(entry: Entry, picture: dict[str, Any]) -> str:
    path = picture["path"]
    file = f"{entry.home.url}/{path}"
    try:
        uri = small(entry.home.read(path), side=SIDE)
    except NotFound:
        return f"<p class=small>{escape(file)} is gone</p>"
    if uri is None:
        return f"<p class=small>no small picture of {escape(file)}</p>"
    image = f'<img src="{uri}" alt="{escape(entry.row["key"])}">'
    noticed = ", ".join(picture["checks"] or ())
    size = f"{picture['width']} x {picture['height']}" + (f"; {noticed}" if noticed else "")
    return f"{image}<p class=small>{escape(size)}</p>"
