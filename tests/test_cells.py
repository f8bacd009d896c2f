"""Spreadsheets change what people type; these are the ways back."""

import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.manifest.cells import is_none, ratio, size, split, text_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("16:9", "16:9"),
        ("16x9", "16:9"),
        ("16×9", "16:9"),
        ("16/9", "16:9"),
        (" 16 : 9 ", "16:9"),
        ("'16:9", "16:9"),
        ("16:09", "16:9"),
        ("16:09:00", "16:9"),
        ("4:09 PM", "16:9"),
        ("9:16 AM", "9:16"),
        ("9:16:00 AM", "9:16"),
        ("9:09 pm", "21:9"),
        ("1:01:00", "1:1"),
        ("04:05:00", "4:5"),
        ("1900-01-01T16:09:00", "16:9"),
        ("2026-11-21 21:09:00", "21:9"),
        ("0 days 21:09:00", "21:9"),
        (datetime.time(16, 9), "16:9"),
        (datetime.timedelta(hours=21, minutes=9), "21:9"),
        (datetime.datetime(1900, 1, 1, 4, 5), "4:5"),
    ],
)
def test_a_ratio_that_a_spreadsheet_turned_into_a_time_is_a_ratio_again(written, meant):
    assert ratio(text_of(written)) == meant


@pytest.mark.parametrize("text", ["wide", "16:9:30", "square", "", "1.5", "NA"])
def test_what_is_no_ratio_stays_as_it_stands(text):
    assert ratio(text) == text


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1k", "1K"),
        ("2K", "2K"),
        (" 4 k", "4K"),
        ("1024", "1K"),
        ("1024px", "1K"),
        ("2048x2048", "2K"),
        ("512", "512"),
        ("0.5K", "512"),
        ("8k", "8K"),
        ("large", "large"),
        ("1024x768", "1024x768"),
    ],
)
def test_a_size_is_spelled_as_models_spell_it(written, meant):
    assert size(written) == meant


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ("a.jpg", ["a.jpg"]),
        ("a.jpg|b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg; b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        ("a.jpg, b.jpg", ["a.jpg", "b.jpg"]),
        ("a,1.jpg", ["a,1.jpg"]),
        ("https://x/a,b.jpg,https://x/c.jpg", ["https://x/a,b.jpg", "https://x/c.jpg"]),
        ('["a, b.jpg", "c.jpg"]', ["a, b.jpg", "c.jpg"]),
        ("[draft].jpg", ["[draft].jpg"]),
        ("  ", []),
    ],
)
def test_a_list_in_a_cell_comes_apart_where_people_expect(cell, items):
    assert split(cell) == items


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(str.strip).filter(bool)))
def test_a_list_survives_being_written_into_a_cell(items):
    assert split(text_of(items)) == items


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (123.0, "123"),
        (0.5, "0.5"),
        (True, "true"),
        ("NA", "NA"),
        (["a", "b"], "a|b"),
        ({"b": 1, "a": "ü"}, '{"a": "ü", "b": 1}'),
        (datetime.date(2026, 11, 21), "2026-11-21"),
    ],
)
def test_every_value_has_one_text(value, text):
    assert text_of(value) == text


def test_a_prompt_written_as_an_object_is_its_json():
    assert json.loads(text_of({"scene": {"light": ["soft", "warm"]}})) == {
        "scene": {"light": ["soft", "warm"]}
    }


def test_only_a_dash_and_the_word_none_mean_none():
    assert [is_none(cell) for cell in ("-", " none ", "None", "NA", "null", "n/a", "")] == [
        *[True] * 3,
        *[False] * 4,
    ]
