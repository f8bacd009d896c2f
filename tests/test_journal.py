"""Numbered records, whoever writes them and whatever happens to the writer."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.clock import Clock
from pipeline.errors import BadInput, Corrupt, Unavailable
from pipeline.events import Event
from pipeline.journal import Journal, Taken, record_name
from pipeline.run import Run, create_run, open_run
from pipeline.state import GRACE, Batch, Illegal, Stage, State
from tests import events as e
from tests.fakes import Crash, FakeClock, MemoryStorage, Moody


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


def test_what_is_appended_is_read_in_order(storage: MemoryStorage, clock: Clock) -> None:
    journal = Journal(storage, clock, writer="a")
    for number in range(30):
        journal.append(number, e.drawn(number, 0, 1))
    assert [record.number for record in journal.since(0)] == list(range(30))
    assert [record.number for record in journal.since(28)] == [28, 29]


def test_opening_a_run_costs_one_listing(storage: MemoryStorage, clock: Clock) -> None:
    run = create_run(storage, clock, e.created())
    run.record(e.drawn(0, 0, 10))
    storage.listings = 0
    open_run(storage, clock)
    assert storage.listings == 1


def test_a_number_is_written_once(storage: MemoryStorage, clock: Clock) -> None:
    Journal(storage, clock, writer="a").append(0, e.created())
    with pytest.raises(Taken):
        Journal(storage, clock, writer="b").append(0, e.created())


def test_who_lost_a_race_reads_what_happened_and_goes_on(storage: MemoryStorage, clock: Clock) -> None:
    first = create_run(storage, clock, e.created())
    second = open_run(storage, clock)
    first.record(e.drawn(0, 0, 10))
    with pytest.raises(Illegal):
        second.record(e.drawn(0, 0, 10))  # it knows of no batch 0, loses the race, and then sees one
    second.record(e.drawn(1, 10, 20))
    first.catch_up()
    assert first.state == second.state
    assert second.lost_races == 1


def test_of_two_who_begin_the_same_run_one_is_told_to_join(storage: MemoryStorage, clock: Clock) -> None:
    create_run(storage, clock, e.created())
    with pytest.raises(Unavailable, match="somebody else began this run"):
        create_run(storage, clock, e.created(rows=7))


def test_a_listing_that_hides_a_record_is_no_reason_to_try_for_ever(
    storage: MemoryStorage, clock: Clock
) -> None:
    class Forgetful(MemoryStorage):
        """Keeps what is put, and lists nothing new: what a Storage must not be."""

        def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
            return iter([name for name in super().list(prefix, after=after) if name < record_name(1)])

    broken = Forgetful()
    run = create_run(broken, clock, e.created())
    broken.files[record_name(1)] = b"somebody else's"
    with pytest.raises(Corrupt, match="the listing does not show it"):
        run.record(e.drawn(0, 0, 10))


def test_a_missing_record_is_named(storage: MemoryStorage, clock: Clock) -> None:
    run = create_run(storage, clock, e.created())
    run.record(e.drawn(0, 0, 10))
    run.record(e.planned(0))
    del storage.files[record_name(1)]
    with pytest.raises(Corrupt, match=r"00000001\.json is missing"):
        open_run(storage, clock)


def test_a_record_that_cannot_have_happened_is_corrupt(storage: MemoryStorage, clock: Clock) -> None:
    create_run(storage, clock, e.created())
    Journal(storage, clock, writer="x").append(1, e.submitted(7, 1))
    with pytest.raises(Corrupt, match="cannot have happened"):
        open_run(storage, clock)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            b'"kind":"created","format":1',
            b'"kind":"created","format":2',
            "format 2; this version knows format 1",
        ),
        (b'"kind":"created"', b'"kind":"teleported"', "'teleported'"),
        (b'"attempts":2', b'"attempts":2,"mood":"good"', "mood"),
    ],
    ids=["newer format", "unknown kind", "unknown field"],
)
def test_what_a_later_version_wrote_stops_with_a_clear_error(
    storage: MemoryStorage, clock: Clock, old: bytes, new: bytes, says: str
) -> None:
    create_run(storage, clock, e.created())
    name = record_name(0)
    assert old in storage.files[name]
    storage.files[name] = storage.files[name].replace(old, new, 1)
    with pytest.raises(BadInput, match=says) as error:
        open_run(storage, clock)
    assert error.value.hint is not None
    assert "update" in error.value.hint


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b'{"number": 1, "event": {"kind": "dr'])
def test_a_record_that_was_cut_is_corrupt(storage: MemoryStorage, clock: Clock, data: bytes) -> None:
    create_run(storage, clock, e.created())
    storage.files[record_name(1)] = data
    with pytest.raises(Corrupt, match=r"00000001\.json is no record"):
        open_run(storage, clock)


def test_a_record_from_before_its_kind_had_a_field_says_what_that_is_where_nothing_is_said(
    storage: MemoryStorage, clock: Clock
) -> None:
    """Books were closed before what surplus answers cost was in them apart."""
    run = create_run(storage, clock, e.created())
    for event in (e.drawn(0, 0, 10), e.planned(0), e.submitting(0), e.submitted(0, 3), e.ended(0)):
        run.record(event)
    name = record_name(run.record(e.collected(0)).number)
    new = storage.files[name]
    storage.files[name] = new.replace(b'"surplus_spent":0,', b"")
    assert storage.files[name] != new
    (batch,) = open_run(storage, clock).state.batches
    assert batch.collected == e.collected(0)


def test_a_folder_without_a_run_says_so(storage: MemoryStorage, clock: Clock) -> None:
    with pytest.raises(BadInput, match="no run here"):
        open_run(storage, clock)


def test_checkpoints_of_later_versions_are_stepped_over(storage: MemoryStorage, clock: Clock) -> None:
    create_run(storage, clock, e.created())
    storage.put("journal/checkpoint-00000000.json", b"{}")
    assert open_run(storage, clock).state.next == 1


# Several drivers at once, any of which may lag, lose a reply or die between any two writes.


def next_events(state: State) -> list[Event]:
    """What a driver with this view might try: mostly sensible, sometimes not."""
    if state.created is None:
        return [e.created(rows=12, cap=250)]
    tries: list[Event] = []
    number, start = len(state.batches), next(iter(state.drawn.values()))
    tries += [e.drawn(number, start, min(start + 5, 12)), e.drawn(number + 1, 0, 3)]
    tries += [e.retries(number, *state.retries)]
    for batch in state.batches:
        tries += _batch_events(batch)
    return tries


def _batch_events(batch: Batch) -> list[Event]:
    n, intent = batch.number, batch.intent or 0
    late = e.NOW + timedelta(seconds=60) + GRACE
    match batch.stage:
        case Stage.DRAWN:
            return [e.planned(n), e.submitting(n)]
        case Stage.PLANNED:
            return [e.submitting(n, staged=f"files/{n}"), e.collected(n)]
        case Stage.SUBMITTING:
            taken = e.submitting(n, staged=f"files/{n}-{intent}", replaces=intent, seen=late)
            return [e.submitted(n, intent), e.put_back(n, intent), e.held(n, intent), taken]
        case Stage.SUBMITTED | Stage.HELD:
            return [e.ended(n), e.submitted(n, intent, adopted=True)]
        case Stage.ENDED:
            return [e.collected(n), e.collected(n, indexed=7, retry=3), e.collected(n, indexed=9)]
        case Stage.COLLECTED:
            return [e.ended(n), e.collected(n)]


MOODS = ("fine", "fine", "fine", "fine", "crash before", "crash after", "lost reply")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_interleaving_of_drivers_keeps_one_history(data: st.DataObject) -> None:
    """No gap, no duplicate, and whoever catches up sees what a fresh reader sees."""
    storage, clock = MemoryStorage(), FakeClock()
    moody = Moody(storage)
    drivers = [Run(moody, clock) for _ in range(3)]
    recorded: list[Event] = []
    for _ in range(data.draw(st.integers(1, 25), label="steps")):
        who = data.draw(st.integers(0, 2), label="driver")
        event = data.draw(st.sampled_from(next_events(drivers[who].state)), label="event")
        moody.mood = data.draw(st.sampled_from(MOODS), label="mood")
        before = len(storage.files)
        try:
            drivers[who].record(event)
        except Illegal:
            pass
        except Unavailable:
            drivers[who].catch_up()
        except Crash:
            drivers[who] = Run(moody, clock)  # the process is gone; another one starts knowing nothing
        moody.mood = "fine"
        assert len(storage.files) - before in (0, 1), "one event, one record"
        if len(storage.files) > before:
            recorded.append(event)
    fresh = Run(storage, clock)
    fresh.catch_up()
    assert [record.event for record in Journal(storage, clock, writer="x").since(0)] == recorded
    assert list(storage.files) == [record_name(number) for number in range(len(recorded))]
    for driver in drivers:
        driver.catch_up()
        assert driver.state == fresh.state
    assert fresh.state.cap is None or fresh.state.reserved + fresh.state.spent <= fresh.state.cap


def test_no_order_of_two_drivers_reserves_more_than_the_cap(storage: MemoryStorage, clock: Clock) -> None:
    """Each driver, by its own stale view, has room for its batch; together they have not."""
    one = create_run(storage, clock, e.created(rows=20, cap=150))
    for number in (0, 1):
        one.record(e.drawn(number, 10 * number, 10 * number + 10))
        one.record(e.planned(number))
    two = open_run(storage, clock)
    one.record(e.submitting(0))
    with pytest.raises(Illegal, match="may cost"):
        two.record(e.submitting(1))
    assert two.state.reserved == 100
