"""What to know of the models is told before a run, each thing once, and a sure end stops it."""

from datetime import date
from pathlib import Path

import pytest

from pipeline.errors import BadInput
from pipeline.job import job_for
from pipeline.languages import foreign_script
from pipeline.models import load_models
from pipeline.overview import notes, plan_document
from pipeline.survey import Survey, check_ends, survey
from tests.bench import write_rows

FIFTEEN = load_models().find("gemini-3-pro-image").languages
PHOTO = Path(__file__).parent.parent / "sample_manifests" / "photos" / "ns-1001.jpg"


def look(folder: Path, *, model: str = "gemini-3-pro-image", rows: int = 3, **said: object) -> Survey:
    write_rows(folder / "shoes.csv", rows)
    return survey(job_for("shoes.csv", **{"prompt": "{{ title }}", "model": model} | said), base=folder)


# --- ends --------------------------------------------------------------------------------------------------------


def test_a_model_that_has_ended_for_sure_is_refused_with_its_successor(tmp_path: Path) -> None:
    found = look(tmp_path, model="gemini-2.0-flash-preview-image-generation")
    with pytest.raises(BadInput, match="ended on 2025-11-14, says Google's deprecations page") as caught:
        check_ends(found, date(2026, 11, 21))
    assert caught.value.hint is not None
    assert "take gemini-2.5-flash-image" in caught.value.hint


def test_one_that_ends_before_the_last_round_is_back_is_refused_too(tmp_path: Path) -> None:
    few = look(tmp_path, model="gemini-2.0-flash-preview-image-generation")
    many = look(tmp_path, model="gemini-2.0-flash-preview-image-generation", rows=5000)
    check_ends(few, date(2025, 11, 11))
    with pytest.raises(BadInput, match=r"the last of this run may come back on 2025-11-17"):
        check_ends(many, date(2025, 11, 11))
    check_ends(many, date(2025, 10, 1))


def test_who_knows_better_says_so_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[models."gemini-2.0-flash-preview-image-generation"]\nretires = []\n')
    found = look(tmp_path, model="gemini-2.0-flash-preview-image-generation", models="own.toml")
    check_ends(found, date(2026, 11, 21))
    assert any("is retired" in note for note in notes(found))


def test_a_doubtful_end_is_a_warning(tmp_path: Path) -> None:
    found = look(tmp_path, model="gemini-2.5-flash-image")
    check_ends(found, date(2026, 11, 21))
    (warning,) = plan_document(found)["warnings"]
    assert "may have been switched off" in warning


def test_a_row_whose_words_have_a_blank_is_named(tmp_path: Path) -> None:
    """Its own words are no template: the braces would be asked for."""
    (tmp_path / "p.csv").write_text(
        "id,title,prompt,prompt_2\na,Boot,A boot,Now the {{ title }}\nb,Hat,A hat,\n"
    )
    found = survey(job_for("p.csv"), base=tmp_path)
    (note,) = found.hints
    assert note.startswith("a has {{ in its words: a row's are sent as they are")


# --- limits ------------------------------------------------------------------------------------------------------


def test_a_language_that_works_less_well_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("id,prompt\na,A boot\nb,Κόκκινη μπότα\nc,Πράσινη μπότα\n")
    found = survey(job_for("g.csv", model="gemini-3-pro-image"), base=tmp_path)
    (hint,) = found.hints
    assert hint.startswith("gemini-3-pro-image works best in EN, ar-EG")
    assert hint.endswith("b has words in Greek letters")
    assert notes(found)[-1] == f"note: {hint}"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Rote Stiefel für Mädchen", None),
        ("赤いブーツ", None),
        ("红色的靴子", None),
        ("빨간 부츠", None),
        ("красный сапог", None),
        ("حذاء أحمر", None),
        ("लाल जूते", None),
        ("รองเท้าสีแดง", "Thai"),
        ("מגף אדום", "Hebrew"),
        ("a lens of 10 μm", None),
    ],
)
def test_only_what_the_letters_say_for_sure_is_told(text: str, script: str | None) -> None:
    assert foreign_script(text, FIFTEEN) == script


