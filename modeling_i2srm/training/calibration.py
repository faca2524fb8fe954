"""How far the scores of a model can be believed, and the temperatures that make them probabilities.

A score is calibrated if answers with a score of 0.8 are right eight times in ten. After training the logits of each
head are divided by a temperature, one number that minimises the negative log-likelihood of held-out posts (Guo et al.,
arXiv 1706.04599). It is multiplied into the weights of the head, so that the checkpoint needs no other code, exported
or not, and `config.temperatures` says what it was. The best tags, labels and regions stay as they are; of a joint model
types and relations, which are chosen together, can change.
"""

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn import functional as F

from ..checks import IGNORE
from ..crf import find_entities, independent_words
from ..modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    labelled_words,
)
from ..modeling_joint import I2SRMForJointExtraction, pairs_of_entities
from ..pretrained_model import I2SRMPreTrainedModel, gather_words

logger = logging.getLogger(__name__)

FEWEST = 50  # labels that a temperature is fitted on
BINS = 15
LOGS = (-2.0, 3.0)  # bounds of the logarithm of a temperature
# The modules whose output a temperature divides, by the scores that they give.
HEADS: dict[type[I2SRMPreTrainedModel], dict[str, tuple[str, ...]]] = {
    I2SRMForTokenClassification: {"tags": ("classifier", "crf")},
    I2SRMForJointExtraction: {
        "tags": ("classifier", "crf"),
        "relations": ("joint_head.relation_output",),
        "regions": ("joint_head.entity_region",),
    },
    I2SRMForRelationClassification: {"relations": ("pair_classifier",)},
    I2SRMForSequenceClassification: {"labels": ("post_classifier",)},
}


def heads_of(model: I2SRMPreTrainedModel) -> dict[str, tuple[str, ...]]:
    """The modules whose output a temperature divides, by the scores that they give."""
    return next(HEADS[base] for base in type(model).__mro__ if base in HEADS)


@dataclass(frozen=True)
class Reliability:
    """How scores of answers compare with how often they are right.

    Args:
        count: of the answers.
        accuracy: share that is right.
        confidence: mean score.
        ece: expected calibration error: the mean distance of score and accuracy over bins of equally many answers.
        ece_by_chance: the ece to be expected of as many answers with these scores that are right exactly as often as
            the scores say. An ece near it shows no fault of the scores.
        brier: mean squared distance of a score from 1 (right) or 0 (wrong).
        aurc: area under the risk-coverage curve: the mean, over all shares of answers kept from the best score
            down, of the share of them that is wrong. 0 = all wrong answers come last and there are none.
        bins: mean score, accuracy and count of each bin, the lowest scores first.
    """

    count: int
    accuracy: float
    confidence: float
    ece: float
    ece_by_chance: float
    brier: float
    aurc: float
    bins: list[tuple[float, float, int]]


