"""Draw a post with its entities, pictures and relations: as an HTML page or as a PNG."""

import base64
import html
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import regex
from PIL import Image

from .explanation import Explanation, call, caption, percent
from .extraction import Entity, Extraction, Relation
from .pictures import load_picture

INK, GREY, PAPER, TRACK = "#1a1a1a", "#595959", "#ffffff", "#e4e4e4"
# Okabe and Ito's colours, lightened so that dark text can be read on them, each so much that the colour-blind can tell
# them apart.
COLOURS = {"PER": "#56b4e9", "LOC": "#ccece3", "ORG": "#e69f00", "MISC": "#d899bc"}
OTHER_COLOURS = ("#f5ed7e", "#f0c5a3", "#a3cce3")
BAR = "#0072b2"
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

IMAGE_SIDE, CROP_SIDE = 640, 240  # longest side of an embedded picture, in pixels


@dataclass(frozen=True)
class Piece:
    """A part of a text in which no entity begins or ends; entities are given by number."""

    text: str
    entities: list[int]  # those that it belongs to, the innermost first
    ending: list[int]  # those that end with it


@dataclass(frozen=True)
class Shown:
    """A picture of a post: its name ("image", "objects[0]" ...), itself, and the share of attention per entity."""

    name: str
    picture: Image.Image | None
    shares: list[float] | None  # None where no model of the entities saw the picture

    @property
    def caption(self) -> str:
        return caption(self.name)


def draw_post(found: Extraction | Explanation, image, crops: Sequence | None, path: str | Path):
    """Draw a post, what was found in it and, of an `Explanation`, why.

    Entities are highlighted in the text, each with its type and score; below stand the pictures, with the share of each
    entity's attention that went to them (mean of the layers), then each entity and relation with the answers without
    each picture, those that differ in bold. An HTML page is one file that needs nothing else: pictures are JPEGs inside
    of it, at most 640 pixels wide or high, crops 240. It has no scripts, and the texts of posts are escaped. It also
    has the attention of each layer, and boxes where a cropper found the crops.

    A PNG is drawn with matplotlib and its font, DejaVu Sans: "□" stands for a sign that the font lacks (most emoji,
    Chinese ...), and a note says how many there are. With `matplotlib.rcParams["font.family"] = ["DejaVu Sans", "Noto
    Sans CJK JP"]` or others they are drawn. Right-to-left scripts need matplotlib 3.11; lines start on the left all the
    same. Of a long post the first 40 lines and the first 12 pictures, entities and relations are drawn; a note says so.

    Args:
        found: what `Extractor` or `explain` returned.
        image: the picture, as for the pipelines, or `None`.
        crops: a list of crops, each like the picture, or `None`.
        path: ends in .html or .png.

    Raises:
        ValueError: another ending, or something else than an extraction; `PictureError` (a `ValueError`) for a picture.

    Example:

    >>> draw_post(explain(extractor, post), post["image"], post["objects"], "post.html")  # doctest: +SKIP
    """
    if not isinstance(found, (Extraction, Explanation)):
        raise ValueError(
            f"{type(found).__name__} is neither an Extraction nor an Explanation; e.g. "
            'draw_post(explain(extractor, post), post["image"], post["objects"], "post.html")'
        )
    path = Path(path)
    drawers = {".html": write_html, ".png": write_png}
    if path.suffix.lower() not in drawers:
        raise ValueError(f"path={str(path)!r} ends neither in .html nor in .png, e.g. path='post.html'")
    pictures = shown_pictures(found, image, crops)
    drawers[path.suffix.lower()](found, pictures, path)


def shown_pictures(found: Extraction | Explanation, image, crops: Sequence | None) -> list[Shown]:
    """The pictures that are given or that the model saw."""
    given = {"image": image} | {f"objects[{i}]": crop for i, crop in enumerate([] if crops is None else crops)}
    seen = found.pictures if isinstance(found, Explanation) else []
    shares = {name: [why.mean_attention()[name] for why in found.entities] for name in seen}
    return [
        Shown(name, None if given.get(name) is None else load_picture(given[name]), shares.get(name))
        for name in dict.fromkeys([*given, *seen])
        if given.get(name) is not None or name in seen
    ]


