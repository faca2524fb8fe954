"""Measures leaks of a data set: crop counts that depend on the labels, posts that are in two splits.

    python dataset_scripts/audit.py --data_dir RAW
    python dataset_scripts/audit.py --parquet data/mnre data/my_posts --output audit.json

Of the raw files it needs only the texts and the index of the released crops (`*_dict.pth`), not the crops and pictures.
In a folder that a data set script wrote it counts the crops in the column `objects`. docs/concepts/leak.md has the
results for MNRE and the Twitter data sets, and explains them.
"""

import argparse
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from scipy.stats import spearmanr
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ..checks import NO_RELATION, no_relation_labels
from ..prepare.conll import count_entities
from ..prepare.mnre import RELATIONS, Mnre
from ..prepare.parquet import read_columns
from ..prepare.report import table
from ..prepare.twitter2015 import Twitter2015
from ..prepare.twitter2017 import Twitter2017
from ..support.digests import hash_file
from ..support.options import OptionParser

BUILDERS = {builder.NAME: builder for builder in (Mnre, Twitter2015, Twitter2017)}
RULE = 3  # a pair of MNRE with this many crops or more is related
NEGATIVE = (False, NO_RELATION)
READ = ("tokens", "ner_tags", "head", "tail", "relation", "image", "objects")
LEAVES = {"image": "image.path", "objects": "objects.list.element.path"}


@dataclass
class Split:
    """The rows of a split, the names of their pictures, and their numbers of crops."""

    rows: list[dict]  # tokens, and ner_tags as texts or relation with head and tail
    pictures: list[str | None]
    counts: list[int] | None  # None without an index of crops
    files: list[Path] = field(default_factory=list)  # the existing pictures

    @property
    def crop_counts(self) -> list[int]:
        assert self.counts is not None  # `audit` asks only where there is an index
        return self.counts


def read_raw(name: str, data_dir: str | Path) -> dict[str, Split]:
    """Read the raw texts of a data set and the index of its released crops, if it exists."""
    with TemporaryDirectory() as cache:
        config = {"cache_dir": cache, "data_dir": str(data_dir)}
        try:
            raw, indexed = BUILDERS[name](objects="released", **config).read_raw(), True
        except FileNotFoundError:  # if the texts are missing, the next line raises it again
            raw, indexed = BUILDERS[name](**config).read_raw(), False
    splits = {}
    for split, posts in raw.splits.items():
        if not posts:
            raise ValueError(f"{name}: the {split} split has no readable posts")
        rows, pictures = [post.columns for post in posts], [post.image for post in posts]
        files = sorted({post.image_file for post in posts if post.image_file})
        splits[split] = Split(rows, pictures, [len(post.crops) for post in posts] if indexed else None, files)
    return splits


def read_folder(folder: Path) -> dict[str, Split]:
    """Read the Parquet files that a data set script wrote, without the pictures."""
    if not (folder / "dataset_info.json").is_file():
        raise FileNotFoundError(f"{folder}: no dataset_info.json; give a folder that a data set script wrote")
    info = datasets.DatasetInfo.from_directory(str(folder))
    splits = {}
    for split in info.splits:
        rows = read_columns(folder / "data", split, [LEAVES.get(name, name) for name in info.features if name in READ])
        if not rows:
            raise FileNotFoundError(f"{folder}: no rows in data/{split}-*.parquet")
        names = info.features["relation"].names if "relation" in info.features else []
        none = no_relation_labels(names)
        for row in rows:
            if "relation" in row:
                row["relation"] = NO_RELATION if names[row["relation"]] in none else names[row["relation"]]
            if "ner_tags" in row:
                row["ner_tags"] = [info.features["ner_tags"].feature.names[tag] for tag in row["ner_tags"]]
        pictures = [row["image"] and row["image"]["path"] for row in rows]
        splits[split] = Split(rows, pictures, [len(row["objects"]) for row in rows])
    return splits


def labels_of(rows: list[dict]) -> dict[str, list[bool]]:
    """Return binary labels of rows: whether a pair is related, whether a post has an entity."""
    labels = {}
    if "relation" in rows[0]:
        labels["related"] = [row["relation"] != NO_RELATION for row in rows]
    if "ner_tags" in rows[0]:
        labels["with an entity"] = [set(row["ner_tags"]) != {"O"} for row in rows]
    return labels


