"""Imagen's lines, both halves: what is asked of it, and what its answers say, whatever a server sends."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.oauth2.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pipeline.backends import imagen, lines, schema, wire
from pipeline.backends.base import Outcome
from pipeline.backends.online import Online
from pipeline.errors import Corrupt
from pipeline.imagen import SETTINGS, Imagen, imagen_of, said_by
from pipeline.job import Settings, job_for
from pipeline.manifest import Row
from pipeline.models import load_models
from pipeline.money import Usage, actual, estimate, nanos
from pipeline.prompt import Prompt, fingerprint, requests
from pipeline.results import Line, Payload
from pipeline.tables import plan_schema
from tests.servers import serve

PNG = b"\x89PNG\r\n\x1a\n pretend"
MODELS = load_models()
FAST = "imagen-4.0-fast-generate-001"
PLAIN = Prompt(model=FAST, text='a "red" mug', modalities=("IMAGE",), imagen=Imagen())


def read(*predictions: Any, **more: Any) -> Outcome:
    return imagen.outcome({"predictions": list(predictions), **more})


def picture(data: bytes = PNG, **more: Any) -> dict[str, Any]:
    return {"bytesBase64Encoded": base64.b64encode(data).decode(), "mimeType": "image/png", **more}


# --- asked -------------------------------------------------------------------------------------------------------


def test_a_plain_line_says_what_it_must_and_nothing_else() -> None:
    line = lines.encode("b00000-0000", PLAIN)
    schema.check(line)
    assert json.loads(line) == {
        "key": "b00000-0000",
        "predict": {
            "instances": [{"prompt": 'a "red" mug'}],
            "parameters": {"sampleCount": 1, "includeRaiReason": True},
        },
    }
    assert imagen.is_predict(line)
    assert imagen.predict_of(line, {"team": "shoes"}) == json.loads(line)["predict"] | {
        "labels": {"team": "shoes"}
    }


def test_what_is_asked_is_what_google_s_own_sdk_would_ask() -> None:
    """Every member of it, letter for letter: names that are ours alone would agree with nobody."""
    heard: list[Any] = []

    async def hear(request: Request) -> JSONResponse:
        heard.append((request.url.path, await request.json()))
        return JSONResponse({"predictions": []})

    with serve(Starlette(routes=[Route("/{path:path}", hear, methods=["POST"])])) as url:
        client = genai.Client(
            vertexai=True,
            project="p",
            location="us-central1",
            credentials=Credentials(token="t"),
            http_options={"base_url": url},
        )
        config = {
            "number_of_images": 2,
            "include_rai_reason": True,
            "aspect_ratio": "3:4",
            "image_size": "2K",
            "negative_prompt": "rain",
            "person_generation": "ALLOW_ALL",
            "safety_filter_level": "BLOCK_ONLY_HIGH",
            "guidance_scale": 7.5,
            "language": "ja",
            "enhance_prompt": True,
            "add_watermark": False,
            "seed": 7,
            "include_safety_attributes": True,
            "output_mime_type": "image/jpeg",
            "output_compression_quality": 80,
            "labels": {"team": "shoes"},
        }
        client.models.generate_images(model="imagen-4.0-generate-001", prompt="a mug", config=config)
        client.close()
    own = Imagen(2, "rain", "allow_all", "high", 7.5, "ja", True, False, "jpeg", 80, True)
    prompt = Prompt(
        "imagen-4.0-generate-001", "a mug", aspect_ratio="3:4", image_size="2K", seed=7, imagen=own
    )
    ((path, body),) = heard
    assert imagen.predict_of(lines.encode("b00000-0000", prompt), {"team": "shoes"}) == body
    assert path.endswith("/publishers/google/models/imagen-4.0-generate-001:predict")


def test_gemini_s_lines_stay_what_they_were() -> None:
    gemini = Prompt(model="gemini-2.5-flash-image", text="a mug")
    line = lines.encode("b00000-0000", gemini)
    assert line == wire.encode("b00000-0000", gemini)
    assert not imagen.is_predict(line)
    assert imagen.predict_of(line, {}) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        b'"sampleCount":5',
        b'"sampleCount":1,"storageUri":"gs://b/o"',
        b'"sampleCount":1,"sampleImageSize":"4K"',
        b'"sampleCount":1,"safetySetting":"BLOCK_SOME"',
        b'"sampleCount":1,"seed":7',
        b'"sampleCount":1,"seed":7,"addWatermark":true',
    ],
)
def test_a_line_that_would_be_misread_is_not_sent(spoilt: bytes) -> None:
    line = lines.encode("b00000-0000", PLAIN)
    with pytest.raises(Corrupt):
        schema.check(line.replace(b'"sampleCount":1', spoilt))
    with pytest.raises(Corrupt):
        schema.check(line.replace(b'"predict"', b'"request"'))


def test_the_settings_the_columns_and_the_value_have_the_same_names() -> None:
    assert set(SETTINGS) <= set(Settings.__struct_fields__)
    assert [field.name for field in plan_schema(()).field("imagen").type] == list(SETTINGS)


def test_what_says_nothing_is_nothing_and_changes_no_fingerprint() -> None:
    """So that fingerprints of Gemini's prompts are what they were before there was Imagen here."""
    assert imagen_of(dict.fromkeys(SETTINGS)) is None
    assert imagen_of({"pictures": 1}) is None
    assert said_by(Imagen(pictures=2, watermark=False)) == {"pictures": 2, "watermark": False}
    bare = Prompt(model="m", text="t")
    assert fingerprint(bare) == "430efe16d32417e154582ce2655c385922e483d119b49f0227ed1afe3d450ae3"
    marks = {fingerprint(PLAIN)}
    said = {
        "pictures": 2,
        "negative_prompt": "rain",
        "person_generation": "allow_all",
        "safety_filter": "low",
    }
    more = {"guidance": 2.0, "language": "ja", "enhance_prompt": False, "watermark": False, "output": "jpeg"}
    rest = {"quality": 8, "safety_scores": True}
    for name, value in (said | more | rest).items():
        own: Any = Imagen(**{name: value})
        marks.add(fingerprint(Prompt(model=FAST, text=PLAIN.text, modalities=("IMAGE",), imagen=own)))
    assert len(marks) == 1 + len(SETTINGS)


