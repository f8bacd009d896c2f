"""Pictures asked for at once, each by a call of its own: a Backend whose batches are small.

Every reply is put into the run as it comes, so a crash pays again only for the calls that were in flight. A request is
claimed, by an exclusive put, before its call is made, and a claim says until when its call may last. So whoever comes
later knows of each request whether it was answered, may have been bought, or was never asked; and takes what was never
asked away from the author, by a claim of its own. No clock and no listing of the provider's is needed for that.

What stays open: a call that was in flight at a crash, or was answered with an error that does not tell, may be billed.
It counts as spent, as unconfirmed, and is asked again as any request without an answer.
"""

import io
import logging
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast

import msgspec

from pipeline.backends import imagen, wire
from pipeline.backends.base import (
    Attached,
    Backend,
    Candidate,
    Ending,
    Found,
    Gone,
    MaybeBought,
    NotBought,
    Offer,
    Origin,
    Outcome,
    Refusal,
    Remote,
    RemoteJob,
)
from pipeline.clock import Clock
from pipeline.events import ResultFile
from pipeline.job import Online as Settings
from pipeline.prompt import Prompt
from pipeline.results import Line
from pipeline.storage import NotFound, Storage
from pipeline.storage.base import AlreadyThere

FOLDER = "results"
"""Below a run: a folder for each time that a batch was sent, with its requests, claims and replies."""

CALL = timedelta(minutes=5)
"""How long one call may last. A picture in 4K takes two."""

LONGEST = timedelta(minutes=5)
"""How long calls are begun for one batch. What was not begun by then is drawn anew, and costs nothing."""

_json = msgspec.json.Encoder(order="deterministic").encode
log = logging.getLogger(__name__)


def span(requests: int, settings: Settings) -> timedelta:
    """How long calls are begun for a batch of so many: as long as its rate needs, and a minute."""
    return min(LONGEST, timedelta(minutes=1 + requests / settings.per_minute))


