"""Flickr30k Entities: typed phrases of captions, with their boxes in the photos, from the released files to Parquet.

    python dataset_scripts/flickr30k_entities.py --data_dir RAW --output_dir data/flickr30k_entities

RAW holds Sentences/ID.txt, Annotations/ID.xml, {train,val,test}.txt and the photos ID.jpg, as they are published, or
sentences.jsonl, boxes.jsonl and photos, which may be stretched; the script finds them. A row is a caption: its phrases
are the entities. The type of an entity is the first one of its phrase; notvisual phrases are no entities. Splits are
those of the data set, but for one training photo that is a test photo, too, and is left out.

  --phrases whole           the captions as they are
  --phrases heads_masked    the last word of each entity is ___
  --phrases invented_names  each entity is an invented name of one word, the same in all captions of a photo; it is
                            drawn without a look at the type, so that context and photo alone tell it

The crops are the annotated boxes of all captions of the photo, in the order of the sha1 of "ID x0 y0 x1 y1" (shares of
width and height with 4 digits), which depends on no label. The region of an entity is the largest of its boxes that are
crops. It is -1, no crop, for an entity with a flag <scene> or <nobndbox> (the whole photo, or nothing, is meant), and
null, not known, for one with neither box nor flag, or whose boxes are no crops. Further columns:

  entity_boxes  for each entity its boxes: left, top, right, bottom, as shares of the width and the height of the photo
  object_boxes  the box of each crop, in pixels of the photo; score and label are null
  relations     null: none are annotated

The data are for non-commercial research and education alone.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from ..checks import NO_RELATION
from ..pictures import load_picture
from ..support.digests import hash_file
from .builder import BOXES, PostsBuilder, PostsConfig, RawData, RawPost, add_own_crops, joint_features
from .command import finish, make_parser, refuse_public_push
from .flickr30k_files import FILES, NOT_VISUAL, SPLITS, TYPES, Box, Caption, Photo, Phrase, read_files
from .gmner import BOX
from .picture_files import encode_crop, find_picture_folder

TAGS = ["O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")]
CAPTIONS = ("all", "one", "one_in_train")
PHRASES = ("whole", "heads_masked", "invented_names")
MASK = "___"
NAMES = 2000
PROPORTIONS = 0.01
SMALL_SIDE = 16
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
PART = "the photos of Flickr8k (sentences.jsonl and boxes.jsonl)"
SHA256 = {
    "sentences.jsonl": "100e113f3c65910dce7aa8fdb226027bfd9aa3ff897079a78b8770e9d0a1e50f",
    "boxes.jsonl": "dd18cd3231683e29233aa5ffbead6b8c0dd700846cf8d127310c5fbad5bcb098",
}
TWICE = {"2851198725": "3050606344"}  # a training photo: the test photo that has the same bytes

SEVERAL_TYPES = "phrases of several types, the first one kept"
OTHER_TYPES = "entities of other first types in other captions, kept"
UNNAMED = "entities with a box or flag that no caption names"
SHARED = "boxes of several entities"
BOTH_FLAGS = "entities with both flags, scene and nobox"
TRAIN_CAPTION = "captions with the words of a caption of another photo in train"
LEFT_OUT = "photos that are also in test, left out"
BEYOND = "boxes beyond --max_objects, left out"
LOST_REGION = "regions whose boxes are all beyond --max_objects, stored as not known"
UNKNOWN = "regions of entities with neither box nor flag, stored as not known"
STRETCHED = "photos of other proportions than the annotation states, kept"
SMALL = f"crops with a side under {SMALL_SIDE} pixels"
GOLD = (
    "the crops are the annotated boxes: their number and places come from the annotation of the phrases; "
    "dataset_scripts/crop_objects.py makes crops as a detector finds them"
)

LICENSE = """\
The photos belong to their authors on Flickr and are under Flickr's terms. Photos, captions and boxes may be used for
non-commercial research and education only. Do not republish them, and do not publish models or figures that reproduce
them. Cite the papers below."""

CITATION = """
@article{plummer2017flickr30k,
  title = {Flickr30k Entities: Collecting Region-to-Phrase Correspondences for Richer Image-to-Sentence Models},
  author = {Plummer, Bryan A. and Wang, Liwei and Cervantes, Chris M. and Caicedo, Juan C. and Hockenmaier, Julia and
            Lazebnik, Svetlana},
  journal = {International Journal of Computer Vision},
  volume = {123},
  number = {1},
  year = {2017}
}
@article{young2014image,
  title = {From image descriptions to visual denotations: New similarity metrics for semantic inference over event
           descriptions},
  author = {Young, Peter and Lai, Alice and Hodosh, Micah and Hockenmaier, Julia},
  journal = {Transactions of the Association for Computational Linguistics},
  volume = {2},
  year = {2014}
}
@article{hodosh2013framing,
  title = {Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics},
  author = {Hodosh, Micah and Young, Peter and Hockenmaier, Julia},
  journal = {Journal of Artificial Intelligence Research},
  volume = {47},
  year = {2013}
}"""


@dataclass
class FlickrConfig(PostsConfig):
    """Which captions become rows, what becomes of their phrases, and which boxes become crops.

    Args:
        objects: "released" for the annotated boxes, "none", or a folder as of [`PostsConfig`].
        captions: "all", "one" at random of each photo, or "one_in_train" and all of validation and test.
        phrases: "whole", "heads_masked" or "invented_names".
        max_objects: the most crops of a photo; default all.
        seed: of the captions that are drawn and of the names.
    """

    objects: str = "released"
    captions: str = "all"
    phrases: str = "whole"
    max_objects: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise a `ValueError` that names a value that is not allowed."""
        for name, values in (("captions", CAPTIONS), ("phrases", PHRASES)):
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"--{name} {value}: choose {', '.join(values)}; e.g. --{name} {values[1]}")
        if self.max_objects is not None and self.max_objects < 1:
            raise ValueError(f"--max_objects {self.max_objects}: give 1 or more, or --objects none for no crops")


