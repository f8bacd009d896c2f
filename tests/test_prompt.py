"""A row poured into a shot is one request, or says why it is none; the same request is known again."""

import dataclasses
import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

from pipeline.backends import schema, wire
from pipeline.errors import BadInput, Corrupt
from pipeline.imagen import Imagen
from pipeline.job import job_for
from pipeline.manifest import Row
from pipeline.models import load_models
from pipeline.problems import group
from pipeline.prompt import Prompt, fingerprint, pour, problems_of_templates, requests
from pipeline.references import Reference

MODELS = load_models()
SHOTS = {
    "hero": {"prompt": "  Packshot of {{ title }}\n"},
    "lifestyle": {
        "prompt": "{{ title }} on a table",
        "aspect_ratio": "4:5",
        "system": "Be {{ mood | upper }}",
    },
}
HERO = {"hero": SHOTS["hero"]}


def row(ordinal: int = 0, **cells: str) -> Row:
    return Row(ordinal, ordinal + 2, f"S-{ordinal}", {"title": "Boot", "mood": "calm", **cells})


def asked(job, *rows: Row, base: Path = Path()):
    return list(requests(job, rows, models=MODELS, base=base))


def only(job, **cells: str) -> Prompt:
    """The prompt of one row in one shot."""
    (request,) = asked(job, row(**cells))
    assert request.refusal is None
    return request.prompt


def problem(job, **cells: str):
    (request,) = asked(job, row(**cells))
    assert request.prompt is None
    assert request.fingerprint == ""
    return request.problems[0]


@pytest.fixture
def photos(tmp_path):
    for name, colour in {"boot.jpg": "red", "side.jpg": "blue"}.items():
        stream = io.BytesIO()
        Image.new("RGB", (8, 6), colour).save(stream, "JPEG")
        (tmp_path / name).write_bytes(stream.getvalue())
    (tmp_path / "login.jpg").write_text("<html>")
    return tmp_path


# Rows, shots, variants


def test_every_row_is_asked_in_every_shot_and_variant_in_order():
    job = job_for("shoes.csv", shots=SHOTS, variants=2)
    found = [(r.row, r.key, r.shot, r.variant) for r in asked(job, row(0), row(1))]
    assert found == [
        (n, f"S-{n}", shot, variant) for n in (0, 1) for shot in ("hero", "lifestyle") for variant in (0, 1)
    ]


def test_a_prompt_is_trimmed_and_has_the_settings_of_its_layers():
    hero, lifestyle = [r.prompt for r in asked(job_for("a.csv", shots=SHOTS, ratio="1:1", size="2K"), row())]
    assert hero == Prompt("gemini-nano-banana-2.1", "Packshot of Boot", aspect_ratio="1:1", image_size="2K")
    assert (lifestyle.text, lifestyle.system, lifestyle.aspect_ratio) == ("Boot on a table", "Be CALM", "4:5")


def test_from_low_to_high_built_in_defaults_shot_row_set():
    job = job_for(
        "a.csv", shots={"one": {"prompt": "x", "aspect_ratio": "4:5"}}, aspect_ratio="3:2", size="2K"
    )
    assert only(job).aspect_ratio == "4:5"
    assert only(job, aspect_ratio="").aspect_ratio == "4:5"
    assert only(job, aspect_ratio="16:09:00").aspect_ratio == "16:9"
    assert only(job.with_settings({"ratio": "1:1"}), aspect_ratio="16:9").aspect_ratio == "1:1"
    assert (only(job).image_size, only(job, image_size="-").image_size) == ("2K", None)


def test_cells_set_what_their_columns_are_called_after():
    job = job_for("a.csv", prompt="x")
    prompt = only(
        job,
        Model="gemini-3.1-flash-image-preview",
        ratio="1x8",
        Size="1024",
        seed="7.0",
        temperature="0,5",
        thinking="High",
        search="web, image",
    )
    assert prompt == Prompt(
        "gemini-3.1-flash-image",
        "x",
        aspect_ratio="1:8",
        image_size="1K",
        seed=7,
        temperature=0.5,
        thinking="high",
        search=("web", "image"),
    )
    assert len(asked(job, row(n="3"))) == 3


