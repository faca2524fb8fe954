"""Twitter-GMNER: named entities in tweets, with their boxes in the pictures, from the released files to Parquet.

    python dataset_scripts/gmner.py --data_dir RAW/Twitter10000_v2.0 --output_dir data/gmner

RAW/Twitter10000_v2.0 (or RAW/Twitter10000, the first edition) is the folder of github.com/NUSTM/GMNER with
txt/{train,dev,test}.txt and xml/ID.xml; the pictures ID.jpg are in it or in --image_dir. A post whose picture is
absent is kept without it. The columns are those of Twitter-2017, and:

  entity_boxes  for each entity, in the order of the words (an I- tag after O begins one, too), a list of its boxes:
                left, top, right, bottom, as shares of the width and the height of the picture; empty for an entity
                that the picture does not show

A box belongs to the entities of its post that have its name; if none has it, to those that differ in case or white
space alone. report.json counts the boxes of both kinds and lists those that no entity has.
"""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import datasets

from ..pipeline_i2srm import find_entities
from ..support.digests import hash_file
from .builder import NER_TAGS, PostsBuilder, RawData, RawPost, add_own_crops, mner_features, unique
from .command import finish, make_parser
from .conll import ConllPost, Problem, read_conll
from .known_files import TWEETS
from .picture_files import find_picture_folder, folders_below
from .twitter import count_irregularities

TEXTS = {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}
EDITIONS = {  # sha256 of the texts
    "v1 (Twitter10000)": (
        "9c466d1bddffc9d58674722af62e80b721a79a642305201bb99b5f5a1d49006c",
        "eef9410d73b0d35ea52bf2c52e0d3eeedd7f5080a723e97fc6557775b5d22d89",
        "628671b813f2432a3f5881305464dd78de047fcbd566ca5ca7926f899b482f77",
    ),
    "v2.0 (Twitter10000_v2.0)": (
        "72770413f5a80b75c6d8b59d985048bc8b26c489b7b8a09c4cc7ed2b97f3cc41",
        "07435237d7bfc1f2dd66f564fecab9637ff0bb9d08025d722859dbb2bd3f8532",
        "a178a5f6f422a43f8e8692d84cbde4eb590dec9b2a0da4aa67e3ecf3ac690f0a",
    ),
}
BOX = datasets.List(datasets.Value("float32"), length=4)
LARGEST = 1_000_000  # bytes of a box file
EXACT, SIMILAR, UNMATCHED = (
    "boxes, of an entity of their name",
    "boxes, of an entity whose name differs in case or white space",
    "boxes, without an entity",
)
COUNTS = ("boxes, all", EXACT, SIMILAR, UNMATCHED, "entities, with a box", "entities, with several boxes")
Box = tuple[str, list[float]]


