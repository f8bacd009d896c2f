"""A stream as blocks of bytes that lines are cut out of in place: read into memory, or mapped where it is a file."""

import io
import mmap
import os
import stat
from typing import Any, BinaryIO, Protocol

BLOCK = 4 << 20
"""Bytes. A line that begins in one block and ends in the next is moved, so a block holds several."""

Bytes = bytes | memoryview


class Source(Protocol):
    """What was read of a stream and not dropped yet, in one piece: buffer[head:head + held]."""

    buffer: Any  # bytearray or mmap: both can find
    head: int
    held: int

    def find(self, what: bytes, seen: int) -> int:
        """Where it is, counted from the head, stepping over what was seen. Less than 0: not in what is held."""
        ...

    def view(self, size: int) -> memoryview:
        """The next bytes, in place. Their block lives as long as the view does."""
        ...

    def drop(self, size: int) -> None:
        """Step over the next bytes."""
        ...

    def more(self) -> bool:
        """Read on behind what is held, wherever buffer and head are then. False: the stream has ended."""
        ...


def blocks_of(stream: BinaryIO, *, block: int) -> Source:
    """The stream from where it stands. A file is mapped, since a copy of it would be all that reading adds."""
    descriptor = _file(stream)
    return Read(stream, block) if descriptor is None else Mapped(descriptor, stream.tell(), block)


def _file(stream: BinaryIO) -> int | None:
    """The descriptor of a real file that a stream reads with nothing in between."""
    raw = stream.raw if isinstance(stream, io.BufferedReader) else None
    if not isinstance(raw, io.FileIO) or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None
    return raw.fileno()


class _Held:
    buffer: Any
    head: int
    held: int

    def find(self, what: bytes, seen: int) -> int:
        found: int = self.buffer.find(what, self.head + seen, self.head + self.held)
        return found - self.head

    def view(self, size: int) -> memoryview:
        return memoryview(self.buffer)[self.head : self.head + size]

    def drop(self, size: int) -> None:
        self.head += size
        self.held -= size


class Read(_Held):
    """A stream that is read into memory."""

    def __init__(self, stream: BinaryIO, block: int) -> None:
        # One read at a time: what has come is looked at while the rest is on its way.
        self._read_into = getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]
        self._block = block
        self._used: list[bytearray] = []
        self.buffer = bytearray(block)
        self.head = self.held = 0

    def more(self) -> bool:
        if self.head + self.held == len(self.buffer):
            self._make_room()
        with memoryview(self.buffer) as whole, whole[self.head + self.held :] as room:
            count: int = self._read_into(room)
        self.held += count
        return count > 0

    def _make_room(self) -> None:
        """Another block, that begins with what is held; or the same one, longer, if it is full of one line."""
        if self.held == len(self.buffer):
            try:
                self.buffer += bytes(self.held)
            except BufferError:  # somebody holds a view of it
                pass
            else:
                return
        used, room = self.buffer, self._another(max(self._block, 2 * self.held))
        with self.view(self.held) as held:
            room[: self.held] = held
        if len(used) == self._block:
            self._used.append(used)
        self.buffer, self.head = room, 0

    def _another(self, size: int) -> bytearray:
        """A block that nobody holds a view of any more: to be given memory takes longer than to fill it."""
        for place, block in enumerate(self._used):
            if size == self._block and _is_free(block):
                return self._used.pop(place)
        return bytearray(size)


def _is_free(block: bytearray) -> bool:
    try:
        block.append(0)
    except BufferError:
        return False
    block.pop()
    return True


class Mapped(_Held):
    """A file that is mapped, a window at a time. It must not be cut while it is read; files of a run never are."""

    def __init__(self, descriptor: int, position: int, block: int) -> None:
        self._descriptor = descriptor
        self._block = block
        self._base = position  # of buffer[0] in the file
        self.buffer: Any = b""
        self.head = self.held = 0

    def more(self) -> bool:
        position = self._base + self.head
        size = os.fstat(self._descriptor).st_size
        if position + self.held >= size:
            return False
        base = position - position % mmap.ALLOCATIONGRANULARITY
        length = min(size - base, position - base + max(self._block, 2 * self.held))
        self.buffer = mmap.mmap(
            self._descriptor, length, flags=mmap.MAP_SHARED | _POPULATE, prot=mmap.PROT_READ, offset=base
        )
        self._base, self.head = base, position - base
        self.held = length - self.head
        return True


_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux's: all of a window at once, instead of page by page
