"""A first job for a manifest: what `nightshoot init` writes."""

import json
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from pipeline.job import ALIASES, DEFAULT_MODEL, PROMPT_COLUMNS
from pipeline.manifest import Manifest, Row
from pipeline.manifest.cells import ratio, size, split
from pipeline.templates import name_of, names_of

_PICTURE_NAME = re.compile(r"\.(jpe?g|png|webp|heic|heif)(\?\S*)?$", re.IGNORECASE)


def write_job(path: Path, manifest: Manifest, *, tier: int | None = None) -> str:
    """The text of a first job for this manifest, commented, for a file at this path. Writes nothing."""
    sample = list(islice(manifest.rows(), 100))
    names = {column: name for name, column in names_of(manifest.columns).items()}
    pictured = _quoted_list(column for column in manifest.columns if _holds_pictures(column, sample))
    own = _quoted_list(column for column in manifest.columns if _is_no_setting(column, sample))
    feed = manifest.feed
    if feed is not None:
        pictured, own = '["reference_images"]', ""
    source = Path(os.path.relpath(manifest.path.absolute(), path.absolute().parent)).as_posix()
    key = '# key = "sku"  # the column that names each row; without it, rows are named after their content'
    if manifest.key:
        key = f"key = {_quoted(manifest.key)}  # the column that names each row"
    lines = [
        "#!/usr/bin/env -S nightshoot run",
        f"# Shoots {manifest.path.name}. Look at it first, for nothing:  nightshoot plan {path.as_posix()}",
        f"# {feed}" if feed else "",
        f"# Its columns: {', '.join(names.get(column, repr(column)) for column in manifest.columns)}",
        "",
        f"manifest = {_quoted(source)}  # relative to this file",
        key,
        f"# where = {_quoted(_first_where(names.values()))}  # shoot these rows only",
        f"data = {own}  # your own columns, not settings of ours" if own else "",
        "# max_usd = 20  # never order more than this",
        f"tier = {tier}  # of your Google account: how much may wait in its queue"
        if tier
        else "# tier = 2  # of your Google account; unsaid: 1, which lets the least wait in Google's queue",
        '# max_bad = "2 %"  # go on without asking if no more rows than this have problems',
        "",
        "[references]  # photos are scaled down to this before they are sent; the files stay as they are"
        if pictured
        else "",
        "max_side = 1536" if pictured else "",
        "",
        "[checks]" if pictured else "",
        'swapped = "flag"  # say so, if a picture looks like another row\'s photo and not like its own'
        if pictured
        else "",
        '# profile = "amazon-main"  # or "merchant": white ground, frame, size, sharpness, doubles'
        if pictured
        else "",
        "",
        "[defaults]  # what every shot has, unless it or a row says otherwise",
        f"model = {_quoted(DEFAULT_MODEL)}",
        'aspect_ratio = "1:1"',
        'image_size = "1K"',
        f'references = {pictured or "[]"}  # columns that name pictures to show, as in ["photo"]',
        "# the first three only:  references = [\"{{ reference_images.split('|')[:3] | join('|') }}\"]"
        if feed
        else "",
        "",
        "[shots.hero]  # one picture of every row; add [shots.lifestyle] for a second",
        f"prompt = {_quoted(_first_prompt(manifest.columns, pictured=bool(pictured)))}",
        "",
    ]
    return "\n".join(line for line, before in zip(lines, ["x", *lines], strict=False) if line or before)


def _first_where(names: Iterable[str]) -> str:
    return "status == 'active'" if "status" in names else "title != ''"


def _first_prompt(columns: tuple[str, ...], *, pictured: bool) -> str:
    names = names_of(columns)
    for name in PROMPT_COLUMNS:
        if name in names:
            return f"{{{{ {name} }}}}"
    titled = next((name for name in ("title", "name", "product_name", "product") if name in names), None)
    subject = f"{{{{ {titled} }}}}" if titled else "the product"
    return f"Studio photograph of {subject}{', as in the picture' if pictured else ''}, on a white background"


def _quoted_list(texts: Iterable[str]) -> str:
    """A TOML array, or '' for nothing."""
    items = ", ".join(map(_quoted, texts))
    return f"[{items}]" if items else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _holds_pictures(column: str, sample: list[Row]) -> bool:
    cells = [items[0] for row in sample if (items := split(row.fields[column]))]
    return bool(cells) and all(_PICTURE_NAME.search(cell) for cell in cells)


def _is_no_setting(column: str, sample: list[Row]) -> bool:
    """A catalog's 'size' is 42 and its 'model' is a boot: called like settings, but the user's own."""
    setting = ALIASES.get(name_of(column), name_of(column))
    cells = [row.fields[column].strip() for row in sample if row.fields[column].strip()]
    match setting:
        case "image_size":
            return not all(re.fullmatch(r"512|\dK", size(cell)) for cell in cells)
        case "aspect_ratio":
            return not all(re.fullmatch(r"\d+:\d+", ratio(cell)) for cell in cells)
        case "model":
            return not all(re.match(r"(models/)?(gemini|imagen|nano-banana)", cell) for cell in cells)
        case "from_":
            keys = {row.key for row in sample}
            return not any(cell in keys or cell.rpartition("/")[0] in keys for cell in cells)
        case "turns":
            return all(cell.isdecimal() for cell in cells)
        case "negative_prompt" | "person_generation":
            return True  # Imagen's, and the first job asks Gemini
        case "variants" | "seed":
            return not all(cell.isdecimal() for cell in cells)
    return False
