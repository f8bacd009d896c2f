"""What a model looked up, read out of the provider's own words: in columns, and paid for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grounding import NOTHING, columns_of, read
from tests.bench import Bench

ALL = {
    "webSearchQueries": ["red shoes", "red shoes 2026"],
    "imageSearchQueries": ["red shoe photo"],
    "searchEntryPoint": {"renderedContent": "<style>.c{}</style><a>red shoes</a>"},
    "groundingChunks": [
        {"web": {"uri": "https://r.example/1", "title": "Shoes", "domain": "example.com"}},
        {
            "image": {
                "sourceUri": "https://r.example/page",
                "imageUri": "https://r.example/a.jpg",
                "title": "A",
            }
        },
        {"image": {"uri": "https://r.example/other", "image_uri": "https://r.example/b.jpg"}},
    ],
}


def test_sources_queries_and_the_chip_are_read_in_their_order() -> None:
    """A picture's `uri` is the page that contains it, by either of the two names that Google gives it."""
    found = columns_of(json.dumps(ALL))
    assert [(one["kind"], one["title"], one["uri"], one["image_uri"]) for one in found["sources"]] == [
        ("web", "Shoes", "https://r.example/1", None),
        ("image", "A", "https://r.example/page", "https://r.example/a.jpg"),
        ("image", None, "https://r.example/other", "https://r.example/b.jpg"),
    ]
    assert (found["web_queries"], found["image_queries"]) == (
        ["red shoes", "red shoes 2026"],
        ["red shoe photo"],
    )
    assert found["search_chip"] == "<style>.c{}</style><a>red shoes</a>"


def test_the_other_spelling_of_the_wire_is_read_too() -> None:
    found = read(json.dumps({"search_entry_point": {"rendered_content": "x"}, "web_search_queries": ["q"]}))
    assert (found.chip, found.web_queries) == ("x", ("q",))


def test_a_source_that_cannot_be_read_keeps_its_place() -> None:
    """What supports a sentence is told by the number of its source."""
    found = read(json.dumps({"groundingChunks": [7, {"web": {"uri": "https://a.example"}}]}))
    assert [source.uri for source in found.sources] == [None, "https://a.example"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*ALL, "web", "image", "uri", "title", "renderedContent"]), inner)
    ),
)


@given(_json)
def test_whatever_a_server_says_is_read_without_a_complaint(value: object) -> None:
    found = columns_of(json.dumps(value))
    assert all(isinstance(query, str) for query in found["web_queries"] + found["image_queries"])
    assert columns_of(None) == columns_of("no JSON") == columns_of("[]")
    assert read(None) is NOTHING


@pytest.mark.parametrize(
    ("model", "search", "kinds"),
    [
        ("gemini-3-pro-image", ["web"], {"web"}),
        ("gemini-3.1-flash-image", ["image"], {"image"}),
        ("gemini-3.1-flash-image", ["web", "image"], {"web", "image"}),
    ],
)
def test_the_index_says_what_was_found_and_the_bill_agrees(
    bench: Bench, model: str, search: list[str], kinds: set[str]
) -> None:
    bench.make_job(rows=3, model=model, search=search)
    bench.service.fault("no_content", prompt="Shoe 1")
    driver = bench.begin()
    driver.to_the_end()
    (*_,) = rows = _rows(bench)
    assert {source["kind"] for row in rows for source in row["sources"]} == kinds
    for row in rows:
        found = json.loads(row["grounding"])
        assert list(row["web_queries"]) == found.get("webSearchQueries", [])
        assert list(row["image_queries"]) == found.get("imageSearchQueries", [])
        assert row["searches"] == len(row["web_queries"]) + len(row["image_queries"]) >= 1
        assert row["search_chip"] == found["searchEntryPoint"]["renderedContent"]
    assert driver.run.state.spent == bench.bill()


def _rows(bench: Bench) -> list[dict[str, object]]:
    from pipeline.index import read_index
    from pipeline.run import open_run

    rows: list[dict[str, object]] = read_index(open_run(bench.place(), bench.clock)).to_dict("records")
    return rows
