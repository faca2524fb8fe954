"""Runs that are killed at random points, over and over: the rerun ends with the result of a run that was not."""

import json
import os
from pathlib import Path

import pytest
import torch
from killing import kill_again_and_again, run
from safetensors.torch import load_file
from tiny import bert_tokenizer, run_arguments, tiny_config, tiny_processor

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.data import feature_cache as cached_pictures
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.checkpoints import find_checkpoints, find_damage
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MNER

ROUNDS = int(os.environ.get("I2SRM_KILLS", 8))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")]


def train(posts: str, output_dir: Path, **settings):
    defaults = {"num_train_epochs": 3, "logging_steps": 1, "metric_for_best_model": "lenient_f1"}
    defaults |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    defaults |= {"load_best_model_at_end": True, "save_total_limit": 2, "resume_from_checkpoint": "last"}
    run_task(MNER, parse_arguments(run_arguments(posts, output_dir, **{**defaults, **settings})))


def result(output_dir: Path) -> dict:
    """All that must not depend on how a run went."""
    results = json.loads((output_dir / "results.json").read_text())
    metrics = {
        name: {key: value for key, value in part.items() if "f1" in key or key == "loss"}
        for name, part in (*results.items(), ("validation", results["multimodal"]["validation"]))
        if isinstance(part, dict)
    }
    state = json.loads((output_dir / "trainer_state.json").read_text())
    losses = [{k: v for k, v in entry.items() if "loss" in k} for entry in state["log_history"]]
    weights = load_file(output_dir / "model.safetensors")
    return {
        "metrics": metrics,
        "losses": [entry for entry in losses if entry and "train_loss" not in entry],
        "predictions": (output_dir / "predictions.jsonl").read_bytes(),
        "weights": {name: weight.numpy().tobytes() for name, weight in weights.items()},
    }


@pytest.mark.parametrize("part", ["training", "writing"])
def test_training_that_is_killed_ends_with_the_same_result(posts, tmp_path, part, capsys):
    # Writing at every step, hardly anything else happens.
    every = {"save_steps": 1, "eval_steps": 1, "save_total_limit": 1} if part == "writing" else {}
    assert run(lambda: train(posts, tmp_path / "whole", **every))[0] == 0
    folder = tmp_path / "killed"
    points = kill_again_and_again(lambda: train(posts, folder, **every), folder, ROUNDS, seed=len(part))
    assert result(folder) == result(tmp_path / "whole")
    assert all(find_damage(checkpoint) is None for checkpoint in find_checkpoints(folder))
    assert not (folder / "_unfinished").exists() and not list(folder.rglob("*.tmp"))
    with capsys.disabled():
        print(f"\n{part}: survived {len(points)} kills: {'; '.join(points)}")


def test_caching_features_that_is_killed_ends_with_the_same_result(posts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cached_pictures, "SHARD_PICTURES", 4)
    features, folder = tmp_path / "run" / "features", tmp_path / "run"

    def work(output_dir: Path, cache: Path):
        frozen = {"freeze_vision": True, "cache_visual_features": cache, "visual_cache_dtype": "float32"}
        train(posts, output_dir, **frozen, max_steps=2, per_device_eval_batch_size=4)

    assert run(lambda: work(tmp_path / "whole", tmp_path / "features"))[0] == 0
    points = kill_again_and_again(lambda: work(folder / "out", features), folder, ROUNDS, seed=3)
    assert result(folder / "out") == result(tmp_path / "whole")
    with capsys.disabled():
        print(f"\ncaching: survived {len(points)} kills: {'; '.join(points)}")


def test_extraction_that_is_killed_ends_with_the_same_result(tmp_path, capsys):
    torch.manual_seed(3)
    model = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(bert_tokenizer())}))
    model.save_pretrained(tmp_path / "ner")
    tiny_processor().save_pretrained(tmp_path / "ner")
    lines = [json.dumps({"text": f"Kobe lands in Paris {i}" * (1 + i % 3)}) for i in range(60)]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, '{"text": ""}']))

    def work(output: Path):
        settings = {"use_cpu": True, "disable_tqdm": True, "shard_size": 5, "batch_size": 4}
        extract_corpus(CorpusArguments([str(tmp_path / "in.jsonl")], str(output), str(tmp_path / "ner"), **settings))

    def found(output: Path) -> dict:
        files = [
            path for path in output.rglob("*") if path.is_file() and path.name not in ("summary.json", "manifest.json")
        ]
        return {str(path.relative_to(output)): path.read_bytes() for path in files}

    assert run(lambda: work(tmp_path / "whole"))[0] == 0
    folder = tmp_path / "killed"
    points = kill_again_and_again(lambda: work(folder), folder, ROUNDS, seed=4)
    assert found(folder) == found(tmp_path / "whole") and len(found(folder)) == 27
    with capsys.disabled():
        print(f"\nextraction: survived {len(points)} kills: {'; '.join(points)}")
