"""What a newcomer tries first works: the sample manifests, and the job that shoots one of them."""

from pathlib import Path

import pytest

from pipeline.job import job_for, read_job, write_job
from pipeline.manifest import duplicate_keys, open_manifest
from pipeline.models import load_models
from pipeline.money import Estimate, estimate
from pipeline.prompt import problems_of_templates, requests

ROOT = Path(__file__).parent.parent
MODELS = load_models()
MANIFESTS = [ROOT / "sample_manifests" / name for name in ("shoes.csv", "prompts.jsonl")]


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
    assert len(planned(read_job(target), manifest)) == len(list(manifest.rows()))


def test_the_sample_photos_are_small_and_no_two_are_alike():
    photos = [path.read_bytes() for path in sorted((ROOT / "sample_manifests" / "photos").iterdir())]
    assert len(set(photos)) == 12
    assert max(map(len, photos)) < 10_000
