"""Every dollar is known before it is spent, and counted after."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.models import load_models
from pipeline.money import Estimate, Usage, actual, dollars, estimate, nanos, retries
from pipeline.prompt import Prompt
from pipeline.references import Reference

MODELS = load_models()
PHOTO = Reference("a.jpg", "0" * 64, "image/jpeg", 1000, 8, 6)
BATCHABLE = [model for model in MODELS.models.values() if model.batch]


def asked(model: str, **said) -> tuple:
    return Prompt(model=model, text="a boot " * 10, **said), MODELS.find(model)


@pytest.mark.parametrize(
    ("model", "size", "pictures"),
    [
        ("gemini-2.5-flash-image", None, "0.01935"),
        ("gemini-3.1-flash-image", "512", "0.02241"),
        ("gemini-3.1-flash-image", "1K", "0.0336"),
        ("gemini-3.1-flash-image", "4K", "0.0756"),
        ("gemini-3-pro-image", "2K", "0.0672"),
        ("gemini-3-pro-image", "4K", "0.12"),
        ("gemini-3.1-flash-lite-image", None, "0.0168"),
        ("gemini-nano-banana-2.1", "2K", "0.0252"),
    ],
)
def test_a_picture_costs_its_tokens(model, size, pictures):
    prompt, row = asked(model, image_size=size)
    assert estimate(prompt, row).pictures == nanos(pictures)
    assert estimate(prompt, row, "standard").pictures == 2 * nanos(pictures)


def test_the_parts_of_an_estimate_are_its_likely_price():
    prompt, model = asked("gemini-nano-banana-2.1", references=(PHOTO,) * 2, search=("web",))
    found = estimate(prompt, model)
    assert found.likely == found.pictures + found.reading + found.thinking + found.searching
    assert found.tokens_in == 18 + 2 * 1120  # 70 bytes of text, four to a token
    assert found.reading == found.tokens_in * 750
    assert found.thinking == 280 * 3750
    assert found.searching == nanos("0.014")
    assert found.tokens_out == 1120 + 280
    assert found.images == 1
    assert 2_000_000 <= found.output_bytes < 2_010_000


@pytest.mark.parametrize("model", BATCHABLE, ids=lambda model: model.name)
@pytest.mark.parametrize("lane", ["batch", "standard"])
def test_an_answer_within_the_assumptions_never_costs_more_than_high(model, lane):
    for size in model.sizes:
        for level in model.thinking or (None,):
            prompt = Prompt(
                model=model.name,
                text="靴" * 30,
                references=(PHOTO,),
                image_size=size,
                thinking=level,
                search=model.search,
            )
            found = estimate(prompt, model, lane)
            most = Usage(
                prompt=90 + model.reference_tokens[1],
                image=model.tokens[size],
                text=model.words[1],
                thought=max(
                    (high for key, (_, high) in model.thoughts.items() if key in (level, "any")), default=0
                ),
                searches=model.searches[1] if model.search else 0,
            )
            assert actual(most, model, lane) == found.high
            assert 0 < found.low <= found.likely <= found.high


def test_more_thinking_and_more_references_cost_more():
    plain = estimate(*asked("gemini-3.1-flash-image"))
    assert estimate(*asked("gemini-3.1-flash-image", thinking="high")).high > plain.high
    assert estimate(*asked("gemini-3.1-flash-image", references=(PHOTO,))).likely > plain.likely
    assert estimate(*asked("gemini-3.1-flash-image", modalities=("IMAGE",))).high < plain.high


def test_an_answer_costs_pictures_as_pictures_and_all_else_as_text():
    # A recorded answer of 3 Pro: 9 read, 1466 answered of which 1120 are the picture, 337 thought.
    usage = Usage(prompt=9, image=1120, text=1466 - 1120, thought=337)
    pro = MODELS.find("gemini-3-pro-image")
    assert actual(usage, pro) == 9 * 1000 + 1120 * 60_000 + (346 + 337) * 6000
    assert actual(usage, pro, "standard") == 2 * actual(usage, pro)


def test_an_attempt_that_is_not_allowed_is_no_part_of_the_price():
    once = estimate(*asked("gemini-3-pro-image"))
    assert retries(once, attempts=1, shares=(0.5, 0.5)) == Estimate()
    twice, thrice = (retries(once, attempts=n, shares=(0.5, 0.5)) for n in (2, 3))
    assert twice.likely == (once.likely - once.pictures) // 2, "no picture came, so none was paid"
    assert (twice.high, thrice.high) == (once.high // 2, once.high * 3 // 4), "at most, whole answers"


def test_a_search_is_paid_by_the_query_or_by_the_prompt_as_the_model_is_billed():
    """$14 a thousand queries of a Gemini 3; $35 a thousand prompts of 2.5, however often each of them searched."""
    prompt, flash = asked("gemini-2.5-flash-image", search=("web",))
    assert estimate(prompt, flash).searching == nanos("0.035")
    assert [actual(Usage(searches=n), flash) for n in (0, 1, 4)] == [0, nanos("0.035"), nanos("0.035")]
    _, pro = asked("gemini-3-pro-image")
    assert [actual(Usage(searches=n), pro) for n in (0, 1, 4)] == [0, nanos("0.014"), nanos("0.056")]


def test_searches_cost_the_same_in_both_lanes():
    pro = MODELS.find("gemini-3-pro-image")
    assert actual(Usage(searches=1000), pro) == actual(Usage(searches=1000), pro, "standard") == nanos(14)


def test_a_picture_system_without_tokens_costs_its_listed_price():
    prompt, imagen = asked("imagen-4.0-fast-generate-001")
    assert estimate(prompt, imagen, "standard").high == nanos("0.02")
    with pytest.raises(BadInput, match="no price is known in batches"):
        estimate(prompt, imagen)


def test_an_unknown_price_stops_and_says_where_to_give_one():
    with pytest.raises(BadInput, match="no price is known") as caught:
        estimate(*asked("gemini-2.0-flash-exp"))
    assert "--models" in caught.value.hint


@given(st.lists(st.sampled_from(BATCHABLE), max_size=20))
def test_estimates_add_up_in_any_order(models):
    each = [estimate(Prompt(model=model.name, text="x"), model) for model in models]
    assert sum(each, Estimate()) == sum(reversed(each), Estimate())
    assert sum(each, Estimate()).likely == sum(one.likely for one in each)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0", "$0"),
        ("0.0195", "$0.0195"),
        ("0.02", "$0.02"),
        ("0.0186", "$0.0186"),
        ("0.00001", "under $0.0001"),
        ("0.24", "$0.24"),
        ("18.5", "$18.50"),
        ("18.504", "$18.50"),
        ("1234567.891", "$1,234,567.89"),
        ("-3.2", "-$3.20"),
    ],
)
def test_dollars_are_written_as_people_write_them(amount, written):
    assert dollars(nanos(amount)) == written


def test_a_price_as_written_is_a_whole_number_of_billionths():
    assert nanos(0.1) + nanos(0.2) == nanos(0.3) == 300_000_000
    assert nanos("0.0000000014") == 1
