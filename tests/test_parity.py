"""Agreement with reference numbers recorded from the field's published prompt-fusion code.

The reference weights use torchvision's and the published code's names; `published_to_ours` is the documented mapping.
Crops that are absent there are zeros and attended to, so the all-ones `image_mask` reproduces it.
"""

import os
import re
from pathlib import Path

import pytest
import torch

from modeling_i2srm import I2SRMConfig, I2SRMForRelationClassification, I2SRMForTokenClassification

PARITY = Path(os.environ.get("I2SRM_PARITY_DIR", Path(__file__).resolve().parent.parent.parent / "shared" / "parity"))
pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference numbers at {PARITY} (set I2SRM_PARITY_DIR)")

TOLERANCE = {"atol": 1e-5, "rtol": 0}
RENAMES = [
    (r"^bert\.", "model.text_encoder."),
    (r"^image_model\.resnet\.conv1\.", "model.vision_encoder.embedder.embedder.convolution."),
    (r"^image_model\.resnet\.bn1\.", "model.vision_encoder.embedder.embedder.normalization."),
    (r"^image_model\.resnet\.layer(\d)\.", lambda m: f"model.vision_encoder.encoder.stages.{int(m[1]) - 1}.layers."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    (r"^encoder_conv\.", "model.visual_prompt.projector."),
    (r"^classifier\.", "pair_classifier."),
    (r"^fc\.", "classifier."),
]


def published_to_ours(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename published weights (or gradients): the gates of all layers are stacked into one matrix, layer-major; the
    text encoder's unused pooler and the ResNet's unused classifier are left out."""
    ours = {}
    for name, tensor in published.items():
        if re.search(r"pooler|resnet\.fc\.|position_ids|^gates\.", name):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    for kind in ("weight", "bias"):
        gates = [published[name] for name in sorted(published) if re.fullmatch(rf"gates\.\d+\.{kind}", name)]
        ours[f"model.visual_prompt.gates.{kind}"] = torch.cat(gates)
    return ours


def build(reference, model_class=I2SRMForTokenClassification, **overrides):
    config = reference["config"]
    labels = config["labels"]  # names of tags, or a number of relations
    labels = [f"relation {i}" for i in range(labels)] if isinstance(labels, int) else labels
    i2srm_config = I2SRMConfig(
        text_config={
            "model_type": "bert",
            "vocab_size": config["vocab"],
            "hidden_size": config["hidden_size"],
            "num_hidden_layers": config["num_hidden_layers"],
            "num_attention_heads": config["num_attention_heads"],
            "intermediate_size": config["intermediate_size"],
            "max_position_embeddings": 64,
            "layer_norm_eps": config["layer_norm_eps"],
        },
        vision_config={
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "layer_type": "bottleneck",
        },
        prompt_hidden_size=config["mid"],
        freeze_vision=False,
        semantic_loss_weight=0.0,
        attn_mixup=False,
        constrained_decoding=False,
        id2label=dict(enumerate(labels)),
        **overrides,
    )
    model = model_class(i2srm_config)
    missing = model.load_state_dict(published_to_ours(reference["weights"]), strict=False)
    assert not missing.unexpected_keys
    assert all(re.search("position_ids|token_type_ids", name) for name in missing.missing_keys), missing.missing_keys
    return model.eval()


def model_inputs(case):
    inputs = case["inputs"]
    pictures = torch.cat([inputs["images_u8"][:, None], inputs["aux_u8"]], dim=1).float()  # (B, 1+M, 3, 20, 20)
    pixel_values = (pictures / 255 - 0.5) / 0.25
    pixel_values[:, 1:][inputs["aux_absent"]] = 0.0
    pixel_values = pixel_values.repeat_interleave(8, -1).repeat_interleave(8, -2)
    return {
        "input_ids": inputs["input_ids"],
        "attention_mask": inputs["attention_mask"],
        "token_type_ids": inputs["token_type_ids"],
        "pixel_values": pixel_values,
        "image_mask": torch.ones(pictures.shape[:2]),
    }


@pytest.fixture(scope="module")
def ner_reference():
    return torch.load(PARITY / "ner.pt", weights_only=True)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def ner_model(request, ner_reference):
    model = build(ner_reference)
    model.set_attn_implementation(request.param)
    return model


@pytest.fixture(scope="module")
def re_reference():
    return torch.load(PARITY / "re.pt", weights_only=True)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def re_model(request, re_reference):
    model = build(re_reference, I2SRMForRelationClassification)
    model.set_attn_implementation(request.param)
    return model


CASES = ["b8", "b5", "b2"]


def assert_same_prompts(case: dict, base):
    expected, inputs = case["eval_layers"], model_inputs(case)
    with torch.no_grad():
        features = base.get_visual_features(inputs["pixel_values"])
        pooled = features[..., : 4 * base.pooled_channels].unflatten(-1, (base.pooled_channels, 2, 2))
        keys, values, gates = base.visual_prompt(pooled, output_gates=True)
    torch.testing.assert_close(pooled, expected["pooled"], **TOLERANCE)
    torch.testing.assert_close(gates, expected["gates"], **TOLERANCE)
    torch.testing.assert_close(keys, expected["prompt_keys"], **TOLERANCE)
    torch.testing.assert_close(values, expected["prompt_values"], **TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_prompts(ner_reference, ner_model, name):
    assert_same_prompts(ner_reference["cases"][name], ner_model.model)


@pytest.mark.parametrize("name", CASES)
def test_prompts_of_relations(re_reference, re_model, name):
    assert_same_prompts(re_reference["cases"][name], re_model.model)


@pytest.mark.parametrize("name", CASES)
def test_encoding_and_decoding(ner_reference, ner_model, name):
    case = ner_reference["cases"][name]
    expected, inputs = case["eval_layers"], model_inputs(case)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        hidden = ner_model.model(**inputs).last_hidden_state
        text_only = ner_model.model(**{k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")})
        logits = ner_model(**inputs).logits
    words = mask.bool()
    torch.testing.assert_close(hidden[words], expected["last_hidden_state"][words], **TOLERANCE)
    torch.testing.assert_close(text_only.last_hidden_state[words], case["text_only_last_hidden"][words], **TOLERANCE)
    torch.testing.assert_close(logits[words], expected["classifier_out"][0][words], **TOLERANCE)
    assert ner_model.decode(logits, word_mask=mask) == expected["decode"]


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients(ner_reference, ner_model, name):
    case = ner_reference["cases"][name]
    expected, inputs = case["eval_layers"], model_inputs(case)
    ner_model.zero_grad()
    loss = ner_model(**inputs, labels=case["inputs"]["labels"], word_mask=inputs["attention_mask"]).loss
    torch.testing.assert_close(loss, expected["loss"], **TOLERANCE)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in ner_model.named_parameters()}
    assert_same_gradients(gradients, published_to_ours(expected["grads"]))


def assert_same_gradients(gradients: dict, compared: dict):
    assert compared.keys() == gradients.keys()
    largest = max(gradient.abs().max() for gradient in compared.values())
    for name, gradient in compared.items():
        difference = (gradients[name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + 1e-7 * largest, name


@pytest.mark.parametrize("name", CASES)
def test_relations(re_reference, re_model, name):
    """There an entity is the state of its start marker, which a mask of that one token gives here."""
    case, config = re_reference["cases"][name], re_reference["config"]
    expected, inputs = case["eval_layers"], model_inputs(case)
    words = inputs["attention_mask"].bool()
    masks = {f"{part}_mask": inputs["input_ids"] == config[f"{part}_start"] for part in ("head", "tail")}
    re_model.zero_grad()
    hidden = re_model.model(**inputs).last_hidden_state
    torch.testing.assert_close(hidden[words], expected["last_hidden_state"][words], **TOLERANCE)
    torch.testing.assert_close(
        re_model.pair_classifier(expected["classifier_in"][0]), expected["classifier_out"][0], **TOLERANCE
    )
    outputs = re_model(**inputs, **masks, labels=case["inputs"]["labels"])
    torch.testing.assert_close(outputs.logits, expected["logits"], **TOLERANCE)
    torch.testing.assert_close(outputs.loss, expected["loss"], **TOLERANCE)
    outputs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in re_model.named_parameters()}
    assert_same_gradients(gradients, published_to_ours(expected["grads"]))


def test_batch_norm_in_training_mode(ner_reference):
    """A backbone that is not frozen uses batch statistics, over all pictures of the batch in one call."""
    model = build(ner_reference)
    inputs = model_inputs(ner_reference["cases"]["b8"])
    before = model.model.vision_encoder.embedder.embedder.normalization.running_mean.clone()
    model.train()
    model.model.get_visual_features(inputs["pixel_values"])
    assert not torch.equal(before, model.model.vision_encoder.embedder.embedder.normalization.running_mean)
