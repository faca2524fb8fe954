"""Fit the map that tells whether the picture of a post is its own, and put it into the folder of a model.

    python examples/fit_picture_match.py --model runs/mine --dataset data/mine

The map is fitted on the training posts that have a picture, calibrated on those of the validation split, and measured
on those of the test split, if there is one. How well the probability tells own pictures from exchanged ones is printed,
and written as picture_match.json beside the map. `Extractor.from_pretrained("runs/mine", picture_match=True)` then
gives each post with a picture a `picture_match`.
"""

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from transformers import pipeline

from ..data.dataset import load_splits
from ..data.feature_cache import VisualFeatureCache, cache_pictures
from ..inference.models import HEADS, is_joint, load_head
from ..inference.picture_match import PictureMatch, PostVectors, check_reads_pictures, read_vectors
from ..pipeline_i2srm import MultimodalTokenClassificationPipeline
from ..processing_i2srm import I2SRMProcessor
from ..support.atomic_files import write_json
from ..support.options import OptionParser
from ..training.calibration import measure_reliability

KEYS = ["tokens", "image"]
SPLITS = ("train", "validation", "test")

parser = OptionParser("fit_picture_match.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, help="folder of a joint model or of one of entities")
parser.add_argument("--dataset", required=True, help="Parquet folder or Hub id, with the pictures of the posts")
parser.add_argument("--cache_visual_features", help="folder of features, as of the training run; default: none")
parser.add_argument("--max_posts", type=int, help="use only this many rows of each split")
parser.add_argument("--seed", type=int, default=0, help="of the exchange of pictures (default: %(default)s)")


class CachedPosts(Sequence):
    """Posts that are encoded when they are read, with the features of their pictures from a cache."""

    def __init__(self, pipe: MultimodalTokenClassificationPipeline, rows: Dataset, cache: VisualFeatureCache):
        self.pipe, self.rows, self.cache = pipe, rows, cache

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place):
        row = self.rows[place]
        post = self.pipe.preprocess({"tokens": row["tokens"]}, stride=0)["post"]
        features = self.cache.encode([row["picture_keys"]], 1)
        return replace(post, pictures={name: tensor[0] for name, tensor in features.items()})


def load_pipeline(path: str) -> MultimodalTokenClassificationPipeline:
    """The pipeline of a joint model or of one of entities, whose backbone is as it was trained, as a cache needs it."""
    task, model_class = HEADS["joint" if is_joint("model", path) else "ner"]
    model = load_head("model", path, model_class, "auto")
    make_pipeline: Callable = pipeline  # its types name the tasks of transformers alone
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return make_pipeline(task, model=model, processor=I2SRMProcessor.from_pretrained(path), device=device)


def read_posts(
    pipe: MultimodalTokenClassificationPipeline, rows: dict[str, Dataset], cache: str | None
) -> Mapping[str, Sequence]:
    """The posts of each split, as `read_vectors` takes them.

    Args:
        cache: folder of features; `None` computes those of each picture.
    """
    for name, split in rows.items():
        if "image" not in split.column_names:
            names = ", ".join(split.column_names)
            raise ValueError(f"the {name} split has no column image, only {names}: prepare the data with pictures")
    rows = {name: split.select_columns(KEYS) for name, split in rows.items()}
    if cache is None:
        return rows
    features = VisualFeatureCache.for_model(cache, pipe.model, pipe.processor)
    keyed = cache_pictures(features, rows, pipe.model, pipe.processor)
    return {name: CachedPosts(pipe, split, features) for name, split in keyed.items()}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parser.parse_args()
    splits = load_splits(options.dataset, ("tokens",), plain_text=True)
    if missing := [name for name in SPLITS[:2] if name not in splits]:
        raise ValueError(f"{options.dataset} has no split {', '.join(missing)}, only {', '.join(splits)}")
    pipe = load_pipeline(options.model)
    check_reads_pictures(pipe)  # before pictures are read into a cache
    names = [name for name in SPLITS if name in splits]
    rows = {
        name: splits[name].select(range(min(options.max_posts or len(splits[name]), len(splits[name]))))
        for name in names
    }
    posts = read_posts(pipe, rows, options.cache_visual_features)
    vectors = {name: read_vectors(pipe, posts[name], f"reading {name}") for name in names}
    embeddings = pipe.model.base_model.get_input_embeddings().weight
    match = PictureMatch.fit(embeddings, vectors["train"], vectors["validation"], options.seed)
    match.save_pretrained(options.model)
    report = {name: measure(match, embeddings, vectors[name], options.seed) for name in names[1:]}
    write_json(Path(options.model, "picture_match.json"), report)
    print(json.dumps(report, indent=2))


def measure(match: PictureMatch, embeddings: torch.Tensor, vectors: PostVectors, seed: int = 0) -> dict[str, float]:
    """Measure how well the probability separates own pictures from exchanged ones.

    Returns:
        posts, with a picture; auc; calibration_error, the expected one of the probability.
    """
    from sklearn.metrics import roc_auc_score

    scores, own = match.compare_pairs(embeddings, vectors, seed)
    error = measure_reliability(scores.tolist(), own.tolist()).ece
    return {
        "posts": len(vectors.places),
        "auc": round(float(roc_auc_score(own, scores)), 4),
        "calibration_error": error,
    }