def test_a_column_of_the_users_own_is_data_where_the_job_says_so():
    job = job_for("a.csv", prompt="{{ title }} size {{ size }}")
    found = problem(job, size="42")
    assert (found.column, found.value) == ("size", "42")
    assert found.hint.endswith("if 'size' is a column of your own, add data = [\"size\"] to the job")
    assert only(job.with_settings({"data": "size"}), size="42").text == "Boot size 42"


def test_without_a_template_the_prompt_column_is_the_prompt_and_is_never_rendered():
    assert only(job_for("a.csv"), prompt="draw {{ 7*7 }}").text == "draw {{ 7*7 }}"
    assert only(job_for("a.csv"), caption="a cat").text == "a cat"
    assert only(job_for("a.csv", prompt="Nice {{ prompt }}"), prompt="cat").text == "Nice cat"


@given(st.text().filter(str.strip))
def test_any_title_arrives_as_it_is(title):
    assert only(job_for("a.csv", shots=HERO), title=title).text == f"Packshot of {title}".strip()


def test_where_leaves_rows_out_and_what_it_cannot_judge_is_refused():
    job = job_for("a.csv", shots=HERO, where="title != 'Boot'")
    assert [r.row for r in asked(job, row(0), row(1, title="Clog"))] == [1]
    (request,) = asked(job, Row(0, 2, "k", {"name": "Boot"}))
    assert request.refusal.startswith("where: 'title' is undefined")


def test_a_size_that_cannot_be_set_is_not_sent():
    assert only(job_for("a.csv", prompt="x", model="gemini-2.5-flash-image", size="1K")).image_size is None


# What is refused


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ({"title": "  "}, "prompt", "the prompt is empty"),
        ({"model": "gemini-3.1-flash-imge"}, "model", "unknown model"),
        ({"ratio": "7:5"}, "ratio", "gemini-nano-banana-2.1 makes no such ratio"),
        ({"image_size": "512"}, "image_size", "gemini-nano-banana-2.1 makes no such size"),
        ({"n": "0"}, "n", "n is no whole number from 1 to 1,000"),
        ({"seed": "abc"}, "seed", "seed is no whole number"),
        ({"temperature": "3"}, "temperature", "temperature is no number from 0 to 2"),
        ({"model": "gemini-2.0-flash-exp"}, "model", "gemini-2.0-flash-exp never comes in batches"),
    ],
)
def test_a_wrong_cell_is_named_with_row_column_and_value(cells, column, message):
    found = problem(job_for("shoes.csv", prompt="{{ title }}"), **cells)
    assert (found.where, found.row, found.column) == ("shoes.csv", 2, column)
    assert found.message.startswith(message)
    assert found.value in (None, *cells.values())


def test_everything_that_is_wrong_with_a_row_is_said_at_once(photos):
    job = job_for("shoes.csv", prompt="{{ title }}", references=["photo"])
    (request,) = asked(
        job, row(title="", ratio="7:5", size="9K", photo="bot.jpg|login.jpg", n="x"), base=photos
    )
    assert [p.column for p in request.problems] == [
        "n",
        "references",
        "references",
        "prompt",
        "size",
        "ratio",
    ]
    assert "reference not found bot.jpg" in request.refusal


def test_a_row_in_trouble_is_refused_in_every_shot():
    found = asked(job_for("a.csv", shots=SHOTS), replace(row(), trouble="no JSON object"))
    assert [(r.shot, r.refusal) for r in found] == [
        ("hero", "no JSON object"),
        ("lifestyle", "no JSON object"),
    ]


