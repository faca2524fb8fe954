"""Measures leaks of a data set: labels that show in the pictures' files and crops, posts that are in two splits.

`audit` takes what `read_raw` or `read_folder` read. docs/concepts/leak.md has the results for MNRE and the Twitter data
sets.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from scipy.stats import spearmanr
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ..checks import NO_RELATION
from ..prepare.conll import count_entities
from ..prepare.mnre import RELATIONS
from .audit_baselines import audit_baselines
from .audit_cues import CROP_CUES, CUES, PERMUTATIONS, audit_cues
from .audit_data import Split, read_folder, read_raw
from .audit_duplicates import audit_overlap
from .audit_verdicts import judge

RULE = 3  # a pair of MNRE with this many crops or more is related
NEGATIVE = (False, NO_RELATION)


def counts_of(data: Split) -> list[int]:
    """The crop counts of a split that has an index of crops."""
    assert data.counts is not None  # `audit` asks only where there is an index
    return data.counts


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
        for row, count in zip(features[split], counts_of(data), strict=True):
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
    numbers = sorted({count for data in splits.values() for count in counts_of(data)})
    labels = {split: labels_of(data.rows)[label] for split, data in splits.items()}
    for split, data in splits.items():
        answers, pairs = labels[split], Counter(zip(counts_of(data), labels[split], strict=True))
        entry = results[split] = dict[str, Any](rows=len(answers))
        entry |= {f"rows with crops: {n}": {"no": pairs[n, False], "yes": pairs[n, True]} for n in numbers}
        entry[f"rule of {RULE} or more crops"] = scores([count >= RULE for count in counts_of(data)], answers)
        entry["rule of always yes"] = scores([True] * len(answers), answers)
        entry["crop count as it is"] = auc(counts_of(data), answers)
        if None in data.images:
            pairs_of_rows = zip(counts_of(data), answers, strict=True)
            seen = [pair for pair, image in zip(pairs_of_rows, data.images, strict=True) if image]
            area = auc([count for count, _ in seen], [answer for _, answer in seen])
            entry["crop count where there is a picture"] = {"rows": len(seen), **area}
        if label == "related":
            entry["pictures of rows with both answers"] = within_pictures(counts_of(data), answers, data.pictures)
            relations = [row["relation"] for row in data.rows]
            if set(relations) <= set(RELATIONS):
                expected = map(crops_of_relation, relations)
                told = sum(count == number for count, number in zip(counts_of(data), expected, strict=True))
                entry["rows with 2 crops + 1 for each type but misc"] = told
        else:
            entities = [count_entities(row["ner_tags"])[1].total() for row in data.rows]
            varied = len(set(counts_of(data))) > 1 and len(set(entities)) > 1
            rho = round(float(spearmanr(counts_of(data), entities)[0]), 4) if varied else None
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


def audit(splits: dict[str, Split], words: bool = False, permutations: int = PERMUTATIONS) -> dict:
    """Run all audits that the columns of a data set allow.

    Args:
        splits: of `read_raw` or `read_folder`.
        words: also fit models of the words to compare crop counts with.
        permutations: of the test of each cue.

    Returns:
        JSON-ready: verdicts (level, subject, sentence), cues, "not measured" (cues that are absent, do not vary or have
        too few rows), baselines, crops (of each label, the crop counts), overlap (of each two splits) and pictures (of
        each split: rows, those with a picture, files that cannot be read).
    """
    first = next(iter(splits.values()))
    crops = {label: audit_crops(splits, label, words) for label in labels_of(first.rows) if first.counts is not None}
    tellings, baselines, overlap = audit_cues(splits, permutations), audit_baselines(splits), audit_overlap(splits)
    pictures = {
        split: {
            "rows": len(data.rows),
            "with a picture": sum(image is not None for image in data.images),
            "with a readable picture": sum(image is not None and image.width is not None for image in data.images),
            "files that cannot be read": data.unreadable,
        }
        for split, data in splits.items()
    }
    return {
        "verdicts": [verdict._asdict() for verdict in judge(tellings, baselines, overlap, crops)],
        "cues": [telling._asdict() for telling in tellings],
        "not measured": sorted({*CUES, *CROP_CUES} - {telling.cue for telling in tellings}),
        "baselines": [{**baseline._asdict(), "percent": baseline.percent} for baseline in baselines],
        "crops": crops,
        "overlap": overlap,
        "pictures": pictures,
    }


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


__all__ = ["audit", "audit_crops", "labels_of", "read_folder", "read_raw", "scores", "verdict"]