def cut_text(text: str, entities: list[Entity]) -> list[Piece]:
    """Cut a text where entities begin and end; they may touch, nest and overlap.

    >>> entities = [Entity("ORG", 0.6, "New York", 3, 11), Entity("LOC", 0.9, "York", 7, 11)]
    >>> for piece in cut_text("in New York !", entities):
    ...     print(piece)
    Piece(text='in ', entities=[], ending=[])
    Piece(text='New ', entities=[0], ending=[])
    Piece(text='York', entities=[1, 0], ending=[1, 0])
    Piece(text=' !', entities=[], ending=[])
    """
    cuts = sorted({0, len(text), *(e.start for e in entities), *(e.end for e in entities)})
    pieces = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        inside = [n for n, entity in enumerate(entities) if entity.start <= start and end <= entity.end]
        inside.sort(key=lambda n: entities[n].end - entities[n].start)
        pieces.append(Piece(text[start:end], inside, [n for n in inside if entities[n].end == end]))
    return pieces


def colours_of(entities: list[Entity]) -> list[str]:
    """The colour of each entity, by its type."""
    others = [kind for kind in dict.fromkeys(e.entity for e in entities) if kind not in COLOURS]
    colours = COLOURS | {kind: OTHER_COLOURS[n % len(OTHER_COLOURS)] for n, kind in enumerate(others)}
    return [colours[entity.entity] for entity in entities]


def extraction_of(found: Extraction | Explanation) -> Extraction:
    return found.extraction if isinstance(found, Explanation) else found


def entity_lines(found: Extraction | Explanation) -> list[list[tuple[str, bool]]]:
    """For each entity the lines that explain it, and whether the answer in it differs."""
    if isinstance(found, Extraction):
        return [[] for _ in found.entities]
    lines = []
    for entity, why in zip(found.extraction.entities, found.entities, strict=True):
        lines.append([(why.describe_attention(), False)] if found.pictures else [])
        lines[-1] += [(w.describe(entity), not w.found or w.entity != entity.entity) for w in why.without]
    return lines


def relation_lines(found: Extraction | Explanation) -> list[list[tuple[str, bool]]]:
    """For each relation the lines that explain it, and whether the answer in it differs."""
    if isinstance(found, Extraction):
        return [[] for _ in found.relations]
    pairs = zip(found.extraction.relations, found.relations, strict=True)
    return [[(w.describe(relation), w.label != relation.label) for w in why.without] for relation, why in pairs]


def shrink(picture: Image.Image, side: int) -> Image.Image:
    picture = picture.copy()
    picture.thumbnail((side, side))
    return picture


# HTML

PAGE_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; padding: 1rem; max-width: 46rem; background: {PAPER}; color: {INK};
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.15rem; }} h2 {{ font-size: 1.05rem; margin: 1.6rem 0 .4rem; }}
h3 {{ font-size: 1rem; font-weight: normal; margin: 1rem 0 .2rem; }}
"""
STYLE = f"""
.post {{ font-size: 1.25rem; line-height: 2; white-space: pre-wrap; }}
mark {{ color: inherit; padding: .15em .2em; border-radius: .2em; }}
mark.nested {{ border-bottom: 3px double {INK}; }}
.label {{ font-size: .7em; font-weight: bold; margin-left: .35em; white-space: nowrap; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }}
figure {{ margin: 0; width: 11rem; }} figure.main {{ width: 18rem; max-width: 100%; }}
figure img {{ display: block; width: 100%; height: auto; max-height: 20rem;
  object-fit: contain; object-position: left; }}
.boxed {{ position: relative; }} figure .boxed img {{ height: 100%; max-height: none; }}
.box {{ position: absolute; box-sizing: border-box; border: 2px solid {BAR}; outline: 1px solid {PAPER}; }}
.box span {{ position: absolute; background: {BAR}; color: {PAPER}; padding: 0 .35em;
  font: bold .8rem/1.3 sans-serif; }}
