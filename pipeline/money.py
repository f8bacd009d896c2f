"""Money in whole billionths of a dollar: what a request will cost, what it did cost, how that is written."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache, partial
from operator import add
from typing import Literal, NamedTuple

from pipeline.errors import BadInput
from pipeline.models import Model, Rates
from pipeline.prompt import Prompt

Nanos = int  # whole, so that a million requests add up to the cent in any order
Lane = Literal["batch", "standard"]

_DOLLAR = 1_000_000_000
_DRAFTS = 2  # that come with thoughts at most; nobody pays for them, and they have to be fetched
_ENVELOPE = 2_000  # bytes around a picture in a result: names, counts, a signature


class Estimate(NamedTuple):
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
    retrying: Nanos = 0  # what is likely to be bought again
    images: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    output_bytes: int = 0  # over the wire

    def __add__(self, other: "Estimate") -> "Estimate":  # type: ignore[override]
        return Estimate(*map(add, self, other))

    def times(self, count: int) -> "Estimate":
        """As many of the same."""
        return Estimate(*(count * amount for amount in self))


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted for one answer."""

    prompt: int = 0  # tokens read, references included
    references: int = 0  # of those, the tokens of references
    image: int = 0  # tokens of pictures
    text: int = 0  # all other tokens of the answer, without thoughts
    thought: int = 0
    searches: int = 0
    pictures: int | None = None  # made, where a picture has a price and nobody counts tokens


def served(model: Model, surface: str, lane: Lane = "batch") -> Lane:
    """The lane that its requests go by: at once, where the surface serves it no other way."""
    return "standard" if model.only_at_once(surface) else lane


def estimate(prompt: Prompt, model: Model, lane: Lane = "batch") -> Estimate:
    """What one request will cost. Raises BadInput where the model has no price in this lane."""
    text, system = prompt.text, prompt.system
    return _estimates(_Same(model), lane)(
        (len(text) if text.isascii() else len(text.encode())) + (len(system.encode()) if system else 0),
        len(prompt.references),
        prompt.image_size or model.default_size,
        prompt.thinking or model.default_thinking or "any",
        "TEXT" in prompt.modalities,
        bool(prompt.search),
        prompt.thoughts,
        1 if prompt.imagen is None else prompt.imagen.pictures,
        prompt.context,
    )


def retries(price: Estimate, *, attempts: int, shares: tuple[float, float]) -> Estimate:
    """What is bought again, beyond this price of asking once, where a request is asked so often at most.

    `shares` are of the requests that another attempt is made for, likely and high. Likely, an answer is bought again
    that brought no picture, so all but the picture was paid for nothing; at most, whole answers are. A further batch
    reserves its own high, as every batch does: nothing is reserved for it before it is drawn.
    """
    likely, high = (
        Decimal(str(share)) * (1 - Decimal(str(share)) ** (attempts - 1)) / (1 - Decimal(str(share)))
        for share in shares
    )
    again = int(likely * (price.likely - price.pictures))
    return Estimate(likely=again, high=max(again, int(high * price.high)), retrying=again)


class _Same:
    """A model as a key: a row of the table is one object, and is never changed."""

    __slots__ = ("model",)

    def __init__(self, model: Model) -> None:
        self.model = model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return self.model is getattr(other, "model", None)


@lru_cache(maxsize=64)
def _estimates(
    same: _Same, lane: Lane
) -> Callable[[int, int, str, str, bool, bool, bool, int, int], Estimate]:
    """What requests cost that differ in words only by their length: a million of them are a few hundred prices."""
    return lru_cache(maxsize=4096)(partial(_estimated, same.model, lane))


def _estimated(
    model: Model,
    lane: Lane,
    words: int,
    references: int,
    size: str,
    thinking: str,
    says: bool,
    searches: bool,
    thoughts: bool,
    pictures: int,
    context: int,
) -> Estimate:
    rates = _rates(model, lane)
    likely, high_each = model.reference_tokens
    read = -(-words // model.text_bytes_per_token) + likely * references + context
    read_high = words + high_each * references + context * model.context_at_most
    thought, thought_high = model.thoughts.get(thinking, model.thoughts.get("any", (0, 0)))
    said, said_high = model.words if says else (0, min(100, model.words[1]))
    searched, searched_high = (
        (nanos(rates.search or 0) * model.searches_paid(n) for n in model.searches) if searches else (0, 0)
    )

    picture = pictures * _picture(model, rates, size)
    reading = _priced(read, rates.text_in)
    answering = _priced(thought + said, rates.text_out)
    high = picture + _priced(read_high, rates.text_in) + _priced(thought_high + said_high, rates.text_out)
    return Estimate(
        low=picture,
        likely=picture + reading + answering + searched,
        high=high + searched_high,
        pictures=picture,
        reading=reading,
        thinking=answering,
        searching=searched,
        images=pictures,
        tokens_in=read,
        tokens_out=model.tokens.get(size, 0) + thought + said,
        output_bytes=(pictures + _DRAFTS * thoughts) * model.picture_bytes.get(size, 0) + _ENVELOPE,
    )


def actual(usage: Usage, model: Model, lane: Lane = "batch", *, size: str | None = None) -> Nanos:
    """What an answer cost by the provider's own count; `size` is what was asked for, if anything was."""
    rates = _rates(model, lane)
    if usage.pictures is not None:
        return usage.pictures * _picture(model, rates, size or model.default_size)
    return (
        _priced(usage.prompt, rates.text_in)
        + _priced(usage.image, rates.image_out)
        + _priced(usage.text + usage.thought, rates.text_out)
        + (nanos(rates.search or 0) * model.searches_paid(usage.searches) if usage.searches else 0)
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
