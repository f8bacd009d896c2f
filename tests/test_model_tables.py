"""Every row of the table of models against the tables that Google prints: what it takes, and that it takes no more."""

from dataclasses import dataclass, replace
from itertools import product

import pytest

from pipeline.emulator import models as emulated
from pipeline.emulator.lines import RowProblem, frame, modalities, searches, thinking
from pipeline.job import job_for
from pipeline.models import Model, load_models
from pipeline.survey import survey
from tests.fakes import Asked

MODELS = load_models()

FLASH = """
1:1 512x512 747 1024x1024 1120 2048x2048 1680 4096x4096 2520
1:4 256x1024 747 512x2048 1120 1024x4096 1680 2048x8192 2520
1:8 192x1536 747 384x3072 1120 768x6144 1680 1536x12288 2520
2:3 424x632 747 848x1264 1120 1696x2528 1680 3392x5056 2520
3:2 632x424 747 1264x848 1120 2528x1696 1680 5056x3392 2520
3:4 448x600 747 896x1200 1120 1792x2400 1680 3584x4800 2520
4:1 1024x256 747 2048x512 1120 4096x1024 1680 8192x2048 2520
4:3 600x448 747 1200x896 1120 2400x1792 1680 4800x3584 2520
4:5 464x576 747 928x1152 1120 1856x2304 1680 3712x4608 2520
5:4 576x464 747 1152x928 1120 2304x1856 1680 4608x3712 2520
8:1 1536x192 747 3072x384 1120 6144x768 1680 12288x1536 2520
9:16 384x688 747 768x1376 1120 1536x2752 1680 3072x5504 2520
16:9 688x384 747 1376x768 1120 2752x1536 1680 5504x3072 2520
21:9 792x168 747 1584x672 1120 3168x1344 1680 6336x2688 2520
"""
PRO = """
1:1 1024x1024 1120 2048x2048 1120 4096x4096 2000
2:3 848x1264 1120 1696x2528 1120 3392x5056 2000
3:2 1264x848 1120 2528x1696 1120 5056x3392 2000
3:4 896x1200 1120 1792x2400 1120 3584x4800 2000
4:3 1200x896 1120 2400x1792 1120 4800x3584 2000
4:5 928x1152 1120 1856x2304 1120 3712x4608 2000
5:4 1152x928 1120 2304x1856 1120 4608x3712 2000
9:16 768x1376 1120 1536x2752 1120 3072x5504 2000
16:9 1376x768 1120 2752x1536 1120 5504x3072 2000
21:9 1584x672 1120 3168x1344 1120 6336x2688 2000
"""
NANO = """
1:1 1024x1024 1290
2:3 832x1248 1290
3:2 1248x832 1290
3:4 864x1184 1290
4:3 1184x864 1290
4:5 896x1152 1290
5:4 1152x896 1290
9:16 768x1344 1290
16:9 1344x768 1290
21:9 1536x672 1290
"""
PRINTED = {
    "gemini-3.1-flash-image": (("512", "1K", "2K", "4K"), FLASH),
    "gemini-3-pro-image": (("1K", "2K", "4K"), PRO),
    "gemini-2.5-flash-image": (("1K",), NANO),
}
MISPRINTED = {("21:9", "512")}  # 792x168 is no 21:9

FIVE = "1:1 3:4 4:3 9:16 16:9"
TEN = "1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 16:9 21:9"
FOURTEEN = f"{TEN} 1:4 4:1 1:8 8:1"
SIZES = ("512", "1K", "2K", "4K", "8K", "1k")
RATIOS = (*FOURTEEN.split(), "7:5", "1:1.5", "wide")


@dataclass(frozen=True)
class Row:
    """What the guides say of one model, in words of their own."""

    batch: str = "developer vertex"
    sizes: str = "1K"
    ratios: str = ""
    most: int | None = None
    thinking: str = ""
    search: str = ""
    alone: bool = True  # pictures without words
    spoken: bool = True  # and with words
    at_once: str = ""  # surfaces that answer at once and never in batches
    on_vertex: str = "1K"  # sizes in batches


ROWS = {
    "gemini-2.0-flash-exp-image-generation": Row("", most=3, alone=False),
    "gemini-2.0-flash-exp": Row("", most=3, alone=False),
    "gemini-2.0-flash-preview-image-generation": Row(most=3, alone=False),
    "gemini-2.5-flash-image": Row(ratios=TEN),
    "gemini-3-pro-image": Row(sizes="1K 2K 4K", ratios=TEN, most=14, search="web"),
    "gemini-3.1-flash-image": Row(
        "developer vertex", "512 1K 2K 4K", FOURTEEN, 14, "minimal high", "web image"
    ),
    "gemini-3.1-flash-lite-image": Row(ratios=TEN, thinking="minimal high"),
    "gemini-nano-banana-2.1": Row(
        "developer vertex", "1K 2K 4K", FOURTEEN, 14, "minimal medium high", "web image"
    ),
    "imagen-3.0-generate-002": Row("", ratios=FIVE, most=0, spoken=False, at_once="vertex"),
    "imagen-3.0-generate-001": Row("", ratios=FIVE, most=0, spoken=False, at_once="vertex"),
    "imagen-4.0-generate-001": Row("", "1K 2K", FIVE, 0, on_vertex="1K 2K", spoken=False, at_once="vertex"),
    "imagen-4.0-fast-generate-001": Row("", ratios=FIVE, most=0, spoken=False, at_once="vertex"),
    "imagen-4.0-ultra-generate-001": Row(
        "", "1K 2K", FIVE, 0, on_vertex="1K 2K", spoken=False, at_once="vertex"
    ),
}
EVERY = pytest.mark.parametrize("name", MODELS.models)


