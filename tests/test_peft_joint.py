"""LoRA on a joint model: what is new is trained and saved as a whole, and the adapter answers alike once loaded."""

import logging
from dataclasses import asdict

import torch
from graph_rows import RELATIONS, TAGS, graph_rows
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import assert_same, bert_tokenizer, tiny_config, tiny_processor

from modeling_i2srm import I2SRMDataCollator, I2SRMForJointExtraction, I2SRMTrainer, I2SRMTrainingArguments

NEW_PARTS = ["visual_prompt", "classifier", "crf", "semantic_loss", "joint_head"]


def build_base() -> I2SRMForJointExtraction:
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(TAGS)), "relation_labels": RELATIONS}
    return I2SRMForJointExtraction(tiny_config(text={"vocab_size": len(bert_tokenizer())}, attn_mixup=False, **names))


def lora(parts: list[str]) -> LoraConfig:
    return LoraConfig(r=4, target_modules=r".*text_encoder.*\.(query|value)", modules_to_save=parts)


def build_trainer(model, folder) -> I2SRMTrainer:
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 3}
    return I2SRMTrainer(
        model=model,
        args=I2SRMTrainingArguments(str(folder), learning_rate=1e-2, **settings),
        train_dataset=graph_rows(8),
        processing_class=tiny_processor(),
    )


@torch.no_grad()
def scores_of(model, inputs: dict) -> list[torch.Tensor]:
    outputs = model.eval()(**inputs)
    return [outputs.logits, outputs.relation_logits, outputs.region_logits]


def test_an_adapter_trains_all_that_is_new_and_answers_alike_once_loaded(tmp_path):
    base = build_base()
    before = {name: value.clone() for name, value in base.named_parameters()}
    trainer = build_trainer(get_peft_model(base, lora(NEW_PARTS)), tmp_path)
    trainer.train()
    trainer.save_model()
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert {part for part in NEW_PARTS if any(part in name for name in trained)} == set(NEW_PARTS)
    inputs = I2SRMDataCollator(tiny_processor())(list(graph_rows(4)))
    inputs = {name: value for name, value in inputs.items() if "labels" not in name}
    expected = scores_of(trainer.model, inputs)
    assert any(
        not torch.equal(one, other) for one, other in zip(expected, scores_of(build_base(), inputs), strict=True)
    )
    loaded = PeftModel.from_pretrained(build_base(), tmp_path)
    merged = trainer.model.merge_and_unload()
    for model in (loaded, merged):
        for one, other in zip(scores_of(model, inputs), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert {name for name, value in merged.named_parameters()} == before.keys()
    graphs = [merged.decode_graphs(model(**inputs), inputs["word_mask"]) for model in (merged, loaded)]
    assert_same(*[[asdict(graph) for graph in each] for each in graphs])


def test_a_joint_head_that_is_not_trained_is_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build_trainer(get_peft_model(build_base(), lora(NEW_PARTS[:-1])), tmp_path)
    assert "joint_head" in caplog.text
