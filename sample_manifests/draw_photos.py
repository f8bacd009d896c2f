"""Draws the sample photos: a shoe on a table for each row of shoes.csv. The same every time.

    python sample_manifests/draw_photos.py

They stand in for a catalog's own photos. Each has a shape and a colour of its own, so that a picture that was
made from the wrong one is seen at once.
"""

import csv
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
SIDE = 480
TABLE, WALL, SOLE = (214, 205, 192), (236, 233, 228), (52, 46, 42)
COLOURS = {
    "black": (38, 38, 42),
    "white": (250, 250, 246),
    "red": (186, 34, 40),
    "navy": (30, 46, 92),
    "tan": (190, 140, 92),
    "brown": (104, 64, 38),
    "green": (52, 110, 70),
    "yellow": (236, 190, 50),
    "pink": (232, 140, 168),
    "grey": (138, 142, 148),
    "NA": (120, 170, 190),  # what a catalog writes where a colour is not applicable; it must stay 'NA'
}

# Outlines from the heel, clockwise, on a sheet of 480 by 480; soles lie at about 350.
Outline = list[tuple[int, int]]
UPPERS: dict[str, Outline] = {
    "boot": [(120, 340), (124, 110), (230, 110), (238, 236), (330, 270), (376, 306), (376, 340)],
    "sneaker": [(96, 340), (104, 236), (168, 220), (206, 250), (300, 276), (388, 304), (392, 340)],
    "pump": [(96, 250), (112, 206), (150, 240), (250, 316), (330, 290), (396, 340), (240, 346), (140, 270)],
    "loafer": [(92, 340), (98, 268), (176, 258), (250, 262), (340, 280), (392, 316), (392, 340)],
    "sandal": [
        (110, 330),
        (120, 240),
        (150, 240),
        (150, 318),
        (270, 318),
        (250, 262),
        (300, 262),
        (340, 330),
    ],
    "clog": [(130, 340), (150, 296), (236, 240), (330, 246), (386, 300), (386, 340)],
}


def main() -> None:
    with (HERE / "shoes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kind = next(kind for kind in UPPERS if kind in row["title"].lower())
            target = HERE / row["photo"]
            target.parent.mkdir(exist_ok=True)
            draw(kind, COLOURS[row["colour"]], marks=int(row["sku"][-2:])).save(
                target, quality=80, optimize=True
            )


def draw(kind: str, colour: tuple[int, int, int], *, marks: int) -> Image.Image:
    """One shoe. The small squares along the edge count the product, as a photographer's scale would."""
    image = Image.new("RGB", (SIDE, SIDE), WALL)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 320, SIDE, SIDE), fill=TABLE)
    pen.ellipse((80, 346, 412, 384), fill=(176, 167, 154))  # its shadow
    pen.polygon(UPPERS[kind], fill=colour, outline=SOLE, width=3)
    SOLES[kind](pen)
    for mark in range(marks):
        pen.rectangle((16 + 18 * mark, 450, 28 + 18 * mark, 462), fill=SOLE)
    return image


def flat(pen: ImageDraw.ImageDraw) -> None:
    pen.rounded_rectangle((90, 338, 396, 362), 10, fill=SOLE)


def heeled(pen: ImageDraw.ImageDraw) -> None:
    pen.polygon([(96, 250), (124, 258), (112, 362), (100, 362)], fill=SOLE)
    pen.line([(140, 272), (240, 348), (398, 344)], fill=SOLE, width=8)


def thick(pen: ImageDraw.ImageDraw) -> None:
    pen.rounded_rectangle((110, 330, 396, 366), 16, fill=(150, 104, 62))


def laced(pen: ImageDraw.ImageDraw) -> None:
    pen.rounded_rectangle((90, 338, 400, 362), 10, fill=(245, 245, 240), outline=SOLE, width=3)
    for step in range(4):
        pen.line(
            (196 + 24 * step, 252 + 8 * step, 214 + 24 * step, 280 + 6 * step), fill=(250, 250, 246), width=5
        )


SOLES: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
    "boot": flat,
    "sneaker": laced,
    "pump": heeled,
    "loafer": flat,
    "sandal": flat,
    "clog": thick,
}

if __name__ == "__main__":
    main()
