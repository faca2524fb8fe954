"""MNRE: relations between entities of tweets with pictures, from the released files to Parquet.

    python dataset_scripts/mnre.py --data_dir RAW --output_dir data/mnre
    python dataset_scripts/mnre.py --data_dir RAW --output_dir data/mnre_posts --posts

RAW holds the texts (`ours_train.txt` and so on in HVPNeT's layout, `mnre_train.txt` and so on in the original one) and
the folders of the pictures; the script finds them. A post whose picture is absent or cannot be read is kept without it.

--posts makes a row of each post (the rows of the same words and picture), with all its entities and relations, as
examples/run_joint.py, run_mner.py and run_mre.py read it. All entities are of one type, ENTITY: a relation names the
types of its entities, and most entities have none. A pair that is annotated as unrelated is a relation called None.
A word has one tag, so that of entities that overlap the longest is kept; report.json lists the others, and the
relations that are lost with them.

The crops that are released with the data (`--objects released`) leak the labels: see docs/concepts/leak.md. With
--posts they are refused: they belong to pairs.
"""

import ast
import json
import re
import warnings
from collections import Counter
from pathlib import Path

import datasets

from ..checks import NO_RELATION
from ..support.digests import hash_file
from .builder import (
    PostsBuilder,
    RawData,
    RawPost,
    add_crops,
    add_own_crops,
    is_text,
    mner_features,
    mre_features,
    relation_features,
)
from .command import run
from .conll import Problem
from .exchange import SECOND, SHORTER, Row, read_labels
from .known_files import KNOWN_FILES, TWEETS
from .picture_files import find_picture_folder, folders_below, is_plain_name

RELATIONS = [
    "None",
    "/per/per/parent",
    "/per/per/siblings",
    "/per/per/couple",
    "/per/per/neighbor",
    "/per/per/peer",
    "/per/per/charges",
    "/per/per/alumi",
    "/per/per/alternate_names",
    "/per/org/member_of",
    "/per/loc/place_of_residence",
    "/per/loc/place_of_birth",
    "/org/org/alternate_names",
    "/org/org/subsidiary",
    "/org/loc/locate_at",
    "/loc/loc/contain",
    "/per/misc/present_in",
    "/per/misc/awarded",
    "/per/misc/race",
    "/per/misc/religion",
    "/per/misc/nationality",
    "/misc/misc/part_of",
    "/misc/loc/held_on",
]
SPLITS = {"train": "train", "validation": "val", "test": "test"}
TEXT_NAME = r"(ours|mnre)_{} ?\.txt"  # the original validation file is called "mnre_val .txt"
EDITION = "MNRE version 2 (github.com/thecharm/MNRE)"
LEAK = (
    "made with MNRE's released crops, whose number gives the label away: two, and one more for each type but misc in "
    "the name of the relation. Results on this data do not show what a model reads from text and pictures"
)

ENTITY = "ENTITY"
TYPED = "entities whose type a relation names"
LOST = "relations whose entities overlap, left out"
ONE_ENTITY = "pairs of an entity with itself, left out"

PICTURES = """\
Download the pictures of MNRE by hand, with a browser, from Google Drive:
  https://drive.google.com/file/d/1FYiJFtRayWY32nRH0rdycYzIdDcMmDFR/view  (by the authors of MNRE)
and, with crops, from the address in the README of github.com/zjunlp/HVPNeT.
Unpack them anywhere below {data_dir} (RE_data/img_org/train and so on in HVPNeT's layout) and run again."""

CITATION = """
@inproceedings{zheng2021mnre,
  title = {MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual Evidence in Social Media
           Posts},
  author = {Zheng, Changmeng and Wu, Zhiwei and Feng, Junhao and Fu, Ze and Cai, Yi},
  booktitle = {2021 IEEE International Conference on Multimedia and Expo (ICME)},
  year = {2021}
}"""


