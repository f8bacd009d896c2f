"""Tickets become endings."""

from datetime import UTC, datetime, timedelta

from pipeline.backends.base import Backend, Ending, Gone
from pipeline.events import Ended, Part, ResultFile, Swept
from pipeline.run import Run
from pipeline.state import Batch, Stage

LATE = timedelta(hours=1)
"""How long results of a batch that broke off may still come."""


def poll(run: Run, backend: Backend, number: int) -> bool:
    """Ask after a batch by name. True: it has ended, and that is recorded."""
    batch = run.state.batches[number]
    if batch.stage is not Stage.SUBMITTED or batch.submitted is None or batch.submitting is None:
        return False
    if not batch.is_of(backend.account):
        return False  # another key's job looks like none at all; asking would teach nothing
    try:
        ending = backend.ending(batch.submitted.ticket)
    except Gone as gone:
        if run.clock.now() < batch.submitting.until + backend.life:
            return False  # it may still show
        # Without a word of how it ended it counts as expired; as spent in full either way, since nobody can say.
        ending = gone.ending or Ending("expired", None, error=str(gone))
    if ending is None:
        return False
    event = Ended(
        batch=number,
        how=ending.how,
        at=ending.at,
        files=ending.files,
        parts=_parts(run, ending.files),
        stats=ending.stats,
        error=ending.error,
    )
    return run.try_record(event)


def sweep(run: Run, backend: Backend, number: int) -> bool:
    """Ask once more after a batch that broke off, an hour later. True: what there is of it is recorded."""
    batch = run.state.batches[number]
    if batch.stage is not Stage.ENDED or not batch.may_be_late:
        return False
    assert batch.ended is not None
    assert batch.submitted is not None
    if not batch.is_of(backend.account) or run.clock.now() < swept_at(batch):
        return False
    files = batch.ended.files
    if batch.ended.at is not None:
        try:
            ending = backend.ending(batch.submitted.ticket)
        except Gone:
            ending = None
        files = ending.files if ending is not None and ending.files else files
    return run.try_record(Swept(batch=number, files=files, parts=_parts(run, files)))


def swept_at(batch: Batch) -> datetime:
    """When late results have had their time. A batch that the provider knows nothing of has none."""
    assert batch.ended is not None
    return batch.ended.at + LATE if batch.ended.at is not None else datetime.min.replace(tzinfo=UTC)


def _parts(run: Run, files: tuple[ResultFile, ...]) -> tuple[Part, ...]:
    in_order = sorted(files, key=lambda file: file.name)
    return tuple(part for file in in_order for part in cut(file, run.created.limits.part_bytes))


def cut(file: ResultFile, size: int) -> list[Part]:
    """The byte ranges a file is read in. The last one is open, in case the size was told too small."""
    if file.size is None or file.size <= size:
        return [Part(file.name, 0, None)]
    starts = range(0, file.size, size)
    return [Part(file.name, start, start + size if start + size < file.size else None) for start in starts]