class _Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who may make a call, and how long it may last. Without an author nobody may any more."""

    author: str | None = None
    until: datetime | None = None


class Online:
    """A Backend beside another one of the same account, for one run."""

    def __init__(self, inner: Backend, storage: Storage, *, settings: Settings, clock: Clock) -> None:
        self._inner, self._storage, self._settings, self._clock = inner, storage, settings, clock
        self.account = inner.account
        self.service = inner.service
        self.reads_buckets = inner.reads_buckets
        self.life = timedelta(hours=1)
        self._known: dict[str, tuple[str, ...]] = {}
        self._pace = _Pace(
            clock, settings.per_minute
        )  # of all batches: the service counts calls, not batches

    def encode(self, wire_id: str, prompt: Prompt) -> bytes:
        return self._inner.encode(wire_id, prompt)

    def line_id(self, line: Line, *, ticket: str) -> str | None:
        key = line.body.get("key") if line.body else None
        return key if isinstance(key, str) else None

    def outcome(self, line: Line) -> Outcome:
        """As of any line; but what was never asked was not sent, and what may have been bought counts as billed."""
        assert line.body is not None
        if "unsent" in line.body:
            return Outcome(kind="not_sent", message=str(line.body["unsent"]), billed=False)
        if "unanswered" in line.body:
            return Outcome(kind="missing", message=str(line.body["unanswered"]))
        if isinstance(predicted := line.body.get("predicted"), dict):
            return imagen.outcome(predicted)
        return wire.outcome(line.body)

    # --- before the money -------------------------------------------------------------------------------------------

    def attach(
        self, sha256: str, data: Callable[[], BinaryIO], *, mime: str, origin: Origin | None = None
    ) -> Attached:
        return self._inner.attach(sha256, data, mime=mime, origin=origin)

    def stage(self, label: str, lines: Iterable[bytes]) -> str:
        folder = f"{FOLDER}/{_number(label)}-{secrets.token_hex(4)}"
        with tempfile.TemporaryFile() as spool:  # requests may carry their photos
            spool.writelines(line + b"\n" for line in lines)
            spool.seek(0)
            self._storage.put(f"{folder}/{_REQUESTS}", cast("BinaryIO", spool))
        return folder

    def unstage(self, staged: str) -> None:
        """Claim whatever nobody has claimed: after that no call begins."""
        for place in self._places(staged):
            self._claim(staged, place, _Claim())

    def remote(self) -> Iterator[Remote]:
        return iter(())

    # --- the money --------------------------------------------------------------------------------------------------

    def submit(self, label: str, model: str, staged: str) -> str:
        """Make the calls, and put each reply as it comes. Raises NotBought if nothing at all was asked of it."""
        now = self._clock.now()
        ends = now + span(len(self._places(staged)), self._settings)
        if self._pace.cool_until >= ends:
            # Nothing of it would be asked, and it would be drawn anew for nothing.
            left = (self._pace.cool_until - now).total_seconds()
            raise NotBought("the service wants to be left alone", wait=left)
        work = _Work(self, staged, model, self._pace, ends)
        pool = ThreadPoolExecutor(self._settings.in_flight, thread_name_prefix="calls")
        try:
            _work_off(pool, work, self._requests(staged), at_once=self._settings.in_flight)
        finally:
            pool.shutdown(cancel_futures=True)  # what is in flight is paid for: its replies are waited for
        if work.refusal is not None and not work.bought:
            raise work.refusal
        return staged

    def ask(self, model: str, line: bytes, *, timeout: timedelta) -> bytes:
        return self._inner.ask(model, line, timeout=timeout)

    def time(self) -> datetime | None:
        return self._clock.now()

    def find(self, label: str) -> Found:
        start = f"{FOLDER}/{_number(label)}-"
        names = [name for name in self._storage.list(start) if name.endswith(f"/{_REQUESTS}")]
        folders = [name.removesuffix(f"/{_REQUESTS}") for name in names]
        candidates = tuple(Candidate(folder, folder) for folder in folders)
        return Found(candidates, frozenset(folders), self._clock.now(), complete=True)

    def cancel(self, ticket: str) -> None:
        self.unstage(ticket)

    # --- after it ---------------------------------------------------------------------------------------------------

    def ending(self, ticket: str) -> Ending | None:
        """None while a call may be in flight. What was never asked is taken from its author first; and at the end
        there is one reply for each request, for ever."""
        requests = self._places(ticket)
        if not requests:
            raise Gone(f"{ticket} is not there")
        there = set(self._storage.list(f"{ticket}/"))
        closed = [self._closed(ticket, place) for place in requests if _reply(ticket, place) not in there]
        if lost := closed.count("unanswered"):
            were = "call was" if lost == 1 else "calls were"
            log.warning(
                "%d %s in flight when a program stopped: counted as spent, and asked again", lost, were
            )
        if None in closed:
            return None
        return Ending("succeeded", self._clock.now(), (ResultFile(ticket),))

    def answered(self, ticket: str) -> int:
        return 0  # it ends while it is waited for

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        """All replies, one behind the other, in the order of their places."""
        names = (_reply(ticket, place) for place in sorted(self._places(ticket)))
        stream = io.BufferedReader(_Chain(self._storage.open(name) for name in names), 1 << 20)
        while start and (skipped := stream.read(min(start, 1 << 20))):
            start -= len(skipped)
        return stream

    # --- for whoever looks ------------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[RemoteJob]:
        return iter(())

    def offer(self, model: str) -> Offer | None:
        return self._inner.offer(model)

    def raw(self, ticket: str) -> Mapping[str, Any]:
        there = list(self._storage.list(f"{ticket}/"))
        if not there:
            raise Gone(f"{ticket} is not there")
        return {"name": ticket, "files": there}

    def takes_ranges(self, ticket: str, file: str) -> bool:
        with self.open(ticket, file, start=1, end=2) as stream:
            return len(stream.read(1)) == 1

    # --- inside -----------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        return self._clock.now()

    def call(self, model: str, line: bytes) -> bytes:
        return self._inner.ask(model, line, timeout=CALL)

    def claim_for(self, folder: str, place: str, until: datetime) -> bool:
        """Take a request for this very call. False: somebody took it away."""
        return self._claim(folder, place, _Claim(author=secrets.token_hex(8), until=until))

    def reply(self, folder: str, place: str, reply: bytes) -> None:
        """Put what came of a request, unless somebody gave it up meanwhile: then it is counted already."""
        try:
            self._storage.put_if_absent(_reply(folder, place), reply)
        except AlreadyThere:
            return

    def _claim(self, folder: str, place: str, claim: _Claim) -> bool:
        try:
            self._storage.put_if_absent(_claimed(folder, place), _json(claim))
        except AlreadyThere:
            return False
        return True

    def _requests(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """What a folder was made for, with its wire id: one in memory."""
        with self._storage.open(f"{folder}/{_REQUESTS}") as lines:
            for line in lines:
                yield msgspec.json.decode(line, type=_Keyed).key, line.rstrip(b"\n")

    def _places(self, folder: str) -> tuple[str, ...]:
        """The wire ids alone, in order. None where the folder is not there."""
        if folder not in self._known:
            try:
                # Of one batch at a time.
                self._known = {folder: tuple(place for place, _ in self._requests(folder))}
            except NotFound:
                return ()
        return self._known[folder]

    def _closed(self, folder: str, place: str) -> str | None:
        """See to it that a request has a reply, and say which. None: somebody's call for it may be in flight."""
        if not self._claim(folder, place, _Claim()):
            claim = msgspec.json.decode(self._storage.read(_claimed(folder, place)), type=_Claim)
            if claim.until is not None:
                if self._clock.now() < claim.until:
                    return None
                self.reply(
                    folder, place, _line(place, unanswered="asked, and nobody is left to say what came")
                )
                return "unanswered"
        self.reply(folder, place, _line(place, unsent="there was no time left to ask"))
        return "unsent"


