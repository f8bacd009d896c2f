"""What can happen to a run, and its JSON. Plain values only: no rules here, those are in state.py."""

from datetime import datetime
from typing import Any

import msgspec

FORMAT = 1
"""The newest format of a run directory that this version reads and writes."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """An event's fields are exactly these: one that this version does not know must stop it, not be dropped."""


FINAL = "final"
"""The lane of requests that are final before sending. Every other lane is a model: a batch asks one model only."""

LATER = "later"
"""The lane of rows that edit another row's picture. They are planned with the others, so that nobody needs the manifest
afterwards; each is asked in a batch of a later wave, once what it edits is settled.
"""

UNASKED = frozenset({FINAL, LATER})
"""Lanes that are no model: of their batches nothing is sent."""

ON_ITS_WAY = "on_its_way"
"""What `earlier` says of a request that an unfinished run has paid for and not collected yet."""


class Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="of", tag="rows"):
    """A span of the manifest's rows. Of its requests the batch takes those of one lane."""

    start: int
    stop: int
    lane: str


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="of", tag="retries"):
    """The retry files of settled batches of one model, emptied together."""

    batches: tuple[int, ...]


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="of", tag="cut"):
    """Some places of a batch that was too large for the provider."""

    batch: int
    start: int
    stop: int


class Takes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="of", tag="takes"):
    """Requests of a settled batch that ended without their picture, and that a person wants asked once more."""

    batch: int
    places: tuple[int, ...]
    were: dict[str, int] = {}  # the outcomes they had
    after: dict[str, int] = {}  # and those of what follows them, which is asked anew when they are home
    above: int = 1  # no further take of what follows them has a higher number


class Piece(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some of a settled batch's follow-ups of one lane, counted from 0 in the order of its file."""

    batch: int
    start: int
    stop: int


class Turns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="of", tag="turns"):
    """Follow-ups of settled requests, of one lane. Those with nothing to go on from are in the lane `final`."""

    lane: str
    pieces: tuple[Piece, ...]
    reviewed: int = 0  # so many files of decisions were applied by then


class Rejected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="of", tag="rejected"):
    """Follow-ups of a settled batch that are not asked, because a person rejected what they would go on from."""

    batch: int
    lane: str  # that they would go into
    places: tuple[int, ...]  # counted as a piece counts
    reviewed: int  # the first so many files of decisions say so


Source = Rows | Retries | Cut | Takes | Turns | Rejected


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the run, and what it held when it was recorded."""

    name: str
    size: int
    sha256: str


class ResultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file at the provider."""

    name: str
    size: int | None = None  # None: the provider would not say


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A byte range of a result file. A line belongs to the part that holds its first byte."""

    file: str
    start: int
    end: int | None = None  # None: to the end


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens of a whole batch, as the provider counted them."""

    prompt: int = 0
    image: int = 0
    text: int = 0
    thought: int = 0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a batch is cut, and how results are read. Pinned, so that all drivers cut alike."""

    requests: int
    input_bytes: int
    output_bytes: int  # predicted
    tokens: int
    in_flight: int  # batches at the provider at once
    part_bytes: int
    queue: int | None = None  # tokens of one model that wait there at once; None: as its tier allows
    stored: int | None = None  # bytes of files kept there at once; None: what a project may keep


class Reused(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An earlier run whose answers count, as far as its journal went when this one was begun."""

    place: str  # its name, where it lies beside this one; else a path or URL
    run: str  # its id
    records: int
    unfinished: bool = False  # by then: some of what was paid for was still on its way


class Created(_Event, frozen=True, kw_only=True, tag="created"):
    """The run: everything that could differ between two drivers."""

    format: int
    run: str  # random id
    name: str
    job: dict[str, Any]
    models: dict[str, Any]  # the rows of models.toml that this run uses
    prices_as_of: str
    manifest: str  # as the job writes it
    manifest_sha256: str
    columns: tuple[str, ...]
    rows: int
    photos: str  # sha256 over the digests of all references
    lanes: dict[str, int]  # how many requests each model gets, and how many are final before sending
    follow_ups: dict[str, int] = {}  # and how many come after these, in later waves
    backend: str
    service: str  # base URL
    limits: Limits
    attempts: int
    cap: int | None  # billionths of a dollar
    version: str  # of nightshoot
    reused: tuple[Reused, ...] = ()  # newest first
    carried: int = 0  # of the requests that are final before sending, those that an earlier run answered
    said: int = 0  # what it would likely cost, as the plan said
    canary: int = 0  # so many requests of each model go first, alone; 0: all go at once
    again: dict[str, int] = {}  # outcomes with a number of attempts of their own
    online: bool = False  # a proof: every batch of it goes online


class Drawn(_Event, frozen=True, kw_only=True, tag="drawn"):
    """What goes into a batch, decided before any file of it exists."""

    batch: int
    source: Source
    online: bool = False  # each of its requests is asked at once, at the standard price


class Planned(_Event, frozen=True, kw_only=True, tag="planned"):
    """The batch's files are there."""

    batch: int
    model: str
    requests: int
    tokens: int  # what the provider will count against its queue
    sent_bytes: int = 0  # the size of the file that is uploaded, about
    low: int
    likely: int
    high: int
    digest: str  # sha256 of requests/, as stored
    plan: File
    lines: File | None = None  # None: nothing to send


class Uploaded(_Event, frozen=True, kw_only=True, tag="uploaded"):
    """References that the provider has now, uploaded for a batch and good for all: which and where is in the file."""

    batch: int
    account: str
    file: File
    until: datetime  # the first of them goes then, in the provider's time