def test_pouring_one_row_by_hand_is_the_same_prompt_or_an_error():
    job = job_for("a.csv", shots=SHOTS, seed=5)
    photo = Reference("a.jpg", "0" * 64, "image/jpeg", 10, 8, 6)
    prompt = pour(job, job.shots[0], row(), references=(photo,), variant=2)
    assert (prompt.text, prompt.references, prompt.seed) == ("Packshot of Boot", (photo,), 7)
    with pytest.raises(BadInput, match="the prompt is empty"):
        pour(job_for("a.csv"), job_for("a.csv").shots[0], row(prompt=" "))


# References


def test_references_come_from_columns_templates_and_files_in_the_order_said(photos):
    job = job_for("a.csv", prompt="x", references=["./side.jpg", "photo", "{{ stem }}.jpg"])
    (request,) = asked(job, row(photo="boot.jpg", stem="side"), base=photos)
    assert [r.source for r in request.prompt.references] == ["./side.jpg", "boot.jpg", "side.jpg"]


def test_columns_called_like_references_are_shown_without_being_asked(photos):
    cells = {"reference_image_10": "side.jpg", "reference_image_2": "boot.jpg", "Image URL": "side.jpg"}
    (request,) = asked(job_for("a.csv", prompt="x"), row(**cells), base=photos)
    assert [r.source for r in request.prompt.references] == ["side.jpg", "boot.jpg", "side.jpg"]
    off = job_for("a.csv", prompt="x", references=["-"])
    assert asked(off, row(**cells), base=photos)[0].prompt.references == ()


def test_a_product_without_its_photo_is_not_invented_unless_the_cell_says_so(photos):
    job = job_for("a.csv", prompt="x", references=["photo"])
    (without,) = asked(job, row(photo=""), base=photos)
    assert without.refusal == "no reference picture"
    assert without.problems[0].hint == "write - in the cell to shoot it without one"
    (meant,) = asked(job, row(photo="-"), base=photos)
    assert meant.prompt.references == ()


def test_all_missing_references_are_one_line_for_people(photos):
    job = job_for("shoes.csv", shots=SHOTS, references=["photo"])
    rows = [row(n, photo=f"refs/{n}.jpg") for n in range(10, 47)]
    problems = [p for request in asked(job, *rows, base=photos) for p in request.problems]
    assert [str(g) for g in group(problems)] == ["37 rows: reference not found, e.g. row 12 refs/10.jpg"]


# Before any row is read


def test_every_unknown_column_is_named_before_a_row_is_read():
    job = job_for(
        "a.csv",
        name="shoes",
        shots={
            "hero": {"prompt": "{{ titel }} {{ row['Colr'] }}"},
            "side": {"prompt": "x", "references": ["foto"]},
        },
        where="colour == 'red'",
        system="{{ brand }}",
        data=["sise"],
    )
    found = {str(p): p.hint for p in problems_of_templates(job, ["title", "Color", "photo", "size"])}
    assert found == {
        "shoes: where: unknown column 'colour'": "did you mean 'Color'?",
        "shoes: data: unknown column 'sise'": "did you mean 'size'?",
        "shoes [shots.hero]: prompt: unknown column 'Colr'": "did you mean 'Color'?",
        "shoes [shots.hero]: prompt: unknown column 'titel'": "did you mean 'title'?",
        "shoes [defaults]: system: unknown column 'brand'": "there are title, color, photo, size, Color",
        "shoes [shots.side]: references: unknown column 'foto'": "did you mean 'photo'?",
    }


def test_a_job_that_fits_its_manifest_has_no_problems():
    job = job_for(
        "a.csv", shots=SHOTS, where="title in ['Boot'] and row['Image Src'] != ''", references=["image_src"]
    )
    assert problems_of_templates(job, ["title", "mood", "Image Src"]) == []


def test_no_prompt_anywhere_is_a_problem_of_the_job():
    (found,) = problems_of_templates(job_for("a.csv"), ["title"])
    assert found.message == "no prompt"
    assert "--prompt" in found.hint


