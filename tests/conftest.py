"""What stories are told on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import emulator
from tests.bench import Bench


@pytest.fixture
def service() -> Iterator[emulator.Service]:
    """Google on 127.0.0.1. Its time stands still until somebody waits."""
    with emulator.start(queue=(5, 30), run=(10, 60)) as running:
        yield running


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    return Bench(service, tmp_path)
