"""Batch jobs, by Google's SDK."""

import asyncio
import base64
import io
import json
from datetime import timedelta

import pytest
from google.genai import errors, types
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")


def outcome(line):
    return line["response"]["candidates"][0]


def picture(line):
    """The last picture of a line, opened."""
    part = [part for part in outcome(line)["content"]["parts"] if "inlineData" in part][-1]
    image = Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"])))
    image.load()
    assert Image.MIME[image.format] == part["inlineData"]["mimeType"]
    return image


def test_a_job_comes_back_with_a_picture_for_every_row(bench, row):
    lines = bench.run([row(f"row-{number}") for number in range(3)])
    assert set(lines) == {"row-0", "row-1", "row-2"}
    assert all(picture(line).size == (1024, 1024) for line in lines.values())


def test_a_job_goes_through_its_states_by_the_clock_alone(make_bench, row):
    bench = make_bench(queue=(60, 60), run=(100, 100))
    job = bench.submit([row("a")])
    seen = [bench.sdk.batches.get(name=job.name).state.value]
    for seconds in (59, 1, 99, 1):
        bench.service.advance(seconds)
        seen.append(bench.sdk.batches.get(name=job.name).state.value)
    assert [state.removeprefix("JOB_STATE_") for state in seen] == [
        "PENDING",
        "PENDING",
        "RUNNING",
        "RUNNING",
        "SUCCEEDED",
    ]


def test_a_finished_job_looks_on_the_wire_as_the_real_one_does(bench, row):
    job = bench.submit([row("good"), {"key": "bad", "request": {"contents": [], "stray": 1}}], name="wire")
    raw = bench.raw(job.name)
    metadata = raw["metadata"]
    assert metadata["@type"].endswith("generativelanguage.v1main.GenerateContentBatch")
    assert metadata["state"] == "BATCH_STATE_SUCCEEDED"
    assert metadata["displayName"] == "wire"
    assert metadata["model"] == "models/gemini-2.5-flash-image"
    assert metadata["batchStats"] == {
        "requestCount": "2",
        "successfulRequestCount": "1",
        "failedRequestCount": "1",
    }
    assert metadata["createTime"] == "2026-11-21T00:00:00.000000000Z"
    assert raw["done"] is True
    assert raw["response"]["responsesFile"] == metadata["output"]["responsesFile"]
    assert len(raw["response"]["responsesFile"].removeprefix("files/")) > 40


def test_what_is_zero_or_not_yet_true_is_absent(make_bench, row):
    bench = make_bench(queue=(60, 60))
    raw = bench.raw(bench.submit([row("a")]).name)
    assert "done" not in raw
    assert "endTime" not in raw["metadata"]
    assert raw["metadata"]["batchStats"] == {"requestCount": "1", "pendingRequestCount": "1"}


def test_result_files_have_ids_too_long_to_be_looked_up(bench, row):
    name = bench.sdk.batches.get(name=bench.submit([row("a")]).name).dest.file_name
    with pytest.raises(errors.ClientError, match="400"):
        bench.sdk.files.get(name=name)


def test_jobs_are_listed_newest_first_over_pages(bench, row):
    names = [bench.submit([row("a")]).name for _ in range(5)]
    assert [job.name for job in bench.sdk.batches.list(config={"page_size": 2})] == names[::-1]
    first = bench.http("GET", "/v1beta/batches?pageSize=2").json()
    newer = bench.submit([row("a")]).name
    second = bench.http("GET", f"/v1beta/batches?pageSize=2&pageToken={first['nextPageToken']}").json()
    assert newer not in [operation["name"] for operation in second["operations"]]
    assert [operation["name"] for operation in second["operations"]] == names[2:0:-1]


def test_no_jobs_are_an_empty_object(bench):
    assert bench.http("GET", "/v1/batches").json() == {}
    assert list(bench.sdk.batches.list()) == []


def test_create_is_not_idempotent_and_both_are_paid_for(bench, row):
    file = bench.upload(json.dumps(row("a")).encode())
    jobs = [bench.sdk.batches.create(model="gemini-2.5-flash-image", src=file.name) for _ in range(2)]
    assert jobs[0].name != jobs[1].name
    assert [entry["billedRows"] for entry in bench.service.ledger()["jobs"]] == [1, 1]


