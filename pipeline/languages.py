"""Scripts that a text is written in and a model's languages are not: as much of a language as can be told for sure."""

import re
from collections.abc import Collection
from functools import lru_cache

# Each script with the languages that are written in it, of those that the table of models names.
_SCRIPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Greek": ("\u0370-\u03ff", ()),
    "Cyrillic": ("\u0400-\u052f", ("ru", "ua", "uk")),
    "Armenian": ("\u0530-\u058f", ()),
    "Hebrew": ("\u0590-\u05ff", ("he",)),
    "Arabic": ("\u0600-\u06ff", ("ar",)),
    "Devanagari": ("\u0900-\u097f", ("hi",)),
    "Indic": ("\u0980-\u0dff", ()),
    "Thai": ("\u0e00-\u0e7f", ("th",)),
    "Lao": ("\u0e80-\u0eff", ()),
    "Burmese": ("\u1000-\u109f", ()),
    "Georgian": ("\u10a0-\u10ff", ()),
    "Korean": ("\uac00-\ud7af", ("ko",)),
    "Ethiopic": ("\u1200-\u137f", ()),
    "Khmer": ("\u1780-\u17ff", ()),
    "Japanese": ("\u3040-\u30ff", ("ja",)),
    "Chinese": ("\u4e00-\u9fff", ("zh", "ja")),
}
_IN_A_ROW = 3  # letters: a Greek mu is a unit, and one ideograph may be a name


def foreign_script(text: str, languages: Collection[str]) -> str | None:
    """The script of a word that none of these languages is written in. What Latin letters hide is not told."""
    if text.isascii() or not languages:
        return None
    spoken = frozenset(language.partition("-")[0].lower() for language in languages)
    found = _foreign(spoken).search(text)
    return None if found is None else found.lastgroup


@lru_cache(maxsize=16)
def _foreign(spoken: frozenset[str]) -> "re.Pattern[str]":
    others = [
        f"(?P<{name}>[{letters}]{{{_IN_A_ROW}}})"
        for name, (letters, languages) in _SCRIPTS.items()
        if spoken.isdisjoint(languages)
    ]
    return re.compile("|".join(others))
