"""How a stream of bytes is cut into lines, whatever is in them."""

import base64
import io
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.results import lines, payload

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), ANYTHING, max_size=4)


def cut(data: bytes, start: int = 0, end: int | None = None) -> list[tuple[int, object]]:
    stream = io.BytesIO(data[start - 1 if start else 0 :])
    return [(line.offset, line.body) for line in lines(stream, start=start, end=end)]


@given(st.lists(OBJECTS, max_size=6), st.sampled_from(["\n", "\r\n", "\n\n", "  \n"]), st.booleans())
def test_every_line_comes_out_as_it_went_in(objects: list[object], end: str, ascii_only: bool) -> None:
    data = "".join(json.dumps(one, ensure_ascii=ascii_only) + end for one in objects).encode(
        errors="surrogatepass"
    )
    if not ascii_only:
        data.decode()  # what a server sends is UTF-8
    assert [body for _, body in cut(data)] == objects


@given(st.lists(OBJECTS, min_size=1, max_size=6), st.data())
def test_parts_cut_anywhere_hold_each_line_once(objects: list[object], data: st.DataObject) -> None:
    """A line belongs to the part that holds its first byte."""
    whole = b"".join(json.dumps(one).encode() + b"\n" for one in objects)
    at = sorted(data.draw(st.lists(st.integers(1, len(whole)), max_size=4, unique=True)))
    bounds = [0, *at, None]
    found = [line for start, end in itertools.pairwise(bounds) for line in cut(whole, start or 0, end)]
    assert found == cut(whole)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_line(character: str) -> None:
    line = json.dumps({"text": f"a{character}b"}, ensure_ascii=False).encode()
    assert [body for _, body in cut(line + b"\n" + line + b"\n")] == [{"text": f"a{character}b"}] * 2


def test_a_lone_surrogate_is_legal_json() -> None:
    assert cut(b'{"text": "\\ud83d"}\n') == [(0, {"text": "\ud83d"})]


@pytest.mark.parametrize(
    "garbage", [b"not json", b'{"cut": "off', b"[1, 2]", b"\xff\xfe", b'"text"', b"{" * 5000]
)
def test_an_unreadable_line_is_a_line_without_a_body(garbage: bytes) -> None:
    """Its bytes are kept, and the line after it is read as ever."""
    found = list(lines(io.BytesIO(garbage + b'\n{"key": "b"}\n'), start=0, end=None))
    assert [line.body for line in found] == [None, {"key": "b"}]
    assert found[0].raw == garbage


def test_a_last_line_without_an_end_is_read() -> None:
    assert cut(b'{"a": 1}\n{"b": 2}') == [(0, {"a": 1}), (9, {"b": 2})]


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_payloads_are_read_in_either_alphabet_padded_or_not(data: bytes, urlsafe: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    assert payload(text if padded else text.rstrip("=")) == data


@pytest.mark.parametrize("text", ["a", "ab!c", "ab cd", "Ω", "abcde"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        payload(text)
