"""MVSA-Single: the sentiment of tweets with a photo, from the raw files to Parquet.

    python dataset_scripts/mvsa.py --data_dir RAW/mvsa_single --output_dir data/mvsa

RAW/mvsa_single is the original download, or a copy with one file of texts and a split:

  labelResultAll.txt, data/ID.txt, data/ID.jpg    the original: lines such as 7<tab>neutral,positive; the labels are
                                                  those of the text and of the photo
  labels.csv, texts.jsonl, images/ID.jpg          the copy: id,text_label,image_label,label,split,group and
                                                  {"id": 7, "text": "..."}

The columns are those that run_classification.py reads: id, text, label (positive, neutral or negative), image and
objects. The label is, by --labels:

  merged  (default) that of both, or the one that is not neutral; posts of which one is positive and the other
          negative are left out and counted
  text    that of the text; photo that of the photo; no post is left out

The split is, by --split:

  file    that of labels.csv; the default where there is one
  group   computed: near-duplicates are in one group, and the sha1 of the smallest id of a group, modulo 10, is 0 for
          test, 1 for validation, else train

Two posts are in one group, directly or through others, if their texts have the same three or more words (in lower
case, without RT, @user and links), if their photo files are equal, or if their photos differ in 10 or fewer of the 256
bits of a difference hash (17 x 16 grey pixels). posts.py joins equal files, too, but only texts of the same characters,
no similar photos, and draws the split of a group.

The original texts are GB18030; one that is valid UTF-8 and not ASCII is read as that, and named. In them @name becomes
@user and white space one space. Nothing else is changed. report.json counts the irregularities over all posts, also
those left out.
"""

import hashlib
import io
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from ..support.digests import hash_file
from .builder import PICTURES, PostsBuilder, PostsConfig, RawData, RawPost, add_own_crops, is_text
from .command import finish, make_parser, refuse_public_push
from .conll import Problem
from .picture_files import MAX_PIXELS, PictureFolder, find_picture_folder, folders_below, read_picture
from .post_splits import SPLITS, group_posts, picture_keys
from .text_files import split_lines

KINDS = ("merged", "text", "photo")
SPLIT_BY = ("group", "file")
LABELS = ["positive", "neutral", "negative"]
SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}
NUMBER = "0|[1-9][0-9]*"
HANDLE = "@[A-Za-z0-9_]+"
BITS, NEAR = 256, 10
LEAST_WORDS = 3
NAMED = 5  # ids and files in a warning
LEFT_OUT = "posts left out (one label positive, the other negative)"
TERMS = """\
Tweets and photos belong to their authors and are under Twitter's terms: for research that is not commercial, not to be
republished. Cite the paper. The texts are as people wrote them, with insults, and persons can be seen."""


@dataclass
class Layout:
    """The files of a layout: those of the labels with its columns, of the texts, and the folder of the photos."""

    name: str
    labels: str
    columns: list[str]
    texts: str
    photos: str


ORIGINAL = Layout("the original download", "labelResultAll.txt", ["ID", "text", "image"], "data", "data")
COPY = Layout(
    "a copy with splits",
    "labels.csv",
    ["id", "text_label", "image_label", "label", "split", "group"],
    "texts.jsonl",
    "images",
)


@dataclass
class Tweet:
    """A post with both labels; split and group where the file states them."""

    id: int
    text: str
    text_label: str
    photo_label: str
    split: str = ""
    group: int = 0

    @property
    def photo(self) -> str:
        """The name of its photo."""
        return f"{self.id}.jpg"

    @property
    def merged(self) -> str | None:
        """The label of both, or the one that is not neutral; `None` where they contradict."""
        labels = {self.text_label, self.photo_label} - {"neutral"}
        return "neutral" if not labels else labels.pop() if len(labels) == 1 else None

    def label(self, kind: str) -> str | None:
        """The label that --labels names."""
        return {"text": self.text_label, "photo": self.photo_label, "merged": self.merged}[kind]


@dataclass
class MvsaConfig(PostsConfig):
    """The labels, the split and the crops that the rows of MVSA-Single get.

    Args:
        labels: "merged", "text" or "photo".
        split: "file" or "group"; by default "file" where the files state one.
    """

    labels: str = "merged"
    split: str | None = None


