"""What every place for runs must do. Each test is one sentence of the Storage protocol."""

import functools
import io
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pytest

from pipeline.storage import AlreadyThere, NotFound, Storage
from tests.contracts.conftest import Place

MEGABYTE = 1_000_000
WRITERS = 16


def together(calls: list[Callable[[], None]]) -> list[BaseException | None]:
    """Make all calls at the same moment, each in a thread of its own; what each of them raised."""
    gate = threading.Barrier(len(calls))

    def call(one: Callable[[], None]) -> None:
        gate.wait()
        one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.exception() for future in [pool.submit(call, one) for one in calls]]


class Endless(io.RawIOBase):
    """A stream of so many bytes that nobody holds, and that cannot seek."""

    def __init__(self, size: int, seed: int = 7) -> None:
        self._place, self._size = 0, size
        self._block = random.Random(seed).randbytes(MEGABYTE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = self._place % MEGABYTE
        # Short reads, as sockets make them.
        count = min(len(buffer), self._size - self._place, MEGABYTE - at, MEGABYTE // 7)
        buffer[:count] = self._block[at : at + count]
        self._place += count
        return count


def stream(size: int, seed: int = 7) -> BinaryIO:
    return io.BufferedReader(Endless(size, seed))


def pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    return iter(functools.partial(file.read, size), b"")


def test_what_was_put_is_read_by_everybody(place: Place) -> None:
    """Another driver opens the same place and finds the file, empty ones too."""
    place.open().put("pictures/00017/0212-sku.jpg", b"picture", content_type="image/jpeg")
    place.open().put_if_absent("journal/00000000.json", b"")

    another = place.open()

    assert another.read("pictures/00017/0212-sku.jpg") == b"picture"
    assert another.read("journal/00000000.json") == b""
    assert list(another.list("")) == ["journal/00000000.json", "pictures/00017/0212-sku.jpg"]


@pytest.mark.parametrize("size", [40, 3 * MEGABYTE])
def test_of_sixteen_writers_exactly_one_wins(place: Place, size: int) -> None:
    """All others are told that the name is taken, and what is there is the winner's, whole."""
    texts = [bytes([65 + number]) * size for number in range(WRITERS)]
    drivers = [place.open() for _ in range(4)]

    for round_ in range(3):
        name = f"journal/{round_}.json"
        raised = together(
            [
                functools.partial(drivers[number % 4].put_if_absent, name, text)
                for number, text in enumerate(texts)
            ]
        )

        winners = [number for number, error in enumerate(raised) if error is None]
        assert len(winners) == 1
        assert {type(error) for error in raised if error} == {AlreadyThere}
        assert drivers[0].read(name) == texts[winners[0]]


@pytest.mark.parametrize("verb", ["put", "put_if_absent"])
def test_sixteen_writers_of_the_same_bytes_all_succeed(place: Place, verb: str) -> None:
    drivers = [place.open() for _ in range(4)]
    calls = [
        functools.partial(getattr(drivers[number % 4], verb), "plan/0.parquet", b"same" * 9)
        for number in range(WRITERS)
    ]

    assert together(calls) == [None] * WRITERS
    assert drivers[0].read("plan/0.parquet") == b"same" * 9


@pytest.mark.parametrize("verb", ["put", "put_if_absent"])
def test_a_file_may_be_put_again_to_say_the_same_and_nothing_else(place: Place, verb: str) -> None:
    storage = place.open()
    put = getattr(storage, verb)

    put("requests/00001.jsonl", b"first\n")
    put("requests/00001.jsonl", b"first\n")

    for other in (b"other\n", b"first\nand more\n", b"firs", b""):
        with pytest.raises(AlreadyThere, match=r"requests/00001\.jsonl") as raised:
            put("requests/00001.jsonl", other)
        assert raised.value.name == "requests/00001.jsonl"
    assert storage.read("requests/00001.jsonl") == b"first\n"


def test_a_put_may_be_done_in_halves(place: Place) -> None:
    """After the second it is what any other put is: read by everybody, listed, typed, and nobody else's."""
    storage = place.open()

    ends = [storage.begin(f"pictures/00000/{n}.png", b"%d" % n, content_type="image/png") for n in range(3)]
    for end in reversed(ends):
        end()
    storage.settle("pictures/00000")

    another = place.open()
    assert [another.read(name) for name in another.list("pictures/")] == [b"0", b"1", b"2"]
    storage.begin("pictures/00000/1.png", b"1")()
    with pytest.raises(AlreadyThere, match=r"pictures/00000/1\.png"):
        storage.begin("pictures/00000/1.png", b"other")()
    assert storage.read("pictures/00000/1.png") == b"1"


def test_what_was_begun_and_never_ended_is_not_there(place: Place) -> None:
    storage = place.open()

    storage.begin("pictures/00000/0.png", b"never")
    storage.settle("pictures/00000")

    assert list(storage.list("")) == []
    storage.put("pictures/00000/0.png", b"another")
    assert storage.read("pictures/00000/0.png") == b"another"


def test_of_two_that_began_the_same_name_the_first_to_end_has_it(place: Place) -> None:
    one, other, same = place.open(), place.open(), place.open()
    ends = [one.begin("a", b"one"), other.begin("a", b"other"), same.begin("a", b"one")]

    ends[0]()
    with pytest.raises(AlreadyThere):
        ends[1]()
    ends[2]()

    assert one.read("a") == b"one"


def test_a_stream_may_be_put_again_to_say_the_same_and_nothing_else(place: Place) -> None:
    if "preconditions on resumable uploads" in place.lacks:
        pytest.skip("this server takes a resumable upload for a name that is taken")
    storage = place.open()
    size = 9 * MEGABYTE

    storage.put("results/00001/0.jsonl", stream(size))
    storage.put("results/00001/0.jsonl", stream(size))

    for other in (stream(size, seed=8), stream(size - 1), stream(size + 1), io.BytesIO(b"short")):
        with pytest.raises(AlreadyThere):
            storage.put("results/00001/0.jsonl", other)
    assert storage.read("results/00001/0.jsonl", start=size - 3) == stream(size).read()[-3:]


def test_a_stream_is_read_from_where_it_stands_and_left_open(place: Place) -> None:
    file = io.BytesIO(b"skipped-kept")
    file.seek(8)

    place.open().put("a", file)

    assert place.open().read("a") == b"kept"
    assert not file.closed


def test_a_reader_never_sees_half_a_file(place: Place) -> None:
    """While 8 MB are written, whole or as a stream, there is nothing; then there is all of it."""
    storage, reader = place.open(), place.open()
    size = 8 * MEGABYTE
    whole = stream(size).read()
    seen: list[bytes] = []
    written = threading.Event()

    def look() -> None:
        while not (finished := written.is_set()) or len(seen) < 2:
            for name in list(reader.list("pictures/")):
                seen.append(reader.read(name))
            assert not finished or len(seen) >= 2

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        storage.put("pictures/0", whole)
        storage.put("pictures/1", stream(size))
        written.set()
        looking.result()

    assert {len(one) for one in seen} == {size}
    assert all(one == whole for one in seen)


def test_a_large_stream_is_put_in_little_memory(place: Place) -> None:
    """64 MB go in and come out again, and never are more than a few of them here."""
    storage = place.open()
    size = 64 * MEGABYTE

    tracemalloc.start()
    try:
        storage.put("results/00003/0.jsonl", stream(size))
        with storage.open("results/00003/0.jsonl") as file:
            assert sum(len(piece) for piece in pieces(file, MEGABYTE)) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 48 * MEGABYTE


def test_any_range_of_a_file_can_be_read(place: Place) -> None:
    storage = place.open()
    storage.put("a", b"0123456789")

    assert storage.read("a", start=3) == b"3456789"
    assert storage.read("a", end=3) == b"012"
    assert storage.read("a", start=3, end=4) == b"3"
    assert storage.read("a", start=8, end=99) == b"89"
    assert storage.read("a", start=10) == b""
    assert storage.read("a", start=99, end=100) == b""
    assert storage.read("a", start=4, end=4) == b""
    assert storage.read("a", end=0) == b""
    with pytest.raises(ValueError, match="byte -1"):
        storage.read("a", start=-1)


def test_an_empty_file_has_no_ranges_but_can_be_read(place: Place) -> None:
    storage = place.open()
    storage.put("empty", b"")

    assert storage.read("empty", start=0, end=5) == b""
    assert storage.read("empty", start=1) == b""
    with storage.open("empty") as file:
        assert file.read() == b""


def test_a_file_opens_at_any_byte_and_streams_to_its_end(place: Place) -> None:
    storage = place.open()
    size = 9 * MEGABYTE
    whole = stream(size).read()
    storage.put("results/0", whole)

    for start in (0, 1, MEGABYTE + 1, size - 1, size, size + 5):
        with storage.open("results/0", start=start) as file:
            assert b"".join(pieces(file, 700_001)) == whole[start:]


def test_an_open_file_can_seek(place: Place) -> None:
    """Parquet is read from its end."""
    storage = place.open()
    storage.put("index/00000.parquet", b"PAR1 columns footer PAR1")

    with storage.open("index/00000.parquet") as file:
        file.seek(-4, io.SEEK_END)
        assert file.read() == b"PAR1"
        file.seek(5)
        assert (file.read(7), file.tell()) == (b"columns", 12)


def test_a_name_that_is_not_there_is_not_found(place: Place) -> None:
    """Before anything was put, and beside, below and above what was."""
    storage = place.open()
    with pytest.raises(NotFound):
        storage.read("a/b")
    storage.put("a/b", b"")

    for name in ("a", "a/c", "a/b/c", "b"):
        with pytest.raises(NotFound) as raised:
            storage.read(name)
        assert raised.value.name == name
        with pytest.raises(NotFound):
            storage.open(name, start=3)


def test_a_place_where_nothing_was_put_is_empty(place: Place) -> None:
    assert list(place.open().list("")) == []
    assert list(place.open().list("journal/", after="journal/0")) == []


UNORDERED = [
    "a", "a-b", "a.b/c", "a/b", "a/b-c", "a0", "B", "journal/00000000.json", "journal/00000001.json",
    "journal-old", "z/ä", "z/z", "z/\uffef", "z/\U0001f460", "with space/#1?.jpg", "100%/a+b", "[x]*",
]  # fmt: skip
"""Names whose order in a file system, by character and by byte are three different ones."""


def test_names_are_listed_in_the_byte_order_of_their_utf8(place: Place) -> None:
    storage = place.open()
    for name in UNORDERED:
        if name != "a":  # a file and a folder of one name is more than a file system can hold
            storage.put(name, name.encode())

    listed = list(storage.list(""))

    assert listed == sorted(set(UNORDERED) - {"a"}, key=str.encode)
    assert [storage.read(name).decode() for name in listed] == listed


def test_a_prefix_need_not_end_at_a_slash(place: Place) -> None:
    place.fill(["journal/00000001.json", "journal/00000010.json", "journal-old/1", "plan/1", "j"])
    storage = place.open()

    assert list(storage.list("journal/0000000")) == ["journal/00000001.json"]
    assert list(storage.list("journal")) == [
        "journal-old/1",
        "journal/00000001.json",
        "journal/00000010.json",
    ]
    assert list(storage.list("journal/00000010.json")) == ["journal/00000010.json"]
    for nothing in ("journal/2", "x", "journal//", "/", "../", ".", "journal/../", "plan/1/"):
        assert list(storage.list(nothing)) == []


def test_a_listing_goes_on_behind_a_name(place: Place) -> None:
    place.fill(["a-b", "a/1", "a/2", "a/3/4", "a/4", "b"])
    storage = place.open()
    everything = list(storage.list(""))

    for name in everything:
        assert list(storage.list("", after=name)) == [other for other in everything if other > name]
        assert list(storage.list("a/", after=name)) == [
            other for other in everything if other > name and other.startswith("a/")
        ]
    assert list(storage.list("a/", after="a/2/2")) == ["a/3/4", "a/4"]
    assert list(storage.list("a/", after="0")) == ["a/1", "a/2", "a/3/4", "a/4"]
    assert list(storage.list("a/", after="b")) == []


def test_a_listing_has_more_than_one_page(place: Place) -> None:
    names = sorted(f"journal/{number:08}.json" for number in range(1_120))
    place.fill(names)
    storage = place.open()

    assert list(storage.list("journal/")) == names
    assert list(storage.list("", after=names[1_050])) == names[1_051:]


def test_temporary_files_and_what_is_no_name_are_never_listed(place: Place) -> None:
    place.fill([".tmp/half-written", "plan/.DS_Store", "plan/1"])

    assert list(place.open().list("")) == ["plan/1"]
    assert list(place.open().list(".tmp/")) == []


@pytest.mark.parametrize(
    "name",
    ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", ".tmp/a", ".a", "a/.b", "a\nb", "a\0",
     "\x7f", "\x85", "\udcff", "é" * 451, "a/" * 450 + "a", "x" * 256],
)  # fmt: skip
def test_names_that_not_every_place_can_hold_are_refused(place: Place, name: str) -> None:
    storage: Storage = place.open()

    for call in (
        functools.partial(storage.put, name, b""),
        functools.partial(storage.put_if_absent, name, b""),
        functools.partial(storage.read, name),
        functools.partial(storage.open, name),
    ):
        with pytest.raises(ValueError, match="is no name"):
            call()
    assert list(storage.list("")) == []


def test_long_names_are_taken(place: Place) -> None:
    storage = place.open()
    name = "/".join(["ü" * 112] * 4)  # 899 bytes

    storage.put(name, b"long")

    assert list(storage.list("")) == [name]
    assert storage.read(name) == b"long"


def test_it_says_where_it_is_as_a_person_would(place: Place) -> None:
    assert place.open().url == place.url
