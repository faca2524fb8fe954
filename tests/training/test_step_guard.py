"""Steps whose loss or gradients are not finite: they stop a run, or are skipped and counted."""

import json
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from safetensors.torch import load_file
from tiny import run_arguments, tiny_inputs

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.support.faults import Interrupted, RunError
from modeling_i2srm.training import step_guard
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.step_guard import LOSS_PARTS, ROWS_SHOWN, GuardedSteps, StepGuard, WithRowIds
from modeling_i2srm.training.tasks import MNER
from modeling_i2srm.training.trainer import I2SRMTrainer

ACCUMULATED = {"max_grad_norm": 0.0, "gradient_accumulation_steps": 2}


def run(posts, output_dir, **settings) -> dict:
    settings = {"num_train_epochs": 2, "logging_steps": 1, "save_steps": 2, "eval_strategy": "no", **settings}
    return run_task(MNER, parse_arguments(run_arguments(posts, output_dir, **settings)))


@pytest.fixture
def batches(monkeypatch) -> list:
    """The rows of each batch, as they are trained on."""
    seen, step = [], I2SRMTrainer.training_step

    def watched(self, model, inputs, *args, **kwargs):
        seen.append(inputs["row_ids"])
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(I2SRMTrainer, "training_step", watched)
    return seen


def spoil(monkeypatch, part: str, at: tuple[int, ...], value: float = float("nan")):
    """Have a part of the loss, or the gradients, not be finite in some of the batches, counted from 0."""
    forward, seen = I2SRMForTokenClassification.forward, [0]

    def spoiled(self, input_ids=None, labels=None, **inputs):
        outputs = forward(self, input_ids=input_ids, labels=labels, **inputs)
        if self.training:
            if seen[0] in at and part == "gradients":
                outputs.loss.register_hook(lambda gradient: gradient * value)
            elif seen[0] in at:
                outputs[part] = outputs[part] * value
                outputs["loss"] = outputs.loss * value
            seen[0] += 1
        return outputs

    monkeypatch.setattr(I2SRMForTokenClassification, "forward", spoiled)


@pytest.mark.parametrize(
    ("part", "settings"),
    [("task_loss", {}), ("mixup_loss", ACCUMULATED), ("semantic_loss", {}), ("gradients", ACCUMULATED)],
)
def test_the_step_the_part_and_the_rows_are_named(posts, tmp_path, monkeypatch, batches, part, settings):
    spoil(monkeypatch, part, at=(2,))
    with pytest.raises(RunError) as stop:
        run(posts, tmp_path, **settings)
    step, of_step = (2, batches[2:3]) if settings else (3, batches[2:3])  # 2 batches a step, and the last of the epoch
    message = str(stop.value)
    assert message.startswith(f"step {step}: {part} nan") and "--skip_non_finite_steps 10" in message
    if part != "gradients":
        assert not any(f"{other} nan" in message for other in {"task_loss", "mixup_loss", "semantic_loss"} - {part})
    ids = set(datasets.load_dataset(posts)["train"]["id"])
    assert set(of_step[0]) <= ids
    named = message.partition("with the rows ")[2].partition(". The")[0]
    assert named == ", ".join(map(repr, of_step[0]))
    assert not (tmp_path / "model.safetensors").exists()


def test_steps_are_skipped_and_counted_also_by_a_run_that_is_resumed(posts, tmp_path, monkeypatch, batches):
    spoil(monkeypatch, "mixup_loss", at=(0, 2, 4), value=float("inf"))
    with pytest.raises(RunError, match=r"step 5: mixup_loss inf.*2 such steps were skipped.*_finite_steps 10"):
        run(posts, tmp_path, skip_non_finite_steps=2)
    monkeypatch.undo()
    spoil(monkeypatch, "gradients", at=(0,))
    results = run(posts, tmp_path, skip_non_finite_steps=5, resume_from_checkpoint="last")  # from step 4
    assert results["skipped_steps"] == {"multimodal": 3}
    assert json.loads((tmp_path / "results.json").read_text())["skipped_steps"] == {"multimodal": 3}
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    assert [(entry["step"], entry["skipped"]) for entry in history if "skipped" in entry] == [
        (1, ["mixup_loss inf", "loss inf"]),
        (3, ["mixup_loss inf", "loss inf"]),
        (5, ["gradients nan"]),
    ]
    assert [entry["rows"] for entry in history if "skipped" in entry][:2] == [batches[0], batches[2]]
    logged = [value for entry in history for name, value in entry.items() if "loss" in name]
    assert torch.tensor(logged).isfinite().all()
    assert all(weight.isfinite().all() for weight in load_file(tmp_path / "model.safetensors").values())


