"""Rows of a data set with one label per post."""

from datasets import ClassLabel, Features, Image, List, Value
from tiny import noise

NAMES = ["dark", "bright"]


def rows(count: int) -> list[dict]:
    """Posts that say nothing; the picture tells the label."""
    texts = ["what a day", "so true", "look at this !", "no words", "Monday again ..."]
    return [
        {
            "id": f"p{i}",
            "text": texts[i % 5],
            "label": i % 2,
            "image": noise(i).point(lambda level, label=i % 2: level // 3 + 150 * label),
            "objects": [],
        }
        for i in range(count)
    ]


def features(label=None) -> Features:
    kinds = {"id": Value("string"), "text": Value("string"), "label": label or ClassLabel(names=NAMES)}
    return Features({**kinds, "image": Image(), "objects": List(Image())})
