"""A file of text, whatever wrote it: gzip undone, its encoding found by looking at every byte once."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from pipeline.errors import BadInput

_CHUNK = 1 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class TextFile:
    """How to read a file as text, any number of times."""

    path: Path
    gzipped: bool
    encoding: str
    warnings: tuple[str, ...] = ()

    def open(self, *, newline: str) -> io.TextIOWrapper:
        """Its text from the start; only newline ends a line ('' leaves that to the csv module)."""
        # What is no cp1252 either (five bytes are not) was warned of; it must not sink the rest.
        errors = "replace" if self.encoding == "cp1252" else "strict"
        binary = _opened(self.path, gzipped=self.gzipped)
        return io.TextIOWrapper(
            cast("IO[bytes]", binary), encoding=self.encoding, errors=errors, newline=newline
        )


def examine(path: Path) -> TextFile:
    """Find out how a file is to be read. Reads it to its end, a chunk at a time."""
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP
    with readable(path), _opened(path, gzipped=gzipped) as binary:
        encoding, trouble_at = _encoding_of(binary)
    if not trouble_at:
        return TextFile(path, gzipped, encoding)
    warning = (
        f"{path}:{trouble_at}: not UTF-8, read as Windows-1252: look whether accents and quotes are right"
    )
    return TextFile(path, gzipped, encoding, (warning,))


def first_character(path: Path) -> str:
    """The first character of its text that is no white space, or ''."""
    with readable(path), open_bytes(path) as binary:
        head = binary.read(4096)
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8-sig"
    return head.decode(encoding, errors="replace").lstrip()[:1]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever stops the reading of a file, as the user's own trouble with it."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: a broken gzip file: {error}", hint="copy or download it again") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: no text in {error.encoding}: {error.reason}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file from the start, gzip undone."""
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP
    return _opened(path, gzipped=gzipped)


def _opened(path: Path, *, gzipped: bool) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if gzipped else path.open("rb")


def _encoding_of(binary: BinaryIO) -> tuple[str, int]:
    """The encoding, and the line of the first byte that is no UTF-8, or 0."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    chunk = binary.read(_CHUNK)
    if chunk.startswith(_UTF16):
        return "utf-16", 0
    encoding = "utf-8-sig" if chunk.startswith(codecs.BOM_UTF8) else "utf-8"
    while True:
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            return "cp1252", lines + error.object[: error.start].count(b"\n")
        if not chunk:
            return encoding, 0
        lines += chunk.count(b"\n")
        chunk = binary.read(_CHUNK)
