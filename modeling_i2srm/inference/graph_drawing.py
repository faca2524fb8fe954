"""The graph of a post as a drawing for HTML pages: entities are nodes, relations arrows, objects small pictures."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ..support.html_page import INK, PAPER, Box, escape, jpeg_address
from .answers import Extraction
from .explanation import shown_by
from .extraction import TYPED_LABEL

RADIUS, WIDTH, LONGEST = 34, 380, 20  # of a node; of the drawing; characters of a word
MAX_PIXELS = 4_000_000  # of a picture in which crops are looked for
GRAPH_STYLE = f"""
.graph {{ display: block; width: 100%; max-width: 32rem; height: auto; margin: .6rem 0; color: inherit;
  overflow: visible; }}
.graph text {{ font: 600 15px system-ui, sans-serif; text-anchor: middle; fill: currentColor; paint-order: stroke;
  stroke: var(--halo, {PAPER}); stroke-width: 5px; stroke-linejoin: round; unicode-bidi: plaintext; }}
.graph .type {{ fill: {INK}; stroke: none; }}
.graph .edge {{ fill: none; stroke: currentColor; stroke-width: 2px; }} .graph .tip {{ fill: currentColor; }}
"""


def draw_graph(extraction: Extraction, colours: Sequence[str], crops: Mapping[int, Image.Image | None]) -> str:
    """The entities and relations of a post as an SVG drawing, and in words for screen readers.

    A node has the colour of its entity's type, and the object that shows the entity, else the type.

    Args:
        colours: one per entity.
        crops: pictures by their place among the crops of the post.
    """
    places, width, height = place_nodes(len(extraction.entities))
    pairs = {(relation.head, relation.tail) for relation in extraction.relations}
    if len(places) == 2 and pairs == {(1, 0)}:
        places.reverse()  # so that the arrow points to the right
    edges = []
    for relation in extraction.relations:
        bend = 36 if (relation.tail, relation.head) in pairs else 0
        edges.append(draw_edge(places[relation.head], places[relation.tail], short_label(relation.label), bend))
    nodes = []
    for entity, colour, (x, y) in zip(extraction.entities, colours, places, strict=True):
        crop = crops.get(entity.region.index) if entity.region is not None else None
        side = 1.35 * RADIUS
        inside = f'<text class="type" x="{x}" y="{y + 5}">{escape(shorten(entity.entity, 6))}</text>'
        if crop is not None:
            inside = (
                f'<image href="{jpeg_address(crop, 160)}" x="{x - side / 2:.0f}" y="{y - side / 2:.0f}" '
                f'width="{side:.0f}" height="{side:.0f}" style="clip-path:inset(0 round 6px)"/>'
            )
        words = f"{shorten(entity.word)} · {shorten(entity.entity, 6)}" if crop is not None else shorten(entity.word)
        nodes.append(
            f'<circle cx="{x}" cy="{y}" r="{RADIUS}" style="fill:{colour}"/>{inside}'
            f'<text x="{x}" y="{y + RADIUS + 19}">{escape(words)}</text>'
        )
    arrows, labels = zip(*edges, strict=True) if edges else ((), ())
    words = escape(graph_in_words(extraction))
    return (
        f'<svg class="graph" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">'
        f"{''.join([*arrows, *nodes, *labels])}</svg>"
    )


def graph_in_words(extraction: Extraction) -> str:
    """The graph in a sentence, for readers who do not see it."""
    entities = [
        f"{entity.word} is {entity.entity}" + (f", shown by {shown_by(entity.region)}" if entity.region else "")
        for entity in extraction.entities
    ]
    triples = [f"{triple.head} {triple.relation} {triple.tail}" for triple in extraction.to_triples()]
    return f"Graph of the post: {'; '.join(entities + triples)}."


def short_label(label: str) -> str:
    """A relation for people: of "/org/loc/locate_at", whose types the nodes show, "locate at"."""
    return (label.split("/", 3)[3] if TYPED_LABEL.fullmatch(label) else label).replace("_", " ")


def shorten(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def place_nodes(count: int) -> tuple[list[tuple[int, int]], int, int]:
    """The middles of the nodes, and the width and height of the drawing: two side by side, more in a ring."""
    if count <= 2:
        xs = [WIDTH // 2] if count == 1 else [RADIUS + 30, WIDTH - RADIUS - 30]
        return [(x, RADIUS + 12) for x in xs[:count]], WIDTH, 108
    grow = max(1.0, count / 6)
    across, down = 140 * grow, (85 if count == 3 else 105) * grow
    turn = math.pi / count if count % 2 == 0 else 0
    angles = [2 * math.pi * n / count - math.pi / 2 - turn for n in range(count)]
    middle = max(down * -math.sin(angle) for angle in angles) + RADIUS + 12
    places = [
        (round(WIDTH * grow / 2 + across * math.cos(angle)), round(middle + down * math.sin(angle))) for angle in angles
    ]
    return places, round(WIDTH * grow), max(y for _, y in places) + RADIUS + 28


def draw_edge(head: tuple[int, int], tail: tuple[int, int], label: str, bend: int) -> tuple[str, str]:
    """An arrow between two nodes, bent to one side by so many units, and its label."""
    (x, y), (to_x, to_y) = head, tail
    length = math.hypot(to_x - x, to_y - y)
    along, up = ((to_x - x) / length, (to_y - y) / length), ((to_y - y) / length, -(to_x - x) / length)
    middle = ((x + to_x) / 2 + 2 * bend * up[0], (y + to_y) / 2 + 2 * bend * up[1])

    def towards(node: tuple[int, int]) -> tuple[float, float]:
        far = math.hypot(middle[0] - node[0], middle[1] - node[1])
        return (middle[0] - node[0]) / far, (middle[1] - node[1]) / far

    out, back = towards(head), towards(tail)
    start = x + out[0] * (RADIUS + 3), y + out[1] * (RADIUS + 3)
    end = to_x + back[0] * (RADIUS + 4), to_y + back[1] * (RADIUS + 4)
    base = end[0] + 11 * back[0], end[1] + 11 * back[1]
    wing = -back[1] * 6, back[0] * 6
    tip = [end, (base[0] + wing[0], base[1] + wing[1]), (base[0] - wing[0], base[1] - wing[1])]
    share = 0.5 if abs(along[1]) < 0.1 else 0.45  # where two arrows cross, their labels do not
    text_x = head[0] + share * (to_x - head[0]) + bend * up[0]
    text_y = head[1] + share * (to_y - head[1]) + bend * up[1] + (-8 if abs(along[1]) < 0.1 else 5)
    return (
        f'<path class="edge" d="M{start[0]:.1f} {start[1]:.1f}Q{middle[0]:.1f} {middle[1]:.1f} '
        f'{base[0]:.1f} {base[1]:.1f}"/>'
        f'<path class="tip" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in tip)}Z"/>',
        f'<text x="{text_x:.0f}" y="{text_y:.0f}">{escape(shorten(label))}</text>',
    )


def find_box(crop: Image.Image, picture: Image.Image) -> Box | None:
    """Where a crop was cut out of a picture; `None` if nowhere, so after it was resized.

    JPEG files of both may differ by 8 grey levels (root mean square).
    """
    if crop.width > picture.width or crop.height > picture.height or picture.width * picture.height > MAX_PIXELS:
        return None
    whole, part = (np.asarray(one.convert("L"), dtype=float) for one in (picture, crop))

    def slide(values: np.ndarray, window: np.ndarray) -> np.ndarray:
        """The sum of the products of a window and what is below it, at each place."""
        return np.fft.irfft2(np.fft.rfft2(values) * np.fft.rfft2(window, values.shape).conj(), values.shape)

    squares = slide(whole**2, np.ones_like(part)) - 2 * slide(whole, part) + (part**2).sum()
    errors = squares[: whole.shape[0] - part.shape[0] + 1, : whole.shape[1] - part.shape[1] + 1] / part.size
    top, left = map(int, np.unravel_index(errors.argmin(), errors.shape))
    if errors.min() > min(64, part.var() / 4):
        return None
    return left, top, left + crop.width, top + crop.height


__all__ = ["draw_graph", "find_box"]
