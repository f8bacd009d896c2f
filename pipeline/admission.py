"""Whether the provider is thought to have room for a batch: to ask for more is to be refused, again and again.

What is wrong in this is found out by asking: no batch waits for what will never come.
"""

import logging
from datetime import datetime, timedelta

from pipeline.backends.base import ROOM, Backend
from pipeline.errors import NightshootError
from pipeline.run import Run
from pipeline.state import Batch, Stage, model_of

log = logging.getLogger(__name__)

KEPT = timedelta(hours=48)
"""So long the provider keeps what was uploaded, unless somebody removes it."""

ASKED_AGAIN = timedelta(minutes=10)


class Admission:
    """What one driver thinks of the room there is."""

    def __init__(self, run: Run, backend: Backend) -> None:
        self._run, self._backend = run, backend
        self._asked: datetime | None = None
        self.look_again: datetime | None = None  # when files may have gone that kept a batch waiting
        self._stored = 0  # bytes of ours there, when that was last asked
        self._known = -1  # the number of the next record, when the following was looked up
        self._at_provider: list[Batch] = []

    def has_room(self, batch: Batch) -> bool:
        """For one more job, its tokens in the queue, and its file. What is asked at once needs none of these."""
        if batch.online:
            return True
        there = self._there()
        if len(there) >= self._run.created.limits.in_flight:
            return False
        waiting = [other for other in there if model_of(other) == model_of(batch)]
        return self._in_queue([*waiting, batch]) and self._in_files(batch)

    def _there(self) -> list[Batch]:
        """The batches at the provider, looked up once for each record: hundreds in line ask one after the other."""
        state = self._run.state
        if self._known != state.next:
            counted = (Stage.SUBMITTING, Stage.SUBMITTED, Stage.HELD)
            self._at_provider = [b for b in state.batches if b.stage in counted and not b.online]
            self._known = state.next
        return self._at_provider

    def _in_queue(self, batches: list[Batch]) -> bool:
        created = self._run.created
        if len(batches) == 1 or not ROOM[created.backend].queued:
            return True
        queue = created.limits.queue or _queue_of(self._run, batches[-1])
        return queue is None or sum(each.planned.tokens for each in batches if each.planned) <= queue

    def _in_files(self, batch: Batch) -> bool:
        """Files are counted by the journal, and only where those would be too many the provider is asked."""
        most = self._run.created.limits.stored or ROOM[self._run.created.backend].files
        if most is None or _bytes(batch) > most:
            return True
        now = self._run.clock.now()
        sent = [
            other
            for other in self._run.state.batches
            if other.submitting and other.submitting.until > now - KEPT
        ]
        if sum(_bytes(other) for other in [*sent, batch]) <= most:
            return True
        if self._asked is None or now >= self._asked + ASKED_AGAIN:
            self._asked, self._stored = now, self._ask()
        if self._stored + _bytes(batch) <= most:
            self._stored += _bytes(batch)
            return True
        self.look_again = self._asked + ASKED_AGAIN
        return False

    def _ask(self) -> int:
        try:
            stored = sum(file.size for file in self._backend.remote())
        except NightshootError as error:
            log.debug("could not ask what is stored: %s", error)
            return 0  # then the upload will tell
        kept = f"{stored / 1e9:.1f} GB of files are kept at the provider"
        log.warning("%s, so the rest waits; nightshoot tidy removes what is done with", kept)
        return stored


def _queue_of(run: Run, batch: Batch) -> int | None:
    """How many tokens of its model may wait in the queue of the job's tier."""
    queues = run.created.models[model_of(batch) or ""].get("enqueued_tokens")
    return queues[(run.created.job.get("tier") or 1) - 1] if queues else None


def _bytes(batch: Batch) -> int:
    return batch.planned.sent_bytes if batch.planned else 0