class Mvsa(PostsBuilder):
    """Builder of MVSA-Single."""

    BUILDER_CONFIG_CLASS = MvsaConfig
    NAME = "mvsa"
    counts: dict[str, dict]

    def _info(self) -> datasets.DatasetInfo:
        features = {"id": datasets.Value("string"), "text": datasets.Value("string")}
        return datasets.DatasetInfo(
            description="MVSA-Single: the sentiment of tweets with a photo.",
            features=datasets.Features({**features, "label": datasets.ClassLabel(names=LABELS), **PICTURES}),
            citation="""
@inproceedings{niu2016sentiment,
  title = {Sentiment Analysis on Multi-view Social Data},
  author = {Niu, Teng and Zhu, Shiai and Pang, Lei and El Saddik, Abdulmotaleb},
  booktitle = {MultiMedia Modeling},
  year = {2016}
}""",
            license=TERMS,
        )

    def read_raw(self) -> RawData:
        folder, layout = self.find_files()
        split_by = self.choose_split(layout)
        raw = RawData({}, [], {}, {}, {"warnings": []})
        read = read_jsonl if layout is COPY else read_text_files
        texts = read(folder / layout.texts, raw)
        tweets = read_labels(folder / layout.labels, layout, texts, raw.problems)
        if unused := sorted(texts.keys() - {tweet.id for tweet in tweets}):
            raw.about["warnings"].append(
                f"{len(unused)} texts have no readable line in {layout.labels}: {first(unused)}"
            )
        pictures = PictureFolder(folder / layout.photos)
        if self.config.image_dir:
            pictures = find_picture_folder(Path(self.config.image_dir), {tweet.photo for tweet in tweets})
        raw.about |= {
            "layout": layout.name,
            "labels": self.config.labels,
            "split": split_by,
            "texts": self.config.relative(folder / layout.texts),
            "image folders": dict.fromkeys(SPLITS, self.config.relative(pictures.path)),
            "objects": self.config.objects_said,
            "irregularities": "counted over all posts, also those left out",
            "sha256": {
                name: hash_file(folder / name) for name in (layout.labels, layout.texts) if (folder / name).is_file()
            },
        }
        splits = self.split_tweets(tweets, pictures, split_by, raw.about)
        self.counts = {}
        for split in SPLITS:
            members = [tweet for tweet, other in zip(tweets, splits, strict=True) if other == split]
            pairs = Counter((tweet.text_label, tweet.photo_label) for tweet in members)
            kept = [tweet for tweet in members if tweet.label(self.config.labels)]
            self.counts[split] = {
                LEFT_OUT: len(members) - len(kept),
                "labels of text and photo": {f"{a} and {b}": pairs[a, b] for a in LABELS for b in LABELS},
            }
            raw.irregularities[split] = count_irregularities(members)
            raw.splits[split] = [
                RawPost(
                    {"id": str(tweet.id), "text": tweet.text, "label": tweet.label(self.config.labels)},
                    tweet.photo,
                    pictures.file(tweet.photo),
                )
                for tweet in kept
            ]
            raw.pictures[split] = pictures
            if self.config.objects != "none":
                add_own_crops(raw.splits[split], Path(self.config.objects))
        return raw

    def find_files(self) -> tuple[Path, Layout]:
        """Return the one folder with the files of a layout, and which it is."""
        root = self.config.root
        folders = [
            (folder, layout)
            for folder, files in folders_below(root)
            for layout in (ORIGINAL, COPY)
            if layout.labels in files and (folder / layout.texts).exists()
        ]
        if len(folders) != 1:
            places = ", ".join(f"{folder / layout.labels}" for folder, layout in folders) or "none"
            raise FileNotFoundError(
                f"{root}: expected one folder with labelResultAll.txt and data/, or with labels.csv, texts.jsonl and "
                f"images/; there are: {places}; e.g. --data_dir {folders[0][0] if folders else 'RAW/MVSA_Single'}"
            )
        return folders[0]

    def choose_split(self, layout: Layout) -> str:
        """Return "file" or "group" after checking the options."""
        if self.config.labels not in KINDS:
            raise ValueError(f"labels {self.config.labels!r}: expected {', '.join(KINDS)}")
        split_by = self.config.split or ("group" if layout is ORIGINAL else "file")
        if split_by not in SPLIT_BY:
            raise ValueError(f"split {split_by!r}: expected {' or '.join(SPLIT_BY)}")
        if layout is ORIGINAL and split_by == "file":
            raise ValueError(f"--split file: {layout.labels} states no splits; have them computed: --split group")
        return split_by

    def split_tweets(self, tweets: list[Tweet], pictures: PictureFolder, split_by: str, about: dict) -> list[str]:
        """Return the split of each post; add what is known of duplicates to the report."""
        words = [find_words(tweet.text) for tweet in tweets]
        keys = [one if len(one) >= LEAST_WORDS else None for one in words]
        paths = [pictures.file(tweet.photo) for tweet in tweets]
        files = picture_keys([(tweet.photo, path) for tweet, path in zip(tweets, paths, strict=True)])
        groups, splits = [tweet.group for tweet in tweets], [tweet.split for tweet in tweets]
        if split_by == "group":
            with ThreadPoolExecutor(self.config.num_proc) as pool:
                hashes = list(pool.map(partial(hash_photo, max_pixels=self.config.max_pixels), paths))
            if missing := sum(one is None for one in hashes):
                about["warnings"].append(f"{missing} photos are absent or cannot be read: not compared with others")
            pairs = find_near(hashes)
            about["pairs of photos within 10 of 256 bits"] = len(pairs)
            computed = group_tweets(tweets, keys, files, pairs)
            if any(splits):
                others = sum(new != old for new, old in zip(computed, groups, strict=True))
                about["posts of another group than in labels.csv"] = others
            groups, splits = computed, [split_of(group) for group in computed]
        about["duplicates"] = {
            "equal texts": describe(tweets, [tweet.text for tweet in tweets]),
            "texts of the same three or more words": describe(tweets, keys),
            "equal photo files": describe(tweets, files),
            "groups of near-duplicates": describe(tweets, groups),
        }
        near = about["duplicates"]["groups of near-duplicates"]
        if differ := near["with different labels"]:
            about["warnings"].append(
                f"{near['posts']} posts are in {near['repeated']} groups of near-duplicates; in {differ} of them the "
                "merged labels differ"
            )
        for name, values in (("groups of near-duplicates", groups), ("texts of the same words", words)):
            about[f"{name} in several splits"] = count_across(values, splits)
        return splits

    def make_report(self, folder: Path) -> dict:
        """Count what the finished Parquet files hold, and the labels of all posts."""
        report = super().make_report(folder)
        for split, counts in self.counts.items():
            report["splits"][split] |= counts
        return report