class Flickr30kEntities(PostsBuilder):
    """Builder of Flickr30k Entities."""

    NAME = "flickr30k_entities"
    BUILDER_CONFIG_CLASS = FlickrConfig
    counts: dict[str, dict]
    photos: dict[str, Photo]
    last: tuple[str | None, list[dict], list[dict]] = (None, [], [])  # photo, crops and object_boxes

    def _info(self) -> datasets.DatasetInfo:
        features = joint_features(TAGS, [NO_RELATION])
        features |= {"entity_boxes": datasets.List(datasets.List(BOX)), "object_boxes": BOXES}
        return datasets.DatasetInfo(
            description="Flickr30k Entities: typed phrases of captions, with their boxes in the photos.",
            features=features,
            citation=CITATION,
            license=LICENSE,
        )

    def read_raw(self) -> RawData:
        self.config.check()
        files = read_files(self.config.root)
        self.counts = {split: count_photos(photos) for split, photos in files.photos.items()}
        texts = find_texts(files.photos["train"])
        for split, photos in files.photos.items():
            files.irregularities[split] += count_irregularities(photos, texts)
        sha256 = {name: hash_file(path) for name in FILES if (path := files.texts / name).is_file()}
        edition = PART if sha256 == SHA256 else "unknown" if sha256 else "files of the original layout, not compared"
        if edition == "unknown":
            files.warnings.append(f"the files are not those of {PART}: results cannot be compared")
        every = [photo for photos in files.photos.values() for photo in photos]
        self.photos = {f"{photo.id}.jpg": photo for photo in every}
        folder = find_picture_folder(Path(self.config.image_dir or self.config.root), self.photos)
        raw = RawData({}, files.problems, files.irregularities, dict.fromkeys(SPLITS, folder), {})
        names = invent_names(every, self.config.seed) if self.config.phrases == "invented_names" else []
        tests = {photo.id for photo in files.photos["test"]}
        for split, photos in files.photos.items():
            posts = raw.splits[split] = []
            for photo in photos:
                if split == "train" and TWICE.get(photo.id) in tests:
                    raw.irregularities[split][LEFT_OUT] += 1
                    continue
                file = folder.file(f"{photo.id}.jpg")
                posts += self.make_posts(split, photo, file, names, raw.irregularities[split])
            if self.config.objects not in ("none", "released"):
                add_own_crops(posts, Path(self.config.objects))
        if self.config.objects == "released":
            files.warnings.append(GOLD)
        raw.about = {
            "layout": files.layout,
            "edition": edition,
            "texts": self.config.relative(files.texts),
            "image folders": dict.fromkeys(SPLITS, self.config.relative(folder.path)),
            "objects": self.config.objects_said,
            "captions": self.config.captions,
            "phrases": self.config.phrases,
            "seed": self.config.seed,
            "sha256": sha256,
            "warnings": files.warnings,
        }
        return raw

    def make_posts(
        self, split: str, photo: Photo, file: Path | None, names: list[str], counts: Counter[str]
    ) -> Iterator[RawPost]:
        """The posts of the captions of a photo that are chosen; what is left out is added to the counts."""
        kept = self.choose_boxes(photo)
        if self.config.objects == "released":
            counts[BEYOND] += len(photo.boxes or ()) - len(kept)
        captions = photo.captions
        if captions and (
            self.config.captions == "one" or (self.config.captions == "one_in_train" and split == "train")
        ):
            captions = [random.Random(f"{self.config.seed} {photo.id}").choice(captions)]
        renamed = name_entities(photo, names, self.config.seed) if names else {}
        for caption in captions:
            words, entities = change_phrases(caption, self.config.phrases, renamed)
            boxes = [find_boxes(photo, entity.entity) for entity in entities]
            columns = {
                "id": f"{photo.id}#{caption.number}",
                "tokens": words,
                "ner_tags": make_tags(len(words), entities),
                "relations": None,
                "regions": [
                    self.find_region(photo, entity.entity, some, kept, counts)
                    for entity, some in zip(entities, boxes, strict=True)
                ],
                "entity_boxes": [[list(box) for box in some] for some in boxes],
                "object_boxes": [],
            }
            yield RawPost(columns, f"{photo.id}.jpg", file, [f"{photo.id}.jpg"] * len(kept), [file] * len(kept))

    def choose_boxes(self, photo: Photo) -> list[Box]:
        """The boxes of a photo that become crops, in an order that depends on no label."""
        if self.config.objects != "released":
            return []

        def key(box: Box) -> str:
            return hashlib.sha1(" ".join([photo.id, *(f"{side:.4f}" for side in box)]).encode()).hexdigest()

        return sorted(photo.boxes or (), key=key)[: self.config.max_objects]

    def find_region(
        self, photo: Photo, entity: str, boxes: list[Box], kept: list[Box], counts: Counter[str]
    ) -> int | None:
        """The position of the largest of the boxes of an entity that are crops; -1 or `None` without one."""
        if crops := [box for box in boxes if box in kept]:
            return kept.index(max(crops, key=lambda box: ((box[2] - box[0]) * (box[3] - box[1]), -kept.index(box))))
        if boxes:
            counts[LOST_REGION] += self.config.objects == "released"
            return None
        is_flagged = entity in photo.scene | photo.nobox
        counts[UNKNOWN] += not is_flagged
        return -1 if is_flagged else None

    def read_crops(self, post: RawPost, read: dict, counts: Counter) -> list[dict | None]:
        """Cut the crops of a post from its photo; those of the caption before are used again."""
        if self.config.objects != "released":
            return super().read_crops(post, read, counts)
        value = None if post.image_file is None else read[post.image_file][0]
        if value is None:
            return [None] * len(post.crops)
        if self.last[0] != post.image:
            photo = self.photos[str(post.image)]
            self.last = (post.image, *cut_boxes(value, self.choose_boxes(photo), photo.size, counts))
        _, crops, post.columns["object_boxes"] = self.last
        return list(crops)

    def make_report(self, folder: Path) -> dict:
        """Count what the finished Parquet files hold, and all that the raw files held."""
        report = super().make_report(folder)
        for split, counts in self.counts.items():
            report["splits"][split] = {"raw files": counts, **report["splits"][split]}
        return report


