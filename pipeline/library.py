"""Prompts that work, to be used by name: `use = "product-studio"`."""

import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

from pipeline.errors import BadInput
from pipeline.problems import Problem, did_you_mean

_BLANK = re.compile(r"\[\[(\w+)\]\]")


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One prompt with blanks."""

    about: str
    shows: int  # pictures that it speaks of, at least
    prompt: str
    blanks: Mapping[str, str]  # what is in a blank that nobody fills

    @property
    def names(self) -> tuple[str, ...]:
        """All blanks, in the order in which they come."""
        return tuple(dict.fromkeys(_BLANK.findall(self.prompt)))

    def template(self, fill: Mapping[str, str]) -> str:
        """The prompt as a job would write it. A blank that nobody fills and that has no default is a column."""

        def filled(match: re.Match[str]) -> str:
            name = match[1]
            return fill.get(name) or self.blanks.get(name) or "{{ " + name + " }}"

        return _BLANK.sub(filled, self.prompt).strip()


@lru_cache(maxsize=1)
def library() -> Mapping[str, Recipe]:
    """All recipes by name."""
    text = files("pipeline").joinpath("library.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Recipe])


def find(name: str | None) -> Mapping[str, Recipe]:
    """The recipe of this name, or all."""
    if name is None:
        return library()
    if name not in library():
        raise BadInput(f"no shot {name!r} in the library", hint=did_you_mean(name, library()))
    return {name: library()[name]}


def lines_of(recipes: Mapping[str, Recipe]) -> list[str]:
    """All of them in a line each; one alone with its words, and with a shot that uses it."""
    if len(recipes) > 1:
        return [f"  {name:<16} {recipe.about}" for name, recipe in recipes.items()]
    ((name, recipe),) = recipes.items()
    lines = [f"{name}: {recipe.about}", "", *textwrap.wrap(recipe.prompt, 100), ""]
    lines += [f"[shots.{name.replace('-', '_')}]", f'use = "{name}"']
    if recipe.shows:
        lines.append(f'references = ["photo"]  # {recipe.shows} at least')
    lines.append("[shots." + name.replace("-", "_") + ".fill]")
    for blank in recipe.names:
        default = recipe.blanks.get(blank)
        lines.append(f'{blank} = "{default}"' if default else f'{blank} = "{{{{ {blank} }}}}"  # a column')
    return lines


def document_of(recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """The same for programs."""
    return {name: msgspec.to_builtins(recipe) for name, recipe in recipes.items()}


def unusable(use: str, fill: Mapping[str, str], where: str) -> Iterator[Problem]:
    """Why a recipe cannot be used so."""
    recipe = library().get(use)
    if recipe is None:
        hint = did_you_mean(use, library()) + "; nightshoot shots lists them"
        yield Problem("no such shot in the library", where, column="use", value=use, hint=hint)
        return
    for name in fill:
        if name not in recipe.names:
            hint = did_you_mean(name, recipe.names)
            yield Problem(f"{use} has no such blank", where, column="fill", value=name, hint=hint)
