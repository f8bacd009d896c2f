"""Our Cloud Storage behaves as Google's does, asked over HTTP by hand and by Google's own client."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google_crc32c
import pytest
import requests
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.retry import DEFAULT_RETRY
from starlette.applications import Starlette

from pipeline.emulator.gcs import CloudStorage
from tests.servers import serve

GRANULE = 256 * 1024
NOW = datetime(2026, 11, 21, 22, 30, 5, 250_000, tzinfo=UTC)


@dataclass
class Service:
    """The emulator as a client sees it, with one bucket."""

    url: str
    cloud: CloudStorage
    session: requests.Session

    @property
    def uploads(self) -> str:
        return f"{self.url}/upload/storage/v1/b/shoes/o"

    def object(self, name: str) -> str:
        return f"{self.url}/storage/v1/b/shoes/o/{quote(name, safe='')}"

    def put(self, name: str, data: bytes, **query: Any) -> requests.Response:
        query = {"uploadType": "media", "name": name, **query}
        return self.session.post(self.uploads, params=query, data=data, timeout=10)

    def get(self, name: str, *, span: str | None = None, **query: Any) -> requests.Response:
        headers = {} if span is None else {"range": span}
        query = {"alt": "media", **query}
        return self.session.get(self.object(name), params=query, headers=headers, timeout=10)

    def list(self, **query: Any) -> dict[str, Any]:
        answer = self.session.get(f"{self.url}/storage/v1/b/shoes/o", params=query, timeout=10)
        listed: dict[str, Any] = answer.json()
        return listed

    def start(self, name: str, **query: Any) -> requests.Response:
        query = {"uploadType": "resumable", "name": name, **query}
        return self.session.post(self.uploads, params=query, json={}, timeout=10)

    def send(self, session: str, data: bytes, span: str, **headers: str) -> requests.Response:
        return self.session.put(session, data=data, headers={"content-range": span, **headers}, timeout=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    cloud = CloudStorage(lambda: NOW)
    with serve(Starlette(routes=cloud.routes)) as url, requests.Session() as session:
        yield Service(url, cloud, session)


@pytest.fixture
def service(server: Service) -> Service:
    server.cloud.objects.buckets.clear()
    server.cloud.objects.create_bucket("shoes")
    server.cloud.faults.waiting.clear()
    server.cloud.faults.happened.clear()
    return server


@pytest.fixture
def bucket(service: Service, monkeypatch: pytest.MonkeyPatch) -> storage.Bucket:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    return storage.Client(project=None).bucket("shoes")


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def test_an_objects_metadata_is_what_google_says_of_it(service: Service) -> None:
    made = service.put("a b/ü?.jpg", b"picture").json()

    assert made == service.session.get(service.object("a b/ü?.jpg"), timeout=10).json()
    assert made["name"] == "a b/ü?.jpg"
    assert made["size"] == "7"
    assert made["crc32c"] == crc32c(b"picture")
    assert made["md5Hash"] == base64.b64encode(hashlib.md5(b"picture").digest()).decode()
    assert made["metageneration"] == "1"
    assert made["timeCreated"] == "2026-11-21T22:30:05.250Z"
    assert service.session.get(made["mediaLink"], timeout=10).content == b"picture"


def test_whoever_asks_what_it_may_do_is_told_everything(service: Service) -> None:
    path = f"{service.url}/storage/v1/b/shoes/iam/testPermissions"
    asked = ["storage.objects.create", "storage.objects.list"]
    answer = service.session.get(path, params={"permissions": asked}, timeout=10)
    assert answer.json()["permissions"] == asked
    path = path.replace("/shoes/", "/nobodys/")
    assert service.session.get(path, params={"permissions": asked}, timeout=10).status_code == 404


def test_every_write_is_a_new_generation(service: Service) -> None:
    """Also in one moment of a clock that stands still; the old one is gone."""
    first, second = (service.put("a", data).json()["generation"] for data in (b"1", b"2"))

    assert int(first) < int(second)
    assert service.get("a", generation=second).content == b"2"
    assert service.get("a", generation=first).status_code == 404


@pytest.mark.parametrize(
    ("span", "status", "body", "said"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=4-2", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(
    service: Service, span: str | None, status: int, body: bytes | None, said: str | None
) -> None:
    service.put("a", b"0123456789")

    answer = service.get("a", span=span)

    assert answer.status_code == status
    assert answer.headers.get("content-range") == said
    if body is not None:
        assert answer.content == body
        assert answer.headers["x-goog-hash"].startswith(f"crc32c={crc32c(b'0123456789')},md5=")
        assert answer.headers["x-goog-stored-content-length"] == "10"


def test_preconditions_on_every_verb(service: Service) -> None:
    generation = service.put("a", b"1", ifGenerationMatch=0).json()["generation"]
    stale = str(int(generation) - 1)
    url = service.object("a")

    def status(method: str, **query: str | int) -> int:
        return service.session.request(method, url, params=query, json={}, timeout=10).status_code

    assert service.put("a", b"2", ifGenerationMatch=0).status_code == 412
    assert service.put("a", b"2", ifGenerationMatch=stale).status_code == 412
    assert service.put("a", b"2", ifMetagenerationMatch=7).status_code == 412
    assert service.put("new", b"2", ifGenerationNotMatch=0).status_code == 412
    assert service.put("new", b"2", ifGenerationMatch=generation).status_code == 412
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert status(method, ifGenerationMatch=stale) == 412
        assert status(method, ifMetagenerationMatch=9) == 412
    assert status("GET", ifGenerationNotMatch=generation) == 304
    assert status("DELETE", ifGenerationNotMatch=generation) == 412
    assert status("GET", ifGenerationMatch="new") == 400
    assert service.get("a").content == b"1"

    assert service.put("a", b"2", ifGenerationMatch=generation).status_code == 200
    assert status("DELETE", ifMetagenerationMatch=1) == 204
    assert status("GET") == 404


def test_of_sixteen_uploads_one_is_the_first(service: Service) -> None:
    """In one request, and in sessions that all began while the name was free."""
    with ThreadPoolExecutor(16) as pool:
        numbers = [b"%d" % number for number in range(16)]
        alone = list(pool.map(lambda data: service.put("a", data, ifGenerationMatch=0).status_code, numbers))
        sessions = [service.start("b", ifGenerationMatch=0).headers["location"] for _ in range(16)]
        ended = list(pool.map(lambda url: service.send(url, b"12", "bytes 0-1/2").status_code, sessions))

    assert sorted(alone) == sorted(ended) == [200] + [412] * 15


def test_a_session_is_refused_at_its_start_and_at_its_end(service: Service) -> None:
    session = service.start("a", ifGenerationMatch=0).headers["location"]
    service.put("a", b"faster")

    assert service.start("a", ifGenerationMatch=0).status_code == 412
    assert service.send(session, b"slow", "bytes 0-3/4").status_code == 412
    assert service.send(session, b"slow", "bytes 0-3/4").status_code == 412
    assert service.get("a").content == b"faster"


def test_a_session_takes_whole_granules_and_says_how_far_it_is(service: Service) -> None:
    """Nothing shows before the last byte; a query afterwards tells again what became of it."""
    data = bytes(range(256)) * 3000  # 768,000 bytes
    session = service.start("a").headers["location"]

    nothing = service.send(session, b"", "bytes */*")
    assert (nothing.status_code, nothing.headers.get("range")) == (308, None)

    first = service.send(session, data[:300_000], "bytes 0-299999/*")
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{GRANULE - 1}")
    asked = service.send(session, b"", f"bytes */{len(data)}")
    assert (asked.status_code, asked.headers["range"]) == (308, f"bytes=0-{GRANULE - 1}")
    assert service.get("a").status_code == 404

    gap = service.send(session, data[300_000:], f"bytes 300000-{len(data) - 1}/{len(data)}")
    assert gap.status_code == 400
    # From a little before: what is there already is not taken twice.
    rest = service.send(session, data[200_000:], f"bytes 200000-{len(data) - 1}/{len(data)}")
    assert rest.status_code == 200
    assert service.send(session, b"", "bytes */*").json() == rest.json()
    assert service.get("a").content == data


def test_a_cut_request_leaves_what_came(service: Service) -> None:
    """As far as it is whole granules; the rest is sent again."""
    data = bytes(1_000_000)
    session = service.start("a").headers["location"]

    def breaking() -> Iterator[bytes]:
        yield data[: GRANULE + 1000]
        raise InterruptedError

    with pytest.raises(requests.ConnectionError):
        service.session.put(session, data=breaking(), headers={"content-range": "bytes 0-999999/1000000"})
    received = service.send(session, b"", "bytes */1000000").headers.get("range", "bytes=0--1")
    start = int(received.rpartition("-")[2]) + 1 if received != "bytes=0--1" else 0
    done = service.send(session, data[start:], f"bytes {start}-999999/1000000")

    assert start in (0, GRANULE)
    assert done.status_code == 200
    assert service.get("a").content == data


def test_a_session_can_be_empty_cancelled_or_unknown(service: Service) -> None:
    empty = service.start("empty").headers["location"]
    assert service.send(empty, b"", "bytes */0").status_code == 200
    assert service.get("empty").content == b""

    cancelled = service.start("a").headers["location"]
    assert service.session.delete(cancelled, timeout=10).status_code == 499
    assert service.send(cancelled, b"x", "bytes 0-0/1").status_code == 404


def test_more_than_was_announced_is_refused(service: Service) -> None:
    session = service.start("a").headers["location"]
    service.send(session, b"", "bytes */10")

    assert service.send(session, bytes(20), "bytes 0-19/20").status_code == 400
    assert service.get("a").status_code == 404


@pytest.mark.parametrize("wrong", [{"crc32c": "AAAAAA=="}, {"md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}])
def test_bytes_that_do_not_match_their_checksum_are_refused(service: Service, wrong: dict[str, str]) -> None:
    """Nothing is stored, whichever way they come and wherever the checksum is declared."""
    body = (
        b"--x\r\ncontent-type: application/json\r\n\r\n"
        + json.dumps({"name": "a", **wrong}).encode()
        + b"\r\n--x\r\ncontent-type: image/png\r\n\r\npicture\r\n--x--"
    )
    kind = {"content-type": "multipart/related; boundary=x"}
    multipart = service.session.post(
        service.uploads, params={"uploadType": "multipart"}, data=body, headers=kind, timeout=10
    )
    declared = ",".join(f"{name.removesuffix('Hash')}={value}" for name, value in wrong.items())
    media = service.session.post(
        service.uploads,
        params={"uploadType": "media", "name": "a"},
        data=b"picture",
        headers={"x-goog-hash": declared},
        timeout=10,
    )
    session = service.start("a").headers["location"]
    resumed = service.send(session, b"picture", "bytes 0-6/7", **{"x-goog-hash": declared})

    assert [multipart.status_code, media.status_code, resumed.status_code] == [400, 400, 400]
    assert "doesn't match calculated" in multipart.json()["error"]["message"]
    assert service.get("a").status_code == 404


def test_a_multipart_body_may_hold_anything(service: Service) -> None:
    """Also its own boundary without the dashes, blank lines, and nothing at all."""
    for media in (b"\r\n\r\n--\r\n\r\n", b"", b"x" * 1_500_000, b"--\n", b"\r\n"):
        body = b'--x\r\n\r\n{"name": "a"}\r\n--x\r\ncontent-type: image/png\r\n\r\n' + media + b"\r\n--x--"
        made = service.session.post(
            service.uploads,
            params={"uploadType": "multipart"},
            data=body,
            headers={"content-type": 'multipart/related; boundary="x"'},
            timeout=10,
        )
        assert made.json()["contentType"] == "image/png"
        assert service.get("a").content == media


@pytest.mark.parametrize("body", [b"", b"--x\r\n\r\n{}", b"--x\r\n\r\nno json\r\n--x\r\n\r\n1\r\n--x--"])
def test_a_broken_multipart_body_is_a_bad_request(service: Service, body: bytes) -> None:
    answer = service.session.post(
        service.uploads,
        params={"uploadType": "multipart"},
        data=body,
        headers={"content-type": "multipart/related; boundary=x"},
        timeout=10,
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("name", ["", "..", "a\nb", "x" * 1025])
def test_names_google_refuses_are_refused(service: Service, name: str) -> None:
    assert service.put(name, b"").status_code == 400


def test_a_listing_has_pages_of_a_thousand_at_most(service: Service) -> None:
    for number in range(1_005):
        service.put(f"{number:04}", b"")

    first = service.list(maxResults=5000)
    second = service.list(pageToken=first["nextPageToken"])
    small = service.list(maxResults=2, startOffset="0003", endOffset="0006")

    assert [len(first["items"]), len(second["items"])] == [1000, 5]
    assert "nextPageToken" not in second
    assert [item["name"] for item in small["items"]] == ["0003", "0004"]
    last = service.list(maxResults=2, startOffset="0003", endOffset="0006", pageToken=small["nextPageToken"])
    assert [item["name"] for item in last["items"]] == ["0005"]


def test_a_delimiter_folds_names_into_prefixes(service: Service) -> None:
    for name in ("a-b", "a/1", "a/2/3", "b", "ä/1", "a/2/4"):
        service.put(name, b"")

    top = service.list(delimiter="/")
    below = service.list(delimiter="/", prefix="a/")
    pages = [service.list(delimiter="/", maxResults=1)]
    while "nextPageToken" in pages[-1]:
        pages.append(service.list(delimiter="/", maxResults=1, pageToken=pages[-1]["nextPageToken"]))

    assert [item["name"] for item in top["items"]] == ["a-b", "b"]
    assert top["prefixes"] == ["a/", "ä/"]
    assert ([item["name"] for item in below["items"]], below["prefixes"]) == (["a/1"], ["a/2/"])
    folded = [name for page in pages for name in page.get("prefixes", [])]
    assert (len(pages), folded) == (4, ["a/", "ä/"])


def test_a_listing_does_not_pretend_to_know_what_it_does_not(service: Service) -> None:
    assert service.list(softDeleted="true")["error"]["code"] == 400
    assert service.list(pageToken="zz")["error"]["code"] == 400


def test_metadata_changes_and_the_bytes_do_not(service: Service) -> None:
    service.put("a", b"picture")
    url = service.object("a")

    service.session.patch(
        url, json={"metadata": {"x": "1", "y": "2"}, "cacheControl": "no-store"}, timeout=10
    )
    patched = service.session.patch(url, json={"metadata": {"x": None}}, timeout=10).json()
    updated = service.session.put(url, json={"contentType": "image/png"}, timeout=10).json()

    assert patched["metadata"] == {"y": "2"}
    assert (patched["cacheControl"], patched["metageneration"]) == ("no-store", "3")
    assert (updated["contentType"], updated["metageneration"]) == ("image/png", "4")
    assert "metadata" not in updated
    assert service.get("a").content == b"picture"


def test_buckets(service: Service) -> None:
    url = f"{service.url}/storage/v1/b"

    assert service.session.post(url, json={"name": "hats"}, timeout=10).json()["name"] == "hats"
    assert service.session.post(url, json={"name": "hats"}, timeout=10).status_code == 409
    assert service.session.post(url, json={"name": "x"}, timeout=10).status_code == 400
    names = [item["name"] for item in service.session.get(url, timeout=10).json()["items"]]
    assert names == ["hats", "shoes"]
    assert service.session.get(f"{url}/hats", timeout=10).json()["kind"] == "storage#bucket"
    service.put("a", b"")
    assert service.session.delete(f"{url}/shoes", timeout=10).status_code == 409
    assert service.session.delete(f"{url}/hats", timeout=10).status_code == 204
    assert service.session.get(f"{url}/hats", timeout=10).status_code == 404
    missing = service.session.get(f"{url}/hats/o", timeout=10)
    assert missing.json()["error"]["message"] == "The specified bucket does not exist."


def test_large_bodies_are_on_disk_as_long_as_somebody_can_ask_for_them(service: Service) -> None:
    service.put("a", bytes(1_500_000))
    held = service.cloud.objects.find("shoes", "a").body.held
    assert isinstance(held, Path)
    assert held.stat().st_size == 1_500_000

    with service.session.get(
        service.object("a"), params={"alt": "media"}, stream=True, timeout=10
    ) as reading:
        service.put("a", b"small")
        assert not held.exists()
        assert reading.content == bytes(1_500_000)


def test_a_refused_large_body_leaves_nothing_on_disk(service: Service) -> None:
    service.put("a", b"first")
    folder = Path(service.cloud.objects._spool.name)
    before = set(folder.iterdir())

    assert service.put("a", bytes(1_500_000), ifGenerationMatch=0).status_code == 412

    assert set(folder.iterdir()) == before


def test_faults_are_put_in_line_over_http_and_seen_afterwards(service: Service) -> None:
    url = f"{service.url}/_gcs/faults"
    service.session.post(url, json={"on": "insert", "fault": 503, "times": 2, "name": "a"}, timeout=10)
    service.session.post(url, json=[{"on": "insert", "fault": "429", "skip": 1}], timeout=10)

    assert service.put("b", b"").status_code == 200
    assert [service.put("a", b"").status_code for _ in range(3)] == [503, 503, 429]
    assert service.put("a", b"").status_code == 200

    seen = service.session.get(url, timeout=10).json()
    assert [one["fault"] for one in seen["happened"]] == ["503", "503", "429"]
    assert seen["waiting"] == []
    service.session.delete(url, timeout=10)
    assert service.session.get(url, timeout=10).json() == {"waiting": [], "happened": []}


@pytest.mark.parametrize(
    "fault", [{}, {"on": "insert"}, {"on": "tea", "fault": "503"}, {"on": "get", "fault": "503", "x": 1}]
)
def test_a_fault_that_does_not_exist_is_refused(service: Service, fault: dict[str, Any]) -> None:
    assert service.session.post(f"{service.url}/_gcs/faults", json=fault, timeout=10).status_code == 400


def test_a_reset_before_leaves_nothing_and_a_lost_answer_leaves_all(service: Service) -> None:
    service.cloud.faults.add("insert", "reset", name="a")
    service.cloud.faults.add("insert", "lost", name="b")

    for name in ("a", "b"):
        with pytest.raises(requests.ConnectionError):
            requests.post(
                service.uploads, params={"uploadType": "media", "name": name}, data=b"1", timeout=10
            )

    assert service.get("a").status_code == 404
    assert service.get("b").content == b"1"


def test_a_cut_answer_ends_where_it_was_told_to(service: Service) -> None:
    service.put("a", bytes(500_000))
    service.cloud.faults.add("get", "cut", after=123_456)
    got: list[bytes] = []

    answer = requests.get(service.object("a"), params={"alt": "media"}, stream=True, timeout=10)
    with answer, pytest.raises(requests.exceptions.ChunkedEncodingError):
        got.extend(answer.iter_content(1000))

    assert answer.status_code == 200
    assert 122_000 < sum(map(len, got)) <= 123_456


def test_googles_client_finds_everything_where_it_expects_it(bucket: storage.Bucket) -> None:
    """Small uploads and large ones of unknown size, in pieces; downloads, listing, metadata, delete."""
    small, large = bucket.blob("a/small"), bucket.blob("a/large", chunk_size=GRANULE)
    small.upload_from_string(b"text", content_type="text/plain", if_generation_match=0)
    with large.open("wb", chunk_size=GRANULE) as file:
        for _ in range(30):
            file.write(bytes(100_000))

    with pytest.raises(PreconditionFailed):
        small.upload_from_string(b"other", if_generation_match=0)
    assert small.download_as_bytes(checksum="md5") == b"text"
    assert bucket.blob("a/large").download_as_bytes() == bytes(3_000_000)
    assert large.download_as_bytes(start=10, end=19) == bytes(10)
    with large.open("rb", chunk_size=GRANULE) as file:
        assert len(file.read()) == 3_000_000

    listed = list(bucket.client.list_blobs("shoes", prefix="a/", page_size=1))
    assert [(blob.name, blob.size) for blob in listed] == [("a/large", 3_000_000), ("a/small", 4)]
    small.metadata = {"shot": "hero"}
    small.patch()
    small.reload()
    assert (small.metadata, small.metageneration, small.content_type) == ({"shot": "hero"}, 2, "text/plain")
    small.delete(if_generation_match=small.generation)
    with pytest.raises(NotFound):
        small.reload()


def test_googles_client_makes_objects_from_objects(bucket: storage.Bucket) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(name * 3, content_type="text/plain")
    whole = bucket.blob("ab")
    whole.compose([bucket.blob("a"), bucket.blob("b")], if_generation_match=0)
    assert (whole.download_as_bytes(), whole.component_count, whole.md5_hash) == (b"aaabbb", 2, None)
    with pytest.raises(PreconditionFailed):
        whole.compose([bucket.blob("a")], if_generation_match=0)
    with pytest.raises(BadRequest):
        bucket.blob("many").compose([bucket.blob("a")] * 33)
    copied = bucket.copy_blob(bucket.blob("a"), bucket, "folder/copy")
    assert (copied.download_as_bytes(), copied.content_type) == (b"aaa", "text/plain")
    token, written, size = bucket.blob("rewritten").rewrite(bucket.blob("b"))
    assert (token, written, size) == (None, 3, 3)
    moved = bucket.move_blob(bucket.blob("b"), "moved/b")
    assert moved.download_as_bytes() == b"bbb"
    assert not bucket.blob("b").exists()


def test_googles_client_deletes_many_in_one_call(bucket: storage.Bucket) -> None:
    for number in range(5):
        bucket.blob(f"n/{number} ä").upload_from_string(b"x")
    with bucket.client.batch(raise_exception=False) as batch:
        for number in (0, 1, 9):
            bucket.blob(f"n/{number} ä").delete()
    assert [answer.status_code for answer in batch._responses] == [204, 204, 404]
    assert [blob.name for blob in bucket.list_blobs(prefix="n/")] == ["n/2 ä", "n/3 ä", "n/4 ä"]


def test_a_listing_can_be_chosen_by_pattern_and_cut_to_some_fields(
    service: Service, bucket: storage.Bucket
) -> None:
    for name in ("a/1.jsonl", "a/b/2.jsonl", "a/b/3.txt", "c[1]"):
        bucket.blob(name).upload_from_string(b"x")
    found = {
        pattern: [blob.name for blob in bucket.list_blobs(match_glob=pattern)]
        for pattern in ("**.jsonl", "a/*.jsonl", "a/**/?.{jsonl,txt}", "c[[]1]", "[!a]*")
    }
    assert found == {
        "**.jsonl": ["a/1.jsonl", "a/b/2.jsonl"],
        "a/*.jsonl": ["a/1.jsonl"],
        "a/**/?.{jsonl,txt}": ["a/b/2.jsonl", "a/b/3.txt"],
        "c[[]1]": ["c[1]"],
        "[!a]*": ["c[1]"],
    }
    assert service.list(prefix="c", fields="items(name,size)") == {"items": [{"name": "c[1]", "size": "1"}]}
    assert service.list(prefix="c", fields="items/name") == {"items": [{"name": "c[1]"}]}


def test_googles_client_uploads_and_downloads_large_files_in_parts(
    bucket: storage.Bucket, tmp_path: Path
) -> None:
    """The uploads in parts are the XML API's."""
    data = bytes(range(256)) * 48 * 1024
    (tmp_path / "in").write_bytes(data)
    blob = bucket.blob("large")
    options: dict[str, Any] = {"worker_type": transfer_manager.THREAD, "max_workers": 3}
    transfer_manager.upload_chunks_concurrently(
        str(tmp_path / "in"), blob, chunk_size=5 * 1024**2, content_type="image/png", **options
    )
    blob.reload()
    assert (blob.size, blob.content_type) == (len(data), "image/png")
    transfer_manager.download_chunks_concurrently(
        blob, str(tmp_path / "out"), chunk_size=4 * 1024**2, **options
    )
    assert (tmp_path / "out").read_bytes() == data


