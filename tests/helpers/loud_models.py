"""Taggers whose pictures change every number, so that a lost prompt cannot hide, and their inputs."""

import torch
from tiny import tiny_config

from modeling_i2srm import I2SRMForTokenClassification

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def build(model_type="bert", seed=0, **settings):
    torch.manual_seed(seed)
    model = I2SRMForTokenClassification(tiny_config(model_type, **settings))
    for parameter in model.model.visual_prompt.parameters():  # loud pictures, so that a lost prompt cannot hide
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def text_inputs(inputs):
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def picture_inputs(inputs, image_mask=None):
    extra = {} if image_mask is None else {"image_mask": image_mask}
    return {**text_inputs(inputs), "pixel_values": inputs["pixel_values"], **extra}


def difference(a, b, inputs):
    """Largest difference on real tokens."""
    return (a - b)[inputs["attention_mask"].bool()].abs().max().item()


def same(a, b, inputs, tolerance=1e-6):
    return difference(a, b, inputs) <= tolerance
