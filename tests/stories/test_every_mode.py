"""Every model in every mode that it has, on the strict emulator, wherever it is served: pixels, tokens, money."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from pipeline import emulator
from pipeline.backends import staging_of
from pipeline.backends.base import Backend
from pipeline.backends.developer import Developer
from pipeline.backends.vertex import Vertex
from pipeline.clock import EmulatorClock
from pipeline.drive import Driver
from pipeline.emulator.models import MODELS as EMULATED
from pipeline.emulator.pictures import look
from pipeline.index import parts
from pipeline.job import Job, Online, job_for, read_job
from pipeline.run import Run
from pipeline.storage import open_storage
from pipeline.survey import begin, planner, requests_of, survey
from pipeline.tables import rows_of
from tests.shell import HOUSE
from tests.stories.modes import MODELS, MODES, TABLE, Cell, Mode, cells

PHOTOS = HOUSE / "sample_manifests"
IMAGEN = "Imagen's own settings"
PRICED = """
# Experiments that were never priced, as if at the price of the model which followed them.
[models."{name}".prices]
standard = {{ text_in = 0.10, text_out = 0.40, image_out = 30, picture = {{ 1K = 0.039 }} }}
"""
DAYS = {
    "then": "2025-09-01T00:00:00Z",
    "now": None,
}  # the first models have answered until November of that year


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, emulator.Service]]:
    """Google now, and Google when the first models were served."""
    running = {
        era: emulator.start(start=day, queue=(0, 0), run=(0, 0), picture_bytes=2000, buckets=("modes",))
        for era, day in DAYS.items()
    }
    yield running
    for service in running.values():
        service.stop()


@dataclass(frozen=True)
class Shot:
    """What one cell came to."""

    cell: Cell
    run: Run
    rows: list[dict[str, Any]]
    bill: int
    high: int


@pytest.fixture
def shoot(services: dict[str, emulator.Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def shoot(cell: Cell) -> Shot:
        service = services["then" if cell.model.startswith("gemini-2.0") else "now"]
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        return _shoot(cell, tmp_path, service)

    return shoot


def _shoot(cell: Cell, folder: Path, service: emulator.Service) -> Shot:
    mode, model = cell.mode, MODELS[cell.model]
    base = (HOUSE / mode.path).parent
    job = read_job(HOUSE / mode.path) if mode.path.endswith(".toml") else job_for(mode.sample)
    own = folder / "own.toml"
    own.write_text(PRICED.format(name=cell.model))
    job = job.with_settings({"model": cell.model, **_without(mode, model)})
    job = msgspec.structs.replace(
        job,
        keys=mode.keys(model, cell.surface),
        limit=mode.limit,
        backend=cell.surface,
        bucket=f"modes/{cell.id}",
        location=None,
        models=str(own) if model.prices.standard is None else None,
        online=Online(per_minute=1000),
    )
    if not model.references.most and model.references.most is not None:  # then it is asked what shows nothing
        job = msgspec.structs.replace(job, shots=tuple(shot for shot in job.shots if not _shows(job, shot)))
    found = survey(job, base=base)
    assert [str(problem) for problem in found.problems] == []
    clock = EmulatorClock(service.url)
    storage = open_storage(str(folder / "runs" / "run"))
    run = begin(found, name="run", storage=storage, service=service.url, clock=clock, cap=None)
    before = _bill(service)
    Driver(run, _backend(cell, service, job), planner=planner(found, run)).to_the_end()
    rows = [row for part in parts(run) for row in rows_of(part)]
    return Shot(cell, run, rows, _bill(service) - before, found.price.high)


def _shows(job: Job, shot: Any) -> bool:
    said = shot.references if shot.references is not None else job.defaults.references
    return said not in (None, ("-",))


def _without(mode: Mode, model: Any) -> dict[str, Any]:
    """What is said above the sample; and where the sample asks for a shape that this model takes no word for, none."""
    sized = mode.name in ("sizes", "a turn in another size") or (mode.name, model.size_settable) == (
        IMAGEN,
        True,
    )
    size = {} if sized else {"image_size": "-"}
    has_word = "3:2" in model.ratios or mode.name in ("ratios", IMAGEN)
    ratio = {} if has_word and not mode.follows else {"aspect_ratio": "-"}
    return {**size, **ratio, **mode.said(model)}


def _backend(cell: Cell, service: emulator.Service, job: Any) -> Backend:
    if cell.surface != "vertex":
        return Developer(key="modes", service=service.url, clock=EmulatorClock(service.url))
    staging = staging_of(job, "")
    return Vertex(project="modes", location="global", service=service.url, staging=staging, labels={})


def _bill(service: emulator.Service) -> int:
    return int(service.ledger(rows=False)["total"]["nanodollars"])


@pytest.mark.parametrize("cell", list(cells()), ids=lambda cell: cell.id)
def test_every_mode(cell: Cell, shoot: Any) -> None:
    shot = shoot(cell)
    assert shot.rows, "nothing was asked"
    for row in shot.rows:
        _check_picture(shot, row)
        _check_tokens(shot, row)
        _CHECKS.get(cell.mode.name, _nothing_more)(shot, row)
    assert shot.run.state.unconfirmed == 0
    assert shot.run.state.spent == shot.bill, "the books agree with the register, to the last billionth"
    # How many pictures come, nobody promises: the plan counts one for each request.
    assert 0 < shot.bill <= shot.high * max(len(row["pictures"]) for row in shot.rows)


def test_each_mode_has_a_model_and_each_model_a_mode() -> None:
    shown = {(cell.mode.name, cell.model) for cell in cells()}
    assert {mode for mode, _ in shown} == {mode.name for mode in MODES}
    assert {model for _, model in shown} == set(MODELS)


# --- what is true of all -----------------------------------------------------------------------------------------


def _check_picture(shot: Shot, row: dict[str, Any]) -> None:
    """It is there, in the pixels that were asked for, by its own bytes."""
    cell, theirs = shot.cell, EMULATED.get(shot.cell.model)
    assert (row["outcome"], row["model"]) == ("ok", cell.model)
    with Image.open(io.BytesIO(shot.run.storage.read(row["path"]))) as image:
        assert image.size == (row["width"], row["height"])
        assert Image.MIME[image.format or ""] == row["mime"]
        assert row["mime"] == (
            theirs.mime if theirs else "image/jpeg" if cell.mode.name == IMAGEN else "image/png"
        )
    ratio, size = row["aspect_ratio"], row["image_size"] or TABLE.find(cell.model).default_size
    if ratio is not None or theirs is None:
        ratio = ratio or "1:1"
        assert (row["width"], row["height"]) == MODELS[cell.model].pixels(ratio, size)
    else:
        width, height = _input_of(row) or (1, 1)
        assert (row["width"], row["height"]) == theirs.size(theirs.nearest_ratio(width, height), size)


def _input_of(row: dict[str, Any]) -> tuple[int, int] | None:
    """The pixels of the first picture it was shown. Those that other rows made here are square."""
    shown = [one for one in row["references"] if row["parent"] is None]
    return _sizes_shown(shown)[0] if shown else None


def _sizes_shown(shown: list[dict[str, Any]]) -> list[tuple[int, int]]:
    sizes = []
    for one in shown:
        with Image.open(PHOTOS / one["source"]) as image:
            sizes.append(image.size)
    return sizes


def _check_tokens(shot: Shot, row: dict[str, Any]) -> None:
    model, theirs = MODELS[shot.cell.model], EMULATED.get(shot.cell.model)
    size = row["image_size"] or model.default_size
    if theirs is None:  # Imagen is billed by the picture
        assert row["image_tokens"] is None
        assert model.prices.standard is not None
        assert row["usd"] == pytest.approx(len(row["pictures"]) * model.prices.standard.picture[size])
        return
    assert row["image_tokens"] == len(row["pictures"]) * theirs.tokens[size]
    assert row["reference_tokens"] == _shown_in_all(shot, row) * theirs.reference_tokens
    level = (row["thinking"] or theirs.unasked or next(iter(theirs.levels), "")).upper()
    least, further = theirs.thoughts[level] if level else (0, 1)
    assert least <= row["thought_tokens"] < least + further
    assert bool(row["searches"]) == bool(len(row["search"]))


def _shown_in_all(shot: Shot, row: dict[str, Any]) -> int:
    """The pictures that a request shows: of a conversation those of every turn before it, and what came of them."""
    before = [each for each in shot.rows if each["key"] == row["key"] and each["turn"] < row["turn"]]
    return sum(len(each["references"]) for each in [*before, row]) + sum(
        len(each["pictures"]) for each in before
    )


def _nothing_more(shot: Shot, row: dict[str, Any]) -> None:
    assert len(row["thought_pictures"]) == 0
    assert row["thoughts"] is None


# --- what is true of one -----------------------------------------------------------------------------------------


def _references_are_in_order(shot: Shot, row: dict[str, Any]) -> None:
    """A strip along the foot of the emulator's pictures has the colour of each picture it was shown, in that order."""
    _nothing_more(shot, row)
    colours = [look((PHOTOS / one["source"]).read_bytes()).colour for one in row["references"]]
    with Image.open(io.BytesIO(shot.run.storage.read(row["path"]))) as image:
        picture = image.convert("RGB")
    across = picture.width / len(colours)
    seen = [picture.getpixel((int((n + 0.5) * across), picture.height - 8)) for n in range(len(colours))]
    assert [min(range(len(colours)), key=lambda n: _far(colours[n], each)) for each in seen] == list(
        range(len(colours))
    )


