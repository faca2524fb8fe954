"""The training script end to end, on a few posts and a tiny model."""

import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import forked
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from tiny import CHECKPOINTING
from tiny_runs import command_line, run
from transformers import AutoProcessor, TrainingArguments
from transformers import EarlyStoppingCallback as PlainStopping

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.data.dataset import load_splits
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.checkpoints import EarlyStoppingCallback
from modeling_i2srm.training.run import text_only_twin
from modeling_i2srm.training.tasks import MNER
from modeling_i2srm.training.trainer import I2SRMTrainer

ROOT = Path(__file__).resolve().parents[2]
AT_THE_END = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}


def test_a_run_leaves_everything_a_user_needs(posts, tmp_path, capsys, curves):
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


# 24 posts in batches of 8: 3 steps an epoch, so that every 2 steps is in the middle of one. At the end of an epoch a
# run of tests/training/test_mre.py is resumed.
@pytest.mark.parametrize(
    "every",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"eval_strategy": "steps", "save_strategy": "steps", "save_steps": 2},
    ],
)
def test_resuming_gives_the_identical_result(posts, tmp_path, every):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    settings = {"dataloader_num_workers": 1, **every, **({"eval_steps": 2} if every else {})}
    expected = run(posts, whole, **settings)
    shutil.copytree(whole, resumed)
    for checkpoint in sorted(resumed.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[1:]:
        shutil.rmtree(checkpoint)
    (resumed / "model.safetensors").unlink()
    got = run(posts, resumed, **settings, resume_from_checkpoint="last")
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


def without_times(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if not name.endswith(("_per_second", "runtime", "_time"))}


@pytest.fixture(scope="module")
def trained(posts, tmp_path_factory) -> Path:
    """The folder of a run that is evaluated at its end."""
    folder = tmp_path_factory.mktemp("trained")
    run(posts, folder, **AT_THE_END)
    return folder


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_result(posts, trained, tmp_path):
    one = json.loads((trained / "results.json").read_text())
    other = run(posts, tmp_path, dataloader_num_workers=-1, **AT_THE_END)
    for part in ("multimodal", "pictures_blanked"):
        validations = [result[part].pop("validation", {}) for result in (one, other)]
        assert without_times(one[part]) == without_times(other[part])
        assert without_times(validations[0]) == without_times(validations[1])


def test_predictions_are_in_the_order_of_the_data_though_read_longest_first(posts, trained, tmp_path, monkeypatch):
    again = {"model_name_or_path": trained, "from_scratch": False, "do_train": False, "per_device_eval_batch_size": 5}
    again |= {"text_config": None, "vision_config": None, "load_best_model_at_end": False, "eval_strategy": "no"}
    seen, predict = [], I2SRMTrainer.predict

    def watched(self, split, **settings):
        seen.append(split["length"][:])
        return predict(self, split, **settings)

    monkeypatch.setattr(I2SRMTrainer, "predict", watched)
    results, by_length = [run(posts, tmp_path / "by_length", **again)], list(seen)
    monkeypatch.setattr(
        "modeling_i2srm.training.predictions.longest_first", lambda split, _: (split, list(range(len(split))))
    )
    results.append(run(posts, tmp_path / "unsorted", **again))

    assert len(seen) == 2 * len(by_length)
    for lengths, others in zip(by_length, seen[len(by_length) :], strict=True):
        assert lengths == sorted(others, reverse=True) != others
    files = [tmp_path / name / "predictions.jsonl" for name in ("by_length", "unsorted")]
    by_length, unsorted = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    assert [record["id"] for record in by_length] == datasets.load_dataset(posts)["test"]["id"]
    assert len({tag for record in unsorted for tag in record["predicted"]}) > 1
    for one, other in zip(by_length, unsorted, strict=True):
        assert one["predicted"] == other["predicted"]
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-4)
    for part in ("multimodal", "pictures_blanked"):
        one, other = (without_times(result[part]) for result in results)
        validations = [metrics.pop("validation", {"loss": 0}) for metrics in (one, other)]
        for found, expected in ((one, other), map(without_times, validations)):
            assert found.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-4)
            assert found == expected


