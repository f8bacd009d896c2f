"""A long night: what a job says of its hours is done, once, and every request still ends in the index."""

from datetime import timedelta

import pytest

from pipeline import emulator
from pipeline.drive import Driver
from pipeline.errors import Refused
from pipeline.events import Cleared, Recut, Withdrawn
from pipeline.index import read_index
from pipeline.journal import Journal
from pipeline.night import clear, held_back, release, stop
from pipeline.run import Run, open_run
from pipeline.state import Stage
from pipeline.takes import draw, failed
from tests.bench import Bench, outcomes

HOUR = 3600


def sent(bench: Bench) -> Driver:
    """Everything of a run is at the provider."""
    driver = bench.begin()
    while driver.draw() or driver.submit():
        pass
    return driver


def said(run: Run, kind: type) -> list[object]:
    """What was recorded of this kind."""
    records = Journal(run.storage, run.clock, writer="").since(0)
    return [record.event for record in records if isinstance(record.event, kind)]


def hours(bench: Bench, driver: Driver) -> float:
    return (bench.clock.now() - driver.run.created_at) / timedelta(hours=1)


# --- the end is said ---------------------------------------------------------------------------------------------


def test_a_run_that_is_stopped_sends_nothing_more_and_has_every_request_in_its_index(bench: Bench) -> None:
    driver = bench.begin()
    while driver.draw():
        pass
    bench.service.fault("finishes_after_cancel", times=None)
    driver.submit()
    stop(driver.run, driver.backend, why="asked")
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}, "what the provider made all the same is kept"
    assert driver.run.state.spent == bench.bill()


def test_what_was_never_sent_is_not_sent_and_costs_nothing(bench: Bench) -> None:
    driver = bench.begin()
    assert driver.draw()
    stop(driver.run, driver.backend, why="asked")
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"not_sent": 6}
    assert (driver.run.state.committed, bench.paid()) == (0, {})


def test_what_waited_for_another_attempt_ends_as_it_was(bench: Bench) -> None:
    bench.service.fault("no_image", prompt="Shoe 0")
    driver = bench.begin()
    while not driver.run.state.retries:
        driver.step()
        bench.service.advance(60)
    stop(driver.run, driver.backend, why="asked")
    driver.to_the_end()
    index = read_index(driver.run)
    assert outcomes(index)["no_image"] == 1
    assert index.set_index("key")["usd"]["sku-0"] > 0, "the first attempt was billed"
    assert driver.run.state.spent == bench.bill()


def test_a_deadline_ends_a_run_with_what_there_is_by_then(bench: Bench) -> None:
    """The provider is asked to stop; what it had made comes home, and the rest says why it did not."""
    bench.make_job(night={"deadline": "5 h"})
    bench.service.fault("job_stalled", display_name="-00001-", seconds=30 * HOUR)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 4, "cancelled": 2}
    assert 5 <= hours(bench, driver) < 7
    assert driver.run.state.unconfirmed >= 0
    assert [event.why for event in said(driver.run, Withdrawn)] == ["deadline"]


def test_a_restart_cancels_what_was_given_up_and_not_cancelled(bench: Bench) -> None:
    """The record comes first: the machine may die before the call."""
    driver = sent(bench)
    stop(driver.run, driver.backend, why="asked")
    assert "cancel" not in [event["what"] for event in bench.service.events()]
    bench.again().to_the_end()
    assert "cancel" in [event["what"] for event in bench.service.events()]
    run = open_run(bench.place(), bench.clock)
    assert run.state.finished
    assert set(outcomes(read_index(run))) == {"cancelled"}


# --- a batch that does not move ----------------------------------------------------------------------------------


def test_a_stalled_batch_is_waited_for_unless_the_job_says_otherwise(bench: Bench) -> None:
    bench.service.fault("job_stalled", seconds=30 * HOUR, times=1)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert hours(bench, driver) > 30


def test_a_stalled_batch_is_sent_again_once_it_is_certainly_dead(bench: Bench) -> None:
    bench.make_job(night={"on_stall": "resubmit", "stall_after": "3 h"})
    bench.service.fault("job_stalled", display_name="-00001-", seconds=40 * HOUR)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert hours(bench, driver) < 8
    assert driver.run.state.spent == bench.bill()
    assert [(event.why, event.again) for event in said(driver.run, Withdrawn)] == [("stalled", True)]


def test_a_stalled_batch_can_be_given_up_for_good(bench: Bench) -> None:
    bench.make_job(night={"on_stall": "give_up", "stall_after": "3 h"})
    bench.service.fault("job_stalled", display_name="-00001-", seconds=40 * HOUR)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 4, "cancelled": 2}


def test_nothing_of_a_cancelled_batch_is_asked_again_before_late_results_had_their_hour(bench: Bench) -> None:
    """The provider says cancelled, finishes all the same, and bills it: nothing is bought twice."""
    bench.make_job(night={"on_stall": "resubmit", "stall_after": "3 h"})
    bench.service.fault("job_stalled", display_name="-00001-", state="RUNNING", seconds=3.5 * HOUR)
    bench.service.fault("finishes_after_cancel", display_name="-00001-")
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6}
    assert len(bench.paid()) == 3, "the late result filled every hole"
    assert driver.run.state.spent == bench.bill()


