"""Visual posts: a small made-up data set of posts with entities and relations that often only the picture shows.

    python dataset_scripts/visual_posts.py --output_dir data/visual_posts

Every name (Jordan, Amazon, Mercedes ...) may be a person, a place, an organisation or something else. In a third of
the relations the words tell all ("Jordan married Chelsea"). In the others they fit several types and relations
("singer Jordan with Chelsea again"), and pictograms in the picture decide: a factory says that Chelsea is an
organisation, a heart that the two are a couple, a jersey that Jordan is a member of Chelsea.

- Every pictogram has one meaning, a type or a relation. That of a relation relates every pair that it fits in the
  sentence that the words leave open. The region of an entity is the crop with the pictogram of its type, or -1.
- Which way a relation points: the head of /per/per/couple and /per/per/peer is the person who comes first in the text;
  the head of /per/org/member_of, /per/loc/place_of_residence and /per/misc/present_in is the person; the head of
  /org/loc/locate_at is the organisation.
- A post has zero to three relations, in one or two clauses; pairs across clauses are unrelated. Some posts have no
  picture, and some of the names of the validation and test posts never occur in training.

A seed gives the same rows each time; nothing is downloaded. `report.json` has under "ceilings" what readers reach on
the test posts who know every sentence and all probabilities, and see only the text, only the crops, or both.
"""

import io
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import datasets
from PIL import Image, ImageDraw

from ..support.digests import hash_file
from ..support.options import OptionParser
from .builder import NER_TAGS, FreshConfig, joint_features, write_parquet
from .pictograms import PICTOGRAMS, SIZE, cut_objects, draw_picture
from .visual_readers import find_ceilings
from .visual_scenes import POSTS, RELATIONS, TYPES, Clause, Scene, list_scenes
from .visual_words import CLUES, JOINTS, decorate, fill, split_names

CODE = ("visual_posts.py", "visual_scenes.py", "visual_words.py", "pictograms.py")
T = TypeVar("T")


class Deck(Generic[T]):
    """Deals items in random order; each is dealt once before any is repeated."""

    def __init__(self, rng: random.Random, items: list[T]):
        self.rng, self.items = rng, items
        self.left: list[T] = []

    def draw(self) -> T:
        if not self.left:
            self.left = self.rng.sample(self.items, len(self.items))
        return self.left.pop()


class Names:
    """Draws the names of a split: each equally often as each type; one in five occurs in this split only."""

    def __init__(self, rng: random.Random, split: str, seed: int):
        self.rng, self.split = rng, split
        self.decks = {
            (pool, type, open): Deck(rng, names)
            for pool, names in split_names(seed).items()
            for type in TYPES
            for open in (False, True)
        }

    def draw(self, type: str, open: bool, others: list[str]) -> str:
        """Draw a name other than those of the post so far."""
        deck = self.decks[self.split if self.rng.random() < 0.2 else "train", type, open]
        return next(name for name in iter(deck.draw, None) if name not in others)


def write_clause(rng: random.Random, clause: Clause, names: list[str]) -> tuple[list[str], list[str]]:
    """Draw a sentence, put in the names and what tells their types, and return its words and tags."""
    sentence = rng.choice(clause.sentences)
    if not clause.told:
        types = zip(clause.types, clause.open, strict=True)
        slots = iter(["{}" if open else rng.choice(CLUES[type]) for type, open in types])
        sentence = re.sub("{}", lambda _: next(slots), sentence)
    return fill(sentence, list(zip(names, clause.types, strict=True)))


def write_words(rng: random.Random, scene: Scene, names: Names) -> tuple[list[str], list[str]]:
    """Put a scene into words and return them and their tags."""
    words: list[str] = []
    tags: list[str] = []
    drawn: list[str] = []
    for clause in scene.clauses:
        if words and not clause.tail:
            joint = rng.choice(JOINTS).split()
            words, tags = words + joint, tags + ["O"] * len(joint)
        before = len(drawn)
        for type, open in zip(clause.types, clause.open, strict=True):
            drawn.append(names.draw(type, open, drawn))
        more, more_tags = write_clause(rng, clause, drawn[before:])
        words, tags = words + more, tags + more_tags
    return decorate(rng, words, tags)


def make_posts(
    split: str, count: int, seed: int = 0, shares: tuple[tuple[str, float], ...] = POSTS
) -> Iterator[tuple[Scene, dict]]:
    """Make the posts of a split.

    Args:
        split: "train", "validation" or "test".
        count: The number of posts.
        seed: The same seed gives the same rows.
        shares: The kinds of posts and the probability of each.

    Yields:
        The scene, and the row, with names of tags and relations and with PIL pictures.
    """
    rng = random.Random(f"{seed}-{split}")
    names = Names(rng, split, seed)
    scenes, weights = list_scenes(shares)
    for index, scene in enumerate(rng.choices(scenes, cum_weights=list(itertools.accumulate(weights)), k=count)):
        words, tags = write_words(rng, scene, names)
        image: Image.Image | None = None
        objects: list[Image.Image] = []
        kinds: list[str | None] = []
        if scene.kinds is not None:
            picture_rng = random.Random(f"{seed}-{split}-{index}")
            picture = draw_picture(picture_rng, scene.kinds)
            image, (objects, kinds) = picture.image, cut_objects(picture_rng, picture)
        yield (
            scene,
            {
                "id": f"{split}-{index:05d}",
                "tokens": words,
                "ner_tags": tags,
                "relations": [
                    {"head": head, "tail": tail, "label": label}
                    for head, label, tail in sorted(scene.triples, key=lambda triple: (triple[0], triple[2]))
                ],
                "regions": [kinds.index(type) if type in kinds else -1 for type in scene.types],
                "image": image,
                "objects": objects,
            },
        )


