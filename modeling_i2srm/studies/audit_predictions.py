"""Audits what a system answers: does it follow the crops, and is it better than without pictures, or with wrong ones?

Answers are lines of JSON: what the training scripts write as predictions.jsonl, or posts in the exchange format with
the ids of the data set. A model of this package predicts the test split as it is, with the pictures of other posts
("shuffled"), without any ("blanked"), and with a grey square for each picture and crop ("grey"), and is compared with
its text-only twin where the folder has one.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedConfig

from ..checks import NO_RELATION
from ..crf import find_entities
from ..processing_i2srm import I2SRMProcessor
from ..training.arguments import parse_arguments
from ..training.run import predictions_name, run_training
from ..training.tasks import TASKS, Task
from .audit_cues import CUES, PERMUTATIONS, TOGETHER, Telling, Unit, labels_of_row, measure_cues, one_a_picture
from .audit_data import Picture, Split
from .audit_duplicates import words_of
from .audit_verdicts import GREEN, LEVELS, RED, RED_AUC, SIGNIFICANT, YELLOW, YELLOW_AUC, Verdict, decimals, level_of
from .significance import adjusted, compare, f1, post_counts

AS_THEY_ARE, TEXT_TWIN = "as they are", "text twin"
MISMATCHES = {"shuffled": "shuffled:100", "blanked": "blanked:100", "grey": "grey:100"}
TWIN_FOLDER = "text_only"
NO_PICTURES = "other pictures (the model was trained without any: config.reads_pictures is false)"
EXAMPLE = '{"id": "7", "tokens": ["Kobe", "lands"], "entities": [{"start": 0, "end": 1, "label": "PER"}]}'
P = 0.05  # of the comparisons
LONGEST = 512  # sub-tokens of a post, or fewer where the model reads no more


class Condition(NamedTuple):
    """The score of answers under other circumstances, and how much less it is than that of the answers as they are.

    Args:
        condition: e.g. "grey".
        metric: e.g. "entity F1".
        score: 0 to 1.
        difference, low, high: with the 95 % interval of a paired bootstrap.
        p: of a paired randomisation test, corrected for the number of conditions.
    """

    condition: str
    metric: str
    score: float
    difference: float
    low: float
    high: float
    p: float


def read_answers(path: Path, split: Split | None = None) -> dict[str, dict]:
    """Read predictions, by their ids; those without gold get that of the rows of a split.

    Raises:
        ValueError: a line that is no answer, an id that occurs twice, or one that the split does not have, or has for a
            post of other words.
    """
    answers: dict[str, dict] = {}
    rows = dict(zip(split.ids, split.rows, strict=True)) if split else {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                id = str(record["id"])
                if "predicted" not in record and "entities" not in record:
                    raise KeyError("entities")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: no answer with an id ({error!r}); e.g. {EXAMPLE}") from error
            if id in answers:
                raise ValueError(f"{path}, line {number}: the id {id!r} occurs twice; give each post once")
            row = find_row(record, rows, path) if split or "gold" not in record else {}
            answers[id] = record if "gold" in record else {**record, "gold": gold_of(row)}
    if not answers:
        raise ValueError(f"{path}: no answers; give one line of JSON per post, e.g. {EXAMPLE}")
    return answers


def find_row(record: dict, rows: Mapping[str, dict], path: Path) -> dict:
    """The row that an answer is for; raises a `ValueError` where there is none, or one of other words."""
    id = post_of(record, rows)
    if id is None:
        there = f", which has {next(iter(rows))!r} ..." if rows else ""
        raise ValueError(
            f"{path}: the test split has no post with the id {record['id']!r}{there}; give answers to this data set, "
            'with the ids of its rows or, without a column id, their numbers, e.g. {"id": "0"}'
        )
    row = rows[id]
    words, mine = words_of(row), record.get("tokens")
    if mine != words and ("gold" not in record or (mine is not None and row.get("tokens") is not None)):
        raise ValueError(
            f"{path}: the tokens of {record['id']!r} are {mine!r:.80}, those of the data set {words!r:.80}; give the "
            "tokens of the data set, and offsets in words"
        )
    return row


def post_of(record: Mapping, ids: Container[str]) -> str | None:
    """The id of the post that an answer is for: its own, or of a pair of a post's entities the part before theirs."""
    id = str(record["id"])
    post = id.rsplit("-", 2)[0] if "head" in record and id not in ids else id
    return post if post in ids else None


