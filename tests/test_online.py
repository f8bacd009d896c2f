"""The online lane: asked at once, paid once but for what was in flight, and collected as everything else is."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from pipeline import emulator
from pipeline.backends.online import CALL, Online
from pipeline.drive import Driver
from pipeline.errors import BadInput, Denied, Refused, Unavailable
from pipeline.events import Capped
from pipeline.index import read_index
from pipeline.job import Night, job_for
from pipeline.job import Online as Settings
from pipeline.results import lines
from pipeline.run import Run, open_run
from pipeline.state import Stage
from pipeline.storage import Storage
from pipeline.survey import begin, planner, planner_for, survey
from pipeline.tally import tally
from tests.bench import Bench, outcomes
from tests.fakes import FakeClock, MemoryStorage
from tests.faulty import Dying, PowerCut
from tests.stories.processes import finish, kill, release, start


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[emulator.Service]:
    with emulator.start(picture_bytes=2000, buckets=("shoes",)) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture(params=["developer", "vertex"])
def bench(request: pytest.FixtureRequest, service: emulator.Service, tmp_path: Path) -> Bench:
    """Six rows with photos, on either surface."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    bench = Bench(service, tmp_path, key="catalog")
    there = {"backend": "vertex", "bucket": "shoes/night"} if request.param == "vertex" else {}
    bench.make_job(photo=lambda n: "red.png", max_requests=40, **there)
    return bench


def at_once(bench: Bench, *, cap: int | None = None, storage: Any = None, **said: Any) -> Driver:
    """A run of this bench's job, every batch of it online."""
    job = msgspec.structs.replace(bench.job, **said)
    found = survey(job, base=bench.folder, lane="standard")
    place = storage or bench.place()
    url, clock = bench.service.url, bench.clock
    run = begin(found, name="run", storage=place, service=url, clock=clock, cap=cap)
    return Driver(run, bench.backend_of(run), planner=planner(found, run))


def calls(bench: Bench) -> int:
    return len(bench.service.ledger()["calls"])


def assert_books_hold(bench: Bench, run: Run) -> None:
    """What the books say was spent, or may have been, covers the bill; and nothing went in a batch."""
    assert run.state.spent + run.state.unconfirmed >= bench.bill()
    assert run.state.reserved == 0
    assert bench.service.ledger()["jobs"] == []


def test_every_request_is_answered_at_once_and_paid_once_at_the_standard_price(bench: Bench) -> None:
    """Both surfaces, photos included; spend equals the ledger to the billionth."""
    driver = at_once(bench)
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert set(index["attempt"]) == {1}
    assert calls(bench) == 6
    assert driver.run.state.spent == bench.bill() > 0
    assert driver.run.state.unconfirmed == 0
    (batch,) = driver.run.state.batches
    assert batch.online
    assert batch.planned is not None
    assert batch.planned.likely == survey(bench.job, base=bench.folder).at_once
    names = list(driver.run.storage.list("results/"))
    assert sum(name.endswith("/requests.jsonl") for name in names) == 1
    assert sum(name.endswith(".asked") for name in names) == 6


def test_a_service_that_is_busy_is_left_alone_by_all_and_nothing_is_bought_twice(bench: Bench) -> None:
    """Eight refusals; each call is made until it is taken, and the first attempt is the only one."""
    bench.service.fault("refused", method="generate", code=429, retry_after=20, times=8)
    driver = at_once(bench)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert set(read_index(driver.run)["attempt"]) == {1}
    assert calls(bench) == 6
    assert driver.run.state.spent == bench.bill()
    assert [event["kind"] for event in bench.service.events() if event["what"] == "fault"] == ["refused"] * 8


