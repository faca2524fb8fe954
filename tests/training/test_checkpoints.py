"""Checkpoints that are complete, damaged, rotated, and left by a run that was stopped."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from safetensors.torch import load_file
from tiny import run_arguments
from tiny_steps import STEPS, run
from torch.utils.data import BatchSampler, DataLoader
from transformers import Trainer

from modeling_i2srm.support import atomic_files as whole_files
from modeling_i2srm.support import faults
from modeling_i2srm.support.faults import Interrupted, RunError
from modeling_i2srm.training import checkpoints
from modeling_i2srm.training.checkpoints import WholeCheckpoints, find_damage, last_whole_checkpoint
from modeling_i2srm.training.sampling import LengthGroupedSampler
from modeling_i2srm.training.step_guard import GuardedSteps

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = {"eval_strategy": "epoch", "save_strategy": "epoch"}
STEPS |= {"logging_steps": 1, "load_best_model_at_end": True, "metric_for_best_model": "lenient_f1"}


@pytest.fixture(scope="module")
def whole(posts, tmp_path_factory) -> Path:
    """A run of 6 steps, 3 an epoch, with checkpoints after 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    run(posts, folder)
    return folder


def same_result(one: Path, other: Path) -> bool:
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    same = all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    return same and (one / "predictions.jsonl").read_bytes() == (other / "predictions.jsonl").read_bytes()