def test_jobs_are_seen_by_the_key_that_made_them_and_no_other(bench, row):
    job = bench.submit([row("a")])
    result = bench.sdk.batches.get(name=job.name).dest.file_name
    other = bench.sdk_of("second-key")
    for ask in (
        lambda: other.batches.get(name=job.name),
        lambda: other.batches.cancel(name=job.name),
        lambda: other.batches.delete(name=job.name),
        lambda: other.files.download(file=result),
    ):
        with pytest.raises(errors.ClientError, match="404"):
            ask()
    assert list(other.batches.list()) == []


def test_a_cancelled_job_ends_with_code_1_and_costs_nothing(make_bench, row):
    bench = make_bench(queue=(10, 10), run=(100, 100))
    job = bench.submit([row("a")])
    bench.service.advance(50)
    bench.sdk.batches.cancel(name=job.name)
    assert bench.sdk.batches.get(name=job.name).state == types.JobState.JOB_STATE_CANCELLED
    bench.service.advance(1000)
    raw = bench.raw(job.name)
    assert (raw["metadata"]["state"], raw["error"]["code"]) == ("BATCH_STATE_CANCELLED", 1)
    assert bench.service.ledger()["total"]["nanodollars"] == 0


def test_a_job_that_has_ended_cannot_be_cancelled(bench, row):
    job = bench.submit([row("a")])
    bench.sdk.batches.cancel(name=job.name)
    assert bench.sdk.batches.get(name=job.name).state == types.JobState.JOB_STATE_SUCCEEDED


def test_a_deleted_job_is_gone_from_everywhere_but_the_ledger(bench, row):
    job = bench.submit([row("a")])
    bench.sdk.batches.get(name=job.name)
    bench.sdk.batches.delete(name=job.name)
    with pytest.raises(errors.ClientError, match="404"):
        bench.sdk.batches.get(name=job.name)
    assert list(bench.sdk.batches.list()) == []
    assert bench.service.ledger()["total"]["rows"] == 1


def test_a_job_that_never_ends_expires_after_48_hours_with_nothing(make_bench, row):
    bench = make_bench(queue=(49 * 3600, 49 * 3600))
    job = bench.submit([row("a")])
    bench.service.advance(48 * 3600 - 1)
    assert bench.sdk.batches.get(name=job.name).state == types.JobState.JOB_STATE_PENDING
    bench.service.advance(1)
    expired = bench.sdk.batches.get(name=job.name)
    assert (expired.state, expired.dest) == (types.JobState.JOB_STATE_EXPIRED, None)
    assert expired.end_time - expired.create_time == timedelta(hours=48)
    bench.service.advance(10 * 3600)
    assert bench.sdk.batches.get(name=job.name).state == types.JobState.JOB_STATE_EXPIRED
    assert bench.service.ledger()["total"]["nanodollars"] == 0


def test_unknown_and_dead_models_are_not_found(make_bench, row):
    bench = make_bench()
    for model in ("gemini-9-image", "gemini-3-pro-image-preview"):
        with pytest.raises(errors.ClientError, match="404"):
            bench.submit([row("a")], model=model)
    then = make_bench(start="2026-06-24T23:00:00Z")
    assert then.run([row("a")], model="gemini-3-pro-image-preview")


def test_an_input_file_that_is_not_there_is_not_found(bench, row):
    file = bench.upload(json.dumps(row("a")).encode())
    bench.service.advance(48 * 3600)
    for name in (file.name, "files/never-there"):
        with pytest.raises(errors.ClientError, match="404"):
            bench.sdk.batches.create(model="gemini-2.5-flash-image", src=name)
    assert bench.service.ledger()["jobs"] == []


def test_rows_in_the_request_have_a_limit(make_bench, row):
    bench = make_bench(inline_limit=500)
    requests = [{"contents": [{"role": "user", "parts": [{"text": "mug " * 200}]}]}]
    with pytest.raises(errors.ClientError, match="exceeds the limit: 500 bytes"):
        bench.sdk.batches.create(model="gemini-2.5-flash-image", src=requests)
    assert bench.service.ledger()["jobs"] == []


def test_an_input_file_deleted_after_create_still_runs(make_bench, row):
    bench = make_bench(queue=(60, 60))
    job = bench.submit([row("a")])
    bench.sdk.files.delete(name=bench.raw(job.name)["metadata"]["inputConfig"]["fileName"])
    bench.service.advance(60)
    assert b'"key":"a"' in bench.output(job)


