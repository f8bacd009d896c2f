"""What a place for runs must promise, and the two ways it can say no."""

from collections.abc import Iterator
from typing import BinaryIO, Protocol


class NotFound(Exception):
    """No file of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class AlreadyThere(Exception):
    """The name is taken, and by other bytes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Storage(Protocol):
    """A folder of files that are written once. Safe to use from several threads, processes and machines.

    Whole: a reader sees all of a file or none of it.
    Exclusive: of several put_if_absent on one name, one set of bytes wins; all others raise AlreadyThere.
    Listed: once a put returned, list shows the name; and what returned is durable.

    Names are relative, '/'-separated, with no empty, '.' or '..' part. Names under '.tmp/' are never listed.
    There is no verb for deleting and none for changing: a file may be put again, but only to say the same.
    """

    url: str
    """Where this is, as a person would type it: a path, or gs://bucket/prefix."""

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from start up to, not including, end. Raises NotFound."""
        ...

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        """A stream from start to the end of the file, with a buffer of it in memory. Raises NotFound."""
        ...

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        """Write a file whose bytes follow from its name, so that doing it twice changes nothing.

        Raises AlreadyThere where the storage notices that other bytes hold the name.
        """
        ...

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        """Write a file unless the name is taken. These very bytes there: success; others: AlreadyThere."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """The names that start with prefix and sort behind after, in the byte order of their UTF-8."""
        ...