class Submitting(_Event, frozen=True, kw_only=True, tag="submitting"):
    """The intent: one create call with this input file may happen until then."""

    batch: int
    account: str
    label: str
    input: str
    until: datetime
    replaces: int | None = None  # the number of the intent taken over
    seen: datetime | None = None  # the provider's time when its complete listing showed nothing


class PutBack(_Event, frozen=True, kw_only=True, tag="put_back"):
    """The provider said no to the create call, so nothing was bought."""

    batch: int
    intent: int
    why: str
    not_before: datetime


class Submitted(_Event, frozen=True, kw_only=True, tag="submitted"):
    """The provider took it, and this is what to ask for."""

    batch: int
    intent: int
    ticket: str
    adopted: bool = False  # found in the provider's listing


class Held(_Event, frozen=True, kw_only=True, tag="held"):
    """Submitted or not, we cannot tell."""

    batch: int
    intent: int
    why: str


class Ended(_Event, frozen=True, kw_only=True, tag="ended"):
    """The provider is done with it."""

    batch: int
    how: str  # succeeded, failed, cancelled, expired
    at: datetime | None  # the provider's time
    files: tuple[ResultFile, ...] = ()
    parts: tuple[Part, ...] = ()
    stats: dict[str, int] = {}
    error: str | None = None


class Collected(_Event, frozen=True, kw_only=True, tag="collected"):
    """Settled. The books balance: planned = indexed + to retry."""

    batch: int
    indexed: int
    retry: int
    surplus: int  # lines that were billed and nobody asked for
    outcomes: dict[str, int]  # of the indexed
    carried: dict[str, int] = {}  # of the reused: the outcomes they had
    again: dict[str, int]  # of those to retry
    pictures: int
    picture_bytes: int
    tokens: Tokens
    spent: int
    surplus_spent: int = 0  # of what was spent, the part for surplus lines
    unconfirmed: int
    index: File | None = None
    retries: File | None = None
    quarantine: File | None = None
    turns: dict[str, int] = {}  # how many follow-ups it leads to, by the lane they go into
    released: int = 0  # of those, how many are rows that edit a picture of this batch's
    turns_again: int = 0  # of those, how many were there before: what they follow is a further take
    turns_file: File | None = None


class Disowned(_Event, frozen=True, kw_only=True, tag="disowned"):
    """A remote job of ours that is nobody's: another driver had sent its batch already. It was cancelled."""

    batch: int
    ticket: str


class Recut(_Event, frozen=True, kw_only=True, tag="recut"):
    """Too large for the provider, ever: two new batches take its requests, those below a place and the others."""

    batch: int
    at: int
    why: str


class Withdrawn(_Event, frozen=True, kw_only=True, tag="withdrawn"):
    """The provider is asked to stop at it. What it has made by then is still brought home."""

    batch: int
    ticket: str
    why: str  # stalled, deadline, asked
    again: bool  # whether what stays unanswered may be asked again


class Swept(_Event, frozen=True, kw_only=True, tag="swept"):
    """A batch that broke off was asked after once more, when late results had had their time: this is all there is."""

    batch: int
    files: tuple[ResultFile, ...] = ()
    parts: tuple[Part, ...] = ()


class Cleared(_Event, frozen=True, kw_only=True, tag="cleared"):
    """The rest of a model's batches may go, whatever its canary brings."""

    batch: int  # the canary
    why: str  # late, asked


class Released(_Event, frozen=True, kw_only=True, tag="released"):
    """A person says that what came to nothing is asked again, though it was much of a batch and for one reason."""

    batches: tuple[int, ...]


class Stopped(_Event, frozen=True, kw_only=True, tag="stopped"):
    """Nothing more is sent. What is not final by then is final as it is."""

    why: str  # deadline, asked


class Capped(_Event, frozen=True, kw_only=True, tag="capped"):
    """The run may spend this much from here on."""

    cap: int | None


class Reviewed(_Event, frozen=True, kw_only=True, tag="reviewed"):
    """A person's decisions about pictures. Of one picture the last that was recorded counts."""

    number: int  # of the file
    file: File
    reviewed: int  # so many were applied before it
    approved: int
    rejected: int
    decided: dict[
        str, tuple[int, ...]
    ] = {}  # of each lane, batches whose follow-ups waited for the last of these


Event = (
    Created
    | Drawn
    | Planned
    | Uploaded
    | Submitting
    | PutBack
    | Submitted
    | Held
    | Ended
    | Collected
    | Disowned
    | Recut
    | Withdrawn
    | Swept
    | Cleared
    | Released
    | Stopped
    | Capped
    | Reviewed
)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event with its number, when it was written, and by whom."""

    number: int
    at: datetime
    writer: str
    event: Event


class Unknown(Exception):
    """A record from a later version."""


class Unreadable(Exception):
    """Bytes that are no record of any version."""


class _Envelope(msgspec.Struct):
    """As much of a record as any version can read."""

    event: dict[str, Any] = {}


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Record).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_KINDS = {kind.__struct_config__.tag for kind in Event.__args__}


def to_json(record: Record) -> bytes:
    """The same record is always the same bytes."""
    return _encode(record)


def from_json(data: bytes) -> Record:
    """Raises Unknown for a newer format, kind or field, and Unreadable for what is no record at all."""
    try:
        event = _decode_envelope(data).event
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"is no record: {error}") from error
    try:
        if event.get("kind") == "created" and event.get("format", 0) > FORMAT:
            raise Unknown(f"is format {event['format']}; this version knows format {FORMAT}")
        if event.get("kind") not in _KINDS:
            raise Unknown(f"holds an event {event.get('kind')!r}, which this version does not know")
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise Unknown(f"is no record this version can read: {error}") from error
