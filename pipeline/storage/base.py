"""What a place for runs must promise, and the two ways it can say no."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from pipeline.errors import Corrupt, Unavailable


class NotFound(Corrupt):
    """No file of this name. Who expected none catches it; for all others the run is not whole."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not there", hint="restore it: something that happened earlier needs it")
        self.name = name


class NoRoom(Unavailable):
    """The place is full. Waiting makes no room: a person does."""


class AlreadyThere(Corrupt):
    """The name is taken, and by other bytes. Who raced for it catches it; for all others two writers disagree."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is there already, with other bytes",
            hint="a file was changed, or two versions of nightshoot disagree: restore it, or start a new run",
        )
        self.name = name


class Storage(Protocol):
    """A folder of files that are written once. Safe to use from several threads, processes and machines.

    Whole: a reader sees all of a file or none of it.
    Exclusive: of several writers of one name, one set of bytes wins; all others raise AlreadyThere.
    Listed: once a put returned, list shows the name; and what returned is durable.

    Names are relative and '/'-separated; what may be in them is said in names.py, and other names raise
    ValueError. Names under '.tmp/' are never listed.
    There is no verb for deleting and none for changing: a file may be put again, but only to say the same.
    Trouble with the place itself comes as Unavailable, Denied, BadInput or Corrupt from errors.py.
    """

    url: str
    """Where this is, as a person would type it: a path, or gs://bucket/prefix."""

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from start up to, not including, end; none behind the file's end. Raises NotFound."""
        ...

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        """A stream from start to the end of the file, in memory never more than a buffer. Raises NotFound.

        It can seek, by offsets in the file, and it stays with the file it opened.
        """
        ...

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        """Write a file whose bytes follow from its name, so that doing it twice changes nothing.

        A stream is read once, from where it stands to its end, and not closed. Raises AlreadyThere where the
        storage notices that other bytes hold the name; a bucket compares sizes and checksums, not bytes.
        """
        ...

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        """The first half of a put: what keeps the processor busy. What is returned is the other half, and waits.

        It is called once. After that the file has its name; it is durable once its folder was settled as well. Where
        the other half is never called, nothing was begun.
        """
        ...

    def settle(self, folder: str) -> None:
        """Make durable, all at once, what was put in halves and lies in this folder. Having failed it fails again."""
        ...

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        """Write a file unless the name is taken. These very bytes there: success. Others: AlreadyThere."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """The names that start with prefix and sort behind after, in the byte order of their UTF-8.

        The prefix need not end at a '/'. Names put meanwhile may show or not; nothing there means no names.
        """
        ...


class Versioned(Protocol):
    """A place whose files have versions, so that one can be read as it was when it was looked at."""

    def version(self, name: str) -> tuple[int, int]:
        """Size and version of a file now. Raises NotFound."""
        ...

    def read_version(self, name: str, version: int) -> bytes:
        """The bytes of that version. Raises NotFound where it is gone."""
        ...


class Inspected(Protocol):
    """A bucket that can be asked about itself. Nothing is written, and asking is no right that an account must have."""

    def allows(self, permissions: Collection[str]) -> frozenset[str]:
        """Which of these the account has there. Raises BadInput where there is no such bucket."""
        ...

    def location(self) -> str:
        """Where the bucket lies, as Cloud Storage writes it. Raises Denied where the account may not know."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as a listing shows it."""

    name: str
    size: int
    version: int


class Bucket(Versioned, Protocol):
    """A bucket in which another program works beside us: what it wrote is read, and what it was shown is removed."""

    def files(self, prefix: str) -> Iterator[Stored]:
        """Every file whose name starts with prefix, whatever it is called."""
        ...

    def open_version(self, name: str, version: int, *, start: int = 0) -> BinaryIO:
        """A stream of that version's bytes, in memory never more than a buffer. Raises NotFound."""
        ...

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        """As Storage has it."""
        ...

    def remove(self, name: str) -> None:
        """See to it that there is no such file. Free to repeat."""
        ...
