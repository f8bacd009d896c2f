"""What to know of the models before a run, each thing once: their ends, their limits, doubts about them."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta

from pipeline.errors import BadInput
from pipeline.languages import foreign_script
from pipeline.models import Model, Models, Note
from pipeline.prompt import Prompt

_PLURALS = ("pictures", "images", "photos", "illustrations", "variations", "llustrated", "for each step")
_SEVERAL = re.compile(
    r"(?<!\bthe )(?<!\bthese )(?<!\bfirst )(?<!\blast )(?<!\bof )(?<!\bfrom )"
    r"\b(?:[2-9]|1\d|two|three|four|five|six|seven|eight|nine|ten|several|a few)"
    r"(?: (?!(?:of|that|and|in|on|by|with|beside|under|for|as|from|to)\b)[\w-]+){0,2} "
    r"(?:pictures|images|photos|illustrations|variations)\b"
    r"|\billustrated (?:recipe|story|guide)\b"
    r"|\b(?:pictures?|images?|photos?|illustrations?) for each (?:step|part|scene|page)\b",
    re.IGNORECASE,
)

AT_WORST = timedelta(hours=48)
"""That Google may take for one filling of its queue."""


@dataclass(slots=True)
class Asked:
    """What is asked of one model, as far as there is something to know about it."""

    model: Model
    sizes: set[str] = field(default_factory=set)
    most_references: int = 0
    searches: bool = False
    transparent: bool = False
    watermark: bool = False
    several: str | None = None  # a row whose prompt asks for more than one picture
    braces: str | None = None  # a row whose words have a blank in them that nobody fills
    script: str | None = None  # that none of its languages is written in
    example: str = ""  # a row in that script
    languages: tuple[str, ...] = ()  # that it was to be written in
    forbids: bool = False  # whether something is not to be seen

    def add(self, prompt: Prompt, key: str) -> None:
        self.sizes.add(prompt.image_size or self.model.default_size)
        if len(prompt.references) > self.most_references:
            self.most_references = len(prompt.references)
        if prompt.search:
            self.searches = True
        if self.braces is None and "{{" in prompt.text:
            self.braces = key
        if "transparent background" in prompt.text:
            self.transparent = True
        if prompt.imagen is None:  # which is told how many, and whether to mark them
            self.watermark = self.watermark or "watermark" in prompt.text
            if self.several is None and asks_for_several(prompt.text):
                self.several = key
        if prompt.imagen is not None and prompt.imagen.negative_prompt:
            self.forbids = True
        if self.script is None and not prompt.text.isascii():
            self.languages = _languages(prompt, self.model)
            self.script, self.example = foreign_script(prompt.text, self.languages), key


def asks_for_several(text: str) -> bool:
    """Whether a prompt seems to ask for more than one picture. What is shown to the model is none of them."""
    # Looking for words is much quicker than matching, and most prompts have none of them.
    if not any(word in text for word in _PLURALS):
        return False
    return _SEVERAL.search(text) is not None


_TRANSLATED = ("en", "zh", "hi", "ja", "ko", "pt", "es")
"""What Imagen translates by itself, where it is told to see for itself."""


def _languages(prompt: Prompt, model: Model) -> tuple[str, ...]:
    """What this prompt may be written in."""
    said = prompt.imagen.language if prompt.imagen is not None else None
    if said is None:
        return model.languages
    return _TRANSLATED if said == "auto" else (said,)


def hints(
    asked: Mapping[str, Asked], *, surface: str, waits: bool, location: str | None = None
) -> Iterator[str]:
    """Limits, each said once however many rows meet it."""
    for name, these in asked.items():
        model = these.model
        about = {surface, *these.sizes, *(["queue"] if waits else []), *([location] if location else [])}
        about |= {"references"} if these.most_references else set()
        about |= {"negative_prompt"} if these.forbids else set()
        if model.only_at_once(surface):
            yield f"{name} never comes in batches: asked at once, at the full price"
        yield from (f"{name}: {note}" for note in _notes(model, about))
        best = model.references.best
        if best is not None and these.most_references > best:
            yield f"{name} works best with up to {best} references; some rows show {these.most_references}"
        if these.script is not None:
            known = ", ".join(these.languages)
            better = '; language = "auto" has it translated' if these.languages == ("EN",) else ""
            yield f"{name} works best in {known}; {these.example} has words in {these.script} letters{better}"
        if these.several is not None:
            yield (
                f"how many pictures an answer has, {name} does not promise: {these.several} asks for several, each of "
                "which costs what one does, and this plan counts one"
            )
    if (key := next((these.braces for these in asked.values() if these.braces), None)) is not None:
        yield f"{key} has {{{{ in its words: a row's are sent as they are, a job's are templates"
    if any(these.watermark for these in asked.values()):
        yield "every picture carries SynthID, a watermark that nobody sees and no prompt takes away"
    if any(these.transparent for these in asked.values()):
        yield "no model makes a transparent background: it paints one"
    if any(these.searches for these in asked.values()):
        yield "what a search found must be shown with its picture, as Google gives it; it finds no people"


def _notes(model: Model, about: Set[str]) -> Iterator[str]:
    for note in model.notes:
        if isinstance(note, Note):
            if note.about in about:
                yield note.says
        else:
            yield note


def endings(names: Sequence[str], table: Models, *, surface: str, day: date, rounds: int) -> list[str]:
    """Warnings about models that end, or may, before the last of this run is back. Raises BadInput for a sure end."""
    back = day + AT_WORST * max(1, rounds)
    told: list[str] = []
    for name in names:
        model = table.find(name)
        if (end := model.sure_end(surface)) is not None and end.on <= back:
            ended = f"ended on {end.on}" if end.on <= day else f"ends on {end.on}"
            instead = (
                f"take {model.replaced_by}, its successor" if model.replaced_by else "take another model"
            )
            late = "" if end.on <= day else f", and the last of this run may come back on {back}"
            raise BadInput(
                f"{name} {ended}, says {end.says}{late}",
                hint=f"{instead}; where it is known to go on, say so in a file for --models",
            )
        told += model.warnings(day, back=back, surface=surface)
    return told