def gold_of(row: Mapping) -> dict:
    """The annotated graph of a row, for an answer in the exchange format."""
    entities = [{"start": a, "end": b, "label": kind} for a, b, kind in find_entities(row.get("ner_tags") or [])]
    return {"entities": entities, "relations": row.get("relations")}


def count(records: Sequence[dict]) -> dict[str, np.ndarray]:
    """For each metric the numbers of labels of each post that are right, predicted and gold (posts, 3)."""
    first = records[0]
    if isinstance(first["gold"], Mapping):
        golds = [record["gold"] for record in records]
        graphs = [
            (graph_items(record, gold.get("relations") is not None), graph_items(gold))
            for record, gold in zip(records, golds, strict=True)
        ]
        names = ["entity F1"] + (["triple F1"] if any(gold.get("relations") for gold in golds) else [])
        return {
            name: np.array([[len(a[i] & b[i]), len(a[i]), len(b[i])] for a, b in graphs], dtype=float)
            for i, name in enumerate(names)
        }
    if isinstance(first["gold"], str) and "head" not in first:
        return {"accuracy": np.array([[record["gold"] == record["predicted"], 1, 1] for record in records], float)}
    return {"relation F1" if isinstance(first["gold"], str) else "entity F1": post_counts(records)}


def graph_items(graph: Mapping, related: bool = True) -> tuple[set, set]:
    """The entities and the triples of a post; no triples where its relations are not annotated (`related`)."""
    entities = [(one["start"], one["end"], one["label"]) for one in graph["entities"]]
    triples = {
        (entities[one["head"]], one["label"], entities[one["tail"]])
        for one in graph.get("relations") or ()
        if related and one["label"] != NO_RELATION
    }
    return set(entities), triples


def compare_answers(answers: Mapping[str, dict[str, dict]]) -> list[dict]:
    """The scores of the first answers, and of each of the others with its difference from the first.

    Args:
        answers: name of a condition -> answers by id.

    Raises:
        ValueError: the others answer other posts.
    """
    (first, mine), *others = answers.items()
    ids = list(mine)
    counts = count(list(mine.values()))
    conditions: list[dict] = [
        {"condition": first, "metric": metric, "score": float(f1(values.sum(0)))} for metric, values in counts.items()
    ]
    compared = []
    for name, theirs in others:
        if theirs.keys() != mine.keys():
            odd = sorted(theirs.keys() ^ mine.keys())[0]
            raise ValueError(f"{name}: not the posts of {first}, e.g. {odd!r} is in one of them alone; give both whole")
        for metric, values in count([theirs[id] for id in ids]).items():
            if metric in counts:
                score, result = float(f1(values.sum(0))), compare([counts[metric]], [values])
                compared.append(Condition(name, metric, score, *result))
    for one, p in zip(compared, adjusted([one.p for one in compared]), strict=True):
        conditions.append(one._replace(p=p)._asdict())
    return conditions


