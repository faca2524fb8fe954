"""Visual topics: what kind of thing is a post about? The visual posts, with one label per post instead of tags.

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
from .visual_posts import MNER_FEATURES, TYPES, VisualPosts, VisualPostsConfig, make_posts, rows_to_show, run

LABELS = [*TYPES, "none"]
FEATURES = Features(
    {
        "id": Value("string"),
        "text": Value("string"),
        "label": ClassLabel(names=LABELS),
        **{name: MNER_FEATURES[name] for name in ("image", "objects")},
    }
)


@dataclass
class VisualTopicsConfig(VisualPostsConfig):
    """The number of posts of each split, and the seed."""

    def raw_fingerprint(self) -> str:
        """Return a hash of the code that makes the posts."""
        return super().raw_fingerprint() + hash_file(Path(__file__))


class VisualTopics(VisualPosts):
    """Builder of the visual topics."""

    BUILDER_CONFIG_CLASS = VisualTopicsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=FEATURES)

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        posts: Counter[str] = Counter()
        labels = Counter({label: 0 for label in LABELS})
        for key, (evidence, row) in enumerate(make_posts(split, count, self.config.seed)):
            label = next((tag[2:] for tag in row.pop("ner_tags") if tag != "O"), "none")
            posts[evidence] += 1
            labels[label] += 1
            yield key, {**row, "text": " ".join(row.pop("tokens")), "label": label}
        self.counts[split] = {"posts_by_evidence": dict(posts), "labels": dict(labels)}

    def make_report(self, folder: Path) -> dict:
        """Count the posts by what shows their labels, and the labels."""
        return {**super().make_report(folder), "dataset": "visual_topics"}


def main() -> None:
    run(VisualTopics, rows_to_show, __doc__, "data/visual_topics")