.absent {{ border: 1px dashed {GREY}; padding: 1rem; }}
figcaption {{ font-weight: bold; margin: .3rem 0; }}
.share {{ display: flex; justify-content: space-between; font-size: .85rem; gap: .5rem; white-space: nowrap; }}
.share bdi {{ overflow: hidden; text-overflow: ellipsis; }}
.bar {{ height: .5rem; background: {TRACK}; margin-bottom: .3rem; }} .bar div {{ height: 100%; background: {BAR}; }}
ul {{ margin: .2rem 0; padding-left: 1.2rem; }} .scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid {TRACK}; }}
.note {{ color: {GREY}; font-size: .85rem; }}
"""


def write_html(found: Extraction | Explanation, pictures: list[Shown], path: Path):
    extraction = extraction_of(found)
    colours = colours_of(extraction.entities)
    name = "Post" if extraction.id is None else f"Post {extraction.id}"
    body = [f"<h1>{isolated(name)}</h1>", post_paragraph(extraction, colours)]
    if pictures:
        boxes = [found.box for found in extraction.objects]
        body += ['<div class="pictures">', *(figure(picture, extraction, boxes) for picture in pictures), "</div>"]
        if any(picture.shares for picture in pictures):
            body.append('<p class="note">Bars: share of the entity’s attention, mean of the layers.</p>')
    body += [f'<p class="note">{escape(line)}</p>' for line in notes(extraction)]
    if extraction.entities:
        body.append("<h2>Entities</h2>")
        for n, lines in enumerate(entity_lines(found)):
            body += [f"<h3>{highlight(extraction.entities[n], colours[n])}</h3>", line_list(lines)]
            if pictures and isinstance(found, Explanation):
                body.append(layer_table(found.entities[n].attention))
    if extraction.relations:
        body.append("<h2>Relations</h2>")
        for relation, lines in zip(extraction.relations, relation_lines(found), strict=True):
            head, tail = (highlight(extraction.entities[n], colours[n]) for n in (relation.head, relation.tail))
            label = f"{isolated(relation.label)} {relation.score:.2f}"
            body += [f"<h3>{head} <strong>{label} →</strong> {tail}</h3>", line_list(lines)]
    page = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Even if something slipped through, browsers run and fetch nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(name)}</title>\n<style>{PAGE_STYLE}{STYLE}</style>\n</head>\n<body>\n<main>",
        *body,
        "</main>\n</body>\n</html>\n",
    ]
    path.write_bytes("\n".join(page).encode("utf-8", "replace"))  # lone surrogates become question marks


def escape(text: str) -> str:
    """Escape text for HTML, also inside of attributes; control characters, which HTML must not have, become "�"."""
    text = html.escape(regex.sub(r"[\p{Cc}--[\t\n\r]]", "\ufffd", text, flags=regex.VERSION1))
    return text.replace("\r", "&#13;")  # else a mark between the two halves of a line's end would make two ends


def isolated(text: str) -> str:
    """Escaped text whose direction does not spread to what stands around it."""
    return f"<bdi>{escape(text)}</bdi>"


def post_paragraph(extraction: Extraction, colours: list[str]) -> str:
    parts = []
    for piece in cut_text(extraction.text, extraction.entities):
        if not piece.entities:
            parts.append(escape(piece.text))
            continue
        nested = ' class="nested"' if len(piece.entities) > 1 else ""
        labels = "".join(label(extraction.entities[n]) for n in piece.ending)
        colour = colours[piece.entities[0]]
        parts.append(f'<mark{nested} style="background:{colour}">{escape(piece.text)}{labels}</mark>')
    return f'<p class="post" dir="auto" lang="">{"".join(parts)}</p>'


def label(entity: Entity) -> str:
    return f'<bdi class="label" lang="en">{escape(entity.entity)} {entity.score:.2f}</bdi>'


def highlight(entity: Entity, colour: str) -> str:
    return f'<mark style="background:{colour}">{isolated(entity.word)}{label(entity)}</mark>'


def figure(shown: Shown, extraction: Extraction, boxes: Sequence[Box] = ()) -> str:
    """A picture, in the main one the boxes of the crops, and the share of each entity's attention that went to it."""
    main = shown.name == "image"
    content = '<p class="absent">not at hand</p>'
    if shown.picture is not None:
        file = io.BytesIO()
        shrink(shown.picture, IMAGE_SIDE if main else CROP_SIDE).save(file, "JPEG", quality=85)
        data = base64.b64encode(file.getvalue()).decode()
        boxes = boxes if main else ()
        alt = f"{shown.caption} of the post" + (", with boxes around its crops" if boxes else "")
        content = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}">'
        if boxes:
            content = boxed(content, shown.picture.size, boxes)
    bars = [
        f'<div class="share">{isolated(entity.word)}<span>{percent(share)}</span></div>'
        f'<div class="bar"><div style="width:{100 * share:.1f}%"></div></div>'
        for entity, share in zip(extraction.entities, shown.shares or [], strict=False)
    ]
    kind = ' class="main"' if main else ""
    return f"<figure{kind}>{content}<figcaption>{escape(shown.caption)}</figcaption>{''.join(bars)}</figure>"