def judge_conditions(conditions: Sequence[dict]) -> Iterator[Verdict]:
    """A verdict for each condition, by the last metric of it."""
    mine = {one["metric"]: one["score"] for one in conditions if "p" not in one}
    metric = list(mine)[-1]
    others = {one["condition"]: one for one in conditions if "p" in one and one["metric"] == metric}
    as_is = 100 * mine[metric]
    sees = "blanked" in others and worse(others["blanked"])
    for name, one in others.items():
        figures = f"{metric} {100 * one['score']:.1f} against {as_is:.1f} (p = {one['p']:.3f})"
        if name == "grey" and not worse(one):
            level = RED if sees else YELLOW
            text = f"Grey squares score as well as the pictures: {figures}. The model does not read what they show"
            yield Verdict(level, name, f"{text}{'; it reads how many there are' if sees else ''}.")
        elif name == "grey" and sees and 2 * one["difference"] < others["blanked"]["difference"]:
            text = f"Grey squares in the place of the pictures keep more than half of what they add: {figures}"
            yield Verdict(YELLOW, name, f"{text}; the number of crops does that.")
        elif name == "shuffled" and not worse(one):
            yield Verdict(
                RED if sees else YELLOW, name, f"Pictures of other posts do as well as a post's own: {figures}."
            )
        elif worse(one):
            yield Verdict(GREEN, name, f"{capital(name)} is worse than the answers as they are: {figures}.")
        else:
            yield Verdict(YELLOW, name, f"{capital(name)} is no worse than the answers as they are: {figures}.")


def worse(condition: Mapping) -> bool:
    """Whether a condition is significantly worse than the answers as they are."""
    return condition["p"] < P and condition["difference"] > 0


def capital(name: str) -> str:
    said = {"blanked": "Without pictures the score", "grey": "With grey squares the score"}
    said |= {"shuffled": "With pictures of other posts the score", TEXT_TWIN: "A model of the text alone"}
    return said.get(name, name)


def follow_cues(answers: Mapping[str, dict], split: Split, permutations: int = PERMUTATIONS) -> list[Telling]:
    """How well each cue tells what is answered, of the posts of the split that have an answer."""
    absent: list[list[Picture] | None] = [None] * len(split.rows)
    crops: Sequence[list[Picture] | None] = split.crops or absent
    places = {id: place for place, id in enumerate(split.ids)}
    mine = ((post_of(record, places), labels_of_row(as_row(record))) for record in answers.values())
    found = sorted(((places[id], labels) for id, labels in mine if id is not None), key=lambda one: one[0])
    units = [Unit(split.images[place], crops[place], labels) for place, labels in found]
    return measure_cues(one_a_picture(units, np.random.default_rng(0)), [], CUES, permutations)


def as_row(record: Mapping) -> dict:
    """An answer with the columns of a row."""
    predicted = record.get("predicted")
    if predicted is None:
        ends = max((one["end"] for one in record["entities"]), default=0)
        tags = ["O"] * ends
        for one in record["entities"]:
            tags[one["start"]] = f"B-{one['label']}"
            tags[one["start"] + 1 : one["end"]] = [f"I-{one['label']}"] * (one["end"] - one["start"] - 1)
        return {"ner_tags": tags, "relations": record.get("relations")}
    if isinstance(predicted, str):
        return {"relation" if "head" in record else "label": predicted}
    return {"ner_tags": predicted}


def judge_answers(tellings: Sequence[Telling]) -> Iterator[Verdict]:
    """A verdict for each cue that tells what is answered; one for all others."""
    quiet = True
    for cue in dict.fromkeys(telling.cue for telling in tellings if telling.cue != TOGETHER):
        told = [telling for telling in tellings if telling.cue == cue and telling.p <= SIGNIFICANT]
        best = max(told, key=lambda telling: telling.auc, default=None)
        level = level_of(best.auc, RED_AUC, YELLOW_AUC) if best else GREEN
        if best and level != GREEN:
            quiet = False
            text = f"The answers follow {cue}: it alone tells {best.label}, as answered, from others"
            yield Verdict(level, cue, f"{text} with AUC {decimals(best.auc)} (p = {best.p:.3f}).")
    if quiet and tellings:
        text = "The answers follow neither number, size, position nor names of pictures and crops"
        yield Verdict(GREEN, "cues", f"{text}: the AUC is below {decimals(YELLOW_AUC)} for each.")


