"""Draw posts with their entities, pictures and relations as an HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import cast

from PIL import Image

from ..pictures import is_absent, is_box, load_picture, scale_box
from ..posts import cut_box
from ..support.html_page import (
    BAR,
    GREY,
    INK,
    PICTURE_STYLE,
    TRACK,
    Box,
    DrawnPage,
    embedded,
    escape,
    isolated,
    write_page,
)
from .answers import Entity, Extraction, FoundObject, Relation
from .changes import Change, find_changes
from .explanation import Explanation, call, caption, percent, shown_by
from .graph_drawing import GRAPH_STYLE, draw_graph, find_box

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


def draw_post(result: Extraction | Explanation, image: object, crops: Sequence | None, path: str | Path) -> DrawnPage:
    """Draw a post, what was found in it and, of an `Explanation`, why.

    Entities are highlighted in the text, each with its type and score. Of an `Explanation`, what the pictures change
    stands above it. Below stand the graph of entities and relations and the pictures, with the entities that
    a joint model says they show and the share of each entity's attention that went to them (mean of the layers), then
    each entity and relation with the answers without each picture, those that differ in bold; the attention of each
    layer can be unfolded. The main picture has boxes where a cropper found the crops, or where they were cut out of it.
    The page is one file that needs nothing else: pictures are JPEGs inside of it, at
    most 640 pixels wide or high, crops 240. It has no scripts, and the texts of posts are escaped.

    Args:
        result: what `Extractor` or `explain` returned.
        image: the picture, as for the pipelines, or `None`.
        crops: a list of crops, each like the picture or a box in it, or `None`.
        path: ends in .html.

    Returns:
        The page, which a notebook shows.

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
    path = page_path(path)
    name, body = page_body(result, shown_pictures(result, image, crops))
    path.write_bytes(write_page(name, STYLE, body))
    return DrawnPage(path)


def page_path(path: str | Path) -> Path:
    """The path of a page; raises a `ValueError` unless it ends in .html."""
    if Path(path).suffix.lower() != ".html":
        raise ValueError(f"path={str(path)!r} does not end in .html, e.g. path='post.html'")
    return Path(path)


def draw_posts(
    posts: Sequence[Mapping],
    answers: Sequence[Extraction],
    gold: Sequence[Extraction],
    path: str | Path,
    title: str = "Posts",
) -> DrawnPage:
    """Draw posts on one page, each with what was found in it and, beside that, what people found.

    What only one of the two sides has is bold: entities by their words and type, relations by both entities and
    label, the objects of entities by their place. The page is as that of `draw_post`.

    Args:
        posts: each with its pictures, `image` and `objects`; other keys are ignored.
        answers: what `Extractor` returned for each of them.
        gold: the same, of people: `Extraction.from_dict` reads labelled posts.
        path: ends in .html.
        title: of the page.

    Returns:
        The page, which a notebook shows.

    Raises:
        ValueError: not as many answers as posts; also as `draw_post`.

    Example:

    >>> answers = extractor(posts)  # doctest: +SKIP
    >>> draw_posts(posts, answers, [Extraction.from_dict(post) for post in labelled], "posts.html")  # doctest: +SKIP
    """
    if not len(posts) == len(answers) == len(gold):
        raise ValueError(
            f"{len(posts)} posts, {len(answers)} answers and {len(gold)} gold ones: give as many of each, e.g. "
            'draw_posts([post], [extractor(post)], [Extraction.from_dict(labelled)], "posts.html")'
        )
    path, body = page_path(path), [f"<h1>{escape(title)}</h1>"]
    for post, answer, truth in zip(posts, answers, gold, strict=True):
        pictures = shown_pictures(answer, post.get("image"), post.get("objects"))
        boxes = find_boxes(answer, pictures)
        body.append(f"<section><h2>{isolated('Post' if answer.id is None else f'Post {answer.id}')}</h2>")
        body += ['<div class="pictures">', *(figure(picture, answer, boxes) for picture in pictures), "</div>"]
        body += ['<div class="pair">', side("Found", answer, truth), side("Gold", truth, answer), "</div>"]
        body += [f'<p class="note">{escape(line)}</p>' for line in notes(answer)] + ["</section>"]
    path.write_bytes(write_page(title, STYLE, body))
    return DrawnPage(path)