def scores(predicted: list, gold: list) -> dict[str, float]:
    """Return precision, recall and micro-F1 in per cent, without the answers no and "None", as is usual."""
    hits = sum(a == b for a, b in zip(predicted, gold, strict=True) if b not in NEGATIVE)
    count, total = (sum(label not in NEGATIVE for label in labels) for labels in (predicted, gold))
    ratios = {"P": (hits, count), "R": (hits, total), "F1": (2 * hits, count + total)}
    return {name: round(100 * part / whole, 2) if whole else 0.0 for name, (part, whole) in ratios.items()}


def auc(values: Sequence[float], labels: list[bool]) -> dict[str, float | None]:
    """Return the area under the ROC curve (0.5 is chance), and half its 95 % interval (Hanley and McNeil)."""
    yes, no = sum(labels), len(labels) - sum(labels)
    if not yes or not no:
        return {"AUC": None, "margin": None}
    area = float(roc_auc_score(labels, values))
    variance = area * (1 - area) + (yes - 1) * (area / (2 - area) - area**2)
    variance += (no - 1) * (2 * area**2 / (1 + area) - area**2)
    return {"AUC": round(area, 4), "margin": round(1.96 * math.sqrt(max(variance, 0) / (yes * no)), 4)}


def within_pictures(counts: list[int], labels: list[bool], pictures: list[str | None]) -> dict[str, int | float | None]:
    """Compare the crop counts of rows that share a picture and have different labels.

    Returns:
        The number of such pictures, how many of them are "fully told" (each positive row has more crops than each
        negative one), and the AUC of the counts within pictures.
    """
    groups: defaultdict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for count, label, picture in zip(counts, labels, pictures, strict=True):
        if picture is not None:
            groups[picture][label].append(count)
    mixed = [(no, yes) for no, yes in groups.values() if no and yes]
    wins = [(a > b) + (a == b) / 2 for no, yes in mixed for a in yes for b in no]
    told = sum(min(yes) > max(no) for no, yes in mixed)
    return {"number": len(mixed), "fully told": told, "AUC": round(sum(wins) / len(wins), 4) if wins else None}


def crops_of_relation(relation: str) -> int:
    """Return the number of released crops of a relation of MNRE: one per entity and one per type other than misc."""
    return 2 + sum(type != "misc" for type in relation.split("/")[1:3])


def overlaps(items: Mapping[str, Sequence[Hashable]]) -> dict[str, dict[str, int]]:
    """Count, for each two splits, the distinct items in both (without None) and the rows of the second with one."""
    counts = {}
    for a, b in combinations(items, 2):
        shared = set(items[a]) & set(items[b]) - {None}
        counts[f"{a}/{b}"] = {"distinct": len(shared), "rows of the second": sum(item in shared for item in items[b])}
    return counts


def near_text(tokens: list[str]) -> str:
    """Normalize a text for comparison: ignore capitals, URLs and names after an @."""
    text = re.sub(r"https?\s*:\s*/\s*/\s*\S+", "<url>", " ".join(tokens).lower())
    return re.sub(r"@\s*\w+", "<name>", text)


def word_features(row: dict) -> dict[str, float]:
    """Return the words of a row; for a pair also those in, between and next to its entities, order and distance."""
    words = [word.lower() for word in row["tokens"]]
    parts = {"word": words}
    if "head" in row:
        head, tail = (slice(row[name]["start"], row[name]["end"]) for name in ("head", "tail"))
        between = slice(min(head.stop, tail.stop), max(head.start, tail.start))
        parts |= {"head": words[head], "tail": words[tail], "between": words[between]}
        for name, span in (("head", head), ("tail", tail)):
            parts[f"before {name}"] = words[max(0, span.start - 1) : span.start]
            parts[f"after {name}"] = words[span.stop : span.stop + 1]
        parts |= {"order": [str(head.start < tail.start)], "distance": [str(min(10, between.stop - between.start))]}
    return {f"{part}: {word}": 1.0 for part, words in parts.items() for word in words}


