"""Draws small cluttered pictures in which a pictogram shows what a post is about.

[`draw_picture`] puts one drawing of each requested kind, and a few distractors, on a busy background. Colours,
places, sizes, slants and clutter are random and independent of the kind: only the shape shows it.
"""

import colorsys
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 64
SCALE = 2  # pictures are drawn larger and then reduced, for smooth edges

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


@dataclass
class Picture:
    """A picture with the boxes of its pictograms, in the order of the requested kinds, and of its distractors."""

    image: Image.Image
    pictograms: list[Box]
    distractors: list[Box]


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


def draw_figure(pen: Pen) -> None:
    hand = pen.rng.choice((14, 68))
    pen.line(pen.ink, 11, 50, 62, 30, 98)
    pen.line(pen.ink, 11, 50, 62, 70, 98)
    pen.line(pen.ink, 10, 50, 40, 20, hand)
    pen.line(pen.ink, 10, 50, 40, 80, pen.rng.choice((hand, 68)))
    pen.rectangle(pen.tint, 37, 33, 63, 68, radius=8)
    pen.circle(pen.ink, 50, 16, 16)


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


def draw_tower(pen: Pen) -> None:
    if pen.rng.random() < 0.5:
        pen.rectangle(pen.tint, 64, 42, 96, 98)
    pen.rectangle(pen.ink, 22, 4, 72, 98)
    for y in (13, 31, 49, 67):
        for x in (29, 43, 57):
            pen.rectangle(pen.paper, x, y, x + 8, y + 10)
    pen.rectangle(pen.paper, 40, 84, 54, 98)


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


def draw_phone(pen: Pen) -> None:
    pen.rectangle(pen.ink, 24, 2, 76, 98, radius=10)
    pen.rectangle(pen.tint, 30, 14, 70, 80)
    pen.circle(pen.paper, 50, 89, 5)
    pen.line(pen.paper, 4, 42, 8, 58, 8)


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


Drawings = tuple[Callable[[Pen], None], ...]

PICTOGRAMS: dict[str, Drawings] = {
    "PER": (draw_bust, draw_figure, draw_face),
    "LOC": (draw_mountains, draw_pin, draw_palm),
    "ORG": (draw_tower, draw_factory, draw_bank),
    "MISC": (draw_trophy, draw_clapper, draw_phone),
}
DISTRACTORS: Drawings = (draw_star, draw_heart, draw_flower, draw_fish, draw_umbrella)


def random_colour(rng: random.Random, darkest: float, lightest: float) -> Colour:
    """Return a colour of any hue with a lightness between two bounds."""
    red, green, blue = colorsys.hls_to_rgb(rng.random(), rng.uniform(darkest, lightest), rng.uniform(0.2, 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_sticker(rng: random.Random, drawing: Callable[[Pen], None], side: int) -> Image.Image:
    """Return a drawing with a rim, slanted, stretched and mirrored at random, on a transparent square."""
    pixels = side * SCALE
    pen = Pen(rng, round(0.8 * pixels))
    drawing(pen)
    tile = Image.new("RGBA", (pixels, pixels))
    stretched = pen.tile.resize((pen.tile.width, round(pen.tile.height * rng.uniform(0.85, 1.0))))
    tile.paste(stretched, ((pixels - stretched.width) // 2, (pixels - stretched.height) // 2))
    tile = tile.rotate(rng.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sticker = Image.new("RGBA", tile.size, pen.paper)
    sticker.putalpha(tile.getchannel("A").filter(ImageFilter.BoxBlur(SCALE)).point(lambda alpha: min(6 * alpha, 255)))
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


def overlap(a: Box, b: Box, margin: int = 3) -> bool:
    """Whether two boxes overlap by more than a margin."""
    return min(a[2], b[2]) - max(a[0], b[0]) > margin and min(a[3], b[3]) - max(a[1], b[1]) > margin


def free_box(rng: random.Random, taken: Sequence[Box], side: int) -> Box | None:
    """Return a square box inside the picture that hardly overlaps the taken ones, or None if there is no room."""
    for _ in range(60):
        x, y = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
        box = (x, y, x + side, y + side)
        if not any(overlap(box, other) for other in taken):
            return box
    return None


def draw_picture(
    rng: random.Random,
    kinds: Sequence[str] = (),
    pictograms: dict[str, Drawings] = PICTOGRAMS,
    distractors: Drawings = DISTRACTORS,
) -> Picture:
    """Draw a picture that shows a pictogram of each kind among clutter and distractors.

    Args:
        rng: The only source of randomness.
        kinds: Keys of `pictograms`, at most two; without any, the picture shows only clutter and distractors.
        pictograms: The drawings of each kind.
        distractors: Smaller drawings without a meaning.
    """
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), random_colour(rng, 0.3, 0.8))
    scatter(rng, ImageDraw.Draw(image), rng.randint(6, 12), largest=18)

    sides = [rng.randint(26, 32) if len(kinds) > 1 else rng.randint(32, 42) for _ in kinds]
    boxes: list[Box] = []
    while len(boxes) < len(kinds):  # a first box in the middle leaves no room for a second: start again
        box = free_box(rng, boxes, sides[len(boxes)])
        boxes = [*boxes, box] if box else []
    drawings = [rng.choice(pictograms[kind]) for kind in kinds]
    for _ in range(rng.randint(1, 3)):
        if box := free_box(rng, boxes, rng.randint(16, 28)):
            boxes.append(box)
            drawings.append(rng.choice(distractors))
    for box, drawing in zip(boxes, drawings, strict=True):
        sticker = draw_sticker(rng, drawing, box[2] - box[0])
        image.paste(sticker, (box[0] * SCALE, box[1] * SCALE), sticker)
    scatter(rng, ImageDraw.Draw(image), rng.randint(0, 2), largest=5)

    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    noise = np.frombuffer(rng.randbytes(pixels.size), dtype=np.uint8).reshape(pixels.shape) / 127.5 - 1
    noisy = pixels * rng.uniform(0.85, 1.1) + noise * rng.uniform(4, 14)
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    return Picture(image, boxes[: len(kinds)], boxes[len(kinds) :])


def cut_objects(rng: random.Random, picture: Picture) -> list[Image.Image]:
    """Crop one or two objects out of a picture: every pictogram, then distractors, then anything; the largest first.

    The number of crops is drawn at random, independently of what the picture shows.
    """
    count = max(rng.choice((1, 2)), len(picture.pictograms))
    boxes = picture.pictograms + rng.sample(picture.distractors, len(picture.distractors))
    while len(boxes) < count:
        side = rng.randint(20, 36)
        x, y = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
        boxes.append((x, y, x + side, y + side))
    crops = []
    for left, top, right, bottom in boxes[:count]:
        grow = (right - left) * rng.uniform(-0.04, 0.15)
        dx, dy = (rng.uniform(-0.06, 0.06) * (right - left) for _ in range(2))
        sides = (left - grow + dx, top - grow + dy, right + grow + dx, bottom + grow + dy)
        left, top, right, bottom = (min(max(round(side), 0), SIZE) for side in sides)
        crops.append(picture.image.crop((left, top, right, bottom)))
    return sorted(crops, key=lambda crop: -crop.width * crop.height)
