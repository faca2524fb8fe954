"""Your own posts, from JSONL, CSV or CoNLL files to Parquet.

    python dataset_scripts/posts.py --data_dir my_posts --output_dir data/my_posts

my_posts holds train.jsonl, validation.jsonl and test.jsonl (or .csv, .tsv, .conll, .txt; also val, valid, dev; or one
file of any name, which becomes the train split) and the pictures. Columns of JSONL and CSV files:

  text        the text of the post, which is split into words. Or:
  tokens      the words, a list
  ner_tags    a BIO tag for each word, a list, e.g. ["O", "B-PER", "I-PER"]                       (optional)
  entities    instead of tags: [{"start": 0, "end": 4, "label": "PER"}]                           (optional)
  relations   between entities: [{"head": 0, "tail": 1, "label": "visits"}], positions in it      (with entities)
  head, tail  the entities of a pair, {"start": 0, "end": 4}                                      (optional)
  relation    the relation between head and tail, "None" for none                                 (with head and tail)
  image       a picture, as a path in my_posts (or in --image_dir)                                (optional)
  objects     crops of the picture, a list of such paths, in their order                          (optional)
  id          a name of the post                                                                  (optional)

start and end (exclusive) count characters of text, or words of tokens. A JSONL file has one post per line, and all
lines have the same labels: tags, a pair, both or none. A post with several pairs has one line for each of them.
Three examples, of different files:

  {"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"], "image": "pictures/7.jpg"}
  {"text": "Kobe lands in Paris", "entities": [{"start": 0, "end": 4, "label": "PER"}], "image": "pictures/7.jpg"}
  {"text": "Kobe lands in Paris", "head": {"start": 0, "end": 4}, "tail": {"start": 14, "end": 19}, "relation": "None"}

Rows with entities are also read as examples/extract.py, Label Studio, Prodigy, doccano and spaCy write them. They
become rows with tags and, if there are any, relations; with --task mre a row for each ordered pair of entities, whose
relation is None where the post states none.

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
from dataclasses import dataclass
from pathlib import Path

import datasets

from ..checks import NO_RELATION, names_no_relation, no_relation_labels
from ..support.digests import hash_file
from .builder import (
    NER_TAGS,
    PICTURES,
    PostsBuilder,
    PostsConfig,
    RawData,
    RawPost,
    add_own_crops,
    mner_features,
    mre_features,
    relation_features,
    unique,
)
from .command import finish, make_parser
from .conll import Problem
from .exchange import CUT
from .picture_files import PictureFolder
from .post_files import find_files, read_file
from .post_rows import ANSWERS, COLUMNS, check_row, find_file, label_rows

READ_ERRORS = (ValueError, TypeError, RecursionError)


@dataclass
class OwnPostsConfig(PostsConfig):
    """How a user's posts are read.

    Args:
        task: "mner" or "mre": what rows with entities become, rows with tags or a row for each pair.
        overlaps: "refuse" rows whose entities overlap, or keep the "longest" entities.
        none_label: the name of no relation; default what `no_relation_labels` recognises.
    """

    task: str = "mner"
    overlaps: str = "refuse"
    none_label: str | None = None


class Posts(PostsBuilder):
    """Builder of a user's posts."""

    NAME = "posts"
    BUILDER_CONFIG_CLASS = OwnPostsConfig

    def _info(self) -> datasets.DatasetInfo:
        self.rows: dict[str, list] = {}
        self.problems: list[Problem] = []
        self.irregularities: dict[str, Counter] = {}
        self.warnings: list[str] = []
        self.files = find_files(self.config.root)
        for split, path in self.files.items():
            counts = self.irregularities[split] = Counter()
            self.rows[split] = []
            for line, row in read_file(path, self.problems, counts):
                try:
                    rows = label_rows(row, counts, self.config.task, self.config.overlaps)
                except READ_ERRORS as error:
                    self.problems.append(Problem(path.name, line, str(error)[:300]))
                    continue
                self.rows[split] += [(line, path.name, row) for row in rows]
        columns = {column for rows in self.rows.values() for *_, row in rows for column in row}
        self.unused = columns - {*COLUMNS, "regions", *ANSWERS}
        self.labels = {column for rows in self.rows.values() for *_, row in rows for column in row if row[column]}
        self.check_rows()
        return datasets.DatasetInfo(
            description=f"{self.config.root.resolve().name}: posts with pictures.", features=self.make_features()
        )

    def check_rows(self):
        """Convert the rows to those of the data set and list those that are invalid."""
        wanted = self.labels & {"ner_tags", "relations", "regions", "head", "tail", "relation"}
        if wanted & {"head", "tail", "relation"}:
            wanted |= {"head", "tail", "relation"}
        for split, rows in self.rows.items():
            good = []
            for line, name, row in rows:
                try:
                    good.append(check_row(row, wanted, self.irregularities[split]))
                except READ_ERRORS as error:
                    self.problems.append(Problem(name, line, str(error)[:300]))
            self.rows[split] = good
            entities = sum(tag.startswith("B-") for row in good for tag in row.get("ner_tags", ()))
            if 2 * (cut := self.irregularities[split][CUT]) > entities:
                self.warnings.append(
                    f"{split}: {cut} of {entities} entities cut words: are the offsets of these texts?"
                )
        self.labels = wanted
        if wanted & {"relation", "relations"}:
            self.name_no_relation()

    def name_no_relation(self):
        """Store the labels for no relation as one, and warn of what was decided."""
        columns = [row for rows in self.rows.values() for row in rows if "relation" in row]
        columns = [(row, "relation") for row in columns]
        columns += [(one, "label") for rows in self.rows.values() for row in rows for one in row.get("relations", [])]
        names = {row[column] for row, column in columns}
        labels = no_relation_labels(names, self.config.none_label) if names else set()
        if self.config.none_label is None:
            labels |= {name for name in names if names_no_relation(name)}
        if self.config.task == "mre" and not names - labels:
            raise ValueError("--task mre needs relations, but no row has one; leave it out to get the entities")
        for row, column in columns:
            if row[column] in labels:
                row[column] = NO_RELATION
        if others := sorted(labels - {NO_RELATION}):
            self.warnings.append(
                f"relations called {', '.join(map(repr, others))} are stored as {NO_RELATION!r}, for no relation; "
                "--none_label NAME names another label"
            )
        if "relation" in self.labels and names and not labels:
            self.warnings.append(
                "no label stands for no relation, so all of them count in the F1; if one does, --none_label names it"
            )

    def make_features(self) -> datasets.Features:
        """Return the columns that the files have; tags and relations are those that occur."""
        rows = [row for rows in self.rows.values() for row in rows]
        features = {"id": datasets.Value("string"), "tokens": datasets.List(datasets.Value("string"))}
        if "ner_tags" in self.labels:
            types = sorted({tag[2:] for row in rows for tag in row["ner_tags"] if tag != "O"})
            names = ["O", *(f"{prefix}-{type}" for type in types for prefix in "BI")]
            features |= mner_features(NER_TAGS if set(names) <= set(NER_TAGS) else names)
        if "relation" in self.labels:
            features |= mre_features([NO_RELATION, *sorted({row["relation"] for row in rows} - {NO_RELATION})])
        if "relations" in self.labels:
            relations = {relation["label"] for row in rows for relation in row["relations"]}
            features |= relation_features([NO_RELATION, *sorted(relations - {NO_RELATION})])
        if "regions" in self.labels:
            features["regions"] = datasets.List(datasets.Value("int32"))
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
            "warnings": self.warnings
            + ([f"columns that are not used: {', '.join(sorted(map(str, self.unused)))}"] if self.unused else []),
        }
        return raw


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(Posts, __doc__)
    parser.add_argument(
        "--objects",
        default="column",
        metavar="column|none|DIR",
        help="crops: those of the column objects (default), none, or DIR/NAME/* for picture NAME.jpg",
    )
    parser.add_argument(
        "--task",
        choices=("mner", "mre"),
        default="mner",
        help="rows of posts with entities: with tags (default), or one for each pair of entities",
    )
    parser.add_argument(
        "--overlaps",
        choices=("refuse", "longest"),
        default="refuse",
        help="entities that overlap: list the row as wrong (default), or keep the longest",
    )
    parser.add_argument(
        "--none_label",
        metavar="NAME",
        help="the label for no relation, if it has another name than None, no_relation, NA, Other ...",
    )
    args = parser.parse_args(arguments)
    options = {name: getattr(args, name) for name in ("objects", "task", "overlaps", "none_label")}
    finish(parser, Posts, args, **options)
