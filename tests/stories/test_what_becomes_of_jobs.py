"""Every way a job can go, on both surfaces, and what people are told of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import emulator
from pipeline.emulator.faults import JOB_FAULTS
from tests.bench import write_rows
from tests.shell import Shell

HOUR = 3600

JOB = """
manifest = "shoes.csv"
key = "sku"
backend = "{surface}"
max_usd = 5
[batches]
max_requests = 2
[defaults]
model = "gemini-3.1-flash-image"
[shots.hero]
prompt = "Studio photo of {{{{ title }}}}"
"""

ALL = "4 of 4 pictures on disk"
UNREAD = "may have been spent and cannot be read"


def batch_1(kind: str, **told: Any) -> dict[str, Any]:
    return {"kind": kind, "display_name": "-00001-", **told}


def state(value: str) -> dict[str, Any]:
    """So named for as long as nobody says otherwise, and then as it is."""
    return {"kind": "unknown_state", "value": value, "times": 12}


CASES: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "failed": (batch_1("job_failed", times=1), 0, (ALL, UNREAD, "asked again")),
    "expired": (batch_1("job_expired", times=1), 0, (ALL, "asked again")),
    "cancelled": (batch_1("job_cancelled"), 1, ("of 4 pictures on disk", "cancelled")),
    "stalled in the queue": (batch_1("job_stalled", seconds=20 * HOUR), 0, (ALL, "took $0.14;")),
    "stalled at work": (batch_1("job_stalled", state="RUNNING", seconds=20 * HOUR), 0, (ALL, "took $0.14;")),
    "done before its result": (batch_1("late_output", seconds=2 * HOUR), 0, (ALL, "took $0.14;")),
    "odd counters": (batch_1("stats_odd"), 0, (ALL, "took $0.14;")),
    "a cut result": (batch_1("cut_last_line", times=1), 0, (ALL, UNREAD)),
    "ghosts": (batch_1("ghost_quota"), 0, (ALL,)),
    "finishes after a cancel": (batch_1("finishes_after_cancel"), 0, (ALL,)),
    "unknown to its key": (
        {"kind": "refused", "method": "get", "display_name": "-00001-", "code": 404, "times": 60},
        0,
        (ALL, "took $0.14;"),
    ),
    "paused": (state("JOB_STATE_PAUSED"), 0, (ALL, "took $0.14;")),
    "cancelling": (state("JOB_STATE_CANCELLING"), 0, (ALL, "took $0.14;")),
    "queued": (state("JOB_STATE_QUEUED"), 0, (ALL, "took $0.14;")),
    "updating": (state("JOB_STATE_UPDATING"), 0, (ALL, "took $0.14;")),
    "partly succeeded": (state("JOB_STATE_PARTIALLY_SUCCEEDED"), 0, (ALL, "took $0.14;")),
    "a state of tomorrow": (state("JOB_STATE_PONDERING"), 0, (ALL, "took $0.14;")),
}

ELSEWHERE = {"hook_dropped", "hook_doubled", "hook_reordered", "hook_bad_signature", "lenient", "in_order"}
"""Faults of a job that change nothing in how it ends."""


@pytest.fixture
def service() -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=500, buckets=("shoes",)) as running:
        yield running


@pytest.mark.parametrize("surface", ["developer", "vertex"])
@pytest.mark.parametrize("case", CASES)
def test_whatever_becomes_of_a_job_is_told_and_none_is_paid_twice_unasked(
    service: emulator.Service, tmp_path: Path, surface: str, case: str
) -> None:
    write_rows(tmp_path / "shoes.csv", 4)
    bucket = 'bucket = "shoes/night"\n' if surface == "vertex" else ""
    (tmp_path / "shoes.toml").write_text(bucket + JOB.format(surface=surface), encoding="utf-8")
    shell = Shell(tmp_path, service.environment() | {"XDG_CACHE_HOME": str(tmp_path / "caches")})
    fault, code, words = CASES[case]
    if surface == "vertex" and case in ("cancelled", "expired"):
        # What was done by then is written here: all of it, where a job ends so at its very end.
        code, words = 0, (ALL,)
    if surface == "vertex" and case == "a cut result":
        words = (ALL,)  # its files are objects, which are whole or not there
    service.fault(**fault)
    said = shell("run", "shoes.toml", "--yes")
    assert said.code == code, said.all
    assert [word for word in words if word not in said.all] == [], said.all
    assert "JOB_STATE" not in said.all, "the service's own words stay in the records"
    ledger = service.ledger(rows=False)["jobs"]
    again = {"failed", "expired", "a cut result"}
    assert len(ledger) <= (3 if case in again else 2), said.all


def test_no_fault_of_a_job_is_forgotten_here() -> None:
    told = {fault["kind"] for fault, _, _ in CASES.values()}
    assert set(JOB_FAULTS) - told == ELSEWHERE
