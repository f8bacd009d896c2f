"""What this program takes for granted about the service, each as a fact that one small batch can bear out or not.

Pure: a judge looks at what a trial left, and says what was expected and what was seen.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.backends import wire
from pipeline.events import Ended
from pipeline.models import Model
from pipeline.money import Estimate, dollars

REFERENCE = "reference"
"""The shot that is shown a picture."""

STATES = frozenset(
    f"{surface}_STATE_{name}"
    for surface, names in {
        "BATCH": "PENDING RUNNING SUCCEEDED FAILED CANCELLED EXPIRED",
        "JOB": "QUEUED PENDING RUNNING SUCCEEDED FAILED CANCELLING CANCELLED PAUSED EXPIRED UPDATING"
        " PARTIALLY_SUCCEEDED",
    }.items()
    for name in names.split()
)
"""Those that are documented: of the Developer API, and of Vertex AI."""

COUNTERS = {
    "batchStats": ("successfulRequestCount", "failedRequestCount"),
    "completionStats": ("successfulCount", "failedCount"),
}

TOLERANCE = 0.02  # of a side: what still is the size that was asked for


_SHARD = re.compile(r"predictions.*\.jsonl")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a trial left: the index, the ending, the job as the provider shows it, and what was asked besides."""

    model: Model
    rows: Sequence[Mapping[str, Any]] = ()  # of the index
    strays: Sequence[Mapping[str, Any]] = ()  # of the quarantine
    ended: Ended | None = None
    ticket: str | None = None
    job: Mapping[str, Any] = field(default_factory=dict)  # raw
    states: Sequence[str] = ()  # raw, in the order they were seen
    listed: bool | None = None  # whether the listing shows it by its label
    ranges: bool | None = None
    said: Estimate = field(default_factory=Estimate)
    took: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a judge says. held None: there was nothing to see."""

    held: bool | None
    words: str


UNANSWERED = ("missing", "error", "expired", "cancelled")
UNSEEN = Seen(None, "nothing to see")
Judge = Callable[[Evidence], Seen]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something taken for granted, and what follows where it does not hold."""

    name: str
    words: str
    otherwise: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A fact, and what was seen of it."""

    fact: Fact
    seen: Seen


def behaviours(evidence: Evidence) -> Iterator[Behaviour]:
    """Every fact with what became of it."""
    return (Behaviour(fact, fact.judge(evidence)) for fact in FACTS)


# --- the judges --------------------------------------------------------------------------------------------------


def _fields(evidence: Evidence) -> Seen:
    refused = [row for row in evidence.rows if row["outcome"] == "invalid"]
    if refused:
        return Seen(False, "; ".join(f"{row['shot']}: {row['message']}" for row in refused))
    answered = [row["shot"] for row in evidence.rows if row["outcome"] not in UNANSWERED]
    return Seen(True, f"taken in {' and '.join(answered)}") if answered else UNSEEN


def _key(evidence: Evidence) -> Seen:
    if not evidence.rows:
        return UNSEEN
    missing = sum(row["outcome"] == "missing" for row in evidence.rows)
    reasons = ", ".join(sorted({str(stray.get("why")) for stray in evidence.strays}))
    if missing or evidence.strays:
        seen = f"{missing} requests without an answer, {len(evidence.strays)} answers that are nobody's"
        return Seen(False, seen + (f" ({reasons})" if reasons else ""))
    return Seen(True, f"{len(evidence.rows)} of {len(evidence.rows)}")


def _pictures(evidence: Evidence) -> Seen:
    if not evidence.rows:
        return UNSEEN
    without = [row for row in evidence.rows if row["path"] is None]
    said = "; ".join(f"{row['shot']}: {row['outcome']} {row['reason'] or ''}".rstrip() for row in without)
    return Seen(not without, said or f"{len(evidence.rows)} of {len(evidence.rows)}")


def _pixels(evidence: Evidence) -> Seen:
    pictures = [row for row in evidence.rows if row["path"] is not None]
    looks = [_pixels_of(row, evidence.model) for row in pictures]
    held = [look.held for look in looks if look.held is not None]
    return Seen(all(held) if held else None, "; ".join(look.words for look in looks)) if looks else UNSEEN


def _pixels_of(row: Mapping[str, Any], model: Model) -> Seen:
    size = f"{row['width']}x{row['height']}"
    asked = model.pixels(row["aspect_ratio"], row["image_size"])
    if asked is None:
        return Seen(None, f"{row['shot']}: {size}, the model decides")
    near = all(
        abs(is_ - was) <= TOLERANCE * was
        for is_, was in zip((row["width"], row["height"]), asked, strict=True)
    )
    wanted = f"{row['aspect_ratio']} {row['image_size'] or model.default_size}"
    return Seen(near, f"{row['shot']}: {wanted} asked, {size} came, {asked[0]}x{asked[1]} in the table")


def _container(evidence: Evidence) -> Seen:
    pictures = [row for row in evidence.rows if row["path"] is not None]
    if not pictures:
        return UNSEEN
    kinds = {(row["mime"], _declared(row)) for row in pictures}
    wanted = f"image/{evidence.model.container.lower()}"
    words = ", ".join(f"{mime}, declared as {declared}" for mime, declared in sorted(kinds, key=str))
    return Seen(kinds == {(wanted, wanted)}, f"{words}; {wanted} in the table")


def _declared(row: Mapping[str, Any]) -> str | None:
    final = next((picture for picture in row["pictures"] or () if picture["role"] == "final"), None)
    return final["declared_mime"] if final else None


def _tokens(evidence: Evidence) -> Seen:
    model, looks, held = evidence.model, [], []
    for row in evidence.rows:
        if row["path"] is None or row["image_tokens"] is None:
            continue
        listed = model.tokens.get(row["image_size"] or model.default_size)
        _, most = model.thoughts.get(model.default_thinking or "any", model.thoughts.get("any", (0, 0)))
        held.append(row["image_tokens"] == listed and (row["thought_tokens"] or 0) <= most)
        words = f"{row['shot']}: picture {row['image_tokens']} of {listed}"
        looks.append(f"{words}, thoughts {row['thought_tokens'] or 0} of at most {most}")
    return Seen(all(held), "; ".join(looks)) if held else UNSEEN


def _shown(evidence: Evidence) -> Seen:
    """A picture that is shown is read: it shows in the tokens of the prompt."""
    read = {row["shot"]: row["prompt_tokens"] for row in evidence.rows if row["prompt_tokens"]}
    if len(read) < 2 or REFERENCE not in read:
        return UNSEEN
    others = max(tokens for shot, tokens in read.items() if shot != REFERENCE)
    likely, most = evidence.model.reference_tokens
    more = read[REFERENCE] - others
    return Seen(0 < more <= most, f"{more} tokens more than without; {likely} to {most} in the table")


def _price(evidence: Evidence) -> Seen:
    if evidence.took is None or not any(row["image_tokens"] for row in evidence.rows):
        return UNSEEN
    said = evidence.said
    low = said.low if all(row["path"] is not None for row in evidence.rows) else 0
    words = f"said {dollars(said.likely)} ({dollars(said.low)} to {dollars(said.high)}), took {dollars(evidence.took)}"
    return Seen(low <= evidence.took <= said.high, words)


def _ranges(evidence: Evidence) -> Seen:
    if evidence.ranges is None:
        return UNSEEN
    return Seen(evidence.ranges, "206, the byte alone" if evidence.ranges else "200, all of it again")


def _output(evidence: Evidence) -> Seen:
    if evidence.ended is None or not evidence.ended.files:
        return UNSEEN
    id_ = (evidence.ticket or "").rpartition("/")[2]
    names = [file.name for file in evidence.ended.files]
    if names[0].startswith("gs://"):
        ends = {name.rpartition("/")[2].partition("#")[0] for name in names}
        return Seen(all(map(_SHARD.fullmatch, ends)), ", ".join(sorted(ends)))
    shapes = {name.replace(id_, "ID") if id_ else name for name in names}
    return Seen(shapes == {"files/batch-ID"}, f"{', '.join(sorted(shapes))} of batches/ID")


def _states(evidence: Evidence) -> Seen:
    if not evidence.states:
        return UNSEEN
    strange = set(evidence.states) - STATES
    return Seen(not strange, ", ".join(evidence.states))


def _counters(evidence: Evidence) -> Seen:
    if not evidence.job or not evidence.rows:
        return UNSEEN
    told = {name: stats for name in COUNTERS if isinstance(stats := _told(evidence, name), dict)}
    for name, stats in told.items():
        words = ", ".join(f"{counter} {value!r}" for counter, value in sorted(stats.items()))
        texts = all(isinstance(value, str) and value.isdigit() for value in stats.values())
        done = sum(int(stats.get(counter, "0")) for counter in COUNTERS[name]) if texts else 0
        return Seen(done == len(evidence.rows), words)
    return Seen(False, "none")


def _told(evidence: Evidence, name: str) -> Any:
    """What the job says: the Developer API puts it into an operation's metadata, Vertex AI into the job itself."""
    return (evidence.job.get("metadata") or evidence.job).get(name)


