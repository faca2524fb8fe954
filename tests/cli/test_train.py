"""i2srm train and evaluate: choices, several processes, scores of a checkpoint."""

import json
import os
import sys

import pytest
import torch.distributed.run as torchrun
from tiny import tiny_pipeline

from modeling_i2srm.cli import evaluate, extract, launch, run_experiments, train
from modeling_i2srm.prepare.builder import NER_TAGS
from modeling_i2srm.training.arguments import parse_arguments

FEW = ["--disable_tqdm", "true", "--max_predict_samples", "4", "--max_eval_samples", "4"]


@pytest.fixture
def runs(monkeypatch) -> list:
    """The runs that would start: task and options."""
    calls: list = []
    monkeypatch.setattr(train, "run", lambda task, argv: calls.append((task, argv)))
    for module in (train, extract, run_experiments):
        monkeypatch.setattr(module, "launch", lambda *arguments: calls.append(arguments))
    return calls


def test_options_are_chosen_unless_a_file_gives_them(posts, tmp_path, monkeypatch, runs, capsys):
    monkeypatch.setattr(sys, "argv", ["i2srm train mner", posts, "-o", str(tmp_path / "out")])
    train.main("mner")
    task, argv = runs.pop()
    assert task == "mner" and argv[:2] == ["--preset", "tiny"] and argv[-4:] == ["--dataset", posts, *argv[-2:]]
    assert len(capsys.readouterr().out.splitlines()) == 5
    (tmp_path / "s.yaml").write_text(f"dataset: {posts}\nseed: 3\n")
    train.train("mner", [str(tmp_path / "s.yaml"), "--seed", "4"])
    assert runs.pop() == ("mner", ["--dataset", posts, "--seed", "3", "--seed", "4"])
    train.train("mner", ["--config", str(tmp_path / "s.yaml"), "--num_processes", "2"])
    assert runs.pop() == (["train", "mner"], ["--dataset", posts, "--seed", "3"], 2)
    with pytest.raises(ValueError, match="--num_processes two is not a number of processes"):
        train.train("mner", [posts, "--num_processes", "two"])


def test_a_launched_process_chooses_nothing(monkeypatch, runs):
    monkeypatch.setattr(sys, "argv", ["i2srm train mner", "--dataset", "x"])
    monkeypatch.setenv(launch.PROCESSES, "2")
    train.main("mner")
    assert runs == [("mner", ["--dataset", "x"])]


def test_extract_and_study_start_processes(posts, tmp_path, monkeypatch, runs, capsys):
    (tmp_path / "s.yaml").write_text("num_processes: 2\nner: m\ninput: [a.jsonl, b.jsonl]\n")
    extract.main([str(tmp_path / "s.yaml"), "--output", "out"])
    assert runs.pop() == (["extract"], ["--ner", "m", "--input", "a.jsonl", "b.jsonl", "--output", "out"], 2)
    words = ["ablation", "--task", "mner", "--dataset", posts, "--settings", "full", "--use_cpu", "true"]
    monkeypatch.setattr(sys, "argv", ["i2srm study", *words, "--num_processes=2"])
    run_experiments.main()
    assert runs.pop() == (["study"], words, 2)
    monkeypatch.setattr(sys, "argv", ["i2srm study", *words, "--settings", "no KI", "--num_processes", "2"])
    with pytest.raises(SystemExit):
        run_experiments.main()
    assert runs == [] and capsys.readouterr().err.count("'no KI' is not a setting") == 1


def test_processes_are_launched_with_torchrun(monkeypatch):
    started = []
    monkeypatch.setattr(torchrun, "main", lambda argv: started.append((argv, os.environ[launch.PROCESSES])))
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 0)
    launch.launch(["train", "mner"], ["--dataset", "x"], 2)
    ((argv, processes),) = started
    assert processes == "2" and launch.PROCESSES not in os.environ
    assert argv[:5] == ["--standalone", "--nproc_per_node", "2", "-m", "modeling_i2srm"]
    assert argv[5:] == ["train", "mner", "--dataset", "x", "--use_cpu", "true"]  # else one process would run
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--num_processes 2: there are 1 GPUs"):
        launch.launch(["extract"], ["--use_cpu", "false"], 2)
    launch.launch(["extract"], ["--use_cpu"], 2)
    assert len(started) == 2
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="--num_processes 2: a launcher has started this process"):
        launch.launch(["extract"], [], 2)


def test_processes_that_do_not_find_each_other_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as of a launcher that knows no CPU
    with pytest.raises(ValueError, match="2 processes were launched, but 1 runs by itself; add --use_cpu true"):
        parse_arguments(["--dataset", "x", "--output_dir", str(tmp_path)])


def test_a_checkpoint_is_evaluated_for_its_task(posts, tmp_path, capsys):
    pipe = tiny_pipeline("entities", id2label=dict(enumerate(NER_TAGS)))
    for part in (pipe.model, pipe.processor):
        part.save_pretrained(tmp_path)
    evaluate.main([posts, "--model", str(tmp_path), "--use_cpu", "true", *FEW])
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert 0 <= results["multimodal"]["lenient_f1"] <= 1 and "validation" in results["multimodal"]
    pipe.model.config.reads_pictures = False  # trained on texts alone
    pipe.model.save_pretrained(tmp_path)
    evaluate.main([posts, "--model", str(tmp_path), "--use_cpu", "true", "--do_eval", "false", *FEW])
    assert "text_only" in json.loads((tmp_path / "evaluation" / "results.json").read_text())
    with pytest.raises(SystemExit):
        evaluate.main([posts])
    assert "e.g. i2srm evaluate data/mine --model runs/mine" in capsys.readouterr().err
