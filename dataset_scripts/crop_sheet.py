"""Draws a contact sheet: posts with the boxes of what a detector found in their pictures, and the crops."""

from pathlib import Path

from PIL import ImageDraw

from modeling_i2srm.pictures import load_picture
from modeling_i2srm.post_drawing import GAP, GREY, LABEL_SIZE, LINE_SIZE, MARGIN, WIDTH, Page, Run, shrink

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#f0e442")  # Okabe and Ito's
COLUMNS = 2
CELL = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
PICTURE, CROP, LINE = 220, 92, 16  # pixels: width and height of a picture, of a crop, height of a line


def draw_sheet(posts: list[dict], title: str, path: Path):
    """Draw posts to a PNG, their boxes in colours and beside each picture its crops, the best first.

    Args:
        posts: dicts with text, image (bytes), objects and boxes, as a shard holds them.
        title: how the crops were made.
    """
    page = Page()
    page.flow([Run(title, LINE_SIZE, ink=GREY)], pitch=1.5)
    for start in range(0, len(posts), COLUMNS):
        top = page.y + GAP
        for column, post in enumerate(posts[start : start + COLUMNS]):
            page.y = max(page.y, draw_post(page, post, MARGIN + column * (CELL + GAP), top))
    if not posts:
        page.flow([Run("No picture could be read.", LINE_SIZE)])
    page.save(path)


def draw_post(page: Page, post: dict, left: float, top: float) -> float:
    """Draw a post in a cell; return where it ends."""
    text = page.drawable(post["text"]).replace("\n", " ")
    page.write(left, top + LINE - 6, page.fit(text, CELL, LABEL_SIZE), LABEL_SIZE)
    picture = load_picture(post["image"])
    pen, width = ImageDraw.Draw(picture), max(2, round(max(picture.size) / PICTURE * 2.5))
    for colour, box in reversed(list(zip(COLOURS, post["boxes"], strict=False))):
        edges = box["box"]
        pen.rectangle((edges[0], edges[1], edges[2] - 1, edges[3] - 1), outline=colour, width=width)
    bottom = place(page, picture, left, top + LINE, PICTURE, PICTURE)
    if not post["boxes"]:
        page.write(left + PICTURE + GAP / 2, top + LINE + 20, "no object", LABEL_SIZE, ink=GREY)
    room = int((CELL - PICTURE - GAP / 2) // (CROP + 8))
    for number, (colour, box, crop) in enumerate(zip(COLOURS, post["boxes"], post["objects"], strict=False)):
        x = left + PICTURE + GAP / 2 + number % room * (CROP + 8)
        y = top + LINE + number // room * (CROP + 2 * LINE + 16)
        page.box(x, y, CROP, 4, colour)
        place(page, load_picture(crop["bytes"]), x, y + 6, CROP, CROP)
        page.write(x, y + CROP + 2 + LINE, page.fit(page.drawable(box["label"]), CROP, LABEL_SIZE), LABEL_SIZE)
        page.write(x, y + CROP + 2 + 2 * LINE, f"{box['score']:.2f}", LABEL_SIZE, ink=GREY)
        bottom = max(bottom, y + CROP + 6 + 2 * LINE)
    return bottom


def place(page: Page, picture, x: float, y: float, width: float, height: float) -> float:
    """Draw a picture as large as it fits into a box; return where it ends."""
    scale = min(width / picture.width, height / picture.height)
    page.picture(shrink(picture, 2 * PICTURE), x, y, picture.width * scale, picture.height * scale)
    return y + picture.height * scale
