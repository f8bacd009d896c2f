"""What of the contract costs nothing, held against the real services: for whoever names an account in the environment.

NIGHTSHOOT_LIVE_KEY is a key of the Developer API; NIGHTSHOOT_LIVE_PROJECT and NIGHTSHOOT_LIVE_BUCKET are for Vertex AI,
with the credentials of this machine. What a paid batch is like there, `nightshoot doctor --live` asks.
"""

import os
from typing import Any

import pytest

from pipeline.backends import GOOGLE
from pipeline.backends.base import Backend, Gone
from pipeline.backends.developer import Developer
from pipeline.backends.vertex import Vertex
from pipeline.clock import MachineClock
from tests.contracts import test_backend as contract


def _named(*names: str) -> list[str]:
    """What these variables say. Skips where nobody named an account."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        pytest.skip(f"no account to ask: {' and '.join(missing)} not set")
    return [os.environ[name] for name in names]


def _developer() -> Backend:
    (key,) = _named("NIGHTSHOOT_LIVE_KEY")
    return Developer(key=key, service=GOOGLE, clock=MachineClock())


def _vertex() -> Backend:
    project, bucket = _named("NIGHTSHOOT_LIVE_PROJECT", "NIGHTSHOOT_LIVE_BUCKET")
    staging = f"gs://{bucket.removeprefix('gs://')}/nightshoot-live"
    return Vertex(
        project=project, location="global", service="https://aiplatform.googleapis.com", staging=staging
    )


@pytest.fixture(params=[_developer, _vertex], ids=["developer", "vertex"])
def backend(request: pytest.FixtureRequest) -> Backend:
    make: Any = request.param
    found: Backend = make()
    return found


test_encoding_is_the_same_every_time = contract.test_encoding_is_the_same_every_time
test_a_model_that_is_not_there_is_a_no_for_good = contract.test_a_model_that_is_not_there_is_a_no_for_good


def test_what_was_uploaded_is_listed_and_can_be_removed(backend: Backend) -> None:
    """Beside whatever else lies there."""
    staged = backend.stage("nightshoot-00000000-00000-000000000000", [contract.line(backend, 0)])
    assert staged in {remote.name for remote in backend.remote()}
    backend.unstage(staged)
    assert staged not in {remote.name for remote in backend.remote()}


def test_the_listing_is_read_to_its_end_and_tells_the_time(backend: Backend) -> None:
    found = backend.find("nightshoot-00000000-00000-000000000000")
    assert (found.candidates, found.complete) == ((), True)
    assert found.at is not None
    assert abs((found.at - MachineClock().now()).total_seconds()) < 600


def test_a_job_that_nobody_made_is_unknown(backend: Backend) -> None:
    where = "batches" if isinstance(backend, Developer) else "batchPredictionJobs"
    with pytest.raises(Gone):
        backend.ending(f"{where}/1234567890123456789")
