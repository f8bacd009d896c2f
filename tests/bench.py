"""A bench for stories: an emulator, a manifest, a job, and drivers for its runs. Real parts over real HTTP."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import emulator
from pipeline.backends import staging_of
from pipeline.backends.base import Backend
from pipeline.backends.developer import Developer
from pipeline.backends.vertex import Vertex
from pipeline.clock import Clock, EmulatorClock
from pipeline.drive import Driver
from pipeline.index import read_index
from pipeline.job import Job, job_for
from pipeline.run import Run, open_run
from pipeline.storage import Storage
from pipeline.storage.local import LocalStorage
from pipeline.survey import PART_BYTES, begin, planner, survey

COLOURS = ("red", "green", "blue", "olive", "black")


def write_rows(path: Path, rows: int, *, photo: Callable[[int], str] | None = None) -> Path:
    """A manifest of this many shoes."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "title", "colour", "photo"])
        for n in range(rows):
            colour = COLOURS[n % len(COLOURS)]
            writer.writerow([f"sku-{n}", f"Shoe {n}", colour, photo(n) if photo else ""])
    return path


class Bench:
    """One emulator and one folder of runs. Drivers made here share both, as processes would."""

    def __init__(self, service: emulator.Service, folder: Path, *, key: str = "test-key") -> None:
        self.service = service
        self.folder = folder
        self.key = key
        self.job: Job = self.make_job()

    def make_job(
        self,
        *,
        rows: int = 6,
        max_requests: int = 2,
        photo: Callable[[int], str] | None = None,
        **said: Any,
    ) -> Job:
        """A job over fresh shoes, a few requests to a batch; with photos, if somebody says which."""
        write_rows(self.folder / "shoes.csv", rows, photo=photo)
        if photo is not None:
            said = {"references": ["photo"]} | said
        said = {
            "prompt": "Studio photo of {{ title }} in {{ colour }}",
            "model": "gemini-2.5-flash-image",
            "aspect_ratio": "1:1",
            "batches": {"max_requests": max_requests},
        } | said
        self.job = job_for("shoes.csv", **said)
        return self.job

    @property
    def clock(self) -> Clock:
        return EmulatorClock(self.service.url)

    def backend(self, key: str | None = None) -> Developer:
        return Developer(key=key or self.key, service=self.service.url, clock=self.clock)

    def backend_of(self, run: Run, key: str | None = None) -> Backend:
        """Whoever makes the pictures of this run: with this key, or in the project that is called so."""
        if run.created.backend == "developer":
            return self.backend(key)
        staging = staging_of(self.job, run.storage.url)
        return Vertex(
            project=key or self.key,
            location="global",
            service=self.service.url,
            staging=staging,
            labels=self.job.labels,
        )

    def place(self, name: str = "run") -> Storage:
        """A run's real files. Nothing here cuts the machine's power, so nothing waits for its disk."""
        return LocalStorage(self.folder / "runs" / name, sync=lambda descriptor: None)

    def begin(
        self,
        *,
        storage: Storage | None = None,
        cap: int | None = None,
        canary: bool = True,
        part_bytes: int = PART_BYTES,
    ) -> Driver:
        """A new run, and a driver for it."""
        found = survey(self.job, base=self.folder)
        run = begin(
            found,
            name="run",
            storage=storage or self.place(),
            service=self.service.url,
            cap=cap,
            clock=self.clock,
            canary=canary,
            part_bytes=part_bytes,
        )
        return Driver(run, self.backend_of(run), planner=planner(found, run))

    def rewrite(self, name: str, data: bytes) -> None:
        """A file of the run as another version would have left it, and what was recorded of it."""
        file = self.folder / "runs" / "run" / name
        before, after = (hashlib.sha256(content).hexdigest() for content in (file.read_bytes(), data))
        file.write_bytes(data)
        for record in (self.folder / "runs" / "run" / "journal").iterdir():
            record.write_text(record.read_text().replace(before, after))

    def again(self, *, storage: Storage | None = None, key: str | None = None) -> Driver:
        """Another driver for the run that is there, as a new process would be."""
        found = survey(self.job, base=self.folder)
        run = open_run(storage or self.place(), self.clock)
        return Driver(run, self.backend_of(run, key), planner=planner(found, run))

    def go_on(self, *, storage: Storage | None = None) -> Driver:
        """What a person does who says the same command again: go on with the run, or begin it."""
        storage = storage or self.place()
        if next(iter(storage.list("journal/")), None) is None:
            return self.begin(storage=storage)
        return self.again(storage=storage)

    def run(self, **said: Any) -> pd.DataFrame:
        """One run to its end, and its index."""
        driver = self.begin(**said)
        driver.to_the_end()
        return read_index(driver.run)

    def bill(self) -> int:
        """What the emulator says all of it cost, in billionths of a dollar."""
        return int(self.service.ledger(rows=False)["total"]["nanodollars"])

    def paid(self) -> Counter[str]:
        """How often each label was bought, by the emulator's own count."""
        return Counter(job["displayName"] for job in self.service.ledger(rows=False)["jobs"])


def outcomes(index: pd.DataFrame) -> dict[str, int]:
    return {str(name): int(count) for name, count in index["outcome"].value_counts().items() if count}


def fingerprints(storage: Storage, folders: Iterable[str]) -> dict[str, str]:
    """Every file below these folders of a run, by the digest of its bytes."""
    return {
        name: hashlib.sha256(storage.read(name)).hexdigest()
        for folder in folders
        for name in storage.list(f"{folder}/")
    }


def spent(run: Run) -> int:
    return run.state.spent