def test_a_storm_puts_the_batch_back_and_costs_nothing(bench: Bench) -> None:
    """Where nothing at all was taken before the time was up, nothing is reserved any more, and it goes later."""
    bench.service.fault("refused", method="generate", code=429, retry_after=900, times=6)
    driver = at_once(bench)
    driver.step()
    (batch,) = driver.run.state.batches
    assert batch.stage is Stage.PLANNED
    assert batch.put_backs == 1
    assert driver.run.state.committed == bench.bill() == 0
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert driver.run.state.spent == bench.bill()


def test_a_storm_in_the_middle_draws_the_rest_anew_as_no_attempt(bench: Bench) -> None:
    """Two are answered, then nobody is: the other four were never bought, and are no attempt poorer."""
    bench.service.fault("refused", method="generate", code=429, retry_after=900, every=3, times=None)
    driver = at_once(bench, online=Settings(in_flight=1))
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert set(index["attempt"]) == {1}
    assert index["batch"].value_counts().to_dict() == {0: 2, 1: 2, 2: 2}
    assert calls(bench) == 6
    assert driver.run.state.spent == bench.bill()
    assert driver.run.state.unconfirmed == driver.run.state.reserved == 0
    assert asked_again(driver.run) == 0


@pytest.mark.parametrize("kind", ["done_but_error", "lost"])
def test_an_answer_that_does_not_tell_counts_as_spent_and_is_asked_again(bench: Bench, kind: str) -> None:
    """The picture was made and billed, and nobody saw it: the books cover it, and say that they cannot read it."""
    bench.service.fault(kind, method="generate", times=1)
    driver = at_once(bench)
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index) == {"ok": 6}
    assert sorted(index["attempt"]) == [1, 1, 1, 1, 1, 2]
    assert calls(bench) == 7
    assert driver.run.state.unconfirmed == pytest.approx(high(driver) / 6, rel=0.01)
    assert_books_hold(bench, driver.run)


def high(driver: Driver) -> int:
    planned = driver.run.state.batches[0].planned
    assert planned is not None
    return planned.high


def test_a_request_that_is_refused_for_itself_is_final_and_free(bench: Bench) -> None:
    bench.service.fault("row_error", prompt="Shoe 2 ", code=3, message="no such thing")
    driver = at_once(bench)
    driver.to_the_end()
    index = read_index(driver.run).set_index("key")
    assert outcomes(index) == {"ok": 5, "invalid": 1}
    assert index.loc["sku-2", "message"] == "no such thing"
    assert calls(bench) == 5
    assert driver.run.state.spent == bench.bill()
    assert driver.run.state.unconfirmed == 0


def test_who_may_not_ask_hears_it_and_pays_nothing(bench: Bench) -> None:
    bench.service.fault("refused", method="generate", code=403, times=None)
    driver = at_once(bench)
    with pytest.raises(Denied):
        driver.to_the_end()
    assert driver.run.state.committed == bench.bill() == 0
    bench.service.clear_faults()
    again(bench).to_the_end()
    assert calls(bench) == 6


def again(bench: Bench) -> Driver:
    """Another process, with nothing but the run and the job's folder."""
    run = open_run(bench.place(), bench.clock)
    return Driver(run, bench.backend_of(run), planner=planner_for(run, base=bench.folder))


def test_no_more_calls_are_begun_in_a_minute_than_the_job_says(bench: Bench) -> None:
    driver = at_once(bench, online=Settings(per_minute=2, in_flight=1))
    driver.to_the_end()
    times = [datetime.fromisoformat(call["at"]) for call in bench.service.ledger()["calls"]]
    assert len(times) == 6
    assert all(
        later - earlier >= timedelta(minutes=1) for earlier, later in zip(times, times[2:], strict=False)
    )


