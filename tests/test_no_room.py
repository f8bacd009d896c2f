"""A full disk or a bucket that says no in the middle of collecting: said, nothing half there, and it goes on."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import emulator
from pipeline.collect import collect
from pipeline.drive import Driver
from pipeline.errors import NightshootError
from pipeline.index import read_index
from pipeline.run import open_run, quarantine_file
from pipeline.storage.base import NoRoom, Storage
from pipeline.storage.gcs import GcsStorage
from pipeline.storage.local import LocalStorage
from tests.bench import Bench, fingerprints, outcomes
from tests.shell import Shell

MADE = ("pictures", "index", "retry")


class FillingUp:
    """A disk with room for so many more files: whoever syncs the next one hears that there is none left."""

    def __init__(self, files: int) -> None:
        self.files = files

    def sync(self, descriptor: int) -> None:
        if self.files <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.files -= 1
        os.fsync(descriptor)


def ended(bench: Bench, storage: Storage | None = None) -> None:
    """A run whose one batch has ended and is not collected."""
    bench.make_job(rows=12, max_requests=12)
    bench.service.fault("unknown_key", prompt="Shoe 3", times=1)
    driver = bench.begin(storage=storage)
    while driver.draw() or driver.submit():
        pass
    bench.service.advance(3600)
    driver.poll()


def whole(storage: Storage) -> None:
    """Every picture that lies there is the one that its name says."""
    for name in storage.list("pictures/"):
        assert hashlib.sha256(storage.read(name)).hexdigest()[:8] in name


def of_a_quiet_run(bench: Bench) -> dict[str, str]:
    """What the same night leaves where nothing goes wrong."""
    bench.service.clear_faults()
    bench.service.fault("unknown_key", prompt="Shoe 3", times=1)
    storage = bench.place("quiet")
    bench.begin(storage=storage).to_the_end()
    return fingerprints(storage, MADE)


@pytest.mark.parametrize("room", [0, 7, 15])
def test_a_disk_that_fills_up_is_said_and_filled_on_when_there_is_room(bench: Bench, room: int) -> None:
    """Wherever it happens: in a picture, a stray line, a part, the index."""
    ended(bench)
    place = bench.folder / "runs" / "run"
    disk = FillingUp(room)
    run = open_run(LocalStorage(place, sync=disk.sync), bench.clock)
    with Driver(run, bench.backend())._pool() as pool, pytest.raises(NoRoom) as error:
        collect(run, bench.backend(), 0, pool=pool)
    assert "no space left on device" in error.value.message
    assert str(place) in error.value.message
    assert error.value.hint == "free some space and run again; what was written is complete"
    whole(bench.place())
    assert not list((place / ".tmp").iterdir()), "what was begun takes no room"
    bench.again().to_the_end()
    assert outcomes(read_index(open_run(bench.place(), bench.clock))) == {"ok": 12}
    (stray,) = bench.place().read(quarantine_file(0)).splitlines()
    assert bench.place().read(json.loads(stray)["line_file"]).startswith(b'{"response":')
    assert fingerprints(bench.place(), MADE) == of_a_quiet_run(bench)


LIMITED = """
import resource, runpy
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


def test_a_process_that_may_write_no_large_file_says_so_and_another_goes_on(bench: Bench) -> None:
    """The system's own limit, met in the middle of writing a picture; the same command without it ends the run."""
    ended(bench)
    shell = Shell(bench.folder, bench.service.environment() | {"GEMINI_API_KEY": bench.key})
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, "collect", "runs/run"],
        cwd=shell.folder,
        env=shell.environment | {"PYTHONDONTWRITEBYTECODE": "1"},  # it could write them by half
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 5, said.stderr
    assert "file too large" in said.stderr
    assert "Traceback" not in said.stderr
    assert not list(bench.place().list("pictures/"))
    assert shell("collect", "runs/run").code in (0, 6)
    whole(bench.place())
    bench.again().to_the_end()
    assert outcomes(read_index(open_run(bench.place(), bench.clock))) == {"ok": 12}


@pytest.mark.parametrize(("name", "status", "code"), [("pictures/", 503, 5), ("index/", 403, 4)])
def test_a_bucket_that_refuses_in_the_middle_is_said_and_filled_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int, code: int
) -> None:
    with emulator.start(queue=(1, 1), run=(1, 1), buckets=("shoes",)) as service:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        bench = Bench(service, tmp_path)
        storage = GcsStorage("gs://shoes/runs/run", patience=0.3)
        ended(bench, storage)
        skip = 2 if name == "pictures/" else 0
        order = {"on": "insert", "fault": str(status), "name": name, "times": 10_000, "skip": skip}
        service._ask("POST", "/_gcs/faults", order)
        run = open_run(storage, bench.clock)
        with Driver(run, bench.backend())._pool() as pool, pytest.raises(NightshootError) as error:
            collect(run, bench.backend(), 0, pool=pool)
        assert error.value.exit_code == code
        assert "gs://shoes/runs/run" in error.value.message
        assert error.value.hint
        whole(storage)
        service._ask("DELETE", "/_gcs/faults")
        bench.again(storage=storage).to_the_end()
        assert fingerprints(storage, MADE) == of_a_quiet_run(bench)
