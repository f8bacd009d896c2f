"""The Files API, by Google's SDK and by hand."""

import base64
import hashlib

import pytest
from google.genai import errors

pytestmark = pytest.mark.filterwarnings("error")
MIB = 1024**2


def begin(bench, size, **file):
    """Start an upload by hand; the URL to go on with."""
    reply = bench.http(
        "POST",
        "/upload/v1beta/files",
        json={"file": file},
        headers={
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(size),
            "x-goog-upload-header-content-type": "image/png",
        },
    )
    assert reply.headers["x-goog-upload-status"] == "active"
    return reply.headers["x-goog-upload-url"]


def send(bench, url, data, offset, command="upload"):
    headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
    return bench.http("POST", url, content=data, headers=headers)


def received(bench, url):
    reply = bench.http("POST", url, headers={"x-goog-upload-command": "query"})
    return int(reply.headers["x-goog-upload-size-received"])


def test_the_sdk_uploads_a_file_of_more_than_one_chunk(bench):
    data = bytes(range(256)) * (36 * 1024)  # 9 MiB: one whole chunk and a rest
    file = bench.upload(data, display_name="nine")
    assert (file.size_bytes, file.display_name, file.mime_type) == (9 * MIB, "nine", "application/jsonl")
    assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(data).hexdigest()
    assert (file.expiration_time - file.create_time).total_seconds() == 48 * 3600
    assert file.state == "ACTIVE"
    assert file.source == "UPLOADED"


def test_a_name_of_ones_own_is_kept_and_cannot_be_had_twice(bench):
    assert bench.upload(b"x", name="job-00017").name == "files/job-00017"
    with pytest.raises(errors.ClientError) as refusal:
        bench.upload(b"y", name="job-00017")
    assert refusal.value.code == 409
    bench.sdk.files.delete(name="files/job-00017")
    assert bench.upload(b"y", name="job-00017").size_bytes == 1


@pytest.mark.parametrize("name", ["Upper", "-edge", "edge-", "under_score", "a" * 41])
def test_a_malformed_name_is_refused(bench, name):
    reply = bench.http(
        "POST",
        "/upload/v1beta/files",
        json={"file": {"name": f"files/{name}"}},
        headers={"x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start"},
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_files_are_listed_newest_first_page_by_page(bench):
    names = [bench.upload(b"x").name for _ in range(5)]
    assert [file.name for file in bench.sdk.files.list(config={"page_size": 2})] == names[::-1]


def test_a_file_is_gone_after_48_hours_of_the_clock(bench):
    file = bench.upload(b"x")
    bench.service.advance(48 * 3600 - 1)
    assert bench.sdk.files.get(name=file.name).name == file.name
    bench.service.advance(1)
    with pytest.raises(errors.ClientError, match="404"):
        bench.sdk.files.get(name=file.name)
    assert list(bench.sdk.files.list()) == []


def test_a_deleted_file_is_gone(bench):
    file = bench.upload(b"x")
    bench.sdk.files.delete(name=file.name)
    with pytest.raises(errors.ClientError, match="404"):
        bench.sdk.files.get(name=file.name)


def test_another_key_sees_nothing_of_a_file(bench):
    file = bench.upload(b"x")
    other = bench.sdk_of("second-key")
    with pytest.raises(errors.ClientError, match="404"):
        other.files.get(name=file.name)
    with pytest.raises(errors.ClientError, match="404"):
        other.files.delete(name=file.name)
    assert list(other.files.list()) == []


def test_an_uploaded_file_cannot_be_downloaded(bench):
    file = bench.upload(b"x")
    assert bench.http("GET", f"/v1/{file.name}:download?alt=media").status_code == 400


def test_a_broken_upload_goes_on_where_it_was(bench):
    """The first chunk arrived, the client forgot: it asks, continues and finishes."""
    data = hashlib.shake_128(b"seed").digest(8 * MIB + 5)
    url = begin(bench, len(data), display_name="resumed")
    assert send(bench, url, data[: 8 * MIB], 0).headers["x-goog-upload-status"] == "active"
    assert received(bench, url) == 8 * MIB
    reply = send(bench, url, data[8 * MIB :], 8 * MIB, "upload, finalize")
    assert reply.headers["x-goog-upload-status"] == "final"
    digest = base64.b64decode(reply.json()["file"]["sha256Hash"]).decode()
    assert digest == hashlib.sha256(data).hexdigest()


def test_a_finalize_whose_reply_was_lost_can_be_said_again(bench):
    url = begin(bench, 3)
    first = send(bench, url, b"abc", 0, "upload, finalize").json()
    assert send(bench, url, b"abc", 0, "upload, finalize").json() == first


def test_a_wrong_offset_is_refused_and_changes_nothing(bench):
    url = begin(bench, 10)
    reply = send(bench, url, b"abc", 4, "upload, finalize")
    assert reply.status_code == 400
    assert "0 bytes have been received" in reply.json()["error"]["message"]
    assert received(bench, url) == 0


def test_a_chunk_that_is_not_the_last_must_be_whole(bench):
    url = begin(bench, 20 * MIB)
    reply = send(bench, url, b"a" * 1000, 0)
    assert reply.status_code == 400
    assert reply.headers["x-goog-upload-chunk-granularity"] == str(8 * MIB)
    assert received(bench, url) == 0


def test_more_bytes_than_announced_and_fewer_are_refused(bench):
    assert send(bench, begin(bench, 2), b"abc", 0, "upload, finalize").status_code == 400
    assert send(bench, begin(bench, 4), b"abc", 0, "upload, finalize").status_code == 400


def test_the_upload_url_leads_back_to_this_server(bench):
    assert begin(bench, 1).startswith(bench.service.url + "/upload/")


def test_a_cancelled_upload_is_unknown(bench):
    url = begin(bench, 3)
    bench.http("POST", url, headers={"x-goog-upload-command": "cancel"})
    assert send(bench, url, b"abc", 0, "upload, finalize").status_code == 404


def test_too_big_a_file_and_too_full_a_store_are_refused(make_bench):
    bench = make_bench(file_limit=100, storage_limit=150)
    with pytest.raises(errors.ClientError, match="400"):
        bench.upload(b"x" * 101)
    bench.upload(b"x" * 100)
    with pytest.raises(errors.ClientError, match="429"):
        bench.upload(b"x" * 51)
    bench.service.advance(48 * 3600)
    bench.upload(b"x" * 100)


def test_a_key_is_needed(bench):
    reply = bench.http("GET", "/v1/files", headers={"x-goog-api-key": ""})
    assert reply.status_code == 403
    assert reply.json()["error"]["status"] == "PERMISSION_DENIED"
