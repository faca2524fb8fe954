"""benchmarks/published_recipe.py: the published recipe computes what our fast path computes, only slowly."""

import copy
import io

import pytest
import torch
from PIL import Image
from tiny import SENTENCES, VOCAB, bert_tokenizer, tiny_config, tiny_inputs, tiny_processor

from benchmarks.published_recipe import LENGTH, PublishedRecipe, RecipeCollator, pad_to
from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification

PARTS = ("loss", "task_loss", "mixup_loss", "semantic_loss")
BATCH = 6
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
heads = pytest.mark.parametrize("head", [I2SRMForTokenClassification, I2SRMForRelationClassification])
families = pytest.mark.parametrize("model_type", ["bert", "roberta"])


def build(head, model_type="bert", pictures=4):
    """A model without dropout whose pictures are loud, with batch-norm statistics of its own, and a batch for it."""
    torch.manual_seed(0)
    text = {"max_position_embeddings": LENGTH + 2, "pad_token_id": 1, **NO_DROPOUT}
    model = head(tiny_config(model_type, text=text, attn_mixup_dropout=0.0, classifier_dropout=0.0)).train()
    for parameter in model.model.visual_prompt.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for name, buffer in model.named_buffers():
        if "running_var" in name:
            buffer.uniform_(0.5, 2)
    inputs = tiny_inputs(BATCH, pictures=pictures, labels=True)
    inputs["input_ids"][inputs["attention_mask"] == 0] = 1
    if head is I2SRMForRelationClassification:
        del inputs["word_mask"]
        inputs["labels"] = torch.randint(0, model.config.num_labels, (BATCH,))
        for name, start, end in (("head_mask", 1, 3), ("tail_mask", 4, 5)):
            inputs[name] = torch.zeros_like(inputs["input_ids"])
            inputs[name][:, start:end] = 1
    return model, inputs


def backward(module, inputs, seed=3):
    """The outputs of a training step and the gradients, with the draws of one seed."""
    torch.manual_seed(seed)
    outputs = module(**inputs)
    outputs["loss"].backward()
    owner = module.model if isinstance(module, PublishedRecipe) else module
    return outputs, {name: parameter.grad for name, parameter in owner.named_parameters() if parameter.requires_grad}


def recipe_of(model, **settings):
    return PublishedRecipe(copy.deepcopy(model), **settings).train()


@heads
@families
def test_loss_and_gradients_are_those_of_the_fast_path(head, model_type):
    model, inputs = build(head, model_type)
    recipe = recipe_of(model, train_batch_norm=False)
    expected, gradients = backward(model, inputs)
    found, slow_gradients = backward(recipe, pad_to(inputs, pad_token_id=1))
    for part in PARTS:
        assert expected[part] > 1e-3
        torch.testing.assert_close(found[part], expected[part], rtol=1e-5, atol=1e-5)
    assert set(gradients) == {name for name in slow_gradients if "vision_encoder" not in name}
    for name, gradient in gradients.items():
        torch.testing.assert_close(slow_gradients[name], gradient, rtol=1e-5, atol=1e-5, msg=name)
    for name in ("visual_prompt.projector.0.weight", "visual_prompt.gates.weight"):
        assert gradients[f"model.{name}"].abs().max() > 1e-4


@heads
def test_evaluation_gives_the_loss_and_logits_of_the_fast_path(head):
    model, inputs = build(head)
    recipe = recipe_of(model).eval()
    with torch.inference_mode():
        expected, found = model.eval()(**inputs), recipe(**inputs)
    assert "mixup_loss" not in found
    for part in ("loss", "task_loss", "semantic_loss", "logits"):
        torch.testing.assert_close(found[part], expected[part], rtol=1e-5, atol=1e-5)


@heads
def test_batch_norm_in_training_mode_gives_another_loss(head):
    model, inputs = build(head)
    expected, _ = backward(model, inputs)
    found, gradients = backward(recipe_of(model), inputs)
    assert (found["loss"] - expected["loss"]).abs() > 1e-3
    backbone = [gradient for name, gradient in gradients.items() if "vision_encoder" in name]
    # For entities the published backbone is frozen; but its batch-norm is in training mode.
    assert bool(backbone) == (head is I2SRMForRelationClassification)
    assert all(gradient is not None for gradient in backbone)


