"""Each batch is paid for once, whatever happens between the money and the record of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from google import genai

from pipeline import emulator
from pipeline.backends.base import Found
from pipeline.backends.developer import Developer, fingerprint
from pipeline.clock import EmulatorClock
from pipeline.drive import Driver
from pipeline.errors import BadInput, Denied, NightshootError, Refused
from pipeline.events import Capped, Drawn, Rows, Submitting
from pipeline.index import read_index
from pipeline.journal import Journal
from pipeline.run import Run, open_run, requests_file
from pipeline.state import GRACE, OverBudget, Stage
from pipeline.storage import Storage
from pipeline.submit import label_of, resolve, submit
from tests.bench import Bench, outcomes

HOUR = 3600


def planned(bench: Bench, **said: Any) -> Driver:
    """A run of six rows, all of it planned: three batches, and nothing sent."""
    driver = bench.begin(**said)
    while driver.draw():
        pass
    assert [batch.stage for batch in driver.run.state.batches] == [Stage.PLANNED] * 3
    return driver


def intents(run: Run) -> list[Submitting]:
    """All that were ever written, in order."""
    records = Journal(run.storage, run.clock, writer="").since(0)
    return [record.event for record in records if isinstance(record.event, Submitting)]


def assert_all_paid_once(bench: Bench, run: Run) -> None:
    run.catch_up()
    assert run.state.finished
    assert outcomes(read_index(run)) == {"ok": 6}
    assert set(bench.paid().values()) == {1}
    assert len(bench.paid()) == len(run.state.batches)
    assert run.state.spent == bench.bill()
    assert run.state.reserved == 0


def by_hand(bench: Bench) -> genai.Client:
    """Google's own client, as a person would use it who looks at the account."""
    return genai.Client(api_key=bench.key, http_options={"base_url": bench.service.url})


# --- no answer that tells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"kind": "lost"}, {"kind": "done_but_error", "code": 503}])
def test_a_job_whose_reply_was_lost_is_found_in_the_listing(bench: Bench, fault: dict[str, Any]) -> None:
    """It was accepted and is paid for: the run takes it as its own and does not send the batch again."""
    driver = planned(bench)
    bench.service.fault(**fault)
    driver.to_the_end()
    first = driver.run.state.batches[0]
    assert first.submitted is not None
    assert first.submitted.adopted
    assert first.replaced == 0
    assert_all_paid_once(bench, driver.run)


@pytest.mark.parametrize("code", [408, 409, 500, 502, 504])
def test_an_answer_that_does_not_tell_is_not_taken_for_a_no(bench: Bench, code: int) -> None:
    """Somebody in between gave up; the job is there all the same."""
    driver = planned(bench)
    bench.service.fault("done_but_error", code=code)
    driver.to_the_end()
    assert_all_paid_once(bench, driver.run)


def test_a_create_call_that_never_arrived_is_made_again_after_the_grace(bench: Bench) -> None:
    """Not before: until then it could still arrive. And from an input file of its own."""
    driver = planned(bench)
    bench.service.fault("unsent")
    driver.to_the_end()
    assert driver.run.state.batches[0].replaced == 1
    first, second = (intent for intent in intents(driver.run) if intent.batch == 0)
    assert second.seen is not None
    assert second.seen >= first.until + GRACE
    assert second.input != first.input
    assert_all_paid_once(bench, driver.run)


# --- a clear no -------------------------------------------------------------------------------------------------


def test_a_full_queue_is_no_failure(bench: Bench) -> None:
    """The batch is in line again and goes when the provider said; its rows have used up no attempt."""
    driver = planned(bench)
    bench.service.fault("refused", method="create", code=429, retry_after=1234)
    driver.to_the_end()
    first, second = (intent for intent in intents(driver.run) if intent.batch == 0)
    assert second.until - first.until >= timedelta(seconds=1234)
    assert set(read_index(driver.run)["attempt"]) == {1}
    assert_all_paid_once(bench, driver.run)


