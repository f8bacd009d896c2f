"""Decoded pixels made ready to be looked at: small, in colours, on white."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 256
"""Pixels of the longer side that checks look at."""

PAPER = 245
"""As bright as this in every colour is background."""


def reduced(image: "Image") -> "Image":
    """The picture in colours, its longer side at most SIDE; what is transparent lies on white."""
    from PIL import Image

    share = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    if image.mode not in ("RGB", "RGBA", "L"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    # A box, after a whole step that is cheaper still: averages, so that noise is gone and nothing is made up.
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=1.0) if size != image.size else image
    return on_white(small).convert("RGB")


def on_white(image: "Image") -> "Image":
    """Without transparency, grey or in colours."""
    from PIL import Image

    if image.mode in ("RGB", "L"):
        return image
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB")


def darkest(image: "Image") -> "Image":
    """Of each pixel its darkest colour, in grey."""
    from PIL import ImageChops

    bands = image.split()
    found = bands[0]
    for band in bands[1:]:
        found = ImageChops.darker(found, band)
    return found


def figure(small: "Image") -> tuple[int, int, int, int]:
    """The box around what stands on a white ground; the whole picture, where the ground is not white."""
    dark = [0 if level >= PAPER else 255 for level in range(256)]
    return darkest(small).point(dark).getbbox() or (0, 0, 0, 0)
