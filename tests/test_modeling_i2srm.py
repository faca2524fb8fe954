"""The model and its pictures: absent, present, masked; modes, precision, saving and building."""

import copy
import inspect
import itertools
import logging

import pytest
import torch
from loud_models import NO_DROPOUT, build, difference, picture_inputs, same, text_inputs
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tiny import (
    CHECKPOINTING,
    RESNET,
    disable_checkpointing,
    enable_checkpointing,
    needs_fullgraph,
    text_config,
    tiny_config,
    tiny_inputs,
)
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, BertModel, ResNetBackbone, ResNetConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.generic import find_labels

from modeling_i2srm import (
    I2SRMConfig,
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)
from modeling_i2srm.modeling_i2srm import CPU_BYTES
from modeling_i2srm.pretrained_model import I2SRMInputs
from modeling_i2srm.visual_prompt import PrefixCache, pool_feature_maps

FAMILIES = ["bert", "roberta", "xlm-roberta", "camembert", "electra"]
BACKBONES = {
    "resnet": RESNET,
    "convnext": {"model_type": "convnext", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "swin": {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [2] * 4, "window_size": 2}
    | {"image_size": 32, "patch_size": 2},
    "dinov2": {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    | {"image_size": 32, "patch_size": 8},
}


@pytest.fixture(autouse=True)
def drop_compiled_graphs():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("made", ["from_config", "from_pretrained"])
def test_fusion_layers_are_initialised_by_their_width(made, tmp_path):
    model = I2SRMForTokenClassification(tiny_config(prompt_hidden_size=64))
    if made == "from_pretrained":  # a checkpoint without fusion layers: they are initialised while loading
        kept = {name: value for name, value in model.state_dict().items() if "visual_prompt" not in name}
        model.save_pretrained(tmp_path, state_dict=kept)
        model = I2SRMForTokenClassification.from_pretrained(tmp_path)
    prompt = model.model.visual_prompt
    for linear in (prompt.projector[0], prompt.projector[2], prompt.gates):
        bound = linear.in_features**-0.5
        assert bound * 0.95 < linear.weight.abs().max() <= bound
        assert 0 < linear.bias.abs().max() <= bound


# A post without a picture is the text-only result; a present picture is not.


def run(model, attention, mode, inputs):
    """Logits in eval mode, or in train mode with dropout off and gradient checkpointing, or compiled."""
    model.set_attn_implementation(attention)
    if mode == "checkpointing":
        model.train()
        enable_checkpointing(model, use_reentrant=False)
        return model(**inputs).logits.detach()
    with torch.no_grad():
        forward = torch.compile(model, backend="eager", dynamic=False) if mode == "compiled" else model
        return forward(**inputs).logits


def layers(mode: str) -> dict:
    """The settings of a text encoder that compiles in half the time."""
    return NO_DROPOUT | ({"num_hidden_layers": 1} if mode == "compiled" else {})


@pytest.mark.parametrize(
    ("attention", "mode"),
    [
        *itertools.product(["eager", "sdpa"], ["plain", "checkpointing"]),
        pytest.param("sdpa", "compiled", marks=pytest.mark.slow),
        pytest.param("eager", "compiled", marks=pytest.mark.slow),
    ],
)
def test_absent_pictures_give_the_text_only_result_and_present_ones_do_not(attention, mode):
    model, inputs = build(text=layers(mode)), tiny_inputs()
    plain = BertModel(model.config.text_config, add_pooling_layer=False).eval()
    plain.load_state_dict(model.model.text_encoder.state_dict())
    plain.set_attn_implementation(attention)
    with torch.no_grad():
        reference = model.classifier(plain(**text_inputs(inputs)).last_hidden_state)
    text_only = run(model, attention, mode, text_inputs(inputs))
    masked = run(model, attention, mode, picture_inputs(inputs, torch.zeros(3, 4)))
    present = run(model, attention, mode, picture_inputs(inputs, torch.ones(3, 4)))
    assert same(text_only, reference, inputs) and same(masked, reference, inputs)
    for post in range(3):
        words = inputs["attention_mask"][post].bool()
        assert (present - reference)[post][words].abs().max() > 1e-3


HEADS = [I2SRMForTokenClassification, I2SRMForRelationClassification, I2SRMForSequenceClassification]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_takes_every_input_of_the_model(head):
    inputs = set(inspect.signature(I2SRMModel.forward).parameters) - {"self", "kwargs"}
    assert inputs <= set(inspect.signature(head.forward).parameters) | set(I2SRMInputs.__annotations__)
    assert find_labels(head) == ["labels"]  # Trainer finds them by their name


def test_a_misspelt_input_is_refused():
    inputs = tiny_inputs()
    with pytest.raises(TypeError, match="unexpected pixel_valuess"):
        build()(**text_inputs(inputs), pixel_valuess=inputs["pixel_values"])


@pytest.mark.parametrize("reads_pictures", [True, False])
def test_pictures_for_a_model_that_was_trained_without_them_are_told(reads_pictures, caplog):
    model, inputs = build(reads_pictures=reads_pictures), tiny_inputs()
    transformers_logging.warning_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        model.train()(**picture_inputs(inputs))
        model.eval()(**text_inputs(inputs))
        assert "without pictures" not in caplog.text
        model(**picture_inputs(inputs))
    assert ("trained without pictures" in caplog.text) == (not reads_pictures)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_supported_family_sees_pictures_in_all_modes(family):
    model, inputs = build(family, text=NO_DROPOUT), tiny_inputs()
    results = {}
    for attention in ("eager", "sdpa"):
        for mode in ("plain", "checkpointing"):
            results[attention, mode] = run(model, attention, mode, picture_inputs(inputs))
            disable_checkpointing(model)
            model.eval()
    text_only = run(model, "sdpa", "plain", text_inputs(inputs))
    masked = run(model, "sdpa", "plain", picture_inputs(inputs, torch.zeros(3, 4)))
    assert same(text_only, masked, inputs)
    reference = results["eager", "plain"]
    assert all(same(logits, reference, inputs, 1e-5) for logits in results.values())
    assert difference(reference, text_only, inputs) > 1e-3


@pytest.mark.parametrize("name", ["position_ids", "token_type_ids"])
def test_positions_and_types_of_tokens_reach_the_text_encoder(name):
    model, inputs = build(), tiny_inputs()
    own = {"position_ids": torch.arange(9).flip(0).expand(3, -1), "token_type_ids": torch.tensor([[0, 1, 1] * 3] * 3)}
    plain = BertModel(model.config.text_config, add_pooling_layer=False).eval()
    plain.load_state_dict(model.model.text_encoder.state_dict())
    given = text_inputs(inputs) | {name: own[name]}
    with torch.no_grad():
        expected = model.classifier(plain(**given).last_hidden_state)
        assert same(model(**given).logits, expected, inputs)
        assert difference(model(**text_inputs(inputs)).logits, expected, inputs) > 1e-4
        pictures = [model(**picture_inputs(inputs) | extra).logits for extra in (given, {})]
    assert difference(*pictures, inputs) > 1e-4


@needs_fullgraph
def test_fullgraph_compilation_agrees():
    model, inputs = build(), tiny_inputs()
    with torch.no_grad():
        features = model.model.get_visual_features(inputs["pixel_values"])
        arguments = {**text_inputs(inputs), "visual_features": features, "image_mask": torch.tensor([[1, 1, 0, 0]] * 3)}
        compiled = torch.compile(model, backend="eager", fullgraph=True)(**arguments).logits
        assert same(compiled, model(**arguments).logits, inputs, 1e-5)


@pytest.mark.parametrize(
    ("attention", "given", "mode"),
    [
        *itertools.product(["eager", "sdpa"], ["pixel_values", "visual_features"], ["plain"]),
        ("sdpa", "pixel_values", "compiled"),
        pytest.param("eager", "visual_features", "compiled", marks=pytest.mark.slow),
        pytest.param("sdpa", "visual_features", "compiled", marks=pytest.mark.slow),
        pytest.param("eager", "pixel_values", "compiled", marks=pytest.mark.slow),
    ],
)
def test_nan_of_an_absent_picture_changes_no_number_and_no_gradient(attention, given, mode):
    model = build(text=layers(mode), attn_mixup=False, freeze_vision=False)
    model.set_attn_implementation(attention)
    inputs = tiny_inputs(labels=True)
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    pictures = inputs.pop("pixel_values")
    if given == "visual_features":
        pictures = model.get_visual_features(pictures).detach()
    results = []
    for filler in (0.0, torch.nan):
        filled = pictures.clone()
        filled[mask == 0] = filler
        filled.requires_grad_()
        forward = torch.compile(model, backend="eager", dynamic=False) if mode == "compiled" else model
        outputs = forward(**inputs, **{given: filled}, image_mask=mask)
        model.zero_grad()
        outputs.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert outputs.semantic_loss > 0 and filled.grad[mask == 1].abs().sum() > 0
        results.append([outputs.logits, outputs.loss, filled.grad, *gradients])
    for zeros, nans in zip(*results, strict=True):
        assert nans.isfinite().all() and torch.equal(zeros, nans)


def test_features_of_absent_pictures_are_zeros_also_where_the_model_is_compiled():
    model, pictures, mask = build().model, tiny_inputs()["pixel_values"], torch.tensor([[1, 0, 1, 0]] * 3)
    pictures[mask == 0] = torch.nan
    with torch.no_grad():
        for parameter in model.vision_encoder.parameters():
            parameter += 0.1  # else a black picture has no features either
        expected = model.get_visual_features(pictures, mask)
        compiled = torch.compile(model.get_visual_features, backend="eager", fullgraph=True)(pictures, mask)
    assert (compiled[mask == 0] == 0).all() and (compiled[mask == 1] != 0).any()
    torch.testing.assert_close(compiled, expected)


def test_a_masked_crop_does_not_matter_and_each_present_one_does():
    model, inputs = build(), tiny_inputs()
    mask = torch.tensor([[1, 0, 1, 0]] * 3)
    with torch.no_grad():
        reference = model(**picture_inputs(inputs, mask)).logits
        for picture, present in enumerate(mask[0].tolist()):
            changed = copy.deepcopy(inputs)
            changed["pixel_values"][:, picture] = torch.randn(3, 3, 32, 32)
            logits = model(**picture_inputs(changed, mask)).logits
            assert (difference(logits, reference, inputs) > 1e-4) == bool(present)


def test_fewer_pictures_are_the_same_as_absent_ones():
    model, inputs = build(), tiny_inputs()
    with torch.no_grad():
        masked = model(**picture_inputs(inputs, torch.tensor([[1, 1, 0, 0]] * 3))).logits
        given = model(**{**picture_inputs(inputs), "pixel_values": inputs["pixel_values"][:, :2]}).logits
    assert same(masked, given, inputs)


def test_visual_features_replace_pixel_values():
    model, inputs = build(), tiny_inputs()
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    with torch.no_grad():
        features = model.model.get_visual_features(inputs["pixel_values"])
        expected = model(**picture_inputs(inputs, mask)).logits
        got = model(**text_inputs(inputs), visual_features=features, image_mask=mask).logits
    assert features.shape == (3, 4, 4 * 80 + 32)
    assert same(got, expected, inputs)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name):
    model, inputs = build(vision_config=BACKBONES[name]), tiny_inputs()
    assert len(model.model.vision_encoder.channels) == 4
    with torch.no_grad():
        present, text_only = (model(**arguments).logits for arguments in (picture_inputs(inputs), text_inputs(inputs)))
    assert difference(present, text_only, inputs) > 1e-3


# In eval mode a post's result is its own.


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_batch_mates_padding_and_their_pictures_do_not_matter(attention):
    model, inputs = build(), tiny_inputs(labels=True)
    model.set_attn_implementation(attention)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    names = ("input_ids", "attention_mask", "pixel_values")
    with torch.no_grad():
        together = model(**{name: inputs[name] for name in names}, image_mask=mask).logits
        for post in range(3):
            length = int(inputs["attention_mask"][post].sum())
            alone = {name: inputs[name][post : post + 1] for name in names}
            alone["input_ids"], alone["attention_mask"] = (alone[n][:, :length] for n in names[:2])
            logits = model(**alone, image_mask=mask[post : post + 1]).logits
            torch.testing.assert_close(logits[0], together[post, :length], atol=1e-5, rtol=0)
            words = inputs["word_mask"][post : post + 1]
            own = model.marginals(logits, words[:, :length])[0]
            torch.testing.assert_close(
                model.marginals(together, inputs["word_mask"])[post, : len(own)], own, atol=1e-5, rtol=0
            )
            decoded = model.decode(together, inputs["word_mask"])[post]
            assert model.decode(logits, words[:, :length]) == [decoded] and len(decoded) == words.sum()


# Training.


@pytest.mark.parametrize("freeze", [True, False])
def test_every_parameter_but_a_frozen_backbone_gets_a_gradient(freeze):
    model = build(freeze_vision=freeze).train()
    before = copy.deepcopy(model.model.vision_encoder.state_dict())
    model(**tiny_inputs(4, labels=True)).loss.backward()
    for name, parameter in model.named_parameters():
        frozen = freeze and "vision_encoder" in name
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) if frozen else parameter.grad.abs().sum() > 0, name
    after = model.model.vision_encoder.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert bool(moved) != freeze


