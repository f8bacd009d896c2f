"""Money in whole billionths of a dollar: what a request will cost, what it did cost, how that is written."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from pipeline.errors import BadInput
from pipeline.models import Model, Rates
from pipeline.prompt import Prompt

Nanos = int  # whole, so that a million requests add up to the cent in any order
Lane = Literal["batch", "standard"]

_DOLLAR = 1_000_000_000
_ENVELOPE = 2_000  # bytes around a picture in a result: names, counts, a signature


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request, or many, will cost; and what `likely` is made of. Estimates add up.

    low: the pictures, and nothing else. likely: as the table of models expects. high: every assumption of the
    table at its upper end, and a token for every byte of text.
    """

    low: Nanos = 0
    likely: Nanos = 0
    high: Nanos = 0
    pictures: Nanos = 0
    reading: Nanos = 0  # the prompt and its references
    thinking: Nanos = 0  # and words beside the picture
    searching: Nanos = 0
    images: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    output_bytes: int = 0  # over the wire

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            self.low + other.low,
            self.likely + other.likely,
            self.high + other.high,
            self.pictures + other.pictures,
            self.reading + other.reading,
            self.thinking + other.thinking,
            self.searching + other.searching,
            self.images + other.images,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.output_bytes + other.output_bytes,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted for one answer."""

    prompt: int = 0  # tokens read, references included
    image: int = 0  # tokens of pictures
    text: int = 0  # all other tokens of the answer, without thoughts
    thought: int = 0
    searches: int = 0


def estimate(prompt: Prompt, model: Model, lane: Lane = "batch") -> Estimate:
    """What one request will cost. Raises BadInput where the model has no price in this lane."""
    rates = _rates(model, lane)
    size = prompt.image_size or model.default_size
    read, read_high = _tokens_read(prompt, model)
    thought, thought_high = _thoughts(prompt, model)
    words, words_high = model.words if "TEXT" in prompt.modalities else (0, min(100, model.words[1]))
    searched, searched_high = (
        (nanos(rates.search or 0) * n for n in model.searches) if prompt.search else (0, 0)
    )

    picture = _picture(model, rates, size)
    reading = _priced(read, rates.text_in)
    thinking = _priced(thought + words, rates.text_out)
    high = picture + _priced(read_high, rates.text_in) + _priced(thought_high + words_high, rates.text_out)
    return Estimate(
        low=picture,
        likely=picture + reading + thinking + searched,
        high=high + searched_high,
        pictures=picture,
        reading=reading,
        thinking=thinking,
        searching=searched,
        images=1,
        tokens_in=read,
        tokens_out=model.tokens.get(size, 0) + thought + words,
        output_bytes=model.picture_bytes.get(size, 0) + _ENVELOPE,
    )


def actual(usage: Usage, model: Model, lane: Lane = "batch") -> Nanos:
    """What an answer cost by the provider's own count."""
    rates = _rates(model, lane)
    return (
        _priced(usage.prompt, rates.text_in)
        + _priced(usage.image, rates.image_out)
        + _priced(usage.text + usage.thought, rates.text_out)
        + nanos(rates.search or 0) * usage.searches
    )


def nanos(amount: float | str | Decimal) -> Nanos:
    """Dollars as people write them, in billionths."""
    return int((Decimal(str(amount)) * _DOLLAR).to_integral_value(ROUND_HALF_EVEN))


def dollars(amount: Nanos) -> str:
    """For people: cents from ten cents on, below that what still matters; '$0' is nothing at all."""
    if amount < 0:
        return "-" + dollars(-amount)
    exact = Decimal(amount) / _DOLLAR
    if amount == 0:
        return "$0"
    if amount >= _DOLLAR // 10:
        return f"${exact:,.2f}"
    if amount < 50_000:
        return "under $0.0001"
    written = f"{exact:.4f}"
    return f"${written.removesuffix('00')}"


def _rates(model: Model, lane: Lane) -> Rates:
    rates = model.prices.batch if lane == "batch" else model.prices.standard
    complete = rates is not None and (
        None not in (rates.text_in, rates.text_out, rates.image_out) or rates.picture
    )
    if rates is None or not complete:
        where = "in batches" if lane == "batch" else "at once"
        hint = f'give one: [models."{model.name}".prices] in a file for --models, written as in models.toml'
        raise BadInput(f"{model.name}: no price is known {where}", hint=hint)
    return rates


def _picture(model: Model, rates: Rates, size: str) -> Nanos:
    # Google bills tokens; the price of a picture on its page is that, rounded. Imagen has only the latter.
    if rates.image_out is not None and size in model.tokens:
        return _priced(model.tokens[size], rates.image_out)
    if size not in rates.picture:
        raise BadInput(f"{model.name}: no price is known for a picture of {size}")
    return nanos(rates.picture[size])


def _priced(tokens: int, dollars_per_million: float | None) -> Nanos:
    return tokens * round((dollars_per_million or 0) * 1_000_000) // 1000


def _tokens_read(prompt: Prompt, model: Model) -> tuple[int, int]:
    size = len(prompt.text.encode()) + len((prompt.system or "").encode())
    likely, high = model.reference_tokens
    pictures = len(prompt.references)
    return -(-size // model.text_bytes_per_token) + likely * pictures, size + high * pictures


def _thoughts(prompt: Prompt, model: Model) -> tuple[int, int]:
    level = prompt.thinking or model.default_thinking or "any"
    return model.thoughts.get(level, model.thoughts.get("any", (0, 0)))
