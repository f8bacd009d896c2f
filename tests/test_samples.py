"""What a newcomer tries first works: the sample manifests, and the job that shoots one of them."""

import csv
import shutil
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.draft import write_job
from pipeline.drive import Driver
from pipeline.index import read_index
from pipeline.job import job_for, read_job
from pipeline.manifest import duplicate_keys, open_manifest
from pipeline.models import load_models
from pipeline.money import Estimate, estimate
from pipeline.prompt import problems_of_templates, requests
from pipeline.survey import begin, planner, requests_of, survey
from pipeline.tally import tally
from tests.bench import Bench
from tests.shell import Shell

ROOT = Path(__file__).parent.parent
MODELS = load_models()
SAMPLES = ROOT / "sample_manifests"
MANIFESTS = [
    SAMPLES / name
    for name in (
        "shoes.csv",
        "prompts.jsonl",
        "minimal.csv",
        "settings.jsonl",
        "editing.csv",
        "composition.csv",
        "style_transfer.csv",
        "grounding.jsonl",
        "four_k.csv",
        "thinking.csv",
        "illustrated.jsonl",
        "sizes.csv",
        "ratios.csv",
        "people.csv",
        "group.csv",
        "imagen.csv",
        "conversations.csv",
        "edits.jsonl",
        "views.csv",
    )
]
FEEDS = {
    "shopify_export.csv": 3,
    "merchant_feed.tsv": 2,
    "merchant_feed.xml": 2,
    "woocommerce_export.csv": 4,
}


def planned(job, manifest):
    assert problems_of_templates(job, manifest.columns) == []
    assert list(duplicate_keys(manifest)) == []
    found = list(requests(job, manifest.rows(), models=MODELS, base=manifest.path.parent))
    assert [r.refusal for r in found if r.refusal] == []
    return found


def test_the_sample_job_asks_for_two_pictures_of_every_shoe_within_its_cap():
    path = ROOT / "jobs" / "shoes.toml"
    job = read_job(path)
    found = planned(job, open_manifest(job.manifest_path(path.parent), key=job.key))
    total = sum((estimate(r.prompt, MODELS.find(r.prompt.model)) for r in found), Estimate())
    assert len(found) == 24
    assert len({r.fingerprint for r in found}) == 24
    assert len({r.prompt.references[0].sha256 for r in found}) == 12
    assert total.images == 24
    assert total.high < job.max_usd * 1_000_000_000


def test_a_colour_that_is_called_na_is_neither_lost_nor_said():
    path = ROOT / "jobs" / "shoes.toml"
    job = read_job(path)
    found = planned(job, open_manifest(job.manifest_path(path.parent)))
    sandal = next(r for r in found if r.key == "NS-1011")
    assert sandal.fields["colour"] == "NA"
    assert "clear vinyl." in sandal.prompt.text
    assert "NA" not in sandal.prompt.text


def test_prompts_alone_need_no_job():
    found = planned(job_for(MANIFESTS[1]), open_manifest(MANIFESTS[1]))
    assert [r.key for r in found] == ["lighthouse", "market", "teapot", "robot", "sign", "kitchen"]
    assert [r.prompt.aspect_ratio for r in found] == [None, None, None, "4:5", "16:9", None]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_init_writes_a_job_that_plans_as_it_is(path, tmp_path):
    manifest = open_manifest(path)
    target = tmp_path / "first.toml"
    target.write_text(write_job(target, manifest), encoding="utf-8")
    found = planned(read_job(target), manifest)
    assert len({request.row for request in found}) == len(list(manifest.rows()))


def test_the_sample_photos_are_small_and_no_two_are_alike():
    photos = [path.read_bytes() for path in sorted((ROOT / "sample_manifests" / "photos").iterdir())]
    assert len(set(photos)) == 12
    assert max(map(len, photos)) < 10_000