def test_gradient_checkpointing_gives_the_same_gradients():
    inputs, gradients = tiny_inputs(labels=True), []
    for checkpointing in (False, True):
        model = build(text=NO_DROPOUT, classifier_dropout=0.0, attn_mixup=False).train()
        if checkpointing:
            enable_checkpointing(model)
        model(**inputs).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_layers_read_the_prompts_when_they_compute_again(family, monkeypatch):
    read, update = [], PrefixCache.update
    monkeypatch.setattr(
        PrefixCache, "update", lambda cache, *args, **kwargs: read.append(args[2]) or update(cache, *args, **kwargs)
    )
    model = build(family).train()
    model(**tiny_inputs(labels=True)).loss.backward()
    assert read == [0, 1]
    enable_checkpointing(model)
    model(**tiny_inputs(labels=True)).loss.backward()
    assert read[2:] == [0, 1, 1, 0]  # forward, then once more in the backward pass


def test_reentrant_checkpointing_is_refused_with_the_call_that_works():
    model = build()
    with pytest.raises(ValueError) as refusal:
        enable_checkpointing(model, use_reentrant=True)
    assert f'{CHECKPOINTING}_enable({CHECKPOINTING}_kwargs={{"use_reentrant": False}})' in str(refusal.value)
    enable_checkpointing(model, use_reentrant=False)


