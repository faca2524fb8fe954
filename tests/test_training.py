"""The training script end to end, on a few posts and a tiny model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from builder import write_parquet
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from tiny import run_arguments
from transformers import AutoProcessor
from visual_posts import VisualPosts

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.arguments import parse_arguments
from modeling_i2srm.mner import MNER
from modeling_i2srm.training import load_splits, run_task

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("posts") / "posts"
    write_parquet(VisualPosts, folder, train=24, validation=8, test=10)
    return str(folder)


def command_line(posts, output_dir, **settings) -> list[str]:
    defaults = {
        "num_train_epochs": 2,
        "logging_steps": 1,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "lenient_f1",
    }
    return run_arguments(posts, output_dir, **{**defaults, **settings})


def run(posts, output_dir, **settings) -> dict:
    return run_task(MNER, *parse_arguments(command_line(posts, output_dir, **settings)))


def test_a_run_leaves_everything_a_user_needs(posts, tmp_path, capsys):
    out = tmp_path / "out"
    results = run(posts, out, compare_text_only=True, report_to="tensorboard", max_length=120)
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    for name in ("multimodal", "pictures_blanked", "text_only"):
        assert {"lenient_f1", "strict_f1", "lenient_f1_PER", "strict_recall_LOC"} <= set(results[name])
    assert results["seconds"] > 0
    printed = capsys.readouterr().out
    assert "pictures blanked" in printed and str(out / "training_curves.png") in printed

    with Image.open(out / "training_curves.png") as curves:
        assert min(curves.size) > 300
    assert list(out.glob("**/events.out.tfevents.*"))

    test = datasets.load_dataset(posts)["test"]
    names = test.features["ner_tags"].feature.names
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == test["id"]
    for record, row in zip(records, test, strict=True):
        assert record["tokens"] == row["tokens"] and record["gold"] == [names[tag] for tag in row["ner_tags"]]
        assert len(record["predicted"]) == len(record["scores"]) == len(row["tokens"])
        assert all(0 <= score <= 1 for score in record["scores"])

    card = ModelCard.load(out / "README.md")
    reported = {(r.dataset_split, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert reported["test", "lenient f1"] == pytest.approx(results["multimodal"]["lenient_f1"], abs=1e-4)

    model = I2SRMForTokenClassification.from_pretrained(out)
    processor = AutoProcessor.from_pretrained(out)
    inputs = processor(tokens=records[0]["tokens"], images=test[0]["image"], objects=test[0]["objects"])
    with torch.no_grad():
        tags = model.decode(model(**inputs).logits, inputs["word_mask"])[0]
    assert [names[tag] for tag in tags] == records[0]["predicted"]


def last_checkpoint_weights(folder: Path) -> dict:
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return load_file(newest / "model.safetensors")


def test_resuming_gives_the_identical_result(posts, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    expected = run(posts, whole, num_train_epochs=3, dataloader_num_workers=1)
    shutil.copytree(whole, resumed)
    for checkpoint in sorted(resumed.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[1:]:
        shutil.rmtree(checkpoint)
    (resumed / "model.safetensors").unlink()
    got = run(posts, resumed, num_train_epochs=3, dataloader_num_workers=1, resume_from_checkpoint="last")
    for name, value in last_checkpoint_weights(whole).items():
        assert torch.equal(value, last_checkpoint_weights(resumed)[name]), name
    for part in ("multimodal", "pictures_blanked"):
        for name, value in expected[part].items():
            if "f1" in name or name == "loss":
                assert got[part][name] == value, name
    histories = [
        [entry for entry in json.loads((folder / "trainer_state.json").read_text())["log_history"] if "loss" in entry]
        for folder in (whole, resumed)
    ]
    assert histories[0] == histories[1]


def test_the_same_seed_gives_the_same_result_and_another_does_not(posts, tmp_path):
    losses = [
        run(posts, tmp_path / str(i), seed=seed, num_train_epochs=1)["multimodal"]["loss"]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_an_earlier_run_is_not_mixed_up(posts, tmp_path):
    run(posts, tmp_path, num_train_epochs=1)
    with pytest.raises(ValueError, match="--resume_from_checkpoint last.*--overwrite true"):
        run(posts, tmp_path, num_train_epochs=1)
    run(posts, tmp_path, num_train_epochs=1, overwrite=True, seed=3)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1


def test_early_stopping_and_limits(posts, tmp_path):
    limits = {"max_train_samples": 8, "max_eval_samples": 4, "max_predict_samples": 3}
    frozen = {"learning_rate": 0.0, "num_train_epochs": 9, "early_stopping_patience": 2}
    results = run(posts, tmp_path, **limits, **frozen)
    assert [results["truncation"][name]["posts"] for name in ("train", "validation", "test")] == [8, 4, 3]
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["epoch"] == 3.0
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 3


def test_truncation_is_reported_and_predictions_stay_whole(posts, tmp_path, caplog):
    results = run(posts, tmp_path, max_length=8, num_train_epochs=1)
    lost = results["truncation"]["test"]
    assert lost["truncated_posts"] > 0 and lost["words_lost"] > 0 and lost["labels_lost"] > 0
    assert "labels_lost" in caplog.text
    records = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert sum(score is None for record in records for score in record["scores"]) == lost["words_lost"]


def test_going_on_from_a_checkpoint(posts, tmp_path):
    run(posts, tmp_path / "first", num_train_epochs=1)
    go_on = {"model_name_or_path": tmp_path / "first", "from_scratch": False, "do_train": False}
    with pytest.raises(ValueError, match="text_config and vision_config cannot change"):
        run(posts, tmp_path / "again", **go_on)
    again = run(posts, tmp_path / "again", **go_on, text_config=None, vision_config=None)
    first = json.loads((tmp_path / "first" / "results.json").read_text())
    assert again["multimodal"]["lenient_f1"] == first["multimodal"]["lenient_f1"]
    assert again["multimodal"]["loss"] == pytest.approx(first["multimodal"]["loss"], rel=1e-4)
    fewer = run(posts, tmp_path / "fewer", **go_on, text_config=None, vision_config=None, num_objects=1)
    assert fewer["multimodal"]["loss"] != again["multimodal"]["loss"]


def test_a_new_text_encoder_and_a_pretrained_one_exclude_each_other(posts, tmp_path):
    with pytest.raises(ValueError, match="--text_config is that of a new text encoder.*--from_scratch true"):
        run(posts, tmp_path, from_scratch=False)


def test_text_only_run_ignores_pictures(posts, tmp_path):
    results = run(posts, tmp_path, use_images=False, num_train_epochs=1)
    assert "text_only" in results and "multimodal" not in results and "pictures_blanked" not in results


def test_wrong_column_and_label_names_are_explained(posts, tmp_path):
    splits = datasets.load_dataset(posts)
    for split in splits:
        (tmp_path / "renamed").mkdir(exist_ok=True)
        splits[split].rename_column("ner_tags", "labels").to_parquet(tmp_path / "renamed" / f"{split}.parquet")
    with pytest.raises(ValueError, match="no column 'ner_tags', only 'id', 'tokens', 'labels'"):
        load_splits(str(tmp_path / "renamed"), MNER.text_columns)
    with pytest.raises(ValueError, match="has no column"):
        run(str(tmp_path / "renamed"), tmp_path / "out")


def test_a_missing_split_is_explained(posts, tmp_path):
    shutil.copytree(posts, tmp_path / "posts")
    for path in (tmp_path / "posts").rglob("*validation*"):
        path.unlink()
    (tmp_path / "posts" / "README.md").unlink()  # names the splits, and so would have the loss refused before
    with pytest.raises(ValueError, match="--do_eval needs a split 'validation'"):
        run(str(tmp_path / "posts"), tmp_path / "out")


def test_the_script_itself_runs_from_the_command_line(posts, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "run_mner.py")]
    command += command_line(posts, tmp_path, num_train_epochs=1, do_predict=False)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "model.safetensors").exists()


def test_what_the_data_report_says_stands_beside_every_result(posts, tmp_path, capsys):
    marked = Path(shutil.copytree(posts, tmp_path / "marked"))
    said = {"edition": "second", "objects": "released", "warnings": ["the crops give the label away"]}
    report = json.loads((marked / "report.json").read_text())
    (marked / "report.json").write_text(json.dumps(report | said))
    out = tmp_path / "out"
    results = run(str(marked), out, num_train_epochs=1, load_best_model_at_end=False, save_strategy="no")
    assert results["data"] == said
    for name in ("results", "test_results", "eval_results"):
        assert json.loads((out / f"{name}.json").read_text())["data"] == said
    card = ModelCard.load(out / "README.md")
    assert "Edition: second" in card.text and "**the crops give the label away**" in card.text
    assert {result.dataset_name for result in card.data.eval_results} == {"marked (released crops)"}
    assert "WARNING: " + str(marked) + ": the crops give the label away" in capsys.readouterr().out


def test_weights_of_relations_are_refused_for_entities(posts, tmp_path):
    with pytest.raises(ValueError, match=r"--balance_relations is for examples/run_mre\.py"):
        run(posts, tmp_path / "out", balance_relations=True)