def fit(splits: dict[str, Split], targets: dict[str, list], words: bool, crops: bool) -> dict[str, dict]:
    """Fit a logistic regression on the words, the crop counts or both of train, and score it on each split.

    The crop count is a numeric and a categorical feature, as its effect need not be monotonic.
    """
    features: dict[str, list[dict[str, float]]] = {}
    for split, data in splits.items():
        features[split] = [word_features(row) if words else {} for row in data.rows]
        for row, count in zip(features[split], data.crop_counts, strict=True):
            row |= {"crops": count, f"crops: {count}": 1} if crops else {}
    vectorizer = DictVectorizer().fit(features["train"])
    matrices = {split: vectorizer.transform(rows) for split, rows in features.items()}
    model = LogisticRegression(max_iter=1000).fit(matrices["train"], targets["train"])
    results: dict[str, dict] = {}
    for split, matrix in matrices.items():
        results[split] = {"": scores(list(model.predict(matrix)), targets[split])}
        if True in model.classes_:
            results[split][", its values"] = auc(list(model.decision_function(matrix)), targets[split])
    return results


def audit_crops(splits: dict[str, Split], label: str, words: bool = False) -> dict[str, dict]:
    """Measure, for each split, how well the crop counts (and with `words` the words) predict a label of `labels_of`."""
    results: dict[str, dict] = {}
    numbers = sorted({count for data in splits.values() for count in data.crop_counts})
    labels = {split: labels_of(data.rows)[label] for split, data in splits.items()}
    for split, data in splits.items():
        answers, pairs = labels[split], Counter(zip(data.crop_counts, labels[split], strict=True))
        entry = results[split] = dict[str, Any](rows=len(answers))
        entry |= {f"rows with crops: {n}": {"no": pairs[n, False], "yes": pairs[n, True]} for n in numbers}
        entry[f"rule of {RULE} or more crops"] = scores([count >= RULE for count in data.crop_counts], answers)
        entry["rule of always yes"] = scores([True] * len(answers), answers)
        entry["crop count as it is"] = auc(data.crop_counts, answers)
        if "image" in data.rows[0]:
            seen = [
                pair
                for pair, row in zip(zip(data.crop_counts, answers, strict=True), data.rows, strict=True)
                if row["image"]
            ]
            area = auc([count for count, _ in seen], [answer for _, answer in seen])
            entry["crop count where there is a picture"] = {"rows": len(seen), **area}
        if label == "related":
            entry["pictures of rows with both answers"] = within_pictures(data.crop_counts, answers, data.pictures)
            relations = [row["relation"] for row in data.rows]
            if set(relations) <= set(RELATIONS):
                expected = map(crops_of_relation, relations)
                told = sum(count == number for count, number in zip(data.crop_counts, expected, strict=True))
                entry["rows with 2 crops + 1 for each type but misc"] = told
        else:
            entities = [count_entities(row["ner_tags"])[1].total() for row in data.rows]
            varied = len(set(data.crop_counts)) > 1 and len(set(entities)) > 1
            rho = round(float(spearmanr(data.crop_counts, entities)[0]), 4) if varied else None
            entry["Spearman of crop count and number of entities"] = rho
    if len(set(labels.get("train", []))) == 2:
        targets = {label: labels}
        if label == "related":
            targets["relations"] = {split: [row["relation"] for row in data.rows] for split, data in splits.items()}
        kinds = {"crop count": (False, True), "words": (True, False), "words and crop count": (True, True)}
        for name in kinds if words else ["crop count"]:
            for target, values in targets.items():
                for split, entry in fit(splits, values, *kinds[name]).items():
                    results[split] |= {f"{target}, by model of {name}{what}": value for what, value in entry.items()}
    return results


