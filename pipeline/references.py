"""Pictures shown to the model: found, looked at, scaled where the job says so, and pinned by digest."""

import bisect
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pipeline.cache import Cache, users_cache
from pipeline.pictures import Broken, described, extension_of, header_size, mime_of, sniff
from pipeline.problems import Problem, nearest
from pipeline.remote import Remote
from pipeline.scale import READ_BY_MODELS, Rule, applied
from pipeline.web import MOST_BYTES

_REMEMBERED = (
    4096  # of the pictures seen last: catalogs show one picture to many rows, mostly near each other
)
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]+://|^files/", re.IGNORECASE)
_FETCHED = re.compile(r"^(https?|gs)://")
_PICTURE = re.compile(r"\.(jpe?g|png|webp|heic|heif|gif|tiff?|bmp|avif)$", re.IGNORECASE)
_AT_ONCE = 16  # fetches


@dataclass(frozen=True, slots=True)
class Reference:
    """One picture the model is shown, known by what is in it."""

    source: str  # as the manifest names it
    sha256: str  # hex, of the bytes that are sent
    mime: str  # from the bytes, never from the name
    size: int  # bytes
    width: int
    height: int
    made_from: str | None = None  # sha256 of what the source holds, where other bytes are sent
    rule: str | None = None  # what was done to it
    generation: int | None = None  # of the object in a bucket whose very bytes are sent
    role: str | None = None  # what this row shows it for; the model is not told, unless the prompt says so

    @property
    def mark(self) -> str:
        """What tells this picture from others, whichever version of Pillow made the bytes that are sent."""
        return self.sha256 if self.made_from is None else f"{self.made_from} {self.rule}"


def find(source: str, base: Path, references_dir: Path | None = None) -> tuple[str, Path] | Problem:
    """A file as it is written, and where it lies: beside the manifest (base), else in references_dir."""
    if _ELSEWHERE.match(source):
        kind = source.partition("/")[0].rstrip(":").lower()
        hint = "references are files beside the manifest, https:// addresses, or gs:// objects"
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

    def __init__(
        self,
        base: Path,
        elsewhere: Path | None = None,
        *,
        rule: Rule | None = None,
        allow_private: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self._base, self._elsewhere = base, elsewhere
        self._rule = rule or Rule()
        self._cache = cache or users_cache()
        self._remote = Remote(self._cache, allow_private=allow_private)
        self._seen: OrderedDict[tuple[object, ...], Reference | Problem] = OrderedDict()
        self.fetches = False  # whether any reference so far had to be fetched

    def pin(self, source: str) -> Reference | Problem:
        """A reference by what is in it now, or why it is none."""
        if _FETCHED.match(source):
            self.fetches = True
            return self._remembered((source,), source, None)
        place = find(source, self._base, self._elsewhere)
        if isinstance(place, Problem):
            return place
        try:
            stat = place[1].stat()
        except OSError as error:
            return Problem(f"reference cannot be read ({_reason(error)})", value=source)
        return self._remembered((source, place[1], stat.st_mtime_ns, stat.st_size), source, place[1])

    def ahead(self, sources: Iterable[str]) -> None:
        """Fetch what will be pinned next, several at once. What fails is said when it is pinned."""
        wanted = {source for source in sources if _FETCHED.match(source) and (source,) not in self._seen}
        if wanted:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="references") as pool:
                list(pool.map(self._remote.read, wanted))

    def load(self, reference: Reference) -> bytes | Problem:
        """The bytes that are sent for a reference that was pinned."""
        if reference.made_from is not None:
            made = self._cache.get(_made_key(reference.made_from, self._rule))
            if made is not None and hashlib.sha256(made).hexdigest() == reference.sha256:
                return made
        data = self._bytes(reference.source)
        if isinstance(data, Problem) or reference.made_from is None:
            return data
        made_again = applied(data, self._rule)
        return made_again[0] if isinstance(made_again, tuple) else data

    def named_after(self, key: str) -> list[str]:
        """The pictures of the folder that are called after a row: KEY.jpg, KEY-2.jpg, KEY_back.png, KEY/1.jpg."""
        if self._elsewhere is None or not key.strip():
            return []
        folder = self._elsewhere
        names = _pictures_in(folder, _changed(folder))
        start = bisect.bisect_left(names, key)
        found = []
        for name in names[start:]:
            if not name.startswith(key):
                break
            # SKU-1 must not be shown the pictures of SKU-10, nor BOOT those of BOOTS.
            if not name[len(key)].isalnum():
                found.append(name)
        inside = folder / key
        if "/" not in key and key not in (".", "..") and "\0" not in key and inside.is_dir():
            found += [f"{key}/{name}" for name in _pictures_in(inside, _changed(inside))]
        return sorted(found, key=lambda name: (Path(name).stem != key, name))

    def _remembered(self, same: tuple[object, ...], source: str, path: Path | None) -> Reference | Problem:
        known = self._seen.get(same)
        if known is None:
            data = self._bytes(source, path)
            known = data if isinstance(data, Problem) else self._pinned(source, data)
            self._seen[same] = known
        self._seen.move_to_end(same)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return known

    def _bytes(self, source: str, path: Path | None = None) -> bytes | Problem:
        if _FETCHED.match(source):
            return self._remote.read(source)
        if path is None:
            place = find(source, self._base, self._elsewhere)
            if isinstance(place, Problem):
                return place
            path = place[1]
        try:
            if path.stat().st_size > MOST_BYTES:
                hint = f"more than {MOST_BYTES // 1_000_000} MB: scale it down first"
                return Problem("reference is too large", value=source, hint=hint)
            return path.read_bytes()
        except OSError as error:
            return Problem(f"reference cannot be read ({_reason(error)})", value=source)

    def _pinned(self, source: str, data: bytes) -> Reference | Problem:
        original = hashlib.sha256(data).hexdigest()
        made = applied(data, self._rule)
        if isinstance(made, Broken):
            return Problem("reference is no picture", value=source, hint=f"{Path(source).name} {made.reason}")
        if made is None:
            found = reference_of(source, data)
            if isinstance(found, Problem):
                return found
            return replace(found, generation=self._remote.generation(source))
        self._cache.put(_made_key(original, self._rule), made[0])
        sent = reference_of(source, made[0])
        if isinstance(sent, Problem):
            return sent
        return Reference(
            source,
            sent.sha256,
            sent.mime,
            sent.size,
            sent.width,
            sent.height,
            made_from=original,
            rule=made[1],
        )


