"""The client is killed at every seam, on both surfaces and whatever the provider does: nothing is paid twice.

A seam is the moment before or after a call to the provider or a write. What the emulator's ledger says of a run never
exceeds what the run costs when nothing goes wrong; it is the same wherever the listing tells the truth within ten
minutes; else the batch is held, and goes on once the listing is truthful.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.errors import Unavailable
from pipeline.index import read_index
from pipeline.run import Run, open_run
from pipeline.state import Stage
from pipeline.survey import begin, planner, survey
from tests.bench import Bench, outcomes
from tests.faulty import PowerCut
from tests.seams import Hands, SeamedBackend, SeamedStorage, Seams

HOUR = 3600

CREATE: tuple[dict[str, Any], ...] = (
    {"kind": "done_but_error", "code": 503},
    {"kind": "lost"},
    {"kind": "unsent"},
    {"kind": "refused", "method": "create", "code": 503},
    {"kind": "refused", "method": "create", "code": 429, "retry_after": 40},
)
"""What becomes of one create call: accepted or refused, and said, hidden or not said at all."""

TRUE: tuple[dict[str, Any], ...] = ({}, {}, {"kind": "list_lags", "seconds": 300.0})
FALSE: tuple[dict[str, Any], ...] = (
    {"kind": "list_empty"},
    {"kind": "list_truncated", "size": 1},
    {"kind": "refused", "method": "list", "code": 503, "times": None},
)
"""What a listing does: it tells the truth in ten minutes, or never does."""


@dataclass(frozen=True, slots=True)
class Night:
    """One interleaving. The same numbers are the same night."""

    seed: int
    surface: str
    batches: int
    drivers: int  # that go on after the first has died
    create: dict[str, Any]
    listing: dict[str, Any]
    deaths: tuple[int, ...]  # the seams at which one driver after the other dies

    @property
    def is_truthful(self) -> bool:
        return self.listing in TRUE


def chosen(seed: int) -> Night:
    """A night by chance."""
    chance = random.Random(seed)
    listing = chance.choice(TRUE + FALSE)
    return Night(
        seed,
        surface=("developer", "vertex")[seed % 2],
        # A listing that lies is known by what it hides of the others: two batches more than may get lost.
        batches=2 if listing in TRUE else 4,
        drivers=chance.choice((1, 1, 4)),
        create=chance.choice(CREATE),
        listing=listing,
        deaths=tuple(chance.randint(1, 60) for _ in range(1 if listing in FALSE else chance.choice((1, 2)))),
    )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[emulator.Service]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with emulator.start(queue=(1, 1), run=(1, 1), picture_bytes=500, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    for name, colour in ("red.png", "red"), ("blue.png", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / name)
    return Bench(service, tmp_path)


class Story:
    """One night on a bench that has lived others: an account, a folder and a price of its own."""

    def __init__(self, bench: Bench, night: Night, name: str) -> None:
        self.bench, self.night = bench, night
        self.chance = random.Random(night.seed)
        self.clock = Hands(bench.service)
        bench.key = f"account-{name}"  # nobody reads the listings of the nights before
        said: dict[str, Any] = (
            {"backend": "vertex", "bucket": "shoes/night"} if night.surface == "vertex" else {}
        )
        size = {} if night.surface == "vertex" else {"image_size": "512"}
        bench.make_job(
            rows=night.batches,
            max_requests=1,
            model="gemini-3.1-flash-image",
            photo=lambda n: ("red.png", "blue.png")[n % 2],
            **said,
            **size,
        )
        self.found = survey(bench.job, base=bench.folder)
        self.storage = bench.place(name)
        self._backend: Any = None
        self._busy: set[int] = set()

    def driver(self, seams: Seams) -> Driver:
        """A driver as a new process is one. It begins the run where none is there."""
        storage, clock = SeamedStorage(self.storage, seams), self.clock
        if next(iter(self.storage.list("journal/")), None) is None:
            run = begin(
                self.found, name="run", storage=storage, service=self.bench.service.url, cap=None, clock=clock
            )
        else:
            run = open_run(storage, clock)
        self._backend = self._backend or self.bench.backend_of(run)
        backend = SeamedBackend(self._backend, seams)
        return Driver(run, backend, planner=planner(self.found, run), workers=1)

    def die(self, at: int) -> int:
        """A driver that works until it dies at this seam, or until there is nothing to do for a day. Seams it saw."""
        seams = Seams(at=at)
        try:
            driver = self.driver(seams)
            self._work([driver], until_idle=20)
        except PowerCut:
            self.clock.sleep(self.chance.choice((0, 30, 90, 900)))
        return len(seams.seen)

    def go_on(self, *, until_idle: int) -> Run:
        """As many drivers as this night has go on, each at any seam of the others."""
        drivers: list[Driver] = []
        for _ in range(self.night.drivers):
            seams = Seams(there=partial(self._meanwhile, drivers)) if self.night.drivers > 1 else Seams()
            drivers.append(self.driver(seams))
        self._work(drivers, until_idle=until_idle)
        return self.run()

    def run(self) -> Run:
        return open_run(self.storage, self.clock)

    def _work(self, drivers: list[Driver], *, until_idle: int) -> None:
        """Until the run is finished, or nothing has moved for so many turns; time passes in between."""
        idle = 0
        while idle < until_idle and not any(driver.run.state.finished for driver in drivers):
            moved = [
                self._step(drivers, place) for place in self.chance.sample(range(len(drivers)), len(drivers))
            ]
            idle = 0 if any(moved) else idle + 1
            if not any(moved):
                self.clock.sleep(self.chance.choice((10, 70, 400, 900)))

    def _step(self, drivers: list[Driver], place: int) -> bool:
        self._busy.add(place)
        try:
            return drivers[place].step()
        except Unavailable:
            return False  # said to a person, who says the same command again
        finally:
            self._busy.discard(place)

    def _meanwhile(self, drivers: list[Driver]) -> None:
        """What another driver does while one is between two things. Now and then the machine sleeps."""
        if self.chance.random() < 0.01:
            self.clock.sleep(self.chance.choice((30, 100, 800)))
        idle = [place for place in range(len(drivers)) if place not in self._busy]
        if idle and len(self._busy) < 3 and self.chance.random() < 0.08:
            self._step(drivers, self.chance.choice(idle))

    # --- what it came to --------------------------------------------------------------------------------------------

    def jobs(self) -> list[dict[str, Any]]:
        """This run's entries in the ledger."""
        label = f"nightshoot-{self.run().created.run}-"
        ledger = self.bench.service.ledger(rows=False)
        return [job for job in ledger["jobs"] if job["displayName"].startswith(label)]

    def assert_nothing_paid_twice(self, price: int) -> int:
        """Nor ever will be of what was sent so far. Says what was paid."""
        self.clock.sleep(HOUR)
        jobs = self.jobs()
        paid = Counter(job["displayName"] for job in jobs if job["nanodollars"])
        bill: int = sum(job["nanodollars"] for job in jobs)
        assert set(paid.values()) <= {1}, (self.night, paid)
        assert bill <= price, self.night
        return bill

    def assert_all_home(self, run: Run, price: int) -> None:
        state = run.state
        assert state.finished, (self.night, [batch.stage for batch in state.batches])
        assert outcomes(read_index(run)) == {"ok": self.night.batches}, self.night
        bill = self.assert_nothing_paid_twice(price)
        assert (bill, state.spent, state.reserved) == (price, price, 0), self.night


