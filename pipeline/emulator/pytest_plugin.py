"""Fixtures for tests of any program that uses Google's SDKs: `pytest_plugins = ["pipeline.emulator.pytest_plugin"]`.

Nothing is loaded or started before a test asks for a fixture, and nobody who does not name this module gets it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.emulator import Service, start

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def make_gemini_emulator() -> Iterator[Callable[..., Service]]:
    """Emulators set up as a test wants them, with the arguments of `pipeline.emulator.start`."""
    made: list[Service] = []

    def make(**settings: Any) -> Service:
        made.append(start(**{"queue": (0, 0), "run": (0, 0)} | settings))
        return made[-1]

    yield make
    for service in made:
        service.stop()


@pytest.fixture
def gemini_emulator(make_gemini_emulator: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> Service:
    """An emulator that the environment points to for as long as the test runs; jobs take no time in it."""
    service = make_gemini_emulator()
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    return service