# The text encoder takes the prompts under the name that the installed version of transformers has for a cache.


def test_prompts_reach_an_encoder_with_either_name_of_the_cache(monkeypatch):
    inputs, forward = picture_inputs(tiny_inputs()), BertModel.forward
    name = "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
    expected = build()(**inputs).logits

    def with_cache(self, *args, cache=None, **kwargs):
        return forward(self, *args, **{name: cache}, **kwargs)

    def with_past_key_values(self, *args, past_key_values=None, **kwargs):
        return forward(self, *args, **{name: past_key_values}, **kwargs)

    for other in (with_cache, with_past_key_values):
        monkeypatch.setattr(BertModel, "forward", other)
        assert torch.equal(build()(**inputs).logits, expected)
    monkeypatch.setattr(BertModel, "forward", lambda self, *args, **kwargs: forward(self, *args))
    with pytest.raises(ValueError, match="BertModel.forward takes neither cache nor past_key_values"):
        build()


def test_prompts_reach_an_encoder_that_peft_wraps():
    model, inputs = build(), tiny_inputs()
    expected = model(**picture_inputs(inputs)).logits
    model.model.text_encoder = get_peft_model(model.model.text_encoder, LoraConfig(target_modules=["query"]))
    for wrapped in (model, copy.deepcopy(model)):
        assert torch.equal(wrapped.eval()(**picture_inputs(inputs)).logits, expected)
    assert difference(model(**text_inputs(inputs)).logits, expected, inputs) > 1e-3