def cut_boxes(
    value: dict, boxes: list[Box], size: tuple[int, int], counts: Counter[str]
) -> tuple[list[dict], list[dict]]:
    """Cut boxes from a photo.

    Args:
        value: the photo, as a value of an `Image` column.
        boxes: as shares of its width and height.
        size: width and height that the annotation states.
        counts: small crops, and photos of other proportions, are added to it.

    Returns:
        The crops, each of a pixel at least, and the values of object_boxes.
    """
    picture = load_picture(value)
    width, height = picture.size
    counts[STRETCHED] += bool(boxes) and abs(width * size[1] / (height * size[0]) - 1) > PROPORTIONS
    crops, places = [], []
    stem = Path(value["path"]).stem
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        left, top = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
        box = left, top, max(round(x1 * width), left + 1), max(round(y1 * height), top + 1)
        counts[SMALL] += min((x1 - x0) * width, (y1 - y0) * height) < SMALL_SIDE
        crops.append(encode_crop(picture.crop(box), f"{stem}_{number}", jpeg=True))
        places.append({"box": list(box), "score": None, "label": None})
    return crops, places


def find_boxes(photo: Photo, entity: str) -> list[Box]:
    """The boxes of an entity, in the order of the file."""
    return [box for box, entities in (photo.boxes or {}).items() if entity in entities]


def make_tags(length: int, entities: list[Phrase]) -> list[str]:
    """The BIO tag of each word; the type of an entity is its first one."""
    tags = ["O"] * length
    for entity in entities:
        kind = entity.types[0]
        tags[entity.start : entity.end] = [f"B-{kind}"] + [f"I-{kind}"] * (entity.end - entity.start - 1)
    return tags


