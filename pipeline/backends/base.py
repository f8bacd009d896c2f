"""What a maker of pictures must promise, and what it hands back."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, BinaryIO, Protocol

from pipeline.errors import NightshootError, Unavailable
from pipeline.events import ResultFile
from pipeline.money import Usage
from pipeline.prompt import Prompt
from pipeline.results import Line


@dataclass(frozen=True, slots=True)
class Room:
    """How much a service takes at once."""

    requests: int  # of one batch
    input_bytes: int  # of one batch, as we count them: what is put in on the way needs the rest
    queued: bool = True  # whether it counts the tokens that wait
    files: int | None = None  # bytes that a project may keep there


ROOM = {
    "developer": Room(requests=10**9, input_bytes=1_500_000_000, files=20_000_000_000),  # of 2 GB
    "vertex": Room(requests=200_000, input_bytes=800_000_000, queued=False),  # of 1 GB
}


class NotBought(Exception):
    """The provider said no to the create call: nothing was bought, and it may be asked again after a while."""

    def __init__(self, why: str, *, wait: float, fatal: NightshootError | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait = wait  # seconds
        self.fatal = fatal  # asking again would get the same answer: what to tell the user


class Missing(Unavailable):
    """The service knows nothing of this name, or says so."""


class Gone(Exception):
    """Nothing can be read of it now: no such job, or no result; not yet, or no longer, or not with this key."""

    def __init__(self, why: str, *, ending: "Ending | None" = None) -> None:
        super().__init__(why)
        self.ending = ending  # of a job that is over, and whose result is what cannot be read


class Refusal(Exception):
    """The service refused this one request, and would again: nothing was bought, and others may go."""

    def __init__(self, code: int, status: str | None, message: str) -> None:
        super().__init__(message)
        self.code, self.status, self.message = code, status, message


class MaybeBought(Exception):
    """The create call got no answer that tells. Only the provider's listing can."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A reference at the provider."""

    uri: str
    expires: datetime | None  # in the provider's time; None: never
    name: str  # what unstage() takes


