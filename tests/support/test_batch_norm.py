"""Folding batch-norm gives the same features, for inference only."""

import copy

import pytest
import torch
from tiny import tiny_config, tiny_inputs

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.support.batch_norm import fold_batch_norm


def build() -> I2SRMForTokenClassification:
    torch.manual_seed(0)
    model = I2SRMForTokenClassification(tiny_config()).eval()
    for name, values in (*model.named_parameters(), *model.named_buffers()):
        if "normalization" in name and values.is_floating_point():  # a new batch-norm does nothing
            values.data.uniform_(0.5, 2)
    return model


def test_the_features_and_answers_stay():
    model, inputs = build(), tiny_inputs()
    folded = fold_batch_norm(copy.deepcopy(model))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        expected, found = (m.model.get_visual_features(inputs["pixel_values"]) for m in (model, folded))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(folded(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in folded.model.vision_encoder.parameters())


def test_a_folded_model_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="save the model as it was loaded"):
        fold_batch_norm(build()).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_batch_norm_that_learns_is_not_folded():
    model = I2SRMForTokenClassification(tiny_config(freeze_vision=False)).train()
    with pytest.raises(ValueError, match=r"fold_batch_norm\(model.eval\(\)\)"):
        fold_batch_norm(model)


def test_models_without_batch_norm_stay_as_they_are(tmp_path):
    convnext = {"model_type": "convnext", "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_stages": 4}
    model = I2SRMForTokenClassification(tiny_config(vision_config=convnext)).eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    after = fold_batch_norm(model).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[name], before[name]) for name in before)
    model.save_pretrained(tmp_path)
