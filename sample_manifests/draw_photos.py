"""Draws the sample photos: a shoe on a table for each row of shoes.csv, and five people. The same every time.

    python sample_manifests/draw_photos.py

They stand in for a catalog's own photos. Each has a shape and a colour of its own, so that a picture that was
made from the wrong one is seen at once. The people are nobody: a head, shoulders, a wall of one colour.
"""

import csv
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

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

# Of each person: wall, skin, hair, clothes.
PEOPLE = (
    ((196, 84, 72), (228, 186, 150), (58, 40, 30), (240, 238, 230)),
    ((70, 120, 180), (120, 80, 56), (24, 22, 24), (236, 196, 84)),
    ((96, 156, 96), (240, 206, 178), (176, 90, 40), (60, 66, 110)),
    ((214, 176, 70), (176, 126, 90), (96, 96, 100), (140, 40, 60)),
    ((128, 96, 160), (250, 220, 196), (228, 208, 150), (40, 90, 80)),
)

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
    (HERE / "people").mkdir(exist_ok=True)
    for number, colours in enumerate(PEOPLE, start=1):
        portrait(*colours).save(HERE / "people" / f"person-{number}.jpg", quality=80, optimize=True)


def portrait(wall: Colour, skin: Colour, hair: Colour, clothes: Colour) -> Image.Image:
    """Head and shoulders, higher than wide, as people are photographed."""
    image = Image.new("RGB", (SIDE * 3 // 4, SIDE), wall)
    pen = ImageDraw.Draw(image)
    pen.ellipse((40, 300, 320, 620), fill=clothes, outline=SOLE, width=3)
    pen.rectangle((150, 250, 210, 330), fill=skin)
    pen.ellipse((100, 70, 260, 250), fill=hair)
    pen.ellipse((112, 100, 248, 280), fill=skin, outline=SOLE, width=2)
    for eye in (150, 202):
        pen.ellipse((eye, 176, eye + 10, 186), fill=SOLE)
    pen.arc((156, 200, 206, 244), 20, 160, fill=SOLE, width=3)
    return image


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
