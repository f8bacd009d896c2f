"""A survey as people see it: what there is to shoot, what that takes and costs, and what is wrong."""

from collections.abc import Iterator
from typing import Any

from pipeline.bounds import bounds, size
from pipeline.imagen import said_by
from pipeline.money import dollars
from pipeline.prompt import Prompt, Request
from pipeline.survey import Survey, canary_of

SHOWN = 12
"""Kinds of problems that are listed; the rest is counted."""

SAID = 50_000
"""Billionths of a dollar from which on a part of the price is worth a word."""

FEW = 500
"""Up to this many pictures nobody needs to hear of batches."""


def plan_lines(found: Survey, *, cap: int | None = None, verbose: int = 0) -> list[str]:
    """The one table before the one question."""
    return [
        f"  {title:<10}{number:>10}  {words}".rstrip() for title, number, words in _table(found, cap, verbose)
    ]


def notes(found: Survey) -> list[str]:
    """What to know before the table: which store's feed this is, every warning, every hint."""
    feed = [str(found.manifest.feed)] if found.manifest.feed else []
    gone = [f"{picture} is gone, so it is shot again" for picture in found.gone]
    warnings = [f"warning: {warning}" for warning in (*found.warnings, *gone)]
    return [*feed, *warnings, *(f"note: {hint}" for hint in found.hints)]


def _table(found: Survey, cap: int | None, verbose: int) -> Iterator[tuple[str, str, str]]:
    price = found.price
    yield "pictures", f"{pictures(found):,}", _pictures(found)
    before = {name: count - found.proved.get(name, 0) for name, count in found.carried.items()}
    if total := sum(before.values()):
        others = ", ".join(
            f"{count:,} {outcome}" for outcome, count in before.items() if outcome != "ok" and count
        )
        yield (
            "as before",
            f"{total:,}",
            "answered by earlier runs" + (f"; of these {others}" if others else ""),
        )
    for run, count in found.expected.items():
        yield "on their way", f"{count:,}", f"paid for by {run}, which is not finished"
    for why, (count, example) in sorted(found.again.items(), key=lambda each: -each[1][0]):
        yield f"  {why}"[:13], f"{count:,}", f"e.g. {example}"
    if found.bad_rows:
        yield (
            "left out",
            f"{found.bad_rows:,}",
            "row with a problem" if found.bad_rows == 1 else "rows with problems",
        )
    if not found.requests:
        return
    if canary := canary_of(found):
        yield "canary", f"{canary:,}", "of each model go first, the rest when they came back as asked"
    if len(found.waves) > 1:
        yield "in turn", f"{len(found.waves)}", _in_turn(found)
    yield _sending(found)
    batches = f"in about {_batches(found):,} batches" if found.requests > FEW or verbose else ""
    yield "receive", size(price.output_bytes), batches
    yield "ready", "", _ready(found)
    for bound in bounds(found):
        yield bound.name, "", bound.words
    differs = found.at_once and found.only_at_once < found.requests
    at_once = f"; the same at once: {dollars(found.at_once or 0)}" if differs else ""
    yield "price", dollars(price.likely), f"from {dollars(price.low)} to {dollars(price.high)}{at_once}"
    yield "", "", f"{_parts(found)}; prices of {found.table.as_of}"
    if cap is not None:
        yield "cap", dollars(cap), _cap(found, cap)


def _in_turn(found: Survey) -> str:
    """How many go at first, and how many when those before them are back."""
    first, *later = (f"{count:,}" for count in found.waves)
    words = "1 picture" if found.waves[0] == 1 else f"{first} pictures"
    begun = f"{words} at first, " if found.waves[0] else ""  # what they go on from may be there already
    judged = " that you approved" if found.job.follow_ups == "approved" else ""
    return f"{begun}then {', then '.join(later)}: each goes on from one before{judged}"


def pictures(found: Survey) -> int:
    """How many there will be: a call may ask for several."""
    return max(found.price.images, found.requests)


