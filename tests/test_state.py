"""The gate and the fold: what may happen when, and what it comes to."""

from collections.abc import Iterable
from datetime import timedelta

import msgspec
import pytest

from pipeline.events import (
    Capped,
    Cleared,
    Cut,
    Disowned,
    Drawn,
    Event,
    Record,
    Recut,
    Released,
    Stopped,
    Swept,
    Takes,
    Withdrawn,
)
from pipeline.fold import apply
from pipeline.state import GRACE, Illegal, OverBudget, Stage, State
from tests import events as e


def after(*happened: Event) -> State:
    state = State()
    happen(state, happened)
    return state


def happen(state: State, events: Iterable[Event]) -> State:
    for event in events:
        apply(state, Record(number=state.next, at=e.NOW, writer="w", event=event))
    return state


def sent(*, cap: int | None = None) -> State:
    """One batch of ten requests is at the provider."""
    return after(
        e.created(rows=10, cap=cap), e.drawn(0, 0, 10), e.planned(0), e.submitting(0), e.submitted(0, 3)
    )


def refuses(state: State, event: Event) -> bool:
    """Whether it is illegal; and if so, that trying it changed nothing."""
    before = repr(state)
    try:
        happen(state, [event])
    except Illegal:
        assert repr(state) == before, "an illegal event left a trace"
        return True
    return False


def test_a_run_goes_from_drawn_to_finished() -> None:
    """The straight way: one batch, every request answered."""
    state = happen(sent(), [e.ended(0), e.collected(0)])
    assert state.finished
    assert (state.spent, state.reserved, state.committed) == (80, 0, 80)


def test_nothing_happens_before_a_run_is_created() -> None:
    assert refuses(State(), e.drawn(0, 0, 10))


def test_a_run_is_created_once() -> None:
    assert refuses(after(e.created()), e.created())


@pytest.mark.parametrize("span", [(1, 10), (0, 21), (0, 0), (5, 3)])
def test_rows_are_drawn_without_a_gap_and_none_twice(span: tuple[int, int]) -> None:
    assert refuses(after(e.created(rows=20)), e.drawn(0, *span))


def test_rows_already_drawn_are_not_drawn_again() -> None:
    assert refuses(after(e.created(rows=20), e.drawn(0, 0, 10)), e.drawn(1, 0, 10))


def test_lanes_advance_on_their_own() -> None:
    """Rows refused by the plan are drawn beside those to send; the run has drawn all when both are through."""
    state = after(e.created(rows=20, refused=3), e.drawn(0, 0, 20))
    assert not state.all_drawn
    happen(state, [e.drawn(1, 0, 20, lane="final")])
    assert state.all_drawn


def test_a_lane_without_requests_is_through_from_the_start() -> None:
    assert after(e.created(rows=20, refused=0), e.drawn(0, 0, 20)).all_drawn


def test_a_lane_nobody_planned_is_refused() -> None:
    assert refuses(after(e.created()), e.drawn(0, 0, 10, lane="gemini-3-pro-image"))


def test_a_batch_asks_the_model_it_was_drawn_for() -> None:
    assert refuses(after(e.created(), e.drawn(0, 0, 10)), e.planned(0, model="gemini-3-pro-image"))


def test_a_batch_is_planned_once() -> None:
    assert refuses(after(e.created(), e.drawn(0, 0, 10), e.planned(0)), e.planned(0))


def test_an_unplanned_batch_is_not_sent() -> None:
    assert refuses(after(e.created(), e.drawn(0, 0, 10)), e.submitting(0))


def test_what_the_plan_refused_is_never_sent_and_settles_without_a_ticket() -> None:
    state = after(
        e.created(rows=20, refused=10), e.drawn(0, 0, 20, lane="final"), e.planned(0, sends=False, high=0)
    )
    assert refuses(state, e.submitting(0))
    happen(state, [e.collected(0, spent=0)])
    assert state.batches[0].stage is Stage.COLLECTED


def test_a_planned_batch_is_not_settled_before_it_was_sent() -> None:
    assert refuses(after(e.created(), e.drawn(0, 0, 10), e.planned(0)), e.collected(0))


def submitting_since(until: timedelta = timedelta(seconds=60)) -> State:
    return after(e.created(), e.drawn(0, 0, 10), e.planned(0), e.submitting(0, until=e.NOW + until))


TAKE_OVER = {
    "staged": "files/2",
    "replaces": 3,
    "seen": e.NOW + timedelta(seconds=60) + GRACE,
}


