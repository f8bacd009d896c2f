"""Answers of words and pictures in turn, as Markdown: a file for each, its pictures beside it.

What it fears: words of a model, titles of strangers' pages and keys of a feed, in a file that is shown as a page. The
model's own headings, lists and emphasis stay; what could load or run anything, or link under a false name, is made
plain characters.
"""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from pipeline.attribution import address, credits_of, frame, named, rests_on_a_search
from pipeline.errors import BadInput
from pipeline.index import home_of, parts
from pipeline.pictures import slug
from pipeline.run import Run
from pipeline.storage import NotFound
from pipeline.tables import rows_of

PICTURES = "pictures"
CREDITS = "attribution.html"
"""The same chips and sources once more as a page: many viewers of Markdown show no HTML."""

_MEANING = re.compile(r"([\\`*_\[\]#!|~])")  # characters that mean something within a line of Markdown
_ENDING = re.compile(r"[<>\s\\]")  # what would end, or change, an address between < and >
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="script-src 'none'">
<title>What these answers rest on</title>
{sections}</html>
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What was written."""

    files: int
    pictures: int
    credits: bool  # whether there is a page of what has to be shown with them


def write(run: Run, folder: Path, *, chosen: Container[tuple[int, int]]) -> Told:
    """A Markdown file for each of these rows, by batch and place, that answers with words and pictures.

    What is there already is written anew, and the same. One picture is in memory at a time.
    """
    files = pictures = 0
    sections = []
    try:
        for row in _stories(run):
            if (row["batch"], row["place"]) not in chosen:
                continue
            (folder / PICTURES).mkdir(parents=True, exist_ok=True)
            pictures += _copy(run, row, folder)
            (folder / f"{_name(row)}.md").write_bytes(_page(row).encode(errors="replace"))
            files += 1
            if rests_on_a_search(row):
                sections.append(f"<h2>{escape(_title(row))}</h2>{credits_of(row)}")
        if sections:
            page = _PAGE.format(sections="\n".join(sections))
            (folder / CREDITS).write_bytes(page.encode(errors="replace"))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    return Told(files, pictures, bool(sections))


def _stories(run: Run) -> Iterator[dict[str, Any]]:
    """The rows whose answer is more than one picture alone."""
    for table in parts(run):
        for row in rows_of(table):
            said = row["parts"] or ()
            if len(said) > 1 and any(part["kind"] == "picture" for part in said):
                yield row


def _name(row: Mapping[str, Any]) -> str:
    """Key and shot for people; batch and place, since two keys may share a slug."""
    which = f"{slug(row['key'])}-{slug(row['shot'])}-{row['variant']}"
    which += f"-turn{row['turn']}" if row["turn"] else ""
    return f"{which}-{row['batch']:05}-{row['place']:04}"


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['key']}" + (f", turn {row['turn']}" if row["turn"] else "")


def _beside(path: str) -> str:
    """What a picture of the run is called beside the words."""
    return f"{PICTURES}/{'-'.join(PurePosixPath(path).parts[-2:])}"


def _copy(run: Run, row: Mapping[str, Any], folder: Path) -> int:
    """The pictures of an answer, byte for byte; how many there are."""
    home = home_of(row, run)
    copied = 0
    for path in dict.fromkeys(part["path"] for part in row["parts"] if part["path"]):
        try:
            (folder / _beside(path)).write_bytes(home.read(path))
        except NotFound as error:
            raise BadInput(
                f"{home.url}: {path} is gone", hint="choose other rows with --where, or restore it"
            ) from error
        copied += 1
    return copied


def _page(row: Mapping[str, Any]) -> str:
    """The answer in its order, and what has to be shown with it."""
    blocks = [f"# {plain(_title(row))}"]
    number = 0
    for part in row["parts"]:
        if part["kind"] == "text":
            blocks.append(harmless(part["text"]).strip())
            continue
        number += 1
        if part["path"] is None:
            blocks.append(f"*picture {number} is missing: {plain(part['text'] or 'broken')}*")
        else:
            blocks.append(f"![{plain(row['key'])}, picture {number}]({quote(_beside(part['path']))})")
    return "\n\n".join([*filter(None, blocks), *_credits(row)]) + "\n"


def _credits(row: Mapping[str, Any]) -> Iterator[str]:
    if not rests_on_a_search(row):
        return
    links = [_link(source) for source in row["sources"] or () if source["uri"]]
    if links:
        yield "## Sources"
        yield "\n".join(f"- {link}" for link in links)
    if row["search_chip"]:
        yield frame(row["search_chip"])


def _link(source: Mapping[str, Any]) -> str:
    target = address(source["uri"])
    if target is None:
        return plain(f"{named(source)} {source['uri']}")
    return f"[{plain(named(source))}](<{_ENDING.sub(lambda found: quote(found[0]), target)}>)"


def plain(text: str) -> str:
    """Any text as one line that means nothing but itself."""
    return _MEANING.sub(r"\\\1", escape(" ".join(text.split()), quote=False))


def harmless(text: str) -> str:
    """A model's Markdown without HTML, and without links and pictures of its own: those would show a place that is
    not theirs, or be fetched by whoever looks.
    """
    # As entities: behind a backslash of the model's own another one would do the opposite.
    return text.translate({ord("&"): "&amp;", ord("<"): "&lt;", ord("["): "&#91;", ord("]"): "&#93;"})
