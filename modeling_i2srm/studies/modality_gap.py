"""Measures the modality gap: how far apart text and picture vectors are in the space of the semantic loss.

The vectors are those of docs/concepts/method.md, section 4: t, the state of the first token or the vector of the entity
pair, and W v, the projected picture. Distances, alignment and uniformity use the vectors scaled to length 1; the
divergence and the entropies use the distributions softmax(t) and softmax(W v), as in the loss.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm
from transformers import set_seed

from ..data.collator import I2SRMDataCollator
from ..pretrained_model import I2SRMPreTrainedModel
from ..processing_i2srm import I2SRMProcessor
from ..semantic_loss import SemanticLoss
from ..support.figure_style import COLOURS, new_figure, styled

MASKS = ("head_mask", "tail_mask")  # inputs of the heads, not of the encoder
MOST_POINTS = 400  # of each modality in a picture
FOLDS = 5


@dataclass
class ModalityGap:
    """The results of `modality_gap`; D is the size of the vectors.

    Args:
        posts: number of posts with a main picture.
        posts_without_picture: number of other posts, which were left out.
        centroid_distance: between the mean text and the mean picture vector, 0 to 2 (Liang et al. 2022).
        separability: accuracy, 0.5 to 1, of a logistic regression that predicts the modality of a vector
            (cross-validated, both vectors of a post in one fold); 0.5 is chance.
        mean_kl: KL( softmax(t) || softmax(W v) ) of a post and its picture, in nats: the semantic loss without weight.
        mean_kl_other: the same of a post and another post's picture. Where `mean_kl` is not lower, the model has not
            learnt which picture belongs to a post.
        alignment: mean squared distance of a post and its picture, 0 to 4, less is closer (Wang and Isola 2020).
        alignment_other: the same of a post and another post's picture.
        uniformity_text, uniformity_picture: log of the mean of exp(-2 squared distance) of pairs of posts; 0 where all
            vectors are the same, at least -8, and about -4 where they are spread over the sphere.
        entropy_text, entropy_picture: of the distributions, in nats; at most log(D), `largest_entropy`. The KL of two
            distributions near that is small in any case.
        projection_trained: whether the model has a W; one trained without semantic loss has none, and gets a new W.
        text, pictures: (posts, D) float32 vectors, as in the loss.
    """

    posts: int
    posts_without_picture: int
    centroid_distance: float
    separability: float
    mean_kl: float
    mean_kl_other: float
    alignment: float
    alignment_other: float
    uniformity_text: float
    uniformity_picture: float
    entropy_text: float
    entropy_picture: float
    largest_entropy: float
    projection_trained: bool
    text: np.ndarray = field(repr=False)
    pictures: np.ndarray = field(repr=False)

    def to_dict(self) -> dict:
        """The fields as a dict, without the vectors."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}


