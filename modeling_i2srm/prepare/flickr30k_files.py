"""Reads the captions, boxes and splits of Flickr30k Entities, in the original layout or as two JSONL files."""

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .conll import Problem
from .gmner import read_voc
from .picture_files import folders_below, is_plain_name
from .text_files import read_text, split_lines, undecodable

TYPES = ("people", "clothing", "bodyparts", "animals", "vehicles", "instruments", "scene", "other")
NOT_VISUAL = "notvisual"
SPLITS = {"train": "train", "validation": "val", "test": "test"}
FILES = ("sentences.jsonl", "boxes.jsonl")
EQUAL_BOXES = "boxes that equal another one of their photo, taken as one"
NO_BOXES = "photos whose boxes are absent or cannot be read"
UNRELATED = "UNRELATED_CAPTIONS"

Box = tuple[float, float, float, float]


class Phrase(NamedTuple):
    """A phrase of a caption: its words, the end exclusive, the number of its entity, and its types."""

    start: int
    end: int
    entity: str
    types: tuple[str, ...]

    @property
    def is_visual(self) -> bool:
        return self.types != (NOT_VISUAL,)


class Caption(NamedTuple):
    """A caption: its place among those of its photo, its words and phrases."""

    number: int
    words: list[str]
    phrases: list[Phrase]


@dataclass
class Photo:
    """A photo with its captions and annotated boxes.

    Args:
        id: the name of its file without the ending.
        captions: those that could be read.
        boxes: the numbers of the entities of each box; a box is left, top, right and bottom as shares of the width and
            the height, rounded to 4 digits. `None` where they are absent or cannot be read.
        scene, nobox: the entities with these flags.
        size: width and height that the annotation states.
    """

    id: str
    captions: list[Caption]
    boxes: dict[Box, list[str]] | None = None
    scene: frozenset[str] = frozenset()
    nobox: frozenset[str] = frozenset()
    size: tuple[int, int] = (0, 0)

    @property
    def boxed(self) -> set[str]:
        """The entities that have a box."""
        return {entity for entities in (self.boxes or {}).values() for entity in entities}


@dataclass
class FlickrFiles:
    """The photos of each split, sorted by id as text, with the problems, counts and warnings of the files."""

    layout: str
    texts: Path
    photos: dict[str, list[Photo]]
    problems: list[Problem]
    irregularities: dict[str, Counter[str]]
    warnings: list[str]


def read_files(root: Path) -> FlickrFiles:
    """Find the files of one of the layouts in or below a folder and read them.

    Raises:
        FileNotFoundError: they are not there, or more than once.
        ValueError: a photo is in two splits.
    """
    folders = list(folders_below(root))
    jsonl = [folder for folder, files in folders if set(FILES) <= set(files)]
    texts = [folder for folder, _ in folders if all((folder / name).is_dir() for name in ("Sentences", "Annotations"))]
    if len(jsonl) == 1 and not texts:
        return read_jsonl(jsonl[0])
    splits = [folder for folder, files in folders if {f"{name}.txt" for name in SPLITS.values()} <= set(files)]
    if len(texts) == 1 and len(splits) == 1 and not jsonl:
        return read_original(texts[0], splits[0])
    places = ", ".join(map(str, sorted([*jsonl, *texts, *splits]))) or "none"
    raise FileNotFoundError(
        f"{root}: expected one folder with {' and '.join(FILES)}, or one with Sentences and Annotations and one with "
        f"train.txt, val.txt and test.txt; such folders: {places}; e.g. --data_dir RAW where "
        "RAW/flickr30k_entities/Sentences/36979.txt exists"
    )


def read_jsonl(folder: Path) -> FlickrFiles:
    """Read the layout with a line per photo, in one file of captions and one of boxes."""
    files = FlickrFiles("two JSONL files", folder, {s: [] for s in SPLITS}, [], {s: Counter() for s in SPLITS}, [])
    names = {short: split for split, short in SPLITS.items()}
    rows = {name: read_lines(folder / name, files.problems) for name in FILES}
    sentences, annotations = rows[FILES[0]], rows[FILES[1]]
    for id, (line, row) in sorted(sentences.items()):
        try:
            split = names.get(str(row.get("split")))
            if split is None:
                raise ValueError(f"split={row.get('split')!a:.40} must be one of {', '.join(names)}")
            if not isinstance(lines := row.get("sentences"), list) or not all(isinstance(one, str) for one in lines):
                raise ValueError(f"sentences must be a list of texts, got {lines!a:.80}")
        except ValueError as error:
            files.problems.append(Problem(FILES[0], line, str(error)))
            continue
        photo = Photo(id, read_captions(lines, FILES[0], files.problems, line))
        if id in annotations:
            line, row = annotations[id]
            try:
                set_annotation(photo, files.irregularities[split], *read_row(row))
            except (ValueError, TypeError, KeyError) as error:
                files.problems.append(Problem(FILES[1], line, f"{type(error).__name__}: {str(error)[:300]}"))
        add_photo(files, split, photo)
    if others := sorted(annotations.keys() - sentences.keys()):
        files.warnings.append(f"{FILES[1]}: {len(others)} photos have no captions: {', '.join(others[:5])}")
    return files