def _far(one: Any, other: Any) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _composed(shot: Shot, row: dict[str, Any]) -> None:
    _references_are_in_order(shot, row)
    assert [one["role"] for one in row["references"]] == ["object", "object", "background"]
    assert row["prompt"].startswith("The shoes of pictures 1, 2 ")


def _grouped(shot: Shot, row: dict[str, Any]) -> None:
    _references_are_in_order(shot, row)
    most = MODELS[shot.cell.model].references
    assert len(row["references"]) == (most.most or 3)
    roles = [one["role"] for one in row["references"]]
    if most.objects is not None:
        assert (roles.count("object"), roles.count("person")) == (most.objects, most.people)


def _follows_its_input(shot: Shot, row: dict[str, Any]) -> None:
    assert _input_of(row) == (360, 480)
    assert 0.65 < row["width"] / row["height"] < 0.8
    _nothing_more(shot, row)


def _told_in_turn(shot: Shot, row: dict[str, Any]) -> None:
    kinds = [part["kind"] for part in row["parts"]]
    assert kinds.count("picture") == len(row["pictures"]) == 3
    assert kinds[-4:] == ["text", "picture", "text", "picture"]
    assert [part["path"] for part in row["parts"] if part["path"]] == [one["path"] for one in row["pictures"]]
    assert [one["role"] for one in row["pictures"]] == ["interleaved", "interleaved", "final"]


