"""Nights that are described in a file, and emulators that go on after their process ended."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from google import genai
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from pipeline.emulator import Service, start
from pipeline.emulator.scenario import known, read
from tests.emulator.test_emulator_service import ROOT, begun

pytestmark = pytest.mark.filterwarnings("error")


def scenario(tmp_path, text):
    path = tmp_path / "night.toml"
    path.write_text(text)
    return path


def test_a_scenario_sets_times_limits_and_misfortune(make_bench, row, tmp_path):
    night = """
        start = "2026-12-24T22:00:00Z"
        queue = ["1 min", 60]
        run = ["1.5 h", "1.5 h"]
        [quota]
        "gemini-3-pro-image" = 5
        [[fault]]
        kind = "no_image"
        prompt = "red"
        [[storage_fault]]
        on = "insert"
        fault = "503"
    """
    with start(scenario=scenario(tmp_path, night), run=(100, 100)) as service:
        assert service.clock().isoformat() == "2026-12-24T22:00:00+00:00"
        [fault] = service._ask("GET", "/_faults")
        assert (fault["kind"], fault["prompt"]) == ("no_image", "red")
        [waiting] = service._ask("GET", "/_gcs/faults")["waiting"]
        assert (waiting["on"], waiting["fault"]) == ("insert", "503")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", "unknown .'colour'.; there are"),
        ('queue = ["soon", 1]', "'soon' is no length of time"),
        ('[[fault]]\nkind = "rain"', "no fault 'rain'; there are"),
        ('[[storage_fault]]\non = "insert"\nfault = "rain"', "'rain' is no fault"),
        ("[[", "Invalid"),
    ],
)
def test_a_scenario_that_is_wrong_says_where(tmp_path, text, words):
    with pytest.raises(ValueError, match=rf"night.toml: .*{words}"):
        read(scenario(tmp_path, text))


def test_a_scenario_that_is_not_there_names_those_that_are():
    with pytest.raises(ValueError, match="there are bad-night, quiet-night"):
        read("good-night.toml")


@pytest.mark.parametrize("name", known())
def test_the_nights_that_come_with_it_can_be_lived(name, row):
    """By their bare names, too; the rows of a hundred come back, one way or another."""
    with start(scenario=name) as service:
        client = genai.Client(api_key="k", http_options={"base_url": service.url})
        lines = b"".join(json.dumps(row(f"{n}", f"mug {n}")).encode() + b"\n" for n in range(100))
        file = client.files.upload(file=io.BytesIO(lines), config={"mime_type": "application/jsonl"})
        service._ask("DELETE", "/_faults") if name == "bad-night" else None
        job = client.batches.create(model="gemini-2.5-flash-image", src=file.name)
        service.advance(24 * 3600)
        assert client.batches.get(name=job.name).state.value == "JOB_STATE_SUCCEEDED"
        assert 90 <= service.ledger()["total"]["rows"] <= 100
        client.close()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--scenario", "good-night"), "error: good-night: no such scenario"),
        (("--bucket", "b"), "error: Invalid bucket name: 'b'"),
    ],
)
def test_options_that_make_no_sense_end_it_with_two_lines(option, words):
    command = [sys.executable, "-m", "pipeline.emulator", *option]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith(words)
    assert said.stderr.count("\n") == 2
    assert "\nhint: " in said.stderr


def test_help_names_every_option():
    command = [sys.executable, "-m", "pipeline.emulator", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    page = (ROOT / "docs" / "emulator.md").read_text()
    options = {word.strip(",.[]") for word in said.split() if word.startswith(("--", "[--"))}
    assert {"--scenario", "--data", "--speed"} <= options
    assert all(f"`{option}" in page for option in options - {"--help"})


class Clients:
    """Google's clients for one address."""

    def __init__(self, url):
        self.service = Service(url)
        self.sdk = genai.Client(api_key="first-key", http_options={"base_url": url})
        self.storage = storage.Client(
            project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": url}
        )

    def close(self):
        self.sdk.close()
        self.storage.close()


