"""Whose time counts."""

from datetime import timedelta

import pytest

from pipeline import emulator
from pipeline.clock import EmulatorClock, MachineClock, clock_for
from pipeline.errors import BadInput, Unavailable


def test_without_an_emulator_it_is_the_machine_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTSHOOT_CLOCK", raising=False)
    clock = clock_for("https://generativelanguage.googleapis.com")
    assert isinstance(clock, MachineClock)
    assert clock.now().utcoffset() == timedelta(0)


def test_waiting_moves_an_emulator_s_time_on_for_everybody(service: emulator.Service) -> None:
    one, two = EmulatorClock(service.url), EmulatorClock(service.url)
    before = two.now()
    one.sleep(3600)
    assert two.now() - before >= timedelta(hours=1)


@pytest.mark.parametrize("url", ["http://10.0.0.1:80", "https://127.0.0.1:80", "http://clock.example:80"])
def test_nobody_else_tells_the_time(url: str) -> None:
    with pytest.raises(BadInput, match="not on this machine"):
        EmulatorClock(url)


def test_an_emulator_s_time_is_good_for_that_emulator_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a forgotten export would let a real run believe that a day has passed."""
    monkeypatch.setenv("NIGHTSHOOT_CLOCK", "http://127.0.0.1:8085")
    with pytest.raises(BadInput, match="another service"):
        clock_for("https://generativelanguage.googleapis.com")


def test_a_clock_that_is_gone_says_so() -> None:
    with pytest.raises(
        Unavailable, match=r"this shell exports the address of an emulator, .* does not answer"
    ):
        EmulatorClock("http://127.0.0.1:9").now()
