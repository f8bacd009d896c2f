"""The emulator as a program: its clock, its process, several at once, and the page that describes it."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from pyarrow import fs

from pipeline.emulator import Service, gcs_faults, start
from pipeline.emulator.faults import KINDS, MATCHES
from pipeline.emulator.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "emulator.md"


def test_the_clock_stands_still_until_told(bench):
    begun = bench.service.clock()
    assert begun == datetime(2026, 11, 21, tzinfo=UTC)
    assert bench.service.clock() == begun
    assert bench.service.advance(90.5) == begun + timedelta(seconds=90.5)
    assert bench.service.at_least(begun) == begun + timedelta(seconds=90.5)
    assert bench.service.at_least(begun + timedelta(hours=1)) == begun + timedelta(hours=1)


def test_a_fast_clock_lives_a_night_in_a_moment(bench):
    begun = bench.service.clock()
    bench.service.run_at(1_000_000)
    assert bench.service.clock() > begun
    bench.service.run_at(0)
    assert bench.service.clock() == bench.service.clock()


def test_every_response_is_dated_by_the_virtual_clock(bench):
    bench.service.advance(3600)
    for path in ("/v1/batches", "/v1/batches/none", "/nowhere", "/_clock"):
        reply = bench.http("GET", path)
        assert parsedate_to_datetime(reply.headers["date"]) == datetime(2026, 11, 21, 1, tzinfo=UTC)
        assert len(reply.headers.get_list("date")) == 1


@pytest.mark.parametrize("order", [{"advance": "soon"}, {"set": "yesterday"}, {"speed": -1}, {"back": 3}])
def test_an_order_the_clock_does_not_understand_is_refused(bench, order):
    assert bench.http("POST", "/_clock", json=order).status_code == 400


def test_cloud_storage_is_there_too_and_lives_by_the_same_clock(make_bench):
    """Google's own client, nothing but the exported address."""
    bench = make_bench(buckets=("runs-of-ours",))
    bench.service.advance(3600)
    endpoint = bench.service.environment()["STORAGE_EMULATOR_HOST"]
    client = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": endpoint}
    )
    blob = client.bucket("runs-of-ours").blob("journal/00000000.json")
    blob.upload_from_string(b"{}", if_generation_match=0)
    blob.reload()
    assert blob.time_created == datetime(2026, 11, 21, 1, tzinfo=UTC)
    assert blob.download_as_bytes() == b"{}"
    client.close()


def test_an_unknown_path_is_answered_as_the_service_would(bench):
    reply = bench.http("GET", "/v7/batches")
    assert reply.json()["error"]["status"] == "NOT_FOUND"


def test_several_run_at_once_and_know_nothing_of_each_other(make_bench, row):
    one, two = make_bench(), make_bench()
    one.submit([row("a")])
    one.service.advance(60)
    assert two.service.ledger()["jobs"] == []
    assert two.service.clock() < one.service.clock()


def test_stopping_frees_the_port_and_the_disk_and_can_be_said_twice(tmp_path):
    service = start(data=tmp_path)
    port = urlsplit(service.url).port
    service.stop()
    service.stop()
    with start(port=port) as again:
        assert urlsplit(again.url).port == port


def test_a_stalled_download_does_not_keep_it_from_stopping(make_bench, row):
    bench = make_bench()
    name = bench.sdk.batches.get(name=bench.submit([row("a")]).name).dest.file_name
    bench.service.fault("stalled", bytes=10)
    connection = http.client.HTTPConnection(urlsplit(bench.service.url).netloc, timeout=20)
    connection.request("GET", f"/v1/{name}:download?alt=media", headers={"x-goog-api-key": "first-key"})
    reply = connection.getresponse()
    assert len(reply.read(10)) == 10
    begun = time.monotonic()
    bench.service.stop()
    assert time.monotonic() - begun < 3
    connection.close()


def begun(*arguments, **more):
    """The emulator as a process of its own, and what it says to export."""
    command = [sys.executable, "-m", "pipeline.emulator", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **more)
    said = {}
    while "NIGHTSHOOT_CLOCK" not in said:
        line = process.stdout.readline()
        assert line, "it ended before it said anything"
        name, value = re.fullmatch(r"export (\w+)=(\S+)\n", line).groups()
        said[name] = value
    return process, said


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_says_what_to_export_and_stops_when_told(sign):
    process, said = begun("--speed", "0", "--start", "2026-01-02T03:04:05Z")
    with process:
        service = Service(said["GOOGLE_GEMINI_BASE_URL"])
        assert said == service.environment()
        assert service.clock() == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        process.send_signal(sign)
        assert process.wait(10) == 0