def boxed(image: str, size: tuple[int, int], boxes: Sequence[Box]) -> str:
    """An image with numbered frames over it; boxes in pixels of that size, which is not the size it is shown in."""
    width, height = size
    frames = "".join(
        f'<span class="box" aria-hidden="true" style="left:{100 * left / width:.2f}%;top:{100 * top / height:.2f}%;'
        f'width:{100 * (right - left) / width:.2f}%;height:{100 * (bottom - top) / height:.2f}%">'
        f"<span>{n}</span></span>"
        for n, (left, top, right, bottom) in enumerate(boxes, 1)
    )
    # As wide as the column, and not over 20 rem high.
    style = f"aspect-ratio:{width}/{height};width:min(100%,{20 * width / height:.2f}rem)"
    return f'<div class="boxed" style="{style}">{image}{frames}</div>'


def line_list(lines: list[tuple[str, bool]]) -> str:
    items = [f"<li>{f'<strong>{escape(line)}</strong>' if differs else escape(line)}</li>" for line, differs in lines]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def layer_table(attention: dict[str, list[float]]) -> str:
    head = "".join(f'<th scope="col">{escape(caption(name))}</th>' for name in attention)
    rows = "".join(
        f'<tr><th scope="row">{layer}</th>{"".join(f"<td>{100 * share:.1f} %</td>" for share in shares)}</tr>'
        for layer, shares in enumerate(zip(*attention.values(), strict=True), 1)
    )
    table = f'<table><tr><th scope="col">layer</th>{head}</tr>{rows}</table>'
    return f'<details><summary>Attention of each layer</summary><div class="scroll">{table}</div></details>'


def notes(extraction: Extraction) -> list[str]:
    """What a reader has to know about an extraction."""
    lines = [f"{call(name)} could not be read: {error}" for name, error in extraction.image_errors.items()]
    if extraction.pairs_left_out:
        lines.append(f"pairs of entities too far apart to ask for a relation: {extraction.pairs_left_out}")
    return lines


# PNG

DPI, WIDTH, MARGIN, GAP = 120, 1200, 40, 24  # pixels but for the first
IMAGE_WIDTH, CROP_WIDTH = 300, 170
TEXT_SIZE, LINE_SIZE, LABEL_SIZE = 15, 10, 9.5  # points
COLUMN = (WIDTH - 2 * MARGIN - GAP) / 2  # of entities and relations
MAX_LINES, MAX_BLOCKS = 40, 12  # lines of the post, and pictures, entities or relations: a picture has an end
MISSING = "□"
SCRIPTS_WITHOUT_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
WORD = regex.compile(rf"\n|[^\S\n]+|[{SCRIPTS_WITHOUT_SPACES}]|[^\s{SCRIPTS_WITHOUT_SPACES}]+")


@dataclass(frozen=True)
class Run:
    """Text of one look."""

    text: str
    size: float
    bold: bool = False
    colour: str | None = None  # behind the text
    nested: bool = False
    ink: str = INK
    beside: str | None = None  # the text whose direction it has, as a label has that of its entity; it is not broken


