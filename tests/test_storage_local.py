"""What a folder of this machine promises beyond the contract."""

import errno
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import PIPE

import pytest

from pipeline.errors import BadInput, Denied, Unavailable
from pipeline.storage import AlreadyThere, open_storage
from pipeline.storage.base import NoRoom
from pipeline.storage.local import LocalStorage

DAY = 24 * 60 * 60


def no_hard_links(_source: Path, _target: Path) -> None:
    """What FAT does."""
    raise OSError(errno.EPERM, "Operation not permitted")


def temporary(root: Path) -> list[Path]:
    return list((root / ".tmp").iterdir())


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """A real failing write: the kernel refuses to let files of this process grow further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class Disk:
    """What was asked of the disk, in order: 'synced' and 'linked' paths. Does all of it."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Path]] = []

    def sync(self, descriptor: int) -> None:
        self.log.append(("synced", Path(f"/proc/self/fd/{descriptor}").readlink()))
        os.fsync(descriptor)

    def link(self, source: Path, target: Path) -> None:
        self.log.append(("linked", target))
        os.link(source, target)

    def synced(self) -> list[Path]:
        return [path for what, path in self.log if what == "synced"]

    def open(self, root: Path) -> LocalStorage:
        return LocalStorage(root, link=self.link, sync=self.sync)


@contextmanager
def racers(root: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.racer", str(root)]
    here = Path(__file__).parent.parent
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen([*command, chr(65 + number)], cwd=here, stdin=PIPE, stdout=PIPE, text=True)
            )
            for number in range(count)
        ]
        assert answers(started) == ["ready"] * count
        yield started


def answers(started: list[subprocess.Popen[str]]) -> list[str]:
    return [process.stdout.readline().strip() for process in started if process.stdout]


def release(started: list[subprocess.Popen[str]], name: str) -> list[str]:
    for process in started:
        assert process.stdin
        process.stdin.write(name + "\n")
        process.stdin.flush()
    return answers(started)


def test_of_eight_processes_exactly_one_wins(tmp_path: Path) -> None:
    """Each of twenty rounds has one winner, and its bytes are there, whole."""
    with racers(tmp_path, 8) as started:
        for round_ in range(20):
            said = release(started, f"journal/{round_}")

            assert sorted(said) == ["lost"] * 7 + ["won"]
            winner = chr(65 + said.index("won")).encode()
            assert (tmp_path / "journal" / str(round_)).read_bytes() == winner * 5000
    assert temporary(tmp_path) == []


def test_a_path_is_opened_as_typed_and_nothing_is_made_before_the_first_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("runs/shoes")

    assert list(storage.list("")) == []
    assert list(tmp_path.iterdir()) == []
    storage.put("a", b"")

    assert storage.url == "runs/shoes"
    assert (tmp_path / "runs" / "shoes" / "a").exists()


def test_a_run_stays_where_it_is_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage("run")
    monkeypatch.chdir("/")

    storage.put("a", b"kept")

    assert (tmp_path / "run" / "a").read_bytes() == b"kept"


def test_a_folder_costs_no_import_of_googles_client(tmp_path: Path) -> None:
    script = (
        "import sys; from pipeline.storage import open_storage; open_storage(sys.argv[1]).put('a', b'');"
        "sys.exit(any(name.partition('.')[0] in ('google', 'requests') for name in sys.modules))"
    )
    here = Path(__file__).parent.parent

    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=here, check=True)

    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("url", ["s3://bucket/runs", "file:///runs", ""])
def test_other_places_are_refused_with_the_two_that_there_are(url: str) -> None:
    with pytest.raises(BadInput) as raised:
        open_storage(url)
    assert raised.value.hint == "give a folder, or gs://bucket/folder"


def test_files_are_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    """Colleagues read the pictures too: no private temporary files."""
    before = os.umask(0o022)
    try:
        LocalStorage(tmp_path).put("pictures/0", b"picture")
    finally:
        os.umask(before)

    mode = (tmp_path / "pictures" / "0").stat()
    assert stat.S_IMODE(mode.st_mode) == 0o644
    assert mode.st_nlink == 1


def test_a_file_system_without_hard_links_is_refused_in_words(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "usb-stick", link=no_hard_links)

    with pytest.raises(BadInput, match="usb-stick: this file system has no hard links") as raised:
        storage.put("journal/00000000.json", b"{}")

    assert raised.value.hint is not None
    assert "gs://" in raised.value.hint
    assert list(storage.list("")) == []
    assert temporary(tmp_path / "usb-stick") == []


