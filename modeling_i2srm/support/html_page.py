"""HTML pages that are one file, run no script and fetch nothing."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import regex
from PIL import Image

INK, GREY, PAPER, TRACK = "#1a1a1a", "#595959", "#ffffff", "#e4e4e4"
BAR = "#0072b2"
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

PAGE_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; padding: 1rem; max-width: 46rem; background: {PAPER}; color: {INK};
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.15rem; }} h2 {{ font-size: 1.05rem; margin: 1.6rem 0 .4rem; }}
h3 {{ font-size: 1rem; font-weight: normal; margin: 1rem 0 .2rem; }}
"""
PICTURE_STYLE = f"""
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }}
figure {{ margin: 0; width: 11rem; }} figure.main {{ width: 18rem; max-width: 100%; }}
figure img {{ display: block; width: 100%; height: auto; max-height: 20rem;
  object-fit: contain; object-position: left; }}
.boxed {{ position: relative; }} figure .boxed img {{ height: 100%; max-height: none; }}
.box {{ position: absolute; box-sizing: border-box; border: 2px solid {BAR}; outline: 1px solid {PAPER}; }}
.box span {{ position: absolute; background: {BAR}; color: {PAPER}; padding: 0 .35em;
  font: bold .8rem/1.3 sans-serif; white-space: nowrap; }}
figcaption {{ font-weight: bold; margin: .3rem 0; }}
.note {{ color: {GREY}; font-size: .85rem; }}
"""


@dataclass(frozen=True)
class DrawnPage:
    """A page in a file; a notebook shows it where this is the value of a cell."""

    path: Path

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 32rem; border: 0"></iframe>'


def write_page(title: str, style: str, body: list[str]) -> bytes:
    """The bytes of a page.

    Args:
        title: plain text.
        style: CSS in addition to `PAGE_STYLE`.
        body: HTML with escaped text.
    """
    page = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Even if some text were not escaped, browsers would run and fetch nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title>\n<style>{PAGE_STYLE}{style}</style>\n</head>\n<body>\n<main>",
        *body,
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(page).encode("utf-8", "replace")  # lone surrogates become question marks


def escape(text: str) -> str:
    """Escape text for HTML, also inside of attributes; control characters, which HTML must not have, become "�"."""
    text = html.escape(regex.sub(r"[\p{Cc}--[\t\n\r]]", "\ufffd", text, flags=regex.VERSION1))
    return text.replace("\r", "&#13;")  # else a mark between CR and LF would make two line ends


def isolated(text: str) -> str:
    """Escaped text whose direction (right-to-left, for instance) does not affect the text around it."""
    return f"<bdi>{escape(text)}</bdi>"


def embedded(
    picture: Image.Image, side: int, alt: str, boxes: Sequence[Box] = (), marks: Sequence[tuple[str, str]] = ()
) -> str:
    """HTML of a picture, embedded as a JPEG, with boxes over it.

    Args:
        side: most pixels of its longest side.
        alt: text for readers who do not see it.
        boxes: in pixels of the picture before it is reduced.
        marks: a text and a light colour per box; without any, boxes have their numbers and one dark colour.
    """
    image = f'<img src="{jpeg_address(picture, side)}" alt="{escape(alt)}">'
    if not boxes:
        return image
    width, height = picture.size
    frames = []
    for n, (left, top, right, bottom) in enumerate(boxes):
        text, colour = marks[n] if marks else (str(n + 1), "")
        place = f"left:{100 * left / width:.2f}%;top:{100 * top / height:.2f}%"
        size = f"width:{100 * (right - left) / width:.2f}%;height:{100 * (bottom - top) / height:.2f}%"
        border = f";border-color:{colour}" if colour else ""
        side_of_text = "right:0;" if left + right > width else ""  # it may be wider than its box
        paint = f"background:{colour};color:{INK}" if colour else ""
        style = f' style="{side_of_text}{paint}"' if side_of_text or paint else ""
        frames.append(
            f'<span class="box" aria-hidden="true" style="{place};{size}{border}"><span{style}>{isolated(text)}</span>'
            "</span>"
        )
    # As wide as the column, and not over 20 rem high.
    style = f"aspect-ratio:{width}/{height};width:min(100%,{20 * width / height:.2f}rem)"
    return f'<div class="boxed" style="{style}">{image}{"".join(frames)}</div>'


def jpeg_address(picture: Image.Image, side: int) -> str:
    """A picture as a data: URL of a JPEG, at most `side` pixels wide and high."""
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
