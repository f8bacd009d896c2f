"""Every fault there is, ordered over HTTP and met by Google's SDK."""

import base64
import io
import json

import httpx2
import pytest
from google.genai import errors, types
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")


def parts(line):
    return line["response"]["candidates"][0].get("content", {}).get("parts", [])


def pictures(line):
    return [part for part in parts(line) if "inlineData" in part]


def opened(part):
    image = Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"])))
    image.load()
    return image


def fired(bench):
    return [event["kind"] for event in bench.service.events() if event["what"] == "fault"]


def drain(reply, got):
    """Everything the reply has, as far as it goes."""
    for piece in reply.iter_raw():
        got.extend(piece)


# Calls


def test_a_refused_create_is_not_accepted_and_costs_nothing(bench, row):
    bench.service.fault("refused", method="create", code=429, times=2)
    for _ in range(2):
        with pytest.raises(errors.ClientError, match="429 RESOURCE_EXHAUSTED"):
            bench.submit([row("a")])
    assert bench.service.ledger()["jobs"] == []
    bench.submit([row("a")])
    assert len(bench.service.ledger()["jobs"]) == 1
    assert fired(bench) == ["refused", "refused"]


def test_any_call_can_be_refused(bench, row):
    job = bench.submit([row("a")])
    name = bench.sdk.batches.get(name=job.name).dest.file_name
    calls = {
        "get": lambda: bench.sdk.batches.get(name=job.name),
        "list": lambda: list(bench.sdk.batches.list()),
        "cancel": lambda: bench.sdk.batches.cancel(name=job.name),
        "download": lambda: bench.sdk.files.download(file=name),
        "files.list": lambda: list(bench.sdk.files.list()),
        "delete": lambda: bench.sdk.batches.delete(name=job.name),
    }
    for method, call in calls.items():
        bench.service.fault("refused", method=method, code=503)
        with pytest.raises(errors.ServerError, match="503"):
            call()
        call()


def test_an_upload_can_be_refused_and_a_chunk_lost(bench):
    bench.service.fault("refused", method="upload.start", code=500)
    with pytest.raises(errors.ServerError, match="500"):
        bench.upload(b"abc")
    bench.service.fault("lost", method="upload.chunk")
    with pytest.raises(httpx2.TransportError):
        bench.upload(b"abc", name="kept")
    assert bench.sdk.files.get(name="files/kept").size_bytes == 3


def test_a_lost_reply_leaves_a_job_that_is_paid_for(bench, row):
    bench.service.fault("lost")
    with pytest.raises(httpx2.TransportError):
        bench.submit([row("a")], name="orphan")
    [found] = bench.sdk.batches.list()
    assert found.display_name == "orphan"
    assert bench.service.ledger()["total"]["rows"] == 1
    [event] = [event for event in bench.service.events() if event["what"] == "create"]
    assert (event["outcome"], event["job"]) == ("cut", found.name)


def test_a_create_cut_before_it_arrived_leaves_nothing(bench, row):
    bench.service.fault("unsent")
    with pytest.raises(httpx2.TransportError):
        bench.submit([row("a")])
    assert list(bench.sdk.batches.list()) == []


def test_an_error_can_hide_an_accepted_job(bench, row):
    bench.service.fault("done_but_error", code=500)
    with pytest.raises(errors.ServerError, match="500"):
        bench.submit([row("a")], name="orphan")
    assert [job.display_name for job in bench.sdk.batches.list()] == ["orphan"]


def test_a_fault_can_be_meant_for_one_job(bench, row):
    bench.service.fault("refused", method="create", display_name="00017")
    bench.submit([row("a")], name="batch-00016")
    with pytest.raises(errors.ServerError):
        bench.submit([row("a")], name="batch-00017")


def test_a_listing_can_lag(bench, row):
    bench.service.fault("list_lags", seconds=60)
    job = bench.submit([row("a")])
    assert list(bench.sdk.batches.list()) == []
    assert bench.sdk.batches.get(name=job.name).name == job.name
    bench.service.advance(60)
    assert [found.name for found in bench.sdk.batches.list()] == [job.name]