class Mnre(PostsBuilder):
    """Builder of MNRE."""

    NAME = "mnre"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="MNRE: relations between entities of tweets with pictures.",
            features=mre_features(RELATIONS),
            citation=CITATION,
            license=TWEETS,
        )

    def read_raw(self) -> RawData:
        root, paths = self.config.root, self.find_texts()
        raw = RawData(splits={}, problems=[], irregularities={}, pictures={}, about={})
        unknown, sha256, warned = [], {}, []
        for split, path in paths.items():
            sha256[split] = hash_file(path)
            if sha256[split] != KNOWN_FILES["mnre"][split].sha256:
                unknown.append(path.name)
            rows, problems = read_rows(path)
            raw.problems += problems
            raw.irregularities[split] = Counter(count_irregularities([row for _, row in rows]))

            pictures = find_picture_folder(Path(self.config.image_dir or root), {row["img_id"] for _, row in rows})
            raw.pictures[split] = pictures
            posts = raw.splits[split] = []
            for number, row in rows:
                columns = {
                    "id": f"{split}-{number:05d}",
                    "tokens": row["token"],
                    "head": dict(zip(("start", "end"), row["h"]["pos"], strict=True)),
                    "tail": dict(zip(("start", "end"), row["t"]["pos"], strict=True)),
                    "relation": row["relation"],
                }
                posts.append(RawPost(columns, row["img_id"], pictures.file(row["img_id"])))

            if self.config.objects == "released":
                keys = [number for number, _ in rows]
                raw.irregularities[split] += add_crops(posts, keys, crop_index(root, split), root)
            elif self.config.objects != "none":
                add_own_crops(posts, Path(self.config.objects))

        if unknown:
            warned.append(f"not the files of {EDITION}, with which figures can be compared: {', '.join(unknown)}")
        warned += check_relation_file(root)
        if self.config.objects == "released":
            warned.append(LEAK)
        hvpnet = paths["train"].name.startswith("ours_")
        raw.about = {
            "layout": "HVPNeT" if hvpnet else "the original one of MNRE",
            "edition": "unknown" if unknown else EDITION,
            "texts": {split: self.config.relative(path) for split, path in paths.items()},
            "image folders": {split: self.config.relative(folder.path) for split, folder in raw.pictures.items()},
            "objects": self.config.objects_said,
            "sha256": sha256,
            "warnings": warned,
        }
        return raw

    def find_texts(self) -> dict[str, Path]:
        """Return the text file of each split."""
        root = self.config.root
        candidates: dict[str, list[Path]] = {split: [] for split in SPLITS}
        for folder, files in folders_below(root):
            for split, short in SPLITS.items():
                candidates[split] += [folder / name for name in files if re.fullmatch(TEXT_NAME.format(short), name)]
        for split, paths in candidates.items():
            if len(paths) != 1:
                named = ", ".join(map(str, paths)) or "none"
                short = SPLITS[split]
                raise FileNotFoundError(
                    f"{root}: expected one file ours_{short}.txt or mnre_{short}.txt, found {named}; e.g. --data_dir "
                    f"RAW where RAW/RE_data/txt/ours_{short}.txt exists, or --download to fetch the texts"
                )
        return {split: paths[0] for split, paths in candidates.items()}


class MnrePosts(Mnre):
    """Builder of MNRE as whole posts, with all entities and relations of each."""

    NAME = "mnre_posts"
    overlapping: list[dict]

    def _info(self) -> datasets.DatasetInfo:
        info = super()._info()
        info.description = "MNRE as posts: entities of tweets with pictures, and the relations between them."
        info.features = mner_features(["O", f"B-{ENTITY}", f"I-{ENTITY}"])
        pictures = {name: info.features.pop(name) for name in ("image", "objects")}
        info.features |= relation_features(RELATIONS) | pictures
        return info

    def read_raw(self) -> RawData:
        if self.config.objects == "released":
            raise ValueError("--posts with --objects released: these crops belong to pairs; leave one of them out")
        raw = super().read_raw()
        self.overlapping = []
        for split, rows in raw.splits.items():
            raw.splits[split] = self.join_rows(split, rows, raw.irregularities[split])
        return raw

    def join_rows(self, split: str, rows: list[RawPost], counts: Counter[str]) -> list[RawPost]:
        """The posts of the rows of a split, those with the same words and picture together."""
        groups: dict[tuple, list[RawPost]] = {}
        for row in rows:
            groups.setdefault((row.image, *row.columns["tokens"]), []).append(row)
        return [self.join_pairs(f"{split}-{n:05d}", pairs, counts) for n, pairs in enumerate(groups.values())]

    def join_pairs(self, id: str, pairs: list[RawPost], counts: Counter[str]) -> RawPost:
        """The post of all pairs with its words and picture; what is left out is counted and listed."""
        tokens = pairs[0].columns["tokens"]
        places: dict[tuple[int, int], int] = {}  # the position of each entity among those of the pairs
        relations: list[Row] = []
        triples: list[tuple[int, int, str]] = []
        typed = set()
        for pair in pairs:
            head, tail = ((pair.columns[name]["start"], pair.columns[name]["end"]) for name in ("head", "tail"))
            first, second = (places.setdefault(span, len(places)) for span in (head, tail))
            if head == tail:
                counts[ONE_ENTITY] += 1
                continue
            relation = pair.columns["relation"]
            relations.append({"head": first, "tail": second, "label": relation})
            triples.append((first, second, relation))
            typed |= {head, tail} if relation != NO_RELATION else set()
        entities: list[Row] = [{"start": start, "end": end, "label": ENTITY} for start, end in places]
        changes: Counter[str] = Counter()
        post = read_labels({"tokens": tokens, "entities": entities, "relations": relations}, changes, "longest")
        kept = {(entity.start, entity.end) for entity in post.entities}
        absent = {place: span for span, place in places.items() if span not in kept}
        lost = [one for one in triples if one[2] != NO_RELATION and {one[0], one[1]} & absent.keys()]
        counts.update({TYPED: len(typed), SHORTER: len(absent), LOST: len(lost), SECOND: changes[SECOND]})
        if absent:
            spans = list(places)
            self.overlapping.append(
                {
                    "id": id,
                    "tokens": tokens,
                    "entities": [list(span) for span in absent.values()],
                    "relations": [[*spans[head], *spans[tail], label] for head, tail, label in lost],
                }
            )
        columns = {"id": id, **post.to_tag_row()}
        columns.setdefault("relations", [])
        return RawPost(columns, pairs[0].image, pairs[0].image_file, pairs[0].crops, pairs[0].crop_files)

    def make_report(self, folder: Path) -> dict:
        """Count what the finished Parquet files hold, and list the entities that are left out since they overlap."""
        return {**super().make_report(folder), "overlapping_entities": self.overlapping}


