"""What will hold a run back, and what that means in hours: queues, lines, disks."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.backends.base import ROOM
from pipeline.errors import BadInput
from pipeline.money import nanos
from pipeline.survey import IN_FLIGHT, Survey, rounds

_ROUND = (1, 5)  # hours that one filling of the queue usually takes; at worst 48
_FREE = 1_000_000_000  # bytes of a disk that we leave alone


@dataclass(frozen=True, slots=True)
class Bound:
    """One thing that makes it slower, for people; most are not there."""

    name: str
    words: str


def bounds(found: Survey) -> list[Bound]:
    """Everything that binds, what matters most first."""
    return [*_queue(found), *_spend(found), *_jobs(found), *_line(found), *_files(found)]


def _queue(found: Survey) -> Iterator[Bound]:
    tier = found.job.tier or 1
    times = rounds(found, tier=tier)
    if times <= 1 or not ROOM[found.job.backend].queued:
        return
    told = f"tier {tier}" if found.job.tier else "tier 1, since the job names none"
    better = [other for other in (2, 3) if other > tier and rounds(found, tier=other) < times]
    instead = f"; tier {better[0]}: {_times(rounds(found, tier=better[0]))}" if better else ""
    yield Bound("queue", f"{told}: about {times:,} rounds, {_hours(times)}{instead}")


def _spend(found: Survey) -> Iterator[Bound]:
    """Google counts what is spent in ten minutes. Whether a batch counts when it is taken or when it is done, it
    does not say: so this is the least it takes.
    """
    limits, tier = found.table.spend, found.job.tier or 1
    if not ROOM[found.job.backend].queued:
        return
    if limits is None or found.price.likely <= nanos(limits[tier - 1]):
        return
    told = f"tier {tier}" if found.job.tier else "tier 1, since the job names none"
    least = {other: _duration(600 * found.price.likely / nanos(limits[other - 1])) for other in (1, 2, 3)}
    instead = f"; tier {tier + 1}: {least[tier + 1]}" if tier < 3 else ""
    yield Bound("spend", f"{told}: ${limits[tier - 1]} in 10 minutes, so at least {least[tier]}{instead}")


def _jobs(found: Survey) -> Iterator[Bound]:
    limits = found.job.batches
    batches = -(-found.price.output_bytes // limits.max_output_bytes)
    if limits.max_requests:
        batches = max(batches, -(-found.requests // limits.max_requests))
    if batches > IN_FLIGHT:
        yield Bound("jobs", f"{batches:,} batches, of which Google takes {IN_FLIGHT} at once")


def _line(found: Survey) -> Iterator[Bound]:
    rate = found.job.line_mbit * 1_000_000 / 8
    up, down = (found.input_bytes + found.reference_bytes) / rate, found.price.output_bytes / rate
    if max(up, down) >= 60:
        words = f"{_duration(up)} to send, {_duration(down)} to receive, at {found.job.line_mbit:g} Mbit/s"
        yield Bound("line", words)


def _files(found: Survey) -> Iterator[Bound]:
    sent = found.input_bytes + found.reference_bytes
    room = ROOM[found.job.backend].files
    if room is not None and sent > room:
        # What is sent beyond that waits until earlier batches are done.
        kept = f"{room // 10**9} GB"
        yield Bound("files", f"Google keeps {kept} of a project's files: sent in {-(-sent // room)} turns")


def check_room(found: Survey, folder: str, *, fewer: str = "shoot fewer with --limit") -> None:
    """Raises BadInput where the pictures will not fit on the disk that they are to lie on. `fewer` says how to shoot
    fewer of them."""
    if "://" in folder:
        return
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    if words := short_of(needed(found), free=shutil.disk_usage(place).free):
        raise BadInput(
            f"{folder}: {words}", hint=f"free some, {fewer}, or put the runs elsewhere with --runs"
        )


def needed(found: Survey) -> int:
    """The bytes that will lie in the run, about."""
    # Base64 is a third longer than the pictures in it; sent lines and references lie there too.
    pictures = found.price.output_bytes * 3 // 4
    # Of what is asked at once the whole reply is kept as well.
    at_once = found.requests if found.lane == "standard" else found.only_at_once
    replies = found.price.output_bytes * at_once // max(1, found.requests)
    return pictures + replies + found.input_bytes + found.reference_bytes


def short_of(wanted: int, *, free: int) -> str | None:
    """What to say of a disk with so many bytes free that has no room for so many more; None where it has."""
    missing = wanted + _FREE - free
    if missing <= 0:
        return None
    return (
        f"{size(wanted)} are needed beside {size(_FREE)} that are to stay free, and {size(free)} are free there:"
        f" {size(missing)} too little"
    )


def size(count: int) -> str:
    """Bytes as people write them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _times(count: int) -> str:
    return "all at once" if count <= 1 else f"about {count:,} rounds"


def _hours(times: int) -> str:
    low, high = (times * hours for hours in _ROUND)
    return f"{low} to {high} h" if high < 48 else f"{max(1, round(low / 24))} to {round(high / 24)} days"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return "a minute"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
