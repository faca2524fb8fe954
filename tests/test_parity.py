"""Agreement with reference numbers recorded from the field's published prompt-fusion code.

The small kit in tests/parity is always tested; the full one where it is at hand (`I2SRM_PARITY_DIR`). The reference
weights use torchvision's and the published code's names; `published_to_ours` is the documented mapping. Crops that are
absent there are zeros and attended to, so the all-ones `image_mask` reproduces it.
"""

import functools
import json
import os
import re
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_i2srm import I2SRMConfig, I2SRMForRelationClassification, I2SRMForTokenClassification

SMALL = Path(__file__).resolve().parent / "parity"
FULL = Path(os.environ.get("I2SRM_PARITY_DIR", SMALL.parent.parent.parent / "shared" / "parity"))
needs_full = pytest.mark.skipif(
    not FULL.is_dir(), reason=f"the full kit is not at {FULL} (set I2SRM_PARITY_DIR); the small one is tested"
)
CASES = ["small-b2", *(pytest.param(f"full-{name}", marks=needs_full) for name in ("b8", "b5", "b2"))]
HEADS = {"ner": I2SRMForTokenClassification, "re": I2SRMForRelationClassification}

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


@functools.cache
def load_reference(kit: str, task: str) -> dict:
    """config, weights and cases of the full kit, or the same of the small one, with norms in place of gradients."""
    if kit == "full":
        return torch.load(FULL / f"{task}.pt", weights_only=True)
    scalars = json.loads((SMALL / "kit.json").read_text(encoding="utf-8"))[task]
    weights, tensors = (load_file(SMALL / f"{name}.safetensors") for name in ("weights", "case"))
    tensors = {name.removeprefix(f"{task}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{task}/")}
    inputs, expected = (
        {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in ("inputs/", "eval_layers/")
    )
    expected |= {name: [tensor] for name, tensor in expected.items() if name.startswith("classifier_")}
    expected |= {"loss": torch.tensor(scalars["loss"]), "decode": scalars["decode"]}
    # Vectors of one number, so that the norm of the gates of all layers is that of their norms.
    expected["norms"] = {name: torch.tensor([norm]) for name, norm in scalars["gradient_norms"].items()}
    case = {"inputs": inputs, "eval_layers": expected, "text_only_last_hidden": tensors["text_only_last_hidden"]}
    return {
        "config": scalars["config"],
        "weights": {name.partition("/")[2]: w for name, w in weights.items() if name.startswith(("both/", f"{task}/"))},
        "cases": {scalars["case"]: case},
    }


def build(reference: dict, task: str, **overrides):
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
        **{
            "prompt_hidden_size": config["mid"],
            "freeze_vision": False,
            "semantic_loss_weight": 0.0,
            "attn_mixup": False,
            "constrained_decoding": False,
            "id2label": dict(enumerate(labels)),
            **overrides,
        },
    )
    model = HEADS[task](i2srm_config)
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


@pytest.fixture(params=["sdpa", "eager"])
def attention(request) -> str:
    return request.param


@functools.cache
def reference_model(kit: str, task: str, attention: str):
    model = build(load_reference(kit, task), task)
    model.set_attn_implementation(attention)
    return model