def read_labels(path: Path, layout: Layout, texts: dict[int, str], problems: list[Problem]) -> list[Tweet]:
    """Return the posts of a file of labels in their order; lines that cannot be read are added to problems.

    Raises:
        ValueError: The first line has other columns.
    """
    header, *lines = split_lines(decode(path, "utf-8"))
    if re.split(r"[\t,]", header.strip()) != layout.columns:
        raise ValueError(
            f"{path}: the first line is {header[:80]!r}, expected the columns {', '.join(layout.columns)} "
            "(MVSA-Multiple, with the labels of three people, is not read)"
        )
    tweets: dict[int, Tweet] = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            tweet = parse_line(line, layout, texts)
            if tweet.id in tweets:
                raise ValueError(f"the id {tweet.id} occurs twice; the first line is used")
            tweets[tweet.id] = tweet
        except ValueError as error:
            problems.append(Problem(path.name, number, str(error)))
    return list(tweets.values())


def parse_line(line: str, layout: Layout, texts: dict[int, str]) -> Tweet:
    """Return the post of a line of labels; raises `ValueError` for a wrong value."""
    values = [value.strip() for value in re.split(r"[\t,]", line)]
    if len(values) != len(layout.columns):
        raise ValueError(f"{line[:80]!r} has {len(values)} values, expected {', '.join(layout.columns)}")
    row = dict(zip(COPY.columns, values, strict=False))
    for name in ("id", "group"):
        if not re.fullmatch(NUMBER, row.get(name, "0")):
            raise ValueError(f"the {name} {row[name]!r} is not a number")
    for name in ("text_label", "image_label"):
        if row[name] not in LABELS:
            raise ValueError(f"the label {row[name]!r} is not one of {', '.join(LABELS)}")
    tweet = Tweet(int(row["id"]), "", row["text_label"], row["image_label"])
    if "split" in row:
        if row["label"] != (tweet.merged or ""):
            raise ValueError(f"the label is {row['label']!r}, but text and photo make it {tweet.merged or ''!r}")
        if row["split"] not in SPLIT_NAMES:
            raise ValueError(f"the split {row['split']!r} is not one of {', '.join(SPLIT_NAMES)}")
        tweet.split, tweet.group = SPLIT_NAMES[row["split"]], int(row["group"])
    tweet.text = texts.get(tweet.id, "")
    if not tweet.text.strip() or not is_text(tweet.text):
        raise ValueError(f"the post {tweet.id} has no text, an empty one or an invalid one in {layout.texts}")
    return tweet