# --- the canary --------------------------------------------------------------------------------------------------


def test_a_few_go_first_and_the_rest_when_they_are_well(bench: Bench) -> None:
    bench.make_job(rows=8, max_requests=4, night={"canary": 2})
    driver = sent(bench)
    assert [batch.stage for batch in driver.run.state.batches] == [
        Stage.SUBMITTED,
        Stage.PLANNED,
        Stage.PLANNED,
    ]
    assert [b.planned.requests for b in driver.run.state.batches if b.planned] == [2, 4, 2]
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 8}


def test_follow_ups_and_edits_go_behind_the_canary_as_all_else(bench: Bench) -> None:
    """Two rows first. What comes after their pictures may go with the rest, and nothing before they are home."""
    shots = {
        "hero": {"prompt": "{{ title }}", "turns": ["by night"]},
        "poster": {"prompt": "a poster", "from": "/hero"},
    }
    bench.make_job(rows=4, max_requests=4, night={"canary": 2}, shots=shots)
    driver = bench.begin()
    driver.to_the_end()
    first, *rest = sorted(
        (batch.sent_at, batch.number) for batch in driver.run.state.batches if batch.sent_at is not None
    )
    canary = driver.run.state.batches[first[1]]
    assert canary is driver.run.state.canary("gemini-2.5-flash-image")
    assert canary.planned is not None
    assert canary.planned.requests == 2
    assert canary.ended is not None
    assert canary.ended.at is not None
    assert canary.ended.at <= rest[0][0]
    assert outcomes(read_index(driver.run)) == {"ok": 12}


def test_a_canary_that_comes_back_wrong_keeps_the_rest_from_being_bought(bench: Bench) -> None:
    bench.make_job(rows=8, max_requests=4, night={"canary": 2})
    bench.service.fault("wrong_size", display_name="-00000-", times=None)
    driver = bench.begin()
    with pytest.raises(Refused, match="0 of 2 pictures as asked; 2 wrong_size; nothing else was sent"):
        driver.to_the_end()
    assert len(bench.paid()) == 1
    driver = bench.again()
    clear(driver.run)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 6, "wrong_size": 2}


@pytest.mark.parametrize(
    ("fault", "which", "commands"),
    [
        ("wrong_size", "Shoe", "nightshoot index run shows them; correct"),
        ("text_only", "Shoe", "nightshoot index run --again shows them; correct"),
        ("text_only", "Shoe 1", "nightshoot index run and nightshoot index run --again show them; correct"),
    ],
)
def test_where_a_canary_came_back_wrong_the_command_that_shows_it_is_named(
    bench: Bench, fault: str, which: str, commands: str
) -> None:
    """Its rows are final, or wait to be asked again, or some are this and some that."""
    bench.make_job(rows=40, max_requests=20, night={"canary": 20})
    bench.service.fault(fault, prompt=which)
    with pytest.raises(Refused, match="nothing else was sent") as refused:
        bench.begin().to_the_end()
    assert refused.value.hint is not None
    assert refused.value.hint.startswith(commands)


def test_a_canary_that_takes_too_long_keeps_nobody_waiting(bench: Bench) -> None:
    bench.make_job(rows=8, max_requests=4, night={"canary": 2, "canary_wait": "2 h"})
    bench.service.fault("job_stalled", display_name="-00000-", seconds=20 * HOUR)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 8}
    assert [event.why for event in said(driver.run, Cleared)] == ["late"]
    sent_at = [b.submitting.until for b in driver.run.state.batches if b.submitting]
    assert timedelta(hours=2) <= sent_at[1] - sent_at[0] < timedelta(hours=3)


def test_a_job_may_hold_the_rest_for_as_long_as_its_canary_takes(bench: Bench) -> None:
    bench.make_job(rows=8, max_requests=4, night={"canary": 2, "on_late_canary": "hold"})
    bench.service.fault("job_stalled", display_name="-00000-", seconds=20 * HOUR)
    driver = bench.begin()
    driver.to_the_end()
    assert said(driver.run, Cleared) == []
    sent_at = [b.submitting.until for b in driver.run.state.batches if b.submitting]
    assert sent_at[1] - sent_at[0] > timedelta(hours=20)


# --- what came to nothing ----------------------------------------------------------------------------------------


def test_much_that_came_to_nothing_for_one_reason_waits_for_a_person(bench: Bench) -> None:
    """Half of a batch for one reason: the prompt is at fault, and to ask all that again is money."""
    bench.make_job(rows=20, max_requests=20)
    bench.service.fault("no_image", prompt="Shoe 1", times=1)
    driver = bench.begin()
    with pytest.raises(
        Refused, match="11 of 20 requests of batch 0 came to nothing for one reason: no_image"
    ):
        driver.to_the_end()
    assert len(bench.paid()) == 1
    held = held_back(driver.run)
    assert held.came == {"no_image": 11}
    assert held.high == pytest.approx(driver.run.state.batches[0].high * 11 / 20, rel=0.01)
    assert not held_back(driver.run, ["text_only"]).batches
    assert release(driver.run, held)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 20}
    assert driver.run.state.spent == bench.bill()


