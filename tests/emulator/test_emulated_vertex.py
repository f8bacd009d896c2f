"""Vertex AI's batch prediction, by Google's SDK in Vertex mode and Google's client for Cloud Storage."""

import asyncio
import base64
import io
import json

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")

HOUR = 3600


@pytest.fixture
def vertex(make_bench):
    """An emulator with a bucket, and jobs that take a minute in the queue and a hundred seconds to run."""
    return make_bench(buckets=("shoes",), queue=(60, 60), run=(100, 100))


def request(number, **settings):
    whole = {
        "contents": [{"role": "user", "parts": [{"text": f"mug number {number}"}]}],
        "labels": {"row": f"row-{number}"},
    }
    return whole | ({"generationConfig": settings} if settings else {})


def requests(count):
    return [request(number) for number in range(count)]


def rows(lines):
    """Lines by the label that their request came with."""
    return {line["request"]["labels"]["row"]: line for line in lines}


def picture(line):
    parts = line["response"]["candidates"][0]["content"]["parts"]
    part = [part for part in parts if "inlineData" in part][-1]
    image = Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"])))
    image.load()
    return image


def state(bench, job):
    return bench.vertex.batches.get(name=job.name).state.value.removeprefix("JOB_STATE_")


def test_a_job_reads_a_bucket_and_writes_into_it(vertex):
    job = vertex.predict(requests(5))
    vertex.service.advance(160)
    found = rows(vertex.written(job))
    assert set(found) == {f"row-{number}" for number in range(5)}
    assert all(picture(line).size == (1024, 1024) for line in found.values())
    assert all(line["status"] == "" for line in found.values())


def test_a_job_goes_through_the_states_this_service_has(vertex):
    job = vertex.predict(requests(1))
    seen = [job.state.value.removeprefix("JOB_STATE_")]
    for seconds in (30, 30, 99, 1):
        vertex.service.advance(seconds)
        seen.append(state(vertex, job))
    assert seen == ["QUEUED", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]


def test_a_finished_job_says_where_its_rows_are_and_counts_them_in_strings(vertex):
    job = vertex.predict([*requests(3), {"contents": [], "labels": {"row": "bad"}}])
    vertex.service.advance(160)
    raw = vertex.http("GET", f"/v1/{job.name}", headers={"authorization": "Bearer x"}).json()
    assert raw["completionStats"] == {"successfulCount": "3", "failedCount": "1"}
    assert raw["outputInfo"]["gcsOutputDirectory"].startswith("gs://shoes/out/prediction-model-2026-11-21T")
    assert raw["model"] == "publishers/google/models/gemini-3.1-flash-image"
    done = vertex.vertex.batches.get(name=job.name)
    assert (done.completion_stats.successful_count, done.completion_stats.failed_count) == (3, 1)


def test_rows_come_in_several_files_and_in_another_order(vertex):
    job = vertex.predict(requests(9))
    vertex.service.advance(160)
    names = sorted(blob.name.rpartition("/")[2] for blob in vertex.storage.list_blobs("shoes", prefix="out/"))
    assert names == ["predictions-00001-of-00002.jsonl", "predictions-00002-of-00002.jsonl"]
    order = [line["request"]["labels"]["row"] for line in vertex.written(job)]
    assert sorted(order) == [f"row-{number}" for number in range(9)] != order


def test_the_request_comes_back_with_nulls_and_its_labels_and_nothing_beside_it(vertex):
    lines = json.dumps({"request": request(1), "key": "mine"}).encode()
    source = vertex.put("own.jsonl", lines)
    job = vertex.vertex.batches.create(
        model="gemini-2.5-flash-image", src=source, config={"dest": "gs://shoes/out"}
    )
    vertex.service.advance(160)
    [line] = vertex.written(job)
    assert set(line) == {"status", "processed_time", "request", "response"}
    part = line["request"]["contents"][0]["parts"][0]
    assert part.pop("text") == "mug number 1"
    assert part
    assert set(part.values()) == {None}
    assert line["response"]["modelVersion"] == "gemini-2.5-flash-image@default"
    assert "serviceTier" not in line["response"]["usageMetadata"]


def test_a_failed_row_has_a_status_of_words_and_json_and_an_empty_response(vertex):
    job = vertex.predict([request(1, imageConfig={"imageSize": "2K"}), request(2)])
    vertex.service.advance(160)
    bad = rows(vertex.written(job))["row-1"]
    words, _, body = bad["status"].partition(": ")
    error = json.loads(body)["error"]
    assert (words, error["code"], error["status"]) == ("Bad Request", 400, "INVALID_ARGUMENT")
    assert "'2K' is not one of 1K" in error["message"]
    assert bad["response"] == {}
    assert len(vertex.service.ledger()["jobs"][0]["billed"]) == 1