def test_an_intent_is_taken_over_when_it_can_no_longer_arrive() -> None:
    state = happen(submitting_since(), [e.submitting(0, **TAKE_OVER)])
    assert (state.batches[0].intent, state.batches[0].replaced, state.reserved) == (4, 1, 100)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seen": e.NOW + timedelta(seconds=59) + GRACE},
        {"seen": None},
        {"replaces": None},
        {"replaces": 2},
        {"account": "developer:bb:"},
        {"staged": "files/1"},
    ],
    ids=["too early", "no evidence", "no predecessor", "another intent", "another account", "the same input"],
)
def test_a_take_over_needs_all_of_its_conditions(wrong: dict[str, object]) -> None:
    assert refuses(submitting_since(), e.submitting(0, **{**TAKE_OVER, **wrong}))  # type: ignore[arg-type]


def test_an_author_who_was_replaced_can_neither_submit_nor_put_back() -> None:
    state = happen(submitting_since(), [e.submitting(0, **TAKE_OVER)])
    assert refuses(state, e.submitted(0, 3))
    assert refuses(state, e.put_back(0, 3))
    assert not refuses(state, e.submitted(0, 4))


def test_a_refused_create_frees_its_reservation() -> None:
    state = happen(submitting_since(), [e.put_back(0, 3)])
    assert (state.batches[0].stage, state.reserved) == (Stage.PLANNED, 0)


def test_a_held_batch_goes_on_only_when_it_is_found_or_with_all_that_a_take_over_needs() -> None:
    state = happen(submitting_since(), [e.held(0, 3)])
    assert refuses(state, e.submitting(0, **{**TAKE_OVER, "seen": None}))
    assert not refuses(happen(submitting_since(), [e.held(0, 3)]), e.submitting(0, **TAKE_OVER))
    assert refuses(state, e.submitted(0, 3))
    assert not refuses(state, e.submitted(0, 3, adopted=True))


def test_a_batch_ends_once() -> None:
    assert refuses(happen(sent(), [e.ended(0)]), e.ended(0))


@pytest.mark.parametrize(("indexed", "retry"), [(9, 0), (10, 1), (11, 0)])
def test_books_that_do_not_balance_are_refused(indexed: int, retry: int) -> None:
    assert refuses(happen(sent(), [e.ended(0)]), e.collected(0, indexed=indexed, retry=retry))


def test_a_cap_is_reserved_before_anything_is_sent() -> None:
    """Two batches of up to 100 each do not both fit under 150, however many drivers try."""
    state = after(
        e.created(rows=20, cap=150), e.drawn(0, 0, 10), e.planned(0), e.drawn(1, 10, 20), e.planned(1)
    )
    happen(state, [e.submitting(0)])
    with pytest.raises(OverBudget):
        happen(state, [e.submitting(1)])


def test_a_settled_batch_gives_back_what_it_did_not_cost() -> None:
    state = happen(sent(cap=150), [e.ended(0), e.collected(0, spent=40)])
    assert (state.committed, state.overrun) == (40, 0)


def test_what_cannot_be_read_counts_as_spent() -> None:
    state = happen(sent(cap=150), [e.ended(0), e.collected(0, spent=0, unconfirmed=100)])
    assert state.committed == 100


def test_what_is_billed_beyond_the_order_is_named_and_lowers_what_may_be_sent() -> None:
    state = happen(sent(cap=150), [e.ended(0), e.collected(0, spent=130)])
    assert (state.overrun, state.committed) == (30, 130)


def test_a_take_over_reserves_nothing_more() -> None:
    state = after(
        e.created(rows=10, cap=100),
        e.drawn(0, 0, 10),
        e.planned(0),
        e.submitting(0),
        e.submitting(0, **TAKE_OVER),
    )
    assert state.reserved == 100


def test_the_cap_may_be_raised_but_not_below_what_is_spent() -> None:
    state = sent(cap=150)
    assert refuses(state, Capped(cap=99))
    happen(state, [Capped(cap=100)])
    assert state.cap == 100


def test_a_job_nobody_owns_counts_as_spent_until_proven_otherwise() -> None:
    state = happen(sent(cap=300), [Disowned(batch=0, ticket="batches/other")])
    assert (state.unconfirmed, state.committed) == (100, 200)
    assert refuses(state, Disowned(batch=0, ticket="batches/1"))


def test_a_lane_is_planned_only_when_all_its_requests_are() -> None:
    """A photo that is gone since the plan would else take its row along, without a word."""
    state = after(e.created(rows=20), e.drawn(0, 0, 10), e.planned(0), e.drawn(1, 10, 20))
    assert refuses(state, e.planned(1, requests=9))
    assert not refuses(state, e.planned(1, requests=10))


