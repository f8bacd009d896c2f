"""Prompts that work, used by name."""

import tomllib
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.errors import BadInput
from pipeline.job import Job, job_for
from pipeline.library import library, lines_of
from pipeline.templates import unknown_names
from tests.bench import Bench, outcomes
from tests.shell import Shell


def job(**shot: object) -> Job:
    return job_for("shoes.csv", shots={"hero": shot})


@pytest.mark.parametrize("name", library())
def test_every_recipe_is_a_whole_prompt_once_its_blanks_are_filled(name: str) -> None:
    recipe = library()[name]
    assert "[[" not in recipe.template({})
    assert set(recipe.blanks) <= set(recipe.names), "a default for a blank that is not there"
    assert unknown_names(recipe.template({}), set(recipe.names) - set(recipe.blanks)) == []
    filled = recipe.template(dict.fromkeys(recipe.names, "XYZZY"))
    assert filled.count("XYZZY") >= len(recipe.names)
    assert "\n" not in filled


def test_a_shot_of_the_library_is_as_if_the_job_had_written_it() -> None:
    (shot,) = job(use="product-studio", fill={"product": "{{ title }}", "surface": "pale oak"}).shots
    assert shot.prompt is not None
    assert "photograph of {{ title }}, the very object" in shot.prompt
    assert "It stands on pale oak. Two large softboxes" in shot.prompt


def test_a_blank_that_nobody_fills_is_a_column() -> None:
    (shot,) = job(use="sticker").shots
    assert shot.prompt is not None
    assert "A sticker of {{ subject }} in the style of a friendly cartoon" in shot.prompt


@pytest.mark.parametrize(
    ("shot", "words"),
    [
        ({"use": "product-studo"}, "no such shot in the library product-studo"),
        ({"use": "sticker", "fill": {"colour": "red"}}, "sticker has no such blank colour"),
        ({"use": "sticker", "prompt": "x"}, "no use of the library"),
        ({"fill": {"subject": "x"}}, "no use of the library"),
    ],
)
def test_what_cannot_be_used_is_said_with_what_can(shot: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        job(**shot)
    assert words in str(caught.value).replace("'", "").replace('"', "").replace(":", "")


@pytest.mark.parametrize("name", library())
def test_what_the_command_shows_can_be_copied_into_a_job(name: str) -> None:
    lines = lines_of({name: library()[name]})
    table = tomllib.loads("\n".join(lines[lines.index("") :][lines[lines.index("") + 1 :].index("") + 2 :]))
    (shot,) = table["shots"].values()
    assert job(**shot).shots[0].prompt


def test_the_library_is_listed_and_shown(tmp_path: Path, service: emulator.Service) -> None:
    shell = Shell(tmp_path, service.environment())
    assert "  product-studio   a product photographed in a studio" in shell("shots").out
    assert 'use = "sticker"' in shell("shots", "sticker").out
    assert shell("shots", "stickr").code == 2


def test_a_run_of_a_shot_of_the_library(bench: Bench) -> None:
    bench.make_job(prompt=None, shots={"hero": {"use": "sticker", "fill": {"subject": "{{ title }}"}}})
    index = bench.run()
    assert outcomes(index) == {"ok": 6}
    assert index["prompt"].str.startswith("A sticker of Shoe ").all()
