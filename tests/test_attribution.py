"""What Google wants shown with a picture that rests on a search, and what it may do to the page: nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import emulator
from pipeline.attribution import SANDBOX, address, credits_of
from pipeline.gallery import gallery
from pipeline.index import pictures, read_index
from pipeline.run import open_run
from tests.bench import Bench
from tests.html import elements, words
from tests.test_proof import PAID, run_of
from tests.test_proof import shell as shell

HOSTILE = "</iframe><script>parent.document.title='x'</script>\"'><base href=//evil.example><a href=x>chip</a>\n\n&amp;"


def row(chip: str | None = None, **source: str | None) -> dict[str, Any]:
    whole = dict.fromkeys(("kind", "title", "uri", "image_uri", "domain")) | source
    return {"search_chip": chip, "sources": [whole] if source else []}


def test_a_picture_that_rests_on_nothing_has_nothing_to_show() -> None:
    assert credits_of(row()) == ""


@given(st.text(st.characters(exclude_characters="\x00")) | st.just(HOSTILE))
def test_a_chip_is_shown_as_it_is_in_a_document_of_its_own(chip: str) -> None:
    """Nothing of it is an element of our page, and all of it is there, to the letter."""
    page = credits_of(row(chip))
    if not chip:
        assert page == ""
        return
    (frame,) = elements(page)
    assert frame.tag == "iframe"
    assert frame.attributes["sandbox"] == SANDBOX
    assert str(frame.attributes["srcdoc"]).endswith(chip)
    assert "\n" not in page


def test_a_chip_may_open_a_window_and_nothing_else() -> None:
    assert set(SANDBOX.split()) == {"allow-popups", "allow-popups-to-escape-sandbox"}
    (frame,) = elements(credits_of(row("<a>x</a>")))
    assert '<base target="_blank">' in str(frame.attributes["srcdoc"])
    assert "width:100%" in str(frame.attributes["style"])


def test_a_source_is_one_click_away_and_its_picture_is_not_shown() -> None:
    """To the page that contains it, not to the picture."""
    found = credits_of(
        row(
            kind="image", title="A <b>", uri="https://a.example/?a=1&b=2", image_uri="https://a.example/x.jpg"
        )
    )
    (link,) = [each for each in elements(found) if each.tag == "a"]
    assert link.attributes["href"] == "https://a.example/?a=1&b=2"
    assert link.attributes["target"] == "_blank"
    assert "A <b>" in words(found)
    assert "x.jpg" not in found
    assert not [each for each in elements(found) if each.tag == "img"]


@pytest.mark.parametrize(
    "uri", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "http:", "//a", ""]
)
def test_what_is_no_web_address_cannot_be_clicked(uri: str) -> None:
    assert address(uri) is None
    assert not [each for each in elements(credits_of(row(title="x", uri=uri))) if each.tag == "a"]


def test_the_sheet_of_a_proof_shows_chip_and_sources_beside_the_picture(
    shell: "Any", service: emulator.Service
) -> None:
    job = shell.folder / "jobs" / "shoes.toml"
    text = job.read_text().replace("gemini-2.5-flash-image", "gemini-3.1-flash-image")
    job.write_text(text.replace("[defaults]", '[defaults]\nsearch = ["web", "image"]'))
    assert shell("proof", "--rows", "2", *PAID).code == 0
    page = (shell.folder / "proofs" / "shoes-1.html").read_text()
    index = read_index(open_run_at(run_of(shell, "shoes-proof")))
    frames = [each.attributes["srcdoc"] or "" for each in elements(page) if each.tag == "iframe"]
    assert len(frames) == 2
    for chip in index["search_chip"]:
        assert any(frame.endswith(chip) for frame in frames)
    links = {each.attributes["href"] for each in elements(page) if each.tag == "a"}
    assert links == {source["uri"] for found in index["sources"] for source in found}
    assert re.search(r"Content-Security-Policy\" content=\"script-src 'none'", page)


def open_run_at(folder: Path) -> Any:
    from pipeline.clock import MachineClock
    from pipeline.storage import open_storage

    return open_run(open_storage(str(folder)), MachineClock())


def test_a_notebook_shows_them_too(bench: Bench) -> None:
    bench.make_job(rows=1, model="gemini-3-pro-image", search=["web"])
    bench.begin().to_the_end()
    shown = gallery(pictures(open_run(bench.place(), bench.clock)), below="all")
    tags = [each.tag for each in elements(shown._repr_html_())]
    assert tags.count("iframe") == 1
    assert tags.count("a") == 3
