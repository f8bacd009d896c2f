"""What a run has come to, from its records alone."""

from pipeline.events import Event, Recut, Stopped
from pipeline.run import Run, create_run
from pipeline.tally import tally
from tests import events as e
from tests.fakes import FakeClock, MemoryStorage


def run_of(*happened: Event, rows: int = 20, refused: int = 0) -> Run:
    run = create_run(MemoryStorage(), FakeClock(), e.created(rows=rows, refused=refused))
    for event in happened:
        run.record(event)
    return run


SENT = (e.drawn(0, 0, 10), e.planned(0), e.submitting(0), e.submitted(0, 3))


def test_what_is_planned_is_not_yet_sent() -> None:
    assert tally(run_of(*SENT[:2])).sent == 0
    assert tally(run_of(*SENT[:3])).sent == 0, "nobody knows yet whether Google has it"
    assert tally(run_of(*SENT)).sent == 10


def test_what_comes_back_is_counted_by_outcome() -> None:
    now = tally(run_of(*SENT, e.ended(0), e.collected(0, indexed=8, retry=2)))
    assert (now.answered, now.pictures, now.again, now.sent) == (8, 8, 2, 10)
    assert not now.finished


def test_a_request_is_counted_once_however_often_it_is_sent() -> None:
    """Two came back for another attempt: ten requests, ten pictures; the price said is that of the first order."""
    now = tally(
        run_of(
            *SENT,
            e.ended(0),
            e.collected(0, indexed=8, retry=2, spent=80),
            e.retries(1, 0),
            e.planned(1, requests=2, high=20),
            e.submitting(1, staged="files/2"),
            e.submitted(1, 9),
            e.ended(1),
            e.collected(1, indexed=2, spent=15),
            rows=10,
        )
    )
    assert (now.requests, now.sent, now.answered, now.pictures, now.again) == (10, 10, 10, 10, 0)
    assert (now.likely, now.spent) == (80, 95)
    assert now.finished
    assert now.causes == {"asked again": 15}


def test_rows_left_out_by_the_plan_are_no_requests_but_are_answered() -> None:
    left_out = (e.drawn(0, 0, 20, lane="final"), e.planned(0, requests=3, sends=False, high=0))
    settled = e.collected(0, indexed=3, spent=0)
    settled = type(settled)(
        **{name: getattr(settled, name) for name in settled.__struct_fields__}
        | {"outcomes": {"refused_by_plan": 3}}
    )
    now = tally(run_of(*left_out, settled, refused=3))
    assert (now.refused, now.answered, now.pictures, now.without) == (3, 3, 0, 3)
    assert now.total == 23


def test_the_difference_between_said_and_took_is_told_by_cause_and_adds_up() -> None:
    now = tally(
        run_of(
            *SENT,
            e.ended(0),
            e.collected(0, spent=60, unconfirmed=7),
            e.drawn(1, 10, 20),
            e.planned(1),
            Stopped(why="asked"),
            e.collected(1, spent=0),
        )
    )
    assert now.causes == {"not sent": -80, "other tokens than expected": -20, "cannot be read": 7}
    assert sum(now.causes.values()) == now.spent + now.unconfirmed - now.likely


def test_what_there_was_no_time_to_ask_is_asked_for_the_first_time_when_its_turn_comes() -> None:
    """Of ten six are answered, one is lost in flight and three were never begun: one of the other four is a repeat."""
    now = tally(
        run_of(
            *SENT,
            e.ended(0),
            e.collected(0, indexed=6, retry=4, spent=48, unconfirmed=10, again={"missing": 1, "not_sent": 3}),
            *retried(1, 0, requests=4, staged="files/2"),
            e.collected(1, indexed=4, spent=32),
            rows=10,
        )
    )
    assert now.causes == {"cannot be read": 10, "asked again": 8, "other tokens than expected": -8}


def test_what_is_not_reached_twice_is_still_no_repeat() -> None:
    """The four are drawn again, and there is time for two: of the two that are left as many count as of the four."""
    now = tally(
        run_of(
            *SENT,
            e.ended(0),
            e.collected(0, indexed=6, retry=4, spent=48, again={"missing": 2, "not_sent": 2}),
            *retried(1, 0, requests=4, staged="files/2"),
            e.collected(1, indexed=2, retry=2, spent=16, again={"not_sent": 2}),
            *retried(2, 1, requests=2, staged="files/3"),
            e.collected(2, indexed=2, spent=16),
            rows=10,
        )
    )
    assert now.causes == {"asked again": 16, "other tokens than expected": -16}


def test_what_there_was_no_time_to_ask_before_a_stop_is_not_sent() -> None:
    now = tally(
        run_of(
            *SENT,
            e.ended(0),
            e.collected(0, indexed=6, retry=4, spent=48, again={"not_sent": 4}),
            e.retries(1, 0),
            e.planned(1, requests=4, high=32),
            Stopped(why="asked"),
            e.collected(1, indexed=4, spent=0),
            rows=10,
        )
    )
    assert now.causes == {"not sent": -32}


def retried(batch: int, before: int, *, requests: int, staged: str) -> tuple[Event, ...]:
    """What is left of a batch, at eight billionths each, asked in one of its own. Each batch has six records."""
    intent = 6 * batch + 3
    return (
        e.retries(batch, before),
        e.planned(batch, requests=requests, high=8 * requests),
        e.submitting(batch, staged=staged),
        e.submitted(batch, intent, ticket=f"batches/{staged}"),
        e.ended(batch),
    )


def test_an_answer_that_nobody_asked_for_is_a_cause_of_its_own() -> None:
    """Ten at eight each, and two of them twice."""
    now = tally(run_of(*SENT, e.ended(0), e.collected(0, spent=96, surplus=2, surplus_spent=16), rows=10))
    assert (now.surplus, now.causes) == (2, {"surplus answers": 16})


def test_a_batch_that_was_cut_counts_once() -> None:
    halves = [e.planned(1, requests=4, high=40), e.planned(2, requests=6, high=60)]
    now = tally(run_of(*SENT[:2], Recut(batch=0, at=4, why="too large"), *halves))
    assert (now.likely, now.batches) == (100, 3)