def test_the_hundred_and_first_job_at_once_is_refused(make_bench, row):
    bench = make_bench(queue=(60, 60), jobs_limit=2)
    for _ in range(2):
        bench.submit([row("a")])
    with pytest.raises(errors.ClientError, match="429"):
        bench.submit([row("a")])
    bench.service.advance(60)
    bench.submit([row("a")])


def test_a_priority_is_taken_and_shown(bench, row):
    file = bench.upload(json.dumps(row("a")).encode())
    job = bench.sdk.batches.create(
        model="gemini-2.5-flash-image",
        src=file.name,
        config={"http_options": {"extra_body": {"batch": {"priority": "5"}}}},
    )
    assert bench.raw(job.name)["metadata"]["priority"] == "5"


def test_a_stray_field_in_create_is_refused_by_name(bench):
    body = {"batch": {"input_config": {"file_name": "files/x"}, "request_id": "1"}}
    reply = bench.http("POST", "/v1beta/models/gemini-2.5-flash-image:batchGenerateContent", json=body)
    assert reply.status_code == 400
    assert "request_id" in reply.json()["error"]["message"]


def test_an_inline_job_answers_in_the_operation(bench):
    requests = [
        {"contents": [{"role": "user", "parts": [{"text": f"mug {n}"}]}], "metadata": {"key": f"k{n}"}}
        for n in range(3)
    ]
    job = bench.sdk.batches.create(model="gemini-2.5-flash-image", src=requests)
    done = bench.sdk.batches.get(name=job.name)
    assert {answer.metadata["key"] for answer in done.dest.inlined_responses} == {"k0", "k1", "k2"}
    assert all(answer.response.candidates for answer in done.dest.inlined_responses)
    listed = bench.http("GET", "/v1/batches").json()["operations"][0]
    assert "output" not in listed["metadata"]


def test_the_sdk_reads_every_answer_without_its_extra_fields(bench, row):
    """`serviceTier` and `finishMessage` are there for whoever trusts the SDK's types too much."""
    line = bench.run([row("a")])["a"]
    assert line["response"]["usageMetadata"].pop("serviceTier")
    types.GenerateContentResponse.model_validate(line["response"])


def test_both_spellings_and_both_versions_are_understood(bench, row):
    plain = row("a", responseModalities=["IMAGE"], image_config={"aspect_ratio": "16:9"})
    camel = row("b", responseModalities=["Image"], imageConfig={"aspectRatio": "16:9"})
    camel["request"]["generationConfig"] = camel["request"].pop("generation_config")
    lines = bench.run([plain, camel])
    assert picture(lines["a"]).size == picture(lines["b"]).size == (1344, 768)
    file = bench.upload(json.dumps(plain).encode())
    create = "/v1beta/models/gemini-2.5-flash-image:batchGenerateContent"
    body = {"batch": {"display_name": "old", "input_config": {"file_name": file.name}}}
    made = bench.http("POST", create, json=body).json()
    assert bench.http("GET", f"/v1beta/{made['name']}").json()["metadata"]["displayName"] == "old"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thinking_config": {"thinking_level": "HIGH"}}, "no such field: 'thinking_config' at 'request'"),
        (
            {"generation_config": {"system_instruction": {}}},
            "no such field: 'system_instruction' at 'request.gen",
        ),
        ({"generation_config": {"imageConfig": {"imagesize": "2K"}}}, "no such field: 'imagesize'"),
        ({"generation_config": {"imageConfig": {"imageSize": "2k"}}}, "'2k' is not one of"),
        ({"generation_config": {"imageConfig": {"aspectRatio": "7:5"}}}, "'7:5' is not one of"),
        ({"generation_config": {"thinkingConfig": {"thinkingLevel": "EXTREME"}}}, "'EXTREME'"),
        ({"generation_config": {"candidateCount": 2}}, "only one candidate"),
        ({"generation_config": {"responseModalities": ["VIDEO"]}}, "VIDEO"),
        ({"contents": []}, "'request.contents' is empty"),
        ({"contents": [{"parts": [{"text": ""}]}]}, "parts[0].text' is empty"),
        ({"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "%"}}]}]}, "not base64"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}]},
            "no picture",
        ),
        (
            {"contents": [{"parts": [{"fileData": {"mimeType": "image/png", "fileUri": "files/x"}}]}]},
            "Cannot fetch",
        ),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "valid roles"),
        ({"generation_config": {"seed": "seven"}}, "generationConfig.seed"),
    ],
)
def test_a_line_the_service_would_refuse_names_its_number_and_field(bench, row, change, words):
    bad = row("bad")
    bad["request"] |= change
    lines = bench.run([row("good"), bad], model="gemini-3-pro-image")
    assert lines["bad"]["error"]["code"] == 3
    assert lines["bad"]["error"]["message"].startswith("line 2: ")
    assert words in lines["bad"]["error"]["message"]
    assert picture(lines["good"])


