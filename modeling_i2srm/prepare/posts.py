"""Your own posts, from JSONL, CSV, Parquet or CoNLL files to Parquet.

    python dataset_scripts/posts.py --data_dir my_posts --output_dir data/my_posts

my_posts holds train.jsonl, validation.jsonl and test.jsonl (or .json, .csv, .tsv, .parquet, .conll, .txt; also val,
valid, dev) and the pictures. One file of another name is cut into the three splits (--split_sizes), so that posts with
the same text or picture are in one split. Columns of JSONL, CSV and Parquet files:

  text        the text of the post, which is split into words and signs: "(Paris)," is ( Paris ) and , Or:
  tokens      the words, a list
  ner_tags    a tag for each word, a list, e.g. ["O", "B-PER", "I-PER"]; other schemes become BIO. Of a text the
              words may also be those between white space, "(Paris)," one of them                 (optional)
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
become rows with tags and, if there are any, relations and regions (an entity's "region" is the position in objects of
the crop that shows it, -1 for none); with --task mre a row for each ordered pair of entities, whose relation is None
where the post states none.

A CSV file has the same columns; a list may be JSON or words between spaces, a span JSON or two numbers:

  text,ner_tags,image
  Kobe lands in Paris,B-PER O O B-LOC,pictures/7.jpg

A CoNLL file has one word and its tag per line (first and last column, between tabs or spaces) and an empty line after
each post; a line IMGID:7 before a post names the picture 7.jpg:

  IMGID:7
  Kobe B-PER
  lands O
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import datasets

from ..checks import NO_RELATION, names_no_relation, no_relation_labels
from ..data.tag_schemes import SCHEMES, describe_conversion, recognise_scheme
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
from .post_files import FileReader, find_files
from .post_pictures import PictureFinder, PictureTree
from .post_rows import ANSWERS, COLUMNS, check_row, label_rows
from .post_splits import SIZES, SPLITS, check_sizes, cut, describe_cut, group_posts, picture_keys, text_key

READ_ERRORS = (ValueError, TypeError, RecursionError)
ORPHANS = "I- tags without their B-, kept"


@dataclass
class UserPostsConfig(PostsConfig):
    """How the files of a user are read, and cut into splits.

    Args:
        objects: "column" for the crops of the column objects, "none", or a folder as in `PostsConfig`.
        encoding: The encoding of the files; by default UTF-8, or UTF-16 where it is certain.
        tag_scheme: The scheme of the tags, one of `SCHEMES`; by default it is recognised.
        tag_column: The number of the tags' column in CoNLL files, from 1; by default it is recognised.
        split_sizes: The shares of train, validation and test; splits that have no file are cut from train. By default
            a single file that is not called train is cut into 0.8, 0.1 and 0.1.
        split_seed: The seed of the cut.
        task: "mner" or "mre": what rows with entities become, rows with tags or a row for each pair.
        overlaps: "refuse" rows whose entities overlap, or keep the "longest" entities.
        none_label: The name of no relation; by default what `no_relation_labels` recognises.
    """

    objects: str = "column"
    encoding: str | None = None
    tag_scheme: str | None = None
    tag_column: int | None = None
    split_sizes: list[float] | None = None
    split_seed: int = 0
    task: str = "mner"
    overlaps: str = "refuse"
    none_label: str | None = None


class Posts(PostsBuilder):
    """Builder of a user's posts."""

    BUILDER_CONFIG_CLASS = UserPostsConfig
    NAME = "posts"
    lines: dict[str, list[tuple[int, str, dict]]]  # line, file and row
    rows: dict[str, list[dict]]
    irregularities: dict[str, Counter]

    def _info(self) -> datasets.DatasetInfo:
        self.lines, self.irregularities = {}, {}
        self.unused: set = set()
        self.files = find_files(self.config.root)
        self.finder = PictureFinder(Path(self.config.image_dir or self.config.root))
        reader = FileReader(self.config.encoding, self.config.tag_column)
        self.problems, self.notes = reader.problems, reader.notes
        for split, path in self.files.items():
            counts = self.irregularities[split] = Counter()
            self.lines[split] = []
            for line, row in reader.read(path, counts):
                try:
                    rows = label_rows(row, counts, self.config.task, self.config.overlaps)
                except READ_ERRORS as error:
                    self.problems.append(Problem(path.name, line, str(error)[:300]))
                    continue
                self.lines[split] += [(line, path.name, row) for row in rows]
                self.unused |= {name for row in rows for name in row} - {*COLUMNS, "regions", *ANSWERS}
        self.labels = {column for rows in self.lines.values() for *_, row in rows for column in row if row[column]}
        if self.config.objects != "column" and "regions" in self.labels:
            self.labels.remove("regions")
            self.notes.append("regions are left out: they are positions in the column objects, which is not read")
        self.check_rows()
        self.convert_tags()
        self.rows = {split: [row for *_, row in rows] for split, rows in self.lines.items()}
        self.name_no_relation()
        self.cut_splits()
        return datasets.DatasetInfo(
            description=f"{self.config.root.resolve().name}: posts with pictures.", features=self.make_features()
        )

    def check_rows(self) -> None:
        """Convert the rows to those of the data set and list those that are invalid."""
        wanted = self.labels & {"ner_tags", "relations", "regions", "head", "tail", "relation"}
        if wanted & {"head", "tail", "relation"}:
            wanted |= {"head", "tail", "relation"}
        for split, rows in self.lines.items():
            good: list[tuple[int, str, dict]] = []
            for line, name, row in rows:
                try:
                    good.append((line, name, check_row(row, wanted, self.irregularities[split])))
                except READ_ERRORS as error:
                    self.problems.append(Problem(name, line, str(error)[:300]))
            self.lines[split] = good
            columns = [row.get("ner_tags") for *_, row in good]
            tags = [str(tag) for column in columns if isinstance(column, list) for tag in column]
            entities = sum(tag.startswith("B-") for tag in tags)
            if 2 * (cut := self.irregularities[split][CUT]) > entities:
                self.notes.append(f"{split}: {cut} of {entities} entities cut words: are the offsets of these texts?")
        self.labels = wanted

    def name_no_relation(self) -> None:
        """Store the labels for no relation as one, and note what was decided."""
        rows = [row for rows in self.rows.values() for row in rows]
        places = [(row, "relation") for row in rows if "relation" in row]
        places += [(relation, "label") for row in rows for relation in row.get("relations") or ()]
        names = {row[column] for row, column in places}
        labels = no_relation_labels(names, self.config.none_label) if names else set()
        if self.config.none_label is None:
            labels |= {name for name in names if names_no_relation(name)}
        if self.config.task == "mre" and not names - labels:
            raise ValueError("--task mre needs relations, but no row has one; leave it out to get the entities")
        for row, column in places:
            if row[column] in labels:
                row[column] = NO_RELATION
        if others := sorted(labels - {NO_RELATION}):
            self.notes.append(
                f"relations called {', '.join(map(repr, others))} are stored as {NO_RELATION!r}, for no relation; "
                "--none_label NAME names another label"
            )
        if "relation" in self.labels and names and not labels:
            self.notes.append(
                "no label stands for no relation, so all of them count in the F1; if one does, --none_label names it"
            )

    def convert_tags(self) -> None:
        """Convert the tags to BIO, and say so; list the rows with tags of another scheme than the others."""
        if "ner_tags" not in self.labels:
            return
        scheme = recognise_scheme(
            (
                (split, f"{name}, line {line}", row["ner_tags"])
                for split, rows in self.lines.items()
                for line, name, row in rows
            ),
            self.config.tag_scheme,
            "correct the posts of one of them, or name the scheme of all, e.g. --tag_scheme {scheme}",
        )
        changed, has_begin = 0, False
        for split, rows in self.lines.items():
            good, counts = [], self.irregularities[split]
            for line, name, row in rows:
                tags = row["ner_tags"]
                try:
                    row["ner_tags"] = scheme.to_bio(tags)
                except ValueError as error:
                    self.problems.append(Problem(name, line, f"ner_tags must be BIO tags: {error}"))
                    continue
                counts[ORPHANS if scheme.name == "BIO" else f"entities that break {scheme}, kept"] += (
                    scheme.count_faults(tags)
                )
                has_begin |= any((scheme.read(tag) or "O")[0] == "B" for tag in tags)
                changed += sum(before != after for before, after in zip(tags, row["ner_tags"], strict=True))
                good.append((line, name, row))
            self.lines[split] = good
        if changed:
            self.notes.append(describe_conversion(scheme, changed, has_begin))

    def cut_splits(self) -> None:
        """Cut the splits that have no file from the train split, or from a single file, and say so."""
        wanted = self.config.split_sizes is not None
        sizes = check_sizes(self.config.split_sizes or SIZES)
        single = "all" in self.rows
        if single:
            self.rows, self.files = {"train": self.rows["all"]}, {"train": self.files["all"]}
            self.irregularities = {"train": self.irregularities["all"]}
        missing = [split for split in SPLITS if split not in self.rows and sizes[split]]
        if "train" in missing or not missing or not (single or wanted):
            if wanted and "train" in missing:
                raise ValueError(f"--split_sizes: no train file to cut, only {', '.join(self.rows)}")
            if missing and "train" not in missing:
                self.notes.append(
                    f"no file of the split {' and '.join(missing)}; to cut it from train: --split_sizes 0.8 0.1 0.1"
                )
            return
        rows, file = self.rows["train"], self.files["train"].name
        pictures = [self.finder.find(row["image"], Counter()) if row["image"] else (None, None) for row in rows]
        texts = [text_key(row["tokens"]) for row in rows]
        groups = group_posts(
            [
                [("text", text), *([("picture", picture)] if picture else [])]
                for text, picture in zip(texts, picture_keys(pictures), strict=True)
            ]
        )
        splits = cut(groups, {split: sizes[split] for split in ("train", *missing)}, self.config.split_seed)
        if not all(splits.values()):
            largest = max(map(len, groups), default=0)
            self.notes.append(
                f"{file} was not cut into {', '.join(splits)}: its {len(rows):,} posts are {len(groups):,} groups with "
                f"the same text or picture, the largest of {largest:,}; all are in train"
            )
            return
        self.notes.append(describe_cut(file, splits, groups, self.config.split_seed))
        for split, numbers in splits.items():
            self.rows[split] = [rows[number] for number in numbers]
            self.files[split] = self.files["train"]
            self.irregularities.setdefault(split, Counter())
        self.rows = {split: self.rows[split] for split in SPLITS if split in self.rows}
        self.files = {split: self.files[split] for split in self.rows}

    def make_features(self) -> datasets.Features:
        """Return the columns that the files have; tags and relations are collected from the data."""
        rows = [row for rows in self.rows.values() for row in rows]
        features = {"id": datasets.Value("string"), "tokens": datasets.List(datasets.Value("string"))}
        if "ner_tags" in self.labels:
            types = sorted({tag[2:] for row in rows for tag in row["ner_tags"] if tag != "O"})
            names = ["O", *(f"{prefix}-{type}" for type in types for prefix in "BI")]
            features |= mner_features(NER_TAGS if set(names) <= set(NER_TAGS) else names)
        if "relation" in self.labels:
            features |= mre_features([NO_RELATION, *sorted({row["relation"] for row in rows} - {NO_RELATION})])
        if "relations" in self.labels:
            relations = {relation["label"] for row in rows for relation in row["relations"] or ()}
            features |= relation_features([NO_RELATION, *sorted(relations - {NO_RELATION})])
        if "regions" in self.labels:
            features["regions"] = datasets.List(datasets.Value("int32"))
        return datasets.Features({name: type for name, type in features.items() if name not in PICTURES} | PICTURES)

    def read_raw(self) -> RawData:
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
                    post.image, post.image_file = self.finder.find(row["image"], counts)
                if self.config.objects == "column":
                    names = row.get("objects") or []
                    crops = [self.finder.find(name, counts) if name else ("", None) for name in names]
                    post.crops, post.crop_files = [name for name, _ in crops], [path for _, path in crops]
                raw.splits[split].append(post)
            if self.config.objects not in ("none", "column"):
                add_own_crops(raw.splits[split], Path(self.config.objects))
            raw.pictures[split] = PictureTree(self.finder.base)
        if self.unused:
            self.notes.append(f"columns that are not used: {', '.join(sorted(map(str, self.unused)))}")
        raw.about = {
            "texts": {split: path.name for split, path in self.files.items()},
            "objects": {"none": "none", "column": "as the column objects says"}.get(self.config.objects, "own"),
            "sha256": {split: hash_file(path) for split, path in self.files.items()},
            "warnings": self.notes,
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
        "--encoding", help="encoding of the files, e.g. cp1252 (default: UTF-8, or UTF-16 if recognised)"
    )
    parser.add_argument("--tag_scheme", choices=SCHEMES, help="scheme of the tags (default: recognised from the files)")
    parser.add_argument("--tag_column", type=int, metavar="N", help="column of the tags in CoNLL files, from 1")
    parser.add_argument(
        "--split_sizes",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="shares of train, validation and test for splits without a file (default for a single file: 0.8 0.1 0.1)",
    )
    parser.add_argument("--split_seed", type=int, default=0, help="seed of these splits (default: 0)")
    parser.add_argument(
        "--task",
        choices=("mner", "mre"),
        default="mner",
        help="for posts with entities: one row per post with tags (default), or one row per pair of entities",
    )
    parser.add_argument(
        "--overlaps",
        choices=("refuse", "longest"),
        default="refuse",
        help="overlapping entities: list the row as invalid (default), or keep the longest",
    )
    parser.add_argument(
        "--none_label",
        metavar="NAME",
        help="the label for no relation, unless it is one of None, no_relation, NA, Other ...",
    )
    args = parser.parse_args(arguments)
    names = ["objects", "encoding", "tag_scheme", "tag_column", "split_sizes", "split_seed"]
    names += ["task", "overlaps", "none_label"]
    finish(parser, Posts, args, **{name: getattr(args, name) for name in names})
