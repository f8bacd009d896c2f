"""A process that stages lines of so many megabytes, and may be killed on the way.

python -m tests.uploader SERVICE KEY MEGABYTES. Time is the machine's, so that nobody waits for an emulator's.
"""

import sys
from collections.abc import Iterator

from pipeline.backends.developer import Developer
from pipeline.clock import EmulatorClock

LABEL = "nightshoot-0a1b2c3d-00000-0123456789ab"


def lines(megabytes: int) -> Iterator[bytes]:
    """So many lines of a megabyte each, with its line end."""
    for n in range(megabytes):
        yield (b"%08d" % n) * (1_000_000 // 8 - 1) + b"1234567"


def main(service: str, key: str, megabytes: str) -> None:
    backend = Developer(key=key, service=service, clock=EmulatorClock(service))
    sys.stdout.write(f"{backend.stage(LABEL, lines(int(megabytes)))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