def live(bench: Bench, night: Night, name: str, price: int) -> None:
    """One night from its first seam to its last picture."""
    bench.service.clear_faults()
    story = Story(bench, night, name)
    bench.service.fault(**({"display_name": f"-{night.seed % night.batches:05}-"} | night.create))
    if night.listing:
        bench.service.fault(**night.listing)
    for at in night.deaths:
        story.die(at)
    run = story.go_on(until_idle=40 if night.is_truthful else 12)
    if not night.is_truthful:
        stages = {batch.stage for batch in run.state.batches}
        assert not stages & {Stage.DRAWN, Stage.ENDED, Stage.CUT}, (
            night
        )  # held, home, in doubt, waiting, or out there
        story.assert_nothing_paid_twice(price)
        bench.service.clear_faults()
        run = story.go_on(until_idle=40)
    story.assert_all_home(run, price)


def quiet(bench: Bench, surface: str, batches: int) -> tuple[int, int]:
    """What a night costs in which nothing goes wrong, and how many seams it has."""
    night = Night(0, surface, batches, 1, {}, {}, ())
    story = Story(bench, night, f"quiet-{surface}-{batches}")
    seams = story.die(10**9)
    return sum(job["nanodollars"] for job in story.jobs()), seams


def sweep(bench: Bench, seeds: range) -> None:
    price = {(s, n): quiet(bench, s, n)[0] for s in ("developer", "vertex") for n in (2, 4)}
    for seed in seeds:
        night = chosen(seed)
        live(bench, night, f"night-{seed}", price[night.surface, night.batches])


@pytest.mark.parametrize("block", range(4))
def test_a_hundred_nights_by_chance_pay_each_batch_once(bench: Bench, block: int) -> None:
    sweep(bench, range(block * 25, block * 25 + 25))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", range(20))
def test_a_thousand_nights_by_chance_pay_each_batch_once(bench: Bench, block: int) -> None:
    sweep(bench, range(1000 + block * 50, 1000 + block * 50 + 50))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drivers", [1, 4])
@pytest.mark.parametrize("surface", ["developer", "vertex"])
def test_a_client_killed_at_any_seam_of_twelve_batches_pays_each_once(
    bench: Bench, surface: str, drivers: int
) -> None:
    """Every seam, each with the next of all the things that a create call and a listing can do."""
    price, seams = quiet(bench, surface, 12)
    assert seams > 200
    listings = TRUE[1:] + FALSE
    for at in range(1, seams + 1):
        night = Night(at, surface, 12, drivers, CREATE[at % 5], listings[at // 5 % 5], (at,))
        live(bench, night, f"seam-{at}", price)