class Page:
    """A picture that is filled from the top down; all measures in pixels."""

    def __init__(self):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(dpi=DPI, facecolor=PAPER)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self.glyphs = known_glyphs()
        self.widths: dict[tuple, float] = {}
        self.missing = 0
        self.y = float(MARGIN)

    def drawable(self, text: str) -> str:
        """Text that the font has: no control characters, and "□" for what it lacks."""
        shown = []
        for grapheme in regex.findall(r"\X", text):
            signs = [sign for sign in grapheme if not invisible(sign)]
            if all(sign in "\n\r\t\v\f" or unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in grapheme):
                shown.append("\n" if "\n" in grapheme else " ")
            elif all(ord(sign) in self.glyphs for sign in signs):
                shown += signs
            else:
                self.missing += 1
                shown.append(MISSING)
        return "".join(shown)

    def font(self, size: float, bold: bool):
        from matplotlib.font_manager import FontProperties

        return FontProperties(size=size, weight="bold" if bold else "normal")

    def width(self, text: str, size: float, bold: bool = False) -> float:
        key = (text, size, bold)
        if key not in self.widths:
            self.widths[key] = self.renderer.get_text_width_height_descent(text, self.font(size, bold), False)[0]
        return self.widths[key]

    def write(self, x: float, y: float, text: str, size: float, bold: bool = False, ink: str = INK):
        """Write drawable text; y is that of its base line."""
        self.axes.text(x, y, text, color=ink, fontproperties=self.font(size, bold), va="baseline", parse_math=False)

    def box(self, x: float, y: float, width: float, height: float, colour: str):
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="none", zorder=0.5))

    def fit(self, text: str, width: float, size: float) -> str:
        """Cut drawable text to a width."""
        if self.width(text, size) <= width:
            return text
        while text and self.width(f"{text}…", size) > width:
            text = text[:-1]
        return f"{text}…"

    def flow(self, runs: list[Run], left: float = MARGIN, width: float = WIDTH - 2 * MARGIN, pitch=1.9) -> bool:
        """Write runs as a paragraph and go on below it; return whether all of it fitted into `MAX_LINES`."""
        lines, used = [[]], 0.0
        for part, run in self.parts(runs, width):
            size = 0 if part == "\n" else self.width(part, run.size, run.bold)
            if part == "\n" or used + size > width:
                lines.append([])
                used = 0.0
            if len(lines) > MAX_LINES:
                break
            if part != "\n" and not (part.isspace() and not lines[-1]):
                lines[-1].append((part, run, size))
                used += size
        letter = max(run.size for run in runs) * DPI / 72
        for line in lines[:MAX_LINES]:
            self.y += pitch * letter
            x = left
            for word, run, size in in_reading_order(line):
                if run.colour is not None:
                    self.box(x, self.y - 1.15 * letter, size, 1.55 * letter, run.colour)
                if run.nested:
                    self.box(x, self.y + 0.3 * letter, size, 2, INK)
                self.write(x, self.y, word, run.size, run.bold, run.ink)
                x += size
        return len(lines) <= MAX_LINES

    def parts(self, runs: list[Run], width: float) -> Iterator[tuple[str, Run]]:
        """The words of runs and the spaces between them, drawable, with words that are too long for a line in parts."""
        for run in runs:
            for word in WORD.findall(run.text) if run.beside is None else [run.text]:
                word = self.drawable(word)
                if word == "\n" or self.width(word, run.size, run.bold) <= width:
                    yield word, run
                    continue
                part = ""
                for sign in regex.findall(r"\X", word):
                    if self.width(part + sign, run.size, run.bold) > width:
                        yield part, run
                        part = ""
                    part += sign
                yield part, run

    def picture(self, picture: Image.Image, x: float, y: float, width: float, height: float):
        self.axes.imshow(np.asarray(picture), extent=(x, x + width, y + height, y), aspect="auto")

    def save(self, path: Path):
        height = self.y + MARGIN
        self.figure.set_size_inches(WIDTH / DPI, height / DPI)
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.figure.savefig(path, dpi=DPI, format="png")


