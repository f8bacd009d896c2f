"""What is odd about a picture, seen in one decode: words for people, and the numbers they rest on.

Nothing here changes or keeps out a picture. Sums are of whole numbers, so that two machines say the same of the same
pixels.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from pipeline.likeness import likeness
from pipeline.pictures import Broken, Picture, decoded
from pipeline.pixels import SIDE, darkest, figure, on_white, reduced

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

BLANK = 4.0  # least spread of brightness; the emptiest real picture has 32
SOFT = 15.0  # least spread of edges; sharp ones have 187 and more, one that is blurred beyond use 3
STRIP = 50  # one in so many pixels from each edge belongs to the border
WHITE = 0.98  # of the worst border's pixels
_EVEN = 6  # levels within which a line of pixels is of one colour
_STEP = 24  # levels from a bar to what it frames
_NARROW = 0.02  # of the side: less is no bar

Severity = Literal["off", "flag", "error"]
ProfileName = Literal["none", "amazon-main", "merchant"]


class Checks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which checks a job wants: a profile, another one for some shots, and what is said of single checks."""

    profile: ProfileName = "none"
    shots: Mapping[str, ProfileName] = {}  # by name; all others have `profile`
    blank: Severity | None = None  # one colour and nothing on it
    border: Severity | None = None  # bars along opposite edges
    white_background: Severity | None = None
    fill: Severity | None = None  # the product is small in its frame
    sharpness: Severity | None = None
    min_side: Severity | None = None  # fewer pixels than the shop takes
    file_size: Severity | None = None  # more bytes than the shop takes
    near_duplicate: Severity | None = None  # looks like another picture of the same product
    unchanged: Severity | None = None  # looks like the reference that was to be edited
    swapped: Severity | None = None  # looks like another row's reference, and not like its own


@dataclass(frozen=True, slots=True)
class Profile:
    """What a shop asks of pictures."""

    severity: Mapping[str, Severity]
    white: int = 250  # the level that counts as white
    fill: float = 0.75  # of the frame, along the axis that is better filled
    longer: int = 0  # pixels, at least
    shorter: int = 0
    most_bytes: int | None = None


COMPARED = ("near_duplicate", "unchanged", "swapped")
"""Checks that need other pictures than the one that is looked at."""

_ALONE = ("blank", "border", "white_background", "fill", "sharpness")
_FROM_HEADER = ("min_side", "file_size")
NAMES = (*_FROM_HEADER, *_ALONE, *COMPARED)
MEASURED = (*_ALONE, *COMPARED)
"""Checks that rest on a number, which the index keeps."""

_ANY_SHOP: dict[str, Severity] = {
    "blank": "error",
    "border": "flag",
    "fill": "flag",
    "sharpness": "flag",
    "min_side": "error",
    "file_size": "error",
    "near_duplicate": "flag",
    "unchanged": "flag",
    "swapped": "flag",
}
PROFILES: Mapping[str, Profile] = {
    "none": Profile({}),
    "amazon-main": Profile(
        {**_ANY_SHOP, "white_background": "flag"}, white=255, fill=0.85, longer=1000, most_bytes=10_000_000
    ),
    "merchant": Profile(_ANY_SHOP, shorter=250, most_bytes=16_000_000),
}