def add_photo(files: FlickrFiles, split: str, photo: Photo) -> None:
    files.photos[split].append(photo)
    files.irregularities[split][NO_BOXES] += photo.boxes is None


def read_lines(path: Path, problems: list[Problem]) -> dict[str, tuple[int, dict]]:
    """The number and the object of each line, by the id of its photo."""
    rows: dict[str, tuple[int, dict]] = {}
    for number, line in enumerate(split_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(id := row.get("id"), str) or not is_plain_name(id):
                raise ValueError(f'expected an object with the id of a photo, e.g. {{"id": "36979"}}, got {line!a:.80}')
            if id in rows:
                raise ValueError(f"photo {id} is in line {rows[id][0]}, too")
            rows[id] = number, row
        except (ValueError, RecursionError) as error:
            problems.append(Problem(path.name, number, str(error)[:300]))
    return rows


def read_row(row: dict) -> tuple[tuple[int, int], list[tuple[Box, list[str]]], list[str], list[str]]:
    """Size, boxes with their entities, and the entities of both flags, of a line of boxes.jsonl."""
    boxes = []
    for one in row["boxes"]:
        sides = one["box"]
        if not isinstance(sides, list) or [type(side) in (int, float) for side in sides] != [True] * 4:
            raise ValueError(f"box must be four numbers, got {sides!a:.80}")
        boxes.append(((sides[0], sides[1], sides[2], sides[3]), one["entities"]))
    for entities in [row["scene"], row["nobox"], *(entities for _, entities in boxes)]:
        if not isinstance(entities, list) or not all(isinstance(entity, str) for entity in entities):
            raise ValueError(f"the entities must be a list of numbers as texts, got {entities!a:.80}")
    if type(row["width"]) is not int or type(row["height"]) is not int:
        raise ValueError(f"width and height must be whole numbers, got {row['width']!a:.20} and {row['height']!a:.20}")
    return (row["width"], row["height"]), boxes, row["scene"], row["nobox"]


def set_annotation(
    photo: Photo,
    counts: Counter[str],
    size: tuple[int, int],
    boxes: Iterable[tuple[Box, list[str]]],
    scene: Iterable[str],
    nobox: Iterable[str],
) -> None:
    """Give a photo its boxes, as shares of the width and height; equal ones become one, which is counted."""
    entities: dict[Box, list[str]] = {}
    for box, names in boxes:
        left, top, right, bottom = box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"the box {list(box)} of {', '.join(names)} is empty or not in the photo, 0 to 1")
        counts[EQUAL_BOXES] += box in entities
        known = entities.setdefault(box, [])
        known += [name for name in names if name not in known]
    if min(size) < 1:
        raise ValueError(f"a photo of {size[0]} x {size[1]} pixels")
    photo.boxes, photo.scene, photo.nobox, photo.size = entities, frozenset(scene), frozenset(nobox), size


def read_original(texts: Path, splits: Path) -> FlickrFiles:
    """Read Sentences/ID.txt, Annotations/ID.xml and the ids of each split, as they are published."""
    files = FlickrFiles("the original one", texts, {s: [] for s in SPLITS}, [], {s: Counter() for s in SPLITS}, [])
    ids = {split: read_text(splits / f"{short}.txt").split() for split, short in SPLITS.items()}
    uses = Counter(id for names in ids.values() for id in names)
    if repeated := [id for id, count in uses.items() if count > 1]:
        raise ValueError(f"{splits}: {len(repeated)} photos are in the splits more than once, e.g. {repeated[0]}")
    for split, names in ids.items():
        for id in sorted(names):
            sentences, annotation = texts / "Sentences" / f"{id}.txt", texts / "Annotations" / f"{id}.xml"
            if not is_plain_name(id) or not sentences.is_file():
                files.problems.append(Problem(f"{SPLITS[split]}.txt", names.index(id) + 1, f"no Sentences/{id}.txt"))
                continue
            photo = Photo(id, read_captions(split_lines(read_text(sentences)), sentences.name, files.problems))
            if annotation.is_file():
                try:
                    set_annotation(photo, files.irregularities[split], *read_annotation(annotation))
                except (ValueError, ElementTree.ParseError) as error:
                    files.problems.append(Problem(annotation.name, 1, str(error)[:300]))
            add_photo(files, split, photo)
    if others := sorted({path.stem for path in (texts / "Sentences").glob("*.txt")} - uses.keys()):
        files.warnings.append(f"{len(others)} photos with captions are in no split: {', '.join(others[:5])}")
    if any((folder / UNRELATED).is_file() for folder in (texts, splits)):
        files.warnings.append(f"the captions that {UNRELATED} lists are kept")
    return files