_REQUESTS = "requests.jsonl"


class _Keyed(msgspec.Struct):
    key: str


def _number(label: str) -> str:
    return label.split("-")[-2] if label.count("-") >= 2 else label


def _reply(folder: str, place: str) -> str:
    return f"{folder}/{place.partition('-')[2]}.jsonl"


def _claimed(folder: str, place: str) -> str:
    return f"{folder}/{place.partition('-')[2]}.asked"


def _line(place: str, **said: Any) -> bytes:
    return _json({"key": place, **said}) + b"\n"


@dataclass(slots=True)
class _Work:
    """The calls of one batch: what they share, and what has come of them so far. Used by several threads."""

    online: Online
    folder: str
    model: str
    pace: "_Pace"
    ends: datetime  # no call is begun after that
    bought: bool = False  # or maybe, or refused for good: the batch was taken
    refusal: NotBought | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, place: str, line: bytes) -> None:
        """One request: claimed, asked until somebody takes it or the time is up, and its reply put."""
        until = self.ends + CALL
        if not self.pace.wait(self.ends) or not self.online.claim_for(self.folder, place, until):
            return
        predicts = imagen.is_predict(line)
        while True:
            try:
                answer = self.online.call(self.model, line)
            except NotBought as refusal:
                if self._goes_on(refusal):
                    continue
                reply = _line(place, unsent=refusal.why)
            except MaybeBought as doubt:
                reply = _line(place, unanswered=str(doubt))
                self.bought = True
            except Refusal as refusal:
                error = {"code": refusal.code, "status": refusal.status, "message": refusal.message}
                reply = _line(place, predicted={"error": error}) if predicts else _line(place, error=error)
                self.bought = True
            else:
                name = b"predicted" if predicts else b"response"
                reply = b'{"key":%b,"%b":%b}\n' % (_json(place), name, answer)
                self.bought = True
            self.online.reply(self.folder, place, reply)
            return

    def _goes_on(self, refusal: NotBought) -> bool:
        """Whether to ask once more, since nothing was bought: all wait for it together, as long as there is time."""
        self.refusal = refusal
        if refusal.fatal is not None:
            self.ends = min(self.ends, self.online.now())  # it will never do: nobody asks any more
            return False
        self.pace.cool(refusal.wait)
        return self.pace.wait(self.ends)


def _work_off(
    pool: ThreadPoolExecutor, work: _Work, requests: Iterable[tuple[str, bytes]], *, at_once: int
) -> None:
    """Everything that is to be asked, with no more of it in memory than is in flight."""
    free = threading.Semaphore(at_once)
    under_way: list[Future[None]] = []
    failed: list[Future[None]] = []

    def over(done: Future[None]) -> None:
        if done.exception() is not None:
            failed.append(done)
        free.release()

    for place, line in requests:
        free.acquire()
        if failed:  # a reply could not be put, so nothing more is bought
            break
        under_way.append(pool.submit(work.ask, place, line))
        under_way[-1].add_done_callback(over)
    for done in under_way:
        done.result()


class _Pace:
    """When the next call may begin: so many a minute, and none while the service wants to be left alone."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self.cool_until = datetime.min.replace(tzinfo=UTC)
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: list[datetime] = []
        self._most = per_minute

    def wait(self, ends: datetime) -> bool:
        """Wait for one's turn. False: it does not come before the time is up."""
        while True:
            with self._lock:
                now = self._clock.now()
                turn = max(now, self.cool_until)
                if len(self._begun) >= self._most:
                    turn = max(turn, self._begun[-self._most] + timedelta(minutes=1))
                if turn >= ends:
                    return False
                if turn <= now:
                    self._begun = [*self._begun[-self._most :], now]
                    return True
            self._clock.sleep((turn - now).total_seconds())

    def cool(self, seconds: float) -> None:
        """The service is busy: nobody asks before then."""
        with self._lock:
            self.cool_until = max(self.cool_until, self._clock.now() + timedelta(seconds=seconds))


class _Chain(io.RawIOBase):
    """Files as one stream, one of them open."""

    def __init__(self, files: Iterator[BinaryIO]) -> None:
        self._files = files
        self._file: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._file is None and (found := next(self._files, None)) is None:
                return 0
            elif self._file is None:
                self._file = found
            assert self._file is not None
            if data := self._file.read(len(buffer)):
                buffer[: len(data)] = data
                return len(data)
            self._file.close()
            self._file = None