def test_a_reference_is_an_object_and_no_file_of_the_other_service(vertex):
    file = io.BytesIO()
    Image.new("RGB", (160, 90), (200, 20, 20)).save(file, "PNG")
    uri = vertex.put("photos/red.png", file.getvalue())
    shown = request(1)
    shown["contents"][0]["parts"].append({"fileData": {"mimeType": "image/png", "fileUri": uri}})
    gone, other = json.loads(json.dumps(shown)), json.loads(json.dumps(shown))
    gone["labels"]["row"], gone["contents"][0]["parts"][1]["fileData"]["fileUri"] = "gone", uri + "x"
    other["labels"]["row"], other["contents"][0]["parts"][1]["fileData"]["fileUri"] = (
        "other",
        "https://x/files/a",
    )
    job = vertex.predict([shown, gone, other])
    vertex.service.advance(160)
    found = rows(vertex.written(job))
    assert picture(found["row-1"]).size == (1376, 768)
    red, green, _ = picture(found["row-1"]).resize((1, 1)).getpixel((0, 0))
    assert red > 120 > green
    assert found["gone"]["status"].startswith("Forbidden: ")
    assert found["other"]["status"].startswith("Bad Request: ")


def test_what_was_done_before_a_cancel_is_written_and_paid_for_and_nothing_else(vertex):
    job = vertex.predict(requests(10))
    vertex.service.advance(60 + 50)
    vertex.vertex.batches.cancel(name=job.name)
    assert state(vertex, job) == "CANCELLING"
    vertex.service.advance(10)
    assert state(vertex, job) == "CANCELLED"
    vertex.service.advance(HOUR)
    assert len(vertex.written(job)) == 5
    stats = vertex.vertex.batches.get(name=job.name).completion_stats
    assert (stats.successful_count, stats.incomplete_count) == (5, 5)
    [entry] = vertex.service.ledger()["jobs"]
    assert (entry["rows"], entry["billedRows"]) == (10, 5)


def test_a_job_cancelled_in_the_queue_leaves_nothing(vertex):
    job = vertex.predict(requests(3))
    vertex.vertex.batches.cancel(name=job.name)
    vertex.service.advance(HOUR)
    done = vertex.vertex.batches.get(name=job.name)
    assert (done.state, done.output_info) == (types.JobState.JOB_STATE_CANCELLED, None)
    assert list(vertex.storage.list_blobs("shoes", prefix="out/")) == []
    assert vertex.service.ledger()["total"]["nanodollars"] == 0


def test_a_job_that_runs_for_a_day_expires_with_what_it_has(vertex):
    vertex.service.fault("job_stalled", state="RUNNING", seconds=48 * HOUR - 100)
    job = vertex.predict(requests(10))
    vertex.service.advance(60 + 24 * HOUR)
    assert state(vertex, job) == "EXPIRED"
    assert len(vertex.written(job)) == 5
    assert vertex.service.ledger()["jobs"][0]["billedRows"] == 5


def test_a_job_that_waits_for_three_days_expires_with_nothing(vertex):
    vertex.service.fault("job_stalled", state="PENDING", seconds=80 * HOUR)
    job = vertex.predict(requests(2))
    vertex.service.advance(72 * HOUR - 1)
    assert state(vertex, job) == "PENDING"
    vertex.service.advance(1)
    assert state(vertex, job) == "EXPIRED"
    vertex.service.advance(20 * HOUR)
    assert vertex.service.ledger()["total"]["nanodollars"] == 0


def test_a_cancelled_job_may_finish_all_the_same_here_too(vertex):
    vertex.service.fault("finishes_after_cancel")
    job = vertex.predict(requests(4))
    vertex.service.advance(100)
    vertex.vertex.batches.cancel(name=job.name)
    vertex.service.advance(15)
    assert state(vertex, job) == "CANCELLED"
    vertex.service.advance(60)
    assert len(vertex.written(job)) == 4


def test_jobs_are_listed_newest_first_over_pages_and_can_be_looked_for(vertex):
    jobs = [vertex.predict(requests(1), display_name=f"batch-{number}").name for number in range(3)]
    listed = [job.name for job in vertex.vertex.batches.list(config={"page_size": 2})]
    assert listed == jobs[::-1]
    named = vertex.vertex.batches.list(config={"filter": 'displayName="batch-1"'})
    assert [job.name for job in named] == [jobs[1]]


def test_a_job_can_be_deleted_when_it_has_ended_and_its_files_stay(vertex):
    job = vertex.predict(requests(1))
    with pytest.raises(errors.ClientError, match="FAILED_PRECONDITION"):
        vertex.vertex.batches.delete(name=job.name)
    vertex.service.advance(160)
    vertex.vertex.batches.get(name=job.name)
    assert vertex.vertex.batches.delete(name=job.name).done
    with pytest.raises(errors.ClientError, match="404"):
        vertex.vertex.batches.get(name=job.name)
    assert list(vertex.storage.list_blobs("shoes", prefix="out/"))


