"""What it costs to prove pictures whole and to check them, beside Pillow's own decode of the same files."""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from pipeline.checks import Checks, Rules, examine, rules_of
from pipeline.pictures import Broken, look

SHAPES = (("JPEG", 1024), ("PNG", 1024), ("JPEG", 2048), ("PNG", 2048), ("JPEG", 4096))


def checking(*, small: bool) -> None:
    """pictures of about 1.5 MB for each million of pixels, on one core: decoded by Pillow, proven whole, checked."""
    rules = rules_of(Checks(profile="amazon-main"), "main")
    for form, side in SHAPES[:2] if small else SHAPES:
        data = _picture(form, side)
        decode, proof, checks = _milliseconds(
            lambda data=data: Image.open(io.BytesIO(data)).load(),
            lambda data=data: look(data),
            lambda data=data: _checked(data, rules),
        )
        print(
            f"  {side} {form:<4} {len(data) / 1e6:>5.1f} MB   decoded {decode:>6.1f} ms   "
            f"whole {proof:>5.1f} ms, {proof / decode:.2f} of it   all checks {checks:>6.1f} ms, {checks / decode:.2f}"
        )


def _checked(data: bytes, rules: Rules) -> None:
    picture = look(data)
    assert not isinstance(picture, Broken)
    assert not isinstance(examine(data, picture, rules), Broken)


def _picture(form: str, side: int) -> bytes:
    """Something with shapes and grain, as heavy as the real ones."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y), np.sin(9 * x * y)]
    grain = np.random.default_rng(7).normal(0, 4, (side, side, 3))
    image = Image.fromarray((128 + 80 * np.stack(waves, axis=-1) + grain).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    return file.getvalue()


def _milliseconds(*works: Callable[[], object]) -> list[float]:
    """The processor's time for each, the best of several, in turns: the machine may have other things to do."""
    least = [float("inf")] * len(works)
    for _ in range(9):
        for place, work in enumerate(works):
            start = time.process_time()
            work()
            least[place] = min(least[place], time.process_time() - start)
    return [seconds * 1000 for seconds in least]
