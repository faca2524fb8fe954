"""What a run shows while it trains."""

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from modeling_i2srm.training.progress import ProgressTable

CONTROL = TrainerControl()


def play(table: ProgressTable, tmp_path, evaluations, **settings) -> None:
    """Call a callback as a trainer does in a run of four epochs of ten steps, with logs every five.

    Args:
        evaluations: strict F1 after each epoch, `None` = no evaluation.
    """
    args = TrainingArguments(str(tmp_path), report_to="none", **settings)
    state = TrainerState(max_steps=40, is_world_process_zero=True)
    table.on_train_begin(args, state, CONTROL)
    for epoch, value in enumerate(evaluations, 1):
        for half in (1, 2):
            state.global_step = 10 * epoch - 10 + 5 * half
            state.epoch = state.global_step / 10
            table.on_step_end(args, state, CONTROL)
            table.on_log(args, state, CONTROL, {"loss": epoch + half, "task_loss": epoch, "semantic_loss": 0.0})
        if value is not None:
            table.on_evaluate(args, state, CONTROL, {"eval_strict_f1": value, "eval_lenient_f1": 1.0, "eval_loss": 1.0})
        table.on_epoch_end(args, state, CONTROL)
    table.on_train_end(args, state, CONTROL)
    table.on_evaluate(args, state, CONTROL, {"eval_strict_f1": 1.0})  # the one after training has a table of its own


CHOOSING = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
CHOOSING |= {"metric_for_best_model": "strict_f1"}


@pytest.mark.parametrize("bar", [True, False])
def test_a_line_for_each_evaluation_with_the_best_marked(tmp_path, capsys, bar):
    play(ProgressTable(("strict_f1",), bar), tmp_path, [0.5, 0.25, 0.5, 0.75], **CHOOSING)
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines() if line.strip()]
    assert lines == [
        ["epoch", "step", "loss", "task", "strict", "f1"],
        ["1.00", "10", "2.5", "1", "50.00", "best"],
        ["2.00", "20", "3.5", "2", "25.00"],
        ["3.00", "30", "4.5", "3", "50.00"],
        ["4.00", "40", "5.5", "4", "75.00", "best"],
    ]
    assert ("40/40" in captured.err) == bar


def test_a_smaller_loss_is_better(tmp_path, capsys):
    settings = {**CHOOSING, "metric_for_best_model": "loss"}
    play(ProgressTable(("strict_f1",), False), tmp_path, [0.5, 0.25], **settings)
    assert ["best" in line for line in capsys.readouterr().out.splitlines()] == [False, True, False]


def test_without_evaluations_there_is_a_line_for_each_epoch(tmp_path, capsys):
    play(ProgressTable(("strict_f1",), False), tmp_path, [None, None], eval_strategy="no")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["epoch", "step", "loss", "task"], ["1.00", "10", "2.5", "1"], ["2.00", "20", "3.5", "2"]]


def test_without_a_choice_nothing_is_best_and_what_was_not_logged_is_a_dash(tmp_path, capsys):
    table = ProgressTable(("strict_f1",), False)
    args = TrainingArguments(str(tmp_path), report_to="none", eval_strategy="epoch")
    state = TrainerState(max_steps=4, is_world_process_zero=True)
    table.on_train_begin(args, state, CONTROL)
    state.global_step, state.epoch = 2, 1.0
    table.on_evaluate(args, state, CONTROL, {"eval_strict_f1": 0.5})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["epoch", "step", "loss", "strict", "f1"],
        ["1.00", "2", "-", "50.00"],
    ]


def test_other_processes_write_nothing(tmp_path, capsys):
    table = ProgressTable(("strict_f1",), False)
    args, state = TrainingArguments(str(tmp_path), report_to="none"), TrainerState(is_world_process_zero=False)
    table.on_train_begin(args, state, CONTROL)
    table.on_evaluate(args, state, CONTROL, {"eval_strict_f1": 0.5})
    assert capsys.readouterr().out == ""