def read_rows(path: str | Path) -> tuple[list[tuple[int, dict]], list[Problem]]:
    """Read the rows of a text file, one Python dict literal per line; nothing is executed.

    Returns:
        Each row with its number, from 0 as in the index of the crops, and the lines that could not be read. Empty lines
        are not counted.
    """
    path = Path(path)
    rows, problems, number = [], [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes in tokens
        for line, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if not raw.strip():
                continue
            try:
                row = ast.literal_eval(raw.decode().strip())
                check_row(row)
                rows.append((number, row))
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                reason = getattr(error, "msg", None) or re.sub(r" on line \d+: <.*", "", str(error)[:200])
                problems.append(Problem(path.name, line, f"{type(error).__name__}: {reason}"))
            number += 1
    return rows, problems


def check_row(row: object) -> None:
    """Raise a `ValueError` that names the value if an object is not a row of MNRE."""
    if not isinstance(row, dict):
        raise ValueError(f"expected a dict, got {str(row)[:80]}")
    if missing := {"token", "h", "t", "img_id", "relation"} - row.keys():
        raise ValueError(f"no {', '.join(sorted(missing))}")
    tokens = row["token"]
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) and is_text(t) for t in tokens):
        raise ValueError(f"token must be a list of words, got {str(tokens)[:80]!a}")
    for name in ("h", "t"):
        span = row[name].get("pos") if isinstance(row[name], dict) else None
        if not isinstance(span, (list, tuple)) or [type(bound) for bound in span] != [int, int]:
            raise ValueError(f"{name}['pos'] must be [start, end], got {str(row[name])[:80]!a}")
        if not 0 <= span[0] < span[1] <= len(tokens):
            raise ValueError(f"{name}['pos'] must be within the {len(tokens)} words, got {span}")
    if not isinstance(row["img_id"], str) or not is_plain_name(row["img_id"]):
        raise ValueError(f"img_id cannot be the name of a picture: {str(row['img_id'])[:80]!a}")
    if row["relation"] not in RELATIONS:
        raise ValueError(f"unknown relation {str(row['relation'])[:80]!a}")


def count_irregularities(rows: list[dict]) -> dict[str, int]:
    """Count the irregularities of the spans of a split."""
    counts: Counter[str] = Counter()
    for row in rows:
        (head_start, head_end), (tail_start, tail_end) = row["h"]["pos"], row["t"]["pos"]
        counts["pairs that overlap or nest"] += head_start < tail_end and tail_start < head_end
        counts["pairs that abut"] += head_end == tail_start or tail_end == head_start
        counts["pairs of which one ends the post"] += max(head_end, tail_end) == len(row["token"])
        counts["pairs of which the tail comes first"] += tail_start < head_start
        for name in ("h", "t"):
            counts["entities whose name is not that of their words"] += row[name].get("name") != " ".join(
                row["token"][slice(*row[name]["pos"])]
            )
        counts["tokens of white space alone"] += sum(not token.strip() for token in row["token"])
    seen = Counter(str([row["token"], row["h"]["pos"], row["t"]["pos"], row["img_id"]]) for row in rows)
    counts["rows that repeat"] = sum(seen.values()) - len(seen)
    return counts


def crop_index(root: Path, split: str) -> Path:
    """Return the index of the released crops of a split."""
    name = f"mre_{SPLITS[split]}_dict.pth"
    for folder, files in folders_below(root):
        if name in files:
            return folder / name
    raise FileNotFoundError(f"{root}: no index of the released crops {name}; leave out --objects released")


def check_relation_file(root: Path) -> list[str]:
    """Compare the file of relations, if it exists, with `RELATIONS`; return warnings."""
    for folder, files in folders_below(root):
        for name in files:
            if name.endswith("rel2id.json"):
                try:
                    relations = json.loads((folder / name).read_bytes())
                except (ValueError, RecursionError):
                    relations = None
                if relations != {relation: id for id, relation in enumerate(RELATIONS)}:
                    return [f"{name} lists other relations than the 23 of MNRE, whose ids are used"]
    return []


def main(arguments: list[str] | None = None) -> None:
    run(Mnre, __doc__, PICTURES, arguments, MnrePosts)