def test_an_outcome_may_have_attempts_of_its_own(bench: Bench) -> None:
    bench.make_job(again={"no_image": 4, "wrong_size": 2, "error": 1})
    for key, fault, times in ((0, "no_image", 3), (1, "wrong_size", 1), (2, "row_error", 1)):
        bench.service.fault(fault, prompt=f"Shoe {key} ", times=times)
    index = bench.run().set_index("key")
    assert list(index.loc[["sku-0", "sku-1", "sku-2"], "attempt"]) == [4, 2, 1]
    assert list(index.loc[["sku-0", "sku-1", "sku-2"], "outcome"]) == ["ok", "ok", "error"]


def test_a_further_take_is_a_request_of_its_own_and_the_latest_counts(bench: Bench) -> None:
    bench.service.fault("image_safety", prompt="Shoe 1 ", times=1)
    driver = bench.begin()
    driver.to_the_end()
    run = driver.run
    assert outcomes(read_index(run)) == {"ok": 5, "blocked": 1}
    assert failed(run) == [], "who wants what was blocked has to say so"
    those = failed(run, ["blocked"])
    assert draw(run, those) == 1
    assert draw(run, those) == 0, "once"
    driver.to_the_end()
    assert outcomes(read_index(run)) == {"ok": 6}
    everything = read_index(run, takes="all")
    assert outcomes(everything) == {"ok": 6, "blocked": 1}
    assert sorted(everything[everything["key"] == "sku-1"]["take"]) == [1, 2]
    assert run.state.spent == bench.bill()


# --- a queue that is too small -----------------------------------------------------------------------------------


def test_a_batch_that_no_queue_takes_is_cut_until_it_fits(bench: Bench) -> None:
    """The job says tier 3, and the account is of tier 1: it refuses the batch though nothing of ours is there."""
    (bench.folder / "table.toml").write_text(
        '[models."gemini-2.5-flash-image"]\nenqueued_tokens = [4000, 100000, 100000]\n'
    )
    bench.make_job(max_requests=6, tier=3, models="table.toml")
    with emulator.start(queue=(5, 30), run=(10, 60), quota={"gemini-2.5-flash-image": 40}) as small:
        narrow = Bench(small, bench.folder)
        narrow.job = bench.job
        driver = narrow.begin()
        driver.to_the_end()
        assert outcomes(read_index(driver.run)) == {"ok": 6}
        assert [event.at for event in said(driver.run, Recut)][:1] == [3]
        assert set(narrow.paid().values()) == {1}
        assert driver.run.state.spent == narrow.bill()


def test_a_batch_that_fits_waits_for_its_turn_and_is_never_cut(bench: Bench) -> None:
    """Others' jobs fill the queue: that passes."""
    with emulator.start(queue=(5, 30), run=(10, 60), quota={"gemini-2.5-flash-image": 40}) as full:
        narrow = Bench(full, bench.folder)
        narrow.job = bench.make_job(max_requests=6)
        driver = sent(narrow)
        for _ in range(12):
            driver.step()
            full.advance(HOUR)
        assert said(driver.run, Recut) == []
        assert driver.run.state.batches[0].put_backs > 4


def test_no_more_is_sent_than_the_queue_of_the_tier_takes(bench: Bench) -> None:
    """The provider is not asked for what it would refuse: there are as many create calls as batches."""
    (bench.folder / "table.toml").write_text(
        '[models."gemini-2.5-flash-image"]\nenqueued_tokens = [3000, 100000, 100000]\n'
    )
    bench.make_job(rows=8, max_requests=1, models="table.toml")
    driver = sent(bench)
    there = len(driver.run.state.at(Stage.SUBMITTED))
    assert 1 < there < 8
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 8}
    assert [event["what"] for event in bench.service.events()].count("create") == 8


def test_how_much_is_sent_at_once_can_be_said(bench: Bench) -> None:
    bench.make_job(rows=8, max_requests=1)
    for name, most, there in (("in_flight", 3, 3), ("queue_tokens", 3000, 2), ("stored_bytes", 900, 4)):
        bench.job = bench.make_job(rows=8, batches={"max_requests": 1, name: most})
        driver = bench.begin(storage=bench.place(name))
        while driver.draw() or driver.submit():
            pass
        assert len(driver.run.state.at(Stage.SUBMITTED)) == there, name


def test_files_that_fill_the_store_keep_the_rest_waiting_until_they_are_gone(bench: Bench) -> None:
    """Nothing is removed by itself; who tidies up, or waits for two days, makes room."""
    bench.make_job(rows=8, batches={"max_requests": 1, "stored_bytes": 900})
    driver = bench.begin()
    for _ in range(20):
        driver.step()
        bench.service.advance(HOUR)
    assert len(bench.paid()) == 4
    for file in list(driver.backend.remote()):
        driver.backend.unstage(file.name)
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 8}
    assert hours(bench, driver) < 24
