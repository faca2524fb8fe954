"""How probable it is that the picture of a post is its own: a linear map from the picture to the text.

The map is fitted by ridge regression, after training, from the features of pictures to the mean state of their texts.
The cosine of the mapped picture and the text, both centred, is high where they belong together. A logistic regression
on held-out posts, half of them with the picture of another one, turns it into a probability (Platt, 1999). The model of
entities or relations stays as it is, and does not use it.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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

logger = logging.getLogger(__name__)

NAME = "picture_match.safetensors"
FEWEST = 200  # posts with a picture that a map is fitted on, and held-out ones
PENALTIES = tuple(10.0**power for power in range(1, 7))  # of the squared weights, tried on held-out posts
TOGETHER = 64  # posts whose vectors are read together


@dataclass(frozen=True)
class PostVectors:
    """The texts and pictures of N posts that have a picture, as vectors.

    Args:
        texts: (N, d), the mean state of the sub-tokens of each text, read without its picture.
        pictures: (N, C), the average of the backbone's last stage.
        places: of these posts in the list that they are from.
    """

    texts: torch.Tensor
    pictures: torch.Tensor
    places: list[int]


def read_vectors(pipe: MultimodalTokenClassificationPipeline, posts: Sequence, title: str = "") -> PostVectors:
    """The vectors of posts that have a picture; others are left out.

    Args:
        pipe: of a joint model or of entities.
        posts: as the pipeline takes them, or as its `preprocess` gives them. A picture that cannot be read counts as
            absent, with a warning.
        title: of a progress bar; "" for none.
    """
    model = pipe.model.base_model
    texts, pictures, places = [], [], []
    for start in tqdm(range(0, len(posts), TOGETHER), title, disable=not title):
        together = (posts[place] for place in range(start, min(start + TOGETHER, len(posts))))
        encoded = [
            post if isinstance(post, Post) and post.rows else pipe.preprocess(post, on_image_error="warn")["post"]
            for post in together
        ]
        sums: dict[int, torch.Tensor] = {}
        counts: dict[int, torch.Tensor] = {}
        shown: dict[int, torch.Tensor] = {}
        number = {id(post): place for place, post in enumerate(encoded, start)}
        with torch.inference_mode():
            for rows, batch in pipe.batches([post for post in encoded if has_picture(post)]):
                mask = batch["attention_mask"][..., None]
                states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
                features = batch["visual_features"][:, 0, -model.last_channels :]
                parts = (states * mask).sum(1).float().cpu(), mask.sum(1).float().cpu(), features.float().cpu()
                for (post, _), total, count, feature in zip(rows, *parts, strict=True):
                    place = number[id(post)]
                    sums[place], counts[place] = sums.get(place, 0) + total, counts.get(place, 0) + count
                    shown[place] = feature
        places += sorted(sums)
        texts += [sums[place] / counts[place] for place in sorted(sums)]
        pictures += [shown[place] for place in sorted(sums)]
    if not places:
        return PostVectors(torch.zeros(0, 0), torch.zeros(0, 0), [])
    return PostVectors(torch.stack(texts), torch.stack(pictures), places)


def has_picture(post: Post) -> bool:
    """Whether an encoded post has its main picture, not crops alone."""
    return bool(post.pictures) and bool(post.pictures["image_mask"][0])


@dataclass(frozen=True)
class PictureMatch:
    """Tells how probable it is that the picture of a post is its own and not that of another post.

    The probability refers to posts of which half have the picture of another one, drawn at random. It says nothing
    about a wrong picture that fits the text.

    Args:
        weight: (C, d), from the scaled picture to the text.
        picture_mean, picture_scale: (C,).
        text_mean: (d,).
        calibration: (2,), slope and offset of the logit as a function of the cosine.

    Example:

    >>> match = PictureMatch.fit(read_vectors(pipe, train), read_vectors(pipe, validation))  # doctest: +SKIP
    >>> match.save_pretrained("runs/mine")  # doctest: +SKIP
    >>> extractor = Extractor.from_pretrained("runs/mine", picture_match=True)  # doctest: +SKIP
    >>> extractor({"text": "Kobe lands in Paris", "image": "kobe.jpg"}).picture_match  # doctest: +SKIP
    0.93
    """

    weight: torch.Tensor
    picture_mean: torch.Tensor
    picture_scale: torch.Tensor
    text_mean: torch.Tensor
    calibration: torch.Tensor

    @classmethod
    def fit(cls, train: PostVectors, held_out: PostVectors, seed: int = 0) -> Self:
        """Fit the map on training posts; choose its penalty and calibrate it on held-out ones.

        Needs scikit-learn.

        Args:
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
        mean, scale = train.pictures.mean(0), train.pictures.std(0).clamp_min(1e-6)
        text_mean = train.texts.mean(0)
        scaled, centred = ((train.pictures - mean) / scale).double(), (train.texts - text_mean).double()
        gram, product = scaled.T @ scaled, scaled.T @ centred
        best: tuple[float, Self, np.ndarray] | None = None
        for penalty in PENALTIES:
            weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), product)
            match = cls(weight.float().contiguous(), mean, scale, text_mean, torch.tensor([1.0, 0.0]))
            scores, own = match.compare_pairs(held_out, seed)
            score = float(roc_auc_score(own, scores))
            if best is None or score > best[0]:
                best = score, match, scores
        assert best is not None
        score, match, scores = best
        logits = np.log(scores / (1 - scores))  # the cosines: slope 1, offset 0
        fitted = LogisticRegression(C=1e6).fit(logits[:, None], own)
        logger.info(f"picture match: {len(train.places)} posts; AUC {score:.3f} on {len(own)} held-out pairs")
        calibration = torch.tensor([fitted.coef_[0, 0], fitted.intercept_[0]], dtype=torch.float32)
        return cls(**{**vars(match), "calibration": calibration})

    def cosines(self, texts: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """The cosine (N,) of texts (N, d) and of the pictures (N, C) that are mapped to them."""
        mapped = (pictures - self.picture_mean) / self.picture_scale @ self.weight
        return F.cosine_similarity(mapped, texts - self.text_mean)

    def probabilities(self, texts: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """For texts (N, d) and pictures (N, C) the probability (N,) that each picture is that of its text."""
        slope, offset = self.calibration
        return torch.sigmoid(slope * self.cosines(texts, pictures) + offset)

    def compare_pairs(self, vectors: PostVectors, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
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
        own = self.probabilities(vectors.texts, vectors.pictures)
        wrong = self.probabilities(vectors.texts[differs], exchanged[differs])
        return torch.cat([own, wrong]).numpy(), np.repeat([True, False], [len(own), len(wrong)])

    def __call__(self, pipe: MultimodalTokenClassificationPipeline, posts: Sequence) -> list[float | None]:
        """The probability of each post; `None` for one without a picture.

        Args:
            pipe: of the model that it was fitted with.
        """
        vectors = read_vectors(pipe, posts)
        answers: list[float | None] = [None] * len(posts)
        if vectors.places:
            for place, value in zip(vectors.places, self.probabilities(vectors.texts, vectors.pictures), strict=True):
                answers[place] = float(value)
        return answers

    def digest(self) -> str:
        """The sha256 of its numbers, shortened to 16 digits."""
        data = b"".join(tensor.numpy().tobytes() for tensor in asdict(self).values())
        return hashlib.sha256(data).hexdigest()[:16]

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write picture_match.safetensors into the folder of the model that it was fitted with."""
        save_file({name: tensor.contiguous() for name, tensor in asdict(self).items()}, Path(folder, NAME))

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


__all__ = ["PictureMatch", "PostVectors", "read_vectors"]
