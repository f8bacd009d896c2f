"""How a command that drives a run gets by on less memory. For its own process only: these are settings of libraries."""

import os
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_ARENAS = 2
_PICTURES = 32 << 20  # bytes: larger than any picture, and the most that glibc takes


def one_heap() -> None:
    """Let Arrow have no heap of its own: it keeps what was freed, tens of megabytes of tables that were small and many.

    To be said before Arrow and numpy are loaded. Later Arrow hears it for what Python asks of it, and not for what
    reads its files.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Threads of numpy's, which go round in a circle until somebody multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


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
    """Each thread's own heap keeps room for a picture or two. They hardly ever allocate at once.

    And no picture is given back to the system with its pages, only to ask for as many again with the next.
    """
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # no glibc, and nothing lost
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_ARENA_MAX, _ARENAS)
        mallopt(_MMAP_THRESHOLD, _PICTURES)
        mallopt(_TRIM_THRESHOLD, _PICTURES)
