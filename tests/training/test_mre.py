"""The relation task of the training scripts: labels, encoding, what does not fit, predictions, and a run end to end."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import forked
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import ModelCard
from PIL import Image
from tiny import bert_tokenizer, run_arguments, text_config, tiny_processor
from transformers import AutoModelForSequenceClassification, AutoProcessor

from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification
from modeling_i2srm.data.dataset import encode_split
from modeling_i2srm.loading import CheckpointError
from modeling_i2srm.prepare.builder import mre_features
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.build import balanced_weights
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MRE

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["None", "/per/per/peer", "/per/loc/lives_in"]


def processor_with_markers(**settings):
    processor = tiny_processor(bert_tokenizer(), **settings)
    processor.add_entity_markers()
    return processor


def rows(count: int = 12) -> list[dict]:
    """Posts whose relation the word between the entities tells, the longest of ten words; every third has a picture."""
    posts = []
    for i in range(count):
        relation = i % 3
        tokens = ["Kobe", ("and", "likes", "in")[relation], "Paris", *["a"] * (i % 8)]
        image = Image.new("RGB", (40, 40), (80 * relation, 90, 40)) if i % 3 == 0 else None
        posts.append(
            {
                "id": f"p{i}",
                "tokens": tokens,
                "head": {"start": 0, "end": 1},
                "tail": {"start": 2, "end": 3},
                "relation": relation,
                "image": image,
                "objects": [image] if image else [],
            }
        )
    return posts


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("pairs")
    for split, count in (("train", 24), ("validation", 9), ("test", 12)):
        (folder / "data").mkdir(exist_ok=True)
        Dataset.from_list(rows(count), features=mre_features(NAMES)).to_parquet(
            folder / f"data/{split}-00000-of-00001.parquet"
        )
    return str(folder)


def settings(posts, output_dir, **changes) -> list[str]:
    return run_arguments(posts, output_dir, **{"num_train_epochs": 1, "save_strategy": "no", **changes})


def run(posts, output_dir, **changes) -> dict:
    return run_task(MRE, parse_arguments(settings(posts, output_dir, **changes)))


def test_the_task():
    assert (MRE.name, MRE.model_class) == ("mre", I2SRMForRelationClassification)
    prediction = SimpleNamespace(predictions=np.eye(3)[[1, 0]], label_ids=np.array([1, 1]))
    assert MRE.compute_metrics(NAMES)(prediction)["micro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Value("string"), ["posts", "string", "class_encode_column"]),
        (ClassLabel(names=["peer", "couple"]), ["posts", "['peer', 'couple']", "--none_label NAME"]),
        (ClassLabel(names=["NA", "peer", "no_relation"]), ["'NA'", "'no_relation'", "--none_label NA"]),
    ],
)
def test_other_labels_are_explained(kind, words):
    with pytest.raises(ValueError) as error:
        MRE.label_names(Features({"relation": kind}), "posts")
    assert [word for word in words if word not in str(error.value)] == []
    assert MRE.label_names(mre_features(NAMES), "posts") == NAMES


@pytest.mark.parametrize(
    ("names", "none_label", "expected"),
    [
        (["peer", "None"], None, ["peer", "None"]),
        (["no_relation", "peer", "other"], None, ["None", "peer", "other"]),
        (["peer", "Other"], None, ["peer", "None"]),
        (["NA", "peer", "rest"], "rest", ["NA", "peer", "None"]),
    ],
)
def test_the_label_for_no_relation_becomes_none(names, none_label, expected, caplog):
    assert MRE.label_names(mre_features(names), "posts", none_label) == expected
    assert bool(caplog.messages) == ("None" not in names)
    with pytest.raises(ValueError, match="none_label 'gone' is not one of the labels"):
        MRE.label_names(mre_features(names), "posts", "gone")


def test_a_split_is_encoded_and_cut_to_windows():
    split = Dataset.from_list(rows(9), features=mre_features(NAMES))
    encoded, counts = encode_split(MRE, split, processor_with_markers(), 20, "test")
    lost = encoded["num_truncated_words"][:]
    assert counts == {
        "posts": 9,
        "truncated_posts": sum(map(bool, lost)),
        "words_lost": sum(lost),
        "labels_lost": 0,
        "pairs_skipped": 0,
    }
    assert any(lost) and max(map(len, encoded["input_ids"])) <= 20
    assert encoded["labels"][:] == [0, 1, 2] * 3 and encoded["tokens"][:] == split["tokens"][:]
    assert all(map(any, encoded["head_mask"])) and all(map(any, encoded["tail_mask"]))


def far_pairs() -> Dataset:
    far = rows(6)
    for i in (1, 4):
        far[i]["tokens"][1:2] = ["a"] * 19
        far[i]["tail"] = {"start": 20, "end": 21}
    return Dataset.from_list(far, features=mre_features(NAMES))


def test_pairs_that_do_not_fit_are_an_error_that_names_them():
    with pytest.raises(
        ValueError, match=r"test: 2 of 6 pairs do not fit into max_length=20: p1, p4; raise --max_length"
    ):
        encode_split(MRE, far_pairs(), processor_with_markers(), 20, "test")


def test_pairs_that_do_not_fit_are_skipped_on_request_and_counted():
    encoded, counts = encode_split(MRE, far_pairs(), processor_with_markers(), 20, "test", skip_long_pairs=True)
    assert (counts["posts"], counts["pairs_skipped"]) == (4, 2)
    assert encoded["id"][:] == ["p0", "p2", "p3", "p5"] and encoded["labels"][:] == [0, 2, 0, 2]
    assert min(encoded["num_truncated_words"]) >= 0


def test_prediction_records():
    split = Dataset.from_list(rows(2), features=mre_features(NAMES))
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.30004, 0.59996]])
    first, second = MRE.prediction_records(split, SimpleNamespace(predictions=logits, label_ids=None), NAMES)
    assert first == {
        "id": "p0",
        "tokens": ["Kobe", "and", "Paris"],
        "head": {"start": 0, "end": 1},
        "tail": {"start": 2, "end": 3},
        "gold": "None",
        "predicted": "None",
        "score": 0.7,
        "scores": {"None": 0.7, "/per/per/peer": 0.2, "/per/loc/lives_in": 0.1},
    }
    assert (second["gold"], second["predicted"], second["score"]) == ("/per/per/peer", "/per/loc/lives_in", 0.6)
    assert MRE.describe(first) is None
    assert MRE.describe(second) == "Kobe, Paris: /per/loc/lives_in (0.60; gold: /per/per/peer)"


def test_balanced_weights():
    weights = balanced_weights([0, 0, 0, 1, 1, 3], 4)
    assert weights == pytest.approx([6 / 9, 1, 1, 2])
    assert sum(weights[label] for label in [0, 0, 0, 1, 1, 3]) == pytest.approx(6)


@pytest.fixture(scope="module")
def trained(posts, tmp_path_factory) -> tuple[Path, dict, str]:
    """The folder of a run, its results, and what it prints."""
    out, printed = tmp_path_factory.mktemp("trained") / "out", io.StringIO()
    with contextlib.redirect_stdout(printed):
        results = run(posts, out, compare_text_only=True, balance_relations=True)
    return out, results, printed.getvalue()


def test_a_run_leaves_everything_a_user_needs(trained):
    out, results, printed = trained
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    for name in ("multimodal", "pictures_blanked", "text_only"):
        assert {"micro_f1", "macro_f1", "accuracy"} <= set(results[name])
    assert results["truncation"]["test"] == {
        "posts": 12,
        "truncated_posts": 0,
        "words_lost": 0,
        "labels_lost": 0,
        "pairs_skipped": 0,
    }
    assert "micro_f1" in printed and str(out / "confusion.png") in printed

    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"p{i}" for i in range(12)]
    assert all(sum(record["scores"].values()) == pytest.approx(1, abs=1e-3) for record in records)
    with Image.open(out / "confusion.png") as picture:
        assert min(picture.size) > 200

    card = ModelCard.load(out / "README.md")
    reported = {(r.dataset_split, r.metric_name): (r.metric_type, r.metric_value) for r in card.data.eval_results}
    kind, value = reported["test", "micro f1"]
    assert kind == "f1" and value == pytest.approx(results["multimodal"]["micro_f1"], abs=1e-4)
    assert reported["test", "accuracy"][0] == "accuracy" and card.data.pipeline_tag == "other"
    assert 'pipeline("multimodal-relation-classification"' in card.text and "| pairs skipped |" in card.text

    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert type(model) is I2SRMForRelationClassification and list(model.config.id2label.values()) == NAMES
    assert model.config.class_weights == pytest.approx([1, 1, 1])
    processor = AutoProcessor.from_pretrained(out)
    inputs = processor(text="Kobe in Paris", head=(0, 4), tail=(8, 13), images=Image.new("RGB", (40, 40)))
    assert model(**inputs).logits.shape == (1, 3)


def test_a_run_resumed_ends_like_one_that_was_not(posts, tmp_path):
    steps = {"num_train_epochs": 2, "save_strategy": "epoch", "logging_steps": 1}
    whole = run(posts, tmp_path / "whole", **steps)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoint-6")
    again = run(posts, tmp_path / "parts", **steps, resume_from_checkpoint="last")
    assert again["multimodal"]["loss"] == whole["multimodal"]["loss"]


def test_a_run_starts_from_a_checkpoint_of_the_other_task(posts, trained, tmp_path):
    pairs = trained[0]
    changes = {
        "model_name_or_path": pairs,
        "from_scratch": None,
        "text_config": None,
        "vision_config": None,
    }
    results = run(posts, tmp_path / "again", **changes)
    assert results["multimodal"]["accuracy"] >= 0

    model = I2SRMForTokenClassification.from_pretrained(pairs, num_labels=5)
    before = model.model.text_encoder.embeddings.word_embeddings.weight.detach().clone()
    model.save_pretrained(tmp_path / "tags")
    processor = AutoProcessor.from_pretrained(pairs)
    processor.save_pretrained(tmp_path / "tags")
    changes["model_name_or_path"] = tmp_path / "tags"
    run(posts, tmp_path / "from-tags", **changes, do_train=False, do_eval=False)
    # Without training nothing is saved, so the weights are looked at in a model that is loaded the same way.
    loaded = I2SRMForRelationClassification.from_pretrained(tmp_path / "tags", num_labels=3)
    torch.testing.assert_close(loaded.model.text_encoder.embeddings.word_embeddings.weight, before)


def test_markers_are_added_to_pretrained_encoders(posts, tmp_path):
    from transformers import BertConfig, BertModel

    text = tmp_path / "bert"
    tokenizer = bert_tokenizer()
    tokenizer.save_pretrained(text)
    config = {**text_config(), "vocab_size": len(tokenizer)}
    BertModel(BertConfig(**{name: value for name, value in config.items() if name != "model_type"})).save_pretrained(
        text
    )
    changes = {"text_encoder": text, "from_scratch": None, "text_config": None, "do_predict": False}
    run(posts, tmp_path / "out", **changes)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    model = I2SRMForRelationClassification.from_pretrained(tmp_path / "out")
    assert model.config.text_config.vocab_size == len(processor.tokenizer) == len(tokenizer) + 4
    assert processor.image_processor.crop_size["height"] == 32


def test_encoders_that_are_not_at_hand_are_named_with_what_to_give_instead(posts, tmp_path):
    changes = {"text_encoder": tmp_path / "none", "from_scratch": None, "text_config": None}
    with pytest.raises(CheckpointError, match="cannot load the text encoder of '.*none': .* --text_encoder FOLDER"):
        run(posts, tmp_path / "out", **changes)


def test_the_script_itself_runs_from_the_command_line(posts, tmp_path):
    script = forked.script(ROOT / "examples/run_mre.py", *settings(posts, tmp_path / "out"))
    done = forked.run(script, tmp_path / "printed")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "micro_f1" in done.stdout


def test_the_published_recipe_is_read():
    arguments = parse_arguments([str(ROOT / "examples/configs/mnre.json"), "--use_cpu", "true"], "mre")
    model_args, data_args, training_args = arguments.model, arguments.data, arguments.training
    assert (model_args.text_encoder, data_args.max_length) == ("FacebookAI/roberta-large", 80)
    assert (training_args.num_train_epochs, training_args.per_device_train_batch_size) == (25, 16)
    assert (training_args.learning_rate, training_args.warmup_steps) == (3e-5, 0.06)
    assert (training_args.fusion_learning_rate, training_args.metric_for_best_model) == (3e-5, "micro_f1")
    assert not data_args.balance_relations and not data_args.skip_long_pairs


def test_a_data_set_without_pairs_is_explained(posts, tmp_path):
    data = DatasetDict({"train": Dataset.from_dict({"tokens": [["a"]], "relation": [0]})})
    data["train"].to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="no column 'head', 'tail'"):
        run(str(tmp_path), tmp_path / "out")
