"""Visual topics: what kind of thing is a post about? Posts of the visual posts with one name, and one label per post.

    python dataset_scripts/visual_topics.py --output_dir data/visual_topics

The label is the type of the first entity, or none; in about 60 % of the posts the words fit all types and a pictogram
in the picture shows which. Rows have a plain text. Nothing is downloaded.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets import ClassLabel, Features, Value

from ..support.digests import hash_file
from .builder import PICTURES
from .visual_posts import VisualPosts, VisualPostsConfig, encode_pictures, make_posts, run
from .visual_scenes import TYPES

LABELS = [*TYPES, "none"]
POSTS = (("no entity", 0.07), ("type in the words", 0.33), ("one name", 0.60))
FEATURES = Features(
    {"id": Value("string"), "text": Value("string"), "label": ClassLabel(names=LABELS), **PICTURES},
)


@dataclass
class VisualTopicsConfig(VisualPostsConfig):
    """The number of posts of each split, and the seed."""

    train: int = 3600
    validation: int = 200
    test: int = 400

    def raw_fingerprint(self) -> str:
        """Return a hash of the code that makes the posts."""
        return super().raw_fingerprint() + hash_file(Path(__file__))


class VisualTopics(VisualPosts):
    """Builder of the visual topics."""

    BUILDER_CONFIG_CLASS = VisualTopicsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=FEATURES)

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        labels = Counter({label: 0 for label in LABELS})
        for key, (_, row) in enumerate(make_posts(split, count, self.config.seed, POSTS)):
            label = next((tag[2:] for tag in row["ner_tags"] if tag != "O"), "none")
            labels[label] += 1
            pictures = {name: value for name, value in encode_pictures(row).items() if name in PICTURES}
            yield key, {"id": row["id"], "text": " ".join(row["tokens"]), "label": label, **pictures}
        self.counts[split] = {"posts": count, "labels": dict(labels)}

    def make_report(self, folder: Path) -> dict:
        """Count the labels."""
        return {"dataset": "visual_topics", "seed": self.config.seed, "splits": self.counts}


def main(arguments: list[str] | None = None) -> None:
    run(VisualTopics, __doc__, "data/visual_topics", arguments)