def audit_overlap(splits: dict[str, Split]) -> dict[str, dict]:
    """Count what two splits have in common: equal texts, similar texts, pictures of equal names and equal contents."""
    texts = {split: [row["tokens"] for row in data.rows] for split, data in splits.items()}
    compared: dict[str, Mapping[str, Sequence[Hashable]]] = {
        "texts": {split: [tuple(tokens) for tokens in rows] for split, rows in texts.items()},
        "texts but for capitals, URLs and @names": {s: [near_text(tokens) for tokens in r] for s, r in texts.items()},
        "pictures of the same name": {split: data.pictures for split, data in splits.items()},
    }
    if number := sum(len(data.files) for data in splits.values()):
        files = {split: [hash_file(path) for path in data.files] for split, data in splits.items()}
        compared[f"pictures of the same content ({number} files)"] = files
    results: defaultdict[str, dict] = defaultdict(dict)
    for name, items in compared.items():
        for pair, entry in overlaps(items).items():
            results[pair][name] = entry
    return dict(results)


def audit(splits: dict[str, Split], words: bool = False) -> dict:
    """Run all audits that the columns of a data set allow."""
    first = next(iter(splits.values()))
    crops = {label: audit_crops(splits, label, words) for label in labels_of(first.rows) if first.counts is not None}
    return {"crops": crops, "overlap": audit_overlap(splits)}


def verdict(columns: dict[str, dict]) -> str:
    """Say in a sentence whether crop counts predict the label: whether 0.5 is outside the margin of an AUC."""
    areas = {split: entry["crop count as it is"] for split, entry in columns.items()}
    told = [
        split for split, area in areas.items() if area["AUC"] is not None and abs(area["AUC"] - 0.5) > area["margin"]
    ]
    if not told:
        return "nothing found: the AUC of the crop count is 0.5, within its margin, in every split"
    shared = [columns[split].get("pictures of rows with both answers", {}).get("AUC") for split in told]
    measured = [area for area in shared if area is not None]
    what = f"the crop count goes with the answer ({', '.join(told)})"
    if not measured:
        return f"{what}; no rows that share a picture can show whether it is the pictures that differ"
    if set(measured) == {0.5}:
        return f"{what}, but not among rows that share a picture: it is the pictures that differ"
    return f"FOUND: {what}, also among rows that share a picture"


def print_audit(name: str, report: dict) -> None:
    """Print the measurements as tables."""
    tables = {f"is a row {label}, by its number of crops?": columns for label, columns in report["crops"].items()}
    if not tables:
        print(f"\n{name}: crop counts are not audited, as there is no index of crops (*_dict.pth), or no label")
    for title, columns in (tables | {"what two splits share": report["overlap"]}).items():
        lines: dict[str, dict[str, str]] = {top: {} for top in columns}
        for top, key, value in ((top, *item) for top, entry in columns.items() for item in entry.items()):
            cells = value if isinstance(value, dict) else {"": value}
            lines[top][f"{key}  {' / '.join(cells)}"] = " / ".join("-" if v is None else str(v) for v in cells.values())
        print(f"\n{name}: {title}\n{table(lines) if lines else 'there is one split only'}")
        if title in tables:
            print(verdict(columns))


def main(arguments: list[str] | None = None) -> None:
    parser = OptionParser(
        "audit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data_dir", type=Path, help="folder that holds the raw files")
    source.add_argument("--parquet", type=Path, nargs="+", help="folders that data set scripts wrote")
    parser.add_argument("--dataset", nargs="+", choices=BUILDERS, help="default: those found in data_dir")
    parser.add_argument("--words", action="store_true", help="also fit models of the words (a minute for MNRE)")
    parser.add_argument("--output", type=Path, help="JSON file for the measurements")
    args = parser.parse_args(arguments)
    if args.dataset and args.parquet:
        parser.error("--dataset needs --data_dir")
    data_sets = {}
    try:
        for folder in args.parquet or []:
            data_sets[str(folder)] = read_folder(folder)
        for name in (args.dataset or BUILDERS) if args.data_dir else []:
            try:
                data_sets[name] = read_raw(name, args.data_dir)
            except FileNotFoundError as error:
                if args.dataset:
                    raise
                print(f"left out: {error}", file=sys.stderr)
        if not data_sets:
            raise FileNotFoundError(f"no data set in {args.data_dir}")
        reports = {name: audit(splits, args.words) for name, splits in data_sets.items()}
        for name, report in reports.items():
            print_audit(name, report)
        if args.output:
            args.output.write_text(json.dumps(reports, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