def test_more_batches_than_the_provider_takes_at_once_go_one_after_the_other(bench: Bench) -> None:
    """It says so with 429, again and again, and all get there."""
    with emulator.start(queue=(5, 30), run=(10, 60), jobs_limit=1) as service:
        narrow = Bench(service, bench.folder)
        driver = planned(narrow, storage=narrow.place("narrow"))
        driver.to_the_end()
        assert_all_paid_once(narrow, driver.run)


@pytest.mark.parametrize(("code", "kind"), [(400, BadInput), (403, Denied), (404, BadInput), (413, BadInput)])
def test_a_refusal_is_said_and_nothing_is_paid(bench: Bench, code: int, kind: type[NightshootError]) -> None:
    """In the provider's words; the batch stays in line, and goes once the cause is gone."""
    driver = planned(bench)
    bench.service.fault("refused", method="create", code=code, message="Billing is not on.", times=None)
    with pytest.raises(kind, match="Billing is not on"):
        driver.to_the_end()
    assert bench.paid() == {}
    assert driver.run.state.committed == 0
    assert [batch.stage for batch in driver.run.state.batches] == [Stage.PLANNED] * 3
    bench.service.clear_faults()
    driver = bench.again()
    driver.to_the_end()
    assert_all_paid_once(bench, driver.run)


def test_what_was_sent_before_a_refusal_is_brought_home_first(bench: Bench) -> None:
    """It is paid for. Only then is the refusal said."""
    driver = planned(bench)
    bench.service.fault("refused", display_name="-00001-", method="create", code=400, times=None)
    with pytest.raises(BadInput):
        driver.to_the_end()
    stages = [batch.stage for batch in driver.run.state.batches]
    assert stages == [Stage.COLLECTED, Stage.PLANNED, Stage.PLANNED]


# --- a listing that cannot be trusted ---------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [300, HOUR // 2])
def test_a_lagging_listing_is_no_evidence(bench: Bench, lag: float) -> None:
    """It does not show the batch before either, so it is waited for; half an hour is longer than the grace."""
    driver = planned(bench)
    bench.service.fault("list_lags", seconds=lag)
    bench.service.fault("lost", display_name="-00001-")
    driver.to_the_end()
    assert driver.run.state.batches[1].replaced == 0
    assert_all_paid_once(bench, driver.run)


@pytest.mark.parametrize(
    ("lost", "fault"),
    [
        ("-00001-", {"kind": "list_empty"}),
        ("-00000-", {"kind": "list_truncated", "size": 1}),
        ("-00001-", {"kind": "list_truncated", "size": 1}),
        ("-00001-", {"kind": "refused", "method": "list", "code": 503, "times": 10_000}),
    ],
)
def test_a_listing_that_hides_what_it_must_show_sends_nothing(
    bench: Bench, lost: str, fault: dict[str, Any]
) -> None:
    """Neither empty nor cut short is it evidence: the batch is held, not paid twice; and found when it shows."""
    driver = planned(bench)
    bench.service.fault("lost", display_name=lost)
    driver.submit()
    bench.service.fault(**fault)
    for _ in range(60):
        bench.service.advance(120)
        driver.step()
    number = int(lost.strip("-"))
    held = driver.run.state.batches[number]
    assert held.stage is Stage.HELD
    if held.stage is Stage.HELD:
        with pytest.raises(
            Refused, match=f"batch {number} is held: the provider's listing cannot be trusted"
        ):
            driver.to_the_end()
    assert held.replaced == 0
    bench.service.clear_faults()
    driver = bench.again()
    driver.to_the_end()
    assert_all_paid_once(bench, driver.run)


class Broken:
    """A backend whose listing breaks off right before the job in question."""

    def __init__(self, backend: Developer) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def find(self, label: str) -> Found:
        return replace(self._backend.find(label), candidates=(), complete=False)