def test_a_lenient_service_ignores_what_it_does_not_know_and_what_it_asked_for(make_bench, row):
    bench = make_bench(lenient=True)
    bad = row("a")
    bad["request"]["imageConfig"] = {"aspectRatio": "16:9"}
    assert picture(bench.run([bad])["a"]).size == (1024, 1024)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"key":"a","request":{}}', '{"key":"a","request":{}}'], "duplicate key 'a'"),
        (["not json"], "line 1: not JSON"),
        (["[1]"], "not a JSON object"),
        (['{"key":7,"request":{}}'], "key 7 is not a string"),
        (["", " "], "no lines"),
    ],
)
def test_an_input_that_cannot_be_told_apart_fails_the_whole_job(bench, lines, words):
    file = bench.upload("\n".join(lines).encode())
    job = bench.sdk.batches.create(model="gemini-2.5-flash-image", src=file.name)
    raw = bench.raw(job.name)
    assert raw["metadata"]["state"] == "BATCH_STATE_FAILED"
    assert words in raw["error"]["message"]
    assert bench.service.ledger()["total"]["nanodollars"] == 0


def test_a_reference_that_died_in_the_queue_fails_its_row(make_bench, row):
    bench = make_bench(queue=(3600, 3600))
    reference = bench.picture((10, 200, 30))
    bench.service.advance(47.5 * 3600)
    job = bench.submit([row("late", "a mug", reference), row("fine")])
    bench.service.advance(3600)
    lines = {line["key"]: line for line in map(json.loads, bench.output(job).splitlines())}
    assert lines["late"]["error"]["code"] == 7
    assert reference.name in lines["late"]["error"]["message"]
    assert picture(lines["fine"])


def test_a_model_that_thinks_wants_its_picture_back_with_its_signature(bench, row):
    first = bench.run([row("a")], model="gemini-3-pro-image")["a"]
    said = outcome(first)["content"]
    bare = {
        "role": "model",
        "parts": [
            {name: part[name] for name in part if name != "thoughtSignature"} for part in said["parts"]
        ],
    }
    follow = {"role": "user", "parts": [{"text": "now in blue"}]}
    question = row("a")["request"]["contents"][0]
    rows = [
        {"key": "signed", "request": {"contents": [question, said, follow]}},
        {"key": "bare", "request": {"contents": [question, bare, follow]}},
    ]
    lines = bench.run(rows, model="gemini-3-pro-image")
    assert picture(lines["signed"])
    assert "thought_signature" in lines["bare"]["error"]["message"]


@pytest.mark.parametrize("model", ["gemini-3-pro-image", "gemini-3.1-flash-image"])
@pytest.mark.parametrize("settings", [{"picture_bytes": 300_000}, {"c2pa": True}], ids=["heavy", "marked"])
def test_a_picture_is_known_by_its_signature_whatever_it_weighs(make_bench, row, model, settings):
    bench = make_bench(**settings)
    said = outcome(bench.run([row("a")], model=model)["a"])["content"]
    turn = {"role": "user", "parts": [{"text": "now in blue"}]}
    again = bench.run([{"key": "b", "request": {"contents": [turn, said, turn]}}], model=model)
    assert picture(again["b"])


