"""Every reply against a schema: Google's own for Vertex AI, and the written contract for the Developer API."""

import json
from pathlib import Path

import pytest

from tests.emulator.discovery import Schemas, google

HERE = Path(__file__).parents[1] / "data" / "wire" / "developer.json"
SEARCH = [{"google_search": {"search_types": {"web_search": {}, "image_search": {}}}}]
BEARER = {"authorization": "Bearer a-token"}
VERTEX = "GoogleCloudAiplatformV1"


@pytest.fixture(scope="module")
def contract():
    return Schemas(HERE)


@pytest.fixture(scope="module")
def aiplatform():
    path = google("aiplatform.v1.json")
    if path is None:
        pytest.skip("google-api-python-client, which ships the discovery document, is not installed")
    return Schemas(path)


def varied(row):
    """Rows that meet all there is to be met, and their keys."""
    thinking = row("thinking", "a mug", thinkingConfig={"includeThoughts": True})
    searching = row("searching", "the newest mug")
    searching["request"]["tools"] = SEARCH
    others = [row(kind, f"{kind} mug") for kind in KINDS]
    return [row("plain"), row("several", "three pictures of a mug"), thinking, searching, *others]


KINDS = ("text_only", "no_image", "image_safety", "prompt_blocked", "max_tokens", "no_content", "row_error")


@pytest.fixture
def night(make_bench, row):
    """A finished job of varied rows on an emulator with a bucket."""
    bench = make_bench(buckets=("shoes",))
    for kind in KINDS:
        bench.service.fault(kind, prompt=kind)
    return bench


def test_what_a_schema_forbids_is_noticed(contract):
    assert contract.faults({"file": {"colour": 1}}, "Upload")
    assert contract.faults({"name": "batches/a", "metadata": {"state": "JOB_STATE_RUNNING"}}, "Operation")


def test_jobs_files_and_lines_have_the_members_of_the_contract_and_no_others(night, row, contract):
    job = night.submit(varied(row), model="gemini-3.1-flash-image")
    failed = night.sdk.batches.create(model="gemini-3-pro-image", src=night.upload(b"no json").name)
    requests = [{"contents": [{"parts": [{"text": "mug"}]}], "metadata": {"key": "a"}}]
    inline = night.sdk.batches.create(model="gemini-3-pro-image", src=requests)
    for name in (job.name, failed.name, inline.name):
        assert contract.faults(night.raw(name), "Operation") == []
    assert contract.faults(night.http("GET", "/v1beta/batches?pageSize=1").json(), "Operations") == []
    assert contract.faults(night.http("GET", "/v1/files?pageSize=1").json(), "Files") == []
    lines = [json.loads(line) for line in night.output(job).splitlines()]
    assert len(lines) == 11
    assert [fault for line in lines for fault in contract.faults(line, "Line")] == []


def test_errors_and_answers_at_once_have_the_shapes_of_the_contract(night, contract):
    body = {"contents": [{"parts": [{"text": "mug"}]}], "tools": SEARCH}
    answer = night.http("POST", "/v1/models/gemini-3.1-flash-image:generateContent", json=body).json()
    assert contract.faults(answer, "Response") == []
    for path in (
        "/v1/batches/none",
        "/v1/files/none",
        "/v9/x",
        "/v1/projects/p/locations/l/batchPredictionJobs",
    ):
        reply = night.http("GET", path)
        assert reply.status_code in (401, 404)
        assert contract.faults(reply.json(), "Error") == []


def test_jobs_on_vertex_fit_googles_own_schema_in_every_state(make_bench, aiplatform):
    bench = make_bench(buckets=("shoes",), queue=(60, 60), run=(60, 60))
    request = {"contents": [{"role": "user", "parts": [{"text": "mug"}]}], "labels": {"row": "a"}}
    jobs = [bench.predict([request] * 3, display_name=f"{n}").name for n in range(3)]
    for seconds in (0, 40, 50, 5, 200):
        bench.service.advance(seconds)
        if seconds == 50:
            bench.vertex.batches.cancel(name=jobs[0])
        for job in jobs:
            raw = bench.http("GET", f"/v1/{job}", headers=BEARER).json()
            assert aiplatform.faults(raw, f"{VERTEX}BatchPredictionJob") == []
    model = bench.http("GET", "/v1/publishers/google/models/gemini-3-pro-image", headers=BEARER).json()
    assert aiplatform.faults(model, f"{VERTEX}PublisherModel") == []
    path = f"/v1/{jobs[0].rpartition('/')[0]}?pageSize=2"
    listed = bench.http("GET", path, headers=BEARER).json()
    assert aiplatform.faults(listed, f"{VERTEX}ListBatchPredictionJobsResponse") == []
    deleted = bench.http("DELETE", f"/v1/{jobs[0]}", headers=BEARER).json()
    assert aiplatform.faults(deleted, "GoogleLongrunningOperation") == []


def test_answers_on_vertex_fit_googles_own_schema(night, row, aiplatform):
    requests = [{**line["request"], "labels": {"row": line["key"]}} for line in varied(row)]
    lines = night.written(night.predict(requests))
    assert len(lines) == 11
    for line in lines:
        assert aiplatform.faults(line["response"], f"{VERTEX}GenerateContentResponse") == []
        assert set(line) == {"status", "processed_time", "request", "response"}
    model = "/v1/projects/p/locations/l/publishers/google/models"
    body = {"contents": [{"role": "user", "parts": [{"text": "mug"}]}]}
    said = night.http("POST", f"{model}/gemini-3-pro-image:generateContent", json=body, headers=BEARER).json()
    assert aiplatform.faults(said, f"{VERTEX}GenerateContentResponse") == []
    body = {"instances": [{"prompt": "mug"}], "parameters": {"sampleCount": 1}}
    said = night.http("POST", f"{model}/imagen-4.0-generate-001:predict", json=body, headers=BEARER).json()
    assert aiplatform.faults(said, f"{VERTEX}PredictResponse") == []
