"""LoRA through peft: training, saving, loading and merging, with both heads."""

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny import RESNET, TAGS, VOCAB, assert_same, enable_checkpointing, text_config, tiny_processor
from tiny_rows import rows, training_logs
from torch import nn
from transformers import AutoConfig, AutoModel, ResNetBackbone, ResNetConfig, pipeline, set_seed
from transformers.integrations.peft import MIN_PEFT_VERSION
from transformers.testing_utils import CaptureLogger
from transformers.utils import check_peft_version, logging

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMTrainer,
    I2SRMTrainingArguments,
    mner_compute_metrics,
    mre_compute_metrics,
)
from modeling_i2srm.training.trainer import LOSS_PARTS, parameter_part
from modeling_i2srm.words import MARKERS

HEADS = ["ner", "relations"]
CLASSES = dict(zip(HEADS, (I2SRMForTokenClassification, I2SRMForRelationClassification), strict=True))
TASKS = dict(zip(HEADS, ("multimodal-token-classification", "multimodal-relation-classification"), strict=True))
LABELS = {"ner": TAGS, "relations": ["None", "/per/per/peer", "/per/loc/place_of_residence"]}
NEW_PARTS = {
    "ner": ["visual_prompt", "classifier", "crf", "attn_mixup", "semantic_loss"],
    "relations": ["visual_prompt", "pair_classifier", "pair_attn_mixup", "pair_semantic_loss"],
}
MARKER_IDS = list(range(VOCAB, VOCAB + len(MARKERS)))


def posts(head: str, count: int) -> Dataset:
    """Posts with tags, or asked for the relation of their first and last word."""
    data = rows(count)
    if head == "ner":
        return data
    pairs = [
        {"head": {"start": 0, "end": 1}, "tail": {"start": len(tokens) - 1, "end": len(tokens)}, "relation": i % 3}
        for i, tokens in enumerate(data["tokens"])
    ]
    return Dataset.from_list(
        [{**row, **pair} for row, pair in zip(data.remove_columns("ner_tags"), pairs, strict=True)]
    )


def build_processor(head: str):
    processor = tiny_processor()
    if head == "relations":
        words = [f"[unused{i}]" for i in range(VOCAB - len(processor.tokenizer))]
        processor.tokenizer.add_tokens(words)
        processor.add_entity_markers()
        assert processor.tokenizer.convert_tokens_to_ids(list(MARKERS)) == MARKER_IDS
    return processor


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> tuple[str, str]:
    """Folders of a text encoder and a vision backbone, whose weights every model of a test shares."""
    set_seed(1)
    folder = tmp_path_factory.mktemp("encoders")
    AutoModel.from_config(AutoConfig.for_model(**text_config())).save_pretrained(folder / "text")
    backbone = ResNetBackbone(ResNetConfig(**{name: v for name, v in RESNET.items() if name != "model_type"}))
    backbone.save_pretrained(folder / "vision")
    return str(folder / "text"), str(folder / "vision")


def build_base(head: str, encoders, seed: int, **settings):
    """A model of the pretrained encoders; all that is new is drawn with the seed, loud enough not to be lost."""
    set_seed(seed)
    labels = {"id2label": dict(enumerate(LABELS[head])), "label2id": {name: i for i, name in enumerate(LABELS[head])}}
    model = CLASSES[head].from_encoders(*encoders, prompt_hidden_size=20, **labels, **settings)
    for parameter in model.model.visual_prompt.parameters():
        nn.init.normal_(parameter, std=0.5)
    if head == "relations":
        embeddings = model.resize_token_embeddings(VOCAB + len(MARKERS))
        nn.init.normal_(embeddings.weight[VOCAB:])
    return model


def lora(head: str, **settings) -> LoraConfig:
    """LoRA of the queries and values of the text encoder; what is new is trained and saved as a whole."""
    defaults = {"modules_to_save": list(NEW_PARTS[head])}
    if head == "relations":
        defaults["trainable_token_indices"] = list(MARKER_IDS)
    return LoraConfig(r=4, lora_alpha=8, target_modules=r".*text_encoder.*\.(query|value)", **{**defaults, **settings})


def build_trainer(head: str, model, output_dir, **settings) -> I2SRMTrainer:
    defaults = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
    defaults |= {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 1e-2}
    return I2SRMTrainer(
        model=model,
        args=I2SRMTrainingArguments(str(output_dir), **{**defaults, **settings}),
        train_dataset=posts(head, 12),
        eval_dataset=posts(head, 7),
        processing_class=build_processor(head),
        compute_metrics={"ner": mner_compute_metrics, "relations": mre_compute_metrics}[head](LABELS[head]),
    )


