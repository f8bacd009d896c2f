"""Files go up once, whatever breaks on the way: from where the server stands, in this process or the next one."""

import hashlib
import io
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.backends.developer import Developer
from pipeline.backends.uploads import GRANULE
from pipeline.clock import EmulatorClock
from pipeline.errors import Denied, NightshootError, Unavailable
from tests.bench import Bench
from tests.servers import Line
from tests.shell import HOUSE, Shell
from tests.uploader import LABEL, lines

KEY = "key-of-the-uploads"
SPARE = 200_000
"""Bytes that the requests themselves may take, beside what they carry."""


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's uploads are noted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("NIGHTSHOOT_CACHE", raising=False)
    return tmp_path / "caches" / "nightshoot" / "uploads"


@pytest.fixture
def line(service: emulator.Service) -> Iterator[Line]:
    line = Line(service.url)
    yield line
    line.close()


def backend(line: Line, key: str = KEY) -> Developer:
    return Developer(key=key, service=line.url, clock=EmulatorClock(line.url))


def arrived(service: emulator.Service, name: str, megabytes: int) -> bool:
    """Whether the file holds just what was sent, as the service has it."""
    import base64

    import httpx2

    whole = hashlib.sha256()
    for one in lines(megabytes):
        whole.update(one + b"\n")
    answer = httpx2.get(f"{service.url}/v1/{name}", headers={"x-goog-api-key": KEY}, trust_env=False)
    found = answer.json()
    return bool(
        found["sizeBytes"] == str(megabytes * 1_000_000)
        and base64.b64decode(found["sha256Hash"]).decode() == whole.hexdigest()
        and found["displayName"] == LABEL
    )


def cut_ten_times(service: emulator.Service, line: Line, megabytes: int) -> None:
    backend(line).stage(LABEL, lines(megabytes))
    uncut = line.sent
    assert uncut < megabytes * 1_000_000 + SPARE
    dice = random.Random(7)
    line.cut_at(*(uncut + dice.randrange(megabytes * 1_000_000) for _ in range(10)))
    name = backend(line).stage(LABEL, lines(megabytes))
    assert arrived(service, name, megabytes)
    assert line.sent - 2 * uncut < 10 * GRANULE


def test_an_upload_cut_ten_times_sends_less_than_a_chunk_more_each_time(
    service: emulator.Service, line: Line
) -> None:
    cut_ten_times(service, line, 30)


def test_an_upload_cut_near_its_end_repeats_its_last_chunk_only(line: Line) -> None:
    line.cut_at(29_000_000)
    backend(line).stage(LABEL, lines(30))
    assert line.sent < 30_000_000 + GRANULE + SPARE


@pytest.mark.slow
def test_so_does_one_ten_times_as_large(service: emulator.Service, line: Line) -> None:
    cut_ten_times(service, line, 300)


def uploader(line: Line, megabytes: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.uploader", line.url, KEY, str(megabytes)],
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HOUSE)},
    )


def test_a_process_that_is_killed_is_gone_on_with_by_the_next(
    service: emulator.Service, line: Line, notes: Path
) -> None:
    """What it knew is in this user's cache and for this user alone, and gone when the file is there."""
    first: list[subprocess.Popen[str]] = []

    def kill() -> bool:
        first[0].send_signal(signal.SIGKILL)
        return False

    line.call_at(20_000_000, kill)
    first.append(uploader(line, 30))
    first[0].communicate(timeout=60)
    assert first[0].returncode == -signal.SIGKILL
    (note,) = notes.iterdir()
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(notes.stat().st_mode) == 0o700
    second = uploader(line, 30)
    said, _ = second.communicate(timeout=60)
    assert arrived(service, said.strip(), 30)
    assert line.sent < 30_000_000 + GRANULE + SPARE
    assert list(notes.iterdir()) == []


@pytest.mark.parametrize(("place", "key"), [("elsewhere", KEY), ("caches", "another-key-altogether")])
def test_another_machine_begins_that_file_again(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, key: str
) -> None:
    """And so does another key on this one. It costs nothing but bytes."""
    interrupted(line)
    before = line.sent
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    backend(line, key).stage(LABEL, lines(20))
    assert line.sent - before > 20_000_000


