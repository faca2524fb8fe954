"""Draws small cluttered pictures in which pictograms show what a post is about.

Each kind of pictogram has one meaning: the type of an entity, or a relation. Colours, places, sizes, slants and clutter
are random and independent of the kind: only the shape shows it.
"""

import colorsys
import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 72
STICKERS = 3
SCALE = 2  # pictures are drawn larger and then reduced, for smooth edges
RIM = [min(6 * alpha, 255) for alpha in range(256)]  # the opacity of a rim by that of the blurred drawing

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


@dataclass
class Picture:
    """A picture, with the kind and the box of each of its drawings; the kind of one without a meaning is None."""

    image: Image.Image
    kinds: list[str | None]
    boxes: list[Box]


class Pen:
    """Draws on a transparent square tile, 100 units wide, in three contrasting colours."""

    def __init__(self, rng: random.Random, pixels: int):
        self.rng = rng
        self.tile = Image.new("RGBA", (pixels, pixels))
        self.draw = ImageDraw.Draw(self.tile)
        self.unit = (pixels - 1) / 100
        dark, light = random_colour(rng, 0.05, 0.30), random_colour(rng, 0.80, 1.0)
        self.ink, self.paper = (dark, light) if rng.random() < 0.5 else (light, dark)
        self.tint = random_colour(rng, 0.45, 0.60)

    def scaled(self, xy: Sequence[float]) -> list[float]:
        return [value * self.unit for value in xy]

    def polygon(self, colour: Colour, *xy: float) -> None:
        self.draw.polygon(self.scaled(xy), fill=colour)

    def line(self, colour: Colour, width: float, *xy: float) -> None:
        self.draw.line(self.scaled(xy), fill=colour, width=round(width * self.unit), joint="curve")

    def rectangle(self, colour: Colour, *xy: float, radius: float = 0) -> None:
        self.draw.rounded_rectangle(self.scaled(xy), radius=radius * self.unit, fill=colour)

    def circle(self, colour: Colour, x: float, y: float, radius: float) -> None:
        self.ellipse(colour, x - radius, y - radius, x + radius, y + radius)

    def ellipse(self, colour: Colour, *xy: float) -> None:
        self.draw.ellipse(self.scaled(xy), fill=colour)

    def sector(self, colour: Colour, start: float, end: float, *xy: float) -> None:
        self.draw.chord(self.scaled(xy), start, end, fill=colour)

    def arc(self, colour: Colour, width: float, start: float, end: float, *xy: float) -> None:
        self.draw.arc(self.scaled(xy), start, end, fill=colour, width=round(width * self.unit))


def draw_bust(pen: Pen) -> None:
    pen.sector(pen.ink, 180, 360, 8, 56, 92, 144)
    pen.polygon(pen.paper, 38, 57, 62, 57, 50, 78)
    pen.circle(pen.ink, 50, 30, 22)
    if pen.rng.random() < 0.5:
        pen.sector(pen.tint, 180, 360, 26, 4, 74, 50)
        pen.rectangle(pen.tint, 16, 24, 84, 31)


def draw_face(pen: Pen) -> None:
    pen.circle(pen.ink, 50, 50, 46)
    pen.ellipse(pen.paper, 14, 18, 86, 94)
    pen.sector(pen.tint, 190, 350, 10, 4, 90, 72)
    for x in (35, 65):
        pen.circle(pen.ink, x, 50, 7)
    pen.arc(pen.ink, 7, 20, 160, 32, 48, 68, 82)


def draw_mountains(pen: Pen) -> None:
    pen.circle(pen.tint, 82, 22, 14)
    pen.polygon(pen.tint, 38, 94, 72, 40, 100, 94)
    pen.polygon(pen.ink, 0, 94, 38, 10, 76, 94)
    pen.polygon(pen.paper, 25, 38, 38, 10, 51, 38, 44, 32, 38, 42, 32, 32)


def draw_pin(pen: Pen) -> None:
    pen.circle(pen.ink, 50, 36, 34)
    pen.polygon(pen.ink, 18, 48, 82, 48, 50, 100)
    pen.circle(pen.rng.choice((pen.paper, pen.tint)), 50, 36, 15)


def draw_palm(pen: Pen) -> None:
    pen.sector(pen.tint, 180, 360, 8, 76, 92, 124)
    pen.line(pen.ink, 10, 44, 92, 46, 70, 52, 50, 58, 34)
    for x, y in ((12, 42), (20, 14), (62, 2), (96, 20), (98, 50)):
        pen.line(pen.ink, 9, 58, 32, (58 + x) / 2, (32 + y) / 2 - 9, x, y)


