"""Your own posts, from JSONL, CSV or CoNLL files to Parquet.

    python dataset_scripts/posts.py --data_dir my_posts --output_dir data/my_posts

my_posts holds train.jsonl, validation.jsonl and test.jsonl (or .csv, .tsv, .conll, .txt; also val, valid, dev; or one
file of any name, which becomes the train split) and the pictures. Columns of JSONL and CSV files:

  text        the text of the post, which is split into words and signs: "(Paris)," is ( Paris ) and , Or:
  tokens      the words, a list
  ner_tags    a BIO tag for each word, a list, e.g. ["O", "B-PER", "I-PER"]; of a text the words may
              also be those between white space, "(Paris)," one of them                           (optional)
  head, tail  the entities of a pair, {"start": 0, "end": 2}: word offsets, the end exclusive     (optional)
  relation    the relation between head and tail, "None" for none                                 (with head and tail)
  image       a picture, as a path in my_posts (or in --image_dir)                                (optional)
  objects     crops of the picture, a list of such paths, in their order                          (optional)
  id          a name of the post                                                                  (optional)

A JSONL file has one post per line, and all lines have the same labels: tags, a pair, both or none. A post with several
pairs has one line for each of them. Two examples, of different files:

  {"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"], "image": "pictures/7.jpg"}
  {"text": "Kobe lands in Paris", "head": {"start": 0, "end": 1}, "tail": {"start": 3, "end": 4}, "relation": "None"}

A CSV file has the same columns; a list may be JSON or words between spaces, a span JSON or two numbers:

  text,ner_tags,image
  Kobe lands in Paris,B-PER O O B-LOC,pictures/7.jpg

A CoNLL file has one word and its tag per line (first and last column) and an empty line after each post; a line IMGID:7
before a post names the picture 7.jpg:

  IMGID:7
  Kobe B-PER
  lands O
"""

from collections import Counter
from pathlib import Path

import datasets

from ..support.digests import hash_file
from .builder import (
    NER_TAGS,
    PICTURES,
    PostsBuilder,
    RawData,
    RawPost,
    add_own_crops,
    mner_features,
    mre_features,
    unique,
)
from .command import finish, make_parser
from .conll import Problem
from .picture_files import PictureFolder
from .post_files import find_files, read_file
from .post_rows import COLUMNS, check_row, find_file


class Posts(PostsBuilder):
    """Builder of a user's posts."""

    NAME = "posts"

    def _info(self) -> datasets.DatasetInfo:
        self.rows, self.problems, self.irregularities, self.unused = {}, [], {}, set()
        self.files = find_files(self.config.root)
        for split, path in self.files.items():
            self.irregularities[split] = Counter()
            read = list(read_file(path, self.problems, self.irregularities[split]))
            self.unused |= {name for _, row in read for name in row} - set(COLUMNS)
            self.rows[split] = [(line, path.name, row) for line, row in read]
        self.labels = {column for rows in self.rows.values() for *_, row in rows for column in row if row[column]}
        self.check_rows()
        return datasets.DatasetInfo(
            description=f"{self.config.root.resolve().name}: posts with pictures.", features=self.make_features()
        )

    def check_rows(self):
        """Convert the rows to those of the data set and list those that are invalid."""
        wanted = ({"ner_tags"} & self.labels) | (self.labels & {"head", "tail", "relation"})
        if wanted & {"head", "tail", "relation"}:
            wanted |= {"head", "tail", "relation"}
        for split, rows in self.rows.items():
            good = []
            for line, name, row in rows:
                try:
                    good.append(check_row(row, wanted))
                    counts = self.irregularities[split]
                    counts["texts split at white space alone, as their labels are"] += good[-1]["split_at_spaces"]
                except (ValueError, TypeError, RecursionError) as error:
                    self.problems.append(Problem(name, line, str(error)[:300]))
            self.rows[split] = good
        self.labels = wanted

    def make_features(self) -> datasets.Features:
        """Return the columns that the files have; tags and relations are those that occur."""
        rows = [row for rows in self.rows.values() for row in rows]
        features = {"id": datasets.Value("string"), "tokens": datasets.List(datasets.Value("string"))}
        if "ner_tags" in self.labels:
            types = sorted({tag[2:] for row in rows for tag in row["ner_tags"] if tag != "O"})
            names = ["O", *(f"{prefix}-{type}" for type in types for prefix in "BI")]
            features |= mner_features(NER_TAGS if set(names) <= set(NER_TAGS) else names)
        if "relation" in self.labels:
            features |= mre_features(["None", *sorted({row["relation"] for row in rows} - {"None"})])
        return datasets.Features({name: type for name, type in features.items() if name not in PICTURES} | PICTURES)

    def read_raw(self) -> RawData:
        base = Path(self.config.image_dir or self.config.root).resolve()
        raw = RawData({}, self.problems, self.irregularities, {}, {})
        for split, rows in self.rows.items():
            counts = raw.irregularities[split]
            ids = [row.get("id") or f"{split}-{number:05d}" for number, row in enumerate(rows)]
            counts["posts whose id repeats, made unique"] += len(ids) - len(set(ids))
            raw.splits[split] = []
            for id, row in zip(unique(ids), rows, strict=True):
                labels = {name: row[name] for name in self.labels}
                post = RawPost({"id": id, "tokens": row["tokens"], **labels})
                if row.get("image"):
                    post.image, post.image_file = row["image"], find_file(base, row["image"], counts)
                if self.config.objects == "column":
                    post.crops = row.get("objects") or []
                    post.crop_files = [find_file(base, name, counts) for name in post.crops]
                raw.splits[split].append(post)
            if self.config.objects not in ("none", "column"):
                add_own_crops(raw.splits[split], Path(self.config.objects))
            raw.pictures[split] = PictureFolder(None)
        raw.about = {
            "texts": {split: path.name for split, path in self.files.items()},
            "objects": {"none": "none", "column": "as the column objects says"}.get(self.config.objects, "own"),
            "sha256": {split: hash_file(path) for split, path in self.files.items()},
            "warnings": [f"columns that are not used: {', '.join(sorted(map(str, self.unused)))}"]
            if self.unused
            else [],
        }
        return raw


def main(arguments: list[str] | None = None):
    parser = make_parser(Posts, __doc__)
    parser.add_argument(
        "--objects",
        default="column",
        metavar="column|none|DIR",
        help="crops: those of the column objects (default), none, or DIR/NAME/* for picture NAME.jpg",
    )
    args = parser.parse_args(arguments)
    finish(parser, Posts, args, objects=args.objects)