@pytest.mark.parametrize(("name", "rows"), FEEDS.items())
def test_a_feed_is_recognised_and_every_row_of_it_has_a_picture_to_show(name, rows):
    manifest = open_manifest(SAMPLES / name)
    found = list(manifest.rows())
    assert manifest.feed is not None
    assert len(found) == rows
    assert all(row.fields["reference_images"].startswith("https://cdn.example/") for row in found)
    assert list(duplicate_keys(manifest)) == []


def test_every_kind_of_bad_row_is_told_in_the_words_that_are_written_down(tmp_path):
    """The whole error output, to the letter: what a person reads who did everything wrong at once."""
    folder = tmp_path / "samples"
    shutil.copytree(SAMPLES, folder)
    said = Shell(folder, {})("plan", "every_kind_of_bad_row.csv")
    assert said.code == 2
    assert said.err == (SAMPLES / "every_kind_of_bad_row.txt").read_text()
    with (folder / "problems.csv").open(encoding="utf-8-sig", newline="") as file:
        told = list(csv.DictReader(file))
    keys = [row.key for row in open_manifest(SAMPLES / "every_kind_of_bad_row.csv").rows()]
    assert {row["key"] for row in told} == set(keys) - {"good"}
    assert all(row["problem"] and row["row"] for row in told)


# What a guide shows as an example, and the sample that does it.
MODES = {
    "text to image": "minimal.csv",
    "with settings of each row": "prompts.jsonl",
    "editing": "editing.csv",
    "many products": "jobs/shoes.toml",
    "composition of several pictures": "jobs/composition.toml",
    "style transfer": "jobs/style_transfer.toml",
    "grounding, on the web and in pictures": "grounding.jsonl",
    "up to 4K": "four_k.csv",
    "thinking": "thinking.csv",
    "text and pictures in one answer": "illustrated.jsonl",
    "several turns": "conversations.csv",
    "another language, ratio and size in turn two; pictures made from pictures": "edits.jsonl",
    "views around a thing": "jobs/views.toml",
    "all of it": "settings.jsonl",
}
INSTALLED = {"jobs": ROOT / "jobs", "sample_manifests": SAMPLES}


def sample(name, folder):
    """A copy of the samples, as somebody has them who installed them, and the job of one."""
    for place, source in INSTALLED.items():
        shutil.copytree(source, folder / place)
    if name.startswith("jobs/"):
        return read_job(folder / name), folder / "jobs"
    return job_for(name), folder / "sample_manifests"


@pytest.mark.parametrize("name", MODES.values(), ids=MODES)
def test_every_mode_of_the_guides_comes_back_as_it_was_asked(name, service, tmp_path):
    """Shot on the strict emulator: the asked pixels, exact image tokens, and about the dollars that were said."""
    bench = Bench(service, tmp_path)
    job, base = sample(name, tmp_path)
    found = survey(job, base=base)
    assert found.problems == []
    clock = bench.clock
    run = begin(found, name="run", storage=bench.place(), service=service.url, clock=clock, cap=None)
    Driver(run, bench.backend(), planner=planner(found, run)).to_the_end()
    index, now = read_index(run), tally(run)
    assert set(index["outcome"]) == {"ok"}
    assert now.spent == bench.bill()
    for row in index.itertuples():
        model = MODELS.find(row.model)
        size = row.image_size if isinstance(row.image_size, str) else model.default_size
        assert row.image_tokens == len(row.pictures) * model.tokens[size]
        if isinstance(row.aspect_ratio, str):
            assert (row.width, row.height) == model.pixels(row.aspect_ratio, size)
    if name != "illustrated.jsonl":
        assert list(index["pictures"].map(len)) == [1] * len(index)
        # Pictures are exact; how much a model thinks, and how often it searches, nobody publishes: of a few rows
        # that is off by a little more than of many.
        told = (
            0.5 if "search" in (SAMPLES / name).name or name in ("grounding.jsonl", "settings.jsonl") else 0.1
        )
        assert abs(found.price.likely / now.spent - 1) <= told


def test_an_illustrated_answer_has_words_and_all_its_pictures(bench):
    shutil.copytree(SAMPLES, bench.folder, dirs_exist_ok=True)
    bench.job = job_for("illustrated.jsonl")
    index = bench.run()
    assert list(index["pictures"].map(len)) == [3, 3]
    assert [[one["role"] for one in shown] for shown in index["pictures"]] == [
        ["interleaved", "interleaved", "final"]
    ] * 2
    assert index["text"].str.len().min() > 0