def _listing(evidence: Evidence) -> Seen:
    if evidence.listed is None:
        return UNSEEN
    return Seen(evidence.listed, "found by its name" if evidence.listed else "not found by its name")


def _times(evidence: Evidence) -> Seen:
    if not evidence.job:
        return UNSEEN
    began, ended = (wire.moment(_told(evidence, name)) for name in ("createTime", "endTime"))
    if began is None or ended is None:
        said = (f"{name} {_told(evidence, name)!r}" for name in ("createTime", "endTime"))
        return Seen(False, ", ".join(said))
    return Seen(ended >= began, f"{(ended - began).total_seconds() / 60:,.1f} min from createTime to endTime")


FACTS = (
    Fact(
        "fields",
        "every field that a job can set is taken in a line of a batch",
        "requests with that field end as invalid: leave it out of the job",
        _fields,
    ),
    Fact(
        "key",
        "each answer comes once, under the key of its request",
        "answers cannot be told apart: shoot nothing before that is understood",
        _key,
    ),
    Fact("pictures", "each request has a picture", "the index says why it has none", _pictures),
    Fact(
        "pixels",
        "a picture has the size that the table of models has for what was asked",
        "the checks call it wrong_size: correct the table with a file of your own",
        _pixels,
    ),
    Fact(
        "container",
        "a picture is the kind of file that the table says, and declared as it is",
        "nothing follows: files are named after their bytes",
        _container,
    ),
    Fact(
        "tokens",
        "a picture and its thoughts are counted as the table says",
        "estimates are off: correct the table with a file of your own",
        _tokens,
    ),
    Fact(
        "reference",
        "a picture that is shown is read, for no more tokens than the table says",
        "estimates are off, or the model did not see it: look at the picture",
        _shown,
    ),
    Fact(
        "price",
        "what it took, by the provider's count of tokens, is within what was said",
        "estimates are off; the cap still holds",
        _price,
    ),
    Fact(
        "range",
        "a result can be had from any byte on",
        "a cut download begins again at its start; nothing is lost",
        _ranges,
    ),
    Fact(
        "output",
        "the result of batches/ID is the file files/batch-ID; on Vertex AI its files are predictions*.jsonl",
        "nothing follows: the name is read from the job",
        _output,
    ),
    Fact(
        "states",
        "a job is in no state but those that are documented",
        "a run waits through a state it does not know, for as long as a job may live",
        _states,
    ),
    Fact(
        "counters",
        "a job counts its requests, as strings, and all of them",
        "progress is not told while a batch is at work",
        _counters,
    ),
    Fact(
        "listing",
        "a job is found in the listing by the name it was given",
        "a lost reply cannot be cleared up: the batch is held",
        _listing,
    ),
    Fact(
        "times",
        "a job says when it was made and when it ended",
        "nothing follows but a hole in the journal",
        _times,
    ),
)
"""All that a trial looks at, in the order it is told."""
