"""`make fuzz`: odd lines by chance for a while, read by ours and by a plain parser."""

import argparse
import random
import sys
import time
from collections.abc import Sequence

from pipeline.blocks import BLOCK
from tests.fuzz.check import Mismatch, check_line, check_stream
from tests.fuzz.lines import Writer


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="of the first line; by chance otherwise")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    until, lines = time.monotonic() + options.seconds, 0
    while lines == 0 or time.monotonic() < until:
        try:
            lines += fuzz(seed)
        except Mismatch as mismatch:
            sys.stdout.write(f"{mismatch}\nagain with: python -m tests.fuzz --seconds 0 --seed {seed}\n")
            return 1
        seed += 1
    sys.stdout.write(f"{lines:,} lines were read as a plain parser reads them\n")
    return 0


def fuzz(seed: int) -> int:
    """A handful of lines, each alone and all in one stream. How many there were."""
    writer = Writer(seed)
    written = [writer.line() for _ in range(writer.chance.randint(1, 6))]
    for line in written:
        for long in (1, 8, 64, 1024):
            check_line(line, long=long)
    ends = [writer.chance.choice((b"\n", b"\n", b"\r\n", b"\n\n", b" \n")) for _ in written]
    data = b"".join(line + end for line, end in zip(written, ends, strict=True))
    if writer.chance.random() < 0.2:
        data = data[: writer.chance.randint(0, len(data))]
    # Large payloads by larger pieces, or nobody would see the end of it.
    pieces, blocks = (
        ((5000, 65_536, 1 << 20), (65_536, 1_000_003, BLOCK)) if writer.is_heavy else (FEW, SMALL)
    )
    check_stream(data, [writer.chance.choice(pieces) for _ in range(5)], block=writer.chance.choice(blocks))
    return len(written)


FEW, SMALL = (1, 2, 7, 100, 5000), (1, 16, 1000)
"""Bytes that come at a time, and that are in a block."""


if __name__ == "__main__":
    sys.exit(main())
