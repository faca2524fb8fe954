"""int8 linear layers in the text encoder, as benchmarks/int8.py makes them."""

import pytest
import torch
from tiny import tiny_config, tiny_inputs
from torch import nn

from benchmarks.int8 import linear_layers, megabytes, quantised
from modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification


def build(head):
    """A model whose pictures are loud, and random inputs for it."""
    torch.manual_seed(0)
    model = head(tiny_config()).eval()
    for parameter in model.model.visual_prompt.parameters():
        nn.init.normal_(parameter, std=0.5)
    inputs = tiny_inputs()
    if head is I2SRMForRelationClassification:
        del inputs["word_mask"]
        for name, token in (("head_mask", 1), ("tail_mask", 4)):
            inputs[name] = torch.zeros_like(inputs["input_ids"])
            inputs[name][:, token] = 1
    return model, inputs


@pytest.mark.parametrize("head", [I2SRMForTokenClassification, I2SRMForRelationClassification])
@torch.inference_mode()
def test_a_quantised_model_is_close_and_a_picture_still_matters(head):
    model, inputs = build(head)
    small = quantised(model)
    exact, close = model(**inputs).logits, small(**inputs).logits
    assert not torch.equal(close, exact)
    text = {name: value for name, value in inputs.items() if name != "pixel_values"}
    of_picture = (exact - model(**text).logits).abs().mean()
    assert (close - exact).abs().mean() < 0.1 * of_picture
    absent = {**inputs, "image_mask": torch.zeros(3, 4)}
    assert torch.equal(small(**absent).logits, small(**text).logits)


def test_only_the_linear_layers_of_the_text_encoder_change():
    model, inputs = build(I2SRMForTokenClassification)
    before = model(**inputs).logits
    small = quantised(model)
    assert torch.equal(model(**inputs).logits, before)

    def float_layers(module) -> set[str]:
        return {name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}

    changed = float_layers(model) - float_layers(small)
    assert changed == set(linear_layers(model)) and len(changed) == 6 * 2
    assert all(name.startswith("model.text_encoder.encoder.layer.") for name in changed)
    kept = dict(small.named_parameters())
    for name, parameter in model.named_parameters():
        assert (name in kept) == (name.rpartition(".")[0] not in changed), name
        assert name not in kept or torch.equal(kept[name], parameter), name
    weights = sum(model.get_submodule(name).weight.numel() for name in changed)
    assert megabytes(model) - megabytes(small) == pytest.approx(3 * weights / 1e6, rel=0.01)  # 4 bytes to 1