def test_a_listing_that_breaks_off_is_no_evidence(bench: Bench) -> None:
    """Though it shows all that it must: the next page could have shown the job."""
    driver = planned(bench)
    bench.service.fault("lost", display_name="-00001-")
    driver.submit()
    bench.service.advance(HOUR // 2)
    assert not resolve(driver.run, Broken(bench.backend()), 1)
    assert driver.run.state.batches[1].stage is Stage.SUBMITTING
    driver.to_the_end()
    assert_all_paid_once(bench, driver.run)


class Robbed(Broken):
    """A backend whose input file goes between the intent and the create call, once: another driver removed it."""

    robbed = False

    def find(self, label: str) -> Found:
        return self._backend.find(label)

    def submit(self, label: str, model: str, staged: str) -> str:
        if not self.robbed:
            self.robbed = True
            self._backend.unstage(staged)
        return self._backend.submit(label, model, staged)


def test_an_input_file_that_another_driver_removed_is_staged_again(bench: Bench) -> None:
    planned(bench)
    driver = Driver(bench.again().run, Robbed(bench.backend()))
    driver.to_the_end()
    assert len(intents(driver.run)) == 4
    assert_all_paid_once(bench, driver.run)


@pytest.mark.parametrize(
    "lie",
    [
        {"kind": "list_empty"},
        {"kind": "list_truncated", "size": 1},
        {"kind": "list_lags", "seconds": 9 * HOUR},
    ],
)
def test_a_listing_that_hides_the_very_first_job_is_found_out_by_those_after_it(
    bench: Bench, lie: dict[str, Any]
) -> None:
    """Nothing is known that it had to show, until the others are sent: they go first."""
    bench.service.fault("lost", display_name="-00000-")
    driver = bench.begin()
    while not driver.run.state.at(Stage.SUBMITTING):
        driver.draw()
        driver.submit()
    bench.service.fault(**lie)
    bench.service.advance(20 * 60)
    driver = bench.again()
    for _ in range(12):
        driver.step()
        bench.service.advance(600)
    assert driver.run.state.batches[0].stage is Stage.HELD
    bench.service.clear_faults()
    driver.to_the_end()
    assert driver.run.state.batches[0].replaced == 0
    assert_all_paid_once(bench, driver.run)


def test_what_another_driver_is_about_to_plan_is_waited_for_too(bench: Bench) -> None:
    """A witness is there already, and a listing of one line shows it: what will be made later has to be shown too."""
    driver = bench.begin()
    driver.draw()
    driver.draw()
    run, lane = driver.run, bench.job.defaults.model
    assert lane is not None
    run.record(Drawn(batch=2, source=Rows(4, 6, lane)))  # and that driver is somewhere else
    bench.service.fault("lost", display_name="-00000-")
    for number in (0, 1):
        submit(run, bench.backend(), number)
    bench.service.fault("list_truncated", size=1)
    bench.service.advance(20 * 60)
    assert not resolve(run, bench.backend(), 0)
    assert len(intents(run)) == 2
    bench.service.clear_faults()
    driver.to_the_end()
    assert_all_paid_once(bench, run)


def test_a_listing_that_nothing_vouches_for_has_an_hour_to_tell_the_truth(bench: Bench) -> None:
    """The only job of a run was made and its reply lost, and the listing is half an hour behind."""
    bench.make_job(max_requests=6)
    bench.service.fault("lost")
    bench.service.fault("list_lags", seconds=1800)
    driver = bench.begin()
    driver.to_the_end()
    assert driver.run.state.batches[0].replaced == 0
    assert_all_paid_once(bench, driver.run)


def test_several_jobs_of_one_name_are_shown_to_a_person(bench: Bench) -> None:
    """Nothing is sent, nothing is guessed; when one is left, it is the one."""
    driver = planned(bench)
    bench.service.fault("lost", display_name="-00000-")
    driver.submit()
    batch, backend = driver.run.state.batches[0], bench.backend()
    assert batch.planned is not None
    staged = backend.stage("by hand", driver.run.storage.read(requests_file(0)).splitlines())
    second = backend.submit(label_of(driver.run, batch), batch.planned.model, staged)
    with pytest.raises(Refused, match="batch 0 is held: several remote jobs") as refused:
        driver.to_the_end()
    assert second in refused.value.message
    with by_hand(bench) as client:
        client.batches.delete(name=second)
    bench.again().to_the_end()
    run = open_run(bench.place(), bench.clock)
    assert run.state.batches[0].submitted is not None
    assert run.state.batches[0].submitted.ticket != second
    assert outcomes(read_index(run)) == {"ok": 6}


def test_another_key_s_intent_is_not_touched(bench: Bench) -> None:
    """Its jobs cannot be seen with this one, so nobody knows; the error names the key that is needed."""
    driver = planned(bench)
    bench.service.fault("lost", display_name="-00000-")
    driver.submit()
    other = bench.again(key="another-key-altogether")
    bench.service.advance(5 * HOUR)
    with pytest.raises(Denied, match=fingerprint(bench.key)):
        other.to_the_end()
    assert other.run.state.batches[0].stage is Stage.SUBMITTING
    driver.to_the_end()
    assert_all_paid_once(bench, driver.run)


# --- two drivers ------------------------------------------------------------------------------------------------


class Interrupted:
    """A backend whose create call is slow: something else happens right before or right after it, once."""

    def __init__(self, backend: Developer, *, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._backend, self._before, self._after = backend, before, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def submit(self, label: str, model: str, staged: str) -> str:
        before, self._before = self._before, _nothing
        before()
        ticket = self._backend.submit(label, model, staged)
        after, self._after = self._after, _nothing
        after()
        return ticket


def _nothing() -> None:
    pass


def interrupted(
    bench: Bench, *, before: Callable[[], None] = _nothing, after: Callable[[], None] = _nothing
) -> Driver:
    driver = planned(bench)
    return Driver(driver.run, Interrupted(bench.backend(), before=before, after=after))


def test_who_was_taken_over_before_its_call_arrived_is_refused_by_the_provider(bench: Bench) -> None:
    """The fence: its input file is gone. That is no error of the user's, and it goes on."""

    def others_do_it_all() -> None:
        bench.service.advance(20 * 60)
        bench.again().to_the_end()

    driver = interrupted(bench, before=others_do_it_all)
    driver.to_the_end()
    assert driver.run.state.batches[0].replaced == 1
    assert_all_paid_once(bench, driver.run)


def test_who_finds_its_own_job_adopted_leaves_it_alone(bench: Bench) -> None:
    """Another driver saw it in the listing before its author could write the ticket down. It is the same job."""

    def another_finds_it() -> None:
        bench.service.advance(61)
        other.run.catch_up()
        assert resolve(other.run, bench.backend(), 0)

    driver = interrupted(bench, after=another_finds_it)
    other = bench.again()
    driver.to_the_end()
    submitted = driver.run.state.batches[0].submitted
    assert submitted is not None
    assert submitted.adopted
    assert_all_paid_once(bench, driver.run)


def test_who_was_taken_over_for_all_that_cancels_its_own_job(bench: Bench) -> None:
    """What stays open at the provider: a first job that an empty listing hides. Its author undoes it on return."""

    def another_is_misled() -> None:
        bench.service.fault("list_lags", seconds=100 * HOUR)
        bench.service.advance(2 * HOUR)  # for so long it would be known to lie by what is sent meanwhile
        other.run.catch_up()
        assert resolve(other.run, bench.backend(), 0)

    # A job that takes its time is still there to be cancelled.
    bench.service.fault("job_stalled", display_name="-00000-", seconds=9 * HOUR)
    driver = interrupted(bench, after=another_is_misled)
    other = bench.again()
    driver.submit()
    bench.service.clear_faults()
    driver.to_the_end()
    jobs = [job for job in bench.service.ledger()["jobs"] if "-00000-" in job["displayName"]]
    assert sorted(job["state"] for job in jobs) == ["CANCELLED", "SUCCEEDED"]
    assert driver.run.state.spent == bench.bill()


class Slow:
    """A storage on which something happens whenever an intent has been written."""

    def __init__(self, storage: Storage, then: Callable[[], object]) -> None:
        self._storage, self._then = storage, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        self._storage.put_if_absent(name, data, content_type=content_type)
        if b'"submitting"' in data:
            then, self._then = self._then, _nothing
            then()


def test_an_author_who_comes_too_late_sends_nothing(bench: Bench) -> None:
    """Its machine slept between intent and call: it puts the batch back, and a fresh intent sends it."""
    slow = Slow(bench.place(), then=lambda: bench.service.advance(70))
    driver = planned(bench, storage=slow)
    driver.to_the_end()
    first = driver.run.state.batches[0]
    assert first.put_back is not None
    assert first.put_back.why == "too slow"
    assert first.replaced == 0
    assert_all_paid_once(bench, driver.run)


def test_two_drivers_stay_under_one_cap(bench: Bench) -> None:
    """Who reserves second is told, on the truth that the first made; nothing is sent, and its upload is gone."""
    probe = planned(bench, storage=bench.place("probe"))
    high = probe.run.state.batches[0].high
    first = planned(bench, cap=high * 3 // 2)
    second = bench.again()
    assert submit(first.run, bench.backend(), 0)
    with pytest.raises(OverBudget):
        submit(second.run, bench.backend(), 1)
    assert second.run.state.committed == high
    assert len(bench.paid()) == 1
    with by_hand(bench) as client:
        assert len(list(client.files.list())) == 1


def test_a_cap_without_room_is_said_with_what_is_left_and_raising_it_goes_on(bench: Bench) -> None:
    probe = planned(bench, storage=bench.place("probe"))
    high = probe.run.state.batches[0].high
    driver = planned(bench, cap=high * 3 // 2)
    with pytest.raises(Refused, match=r"the cap of \$0\.\d+ has no room .* 4 requests are left"):
        driver.to_the_end()
    assert driver.run.state.committed <= high * 3 // 2
    assert [batch.stage for batch in driver.run.state.batches] == [Stage.COLLECTED] + [Stage.PLANNED] * 2
    driver.run.record(Capped(cap=high * 4))
    driver.to_the_end()
    assert_all_paid_once(bench, driver.run)


@pytest.mark.parametrize("minutes", [-90, -15, 15, 90])
def test_a_wrong_clock_on_one_machine_pays_nothing_twice(bench: Bench, minutes: int) -> None:
    """The first create's reply is lost and the listing lags: only the provider's own time may say when it is over."""

    class Wrong(EmulatorClock):
        def now(self) -> datetime:
            return super().now() + timedelta(minutes=minutes)

        def sleep(self, seconds: float) -> None:
            bench.service.advance(seconds)

        def sleep_until(self, moment: datetime) -> None:
            self.sleep(max(0.0, (moment - self.now()).total_seconds()))

    driver = planned(bench)
    clock = Wrong(bench.service.url)
    run = open_run(driver.run.storage, clock)
    bench.service.fault("lost")
    bench.service.fault("list_lags", seconds=90)
    Driver(run, Developer(key=bench.key, service=bench.service.url, clock=clock)).to_the_end()
    assert_all_paid_once(bench, driver.run)


def test_a_full_queue_is_asked_ever_more_seldom_and_for_all_batches_at_once(bench: Bench) -> None:
    """A night of 429 must fill neither the journal nor the line: a dozen tries, not thousands."""
    driver = planned(bench)
    start = bench.service.clock()
    bench.service.fault("refused", method="create", code=429, retry_after=0, times=12)
    driver.to_the_end()
    assert len(intents(driver.run)) == 12 + 3
    assert bench.service.clock() - start > timedelta(hours=1)
    assert_all_paid_once(bench, driver.run)


def test_a_held_batch_goes_on_when_it_is_certain_that_nothing_was_bought(bench: Bench) -> None:
    """The listing was down for hours; when it is back it shows everything but this batch."""
    driver = planned(bench)
    bench.service.fault("unsent", method="create", times=1)
    driver.submit()
    bench.service.fault("refused", method="list", code=503, times=10_000)
    for _ in range(40):
        bench.service.advance(300)
        driver.step()
    assert driver.run.state.batches[0].stage is Stage.HELD
    bench.service.clear_faults()
    driver.to_the_end()
    assert driver.run.state.batches[0].replaced == 1
    assert_all_paid_once(bench, driver.run)
