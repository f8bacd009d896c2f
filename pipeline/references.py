"""Pictures shown to the model: found, looked at, and pinned by digest."""

import difflib
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.manifest.cells import split
from pipeline.pictures import described, header_size, mime_of, sniff
from pipeline.problems import Problem

_REMEMBERED = (
    4096  # of the pictures seen last: catalogs show one picture to many rows, mostly near each other
)
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]+://|^files/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reference:
    """One picture the model is shown, known by what is in it."""

    source: str  # as the manifest names it
    sha256: str  # hex, of the bytes that are sent
    mime: str  # from the bytes, never from the name
    size: int  # bytes
    width: int
    height: int


def find_references(
    cells: Iterable[str], base: Path, references_dir: Path | None = None
) -> list[tuple[str, Path] | Problem]:
    """The files that cells name, lists taken apart, in order; what is not found is a problem in its place."""
    return [find(source, base, references_dir) for cell in cells for source in split(cell)]


def find(source: str, base: Path, references_dir: Path | None = None) -> tuple[str, Path] | Problem:
    """A file as it is written, and where it lies: beside the manifest (base), else in references_dir."""
    if _ELSEWHERE.match(source):
        kind = source.partition("/")[0].rstrip(":").lower()
        hint = "download it and name the file; references on the web and in buckets cannot be read yet"
        return Problem(f"reference is not a local file ({kind})", value=source, hint=hint)
    if "\0" in source:
        return Problem("reference not found", value=source)
    folders = [base] if references_dir is None else [base, references_dir]
    for folder in folders:
        if (folder / source).is_file():
            return source, folder / source
    return Problem("reference not found", value=source, hint=_near(source, folders))


class Pins:
    """Pins references, reading each file once while it stays the same. Its memory does not grow."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, Path, int, int], Reference | Problem] = OrderedDict()

    def pin(self, source: str, path: Path) -> Reference | Problem:
        """A file as a reference by what is in it now, or why it is none."""
        try:
            stat = path.stat()
        except OSError as error:
            return Problem(f"reference cannot be read ({_reason(error)})", value=source)
        same = (source, path, stat.st_mtime_ns, stat.st_size)
        known = self._seen.get(same)
        if known is None:
            known = self._seen[same] = pin(source, path)
        self._seen.move_to_end(same)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return known


def pin(source: str, path: Path) -> Reference | Problem:
    """Read a file once, whole, and say what picture it is, or why it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Problem(f"reference cannot be read ({_reason(error)})", value=source)
    found = sniff(data)
    size = header_size(data) if found else None
    if found is None or size is None:
        what = described(data) if found is None else f"a broken {found}"
        return Problem("reference is no picture", value=source, hint=f"{path.name} is {what}")
    if found == "GIF":
        hint = "models read PNG, JPEG, WEBP and HEIC: save it as one of them"
        return Problem("reference is a GIF", value=source, hint=hint)
    return Reference(source, hashlib.sha256(data).hexdigest(), mime_of(found), len(data), *size)


def _near(source: str, folders: list[Path]) -> str | None:
    """The file in the same folder that was probably meant."""
    for folder in folders:
        place = (folder / source).parent
        if not place.is_dir():
            return f"there is no folder {place}"
        if names := difflib.get_close_matches(Path(source).name, _names_in(place), n=1):
            return f"did you mean {(Path(source).parent / names[0]).as_posix()}?"
    return f"looked in {' and '.join(str((folder / source).parent) for folder in folders)}"


@lru_cache(maxsize=16)
def _names_in(place: Path) -> tuple[str, ...]:
    # Only for hints; a folder of a million photos is not compared name by name for each that is missing.
    names = sorted(each.name for each in place.iterdir())
    return tuple(names[:2000])


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