def draw_factory(pen: Pen) -> None:
    pen.rectangle(pen.ink, 8, 18, 24, 60)
    pen.circle(pen.tint, 26, 9, 8)
    pen.circle(pen.tint, 40, 7, 7)
    pen.polygon(pen.ink, 4, 96, 4, 58, 34, 38, 34, 58, 65, 38, 65, 58, 97, 38, 97, 96)
    for x in (14, 42, 70):
        pen.rectangle(pen.paper, x, 68, x + 16, 82)


def draw_bank(pen: Pen) -> None:
    pen.polygon(pen.ink, 2, 36, 50, 4, 98, 36)
    pen.circle(pen.paper, 50, 24, 7)
    for x in (10, 33, 55, 78):
        pen.rectangle(pen.tint, x, 40, x + 12, 80)
    pen.rectangle(pen.ink, 2, 83, 98, 97)


def draw_trophy(pen: Pen) -> None:
    pen.arc(pen.ink, 7, 0, 360, 4, 12, 46, 48)
    pen.arc(pen.ink, 7, 0, 360, 54, 12, 96, 48)
    pen.rectangle(pen.ink, 22, 4, 78, 20)
    pen.sector(pen.ink, 0, 180, 22, -22, 78, 62)
    pen.line(pen.ink, 10, 50, 58, 50, 82)
    pen.rectangle(pen.tint, 26, 80, 74, 97)


def draw_clapper(pen: Pen) -> None:
    pen.rectangle(pen.ink, 4, 42, 96, 96)
    pen.polygon(pen.ink, 4, 38, 4, 24, 92, 2, 96, 17)
    for x in (16, 42, 68):
        pen.polygon(pen.paper, x, 34 - x / 4, x + 11, 31 - x / 4, x + 3, 21 - x / 4, x - 8, 24 - x / 4)
    for y in (58, 74):
        pen.line(pen.tint, 7, 16, y, 84, y)


def draw_star(pen: Pen) -> None:
    corners = [(48 if i % 2 == 0 else 20, math.pi * i / 5) for i in range(10)]
    pen.polygon(pen.ink, *(xy for r, a in corners for xy in (50 + r * math.sin(a), 52 - r * math.cos(a))))


def draw_heart(pen: Pen) -> None:
    pen.circle(pen.ink, 28, 32, 25)
    pen.circle(pen.ink, 72, 32, 25)
    pen.polygon(pen.ink, 7, 45, 50, 38, 93, 45, 50, 96)


def draw_flower(pen: Pen) -> None:
    for i in range(6):
        pen.circle(pen.ink, 50 + 30 * math.sin(math.pi * i / 3), 50 - 30 * math.cos(math.pi * i / 3), 18)
    pen.circle(pen.tint, 50, 50, 17)


def draw_fish(pen: Pen) -> None:
    pen.polygon(pen.tint, 62, 50, 98, 22, 98, 78)
    pen.ellipse(pen.ink, 2, 24, 76, 76)
    pen.circle(pen.paper, 22, 44, 6)


def draw_umbrella(pen: Pen) -> None:
    pen.line(pen.tint, 7, 50, 30, 50, 86)
    pen.arc(pen.tint, 7, 0, 180, 50, 76, 70, 98)
    pen.sector(pen.ink, 180, 360, 2, 8, 98, 100)


def draw_rings(pen: Pen) -> None:
    pen.arc(pen.ink, 10, 0, 360, 2, 38, 60, 96)
    pen.arc(pen.tint, 10, 0, 360, 40, 38, 98, 96)
    pen.polygon(pen.ink, 16, 14, 46, 14, 54, 24, 31, 44, 8, 24)


def draw_ball(pen: Pen) -> None:
    def around(radius: float, *degrees: float) -> list[float]:
        angles = [math.radians(degree) for degree in degrees]
        return [xy for angle in angles for xy in (50 + radius * math.sin(angle), 50 - radius * math.cos(angle))]

    pen.circle(pen.ink, 50, 50, 48)
    pen.circle(pen.paper, 50, 50, 42)
    pen.polygon(pen.ink, *around(20, 0, 72, 144, 216, 288))
    for degrees in range(0, 360, 72):
        pen.line(pen.ink, 5, *around(18, degrees), *around(36, degrees))
        pen.polygon(pen.ink, *around(45, degrees - 22, degrees, degrees + 22), *around(31, degrees + 8, degrees - 8))


