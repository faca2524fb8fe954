"""Bad configurations, checkpoints and feature caches: an error of ours that names the file and the value."""

import json
import math
import shutil
import struct
from pathlib import Path

import pytest
import torch
from refusals import listed, refused
from safetensors.torch import load_file, save_file
from tiny import (
    TAGS,
    text_config,
    tiny_config,
)
from transformers import AutoModelForTokenClassification, BertConfig, BertModel, pipeline

from modeling_i2srm import I2SRMConfig, I2SRMForTokenClassification
from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.data.feature_cache import VisualFeatureCache
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.loading import CheckpointError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attn_mixup_heads": 5}, ["attn_mixup_heads=5", "32"]),
        ({"text": {"num_attention_heads": 5}}, ["num_attention_heads=5", "hidden_size=32"]),
        ({"text": {"hidden_size": -4}}, "hidden_size=-4"),
        ({"num_objects": True}, "num_objects=True"),
        ({"mixup_delta": "0.7"}, "mixup_delta='0.7'"),
        ({"mixup_alpha": None}, "mixup_alpha=None"),
        ({"mixup_alpha": math.nan}, "mixup_alpha=nan"),
        ({"classifier_dropout": 3}, "classifier_dropout=3"),
        ({"semantic_loss_weight": "1"}, "semantic_loss_weight='1'"),
        ({"use_crf": "no"}, ["use_crf='no'", "true or false"]),
        ({"freeze_vision": "false"}, "freeze_vision='false'"),
        ({"id2label": ["O", "B-PER"]}, "id2label=['O', 'B-PER']"),
        ({"id2label": {"a": "O"}}, "id2label={'a': 'O'}"),
        ({"id2label": {0: "O", 2: "B-PER"}}, "ids 0 to 1"),
        ({"id2label": {0: "O", 1: "O"}}, "'O' more than once"),
        ({"id2label": {0: "O", 1: None}}, "None"),
        ({"vision_config": text_config()}, "'bert', which is not a vision backbone"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_configurations(given, words):
    refused(lambda: I2SRMForTokenClassification(tiny_config(**given)), words)


def test_unknown_fields_are_kept_as_transformers_does():
    assert tiny_config(from_the_future=[1]).to_dict()["from_the_future"] == [1]


# Checkpoints


def rewrite(name: str, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def configure(**fields):
    def change(folder: Path):
        config = json.loads((folder / "config.json").read_text())
        for name, value in fields.items():
            config.pop(name) if value is ... else config.__setitem__(name, value)
        (folder / "config.json").write_text(json.dumps(config))

    return change


def weigh(**weights):
    """Replace weights; `None` leaves one out."""

    def change(folder: Path):
        path = folder / "model.safetensors"
        changed = load_file(path) | {name.replace("__", "."): value for name, value in weights.items()}
        save_file({name: value for name, value in changed.items() if value is not None}, path, {"format": "pt"})

    return change


def be_bert(folder: Path):
    shutil.rmtree(folder)
    BertModel(BertConfig(**{k: v for k, v in text_config().items() if k != "model_type"})).save_pretrained(folder)


WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
BROKEN = "model.safetensors ({} bytes) is truncated or damaged"
OTHER = "other shapes than the configuration asks for"
CHECKPOINTS = {  # name -> how it is spoilt, what the model says (None: loads), what the extractor says
    "cut weights": (rewrite(WEIGHTS, lambda b: b[: len(b) // 2]), "is truncated or damaged", ...),
    "cut header": (rewrite(WEIGHTS, lambda b: b[:20]), "model.safetensors (20 bytes) is truncated or damaged", ...),
    "no bytes": (rewrite(WEIGHTS, lambda b: b""), "model.safetensors (0 bytes)", ...),
    "page": (rewrite(WEIGHTS, lambda b: b"<html>404</html>" * 99), "is truncated or damaged", ...),
    "huge header": (rewrite(WEIGHTS, lambda b: struct.pack("<Q", 2**60) + b[8:]), "is truncated or damaged", ...),
    "wrong shape": (weigh(classifier__weight=torch.zeros(4, 7)), [OTHER, "classifier.weight [4, 7], not [9, 32]"], ...),
    "missing weight": (weigh(classifier__weight=None), None, "lacks the weights classifier.weight"),
    "NaN": (weigh(classifier__bias=torch.full((9,), math.nan)), None, "not finite: classifier.bias"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no file named model.safetensors", ...),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "holds no config.json, only", ...),
    "cut config": (rewrite(CONFIG, lambda b: b[:200]), "config.json (200 bytes) is truncated or damaged", ...),
    "list config": (rewrite(CONFIG, lambda b: b"[1]"), "model_type=[1]", ...),
    "nested config": (rewrite(CONFIG, lambda b: b"[" * 100_000), "config.json", ...),
    "BERT": (be_bert, "model_type='bert'", ...),
    "unknown type": (configure(model_type="xyz"), "model_type='xyz'", ...),
    "no labels": (configure(id2label=..., label2id=...), [OTHER, "classifier.weight [9, 32], not [2, 32]"], ...),
    "list of labels": (configure(id2label=["O"]), "id2label=['O']", ...),
    "gap in labels": (configure(id2label={str(2 * i): tag for i, tag in enumerate(TAGS)}), "ids 0 to 8", ...),
    "other prompt": (configure(prompt_length=7), "prompt_length=7", ...),
    "negative field": (configure(num_objects=-1), "num_objects=-1", ...),
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], None, "the processor of"),
    "cut tokenizer": (
        rewrite(TOKENIZER, lambda b: b[:300]),
        None,
        "tokenizer.json (300 bytes) is truncated or damaged",
    ),
    "other tokenizer": (rewrite(TOKENIZER, lambda b: b"{}"), None, "the processor of"),
    "no processor": (lambda folder: (folder / "processor_config.json").unlink(), None, "the processor of"),
    "empty folder": (lambda folder: [path.unlink() for path in folder.iterdir()], "no config.json, only nothing", ...),
    "absent": (shutil.rmtree, "there is no such folder", ...),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(checkpoint, tmp_path, name):
    spoil, of_model, of_extractor = CHECKPOINTS[name]
    folder = tmp_path / "spoilt"
    shutil.copytree(checkpoint, folder)
    spoil(folder)
    of_extractor = of_model if of_extractor is ... else of_extractor
    expected = [repr(str(folder)), *listed(of_extractor)]
    refused(lambda: Extractor.from_pretrained(str(folder), device="cpu"), expected)
    if of_model is None:
        assert I2SRMForTokenClassification.from_pretrained(folder)
    else:
        expected = [repr(str(folder)), *listed(of_model)]
        refused(lambda: I2SRMForTokenClassification.from_pretrained(folder), expected)
    for door in (
        lambda: AutoModelForTokenClassification.from_pretrained(folder),
        lambda: pipeline("multimodal-token-classification", model=str(folder), device="cpu"),
    ):
        try:
            door()
        except (ValueError, OSError, TypeError, RuntimeError):  # transformers' own, or ours inside
            pass


@pytest.mark.parametrize("path", ["", None, 5, "a/b/c", "/no/such/folder", "./none", __file__])
def test_no_checkpoints(path):
    refused(lambda: Extractor.from_pretrained(path, device="cpu"), repr(path))


def test_a_checkpoint_of_the_other_head_is_named(checkpoint):
    refused(lambda: Extractor.from_pretrained(str(checkpoint), str(checkpoint), device="cpu"), ["re=", "ForTokenClass"])


def test_overrides_of_a_checkpoint_are_checked(checkpoint):
    refused(lambda: I2SRMConfig.from_pretrained(checkpoint, mixup_ratio=7), "mixup_ratio=7")
    with pytest.raises(CheckpointError, match="mixup_ratio=7"):
        I2SRMForTokenClassification.from_pretrained(checkpoint, mixup_ratio=7)


# Feature caches


KEY = "ab" * 16


def packed(header: str, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + body


def claim(count: int, end: int) -> str:
    features = {"dtype": "BF16", "shape": [count, 5], "data_offsets": [0, end]}
    return json.dumps({"features": features, "keys": {"dtype": "U8", "shape": [count, 16], "data_offsets": [end, end]}})


SHARDS = {
    "cut": lambda whole: whole[:-3],
    "no bytes": lambda whole: b"",
    "NULs": lambda whole: bytes(1000),
    "garbage header": lambda whole: struct.pack("<Q", 100) + b"\xff" * 300,
    "endless header": lambda whole: struct.pack("<Q", 2**63) + b"{}",
    "90 MB header": lambda whole: struct.pack("<Q", 90_000_000) + b"{}",
    "nested header": lambda whole: packed("[" * 90_000),
    "10 TB": lambda whole: packed(claim(10**12, 10**13)),
    "overflow": lambda whole: packed(claim(2**63 - 1, 0)),
    "other backbone": lambda whole: whole.replace(b"[1,5]", b"[1,4]").replace(b"[0,10]", b"[0, 8]"),
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards(tmp_path, caplog, name):
    VisualFeatureCache(tmp_path, 5).add([KEY], torch.ones(1, 5))
    (shard,) = tmp_path.glob("*.safetensors")
    spoilt = SHARDS[name](shard.read_bytes())
    assert spoilt != shard.read_bytes()
    shard.write_bytes(spoilt)
    cache = VisualFeatureCache(tmp_path, 5)
    assert len(cache) == 0 and f"{shard} is " in caplog.text and "delete it" in caplog.text
    refused(lambda: cache.read([KEY]), KEY)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder, cache: VisualFeatureCache(folder, -1), "size=-1"),
        (lambda folder, cache: VisualFeatureCache(folder, "5"), "size='5'"),
        (lambda folder, cache: VisualFeatureCache(folder, 5, "int8"), "dtype='int8'"),
        (lambda folder, cache: VisualFeatureCache(None, 5), "folder=None"),
        (lambda folder, cache: VisualFeatureCache(__file__, 5), __file__),
        (lambda folder, cache: cache.add([KEY], torch.ones(1, 7)), "(1, 7)"),
        (lambda folder, cache: cache.add([KEY], torch.ones(2, 5)), "(2, 5) for 1 keys"),
        (lambda folder, cache: cache.add(["zz"], torch.ones(1, 5)), "'zz'"),
        (lambda folder, cache: cache.add([KEY], torch.full((1, 5), math.nan)), "not finite"),
        (lambda folder, cache: cache.read([KEY]), KEY),
        (lambda folder, cache: cache.encode([[KEY]], 4), KEY),
        (lambda folder, cache: cache.encode([[None] * 9], 4), "at most 4"),
        (lambda folder, cache: cache.encode([KEY], 4), "expected a list"),
    ],
)
def test_caches(tmp_path, call, words):
    refused(lambda: call(tmp_path, VisualFeatureCache(tmp_path, 5)), words)


def test_rows_of_which_some_have_no_keys(tmp_path, processor):
    collator = I2SRMDataCollator(processor, feature_cache=VisualFeatureCache(tmp_path, 5))
    rows = [{"tokens": ["a"], "picture_keys": [None]}, {"tokens": ["a"], "id": "p8"}]
    refused(lambda: collator(rows), "'p8' has none")