def test_retries_are_drawn_once_and_keep_the_run_open() -> None:
    state = happen(sent(), [e.ended(0), e.collected(0, indexed=8, retry=2)])
    assert not state.finished
    happen(state, [e.retries(1, 0)])
    assert refuses(state, e.retries(2, 0))
    assert state.retries == ()


def test_retries_of_a_batch_without_any_are_refused() -> None:
    assert refuses(happen(sent(), [e.ended(0), e.collected(0)]), e.retries(1, 0))


# --- a long night --------------------------------------------------------------------------------------------------


def test_a_stopped_run_sends_nothing_more_and_settles_what_was_never_sent() -> None:
    state = after(e.created(rows=10), e.drawn(0, 0, 10), e.planned(0), Stopped(why="asked"))
    assert refuses(state, e.submitting(0))
    assert refuses(state, Stopped(why="asked"))
    assert refuses(state, e.collected(0, spent=80)), "what was never sent cost nothing"
    assert happen(state, [e.collected(0, spent=0)]).finished


def test_a_batch_is_withdrawn_once_and_by_its_own_ticket() -> None:
    state = sent()
    assert refuses(state, Withdrawn(batch=0, ticket="batches/2", why="asked", again=False))
    happen(state, [withdrawn := Withdrawn(batch=0, ticket="batches/1", why="asked", again=False)])
    assert refuses(state, withdrawn)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_what_broke_off_is_swept_before_it_is_settled(how: str) -> None:
    state = happen(sent(), [e.ended(0, how=how)])
    assert refuses(state, e.collected(0))
    happen(state, [Swept(batch=0)])
    assert refuses(state, Swept(batch=0))
    assert happen(state, [e.collected(0)]).finished


def test_what_succeeded_is_not_swept() -> None:
    assert refuses(happen(sent(), [e.ended(0)]), Swept(batch=0))


def test_a_batch_is_cut_into_two_that_hold_the_same_requests() -> None:
    state = after(e.created(rows=10), e.drawn(0, 0, 10), e.planned(0))
    for at in (0, 10):
        assert refuses(state, Recut(batch=0, at=at, why="too large"))
    happen(state, [Recut(batch=0, at=4, why="too large")])
    assert [batch.source for batch in state.batches[1:]] == [Cut(0, 0, 4), Cut(0, 4, 10)]
    assert refuses(state, e.submitting(0))
    happen(state, [e.planned(1, requests=4), e.planned(2, requests=6)])
    for batch in (1, 2):
        requests = 4 if batch == 1 else 6
        intent = happen(state, [e.submitting(batch)]).next - 1
        happen(state, [e.submitted(batch, intent), e.ended(batch), e.collected(batch, indexed=requests)])
    assert state.finished


def test_a_canary_that_was_cut_keeps_nobody_waiting() -> None:
    created = msgspec.structs.replace(e.created(rows=20), canary=10)
    drawn = [e.drawn(0, 0, 10), e.drawn(1, 10, 20), e.planned(0), e.planned(1)]
    state = after(created, *drawn, Recut(batch=0, at=5, why="too large"))
    assert not refuses(state, e.submitting(1))


def test_a_batch_that_is_with_the_provider_is_not_cut() -> None:
    assert refuses(sent(), Recut(batch=0, at=4, why="too large"))


def with_a_canary() -> State:
    created = msgspec.structs.replace(e.created(rows=20), canary=10)
    drawn = [e.drawn(0, 0, 10), e.drawn(1, 10, 20), e.planned(0), e.planned(1)]
    return after(created, *drawn, e.submitting(0), e.submitted(0, 5), e.ended(0))


def test_the_rest_waits_until_its_canary_is_home_and_well() -> None:
    state = with_a_canary()
    assert refuses(state, e.submitting(1))
    assert not refuses(happen(state, [e.collected(0)]), e.submitting(1))


def test_a_canary_that_came_back_wrong_keeps_the_rest_until_it_is_cleared() -> None:
    wrong = msgspec.structs.replace(e.collected(0), outcomes={"ok": 4, "blocked": 6})
    state = happen(with_a_canary(), [wrong])
    assert refuses(state, e.submitting(1))
    assert refuses(state, Cleared(batch=1, why="asked"))
    happen(state, [Cleared(batch=0, why="asked")])
    assert not refuses(state, e.submitting(1))


def test_retries_for_one_common_reason_wait_for_a_person() -> None:
    state = after(e.created(rows=40), e.drawn(0, 0, 40), e.planned(0, requests=40), e.submitting(0))
    books = e.collected(0, indexed=30, retry=10)
    happen(state, [e.submitted(0, 3), e.ended(0), books])
    assert state.held_back == (0,)
    assert refuses(state, e.retries(1, 0))
    happen(state, [Released(batches=(0,))])
    assert refuses(state, Released(batches=(0,)))
    assert not refuses(state, e.retries(1, 0))