def test_nobody_gets_in_without_a_token_and_places_know_nothing_of_each_other(vertex):
    job = vertex.predict(requests(1))
    refused = vertex.http("GET", f"/v1/{job.name}")
    assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    elsewhere = job.name.replace("global", "us-central1")
    headers = {"authorization": "Bearer x"}
    assert vertex.http("GET", f"/v1beta1/{elsewhere}", headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dest": "gs://nowhere/out"}, "bucket"),
        ({"dest": "bq://project.dataset.table"}, "gcsDestination"),
    ],
)
def test_a_job_that_could_never_write_is_refused(vertex, change, words):
    with pytest.raises(errors.ClientError, match=words):
        vertex.predict(requests(1), **change)
    assert vertex.service.ledger()["jobs"] == []


def test_a_model_that_is_not_there_is_not_found(vertex):
    with pytest.raises(errors.ClientError, match="404"):
        vertex.predict(requests(1), model="gemini-9-image")


@pytest.mark.parametrize("data", [None, b"not json\n", b"\n"])
def test_an_input_that_is_missing_or_no_jsonl_fails_the_job(vertex, data):
    if data is not None:
        vertex.put("odd.jsonl", data)
    job = vertex.vertex.batches.create(
        model="gemini-3-pro-image", src="gs://shoes/odd.jsonl", config={"dest": "gs://shoes/out"}
    )
    vertex.service.advance(160)
    done = vertex.vertex.batches.get(name=job.name)
    assert done.state == types.JobState.JOB_STATE_FAILED
    assert done.error.message


@pytest.mark.parametrize("limit", [{"vertex_rows": 2}, {"vertex_bytes": 300}])
def test_an_input_on_vertex_has_a_limit(make_bench, limit):
    bench = make_bench(buckets=("shoes",), **limit)
    assert state(bench, bench.predict(requests(3))) == "FAILED"
    assert state(bench, bench.predict(requests(1))) == "SUCCEEDED"


def test_misfortune_of_rows_befalls_these_rows_as_well(vertex):
    for kind, row in (("missing_line", 1), ("duplicate_line", 2), ("no_image", 3), ("swapped_keys", 4)):
        vertex.service.fault(kind, prompt=f"number {row}")
    vertex.service.fault("row_error", prompt="number 0", code=8, message="slow down")
    job = vertex.predict(requests(6))
    vertex.service.advance(160)
    lines = vertex.written(job)
    order = [line["request"]["labels"]["row"] for line in lines]
    assert sorted(order) == ["row-0", "row-2", "row-2", "row-3", "row-4", "row-5"]
    assert rows(lines)["row-0"]["status"].startswith("Too Many Requests: ")
    assert rows(lines)["row-3"]["response"]["candidates"][0]["finishReason"] == "NO_IMAGE"


def test_a_result_can_be_late_here_too(vertex):
    vertex.service.fault("late_output", seconds=600)
    job = vertex.predict(requests(2))
    vertex.service.advance(160)
    assert state(vertex, job) == "SUCCEEDED"
    assert vertex.vertex.batches.get(name=job.name).output_info is None
    vertex.service.advance(600)
    assert len(vertex.written(job)) == 2


def test_the_asynchronous_client_can_do_all_of_it(vertex):
    vertex.predict(requests(1))

    async def night(client):
        async with client.aio as aio:
            config = {"dest": "gs://shoes/more"}
            model, source = "gemini-3-pro-image", "gs://shoes/in.jsonl"
            job, other = [await aio.batches.create(model=model, src=source, config=config) for _ in range(2)]
            await aio.batches.cancel(name=other.name)
            assert len([found.name async for found in await aio.batches.list()]) == 3
            vertex.service.advance(160)
            await aio.batches.delete(name=other.name)
            return (await aio.batches.get(name=job.name)).state

    assert asyncio.run(night(vertex.vertex)) == types.JobState.JOB_STATE_SUCCEEDED


def test_what_it_exports_is_enough_for_a_program_that_says_project_and_location(bench, monkeypatch):
    """Without them the SDK leaves the path out of its requests, and is told so."""
    for name, value in bench.service.environment().items():
        monkeypatch.setenv(name, value)
    token = Credentials(token="any")
    with genai.Client(vertexai=True, project="emulator", location="global", credentials=token) as said:
        assert list(said.batches.list()) == []
    with (
        genai.Client(vertexai=True, credentials=token) as unsaid,
        pytest.raises(errors.ClientError, match="unless the program itself says project and location"),
    ):
        unsaid.models.generate_content(model="gemini-3.1-flash-image", contents="a mug")