def read_jsonl(path: Path, raw: RawData) -> dict[int, str]:
    """Return the texts of a JSONL file by their ids; lines that cannot be read become problems."""
    texts: dict[int, str] = {}
    for number, line in enumerate(split_lines(decode(path, "utf-8")), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("id")) is not int or not isinstance(row.get("text"), str):
                raise ValueError(f'expected {{"id": 7, "text": "..."}}, got {line[:80]!r}')
            if row["id"] in texts:
                raise ValueError(f"the id {row['id']} occurs twice; the first line is used")
            texts[row["id"]] = row["text"]
        except (ValueError, RecursionError) as error:
            raw.problems.append(Problem(path.name, number, str(error)))
    return texts


def read_text_files(folder: Path, raw: RawData) -> dict[int, str]:
    """Return the texts of the original download by their ids; files that cannot be read become problems.

    A file that is valid UTF-8 and not ASCII is read as that and named in a warning: GB18030 would make other signs of
    it without an error, and no GB18030 file of MVSA-Single is valid UTF-8.
    """
    texts, utf8, changed = {}, [], 0
    for path in sorted(folder.glob("*.txt")):
        if not re.fullmatch(NUMBER, path.stem):
            continue
        try:
            text = decode(path, "utf-8")
            utf8 += [] if text.isascii() else [path.name]
        except ValueError:
            try:
                text = decode(path, "gb18030")
            except ValueError as error:
                raw.problems.append(Problem(f"{folder.name}/{path.name}", 1, str(error)))
                continue
        texts[int(path.stem)] = " ".join(re.sub(HANDLE, "@user", text).split())
        changed += texts[int(path.stem)] != text.strip()
    if utf8:
        raw.about["warnings"].append(f"{len(utf8)} texts are UTF-8, not GB18030, and read as that: {first(utf8)}")
    raw.about["texts changed (@name to @user, white space to one space)"] = changed
    return texts


def decode(path: Path, encoding: str) -> str:
    """Return the text of a file; raises `ValueError` that names it if it is in another encoding."""
    try:
        return path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not {encoding.upper()}: {error}") from None


def find_words(text: str) -> tuple[str, ...]:
    """Return what near-duplicates share: the words in lower case, without RT, handles and links."""
    return tuple(re.findall(r"\w+", re.sub(rf"http\S*|{HANDLE}|\brt\b", " ", text.lower())))


def hash_photo(path: Path | None, max_pixels: int = MAX_PIXELS) -> np.ndarray | None:
    """Return whether each of 17 x 16 grey pixels is darker than its right neighbour (256,); `None` for no photo."""
    value = read_picture(path, max_pixels)[0] if path else None
    if value is None:
        return None
    with Image.open(io.BytesIO(value["bytes"])) as image:
        return difference_hash(image)


