"""Posts as graphs: two or three entities, relations between them, and crops of one colour each that show some."""

from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image, List, Value
from tiny_rows import to_png

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
RELATIONS = ["None", "lives_in", "peer"]
COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
FEATURES = Features(
    {
        "id": Value("string"),
        "tokens": List(Value("string")),
        "ner_tags": List(ClassLabel(names=TAGS)),
        "relations": List({"head": Value("int32"), "tail": Value("int32"), "label": ClassLabel(names=RELATIONS)}),
        "regions": List(Value("int32")),
        "image": Image(),
        "objects": List(Image()),
    }
)


def picture(colour: tuple[int, int, int]) -> dict:
    import numpy as np

    return to_png(np.full((40, 40, 3), colour, dtype=np.uint8))


def graph_posts(count: int) -> list[dict]:
    """Every third post has no picture, and every fourth has a third entity, which is related to none."""
    posts = []
    for i in range(count):
        tokens, tags = ["Kobe", "Bryant", "lives", "in", "Paris"], [1, 2, 0, 0, 3]
        relations = [{"head": 0, "tail": 1, "label": 1}]
        if i % 2:
            tokens, tags = ["Jordan", "with", "Kobe"], [1, 0, 1]
            relations = [{"head": 1, "tail": 0, "label": 2}]
        regions = [0, -1]
        if i % 4 == 3:
            tokens, tags, regions = [*tokens, "near", "Chelsea"], [*tags, 0, 3], [*regions, 1]
        has_picture = i % 3 > 0
        posts.append(
            {
                "id": f"p{i}",
                "tokens": tokens,
                "ner_tags": tags,
                "relations": relations,
                "regions": regions if has_picture else [-1] * len(regions),
                "image": picture(COLOURS[0]) if has_picture else None,
                "objects": [picture(colour) for colour in COLOURS[1:]] if has_picture else [],
            }
        )
    return posts


def graph_rows(count: int = 12, **columns: list) -> Dataset:
    """Rows of `graph_posts`, with other values in the columns that are given."""
    rows = [
        {**post, **{name: values[i] for name, values in columns.items()}} for i, post in enumerate(graph_posts(count))
    ]
    return Dataset.from_list(rows, features=FEATURES)


def write_graphs(folder: Path, **sizes: int) -> str:
    """A data set with so many rows in each split; gives its folder."""
    (folder / "data").mkdir(parents=True)
    for split, count in sizes.items():
        graph_rows(count).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return str(folder)
