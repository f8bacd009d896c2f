"""Whatever people write survives into the line that is sent, and back; and no file makes a traceback."""

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.backends import schema, wire
from pipeline.errors import NightshootError
from pipeline.job import job_for
from pipeline.manifest import open_manifest
from pipeline.models import load_models
from pipeline.prompt import fingerprint, requests
from pipeline.survey import survey

MODELS = load_models()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
SAMPLES = Path(__file__).parent.parent / "sample_manifests"


@given(TEXT, st.one_of(st.none(), TEXT))
@example("\u2028 \u2029 \x85", None)
@example("{{ 7 * 7 }} {% raw %} ${x} {0}", "{{ title }}")
@example('=cmd|"/c calc"!A1', '\\ " \x00')
@example("\0text\0", "\0text\0")
@example("\U0001f97e \u202e", "nightshoot:sha256/" + "0" * 64)
def test_any_text_of_a_row_survives_into_the_line_and_back(text, system):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps({"id": "a", "prompt": text, "rules": system or ""}) + "\n")
        job = job_for(str(path), prompt="{{ prompt }}", system="{{ rules }}")
        (request,) = requests(job, open_manifest(path).rows(), models=MODELS, base=Path(folder))
    if not text.strip():
        assert request.refusal == "the prompt is empty"
        return
    assert request.prompt is not None
    line = wire.encode("b00000-0000", request.prompt)
    schema.check(line)
    assert b"\n" not in line
    asked = json.loads(line)["request"]
    assert asked["contents"][0]["parts"] == [{"text": text.strip()}]
    told = asked.get("systemInstruction", {"parts": [{"text": ""}]})["parts"][0]["text"]
    assert told == (system or "").strip()
    assert fingerprint(request.prompt) == request.fingerprint


@given(TEXT, TEXT)
def test_two_texts_are_two_fingerprints_and_one_is_one(one, other):
    job = job_for("x.jsonl", prompt="x")
    (request,) = requests(job, [_row()], models=MODELS, base=Path())
    marks = {fingerprint(_with(request.prompt, text)) for text in (one, other)}
    assert len(marks) == len({one, other})


def _row():
    from pipeline.manifest import Row

    return Row(0, 1, "a", {})


def _with(prompt, text):
    import msgspec

    return msgspec.structs.replace(prompt, text=text)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_a_traceback(data):
    _survives(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize(
    "name",
    [
        "shopify_export.csv",
        "merchant_feed.tsv",
        "merchant_feed.xml",
        "woocommerce_export.csv",
        "settings.jsonl",
    ],
)
def test_no_damaged_manifest_makes_a_traceback(name, data):
    whole = (SAMPLES / name).read_bytes().replace(b"https://cdn.example", b"nowhere")
    start = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 40))
    junk = data.draw(st.binary(max_size=20))
    _survives(whole[:start] + junk + whole[start + length :])


def _survives(data: bytes) -> None:
    """Looked over, or refused with one of our own errors: nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "m").write_bytes(data)
        with contextlib.suppress(NightshootError):
            survey(job_for("m", prompt="a picture", variants=1), base=Path(folder))