# --- crashes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bench", ["developer"], indirect=True)
@pytest.mark.parametrize("at", [2, 3, 4, 5, 6, 8, 10, 14])
def test_a_crash_pays_again_for_the_calls_in_flight_only(bench: Bench, at: int) -> None:
    """The power is cut at one write after another; with two calls in flight at most two are bought again."""
    bare = at_once(bench, online=Settings(in_flight=2)).run
    dying = Dying(bench.place(), at=at + 4, when="after")
    run = open_run(dying, bench.clock)
    with pytest.raises(PowerCut):
        Driver(run, bench.backend_of(run), planner=planner_for(run, base=bench.folder)).to_the_end()
    before = calls(bench)
    replies = sum(
        name.endswith(".jsonl") and "requests" not in name for name in bare.storage.list("results/")
    )
    driver = again(bench)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert before - replies <= 2
    assert calls(bench) == 6 + before - replies
    assert_books_hold(bench, driver.run)
    spare = driver.run.state.spent + driver.run.state.unconfirmed - bench.bill()
    assert spare <= 2.01 * high(driver) / 6


@pytest.mark.parametrize("bench", ["developer"], indirect=True)
def test_a_process_that_is_killed_in_the_middle_leaves_its_replies_and_the_rest_is_asked(
    bench: Bench,
) -> None:
    """SIGKILL right after the third reply or so: what came is kept, and the ledger is covered by the books."""
    run = at_once(bench, online=Settings(in_flight=2)).run
    kill(bench, run.storage.url, "after", "results/*/0002.jsonl")
    before = calls(bench)
    assert 3 <= before <= 5
    last = start(bench, run.storage.url)
    release(last)
    finish([last])
    run.catch_up()
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": 6}
    assert calls(bench) <= 6 + 2
    assert_books_hold(bench, run)
    assert asked_again(run) == pytest.approx(price_of_repeats(run), rel=0.01)


def asked_again(run: Run) -> int:
    """What the run says that it asked again for, without what it was expected to."""
    first = run.state.batches[0].planned
    now = tally(run)
    assert first is not None
    assert sum(now.causes.values()) == now.spent + now.unconfirmed - now.likely
    return now.causes.get("asked again", 0) + now.likely - first.likely


def price_of_repeats(run: Run) -> float:
    """What the second attempts of a run cost: all of its pictures cost the same."""
    return run.state.spent / 6 * int((read_index(run)["attempt"] > 1).sum())


@pytest.mark.parametrize("bench", ["vertex"], indirect=True)
def test_two_processes_on_one_run_ask_for_everything_once(bench: Bench) -> None:
    run = at_once(bench).run
    drivers = [start(bench, run.storage.url) for _ in range(2)]
    release(*drivers)
    finish(drivers)
    run.catch_up()
    assert outcomes(read_index(run)) == {"ok": 6}
    assert calls(bench) == 6
    assert run.state.spent == bench.bill()


@pytest.mark.parametrize("bench", ["developer"], indirect=True)
def test_what_is_given_up_is_not_begun_by_a_late_author_nor_counted_twice(bench: Bench) -> None:
    """Three requests: one in flight when its author froze, one it had not begun, one answered."""
    clock = FakeClock()
    storage, inner = MemoryStorage(), bench.backend_of(at_once(bench).run)
    online = Online(inner, storage, settings=Settings(), clock=clock)
    places = [f"b00000-{n:04}" for n in range(3)]
    folder = online.stage("nightshoot-1-00000-ab", [b'{"key":"%b"}' % place.encode() for place in places])
    until = clock.now() + CALL
    assert online.claim_for(folder, places[0], until)
    assert online.claim_for(folder, places[1], until)
    online.reply(folder, places[1], b'{"key":"b00000-0001","response":{}}\n')
    assert online.ending(folder) is None  # the first may still be answered
    assert not online.claim_for(folder, places[2], until)  # taken away from its author
    clock.sleep(CALL.total_seconds())
    ending = online.ending(folder)
    assert ending is not None
    online.reply(folder, places[0], b'{"key":"b00000-0000","response":{}}\n')  # too late
    with online.open(folder, ending.files[0].name, start=0, end=None) as stream:
        found = [online.outcome(line) for line in lines(stream, start=0, end=None)]
    assert [(one.kind, one.billed, one.usage) for one in found] == [
        ("missing", True, None),
        ("no_image", True, None),
        ("not_sent", False, None),
    ]