def test_a_trained_backbone_sees_all_pictures_of_a_batch_in_one_call():
    """Batch-norm needs them together, where a frozen backbone takes a few at a time."""
    model, pictures = build(freeze_vision=False).train().model, torch.randn(5, 4, 3, 32, 32)
    assert len(pictures.flatten(0, 1)) > CPU_BYTES // pictures.element_size()
    encoder = copy.deepcopy(model.vision_encoder)
    maps = encoder(pictures.flatten(0, 1)).feature_maps
    expected = torch.cat([pool_feature_maps(maps).flatten(1), maps[-1].mean((2, 3))], dim=1)
    torch.testing.assert_close(model.get_visual_features(pictures).flatten(0, 1), expected, atol=1e-4, rtol=1e-4)
    statistics = model.vision_encoder.state_dict()
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(statistics[name], value)
    assert statistics["embedder.embedder.normalization.num_batches_tracked"] == 1


# Saving, loading, precision, embeddings.


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_save_and_load(tmp_path, family):
    model, inputs = build(family), tiny_inputs()
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {"model.safetensors"}
    loaded = I2SRMForTokenClassification.from_pretrained(tmp_path)
    assert not any(p.requires_grad for p in loaded.model.vision_encoder.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(model(**picture_inputs(inputs)).logits, loaded(**picture_inputs(inputs)).logits)
    assert type(AutoConfig.from_pretrained(tmp_path)) is I2SRMConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is I2SRMModel
    assert type(AutoModelForTokenClassification.from_pretrained(tmp_path)) is I2SRMForTokenClassification


def test_resize_token_embeddings(tmp_path):
    model, inputs = build(), tiny_inputs()
    with torch.no_grad():
        before = model(**picture_inputs(inputs)).logits
        model.resize_token_embeddings(130)
        assert model.config.text_config.vocab_size == 130
        assert torch.equal(model(**picture_inputs(inputs)).logits, before)
        inputs["input_ids"][0, 1] = 125
        expected = model(**picture_inputs(inputs)).logits
        model.save_pretrained(tmp_path)
        loaded = I2SRMForTokenClassification.from_pretrained(tmp_path)
        assert torch.equal(loaded(**picture_inputs(inputs)).logits, expected)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bfloat16_agrees_within_bfloat16(attention):
    model, inputs = I2SRMForTokenClassification(tiny_config()).eval(), tiny_inputs(labels=True)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        expected = model(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(**inputs)
        half = copy.deepcopy(model).to(torch.bfloat16)
        cast = half(**{**inputs, "pixel_values": inputs["pixel_values"].to(torch.bfloat16)})
        masked = half(**picture_inputs(inputs, torch.zeros(3, 4))).logits
        assert same(masked, half(**text_inputs(inputs)).logits, inputs)
    for outputs in (autocast, cast):
        assert difference(outputs.logits.float(), expected.logits, inputs) < 0.05
        assert outputs.loss.dtype == torch.float32
        torch.testing.assert_close(outputs.loss, expected.loss, rtol=0.02, atol=0.0)


def test_set_attn_implementation_leaves_a_convolutional_backbone_alone():
    model = build()
    model.set_attn_implementation("eager")
    assert model.model.text_encoder.config._attn_implementation == "eager"
    model.set_attn_implementation("sdpa")
    assert model.model.text_encoder.config._attn_implementation == "sdpa"
    assert model.model.vision_encoder.config._attn_implementation != "sdpa"


def test_a_model_is_built_with_the_attention_of_its_configuration_and_a_convolutional_backbone():
    config = tiny_config()
    config._attn_implementation = "sdpa"
    model = I2SRMModel(config)
    assert model.text_encoder.config._attn_implementation == "sdpa"


def test_input_embeddings_can_be_replaced():
    model = I2SRMModel(tiny_config())
    embeddings = torch.nn.Embedding(7, model.text_encoder.config.hidden_size)
    model.set_input_embeddings(embeddings)
    assert model.get_input_embeddings() is embeddings and model.text_encoder.get_input_embeddings() is embeddings


# Building.


def test_from_encoders_takes_over_every_weight(tmp_path):
    text = BertModel(I2SRMConfig(text_config=text_config(), vision_config=RESNET).text_config)
    vision = ResNetBackbone(ResNetConfig(**{k: v for k, v in RESNET.items() if k != "model_type"}))
    text.save_pretrained(tmp_path / "text")
    vision.save_pretrained(tmp_path / "vision")
    model = I2SRMForTokenClassification.from_encoders(
        str(tmp_path / "text"), str(tmp_path / "vision"), num_labels=3, prompt_hidden_size=20, num_objects=1
    )
    for module, pretrained in ((model.model.text_encoder, text), (model.model.vision_encoder, vision)):
        weights = pretrained.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert model.config.num_labels == 3 and model.config.num_objects == 1
    assert model.model.vision_encoder.channels == [8, 16, 24, 32]


def test_from_encoders_with_the_wrong_checkpoint(tmp_path):
    BertModel(I2SRMConfig(text_config=text_config(), vision_config=RESNET).text_config).save_pretrained(tmp_path / "a")
    save_file({"something.else": torch.zeros(2)}, tmp_path / "a" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="none of the weights"):
        I2SRMForTokenClassification.from_encoders(str(tmp_path / "a"), None, vision_config=RESNET, freeze_vision=False)


def test_a_new_backbone_must_not_be_frozen(tmp_path):
    with pytest.raises(ValueError, match="freeze_vision=False"):
        I2SRMForTokenClassification.from_encoders("unused", vision_config=RESNET)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pixel_values": torch.zeros(3, 3, 32, 32)}, "batch, pictures, 3"),
        ({"pixel_values": torch.zeros(3, 5, 3, 32, 32)}, "num_objects=4"),
        ({"visual_features": torch.zeros(3, 4, 7), "pixel_values": None}, "get_visual_features"),
        ({"visual_features": torch.zeros(3, 4, 352)}, "not both"),
        ({"image_mask": torch.ones(3, 2)}, "image_mask of shape"),
        ({"pixel_values": None, "image_mask": torch.ones(3, 4)}, "image_mask names pictures"),
        ({"input_ids": None}, "input_ids or inputs_embeds"),
    ],
)
def test_wrong_inputs_are_explained(change, message):
    with pytest.raises(ValueError, match=message):
        build()(**{**picture_inputs(tiny_inputs()), **change})


def test_an_unsupported_text_encoder_is_refused():
    with pytest.raises(ValueError, match="'distilbert' cannot take visual prompts.*bert, roberta, xlm-roberta"):
        I2SRMForTokenClassification(I2SRMConfig(text_config={"model_type": "distilbert"}, vision_config=RESNET))


def test_real_sizes_by_default():
    with torch.device("meta"):
        model = I2SRMForTokenClassification(I2SRMConfig(num_labels=9))
    assert model.model.pooled_channels == 3840 and model.model.last_channels == 2048
    assert sum(p.numel() for p in model.model.text_encoder.parameters()) == 354_310_144
    assert 4 * model.model.pooled_channels + model.model.last_channels == 17408
