"""How a stream of bytes is cut into lines, whatever is in them; and that payloads stay where they stand."""

import base64
import io
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.backends import wire
from pipeline.results import LONG, Payload, lines, payload, read_object
from tests.fuzz.__main__ import fuzz
from tests.fuzz.check import check_line, said
from tests.fuzz.lines import Writer

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), ANYTHING, max_size=4)

PICTURE = bytes(range(256)) * 20
CODED = base64.b64encode(PICTURE).decode()


def cut(
    data: bytes, start: int = 0, end: int | None = None, *, block: int = 1 << 16
) -> list[tuple[int, object]]:
    stream = io.BytesIO(data[start - 1 if start else 0 :])
    return [(line.offset, line.body) for line in lines(stream, start=start, end=end, block=block)]


def answer(data: str = CODED, *, name: str = "inlineData", more: str = "") -> bytes:
    """A line around a payload as it stands in the JSON text."""
    part = f'{{"{name}":{{"mimeType":"image/png","data":"{data}"}}}}'
    return f'{{"response":{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}},"key":"k"{more}}}'.encode()


def part_of(body: Any) -> Any:
    return body["response"]["candidates"][0]["content"]["parts"][0]


def drawn(raw: bytes) -> bytes:
    """The picture that a line is read to hold."""
    (drawing,) = wire.outcome(read_object(raw) or {}).drawings
    return drawing.data