def poured(job: Any, columns: dict[str, str]) -> Any:
    row = Row(0, 2, "a", columns)
    (request,) = requests(job, [row], models=MODELS, base=Path())
    return request


def test_a_row_s_own_negative_prompt_is_no_template_and_outranks_the_shot_s() -> None:
    job = job_for(
        "x.csv", prompt="{{ title }}", model=FAST, backend="vertex", negative_prompt="no {{ title }}"
    )
    own = {"title": "mug", "negative_prompt": "{{ rain }}"}
    assert poured(job, own).prompt.imagen.negative_prompt == "{{ rain }}"
    assert poured(job, own | {"negative_prompt": ""}).prompt.imagen.negative_prompt == "no mug"
    assert poured(job, own | {"negative_prompt": "-"}).prompt.imagen.negative_prompt is None
    above = job.with_settings({"negative_prompt": "snow"})
    assert poured(above, own).prompt.imagen.negative_prompt == "snow"


def test_a_column_that_gemini_cannot_mind_is_refused_unless_it_is_the_user_s_own() -> None:
    job = job_for("x.csv", prompt="{{ title }}")
    own = {"title": "mug", "negative_prompt": "rain"}
    refused = poured(job, own)
    assert refused.refusal == "gemini-nano-banana-2.1 has no such setting rain"
    assert 'add data = ["negative_prompt"]' in refused.problems[0].hint
    ours = job_for("x.csv", prompt="{{ title }}", data=["negative_prompt"])
    assert poured(ours, own).prompt.imagen is None
    assert poured(job, own | {"negative_prompt": ""}).prompt.imagen is None


def test_a_price_is_of_all_pictures_of_a_call_and_never_a_batch_s() -> None:
    prompt = Prompt(model=FAST, text="x", modalities=("IMAGE",), imagen=Imagen(pictures=4))
    price = estimate(prompt, MODELS.find(FAST), "standard")
    assert (price.low, price.likely, price.high, price.images) == (nanos("0.08"),) * 3 + (4,)
    assert actual(Usage(pictures=3), MODELS.find(FAST), "standard") == nanos("0.06")
    assert actual(Usage(pictures=0), MODELS.find(FAST), "standard") == 0


# --- answered ----------------------------------------------------------------------------------------------------