def cut(path: Path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_damaged_checkpoint_is_named_and_skipped(whole, tmp_path, name, listed, caplog):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    if not listed:  # as an earlier version or a plain Trainer leaves them
        for path in out.glob("*/checkpoint_files.json"):
            path.unlink()
    assert last_whole_checkpoint(out) == str(out / "checkpoint-6")
    cut(out / "checkpoint-6" / name)
    assert last_whole_checkpoint(out) == str(out / "checkpoint-4")
    assert str(out / "checkpoint-6") in caplog.text and "skipped" in caplog.text


def test_resuming_skips_a_damaged_checkpoint_and_gives_the_same_result(posts, whole, tmp_path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "model.safetensors").unlink()
    cut(out / "checkpoint-6" / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors has .* bytes of .*_from_checkpoint .*checkpoint-4"):
        run(posts, out, resume_from_checkpoint=out / "checkpoint-6")
    run(posts, out, resume_from_checkpoint="last")
    assert same_result(out, whole) and find_damage(out / "checkpoint-6") is None


def copy_with_best(whole: Path, out: Path, listed: bool = True) -> Path:
    """A run whose best model after 4 and 6 steps is checkpoint-4, in another folder than its states name."""
    shutil.copytree(whole, out)
    for checkpoint in (out / "checkpoint-4", out / "checkpoint-6"):
        state = json.loads((checkpoint / "trainer_state.json").read_text())
        state |= {"best_model_checkpoint": "/old/runs/checkpoint-4", "best_global_step": 4}
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
        (checkpoint / "checkpoint_files.json").unlink()
        if listed:
            checkpoints.seal(checkpoint)
    return out


DAMAGES = {
    "cut": lambda best: cut(best / "model.safetensors"),
    "without weights": lambda best: (best / "model.safetensors").unlink(),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_whose_best_model_is_damaged_is_named_and_skipped(whole, tmp_path, damage, listed, caplog):
    out = copy_with_best(whole, tmp_path / "out", listed)
    assert last_whole_checkpoint(out) == str(out / "checkpoint-6")
    checkpoints.check_whole(out / "checkpoint-6")
    DAMAGES[damage](out / "checkpoint-4")
    assert last_whole_checkpoint(out) == str(out / "checkpoint-2")
    assert f"{out / 'checkpoint-6'} is incomplete and is skipped: of its best model" in caplog.text
    with pytest.raises(
        ValueError, match="of its best model checkpoint-4.*_from_checkpoint .*checkpoint-2, or resume w"
    ):
        checkpoints.check_whole(out / "checkpoint-6")
    assert last_whole_checkpoint(out, needs_best=False) == str(out / "checkpoint-6")  # it is not loaded
    checkpoints.check_whole(out / "checkpoint-6", needs_best=False)


def test_a_run_whose_best_model_is_damaged_is_resumed_from_before_it(posts, whole, tmp_path):
    out = copy_with_best(whole, tmp_path / "out")
    (out / "model.safetensors").unlink()
    cut(out / "checkpoint-4" / "model.safetensors")
    with pytest.raises(ValueError, match="checkpoint-6 is incomplete: of its best model checkpoint-4, model"):
        run(posts, out, resume_from_checkpoint=out / "checkpoint-6")
    run(posts, out, resume_from_checkpoint="last")
    assert same_result(out, whole)


def test_without_the_best_model_a_run_is_resumed_from_its_last_checkpoint(posts, whole, tmp_path):
    out = copy_with_best(whole, tmp_path / "out")
    shutil.rmtree(out / "checkpoint-4")
    run(posts, out, resume_from_checkpoint="last", load_best_model_at_end=False, calibrate=False)
    last, model = (load_file(folder / "model.safetensors") for folder in (out / "checkpoint-6", out))
    assert all(torch.equal(weight, model[name]) for name, weight in last.items())


def test_a_run_that_was_moved_loads_its_best_model(posts, whole, tmp_path):
    out = copy_with_best(whole, tmp_path / "out")
    run(posts, out, resume_from_checkpoint="last")
    best, model, last = (
        load_file(folder / "model.safetensors") for folder in (out / "checkpoint-4", out, whole / "checkpoint-6")
    )
    assert all(torch.equal(weight, model[name]) for name, weight in best.items())
    assert any(not torch.equal(weight, last[name]) for name, weight in best.items())


def test_a_best_model_that_is_damaged_during_the_run_ends_it(posts, whole, tmp_path, monkeypatch):
    out, load = copy_with_best(whole, tmp_path / "out"), checkpoints.WholeCheckpoints._load_best_model

    def damaged_by_then(self):
        (out / "checkpoint-4" / "model.safetensors").unlink()
        load(self)

    monkeypatch.setattr(checkpoints.WholeCheckpoints, "_load_best_model", damaged_by_then)
    with pytest.raises(RunError, match="the best model .*checkpoint-4 cannot be loaded: model.safetensors is missing"):
        run(posts, out, resume_from_checkpoint="last")


def test_what_a_killed_run_left_is_finished_or_deleted(whole, tmp_path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "_unfinished").mkdir()
    (out / "checkpoint-6").rename(out / "_unfinished" / "checkpoint-6")  # lacked only its name
    shutil.copytree(out / "checkpoint-4", out / "_unfinished" / "checkpoint-8")
    (out / "_unfinished" / "checkpoint-8" / "checkpoint_files.json").unlink()  # was being written
    checkpoints.tidy(out)
    assert sorted(path.name for path in out.glob("*point-*")) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert not (out / "_unfinished").exists() and last_whole_checkpoint(out).endswith("-6")


def test_rotation_keeps_the_last_whole_one(whole, tmp_path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    cut(out / "checkpoint-6" / "optimizer.pt")
    checkpoints.rotate(out, 1, ["checkpoint-4"])
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_a_checkpoint_that_cannot_be_written_costs_nothing_that_was_saved(posts, whole, tmp_path, monkeypatch):
    out, save = tmp_path / "out", Trainer._save_rng_state

    def full(self, folder):
        if folder.endswith("-6"):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, folder)

    monkeypatch.setattr(Trainer, "_save_rng_state", full)
    expected = r"checkpoint-6 could not be written \(OSError: .*No space left.*resumes from .*checkpoint-4"
    with pytest.raises(RunError, match=expected):
        run(posts, out, save_total_limit=1)
    assert not (out / "_unfinished" / "checkpoint-6").exists()
    monkeypatch.undo()
    run(posts, out, save_total_limit=1, resume_from_checkpoint="last")
    assert same_result(out, whole)


# Step 3 is the last of the first epoch, 6 of the training; after 4 and 6 there is an evaluation anyway.
@pytest.mark.parametrize(
    ("step", "every"),
    [
        (1, {}),
        (3, {}),
        pytest.param(6, {}, marks=pytest.mark.slow),
        *(pytest.param(step, EPOCHS, marks=pytest.mark.slow) for step in (1, 3, 6)),
    ],
)
def test_a_run_that_is_told_to_stop_is_resumed_with_the_same_result(posts, whole, tmp_path, monkeypatch, step, every):
    check, out, expected = GuardedSteps.check_step, tmp_path / "out", whole
    if every:
        expected = tmp_path / "expected"
        run(posts, expected, **every)

    def stopped(self):
        check(self)
        if self.state.global_step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(GuardedSteps, "check_step", stopped)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM; .*: it resumes from") as stop:
        run(posts, out, **every)
    assert stop.value.signum == signal.SIGTERM and not (out / "model.safetensors").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.undo()
    run(posts, out, **every, resume_from_checkpoint="last")
    assert same_result(out, expected)


@pytest.mark.parametrize("settings", [{"max_steps": 4}, {"early_stopping_patience": 1, "num_train_epochs": 4}])
def test_a_run_that_has_ended_is_not_resumed(posts, tmp_path, settings):
    if "num_train_epochs" in settings:  # the metric stays as it is
        settings = {"learning_rate": 0.0, "metric_for_best_model": "loss", "use_images": False, **settings}
    run(posts, tmp_path, **settings)
    steps = json.loads((tmp_path / "trainer_state.json").read_text())["global_step"]
    shutil.copytree(tmp_path, tmp_path / "again")
    run(posts, tmp_path / "again", **settings, resume_from_checkpoint="last")
    assert steps == 4 == json.loads((tmp_path / "again" / "trainer_state.json").read_text())["global_step"]
    assert same_result(tmp_path, tmp_path / "again")


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    whole_files.write_json(path, {"f1": 1})
    with pytest.raises(TypeError):
        whole_files.write_json(path, {"f1": {1, 2}})
    assert json.loads(path.read_text()) == {"f1": 1} and os.listdir(tmp_path) == ["results.json"]


def test_metrics_are_written_for_each_split_and_together(tmp_path):
    folder = tmp_path / "a" / "new folder"
    trainer = SimpleNamespace(is_world_process_zero=lambda: True, _output_dir=str(folder))
    WholeCheckpoints.save_metrics(trainer, "test", {"test_f1": 1, "test_accuracy": 2})
    WholeCheckpoints.save_metrics(trainer, "eval", {"eval_f1": 3})
    WholeCheckpoints.save_metrics(trainer, "train", {"train_loss": 4}, combined=False)
    files = {
        "test_results.json": {"test_f1": 1, "test_accuracy": 2},
        "eval_results.json": {"eval_f1": 3},
        "train_results.json": {"train_loss": 4},
        "all_results.json": {"test_f1": 1, "test_accuracy": 2, "eval_f1": 3},
    }
    for name, values in files.items():  # in the form of transformers' files
        assert (folder / name).read_text() == json.dumps(values, indent=4, sort_keys=True) + "\n"
    assert sorted(os.listdir(folder)) == sorted(files)


@pytest.mark.parametrize("push", [True, False])
def test_a_model_that_a_caller_saves_is_pushed(push, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(Trainer, "save_model", lambda *args, **settings: None)
    trainer = object.__new__(WholeCheckpoints)
    trainer.args = SimpleNamespace(output_dir=str(tmp_path), push_to_hub=push, hub_revision="main", should_save=False)
    trainer.accelerator = SimpleNamespace(wait_for_everyone=lambda: None)
    trainer.push_to_hub = lambda **settings: pushed.append(settings)
    trainer.save_model()
    trainer.save_model(_internal_call=True)
    assert pushed == [{"commit_message": "Model save", "revision": "main"}] * push


def test_what_has_an_explanation_is_raised_as_it_is(tmp_path, monkeypatch):
    explained = RunError("the best model is damaged")
    with pytest.raises(RunError) as caught, checkpoints.saving(tmp_path / "a", tmp_path / "staged", str(tmp_path)):
        raise explained
    assert caught.value is explained
    monkeypatch.setenv("WORLD_SIZE", "2")
    lost = torch.distributed.DistError("connection closed by peer")
    with pytest.raises(torch.distributed.DistError), checkpoints.saving(tmp_path / "a", tmp_path / "b", str(tmp_path)):
        raise lost


def test_a_checkpoint_without_list_and_state_is_incomplete(tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert find_damage(tmp_path) == "trainer_state.json is missing"


@pytest.mark.parametrize(("again", "expected"), [(0.0, "Interrupted"), (60.0, "held back")])
def test_a_second_signal_stops_at_once_unless_it_is_the_first_once_more(monkeypatch, capfd, again, expected):
    monkeypatch.setattr(faults, "SAME_PRESS", again)
    before = signal.getsignal(signal.SIGINT)
    found = "held back"
    with faults.Interruption("the announcement") as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signum == signal.SIGINT and "SIGINT: the announcement" in capfd.readouterr().err
        time.sleep(0.01)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted as stop:
            found = "Interrupted"
            assert stop.signum == signal.SIGTERM
    assert found == expected and signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_script_says_how_to_resume_and_ends_with_the_status_of_the_signal(posts, tmp_path, name):
    number, out = getattr(signal, name), tmp_path / "out"
    command = [sys.executable, str(ROOT / "examples" / "run_mner.py")]
    settings = {**STEPS, "num_train_epochs": 500, "eval_strategy": "no", "load_best_model_at_end": False}
    command += run_arguments(posts, out, **settings | {"save_total_limit": 2, "dataloader_num_workers": 1})
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    while not list(out.glob("checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, number)  # as a terminal or torchrun does: to the worker, too
    _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + number, said[-2000:]
    assert f"{name}: a checkpoint is saved after this step" in said
    assert f"run_mner.py: stopped by {name}; start the same command with --resume_from_checkpoint last" in said
    assert "Traceback" not in said


def start(posts, out, rank: int | None = None, port: int = 0, **settings) -> subprocess.Popen:
    """The script in a process of its own; with a rank it is one of two that are started by hand."""
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    several |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({} if rank is None else several)
    command = [sys.executable, str(ROOT / "examples" / "run_mner.py"), *run_arguments(posts, out, **settings)]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def two(posts, out, **settings) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(posts, out, rank, port, **settings) for rank in (0, 1)]


def wait_for(path: Path, processes: list[subprocess.Popen]):
    while not path.exists() and all(process.poll() is None for process in processes):
        time.sleep(0.01)


def test_processes_that_are_resumed_within_an_epoch_read_its_rows_in_its_order():
    lengths = list(range(40))
    sampler = LengthGroupedSampler(lengths, batch_size=4, seed=1)
    sampler.set_epoch(3)
    batches = list(BatchSampler(sampler, 4, drop_last=False))
    for process in (0, 1):
        fresh = LengthGroupedSampler(lengths, batch_size=4, seed=1)
        loader = DataLoader(lengths, batch_sampler=BatchSampler(fresh, 4, drop_last=False))
        loader = prepare_data_loader(loader, num_processes=2, process_index=process)
        checkpoints.tell_sampler(loader, 3)
        loader = skip_first_batches(loader, 2)
        loader.set_epoch(3)  # as Trainer does; it does not reach the sampler
        assert [batch.tolist() for batch in loader] == batches[4 + process :: 2]


@pytest.fixture(scope="module")
def whole_of_two(posts, tmp_path_factory) -> Path:
    """The run of two processes that the next test interrupts; with 3 steps an epoch, its checkpoints are within one."""
    out = tmp_path_factory.mktemp("whole_of_two")
    for process in two(posts, out, **OF_TWO):
        assert process.wait(200) == 0, process.stderr.read()[-2000:]
    return out


OF_TWO = {"num_train_epochs": 60, "save_strategy": "steps", "save_steps": 10, "per_device_train_batch_size": 4}
OF_TWO |= {"save_total_limit": 2, "do_eval": False, "logging_steps": 10}


@pytest.mark.slow
@pytest.mark.parametrize("end", [0, 1, signal.SIGTERM])
def test_where_one_of_two_processes_ends_the_other_says_so_and_both_are_resumed(posts, whole_of_two, tmp_path, end):
    settings, out = OF_TWO, tmp_path / "out"
    processes = two(posts, out, **settings)
    wait_for(out / "checkpoint-20", processes)
    if end == signal.SIGTERM:  # to one of them alone: both stop, at the same step
        processes[1].send_signal(end)
        ended = [process.communicate(timeout=60)[1] for process in processes]
        assert [process.returncode for process in processes] == [143, 143]
        assert all("stopped by SIGTERM; start the same command with --resume_from" in said for said in ended)
    else:
        processes[end].kill()
        _, said = processes[1 - end].communicate(timeout=60)
        assert processes[1 - end].returncode == 1
        assert "run_mner.py: another process of this run ended" in said and "Traceback" not in said
        assert "start the same command with --resume_from_checkpoint last: it resumes from" in said
    states = sorted(path.name for path in Path(last_whole_checkpoint(out)).glob("rng_state*"))
    assert states == ["rng_state_0.pth", "rng_state_1.pth"]
    for process in two(posts, out, **settings, resume_from_checkpoint="last"):
        assert process.wait(200) == 0, process.stderr.read()[-2000:]
    assert last_whole_checkpoint(out).endswith("checkpoint-180") and same_result(out, whole_of_two)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_fresh_processes(posts, tmp_path):
    for name in ("one", "other"):
        process = start(posts, tmp_path / name, num_train_epochs=2, do_eval=False)
        assert process.wait(200) == 0, process.stderr.read()[-2000:]
    assert same_result(tmp_path / "one", tmp_path / "other")