def side(title: str, extraction: Extraction, other: Extraction) -> str:
    """One side of `draw_posts`: a text with its entities, and lists of regions and relations."""
    colours = colours_of(extraction.entities)
    entities = [(entity.start, entity.end, entity.entity) for entity in extraction.entities]
    others = [(entity.start, entity.end, entity.entity) for entity in other.entities]
    grounded = extraction.grounded and other.grounded
    lines = []
    for entity, colour, span in zip(extraction.entities, colours, entities, strict=True):
        twin = other.entities[others.index(span)] if span in others else None
        same = twin is not None and (not grounded or shown_by(twin.region) == shown_by(entity.region))
        shown = f" {shown_by(entity.region)}" if extraction.grounded else ""
        lines.append(bold(f"{highlight(entity, colour)}{escape(shown)}", not same))
    known = {(others[one.head], one.label, others[one.tail]) for one in other.relations}
    for relation in extraction.relations:
        triple = entities[relation.head], relation.label, entities[relation.tail]
        lines.append(bold(relation_text(extraction, relation, colours), triple not in known))
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<div><h3>{escape(title)}</h3>{post_paragraph(extraction, colours)}<ul>{items}</ul></div>"


def bold(text: str, wanted: bool) -> str:
    """HTML, in bold where that is wanted."""
    return f"<strong>{text}</strong>" if wanted else text


def relation_text(extraction: Extraction, relation: Relation, colours: list[str]) -> str:
    """A relation as HTML: its head, label, score and tail."""
    head, tail = (highlight(extraction.entities[n], colours[n]) for n in (relation.head, relation.tail))
    return f"{head} <strong>{isolated(relation.label)} {relation.score:.2f} →</strong> {tail}"


def shown_pictures(result: Extraction | Explanation, image: object, crops: Sequence | None) -> list[Shown]:
    """The pictures that are given or that the model saw; crops that are given as boxes are cut out of the image."""
    given = {"image": image} | {f"objects[{i}]": crop for i, crop in enumerate([] if crops is None else crops)}
    pictures: dict[str, Image.Image | None] = {}
    for name, one in given.items():
        if is_box(one):
            pictures[name] = cut_box(pictures["image"], cast(Mapping, one)).picture
        else:
            pictures[name] = None if is_absent(one) else load_picture(one)
    seen: list[str] = []
    shares: dict[str, list[float]] = {}
    if isinstance(result, Explanation):
        seen = result.pictures
        shares = {name: [why.mean_attention()[name] for why in result.entities] for name in seen}
    return [
        Shown(name, pictures.get(name), shares.get(name))
        for name in dict.fromkeys([*pictures, *seen])
        if pictures.get(name) is not None or name in seen
    ]


def crops_of(pictures: list[Shown]) -> dict[int, Image.Image | None]:
    """The crops by their place among the crops of the post."""
    return {int(one.name[8:-1]): one.picture for one in pictures if one.name != "image"}


def find_boxes(extraction: Extraction, pictures: list[Shown]) -> list[Box | None]:
    """The box of each crop in the main picture: where a cropper found it, or where it was cut out."""
    whole, crops = pictures[0].picture if pictures and pictures[0].name == "image" else None, crops_of(pictures)
    if whole is None:
        return []
    boxes: list[Box | None] = []
    for found, place in zip_longest(extraction.objects, range(max(crops, default=-1) + 1)):
        crop = crops.get(place)
        if isinstance(found, FoundObject):
            boxes.append(scale_box(found.box, whole))
        else:
            boxes.append(None if crop is None else find_box(crop, whole))
    return boxes


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
        lines[-1] += [(w.describe(entity), w.differs(entity)) for w in why.without]
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
section {{ border-top: 1px solid {GREY}; margin-top: 1.5rem; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1rem; }}
ul {{ margin: .2rem 0; padding-left: 1.2rem; }} .scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid {TRACK}; }}
.changes {{ list-style: none; padding: 0; }} .changes li {{ margin: .3rem 0; }}
.was, .now {{ display: inline-block; line-height: 1.3; padding: 0 .3em; border-radius: .2em;
  border: 1px solid {GREY}; }}