def modality_gap(
    model: I2SRMPreTrainedModel,
    dataset: Dataset | Sequence[dict],
    processor: I2SRMProcessor | None = None,
    collator: Callable[[list[dict]], Mapping[str, torch.Tensor]] | None = None,
    batch_size: int = 32,
    max_posts: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> ModalityGap:
    """Measure the gap between the modalities of a model on posts.

    Args:
        model: a model with a head, on its device; it is in eval mode during the measurement.
        dataset: rows as for `I2SRMDataCollator`; labels are not looked at.
        processor: of the model.
        collator: in place of a processor, e.g. an `I2SRMDataCollator` with a feature cache.
        max_posts: the first rows only.
        seed: of the folds, and of the new W of a model without one.
        progress: show a bar.

    Raises:
        ValueError: fewer than two posts have a picture, or vectors are not finite.

    Example:

    >>> gap = modality_gap(model, dataset["test"], processor)  # doctest: +SKIP
    >>> gap.centroid_distance, gap.separability, gap.mean_kl  # doctest: +SKIP
    (1.21, 1.0, 0.34)
    """
    if (processor is None) == (collator is None):
        raise ValueError("give the processor of the model, modality_gap(model, dataset, processor), or a collator")
    if not hasattr(model, "text_vectors"):
        raise ValueError(
            f"a {type(model).__name__} has no head, and so no text vector; e.g. "
            'I2SRMForTokenClassification.from_pretrained("runs/quickstart")'
        )
    if collator is None:
        assert processor is not None
        collator = I2SRMDataCollator(processor)
    count = len(dataset) if max_posts is None else min(max_posts, len(dataset))
    text, pictures, trained = collect_vectors(model, dataset, collator, batch_size, count, seed, progress)
    if len(text) < 2:
        raise ValueError(
            f"{len(text)} of {count} posts have a picture: the gap needs two or more; e.g. a data set with a column "
            "'image'"
        )
    if not (np.isfinite(text).all() and np.isfinite(pictures).all()):
        raise ValueError("the model gives vectors that are not finite: check its weights, or load it in float32")
    return measure(text, pictures, count - len(text), trained, seed)


@torch.no_grad()
def collect_vectors(
    model: I2SRMPreTrainedModel,
    dataset: Dataset | Sequence[dict],
    collator: Callable[[list[dict]], Mapping[str, torch.Tensor]],
    batch_size: int,
    count: int,
    seed: int,
    progress: bool,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """t and W v (posts, D) of the first rows that have a main picture, and whether the model has a trained W."""
    base, training = model.base_model, model.training
    head: Any = model
    text, pictures = [], []
    loss = semantic_loss(model)
    trained = loss is not None
    model.eval()
    try:
        for start in tqdm(range(0, count, batch_size), desc="posts", unit="batch", disable=not progress):
            rows = [dataset[i] for i in range(start, min(start + batch_size, count))]
            batch = {name: values.to(model.device) for name, values in collator(rows).items()}
            masks = {name: batch.pop(name) for name in MASKS if name in batch}
            batch = {name: values for name, values in batch.items() if name not in ("labels", "word_mask")}
            outputs = base(**batch)
            if outputs.visual_features is None:
                continue
            vectors = head.text_vectors(outputs.last_hidden_state, **masks)
            if loss is None:
                loss = new_semantic_loss(model, vectors.shape[1], seed)
            vision, present = base.main_picture(outputs)
            present = present.bool()
            text.append(vectors[present].float().cpu())
            pictures.append(loss.projection(vision[present]).float().cpu())
    finally:
        model.train(training)
    if not text:
        return np.zeros((0, 1)), np.zeros((0, 1)), trained
    return torch.cat(text).numpy(), torch.cat(pictures).numpy(), trained


def semantic_loss(model: I2SRMPreTrainedModel) -> SemanticLoss | None:
    """The module of a head that holds W; `None` if the weight of the loss is 0."""
    parts = (getattr(model, name, None) for name in ("semantic_loss", "pair_semantic_loss", "post_semantic_loss"))
    return next((part for part in parts if part is not None), None)


def new_semantic_loss(model: I2SRMPreTrainedModel, size: int, seed: int) -> SemanticLoss:
    """A semantic loss with a newly initialized W."""
    base = model.base_model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss = SemanticLoss(size, base.last_channels)
        base._init_weights(loss.projection)
    return loss.to(base.device, base.dtype)


def measure(text: np.ndarray, pictures: np.ndarray, left_out: int, trained: bool, seed: int = 0) -> ModalityGap:
    """Compute the gap of text and picture vectors (posts, D)."""
    unit_text, unit_pictures = unit(text), unit(pictures)
    log_p, log_q = log_softmax(text), log_softmax(pictures)
    p, q = np.exp(log_p), np.exp(log_q)
    divergence = (p * log_p).sum(1, keepdims=True) - p @ log_q.T  # [i, j]: of text i and picture j
    distance = squared_distances(unit_text, unit_pictures)
    return ModalityGap(
        posts=len(text),
        posts_without_picture=left_out,
        centroid_distance=float(np.linalg.norm(unit_text.mean(0) - unit_pictures.mean(0))),
        separability=separability(unit_text, unit_pictures, seed),
        mean_kl=float(np.diagonal(divergence).mean()),
        mean_kl_other=off_diagonal_mean(divergence),
        alignment=float(np.diagonal(distance).mean()),
        alignment_other=off_diagonal_mean(distance),
        uniformity_text=uniformity(unit_text),
        uniformity_picture=uniformity(unit_pictures),
        entropy_text=float(-(p * log_p).sum(1).mean()),
        entropy_picture=float(-(q * log_q).sum(1).mean()),
        largest_entropy=math.log(text.shape[1]),
        projection_trained=trained,
        text=text.astype(np.float32),
        pictures=pictures.astype(np.float32),
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def log_softmax(vectors: np.ndarray) -> np.ndarray:
    return torch.from_numpy(vectors).double().log_softmax(-1).numpy()


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) of unit vectors (N, D) and (M, D)."""
    return np.maximum(2 - 2 * first @ second.T, 0)


def off_diagonal_mean(matrix: np.ndarray) -> float:
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


def uniformity(vectors: np.ndarray) -> float:
    """Wang and Isola's: log of the mean of exp(-2 squared distance) over the pairs of different posts."""
    return math.log(off_diagonal_mean(np.exp(-2 * squared_distances(vectors, vectors))))


def separability(text: np.ndarray, pictures: np.ndarray, seed: int) -> float:
    posts = np.tile(np.arange(len(text)), 2)
    modality = np.repeat([0, 1], len(text))
    folds = GroupKFold(min(FOLDS, len(text)), shuffle=True, random_state=seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(cross_val_score(classifier, np.concatenate([text, pictures]), modality, groups=posts, cv=folds).mean())


def untrained(
    model: I2SRMPreTrainedModel, text: str | None = None, vision: str | None = None, seed: int = 0
) -> I2SRMPreTrainedModel:
    """An untrained model with the configuration of a trained one.

    Args:
        text, vision: the pretrained encoders that the training started from (folders or Hub ids); without them the
            encoders are newly initialized, too.
    """
    set_seed(seed)
    config = type(model.config).from_dict(model.config.to_dict())
    if text is None:
        new: Any = type(model)(config)
    else:
        settings = config.to_dict()
        names = {each.name for each in dataclasses.fields(config)} - {"text_config", "vision_config"}
        new = type(model).from_encoders(text, vision, **{name: settings[name] for name in names if name in settings})
        size: Any = model.get_input_embeddings().num_embeddings  # with the entity markers
        if size != new.get_input_embeddings().num_embeddings:
            new.resize_token_embeddings(size)
    return new.to(model.device).eval()


def draw_modality_gap(gaps: dict[str, ModalityGap], path: str | Path) -> None:
    """Draw the first two principal components of the vectors of models, by name, one panel per model.

    Each model has its own components, and the axes state their share of the variance; the scale is the same in all
    panels. Of more than 400 posts every n-th is drawn; large markers are the centres. "(new W)" means that
    `projection_trained` is false. The file is an .svg or .png.
    """
    with styled():
        columns = 3 if len(gaps) == 3 else min(len(gaps), 2)
        rows = -(-len(gaps) // columns)
        figure, panels = new_figure(3.3 * columns, 3.7 * rows, rows, columns)
        for axes in panels[len(gaps) :]:
            axes.remove()
        largest = 0.0
        for axes, (name, gap) in zip(panels, gaps.items(), strict=False):
            text, pictures = unit(gap.text), unit(gap.pictures)
            plane = PCA(2, svd_solver="full").fit(np.concatenate([text, pictures]))
            shares = 100 * plane.explained_variance_ratio_
            step = -(-gap.posts // MOST_POINTS)
            for kind, points, colour, marker in (
                ("text", text, COLOURS[0], "o"),
                ("picture", pictures, COLOURS[1], "^"),
            ):
                shown = plane.transform(points)
                largest = max(largest, float(np.abs(shown).max()))
                (xs, ys), (x, y) = shown[::step].T, shown.mean(0)
                axes.scatter(xs, ys, s=14, alpha=0.5, color=colour, marker=marker, label=kind, linewidths=0)
                axes.scatter(x, y, s=70, color=colour, marker=marker, edgecolors="black", linewidths=1.2)
            name += "" if gap.projection_trained else " (new W)"
            said = f"centres {gap.centroid_distance:.2f} apart, KL {gap.mean_kl:.3f} nats"
            axes.set_title(f"{name}\n{said}", parse_math=False, fontsize=10)
            axes.set_xlabel(f"1st component ({shares[0]:.0f} % of variance)", fontsize=10)
            axes.set_ylabel(f"2nd component ({shares[1]:.0f} %)", labelpad=0, fontsize=10)
            axes.tick_params(labelsize=9)
        for axes in panels[: len(gaps)]:
            axes.set(xlim=(-1.1 * largest, 1.1 * largest), ylim=(-1.1 * largest, 1.1 * largest), aspect="equal")
        panels[0].legend(loc="lower right")
        figure.savefig(path)


__all__ = ["ModalityGap", "draw_modality_gap", "modality_gap", "untrained"]
