"""Tickets become endings."""

from pipeline.backends.base import Backend, Ending, Gone
from pipeline.events import Ended, Part, ResultFile
from pipeline.run import Run
from pipeline.state import Illegal, Stage


def poll(run: Run, backend: Backend, number: int) -> bool:
    """Ask after a batch by name. True: it has ended, and that is recorded."""
    batch = run.state.batches[number]
    if batch.stage is not Stage.SUBMITTED or batch.submitted is None or batch.submitting is None:
        return False
    if batch.submitting.account != backend.account:
        return False  # another key's job looks like none at all; asking would teach nothing
    try:
        ending = backend.ending(batch.submitted.ticket)
    except Gone as gone:
        if run.clock.now() < batch.submitting.until + backend.life:
            return False  # it may still show
        # It counts as expired, and as spent in full, since nobody can say.
        ending = Ending("expired", None, error=str(gone))
    if ending is None:
        return False
    event = Ended(
        batch=number,
        how=ending.how,
        at=ending.at,
        files=ending.files,
        parts=tuple(
            part
            for file in sorted(ending.files, key=lambda file: file.name)
            for part in cut(file, run.created.limits.part_bytes)
        ),
        stats=ending.stats,
        error=ending.error,
    )
    try:
        run.record(event)
    except Illegal:
        return False  # another driver saw it first
    return True


def cut(file: ResultFile, size: int) -> list[Part]:
    """The byte ranges a file is read in. The last one is open, in case the size was told too small."""
    if file.size is None or file.size <= size:
        return [Part(file.name, 0, None)]
    starts = range(0, file.size, size)
    return [Part(file.name, start, start + size if start + size < file.size else None) for start in starts]
