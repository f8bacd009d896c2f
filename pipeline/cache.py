"""What was fetched or made once and may be again: the user's cache. Losing it costs time, never a result."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


class Cache:
    """Bytes by a key. Safe for several threads and processes: a file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        try:
            return self._place(key).read_bytes()
        except OSError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Keep it, if there is room and permission."""
        place = self._place(key)
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(name).replace(place)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise

    def _place(self, key: str) -> Path:
        name = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        return self._folder / name[:2] / name


def users_cache() -> Cache:
    """What was fetched for references. Emptying it is always safe."""
    if folder := os.environ.get("NIGHTSHOOT_CACHE"):
        return Cache(Path(folder))
    return Cache(users_folder("references"))


def users_folder(name: str) -> Path:
    """A folder of this user's caches: in NIGHTSHOOT_CACHE, or where caches are here."""
    if folder := os.environ.get("NIGHTSHOOT_CACHE"):
        return Path(folder) / name
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "nightshoot" / name