def test_a_signature_is_good_for_its_own_part_and_for_no_other(bench, row):
    """Another picture's is refused, another text's, and one that nobody gave; in whatever turn they stand."""
    bench.service.fault("two_pictures")
    first = bench.run([row("a"), row("b", "a blue cup")], model="gemini-3-pro-image")
    said, other = (outcome(first[key])["content"] for key in "ab")
    shown = next(place for place, part in enumerate(said["parts"]) if "inlineData" in part)
    bench.service.clear_faults()

    def asked(place, signature):
        parts = [
            {**part, "thoughtSignature": signature} if n == place else part
            for n, part in enumerate(said["parts"])
        ]
        turn = {"role": "user", "parts": [{"text": "now in blue"}]}
        return {"contents": [turn, {"role": "model", "parts": parts}, turn]}

    pictures = [part for part in said["parts"] if "inlineData" in part]
    foreign = next(part for part in other["parts"] if "inlineData" in part)
    wrong = {
        "invented": "AAAA" * 40,
        "second": pictures[-1]["thoughtSignature"],
        "foreign": foreign["thoughtSignature"],
    }
    rows = [{"key": key, "request": asked(shown, signature)} for key, signature in wrong.items()]
    good = asked(shown, said["parts"][shown]["thoughtSignature"])
    lines = bench.run([*rows, {"key": "own", "request": good}], model="gemini-3-pro-image")
    assert picture(lines["own"])
    for key in wrong:
        told = lines[key]["error"]["message"]
        assert f"thought signature in content position 2, part position {shown + 1}" in told


def test_the_words_that_a_thinking_model_begins_with_are_signed_and_those_between_are_not(bench, row):
    bench.service.fault("two_pictures")
    first = bench.run([row(f"{n}", f"a mug, the {n}th") for n in range(6)], model="gemini-3-pro-image")
    said = next(
        content
        for content in (outcome(line)["content"] for line in first.values())
        if "text" in content["parts"][0]
    )
    assert ["thoughtSignature" in part for part in said["parts"]] == [True, True, False, True]
    bench.service.clear_faults()
    turn = {"role": "user", "parts": [{"text": "now in blue"}]}

    def told(parts):
        return {"contents": [turn, {"role": "model", "parts": parts}, turn]}

    unsigned = [{"text": said["parts"][0]["text"]}, *said["parts"][1:]]
    changed = [{**said["parts"][0], "text": "Something else"}, *said["parts"][1:]]
    rows = {"own": said["parts"], "unsigned": unsigned, "changed": changed}
    lines = bench.run(
        [{"key": key, "request": told(parts)} for key, parts in rows.items()], model="gemini-3-pro-image"
    )
    assert picture(lines["own"])
    assert "Text part is missing a thought_signature" in lines["unsigned"]["error"]["message"]
    assert "Corrupted thought signature" in lines["changed"]["error"]["message"]


def test_a_job_waits_and_runs_as_long_as_its_seed_says(make_bench, row):
    """Drawn from the ranges, the same for the same seed, another for another."""

    def times(seed):
        bench = make_bench(seed=seed, queue=(20, 90), run=(60, 300))
        jobs = [bench.submit([row("a")]) for _ in range(3)]
        bench.service.advance(400)
        ends = [bench.sdk.batches.get(name=job.name) for job in jobs]
        return [(job.end_time - job.create_time).total_seconds() for job in ends]

    assert times(1) == times(1) != times(2)
    assert all(80 <= seconds <= 390 for seconds in times(1))
    assert len(set(times(1))) == 3


def test_the_asynchronous_client_can_do_all_of_it(make_bench, row):
    bench = make_bench(queue=(60, 60), run=(60, 60))
    rows = b"".join(json.dumps(row(f"{n}")).encode() + b"\n" for n in range(2))

    async def night(client):
        async with client.aio as aio:
            config = {"mime_type": "application/jsonl"}
            file = await aio.files.upload(file=io.BytesIO(rows), config=config)
            assert (await aio.files.get(name=file.name)).size_bytes == len(rows)
            model = "gemini-2.5-flash-image"
            job, other = [await aio.batches.create(model=model, src=file.name) for _ in range(2)]
            await aio.batches.cancel(name=other.name)
            await aio.batches.delete(name=other.name)
            bench.service.advance(120)
            assert [found.name async for found in await aio.batches.list()] == [job.name]
            done = await aio.batches.get(name=job.name)
            result = await aio.files.download(file=done.dest.file_name)
            assert [found.name async for found in await aio.files.list()] == [file.name]
            await aio.files.delete(name=file.name)
            return result

    lines = asyncio.run(night(bench.sdk)).splitlines()
    assert {json.loads(line)["key"] for line in lines} == {"0", "1"}
