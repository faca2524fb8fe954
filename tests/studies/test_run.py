"""Studies, run on a few posts with tiny models, and what is made of runs that were recorded."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import killing
import pytest
from PIL import Image
from recorded_runs import recorded
from tiny import run_arguments

from modeling_i2srm.cli import run_experiments
from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import VisualPosts
from modeling_i2srm.studies import run as experiments
from modeling_i2srm.studies.run import plan, run_study, write_study
from modeling_i2srm.studies.settings import STUDIES
from modeling_i2srm.training.tasks import CLASSIFICATION, MNER, MRE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "posts"
    write_parquet(VisualPosts, folder, train=16, validation=4, test=8)
    return folder


def words(posts, **settings) -> list[str]:
    return run_arguments(posts, "-", num_train_epochs=1, save_strategy="no", max_length=120, **settings)


def keys(posts, study="ablation", names=("full",), task=MNER, seeds=(1,), **settings) -> list[str]:
    return [run.key for run in plan(study, task, words(posts, **settings), list(seeds), list(names))]


def test_what_decides_on_a_result_makes_another_run_and_nothing_else_does(posts, tmp_path):
    same = keys(posts)
    copy = shutil.copytree(posts, tmp_path / "another name")
    incidental = {"logging_steps": 3, "report_to": "tensorboard", "dataloader_num_workers": 2, "disable_tqdm": False}
    assert keys(copy, **incidental, compare_text_only=True, do_eval=False) == same
    assert keys(posts, mixup_delta=0.7, semantic_loss_weight=1.0, mixup_alpha=1.0) == same  # as by default
    assert keys(posts, "delta", ["0.7"]) == keys(posts, "seeds") == same  # studies share runs
    slow = [keys(posts, learning_rate=1e-5, fusion_learning_rate=rate) for rate in (None, 5e-4, 1e-5)]
    assert slow[0] == slow[1] != slow[2]  # the default of new fusion parts
    for other in (
        keys(posts, learning_rate=2e-3),
        keys(posts, seeds=[2]),
        keys(posts, mixup_delta=0.6),
        keys(posts, max_train_samples=8),
        keys(posts, test_mismatch="shuffled:50"),
        keys(posts, "kl_weight", ["0.5"])[1:],
        keys(posts, freeze_vision=True, cache_visual_features="features"),
    ):
        assert len(other) == 1 and other != same
    with open(copy / "data" / "train-00000-of-00001.parquet", "ab") as file:
        file.write(b"!")
    experiments.identity.cache_clear()
    assert keys(copy) != same


def test_the_default_weight_of_the_kl_term_is_that_of_the_task(posts):
    assert (
        keys(posts, task=MRE, semantic_loss_weight=0.5)
        == keys(posts, task=MRE)
        != keys(posts, task=MRE, semantic_loss_weight=1.0)
    )


def test_a_plan_says_what_is_wrong_before_anything_runs(posts):
    with pytest.raises(ValueError, match="no study 'ablations'; they are ablation, delta"):
        plan("ablations", MNER, words(posts), [1])
    with pytest.raises(ValueError, match="setting 'full': 'blurred:5' must be KIND:PERCENT"):
        plan("ablation", MNER, words(posts, test_mismatch="blurred:5"), [1])


def test_settings_that_train_the_same_model_are_refused(posts):
    same = "'full' = 'no AttnMixup' = 'attention only' = 'interpolation only'; 'no KL' = 'neither module'. Attn"
    with pytest.raises(ValueError, match=same):
        plan("ablation", MNER, words(posts, attn_mixup=False), [1, 2])
    with pytest.raises(ValueError, match="study 'delta': .*: '0.1' = '0.2' .*turn it on, --attn_mixup true"):
        plan("delta", MNER, words(posts, attn_mixup=False), [1])
    with pytest.raises(ValueError, match="same model: 'full' = 'no picture'. Choose others: --settings 'full'$"):
        plan("ablation", MNER, words(posts, use_images=False), [1], ["no picture"])
    assert keys(posts, names=("no KL",), attn_mixup=False) != keys(posts, names=("no KL",))
    weights = keys(posts, "kl_weight", ("1.0", "0.5"))  # 1.0 is the default
    assert len(weights) == 3 and len(set(weights)) == 2


def test_a_study_from_command_line_to_picture_and_none_of_it_twice(posts, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    argv = ["run_experiments.py", "ablation", "--task", "mner", "--seeds", "1", "--settings", "no KL"]
    rest = [*words(posts), "--test_mismatch", "noised:50", "blanked:100"]
    monkeypatch.setattr(sys, "argv", [*argv, *rest, "--output_dir", str(out)])
    run_experiments.main()
    folder = out / "ablation-posts"
    records = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert [(one["setting"], one["seed"]) for one in records] == [("full", 1), ("no KL", 1)]
    for one in records:
        lines = (Path(one["folder"]) / "predictions-noised-50.jsonl").read_text().splitlines()
        assert len(lines) == 8 and {"multimodal", "pictures_blanked", "mismatched"} <= set(one["results"])
        assert one["results"]["mismatched"]["blanked:100"]["loss"] == one["results"]["pictures_blanked"]["loss"]
        assert not list(Path(one["folder"]).glob("*.safetensors"))
    printed = capsys.readouterr().out
    assert printed.startswith(STUDIES["ablation"].question) and "16 / 4 / 8 posts" in printed
    with Image.open(folder / "figure.png") as picture:
        assert picture.width > 800
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert len(rows) == 2 * 3 and sum("p" in row for row in rows) == 3

    def no_training(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiments, "run_task", no_training)
    (folder / "table.md").unlink()
    run_experiments.main()
    assert (folder / "table.md").exists()
    with pytest.raises(AssertionError, match="trained again"):
        run_study("ablation", MNER, rest, [3], out, ["full"], progress=False)


def test_a_killed_study_is_resumed_with_the_run_that_it_was_at(posts, tmp_path, monkeypatch):
    trained, run_task, parent = [], experiments.run_task, os.getpid()

    def watched(task, arguments):
        trained.append(arguments.training.seed)
        if trained == [1, 2] and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_task(task, arguments)

    monkeypatch.setattr(experiments, "run_task", watched)
    arguments = ("seeds", MNER, words(posts, use_images=False), [1, 2], tmp_path)
    assert killing.run(lambda: run_study(*arguments, progress=False))[0] == -signal.SIGKILL
    assert len(list(tmp_path.glob("cache/*/run.json"))) == 1 and not (tmp_path / "seeds-posts").exists()
    folder = run_study(*arguments, keep_models=True, progress=False)
    assert trained == [2]  # in this process
    records = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert [(Path(one["folder"]) / "model.safetensors").exists() for one in records] == [False, True]


def test_a_run_that_cannot_be_is_named(posts, tmp_path):
    with pytest.raises(ValueError, match="setting 'full', seed 1: .*has no column"):
        run_study("seeds", CLASSIFICATION, words(posts), [1], tmp_path, progress=False)


@pytest.mark.slow
def test_a_study_of_two_processes_runs_what_is_left(posts, tmp_path):
    config = ROOT / "examples" / "configs" / "accelerate" / "cpu_2_processes.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    command += [ROOT / "examples" / "run_experiments.py", "seeds", "--task", "mner", "--seeds", "1", "2"]
    command = list(map(str, [*command, *words(posts), "--output_dir", tmp_path]))
    for left in (2, 1):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert f"2 runs, 2 different, {left} left to do" in done.stderr and done.stdout.count("| full |") == 1
        records = [json.loads(line) for line in (tmp_path / "seeds-posts" / "runs.jsonl").read_text().splitlines()]
        assert [one["seed"] for one in records] == [1, 2] and records[0]["decisive"]["processes"] == 2
        Path(records[1]["folder"], "run.json").unlink()


def test_table_and_picture_of_recorded_runs(tmp_path):
    records = [recorded(tmp_path, "full", right, seed, None) for seed, right in ((1, 0.9), (2, 0.8))]
    records += [recorded(tmp_path, "no KL", right, seed) for seed, right in ((1, 0.9), (2, 0.78))]
    records += [recorded(tmp_path, "no picture", right, seed) for seed, right in ((1, 0.4), (2, 0.3))]
    write_study(tmp_path, "ablation", MRE, records, "accelerate launch me")
    full, kl, picture = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert full["mean"] == pytest.approx(0.85) and full["std"] == pytest.approx(0.1 / 2**0.5) and "p" not in full
    assert kl["difference"] == pytest.approx(-0.01) and kl["p"] > 0.3 and kl["low"] < 0 <= kl["high"]
    assert picture["difference"] == pytest.approx(-0.5) and picture["adjusted_p"] < 0.01 and picture["high"] < -0.3
    table = (tmp_path / "table.md").read_text()
    assert "    accelerate launch me\n" in table and "99 / 20 / 50 posts" in table and "seeds 1, 2" in table
    assert "| full | 85.00 ± 7.07 | - |" in table and "**crops leak**" in table and "42 seconds" in table
    with Image.open(tmp_path / "figure.png") as drawn:
        assert drawn.width == 960
    assert (tmp_path / "figure.png").stat().st_size < 200_000


@pytest.mark.parametrize("study", ["delta", "kl_weight", "low_resource"])
def test_curves_of_recorded_runs(tmp_path, study):
    records = []
    for number, setting in enumerate(STUDIES[study].settings):
        more = {"series": setting.series, "x": setting.x}
        records.append(recorded(tmp_path, setting.name, 0.5 + number / 50, 1, setting.reference, **more))
    write_study(tmp_path, study, MRE, records, "")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["setting"] for row in rows] == [setting.name for setting in STUDIES[study].settings]
    assert all(("p" in row) == (row["reference"] is not None) for row in rows)
    with Image.open(tmp_path / "figure.png") as drawn:
        assert drawn.size == (960, 504)
