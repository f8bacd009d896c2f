"""Numbered records by exclusive puts. No opinion on what they mean."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.clock import Clock
from pipeline.errors import BadInput, Corrupt
from pipeline.events import Event, Record, Unknown, Unreadable, from_json, to_json
from pipeline.storage.base import AlreadyThere, NotFound, Storage

FOLDER = "journal/"
READERS = 16
"""Records read at once: a bucket answers each in tens of milliseconds, whatever their number."""


class Taken(Exception):
    """Somebody else wrote the record of this number first."""


def record_name(number: int) -> str:
    return f"{FOLDER}{number:08}.json"


class Journal:
    """What happened, in order. One of these for each driver."""

    def __init__(self, storage: Storage, clock: Clock, *, writer: str) -> None:
        self._storage = storage
        self._clock = clock
        self._writer = writer

    def since(self, number: int) -> Iterator[Record]:
        """The records from this number on, in order: one listing and parallel reads."""
        # A name just below the number's own: what sorts behind it is the number and all newer ones.
        after = record_name(number - 1) if number else FOLDER
        names = [name for name in self._storage.list(FOLDER, after=after) if _is_record(name)]
        for place, name in enumerate(names):
            if name != record_name(number + place):
                raise Corrupt(
                    f"{self._storage.url}: {record_name(number + place)} is missing, but {name} is there",
                    hint="a record was deleted; restore it before you go on",
                )
        if not names:
            return
        with ThreadPoolExecutor(min(READERS, len(names))) as pool:
            yield from pool.map(self._read, names)

    def append(self, number: int, event: Event) -> Record:
        """Write a record of this number, durable on return. Raises Taken."""
        record = Record(number=number, at=self._clock.now(), writer=self._writer, event=event)
        try:
            self._storage.put_if_absent(record_name(number), to_json(record), content_type="application/json")
        except AlreadyThere as error:
            raise Taken(record_name(number)) from error
        return record

    def back_off(self, tries: int) -> None:
        """Wait a little, longer each time and never as long as the others."""
        self._clock.sleep(random.uniform(0.01, 0.05) * 2 ** min(tries, 6))

    def _read(self, name: str) -> Record:
        try:
            return from_json(self._storage.read(name))
        except Unknown as error:
            raise BadInput(
                f"{self._storage.url}: {name} {error}",
                hint="a newer nightshoot wrote this run; update yours",
            ) from error
        except Unreadable as error:
            raise Corrupt(
                f"{self._storage.url}: {name} {error}",
                hint="it was cut or changed: restore it, and look at the disk",
            ) from error
        except NotFound as error:
            raise Corrupt(f"{self._storage.url}: {name} was listed and is gone") from error


def _is_record(name: str) -> bool:
    """Checkpoints and whatever later versions put here are not records."""
    stem = name.removeprefix(FOLDER).removesuffix(".json")
    return len(stem) == 8 and stem.isdigit()
