"""References as the provider has them: uploaded once for a run, known to all its drivers, renewed before they die.

What was uploaded is written into the run, a file and a record for some hundred of them. Losing that costs bytes.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import msgspec

from pipeline.backends.base import Attached, Backend, Origin
from pipeline.events import File, Uploaded
from pipeline.run import Run, reference_file, uploaded_file

LIFE = timedelta(hours=36)
"""A reference must live this long from the moment it is named, since the batch may wait in a queue."""

AT_ONCE = 8  # uploads
TOGETHER = 400  # uploads to a record: a crash repeats at most so many
REMEMBERED = 100_000
"""References in memory. Whatever is forgotten is uploaded once more."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a batch shows: of which type it is, and where it lies already."""

    mime: str
    origin: Origin | None = None


class Entry(msgspec.Struct, frozen=True):
    """One reference at the provider, as a line of uploaded/."""

    sha256: str
    uri: str
    name: str  # what removes it
    expires: datetime


class Shown:
    """What one driver knows of a run's references at its provider. Not to be shared between threads."""

    def __init__(self, run: Run, backend: Backend) -> None:
        self._run, self._backend = run, backend
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._read = 0  # of the run's records of uploads

    def place(self, batch: int, wanted: Mapping[str, Reference]) -> dict[str, str]:
        """Where each of these is to be read from, by its digest, for as long as a batch may take."""
        if not wanted:
            return {}
        now = self._backend.time() or self._run.clock.now()
        self._learn(now)
        uris = {}
        for sha256 in wanted:
            entry = self._entries.get(sha256)
            if entry is not None and entry.expires >= now + LIFE:
                uris[sha256] = entry.uri
        missing = iter([(sha256, shown) for sha256, shown in wanted.items() if sha256 not in uris])
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="references") as pool:
            while some := list(islice(missing, TOGETHER)):
                found = list(pool.map(self._attach, some))
                uris |= {sha256: attached.uri for (sha256, _), attached in zip(some, found, strict=True)}
                self._keep(batch, zip((sha256 for sha256, _ in some), found, strict=True))
        return uris

    def _attach(self, wanted: tuple[str, Reference]) -> Attached:
        sha256, shown = wanted
        opened = partial(self._run.storage.open, reference_file(sha256, shown.mime))
        return self._backend.attach(sha256, opened, mime=shown.mime, origin=shown.origin)

    def _learn(self, now: datetime) -> None:
        """Read what was uploaded by others, and by us before."""
        records = self._run.state.uploaded
        for event in records[self._read :]:
            if event.account == self._backend.account and event.until >= now + LIFE:
                self._remember(entries(self._run, event))
        self._read = len(records)

    def _keep(self, batch: int, found: Iterable[tuple[str, Attached]]) -> None:
        """Tell all others, of what does not live for ever. What lives for ever is found where it is named."""
        kept = [
            Entry(sha256, attached.uri, attached.name, attached.expires)
            for sha256, attached in found
            if attached.expires is not None
        ]
        if not kept:
            return
        self._remember(kept)
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in kept)
        digest = hashlib.sha256(data).hexdigest()
        name = uploaded_file(batch, digest)
        self._run.storage.put_if_absent(name, data, content_type="application/jsonl")
        event = Uploaded(
            batch=batch,
            account=self._backend.account,
            file=File(name, len(data), digest),
            until=min(entry.expires for entry in kept),
        )
        self._run.try_record(event)  # if nobody can say so any more, nobody has to

    def _remember(self, found: Iterable[Entry]) -> None:
        for entry in found:
            known = self._entries.get(entry.sha256)
            if known is None or known.expires < entry.expires:
                self._entries[entry.sha256] = entry
                self._entries.move_to_end(entry.sha256)
        while len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)


def entries(run: Run, event: Uploaded) -> list[Entry]:
    """What a record of uploads is about."""
    lines = run.storage.read(event.file.name).splitlines()
    return [msgspec.json.decode(line, type=Entry) for line in lines]
