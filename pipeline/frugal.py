"""How a command that drives a run gets by on less memory. For its own process only: these are settings of libraries."""

import ctypes
import os
import sys
from contextlib import suppress

_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def one_heap() -> None:
    """Let Arrow have no heap of its own: it keeps what was freed, tens of megabytes of tables that were small and many.

    To be said before Arrow is loaded. Later it is heard by what Python asks of it, and not by what reads its files.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def be_frugal() -> None:
    """Load no pandas that nobody asked for, let threads share their heaps, and Arrow have none of its own."""
    one_heap()
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    _spare_pandas()
    _share_heaps()


def _spare_pandas() -> None:
    """Arrow looks for pandas when it is first shown a list, which takes half a second and 40 MB. Who is told that there
    is none does without until somebody asks for a frame. It would not know one that it is shown: where other code than
    ours uses Arrow, this must not be done.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        pa.array([])
    except AttributeError:  # it did not expect nothing, and remembers that there was nothing
        pass
    finally:
        del sys.modules["pandas"]


def _share_heaps() -> None:
    """Each thread's own heap keeps room for a picture or two. They hardly ever allocate at once."""
    with suppress(OSError, AttributeError, TypeError):  # no glibc, and nothing lost
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)