def test_a_step_that_is_skipped_leaves_the_weights_as_they_are(posts, tmp_path, monkeypatch):
    spoil(monkeypatch, "task_loss", at=(1,))
    run(posts, tmp_path, skip_non_finite_steps=1, save_steps=1, max_steps=2)
    one, two = (load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (1, 2))
    running = ("running_mean", "running_var", "num_batches_tracked")  # batch-norm counts what it sees
    assert all(torch.equal(one[name], two[name]) for name in one if not name.endswith(running))


def test_float16_autocast_gives_the_result_of_float32():
    model = I2SRMForTokenClassification.from_pretrained(Path(__file__).parents[1] / "artifacts" / "ner").train()
    inputs = tiny_inputs(labels=True)
    inputs["input_ids"].clamp_(max=model.config.text_config.vocab_size - 1)
    inputs["pixel_values"] = torch.randn(3, 4, 3, 32, 32)
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            outputs = model(**inputs)
        model.zero_grad()
        outputs.loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((outputs.loss, gradients))
    assert found[1][0].dtype == torch.float32 and found[1][1].isfinite().all()
    assert found[0][0].item() == pytest.approx(found[1][0].item(), rel=2e-2)
    assert torch.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.98


def test_rows_are_named_by_their_id_or_their_first_words():
    rows = [{"id": 7, "tokens": ["a"]}, {"tokens": list("abcdefghij")}, {"id": None, "input_ids": [1]}, None]
    batch = WithRowIds(lambda rows: {"input_ids": rows})(rows)
    assert batch["row_ids"] == ["7", "a b c d e f g h", "?", "?"]


class OneOfTwo:
    """A stand-in for a trainer in one of two processes: it holds only the attributes that the guard reads."""

    loss_parts, stop_signal, is_deepspeed_enabled, skipped_steps = LOSS_PARTS, 0, False, ()

    def __init__(self, processes: int, rows: int = 1, signum: int = 0):
        self.args = SimpleNamespace(world_size=processes, skip_non_finite_steps=0)
        self.state = SimpleNamespace(global_step=3, epoch=0.5)
        self.accelerator = SimpleNamespace(scaler=None, reduce=lambda values, reduction: values + self.others)
        self.interruption = SimpleNamespace(signum=0)
        self.others = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, signum])
        self._part_sums, self._loss_sum, self._gradient_norm = torch.zeros(4), torch.zeros(()), 1.0
        self._rows = [f"row {number}" for number in range(rows)]
        self._not_finite = partial(GuardedSteps._not_finite, self)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_to_one_process_stops_all(processes):
    trainer = OneOfTwo(processes, signum=signal.SIGTERM)
    GuardedSteps.check_step(trainer)
    assert trainer.stop_signal == (signal.SIGTERM if processes == 2 else 0)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_rows_of_all_processes_are_named_up_to_a_limit(processes, monkeypatch):
    def gather(gathered, rows):
        gathered[:] = [rows, ["of the other"]]

    monkeypatch.setattr(step_guard.distributed, "all_gather_object", gather)
    trainer = OneOfTwo(processes, rows=ROWS_SHOWN)
    trainer._gradient_norm = float("inf")
    with pytest.raises(RunError) as caught:
        GuardedSteps.check_step(trainer)
    message = str(caught.value)
    assert ROWS_SHOWN == 32 and "'row 0', 'row 1'," in message and "'row 31'" in message
    assert (" and 1 more" in message) == (processes == 2)


def test_a_run_that_is_to_stop_is_saved_within_an_epoch_or_after_its_evaluation():
    trainer = OneOfTwo(1)
    guard, trainer.stop_signal = StepGuard(trainer), signal.SIGINT
    trainer.interruption, trainer.start_step = None, lambda: None
    args, within, at_the_end = trainer.args, SimpleNamespace(epoch=0.5), SimpleNamespace(epoch=1.0)
    control = SimpleNamespace(should_save=False)
    guard.on_step_end(args, at_the_end, control)
    assert not control.should_save
    guard.on_save(args, at_the_end, control)  # of an evaluation that is due at the last step
    guard.on_step_end(args, within, control)
    assert control.should_save
    with pytest.raises(Interrupted):
        guard.on_save(args, within, control)
    control.should_save = False
    guard.on_epoch_end(args, at_the_end, control)
    assert control.should_save
    with pytest.raises(Interrupted):
        guard.on_save(args, at_the_end, control)
    guard.on_step_begin(args, at_the_end, control)
    guard.on_save(args, at_the_end, control)