def test_a_request_has_one_further_take() -> None:
    state = happen(sent(), [e.ended(0), e.collected(0)])
    again = Drawn(batch=1, source=Takes(0, (2, 5)))
    assert refuses(state, Drawn(batch=1, source=Takes(0, (5, 2))))
    happen(state, [again])
    assert refuses(state, Drawn(batch=2, source=Takes(0, (5,))))
    assert not state.finished


def with_follow_ups() -> State:
    """Ten requests are home; eight lead to another turn, and two have nothing to go on from."""
    return happen(sent(), [e.ended(0), e.collected(0, turns={e.MODEL: 8, "final": 2})])


def test_a_run_is_not_finished_before_every_follow_up_is() -> None:
    state = with_follow_ups()
    assert state.turns_open == {e.MODEL: (0,), "final": (0,)}
    assert not state.finished
    happen(state, [e.follow_ups(1, (0, 0, 8)), e.follow_ups(2, (0, 0, 2), lane="final")])
    assert state.turns_open == {}
    assert not state.finished, "they are not settled"
    assert [batch.wave for batch in state.batches] == [0, 1, 1]
    assert [batch.sends for batch in state.batches] == [True, True, False]


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [(0, 1, 8)],  # not from the first
        [(0, 0, 9)],  # more than there are
        [(0, 3, 3)],
        [(0, 0, 4), (0, 4, 8)],  # of one batch twice
        [(1, 0, 1)],
    ],
)
def test_follow_ups_are_drawn_in_order_and_each_once(pieces: list[tuple[int, int, int]]) -> None:
    assert refuses(with_follow_ups(), e.follow_ups(1, *pieces))


def test_what_does_not_fit_one_batch_goes_into_the_next() -> None:
    state = happen(with_follow_ups(), [e.follow_ups(1, (0, 0, 5))])
    assert refuses(state, e.follow_ups(2, (0, 0, 5)))
    assert refuses(state, e.follow_ups(2, (0, 4, 8)))
    assert not refuses(state, e.follow_ups(2, (0, 5, 8)))


def test_follow_ups_of_a_lane_nobody_has_are_refused() -> None:
    assert refuses(with_follow_ups(), e.follow_ups(1, (0, 0, 1), lane="gemini-3-pro-image"))


@pytest.mark.parametrize("turns", [{e.MODEL: 0}, {e.MODEL: -1, "final": 2}])
def test_books_of_follow_ups_that_are_none_are_refused(turns: dict[str, int]) -> None:
    assert refuses(happen(sent(), [e.ended(0)]), e.collected(0, turns=turns))


def test_follow_ups_without_a_file_are_refused() -> None:
    books = e.collected(0, turns={e.MODEL: 1})
    assert refuses(happen(sent(), [e.ended(0)]), msgspec.structs.replace(books, turns_file=None))


def test_further_attempts_wait_for_their_own_wave_and_not_for_the_next() -> None:
    """Two batches: one is home with a retry and follow-ups. Those go; the retry waits for the other batch alone."""
    state = after(e.created(rows=20), e.drawn(0, 0, 10), e.drawn(1, 10, 20))
    for batch in (0, 1):
        number = state.next + 1
        happen(state, [e.planned(batch), e.submitting(batch), e.submitted(batch, number)])
    happen(state, [e.ended(0), e.collected(0, indexed=9, retry=1, turns={e.MODEL: 9})])
    assert not state.retries_due
    happen(state, [e.follow_ups(2, (0, 0, 9)), e.ended(1), e.collected(1)])
    assert state.retries_due
    assert state.next_retries == (0,)


def family() -> State:
    """Ten rows, of which six edit pictures of the others; these are at the provider, and have ended."""
    state = after(e.created(rows=10, later=6), e.drawn(0, 0, 10), e.planned(0, requests=4))
    return happen(state, [e.submitting(0), e.submitted(0, 3), e.ended(0)])


def test_nothing_is_settled_before_every_row_is_planned_that_edits_another_s_picture() -> None:
    state = family()
    released = e.collected(0, indexed=4, turns={e.MODEL: 6}, released=6)
    assert refuses(state, released)
    happen(state, [e.drawn(1, 0, 10, lane="later")])
    assert refuses(state, released), "drawn is not planned"
    happen(state, [e.planned(1, requests=6, sends=False)])
    assert state.may_settle
    happen(state, [released])
    assert state.unreleased == 0