# Fingerprints

PHOTO = Reference("a.jpg", "ab" * 32, "image/jpeg", 10, 8, 6)
FULL = Prompt(
    "gemini-3.1-flash-image",
    "Ein Stiefel, größer als \u2028 sonst",
    (PHOTO,),
    "Be calm",
    "4:5",
    "2K",
    ("IMAGE",),
    "high",
    ("web",),
    7,
    0.5,
)


def test_fingerprints_are_a_format_and_these_are_known_for_good():
    plain = Prompt("gemini-nano-banana-2.1", "a cat")
    assert fingerprint(plain) == "b7ecb8e18f2bc251e5f5f5dc5a186a9f05464d9b27468250601dec68ea2413a3"
    assert fingerprint(plain, variant=1) == "d6863f7d735802b03721ec027d4cc6966c90ca93d7074f20048a8cfc2d4f9b72"
    assert fingerprint(FULL) == "3bb1b34885475f4f1b240aec4c9b197d8cf8b41e787477cab1e9feedbf93c55a"


def test_whatever_the_model_would_see_changes_the_fingerprint():
    other = Prompt("m", "t", (), "s", "1:1", "4K", ("TEXT",), "minimal", ("image",), 8, 0.7)
    other = replace(other, top_p=0.9, top_k=3, safety=(("harassment", "off"),), store=True, after="5e")
    other = replace(other, thoughts=True, imagen=Imagen(pictures=2))
    # Of the conversation before it only what was asked there is known beforehand, and that is `after`.
    unseen = ("store", "context", "history")
    seen = [name for name in Prompt.__struct_fields__ if name not in unseen]
    changed = {fingerprint(replace(FULL, **{name: getattr(other, name)})) for name in seen}
    assert len(changed | {fingerprint(FULL)}) == len(seen) + 1
    assert fingerprint(replace(FULL, store=True)) == fingerprint(FULL), "who keeps it changes no picture"


def test_a_reference_counts_by_what_is_in_it_and_in_its_order():
    again = dataclasses.replace(PHOTO, source="b/other.png")
    other = dataclasses.replace(PHOTO, sha256="cd" * 32)
    assert fingerprint(replace(FULL, references=(again,))) == fingerprint(FULL)
    there, back = replace(FULL, references=(PHOTO, other)), replace(FULL, references=(other, PHOTO))
    assert fingerprint(there) != fingerprint(back)


def test_asking_for_more_variants_leaves_the_first_as_it_was():
    one, three = (asked(job_for("a.csv", prompt="x", variants=n), row()) for n in (1, 3))
    assert three[0].fingerprint == one[0].fingerprint
    assert len({r.fingerprint for r in three}) == 3
    assert {r.prompt for r in three} == {one[0].prompt}


def test_a_seed_tells_variants_apart():
    found = asked(job_for("a.csv", prompt="x", variants=3, seed=40), row())
    assert [r.prompt.seed for r in found] == [40, 41, 42]
    single = asked(job_for("a.csv", prompt="x", seed=41), row())
    assert found[1].fingerprint == single[0].fingerprint


def test_a_name_and_its_alias_are_one_request():
    one, two = (
        asked(job_for("a.csv", prompt="x", model=m), row())[0]
        for m in ("nano-banana-2.1", "gemini-nano-banana-2.1")
    )
    assert one.fingerprint == two.fingerprint


# Which shots of which rows


def test_a_shot_is_left_out_of_the_rows_that_are_excluded():
    job = job_for("x.csv", shots=SHOTS, exclude=[{"shots": ["lifestyle"], "where": "mood == 'calm'"}])
    assert [(r.row, r.shot) for r in asked(job, row(0), row(1, mood="wild"))] == [
        (0, "hero"),
        (1, "hero"),
        (1, "lifestyle"),
    ]


