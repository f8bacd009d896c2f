"""What is asked again by itself: as often as the job says, and never for ever."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.console import REASONS
from pipeline.events import Ended, Rows, Withdrawn
from pipeline.run import Run, create_run
from pipeline.settle import AGAIN, MOST_ATTEMPTS, _is_worth_more
from pipeline.state import Batch, Stage
from tests import events as e
from tests.fakes import FakeClock, MemoryStorage

OUTCOMES = sorted({"ok", *REASONS})
POLICIES = st.dictionaries(st.sampled_from(OUTCOMES), st.integers(1, 10**9))


def begun(attempts: int, again: dict[str, int]) -> Run:
    created = msgspec.structs.replace(e.created(), attempts=attempts, again=again)
    return create_run(MemoryStorage(), FakeClock(), created)


def ended(withdrawn: bool | None) -> Batch:
    """A batch that is home; one that was withdrawn says whether its rest may be asked again."""
    at = datetime(2026, 11, 21, tzinfo=UTC)
    batch = Batch(0, Rows(0, 10, e.MODEL), Stage.ENDED, ended=Ended(batch=0, how="succeeded", at=at))
    if withdrawn is None:
        return batch
    return replace(batch, withdrawn=Withdrawn(batch=0, ticket="t", why="stalled", again=withdrawn))


def asked(run: Run, batch: Batch, outcomes: list[str]) -> int:
    """How often a request is sent that comes back so, time after time; the last one for ever."""
    attempt = 1
    while attempt < 1000:
        outcome = outcomes[min(attempt, len(outcomes)) - 1]
        if not _is_worth_more(run, batch, {"attempt": attempt}, {"outcome": outcome}):
            break
        attempt += 1
    return attempt


@given(
    st.integers(1, 10**9),
    POLICIES,
    st.sampled_from([None, True, False]),
    st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=20),
)
def test_no_policy_and_no_bad_luck_asks_for_ever(
    attempts: int, again: dict[str, int], withdrawn: bool | None, outcomes: list[str]
) -> None:
    """Whatever a job says, whatever comes back, in whatever order."""
    sent = asked(begun(attempts, again), ended(withdrawn), outcomes)
    assert sent <= MOST_ATTEMPTS
    if withdrawn is None:
        assert sent <= max(attempts, *again.values(), 1) if again else sent <= attempts


@given(st.integers(1, MOST_ATTEMPTS), st.sampled_from(OUTCOMES))
def test_without_a_policy_only_what_may_get_better_is_asked_again(attempts: int, outcome: str) -> None:
    sent = asked(begun(attempts, {}), ended(None), [outcome])
    assert sent == (attempts if outcome in AGAIN else 1)


@pytest.mark.parametrize(("attempts", "times"), [(1, 1), (2, 3), (10, 10)])
def test_a_call_that_nobody_lived_to_hear_of_takes_no_attempt_away(attempts: int, times: int) -> None:
    """Once: who asks for one alone is asked no more, and nothing goes on for ever."""
    batch = replace(ended(None), online=True)
    assert asked(begun(attempts, {}), batch, ["missing"]) == times
    assert asked(begun(attempts, {}), batch, ["no_image"]) == attempts


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_policy_of_one_outcome_is_that_outcome_s_alone(outcome: str) -> None:
    run = begun(2, {outcome: 4})
    assert asked(run, ended(None), [outcome]) == 4
    for other in set(OUTCOMES) - {outcome}:
        assert asked(run, ended(None), [other]) == (2 if other in AGAIN else 1)


def test_what_was_withdrawn_for_good_is_not_asked_again() -> None:
    run = begun(5, {"cancelled": 5, "expired": 5})
    assert asked(run, ended(False), ["cancelled"]) == asked(run, ended(False), ["expired"]) == 1
    assert asked(run, ended(True), ["cancelled"]) == MOST_ATTEMPTS