def of_case(name: str, task: str) -> tuple[str, dict, dict, dict]:
    """Kit, case, expected values and inputs of a model."""
    kit, _, name = name.partition("-")
    case = load_reference(kit, task)["cases"][name]
    return kit, case, case["eval_layers"], model_inputs(case)


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("name", CASES)
def test_prompts(task, name, attention):
    kit, _, expected, inputs = of_case(name, task)
    base = reference_model(kit, task, attention).model
    with torch.no_grad():
        features = base.get_visual_features(inputs["pixel_values"])
        pooled = features[..., : 4 * base.pooled_channels].unflatten(-1, (base.pooled_channels, 2, 2))
        keys, values, gates = base.visual_prompt(pooled, output_gates=True)
    torch.testing.assert_close(pooled, expected["pooled"], **TOLERANCE)
    torch.testing.assert_close(gates, expected["gates"], **TOLERANCE)
    torch.testing.assert_close(keys, expected["prompt_keys"], **TOLERANCE)
    torch.testing.assert_close(values, expected["prompt_values"], **TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_encoding_and_decoding(name, attention):
    kit, case, expected, inputs = of_case(name, "ner")
    model, mask = reference_model(kit, "ner", attention), inputs["attention_mask"]
    with torch.no_grad():
        hidden = model.model(**inputs).last_hidden_state
        logits = model(**inputs).logits
    words = mask.bool()
    torch.testing.assert_close(hidden[words], expected["last_hidden_state"][words], **TOLERANCE)
    torch.testing.assert_close(logits[words], expected["classifier_out"][0][words], **TOLERANCE)
    assert model.decode(logits, word_mask=mask) == expected["decode"]


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("name", CASES)
def test_posts_with_and_without_pictures(task, name, attention):
    """The last post's pictures are masked: it gives the text-only states, the others those with pictures."""
    kit, case, expected, inputs = of_case(name, task)
    model, words, text_only = reference_model(kit, task, attention), inputs["attention_mask"].bool(), dict(inputs)
    del text_only["pixel_values"], text_only["image_mask"]
    inputs["image_mask"][-1] = 0
    with torch.no_grad():
        alone, mixed = (model.model(**arguments).last_hidden_state for arguments in (text_only, inputs))
    both = torch.cat([expected["last_hidden_state"][:-1], case["text_only_last_hidden"][-1:]])
    torch.testing.assert_close(alone[words], case["text_only_last_hidden"][words], **TOLERANCE)
    torch.testing.assert_close(mixed[words], both[words], **TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients(name, attention):
    kit, case, expected, inputs = of_case(name, "ner")
    model = reference_model(kit, "ner", attention)
    model.zero_grad()
    loss = model(**inputs, labels=case["inputs"]["labels"], word_mask=inputs["attention_mask"]).loss
    torch.testing.assert_close(loss, expected["loss"], **TOLERANCE)
    loss.backward()
    assert_same_gradients(model, expected)


def assert_same_gradients(model, expected: dict):
    """Of each parameter the difference of the gradients is small, or that of their norms in the small kit."""
    compared = published_to_ours(expected["grads"] if "grads" in expected else expected["norms"])
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert compared.keys() == gradients.keys()
    largest = max(gradient.abs().max() for gradient in compared.values())
    for name, gradient in compared.items():
        difference = gradients[name] - gradient if "grads" in expected else gradients[name].norm() - gradient.norm()
        assert difference.norm() <= 1e-4 * gradient.norm() + 1e-7 * largest, name


@pytest.mark.parametrize("name", CASES)
def test_relations(name, attention):
    """There an entity is the state of its start marker, which a mask of that one token gives here."""
    kit, case, expected, inputs = of_case(name, "re")
    model, config = reference_model(kit, "re", attention), load_reference(kit, "re")["config"]
    words = inputs["attention_mask"].bool()
    masks = {f"{part}_mask": inputs["input_ids"] == config[f"{part}_start"] for part in ("head", "tail")}
    model.zero_grad()
    hidden = model.model(**inputs).last_hidden_state
    torch.testing.assert_close(hidden[words], expected["last_hidden_state"][words], **TOLERANCE)
    torch.testing.assert_close(
        model.pair_classifier(expected["classifier_in"][0]), expected["classifier_out"][0], **TOLERANCE
    )
    outputs = model(**inputs, **masks, labels=case["inputs"]["labels"])
    torch.testing.assert_close(outputs.logits, expected["logits"], **TOLERANCE)
    torch.testing.assert_close(outputs.loss, expected["loss"], **TOLERANCE)
    outputs.loss.backward()
    assert_same_gradients(model, expected)


@pytest.mark.parametrize("name", CASES)
def test_a_frozen_backbone_keeps_its_statistics_in_training(name):
    kit, _, expected, inputs = of_case(name, "ner")
    model = build(load_reference(kit, "ner"), "ner", freeze_vision=True).train()
    features = model.model.get_visual_features(inputs["pixel_values"])
    pooled = features[..., : expected["pooled"][0, 0].numel()].view_as(expected["pooled"])
    torch.testing.assert_close(pooled, expected["pooled"], **TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_a_trained_backbone_counts_what_it_sees(name):
    kit, _, _, inputs = of_case(name, "ner")
    model = build(load_reference(kit, "ner"), "ner")
    before = model.model.vision_encoder.embedder.embedder.normalization.running_mean.clone()
    model.train()
    model.model.get_visual_features(inputs["pixel_values"])
    assert not torch.equal(before, model.model.vision_encoder.embedder.embedder.normalization.running_mean)


def test_the_small_kit_is_small():
    assert sum(path.stat().st_size for path in SMALL.iterdir() if path.is_file()) <= 700_000


@needs_full
def test_the_small_kit_is_a_part_of_the_full_one(tmp_path):
    runpy.run_path(str(SMALL / "make_kit.py"))["write_kit"](FULL, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (SMALL / path.name).read_bytes(), f"{path.name}: run {SMALL / 'make_kit.py'} again"
