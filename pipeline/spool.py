"""What does not fit into memory: on this machine's disk, for a while."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom

from pipeline.storage.base import NoRoom

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def spool() -> Iterator[BufferedRandom]:
    """A file without a name, to be written and read. It is gone afterwards, however that comes."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        if error.errno not in _FULL:
            raise
        hint = "free some space there, or set TMPDIR; nothing is lost"
        raise NoRoom(f"{tempfile.gettempdir()}: {str(error.strerror).lower()}", hint=hint) from error
