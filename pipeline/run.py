"""A run directory, opened: its state, what happens to it, and the names of its files."""

import hashlib
import logging
import secrets
from datetime import datetime

import msgspec

from pipeline.clock import Clock
from pipeline.errors import BadInput, Corrupt, Unavailable
from pipeline.events import Created, Event, File, Record
from pipeline.fold import apply
from pipeline.gate import check
from pipeline.job import Job
from pipeline.journal import Journal, Taken
from pipeline.references import reference_file as reference_file
from pipeline.state import Illegal, State
from pipeline.storage.base import NotFound, Storage

log = logging.getLogger(__name__)


class Run:
    """One driver's view of a run. Not to be shared between threads; open it once for each."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.storage = storage
        self.clock = clock
        self.state = State()
        self.lost_races = 0
        self._created_at: datetime | None = None
        self._journal = Journal(storage, clock, writer=secrets.token_hex(8))

    @property
    def created(self) -> Created:
        assert self.state.created is not None, "a run is opened or created before it is used"
        return self.state.created

    @property
    def name(self) -> str:
        return self.created.name

    @property
    def created_at(self) -> datetime:
        """When record 0 was written, by the clock of whoever wrote it."""
        assert self._created_at is not None
        return self._created_at

    @property
    def most_attempts(self) -> int:
        """How often a request is asked at most, whatever comes of it."""
        return max([self.created.attempts, *self.created.again.values()])

    def read(self, file: File) -> bytes:
        """What a record names, as it was then. Raises Corrupt where something else lies there now."""
        try:
            data = self.storage.read(file.name)
        except NotFound as error:
            raise Corrupt(f"{self.storage.url}: {file.name} is gone", hint="restore it") from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise Corrupt(
                f"{self.storage.url}: {file.name} is not what was recorded",
                hint="it was cut or changed, or another file lies in its place: restore it",
            )
        return data

    def plan(self, batch: int) -> bytes:
        """What a batch asks: the file that its record names."""
        planned = self.state.batches[batch].planned
        assert planned is not None
        return self.read(planned.plan)

    def retries(self, batch: int) -> bytes:
        """What of a batch is to be asked again."""
        books = self.state.batches[batch].collected
        assert books is not None
        assert books.retries is not None
        return self.read(books.retries)

    def catch_up(self) -> None:
        """Learn what others recorded meanwhile."""
        for record in self._journal.since(self.state.next):
            try:
                self._apply(record)
            except Illegal as error:
                raise Corrupt(
                    f"{self.storage.url}: record {record.number} cannot have happened: {error}",
                    hint="the journal was changed by hand, or by a broken program; stop and look",
                ) from error

    def record(self, event: Event) -> Record:
        """Make it so, durably. Raises Illegal if it makes no sense, or no longer."""
        tries = 0
        while True:
            check(self.state, event)
            number = self.state.next
            try:
                record = self._journal.append(number, event)
            except Taken as taken:
                self.lost_races += 1
                self._journal.back_off(tries)
                tries += 1
                self.catch_up()
                if self.state.next == number:
                    raise Corrupt(
                        f"{self.storage.url}: {taken} is there, and the listing does not show it",
                        hint="this storage does not keep what it promises; see docs/format.md",
                    ) from taken
            else:
                self._apply(record)
                return record

    def try_record(self, event: Event) -> bool:
        """The same, unless it makes no sense any more: somebody else moved the run on."""
        try:
            self.record(event)
        except Illegal as error:
            log.debug("not recorded: %s", error)
            return False
        return True

    def _apply(self, record: Record) -> None:
        apply(self.state, record)
        if record.number == 0:
            self._created_at = record.at


def open_run(storage: Storage, clock: Clock) -> Run:
    """The run in this directory, as far as its records tell."""
    run = Run(storage, clock)
    run.catch_up()
    if run.state.created is None:
        raise BadInput(
            f"{storage.url}: no run here",
            hint="name the run's own directory, the one that holds journal/",
        )
    return run


def job_of(run: Run) -> Job:
    """The job that a run was begun for, as it was then."""
    return msgspec.convert(run.created.job, Job)


def is_inline(run: "Run") -> bool:
    """Whether requests carry their references themselves."""
    return bool(run.created.job.get("references", {}).get("inline"))


def create_run(storage: Storage, clock: Clock, created: Created) -> Run:
    """A new run in an empty directory. Raises Unavailable if somebody else is faster."""
    run = Run(storage, clock)
    run.catch_up()
    try:
        run.record(created)
    except Illegal as error:
        raise Unavailable(
            f"{created.name}: somebody else began this run just now",
            hint="run the same command again to join it",
        ) from error
    return run


def wire_id(batch: int, place: int) -> str:
    """The only thing results are joined by: short enough for a label, safe in a file name."""
    return f"b{batch:05}-{place:04}"


def place_of(wire: str, batch: int) -> int | None:
    """The place a wire id means, or None if it is none of this batch's."""
    head, _, tail = wire.partition("-")
    if head != f"b{batch:05}" or not tail.isascii() or not tail.isdigit():
        return None
    place = int(tail)
    return place if wire == wire_id(batch, place) else None


def plan_file(batch: int) -> str:
    return f"plan/{batch:05}.parquet"


def requests_file(batch: int) -> str:
    return f"requests/{batch:05}.jsonl"


def uploaded_file(batch: int, sha256: str) -> str:
    return f"uploaded/{batch:05}-{sha256[:8]}.jsonl"


def staged_file(batch: int, part: int) -> str:
    return f"staged/{batch:05}-{part:03}.arrows"


def index_file(batch: int) -> str:
    return f"index/{batch:05}.parquet"


def retry_file(batch: int) -> str:
    return f"retry/{batch:05}.parquet"


def turns_file(batch: int) -> str:
    return f"turns/{batch:05}.parquet"


def signature_file(batch: int, place: int, sha256: str) -> str:
    """A long signature, beneath what the model said or drew for one request."""
    return f"turns/{batch:05}/{place:04}-{sha256[:8]}.signature"


def review_file(number: int) -> str:
    return f"review/{number:04}.parquet"


def quarantine_file(batch: int) -> str:
    return f"quarantine/{batch:05}.jsonl"


def line_file(batch: int, offset: int, sha256: str) -> str:
    """A long line that nobody claims: where it began, and eight hex digits, for a result may have several files."""
    return f"quarantine/{batch:05}-{offset}-{sha256[:8]}.line"


def thought_file(batch: int, place: int, slug: str, sha256: str, extension: str) -> str:
    """A draft that a model thought of, in a folder of its own: whoever takes all pictures does not take it."""
    return f"{thoughts_folder(batch)}/{place:04}-{slug}-{sha256[:8]}-thought.{extension}"


def picture_file(batch: int, place: int, slug: str, sha256: str, extension: str) -> str:
    """Place and key for people, eight hex digits so that several pictures of one request do not meet."""
    return f"{pictures_folder(batch)}/{place:04}-{slug}-{sha256[:8]}.{extension}"


def pictures_folder(batch: int) -> str:
    return f"pictures/{batch:05}"


def thoughts_folder(batch: int) -> str:
    return f"thoughts/{batch:05}"
