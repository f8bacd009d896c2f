"""What a newcomer tries first works: the sample manifests, and the job that shoots one of them."""

import csv
import shutil
from pathlib import Path

import pytest

from pipeline.index import read_index
from pipeline.job import job_for, read_job, write_job
from pipeline.manifest import duplicate_keys, open_manifest
from pipeline.models import load_models
from pipeline.money import Estimate, estimate
from pipeline.prompt import problems_of_templates, requests
from pipeline.tally import tally
from tests.shell import Shell

ROOT = Path(__file__).parent.parent
MODELS = load_models()
SAMPLES = ROOT / "sample_manifests"
MANIFESTS = [
    SAMPLES / name for name in ("shoes.csv", "prompts.jsonl", "minimal.csv", "settings.jsonl", "editing.csv")
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


@pytest.mark.parametrize(
    "name", ["shoes.csv", "minimal.csv", "prompts.jsonl", "settings.jsonl", "editing.csv"]
)
def test_every_sample_comes_back_as_it_was_asked(name, bench):
    """Shot on the strict emulator: the asked pixels, exact image tokens, and about the dollars that were said."""
    shutil.copytree(SAMPLES, bench.folder, dirs_exist_ok=True)
    said = {"prompt": "Studio photo of {{ title }}", "references": ["photo"]} if name == "shoes.csv" else {}
    bench.job = job_for(name, **said)
    driver = bench.begin()
    driver.to_the_end()
    index = read_index(driver.run)
    assert set(index["outcome"]) == {"ok"}
    now = tally(driver.run)
    assert now.spent == bench.bill()
    model = MODELS.find(index["model"][0])
    sizes = [str(size) if isinstance(size, str) else "1K" for size in index["image_size"]]
    assert now.tokens["image"] == sum(model.tokens[size] for size in sizes)
    assert {"4K", "1K"} >= set(sizes)
    for row in index[index["aspect_ratio"].notna()].itertuples():
        wanted = model.pixels(row.aspect_ratio, row.image_size if isinstance(row.image_size, str) else None)
        assert (row.width, row.height) == wanted
    # Pictures are exact; how much a model thinks, and how often it searches, nobody publishes: of a few rows
    # that is off by a little more than of many.
    assert abs(now.likely / now.spent - 1) <= (0.5 if name == "settings.jsonl" else 0.05)