def batch_of(head: str, count: int = 6, labels: bool = False) -> dict:
    """Posts with and without a picture."""
    batch = I2SRMDataCollator(build_processor(head))(list(posts(head, count)))
    return {name: value for name, value in batch.items() if labels or name != "labels"}


@torch.no_grad()
def logits_of(model, inputs: dict) -> torch.Tensor:
    return model.eval()(**inputs).logits


@dataclass
class Trained:
    """A model with an adapter after training and saving; its base as it was before; what the trainer logged."""

    head: str
    model: PeftModel
    folder: Path
    before: dict[str, torch.Tensor]
    logs: list[dict]


@pytest.fixture(scope="module", params=HEADS)
def trained(request, encoders, tmp_path_factory) -> Trained:
    head, folder = request.param, tmp_path_factory.mktemp("adapter")
    base = build_base(head, encoders, seed=2)
    before = copy.deepcopy(base.state_dict())
    model = get_peft_model(base, lora(head))
    trainer = build_trainer(head, model, folder)
    trainer.train()
    trainer.save_model()
    return Trained(head, model.eval(), folder, before, training_logs(trainer))


# Training.


def test_the_base_stays_as_it_was_and_all_that_is_new_is_trained(trained):
    after, trained_parts, adapters = {}, set(), []
    for name, value in trained.model.get_base_model().state_dict().items():
        if "lora_B" in name or "trainable_tokens_delta" in name:
            adapters.append(value.abs().max())
        elif ".modules_to_save.default." in name:
            name = name.replace(".modules_to_save.default", "")
            if not torch.equal(value, trained.before[name]):
                trained_parts.add(name.removeprefix("model.").split(".")[0])
        elif "lora_A" not in name and "trainable_tokens_original" not in name:
            after[re.sub(r"\.token_adapter|\.base_layer|\.original_module", "", name)] = value
    assert after.keys() == trained.before.keys()
    assert all(torch.equal(value, trained.before[name]) for name, value in after.items())
    assert trained_parts == set(NEW_PARTS[trained.head])
    assert all(value > 0 for value in adapters)
    assert len(adapters) == 2 * 2 + (trained.head == "relations")  # query and value of two layers


def test_the_loss_parts_are_logged(trained):
    assert len(trained.logs) == 6  # 12 posts in batches of 4, twice
    for entry in trained.logs:
        assert entry["loss"] == pytest.approx(sum(entry[name] for name in LOSS_PARTS), rel=1e-4)
        assert all(entry[name] > 0 for name in LOSS_PARTS)


def test_the_picture_matters_and_without_it_the_result_is_that_of_the_text(trained):
    inputs = batch_of(trained.head)
    text = {name: value for name, value in inputs.items() if name not in ("pixel_values", "image_mask")}
    multimodal, text_only = logits_of(trained.model, inputs), logits_of(trained.model, text)
    present = inputs["image_mask"][:, 0].bool()
    assert present.tolist() == [False, True, True, False, True, True]
    assert ((multimodal - text_only).abs().flatten(1).amax(1)[present] > 1e-3).all()
    assert torch.equal(multimodal[~present], text_only[~present])


@pytest.mark.parametrize("head", HEADS)
def test_the_parts_keep_their_learning_rates(head, encoders, tmp_path):
    model = get_peft_model(build_base(head, encoders, seed=2), lora(head))
    rates = {"learning_rate": 1e-4, "fusion_learning_rate": 1e-3, "head_learning_rate": 5e-2}
    optimizer = build_trainer(head, model, tmp_path, **rates).create_optimizer()
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(rate_of) == len(names)
    for name, parameter in model.named_parameters():
        if name in names:
            expected = 1e-4 if "text_encoder" in name else 5e-2 if "classifier" in name or ".crf." in name else 1e-3
            assert rate_of[id(parameter)] == expected, name
    assert {parameter_part(name) for name in names} == {"text", "fusion", "head"}