def draw_jersey(pen: Pen) -> None:
    pen.polygon(
        pen.ink, 30, 6, 41, 6, 50, 16, 59, 6, 70, 6, 99, 26, 86, 48, 75, 40, 75, 97, 25, 97, 25, 40, 14, 48, 1, 26
    )
    pen.rectangle(pen.paper, *pen.rng.choice(((46, 34, 55, 76), (36, 40, 64, 50))))
    pen.rectangle(pen.tint, 25, 84, 75, 92)


def draw_card(pen: Pen) -> None:
    pen.line(pen.tint, 7, 28, 0, 50, 32, 72, 0)
    pen.rectangle(pen.ink, 12, 30, 88, 98, radius=8)
    pen.circle(pen.paper, 34, 54, 10)
    pen.sector(pen.paper, 180, 360, 20, 66, 48, 108)
    for y in (50, 64, 78):
        pen.line(pen.paper, 7, 56, y, 80, y)


def draw_house(pen: Pen) -> None:
    pen.rectangle(pen.ink, 14, 44, 86, 97)
    pen.polygon(pen.tint, 0, 50, 50, 4, 100, 50)
    pen.rectangle(pen.paper, 56, 62, 74, 97)
    pen.rectangle(pen.paper, 24, 60, 44, 78)


def draw_key(pen: Pen) -> None:
    pen.line(pen.ink, 12, 46, 46, 90, 90)
    pen.line(pen.ink, 10, 66, 68, 80, 54)
    pen.line(pen.ink, 10, 80, 82, 94, 68)
    pen.circle(pen.ink, 30, 30, 28)
    pen.circle(pen.paper, 26, 26, 11)


def draw_signpost(pen: Pen) -> None:
    pen.rectangle(pen.ink, 45, 2, 55, 99)
    pen.polygon(pen.ink, 14, 10, 80, 10, 99, 24, 80, 38, 14, 38)
    pen.polygon(pen.tint, 86, 46, 20, 46, 1, 60, 20, 74, 86, 74)


def draw_racket(pen: Pen) -> None:
    pen.line(pen.ink, 12, 40, 64, 20, 98)
    pen.ellipse(pen.ink, 24, 2, 82, 72)
    pen.ellipse(pen.paper, 32, 10, 74, 64)
    for xy in (
        (34, 24, 72, 24),
        (32, 37, 74, 37),
        (34, 50, 72, 50),
        (43, 10, 43, 64),
        (53, 8, 53, 66),
        (63, 10, 63, 64),
    ):
        pen.line(pen.tint, 4, *xy)


def draw_camera(pen: Pen) -> None:
    for x, radius in ((24, 21), (60, 17)):
        pen.circle(pen.ink, x, 24, radius)
        pen.circle(pen.paper, x, 24, radius - 11)
    pen.rectangle(pen.ink, 4, 46, 70, 94, radius=6)
    pen.polygon(pen.tint, 72, 68, 98, 48, 98, 92)


def draw_microphone(pen: Pen) -> None:
    pen.polygon(pen.ink, 38, 52, 62, 52, 56, 98, 44, 98)
    pen.circle(pen.tint, 50, 28, 27)
    for y in (18, 32):
        pen.line(pen.paper, 4, 26, y, 74, y)
    pen.line(pen.paper, 4, 50, 2, 50, 52)
    pen.rectangle(pen.ink, 26, 48, 74, 58)


Drawings = tuple[Callable[[Pen], None], ...]

PICTOGRAMS: dict[str, Drawings] = {
    "PER": (draw_bust, draw_face),
    "LOC": (draw_mountains, draw_palm),
    "ORG": (draw_factory, draw_bank),
    "MISC": (draw_trophy, draw_clapper),
    "/per/per/couple": (draw_heart, draw_rings),
    "/per/per/peer": (draw_ball, draw_racket),
    "/per/org/member_of": (draw_jersey, draw_card),
    "/per/loc/place_of_residence": (draw_house, draw_key),
    "/per/misc/present_in": (draw_camera, draw_microphone),
    "/org/loc/locate_at": (draw_pin, draw_signpost),
}
DISTRACTORS: Drawings = (draw_star, draw_flower, draw_fish, draw_umbrella)


