"""Disks that are full or cannot be written to: one message that says what to do, and nothing that was saved is lost."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from tiny import bert_tokenizer, tiny_config, tiny_processor
from tiny_steps import run

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus
from modeling_i2srm.support.faults import RunError
from modeling_i2srm.training.checkpoints import last_whole_checkpoint


@pytest.fixture
def disk(tmp_path):
    """Makes a small disk of a number of kilobytes; the test is skipped where that is not allowed."""
    mounted = []

    def make(kilobytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a tmpfs is not allowed here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True, capture_output=True)


CACHED = {"freeze_vision": True, "visual_cache_dtype": "float32", "eval_strategy": "no"}
CACHED |= {"load_best_model_at_end": False, "overwrite": True, "num_train_epochs": 1, "save_strategy": "no"}


def test_training_is_refused_at_the_start_where_nothing_can_be_written(posts, disk, monkeypatch):
    folder = disk(400)
    monkeypatch.setattr("modeling_i2srm.training.run.I2SRMTrainer.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(RunError, match=r"--output_dir .*/out has .* MB free, and at least .* MB are needed"):
        run(posts, folder / "out")
    remount(folder, "ro")
    with pytest.raises(RunError, match=r"--output_dir .*/new cannot be written to \(Read-only file system\)"):
        run(posts, folder / "new")


def test_training_on_a_disk_that_fills_up_is_resumed_when_there_is_room(posts, disk):
    folder = disk(3200)  # two checkpoints of 1.3 MB, not three
    with pytest.raises(RunError, match=r"checkpoint-6 could not be written \(.*MB were free.*resumes from .*point-4"):
        run(posts, folder / "out")
    assert last_whole_checkpoint(folder / "out").endswith("checkpoint-4")
    remount(folder, "size=9000k")
    results = run(posts, folder / "out", resume_from_checkpoint="last")
    assert json.loads((folder / "out" / "results.json").read_text())["multimodal"] == results["multimodal"]


def test_a_cache_on_a_full_disk_keeps_what_it_holds(posts, disk, tmp_path, monkeypatch):
    folder = disk(80)
    with pytest.raises(RunError, match=r"--cache_visual_features .* MB free, and at least .* MB are needed"):
        run(posts, tmp_path / "out", **CACHED, cache_visual_features=folder)
    monkeypatch.setattr("modeling_i2srm.data.feature_cache.check_writable", lambda *_: None)  # fills up meanwhile
    monkeypatch.setattr("modeling_i2srm.data.feature_cache.SHARD_PICTURES", 32)
    expected = r"features could not be written to .* \(No space left on device\). Those of (32|64) pictures are kept"
    with pytest.raises(RunError, match=expected):
        run(posts, tmp_path / "out", **CACHED, cache_visual_features=folder)
    monkeypatch.undo()
    kept = {path.name for path in folder.rglob("*.safetensors")}
    remount(folder, "size=9000k")
    run(posts, tmp_path / "out", **CACHED, cache_visual_features=folder)
    assert kept and kept < {path.name for path in folder.rglob("*.safetensors")}
    remount(folder, "ro")  # nothing is lacking
    run(posts, tmp_path / "again", **CACHED, cache_visual_features=folder)
    with pytest.raises(RunError, match=r"--cache_visual_features .* cannot be written to \(Read-only"):
        run(posts, tmp_path / "other", **CACHED | {"visual_cache_dtype": "bfloat16"}, cache_visual_features=folder)


def test_extraction_on_a_full_disk_is_resumed_when_there_is_room(disk, tmp_path, monkeypatch):
    torch.manual_seed(3)
    model = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(bert_tokenizer())}))
    model.save_pretrained(tmp_path / "ner")
    tiny_processor().save_pretrained(tmp_path / "ner")
    text = "Kobe lands in Paris with Jordan " * 2
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps({"text": text}) for _ in range(40)))

    def extract(output: Path):
        settings = {"use_cpu": True, "disable_tqdm": True, "shard_size": 5, "batch_size": 5}
        inputs = [str(tmp_path / "in.jsonl")]
        return extract_corpus(CorpusArguments(inputs, str(output), str(tmp_path / "ner"), **settings))

    folder = disk(44)
    with pytest.raises(RunError, match=r"stopped at part-0000\d.*No space left on device.*Finished parts are kept"):
        extract(folder / "out")
    done = os.listdir(folder / "out" / "done")
    assert 0 < len(done) < 8
    remount(folder, "size=900k")
    extract(folder / "out")
    extract(tmp_path / "whole")
    for path in (tmp_path / "whole").glob("part-*"):
        assert path.read_bytes() == (folder / "out" / path.name).read_bytes()
    remount(folder, "ro")
    with pytest.raises(RunError, match=r"--output .*/other cannot be written to \(Read-only file system\)"):
        extract(folder / "other")
