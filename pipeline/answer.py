"""One answer on its way home: its pictures written, its words in their places, its thoughts apart.

What it fears: a draft or one of several pictures that is taken for the result, and a part that is lost from the middle.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.backends.base import Drawing, Outcome
from pipeline.checks import Rules, Seen, examine
from pipeline.models import TOLERANCE
from pipeline.pictures import Broken, Picture, look
from pipeline.run import picture_file, thought_file

Keep = Callable[[str, bytes, str], object]
"""Keeps a picture: told its name, its bytes, and their type."""

_ODD = ("declared_mime", "size")
"""What is said of every result, with no check asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for, as far as an answer is judged by it."""

    name: str  # for the names of files
    size: str | None  # in the model's word, where one was said
    pixels: tuple[int, int] | None
    rules: Rules
    pictures: int = 1  # of one call
    thoughts: bool = False


@dataclass(slots=True)
class Answer:
    """An answer whose pictures are there."""

    pictures: list[dict[str, Any]] = field(default_factory=list)  # the whole ones
    parts: list[dict[str, Any]] = field(
        default_factory=list
    )  # words and pictures, in the order they were said
    seen: Seen | None = None  # what the picture that counts showed
    broken: Broken | None = None  # or what is wrong with it

    @property
    def final(self) -> dict[str, Any]:
        """The picture that counts; nothing where there is none."""
        return next((picture for picture in self.pictures if picture["role"] == "final"), {})


def written(outcome: Outcome, *, batch: int, place: int, wanted: Wanted, keep: Keep) -> Answer:
    """Every whole picture of an answer, byte for byte. The last one counts; of alternatives the first that is whole."""
    answer = Answer()
    several = outcome.alternatives and len(outcome.drawings) > 1
    number, last = 0, None
    for each in _in_turn(outcome):
        if isinstance(each, str):
            answer.parts.append({"kind": "text", "text": each, "path": None})
            continue
        number += 1
        picture = look(each.data)
        last = picture if isinstance(picture, Broken) else examine(each.data, picture, wanted.rules)
        if isinstance(picture, Broken) or isinstance(last, Broken):
            # It has its place in the answer all the same: nobody is to think that the words stand alone.
            why = last.reason if isinstance(last, Broken) else None
            answer.parts.append({"kind": "picture", "text": why, "path": None})
            continue
        # Their order is for people too: digests have none.
        name = f"{wanted.name}-{number}" if several else wanted.name
        path = picture_file(batch, place, name, picture.sha256, picture.extension)
        keep(path, each.data, picture.mime)
        role = "alternative" if outcome.alternatives else "interleaved"
        words = [*_other_than_said(picture, each.declared_mime, wanted.pixels), *last.words]
        answer.pictures.append(
            _described(path, picture, each, role=role) | {"checks": words, "numbers": last.numbers}
        )
        answer.parts.append({"kind": "picture", "text": None, "path": path})
        answer.seen = answer.seen if outcome.alternatives and answer.seen is not None else last
    _choose(answer, last, alternatives=outcome.alternatives)
    return answer


def judged(outcome: Outcome, answer: Answer, wanted: Wanted) -> tuple[str, list[str]]:
    """The outcome now that the pictures were looked at, and what is odd about those that are results."""
    results = [picture for picture in answer.pictures if picture["role"] in ("final", "alternative")]
    odd = [word for word in _ODD if any(word in picture["checks"] for picture in results)]
    fewer = ["fewer"] if outcome.alternatives and 0 < len(results) < wanted.pictures else []
    checks = [*odd, *fewer, *(word for word in answer.final.get("checks", []) if word not in _ODD)]
    if outcome.kind != "ok":
        return outcome.kind, checks
    if answer.broken is not None or not answer.pictures:
        return "broken", checks
    return ("wrong_size" if "size" in odd else "ok"), checks


def unless_unfit(answer: Mapping[str, Any], words: Iterable[str], rules: Rules) -> dict[str, Any]:
    """An answer's outcome and message, now that a check said these words of its picture."""
    failed = rules.fatal(words) if answer["outcome"] == "ok" else []
    if failed:
        return {"outcome": "unfit", "message": f"fails what the job sets to error: {', '.join(failed)}"}
    return {"outcome": answer["outcome"], "message": answer["message"]}


def thoughts(outcome: Outcome, *, batch: int, place: int, wanted: Wanted, keep: Keep) -> dict[str, Any]:
    """What the model thought, where that was asked for: apart from what it answered, and it changes no outcome."""
    if not wanted.thoughts:
        return {}
    drafts = []
    for each in outcome.thoughts:
        if isinstance(each, str) or isinstance(picture := look(each.data), Broken):
            continue
        path = thought_file(batch, place, wanted.name, picture.sha256, picture.extension)
        keep(path, each.data, picture.mime)
        drafts.append(_described(path, picture, each, role="thought") | {"checks": [], "numbers": None})
    words = "\n\n".join(each for each in outcome.thoughts if isinstance(each, str))
    return {"thoughts": words or None, "thought_pictures": drafts}


def _in_turn(outcome: Outcome) -> Iterator[str | Drawing]:
    """Words and pictures as the model said them; pictures alone where a backend tells no order."""
    drawings = iter(outcome.drawings)
    for words in outcome.order:
        if words is not None:
            yield words
        elif (drawing := next(drawings, None)) is not None:
            yield drawing
    yield from drawings


def _choose(answer: Answer, last: Seen | Broken | None, *, alternatives: bool) -> None:
    """Which picture counts. An answer that ends in a broken one has none, whatever came before it."""
    if alternatives and answer.pictures:
        answer.pictures[0]["role"] = "final"
    elif isinstance(last, Broken):
        answer.broken, answer.seen = last, None
    elif answer.pictures:
        answer.pictures[-1]["role"] = "final"


def _other_than_said(picture: Picture, declared: str | None, pixels: tuple[int, int] | None) -> list[str]:
    """What a picture is other than it was declared, or asked for: each of a story, and not the last one alone."""
    words = [] if declared in (None, picture.mime) else ["declared_mime"]
    if pixels is not None and not _fits(picture.width, picture.height, pixels):
        words.append("size")
    return words


def _fits(width: int, height: int, wanted: tuple[int, int]) -> bool:
    ratio = (width / height) / (wanted[0] / wanted[1])
    return abs(ratio - 1) <= TOLERANCE and max(width, height) >= (1 - TOLERANCE) * max(wanted)


def _described(path: str, picture: Picture, drawing: Drawing, *, role: str) -> dict[str, Any]:
    return {
        "path": path,
        "width": picture.width,
        "height": picture.height,
        "mime": picture.mime,
        "declared_mime": drawing.declared_mime,
        "bytes": picture.size,
        "sha256": picture.sha256,
        "role": role,
        "mark": picture.mark,
        "enhanced_prompt": drawing.prompt,
    }