def test_a_batch_that_waits_is_never_sent_nor_settled_and_keeps_no_run_from_its_end() -> None:
    state = happen(family(), [e.drawn(1, 0, 10, lane="later"), e.planned(1, requests=6, sends=False)])
    assert refuses(state, e.submitting(1))
    assert refuses(state, e.collected(1, indexed=6))
    happen(state, [e.collected(0, indexed=4, turns={"final": 6}, released=6)])
    assert not state.finished
    happen(state, [e.follow_ups(2, (0, 0, 6), lane="final"), e.planned(2, requests=6, sends=False)])
    happen(state, [e.collected(2, indexed=6, spent=0)])
    assert state.finished


def test_no_more_rows_are_released_than_wait() -> None:
    state = happen(family(), [e.drawn(1, 0, 10, lane="later"), e.planned(1, requests=6, sends=False)])
    assert refuses(state, e.collected(0, indexed=4, turns={e.MODEL: 7}, released=7))


# --- decisions ---------------------------------------------------------------------------------------------------


def home(asks: str, *events: Event) -> State:
    """One batch of ten is home, and each of its pictures has a follow-up."""
    begun = [
        e.created(rows=10, asks=asks),
        e.drawn(0, 0, 10),
        e.planned(0),
        e.submitting(0),
        e.submitted(0, 3),
    ]
    return after(*begun, e.ended(0), e.collected(0, turns={e.MODEL: 10}), *events)


def test_decisions_are_counted_and_their_numbers_ascend() -> None:
    state = home("always", e.reviewed(0), e.reviewed(4, after=1))
    assert len(state.reviews) == 2
    for wrong in (e.reviewed(4, after=2), e.reviewed(3, after=2), e.reviewed(5, after=1)):
        assert refuses(state, wrong)


def test_what_is_drawn_was_looked_over_with_every_decision() -> None:
    """A decision that came while somebody was about to draw is none that he may pass over."""
    for asks in ("always", "unless_rejected"):
        state = home(asks, e.reviewed(0))
        assert refuses(state, e.follow_ups(1, (0, 0, 10), reviewed=0))
        assert not refuses(state, e.follow_ups(1, (0, 0, 10), reviewed=1))


def test_each_follow_up_is_asked_or_rejected_and_none_both() -> None:
    state = home("unless_rejected", e.reviewed(0), e.rejected(1, 2, 9))
    assert state.batches[0].turns == {e.MODEL: 8}
    for wrong in (
        e.rejected(2, 2),
        e.rejected(2, 10),
        e.rejected(2),
        e.rejected(2, 5, 4),
        e.rejected(2, 4, 4),
    ):
        assert refuses(state, wrong)
    happen(state, [e.follow_ups(2, (0, 0, 5), reviewed=1)])
    assert state.batches[0].turns == {e.MODEL: 4}
    assert refuses(state, e.rejected(3, 4)), "it is asked already"
    happen(state, [e.rejected(3, 5)])
    assert refuses(state, e.follow_ups(4, (0, 5, 6), reviewed=1)), "all of that was rejected"
    happen(state, [e.follow_ups(4, (0, 5, 9), reviewed=1)])
    assert state.batches[0].turns == {}, "the last of its file was rejected before"
    assert (state.batches[1].sends, state.batches[2].sends) == (False, True)
    assert (state.batches[1].wave, state.batches[2].wave) == (1, 1)


def test_nothing_is_rejected_that_nobody_decided_or_that_the_job_does_not_want() -> None:
    assert refuses(home("unless_rejected"), e.rejected(1, 2, reviewed=0))
    assert refuses(home("always", e.reviewed(0)), e.rejected(1, 2))
    assert refuses(home("unless_rejected", e.reviewed(0)), e.rejected(1, 2, lane="final"))


def test_follow_ups_wait_for_the_last_decision_about_their_batch() -> None:
    state = home("approved")
    assert (state.to_review, state.turns_due, state.finished) == (10, {}, False)
    assert refuses(state, e.follow_ups(1, (0, 0, 10)))
    happen(state, [e.reviewed(0)])
    assert state.to_review == 10
    assert refuses(state, e.reviewed(1, after=1, decided={"gemini-3-pro-image": (0,)}))
    happen(state, [e.reviewed(1, after=1, decided={e.MODEL: (0,)})])
    assert (state.to_review, state.turns_due) == (0, {e.MODEL: (0,)})
    assert not refuses(state, e.follow_ups(1, (0, 0, 10), reviewed=2))


def test_what_is_stopped_waits_for_nobody() -> None:
    state = home("approved", Stopped(why="asked"))
    assert (state.to_review, state.turns_due) == (0, {e.MODEL: (0,)})