def _searched(*kinds: str) -> Any:
    def check(shot: Shot, row: dict[str, Any]) -> None:
        assert {source["kind"] for source in row["sources"]} == set(kinds)
        assert bool(len(row["web_queries"])) == ("web" in kinds)
        assert bool(len(row["image_queries"])) == ("image" in kinds)
        assert row["searches"] == len(row["web_queries"]) + len(row["image_queries"])
        assert re.search(r"<style>", row["search_chip"])

    return check


def _thought(shot: Shot, row: dict[str, Any]) -> None:
    assert row["thoughts"].startswith("I compose the scene")
    assert [one["role"] for one in row["thought_pictures"]] in (["thought"], ["thought"] * 2)
    assert row["thought_pictures"][-1]["sha256"] == row["sha256"]
    assert len(row["pictures"]) == 1


def _without_words(shot: Shot, row: dict[str, Any]) -> None:
    _nothing_more(shot, row)
    assert [part["kind"] for part in row["parts"]] == ["picture"]


def _as_imagen_was_told(shot: Shot, row: dict[str, Any]) -> None:
    wanted = min(2, MODELS[shot.cell.model].most_pictures)
    assert [one["role"] for one in row["pictures"]] == ["final", "alternative"][:wanted]
    assert row["imagen"]["pictures"] == wanted
    assert row["enhanced_prompt"].startswith(row["prompt"])
    said = (row["imagen"]["negative_prompt"], row["imagen"]["person_generation"])
    assert said == {"kite": ("clouds", "dont_allow"), "market": (None, "allow_adult")}.get(
        row["key"], (None, None)
    )


