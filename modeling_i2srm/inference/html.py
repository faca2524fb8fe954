"""Draw a post with its entities, pictures and relations as an HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..pictures import load_picture
from ..support.html_page import BAR, GREY, INK, PICTURE_STYLE, TRACK, Box, embedded, escape, isolated, write_page
from .explanation import Explanation, call, caption, percent
from .extraction import Entity, Extraction

# Okabe and Ito's colours, lightened so that dark text can be read on them, each so much that the colour-blind can tell
# them apart.
COLOURS = {"PER": "#56b4e9", "LOC": "#ccece3", "ORG": "#e69f00", "MISC": "#d899bc"}
OTHER_COLOURS = ("#f5ed7e", "#f0c5a3", "#a3cce3")
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


def draw_post(result: Extraction | Explanation, image: object, crops: Sequence | None, path: str | Path) -> None:
    """Draw a post, what was found in it and, of an `Explanation`, why.

    Entities are highlighted in the text, each with its type and score. Below stand the pictures, with the share of each
    entity's attention that went to them (mean of the layers), then each entity and relation with the answers without
    each picture, those that differ in bold; the attention of each layer can be unfolded. The main picture has boxes
    where a cropper found the crops. The page is one file that needs nothing else: pictures are JPEGs inside of it, at
    most 640 pixels wide or high, crops 240. It has no scripts, and the texts of posts are escaped.

    Args:
        found: what `Extractor` or `explain` returned.
        image: the picture, as for the pipelines, or `None`.
        crops: a list of crops, each like the picture, or `None`.
        path: ends in .html.

    Raises:
        ValueError: another ending, or something else than an extraction; `PictureError` (a `ValueError`) for a picture.

    Example:

    >>> draw_post(explain(extractor, post), post["image"], post["objects"], "post.html")  # doctest: +SKIP
    """
    if not isinstance(result, (Extraction, Explanation)):
        raise ValueError(
            f"{type(result).__name__} is neither an Extraction nor an Explanation; e.g. "
            'draw_post(explain(extractor, post), post["image"], post["objects"], "post.html")'
        )
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise ValueError(f"path={str(path)!r} does not end in .html, e.g. path='post.html'")
    name, body = page_body(result, shown_pictures(result, image, crops))
    path.write_bytes(write_page(name, STYLE, body))


def shown_pictures(result: Extraction | Explanation, image: object, crops: Sequence | None) -> list[Shown]:
    """The pictures that are given or that the model saw."""
    pictures = {"image": image} | {f"objects[{i}]": crop for i, crop in enumerate([] if crops is None else crops)}
    seen: list[str] = []
    shares: dict[str, list[float]] = {}
    if isinstance(result, Explanation):
        seen = result.pictures
        shares = {name: [why.mean_attention()[name] for why in result.entities] for name in seen}
    return [
        Shown(name, None if pictures.get(name) is None else load_picture(pictures[name]), shares.get(name))
        for name in dict.fromkeys([*pictures, *seen])
        if pictures.get(name) is not None or name in seen
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


def extraction_of(result: Extraction | Explanation) -> Extraction:
    return result.extraction if isinstance(result, Explanation) else result


def entity_lines(result: Extraction | Explanation) -> list[list[tuple[str, bool]]]:
    """For each entity the lines that explain it, and whether the answer in it differs."""
    if isinstance(result, Extraction):
        return [[] for _ in result.entities]
    lines = []
    for entity, why in zip(result.extraction.entities, result.entities, strict=True):
        lines.append([(why.describe_attention(), False)] if result.pictures else [])
        lines[-1] += [(w.describe(entity), not w.found or w.entity != entity.entity) for w in why.without]
    return lines


def relation_lines(result: Extraction | Explanation) -> list[list[tuple[str, bool]]]:
    """For each relation the lines that explain it, and whether the answer in it differs."""
    if isinstance(result, Extraction):
        return [[] for _ in result.relations]
    pairs = zip(result.extraction.relations, result.relations, strict=True)
    return [[(w.describe(relation), w.label != relation.label) for w in why.without] for relation, why in pairs]


STYLE = f"""{PICTURE_STYLE}
.post {{ font-size: 1.25rem; line-height: 2; white-space: pre-wrap; }}
mark {{ color: inherit; padding: .15em .2em; border-radius: .2em; }}
mark.nested {{ border-bottom: 3px double {INK}; }}
.label {{ font-size: .7em; font-weight: bold; margin-left: .35em; white-space: nowrap; }}
.absent {{ border: 1px dashed {GREY}; padding: 1rem; }}
.share {{ display: flex; justify-content: space-between; font-size: .85rem; gap: .5rem; white-space: nowrap; }}
.share bdi {{ overflow: hidden; text-overflow: ellipsis; }}
.bar {{ height: .5rem; background: {TRACK}; margin-bottom: .3rem; }} .bar div {{ height: 100%; background: {BAR}; }}
ul {{ margin: .2rem 0; padding-left: 1.2rem; }} .scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid {TRACK}; }}
"""


def page_body(result: Extraction | Explanation, pictures: list[Shown]) -> tuple[str, list[str]]:
    """The title of a post's page, and its HTML."""
    extraction = extraction_of(result)
    colours = colours_of(extraction.entities)
    name = "Post" if extraction.id is None else f"Post {extraction.id}"
    body = [f"<h1>{isolated(name)}</h1>", post_paragraph(extraction, colours)]
    if pictures:
        boxes = [crop.box for crop in extraction.objects]
        body += ['<div class="pictures">', *(figure(picture, extraction, boxes) for picture in pictures), "</div>"]
        if any(picture.shares for picture in pictures):
            body.append('<p class="note">Bars: share of the entity’s attention, mean of the layers.</p>')
    body += [f'<p class="note">{escape(line)}</p>' for line in notes(extraction)]
    if extraction.entities:
        body.append("<h2>Entities</h2>")
        for n, lines in enumerate(entity_lines(result)):
            body += [f"<h3>{highlight(extraction.entities[n], colours[n])}</h3>", line_list(lines)]
            if pictures and isinstance(result, Explanation):
                body.append(layer_table(result.entities[n].attention))
    if extraction.relations:
        body.append("<h2>Relations</h2>")
        for relation, lines in zip(extraction.relations, relation_lines(result), strict=True):
            head, tail = (highlight(extraction.entities[n], colours[n]) for n in (relation.head, relation.tail))
            label = f"{isolated(relation.label)} {relation.score:.2f}"
            body += [f"<h3>{head} <strong>{label} →</strong> {tail}</h3>", line_list(lines)]
    return name, body


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
        boxes = boxes if main else ()
        alt = f"{shown.caption} of the post" + (", with boxes around its crops" if boxes else "")
        content = embedded(shown.picture, IMAGE_SIDE if main else CROP_SIDE, alt, boxes)
    bars = [
        f'<div class="share">{isolated(entity.word)}<span>{percent(share)}</span></div>'
        f'<div class="bar"><div style="width:{100 * share:.1f}%"></div></div>'
        for entity, share in zip(extraction.entities, shown.shares or [], strict=False)
    ]
    kind = ' class="main"' if main else ""
    return f"<figure{kind}>{content}<figcaption>{escape(shown.caption)}</figcaption>{''.join(bars)}</figure>"


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
    """Notes for the reader: pictures that could not be read, and pairs that were left out."""
    lines = [f"{call(name)} could not be read: {error}" for name, error in extraction.image_errors.items()]
    if extraction.pairs_left_out:
        lines.append(f"pairs of entities too far apart to ask for a relation: {extraction.pairs_left_out}")
    return lines


__all__ = ["draw_post"]