def _ready(found: Survey) -> str:
    """When all of it is back: what is asked at once takes as long as its calls may."""
    each = found.job.online.per_minute
    calls = f"{-(-found.only_at_once // each):,} min, at {each:,} calls a minute"
    if found.only_at_once and found.only_at_once == found.requests:
        return f"in about {calls}"
    worst = "4 days" if found.job.backend == "vertex" else "48 h"
    times = f"; {len(found.waves)} times, one after the other" if len(found.waves) > 1 else ""
    others = f"; what is asked at once in about {calls}" if found.only_at_once else ""
    return f"usually in 1 to 24 h, at worst in {worst}{times}{others}"


def _sending(found: Survey) -> tuple[str, str, str]:
    often = "in each request that shows it" if found.job.references.inline else "each sent once"
    photos = "1 photo" if found.references == 1 else f"{found.references:,} photos, {often}"
    return "send", size(found.input_bytes + found.reference_bytes), photos if found.references else ""


def _pictures(found: Survey) -> str:
    shots = (
        ", ".join(f"{count:,} {shot}" for shot, count in found.shots.items()) if len(found.shots) > 1 else ""
    )
    rows = "of 1 row" if found.good_rows == 1 else f"of {found.good_rows:,} rows"
    proved = f"{sum(found.proved.values()):,} proved already" if found.proved else ""
    calls = f"in {found.requests:,} calls" if pictures(found) > found.requests else ""
    return "; ".join(filter(None, [rows, calls, proved, shots, ", ".join(found.models)]))


def _parts(found: Survey) -> str:
    """What the likely price is made of, for people."""
    price = found.price
    parts = [
        ("pictures", price.pictures),
        (_read(found), price.reading),
        ("thinking", price.thinking),
        ("searches", price.searching),
        ("retries", price.retrying),
    ]
    return ", ".join(f"{name} {dollars(amount)}" for name, amount in parts if amount >= SAID)


def _read(found: Survey) -> str:
    """What a model reads, for people: a conversation is read again with each of its turns."""
    if len(found.waves) > 1:
        return "photos, words and earlier turns" if found.references else "words and earlier turns"
    return "photos and words" if found.references else "words"


def _cap(found: Survey, cap: int) -> str:
    """What a cap is enough for."""
    if cap >= found.price.high:
        return "enough in the worst case"
    if not found.price.high:
        return ""
    # A batch is sent only if its worst case fits; what it did not cost is free again once it is back.
    worst = int(found.requests * cap / found.price.high)
    of = f"of {found.requests:,}"
    if cap >= found.price.likely:
        return f"enough for {worst:,} {of} in the worst case, all if likely"
    likely = int(found.requests * cap / max(1, found.price.likely))
    return f"not enough: for {worst:,} {of} in the worst case, {likely:,} if likely"