.now {{ background: #fdf1b8; color: {INK}; border-color: transparent; }}
{GRAPH_STYLE}"""


def page_body(result: Extraction | Explanation, pictures: list[Shown]) -> tuple[str, list[str]]:
    """The title of a post's page, and its HTML."""
    extraction = extraction_of(result)
    colours = colours_of(extraction.entities)
    name = "Post" if extraction.id is None else f"Post {extraction.id}"
    body = [f"<h1>{isolated(name)}</h1>"]
    if isinstance(result, Explanation) and result.pictures and extraction.entities:
        body.append(change_list(find_changes(result)))
    body.append(post_paragraph(extraction, colours))
    if extraction.relations:
        body.append(draw_graph(extraction, colours, crops_of(pictures)))
    if pictures:
        boxes = find_boxes(extraction, pictures)
        body += ['<div class="pictures">', *(figure(picture, extraction, boxes) for picture in pictures), "</div>"]
        if any(picture.shares for picture in pictures):
            body.append('<p class="note">Bars: share of the entity’s attention, mean of the layers.</p>')
    body += [f'<p class="note">{escape(line)}</p>' for line in notes(extraction)]
    if extraction.entities:
        body.append("<h2>Entities</h2>")
        for n, lines in enumerate(entity_lines(result)):
            entity = extraction.entities[n]
            shown = f" {shown_by(entity.region)} {entity.region.score:.2f}" if entity.region else ""
            body += [f"<h3>{highlight(entity, colours[n])}{escape(shown)}</h3>", line_list(lines)]
            if pictures and isinstance(result, Explanation):
                body.append(layer_table(result.entities[n].attention))
    if extraction.relations:
        body.append("<h2>Relations</h2>")
        for relation, lines in zip(extraction.relations, relation_lines(result), strict=True):
            body += [f"<h3>{relation_text(extraction, relation, colours)}</h3>", line_list(lines)]
    return name, body


def change_list(changes: list[Change]) -> str:
    """What pictures change, as a list; a sentence where they change nothing."""
    if not changes:
        return '<p class="note">Without pictures the entities and relations are the same.</p>'
    return f'<ul class="changes">{"".join(f"<li>{change_line(one)}</li>" for one in changes)}</ul>'


def change_line(change: Change) -> str:
    """A change as HTML: what it is about, the answer before and after, and the pictures that make it."""
    nothing = "no entity" if len(change.words) == 1 else "no relation"
    before, after = (isolated(one or nothing) for one in (change.before, change.after))
    return (
        f'<strong>{isolated(change.subject)}</strong>: <span class="was">{before}</span> → '
        f'<span class="now">{after}</span> {escape(change.reason)}'
    )


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


def figure(shown: Shown, extraction: Extraction, boxes: Sequence[Box | None] = ()) -> str:
    """A picture, in the main one the boxes of the crops, with the entities that it shows and each one's attention."""
    main = shown.name == "image"
    content = '<p class="absent">not available</p>'
    if shown.picture is not None:
        drawn = {place: box for place, box in enumerate(boxes) if box is not None} if main else {}
        alt = f"{shown.caption} of the post" + (", with boxes around its crops" if drawn else "")
        names = [box_mark(extraction, place) for place in drawn]
        content = embedded(shown.picture, IMAGE_SIDE if main else CROP_SIDE, alt, list(drawn.values()), names)
    bars = [
        f'<div class="share">{isolated(entity.word)}<span>{percent(share)}</span></div>'
        f'<div class="bar"><div style="width:{100 * share:.1f}%"></div></div>'
        for entity, share in zip(extraction.entities, shown.shares or [], strict=False)
    ]
    kind = ' class="main"' if main else ""
    colours = zip(extraction.entities, colours_of(extraction.entities), strict=True)
    marks = "".join(
        f"<div>{highlight(entity, colour)}</div>"
        for entity, colour in colours
        if entity.region is not None and shown.name == f"objects[{entity.region.index}]"
    )
    caption = f"<figcaption>{escape(shown.caption)}</figcaption>"
    return f"<figure{kind}>{content}{caption}{marks}{''.join(bars)}</figure>"


def box_mark(extraction: Extraction, place: int) -> tuple[str, str]:
    """The text and colour of the box of a crop: its number and the entities that it shows."""
    colours = zip(extraction.entities, colours_of(extraction.entities), strict=True)
    shown = [(one.word, colour) for one, colour in colours if one.region is not None and one.region.index == place]
    words = ", ".join(dict.fromkeys(word for word, _ in shown))
    return f"{place + 1} {words}".strip(), shown[0][1] if shown else TRACK


def line_list(lines: list[tuple[str, bool]]) -> str:
    items = [f"<li>{bold(escape(line), differs)}</li>" for line, differs in lines]
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
    """Notes for the reader: pictures that could not be read, pairs that were left out, and answers withheld."""
    lines = [f"{call(name)} could not be read: {error}" for name, error in extraction.image_errors.items()]
    if extraction.pairs_left_out:
        lines.append(f"pairs of entities too far apart to ask for a relation: {extraction.pairs_left_out}")
    if extraction.withheld is not None and (unsure := extraction.withheld.entities + extraction.withheld.relations):
        lines.append(f"entities and relations that are not sure, withheld: {len(unsure)}")
    return lines


__all__ = ["draw_post", "draw_posts"]
