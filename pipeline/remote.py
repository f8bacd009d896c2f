"""References that lie on the web or in a bucket: asked for once in a command, kept in the user's cache."""

import hashlib
import json
import threading
from collections import OrderedDict
from urllib.parse import urlsplit

from pipeline.cache import Cache
from pipeline.errors import BadInput, Denied, NightshootError, Unavailable
from pipeline.problems import Problem
from pipeline.storage import NotFound, Versioned, open_bucket
from pipeline.web import MOST_BYTES, NotFetched, fetch

_REMEMBERED = 200_000  # addresses; beyond that the oldest are asked for again, and mostly answer "as before"
_TRIES = 2
_IN_A_ROW = 40  # failures of the network itself without one success: it is the network, not the addresses


class Remote:
    """Fetches each address once while it lives. Safe to use from several threads."""

    def __init__(self, cache: Cache, *, allow_private: bool = False) -> None:
        self._cache = cache
        self._allow_private = allow_private
        self._known: OrderedDict[bytes, str | Problem] = (
            OrderedDict()
        )  # sha256 of what came, or why nothing did
        self._generations: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()
        self._buckets: dict[str, Versioned] = {}
        self._failed = 0

    def read(self, source: str) -> bytes | Problem:
        """The bytes behind https:// or gs://. Raises Unavailable where nothing at all can be reached."""
        mark = _mark(source)
        with self._lock:
            known = self._known.get(mark)
        if isinstance(known, Problem):
            return known
        data = self._cache.get(f"sha256 {known}") if known else None
        if data is not None:
            return data
        found = self._from_bucket(source) if source.startswith("gs://") else self._from_web(source)
        if isinstance(found, bytes):
            known = hashlib.sha256(found).hexdigest()
            self._cache.put(f"sha256 {known}", found)
        else:
            known = found
        with self._lock:
            self._known[mark] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def generation(self, source: str) -> int | None:
        """Which generation of an object in a bucket was read last. None: it is none, or that is forgotten."""
        with self._lock:
            return self._generations.get(_mark(source))

    def _from_web(self, url: str) -> bytes | Problem:
        tag, before = self._cached(f"url {url}")
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                fetched = fetch(url, tag=tag, allow_private=self._allow_private)
            except NotFetched as error:
                if error.passing and not last:
                    continue
                self._count(failed=error.passing, why=error.message)
                return Problem(f"reference {error.message}", value=url, hint=error.hint)
            self._count(failed=False)
            if fetched.data is None and before is not None:
                return before
            data = fetched.data or b""
            if fetched.tag:
                self._remember(f"url {url}", fetched.tag, data)
            return data
        raise AssertionError("the last try returns")

    def _from_bucket(self, url: str) -> bytes | Problem:
        parts = urlsplit(url)
        name = url.removeprefix(f"gs://{parts.netloc}/")
        try:
            bucket = self._buckets.setdefault(parts.netloc, open_bucket(f"gs://{parts.netloc}"))
            size, generation = bucket.version(name)
            if size > MOST_BYTES:
                hint = f"more than {MOST_BYTES // 1_000_000} MB: scale it down first"
                return Problem("reference is too large to fetch", value=url, hint=hint)
            tag, before = self._cached(f"url {url}")
            data = before if tag == str(generation) else None
            data = bucket.read_version(name, generation) if data is None else data
        except NotFound:
            return Problem("reference not found in the bucket", value=url)
        except (BadInput, Denied) as error:
            return Problem("reference cannot be read from the bucket", value=url, hint=error.message)
        except NightshootError as error:
            self._count(failed=True, why=error.message)
            return Problem("reference cannot be read from the bucket", value=url, hint=error.message)
        with self._lock:
            self._generations[_mark(url)] = generation
            if len(self._generations) > _REMEMBERED:
                self._generations.popitem(last=False)
        if data is not before:
            self._remember(f"url {url}", str(generation), data)
        return data

    def _cached(self, key: str) -> tuple[str | None, bytes | None]:
        """What the server called it last time, and the bytes; both or neither."""
        note = self._cache.get(key)
        if note is None:
            return None, None
        try:
            said = json.loads(note)
            data = self._cache.get(f"sha256 {said['sha256']}")
            whole = data is not None and hashlib.sha256(data).hexdigest() == said["sha256"]
            return (str(said["tag"]), data) if whole else (None, None)
        except (ValueError, KeyError, TypeError):
            return None, None

    def _remember(self, key: str, tag: str, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        self._cache.put(f"sha256 {sha256}", data)
        self._cache.put(key, json.dumps({"tag": tag, "sha256": sha256}).encode())

    def _count(self, *, failed: bool, why: str = "") -> None:
        with self._lock:
            self._failed = self._failed + 1 if failed else 0
            if self._failed >= _IN_A_ROW:
                raise Unavailable(
                    f"{_IN_A_ROW} references in a row could not be fetched: the last {why}",
                    hint="check the network, and run again; what was fetched is kept",
                )


def _mark(source: str) -> bytes:
    return hashlib.sha256(source.encode(errors="surrogatepass")).digest()