def audit_predictions(paths: Sequence[Path], split: Split, permutations: int = PERMUTATIONS) -> dict:
    """Audit the answers of a system; further files hold answers to compare them with.

    Args:
        paths: files of answers on the same posts.
        split: the rows that they answer.
        permutations: of the test of each cue.

    Returns:
        JSON-ready: verdicts, conditions (of `compare_answers`), followed (of `follow_cues`) and "not measured" (cues
        that are absent, do not vary or have too few answers).
    """
    answers = {name: read_answers(path, split) for name, path in zip(names_of(paths), paths, strict=True)}
    conditions = compare_answers(answers)
    followed = follow_cues(next(iter(answers.values())), split, permutations)
    verdicts = [*judge_answers(followed), *judge_conditions(conditions)]
    return {
        "verdicts": [one._asdict() for one in sorted(verdicts, key=lambda verdict: LEVELS.index(verdict.level))],
        "conditions": conditions,
        "followed": [telling._asdict() for telling in followed],
        "not measured": sorted({*CUES} - {telling.cue for telling in followed}),
    }


def names_of(paths: Sequence[Path]) -> list[str]:
    """What files of answers are called: by the pictures they are made with where their names tell, else their paths."""
    known = {predictions_name(mismatch): name for name, mismatch in MISMATCHES.items()}
    others = paths[1:]
    names = [TEXT_TWIN if path.parent.name == TWIN_FOLDER else known.get(path.name, str(path)) for path in others]
    pairs = zip(names, others, strict=True)
    return [AS_THEY_ARE, *(name if names.count(name) == 1 else str(path) for name, path in pairs)]


def audit_model(
    folder: Path, dataset: Path, split: Split, max_posts: int | None = None, permutations: int = PERMUTATIONS
) -> dict:
    """Audit a model: predict the test split of a data set as it is and with other pictures, and compare.

    A model that was trained without pictures predicts without them, and "not measured" says so.

    Args:
        folder: the model, a checkpoint of this package; with its text-only twin in text_only, if there is one.
        dataset: the folder that its task reads.
        split: the test split.
        max_posts: the first posts alone.
        permutations: of the test of each cue.
    """
    task = task_of(folder)
    reads = PreTrainedConfig.get_config_dict(str(folder))[0].get("reads_pictures", True)
    mismatches = list(MISMATCHES.values()) if reads else []
    with TemporaryDirectory() as work:
        paths = [predict(task, folder, dataset, Path(work, "main"), max_posts, mismatches)]
        paths += [paths[0].with_name(predictions_name(mismatch)) for mismatch in mismatches]
        if (folder / TWIN_FOLDER / "config.json").is_file():
            paths.append(predict(task, folder / TWIN_FOLDER, dataset, Path(work, TWIN_FOLDER), max_posts, []))
        report = audit_predictions(paths, split, permutations)
    return report if reads else {**report, "not measured": [*report["not measured"], NO_PICTURES]}


def task_of(folder: Path) -> Task:
    """The task of a checkpoint, by its head; raises a `ValueError` for another kind."""
    names = PreTrainedConfig.get_config_dict(str(folder))[0].get("architectures") or ["none"]
    tasks = {task.model_class.__name__: task for task in TASKS.values()}
    if names[0] not in tasks:
        raise ValueError(f"{folder} is a checkpoint of {names[0]}; expected one of {', '.join(tasks)}")
    return tasks[names[0]]


def predict(
    task: Task, folder: Path, dataset: Path, output: Path, max_posts: int | None, mismatches: Sequence[str]
) -> Path:
    """Predict the test split with a model; no mismatches: without pictures. Return the file of the predictions."""
    words = ["--model_name_or_path", str(folder), "--dataset", str(dataset), "--output_dir", str(output)]
    words += ["--do_predict", "true", "--report_to", "none", "--disable_tqdm", "true"]
    words += ["--use_images", "true" if mismatches else "false"]
    words += ["--max_length", str(min(I2SRMProcessor.from_pretrained(folder).tokenizer.model_max_length, LONGEST))]
    words += ["--max_predict_samples", str(max_posts)] if max_posts else []
    words += ["--test_mismatch", *mismatches] if mismatches else []
    run_training(task, parse_arguments(words))
    return output / predictions_name()


__all__ = ["Condition", "audit_model", "audit_predictions", "compare_answers", "follow_cues", "read_answers"]