def encode_picture(picture: Image.Image) -> dict[str, bytes | None]:
    """Return a picture as a JPEG file, as a row stores it; PNG takes six times as long."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92, subsampling=0)
    return {"bytes": file.getvalue(), "path": None}


def encode_pictures(row: dict) -> dict:
    """Return a row whose pictures are files."""
    image = row["image"] and encode_picture(row["image"])
    return {**row, "image": image, "objects": [encode_picture(crop) for crop in row["objects"]]}


def count_posts(scenes: list[Scene]) -> dict[str, int | dict]:
    """Count posts, entities and relations, and what tells them."""
    clauses = [clause for scene in scenes for clause in scene.clauses]
    types = Counter(type for clause in clauses for type in clause.types)
    labels = Counter(label for clause in clauses for _, label, _ in clause.triples)
    opens = sum(sum(clause.open) for clause in clauses)
    told = sum(len(clause.triples) for clause in clauses if clause.told)
    numbers = Counter(len(scene.triples) for scene in scenes)
    return {
        "posts": len(scenes),
        "posts_without_picture": sum(scene.kinds is None for scene in scenes),
        "posts_by_relations": {str(number): numbers[number] for number in range(4)},
        "entities": {type: types[type] for type in TYPES},
        "entities_told_by": {"text": types.total() - opens, "picture": opens},
        "entities_shown": sum(type in (scene.kinds or ()) for scene in scenes for type in scene.types),
        "relations": {label: labels[label] for label in RELATIONS[1:]},
        "relations_told_by": {"text": told, "picture": labels.total() - told},
    }


@dataclass
class VisualPostsConfig(FreshConfig):
    """The number of posts of each split, and the seed."""

    seed: int = 0
    train: int = 4500
    validation: int = 400
    test: int = 500

    def raw_fingerprint(self) -> str:
        """Return a hash of the code that makes the posts."""
        return "".join(hash_file(Path(__file__).with_name(name)) for name in CODE)


class VisualPosts(datasets.GeneratorBasedBuilder):
    """Builder of the visual posts."""

    BUILDER_CONFIG_CLASS = VisualPostsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=joint_features(NER_TAGS, RELATIONS))

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        self.counts: dict[str, dict] = {}
        self.ceilings: dict[str, dict[str, float]] = {}
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "count": getattr(self.config, split)})
            for split in ("train", "validation", "test")
        ]

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        scenes = []
        for key, (scene, row) in enumerate(make_posts(split, count, self.config.seed)):
            scenes.append(scene)
            yield key, encode_pictures(row)
        self.counts[split] = count_posts(scenes)
        if split == "test":
            self.ceilings = find_ceilings(scenes)

    def make_report(self, folder: Path) -> dict:
        """Count posts, entities and relations, and score the readers on the test posts."""
        return {
            "dataset": "visual_posts",
            "seed": self.config.seed,
            "splits": self.counts,
            "ceilings": self.ceilings,
        }


def contact_sheet(seed: int, count: int = 240, columns: int = 12) -> Image.Image:
    """Return pictures of so many posts with their crops below: a line for each kind of pictogram that they show."""
    rows: dict[str, list[dict]] = {kind: [] for kind in [*PICTOGRAMS, "nothing"]}
    for scene, row in make_posts("test", count, seed):
        for kind in scene.kinds or ["nothing"]:
            if row["image"] is not None:
                rows[kind].append(row)
    margin = 16 + 6 * max(map(len, rows))
    width, height = 2 * SIZE + 8, 2 * SIZE + 56
    sheet = Image.new("RGB", (margin + columns * width, len(rows) * height), "white")
    for line, kind in enumerate(rows):
        ImageDraw.Draw(sheet).text((4, line * height + SIZE), kind, fill="black")
        for column, row in enumerate(rows[kind][:columns]):
            x, y = margin + column * width, line * height
            sheet.paste(row["image"].resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST), (x, y))
            for place, crop in enumerate(row["objects"]):
                sheet.paste(crop.resize((40, 40)), (x + 43 * place, y + 2 * SIZE + 3))
    return sheet


def run(builder_class: type[VisualPosts], description: str, output_dir: str, arguments: list[str] | None) -> None:
    """Make a data set and its contact sheet as the command line says, and print its report."""
    config = builder_class.BUILDER_CONFIG_CLASS
    parser = OptionParser(f"{Path(output_dir).name}.py", description=description.splitlines()[0])
    parser.add_argument("-o", "--output_dir", type=Path, default=Path(output_dir), help="the data set to write")
    parser.add_argument("--contact_sheet", type=Path, help="picture of a sample to write (default: OUTPUT_DIR.png)")
    parser.add_argument("--seed", type=int, default=config.seed, help="seed of the posts")
    parser.add_argument("--train", type=int, default=config.train, help="number of training posts")
    parser.add_argument("--validation", type=int, default=config.validation, help="number of validation posts")
    parser.add_argument("--test", type=int, default=config.test, help="number of test posts")
    args = parser.parse_args(arguments)

    counts = {"train": args.train, "validation": args.validation, "test": args.test}
    builder = write_parquet(builder_class, args.output_dir, seed=args.seed, **counts)
    sheet = args.contact_sheet or args.output_dir.with_name(args.output_dir.name + ".png")
    contact_sheet(args.seed).save(sheet)
    for split, counts in builder.report["splits"].items():
        print(f"{split}: {counts}")
    for sees, scores in builder.report.get("ceilings", {}).items():
        print(f"ceiling, {sees}: " + ", ".join(f"{name} {100 * score:.1f}" for name, score in scores.items()))
    print(f"wrote {args.output_dir} and {sheet}")


def main(arguments: list[str] | None = None) -> None:
    run(VisualPosts, __doc__, "data/visual_posts", arguments)