@dataclass(frozen=True, slots=True)
class Origin:
    """An object in a bucket, and the generation of it that was planned with."""

    address: str  # gs://...
    generation: int


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of ours at the provider, or in the bucket that it reads and writes."""

    name: str  # what unstage() takes
    label: str  # of the batch that it was staged or written for; of a reference what it is called, or nothing
    size: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A remote job that carries the label in question."""

    ticket: str
    input: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the provider's listing shows, and how far it can be trusted."""

    candidates: tuple[Candidate, ...]
    seen: frozenset[str]  # every ticket listed
    at: datetime | None  # the provider's time at the first page
    complete: bool  # read to its last page


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job of the account's, as the provider's listing shows it."""

    ticket: str
    label: str | None
    model: str | None
    state: str  # the provider's own word
    at: datetime | None  # when it was made
    requests: int | None  # None: the provider does not say


@dataclass(frozen=True, slots=True)
class Offer:
    """What the service says of a model that it has."""

    name: str
    batches: bool | None  # whether it comes in batches; None: the service does not say


@dataclass(frozen=True, slots=True)
class Ending:
    """How the provider finished a batch."""

    how: str  # succeeded, failed, cancelled, expired
    at: datetime | None
    files: tuple[ResultFile, ...] = ()
    stats: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture as it came: bytes, and what somebody said they are."""

    data: bytes
    declared_mime: str | None
    prompt: str | None = None  # what the service made of the prompt for it


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back for one request, before its pictures are looked at."""

    kind: str  # of the closed list in docs/format.md
    reason: str | None = None  # the provider's word
    message: str | None = None  # its sentence
    text: str | None = None
    grounding: str | None = None  # what it looked up, as JSON text
    drawings: tuple[
        Drawing, ...
    ] = ()  # in order; the last one is the final picture, unless they are alternatives
    usage: Usage | None = None  # None: not said, or nothing was billed
    billed: bool = True  # False: an error row
    model_version: str | None = None
    response_id: str | None = None
    at: datetime | None = None
    order: tuple[str | None, ...] = ()  # its words in their places: None is the next of its pictures
    thoughts: tuple[
        str | Drawing, ...
    ] = ()  # what it thought, words and drafts in order; no part of the answer
    parts: tuple[Mapping[str, Any], ...] = ()  # all that the model said, as it came: for another turn
    alternatives: bool = (
        False  # of several drawings each is a result, and the first whole one is the final picture
    )
    safety_scores: str | None = None  # how harmful the service thinks it is, as JSON text


class Backend(Protocol):
    """Somebody who makes pictures. Only submit costs money."""

    account: str
    """Who pays: a fingerprint of the key, or a project. Never the key."""

    service: str
    """The base URL that is talked to."""

    life: timedelta
    """So long after it was sent a job has ended, and what cannot be read of it then will never be."""

    def encode(self, wire_id: str, prompt: Prompt) -> bytes:
        """One line of requests/, without its line end. References are named by digest."""
        ...

    reads_buckets: bool
    """Whether a reference may stay in the bucket where it lies."""

    def attach(
        self, sha256: str, data: Callable[[], BinaryIO], *, mime: str, origin: Origin | None = None
    ) -> Attached:
        """Show the provider a reference, whose bytes are asked for only where it has to be sent. Free to repeat.

        What lies in a bucket the provider reads itself may be named there, as long as it is the very same. Safe to
        use from several threads.
        """
        ...

    def stage(self, label: str, lines: Iterable[bytes]) -> str:
        """Upload the lines, references put in place, as a file of their own. Free. Returns its remote name."""
        ...

    def submit(self, label: str, model: str, staged: str) -> str:
        """One create call, and its ticket. The only line that costs money; never repeated here.

        Raises NotBought or MaybeBought.
        """
        ...

    def ask(self, model: str, line: bytes, *, timeout: timedelta) -> bytes:
        """Have one request answered at once, at the standard price: the response as it came, a JSON object on one line.

        A call costs money, so only submit of the online lane makes it, behind its intent. Never repeated here. `line`
        is one of requests/, references in place. Raises NotBought, MaybeBought, or Refusal. Safe to use from several
        threads.
        """
        ...

    def remote(self) -> Iterator[Remote]:
        """The files of this program that lie at the provider now; on a shared account those of other runs too."""
        ...

    def unstage(self, staged: str) -> None:
        """Remove an input file. After this, a create call that names it buys nothing: it is refused, or its job fails
        before it reads a row."""
        ...

    def time(self) -> datetime | None:
        """The provider's own time, now. None: it does not say."""
        ...

    def find(self, label: str) -> Found:
        """The remote jobs that carry this label."""
        ...

    def ending(self, ticket: str) -> Ending | None:
        """How it ended. None: still at it. Raises Gone."""
        ...

    def answered(self, ticket: str) -> int:
        """How many requests of a job that goes on had an answer when it was last asked after, as far as the service
        counts them. Asks nobody."""
        ...

    def open(self, ticket: str, file: str, *, start: int, end: int | None) -> BinaryIO:
        """A stream of a result file's bytes, from start. Survives cut connections. It or reading it raises Missing."""
        ...

    def line_id(self, line: Line, *, ticket: str) -> str | None:
        """The wire id that a line of this ticket's result answers, or None if it says none. The same every time."""
        ...

    def outcome(self, line: Line) -> Outcome:
        """What a line says: the other half of encode. Never raises for anything a server could send."""
        ...

    def cancel(self, ticket: str) -> None:
        """Ask the provider to stop. Free to repeat."""
        ...

    # For whoever looks, and shoots nothing: all of it is free.

    def jobs(self) -> Iterator[RemoteJob]:
        """Every job of the account, a page of the listing at a time. Raises Unavailable where a page cannot be read."""
        ...

    def offer(self, model: str) -> Offer | None:
        """What the service says of a model. None: it has none of this name."""
        ...

    def raw(self, ticket: str) -> Mapping[str, Any]:
        """A remote job just as the provider shows it. Raises Gone."""
        ...

    def takes_ranges(self, ticket: str, file: str) -> bool:
        """Whether a single byte from the middle of a result can be had. Asks for one."""
        ...
