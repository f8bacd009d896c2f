"""How one emulator is set up; what changes while it runs is a fault or the clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOUR = 3600.0
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are seconds of virtual time, ranges are drawn from evenly."""

    data: Path  # where uploads are spooled; results are never stored
    keep: bool = False  # whether everything is kept there for another process to go on with
    seed: int = 0  # of queueing, running, shuffling and every picture
    queue: tuple[float, float] = (20.0, 90.0)
    run: tuple[float, float] = (60.0, 300.0)
    picture_bytes: int = 48_000  # of a 1K picture; the real ones have about 1,500,000
    c2pa: bool = False  # whether every picture carries a mark
    show_keys: bool = False  # whether a row's key is written into its pictures, which then differ by it
    file_life: float = 48 * HOUR
    result_life: float = 42 * 24 * HOUR
    job_life: float = 48 * HOUR  # a job that has not ended by then expires, without results
    file_limit: int = 2 * GIB
    storage_limit: int = 20 * GIB
    jobs_limit: int = 100  # at once, per key
    quota: Mapping[str, int] = field(default_factory=dict)  # tokens that may wait, by model; no limit else
    inline_limit: int = 20 * 1024**2
    queue_life: float = 72 * HOUR  # of a Vertex AI job; one that has not begun by then expires
    run_life: float = 24 * HOUR  # of a Vertex AI job that runs; what is done by then is kept
    cancelling: float = 10.0  # a Vertex AI job needs so long to stop
    shards: int = 2  # files of a Vertex AI job's result
    vertex_rows: int = 200_000
    vertex_bytes: int = GIB
    ranges: bool = True  # whether downloads honour Range
    buckets: tuple[str, ...] = ()  # of Cloud Storage, there from the start
    lenient: bool = False  # whether unknown and misplaced fields of a line are ignored instead of refused
