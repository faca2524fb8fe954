"""The answer to a post as HTML: what its picture changes, the answers with and without it, and explanations."""

from dataclasses import dataclass, replace

from PIL import Image

from modeling_i2srm.inference.answers import Extraction
from modeling_i2srm.inference.changes import Change, find_changes
from modeling_i2srm.inference.explanation import Explanation, explain
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.inference.graph_drawing import draw_graph
from modeling_i2srm.inference.html import (
    STYLE,
    change_line,
    colours_of,
    crops_of,
    entity_lines,
    figure,
    find_boxes,
    highlight,
    line_list,
    notes,
    post_paragraph,
    relation_lines,
    shown_pictures,
)
from modeling_i2srm.support.html_page import Box, escape, isolated

CSS = f"""
.view, .message {{ overflow-wrap: anywhere; line-height: 1.5; }}
.view, .message {{ {STYLE}
  --halo: var(--background-fill-primary);
  mark {{ color: #1a1a1a; }} .was {{ border-color: currentColor; }}
}}
.view {{
  h2 {{ font-size: 1.1rem; font-weight: bold; margin: 0 0 .3rem; }}
  h3 {{ font-size: 1rem; font-weight: bold; margin: .8rem 0 .2rem; }}
  section, details.more {{ border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: .8rem 1rem;
    min-width: 0; margin: 0 0 1rem; }}
  .post {{ font-size: 1.1rem; margin: 0; }}
  .note {{ color: var(--body-text-color-subdued); margin: .6rem 0 0; }}
  .pair {{ align-items: start; margin-top: .6rem; }}
  figure.main {{ width: min(100%, 18rem); }}
  figure:not(.main) {{ width: min(9rem, calc(50% - .5rem)); }}
  table {{ width: 100%; font-size: .9rem; margin-top: .6rem; }}
  caption {{ text-align: left; font-weight: bold; }}
  th, td {{ text-align: left; white-space: normal; overflow-wrap: break-word; padding: .3rem .6rem .3rem 0;
    vertical-align: top; border-color: var(--border-color-primary); }}
  li {{ list-style: disc; margin: .2rem 0; }}
  summary {{ cursor: pointer; font-weight: bold; }}
}}
.message {{ margin: 0; padding: .6rem .9rem; border-radius: .5rem; border-left: .3rem solid #0072b2;
  background: var(--background-fill-secondary); }}
.message .changes {{ margin: 0; font-size: 1.15rem; }} .message .changes li {{ list-style: none; }}
.message.error {{ border-color: #b3261e; font-weight: bold; }}
#status .html-container, #found .html-container {{ padding: 0; }}
#picture img {{ width: 100%; height: 100%; object-fit: contain; }}
.example {{ justify-content: flex-start; text-align: left; font-weight: normal; gap: .6rem; padding: .4rem .8rem; }}
.example img {{ width: 2.2rem; height: 2.2rem; max-width: none; margin: 0; }}
@media (max-width: 640px) {{  /* the answer before the examples */
  .inputs {{ display: contents; }} .inputs > * {{ flex: 1 0 100%; }} #examples {{ order: 1; }}
}}
.gradio-container:not(.dark *) #json :is(.key, .value.string) {{ color: #8a3b12; }}
"""


@dataclass(frozen=True)
class Answer:
    """What is said of a post with its picture, and without it.

    Args:
        crops, boxes: those that the models saw; boxes are left, top, right, bottom in pixels of the upright picture,
            `None` for a crop that is not a part of it.
        without: `None` for a post that has no picture.
    """

    image: Image.Image | None
    crops: list[Image.Image]
    boxes: list[Box | None]
    explanation: Explanation
    without: Extraction | None

    @property
    def changes(self) -> list[Change]:
        return find_changes(self.explanation, self.without)

    def to_dict(self) -> dict:
        """As plain dicts and lists."""
        return {
            "changes": [change.describe() for change in self.changes],
            "with_picture": self.explanation.to_dict(),
            "without_picture": self.without and self.without.to_dict(),
            "boxes": [box and list(box) for box in self.boxes],
        }


def answer(extractor: Extractor, text: str, image: Image.Image | None, crops: list[Image.Image]) -> Answer:
    """Ask the models of a post, with its picture and crops, and without them.

    Args:
        crops: where they are known; else the extractor's cropper looks for some, if it has one.
    """
    explanation = explain(extractor, {"text": text, "image": image, "objects": crops or None})
    crops = crops or explanation.extraction.crops(image)
    boxes = find_boxes(explanation.extraction, shown_pictures(explanation, image, crops))
    return Answer(image, crops, boxes, explanation, None if image is None else extractor(text))


