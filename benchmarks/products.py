"""Products that never were, photographed as sellers do and shot again as a model would: for judging the witness.

A family is a way of drawing. Each product of it has colours, proportions and a pattern of its own; every photo of one
differs from the next in ground, light, place, size, tilt, cast, noise, blur and compression.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE = 256
Colour = tuple[int, int, int]

NEUTRALS: tuple[Colour, ...] = (
    (28, 28, 30),
    (70, 72, 76),
    (140, 140, 140),
    (205, 205, 200),
    (236, 232, 224),
    (196, 172, 140),
    (112, 82, 60),
    (34, 44, 72),
)


@dataclass(frozen=True, slots=True)
class Product:
    """One thing to sell: the same seed is the same thing."""

    family: str
    seed: int

    def drawn(self) -> Image.Image:
        """The thing alone, on nothing."""
        layer = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
        FAMILIES[self.family](ImageDraw.Draw(layer), layer, Random(f"{self.family} {self.seed}"))
        return layer


def photo(product: Product, random: Random) -> bytes:
    """As a seller takes it: upright and large, on a table, a floor or paper, in whatever light there is."""
    ground = random.choice((paper, paper, plain, wood, clutter))(random)
    return developed(placed(product, ground, random, tilt=4, least=0.65, most=0.95), random, light=0.12)


def shot(product: Product, random: Random) -> bytes:
    """As a model makes it: the same thing on another ground, smaller or larger, tilted, lit and cropped anew."""
    ground = random.choice((paper, paper, paper, plain, fading, room, room))(random)
    image = placed(product, ground, random, tilt=12, least=0.45, most=1.0)
    return developed(image, random, light=0.25)


def placed(
    product: Product, ground: Image.Image, random: Random, *, tilt: float, least: float, most: float
) -> Image.Image:
    layer = product.drawn().rotate(random.uniform(-tilt, tilt), Image.Resampling.BICUBIC)
    if random.random() < 0.1:
        layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(SIDE * random.uniform(least, most))
    narrow = round(side * random.uniform(0.92, 1.0))
    layer = layer.resize((narrow, side), Image.Resampling.BILINEAR)
    slack = SIDE - side
    x = (SIDE - narrow) // 2 + round(random.uniform(-0.5, 0.5) * (slack + SIDE * 0.08))
    y = slack // 2 + round(random.uniform(-0.5, 0.5) * (slack + SIDE * 0.08))
    whole = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    whole.paste(layer, (x, y))
    if random.random() < 0.6:  # a soft shadow
        shade = whole.getchannel("A").filter(ImageFilter.GaussianBlur(7)).point(lambda a: a * 90 // 255)
        ground.paste((40, 40, 44), (6, 9), shade)
    ground.paste(whole, (0, 0), whole)
    return ground


def developed(image: Image.Image, random: Random, *, light: float) -> bytes:
    """Light from one side, a cast, noise, blur, and a JPEG of some quality."""
    levels = np.asarray(image, np.float32)
    gain = random.uniform(1 - light, 1 + light) ** random.choice((1, 1, 2))
    cast = np.array([random.uniform(1 - light / 3, 1 + light / 3) for _ in range(3)], np.float32)
    slope = np.linspace(
        1 - light * random.random() / 2, 1 + light * random.random() / 2, SIDE, dtype=np.float32
    )
    lit = levels * gain * cast * (slope[None, :, None] if random.random() < 0.5 else slope[:, None, None])
    noise = np.random.default_rng(random.getrandbits(32)).normal(0, random.uniform(0, 7), lit.shape)
    image = Image.fromarray((lit + noise).clip(0, 255).astype(np.uint8))
    if random.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=random.randint(60, 95))
    return file.getvalue()


def differ(one: Product, other: Product) -> bool:
    """Whether anybody sees at once that these are two things: by their pixels where either of them is."""
    layers = [each.drawn().resize((64, 64), Image.Resampling.BOX) for each in (one, other)]
    either = np.asarray(ImageChops.lighter(*(layer.getchannel("A") for layer in layers))) > 127
    grounds = [Image.new("RGBA", (64, 64), (128, 128, 128, 255)) for _ in layers]
    a, b = (
        np.asarray(Image.alpha_composite(ground, layer).convert("RGB"), np.float32)
        for ground, layer in zip(grounds, layers, strict=True)
    )
    return bool(np.sqrt(((a - b)[either] ** 2).mean()) >= 50)


# --- grounds -----------------------------------------------------------------------------------------------------


def paper(random: Random) -> Image.Image:
    level = random.randint(238, 255)
    return Image.new("RGB", (SIDE, SIDE), (level, level, level))


def plain(random: Random) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), colour(random, pale=0.6))


def fading(random: Random) -> Image.Image:
    one, other = (np.array(colour(random, pale=0.5), np.float32) for _ in range(2))
    share = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None, None]
    rows = one * (1 - share) + other * share
    return Image.fromarray(np.broadcast_to(rows, (SIDE, SIDE, 3)).astype(np.uint8))


def wood(random: Random) -> Image.Image:
    ground = Image.new("RGB", (SIDE, SIDE), (170, 130, 90))
    pencil = ImageDraw.Draw(ground)
    for y in range(0, SIDE, random.randint(6, 14)):
        by = random.randint(-18, 18)
        pencil.line(
            (0, y, SIDE, y + random.randint(-3, 3)), (160 + by, 120 + by, 80 + by), random.randint(1, 6)
        )
    return ground.filter(ImageFilter.GaussianBlur(1.5))


def clutter(random: Random) -> Image.Image:
    ground = plain(random)
    pencil = ImageDraw.Draw(ground)
    for _ in range(random.randint(3, 8)):
        x, y, size = random.randint(0, SIDE), random.randint(0, SIDE), random.randint(10, 50)
        pencil.rectangle((x, y, x + size, y + size // 2), colour(random, pale=0.4))
    return ground.filter(ImageFilter.GaussianBlur(3))


def room(random: Random) -> Image.Image:
    """A wall, a table, and things that stand about, out of focus."""
    ground = fading(random)
    pencil = ImageDraw.Draw(ground)
    horizon = round(SIDE * random.uniform(0.55, 0.8))
    pencil.rectangle((0, horizon, SIDE, SIDE), colour(random, pale=0.35))
    for _ in range(random.randint(0, 3)):
        x = random.choice((random.randint(-20, 30), random.randint(SIDE - 50, SIDE)))
        wide, tall = random.randint(20, 60), random.randint(40, 130)
        pencil.rounded_rectangle((x, horizon - tall, x + wide, horizon + 10), 8, colour(random, pale=0.3))
    return ground.filter(ImageFilter.GaussianBlur(random.uniform(2, 5)))


def colour(random: Random, *, pale: float = 0.0) -> Colour:
    """As catalogs have them: a third of them black, white, grey, beige, brown or navy."""
    if random.random() < 0.35:
        red, green, blue = random.choice(NEUTRALS)
    else:
        hue, strength, bright = random.random() * 6, random.uniform(0.35, 1.0), random.uniform(0.3, 0.95)
        parts = (1 - strength * max(0.0, min(1.0, 2 - abs((hue - at) % 6 - 3))) for at in (3, 5, 1))
        red, green, blue = (round(255 * bright * part) for part in parts)
    mixed = (round(part * (1 - pale) + 255 * pale) for part in (red, green, blue))
    red, green, blue = mixed
    return red, green, blue


# --- families ----------------------------------------------------------------------------------------------------


def bottle(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    wide, neck = random.randint(36, 60), random.randint(12, 24)
    body, label, cap = colour(random), colour(random), colour(random)
    shoulder = random.randint(70, 120)
    pencil.rounded_rectangle((128 - wide, shoulder, 128 + wide, 250), random.randint(4, 30), body)
    pencil.rectangle((128 - neck, 30, 128 + neck, shoulder + 12), body)
    pencil.rectangle((128 - neck - 3, 8, 128 + neck + 3, random.randint(28, 46)), cap)
    top = random.randint(130, 160)
    pencil.rectangle((128 - wide, top, 128 + wide, top + random.randint(30, 80)), label)
    for line in range(random.randint(1, 4)):
        pencil.rectangle((128 - wide // 2, top + 8 + 10 * line, 128 + wide // 2, top + 11 + 10 * line), body)


def shirt(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    body, second, sleeve = colour(random), colour(random), random.randint(60, 150)
    outline = [(70, 40), (105, 30), (128, 44), (151, 30), (186, 40), (236, sleeve), (200, sleeve + 24)]
    outline += [(186, 104), (190, 236), (66, 236), (70, 104), (56, sleeve + 24), (20, sleeve)]
    stencil = Image.new("L", layer.size, 0)
    ImageDraw.Draw(stencil).polygon(outline, 255)
    layer.paste(pattern(body, second, random), (0, 0), stencil)


def mug(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    body, second, inside = colour(random), colour(random), colour(random)
    wide, tall = random.randint(55, 85), random.randint(80, 150)
    top = 128 - tall // 2
    pencil.ellipse((128 + wide - 30, top + 20, 128 + wide + 36, top + tall - 20), outline=body, width=14)
    stencil = Image.new("L", layer.size, 0)
    ImageDraw.Draw(stencil).rounded_rectangle((128 - wide, top, 128 + wide, top + tall), 14, 255)
    layer.paste(pattern(body, second, random), (0, 0), stencil)
    pencil.ellipse((128 - wide, top - 14, 128 + wide, top + 14), inside)


def shoe(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    upper, sole, trim = colour(random), colour(random), colour(random)
    high = random.randint(60, 130)
    outline = [(24, 190), (28, high), (70, high - 8), (110, 140), (190, 158), (236, 176), (238, 196)]
    pencil.polygon(outline, upper)
    thick = random.randint(8, 30)
    pencil.rounded_rectangle((20, 192, 240, 192 + thick), 8, sole)
    for lace in range(random.randint(0, 5)):
        pencil.line((78 + 14 * lace, 140 + 4 * lace, 100 + 14 * lace, 126 + 6 * lace), trim, 4)
    if random.random() < 0.6:
        pencil.polygon([(60, 186), (140, 150), (150, 160), (90, 188)], trim)


def chair(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    frame, seat = colour(random), colour(random)
    left, right, thick = random.randint(60, 84), random.randint(170, 200), random.randint(6, 14)
    for x in (left, right):
        pencil.rectangle((x, 20 if x == left else 130, x + thick, 246), frame)
    pencil.rectangle((left, 130, right + thick, 130 + random.randint(12, 34)), seat)
    for slat in range(random.randint(2, 6)):
        pencil.rectangle((left, 26 + 18 * slat, left + random.randint(70, 110), 34 + 18 * slat), frame)
    if random.random() < 0.5:
        pencil.rectangle((left, 20, right, 120), seat)


def jewel(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    metal = random.choice(((212, 175, 80), (190, 194, 200), (205, 150, 130), colour(random)))
    stone, radius = colour(random), random.randint(60, 90)
    box = (128 - radius, 150 - radius, 128 + radius, 150 + radius)
    pencil.ellipse(box, outline=metal, width=random.randint(8, 22))
    count, size = random.randint(1, 5), random.randint(10, 26)
    for number in range(count):
        angle = -math.pi / 2 + (number - (count - 1) / 2) * 0.5
        x, y = 128 + radius * math.cos(angle), 150 + radius * math.sin(angle)
        shape = pencil.ellipse if random.random() < 0.5 else pencil.rectangle
        shape((x - size, y - size, x + size, y + size), fill=stone, outline=metal, width=2)


def bag(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    body, flap, strap = colour(random), colour(random), colour(random)
    wide, top = random.randint(70, 105), random.randint(90, 130)
    pencil.arc((128 - wide + 20, 10, 128 + wide - 20, 2 * top - 20), 180, 360, strap, random.randint(6, 14))
    pencil.rounded_rectangle((128 - wide, top, 128 + wide, 240), random.randint(4, 40), body)
    drop = random.randint(20, 90)
    pencil.polygon(
        [(128 - wide, top), (128 + wide, top), (128 + wide - 20, top + drop), (148 - wide, top + drop)], flap
    )
    pencil.rectangle((118, top + drop - 8, 138, top + drop + 10), strap)


def cloth(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    """Rugs, scarves and cushions: all pattern and no outline to speak of."""
    inset = random.randint(4, 40)
    stencil = Image.new("L", layer.size, 0)
    ImageDraw.Draw(stencil).rounded_rectangle((inset, 10, 256 - inset, 246), random.randint(2, 40), 255)
    layer.paste(pattern(colour(random), colour(random), random), (0, 0), stencil)


def pattern(one: Colour, other: Colour, random: Random) -> Image.Image:
    """Plain, stripes, dots, checks, or a print in the middle."""
    area = Image.new("RGB", (SIDE, SIDE), one)
    pencil = ImageDraw.Draw(area)
    kind, step = (
        random.choice(("plain", "stripes", "pales", "dots", "checks", "print")),
        random.randint(12, 44),
    )
    for at in range(0, SIDE, step):
        if kind in ("stripes", "checks"):
            pencil.rectangle((0, at, SIDE, at + step // 2), other)
        if kind in ("pales", "checks"):
            pencil.rectangle((at, 0, at + step // 2, SIDE), other)
        if kind == "dots":
            for across in range(0, SIDE, step):
                pencil.ellipse((across, at, across + step // 2, at + step // 2), other)
    if kind == "print":
        size = random.randint(20, 50)
        shape = random.choice((pencil.ellipse, pencil.rectangle))
        shape((128 - size, 128 - size, 128 + size, 128 + size), fill=other)
    return area


def lamp(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    shade, stem, foot = colour(random), colour(random), colour(random)
    narrow, wide, drop = random.randint(20, 60), random.randint(60, 110), random.randint(80, 130)
    thick = random.randint(3, 10)
    pencil.rectangle((128 - thick, drop - 10, 128 + thick, 230), stem)
    pencil.polygon([(128 - narrow, 16), (128 + narrow, 16), (128 + wide, drop), (128 - wide, drop)], shade)
    pencil.ellipse((128 - random.randint(30, 60), 220, 128 + random.randint(30, 60), 248), foot)
    if random.random() < 0.4:
        pencil.rectangle((128 - wide + 4, drop - 12, 128 + wide - 4, drop - 4), colour(random))


def watch(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    strap, case, face, hands = colour(random), colour(random), colour(random), colour(random)
    wide, radius = random.randint(22, 40), random.randint(50, 72)
    pencil.rounded_rectangle((128 - wide, 6, 128 + wide, 250), 10, strap)
    for hole in range(random.randint(0, 5)):
        pencil.ellipse((124, 200 + 9 * hole, 132, 206 + 9 * hole), hands)
    outline = pencil.ellipse if random.random() < 0.7 else pencil.rectangle
    for size, paint in ((radius, case), (radius - random.randint(6, 14), face)):
        outline((128 - size, 128 - size, 128 + size, 128 + size), fill=paint)
    for length in (radius // 2, radius - 20):
        angle = random.random() * 2 * math.pi
        pencil.line((128, 128, 128 + length * math.cos(angle), 128 + length * math.sin(angle)), hands, 5)


def glasses(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    """Thin things of which little is to be seen."""
    frame, tint = colour(random), colour(random, pale=random.choice((0.2, 0.7)))
    wide, tall, thick = random.randint(40, 50), random.randint(26, 50), random.randint(4, 12)
    for centre in (128 - wide - 10, 128 + wide + 10):
        box = (centre - wide, 128 - tall, centre + wide, 128 + tall)
        shape = pencil.ellipse if tall > 38 else pencil.rectangle
        shape(box, fill=tint, outline=frame, width=thick)
    pencil.arc((112, 108, 144, 138), 180, 360, frame, thick)
    for x in (16, 240):
        pencil.line((x, 118, x - 8 if x < 128 else x + 8, 90), frame, thick)


def car(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    body, roof, wheel, stripe = colour(random), colour(random), colour(random), colour(random)
    low, start, stop = random.randint(130, 150), random.randint(50, 90), random.randint(150, 210)
    pencil.polygon([(start, low), (start + 26, 84), (stop - 30, 84), (stop, low)], roof)
    pencil.rounded_rectangle((14, low - 6, 242, 196), random.randint(6, 26), body)
    if random.random() < 0.6:
        pencil.rectangle((14, low + 18, 242, low + 18 + random.randint(4, 16)), stripe)
    size = random.randint(22, 34)
    for x in (70, 186):
        pencil.ellipse((x - size, 190 - size, x + size, 190 + size), wheel)
        pencil.ellipse((x - size // 2, 190 - size // 2, x + size // 2, 190 + size // 2), stripe)


def plant(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    """All green above; the pot tells them apart, and the habit."""
    pot, rim = colour(random), colour(random)
    green = (random.randint(20, 110), random.randint(90, 180), random.randint(30, 100))
    count, long, broad = random.randint(5, 18), random.randint(60, 130), random.randint(8, 24)
    for leaf in range(count):
        angle = math.pi * (1.1 + 0.8 * leaf / (count - 1))
        for step in range(12):
            x, y = (at + long * step / 12 * turn(angle) for at, turn in ((128, math.cos), (150, math.sin)))
            size = broad * (1 - abs(step - 6) / 7)
            by = random.randint(-8, 8)
            pencil.ellipse((x - size, y - size, x + size, y + size), (green[0] + by, green[1] + by, green[2]))
    wide = random.randint(36, 66)
    pencil.polygon([(128 - wide, 160), (128 + wide, 160), (128 + wide - 18, 248), (146 - wide, 248)], pot)
    pencil.rectangle((128 - wide - 6, 148, 128 + wide + 6, 166), rim)


def sofa(pencil: ImageDraw.ImageDraw, layer: Image.Image, random: Random) -> None:
    stuff, cushion, leg = colour(random), colour(random), colour(random)
    stencil = Image.new("L", layer.size, 0)
    mask = ImageDraw.Draw(stencil)
    mask.rounded_rectangle((30, random.randint(70, 110), 226, 190), 18, 255)
    mask.rounded_rectangle((8, 120, 54, 206), 14, 255)
    mask.rounded_rectangle((202, 120, 248, 206), 14, 255)
    mask.rectangle((30, 160, 226, 206), 255)
    layer.paste(pattern(stuff, colour(random), random), (0, 0), stencil)
    for seat in range(random.randint(0, 3)):
        pencil.rounded_rectangle((58 + 48 * seat, 120, 100 + 48 * seat, 160), 8, cushion)
    for x in (26, 214):
        pencil.rectangle((x, 206, x + 14, 206 + random.randint(8, 30)), leg)


FAMILIES: dict[str, Callable[[ImageDraw.ImageDraw, Image.Image, Random], None]] = {
    "bottle": bottle,
    "shirt": shirt,
    "mug": mug,
    "shoe": shoe,
    "chair": chair,
    "jewel": jewel,
    "bag": bag,
    "cloth": cloth,
    "lamp": lamp,
    "watch": watch,
    "glasses": glasses,
    "car": car,
    "plant": plant,
    "sofa": sofa,
}
TUNED = ("bottle", "shirt", "mug", "shoe", "chair", "jewel", "bag", "cloth")
HELD_OUT = tuple(family for family in FAMILIES if family not in TUNED)
"""Drawn when the witness was done: none of its numbers was chosen by them."""