def test_arrow_reads_and_writes_it():
    """A client in C++, which nobody here wrote. It holds Python's lock while it reads: not in one process."""
    process, said = begun("--speed", "0", "--bucket", "shoes")
    with process:
        endpoint = urlsplit(said["STORAGE_EMULATOR_HOST"]).netloc
        store = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=endpoint)
        data = bytes(range(256)) * 20_000
        with store.open_output_stream("shoes/arrow/large.bin") as stream:
            stream.write(data)
        with store.open_input_file("shoes/arrow/large.bin") as file:
            assert file.size() == len(data)
            assert file.read_at(1000, 4_000_000) == data[4_000_000:4_001_000]
            file.seek(0)
            assert file.read() == data
        store.copy_file("shoes/arrow/large.bin", "shoes/arrow/copy.bin")
        found = store.get_file_info(fs.FileSelector("shoes/arrow"))
        assert sorted(info.base_name for info in found) == ["copy.bin", "large.bin"]
        store.delete_file("shoes/arrow/copy.bin")
        assert store.get_file_info("shoes/arrow/copy.bin").type == fs.FileType.NotFound
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("waits", [True, False], ids=["when it serves", "before it serves"])
def test_it_leaves_with_its_parent(waits):
    """The parent here is a process that starts it and dies; its errors end when both have ended."""
    program = (
        "import os, subprocess, sys\n"
        "command = [sys.executable, '-m', 'pipeline.emulator', '--with-parent', str(os.getpid())]\n"
        f"waits, out = {waits}, {'subprocess.PIPE' if waits else 'subprocess.DEVNULL'}\n"
        "child = subprocess.Popen(command, stdout=out, text=True)\n"
        "while waits and not child.stdout.readline().startswith('export NIGHTSHOOT_CLOCK='):\n"
        "    assert child.poll() is None\n"
        "os._exit(0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True
    ) as parent:
        try:
            assert parent.communicate(timeout=60) == (None, b"")
            assert parent.returncode == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def test_talking_to_an_emulator_elsewhere_needs_no_server():
    """What a test or another program imports is the standard library's."""
    program = (
        "import sys, pipeline.emulator\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*loaded & {'starlette', 'uvicorn', 'PIL', 'numpy', 'msgspec'})"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert said.stdout.strip() == ""


def test_the_emulator_imports_nothing_of_ours():
    for module in (ROOT / "pipeline" / "emulator").glob("*.py"):
        imports = re.findall(r"^\s*(?:from|import) (pipeline[\w.]*)", module.read_text(), re.MULTILINE)
        assert all(name.startswith("pipeline.emulator") for name in imports), module


def rows_of_the_page():
    """The fault matrix: kind → whom it can hit, what it can be told, the tests."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|[^|]*\|[^|]*\| ([^|]*)\|$", PAGE.read_text(), re.MULTILINE
    )
    return {
        kind: (scope, re.findall(r"`(\w+)", told), re.findall(r"`(\w+)`", tests))
        for kind, scope, told, tests in rows
    }


def test_the_page_has_every_fault_and_no_other():
    assert set(rows_of_the_page()) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_what_a_fault_can_be_told_and_where_it_is_tested(kind):
    scope, told, tests = rows_of_the_page()[kind]
    assert scope == KINDS[kind].scope
    assert set(told) == set(KINDS[kind].arguments)
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert tests
    assert all(f"def {test}(" in sources for test in tests)


def test_the_page_has_every_setting_and_where_it_is_tested():
    table = PAGE.read_text().partition("| setting |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]
    named = {name for first, *_ in rows for name in re.findall(r"`(\w+)`", first)}
    assert named == {setting.name for setting in fields(Settings)} - {"data", "keep"}
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for name, *_, report, tests in rows:
        assert report, name
        assert all(f"def {test}(" in sources for test in re.findall(r"`(\w+)`", tests))
        assert "`test_" in tests, name


def test_the_page_has_every_fault_of_cloud_storage():
    page = PAGE.read_text().partition("## Faults of Cloud Storage")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(gcs_faults.KINDS)
    assert all(f"`{verb}`" in page for verb in gcs_faults.VERBS)


def test_the_page_names_everything_a_fault_can_be_aimed_with():
    page = PAGE.read_text()
    for scope, names in MATCHES.items():
        assert f"| {scope} | " + ", ".join(f"`{name}`" for name in names) in page
