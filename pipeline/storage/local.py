"""Runs in a folder of this machine: a file is on the disk, under no name, before it gets its name."""

import contextlib
import errno
import io
import os
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import BadInput, Denied, NightshootError, Unavailable
from pipeline.storage.base import AlreadyThere, NoRoom, NotFound
from pipeline.storage.names import check, is_name

_CHUNK = 1 << 20
_BEGUN = 64  # files that are open between their halves, or about as many: a system's usual limit is 1,024
_DAY = 24 * 60 * 60.0
_KNOWS_UNNAMED = hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir()
_NO_UNNAMED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class LocalStorage:
    """A folder. Nothing is made before the first put, and a folder that is not there reads as an empty one.

    Every file is written to '.tmp/', synced, and linked to its name: unlike rename, link fails if the name is
    taken. So put and put_if_absent are the same here.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        link: Callable[[Path, Path], None] | None = None,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.url = str(root)
        self._root = Path(root).expanduser().absolute()
        self._staging = self._root / ".tmp"
        self._link = link or _link
        self._unnamed = link is None and _KNOWS_UNNAMED
        self._sync = sync
        self._made: set[Path] = set()  # folders that a power cut cannot take away any more
        self._syncs: defaultdict[Path, _Together] = defaultdict(_Together)
        self._lost: dict[Path, NightshootError] = {}  # folders that could not be synced
        self._room = deque(range(_BEGUN))
        self._swept = False

    def read(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        with self.open(name, start=start) as file, _explained(self._root / name):
            return file.read(-1 if end is None else max(end - start, 0))

    def open(self, name: str, *, start: int = 0) -> BinaryIO:
        if start < 0:
            raise ValueError(f"{name}: no file has a byte {start}")
        path = self._root / check(name)
        with _explained(path):
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise NotFound(name) from None
            file.seek(start)
            return file

    def put(self, name: str, data: bytes | BinaryIO, *, content_type: str | None = None) -> None:
        path = self._root / check(name)
        if _is_taken(path):
            self._compare(name, data)
        else:
            self._create(name, data)
        # Also where somebody else wrote the name: they may be about to sync it, and die before they do.
        with _explained(path):
            self._make(path.parent)
            self._syncs[path.parent].run(lambda: self._sync_folder(path.parent))

    def begin(self, name: str, data: bytes, *, content_type: str | None = None) -> Callable[[], None]:
        path = self._root / check(name)
        whole = partial(self.put, name, data, content_type=content_type)
        if not self._unnamed or _is_taken(path) or not self._room:
            return whole
        with _explained(path):
            self._make(self._root)
            try:
                file = self._open_unnamed()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                return whole
            if file is None:
                return whole
            begun = _Begun(file, partial(self._end, name), self._room)
            _write(file, data)
        return begun

    def settle(self, folder: str) -> None:
        path = self._root / check(folder)
        if path not in self._made:
            return
        try:
            with _explained(path):
                self._syncs[path].run(lambda: self._sync_folder(path))
        except NightshootError as error:
            self._lost.setdefault(path, error)
        if path in self._lost:  # others wait for the same folder: a second sync would claim success
            raise self._lost[path]

    def put_if_absent(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        self.put(name, data, content_type=content_type)

    def list(self, prefix: str, *, after: str = "") -> Iterator[str]:
        folder, slash, _ = prefix.rpartition("/")
        if not slash or is_name(folder):
            yield from self._walk(folder + slash, prefix, after)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[str]:
        # One folder's entries are in memory at a time, and those of the folders above it.
        for name in _entries(self._root, folder, after):
            if name.endswith("/"):
                if _may_hold(name, prefix, after):
                    yield from self._walk(name, prefix, after)
            elif name.startswith(prefix) and name > after:
                yield name

    def _create(self, name: str, data: bytes | BinaryIO) -> None:
        with self._staged(data) as staged:
            self._name(staged, name)

    def _end(self, name: str, file: io.FileIO) -> None:
        """The other half of what was begun."""
        with _explained(self._root / name):
            self._sync(file.fileno())
        staged = _path_of(file)
        self._sweep_once(staged)
        self._name(staged, name)

    def _name(self, staged: Path, name: str) -> None:
        path = self._root / name
        with _explained(path):
            self._make(path.parent)
        try:
            self._link(staged, path)
        except FileExistsError:
            with staged.open("rb") as ours:
                self._compare(name, ours)
        except OSError as error:
            raise self._explain_link(error, path) from error

    def _compare(self, name: str, data: bytes | BinaryIO) -> None:
        """Raises AlreadyThere unless the file of this name holds exactly this."""
        path = self._root / name
        with _explained(path):
            theirs = path.open("rb")
        with theirs:
            for chunk in _chunks(data):
                with _explained(path):
                    same = theirs.read(len(chunk)) == chunk
                if not same:
                    raise AlreadyThere(name)
            if theirs.read(1):
                raise AlreadyThere(name)

    @contextlib.contextmanager
    def _staged(self, data: bytes | BinaryIO) -> Iterator[Path]:
        """A file of these bytes on the disk, without a name in the run yet. Gone afterwards in any case."""
        path = self._staging / f"{os.getpid()}-{uuid.uuid4().hex}"
        with _explained(path):
            self._make(self._root)
            file = self._open_staged(path)
        named = not self._unnamed
        try:
            with file:
                for chunk in _chunks(data):  # its errors are not the disk's
                    with _explained(path):
                        _write(file, chunk)
                with _explained(path):
                    self._sync(file.fileno())  # once: after a failure a second one claims success
                    if named:
                        file.close()
                staged = path if named else _path_of(file)
                self._sweep_once(staged)
                yield staged
        finally:
            if named:
                with contextlib.suppress(OSError):  # swept in a day
                    path.unlink()

    def _open_staged(self, path: Path) -> io.FileIO:
        """A file that has no name at all where the system knows such files: that is half of the folder's work."""
        if self._unnamed and (file := self._open_unnamed()) is not None:
            return file
        self._staging.mkdir(exist_ok=True)
        return path.open("xb", buffering=0)  # a buffer would try to write again when an error closes it

    def _open_unnamed(self) -> io.FileIO | None:
        """None: the system knows such files, and this disk does not."""
        flags = os.O_TMPFILE | os.O_RDWR
        try:
            try:
                descriptor = os.open(self._staging, flags, 0o666)
            except FileNotFoundError:
                self._staging.mkdir(exist_ok=True)
                descriptor = os.open(self._staging, flags, 0o666)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            self._unnamed = False
            return None
        return io.FileIO(descriptor, "wb")

    def _sweep_once(self, fresh: Path) -> None:
        """Remove what writers left that died more than a day ago, by the file system's own time."""
        if self._swept:
            return
        self._swept = True
        with contextlib.suppress(OSError), os.scandir(self._staging) as leftovers:
            newest = fresh.stat().st_mtime
            for leftover in leftovers:
                with contextlib.suppress(OSError):  # another writer's broom, or another user's file
                    if newest - leftover.stat().st_mtime > _DAY:
                        Path(leftover).unlink()

    def _make(self, folder: Path) -> None:
        """Make a folder with all above it, durably. Costs a look into a set after the first time.

        A folder that is there already may have been made by a process that has not synced it yet, so whatever
        this object has not synced itself is synced, from the run's own folder down.
        """
        if folder in self._made:
            return
        fresh = []
        for path in (folder, *folder.parents):
            if path in self._made or (path in self._root.parents and path.is_dir()):
                break
            fresh.append(path)
        for path in reversed(fresh):
            path.mkdir(exist_ok=True)
            self._sync_folder(path.parent)
            self._made.add(path)

    def _sync_folder(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            return  # we may pass through but not look: it is not ours to keep
        try:
            self._sync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # file systems that cannot sync a folder, and need not
                raise
        finally:
            os.close(descriptor)

    def _explain_link(self, error: OSError, path: Path) -> NightshootError:
        if error.errno in _NO_HARD_LINKS:
            return BadInput(
                f"{self._root}: this file system has no hard links, which keep two writers apart",
                hint="put the run on a local disk, or into a bucket with gs://bucket/folder",
            )
        if error.errno == errno.EXDEV:
            return BadInput(
                f"{path.parent}: this folder is on another disk than {self._staging}",
                hint="keep a run on one disk, without links and mounts inside it",
            )
        return _explain(error, path)


def _link(staged: Path, target: Path) -> None:
    # A descriptor of a folder, which an absolute path has no use for, makes it the call that follows the link in
    # /proc to a file without a name.
    os.link(staged, target, src_dir_fd=-1, follow_symlinks=True)


class _Begun:
    """A file that is written and has no name yet. It is gone where nobody calls for its other half."""

    def __init__(self, file: io.FileIO, end: Callable[[io.FileIO], None], room: deque[int]) -> None:
        self._file = file
        self._end = end
        self._room = room  # no semaphore: its lock may be held where garbage is collected
        try:
            self._place: int | None = room.pop()
        except IndexError:  # others were faster: one more does no harm
            self._place = None

    def __call__(self) -> None:
        with self._file:
            self._end(self._file)

    def __del__(self) -> None:
        if self._place is not None:
            self._room.append(self._place)
        self._file.close()


def _path_of(file: io.FileIO) -> Path:
    return Path(f"/proc/self/fd/{file.fileno()}")


class _Together:
    """Threads that want the same thing done at the same time have it done once.

    Who comes while it is being done waits for the next time: what is under way may have begun before they came.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._came = self._served = 0
        self._busy = False
        self._failed: tuple[int, OSError] | None = None  # up to whom, and with what

    def run(self, act: Callable[[], None]) -> None:
        with self._turn:
            self._came += 1
            mine = self._came
            while self._served < mine:
                if self._busy:
                    self._turn.wait()
                else:
                    self._serve(act)
            # Not once more for who only waited: after a failure a second sync claims success.
            if self._failed is not None and mine <= self._failed[0]:
                raise self._failed[1]

    def _serve(self, act: Callable[[], None]) -> None:
        self._busy, waiting = True, self._came
        self._turn.release()
        try:
            act()
        except OSError as error:
            self._failed = waiting, error
        finally:
            self._turn.acquire()
            self._busy, self._served = False, waiting
            self._turn.notify_all()


def _is_taken(path: Path) -> bool:
    with _explained(path):
        return path.exists()


def _may_hold(folder: str, prefix: str, after: str) -> bool:
    """Whether names below the folder, which ends with '/', can start with prefix and sort behind after."""
    below_prefix = folder.startswith(prefix) or prefix.startswith(folder)
    return below_prefix and (folder > after or after.startswith(folder))


def _entries(root: Path, folder: str, after: str) -> list[str]:
    """What is in a folder, its folders with a '/' behind them: 'a-b' sorts before 'a/b', as in a bucket. What comes
    before a name is not looked at: a journal of thousands is asked for its newest all the time.
    """
    path = root / folder
    with _explained(path):
        try:
            with os.scandir(path) as entries:
                later = (entry for entry in entries if _may_come(folder + entry.name, after))
                return sorted(folder + named for entry in later if (named := _named(entry)))
        except (FileNotFoundError, NotADirectoryError):
            return []


def _may_come(name: str, after: str) -> bool:
    """Whether a name, or one below a folder of that name, may sort after this one."""
    return name > after or after.startswith(name)


def _named(entry: os.DirEntry[str]) -> str | None:
    """What a folder's entry is listed as; None for what cannot be a file of a run."""
    if not is_name(entry.name):
        return None
    if entry.is_dir():
        return entry.name + "/"
    return entry.name if entry.is_file() else None


def _chunks(data: bytes | BinaryIO) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    while chunk := data.read(_CHUNK):
        yield chunk


def _write(file: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error


def _explain(error: OSError, path: Path) -> NightshootError:
    reason = (error.strerror or str(error)).lower()
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return NoRoom(
                f"{path}: {reason}", hint="free some space and run again; what was written is complete"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Denied(f"{path}: {reason}", hint="let this user write there, or choose another folder")
        case errno.EEXIST | errno.ENOTDIR | errno.EISDIR:
            return BadInput(
                f"{path}: a file is where a folder has to be, or the other way round",
                hint="move it away, or choose another folder",
            )
        case errno.ENAMETOOLONG:
            return BadInput(f"{path}: {reason}", hint="choose a folder with a shorter path")
        case errno.EFBIG:
            return NoRoom(f"{path}: {reason}", hint="check the disk and run again")
        case _:
            return Unavailable(f"{path}: {reason}", hint="check the disk and run again")
