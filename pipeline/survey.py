"""A job looked over before anything is sent: every problem, every dollar, nothing written. And a run begun from it."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from pipeline.backends import wire
from pipeline.backends.base import Backend
from pipeline.clock import Clock
from pipeline.errors import BadInput
from pipeline.events import FINAL, FORMAT, Created, Limits
from pipeline.job import Job
from pipeline.manifest import Manifest, Row, duplicate_keys, open_manifest
from pipeline.models import Model, Models, load_models
from pipeline.money import Estimate, estimate
from pipeline.problems import Group, Problem, group
from pipeline.prompt import Pourer, Request
from pipeline.run import Run, create_run
from pipeline.storage import Storage

QUEUE_TOKENS = 1_000_000
"""Tokens one batch may put into Google's queue: what the lowest tier of the smallest model allows at once."""

PART_BYTES = 256_000_000
"""Results are read in parts of this size: a restart repeats at most one."""


@dataclass(slots=True)
class Survey:
    """What a job would make, send, take and cost."""

    job: Job
    base: Path
    manifest: Manifest
    table: Models
    rows: int = 0  # of the manifest, up to the last one that is chosen
    rows_chosen: int = 0
    bad_rows: int = 0
    lanes: dict[str, int] = field(default_factory=dict)
    problems: list[Group] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    price: Estimate = field(default_factory=Estimate)  # type: ignore[arg-type]
    at_once: int = 0  # likely price of the same outside of batches
    input_bytes: int = 0
    output_bytes: int = 0
    references: dict[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(count for lane, count in self.lanes.items() if lane != FINAL)

    @property
    def good_rows(self) -> int:
        return self.rows_chosen - self.bad_rows
