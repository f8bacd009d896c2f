"""What a bucket promises beyond the contract: misfortune on the way, and words for it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from pipeline.emulator.gcs import CloudStorage
from pipeline.emulator.gcs_objects import Conditions
from pipeline.errors import BadInput, Corrupt, Denied, Unavailable
from pipeline.storage import AlreadyThere, NotFound, open_storage
from pipeline.storage.gcs import GcsStorage
from tests.create_only import CreateOnly
from tests.servers import serve

MEGABYTE = 1_000_000


class Heard:
    """ASGI middleware that notes each request's method and path."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.requests: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


@dataclass
class World:
    """A Cloud Storage with one bucket, its faults, and what it heard."""

    cloud: CloudStorage
    heard: Heard

    def open(self, url: str = "gs://shoes/runs/1", **settings: Any) -> GcsStorage:
        return GcsStorage(url, **settings)

    def fault(self, on: str, fault: str | int, **settings: Any) -> None:
        self.cloud.faults.add(on, fault, **settings)

    def faults(self) -> list[str]:
        """What has happened; all that were put in line have."""
        assert self.cloud.faults.waiting == []
        return [one["fault"] for one in self.cloud.faults.happened]

    def replace(self, name: str, data: bytes) -> None:
        """Behind everybody's back."""
        draft = self.cloud.objects.draft()
        draft.write(data)
        self.cloud.objects.insert(
            "shoes", f"runs/1/{name}", draft.finish(), fields={}, conditions=Conditions()
        )


@pytest.fixture(scope="module")
def one_server() -> Iterator[tuple[str, World]]:
    cloud = CloudStorage(lambda: datetime.now(UTC))
    heard = Heard(Starlette(routes=cloud.routes))
    with serve(heard) as url:
        yield url, World(cloud, heard)


@pytest.fixture
def world(one_server: tuple[str, World], monkeypatch: pytest.MonkeyPatch) -> World:
    url, world = one_server
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    world.cloud.objects.buckets.clear()
    world.cloud.objects.create_bucket("shoes")
    world.cloud.faults.waiting.clear()
    world.cloud.faults.happened.clear()
    world.heard.requests.clear()
    return world