def test_the_older_models_speak_fewer_languages() -> None:
    assert (
        foreign_script("красный сапог", load_models().find("gemini-2.5-flash-image").languages) == "Cyrillic"
    )
    assert foreign_script("赤いブーツ", load_models().find("imagen-4.0-generate-001").languages) == "Japanese"
    assert foreign_script("красный сапог", ()) is None, "of a model of one's own nothing is known"


def test_limits_are_told_where_they_matter_and_only_there(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(PHOTO.read_bytes())
    assert look(tmp_path).hints == ()
    searching = look(tmp_path, search=["web"]).hints
    assert searching == (
        "what a search found must be shown with its picture, as Google gives it; it finds no people",
    )
    (cut,) = look(tmp_path, prompt="{{ title }} on a transparent background").hints
    assert cut.startswith("no model makes a transparent background")
    (many,) = look(tmp_path, model="gemini-2.5-flash-image", references=["./p.jpg"] * 4).hints
    assert many == "gemini-2.5-flash-image works best with up to 3 references; some rows show 4"
    assert look(tmp_path, model="gemini-2.5-flash-image", references=["./p.jpg"] * 3).hints == ()


def test_a_doubt_is_told_to_those_it_concerns(tmp_path: Path) -> None:
    assert look(tmp_path, model="gemini-nano-banana-2.1").hints == ()
    (price,) = look(tmp_path, model="gemini-nano-banana-2.1", image_size="4K").hints
    assert "one says $0.113" in price
    (queue,) = look(tmp_path, model="gemini-nano-banana-2.1", rows=3000).hints
    assert "wait in line is published nowhere" in queue


@pytest.mark.parametrize(
    ("prompt", "several"),
    [
        ("An illustrated recipe for paella", True),
        ("How to tie a bowline, with a picture for each step", True),
        ("Three pictures of {{ title }}", True),
        ("Make 4 slightly different images of {{ title }}", True),
        ("Several variations of {{ title }}", True),
        ("Make one picture of the two pictures that are shown", False),
        ("The shoes of pictures 1, 2 in one scene", False),
        ("A wall with three framed photos of {{ title }}", True),  # words alone do not tell; it is a note
        ("{{ title }} beside pictures of the sea", False),
        ("A photo of {{ title }}", False),
    ],
)
def test_a_prompt_for_several_pictures_is_told_what_that_costs(
    tmp_path: Path, prompt: str, several: bool
) -> None:
    """Once, however many rows ask so; how many come nobody promises."""
    hints = look(tmp_path, prompt=prompt).hints
    assert [hint.startswith("how many pictures an answer has") for hint in hints] == [True] * several
    if several:
        assert "sku-0 asks for several, each of which costs what one does" in hints[0]


def test_a_watermark_is_told_to_who_speaks_of_one(tmp_path: Path) -> None:
    (hint,) = look(tmp_path, prompt="{{ title }}, without any watermark").hints
    assert "every picture carries SynthID" in hint


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x00\x00\x00\x18ftypmp42", "a video, which no model takes"),
        (b"\x1aE\xdf\xa3webm", "a video, which no model takes"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "a video, which no model takes"),
        (b"ID3\x04\x00", "a sound, which no model takes"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "a sound, which no model takes"),
    ],
)
def test_a_film_among_the_references_is_refused_as_what_it_is(
    tmp_path: Path, start: bytes, words: str
) -> None:
    (tmp_path / "clip.jpg").write_bytes(start + bytes(200))
    write_rows(tmp_path / "shoes.csv", 2)
    found = survey(job_for("shoes.csv", prompt="x", references=["./clip.jpg"]), base=tmp_path)
    (problem,) = found.problems
    assert words in f"{problem} {problem.example.hint}"
    assert problem.count == 2