def without_limit(checks: Checks) -> list[str]:
    """The checks that were asked for and can never say anything: no profile that is named knows a limit for them."""
    used = [PROFILES[name] for name in {checks.profile, *checks.shots.values()}]
    known = {
        "min_side": any(profile.longer or profile.shorter for profile in used),
        "file_size": any(profile.most_bytes is not None for profile in used),
    }
    asked = (name for name in known if getattr(checks, name) in ("flag", "error"))
    return [name for name in asked if not known[name]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the pictures of one shot."""

    severity: Mapping[str, Severity]  # of every check
    profile: Profile

    def want(self, *names: str) -> bool:
        """Whether one of these checks is to be made."""
        return any(self.severity[name] != "off" for name in names)

    def fatal(self, words: Iterable[str]) -> list[str]:
        """Of these words the ones that a picture must not have."""
        return [word for word in words if self.severity.get(word) == "error"]


def rules_of(checks: Checks, shot: str) -> Rules:
    """The profile of a shot, and what is said of single checks above it."""
    profile = PROFILES[checks.shots.get(shot, checks.profile)]
    said = {name: getattr(checks, name) for name in NAMES}
    return Rules({name: said[name] or profile.severity.get(name, "off") for name in NAMES}, profile)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture showed."""

    words: list[str]
    numbers: dict[str, float]
    likeness: bytes | None  # for comparing it with others


def examine(data: bytes, picture: Picture, rules: Rules) -> Seen | Broken:
    """All that is asked of one picture, from at most one decode. Holds the pixels while it looks."""
    words = _of_the_file(picture, rules)
    if not rules.want(*_ALONE, *COMPARED):
        return Seen(words, {}, None)
    image = decoded(data, side=SIDE)
    if isinstance(image, Broken):
        return image
    small = reduced(image)
    numbers = measured(image, small, white=rules.profile.white) if rules.want(*_ALONE) else {}
    words += [word for word in _odd(numbers, rules.profile) if rules.want(word)]
    return Seen(words, numbers, likeness(small) if rules.want(*COMPARED) else None)


def _of_the_file(picture: Picture, rules: Rules) -> list[str]:
    shop, sides = rules.profile, (picture.width, picture.height)
    small = max(sides) < shop.longer or min(sides) < shop.shorter
    heavy = shop.most_bytes is not None and picture.size > shop.most_bytes
    return [word for word, so in (("min_side", small), ("file_size", heavy)) if so and rules.want(word)]


def _odd(numbers: Mapping[str, float], shop: Profile) -> list[str]:
    """The checks that these numbers do not pass. Of a picture of nothing there is no more to say."""
    if not numbers:
        return []
    if numbers["blank"] < BLANK:
        return ["blank"]
    found = {
        "border": numbers["border"] >= _NARROW,
        "white_background": numbers["white_background"] < WHITE,
        "fill": numbers["fill"] < shop.fill,
        "sharpness": numbers["sharpness"] < SOFT,
    }
    return [word for word, so in found.items() if so]


def measured(image: "Image", small: "Image", *, white: int) -> dict[str, float]:
    """The numbers of one picture, from its pixels and from its reduced copy."""
    grey = small.convert("L")
    return {
        "blank": _spread(grey.histogram()),
        "white_background": min(_white(strip, white) for strip in _strips(image)),
        "fill": _filled(small),
        "border": _bars(grey),
        "sharpness": _sharpness(grey),
    }


def _spread(histogram: list[int]) -> float:
    """The standard deviation of brightness."""
    count = sum(histogram)
    total = sum(level * number for level, number in enumerate(histogram))
    squares = sum(level * level * number for level, number in enumerate(histogram))
    return round(math.sqrt(squares * count - total * total) / count, 2)


def _strips(image: "Image") -> Iterable["Image"]:
    width, height = image.size
    across, down = max(1, width // STRIP), max(1, height // STRIP)
    boxes = (
        (0, 0, width, down),
        (0, height - down, width, height),
        (0, 0, across, height),
        (width - across, 0, width, height),
    )
    return (image.crop(box) for box in boxes)


def _white(strip: "Image", level: int) -> float:
    """The share of pixels that are white in every colour."""
    counts = darkest(on_white(strip)).histogram()
    return round(sum(counts[level:]) / sum(counts), 4)


def _filled(small: "Image") -> float:
    """How much of the frame is not background, along the axis that is better filled."""
    box = figure(small)
    return round(max((box[2] - box[0]) / small.width, (box[3] - box[1]) / small.height), 4)


def _bars(grey: "Image") -> float:
    """The share of a side that even bars take, along both its ends, with a hard edge to what they frame."""
    import numpy as np

    levels = np.asarray(grey, np.int16)
    return max(_bars_down(levels), _bars_down(levels.T))


def _bars_down(levels: "npt.NDArray[np.int16]") -> float:
    even = levels.max(axis=1) - levels.min(axis=1) <= _EVEN
    if not (even[0] and even[-1]) or even.all():
        return 0.0
    first, last = int((~even).argmax()), int((~even[::-1]).argmax())
    if min(first, last) < _NARROW * len(even) or not (
        _is_hard(levels, first) and _is_hard(levels[::-1], last)
    ):
        return 0.0
    return round((first + last) / len(even), 4)


def _is_hard(levels: "npt.NDArray[np.int16]", bar: int) -> bool:
    """Whether nearly all of the line that follows a bar is of another colour, from end to end: no lone product has such
    a line, be it as wide and straight as a television.
    """
    following = levels[min(bar + 1, len(levels) - 1)]
    differs = abs(following - levels[bar - 1]) > _STEP
    ends = max(1, round(_NARROW * len(differs)))
    return bool(differs.mean() > 0.9 and differs[:ends].any() and differs[-ends:].any())


def _sharpness(grey: "Image") -> float:
    """The variance of the Laplacian."""
    import numpy as np

    levels = np.asarray(grey, np.int16)
    if min(levels.shape) < 3:
        return 0.0
    inner = levels[1:-1, 1:-1]
    edges = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * inner
    count, total = edges.size, int(edges.sum(dtype=np.int64))
    squares = int(np.square(edges, dtype=np.int32).sum(dtype=np.int64))
    return round((squares * count - total * total) / count**2, 2)