def test_every_picture_of_an_answer_is_a_result_and_is_paid_for() -> None:
    found = read(picture(b"one", prompt="better"), picture(b"two"))
    assert (found.kind, found.alternatives, found.usage) == ("ok", True, Usage(pictures=2))
    assert [(one.data, one.declared_mime, one.prompt) for one in found.drawings] == [
        (b"one", "image/png", "better"),
        (b"two", "image/png", None),
    ]


def test_some_that_are_withheld_leave_the_others_and_say_why() -> None:
    found = read(
        picture(),
        {"raiFilteredReason": "Some were filtered out. Support codes: 39322892, 17301594"},
        {"raiFilteredReason": "Another was. Support codes: 39322892"},
    )
    assert (found.kind, found.reason, found.usage) == ("ok", "17301594 39322892", Usage(pictures=1))
    assert found.message == (
        "Some were filtered out. Support codes: 39322892, 17301594; Another was. Support codes: 39322892"
    )


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ({"predictions": [{"raiFilteredReason": "Support codes: 56562880"}]}, "blocked", "56562880"),
        ({"predictions": [{"raiFilteredReason": "filtered"}]}, "blocked", "RAI"),
        ({"predictions": []}, "no_image", None),
        ({}, "no_image", None),
        ({"predictions": [{"bytesBase64Encoded": "*"}]}, "broken", None),
        ({"predictions": {"bytesBase64Encoded": "AAAA"}}, "error", None),
        ({"error": {"code": 400, "message": "violates Google's Responsible AI practices"}}, "blocked", "RAI"),
        (
            {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}},
            "invalid",
            "INVALID_ARGUMENT",
        ),
        ({"error": {"code": 503, "message": "later"}}, "error", "503"),
    ],
)
def test_an_answer_without_a_picture_says_what_it_is(
    answer: dict[str, Any], kind: str, reason: str | None
) -> None:
    found = imagen.outcome(answer)
    assert (found.kind, found.reason) == (kind, reason)
    assert found.drawings == ()


def test_what_is_not_made_costs_nothing_and_what_cannot_be_told_counts_as_spent() -> None:
    assert read({"raiFilteredReason": "x"}).usage == read().usage == Usage(pictures=0)
    assert read({"bytesBase64Encoded": "*"}).usage == Usage(pictures=1), "it was made, and billed"
    odd = imagen.outcome({"predictions": 7})
    assert (odd.usage, odd.billed) == (None, True)
    assert imagen.outcome({"error": {"code": 400}}).billed is False


def test_the_scores_are_kept_as_they_came() -> None:
    scores = {"categories": ["Violence"], "scores": [0.1]}
    found = read(
        picture(safetyAttributes=scores), {"contentType": "Positive Prompt", "safetyAttributes": scores}
    )
    assert found.safety_scores is not None
    assert json.loads(found.safety_scores) == [
        {"safetyAttributes": scores},
        {"contentType": "Positive Prompt", "safetyAttributes": scores},
    ]
    assert read(picture()).safety_scores is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ("bytesBase64Encoded", "mimeType", "prompt", "raiFilteredReason", "safetyAttributes", "contentType")


@given(st.lists(st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=4), max_size=3) | JSON, JSON)
def test_nothing_that_a_server_could_send_breaks_the_reader(predictions: Any, error: Any) -> None:
    for answer in (
        {"predictions": predictions},
        {"error": error},
        {"predictions": predictions, "error": error},
    ):
        found = imagen.outcome(answer)
        for said in (found.kind, found.reason, found.message, found.safety_scores):
            assert said is None or said.encode()


def test_pictures_of_an_answer_are_never_parsed_as_text() -> None:
    """Each is a view of the line it stands in, and what is called so elsewhere is a text as any other."""
    data = base64.b64encode(bytes(range(256)) * 20).decode()
    line = {
        "key": "b00000-0000",
        "predicted": {"predictions": [picture(bytes(range(256)) * 20), picture(bytes(range(256)) * 20)]},
        "bytesBase64Encoded": data,
        "other": [{"bytesBase64Encoded": data}],
    }
    found = Line(0, json.dumps(line).encode())
    body = found.body
    assert body is not None
    pictures = [one["bytesBase64Encoded"] for one in body["predicted"]["predictions"]]
    assert all(isinstance(one, Payload) for one in pictures)
    assert body["bytesBase64Encoded"] == body["other"][0]["bytesBase64Encoded"] == data
    outcome = Online.outcome(Online.__new__(Online), found)
    assert [one.data for one in outcome.drawings] == [bytes(range(256)) * 20] * 2