def _batches(found: Survey) -> int:
    limits = found.job.batches
    by_requests = -(-found.requests // (limits.max_requests or found.requests or 1))
    return max(by_requests, -(-found.price.output_bytes // limits.max_output_bytes), 1)


def problem_lines(found: Survey) -> list[str]:
    """Everything that is wrong, grouped, most rows first."""
    rows = f"{found.bad_rows:,} of {found.chosen_rows:,} rows"
    lines = [f"{rows} {'has a problem' if found.bad_rows == 1 else 'have problems'}"]
    for kind in found.problems[:SHOWN]:
        lines.append(f"  {found.job.manifest}: {kind}")
        if kind.example.hint:
            lines.append(f"    {kind.example.hint}")
    if len(found.problems) > SHOWN:
        lines.append(f"  and {len(found.problems) - SHOWN:,} more kinds of problems")
    return lines


def question(found: Survey) -> str:
    """The one question."""
    likely = dollars(found.price.likely)
    if not found.bad_rows:
        return f"Shoot {pictures(found):,} pictures for about {likely}?"
    bad = f"{found.bad_rows:,} {'row has a problem' if found.bad_rows == 1 else 'rows have problems'}"
    return f"{bad}. Shoot the other {found.good_rows:,} for about {likely}?"


def plan_document(found: Survey, *, cap: int | None = None) -> dict[str, Any]:
    """The same for programs."""
    price = found.price
    return {
        "job": found.job.name,
        "manifest": str(found.manifest.path),
        "rows": found.chosen_rows,
        "bad_rows": found.bad_rows,
        "requests": found.requests,
        "pictures": pictures(found),
        "at_once": found.only_at_once,
        "lanes": found.lanes,
        "follow_ups": found.follow_ups,
        "in_turn": list(found.waves),
        "shots": found.shots,
        "as_before": found.carried,
        "proved": sum(found.proved.values()),
        "on_their_way": found.expected,
        "why_again": {
            why: {"requests": count, "example": example} for why, (count, example) in found.again.items()
        },
        "pictures_gone": found.gone,
        "usd": {
            "low": price.low / 1e9,
            "likely": price.likely / 1e9,
            "high": price.high / 1e9,
            "at_once": None if found.at_once is None else found.at_once / 1e9,
            "of": {
                "pictures": price.pictures / 1e9,
                "photos_and_words": price.reading / 1e9,
                "thinking": price.thinking / 1e9,
                "searches": price.searching / 1e9,
                "retries": price.retrying / 1e9,
            },
        },
        "cap": None if cap is None else {"usd": cap / 1e9, "words": _cap(found, cap)},
        "canary": canary_of(found),
        "prices_as_of": found.table.as_of.isoformat(),
        "send_bytes": found.input_bytes + found.reference_bytes,
        "receive_bytes": price.output_bytes,
        "references": found.references,
        "binds": {bound.name: bound.words for bound in bounds(found)},
        "problems": [
            {
                "rows": kind.count,
                "message": kind.example.message,
                "file": kind.example.where,
                "row": kind.example.row,
                "column": kind.example.column,
                "value": kind.example.value,
                "hint": kind.example.hint,
            }
            for kind in found.problems
        ],
        "warnings": list(found.warnings),
        "hints": list(found.hints),
    }


def expanded(request: Request) -> dict[str, Any]:
    """One request as a row of a manifest of its own: what is seen is what is sent."""
    named = _flat(request.key, request.shot, request.variant)
    which = {"id": named, "key": request.key, "shot": request.shot, "variant": request.variant}
    if request.prompt is None:
        return which | {"refusal": request.refusal}
    prompt = request.prompt
    turns = {"turns": [_said(turn, prompt) for turn in request.turns]} if request.turns else {}
    if (parent := request.parent) is not None:
        which["from"] = _flat(parent.key, parent.shot, parent.variant)
    return which | _asked(prompt) | turns | {"fingerprint": request.fingerprint}


def _flat(key: str, shot: str, variant: int) -> str:
    """What a request is called where it is a row."""
    return f"{key}-{shot}" + (f"-{variant}" if variant else "")


def _asked(prompt: Prompt) -> dict[str, Any]:
    """What a prompt says, by the names that columns have."""
    ours = ("text", "references", "after", "context", "history")
    asked = {name: getattr(prompt, name) for name in prompt.__struct_fields__ if name not in ours}
    asked |= said_by(asked.pop("imagen"))
    asked |= {
        "modalities": list(prompt.modalities),
        "search": list(prompt.search),
        "safety": dict(prompt.safety),
    }
    said = {name: value for name, value in asked.items() if value not in (None, [], {})}
    shown = [reference.source for reference in prompt.references]
    references = {"references": shown} if shown else {}
    return {"prompt": prompt.text} | references | said


def _said(turn: Prompt, first: Prompt) -> dict[str, Any]:
    """What a follow-up says, as far as it differs from the first prompt."""
    own, before = _asked(turn), _asked(first)
    gone = {name: "-" for name in before.keys() - own.keys() if name != "references"}
    return (
        {name: value for name, value in own.items() if before.get(name) != value}
        | {"prompt": turn.text}
        | gone
    )
