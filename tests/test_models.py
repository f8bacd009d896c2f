"""What the table of models promises: every model has a row, and what it refuses comes with what it takes."""

from dataclasses import dataclass, replace
from datetime import date

import msgspec
import pytest

from pipeline.errors import BadInput
from pipeline.models import Model, Models, load_models
from tests.fakes import Asked

TEN = ["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
FOURTEEN = [*TEN, "1:4", "4:1", "1:8", "8:1"]
MODELS = load_models()


PLAIN = Asked()


@pytest.mark.parametrize(
    ("name", "sizes", "ratios", "most", "thinking", "search"),
    [
        ("gemini-2.0-flash-preview-image-generation", "1K", [], 3, "", ""),
        ("gemini-2.5-flash-image", "1K", TEN, None, "", ""),
        ("gemini-3-pro-image", "1K 2K 4K", TEN, 14, "", "web"),
        ("gemini-3.1-flash-image", "512 1K 2K 4K", FOURTEEN, 14, "minimal high", "web image"),
        ("gemini-3.1-flash-lite-image", "1K", TEN, None, "minimal high", ""),
        ("gemini-nano-banana-2.1", "1K 2K 4K", FOURTEEN, 14, "minimal medium high", "web image"),
    ],
)
def test_a_model_takes_what_its_page_says_and_nothing_else(name, sizes, ratios, most, thinking, search):
    model = MODELS.find(name)

    def refuses(**asked):
        return bool(model.problems(replace(PLAIN, **asked)))

    assert [s for s in ("512", "1K", "2K", "4K", "8K") if not refuses(image_size=s)] == sizes.split()
    assert {r for r in [*FOURTEEN, "7:5"] if not refuses(aspect_ratio=r)} == set(ratios)
    assert [t for t in ("minimal", "low", "medium", "high") if not refuses(thinking=t)] == thinking.split()
    assert [s for s in ("web", "image", "maps") if not refuses(search=(s,))] == search.split()
    assert refuses(references=("r",) * 15) == (most is not None)
    assert not refuses(references=("r",) * (most or 14))


@dataclass(frozen=True)
class Shown:
    role: str | None


@pytest.mark.parametrize(
    ("name", "objects", "people"), [("gemini-3-pro-image", 6, 5), ("gemini-3.1-flash-image", 10, 4)]
)
def test_objects_and_people_are_counted_apart_where_the_model_does(name, objects, people):
    def told(**roles):
        shown = tuple(Shown(role) for role, count in roles.items() for _ in range(count))
        return [p.value for p in MODELS.find(name).problems(replace(PLAIN, references=shown))]

    assert told(object=objects) == told(person=people) == told(style=14) == []
    assert told(object=objects + 1, person=people + 1) == [
        f"{objects + 1} objects",
        f"{people + 1} people",
    ] + (["16"] if objects + people > 12 else [])
    assert told(object=objects, person=people, background=14 - objects - people) == []


def test_only_the_2_0_models_insist_on_text_beside_their_pictures():
    pictures_alone = replace(PLAIN, modalities=("IMAGE",))
    insisting = {m.name for m in MODELS.models.values() if _modality(m, pictures_alone)}
    assert insisting == {name for name in MODELS.models if name.startswith("gemini-2.0")}


def _modality(model: Model, asked: Asked) -> bool:
    return any(problem.column == "modalities" for problem in model.problems(asked))


def test_what_never_came_in_batches_and_has_no_price_is_refused():
    (problem,) = MODELS.find("gemini-2.0-flash-exp").problems(PLAIN)
    assert problem.message == "gemini-2.0-flash-exp never comes in batches on the Developer API"


@pytest.mark.parametrize("name", [name for name in MODELS.models if name.startswith("imagen")])
def test_imagen_is_served_at_once_on_vertex_and_shut_down_elsewhere(name):
    pictures = replace(PLAIN, modalities=("IMAGE",))
    assert MODELS.find(name).problems(pictures, "vertex") == []
    (problem,) = MODELS.find(name).problems(pictures)
    assert problem.message == f"{name} is not served on the Developer API"
    assert problem.hint == 'shut down there; Vertex AI serves it: backend = "vertex"'


def test_vertex_makes_1k_only_in_batches():
    pro = MODELS.find("gemini-3-pro-image")
    (problem,) = pro.problems(replace(PLAIN, image_size="4K"), "vertex")
    assert "in batches on Vertex AI" in problem.message
    assert problem.hint == "the nearest is 1K; it makes 1K"
    assert pro.problems(replace(PLAIN, image_size="1K"), "vertex") == []


@pytest.mark.parametrize(
    ("asked", "near"), [("5:3", "16:9"), ("2:1", "16:9"), ("1:20", "1:8"), ("20:1", "8:1"), ("100:99", "1:1")]
)
def test_a_ratio_nobody_makes_is_answered_with_the_nearest(asked, near):
    (problem,) = MODELS.find("gemini-3.1-flash-image").problems(replace(PLAIN, aspect_ratio=asked))
    assert problem.hint.startswith(f"the nearest is {near};")
    assert problem.value == asked


def test_a_ratio_that_is_no_ratio_is_answered_with_all_there_are():
    (problem,) = MODELS.find("gemini-3-pro-image").problems(replace(PLAIN, aspect_ratio="wide"))
    assert problem.hint == "it makes " + ", ".join(TEN)


def test_all_that_is_wrong_is_said_at_once():
    wrong = Asked(("r",) * 20, "7:5", "8K", ("AUDIO",), "low", ("maps",))
    columns = [problem.column for problem in MODELS.find("gemini-nano-banana-2.1").problems(wrong)]
    assert columns == ["image_size", "aspect_ratio", "references", "thinking", "search", "modalities"]


@pytest.mark.parametrize(
    ("name", "ratio", "size", "pixels"),
    [
        ("gemini-3.1-flash-image", "4:5", "512", (464, 576)),
        ("gemini-3.1-flash-image", "8:1", "4K", (12288, 1536)),
        ("gemini-3-pro-image", "16:9", "2K", (2752, 1536)),
        ("gemini-2.5-flash-image", "2:3", None, (832, 1248)),
        ("gemini-nano-banana-2.1", "21:9", "1K", (1584, 672)),
        ("gemini-3.1-flash-lite-image", "3:4", "1K", (896, 1200)),
        ("gemini-3.1-flash-lite-image", "3:4", "2K", None),
        ("gemini-nano-banana-2.1", None, "1K", None),
        ("gemini-3.1-flash-image", "21:9", "512", None),  # the printed cell is no 21:9
    ],
)
def test_pixels_are_those_of_the_printed_tables(name, ratio, size, pixels):
    assert MODELS.find(name).pixels(ratio, size) == pixels


def test_every_cell_of_the_pixel_tables_has_about_the_ratio_it_stands_under():
    for model in MODELS.models.values():
        for ratio, cells in model.pixel_table.items():
            wanted = int(ratio.split(":")[0]) / int(ratio.split(":")[1])
            for size in cells:
                width, height = model.pixels(ratio, size)
                # Imagen's 3:4 is 896x1280, says its page.
                rel = 0.072 if model.call == "predict" else 0.04
                assert width / height == pytest.approx(wanted, rel=rel), (model.name, ratio, size)


def test_every_size_of_a_batch_model_has_tokens_bytes_and_a_listed_price_that_agree():
    for model in MODELS.models.values():
        if not model.batch:
            continue
        assert list(model.tokens) == list(model.picture_bytes) == list(model.sizes)
        for lane in (model.prices.batch, model.prices.standard):
            assert set(lane.picture) == set(model.sizes)
            for size, listed in lane.picture.items():
                assert model.tokens[size] * lane.image_out / 1e6 == pytest.approx(listed, rel=0.025)


@pytest.mark.parametrize(
    ("name", "found", "noted"),
    [
        ("gemini-3-pro-image-preview", "gemini-3-pro-image", True),
        ("gemini-3.1-flash-image-preview", "gemini-3.1-flash-image", True),
        ("gemini-2.5-flash-image-preview", "gemini-2.5-flash-image", False),
        ("models/gemini-3-pro-image", "gemini-3-pro-image", False),
    ],
)
def test_a_dead_name_finds_its_successor_and_says_so(name, found, noted):
    assert MODELS.find(name).name == found
    assert (MODELS.note(name) is not None) == noted
    assert not noted or found in MODELS.note(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gemini-3.1-flash-imge", "'gemini-3.1-flash-image'"),
        ("gemini-2.0-flash-preview-image-generaton", "gemini-2.5-flash-image is its successor"),
        ("dall-e", "there are gemini-3-pro-image"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest_and_its_successor(name, hint):
    with pytest.raises(BadInput, match=name) as caught:
        MODELS.find(name)
    assert hint in caught.value.hint


def test_sources_that_disagree_on_an_end_are_both_named():
    (warning,) = MODELS.find("gemini-2.5-flash-image").warnings(date(2026, 11, 21))
    assert "may have been switched off" in warning
    assert "2026-10-02" in warning
    assert "2027-03-15" in warning
    assert "gemini-nano-banana-2.1 is its successor" in warning


def test_an_end_on_one_surface_is_no_warning_on_the_other():
    flash = MODELS.find("gemini-3.1-flash-image")
    assert any("2026-10-29 " in w or "2026-10-29;" in w for w in flash.warnings(date(2026, 10, 1)))
    assert not any("switched off" in w for w in flash.warnings(date(2026, 11, 1), surface="vertex"))


def test_an_end_before_all_of_it_may_be_back_is_said_so():
    nano = MODELS.find("gemini-2.5-flash-image")
    (warning,) = nano.warnings(date(2026, 10, 1), back=date(2026, 10, 3))
    assert "may be switched off before all of this is back, on 2026-10-03 at the latest" in warning
    (warning,) = nano.warnings(date(2026, 9, 1), back=date(2026, 9, 3))
    assert "will be switched off" in warning
    assert nano.sure_end() is None, "two sources disagree"


def test_a_model_comes_back_from_json_as_it_was():
    for model in MODELS.models.values():
        assert msgspec.json.decode(msgspec.json.encode(model), type=Model) == model
    assert msgspec.convert(msgspec.to_builtins(MODELS), Models) == MODELS


def test_a_users_file_changes_one_price_and_nothing_else(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[models."gemini-2.5-flash-image".prices.batch]\nimage_out = 12.5\n')
    changed = load_models(own).find("gemini-2.5-flash-image")
    assert changed.prices.batch.image_out == 12.5
    assert changed.prices.batch.text_in == 0.15
    assert load_models(own).find("gemini-3-pro-image") == MODELS.find("gemini-3-pro-image")


def test_a_users_file_can_bring_a_model_of_its_own(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        '[models.mine]\nbatch = ["developer"]\nsizes = ["1K"]\nratios = "five"\ncontainer = "PNG"\n'
        'modalities = [["IMAGE"]]\n'
    )
    mine = load_models(own).find("mine")
    assert mine.ratios == ("1:1", "3:4", "4:3", "9:16", "16:9")
    assert mine.picture_bytes == {"1K": 2_000_000}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[models.mine]\nsizes = 3\n", "ratios"),
        ('[models."gemini-2.5-flash-image"]\nsize = 3\n', "size"),
        ("[models", "no TOML"),
    ],
)
def test_a_users_file_that_is_wrong_is_named(tmp_path, text, complaint):
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(BadInput, match=complaint) as caught:
        load_models(own)
    assert str(own) in caught.value.message