def test_an_earlier_run_is_not_mixed_up_and_the_seed_decides_the_result(posts, tmp_path):
    settings = {"num_train_epochs": 1, "eval_strategy": "no", "load_best_model_at_end": False, "do_eval": False}
    first = run(posts, tmp_path, **settings, seed=1)
    with pytest.raises(ValueError, match="--resume_from_checkpoint last.*--overwrite true"):
        run(posts, tmp_path, **settings, seed=1)
    same, other = (run(posts, tmp_path, **settings, overwrite=True, seed=seed) for seed in (1, 2))
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    assert first["multimodal"]["loss"] == same["multimodal"]["loss"] != other["multimodal"]["loss"]


def test_early_stopping_and_limits(posts, tmp_path):
    limits = {"max_train_samples": 8, "max_eval_samples": 4, "max_predict_samples": 3}
    frozen = {"learning_rate": 0.0, "num_train_epochs": 9, "early_stopping_patience": 2}
    frozen |= {"metric_for_best_model": "loss", "use_images": False}  # the metric stays as it is
    results = run(posts, tmp_path, **limits, **frozen)
    assert [results["truncation"][name]["posts"] for name in ("train", "validation", "test")] == [8, 4, 3]
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["epoch"] == 3.0
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 3


def test_early_stopping_waits_while_the_metric_is_zero():
    stopping, arguments = EarlyStoppingCallback(early_stopping_patience=2), SimpleNamespace(greater_is_better=True)
    counters = []
    for best, value in ((None, 0.0), (0.0, 0.0), (0.0, 0.0), (0.1, 0.0), (0.1, 0.1)):
        stopping.check_metric_value(arguments, SimpleNamespace(best_metric=best), None, value)
        counters.append(stopping.early_stopping_patience_counter)
    assert counters == [0, 0, 0, 1, 2]
    assert type(stopping).__name__ == PlainStopping.__name__  # the key of its counter in checkpoints