@pytest.mark.parametrize("head", HEADS)
def test_gradient_checkpointing_gives_the_same_gradients(head, encoders):
    no_dropout = {"attn_mixup": False, "classifier_dropout": 0.0}
    model = get_peft_model(
        build_base(head, encoders, seed=2, **no_dropout), lora(head, modules_to_save=NEW_PARTS[head][:2])
    )
    for module in model.get_base_model().model.text_encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batch, gradients = batch_of(head, labels=True), []
    for _ in range(2):
        model.train().zero_grad()
        model(**batch).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        enable_checkpointing(model.get_base_model(), use_reentrant=False)
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    for part in ("lora_B", "visual_prompt", "classifier"):
        assert any(part in name and gradient.abs().max() > 0 for name, gradient in plain.items()), part
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("head, task_type", [("ner", "TOKEN_CLS"), ("relations", "SEQ_CLS")])
def test_the_classes_of_peft_for_tasks(head, task_type, encoders, tmp_path):
    model = get_peft_model(build_base(head, encoders, seed=2), lora(head, task_type=task_type))
    assert type(model) is not PeftModel
    inputs = batch_of(head)
    expected = logits_of(build_base(head, encoders, seed=2), inputs)  # a new adapter adds 0
    assert torch.equal(logits_of(model, inputs), expected)
    trainer = build_trainer(head, model, tmp_path)
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_lenient_f1" if head == "ner" else "eval_micro_f1"] >= 0
    trainer.save_model()
    loaded = PeftModel.from_pretrained(build_base(head, encoders, seed=3), tmp_path)
    assert type(loaded) is type(model)
    assert torch.equal(logits_of(loaded, inputs), logits_of(model, inputs))
    assert not torch.equal(logits_of(model, inputs), expected)


def test_decoding_reads_the_crf_of_the_adapter(encoders):
    model = get_peft_model(build_base("ner", encoders, seed=2), lora("ner"))
    inputs = batch_of("ner")
    logits, words = logits_of(model, inputs), inputs["word_mask"]
    tags, scores = model.decode(logits, words), model.marginals(logits, words)
    nn.init.normal_(model.crf.modules_to_save["default"].transitions, std=5.0)
    assert model.decode(logits, words) != tags
    assert not torch.allclose(model.marginals(logits, words), scores)
    with model.disable_adapter():
        assert model.decode(logits, words) == tags
        assert torch.equal(model.marginals(logits, words), scores)