def measure_reliability(scores: Sequence[float], right: Sequence[bool], bins: int = BINS) -> Reliability:
    """Compare the scores of answers with whether they are right.

    Args:
        scores: probabilities.
        right: of each answer.
        bins: most bins; of fewer answers each is a bin.

    Raises:
        ValueError: no answers, or not as many scores.

    Example:

    >>> measure_reliability([0.9, 0.9, 0.6, 0.6], [True, True, True, False], bins=2).ece
    0.1
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(right, dtype=float)
    if len(values) != len(truth) or not len(values):
        raise ValueError(f"{len(values)} scores and {len(truth)} answers: give a score for each, and at least one")
    order = np.argsort(values, kind="stable")
    values, truth = values[order], truth[order]
    parts = [part for part in np.array_split(np.arange(len(values)), bins) if len(part)]
    rows = [(float(values[part].mean()), float(truth[part].mean()), len(part)) for part in parts]
    ece = sum(count * abs(score - share) for score, share, count in rows) / len(values)
    # The distance in a bin is nearly normal then, and the mean of |x| for x ~ N(0, v) is sqrt(2v/π).
    chance = sum(math.sqrt(2 / math.pi * float((values[part] * (1 - values[part])).sum())) for part in parts)
    wrong = np.cumsum(1 - truth[::-1]) / np.arange(1, len(values) + 1)
    brier = float(np.mean((values - truth) ** 2))
    return Reliability(
        count=len(values),
        accuracy=round(float(truth.mean()), 6),
        confidence=round(float(values.mean()), 6),
        ece=round(ece, 6),
        ece_by_chance=round(chance / len(values), 6),
        brier=round(brier, 6),
        aurc=round(float(wrong.mean()), 6),
        bins=rows,
    )


def scored_answers(records: Sequence[dict]) -> dict[str, list[tuple[str, float, bool]]]:
    """The answers of predictions.jsonl with their labels, scores, and whether they are right.

    Returns:
        Under "entities" the predicted ones, right if span and type are; under "relations" and "regions" of a joint
        model those between, and of, entities whose spans are annotated; of a relation model and of a classifier every
        row, under "relations" and "labels". Kinds without an answer are left out.
    """
    answers: dict[str, list[tuple[str, float, bool]]] = {}
    for record in records:
        if isinstance(record["gold"], str):
            kind = "relations" if "head" in record else "labels"
            answer = record["predicted"], record["score"], record["predicted"] == record["gold"]
            answers.setdefault(kind, []).append(answer)
        elif isinstance(record["gold"], dict):
            for kind, values in graph_answers(record).items():
                answers.setdefault(kind, []).extend(values)
        else:
            gold = set(find_entities(record["gold"]))
            answers.setdefault("entities", []).extend(
                (one["entity"], one["score"], (one["start"], one["end"], one["entity"]) in gold)
                for one in record["entities"]
            )
    return {kind: values for kind, values in answers.items() if values}


def graph_answers(record: dict) -> dict[str, list[tuple[str, float, bool]]]:
    """The `scored_answers` of a post of a joint model."""
    gold = {(one["start"], one["end"]): (place, one) for place, one in enumerate(record["gold"]["entities"])}
    entities, regions, places = [], [], []
    for one in record["entities"]:
        place, same = gold.get((one["start"], one["end"]), (None, None))
        places.append(place)
        entities.append((one["label"], one["score"], same is not None and same["label"] == one["label"]))
        if same is not None and same.get("region") is not None:
            shown = "none" if one["region"] < 0 else "object"
            regions.append((shown, one["region_score"], one["region"] == same["region"]))
    annotated = record["gold"]["relations"]
    triples = {(one["head"], one["label"], one["tail"]) for one in annotated or ()}
    relations = [
        (one["label"], one["score"], (places[one["head"]], one["label"], places[one["tail"]]) in triples)
        for one in (record["relations"] if annotated is not None else ())
        if None not in (places[one["head"]], places[one["tail"]])
    ]
    return {"entities": entities, "relations": relations, "regions": regions}


def summarize_reliability(records: Sequence[dict]) -> dict[str, dict]:
    """The reliability of each kind of answers as results.json holds it: numbers, bins, and the error of each label."""
    summary = {}
    for kind, answers in scored_answers(records).items():
        labels = sorted({label for label, _, _ in answers})
        by_label = {}
        for label in labels:
            one = measure_reliability(*zip(*[answer[1:] for answer in answers if answer[0] == label], strict=True))
            by_label[label] = {"ece": one.ece, "count": one.count}
        whole = measure_reliability(*zip(*[answer[1:] for answer in answers], strict=True))
        summary[kind] = {**asdict(whole), "bins": [list(row) for row in whole.bins], "labels": by_label}
    return summary


Likelihood = Callable[[float], float]  # temperature -> mean negative log-likelihood


def fit_temperature(likelihood: Likelihood) -> float:
    """The temperature with the smallest negative log-likelihood.

    Example:

    >>> logits, labels = torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    >>> round(fit_temperature(lambda t: F.cross_entropy(logits / t, labels).item()), 2)
    3.64
    """
    found = minimize_scalar(lambda log: likelihood(float(np.exp(log))), bounds=LOGS, method="bounded")
    return float(np.exp(found.x))


@torch.no_grad()
def collect_likelihoods(model: I2SRMPreTrainedModel, batches: Iterable[dict]) -> dict[str, tuple[int, Likelihood]]:
    """The number of labels of held-out posts and their negative log-likelihood, for each head of a model.

    Args:
        model: in evaluation mode.
        batches: with labels, on the device of the model.
    """
    sentences: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    rows: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def keep(kind: str, logits: torch.Tensor, labels: torch.Tensor) -> None:
        labelled = labels != IGNORE
        rows.setdefault(kind, []).append((logits[labelled].float().cpu(), labels[labelled].cpu()))

    for batch in batches:
        outputs = model(**batch)
        if isinstance(model, I2SRMForTokenClassification):
            words = labelled_words(batch["labels"], batch.get("word_mask"))
            tags, mask = gather_words(batch["labels"], words)
            emissions = gather_words(outputs.logits.float(), words)[0]
            sentences.append((emissions.cpu(), tags.cpu(), mask.cpu()))
        else:
            keep(next(iter(heads_of(model))), outputs.logits, batch["labels"])
        if isinstance(model, I2SRMForJointExtraction):
            spans = outputs.entity_spans
            if batch.get("relation_labels") is not None:
                keep("relations", outputs.relation_logits, pairs_of_entities(batch["relation_labels"], spans))
            if batch.get("region_labels") is not None:
                regions = batch["region_labels"].masked_fill(spans[..., 0] < 0, IGNORE)
                keep("regions", outputs.region_logits, model.region_targets(regions, outputs.image_mask))

    found: dict[str, tuple[int, Likelihood]] = {}
    if sentences:
        assert isinstance(model, I2SRMForTokenClassification)
        found["tags"] = sum(int(mask.sum()) for _, _, mask in sentences), tag_likelihood(model, sentences)
    for kind, parts in rows.items():
        logits, labels = (torch.cat(values) for values in zip(*parts, strict=True))

        def likelihood(t: float, logits: torch.Tensor = logits, labels: torch.Tensor = labels) -> float:
            return F.cross_entropy(logits.double() / t, labels).item()

        found[kind] = len(labels), likelihood
    return found


def tag_likelihood(
    model: I2SRMForTokenClassification, sentences: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> Likelihood:
    """The mean -log p of the tags of sentences, per word, with emissions and transitions divided by a temperature."""
    cpu = torch.device("cpu")
    chain = independent_words(len(model.config.label_names), cpu) if model.crf is None else copy.deepcopy(model.crf)
    chain = chain.to(cpu).float()
    weights = [parameter.detach().clone() for parameter in chain.parameters()]
    words = sum(int(mask.sum()) for _, _, mask in sentences)

    def likelihood(t: float) -> float:
        with torch.no_grad():
            for parameter, weight in zip(chain.parameters(), weights, strict=True):
                parameter.copy_(weight / t)
            return sum(chain(emissions / t, tags, mask).sum().item() for emissions, tags, mask in sentences) / words

    return likelihood


@torch.no_grad()
def divide_scores(model: I2SRMPreTrainedModel, temperatures: dict[str, float]) -> None:
    """Divide the logits of heads by temperatures, in the weights, and note it in `config.temperatures`."""
    for kind, temperature in temperatures.items():
        for name in heads_of(model)[kind]:
            for parameter in parameters_of(model, name):
                parameter.div_(temperature)
    model.config.temperatures = {kind: round(value, 4) for kind, value in temperatures.items()} or None


@contextmanager
def without_temperatures(model: I2SRMPreTrainedModel) -> Iterator[None]:
    """Give the scores of a model as they were before `divide_scores`, within this block."""
    temperatures = model.config.temperatures or {}
    names = [name for kind in temperatures for name in heads_of(model)[kind]]
    weights = [(parameter, parameter.detach().clone()) for name in names for parameter in parameters_of(model, name)]
    divide_scores(model, {kind: 1 / temperature for kind, temperature in temperatures.items()})
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weight in weights:
                parameter.copy_(weight)
        model.config.temperatures = temperatures or None


def parameters_of(model: I2SRMPreTrainedModel, name: str) -> list[nn.Parameter]:
    """The parameters of a module of a model; none of a CRF that is switched off."""
    return [parameter for place, parameter in model.named_parameters() if place.startswith(f"{name}.")]


def calibrate(model: I2SRMPreTrainedModel, batches: Iterable[dict]) -> dict[str, float]:
    """Fit the temperatures of a model on held-out posts and divide its scores by them.

    Heads with fewer than `FEWEST` labels among the posts stay as they are.

    Returns:
        The temperatures by kind of score: tags, relations, regions, labels.
    """
    training = model.training
    model.eval()
    temperatures = {}
    for kind, (count, likelihood) in collect_likelihoods(model, batches).items():
        if count < FEWEST:
            logger.info(f"scores of {kind} stay as they are: {count} labels to fit a temperature on, {FEWEST} needed")
            continue
        temperature = fit_temperature(likelihood)
        logger.info(
            f"scores of {kind}: temperature {temperature:.3f}, negative log-likelihood {likelihood(1.0):.4f} -> "
            f"{likelihood(temperature):.4f} on {count} held-out labels"
        )
        temperatures[kind] = temperature
    divide_scores(model, temperatures)
    model.train(training)
    return temperatures


__all__ = [
    "FEWEST",
    "Reliability",
    "calibrate",
    "collect_likelihoods",
    "divide_scores",
    "fit_temperature",
    "measure_reliability",
    "scored_answers",
    "summarize_reliability",
    "without_temperatures",
]