# --- lines ----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow])  # of the machine, at times, and not of these
@given(
    st.lists(OBJECTS, max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", "  \n"]),
    st.booleans(),
    st.integers(1, 99),
)
def test_every_line_comes_out_as_it_went_in(
    objects: list[object], end: str, ascii_only: bool, block: int
) -> None:
    data = "".join(json.dumps(one, ensure_ascii=ascii_only) + end for one in objects).encode(
        errors="surrogatepass"
    )
    if not ascii_only:
        data.decode()  # what a server sends is UTF-8
    assert [body for _, body in cut(data, block=block)] == objects


@given(st.lists(OBJECTS, min_size=1, max_size=6), st.data())
def test_parts_cut_anywhere_hold_each_line_once(objects: list[object], data: st.DataObject) -> None:
    """A line belongs to the part that holds its first byte."""
    whole = b"".join(json.dumps(one).encode() + b"\n" for one in objects)
    at = sorted(data.draw(st.lists(st.integers(1, len(whole)), max_size=4, unique=True)))
    bounds = [0, *at, None]
    found = [
        line for start, end in itertools.pairwise(bounds) for line in cut(whole, start or 0, end, block=7)
    ]
    assert found == cut(whole)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_line(character: str) -> None:
    line = json.dumps({"text": f"a{character}b"}, ensure_ascii=False).encode()
    assert [body for _, body in cut(line + b"\n" + line + b"\n")] == [{"text": f"a{character}b"}] * 2


def test_a_line_of_what_json_calls_no_space_is_a_line() -> None:
    """Nothing is skipped: whatever it is, somebody gets to see it."""
    assert cut(b" \t\r\n\n\x0b\n") == [(5, None)]


@pytest.mark.parametrize(
    "garbage", [b"not json", b'{"cut": "off', b"[1, 2]", b"\xff\xfe", b'"text"', b"{" * 5000]
)
def test_an_unreadable_line_is_a_line_without_a_body(garbage: bytes) -> None:
    """Its bytes are kept, and the line after it is read as ever."""
    found = list(lines(io.BytesIO(garbage + b'\n{"key": "b"}\n'), start=0, end=None))
    assert [line.body for line in found] == [None, {"key": "b"}]
    assert bytes(found[0].raw) == garbage


def test_a_last_line_without_an_end_is_read_and_known_to_have_none() -> None:
    found = list(lines(io.BytesIO(b'{"a": 1}\n{"b": 2}'), start=0, end=None))
    assert [(line.offset, line.body, line.ended) for line in found] == [
        (0, {"a": 1}, True),
        (9, {"b": 2}, False),
    ]


def test_how_far_was_read_is_told_in_the_end() -> None:
    """So whoever knows the length of a result can tell that it came short."""
    found = lines(io.BytesIO(b'{"a": 1}\r\n{"b": 2}\r'), start=0, end=None)
    assert [next(found).offset, next(found).offset] == [0, 10]
    with pytest.raises(StopIteration) as stop:
        next(found)
    assert stop.value.value == 19


def test_a_file_is_mapped_and_says_the_same(tmp_path: Path) -> None:
    """From any byte on, with windows smaller than a line and larger."""
    data = b"\n".join([answer(), b"{}", answer(CODED * 3), b"garbage", answer(name="inline_data")])
    (tmp_path / "result.jsonl").write_bytes(data)
    for start, block in itertools.product((0, 1, 7000, len(data)), (1, 5000, 1 << 20)):
        with (tmp_path / "result.jsonl").open("rb") as file:
            file.seek(max(0, start - 1))
            found = [(one.offset, said(one.body)) for one in lines(file, start=start, end=None, block=block)]
        assert found == [(offset, said(body)) for offset, body in cut(data, start)]


def test_a_line_without_an_end_is_stepped_over_in_flat_memory() -> None:
    """A hundred megabytes pass by; what is kept is where it stood, how long it was, and how it began."""

    class Endless(io.RawIOBase):
        left, tail = 100_000_000, io.BytesIO(b'A\n{"key":"b"}\n')

        def readinto(self, buffer: Any) -> int:
            count = min(self.left, len(buffer))
            if not count:
                return self.tail.readinto(buffer)
            buffer[:count] = b"A" * count
            self.left -= count
            return count

    stream: Any = Endless()
    tracemalloc.start()
    first, second = lines(stream, start=0, end=None, longest=4_000_000, block=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first.body, first.length, bytes(first.raw)) == (None, 100_000_001, b"A" * (1 << 16))
    assert (second.offset, second.body) == (100_000_002, {"key": "b"})
    assert peak < 30_000_000


# --- payloads ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**63))
def test_a_line_says_what_a_plain_parser_says(seed: int) -> None:
    """Lines that no serialiser would write, also damaged ones; in streams that are cut anywhere."""
    fuzz(seed)


def test_large_payloads_say_what_a_plain_parser_says() -> None:
    """By the blocks that they are read in: the first seed that has some."""
    fuzz(next(seed for seed in itertools.count() if Writer(seed).is_heavy))


def test_a_payload_is_a_view_of_the_block_that_was_read() -> None:
    """It was not copied, and it is no text."""
    (line,) = lines(io.BytesIO(answer() + b"\n"), start=0, end=None)
    data = part_of(line.body)["inlineData"]["data"]
    assert isinstance(data, Payload)
    assert isinstance(data.characters, memoryview)
    assert isinstance(line.raw, memoryview)
    assert data.characters.obj is line.raw.obj
    assert payload(data) == PICTURE


def test_a_line_stays_what_it_was_however_much_is_read_after_it() -> None:
    """Blocks are used again, but none that somebody still looks at."""
    pictures = [bytes([n]) * 5000 for n in range(100)]
    data = b"".join(answer(base64.b64encode(picture).decode()) + b"\n" for picture in pictures)
    found = list(lines(io.BytesIO(data), start=0, end=None, block=30_000))
    assert [payload(part_of(line.body)["inlineData"]["data"]) for line in found] == pictures


@pytest.mark.parametrize("at", range(1, 60, 7))
def test_a_payload_may_be_cut_at_every_edge_of_a_block(at: int) -> None:
    data = answer() + b"\n" + answer(name="inline_data") + b"\n"
    bodies = [body for _, body in cut(data, block=len(data) // at + 1)]
    assert [said(body) for body in bodies] == [
        said(read_object(answer())),
        said(read_object(answer(name="inline_data"))),
    ]


@pytest.mark.parametrize(
    ("slash", "plus", "end"),
    [
        ("\\/", "+", ""),
        ("/", "\\u002b", ""),
        ("\\u002F", "\\u002B", "\\u003d"),
        ("_", "-", ""),
        ("\\u005f", "\\u002d", "="),
    ],
)
def test_an_escaped_payload_is_read_all_the_same(slash: str, plus: str, end: str) -> None:
    data = b"\xfb\xef\xff\xfe" * 1000
    text = base64.b64encode(data).decode().rstrip("=").replace("/", slash).replace("+", plus) + end * 2
    assert drawn(answer(text)) == data
    assert drawn(answer(CODED + end * 2)) == PICTURE


def test_an_escaped_backslash_before_a_slash_is_not_taken_for_an_escaped_slash() -> None:
    for odd in ("\\\\/", "\\\\u002f", "\\\\u002fu002b", "\\\\"):
        check_line(answer(CODED + odd), long=LONG)


def test_a_member_may_be_escaped_doubled_and_anywhere() -> None:
    """The last of two wins, as everywhere; the first one's payload is not looked at."""
    raw = (
        answer()
        .replace(b'"data"', b'"d\\u0061ta" : "%%%" , "data"')
        .replace(b'"inlineData"', b'"inline\\u0044ata"')
    )
    assert drawn(raw) == PICTURE


@pytest.mark.parametrize("mark", ["\x7f0", "\\u007f0", "\\u007F0"])
def test_no_text_is_taken_for_a_mark(mark: str) -> None:
    """What stands for a payload while its line is parsed can be written by anybody."""
    raw = answer(more=f',"request":{{"text":"{mark}","inlineData":{{"data":"{mark}"}}}}')
    check_line(raw, long=LONG)
    check_line(answer(more=f',"{mark}":1'), long=LONG)
    check_line(answer(more=f',"{"x" * LONG}":1'), long=LONG)


def test_long_strings_that_are_no_payloads_are_texts() -> None:
    body = read_object(answer(more=f',"text":"{CODED}","data":"{CODED}"'))
    assert body is not None
    assert body["text"] == body["data"] == CODED


@pytest.mark.parametrize("odd", ["\\u0041", "é", "\x01", "\\n", '\\"', "\\\\"])
def test_a_payload_of_anything_else_is_read_by_the_book(odd: str) -> None:
    check_line(answer(CODED + odd + CODED), long=LONG)


@pytest.mark.parametrize("number", ["1e999", "9" * 5000, "NaN"])
def test_a_number_beyond_all_bounds_does_not_cost_a_picture(number: str) -> None:
    assert drawn(answer(more=f',"avgLogprobs":{number}')) == PICTURE


def test_a_lone_surrogate_is_legal_json() -> None:
    assert cut(b'{"text": "\\ud83d"}\n') == [(0, {"text": "\ud83d"})]
    assert drawn(answer(more=',"text":"\\ud83d"')) == PICTURE


@pytest.mark.parametrize("levels", [500, 1500, 20_000])
def test_a_line_may_be_nested_as_deeply_as_it_likes(levels: int) -> None:
    """The parser's stack is not the reader's trouble, and how deep the caller is decides nothing."""
    nested = "[" * levels + '{"a":[],"b":{}}' + "]" * levels
    assert drawn(answer(more=f',"request":{nested}')) == PICTURE
    assert read_object(answer(more=f',"request":{nested}]')) is None
    assert read_object(answer(more=f',"request":{nested[:-1]}')) is None


@pytest.mark.parametrize(
    "wrong",
    ["[1 2]", "[1,]", '{"a"}', '{"a":}', "{,}", '{"a":1,}', "{1:2}", "[}", '{"a":1]', "[,1]", "nul", ""],
)
def test_deep_or_not_what_is_no_json_is_none(wrong: str) -> None:
    assert read_object(f'{{"a":{wrong}}}'.encode()) is None
    assert read_object(('{"a":' + "[" * 2000 + wrong + "]" * 2000 + "}").encode()) is None or wrong == ""


def test_an_echoed_request_is_stepped_over() -> None:
    """Vertex sends back what it was asked: references that nobody needs to decode, right or wrong."""
    echo = f',"request":{{"contents":[{{"parts":[{{"inlineData":{{"data":"{"?" * 5000}"}}}}]}}]}}'
    body = read_object(answer(more=echo))
    assert body is not None
    assert isinstance(body["request"]["contents"][0]["parts"][0]["inlineData"]["data"], Payload)
    assert drawn(answer(more=echo)) == PICTURE


def test_a_line_of_sixty_megabytes_is_a_line() -> None:
    data = PICTURE * 9000
    raw = answer(base64.b64encode(data).decode())
    assert len(raw) > 60_000_000
    first, second = lines(io.BytesIO(raw + b"\n{}\n"), start=0, end=None)
    assert payload(part_of(first.body)["inlineData"]["data"]) == data
    assert second.body == {}


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.booleans())
def test_payloads_are_read_in_either_alphabet_padded_or_not(
    data: bytes, urlsafe: bool, padded: bool, in_place: bool
) -> None:
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    assert payload(Payload(memoryview(text.encode())) if in_place else text) == data


@pytest.mark.parametrize("text", ["a", "ab!c", "ab cd", "Ω", "abcde", "ab==ab=="])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        payload(text)
    if text.isascii():
        with pytest.raises(ValueError):
            payload(Payload(text.encode()))