def test_what_is_included_is_shot_whatever_is_excluded_and_with_settings_of_its_own():
    job = job_for(
        "x.csv",
        shots=SHOTS,
        exclude=[{"shots": ["lifestyle"]}],
        include=[
            {"shots": ["lifestyle"], "keys": ["S-1"], "variants": 2, "prompt": "{{ title }} outside"},
            {"where": "mood == 'wild'", "aspect_ratio": "16:9"},
        ],
    )
    found = asked(job, row(0), row(1), row(2, mood="wild"))
    assert [(r.key, r.shot, r.variant, r.prompt.text, r.prompt.aspect_ratio) for r in found] == [
        ("S-0", "hero", 0, "Packshot of Boot", None),
        ("S-1", "hero", 0, "Packshot of Boot", None),
        ("S-1", "lifestyle", 0, "Boot outside", "4:5"),
        ("S-1", "lifestyle", 1, "Boot outside", "4:5"),
        ("S-2", "hero", 0, "Packshot of Boot", "16:9"),
        ("S-2", "lifestyle", 0, "Boot on a table", "16:9"),
    ]


def test_a_rows_own_cell_outranks_what_is_included():
    job = job_for("x.csv", shots=HERO, include=[{"shots": ["hero"], "aspect_ratio": "16:9"}])
    assert only(job, aspect_ratio="1:1").aspect_ratio == "1:1"


def test_names_that_nobody_knows_are_told_in_includes_and_excludes_too():
    job = job_for("x.csv", shots=HERO, exclude=[{"where": "mod == 1"}], include=[{"prompt": "{{ tilte }}"}])
    told = [str(p) for p in problems_of_templates(job, ["title", "mood"])]
    assert [text.partition(": ")[2] for text in told] == [
        "where: unknown column 'mod'",
        "prompt: unknown column 'tilte'",
    ]
    with pytest.raises(BadInput, match="unknown shot 'hro'"):
        job_for("x.csv", shots=HERO, exclude=[{"shots": ["hro"]}])


def test_a_job_with_everything_in_it_comes_back_from_a_record_as_it_was():
    job = job_for(
        "x.csv",
        shots=HERO,
        safety={"harassment": "high"},
        store=False,
        top_p=0.9,
        references_dir="photos",
        include=[{"shots": ["hero"], "variants": 2}],
        exclude=[{"keys": ["a"]}],
        max_bad="2 %",
        tier=2,
    )
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(job)), type(job)) == job
    assert job.with_settings({"model": "gemini-3-pro-image"}).include == job.include


# Safety, sampling, keeping


def test_safety_and_sampling_go_where_google_reads_them():
    job = job_for("x.csv", shots=HERO, safety={"harassment": "high"}, store=False, top_p=0.9, top_k=20)
    line = wire.encode("b00000-0000", only(job))
    schema.check(line)
    request = json.loads(line)["request"]
    assert request["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}
    ]
    assert request["store"] is False
    assert (request["generationConfig"]["topP"], request["generationConfig"]["topK"]) == (0.9, 20)
    with pytest.raises(BadInput, match="safety"):
        job_for("x.csv", shots=HERO, safety={"rudeness": "high"})


@pytest.mark.parametrize(
    "changed",
    [
        {"request": {"contents": []}},
        {
            "key": "k",
            "request": {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"imageSize": "1K"}},
        },
        {
            "key": "k",
            "request": {"contents": [{"parts": [{}]}], "generationConfig": {"responseModalities": ["IMAGE"]}},
        },
        {
            "key": "k",
            "request": {
                "contents": [{"parts": [{"text": "x"}]}],
                "generationConfig": {"responseModalities": ["IMAGE"], "systemInstruction": {}},
            },
        },
    ],
)
def test_a_line_with_something_in_the_wrong_place_never_leaves(changed):
    with pytest.raises(Corrupt, match="would be misread"):
        schema.check(json.dumps(changed).encode())
