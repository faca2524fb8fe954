"""Writes a page of posts that shows the detected boxes in their pictures, and the crops."""

from pathlib import Path

from ..pictures import load_picture
from ..support.html_page import PICTURE_STYLE, embedded, escape, isolated, write_page

STYLE = PICTURE_STYLE + "section { margin: 2rem 0; } .pictures figure:not(.main) { width: 7rem; }"
PICTURE_SIDE, CROP_SIDE = 440, 180  # pixels


def write_sheet(posts: list[dict], title: str, path: Path) -> None:
    """Write posts as an HTML page: each picture with numbered boxes and, next to it, its crops, best first.

    Args:
        posts: dicts with text, image (bytes), objects and boxes, as a shard holds them.
        title: how the crops were made.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    for post in posts:
        boxes = [entry["box"] for entry in post["boxes"]]
        alt = f"picture with {len(boxes)} boxes" if boxes else "picture without an object"
        picture = embedded(load_picture(post["image"]), PICTURE_SIDE, alt, boxes)
        crops = [
            f"<figure>{embedded(load_picture(crop['bytes']), CROP_SIDE, f'crop {n}')}"
            f'<figcaption>{n} {isolated(entry["label"])} <span class="note">{entry["score"]:.2f}</span></figcaption>'
            "</figure>"
            for n, (entry, crop) in enumerate(zip(post["boxes"], post["objects"], strict=True), 1)
        ]
        figures = "".join(crops) or '<p class="note">no object</p>'
        body.append(f'<section><p dir="auto" lang="">{escape(post["text"])}</p>')
        body.append(f'<div class="pictures"><figure class="main">{picture}</figure>{figures}</div></section>')
    if not posts:
        body.append("<p>No picture could be read.</p>")
    path.write_bytes(write_page(title, STYLE, body))