def test_a_composition_shows_each_picture_for_what_it_is(tmp_path):
    job, base = sample("jobs/composition.toml", tmp_path)
    prompts = {request.key: request.prompt for request in requests_of(survey(job, base=base))}
    assert [one.role for one in prompts["wall"].references] == ["object"] * 6
    assert [one.role for one in prompts["swatch"].references] == ["object", "object", "background"]
    assert prompts["swatch"].text.startswith(
        "The shoes of pictures 1, 2 side by side, all in the same light, in front"
    )
    assert "picture 3" in prompts["swatch"].text


def test_views_are_asked_one_after_the_other_and_show_the_photo_in_each(bench):
    """A follow-up is told the conversation from its beginning; the emulator draws who was shown, in order."""
    job, base = sample("jobs/views.toml", bench.folder)
    found = survey(job, base=base)
    assert found.waves == (3, 3, 3, 3)
    run = begin(
        found, name="run", storage=bench.place(), service=bench.service.url, clock=bench.clock, cap=None
    )
    Driver(run, bench.backend(), planner=planner(found, run)).to_the_end()
    index = read_index(run)
    assert list(index["continued"].dropna().unique()) == ["conversation"]
    # A photo, then a photo and a picture, and so on: what is read grows by a picture with each turn.
    read = [set(index[index["turn"] == turn]["reference_tokens"]) for turn in range(4)]
    each = read[0].pop()
    assert read[1:] == [{2 * each}, {3 * each}, {4 * each}]


def test_edits_are_made_from_the_pictures_of_their_rows(bench):
    shutil.copytree(SAMPLES, bench.folder, dirs_exist_ok=True)
    bench.job = job_for("edits.jsonl")
    index = bench.run().set_index(["key", "turn"])
    assert index.loc[("leaf", 1), "height"] * 16 // 9 - index.loc[("leaf", 1), "width"] in range(-32, 33)
    assert index.loc[("leaf", 1), "width"] == 2752
    made_from = {key: index.loc[(key, 0), "parent"] for key in ("boot-spring", "boot-autumn", "boot-poster")}
    assert [(each["key"], each["turn"]) for each in made_from.values()] == [
        ("boot", 0),
        ("boot", 0),
        ("boot-winter", 1),
    ]


def test_the_sample_for_imagen_comes_back_as_it_was_asked(tmp_path, monkeypatch):
    """On the strict emulator of Vertex AI: two pictures a call, in the asked pixels, for just what was said."""
    with emulator.start(picture_bytes=2000, buckets=("my-bucket",)) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        bench = Bench(service, tmp_path)
        bench.job, base = sample("jobs/imagen.toml", tmp_path)
        found = survey(bench.job, base=base)
        assert (found.problems, found.price.likely, found.price.images) == ([], 320_000_000, 8)
        clock = bench.clock
        run = begin(found, name="run", storage=bench.place(), service=service.url, clock=clock, cap=None)
        Driver(run, bench.backend_of(run), planner=planner(found, run)).to_the_end()
        index = read_index(run).set_index("key")
        assert set(index["outcome"]) == {"ok"}
        assert tally(run).spent == bench.bill() == 320_000_000
    assert list(index["pictures"].map(len)) == [2] * 4
    assert set(index["mime"]) == {"image/jpeg"}
    sizes = {key: (row["width"], row["height"]) for key, row in index.to_dict("index").items()}
    assert sizes == {
        "lighthouse": (1792, 2560),
        "market": (1408, 768),
        "kite": (1280, 896),
        "sign": (2048, 2048),
    }
    own = {key: (own["negative_prompt"], own["person_generation"]) for key, own in index["imagen"].items()}
    assert own == {
        "lighthouse": (None, None),
        "market": (None, "allow_adult"),
        "kite": ("clouds", "dont_allow"),
        "sign": (None, None),
    }