@pytest.mark.parametrize("bench", ["developer"], indirect=True)
def test_nothing_more_is_bought_once_a_reply_cannot_be_kept(bench: Bench) -> None:
    """The disk is full at the second reply: of forty, no more were asked than were in flight."""
    bench.make_job(rows=20, max_requests=40)
    at_once(bench, online=Settings(in_flight=2, per_minute=100))
    full = Full(bench.place(), room=1)
    run = open_run(full, bench.clock)
    with pytest.raises(Unavailable):
        Driver(run, bench.backend_of(run), planner=planner_for(run, base=bench.folder)).to_the_end()
    assert calls(bench) <= 1 + 1 + 2
    last = again(bench)
    last.to_the_end()
    assert outcomes(read_index(last.run)) == {"ok": 20}
    assert_books_hold(bench, last.run)


class Full:
    """A storage that has no room for another reply after so many."""

    def __init__(self, storage: Storage, *, room: int) -> None:
        self.url, self._storage, self._room = storage.url, storage, room
        self.read, self.open, self.list, self.put = storage.read, storage.open, storage.list, storage.put

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        if name.startswith("results/") and name.endswith(".jsonl"):
            self._room -= 1
            if self._room < 0:
                raise Unavailable("no room on the disk")
        self._storage.put_if_absent(name, data, content_type=content_type)


# --- money -------------------------------------------------------------------------------------------------------


def test_the_cap_is_never_passed_though_nothing_can_be_read(bench: Bench) -> None:
    """Every answer is lost: one batch of attempts is all that the cap has room for, and the bill stays below it."""
    bench.service.fault("lost", method="generate", times=None)
    driver = at_once(bench)
    driver.draw()
    cap = high(driver)
    driver.run.record(Capped(cap=cap))
    with pytest.raises(Refused) as caught:
        driver.to_the_end()
    assert "the cap of" in caught.value.message
    assert calls(bench) == 6
    assert 0 < bench.bill() <= driver.run.state.committed <= cap


def test_a_cap_without_room_for_the_standard_price_sends_nothing(bench: Bench) -> None:
    """The price in batches would fit."""
    cap = survey(bench.job, base=bench.folder).price.high
    driver = at_once(bench, cap=cap * 6 // 5)
    with pytest.raises(Refused):
        driver.to_the_end()
    assert driver.run.state.committed <= cap * 6 // 5
    assert bench.bill() <= cap * 6 // 5


# --- the last few of a night -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "online"), [("2 rows", 1), ("$1", 1), ("2 rows, $0.001", 0), ("$0.001", 0)])
def test_a_small_tail_is_finished_at_once_where_the_job_says_so(bench: Bench, said: str, online: int) -> None:
    bench.job = msgspec.structs.replace(bench.job, night=Night(finish_online_below=said))
    bench.service.fault("no_image", prompt="Shoe 1 ", times=1)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert calls(bench) == online
    assert len(bench.service.ledger()["jobs"]) == 2 - online
    assert driver.run.state.spent == bench.bill()


def test_a_batch_that_stalled_can_be_finished_at_once(bench: Bench) -> None:
    night = Night(on_stall="online", stall_after="1 min")
    bench.job = msgspec.structs.replace(bench.job, night=night)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert driver.run.state.batches[-1].online
    assert calls(bench) == 6
    assert_covered(driver.run, bench)


def assert_covered(run: Run, bench: Bench) -> None:
    assert run.state.spent + run.state.unconfirmed >= bench.bill()


def test_a_tail_that_is_no_tail_is_refused_when_the_job_is_read() -> None:
    with pytest.raises(BadInput) as caught:
        job_for("shoes.csv", prompt="x", night={"finish_online_below": "a few"})
    assert "neither rows nor dollars" in caught.value.message
