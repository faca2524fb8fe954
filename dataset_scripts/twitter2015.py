"""Twitter-2015: named entities in tweets with pictures, from the files that circulate to Parquet.

    python dataset_scripts/twitter2015.py --data_dir RAW --output_dir data/twitter2015

RAW holds `NER_data/twitter2015/{train,valid,test}.txt` and `NER_data/twitter2015_images/ID.jpg`. A post whose picture
is absent or cannot be read is kept without one. Beside the Parquet files, `report.json` says what was found.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from builder import MNER_FEATURES, PostsConfig, hash_files, write_parquet
from conll import count_entities, read_conll
from picture_files import MAX_PIXELS, read_picture, stamp_files

TEXT_FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
SHOWN = 5  # unreadable pictures that the report names


@dataclass
class Twitter2015Config(PostsConfig):
    """Where the raw files are (`data_dir`) and how large a picture may be."""

    max_pixels: int = MAX_PIXELS

    @property
    def text_files(self) -> dict[str, Path]:
        """The text file of each split."""
        return {split: Path(self.data_dir) / "NER_data/twitter2015" / name for split, name in TEXT_FILES.items()}

    @property
    def image_dir(self) -> Path:
        """The folder of the pictures."""
        return Path(self.data_dir) / "NER_data/twitter2015_images"

    def raw_fingerprint(self) -> str:
        """Return a hash of the texts and of the names, sizes and times of the pictures."""
        if self.data_dir is None:
            raise ValueError("data_dir is missing: the folder that holds NER_data")
        return hash_files(self.text_files.values()) + stamp_files(self.image_dir)


class Twitter2015(datasets.GeneratorBasedBuilder):
    """Builder of Twitter-2015."""

    BUILDER_CONFIG_CLASS = Twitter2015Config

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=MNER_FEATURES)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        missing = [str(path) for path in self.config.text_files.values() if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"no such file: {', '.join(missing)}")
        self.report = {}
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "path": path})
            for split, path in self.config.text_files.items()
        ]

    def _generate_examples(self, split: str, path: Path) -> Iterator[tuple[int, dict]]:
        counts, strict, lenient, unreadable = Counter(posts=0, tokens=0), Counter(), Counter(), []
        pictures = Counter(present=0, absent=0, unreadable=0)
        for key, post in enumerate(read_conll(path)):
            picture, problem = read_picture(self.config.image_dir / f"{post.image_id}.jpg", self.config.max_pixels)
            pictures["present" if picture else "unreadable" if problem else "absent"] += 1
            if problem:
                unreadable.append(f"{post.image_id}.jpg: {problem}")
            counts.update(posts=1, tokens=len(post.tokens))
            for total, found in zip((strict, lenient), count_entities(post.tags), strict=True):
                total.update(found)
            yield (
                key,
                {
                    "id": post.image_id,
                    "tokens": post.tokens,
                    "ner_tags": post.tags,
                    "image": picture,
                    "objects": [],
                },
            )
        self.report[split] = {
            **counts,
            "strict_entities": {"all": strict.total(), **dict(sorted(strict.items()))},
            "lenient_entities": {"all": lenient.total(), **dict(sorted(lenient.items()))},
            "pictures": dict(pictures),
            "unreadable": unreadable[:SHOWN],
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="the folder that holds NER_data")
    parser.add_argument("--output_dir", type=Path, default=Path("data/twitter2015"))
    parser.add_argument("--max_pixels", type=int, default=MAX_PIXELS, help="leave out pictures larger than this")
    args = parser.parse_args()

    data_dir = str(args.data_dir)
    builder = write_parquet(Twitter2015, args.output_dir, data_dir=data_dir, max_pixels=args.max_pixels)
    for split, counts in builder.report.items():
        print(f"{split}: {json.dumps(counts, ensure_ascii=False)}")
    print(f"wrote {args.output_dir}")


if __name__ == "__main__":
    main()