def test_a_listing_can_end_after_its_first_page(bench, row):
    jobs = [bench.submit([row("a")]).name for _ in range(5)]
    bench.service.fault("list_truncated", size=2)
    assert [job.name for job in bench.sdk.batches.list()] == [jobs[4], jobs[3]]
    bench.service.clear_faults()
    assert len(list(bench.sdk.batches.list(config={"page_size": 2}))) == 5


def test_a_listing_can_be_empty_without_an_error(bench, row):
    bench.submit([row("a")])
    bench.service.fault("list_empty", times=1)
    assert list(bench.sdk.batches.list()) == []
    assert len(list(bench.sdk.batches.list())) == 1


def test_a_state_nobody_has_heard_of_is_passed_on(bench, row):
    job = bench.submit([row("a")])
    bench.service.fault("unknown_state", value="BATCH_STATE_RESTING")
    raw = bench.raw(job.name)
    assert raw["metadata"]["state"] == "BATCH_STATE_RESTING"
    assert "done" not in raw
    assert bench.sdk.batches.get(name=job.name).state == types.JobState.JOB_STATE_SUCCEEDED


def test_an_inline_job_can_be_too_big_to_read_and_still_be_listed(bench):
    contents = [{"contents": [{"role": "user", "parts": [{"text": "mug"}]}]}]
    job = bench.sdk.batches.create(model="gemini-2.5-flash-image", src=contents)
    bench.service.fault("no_reply_over", bytes=1000)
    for _ in range(2):
        with pytest.raises(errors.ServerError, match="503"):
            bench.sdk.batches.get(name=job.name)
    assert [found.name for found in bench.sdk.batches.list()] == [job.name]


