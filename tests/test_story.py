"""Answers of words and pictures in turn: kept in their order, and told as Markdown."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline import emulator
from pipeline.job import job_for
from pipeline.story import CREDITS, harmless, plain
from tests.bench import Bench
from tests.html import elements, words
from tests.shell import HOUSE, Shell

SAMPLES = HOUSE / "sample_manifests"
PAID = ("--yes", "--max-usd", "5")


def rendered(text: str) -> str:
    """As a viewer shows it that lets HTML through."""
    return MarkdownIt("commonmark", {"html": True}).render(text)


@pytest.fixture
def recipes(service: emulator.Service, tmp_path: Path) -> Shell:
    """A shell beside a run of the illustrated sample."""
    shutil.copy(SAMPLES / "illustrated.jsonl", tmp_path)
    shell = Shell(tmp_path, service.environment())
    assert shell("run", "illustrated.jsonl", *PAID).code == 0
    return shell


def test_the_index_has_words_and_pictures_in_the_order_they_were_said(bench: Bench) -> None:
    shutil.copy(SAMPLES / "illustrated.jsonl", bench.folder)
    bench.job = job_for("illustrated.jsonl")
    for row in bench.run().itertuples():
        parts = list(row.parts)
        assert [part["path"] for part in parts if part["kind"] == "picture"] == [
            picture["path"] for picture in row.pictures
        ]
        assert "\n".join(part["text"] for part in parts if part["kind"] == "text") == row.text
        announced = [
            n for n, part in enumerate(parts) if str(part["text"]).startswith("And another one, number")
        ]
        assert [parts[n]["text"][-2] for n in announced] == ["2", "3"]
        assert {parts[n + 1]["kind"] for n in announced} == {"picture"}, "words stand before their picture"
        assert parts[-1]["path"] == row.path


def test_of_a_story_each_picture_says_what_is_odd_about_it(bench: Bench) -> None:
    """The last one decides what becomes of the row; nobody has to guess about the others."""
    bench.make_job(rows=1, prompt="Three pictures of {{ title }}", aspect_ratio="4:3")
    bench.service.fault("wrong_size", prompt="Shoe 0")
    bench.service.fault("wrong_mime", prompt="Shoe 0")
    (row,) = bench.run().to_dict("records")
    assert [list(picture["checks"]) for picture in row["pictures"]] == [["declared_mime", "size"]] * 3
    assert (row["outcome"], list(row["checks"])) == ("wrong_size", ["declared_mime", "size"])


def test_each_answer_becomes_a_file_with_its_pictures_beside_it(recipes: Shell) -> None:
    said = recipes("index", "--markdown", "told")
    assert said.code == 0, said.all
    assert "wrote 2 files with 6 pictures into told" in said.out
    told = recipes.folder / "told"
    run = next((recipes.folder / "runs").iterdir())
    made = {hashlib.sha256(path.read_bytes()).digest() for path in run.glob("pictures/*/*")}
    pages = sorted(told.glob("*.md"))
    assert len(pages) == 2
    for page in pages:
        shown = elements(rendered(page.read_text()))
        assert shown[0].tag == "h1"
        images = [each.attributes["src"] for each in shown if each.tag == "img"]
        assert len(images) == 3
        for source in images:
            data = (told / str(source)).read_bytes()
            assert hashlib.sha256(data).digest() in made, "byte for byte"
        order = page.read_text()
        assert order.index("number 2:") < order.index(str(images[1])) < order.index("number 3:")
    assert not (told / CREDITS).exists()


def test_it_is_written_again_just_the_same_and_only_for_the_rows_that_are_wanted(recipes: Shell) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((recipes.folder / "told").rglob("*.*"))}

    recipes("index", "--markdown", "told")
    before = files()
    recipes("index", "--markdown", "told")
    assert files() == before
    key = json.loads(recipes("index", "--columns", "key", "--json").out)["index"][0]["key"]
    said = recipes("index", "--markdown", "one", "--where", f"key == {key!r}")
    assert "wrote 1 file with 3 pictures" in said.out


def test_each_turn_of_a_conversation_is_a_file_that_says_which(
    service: emulator.Service, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("id,prompt,prompt_2\na,Three pictures of a ball,Three pictures of it\n")
    shell = Shell(tmp_path, service.environment())
    assert shell("run", "p.csv", *PAID).code == 0
    assert "wrote 2 files" in shell("index", "--markdown", "told").out
    first, turn = sorted((tmp_path / "told").glob("*.md"))
    assert ("turn1" in first.name, "turn1" in turn.name) == (False, True)
    assert [page.read_text().splitlines()[0] for page in (first, turn)] == ["# a", "# a, turn 1"]


def test_a_run_without_such_answers_says_so_and_writes_nothing(
    service: emulator.Service, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("prompt\na red ball\n")
    shell = Shell(tmp_path, service.environment())
    shell("run", "p.csv", "--set", "modalities=IMAGE", *PAID)
    said = shell("index", "--markdown", "told")
    assert "wrote nothing" in said.out
    assert not (tmp_path / "told").exists()


def test_what_a_story_rests_on_is_shown_with_it(service: emulator.Service, tmp_path: Path) -> None:
    """Chip and sources at the end of the file, and once more on a page for viewers that show no HTML."""
    (tmp_path / "p.jsonl").write_text(
        '{"id": "a", "prompt": "An illustrated guide to ferns", "search": "web|image"}\n'
    )
    shell = Shell(tmp_path, service.environment())
    assert shell("run", "p.jsonl", "--set", "model=gemini-3.1-flash-image", *PAID).code == 0
    shell("index", "--markdown", "told")
    (path,) = (tmp_path / "told").glob("*.md")
    (row,) = json.loads(shell("index", "--json").out)["index"]
    for page in (rendered(path.read_text()), (tmp_path / "told" / CREDITS).read_text()):
        (frame,) = [each for each in elements(page) if each.tag == "iframe"]
        assert str(frame.attributes["srcdoc"]).endswith(row["search_chip"])
        links = [each.attributes["href"] for each in elements(page) if each.tag == "a"]
        assert links == [source["uri"] for source in row["sources"]]


@pytest.mark.parametrize(
    "said",
    [
        "<script>alert(1)</script>",
        "![x](https://evil.example/a.png)",
        "\\[shop\\](https://evil.example)",
        "[shop](javascript:alert(1))",
        "[a]: https://evil.example\n\n[a] ![a]",
        "<https://evil.example>",
        "&lt;b&gt;",
    ],
)
def test_words_of_a_model_load_and_hide_nothing(said: str) -> None:
    page = rendered(harmless(said))
    assert {each.tag for each in elements(page)} == {"p"}
    assert "evil.example" not in str([each.attributes for each in elements(page)])


def test_words_of_a_model_keep_their_headings_and_lists() -> None:
    page = rendered(harmless("### Step 1\n\n- whisk **three** eggs\n- *fold* in the flour"))
    assert [each.tag for each in elements(page)] == ["h3", "ul", "li", "strong", "li", "em"]


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    | st.just("# <b>*a*</b> `x` [l](u) ![i](u) a_b_ ~~c~~ \\")
)
def test_a_key_means_nothing_but_itself(key: str) -> None:
    page = rendered(f"x{plain(key)}x")
    assert {each.tag for each in elements(page)} == {"p"}
    assert words(page).strip() == f"x{' '.join(key.split())}x"


def test_a_picture_that_is_gone_is_named(recipes: Shell) -> None:
    run = next((recipes.folder / "runs").iterdir())
    path = sorted(run.glob("pictures/*/*"))[0]
    path.unlink()
    said: Any = recipes("index", "--markdown", "told")
    assert said.code == 2
    assert f"{path.name} is gone" in said.err


def test_a_story_that_an_earlier_run_was_told_is_told_from_there(recipes: Shell) -> None:
    """Its pictures stay in that run; what is written beside the words is the same."""
    before = next((recipes.folder / "runs").iterdir()).name
    recipes("index", before, "--markdown", "first")
    assert recipes("run", "illustrated.jsonl", "--set", "reuse=latest 1", *PAID).code == 0
    after = max(path.name for path in (recipes.folder / "runs").iterdir())
    assert after != before
    said = recipes("index", after, "--markdown", "second")
    assert "wrote 2 files with 6 pictures" in said.out, said.all
    pictures = [
        {path.name for path in (recipes.folder / folder / "pictures").iterdir()}
        for folder in ("first", "second")
    ]
    assert pictures[0] == pictures[1]
