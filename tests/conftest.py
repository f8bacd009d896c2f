"""What stories are told on."""

from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from hypothesis import HealthCheck, settings

from pipeline import emulator
from tests.bench import Bench

# How long an example takes says how busy the machine is, and nothing of what is tried.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody here speaks TLS, but every client reads its list of authorities. One does, and is 20 ms faster."""
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + end
    path = tmp_path_factory.mktemp("authorities") / "one.pem"
    path.write_text(first, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture
def service() -> Iterator[emulator.Service]:
    """Google on 127.0.0.1. Its time stands still until somebody waits."""
    with emulator.start(queue=(5, 30), run=(10, 60)) as running:
        yield running


@pytest.fixture
def bench(service: emulator.Service, tmp_path: Path) -> Bench:
    return Bench(service, tmp_path)