def again(folder, *more):
    process, said = begun(
        "--speed", "0", "--data", str(folder), "--queue", "60", "60", "--run", "60", "60", *more
    )
    return process, Clients(said["GOOGLE_GEMINI_BASE_URL"])


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_answered_is_there_after_a_restart(tmp_path, row, sign):
    """Files, jobs, objects, ledger, clock, faults and events; even of a process that was killed."""
    process, one = again(tmp_path, "--bucket", "shoes")
    with process:
        lines = b"".join(json.dumps(row(f"{n}", f"mug {n}")).encode() + b"\n" for n in range(5))
        file = one.sdk.files.upload(file=io.BytesIO(lines), config={"mime_type": "application/jsonl"})
        done = one.sdk.batches.create(model="gemini-2.5-flash-image", src=file.name)
        one.service.advance(120)
        waiting = one.sdk.batches.create(model="gemini-2.5-flash-image", src=file.name)
        one.storage.bucket("shoes").blob("a/b").upload_from_string(b"bytes", if_generation_match=0)
        one.service.fault("no_image", key="3")
        result = one.sdk.files.download(file=one.sdk.batches.get(name=done.name).dest.file_name)
        before = (one.service.ledger(), one.service.clock(), one.service.events())
        process.send_signal(sign)
        process.wait(10)
    one.close()

    process, two = again(tmp_path)
    with process:
        assert (two.service.ledger(), two.service.clock(), two.service.events()) == before
        again_read = two.sdk.files.download(file=two.sdk.batches.get(name=done.name).dest.file_name)
        assert again_read == result
        assert two.sdk.files.get(name=file.name).size_bytes == len(lines)
        assert two.storage.bucket("shoes").blob("a/b").download_as_bytes() == b"bytes"
        two.service.advance(120)
        lines = two.sdk.files.download(file=two.sdk.batches.get(name=waiting.name).dest.file_name)
        reasons = {
            line["key"]: line["response"]["candidates"][0]["finishReason"]
            for line in map(json.loads, lines.splitlines())
        }
        assert reasons == {"0": "STOP", "1": "STOP", "2": "STOP", "3": "NO_IMAGE", "4": "STOP"}
        process.terminate()
        process.wait(10)
    two.close()


def test_an_upload_goes_on_after_a_restart(tmp_path):
    granule = 8 * 1024**2
    data = bytes(range(256)) * (2 * granule // 256)
    headers = {
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": str(len(data)),
        "x-goog-api-key": "first-key",
    }
    import httpx2

    with start(data=tmp_path) as service:
        body = {"file": {"name": "files/large"}}
        begun_at = httpx2.post(service.url + "/upload/v1/files", json=body, headers=headers, trust_env=False)
        url = begun_at.headers["x-goog-upload-url"]
        headers = {"x-goog-upload-command": "upload", "x-goog-upload-offset": "0"}
        httpx2.post(url, content=data[:granule], headers=headers, trust_env=False)
        port = service.url
    with start(data=tmp_path) as service:
        url = url.replace(port, service.url)
        headers = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": str(granule)}
        file = httpx2.post(url, content=data[granule:], headers=headers, trust_env=False).json()["file"]
        import base64
        import hashlib

        assert base64.b64decode(file["sha256Hash"]).decode() == hashlib.sha256(data).hexdigest()


def test_jobs_on_vertex_and_their_files_survive_as_well(tmp_path):
    from tests.emulator.conftest import Bench

    request = {"contents": [{"role": "user", "parts": [{"text": "mug"}]}], "labels": {"row": "a"}}
    one = Bench(data=tmp_path, buckets=("shoes",))
    done = one.predict([request] * 3)
    written = one.written(done)
    one.service.fault("job_stalled", state="RUNNING", seconds=600)
    waiting = one.predict([request] * 2)
    ledger = one.service.ledger()
    one.close()

    two = Bench(data=tmp_path)
    assert two.service.ledger() == ledger
    assert two.written(done) == written
    two.service.advance(600)
    assert len(two.written(waiting)) == 2
    two.close()


def test_without_a_folder_nothing_stays(row):
    with start() as service:
        client = genai.Client(api_key="k", http_options={"base_url": service.url})
        client.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "text/plain", "name": "kept"})
        client.close()
    with start() as service:
        client = genai.Client(api_key="k", http_options={"base_url": service.url})
        assert list(client.files.list()) == []
        client.close()


def test_the_nights_are_part_of_the_package():
    assert known() == ["bad-night", "quiet-night"]
    assert (Path(sys.modules["pipeline.emulator.scenario"].__file__).parent / "scenarios").is_dir()