@heads
def test_padding_to_80_does_not_change_the_loss(head):
    model, inputs = build(head)
    padded = pad_to(inputs, pad_token_id=1)
    assert padded["input_ids"].shape == (BATCH, LENGTH) and (padded["input_ids"][:, 9:] == 1).all()
    losses = [backward(recipe_of(model), batch)[0]["loss"] for batch in (inputs, padded)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    unmasked = {**padded, "attention_mask": torch.ones_like(padded["attention_mask"])}
    assert (backward(recipe_of(model), unmasked)[0]["loss"] - losses[0]).abs() > 1e-4
    with pytest.raises(ValueError, match="9 tokens do not fit in 8"):
        pad_to(inputs, length=8)


def test_the_recipe_works_as_described():
    model, inputs = build(I2SRMForTokenClassification)
    recipe = recipe_of(model)
    calls = []
    recipe.model.model.vision_encoder.register_forward_hook(lambda module, args, output: calls.append(args[0].shape))
    outputs, _ = backward(recipe, pad_to(inputs, pad_token_id=1))
    assert calls == [inputs["pixel_values"][:, 0].shape] * 4
    layers = model.config.text_config.num_hidden_layers
    assert len(outputs["hidden_states"]) == layers + 1
    assert [weights.shape for weights in outputs["attentions"]] == [(BATCH, 4, LENGTH, 16 + LENGTH)] * layers
    # The model that the copy was made of is as it was.
    assert model.config.text_config._attn_implementation == "sdpa"
    assert model.config.freeze_vision and not any(p.requires_grad for p in model.model.vision_encoder.parameters())


def test_what_the_recipe_has_no_form_for_is_refused():
    model, inputs = build(I2SRMForTokenClassification, pictures=3)
    with pytest.raises(ValueError, match="3 pictures per post.*give all 4"):
        recipe_of(model)(**inputs)
    for settings in ({"use_crf": False}, {"attn_mixup": False}, {"semantic_loss_weight": 0.0}):
        with pytest.raises(ValueError, match="the published recipe has"):
            PublishedRecipe(I2SRMForTokenClassification(tiny_config(**settings)))


def jpeg(colour):
    file = io.BytesIO()
    Image.new("RGB", (40, 36), colour).save(file, "JPEG")
    return {"bytes": file.getvalue(), "path": None}


def test_the_collator_decodes_every_time_and_pads_to_80(monkeypatch):
    tokenizer = bert_tokenizer()
    assert len(tokenizer) <= VOCAB
    processor = tiny_processor(tokenizer, max_length=64)
    rows = [
        {
            "tokens": sentence.split(),
            "ner_tags": [0] * len(sentence.split()),
            "image": jpeg("red"),
            "objects": [jpeg("blue")] * crops,
        }
        for sentence, crops in zip(SENTENCES, (3, 3, 0, 1), strict=True)
    ]
    decoded = []
    load = processor.load_picture
    monkeypatch.setattr(processor, "load_picture", lambda picture: decoded.append(picture) or load(picture))
    collator = RecipeCollator(processor)
    batch = collator(rows)
    once = len(decoded)
    assert once >= 11
    again = collator(rows)
    assert len(decoded) == 2 * once
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["input_ids"].shape == batch["labels"].shape == (4, LENGTH) and "image_mask" not in batch
    assert batch["pixel_values"].shape[:2] == (4, 4) and not batch["pixel_values"][2, 1:].any()
    assert batch["pixel_values"][0].abs().amin() > 0
    model = I2SRMForTokenClassification(tiny_config(text={"max_position_embeddings": LENGTH}))
    assert PublishedRecipe(model).train()(**batch)["loss"].isfinite()
    with pytest.raises(ValueError, match="no post of the batch has a picture"):
        collator([{"tokens": ["Kobe"], "ner_tags": [0], "image": None, "objects": []}])