def change_phrases(caption: Caption, phrases: str, names: dict[str, str]) -> tuple[list[str], list[Phrase]]:
    """The words of a caption and its visual phrases, which are left, masked or named.

    Args:
        caption: the caption, which is left as it is.
        phrases: one of `PHRASES`.
        names: of the entities, for "invented_names".
    """
    words: list[str] = []
    entities: list[Phrase] = []
    end = 0
    for phrase in caption.phrases:
        if phrase.is_visual:
            words += caption.words[end : phrase.start]
            end, new = phrase.end, caption.words[phrase.start : phrase.end]
            if phrases == "heads_masked":
                new = [*new[:-1], MASK]
            elif phrases == "invented_names":
                new = [names[phrase.entity]]
            entities.append(phrase._replace(start=len(words), end=len(words) + len(new)))
            words += new
    return words + caption.words[end:], entities


def invent_names(photos: list[Photo], seed: int) -> list[str]:
    """Invent names of three syllables, of which none is a word of a caption."""
    words = {word.lower() for photo in photos for caption in photo.captions for word in caption.words}
    rng = random.Random(f"{seed} names")
    names: dict[str, None] = {}
    while len(names) < NAMES:
        name = "".join(rng.choices(SYLLABLES, k=3))
        if name not in words:
            names[name.capitalize()] = None
    return list(names)


def name_entities(photo: Photo, names: list[str], seed: int) -> dict[str, str]:
    """Draw another name for each entity that the captions of a photo name; types play no part."""
    entities = sorted({phrase.entity for caption in photo.captions for phrase in caption.phrases}, key=int)
    return dict(zip(entities, random.Random(f"{seed} {photo.id} names").sample(names, len(entities)), strict=True))


def count_photos(photos: list[Photo]) -> dict[str, int | dict[str, int]]:
    """Count photos, captions, words, phrases and boxes as the raw files hold them."""
    captions = [caption for photo in photos for caption in photo.captions]
    phrases = [(phrase, photo) for photo in photos for caption in photo.captions for phrase in caption.phrases]
    types = Counter(phrase.types[0] for phrase, _ in phrases)
    boxed = {photo.id: photo.boxed for photo in photos}
    with_box = sum(phrase.entity in boxed[photo.id] for phrase, photo in phrases)
    return {
        "photos": len(photos),
        "captions": len(captions),
        "words": sum(len(caption.words) for caption in captions),
        "phrases": len(phrases),
        "phrases with a box": with_box,
        "visual phrases without a box": len(phrases) - types[NOT_VISUAL] - with_box,
        "boxes": sum(len(photo.boxes or ()) for photo in photos),
        "phrases by first type": {kind: types[kind] for kind in (*TYPES, NOT_VISUAL)},
    }


def find_texts(photos: list[Photo]) -> dict[str, set[str]]:
    """The photos that have a caption of the same words, by these in lower case."""
    texts: dict[str, set[str]] = {}
    for photo in photos:
        for caption in photo.captions:
            texts.setdefault(" ".join(caption.words).lower(), set()).add(photo.id)
    return texts


def count_irregularities(photos: list[Photo], texts: dict[str, set[str]]) -> Counter[str]:
    """Count the irregularities of the captions and boxes of a split; `texts` are those of train."""
    counts: Counter[str] = Counter()
    for photo in photos:
        types: dict[str, set[str]] = {}
        for caption in photo.captions:
            counts[TRAIN_CAPTION] += bool(texts.get(" ".join(caption.words).lower(), set()) - {photo.id})
            for phrase in caption.phrases:
                counts[SEVERAL_TYPES] += len(phrase.types) > 1
                types.setdefault(phrase.entity, set()).add(phrase.types[0])
        counts[OTHER_TYPES] += sum(len(kinds) > 1 for kinds in types.values())
        counts[UNNAMED] += len((photo.boxed | photo.scene | photo.nobox) - types.keys())
        counts[SHARED] += sum(len(entities) > 1 for entities in (photo.boxes or {}).values())
        counts[BOTH_FLAGS] += len(photo.scene & photo.nobox)
    return counts


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(Flickr30kEntities, __doc__ or "")
    parser.add_argument(
        "--objects",
        default="released",
        metavar="released|none|DIR",
        help="crops: the annotated boxes (default), none, or DIR/NAME/* for photo NAME.jpg",
    )
    parser.add_argument("--max_objects", type=int, help="most crops per photo (default: all)")
    parser.add_argument(
        "--captions",
        choices=CAPTIONS,
        default="all",
        help="all five captions of a photo (default), one drawn at random, or one in train and all elsewhere",
    )
    parser.add_argument(
        "--phrases",
        choices=PHRASES,
        default="whole",
        help="entities as they are, with their last word masked, or as invented names (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the captions and names (default: 0)")
    args = parser.parse_args(arguments)
    refuse_public_push(parser, args, "the photos and captions")
    options = {name: getattr(args, name) for name in ("objects", "max_objects", "captions", "phrases", "seed")}
    finish(parser, Flickr30kEntities, args, **options)