def test_packed_objects_are_unpacked_for_who_does_not_ask_for_them_packed(
    service: Service, bucket: storage.Bucket
) -> None:
    packed = gzip.compress(b"words " * 100, mtime=0)
    blob = bucket.blob("words.txt")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed, content_type="text/plain")
    assert blob.download_as_bytes() == b"words " * 100
    assert blob.download_as_bytes(raw_download=True) == packed
    plain = service.session.get(
        service.object("words.txt"), params={"alt": "media"}, headers={"accept-encoding": ""}, timeout=10
    )
    assert plain.content == b"words " * 100


def test_a_signed_address_can_be_written_to_and_read_from(service: Service, bucket: storage.Bucket) -> None:
    address = f"{service.url}/shoes/a/b%20c"
    signed = {"X-Goog-Algorithm": "GOOG4-RSA-SHA256", "X-Goog-Expires": "900", "X-Goog-Signature": "00"}
    headers = {"content-type": "text/plain", "x-goog-if-generation-match": "0", "x-goog-meta-row": "7"}
    first = service.session.put(address, params=signed, data=b"bytes", headers=headers, timeout=10)
    second = service.session.put(address, params=signed, data=b"other", headers=headers, timeout=10)
    assert (first.status_code, second.status_code) == (200, 412)
    assert "<Code>PreconditionFailed</Code>" in second.text
    blob = bucket.get_blob("a/b c")
    assert blob is not None
    assert (blob.download_as_bytes(), blob.metadata) == (b"bytes", {"row": "7"})
    read = service.session.get(address, params=signed, headers={"range": "bytes=1-2"}, timeout=10)
    assert (read.status_code, read.content) == (206, b"yt")
    head = service.session.head(address, timeout=10)
    assert (head.headers["x-goog-stored-content-length"], head.content) == ("5", b"")
    listed = service.session.get(f"{service.url}/shoes", params={"list-type": "2"}, timeout=10)
    assert "<Key>a/b c</Key>" in listed.text
    assert service.session.delete(address, timeout=10).status_code == 204
    assert service.session.get(address, timeout=10).status_code == 404


def test_googles_client_resumes_an_upload_that_broke(service: Service, bucket: storage.Bucket) -> None:
    service.cloud.faults.add("insert", 503, skip=1)
    service.cloud.faults.add("insert", "reset", skip=2)
    service.cloud.faults.add("insert", "lost", skip=3)
    blob = bucket.blob("a", chunk_size=GRANULE)

    blob.upload_from_string(bytes(9_000_000), retry=DEFAULT_RETRY.with_delay(initial=0.01))

    assert [one["fault"] for one in service.cloud.faults.happened] == ["503", "reset", "lost"]
    assert blob.download_as_bytes() == bytes(9_000_000)


def test_two_identical_sequences_of_calls_give_identical_answers(service: Service) -> None:
    """On any port: what a client sees depends on the calls and the clock alone."""

    def sequence() -> list[Any]:
        cloud = CloudStorage(lambda: NOW, buckets=["shoes"])
        with serve(Starlette(routes=cloud.routes)) as url, requests.Session() as session:
            here = Service(url, cloud, session)
            answers = [here.put(name, name.encode()).json() for name in ("a", "b", "a")]
            text = json.dumps([*answers, here.list()])
        return [text.replace(url, "")]

    assert sequence() == sequence()
