"""The learning rate of new fusion parts, and the warning of prompts that hardly move."""

import logging

import pytest
import torch
from tiny import bert_tokenizer, tiny_config, tiny_processor
from tiny_rows import rows
from transformers import TrainerControl, TrainerState

from modeling_i2srm import I2SRMForTokenClassification, I2SRMTrainer, I2SRMTrainingArguments
from modeling_i2srm.training import fusion_movement
from modeling_i2srm.training.fusion_movement import FusionMovement, rates_of_parts


@pytest.fixture
def model() -> I2SRMForTokenClassification:
    torch.manual_seed(0)
    return I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(bert_tokenizer())}))


def build(folder, model, data=None, **settings) -> I2SRMTrainer:
    fixed = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 9}
    arguments = I2SRMTrainingArguments(str(folder), **{**fixed, **settings})
    processor = tiny_processor(bert_tokenizer())
    return I2SRMTrainer(model=model, args=arguments, train_dataset=data or rows(), processing_class=processor)


@pytest.mark.parametrize(
    "settings, new, saved",
    [
        ({"learning_rate": 3e-5}, 5e-4, 3e-5),
        ({"learning_rate": 2e-3}, 2e-3, 2e-3),
        ({"learning_rate": 3e-5, "fusion_learning_rate": 3e-5}, 3e-5, 3e-5),
        ({"learning_rate": 3e-5, "fusion_learning_rate": 0.0}, 0.0, 0.0),
    ],
)
def test_new_fusion_parts_have_a_rate_of_their_own(tmp_path, model, caplog, settings, new, saved):
    caplog.set_level(logging.INFO, "modeling_i2srm")
    assert rates_of_parts(build(tmp_path, model, **settings).create_optimizer())["fusion"] == new
    model.save_pretrained(tmp_path / "model")
    trainer = build(tmp_path, I2SRMForTokenClassification.from_pretrained(tmp_path / "model"), **settings)
    rates = rates_of_parts(trainer.create_optimizer())
    assert rates == {"text": settings["learning_rate"], "fusion": saved, "head": settings["learning_rate"]}
    said = [record.getMessage() for record in caplog.records if "fusion parts:" in record.getMessage()]
    expected = [f"new, learning rate {new};", f"those of {tmp_path / 'model'}, learning rate {saved} "]
    expected = [] if "fusion_learning_rate" in settings else expected
    assert len(said) == len(expected) and all(map(str.__contains__, said, expected)), said


def test_a_run_goes_on_with_the_rates_it_was_started_with(tmp_path, model, caplog):
    """As one does that was begun when the default was another."""
    settings = {"max_steps": 2, "lr_scheduler_type": "constant", "learning_rate": 1e-5}
    build(tmp_path, model, fusion_learning_rate=1e-5, save_strategy="steps", save_steps=1, **settings).train()
    caplog.set_level(logging.INFO, "modeling_i2srm")
    trainer = build(tmp_path, model, **settings)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {1e-5}
    assert "resumed with the learning rates of the checkpoint: text 1e-05, fusion 1e-05, head 1e-05" in caplog.text


def walk(tmp_path, model, steps: int, last: int, gradient: float = 1.0, rate: float = 1e-3, begin: int = 0, **settings):
    """The movement that is measured, and the step, when the prompts double in the last of these steps."""
    arguments = I2SRMTrainingArguments(str(tmp_path), report_to="none", use_cpu=True, **settings)
    prompts = list(model.model.visual_prompt.parameters())
    optimizer = torch.optim.SGD([{"params": prompts, "part": "fusion"}], lr=rate)
    state, control = TrainerState(max_steps=last, global_step=begin), TrainerControl()
    callback, how = FusionMovement(), {"args": arguments, "state": state, "control": control}
    callback.on_train_begin(**how, model=model, optimizer=optimizer)
    for step in range(1, steps + 1):
        prompts[-1].grad = torch.full_like(prompts[-1], gradient)
        callback.on_pre_optimizer_step(**how)
        if step == steps:
            for weight in prompts:
                weight.data *= 2
        state.global_step += 1
        callback.on_step_end(**how)
    return [(entry["step"], round(entry["fusion_movement"], 5)) for entry in state.log_history]


@pytest.mark.parametrize(
    "case, expected",
    [
        ({"steps": 200, "last": 900}, [(200, 1.0)]),
        ({"steps": 199, "last": 900}, []),
        ({"steps": 230, "last": 900, "warmup_steps": 30}, [(230, 1.0)]),  # at the full rate
        ({"steps": 229, "last": 900, "warmup_steps": 30}, []),
        ({"steps": 50, "last": 50}, [(50, 1.0)]),
        ({"steps": 49, "last": 49}, []),
        ({"steps": 250, "last": 900}, [(200, 0.0)]),  # once
        ({"steps": 200, "last": 200, "gradient": 0.0}, []),  # no post has a picture
        ({"steps": 200, "last": 900, "rate": 0.0}, []),  # frozen on purpose
        ({"steps": 200, "last": 900, "begin": 100}, []),  # resumed
    ],
    ids=str,
)
def test_the_movement_is_measured_once_after_steps_with_pictures(tmp_path, model, caplog, case, expected):
    assert walk(tmp_path, model, **case) == expected
    assert len(caplog.records) == sum(movement < 0.04 for _, movement in expected)


def test_a_checkpoint_is_not_measured(tmp_path, model):
    model.name_or_path = "runs/posts"
    assert walk(tmp_path, model, 50, 50) == []


@pytest.mark.parametrize(
    "rate, pictures, words",
    [
        (
            3e-5,
            True,
            ["of its fusion parts, 3e-05,", "in 2 steps (below 4% is little)", "--fusion_learning_rate 0.0005"],
        ),
        (0.1, True, []),
        (3e-5, False, []),
    ],
)
def test_a_training_warns_of_prompts_that_hardly_move(tmp_path, model, caplog, monkeypatch, rate, pictures, words):
    monkeypatch.setattr(fusion_movement, "FEWEST_STEPS", 2)
    first = [weight.detach().clone() for weight in model.model.visual_prompt.parameters()]
    data = rows() if pictures else rows().remove_columns(["image", "objects"])
    trainer = build(tmp_path, model, data, max_steps=2, fusion_learning_rate=rate)
    trainer.train()
    pairs = list(zip(first, model.model.visual_prompt.parameters(), strict=True))
    change = torch.cat([(after - before).detach().flatten() for before, after in pairs]).norm()
    size = torch.cat([before.flatten() for before in first]).norm()
    measured = [entry["fusion_movement"] for entry in trainer.state.log_history if "fusion_movement" in entry]
    assert measured == ([pytest.approx(float(change / size), rel=1e-4)] if pictures else [])
    messages = [record.getMessage() for record in caplog.records]
    (said,) = [message for message in messages if "little use of its pictures" in message] or [""]
    assert bool(said) == bool(words) and all(word in said for word in words)