def test_the_same_one_goes_on_with_it(line: Line) -> None:
    interrupted(line)
    before = line.sent
    backend(line).stage(LABEL, lines(20))
    assert line.sent - before < 20_000_000 - 2 * GRANULE + SPARE


class Gone(BaseException):
    """The process is."""


def interrupted(line: Line) -> None:
    """An upload of twenty megabytes whose process ends after two chunks: there is a note of it."""
    sent = 0

    class Ending(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal sent
            sent += 1
            if sent == 3:
                raise Gone
            return super().read(size)

    data = b"".join(one + b"\n" for one in lines(20))
    with pytest.raises(Gone):
        backend(line)._uploads.send(
            Ending(data), sha256=hashlib.sha256(data).hexdigest(), mime="application/jsonl", name=LABEL
        )


def test_a_session_that_the_server_has_forgotten_begins_again(
    service: emulator.Service, line: Line, notes: Path
) -> None:
    interrupted(line)
    (note,) = notes.iterdir()
    note.write_text(note.read_text(encoding="utf-8") + "0", encoding="utf-8")
    assert arrived(service, backend(line).stage(LABEL, lines(20)), 20)


@pytest.mark.parametrize("garbage", ["", "no address at all", "\x00\xff"])
def test_a_note_that_says_nothing_is_none(
    service: emulator.Service, line: Line, notes: Path, garbage: str
) -> None:
    interrupted(line)
    (note,) = notes.iterdir()
    note.write_text(garbage, encoding="utf-8")
    assert arrived(service, backend(line).stage(LABEL, lines(20)), 20)


def test_two_at_once_make_two_files(service: emulator.Service, line: Line) -> None:
    """Each intent has an input of its own: were it one file, the fence of a take-over would be gone."""
    names: list[str] = []

    def another() -> bool:
        names.append(backend(line).stage(LABEL, lines(20)))
        return True

    line.call_at(9_000_000, another)
    names.append(backend(line).stage(LABEL, lines(20)))
    assert len(set(names)) == 2
    assert all(arrived(service, name, 20) for name in names)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "upload_no_file"},
        {"kind": "upload_no_status", "times": 2},
        {"kind": "lost", "method": "upload.chunk", "times": 3},
        {"kind": "unsent", "method": "upload.chunk", "times": 3},
        {"kind": "lost", "method": "upload.start", "times": 2},
        {"kind": "done_but_error", "method": "upload.chunk", "times": 3},
        {"kind": "refused", "method": "upload.start", "code": 503, "times": 2},
    ],
)
def test_whatever_becomes_of_an_answer_the_file_is_there(
    service: emulator.Service, line: Line, fault: dict[str, object]
) -> None:
    """And is sent once: the server is asked how far it is."""
    service.fault(**fault)  # type: ignore[arg-type]
    assert arrived(service, backend(line).stage(LABEL, lines(20)), 20)
    assert line.sent < 20_000_000 + 3 * GRANULE + SPARE


@pytest.mark.parametrize(("code", "kind"), [(403, Denied), (503, Unavailable)])
def test_an_upload_that_never_works_ends_with_a_clear_error(
    service: emulator.Service, line: Line, code: int, kind: type[NightshootError]
) -> None:
    service.fault("refused", method="upload", code=code, message="No room.", times=100)
    with pytest.raises(kind, match=r"could not upload nightshoot-0a1b2c3d.*No room") as error:
        backend(line).stage(LABEL, lines(1))
    assert error.value.hint


def test_what_arrives_is_compared_with_what_was_sent(line: Line) -> None:
    """By the digest that the service says it has, in either spelling."""
    data = io.BytesIO(b"{}\n")
    with pytest.raises(Unavailable, match="other bytes arrived than were sent"):
        backend(line)._uploads.send(data, sha256="00" * 32, mime="application/jsonl", name="x")


def test_the_address_of_an_upload_is_said_nowhere(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a credential: not in what is said, however much that is, and not in the run."""
    shell = Shell(tmp_path, bench.service.environment() | {"XDG_CACHE_HOME": str(tmp_path / "caches")})
    said = shell("run", "shoes.csv", "--prompt", "{{ title }}", "--max-usd", "5", "--yes", "-vv")
    assert said.code == 0, said.all
    assert "/upload/v1/files" in said.all, "the library's own words are shown"
    assert "upload_id" not in said.all
    left = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert not any(b"upload_id" in path.read_bytes() for path in left)