def random_colour(rng: random.Random, darkest: float, lightest: float) -> Colour:
    """Return a colour of any hue with a lightness between two bounds."""
    red, green, blue = colorsys.hls_to_rgb(rng.random(), rng.uniform(darkest, lightest), rng.uniform(0.2, 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_sticker(rng: random.Random, drawing: Callable[[Pen], None], side: int) -> Image.Image:
    """Return a drawing with a rim, slanted, stretched and mirrored at random, on a transparent square."""
    pixels = side * SCALE
    pen = Pen(rng, round(0.8 * pixels))
    drawing(pen)
    angle, stretch = math.radians(rng.uniform(-12, 12)), rng.uniform(0.85, 1.0)
    cosine, sine = math.cos(angle), math.sin(angle)
    a, b, d, e = cosine, sine, -sine / stretch, cosine / stretch  # from a place in the sticker to one in the drawing
    if rng.random() < 0.5:
        a, b = -a, -b
    middle, centre = pen.tile.width / 2, pixels / 2
    affine = (a, b, middle - centre * (a + b), d, e, middle - centre * (d + e))
    tile = pen.tile.transform((pixels, pixels), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    sticker = Image.new("RGBA", tile.size, pen.paper)
    sticker.putalpha(tile.getchannel("A").filter(ImageFilter.BoxBlur(SCALE)).point(RIM))
    sticker.alpha_composite(tile)
    return sticker


def scatter(rng: random.Random, draw: ImageDraw.ImageDraw, count: int, largest: int) -> None:
    """Draw ellipses, rectangles, triangles and strokes of random colours anywhere on a picture."""
    for _ in range(count):
        colour = random_colour(rng, 0.15, 0.9)
        x, y = (rng.randrange(SIZE * SCALE) for _ in range(2))
        width, height = (rng.randint(3, largest) * SCALE for _ in range(2))
        method = rng.choice(("ellipse", "rectangle", "polygon", "line"))
        if method == "polygon":
            draw.polygon((x, y, x + width, y + height // 2, x + width // 3, y + height), fill=colour)
        elif method == "line":
            draw.line((x, y, x + rng.choice((-2, 2)) * width, y + height), fill=colour, width=SCALE)
        else:
            getattr(draw, method)((x, y, x + width, y + height), fill=colour)


def draw_picture(rng: random.Random, kinds: Collection[str] = ()) -> Picture:
    """Draw a picture that shows a pictogram of each kind among clutter.

    There are always [`STICKERS`] drawings: those without a meaning fill up, so that neither their number nor their size
    tells anything. Each is in its own quarter of the picture.

    Args:
        rng: The only source of randomness.
        kinds: Keys of [`PICTOGRAMS`], at most [`STICKERS`].
    """
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), random_colour(rng, 0.3, 0.8))
    scatter(rng, ImageDraw.Draw(image), rng.randint(6, 12), largest=20)
    shown = [*sorted(kinds), *[None] * (STICKERS - len(kinds))]
    boxes: list[Box] = []
    for kind, (column, row) in zip(shown, rng.sample([(0, 0), (0, 1), (1, 0), (1, 1)], STICKERS), strict=True):
        drawing = rng.choice(PICTOGRAMS[kind] if kind else DISTRACTORS)
        side = rng.randint(27, SIZE // 2)
        x, y = (SIZE // 2 * place + rng.randint(0, SIZE // 2 - side) for place in (column, row))
        sticker = draw_sticker(rng, drawing, side)
        image.paste(sticker, (x * SCALE, y * SCALE), sticker)
        boxes.append((x, y, x + side, y + side))
    scatter(rng, ImageDraw.Draw(image), rng.randint(0, 2), largest=5)

    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    noise = np.frombuffer(rng.randbytes(pixels.size), dtype=np.uint8).reshape(pixels.shape) / 127.5 - 1
    noisy = pixels * rng.uniform(0.85, 1.1) + noise * rng.uniform(4, 14)
    return Picture(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), shown, boxes)


def cut_objects(rng: random.Random, picture: Picture) -> tuple[list[Image.Image], list[str | None]]:
    """Crop the drawings out of a picture, a little off, and return the crops and their kinds, the largest first."""
    cut = []
    for kind, (left, top, right, bottom) in zip(picture.kinds, picture.boxes, strict=True):
        grow = (right - left) * rng.uniform(-0.04, 0.15)
        dx, dy = (rng.uniform(-0.06, 0.06) * (right - left) for _ in range(2))
        sides = (left - grow + dx, top - grow + dy, right + grow + dx, bottom + grow + dy)
        left, top, right, bottom = (min(max(round(side), 0), SIZE) for side in sides)
        cut.append((picture.image.crop((left, top, right, bottom)), kind))
    rng.shuffle(cut)  # crops of one size are in any order
    cut.sort(key=lambda pair: -pair[0].width * pair[0].height)
    return [crop for crop, _ in cut], [kind for _, kind in cut]