def _went_on(shot: Shot, row: dict[str, Any]) -> None:
    """Each turn was told all that was said before it, in the model's own words and with its own signatures."""
    _nothing_more(shot, row)
    assert row["continued"] == ("conversation" if row["turn"] else None)
    turns = sorted(each["turn"] for each in shot.rows if each["key"] == row["key"])
    assert turns == list(range(len(turns)))
    assert len(turns) > 1


def _reframed(shot: Shot, row: dict[str, Any]) -> None:
    _went_on(shot, row)
    wanted = [("4:3", None), ("16:9", "2K")][row["turn"]]
    assert (row["aspect_ratio"], row["image_size"]) == wanted


def _seen_from_four_sides(shot: Shot, row: dict[str, Any]) -> None:
    _went_on(shot, row)
    assert {each["turn"] for each in shot.rows} == {0, 1, 2, 3}


def _made_from_another(shot: Shot, row: dict[str, Any]) -> None:
    """Edits were shown the very bytes of the picture that they are made from."""
    _nothing_more(shot, row)
    rows = {each["key"]: each for each in shot.rows}
    assert set(rows) == {"boot", "boot-spring", "boot-autumn"}
    if row["key"] != "boot":
        assert row["parent"]["key"] == "boot"
        assert [one["sha256"] for one in row["references"]] == [rows["boot"]["sha256"]]


_CHECKS = {
    "several turns": _went_on,
    "a turn in another size": _reframed,
    "views around a thing": _seen_from_four_sides,
    "pictures of other rows": _made_from_another,
    IMAGEN: _as_imagen_was_told,
    "ratio of its input": _follows_its_input,
    "composition": _composed,
    "as many references as it takes": _grouped,
    "interleaved": _told_in_turn,
    "web search": _searched("web"),
    "image search": _searched("image"),
    "web and image search": _searched("web", "image"),
    "thoughts": _thought,
    "image alone": _without_words,
}


@pytest.mark.parametrize("size", ["512", "2K", "4K"])
def test_every_ratio_in_every_size(size: str, shoot: Any) -> None:
    """The whole of the widest table, in pixels; at 1K it is a mode of its own."""
    (mode,) = (mode for mode in MODES if mode.name == "ratios")
    cell = Cell(
        "gemini-3.1-flash-image",
        replace(mode, name="ratios in every size", said=lambda model: {"image_size": size}),
        "developer",
    )
    shot = shoot(cell)
    assert {row["image_size"] for row in shot.rows} == {size}
    assert {row["aspect_ratio"] for row in shot.rows} == set(MODELS[cell.model].ratios)
    for row in shot.rows:
        with Image.open(io.BytesIO(shot.run.storage.read(row["path"]))) as image:
            wanted = MODELS[cell.model].pixels(row["aspect_ratio"], size)
            # One cell of the guide is a misprint, and is checked by its ratio alone.
            assert image.size == wanted or (wanted is None and image.size == (792, 336))
    assert shot.run.state.spent == shot.bill


def test_a_model_that_makes_no_picture_without_words_says_so_in_the_plan() -> None:
    """The first models refuse IMAGE alone: in words, with what to write instead, and before anything is sent."""
    job = job_for("minimal.csv", model="gemini-2.0-flash-preview-image-generation", modalities=["IMAGE"])
    found = survey(job, base=PHOTOS)
    (problem,) = found.problems
    assert "does not answer in these modalities alone" in str(problem)
    assert "it answers in TEXT+IMAGE" in str(problem.example.hint)
    assert found.requests == 0


def test_all_rows_of_a_mode_are_asked_that_a_model_can_take() -> None:
    """The widest of them: four sizes, fourteen ratios, two levels."""
    by_name = {mode.name: mode for mode in MODES}
    model = MODELS["gemini-3.1-flash-image"]
    for name, column, wanted in (
        ("sizes", "image_size", {"512", "1K", "2K", "4K"}),
        ("ratios", "aspect_ratio", set(model.ratios)),
        ("thinking levels", "thinking", {"minimal", "high"}),
    ):
        mode = by_name[name]
        job = msgspec.structs.replace(job_for(mode.sample), keys=mode.keys(model, "developer"))
        prompts = [request.prompt for request in requests_of(survey(job, base=PHOTOS))]
        assert {getattr(prompt, column) for prompt in prompts} == wanted
