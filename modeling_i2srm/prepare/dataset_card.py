"""Writes the card (README.md) of a data set: schema, statistics, licence notes, citation."""

from pathlib import Path

import datasets
from huggingface_hub import DatasetCard, DatasetCardData

from .report import table

TEMPLATE = """\
---
{metadata}
---

# {title}

{description}

```python
from datasets import load_dataset

posts = load_dataset("{name}")
```

Made by a data set script of modeling_i2srm, whose method is [arXiv 2310.06326](https://arxiv.org/abs/2310.06326);
`report.json` holds all that is said here, for programs.

## How it was made

{about}

## Columns

{columns}

## Statistics

{statistics}

{notes}

## Licence

{license}

## Citation

{citation}
"""

ENTITIES = """\
Entities are counted strictly (one per `B-` tag) and leniently (as seqeval and conlleval do by default: an `I-` tag
after another type or after `O` begins one, too)."""

COLUMNS = {
    "id": "identifier of the post, unique in its split",
    "text": "the post",
    "label": "its label",
    "tokens": "the words, as in the raw file",
    "ner_tags": "a BIO tag for each word; tags are not repaired",
    "head": "the first entity: `start` and `end` (exclusive), counted in words",
    "tail": "the second entity, likewise",
    "relation": "the relation between head and tail",
    "relations": "the relations between entities: `label`, and `head` and `tail`, positions of entities in the order "
    "of the words; null where they are not annotated",
    "regions": "for each entity, in order, the position of its picture in `objects`; -1 for none, null where it is not "
    "known",
    "entity_boxes": "for each entity, in the order of the words, its boxes in the picture: left, top, right, bottom, "
    "as shares of its width and height",
    "image": "the picture, its bytes unchanged; null where it is absent or cannot be read",
    "objects": "crops of objects in the picture, in their order",
    "object_boxes": "for each crop its `box` (left, top, right, bottom, in pixels of the upright picture), `score` and "
    "`label`, the detected class or phrase, both null where people drew the box",
}


def write_dataset_card(folder: Path, info: datasets.DatasetInfo, report: dict) -> None:
    """Write `README.md`; `load_dataset` checks the rows against its metadata.

    Args:
        folder: The finished data set.
        info: Features, splits, description, citation and licence.
        report: The report of the builder.
    """
    task = "token-classification" if "ner_tags" in info.features else "text-classification"
    shown = datasets.DatasetInfo(features=info.features, splits=info.splits, dataset_size=info.dataset_size)
    data = DatasetCardData(
        pretty_name=info.description.splitlines()[0].split(":")[0],
        license="other",
        task_categories=[task] if {"ner_tags", "relation", "label"} & set(info.features) else None,
        tags=["multimodal", *(["social media"] if "Twitter" in (info.license or "") else [])],
        dataset_info=shown._to_yaml_dict(),
    )
    about = {name: value for name, value in report.items() if isinstance(value, (str, int)) and name != "dataset"}
    lines = [f"- {name}: {value}" for name, value in about.items()]
    lines += [f"- **{warning}**" for warning in report.get("warnings", [])]
    counts = next(iter(report["splits"].values()))
    notes = [ENTITIES] if "strict_entities" in counts else []
    if "pictures" in counts:
        unparsed, unused = len(report["unparsed_lines"]), len(report["unused_pictures"])
        notes.append("Pictures are counted by post, `files` by file.")
        notes.append(f"Lines that could not be read: {unparsed}. Pictures that exist and are not used: {unused}.")
    card = TEMPLATE.format(
        metadata=data.to_yaml(),
        title=data.pretty_name,
        description=info.description.strip(),
        name=report["dataset"],
        about="\n".join(lines) or "Made up by a program.",
        columns="\n".join(f"- `{name}`: {COLUMNS.get(name, 'as it was')}" for name in info.features),
        statistics=table(report["splits"], markdown=True),
        notes="\n\n".join(notes),
        license=info.license or "None stated.",
        citation=f"```bibtex\n{info.citation.strip()}\n```" if info.citation else "None.",
    )
    DatasetCard(card).save(folder / "README.md")
