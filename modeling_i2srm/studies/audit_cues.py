"""Measures what pictures and crops tell about the labels without their content: by number, size, place and name.

Each cue is a few numbers of a row (`CUES`), cut into bins. A ridge regression on the bins predicts whether a row has a
label, in five-fold cross-validation on rows of the training split, one for each picture; the AUC of its predictions is
the mean of the folds (0.5 is chance). For the test the labels of the rows are permuted, all labels of a row together,
and everything is fitted again: p is the share of orders in which the largest correlation of predictions with any label
is at least that of the label, so that many labels do not make one of them significant; and it is multiplied by the
number of cues (Bonferroni).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from ..checks import NO_RELATION
from ..crf import find_entities
from .audit_data import Picture, Split

PERMUTATIONS = 300
MOST_ROWS = 3000
LEAST_ROWS = 100
LEAST_LABELS = 30  # rows with and rows without a label
MOST_LABELS = 12
BINS = 8
MOST_WORDS = 30  # of file names
FOLDS = 5
TOGETHER = "all but the file names together"
GENERAL = ("related pairs", "posts with an entity", "posts with a relation")  # labels that are measured first
ABSENT = np.nan


class Telling(NamedTuple):
    """How well a cue predicts a label.

    Args:
        cue: one of `CUES` or `CROP_CUES`, or `TOGETHER`.
        label: rows with it are told from those without it.
        rows, positive: those of the cross-validation, and those of them with the label.
        auc: of the cross-validation; 0.5 is chance, 1 tells all.
        p: of the permutation test, corrected for the number of labels and of cues.
        test_auc: fitted on these rows, on all of the test split; `None` without one that has the label.
    """

    cue: str
    label: str
    rows: int
    positive: int
    auc: float
    p: float
    test_auc: float | None


class Unit(NamedTuple):
    """A unit with labels: a row with its crops, or one crop of a row and its place among `among` crops."""

    image: Picture | None
    crops: list[Picture] | None
    labels: set[str]
    place: int = 0
    among: int = 0


Values = list[float] | None  # `None`: the cue is absent from a row


def log(number: float) -> float:
    return float(np.log2(max(number, 1)))


def has_picture(unit: Unit) -> bool:
    return unit.image is not None or bool(unit.crops)


def crop_count(unit: Unit) -> Values:
    return [float(len(unit.crops))] if unit.crops is not None and has_picture(unit) else None


def crop_sizes(unit: Unit) -> Values:
    """Those of the first and the last crop; a mean would tell how many there are."""
    sides = [(c.width, c.height, c.size or 0) for c in unit.crops or () if c.width and c.height]
    ends = [[area(w, h), shape(w, h), log(size)] for w, h, size in (*sides[:1], *sides[-1:])]
    return [value for end in ends for value in end] or None


def area(width: int, height: int) -> float:
    return log(width * height)


def shape(width: int, height: int) -> float:
    return float(np.log2(width / height))


def crop_places(unit: Unit) -> Values:
    """Centre, width, height and area of the first and the last crop, as shares of the picture."""
    boxes = [crop.box for crop in unit.crops or () if crop.box]
    ends = [[(a + c) / 2, (b + d) / 2, c - a, d - b, (c - a) * (d - b)] for a, b, c, d in (*boxes[:1], *boxes[-1:])]
    return [value for end in ends for value in end] or None


def picture_size(unit: Unit) -> Values:
    image = unit.image
    if image is None or not image.width or not image.height:
        return None
    return [image.width, image.height, area(image.width, image.height), shape(image.width, image.height)]


def file_size(unit: Unit) -> Values:
    if unit.image is None or unit.image.size is None:
        return None
    return [log(unit.image.size), float(sum(map(ord, unit.image.kind or "")))]  # a number for each format


def image_name(unit: Unit) -> list[str]:
    return [unit.image.name] if unit.image and unit.image.name else []


def crop_names(unit: Unit) -> list[str]:
    names = [crop.name for crop in unit.crops or () if crop.name]
    return [*names[:1], *names[-1:]]


CUES: dict[str, Callable] = {
    "the presence of a picture": lambda unit: [float(has_picture(unit))],
    "the number of crops": crop_count,
    "the size of the crops": crop_sizes,
    "the position of the crops": crop_places,
    "the file names of the crops": crop_names,
    "the size of the picture in pixels": picture_size,
    "the size and format of the picture's file": file_size,
    "the file name of the picture": image_name,
}
CROP_CUES: dict[str, Callable] = {
    "the place of a crop in the list": lambda unit: [float(unit.place), float(unit.place == unit.among - 1)],
    "the size of a crop": crop_sizes,
    "the position of a crop": crop_places,
    "the file name of a crop": crop_names,
}
NAMES = (image_name, crop_names)  # their values are names


def labels_of_row(row: dict) -> set[str]:
    """All labels of a row, in words."""
    labels = set()
    if row.get("relation", NO_RELATION) != NO_RELATION:
        labels |= {"related pairs", f"pairs of {row['relation']}"}
    if entities := find_entities(row.get("ner_tags") or []):
        labels |= {"posts with an entity", *(f"posts with a {kind}" for _, _, kind in entities)}
    related = {one["label"] for one in row.get("relations") or ()} - {NO_RELATION}
    if related:
        labels |= {"posts with a relation", *(f"posts with the relation {kind}" for kind in related)}
    if "label" in row:
        labels.add(f"posts labelled {row['label']}")
    if any(row.get("entity_boxes") or ()):
        labels.add("posts with an entity that has a box")
    return labels


def row_units(split: Split) -> list[Unit]:
    """The rows of a split."""
    absent: list[list[Picture] | None] = [None] * len(split.rows)
    crops: Sequence[list[Picture] | None] = split.crops or absent
    return [
        Unit(image, mine, labels_of_row(row)) for image, mine, row in zip(split.images, crops, split.rows, strict=True)
    ]


def crop_units(split: Split, generator: np.random.Generator) -> list[Unit]:
    """One crop, drawn, of each row whose regions are annotated and that has two crops or more."""
    units = []
    for image, crops, row in zip(split.images, split.crops or (), split.rows, strict=False):
        regions = row.get("regions")
        if regions and len(crops) > 1 and None not in regions:
            place = int(generator.integers(len(crops)))
            shown = {"crops that show an entity"} if place in regions else set()
            units.append(Unit(image, [crops[place]], shown, place, len(crops)))
    return units


def one_a_picture(units: list[Unit], generator: np.random.Generator) -> list[Unit]:
    """One unit, drawn, for each picture (of one content or name), at most `MOST_ROWS`, in random order."""
    seen: set[str] = set()
    chosen = []
    for place in generator.permutation(len(units)):
        image = units[place].image
        key = image and (image.digest or image.name)
        if key is None or key not in seen:
            chosen.append(units[place])
            if key is not None:
                seen.add(key)
    return chosen[:MOST_ROWS]


class Encoder:
    """Cuts the values of a cue into bins, as columns of 0 and 1; those of names are the words that occur in them.

    Bins and words come from the rows of the cross-validation, without their labels.
    """

    def __init__(self, read: Callable, units: list[Unit]):
        self.read = read
        self.words: list[str] = []
        if read in NAMES:
            counts = Counter(word for unit in units for word in words_of(read(unit)))
            self.words = [word for word, n in counts.most_common(MOST_WORDS) if LEAST_LABELS <= n < len(units)]
        values = [one for one in map(self.values, units) if one is not None]
        columns = np.array(values).T if values else np.zeros((0, 0))
        self.edges = [bin_edges(column) for column in columns]

    def values(self, unit: Unit) -> list[float] | None:
        if self.read not in NAMES:
            return self.read(unit)
        names = self.read(unit)
        if not names:
            return None
        words = words_of(names)
        numbers = [int(number[-9:]) for number in re.findall(r"\d+", names[0])] or [-1]
        return [float(word in words) for word in self.words] + [numbers[0], numbers[-1], len(names[0])]

    def encode(self, units: Iterable[Unit]) -> tuple[np.ndarray, np.ndarray]:
        """Columns of 0 and 1 (n, d), and which rows have the cue (n,)."""
        rows = [self.values(unit) for unit in units]
        present = np.array([row is not None for row in rows], bool)
        filled = np.array([row or [ABSENT] * len(self.edges) for row in rows]).reshape(len(rows), len(self.edges))
        columns = [
            np.eye(len(edges) + 1)[np.searchsorted(edges, values, "right")]
            for edges, values in zip(self.edges, filled.T, strict=True)
        ]
        encoded = np.hstack([present[:, None], *columns]) * present[:, None]
        return encoded.astype(np.float32), present


def words_of(names: Sequence[str]) -> set[str]:
    """The runs of letters in file names."""
    return {word for name in names for word in re.findall(r"[^\W\d_]+", name.lower())}


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Where bins begin: at each value if there are few, else at quantiles."""
    different = np.unique(values)
    edges = different if len(different) <= 2 * BINS else np.unique(np.quantile(values, np.arange(BINS) / BINS))
    return edges[1:]