def render(said: Answer, about_crops: str) -> str:
    """The parts of the page that show an answer.

    Args:
        about_crops: a sentence on where the crops are from, or why there are none.
    """
    found = said.explanation
    pictures = shown_pictures(found, said.image, said.crops)
    title = "Without a picture" if said.image is None else "With the picture"
    parts = [panel(title, found.extraction, said)]
    if said.without is not None:
        parts.append(panel("Without the picture", said.without))
    crops = [picture for picture in pictures if picture.name != "image"]
    if said.image is not None:
        figures = "".join(figure(picture, found.extraction) for picture in crops)
        bars = "Bars: share of each entity’s attention, mean of the layers. " if found.extraction.entities else ""
        bars = bars if crops else ""
        parts.append(
            f'<section aria-label="Crops"><h2>Crops</h2><div class="pictures">{figures}</div>'
            f'<p class="note">{escape(bars + about_crops)}</p></section>'
        )
        if found.extraction.entities:
            parts.append(effects(found))
    return f'<div class="view">{"".join(parts)}</div>'


def panel(title: str, extraction: Extraction, said: Answer | None = None) -> str:
    """The text with its entities, its picture beside the graph, and the relations as a table."""
    colours = colours_of(extraction.entities)
    parts = [f"<h2>{escape(title)}</h2>", post_paragraph(extraction, colours)]
    if not extraction.entities:
        parts.append('<p class="note">no entity</p>')
    beside = []
    if said is not None and said.image is not None:
        pictures = shown_pictures(said.explanation, said.image, said.crops)
        beside.append(figure(replace(pictures[0], shares=None), extraction, said.boxes))
        graph = draw_graph(extraction, colours, crops_of(pictures)) if extraction.entities else ""
    else:
        graph = draw_graph(extraction, colours, {}) if extraction.relations else ""
    beside.append(f"<div>{graph}{relation_table(extraction) if extraction.relations else ''}</div>")
    parts.append(f'<div class="pair">{"".join(beside)}</div>')
    parts += [f'<p class="note">{escape(line)}</p>' for line in notes(extraction)]
    return f'<section aria-label="{escape(title)}">{"".join(parts)}</section>'


def relation_table(extraction: Extraction) -> str:
    colours, rows = colours_of(extraction.entities), []
    for relation in extraction.relations:
        head, tail = (
            f'<mark style="background:{colours[n]}">{isolated(extraction.entities[n].word)}</mark>'
            for n in (relation.head, relation.tail)
        )
        rows.append(
            f"<tr><td>{head}</td><td>{breakable(relation.label)}&nbsp;→</td><td>{tail}</td>"
            f"<td>{relation.score:.2f}</td></tr>"
        )
    columns = "".join(f'<th scope="col">{name}</th>' for name in ("from", "relation", "to", "score"))
    return f"<table><caption>Relations</caption><tr>{columns}</tr>{''.join(rows)}</table>"


def breakable(label: str) -> str:
    """A label that may be broken after a slash or an underscore."""
    broken = escape(label).replace("/", "/<wbr>").replace("_", "_<wbr>")
    return f"<bdi>{broken}</bdi>"


def effects(found: Explanation) -> str:
    """The answers without each picture, folded up; differences are in bold."""
    extraction, colours = found.extraction, colours_of(found.extraction.entities)
    parts = []
    for entity, colour, lines in zip(extraction.entities, colours, entity_lines(found), strict=True):
        parts.append(f"<h3>{highlight(entity, colour)}</h3>{line_list(lines)}")
    for relation, lines in zip(extraction.relations, relation_lines(found), strict=True):
        head, tail = (isolated(extraction.entities[n].word) for n in (relation.head, relation.tail))
        parts.append(f"<h3>{head} → {tail}</h3>{line_list(lines)}")
    return f'<details class="more"><summary>What each picture does</summary>{"".join(parts)}</details>'


def message(text: str, error: bool = False) -> str:
    """A line on how it went."""
    return f'<p class="message{" error" if error else ""}">{escape(text)}</p>'


def headline(said: Answer) -> str:
    """The changes that the picture makes, one per line; without changes, the number of entities and relations."""
    if changes := said.changes:
        lines = "".join(f"<li>{change_line(change)}</li>" for change in changes)
        return f'<div class="message"><ul class="changes">{lines}</ul></div>'
    found = count(said.explanation.extraction)
    if said.without is None:
        return message(f"Found {found}.")
    return message(f"Found {found}. The picture changes none of the types and relations.")


def count(extraction: Extraction) -> str:
    entities, relations = len(extraction.entities), len(extraction.relations)
    return (
        f"{entities or 'no'} {'entity' if entities == 1 else 'entities'} and "
        f"{relations or 'no'} relation{'' if relations == 1 else 's'}"
    )