def test_a_download_cut_short_goes_on_by_range(bench, row):
    name = bench.sdk.batches.get(name=bench.submit([row("a"), row("b", "a pot")]).name).dest.file_name
    path = f"/v1/{name}:download?alt=media"
    whole = bench.http("GET", path).content
    bench.service.fault("cut", bytes=50_000)
    got = bytearray()
    headers = {"x-goog-api-key": "first-key"}
    with (
        httpx2.stream("GET", bench.service.url + path, headers=headers, trust_env=False) as reply,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        drain(reply, got)
    assert got == whole[:50_000]
    rest = bench.http("GET", path, headers={"range": f"bytes={len(got)}-"})
    assert got + rest.content == whole


def test_a_download_can_stall_and_only_the_client_s_patience_ends_it(bench, row):
    name = bench.sdk.batches.get(name=bench.submit([row("a")]).name).dest.file_name
    bench.service.fault("stalled", bytes=100)
    url, headers = f"{bench.service.url}/v1/{name}:download?alt=media", {"x-goog-api-key": "first-key"}
    with (
        httpx2.stream("GET", url, headers=headers, trust_env=False, timeout=0.2) as reply,
        pytest.raises(httpx2.ReadTimeout),
    ):
        list(reply.iter_raw())


def test_a_download_can_ignore_range(bench, row):
    path = (
        f"/v1/{bench.sdk.batches.get(name=bench.submit([row('a')]).name).dest.file_name}:download?alt=media"
    )
    bench.service.fault("no_range", times=1)
    assert bench.http("GET", path, headers={"range": "bytes=5-"}).status_code == 200
    assert bench.http("GET", path, headers={"range": "bytes=5-"}).status_code == 206


# Jobs


def test_a_job_can_have_succeeded_before_its_result_is_there(bench, row):
    bench.service.fault("late_output", seconds=600)
    job = bench.submit([row("a")])
    early = bench.sdk.batches.get(name=job.name)
    assert (early.state, early.dest) == (types.JobState.JOB_STATE_SUCCEEDED, None)
    bench.service.advance(600)
    assert bench.output(job)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_job_can_stall_and_then_finish(bench, row, state):
    bench.service.fault("job_stalled", state=state, seconds=3600)
    job = bench.submit([row("a")])
    bench.service.advance(3599)
    assert bench.sdk.batches.get(name=job.name).state == f"JOB_STATE_{state}"
    bench.service.advance(1)
    assert bench.sdk.batches.get(name=job.name).state == "JOB_STATE_SUCCEEDED"


def test_a_job_that_stalls_for_two_days_expires_and_costs_nothing(bench, row):
    bench.service.fault("job_stalled", state="RUNNING", seconds=49 * 3600)
    job = bench.submit([row("a")])
    bench.service.advance(48 * 3600)
    assert bench.sdk.batches.get(name=job.name).state == "JOB_STATE_EXPIRED"
    assert bench.service.ledger()["total"]["nanodollars"] == 0


@pytest.mark.parametrize(
    ("kind", "state", "code"),
    [("job_failed", "FAILED", 13), ("job_expired", "EXPIRED", 4), ("job_cancelled", "CANCELLED", 1)],
)
def test_a_job_can_end_without_a_result(bench, row, kind, state, code):
    bench.service.fault(kind, times=1)
    job = bench.submit([row("a")])
    bench.service.advance(48 * 3600)
    raw = bench.raw(job.name)
    assert raw["metadata"]["state"] == f"BATCH_STATE_{state}"
    assert raw["error"]["code"] == code
    assert "output" not in raw["metadata"]
    assert bench.service.ledger()["total"]["nanodollars"] == 0
    assert bench.output(bench.submit([row("a")]))


def test_a_cancelled_job_can_finish_all_the_same(make_bench, row):
    bench = make_bench(queue=(60, 60), run=(60, 60))
    bench.service.fault("finishes_after_cancel")
    job = bench.submit([row("a")])
    bench.sdk.batches.cancel(name=job.name)
    assert bench.sdk.batches.get(name=job.name).state == "JOB_STATE_CANCELLED"
    bench.service.advance(120)
    assert bench.output(job)
    assert bench.service.ledger()["total"]["rows"] == 1


def test_a_job_can_be_read_leniently(bench, row):
    bench.service.fault("lenient", times=1)
    astray = row("a")
    astray["request"]["image_config"] = {"aspect_ratio": "16:9"}
    assert opened(pictures(bench.run([astray])["a"])[0]).size == (1024, 1024)
    assert bench.run([astray])["a"]["error"]["code"] == 3


@pytest.mark.parametrize("shape", ["absent", "zero"])
def test_the_counters_of_a_job_can_be_odd(bench, row, shape):
    bench.service.fault("stats_odd", shape=shape)
    stats = bench.raw(bench.submit([row("a")]).name)["metadata"].get("batchStats")
    assert stats == (
        None
        if shape == "absent"
        else {"requestCount": "0", "successfulRequestCount": "0", "failedRequestCount": "0"}
    )


def test_rows_can_come_back_in_order(bench, row):
    bench.service.fault("in_order")
    keys = [f"row-{number}" for number in range(12)]
    result = bench.output(bench.submit([row(key, key) for key in keys]))
    assert [json.loads(line)["key"] for line in result.splitlines()] == keys


def test_a_result_can_end_in_the_middle_of_its_last_line(bench, row):
    rows = [row("a"), row("b", "a pot")]
    whole = bench.output(bench.submit(rows))
    bench.service.fault("cut_last_line")
    cut = bench.output(bench.submit(rows))
    assert whole.startswith(cut)
    assert len(whole.splitlines()[0]) < len(cut) < len(whole)
    assert not cut.endswith(b"\n")


# Rows


def befallen(bench, row, kind, **order):
    """Three rows, the second of which meets a fault; their lines by key."""
    bench.service.fault(kind, key="b", **order)
    return bench.run([row("a"), row("b", "a pot"), row("c", "a jar")], model="gemini-3-pro-image")


@pytest.mark.parametrize("reason", ["NO_IMAGE", "IMAGE_OTHER", "RECITATION"])
def test_a_row_without_a_picture_gives_its_reason(bench, row, reason):
    lines = befallen(bench, row, "no_image", reason=reason)
    assert lines["b"]["response"]["candidates"] == [{"finishReason": reason, "index": 0}]
    assert pictures(lines["a"])
    assert pictures(lines["c"])


def test_words_instead_of_a_picture_end_with_stop(bench, row):
    line = befallen(bench, row, "text_only")["b"]
    assert line["response"]["candidates"][0]["finishReason"] == "STOP"
    assert "a pot" in parts(line)[0]["text"]
    assert not pictures(line)
    assert "candidatesTokensDetails" not in line["response"]["usageMetadata"]


def test_a_withheld_picture_says_so(bench, row):
    candidate = befallen(bench, row, "image_safety")["b"]["response"]["candidates"][0]
    assert candidate["finishReason"] == "IMAGE_SAFETY"
    assert "filtered" in candidate["finishMessage"]


def test_a_blocked_prompt_is_a_response_without_candidates(bench, row):
    response = befallen(bench, row, "prompt_blocked", reason="SAFETY")["b"]["response"]
    assert response["promptFeedback"] == {"blockReason": "SAFETY"}
    assert "candidates" not in response
    assert "candidatesTokenCount" not in response["usageMetadata"]


def test_too_many_tokens_end_in_the_middle(bench, row):
    line = befallen(bench, row, "max_tokens")["b"]
    assert line["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert not pictures(line)


def test_a_candidate_can_have_no_content(bench, row):
    line = befallen(bench, row, "no_content")["b"]
    assert line["response"]["candidates"] == [{"finishReason": "STOP", "index": 0}]


@pytest.mark.parametrize("code", [3, 8, 13, 14])
def test_a_row_can_end_in_an_error_that_costs_nothing(bench, row, code):
    lines = befallen(bench, row, "row_error", code=code, message="out of luck")
    assert lines["b"] == {"error": {"code": code, "message": "out of luck"}, "key": "b"}
    [entry] = bench.service.ledger()["jobs"]
    assert sorted(billed["key"] for billed in entry["billed"]) == ["a", "c"]


def test_a_missing_line_is_billed(bench, row):
    assert set(befallen(bench, row, "missing_line")) == {"a", "c"}
    assert bench.service.ledger()["total"]["rows"] == 3


def test_every_line_of_a_key_is_another_picture_and_billed(bench, row):
    bench.service.fault("duplicate_line", key="b", lines=3)
    result = bench.output(bench.submit([row("a"), row("b", "a pot")]))
    lines = [json.loads(line) for line in result.splitlines()]
    twins = [pictures(line)[0]["inlineData"]["data"] for line in lines if line["key"] == "b"]
    assert len(set(twins)) == 3
    assert bench.service.ledger()["total"]["rows"] == 4


def test_an_answer_can_come_under_a_key_nobody_sent_or_none(bench, row):
    assert set(befallen(bench, row, "unknown_key")) == {"a", "c", "nobody-sent-2"}
    bench.service.clear_faults()
    assert set(befallen(bench, row, "no_key")) == {"a", "c", None}


def test_two_answers_can_come_under_each_other_s_key(bench, row):
    right = bench.run([row("a"), row("b", "a pot"), row("c", "a jar")], model="gemini-3-pro-image")
    wrong = befallen(bench, row, "swapped_keys")
    assert wrong["a"] == right["a"]
    assert wrong["b"]["response"] == right["c"]["response"]
    assert wrong["c"]["response"] == right["b"]["response"]


def test_a_picture_can_be_broken(bench, row):
    """It opens, says the right size, and has no end, in either format."""
    bench.service.fault("broken_picture", key="b")
    for model in ("gemini-2.5-flash-image", "gemini-3-pro-image"):
        lines = bench.run([row("a"), row("b", "a pot")], model=model)
        data = base64.b64decode(pictures(lines["b"])[0]["inlineData"]["data"])
        assert Image.open(io.BytesIO(data)).size == (1024, 1024)
        with pytest.raises(OSError, match="truncated"):
            opened(pictures(lines["b"])[0])
        assert opened(pictures(lines["a"])[0])


def test_a_picture_can_have_another_ratio(bench, row):
    bench.service.fault("wrong_size", key="b")
    lines = bench.run([row(key, key, imageConfig={"aspectRatio": "16:9"}) for key in "ab"])
    assert [opened(pictures(lines[key])[0]).size for key in "ab"] == [(1344, 768), (1024, 1024)]


def test_the_declared_type_can_be_wrong(bench, row):
    [part] = pictures(befallen(bench, row, "wrong_mime")["b"])
    assert (part["inlineData"]["mimeType"], opened(part).format) == ("image/png", "JPEG")


def test_drafts_come_first_and_are_marked_as_thoughts(bench, row):
    found = pictures(befallen(bench, row, "interim_picture", pictures=2)["b"])
    assert [part.get("thought", False) for part in found] == [True, True, False]
    assert len({part["inlineData"]["data"] for part in found}) == 3


def test_two_pictures_have_words_between_them(bench, row):
    line = befallen(bench, row, "two_pictures")["b"]
    assert ["text" in part for part in parts(line)][-3:] == [False, True, False]
    [detail] = line["response"]["usageMetadata"]["candidatesTokensDetails"]
    assert detail["tokenCount"] == 2 * 1120


def test_what_a_model_says_can_come_unsigned(bench, row):
    signed = pictures(befallen(bench, row, "two_pictures")["b"])
    assert all(part["thoughtSignature"] for part in signed)
    bare = parts(befallen(bench, row, "no_signature")["b"])
    assert bare
    assert not any("thoughtSignature" in part for part in bare)


def test_a_line_can_be_no_json(bench, row):
    bench.service.fault("garbage_line", key="b")
    result = bench.output(bench.submit([row("a"), row("b", "a pot")]))
    bad = []
    for line in result.split(b"\n")[:-1]:
        try:
            json.loads(line)
        except ValueError:
            bad.append(line)
    assert len(bad) == 1


def test_words_can_hold_line_separators_that_end_no_line(bench, row):
    bench.service.fault("line_separator", key="b")
    result = bench.output(bench.submit([row("a"), row("b", "a pot")]))
    assert len(result.split(b"\n")) == 3
    assert len(result.decode().splitlines()) > 2
    [line] = [line for line in map(json.loads, result.split(b"\n")[:-1]) if line["key"] == "b"]
    assert "\u2028" in parts(line)[0]["text"]


def test_the_key_can_come_first(bench, row):
    bench.service.fault("key_first", key="b")
    result = bench.output(bench.submit([row("a"), row("b", "a pot")]))
    assert sorted(line.startswith(b'{"key"') for line in result.splitlines()) == [False, True]


def test_a_retry_of_the_same_request_can_fare_better(bench, row):
    """Counted by content: the second sending succeeds, under whatever key and in whatever job."""
    bench.service.fault("no_image", prompt="pot", times=1)
    first = bench.run([row("a", "a pot"), row("b", "another pot"), row("c", "a jar")])
    assert [bool(pictures(first[key])) for key in "abc"] == [False, False, True]
    again = bench.run([row("x", "a pot"), row("y", "another pot")])
    assert pictures(again["x"])
    assert pictures(again["y"])
    assert fired(bench) == ["no_image", "no_image"]


def test_every_nth_row_can_be_hit(bench, row):
    bench.service.fault("text_only", every=3)
    lines = bench.run([row(str(number), f"mug {number}") for number in range(1, 8)])
    assert sorted(key for key, line in lines.items() if not pictures(line)) == ["3", "6"]


def test_several_faults_can_meet_in_one_row(bench, row):
    bench.service.fault("wrong_mime", key="b")
    bench.service.fault("wrong_size", key="b")
    [part] = pictures(bench.run([row("b")])["b"])
    assert part["inlineData"]["mimeType"] == "image/jpeg"
    assert opened(part).size == (1344, 768)


# Orders


def test_an_order_nobody_understands_is_refused_whole(bench):
    for order in ({"kind": "bad luck"}, {"kind": "cut", "key": "b"}, {"kind": "no_image", "seconds": 3}):
        reply = bench.http("POST", "/_faults", json=[{"kind": "refused"}, order])
        assert reply.status_code == 400
    assert bench.http("GET", "/_faults").json() == []
    with pytest.raises(ValueError, match="no fault 'bad luck'"):
        bench.service.fault("bad luck")


def test_orders_can_be_looked_at_and_withdrawn(bench, row):
    bench.service.fault("refused", method="create", times=5)
    with pytest.raises(errors.ServerError):
        bench.submit([row("a")])
    [order] = bench.http("GET", "/_faults").json()
    assert (order["kind"], order["method"], order["times"], order["fired"]) == ("refused", "create", 5, 1)
    bench.service.clear_faults()
    assert bench.submit([row("a")])