def areas(predicted: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The AUC of each column of predictions (n, k) against answers (n, k) of 0 and 1; NaN where all are alike."""
    yes = answers.sum(0)
    no = len(answers) - yes
    ranks = rankdata(predicted.round(5), axis=0)  # equal rows may differ in the last bits
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((ranks * answers).sum(0) - yes * (yes + 1) / 2) / (yes * no)


def correlations(predicted: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Pearson's r of each column of predictions (n, k) and answers (n, k); 0 where one of them is constant."""
    a, b = (values - values.mean(0) for values in (predicted.round(5), answers))
    scale = np.sqrt((a * a).sum(0) * (b * b).sum(0))
    return (a * b).sum(0) / np.where(scale > 0, scale, np.inf)


def cross_validate(columns: np.ndarray, answers: np.ndarray, permutations: int) -> tuple[np.ndarray, np.ndarray]:
    """The AUC of each answer (k,), and its p in the permutation test, corrected for the number of answers.

    Args:
        columns: (n, d).
        answers: (n, k) of 0 and 1.
        permutations: number of orders in which the rows of answers are put.
    """
    generator, (rows, kinds) = np.random.default_rng(0), answers.shape
    orders = [np.arange(rows), *(generator.permutation(rows) for _ in range(permutations))]
    every = np.hstack([answers[order] for order in orders]).astype(np.float32)
    told, agreed = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(columns):
        predicted = Ridge(alpha=1.0).fit(columns[train], every[train]).predict(columns[test])
        predicted = predicted.reshape(len(test), -1)
        told.append(areas(predicted[:, :kinds], answers[test]))
        agreed.append(correlations(predicted, every[test]))
    r = np.mean(agreed, 0).reshape(permutations + 1, kinds)
    largest = r[1:].max(1) if permutations else np.zeros(0)
    p = [(1 + (largest >= one).sum()) / (permutations + 1) for one in r[0]]
    return np.nanmean(told, 0), np.array(p)


def measure_cues(
    units: list[Unit], test: list[Unit], cues: dict[str, Callable], permutations: int = PERMUTATIONS
) -> list[Telling]:
    """Measure how well each cue predicts each label, alone and together.

    Args:
        units: for the cross-validation, of different pictures.
        test: units of another split, predicted with what is learnt from all of these; may be empty.
        cues: name -> what it reads of a unit.
        permutations: of the test.
    """
    counts = Counter(label for unit in units for label in unit.labels)
    kept = [name for name, n in counts.items() if LEAST_LABELS <= n <= len(units) - LEAST_LABELS]
    labels = sorted(kept, key=lambda name: (name not in GENERAL, -counts[name], name))
    different = {truth(units, [name]).tobytes(): name for name in reversed(labels)}  # of equal ones the first
    labels = [name for name in labels if name in different.values()]
    if not labels:
        return []
    answers = truth(units, labels)
    test_answers = truth(test, labels)
    everything: list[np.ndarray] = []
    everything_test: list[np.ndarray] = []
    tellings: list[Telling] = []
    for name, read in cues.items():
        encoder = Encoder(read, units)
        (columns, present), (others, shown) = encoder.encode(units), encoder.encode(test)
        alone = columns[present]
        if len(alone) and (alone != alone[0]).any():
            if read not in NAMES:  # no model sees them
                everything.append(columns)
                everything_test.append(others)
            tellings += tell(name, labels, alone, answers[present], others[shown], test_answers[shown], permutations)
    if len(everything) > 1:
        together = np.hstack(everything), answers, np.hstack(everything_test), test_answers
        tellings += tell(TOGETHER, labels, *together, permutations)
    number = len({telling.cue for telling in tellings})
    return [telling._replace(p=min(rounded(telling.p * number), 1.0)) for telling in tellings]


def truth(units: list[Unit], labels: list[str]) -> np.ndarray:
    """Which units have which labels (n, k)."""
    return np.array([[label in unit.labels for label in labels] for unit in units]).reshape(len(units), len(labels))


def tell(
    cue: str,
    labels: list[str],
    columns: np.ndarray,
    answers: np.ndarray,
    test_columns: np.ndarray,
    test_answers: np.ndarray,
    permutations: int,
) -> list[Telling]:
    """Measure how well the columns of a cue predict each label, with p not yet corrected for the number of cues.

    Labels of too few rows are left out.
    """
    yes = answers.sum(0)
    kept = np.flatnonzero((yes >= LEAST_LABELS) & (len(answers) - yes >= LEAST_LABELS))[:MOST_LABELS]
    if len(answers) < LEAST_ROWS or not len(kept):
        return []
    measured, ps = cross_validate(columns, answers[:, kept], permutations)
    others: np.ndarray = np.full(len(kept), np.nan)
    if len(test_answers):
        model = Ridge(alpha=1.0).fit(columns, answers[:, kept].astype(float))
        others = areas(model.predict(test_columns).reshape(len(test_columns), -1), test_answers[:, kept])
    return [
        Telling(cue, labels[k], len(answers), int(yes[k]), rounded(auc), float(p), None if np.isnan(x) else rounded(x))
        for k, auc, p, x in zip(kept, measured, ps, others, strict=True)
    ]


def rounded(value: float) -> float:
    return round(float(value), 4)


def audit_cues(splits: dict[str, Split], permutations: int = PERMUTATIONS) -> list[Telling]:
    """Measure all cues of a data set, for its rows and, where regions are annotated, for its crops.

    The cross-validation takes rows of the training split; without one, of the largest.
    """
    name = "train" if "train" in splits else max(splits, key=lambda split: len(splits[split].rows))
    test = splits["test"] if name != "test" and "test" in splits else None
    generator = np.random.default_rng(0)
    rows = one_a_picture(row_units(splits[name]), generator)
    crops = one_a_picture(crop_units(splits[name], generator), generator)
    return [
        *measure_cues(rows, row_units(test) if test else [], CUES, permutations),
        *measure_cues(crops, crop_units(test, generator) if test else [], CROP_CUES, permutations),
    ]


__all__ = ["CROP_CUES", "CUES", "PERMUTATIONS", "TOGETHER", "Telling", "audit_cues", "measure_cues"]
