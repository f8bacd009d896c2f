"""What the plan says a run costs is what it costs: of every model that comes in batches, on a clean night."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.job import job_for
from pipeline.models import Model, load_models
from pipeline.money import estimate
from pipeline.survey import requests_of, survey
from pipeline.tally import tally
from tests.bench import Bench

PHOTO = Path(__file__).parents[2] / "sample_manifests" / "photos" / "ns-1001.jpg"
BATCHABLE = [model for model in load_models().models.values() if model.batch]


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Bench]:
    """A night in which all of them were alive."""
    with emulator.start(start="2025-11-01T20:00:00Z", queue=(5, 30), run=(10, 60)) as service:
        yield Bench(service, tmp_path)


def test_of_every_model_the_estimate_is_within_two_per_cent_of_the_bill(earlier: Bench) -> None:
    """Half of the rows show a photo. What a picture costs is exact; what is thought and said is likely."""
    (earlier.folder / "photo.jpg").write_bytes(PHOTO.read_bytes())
    lines = [
        f"{model.name}-{n},Shoe {n} in the rain,{model.name},{'photo.jpg' if n % 2 else ''}"
        for model in BATCHABLE
        for n in range(50)
    ]
    (earlier.folder / "all.csv").write_text("\n".join(["id,prompt,model,images", *lines]))
    earlier.job = job_for("all.csv")
    said: Counter[str] = Counter()
    for request in requests_of(found := survey(earlier.job, base=earlier.folder)):
        assert request.prompt is not None
        model = found.table.find(request.prompt.model)
        said[model.name] += estimate(request.prompt, model).likely
    driver = earlier.begin()
    driver.to_the_end()
    paid: Counter[str] = Counter()
    for job in earlier.service.ledger(rows=False)["jobs"]:
        paid[job["model"]] += job["nanodollars"]
    assert set(said) == set(paid) == {model.name for model in BATCHABLE}
    assert {name: round(said[name] / paid[name], 3) for name in paid} == {
        name: pytest.approx(1, abs=0.02) for name in paid
    }
    assert found.price.likely == pytest.approx(earlier.bill(), rel=0.02), "with what is bought again"
    image = sum(50 * model.tokens["1K"] for model in BATCHABLE)
    assert (tally(driver.run).tokens["image"], tally(driver.run).spent) == (image, earlier.bill())


@pytest.mark.parametrize("model", BATCHABLE, ids=lambda model: model.name)
def test_of_every_model_and_size_the_tokens_of_the_picture_are_exact(model: Model, earlier: Bench) -> None:
    settable = model.sizes if model.size_settable else ("",)
    lines = [f"s{size},A lighthouse,{size}" for size in settable]
    (earlier.folder / "sizes.csv").write_text("\n".join(["id,prompt,image_size", *lines]))
    earlier.job = job_for("sizes.csv", model=model.name)
    index = earlier.run()
    assert set(index["outcome"]) == {"ok"}
    told = dict(zip(index["key"], index["image_tokens"], strict=True))
    assert told == {f"s{size}": model.tokens[size or "1K"] for size in settable}


def test_a_cap_between_likely_and_the_worst_case_shoots_all_of_it(bench: Bench) -> None:
    """One large batch would not fit under the cap; what small ones did not cost is free for the next."""
    job = bench.make_job(rows=60, batches={}, model="gemini-3-pro-image")
    found = survey(job, base=bench.folder)
    cap = int(found.price.likely * 1.05)
    assert cap < found.price.high / 1.25, "less than the worst case of asking once"
    index = bench.run(cap=cap)
    assert set(index["outcome"]) == {"ok"}
    assert bench.bill() <= cap
    assert len(bench.paid()) > 20


def test_a_cap_that_is_enough_in_the_worst_case_changes_no_batch(bench: Bench) -> None:
    job = bench.make_job(rows=20, batches={})
    bench.run(cap=survey(job, base=bench.folder).price.high)
    assert len(bench.paid()) == 1