def read_annotation(path: Path) -> tuple[tuple[int, int], list[tuple[Box, list[str]]], list[str], list[str]]:
    """Size, boxes with their entities, and the entities of both flags, of an XML file.

    Raises:
        ValueError, ElementTree.ParseError: as of `read_voc`, or an invalid number.
    """
    root = read_voc(path)
    width, height = (int(root.findtext(f"size/{name}") or "0") for name in ("width", "height"))
    if min(width, height) < 1:
        raise ValueError(f"a photo of {width} x {height} pixels")
    boxes: list[tuple[Box, list[str]]] = []
    scene: list[str] = []
    nobox: list[str] = []
    for element in root.iter("object"):
        names = [(name.text or "").strip() for name in element.iter("name")]
        if (box := element.find("bndbox")) is not None:
            x0, y0, x1, y1 = (float(box.findtext(side) or "nan") for side in ("xmin", "ymin", "xmax", "ymax"))
            shares = round(x0 / width, 4), round(y0 / height, 4), round(x1 / width, 4), round(y1 / height, 4)
            boxes.append((shares, names))
        scene += names if element.findtext("scene") == "1" else []
        nobox += names if element.findtext("nobndbox") == "1" else []
    return (width, height), boxes, scene, nobox


def read_captions(lines: list[str], file: str, problems: list[Problem], line: int | None = None) -> list[Caption]:
    """Parse the captions of a photo; those that cannot be read are problems.

    Args:
        lines: a caption each; empty ones count, and are left out.
        file: its name, for problems.
        problems: are added to it.
        line: the number of the line that holds all captions; default: each has its own.
    """
    captions = []
    for number, text in enumerate(lines):
        try:
            if reason := undecodable(text):
                raise ValueError(reason)
            if text.strip():
                captions.append(Caption(number, *parse_caption(text)))
        except ValueError as error:
            where = f"caption {number}: " if line else ""
            problems.append(Problem(file, line or number + 1, f"{where}{error}"))
    return captions


def parse_caption(text: str) -> tuple[list[str], list[Phrase]]:
    """The words of a caption, cut at spaces, and its phrases.

    Raises:
        ValueError: names a bracket that cannot be read, a type that is not known, or a phrase without words.

    >>> parse_caption("[/EN#1/people Two guys] wave at [/EN#0/notvisual it] .")
    (['Two', 'guys', 'wave', 'at', 'it', '.'], [Phrase(start=0, end=2, entity='1', types=('people',)), \
Phrase(start=4, end=5, entity='0', types=('notvisual',))])
    """
    words: list[str] = []
    phrases: list[Phrase] = []
    opened: tuple[int, str, tuple[str, ...]] | None = None
    for piece in text.split(" "):
        if piece.startswith("[/EN#") and opened is None:
            opened = len(words), *read_head(piece)
            continue
        closes = opened is not None and piece.endswith("]")
        word = piece[:-1] if closes else piece
        if "[" in word or "]" in word:
            raise ValueError(f"a bracket that opens or closes no phrase: {piece!a:.80}")
        words += [word] if word else []
        if closes and opened:
            start, entity, types = opened
            if start == len(words):
                raise ValueError(f"phrase EN#{entity} has no words")
            phrases.append(Phrase(start, len(words), entity, types))
            opened = None
    if opened:
        raise ValueError(f"phrase EN#{opened[1]} is not closed")
    return words, phrases


def read_head(piece: str) -> tuple[str, tuple[str, ...]]:
    """The number of the entity and the types of `[/EN#1/people`."""
    entity, *types = piece.removeprefix("[/EN#").split("/")
    is_none = types == [NOT_VISUAL]
    if not types or not (is_none or set(types) <= set(TYPES)):
        raise ValueError(f"{piece!a:.80}: expected types of {', '.join(TYPES)}, {NOT_VISUAL}, e.g. [/EN#1/people")
    if not (entity.isascii() and entity.isdecimal()) or (entity == "0") != is_none:
        raise ValueError(f"{piece!a:.80}: expected the number of an entity, which is 0 for {NOT_VISUAL} alone")
    return entity, tuple(types)
