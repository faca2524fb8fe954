"""The probability that the picture of a post is its own, from a linear map of the picture to the words of the text.

The map is fitted by ridge regression, after training, from the features of pictures to the mean word embedding of their
texts, in which frequent sub-tokens weigh less (Arora et al., 2017, "A simple but tough-to-beat baseline for sentence
embeddings"). The cosine of the mapped picture and the text, both centred, is high where they belong together. A
logistic regression on held-out posts, half of them with the picture of another one, turns it into a probability (Platt,
1999). The model of entities or relations stays as it is, and does not use it.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers.utils import cached_file

from ..pipeline_i2srm import MultimodalTokenClassificationPipeline
from ..posts import Post
from ..support.atomic_files import placing

logger = logging.getLogger(__name__)

NAME = "picture_match.safetensors"
FEWEST = 200  # posts with a picture that a map is fitted on, and held-out ones
PENALTIES = tuple(10.0**power for power in range(-2, 7))  # of the squared weights, tried on held-out posts
FREQUENT = 1e-3  # the frequency at which a sub-token weighs half, as published
POOR = 0.6  # an area under the curve that says little
TOGETHER = 64  # posts whose pictures are read together


@dataclass(frozen=True)
class PostVectors:
    """The texts and pictures of N posts that have a picture.

    Args:
        tokens: the sub-tokens of each text.
        pictures: (N, C), the average of the backbone's last stage.
        places: of these posts in the list that they are from.
    """

    tokens: list[list[int]]
    pictures: torch.Tensor
    places: list[int]


def check_reads_pictures(pipe: MultimodalTokenClassificationPipeline) -> None:
    """Raise a `ValueError` where the model of a pipeline was trained without pictures, so that it reads none."""
    if not getattr(pipe.model.config, "reads_pictures", True):
        raise ValueError(
            "the model was trained without pictures (config.reads_pictures=False) and reads none, so nothing tells "
            "whether a picture belongs to its post: take a model that was trained with --use_images true, or leave out "
            "the picture match, Extractor(pipe)"
        )


def read_vectors(pipe: MultimodalTokenClassificationPipeline, posts: Sequence, title: str = "") -> PostVectors:
    """The sub-tokens and picture features of posts that have a picture; others are left out.

    Args:
        pipe: of a joint model or of entities.
        posts: as the pipeline takes them, or as its `preprocess` gives them. A picture that cannot be read counts as
            absent, with a warning.
        title: of a progress bar; "" for none.

    Raises:
        ValueError: the model was trained without pictures.
    """
    check_reads_pictures(pipe)
    channels = pipe.model.base_model.last_channels
    pipe.model.eval()
    special = set(pipe.processor.tokenizer.all_special_ids)
    tokens, pictures, places = [], [torch.zeros(0, channels)], []
    for start in tqdm(range(0, len(posts), TOGETHER), title, disable=not title):
        shown = []
        for place in range(start, min(start + TOGETHER, len(posts))):
            post = posts[place]
            if not (isinstance(post, Post) and post.rows):
                post = pipe.preprocess(post, on_image_error="warn", stride=0)["post"]
            if has_picture(post):
                ids = [one for row in post.rows for one in (row or {})["input_ids"] if one not in special]
                tokens.append(ids)
                places.append(place)
                shown.append(post.pictures)
        if shown:
            with torch.inference_mode():
                features = pipe.encode_visually(shown)["visual_features"]
            pictures.append(features[:, 0, -channels:].float().cpu())
    return PostVectors(tokens, torch.cat(pictures), places)


def has_picture(post: Post) -> bool:
    """Whether an encoded post has a main picture. Crops alone do not count."""
    return bool(post.pictures) and bool(post.pictures["image_mask"][0])


@dataclass(frozen=True)
class PictureMatch:
    """Tells how probable it is that the picture of a post is its own and not that of another post.

    The probability refers to posts of which half have the picture of another one, drawn at random. It says nothing
    about a wrong picture that fits the text.

    Args:
        weight: (C, d), from the scaled picture to the text.
        picture_mean, picture_scale: (C,).
        token_weights: (V,), of the sub-tokens of the vocabulary.
        text_mean: (d,).
        calibration: (2,), slope and offset of the logit as a function of the cosine.

    Example:

    >>> embeddings = pipe.model.base_model.get_input_embeddings().weight  # doctest: +SKIP
    >>> match = PictureMatch.fit(embeddings, read_vectors(pipe, train), read_vectors(pipe, held_out))  # doctest: +SKIP
    >>> match.save_pretrained("runs/mine")  # doctest: +SKIP
    >>> extractor = Extractor.from_pretrained("runs/mine", picture_match=True)  # doctest: +SKIP
    >>> extractor({"text": "Kobe lands in Paris", "image": "kobe.jpg"}).picture_match  # doctest: +SKIP
    0.93
    """

    weight: torch.Tensor
    picture_mean: torch.Tensor
    picture_scale: torch.Tensor
    token_weights: torch.Tensor
    text_mean: torch.Tensor
    calibration: torch.Tensor

    @classmethod
    def fit(cls, embeddings: torch.Tensor, train: PostVectors, held_out: PostVectors, seed: int = 0) -> Self:
        """Fit the map on training posts; choose its penalty and calibrate it on held-out ones.

        Needs scikit-learn.

        Args:
            embeddings: (V, d), of the sub-tokens.
            seed: of the exchange of the held-out pictures.

        Raises:
            ValueError: fewer than 200 posts with a picture in one of them.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score

        for name, vectors in (("train", train), ("held_out", held_out)):
            if len(vectors.places) < FEWEST:
                raise ValueError(
                    f"{name} has {len(vectors.places)} posts with a picture, and {FEWEST} are needed to tell whether a "
                    "picture belongs to a post: give more, e.g. read_vectors(pipe, dataset['train'])"
                )
        counts = torch.bincount(torch.tensor([one for ids in train.tokens for one in ids]), minlength=len(embeddings))
        token_weights = FREQUENT / (FREQUENT + counts / counts.sum())
        texts = embed_texts(embeddings, token_weights, train.tokens)
        mean, scale, text_mean = train.pictures.mean(0), train.pictures.std(0).clamp_min(1e-6), texts.mean(0)
        scaled, centred = ((train.pictures - mean) / scale).double(), (texts - text_mean).double()
        gram, product = scaled.T @ scaled, scaled.T @ centred
        best: tuple[float, Self, np.ndarray] | None = None
        for penalty in PENALTIES:
            weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), product)
            weight = weight.float().contiguous()
            match = cls(weight, mean, scale, token_weights, text_mean, torch.tensor([1.0, 0.0]))
            scores, own = match.compare_pairs(embeddings, held_out, seed)
            score = float(roc_auc_score(own, scores))
            if best is None or score > best[0]:
                best = score, match, scores
        assert best is not None
        score, match, scores = best
        logits = np.log(scores / (1 - scores))  # the cosines: slope 1, offset 0
        fitted = LogisticRegression(C=1e6).fit(logits[:, None], own)
        logger.info(f"picture match: {len(train.places)} posts; AUC {score:.3f} on {len(own)} held-out pairs")
        if score < POOR:
            logger.warning("this is hardly better than chance, 0.5: the texts do not say what the pictures show")
        calibration = torch.tensor([fitted.coef_[0, 0], fitted.intercept_[0]], dtype=torch.float32)
        return replace(match, calibration=calibration)

    def probabilities(
        self, embeddings: torch.Tensor, tokens: Sequence[list[int]], pictures: torch.Tensor
    ) -> torch.Tensor:
        """For N texts, as sub-tokens, and pictures (N, C) the probability (N,) that each picture is that of its text.

        Args:
            embeddings: (V, d), of the sub-tokens.
        """
        texts = embed_texts(embeddings, self.token_weights, tokens)
        mapped = (pictures - self.picture_mean) / self.picture_scale @ self.weight
        slope, offset = self.calibration
        return torch.sigmoid(slope * F.cosine_similarity(mapped, texts - self.text_mean) + offset)

    def compare_pairs(
        self, embeddings: torch.Tensor, vectors: PostVectors, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities of posts with their own picture, and with that of another post.

        Returns:
            (2N,) probabilities, and whether the picture is the post's own. Posts that get an equal picture are left out
            of the second half.
        """
        order = np.random.default_rng(seed).permutation(len(vectors.places))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        exchanged = vectors.pictures[other]
        differs = (exchanged != vectors.pictures).any(1)
        own = self.probabilities(embeddings, vectors.tokens, vectors.pictures)
        wrong = self.probabilities(embeddings, vectors.tokens, exchanged)[differs]
        return torch.cat([own, wrong]).numpy(), np.repeat([True, False], [len(own), len(wrong)])

    def __call__(self, pipe: MultimodalTokenClassificationPipeline, posts: Sequence) -> list[float | None]:
        """The probability of each post; `None` for one without a picture.

        Args:
            pipe: of the model that it was fitted with.

        Raises:
            ValueError: a model of other sizes.
        """
        embeddings = pipe.model.base_model.get_input_embeddings().weight
        sizes = pipe.model.base_model.last_channels, *reversed(embeddings.shape)
        if (fitted := (*self.weight.shape, len(self.token_weights))) != sizes:
            raise ValueError(
                f"the picture match was fitted with a model of other sizes (picture, text, vocabulary): {fitted}, here "
                f"{sizes}; fit it again: python examples/fit_picture_match.py --model runs/mine --dataset data/mine"
            )
        vectors = read_vectors(pipe, posts)
        answers: list[float | None] = [None] * len(posts)
        values = self.probabilities(embeddings, vectors.tokens, vectors.pictures)
        for place, value in zip(vectors.places, values, strict=True):
            answers[place] = float(value)
        return answers

    def digest(self) -> str:
        """The sha256 of its numbers, shortened to 16 digits."""
        data = b"".join(tensor.numpy().tobytes() for tensor in asdict(self).values())
        return hashlib.sha256(data).hexdigest()[:16]

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write picture_match.safetensors into the folder of the model that it was fitted with."""
        with placing(Path(folder, NAME)) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in asdict(self).items()}, temporary)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike) -> Self:
        """Read picture_match.safetensors of a folder or Hub id.

        Raises:
            ValueError: it is not there.
        """
        found = cached_file(os.fspath(path), NAME, _raise_exceptions_for_missing_entries=False)
        if found is None:
            raise ValueError(
                f"{os.fspath(path)!r} has no {NAME}, which tells whether a picture belongs to its post; fit one: "
                f"python examples/fit_picture_match.py --model {os.fspath(path)} --dataset data/mine"
            )
        return cls(**load_file(found))


def embed_texts(embeddings: torch.Tensor, weights: torch.Tensor, tokens: Sequence[list[int]]) -> torch.Tensor:
    """The weighted mean (N, d) of the embeddings (V, d) of the sub-tokens of each of N texts; zeros of an empty one."""
    means = torch.zeros(len(tokens), embeddings.shape[1])
    for place, text in enumerate(tokens):
        if text:
            ids = torch.tensor(text)
            share = weights[ids] / weights[ids].sum()
            means[place] = share @ embeddings.detach()[ids.to(embeddings.device)].float().cpu()
    return means


__all__ = ["PictureMatch", "PostVectors", "embed_texts", "read_vectors"]
