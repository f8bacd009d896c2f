"""How much may wait, and what else can be wrong with a service that is full, slow or gone."""

import base64
import json
import time

import httpx2
import pytest
from google.genai import errors, types

pytestmark = pytest.mark.filterwarnings("error")

PROMPT = "x" * 400  # a hundred tokens
MODEL = "gemini-3.1-flash-image"


@pytest.fixture
def waiting(make_bench):
    """An emulator whose jobs wait for a minute and run for one."""
    return make_bench(queue=(60, 60), run=(60, 60), buckets=("shoes",))


def full(bench, row, **more):
    with pytest.raises(errors.ClientError, match="429 RESOURCE_EXHAUSTED") as refused:
        bench.submit([row("a", PROMPT)], model=MODEL, **more)
    return refused.value.details["error"]["details"][0]["violations"][0]


def test_a_job_that_does_not_fit_beside_those_that_wait_is_refused(waiting, row):
    waiting.service.fault("quota", tokens=250)
    for _ in range(2):
        waiting.submit([row("a", PROMPT)], model=MODEL)
    assert full(waiting, row)["quotaValue"] == "250"
    waiting.submit([row("a", PROMPT)], model="gemini-3-pro-image")
    waiting.service.advance(120)
    waiting.submit([row("a", PROMPT)], model=MODEL)
    kinds = [event.get("kind") for event in waiting.service.events() if event["what"] == "fault"]
    assert kinds == ["quota"]


def test_a_quota_can_be_set_from_the_start_and_counts_references_and_every_platform_apart(make_bench, row):
    bench = make_bench(queue=(60, 60), quota={MODEL: 3780}, buckets=("shoes",))
    shown = [bench.picture((9, 9, 9)) for _ in range(3)]
    bench.submit([row("a", PROMPT, *shown)], model=MODEL)
    asked = json.loads(json.dumps(row("b", PROMPT)["request"]))
    bench.predict([asked] * 36)
    with pytest.raises(errors.ClientError, match="429"):
        bench.predict([asked] * 2)
    assert "3460 are waiting" in bench_error(bench, row("c", "x" * 1600))


def bench_error(bench, line):
    with pytest.raises(errors.ClientError) as refused:
        bench.submit([line], model=MODEL)
    return str(refused.value)


def test_a_cancelled_job_gives_its_tokens_back_unless_it_haunts(waiting, row):
    waiting.service.fault("quota", tokens=100)
    waiting.sdk.batches.cancel(name=waiting.submit([row("a", PROMPT)], model=MODEL).name)
    waiting.service.fault("ghost_quota", seconds=3600)
    ghost = waiting.submit([row("a", PROMPT)], model=MODEL).name
    waiting.sdk.batches.cancel(name=ghost)
    waiting.sdk.batches.delete(name=ghost)
    full(waiting, row)
    waiting.service.advance(3600)
    waiting.submit([row("a", PROMPT)], model=MODEL)


def test_the_store_is_full_at_twenty_gigabytes_or_whatever_is_said(make_bench):
    bench = make_bench(storage_limit=1000)
    first = bench.upload(b"x" * 600)
    with pytest.raises(errors.ClientError, match="429"):
        bench.upload(b"x" * 600)
    bench.sdk.files.delete(name=first.name)
    bench.upload(b"x" * 600)


def test_a_model_can_go_in_the_middle_of_a_night(waiting, row):
    """Who asks for it is told 404; what was to begin with it fails; what had begun comes to its end."""
    running = waiting.submit([row("a")], model=MODEL)
    waiting.service.advance(90)
    late = waiting.submit([row("a")], model=MODEL)
    waiting.service.fault("model_retired", model=MODEL, at="2026-11-21T00:02:00Z")
    assert waiting.submit([row("a")], model=MODEL)
    waiting.service.advance(60)
    with pytest.raises(errors.ClientError, match="404"):
        waiting.submit([row("a")], model=MODEL)
    with pytest.raises(errors.ClientError, match="404"):
        waiting.sdk.models.generate_content(model=MODEL, contents="a mug")
    assert waiting.sdk.batches.get(name=running.name).state == types.JobState.JOB_STATE_SUCCEEDED
    failed = waiting.raw(late.name)
    assert (failed["metadata"]["state"], failed["error"]["code"]) == ("BATCH_STATE_FAILED", 5)
    waiting.submit([row("a")], model="gemini-3-pro-image")


def test_results_live_as_long_as_they_are_said_to(make_bench, row):
    bench = make_bench(result_life=48 * 3600)
    done = bench.sdk.batches.get(name=bench.submit([row("a")]).name)
    bench.service.advance(48 * 3600 - 1)
    assert bench.sdk.files.download(file=done.dest.file_name)
    bench.service.advance(1)
    with pytest.raises(errors.ClientError, match="404"):
        bench.sdk.files.download(file=done.dest.file_name)


def test_a_download_can_be_slow(bench, row):
    done = bench.sdk.batches.get(name=bench.submit([row("a")]).name)
    size = len(bench.sdk.files.download(file=done.dest.file_name))
    bench.service.fault("slow", rate=size * 5)
    begun = time.monotonic()
    assert len(bench.sdk.files.download(file=done.dest.file_name)) == size
    assert time.monotonic() - begun > 0.15


def test_the_last_reply_of_an_upload_can_lack_the_file_which_is_there(bench):
    bench.service.fault("upload_no_file")
    with pytest.raises(KeyError):
        bench.upload(b"abc", name="kept")
    assert bench.sdk.files.get(name="files/kept").size_bytes == 3


def test_the_reply_to_a_chunk_can_lack_its_status(bench):
    headers = {
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": "3",
    }
    begun = bench.http("POST", "/upload/v1/files", json={"file": {"name": "files/kept"}}, headers=headers)
    bench.service.fault("upload_no_status")
    url = begun.headers["x-goog-upload-url"]
    headers = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0"}
    reply = httpx2.post(url, content=b"abc", headers=headers, trust_env=False)
    assert "x-goog-upload-status" not in reply.headers
    asked = httpx2.post(url, headers={"x-goog-upload-command": "query"}, trust_env=False)
    assert asked.headers["x-goog-upload-status"] == "final"


@pytest.mark.parametrize(
    ("model", "marker"), [("gemini-2.5-flash-image", b"caBX"), ("gemini-3-pro-image", b"\xff\xeb")]
)
def test_a_picture_can_carry_a_mark_that_a_machine_made_it(bench, row, model, marker):
    bench.service.fault("c2pa", key="marked")
    lines = bench.run([row("marked"), row("plain", "another mug")], model=model)
    data = {
        key: base64.b64decode(line["response"]["candidates"][0]["content"]["parts"][-1]["inlineData"]["data"])
        for key, line in lines.items()
    }
    assert marker in data["marked"][:2000]
    assert b"trainedAlgorithmicMedia" in data["marked"][:2000]
    assert b"trainedAlgorithmicMedia" not in data["plain"]


def test_all_pictures_can_be_marked_from_the_start(make_bench, row):
    bench = make_bench(c2pa=True)
    assert b"trainedAlgorithmicMedia" in base64.b64decode(
        bench.run([row("a")])["a"]["response"]["candidates"][0]["content"]["parts"][-1]["inlineData"]["data"]
    )


def test_a_fault_can_hit_every_third_call(bench, row):
    bench.service.fault("refused", method="create", every=3, times=None)
    refused = 0
    for _ in range(6):
        try:
            bench.submit([row("a")])
        except errors.ServerError:
            refused += 1
    assert refused == 2