@pytest.mark.parametrize("head", ["ner", pytest.param("relations", marks=pytest.mark.slow)])
def test_the_best_checkpoint_is_loaded_and_a_run_resumed(head, encoders, tmp_path):
    settings = {"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 3, "learning_rate": 1e-3}
    highest = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    model = get_peft_model(build_base(head, encoders, seed=2), lora(head))
    trainer = build_trainer(head, model, tmp_path, **settings, **highest)
    trainer.train()
    best, last = trainer.state.best_model_checkpoint, tmp_path / "checkpoint-9"
    assert Path(best) != last
    saved = PeftModel.from_pretrained(build_base(head, encoders, seed=3), best)
    assert torch.equal(logits_of(model, batch_of(head)), logits_of(saved, batch_of(head)))

    uninterrupted = load_file(last / "adapter_model.safetensors")
    model = get_peft_model(build_base(head, encoders, seed=2), lora(head))
    build_trainer(head, model, tmp_path, **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    resumed = load_file(last / "adapter_model.safetensors")
    assert resumed.keys() == uninterrupted.keys()
    for name, weight in uninterrupted.items():
        torch.testing.assert_close(resumed[name], weight, atol=1e-6, rtol=1e-5, msg=name)


# What the adapter leaves out.


@pytest.mark.parametrize("head", HEADS)
def test_new_parts_that_the_adapter_leaves_out_are_named(head, encoders, tmp_path):
    def warning(config) -> str:
        with CaptureLogger(logging.get_logger("modeling_i2srm.training.trainer")) as captured:
            build_trainer(head, get_peft_model(build_base(head, encoders, seed=2), config), tmp_path)
        return captured.out

    assert warning(lora(head)) == ""
    left_out = warning(lora(head, modules_to_save=NEW_PARTS[head][1:]))
    assert "visual_prompt:" in left_out and "classifier" not in left_out and "marker" in left_out.split("else")[1]
    if head == "relations":
        left_out = warning(lora(head, trainable_token_indices=None))
        assert "saves the embeddings of the entity markers:" in left_out and "visual_prompt" not in left_out


def statistics(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.named_buffers() if "running_mean" in name}


@pytest.mark.parametrize("saved", [False, True])
def test_a_backbone_that_is_not_frozen(saved, encoders, tmp_path):
    """It is trained and saved whole where the adapter names it; else not even its batch-norm statistics change."""
    config = lora("ner", modules_to_save=[*NEW_PARTS["ner"], *["vision_encoder"] * saved])
    model = get_peft_model(build_base("ner", encoders, seed=2, freeze_vision=False), config)
    before = statistics(model)
    trainer = build_trainer("ner", model, tmp_path)
    trainer.train()
    trainer.save_model()
    after = statistics(model)
    for name, value in before.items():
        assert torch.equal(after[name], value) == ("modules_to_save" not in name), name
    assert any("modules_to_save" in name for name in before) == saved
    loaded = PeftModel.from_pretrained(build_base("ner", encoders, seed=3, freeze_vision=False), tmp_path)
    assert torch.equal(logits_of(loaded, batch_of("ner")), logits_of(model, batch_of("ner")))


# Saving, loading, merging.


def test_the_adapter_holds_nothing_of_the_base(trained):
    assert not [
        path.name for path in trained.folder.iterdir() if path.suffix in (".bin", ".pt") and "args" not in path.name
    ]
    assert not (trained.folder / "model.safetensors").exists()
    weights = load_file(trained.folder / "adapter_model.safetensors")
    for name, weight in weights.items():
        if "encoder" in name:
            assert "lora_" in name or (name.endswith("trainable_tokens_delta") and len(weight) == len(MARKERS)), name
    expected = {name for name in trained.before if any(f"{part}." in name for part in NEW_PARTS[trained.head])}
    assert {name.removeprefix("base_model.model.") for name in weights if "encoder" not in name} == expected
    assert json.loads((trained.folder / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_another_base_with_the_adapter_gives_the_same(trained, encoders):
    inputs = batch_of(trained.head)
    expected = logits_of(trained.model, inputs)
    base = build_base(trained.head, encoders, seed=3)
    assert not torch.allclose(logits_of(base, inputs), expected)
    own = copy.deepcopy(base)
    own.load_adapter(str(trained.folder))
    for model in (PeftModel.from_pretrained(base, trained.folder), own):
        assert torch.equal(logits_of(model, inputs), expected)
        if trained.head == "ner":
            words = inputs["word_mask"]
            assert model.decode(expected, words) == trained.model.decode(expected, words)
            assert torch.equal(model.marginals(expected, words), trained.model.marginals(expected, words))


@pytest.mark.parametrize("head", HEADS)
def test_a_folder_with_an_adapter_finds_its_base(head, encoders, tmp_path):
    build_base(head, encoders, seed=2).save_pretrained(tmp_path / "base")
    base = CLASSES[head].from_pretrained(tmp_path / "base")
    model = get_peft_model(base, lora(head, modules_to_save=None, init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    expected = logits_of(model, batch_of(head))
    with model.disable_adapter():
        assert not torch.allclose(logits_of(model, batch_of(head)), expected)
    loaded = CLASSES[head].from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits_of(loaded, batch_of(head)), expected)


def test_an_adapter_added_by_transformers_trains_or_transformers_refuses_the_installed_peft(encoders, tmp_path):
    model = build_base("ner", encoders, seed=2)
    try:
        check_peft_version(MIN_PEFT_VERSION)
    except ValueError as refusal:  # the test of `get_peft_model` is the one that counts then
        with pytest.raises(ValueError, match=re.escape(str(refusal))):
            model.add_adapter(lora("ner"))
        return
    model.add_adapter(lora("ner"))
    trainer = build_trainer("ner", model, tmp_path, head_learning_rate=5e-2)
    trainer.train()
    trainer.save_model()
    assert (tmp_path / "adapter_model.safetensors").exists() and not (tmp_path / "model.safetensors").exists()
    loaded = build_base("ner", encoders, seed=3)
    loaded.load_adapter(str(tmp_path))
    assert torch.equal(logits_of(loaded, batch_of("ner")), logits_of(model, batch_of("ner")))


def test_merging_gives_an_ordinary_checkpoint(trained, tmp_path):
    inputs = batch_of(trained.head)
    expected = logits_of(trained.model, inputs)
    merged = copy.deepcopy(trained.model).merge_and_unload()
    assert type(merged) is CLASSES[trained.head]
    assert merged.state_dict().keys() == trained.before.keys()
    torch.testing.assert_close(logits_of(merged, inputs), expected, atol=1e-5, rtol=1e-5)
    text = {name: value for name, value in inputs.items() if name not in ("pixel_values", "image_mask")}
    assert (logits_of(merged, text) - logits_of(merged, inputs)).abs().max() > 1e-3

    merged.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("adapter*"))
    loaded, report = CLASSES[trained.head].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits_of(loaded, inputs), logits_of(merged, inputs))
    build_processor(trained.head).save_pretrained(tmp_path)
    post = {"text": "Kobe lands in Paris"} | ({} if trained.head == "ner" else {"head": (0, 4), "tail": (14, 19)})
    pipe = pipeline(TASKS[trained.head], model=str(tmp_path), device="cpu")
    assert_same(pipe(post), pipeline(TASKS[trained.head], model=merged, processor=pipe.processor, device="cpu")(post))
    if trained.head == "relations":
        assert len(loaded.get_input_embeddings().weight) == loaded.config.text_config.vocab_size == VOCAB + len(MARKERS)
