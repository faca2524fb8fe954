"""Your own posts, from JSONL, CSV or CoNLL files to Parquet.

    python dataset_scripts/posts.py --data_dir my_posts --output_dir data/my_posts

my_posts holds train.jsonl, validation.jsonl and test.jsonl (or .csv, .tsv, .conll, .txt; also val, valid, dev; or one
file of any name, which becomes the train split) and the pictures. Columns of JSONL and CSV files:

  text        the text of the post, which is split into tokens at white space. Or:
  tokens      the words, a list
  ner_tags    a BIO tag for each word, a list, e.g. ["O", "B-PER", "I-PER"]                       (optional)
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

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
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
    is_text,
    mner_features,
    mre_features,
    unique,
)
from .command import finish, make_parser
from .conll import BIO_TAG, ConllFile, Problem, read_conll
from .picture_files import PictureFolder

STEMS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}
STEMS["test"] = "test"
TABLES = (".jsonl", ".csv", ".tsv")
CONLL = (".conll", ".txt", ".bio")
COLUMNS = ("id", "text", "tokens", "ner_tags", "head", "tail", "relation", "image", "objects")
EXAMPLE = '{"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"], "image": "pictures/7.jpg"}'

csv.field_size_limit(10_000_000)


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


def find_files(root: Path) -> dict[str, Path]:
    """Return the data file of each split; if there is a single file, it may have any name and is the train split."""
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES + CONLL and path.is_file())
    splits = {}
    for path in files:
        split = STEMS.get(path.stem.lower())
        if split in splits:
            raise ValueError(f"{root}: both {splits[split].name} and {path.name} are the {split} split; remove one")
        if split:
            splits[split] = path
    if not splits and len(files) == 1:
        splits = {"train": files[0]}
    if not splits:
        raise FileNotFoundError(
            f"{root}: no train.jsonl, validation.jsonl or test.jsonl (.csv, .tsv, .conll, .txt), e.g. with {EXAMPLE}"
        )
    return {split: splits[split] for split in ("train", "validation", "test") if split in splits}


def read_file(path: Path, problems: list[Problem], irregularities: Counter) -> Iterator[tuple[int, dict]]:
    """Yield the raw rows of a file with their lines; add to problems and irregularities."""
    if path.suffix.lower() in CONLL:
        file: ConllFile = read_conll(path, columns=True)
        problems += file.problems
        irregularities.update(file.irregularities)
        for post in file.posts:
            image = post.image_id and (post.image_id if Path(post.image_id).suffix else f"{post.image_id}.jpg")
            yield post.line, {"tokens": post.tokens, "ner_tags": post.tags, "image": image}
    elif path.suffix.lower() == ".jsonl":
        for number, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if raw.strip():
                try:
                    row = json.loads(raw.decode())
                    if not isinstance(row, dict):
                        raise ValueError(f"expected a JSON object, e.g. {EXAMPLE}")
                    yield number, row
                except (ValueError, RecursionError) as error:
                    problems.append(Problem(path.name, number, f"{type(error).__name__}: {error}"))
    else:
        yield from read_table(path, problems)


def read_table(path: Path, problems: list[Problem]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a CSV or TSV file with their first lines; add to problems."""
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f'{error}; quote a cell that holds quotes, and double these: "so ""big"" a cat"'
            if reader.line_num > line:
                reason = f"lines {line} to {reader.line_num} are one row: {reason}"
            if header is None:
                raise ValueError(f"{path.name}, line {line}: no names of columns: {reason}") from None
            problems.append(Problem(path.name, line, reason))
            continue
        if not cells or len(cells) == 1 and cells[0].isspace():
            continue
        if header is None:
            header = cells
            if repeated := sorted(name for name, count in Counter(header).items() if count > 1):
                raise ValueError(
                    f"{path.name}, line {line}: several columns are called {', '.join(map(ascii, repeated))}"
                )
        elif len(cells) != len(header):
            problems.append(Problem(path.name, line, f"expected {len(header)} cells, got {len(cells)}"))
        else:
            yield line, {name: parse_cell(name, cell) for name, cell in zip(header, cells, strict=True)}


def parse_cell(name: str, cell: str):
    """Return the value of a CSV cell: JSON if it looks like JSON, else for lists and spans its words."""
    if name in ("tokens", "ner_tags", "objects", "head", "tail"):
        if cell[:1] in ("[", "{"):
            try:
                return json.loads(cell)
            except (ValueError, RecursionError):
                return cell  # refused later, with its line
        words = cell.split()
        if name in ("head", "tail") and len(words) == 2 and all(word.isdecimal() and len(word) < 10 for word in words):
            return {"start": int(words[0]), "end": int(words[1])}
        return words
    return cell


def check_row(row: dict, labels: set[str]) -> dict:
    """Return the tokens, labels, picture and crops of a row; raise `ValueError` that names what is wrong."""
    tokens = row.get("tokens") or row.get("text")
    if isinstance(tokens, str) and not row.get("tokens"):
        tokens = tokens.split()
    if not is_word_list(tokens) or not tokens:
        raise ValueError(f"expected text, or tokens as a list of words, got {tokens!a:.80}; e.g. {EXAMPLE}")
    checked = {"tokens": tokens}
    for name in ("id", "image"):
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int)) or not is_text(str(value)):
            raise ValueError(f"{name} must be a text, got {value!a:.80}")
        checked[name] = str(value) if value not in (None, "") else None
    checked["objects"] = row.get("objects") or []
    if not is_word_list(checked["objects"]):
        raise ValueError(f"objects must be a list of paths, got {checked['objects']!a:.80}")
    for name in labels:
        value = row.get(name)
        if value in (None, ""):
            raise ValueError(f"no {name}, which other rows have")
        if name == "ner_tags":
            if not is_word_list(value) or len(value) != len(tokens) or not all(map(BIO_TAG.fullmatch, value)):
                raise ValueError(
                    f"ner_tags must be {len(tokens)} BIO tags, one for each of {tokens!a:.80}, got {value!a:.80}"
                )
        elif name == "relation":
            if not isinstance(value, str) or not value.isprintable():
                raise ValueError(f"relation must be a printable text, got {value!a:.80}")
        else:
            bounds = [value.get("start"), value.get("end")] if isinstance(value, dict) else value
            if not isinstance(bounds, list) or [type(bound) for bound in bounds] != [int, int]:
                raise ValueError(f'{name} must be {{"start": 0, "end": 2}}, got {value!a:.80}')
            if not 0 <= bounds[0] < bounds[1] <= len(tokens):
                raise ValueError(f"{name} must be within the {len(tokens)} words, got {bounds}")
            value = dict(zip(("start", "end"), bounds, strict=True))
        checked[name] = value
    return checked


def is_word_list(words) -> bool:
    """Whether a value is a list of texts that can be stored."""
    return isinstance(words, list) and all(isinstance(word, str) and word and is_text(word) for word in words)


def find_file(base: Path, name: str, counts: Counter) -> Path | None:
    """Return the path of a picture in `base`; a path to another place is counted and not read."""
    if "://" in name:
        counts["pictures given as a URL, not fetched"] += 1
        return None
    try:
        path = (base / name).resolve()
        if not path.is_relative_to(base):
            counts["pictures outside of the picture folder, not read (--image_dir)"] += 1
            return None
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, a link to itself
        return None


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