def known_glyphs() -> set[int]:
    """The characters that matplotlib's font has, in regular and bold."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    glyphs = set()
    for family in FontProperties().get_family():
        fonts = [get_font(findfont(FontProperties(family=family, weight=weight))) for weight in ("normal", "bold")]
        glyphs |= set.intersection(*(set(font.get_charmap()) for font in fonts))
    return glyphs


def invisible(sign: str) -> bool:
    """Whether a character only changes how others look: joiners, directions, variants."""
    return unicodedata.category(sign) == "Cf" or "\ufe00" <= sign <= "\ufe0f"


def direction(word: str) -> str:
    """The direction of the first letter, "L", "R" or "AL", or none."""
    return next((found for sign in word if (found := unicodedata.bidirectional(sign)) in ("L", "R", "AL")), "")


def in_reading_order(line: list[tuple]) -> list[tuple]:
    """Turn round the words of right-to-left scripts that follow one another on a line."""
    directions = [direction(word if run.beside is None else run.beside) for word, run, _ in line]
    ordered, start = [], 0
    while start < len(line):
        end = start + 1
        if directions[start] in ("R", "AL"):
            following = range(start, len(line))
            stop = next((n for n in following if directions[n] == "L"), len(line))
            end = 1 + max(n for n in range(start, stop) if directions[n] in ("R", "AL"))
        ordered += line[start:end][::-1]
        start = end
    return ordered


def write_png(found: Extraction | Explanation, pictures: list[Shown], path: Path):
    extraction = extraction_of(found)
    entities, colours = extraction.entities, colours_of(extraction.entities)
    page, left_out = Page(), []
    if extraction.id is not None:
        page.flow([Run(f"Post {extraction.id}", LINE_SIZE, ink=GREY)])
    runs = []
    for piece in cut_text(extraction.text, entities):
        colour = colours[piece.entities[0]] if piece.entities else None
        runs.append(Run(piece.text, TEXT_SIZE, colour=colour, nested=len(piece.entities) > 1))
        runs += [label_run(entities[n], colour) for n in piece.ending]
    if runs and not page.flow(runs):
        left_out.append("the rest of the text")
    page.y += GAP
    if pictures:
        draw_pictures(page, pictures[:MAX_BLOCKS], entities)
    chips = [chip(entity, colour) for entity, colour in zip(entities, colours, strict=True)]
    blocks = {
        "entities": list(zip(chips, entity_lines(found), strict=True)),
        "relations": [
            ([*chips[relation.head], arrow(relation), *chips[relation.tail]], lines)
            for relation, lines in zip(extraction.relations, relation_lines(found), strict=True)
        ],
    }
    for title, all_of_them in blocks.items():
        if all_of_them:
            page.y += GAP / 2
            page.flow([Run(title.capitalize(), LINE_SIZE + 2, bold=True)])
            draw_blocks(page, all_of_them[:MAX_BLOCKS])
    for title, all_of_them in {"pictures": pictures, **blocks}.items():
        if len(all_of_them) > MAX_BLOCKS:
            left_out.append(f"{len(all_of_them) - MAX_BLOCKS} more {title}")
    lines = notes(extraction)
    if left_out:
        lines.append(f"not drawn: {', '.join(left_out)}")
    if page.missing:
        lines.append(f"{MISSING}: a sign that the font of this picture lacks ({page.missing} drawn)")
    if lines:
        page.y += GAP / 2
    for line in lines:
        page.flow([Run(line, LABEL_SIZE, ink=GREY)])
    page.save(path)


def label_run(entity: Entity, colour: str) -> Run:
    return Run(f" {entity.entity} {entity.score:.2f} ", LABEL_SIZE, bold=True, colour=colour, beside=entity.word)


def chip(entity: Entity, colour: str) -> list[Run]:
    return [Run(entity.word, LINE_SIZE + 1, colour=colour), label_run(entity, colour)]


def arrow(relation: Relation) -> Run:
    return Run(f"  {relation.label} {relation.score:.2f} →  ", LINE_SIZE, bold=True)


def draw_blocks(page: Page, blocks: list[tuple[list[Run], list[tuple[str, bool]]]]):
    """Write entities or relations, each with its lines, in two columns."""
    for number in range(0, len(blocks), 2):
        top, bottom = page.y, page.y
        for column, (runs, lines) in enumerate(blocks[number : number + 2]):
            page.y, left = top, MARGIN + column * (COLUMN + GAP)
            page.flow(runs, left, COLUMN)
            for line, differs in lines:
                page.flow([Run(line, LINE_SIZE, bold=differs)], left + GAP, COLUMN - GAP, pitch=1.5)
            bottom = max(bottom, page.y)
        page.y = bottom + 8


def draw_pictures(page: Page, pictures: list[Shown], entities: list[Entity]):
    """Draw the pictures side by side, and below each a bar an entity."""
    x, top, bottom = MARGIN, page.y, page.y
    for shown in pictures:
        width = IMAGE_WIDTH if shown.name == "image" else CROP_WIDTH
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, top = MARGIN, bottom + GAP
        height = width / 2
        if shown.picture is None:
            page.box(x, top, width, height, TRACK)
            page.write(x + 10, top + height / 2, "not at hand", LINE_SIZE, ink=GREY)
        else:
            across, down = shown.picture.size
            height = min(width * down / across, 1.5 * width)
            page.picture(shrink(shown.picture, IMAGE_SIDE), x, top, height * across / down, height)
        y = top + height + 22
        page.write(x, y, shown.caption, LINE_SIZE, bold=True)
        for entity, share in zip(entities[:MAX_BLOCKS], shown.shares or [], strict=False):
            y += 24
            value = percent(share)
            room = width - page.width(value, LABEL_SIZE) - 10
            word = page.drawable(entity.word).replace("\n", " ")
            page.write(x, y, page.fit(word, room, LABEL_SIZE), LABEL_SIZE)
            page.write(x + room + 10, y, value, LABEL_SIZE)
            page.box(x, y + 6, width, 7, TRACK)
            page.box(x, y + 6, width * share, 7, BAR)
            y += 13
        bottom = max(bottom, y)
        x += width + GAP
    page.y = bottom
    if any(shown.shares for shown in pictures):
        page.flow([Run("Bars: share of the entity’s attention, mean of the layers.", LABEL_SIZE, ink=GREY)])


__all__ = ["draw_post"]