def refused(model: Model, surface: str = "developer", **asked: object) -> set[str | None]:
    """The columns that it refuses, but for the whole model on a surface without batches."""
    plain = Asked(modalities=("TEXT", "IMAGE") if ROWS[model.name].spoken else ("IMAGE",))
    problems = model.problems(replace(plain, **asked), surface)
    return {problem.column for problem in problems} - {"model"}


def test_every_model_has_a_row_here():
    assert set(ROWS) == set(MODELS.models)


@EVERY
def test_a_row_takes_what_its_guide_says_and_refuses_all_else(name):
    model, row = MODELS.models[name], ROWS[name]
    levels, kinds = ("minimal", "low", "medium", "high", "none"), ("web", "image", "maps")
    assert [size for size in SIZES if not refused(model, image_size=size)] == row.sizes.split()
    assert {ratio for ratio in RATIOS if not refused(model, aspect_ratio=ratio)} == set(row.ratios.split())
    assert [level for level in levels if not refused(model, thinking=level)] == row.thinking.split()
    assert [kind for kind in kinds if not refused(model, search=(kind,))] == row.search.split()
    assert bool(refused(model, search=("web", "image"))) == (row.search != "web image")


@EVERY
def test_a_row_takes_so_many_references_and_answers_in_these_modalities(name):
    model, row = MODELS.models[name], ROWS[name]
    taken = [count for count in range(20) if not refused(model, references=("r",) * count)]
    assert taken == list(range(20 if row.most is None else row.most + 1))
    assert bool(refused(model, modalities=("TEXT", "IMAGE"))) != row.spoken
    assert bool(refused(model, modalities=("IMAGE", "TEXT"))) != row.spoken
    assert bool(refused(model, modalities=("IMAGE",))) != row.alone
    assert (
        refused(model, modalities=("TEXT",))
        == refused(model, modalities=("AUDIO", "IMAGE"))
        == {"modalities"}
    )


@EVERY
def test_a_row_comes_in_batches_where_its_page_says(name):
    model, row = MODELS.models[name], ROWS[name]
    for surface in ("developer", "vertex"):
        told = {problem.column for problem in model.problems(Asked(), surface)} - {"modalities"}
        assert told == (set() if surface in f"{row.batch} {row.at_once}" else {"model"})
    assert [size for size in SIZES if not refused(model, "vertex", image_size=size)] == row.on_vertex.split()


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.batch])
def test_a_row_makes_as_many_pictures_as_are_wanted_one_a_request(name, tmp_path):
    (tmp_path / "p.csv").write_text("id,prompt,n\na,x,1\nb,x,4\nc,x,1000\nd,x,0\ne,x,1001\nf,x,2.5\n")
    found = survey(job_for("p.csv", model=name), base=tmp_path)
    assert found.requests == 1005
    assert [str(kind) for kind in found.problems] == [
        "3 rows: n is no whole number from 1 to 1,000, e.g. row 5 0",
    ]


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_of_the_printed_tables_is_in_ours(name):
    model, (sizes, text) = MODELS.models[name], PRINTED[name]
    for line in text.split("\n")[1:-1]:
        ratio, *cells = line.split()
        for size, pixels, tokens in zip(sizes, cells[::2], cells[1::2], strict=True):
            width, height = pixels.split("x")
            wanted = None if (ratio, size) in MISPRINTED else (int(width), int(height))
            assert model.pixels(ratio, size) == wanted, (ratio, size)
            assert model.tokens[size] == int(tokens)


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_is_in_the_emulator_s_own_copy_too(name):
    model, (sizes, text) = emulated.MODELS[name], PRINTED[name]
    for line in text.split("\n")[1:-1]:
        ratio, *cells = line.split()
        for size, pixels, tokens in zip(sizes, cells[::2], cells[1::2], strict=True):
            made = "x".join(map(str, model.size(ratio, size)))
            assert made == pixels or (ratio, size) in MISPRINTED
            assert model.tokens[size] == int(tokens)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.batch])
def test_what_a_row_takes_the_strict_emulator_takes_and_what_it_refuses_that_refuses(name):
    """Two copies, written apart: where they part, one of them is wrong."""
    ours, theirs = MODELS.models[name], emulated.MODELS[name]

    def takes(read, *asked):
        try:
            read(*asked)
        except RowProblem:
            return False
        return True

    for ratio, size in product(RATIOS, SIZES):
        asked = {"aspectRatio": ratio, "imageSize": size}
        if not ours.size_settable:  # its one size is never sent
            del asked["imageSize"]
        if ours.follows_input or (not ours.size_settable and size != "1K"):
            continue
        told = not refused(ours, aspect_ratio=ratio, image_size=size)
        assert takes(frame, asked, theirs, []) == told, asked
    for kind in ("web", "image", "maps"):
        tool = {"googleSearch": {"searchTypes": {f"{kind}Search": {}}}}
        assert takes(searches, [tool], theirs) == (not refused(ours, search=(kind,)))
    for said in (("TEXT", "IMAGE"), ("IMAGE",), ("AUDIO",)):
        asked = {"responseModalities": list(said)}
        assert takes(modalities, asked, theirs) == (not refused(ours, modalities=said))
    for level in ("minimal", "medium", "high"):
        if not ours.always_thinks:  # the emulator takes levels of 3 Pro that no guide names
            asked = {"thinkingLevel": level.upper()}
            assert takes(thinking, asked, theirs) == (not refused(ours, thinking=level))