def difference_hash(image: Image.Image) -> np.ndarray:
    """Return whether each of 17 x 16 grey pixels of a picture is darker than its right neighbour (256,)."""
    grey = np.asarray(image.convert("L").resize((17, 16)))
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def find_near(hashes: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    """Return the numbers of photos, in pairs, whose hashes differ in `NEAR` or fewer bits."""
    present = {number: np.where(one, 1, -1) for number, one in enumerate(hashes) if one is not None}
    numbers = list(present)
    signs = np.array(list(present.values()), dtype=np.float32).reshape(-1, BITS)
    pairs = []
    for start in range(0, len(signs), 1024):
        equal = signs[start : start + 1024] @ signs.T  # 256 less twice the bits that differ
        rows, columns = np.nonzero(equal >= BITS - 2 * NEAR)
        pairs += [(numbers[a], numbers[b]) for a, b in zip(rows + start, columns, strict=True) if a < b]
    return pairs


def group_tweets(
    tweets: Sequence[Tweet],
    words: Sequence[Hashable | None],
    files: Sequence[Hashable | None],
    pairs: Sequence[tuple[int, int]],
) -> list[int]:
    """Return the smallest id of the near-duplicates of each post.

    Args:
        tweets: the posts.
        words: of each post; posts of the same words are near-duplicates, `None` is no reason.
        files: likewise, of the photo.
        pairs: numbers of posts with similar photos.
    """
    keys: list[list[Hashable]] = [
        [(kind, value) for kind, value in (("words", text), ("file", file)) if value is not None]
        for text, file in zip(words, files, strict=True)
    ]
    for pair in pairs:
        for number in pair:
            keys[number].append(("near", pair))
    groups = [0] * len(tweets)
    for members in group_posts(keys):
        smallest = min(tweets[number].id for number in members)
        for number in members:
            groups[number] = smallest
    return groups


def split_of(group: int) -> str:
    """Return the split of a group by the sha1 of its smallest id."""
    number = int(hashlib.sha1(str(group).encode(), usedforsecurity=False).hexdigest(), 16)
    return {0: "test", 1: "validation"}.get(number % 10, "train")


def count_across(values: Sequence[Hashable], splits: Sequence[str]) -> int:
    """Count the values that are in more than one split."""
    sides = defaultdict(set)
    for value, split in zip(values, splits, strict=True):
        sides[value].add(split)
    return sum(len(side) > 1 for side in sides.values())


def describe(tweets: Sequence[Tweet], keys: Sequence[Hashable | None]) -> dict[str, int]:
    """Count the keys that several posts have, these posts, the most of one key, and keys whose merged labels differ."""
    members = defaultdict(list)
    for tweet, key in zip(tweets, keys, strict=True):
        if key is not None:
            members[key].append(tweet.merged)
    repeated = [labels for labels in members.values() if len(labels) > 1]
    return {
        "repeated": len(repeated),
        "posts": sum(map(len, repeated)),
        "most": max(map(len, repeated), default=0),
        "with different labels": sum(len(set(labels)) > 1 for labels in repeated),
    }


def count_irregularities(tweets: Sequence[Tweet]) -> Counter:
    """Count the irregularities of the texts of a split."""
    texts = [tweet.text for tweet in tweets]
    words = [len(find_words(text)) for text in texts]
    counts = {
        "retweets (RT @user)": sum(text.startswith("RT @user") for text in texts),
        "texts truncated (they end with an ellipsis)": sum(text.endswith(("…", "...")) for text in texts),
        "texts with a link": sum("http" in text for text in texts),
        "texts with a handle": sum("@user" in text for text in texts),
        "texts with a hashtag": sum("#" in text for text in texts),
        "texts with ??? (lost signs)": sum("???" in text for text in texts),
        "texts with another script than Latin": sum(map(has_another_script, texts)),
        "texts without words but handles and links": words.count(0),
        "texts of fewer than three words but handles and links": sum(number < LEAST_WORDS for number in words),
    }
    return Counter(counts)


def has_another_script(text: str) -> bool:
    """Return whether a text contains a letter of another script than Latin."""
    return any(sign.isalpha() and not unicodedata.name(sign, "").startswith("LATIN") for sign in text)


def first(values: Sequence[object]) -> str:
    """Return the first values, for a message."""
    return ", ".join(map(str, values[:NAMED])) + (" ..." if len(values) > NAMED else "")


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(Mvsa, __doc__ or "")
    parser.add_argument(
        "--objects",
        default="none",
        metavar="none|DIR",
        help="crops: none (default), or DIR/NAME/* for picture NAME.jpg",
    )
    parser.add_argument(
        "--labels",
        choices=KINDS,
        default="merged",
        help="label of the text, of the photo, or of both merged (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=SPLIT_BY,
        help="splits that keep near-duplicates together, or take those of the files (default: file, else group)",
    )
    args = parser.parse_args(arguments)
    refuse_public_push(parser, args, "the tweets and photos")
    finish(parser, Mvsa, args, objects=args.objects, labels=args.labels, split=args.split)