def test_a_folder_on_another_disk_is_refused_in_words(tmp_path: Path) -> None:
    def across(_source: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with pytest.raises(BadInput, match="is on another disk"):
        LocalStorage(tmp_path, link=across).put("pictures/0", b"")


def test_a_link_whose_answer_was_lost_is_success(tmp_path: Path) -> None:
    """Network file systems send a request again, and then find their own file in the way."""

    def twice(source: Path, target: Path) -> None:
        os.link(source, target)
        os.link(source, target)

    LocalStorage(tmp_path, link=twice).put_if_absent("journal/0", b"mine")

    assert (tmp_path / "journal" / "0").read_bytes() == b"mine"


def test_a_writer_that_loses_at_the_last_moment_compares(tmp_path: Path) -> None:
    """The name is free when it looks and taken when it links."""

    def late(source: Path, target: Path) -> None:
        target.write_bytes(b"theirs")
        os.link(source, target)

    with pytest.raises(AlreadyThere):
        LocalStorage(tmp_path, link=late).put("a", b"others")
    LocalStorage(tmp_path, link=late).put("b", b"theirs")

    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert temporary(tmp_path) == []


def test_a_write_that_fails_leaves_nothing_and_says_where(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("before", b"fine")

    with files_limited_to(100_000), pytest.raises(Unavailable, match=r"\.tmp/.*: file too large") as raised:
        storage.put("pictures/0", io.BytesIO(bytes(3_000_000)))

    assert raised.value.hint == "check the disk and run again"
    assert temporary(tmp_path) == []
    assert list(storage.list("")) == ["before"]
    storage.put("pictures/0", b"now it fits")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk at hand")
def test_a_full_disk_is_unavailable_with_a_hint(tmp_path: Path) -> None:
    """The error is a real full device's."""

    def fill_up(_source: Path, _target: Path) -> None:
        Path("/dev/full").write_bytes(b"x")

    storage = LocalStorage(tmp_path, link=fill_up)

    with pytest.raises(Unavailable, match="no space left on device") as raised:
        storage.put("pictures/0", b"picture")

    assert raised.value.hint is not None
    assert "free some space" in raised.value.hint
    assert temporary(tmp_path) == []


def test_an_error_of_the_stream_is_the_streams_and_leaves_nothing(tmp_path: Path) -> None:
    """A download that breaks while it is put is not the disk's fault."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise ConnectionResetError("connection reset by peer")
            return super().read(5)

    storage = LocalStorage(tmp_path)

    with pytest.raises(ConnectionResetError):
        storage.put("results/0", Broken(b"0123456789"))

    assert list(storage.list("")) == []
    assert temporary(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Denied, match="permission denied"):
        LocalStorage(tmp_path / "runs").put("a", b"")


def test_a_permission_that_is_missing_is_denied(tmp_path: Path) -> None:
    def forbidden(_source: Path, _target: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with pytest.raises(Denied, match="permission denied") as raised:
        LocalStorage(tmp_path, link=forbidden).put("a", b"")
    assert raised.value.hint == "let this user write there, or choose another folder"


def test_files_and_folders_in_each_others_way_are_bad_input(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "run")
    storage.put("a/b", b"")

    for name in ("a", "a/b/c"):
        with pytest.raises(BadInput, match="a file is where a folder has to be"):
            storage.put(name, b"")
    with pytest.raises(BadInput, match="a file is where a folder has to be"):
        LocalStorage(tmp_path / "run" / "a" / "b").put("c", b"")
    assert temporary(tmp_path / "run") == []


def test_leftovers_are_swept_after_a_day_and_not_before(tmp_path: Path) -> None:
    """By the file system's time, since it is the one that dated them; reading sweeps nothing."""
    folder = tmp_path / ".tmp"
    folder.mkdir()
    for name, age in (("old", DAY + 60), ("fresh", DAY - 60), ("from-the-future", -DAY)):
        (folder / name).write_bytes(b"half")
        written = (folder / name).stat().st_mtime
        os.utime(folder / name, (written - age, written - age))

    storage = LocalStorage(tmp_path)
    assert list(storage.list("")) == []
    assert len(temporary(tmp_path)) == 3

    storage.put("a", b"")
    assert {path.name for path in temporary(tmp_path)} == {"fresh", "from-the-future"}


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to ask for paths")


@needs_proc
def test_a_new_folder_is_synced_before_a_put_returns(tmp_path: Path) -> None:
    """A power cut must not take away a folder with a file in it. Later puts sync the file and its folder."""
    disk, root = Disk(), tmp_path / "runs" / "shoes"
    storage = disk.open(root)
    folder = root / "pictures" / "00017"

    storage.put("pictures/00017/0", b"")

    folders = [path for path in disk.synced() if path.is_dir()]
    assert folders == [tmp_path, tmp_path / "runs", root, root / "pictures", folder]
    assert disk.log[-2:] == [("linked", folder / "0"), ("synced", folder)]

    disk.log.clear()
    storage.put("pictures/00017/1", b"")
    assert [path for path in disk.synced() if path.is_dir()] == [folder]


@needs_proc
def test_the_bytes_are_synced_before_they_get_a_name(tmp_path: Path) -> None:
    disk = Disk()

    disk.open(tmp_path).put("a", b"bytes")

    staged = [path for path in disk.synced() if path.parent == tmp_path / ".tmp"]
    assert len(staged) == 1
    assert disk.log.index(("synced", staged[0])) < disk.log.index(("linked", tmp_path / "a"))


@needs_proc
def test_a_folder_that_another_process_made_is_synced_too(tmp_path: Path) -> None:
    """It may die before it syncs what it made, and ours would go with it."""
    (tmp_path / "run" / "journal").mkdir(parents=True)
    disk = Disk()

    disk.open(tmp_path / "run").put("journal/0", b"")

    assert {tmp_path, tmp_path / "run", tmp_path / "run" / "journal"} <= set(disk.synced())


@needs_proc
def test_finding_the_same_bytes_there_is_durable_too(tmp_path: Path) -> None:
    """Whoever wrote them may not have come to syncing the name."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "0").write_bytes(b"same")
    disk = Disk()

    disk.open(tmp_path).put_if_absent("journal/0", b"same")

    assert disk.log == [("synced", tmp_path.parent), ("synced", tmp_path), ("synced", tmp_path / "journal")]


def test_a_sync_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    """The kernel forgets what it could not write: a second sync would claim success."""
    tried = []

    def failing(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            tried.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(Unavailable, match="input/output error"):
        LocalStorage(tmp_path, sync=failing).put("a", b"bytes")

    assert len(tried) == 1
    assert temporary(tmp_path) == []
    assert list(LocalStorage(tmp_path).list("")) == []


def test_a_file_system_that_cannot_sync_folders_is_taken_as_it_is(tmp_path: Path) -> None:
    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    LocalStorage(tmp_path, sync=files_only).put("a", b"bytes")

    assert (tmp_path / "a").read_bytes() == b"bytes"


def test_a_folder_that_cannot_be_synced_is_trouble(tmp_path: Path) -> None:
    """The name is there, but what cannot be made durable was not put; another try may do it."""
    (tmp_path / "run").mkdir()
    failing = True

    def folders_fail(descriptor: int) -> None:
        if failing and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    storage = LocalStorage(tmp_path / "run", sync=folders_fail)
    with pytest.raises(Unavailable, match="input/output error"):
        storage.put("a", b"bytes")
    failing = False

    storage.put("a", b"bytes")
    assert storage.read("a") == b"bytes"


@needs_proc
def test_threads_share_a_folder_s_next_sync_and_not_the_one_under_way(tmp_path: Path) -> None:
    """What is under way may have begun before their names were there."""
    folder = tmp_path / "pictures"
    under_way, go_on = threading.Event(), threading.Event()
    durable: set[str] = set()

    def sync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() != folder:
            return
        there = {path.name for path in folder.iterdir()}
        if there == {"0", "1"}:
            under_way.set()
            assert go_on.wait(30)
        durable.update(there)

    def put(name: str) -> bool:
        storage.put(f"pictures/{name}", b"")
        return name in durable

    storage = LocalStorage(tmp_path, sync=sync)
    assert put("0")
    with ThreadPoolExecutor(8) as pool:
        puts = [pool.submit(put, "1")]
        assert under_way.wait(30)
        puts += [pool.submit(put, str(n)) for n in range(2, 8)]
        while len(list(folder.iterdir())) < 8:
            assert not any(done.done() for done in puts)
        go_on.set()
        assert all(done.result(30) for done in puts)


def test_a_file_system_that_knows_no_unnamed_files_gets_named_ones(tmp_path: Path) -> None:
    """Linked by somebody else's call, which follows no link in /proc."""
    LocalStorage(tmp_path, link=os.link).put("a", b"bytes")
    LocalStorage(tmp_path).put("b", b"bytes")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"bytes"
    assert temporary(tmp_path) == []


@needs_proc
def test_in_halves_bytes_are_synced_before_they_get_a_name_and_the_folder_when_it_is_settled(
    tmp_path: Path,
) -> None:
    folder, synced = tmp_path / "pictures", []

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        names = sorted(each.name for each in folder.iterdir()) if folder.exists() else []
        synced.append((path if path.is_dir() else "a file", names))
        os.fsync(descriptor)

    storage = LocalStorage(tmp_path, sync=sync)
    storage.put("pictures/0", b"")
    synced.clear()

    ends = [storage.begin(f"pictures/{n}", b"bytes") for n in (1, 2)]
    assert synced == []  # the first half waits for nothing
    for end in ends:
        end()
    assert synced == [("a file", ["0"]), ("a file", ["0", "1"])]
    storage.settle("pictures")
    assert synced[2:] == [(folder, ["0", "1", "2"])]


def open_in(root: Path) -> list[str]:
    """The files below a folder that this process has open."""
    there = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [str(path) for path in there if root in path.parents]


@needs_proc
def test_what_was_begun_and_not_ended_keeps_no_file_open(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)

    begun = [storage.begin(f"pictures/{n}", b"bytes") for n in range(1000)]
    assert 0 < len(open_in(tmp_path)) < 200  # a system's usual limit is 1,024
    begun[0]()
    begun[-1]()
    del begun

    assert open_in(tmp_path) == []
    begun = [storage.begin(f"another/{n}", b"bytes") for n in range(1000)]
    assert len(open_in(tmp_path)) > 20, "what was given back is taken again"
    del begun

    assert open_in(tmp_path) == []
    assert temporary(tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["0", "999"]


@needs_proc
def test_a_half_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)

    with files_limited_to(1000), pytest.raises(NoRoom, match="file too large"):
        storage.begin("pictures/0", b"x" * 5000)

    assert (open_in(tmp_path), temporary(tmp_path)) == ([], [])
    storage.begin("pictures/0", b"x" * 5000)()
    assert storage.read("pictures/0") == b"x" * 5000


def test_a_folder_that_could_not_be_settled_is_not_believed_later(tmp_path: Path) -> None:
    """Other parts of the same batch wait for the same folder; the kernel tells of what it lost only once."""
    lost = [OSError(errno.EIO, "Input/output error")]

    def once(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and (tmp_path / "pictures" / "0").exists() and lost:
            raise lost.pop()

    storage = LocalStorage(tmp_path, sync=once)
    storage.begin("pictures/0", b"bytes")()

    for _ in range(2):
        with pytest.raises(Unavailable, match="input/output error"):
            storage.settle("pictures")


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """A real refusal: this process has as many files open as it may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        highest = stack.enter_context(Path(os.devnull).open("rb")).fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        with suppress(OSError):
            while True:
                stack.enter_context(Path(os.devnull).open("rb"))
        yield


@needs_proc
def test_what_cannot_be_begun_is_put_whole_in_the_second_half(tmp_path: Path) -> None:
    """On a disk without files that have no name, and in a process with too many open: fewer are by then."""
    named, crowded = LocalStorage(tmp_path, link=os.link), LocalStorage(tmp_path)
    crowded.put("journal", b"")
    ends = [named.begin(f"pictures/{n}", b"bytes") for n in range(3)]
    with no_descriptor_left():
        ends += [crowded.begin(f"pictures/{n}", b"bytes") for n in range(3, 6)]
    assert open_in(tmp_path) == []

    for end in ends:
        end()

    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == list("012345")
    assert temporary(tmp_path) == []


def test_a_sync_that_fails_between_the_halves_leaves_nothing(tmp_path: Path) -> None:
    def failing(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    end = LocalStorage(tmp_path, sync=failing).begin("a", b"bytes")
    with pytest.raises(Unavailable, match="input/output error"):
        end()

    assert temporary(tmp_path) == []
    assert list(LocalStorage(tmp_path).list("")) == []