def reference_of(source: str, data: bytes) -> Reference | Problem:
    """Say what picture these bytes are, or why they are none that models read."""
    found = sniff(data)
    size = header_size(data) if found else None
    if found is None or size is None:
        what = described(data) if found is None else f"a broken {found}"
        return Problem("reference is no picture", value=source, hint=f"{Path(source).name} is {what}")
    if found not in READ_BY_MODELS:
        hint = 'models read PNG, JPEG, WEBP and HEIC: save it as one of them, or add [references] convert = "PNG"'
        return Problem(f"reference is a {found}", value=source, hint=hint)
    return Reference(source, hashlib.sha256(data).hexdigest(), mime_of(found), len(data), *size)


def reference_file(sha256: str, mime: str) -> str:
    """Where a run keeps the bytes of a reference."""
    return f"references/{sha256[:2]}/{sha256}.{extension_of(mime)}"


def _made_key(original: str, rule: Rule) -> str:
    from PIL import __version__ as pillow  # another version may make other bytes

    return f"made {original} {rule.max_side} {rule.convert} {pillow}"


def _near(source: str, folders: list[Path]) -> str | None:
    """The file in the same folder that was probably meant."""
    for folder in folders:
        place = (folder / source).parent
        if not place.is_dir():
            return f"there is no folder {place}"
        if near := nearest(Path(source).name, _names_in(place.resolve())):
            return f"did you mean {(Path(source).parent / near).as_posix()}?"
    return f"looked in {' and '.join(str((folder / source).parent) for folder in folders)}"


@lru_cache(maxsize=16)
def _names_in(place: Path) -> tuple[str, ...]:
    # Only for hints; a folder of a million photos is not compared name by name for each that is missing.
    names = sorted(each.name for each in place.iterdir())
    return tuple(names[:2000])


@lru_cache(maxsize=64)
def _pictures_in(folder: Path, changed: int) -> Sequence[str]:
    """The pictures of a folder in order, read again when the folder changed."""
    del changed
    try:
        return sorted(each.name for each in folder.iterdir() if _PICTURE.search(each.name))
    except OSError:
        return ()


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
