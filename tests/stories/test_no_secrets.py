"""No key, token or signed address in anything a run says or leaves behind, however much goes wrong."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipeline import emulator
from pipeline.tables import from_parquet
from tests.bench import write_rows
from tests.shell import Said, Shell

KEY = "AIzaSyDnobodyelseknowsthiskey0123456789"
PRIVATE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCnobodyelse"

JOB = """
manifest = "shoes.csv"
key = "sku"
backend = "{backend}"
bucket = "{bucket}"
max_usd = 5
[batches]
max_requests = 2
[defaults]
model = "gemini-3.1-flash-image"
references = ["photo"]
[shots.hero]
prompt = "Studio photo of {{{{ title }}}} in {{{{ colour }}}}"
"""


@pytest.fixture
def service() -> Iterator[emulator.Service]:
    with emulator.start(queue=(5, 30), run=(10, 60), picture_bytes=2000, buckets=("shoes",)) as running:
        yield running


@pytest.fixture(params=["developer", "vertex"])
def surface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shell(service: emulator.Service, surface: str, tmp_path: Path) -> Shell:
    """A person whose environment holds a key and the file of a service account."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    write_rows(tmp_path / "shoes.csv", 6, photo=lambda n: "red.png")
    job = JOB.format(backend=surface, bucket="shoes/night")
    if surface == "developer":
        job = job.replace('bucket = "shoes/night"\n', "")
    (tmp_path / "shoes.toml").write_text(job, encoding="utf-8")
    account = {"type": "service_account", "private_key": PRIVATE, "client_email": "shoot@example.com"}
    (tmp_path / "account.json").write_text(json.dumps(account), encoding="utf-8")
    environment = service.environment() | {"XDG_CACHE_HOME": str(tmp_path / "caches"), "GEMINI_API_KEY": KEY}
    environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(tmp_path / "account.json")
    return Shell(tmp_path, environment)


SECRETS = (KEY, KEY[:-4], PRIVATE, "Bearer ", "upload_id=")
"""The last four letters of a key are said, to tell keys apart."""


def assert_silent(said: Said) -> None:
    assert [secret for secret in SECRETS if secret in said.all] == [], said.all


def assert_clean(folder: Path) -> None:
    """Every file as its bytes, tables as what they hold. Only the cache has addresses to upload to, for its owner."""
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != "account.json"):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data = str(from_parquet(data).to_pylist()).encode()
        found = [secret for secret in SECRETS if secret.encode() in data]
        if folder / "caches" in path.parents and found == ["upload_id="]:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        else:
            assert found == [], path


def test_a_run_that_goes_well_says_and_leaves_no_secret(shell: Shell) -> None:
    said = shell("run", "shoes.toml", "--yes", "-vv")
    assert said.code == 0, said.all
    assert "HTTP Request" in said.all, "the library's own words are shown"
    assert_silent(said)
    assert_clean(shell.folder)
    for command in ("doctor", "orphans", "runs", "status", "index"):
        assert_silent(shell(command, *(["shoes"] if command in ("status", "index") else []), "-vv"))


@pytest.mark.parametrize(
    "order",
    [
        {"method": "create", "code": 403},
        {"method": "create", "code": 429},
        {"method": "create", "code": 500},
        {"method": "get", "code": 403},
        {"method": "list", "code": 403},
        {"method": "download", "code": 403},
        {"method": "upload.chunk", "code": 400},
    ],
    ids=lambda order: f"{order['method']}-{order['code']}",
)
def test_a_refusal_that_repeats_the_key_is_told_without_it(
    shell: Shell, service: emulator.Service, surface: str, order: dict[str, object]
) -> None:
    """As Google's do: Consumer 'api_key:...' has been suspended."""
    if surface == "vertex" and str(order["method"]).startswith(("upload", "download")):
        pytest.skip("that is Cloud Storage's")
    words = f"Permission denied: Consumer 'api_key:{KEY}' has been suspended."
    service.fault("refused", message=words, times=3, **order)
    service.fault("refused", method="cancel", message=words, code=403, times=None)
    service.fault("job_failed", display_name="-00001-", message=words)
    said = shell("run", "shoes.toml", "--yes", "-vv")
    assert "api_key" in said.all or said.code == 0, said.all
    assert_silent(said)
    assert_clean(shell.folder)
    assert_silent(shell("cancel", "shoes", "--yes", "-vv"))
    assert_silent(shell("doctor", "-vv"))
    assert_clean(shell.folder)


@pytest.mark.parametrize("fault", ["lost", "done_but_error", "cut", "upload_no_file", "upload_no_status"])
def test_a_cut_line_says_and_leaves_no_secret(shell: Shell, service: emulator.Service, fault: str) -> None:
    service.fault(fault, times=2)
    said = shell("run", "shoes.toml", "--yes", "-vv")
    assert said.code == 0, said.all
    assert_silent(said)
    assert_clean(shell.folder)


def test_a_signed_address_in_a_manifest_is_not_repeated(shell: Shell, service: emulator.Service) -> None:
    """Whoever sees it could read the photo: neither when it works nor when it does not."""
    signed = f"{service.url}/shoes/none.png?X-Goog-Signature=upload_id%3Dabc&upload_id=abc"
    write_rows(shell.folder / "shoes.csv", 2, photo=lambda n: signed)
    said = shell("plan", "shoes.toml", "-vv")
    assert said.code == 2, said.all
    assert "none.png" in said.all
    assert_silent(said)