class Gmner(PostsBuilder):
    """Builder of Twitter-GMNER."""

    NAME = "gmner"
    boxes: dict[str, dict[str, int]]
    unmatched: list[dict[str, str]]

    def _info(self) -> datasets.DatasetInfo:
        features = mner_features(NER_TAGS)
        features["entity_boxes"] = datasets.List(datasets.List(BOX))
        return datasets.DatasetInfo(
            description="Twitter-GMNER: named entities in tweets, with their boxes in the pictures.",
            features=features,
            citation="""
@inproceedings{yu2023grounded,
  title = {Grounded Multimodal Named Entity Recognition on Social Media},
  author = {Yu, Jianfei and Li, Ziyan and Wang, Jieming and Xia, Rui},
  booktitle = {Proceedings of the 61st Annual Meeting of the Association for Computational Linguistics},
  year = {2023}
}""",
            license=TWEETS,
        )

    def read_raw(self) -> RawData:
        folder = self.find_texts()
        raw = RawData({}, [], {}, {}, {})
        self.boxes, self.unmatched = {}, []
        names, digests, warnings = set(), [], []
        for split, name in TEXTS.items():
            file = read_conll(folder / "txt" / name, NER_TAGS)
            digests.append(hash_file(folder / "txt" / name))
            raw.problems += file.problems
            raw.irregularities[split] = file.irregularities + Counter(count_irregularities(file.posts))
            self.boxes[split] = dict.fromkeys(COUNTS, 0)
            raw.splits[split] = [self.make_post(split, post, folder / "xml", raw) for post in file.posts]
            names |= {post.image_id for post in file.posts if post.image_id}
            pictures = {post.image for post in raw.splits[split] if post.image}
            raw.pictures[split] = find_picture_folder(Path(self.config.image_dir or self.config.root), pictures)
            ids = unique([post.columns["id"] for post in raw.splits[split]])
            for post, id in zip(raw.splits[split], ids, strict=True):
                post.columns["id"], post.image_file = id, raw.pictures[split].file(post.image)
            if self.config.objects != "none":
                add_own_crops(raw.splits[split], Path(self.config.objects))
        edition = next((name for name, known in EDITIONS.items() if known == tuple(digests)), "unknown")
        if edition == "unknown":
            warnings.append(f"the texts are not those of {' or '.join(EDITIONS)}: results cannot be compared")
        if self.unmatched:
            warnings.append(
                f"{len(self.unmatched)} boxes have a name that no entity of their post has; see report.json"
            )
        if unused := sorted(path.stem for path in (folder / "xml").glob("*.xml") if path.stem not in names):
            warnings.append(f"{len(unused)} box files belong to no post: {', '.join(unused[:5])}")
        raw.about = {
            "edition": edition,
            "texts": self.config.relative(folder / "txt"),
            "image folders": {split: self.config.relative(pictures.path) for split, pictures in raw.pictures.items()},
            "objects": self.config.objects_said,
            "sha256": dict(zip(TEXTS, digests, strict=True)),
            "warnings": warnings,
        }
        return raw

    def find_texts(self) -> Path:
        """Return the folder of an edition: it holds txt and xml."""
        root = self.config.root
        folders = [
            folder.parent
            for folder, files in folders_below(root)
            if folder.name == "txt" and set(TEXTS.values()) <= set(files) and (folder.parent / "xml").is_dir()
        ]
        if len(folders) != 1:
            found = ", ".join(map(str, sorted(folders))) or "no such folder"
            raise FileNotFoundError(
                f"{root}: expected one edition, a folder with txt/train.txt, txt/dev.txt, txt/test.txt and xml, found "
                f"{found}; e.g. --data_dir {sorted(folders)[-1] if folders else 'RAW/Twitter10000_v2.0'}"
            )
        return folders[0]

    def make_post(self, split: str, post: ConllPost, folder: Path, raw: RawData) -> RawPost:
        """The post with its boxes, matched to its entities; counts are added."""
        boxes: list[Box] = []
        id = post.image_id
        path = folder / f"{id}.xml"
        if id and path.is_file():
            try:
                boxes, other = read_boxes(path)
                raw.irregularities[split]["box files whose filename is another one"] += other
            except (ValueError, ElementTree.ParseError) as error:
                raw.problems.append(Problem(f"xml/{path.name}", 1, str(error)[:300]))
        spans = find_entities(post.tags)
        names = [" ".join(post.tokens[start:end]) for start, end, _ in spans]
        regions, matches = match_boxes(names, boxes)
        counts = self.boxes[split]
        for (name, _), match in zip(boxes, matches, strict=True):
            counts["boxes, all"] += 1
            counts[match] += 1
            if match == UNMATCHED:
                self.unmatched.append({"split": split, "id": str(id), "name": name})
        counts["entities, with a box"] += sum(len(own) > 0 for own in regions)
        counts["entities, with several boxes"] += sum(len(own) > 1 for own in regions)
        columns = {
            "id": id or f"{split}-{post.line}",
            "tokens": post.tokens,
            "ner_tags": post.tags,
            "entity_boxes": regions,
        }
        return RawPost(columns, image=id and f"{id}.jpg")

    def make_report(self, folder: Path) -> dict:
        """Count what the finished Parquet files hold, and the boxes."""
        report = super().make_report(folder)
        for split, counts in self.boxes.items():
            report["splits"][split] |= counts
        return {**report, "unmatched_boxes": self.unmatched}


def read_voc(path: Path) -> ElementTree.Element:
    """The root of a box file in XML.

    Raises:
        ValueError: a document type, which no such file has, or more than `LARGEST` bytes.
        ElementTree.ParseError: not XML.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.stat().st_size} bytes, more than {LARGEST}")
    text = path.read_text(encoding="utf-8-sig")
    if "<!" in text:  # entities could grow without bound
        raise ValueError("a document type, an entity or a comment, which box files do not have")
    return ElementTree.fromstring(text)


def read_boxes(path: Path) -> tuple[list[Box], bool]:
    """Read a box file in the format of Pascal VOC.

    Returns:
        The name and the box (left, top, right, bottom, as shares of width and height) of each object, and whether the
        file says that it is another picture's.

    Raises:
        ValueError: a box that is empty or not in the picture; as of `read_voc`.
        ElementTree.ParseError: not XML.
    """
    root = read_voc(path)

    def number(element: ElementTree.Element, name: str) -> float:
        return float(element.findtext(name) or "nan")

    width, height = (number(root, f"size/{name}") for name in ("width", "height"))
    boxes = []
    for element in root.iter("object"):
        name = (element.findtext("name") or "").strip()
        left, top, right, bottom = (number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        if not (name and 0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"the box of {name!a:.80} is empty or not in the picture of {width:g} x {height:g}: "
                f"{left:g}, {top:g}, {right:g}, {bottom:g}"
            )
        boxes.append((name, [left / width, top / height, right / width, bottom / height]))
    return boxes, (root.findtext("filename") or "").rpartition(".")[0] != path.stem


def match_boxes(names: list[str], boxes: list[Box]) -> tuple[list[list[list[float]]], list[str]]:
    """The boxes of each entity, by their names, and how each box was matched, in the words of `COUNTS`."""
    regions: list[list[list[float]]] = [[] for _ in names]
    matches = []
    for name, box in boxes:
        exact = [n for n, other in enumerate(names) if other == name]
        similar = [n for n, other in enumerate(names) if plain(other) == plain(name)]
        for n in exact or similar:
            regions[n].append(box)
        matches.append(EXACT if exact else SIMILAR if similar else UNMATCHED)
    return regions, matches


def plain(name: str) -> str:
    return "".join(name.split()).casefold()


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(Gmner, __doc__ or "")
    parser.add_argument(
        "--objects",
        default="none",
        metavar="none|DIR",
        help="crops: none (default), or DIR/NAME/* for picture NAME.jpg",
    )
    args = parser.parse_args(arguments)
    finish(parser, Gmner, args, objects=args.objects)
