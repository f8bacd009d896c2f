"""References from the web and from buckets: fetched once, believed by their bytes, not from our own network."""

import http.server
import io
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from PIL import Image
from starlette.applications import Starlette

from pipeline.cache import Cache
from pipeline.emulator.gcs import CloudStorage
from pipeline.emulator.gcs_objects import Conditions
from pipeline.errors import Unavailable
from pipeline.job import job_for
from pipeline.manifest import Row
from pipeline.models import load_models
from pipeline.problems import Problem
from pipeline.prompt import pins_for, requests
from pipeline.remote import Remote
from pipeline.web import NotFetched, fetch
from tests.servers import serve


def picture(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(stream, "JPEG")
    return stream.getvalue()


class Shop:
    """A little web server: its files by path, what it was asked, and how it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.codes: dict[str, list[int]] = {}
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.promises: dict[str, int] = {}
        self.url = ""

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path
        self.asked[path] += 1
        headers = {}
        if self.codes.get(path):
            return self._reply(request, self.codes[path].pop(0), headers, b"")
        if path in self.redirects:
            return self._reply(request, 302, {"Location": self.redirects[path]}, b"")
        if path not in self.files:
            return self._reply(request, 404, {}, b"")
        if path in self.tags:
            headers["ETag"] = self.tags[path]
            if request.headers.get("If-None-Match") == self.tags[path]:
                return self._reply(request, 304, headers, b"")
        self.sent[path] += 1
        return self._reply(request, 200, headers, self.files[path], self.promises.get(path))

    def _reply(self, request, code, headers, body, promised=None):
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(promised or len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def shop():
    shop = Shop()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shop.answer(self)

        def log_message(self, *said: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shop.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shop
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def remote(tmp_path):
    return lambda: Remote(Cache(tmp_path / "cache"), allow_private=True)


# The web


def test_a_picture_is_fetched_once_and_its_type_is_told_from_its_bytes(shop, remote):
    shop.files["/a.jpg?v=17"] = picture()
    mine = remote()
    assert mine.read(f"{shop.url}/a.jpg?v=17") == picture()
    assert mine.read(f"{shop.url}/a.jpg?v=17") == picture()
    assert shop.asked["/a.jpg?v=17"] == 1


def test_the_next_plan_asks_whether_it_changed_and_sends_no_bytes_if_not(shop, remote):
    shop.files["/a.jpg"], shop.tags["/a.jpg"] = picture(), '"one"'
    remote().read(f"{shop.url}/a.jpg")
    assert remote().read(f"{shop.url}/a.jpg") == picture()
    assert (shop.asked["/a.jpg"], shop.sent["/a.jpg"]) == (2, 1)
    shop.files["/a.jpg"], shop.tags["/a.jpg"] = picture("blue"), '"two"'
    assert remote().read(f"{shop.url}/a.jpg") == picture("blue")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[fd00::1]", "0.0.0.0",
     "[::ffff:127.0.0.1]", "2130706433", "[2002:7f00:1::]", "100.64.0.1"],
)  # fmt: skip
def test_no_address_inside_a_network_is_asked_unless_the_job_allows_it(host):
    with pytest.raises(NotFetched, match="private network") as caught:
        fetch(f"https://{host}/a.jpg")
    assert "allow_private" in caught.value.hint


def test_a_redirect_is_checked_as_any_address_is(shop):
    shop.redirects["/a.jpg"] = "file:///etc/passwd"
    with pytest.raises(NotFetched, match="odd address"):
        fetch(f"{shop.url}/a.jpg", allow_private=True)
    shop.redirects["/a.jpg"] = "/a.jpg"
    with pytest.raises(NotFetched, match="leads on and on"):
        fetch(f"{shop.url}/a.jpg", allow_private=True)
    shop.redirects["/a.jpg"] = "/b c.jpg"
    shop.files["/b%20c.jpg"] = picture()
    assert fetch(f"{shop.url}/a.jpg", allow_private=True).data == picture()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.jpg",
        "https://user:secret@example.com/a.jpg",
        "https:///a.jpg",
        "https://a:99999/",
        "https://[x",
    ],
)
def test_an_address_that_is_none_is_refused_without_asking_anybody(url):
    with pytest.raises(NotFetched):
        fetch(url)


def test_an_answer_that_is_too_large_too_short_or_not_there_is_a_problem(shop, remote):
    shop.files["/big"] = bytes(5000)
    with pytest.raises(NotFetched, match="too large"):
        fetch(f"{shop.url}/big", allow_private=True, most=4000)
    shop.files["/short"], shop.promises["/short"] = b"abc", 10
    with pytest.raises(NotFetched, match=r"cut short|cannot be fetched"):
        fetch(f"{shop.url}/short", allow_private=True)
    with pytest.raises(NotFetched, match="takes too long"):
        fetch(f"{shop.url}/big", allow_private=True, seconds=0)
    assert remote().read(f"{shop.url}/gone") == Problem(
        "reference is not on the web (HTTP 404)", value=f"{shop.url}/gone"
    )


def test_a_server_that_stumbles_once_is_asked_once_more(shop, remote):
    shop.files["/a.jpg"], shop.codes["/a.jpg"] = picture(), [503]
    assert remote().read(f"{shop.url}/a.jpg") == picture()


def test_when_nothing_can_be_reached_it_is_the_network_and_said_once(remote):
    mine = remote()
    with pytest.raises(Unavailable, match="in a row could not be fetched"):
        list(map(mine.read, (f"http://127.0.0.1:9/{number}.jpg" for number in range(100))))


def test_rows_that_show_pictures_of_the_web_are_poured_as_any_others(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHOOT_CACHE", str(tmp_path / "cache"))
    for number in range(40):
        shop.files[f"/{number % 20}.jpg"] = picture()
    job = job_for("x.csv", prompt="x", allow_private=True, where="title != 'no'")
    rows = [
        Row(n, n, f"S-{n}", {"title": "no" if n == 7 else "", "image": f"{shop.url}/{n % 20}.jpg"})
        for n in range(40)
    ]
    rows.append(Row(40, 40, "S-40", {"title": "", "image": f"{shop.url}/gone.jpg"}))
    pins = pins_for(job, tmp_path)
    made = list(requests(job, rows, models=load_models(), base=tmp_path, pins=pins))
    assert [r.row for r in made] == [n for n in range(41) if n != 7]
    assert [r.refusal for r in made if r.refusal] == [
        f"reference is not on the web (HTTP 404) {shop.url}/gone.jpg"
    ]
    assert max(shop.asked.values()) == 1
    assert pins.load(made[0].prompt.references[0]) == picture()


# Buckets


@pytest.fixture
def bucket(monkeypatch):
    cloud = CloudStorage(lambda: datetime.now(UTC))
    cloud.objects.create_bucket("photos")
    with serve(Starlette(routes=cloud.routes)) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield cloud


def put(cloud, name, data):
    draft = cloud.objects.draft()
    draft.write(data)
    cloud.objects.insert("photos", name, draft.finish(), fields={}, conditions=Conditions())


def test_an_object_is_read_by_generation_and_again_only_when_it_has_another(bucket, remote):
    put(bucket, ".odd name/a.jpg", picture())
    assert remote().read("gs://photos/.odd name/a.jpg") == picture()
    assert remote().read("gs://photos/.odd name/a.jpg") == picture()
    put(bucket, ".odd name/a.jpg", picture("blue"))
    assert remote().read("gs://photos/.odd name/a.jpg") == picture("blue")


def test_an_object_or_a_bucket_that_is_not_there_is_a_problem(bucket, remote):
    assert remote().read("gs://photos/none.jpg").message == "reference not found in the bucket"
    assert isinstance(remote().read("gs://nowhere/none.jpg"), Problem)
