"""State on disk: one snapshot, replaced whole before the reply to whatever changed it; and a log of events.

A process that is killed loses nothing it has answered for. What is large lies beside the snapshot and is
written once: uploads, objects, and the answers of every job that has begun. Uploads to Cloud Storage that were
under way are gone after a restart, as after some days in the real one. The folder is as good as a program:
do not start an emulator on one that a stranger gave you.
"""

import asyncio
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from pipeline.emulator.app import Emulator

VERSION = 1


class Disk:
    """One emulator's folder."""

    def __init__(self, folder: Path, emulator: "Emulator") -> None:
        self._folder = folder
        self._emulator = emulator
        self._lock = asyncio.Lock()
        self._wanted = self._saved = 0

    def load(self) -> None:
        """Take up what is there, if anything is."""
        emulator = self._emulator
        emulator.events.keep_in(self._folder / "events.jsonl")
        snapshot = self._folder / "state"
        if not snapshot.exists():
            return
        with snapshot.open("rb") as file:
            whole = Reading(file, self._answers).load()
        if whole.pop("version") != VERSION:
            raise ValueError(f"{snapshot} was written by another version; begin with an empty folder")
        emulator.take_up(whole)

    async def save(self) -> None:
        """Return when everything that has happened by now is on disk; several may wait for one writing."""
        self._wanted += 1
        mine = self._wanted
        async with self._lock:
            if self._saved >= mine:
                return
            async with self._emulator.still():
                until, data = self._wanted, self._dumped()
            await asyncio.to_thread(self._write, "state", data)
            self._saved = until

    def save_now(self) -> None:
        """The same for who is about to end, and waits for nobody."""
        self._write("state", self._dumped())

    def _dumped(self) -> bytes:
        jobs: list[Any] = [*self._emulator.batches.all(), *self._emulator.predictions.jobs.values()]
        for job in jobs:
            if job.answers and not self._answers_of(job.id).exists():
                self._write(f"answers-{job.id}", pickle.dumps(job.answers))
        file = io.BytesIO()
        Writing(file, jobs).dump({"version": VERSION, **self._emulator.state()})
        return file.getvalue()

    def _answers_of(self, job_id: str) -> Path:
        return self._folder / f"answers-{job_id}"

    def _answers(self, job_id: str) -> Any:
        return pickle.loads(self._answers_of(job_id).read_bytes())

    def _write(self, name: str, data: bytes) -> None:
        staged = self._folder / f".{name}.new"
        staged.write_bytes(data)
        staged.replace(self._folder / name)


class Writing(pickle.Pickler):
    """Leaves out what lies beside the snapshot or can be made again."""

    def __init__(self, file: io.BytesIO, jobs: list[Any]) -> None:
        super().__init__(file)
        self._elsewhere = {id(job.answers): job.id for job in jobs if job.answers}
        self._again = {
            id(value)
            for job in jobs
            for value in (getattr(job, "result", None), getattr(job, "done_answers", None))
            if value is not None
        }

    def persistent_id(self, value: Any) -> Any:
        if id(value) in self._again:
            return ("again", None)
        if isinstance(value, list) and id(value) in self._elsewhere:
            return ("answers", self._elsewhere[id(value)])
        return None


class Reading(pickle.Unpickler):
    def __init__(self, file: Any, answers: Callable[[str], Any]) -> None:
        super().__init__(file)
        self._answers = answers

    def persistent_load(self, place: Any) -> Any:
        kind, job_id = place
        return self._answers(job_id) if kind == "answers" else None


class Kept:
    """Answers a change only when it is on disk."""

    def __init__(self, app: ASGIApp, emulator: "Emulator", disk: Disk) -> None:
        self._app = app
        self._emulator = emulator
        self._disk = disk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reads = scope["method"] in ("GET", "HEAD")

        async def kept(message: Message) -> None:
            if message["type"] == "http.response.start" and (not reads or self._emulator.changed):
                self._emulator.changed = False
                await self._disk.save()
            await send(message)

        await self._app(scope, receive, kept)
        if self._emulator.changed:  # a reply that was lost on order must not lose what was done
            self._emulator.changed = False
            await self._disk.save()