def test_the_twin_of_a_resumed_run_resumes_its_own_checkpoint(posts, tmp_path):
    argv = command_line(posts, tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    twin = text_only_twin(parse_arguments(argv))
    assert (twin.training.resume_from_checkpoint, Path(twin.training.output_dir).name) == ("last", "text_only")
    assert text_only_twin(parse_arguments(command_line(posts, tmp_path))).training.resume_from_checkpoint is None


def test_truncation_is_reported_and_predictions_stay_whole(posts, tmp_path, caplog):
    results = run(posts, tmp_path, max_length=8, num_train_epochs=1, **AT_THE_END)
    lost = results["truncation"]["test"]
    assert lost["truncated_posts"] > 0 and lost["words_lost"] > 0 and lost["labels_lost"] > 0
    assert "labels_lost" in caplog.text
    records = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert sum(score is None for record in records for score in record["scores"]) == lost["words_lost"]


def test_going_on_from_a_checkpoint(posts, trained, tmp_path):
    go_on = {"model_name_or_path": trained, "from_scratch": False, "do_train": False}
    with pytest.raises(ValueError, match="text_config and vision_config cannot change"):
        run(posts, tmp_path / "again", **go_on, image_size=None)
    again = run(posts, tmp_path / "again", **go_on, text_config=None, vision_config=None)
    first = json.loads((trained / "results.json").read_text())
    assert again["multimodal"]["lenient_f1"] == first["multimodal"]["lenient_f1"]
    assert again["multimodal"]["loss"] == pytest.approx(first["multimodal"]["loss"], rel=1e-4)
    fewer = run(posts, tmp_path / "fewer", **go_on, text_config=None, vision_config=None, num_objects=1)
    assert fewer["multimodal"]["loss"] != again["multimodal"]["loss"]


def test_a_new_text_encoder_and_a_pretrained_one_exclude_each_other(posts, tmp_path):
    with pytest.raises(ValueError, match="--text_config is that of a new text encoder.*--from_scratch true"):
        run(posts, tmp_path, from_scratch=False)


def test_wrong_column_and_label_names_are_explained(posts, tmp_path):
    splits = datasets.load_dataset(posts)
    for split in splits:
        (tmp_path / "renamed").mkdir(exist_ok=True)
        splits[split].rename_column("ner_tags", "labels").to_parquet(tmp_path / "renamed" / f"{split}.parquet")
    wrong = r"""no column 'ner_tags', only 'id', 'tokens', 'labels'.*; rename it, .*\("labels", "ner_tags"\)$"""
    with pytest.raises(ValueError, match=wrong):
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
    words = command_line(posts, tmp_path / "out", num_train_epochs=1, do_predict=False, **{CHECKPOINTING: True})
    script = forked.script(ROOT / "examples/run_mner.py", *words, cwd=tmp_path)
    done = forked.run(script, tmp_path / "printed")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out/model.safetensors").exists() and "lenient f1" in done.stdout


def test_what_the_data_report_says_stands_beside_every_result(posts, tmp_path, capsys):
    marked = Path(shutil.copytree(posts, tmp_path / "marked"))
    said = {"edition": "second", "objects": "released", "warnings": ["the crops give the label away"]}
    report = json.loads((marked / "report.json").read_text())
    (marked / "report.json").write_text(json.dumps(report | said))
    out = tmp_path / "out"
    results = run(str(marked), out, num_train_epochs=1, **AT_THE_END)
    said |= {"ceilings": report["ceilings"]}
    assert results["data"] == said
    for name in ("results", "test_results", "eval_results"):
        assert json.loads((out / f"{name}.json").read_text())["data"] == said
    card = ModelCard.load(out / "README.md")
    assert "Edition: second" in card.text and "**the crops give the label away**" in card.text
    assert {result.dataset_name for result in card.data.eval_results} == {"marked (released crops)"}
    assert "WARNING: " + str(marked) + ": the crops give the label away" in capsys.readouterr().out


def test_weights_of_relations_are_refused_for_entities(posts, tmp_path):
    with pytest.raises(ValueError, match="--balance_relations is for .* run_mre.py: leave it out"):
        run(posts, tmp_path / "out", balance_relations=True)


@pytest.mark.parametrize("use_images", [True, False])
def test_the_log_says_what_is_on_and_a_text_only_run_ignores_pictures(posts, tmp_path, caplog, use_images):
    settings = {"num_train_epochs": 1, "dataloader_num_workers": None, "use_images": use_images, **AT_THE_END}
    with caplog.at_level("INFO"):
        results = run(posts, tmp_path, **settings, do_predict=not use_images)
    assert I2SRMForTokenClassification.from_pretrained(tmp_path).config.reads_pictures == use_images
    if not use_images:
        assert "text_only" in results and "multimodal" not in results and "pictures_blanked" not in results
    for words in (
        "pictures: backbone trained; features computed in every step; decoded by 1 worker processes, ",
        "large JPEGs at a part of their size (reduced_decode=2), memory not pinned",
    ):
        assert (words in caplog.text) == use_images
    assert ("pictures: not read" in caplog.text) != use_images
    assert "padded to the longest of the batch; batches of posts of similar length" in caplog.text
    assert f"optimizer {TrainingArguments.default_optim}; float32" in caplog.text


def test_bf16_trains_and_evaluates_under_autocast_on_the_cpu(posts, tmp_path, monkeypatch):
    seen = set()
    forward = I2SRMForTokenClassification.forward

    @functools.wraps(forward)  # Trainer looks for labels among its arguments
    def watched(self, **inputs):
        seen.add((self.training, torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return forward(self, **inputs)

    monkeypatch.setattr(I2SRMForTokenClassification, "forward", watched)
    results = run(posts, tmp_path, bf16=True, num_train_epochs=1, **AT_THE_END)
    assert seen == {(True, True, torch.bfloat16), (False, True, torch.bfloat16)}
    weights = load_file(tmp_path / "model.safetensors")
    weights = [weight for weight in weights.values() if weight.is_floating_point()]
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in weights)
    assert 0 < results["multimodal"]["loss"] < float("inf")
