"""References within the requests that show them, instead of a file each at the provider."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends import wire
from pipeline.errors import BadInput
from pipeline.index import read_index
from pipeline.job import job_for
from pipeline.overview import plan_lines
from pipeline.prompt import Prompt
from pipeline.references import Reference
from pipeline.submit import inline_lines
from pipeline.survey import survey
from tests.bench import Bench, outcomes

PHOTOS = sorted((Path(__file__).parent.parent / "sample_manifests" / "photos").glob("*.jpg"))[:2]


def shown(bench: Bench, rows: int = 4, **said: object) -> None:
    for number, photo in enumerate(PHOTOS):
        (bench.folder / f"{number}.jpg").write_bytes(photo.read_bytes())
    bench.make_job(rows=rows, photo=lambda n: f"{n % 2}.jpg", **said)
    bench.job = bench.job.with_settings({"references.inline": True})


def test_what_is_shown_reaches_the_model_and_nothing_else_is_uploaded(bench: Bench) -> None:
    """The emulator's bill counts each reference; its uploads are the two batches alone."""
    shown(bench)
    driver = bench.begin()
    driver.to_the_end()
    assert outcomes(read_index(driver.run)) == {"ok": 4}
    assert driver.run.state.spent == bench.bill()
    assert (read_index(driver.run)["prompt_tokens"] > 200).all(), (
        "ten words and no picture are a tenth of that"
    )
    assert [event["what"] for event in bench.service.events()].count("upload.start") == 2


@given(st.binary(max_size=50), st.text(max_size=20))
def test_a_line_holds_the_very_bytes_and_leaves_the_words_alone(data: bytes, text: str) -> None:
    """Words that look like one of our placeholders are words."""
    reference = Reference("a.png", "ab" * 32, "image/png", len(data), 1, 1)
    decoy = '{"fileData":{"fileUri":"nightshoot:sha256/' + "ab" * 32 + '","mimeType":"image/png"}}'
    prompt = Prompt("m", text + decoy, (reference, reference))
    line = wire.encode("b00000-0000", prompt)
    parts = json.loads(wire.put_inline(line, lambda sha256, mime: data))["request"]["contents"][0]["parts"]
    assert [base64.b64decode(part["inlineData"]["data"]) for part in parts[:2]] == [data, data]
    assert parts[2] == {"text": text + decoy}
    assert len(wire.put_inline(line, lambda sha256, mime: data)) <= len(line) + wire.inline_bytes(prompt)


def test_batches_are_cut_by_what_is_really_sent(bench: Bench) -> None:
    shown(bench, rows=8, max_requests=100)
    size = sum(photo.stat().st_size for photo in PHOTOS)
    bench.job = bench.job.with_settings({"batches.max_bytes": size * 2})
    driver = bench.begin()
    while driver.draw():
        pass
    sent = [sum(map(len, inline_lines(driver.run, batch))) for batch in driver.run.state.batches]
    assert len(sent) > 2
    assert max(sent) <= size * 2


def test_the_plan_says_what_is_sent(bench: Bench) -> None:
    shown(bench)
    found = survey(bench.job, base=bench.folder)
    twice = sum(photo.stat().st_size for photo in PHOTOS) * 2
    assert found.input_bytes + found.reference_bytes == pytest.approx(twice * 4 / 3, rel=0.2)
    assert any("2 photos, in each request that shows it" in line for line in plan_lines(found))


def test_vertex_reads_references_from_its_bucket() -> None:
    with pytest.raises(BadInput, match="no inline references there"):
        job_for("a.csv", prompt="x", backend="vertex").with_settings({"references.inline": True})