def pictures(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


@pytest.mark.parametrize("fault", ["lost", "garbled", "cut"])
def test_a_record_whose_answer_was_lost_is_written_once(world: World, fault: str) -> None:
    """The client's second try is told that the name is taken, by itself."""
    storage = world.open()
    world.fault("insert", fault)

    storage.put_if_absent("journal/00000000.json", b'{"driver": "a"}')

    assert world.faults() == [fault]
    assert storage.read("journal/00000000.json") == b'{"driver": "a"}'


@pytest.mark.parametrize("fault", ["lost", "garbled", "cut"])
@pytest.mark.parametrize("piece", [0, 1])
def test_a_large_file_with_a_lost_answer_is_written_once(world: World, fault: str, piece: int) -> None:
    """9 MB go in two pieces; the second one's answer is the one that says that all is there."""
    storage = world.open()
    world.fault("insert", fault, skip=piece)
    whole = pictures(9 * MEGABYTE)

    storage.put("results/0", whole)

    assert world.faults() == [fault]
    assert storage.read("results/0") == whole


def test_a_lost_answer_does_not_hide_that_another_driver_won(world: World) -> None:
    storage = world.open()
    world.open().put_if_absent("journal/0", b"theirs, of the same size")
    world.fault("insert", "lost")

    with pytest.raises(AlreadyThere):
        storage.put_if_absent("journal/0", b"ours is of the same size")

    assert storage.read("journal/0") == b"theirs, of the same size"


@pytest.mark.parametrize("fault", ["503", "429", "408", "500", "reset"])
@pytest.mark.parametrize("size", [100, 9 * MEGABYTE])
def test_a_write_that_fails_for_a_moment_is_repeated(world: World, fault: str, size: int) -> None:
    storage = world.open()
    world.fault("insert", fault)

    storage.put("pictures/0", pictures(size))

    assert world.faults() == [fault]
    assert storage.read("pictures/0") == pictures(size)


def test_a_session_that_vanished_is_started_again(world: World) -> None:
    """A resumable upload's address is good for a week at most."""
    world.fault("insert", 410)

    world.open().put("results/0", pictures(9 * MEGABYTE))

    assert world.faults() == ["410"]
    assert world.open().read("results/0") == pictures(9 * MEGABYTE)


@pytest.mark.parametrize("verb", ["get", "metadata", "list"])
@pytest.mark.parametrize("fault", ["503", "429", "reset"])
def test_a_read_that_fails_for_a_moment_is_repeated(world: World, verb: str, fault: str) -> None:
    storage = world.open()
    storage.put("plan/0", b"plan")
    world.fault(verb, fault)

    assert list(storage.list("")) == ["plan/0"]
    with storage.open("plan/0") as file:
        assert file.read() == b"plan"

    assert world.faults() == [fault]


def test_a_stalled_request_is_given_up_and_repeated(world: World) -> None:
    storage = world.open(timeout=(1, 0.2))
    world.fault("insert", "stall")
    world.fault("get", "stall")

    storage.put("a", b"bytes")

    assert storage.read("a") == b"bytes"
    assert world.faults() == ["stall", "stall"]


def test_a_download_that_is_cut_continues_and_is_still_checked(world: World) -> None:
    """Google's client checks only what came in one request."""
    storage = world.open()
    whole = pictures(2 * MEGABYTE)
    storage.put("pictures/0", whole)

    world.fault("get", "cut", after=700_000)
    assert storage.read("pictures/0") == whole

    for _ in range(2):
        world.fault("get", "cut", after=700_000)
        world.fault("get", "corrupt")
    with pytest.raises(Corrupt, match="pictures/0 does not have the bytes"):
        storage.read("pictures/0")
    assert world.faults() == ["cut", "cut", "corrupt", "cut", "corrupt"]


def test_a_range_that_is_cut_continues(world: World) -> None:
    storage = world.open()
    whole = pictures(2 * MEGABYTE)
    storage.put("pictures/0", whole)
    world.fault("get", "cut", after=300_000)

    assert storage.read("pictures/0", start=100, end=1_500_000) == whole[100:1_500_000]
    assert world.faults() == ["cut"]


def test_a_damaged_read_is_repeated_once(world: World) -> None:
    storage = world.open()
    storage.put("journal/0", b"record")

    world.fault("get", "corrupt")
    assert storage.read("journal/0") == b"record"

    world.fault("get", "corrupt", times=2)
    with pytest.raises(Corrupt) as raised:
        storage.read("journal/0")
    assert raised.value.exit_code == 7
    assert raised.value.hint is not None


def test_a_stream_continues_when_its_connection_is_cut(world: World) -> None:
    storage = world.open()
    whole = pictures(20 * MEGABYTE)
    storage.put("results/0", whole)
    world.fault("get", "cut", after=3_000_000)
    world.fault("get", "cut", after=100)
    world.fault("get", "reset")

    with storage.open("results/0", start=5) as file:
        assert file.read() == whole[5:]

    assert world.faults() == ["cut", "cut", "reset"]


def test_a_damaged_stream_says_so_at_its_end(world: World) -> None:
    storage = world.open()
    storage.put("results/0", pictures(9 * MEGABYTE))
    world.fault("get", "corrupt")

    with storage.open("results/0") as file, pytest.raises(Corrupt, match="does not have the bytes"):
        file.read()


def test_a_stream_stays_with_the_file_it_opened(world: World) -> None:
    """Somebody replaces what nobody may: the reader is told, and gets no mixture."""
    storage = world.open()
    storage.put("results/0", pictures(9 * MEGABYTE))

    with storage.open("results/0") as file:
        file.read(10)
        world.replace("results/0", pictures(9 * MEGABYTE)[::-1])
        with pytest.raises(Corrupt, match="was removed or replaced while it was read"):
            file.read()


def test_a_server_that_stays_down_is_unavailable_in_its_own_words(world: World) -> None:
    world.fault("insert", 503, times=99)

    with pytest.raises(Unavailable, match="gs://shoes/runs/1: a: a fault: 503") as raised:
        world.open(patience=0.3).put("a", b"")

    assert raised.value.hint == "run again; what was written is complete"


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")  # the discard port
    storage = GcsStorage("gs://shoes/runs/1", patience=0.3)

    for call in (
        lambda: storage.put("a", b""),
        lambda: storage.put("a", pictures(9 * MEGABYTE)),
        lambda: storage.read("a"),
        lambda: storage.open("a"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(Unavailable, match=r"gs://shoes/runs/1"):
            call()


def test_half_an_answer_to_a_question_is_unavailable(world: World) -> None:
    storage = world.open()
    storage.put("a", b"")

    world.fault("list", "garbled")
    with pytest.raises(Unavailable):
        list(storage.list(""))
    world.fault("metadata", "garbled")
    with pytest.raises(Unavailable):
        storage.open("a")


def test_a_bucket_that_is_not_there_is_bad_input(world: World) -> None:
    storage = world.open("gs://shose/runs/1")

    for call in (lambda: storage.put("a", b""), lambda: list(storage.list(""))):
        with pytest.raises(
            BadInput, match=r"gs://shose/runs/1.*The specified bucket does not exist"
        ) as raised:
            call()
        assert raised.value.hint is not None
        assert "buckets create" in raised.value.hint
    with pytest.raises(NotFound):
        storage.read("a")


@pytest.mark.parametrize("status", [401, 403])
def test_an_account_that_may_not_is_denied(world: World, status: int) -> None:
    for verb, call in (
        ("insert", lambda: world.open().put("a", b"")),
        ("get", lambda: world.open().read("a")),
        ("list", lambda: list(world.open().list(""))),
    ):
        world.fault(verb, status, times=2)
        with pytest.raises(Denied) as raised:
            call()
        assert raised.value.exit_code == 4
        assert raised.value.hint is not None
        world.cloud.faults.waiting.clear()


def test_no_credentials_are_denied_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine: there is nothing to sign in with, and nobody is asked."""
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "STORAGE_", "GCLOUD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(Denied, match="gs://shoes/runs/1") as raised:
        open_storage("gs://shoes/runs/1")

    assert raised.value.hint is not None
    assert "gcloud auth application-default login" in raised.value.hint


@pytest.mark.parametrize(
    "url", ["gs://", "gs:///runs", "gs://shoes//runs", "gs://shoes/../runs", "gs://shoes/" + "x" * 121]
)
def test_a_url_that_names_no_bucket_with_a_folder_is_refused(world: World, url: str) -> None:
    with pytest.raises(BadInput) as raised:
        open_storage(url)
    assert raised.value.hint == "write gs://bucket/folder"


@pytest.mark.parametrize("url", ["gs://shoes", "gs://shoes/", "gs://shoes/runs/1/"])
def test_a_bucket_itself_and_a_closing_slash_will_do(world: World, url: str) -> None:
    storage = world.open(url)
    storage.put("plan/1", b"")

    assert list(storage.list("plan/")) == ["plan/1"]
    assert world.cloud.objects.bucket("shoes").names in (["plan/1"], ["runs/1/plan/1"])


def test_other_runs_in_the_bucket_are_not_seen(world: World) -> None:
    world.open("gs://shoes/runs/1").put("a", b"")
    world.open("gs://shoes/runs/10").put("b", b"")

    assert list(world.open("gs://shoes/runs/1").list("")) == ["a"]


def test_a_browser_learns_what_a_file_is(world: World) -> None:
    world.open().put("pictures/0.jpg", b"picture", content_type="image/jpeg")

    assert world.cloud.objects.find("shoes", "runs/1/pictures/0.jpg").fields["contentType"] == "image/jpeg"


def test_nothing_more_is_asked_than_needed(world: World) -> None:
    """One request to write, one to read, and nobody looks at the bucket: that takes one more permission."""
    storage = world.open()

    storage.put("a", b"bytes")
    storage.read("a")
    list(storage.list(""))

    assert world.heard.requests == [
        "POST /upload/storage/v1/b/shoes/o",
        "GET /download/storage/v1/b/shoes/o/runs/1/a",
        "GET /storage/v1/b/shoes/o",
    ]


def test_a_file_that_is_there_is_not_downloaded_to_be_compared(world: World) -> None:
    """Sizes and checksums will do, where the name says what the bytes are."""
    storage = world.open()
    storage.put("references/ab.jpg", b"picture")
    world.heard.requests.clear()

    storage.put("references/ab.jpg", b"picture")

    assert not any(request.startswith("GET /download") for request in world.heard.requests)


@pytest.mark.parametrize("taken", [412, 403])
def test_an_account_that_may_only_create_hears_what_is_there(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Whether the service answers that the name is taken, or that the account may not overwrite."""
    cloud = CloudStorage(lambda: datetime.now(UTC), buckets=["shoes"])
    account = CreateOnly(Starlette(routes=cloud.routes), taken=taken)
    with serve(account) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        storage = GcsStorage("gs://shoes/runs/1")
        for put in (storage.put, storage.put_if_absent):
            put("a", b"first")
            with pytest.raises(AlreadyThere):
                put("a", b"other")
        storage.put("b", pictures(9 * MEGABYTE))
        storage.put("b", pictures(9 * MEGABYTE))
        with pytest.raises(AlreadyThere):
            storage.put("b", pictures(9 * MEGABYTE)[::-1])

    assert account.refused == []


def test_the_create_only_account_refuses_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all that was shown with it would mean nothing."""
    from google.api_core.exceptions import Forbidden
    from google.cloud import storage

    cloud = CloudStorage(lambda: datetime.now(UTC), buckets=["shoes"])
    account = CreateOnly(Starlette(routes=cloud.routes))
    with serve(account) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        bucket = storage.Client(project=None).bucket("shoes")
        bucket.blob("a").upload_from_string(b"first", if_generation_match=0)
        blob = bucket.get_blob("a")
        for call in (
            lambda: blob.upload_from_string(b"other"),
            lambda: blob.upload_from_string(b"other", if_generation_match=blob.generation),
            blob.delete,
            blob.patch,
            blob.update,
        ):
            with pytest.raises(Forbidden):
                call()

    assert len(account.refused) == 5
    assert cloud.objects.find("shoes", "a").body.held == b"first"


def test_bytes_that_changed_on_the_way_are_refused_and_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum is declared before the bytes are sent, so the service can tell."""
    cloud = CloudStorage(lambda: datetime.now(UTC), buckets=["shoes"])
    damaged = []

    async def damaging(scope: Any, receive: Any, send: Any) -> None:
        async def received() -> Any:
            message = await receive()
            body = message.get("body", b"")
            if b"picture bytes" in body and not damaged:
                damaged.append(scope["path"])
                message["body"] = body.replace(b"picture bytes", b"picture butes")
            return message

        await Starlette(routes=cloud.routes)(scope, received, send)

    with serve(damaging) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        GcsStorage("gs://shoes/runs/1").put("a", b"picture bytes")

    assert len(damaged) == 1
    assert cloud.objects.find("shoes", "runs/1/a").body.held == b"picture bytes"
