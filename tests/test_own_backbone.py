"""User-defined backbones and those of timm train, are cached, saved, loaded and exported, and keep their recipe."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from own_backbone import TINY_LITE, efficientnet_lite
from tiny import bert_tokenizer, noise, text_config, tiny_config, tiny_inputs
from tiny_runs import run
from transformers import CONFIG_MAPPING, BertModel, TimmBackboneConfig

from modeling_i2srm import (
    I2SRMConfig,
    I2SRMForTokenClassification,
    I2SRMModel,
    I2SRMProcessor,
    VisualFeatureCache,
)
from modeling_i2srm.configuration_i2srm import timm_name
from modeling_i2srm.image_recipes import recipe_image_processor
from modeling_i2srm.loading import CheckpointError
from modeling_i2srm.onnx.export import export_checkpoint
from modeling_i2srm.support.batch_norm import fold_batch_norm
from modeling_i2srm.visual_prompt import check_feature_maps


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> SimpleNamespace:
    """Folders of a text encoder with its tokenizer, and of a user-defined backbone with its weights."""
    folder = tmp_path_factory.mktemp("encoders")
    BertModel(tiny_config().text_config).save_pretrained(folder / "text")
    bert_tokenizer().save_pretrained(folder / "text")
    fields = {name: value for name, value in TINY_LITE.items() if name != "model_type"}
    backbone = efficientnet_lite.EfficientNetLiteBackbone(efficientnet_lite.EfficientNetLiteConfig(**fields))
    backbone.save_pretrained(folder / "vision")
    return SimpleNamespace(text=str(folder / "text"), vision=str(folder / "vision"), backbone=backbone)


@pytest.fixture
def unregistered(monkeypatch):
    """The model type of the backbone is unknown, as in a process that has not imported its module."""
    monkeypatch.delitem(CONFIG_MAPPING._extra_content, "efficientnet_lite")


def build(encoders) -> tuple[I2SRMForTokenClassification, I2SRMProcessor]:
    names = encoders.text, encoders.vision
    return I2SRMForTokenClassification.from_encoders(*names).eval(), I2SRMProcessor.from_encoders(*names)


def test_weights_and_recipe_come_from_its_folder(encoders, caplog):
    model, processor = build(encoders)
    for name, weights in encoders.backbone.state_dict().items():
        assert torch.equal(model.model.vision_encoder.state_dict()[name], weights), name
    assert model.config.vision_out_features == ["stage1", "stage2", "stage3", "stage4"]
    picture = noise(1, 32, 32)
    expected = (np.asarray(picture) / 255 - 0.5) / 0.25
    pixels = processor(text="Kobe", images=picture)["pixel_values"][0, 0].permute(1, 2, 0)
    torch.testing.assert_close(pixels, torch.tensor(expected).float(), atol=1e-5, rtol=0)
    assert "recipe" not in caplog.text


def test_it_is_saved_and_loaded(encoders, tmp_path):
    model, processor = build(encoders)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, again = I2SRMForTokenClassification.from_pretrained(tmp_path), I2SRMProcessor.from_pretrained(tmp_path)
    inputs = processor(text="Kobe lands in Paris", images=noise(1))
    with torch.no_grad():
        logits = loaded(**again(text="Kobe lands in Paris", images=noise(1))).logits
        torch.testing.assert_close(logits, model(**inputs).logits)


@pytest.mark.slow
def test_it_is_exported(encoders, tmp_path):
    model, processor = build(encoders)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert export_checkpoint(str(tmp_path), tmp_path / "lite.onnx") < 1e-4


def test_it_trains_and_its_features_are_cached(posts, tmp_path):
    settings = {"num_train_epochs": 1, "max_train_samples": 8, "do_eval": False, "do_predict": False}
    settings |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    run(posts, tmp_path / "a", **settings, vision_config=json.dumps(TINY_LITE))
    recipe = I2SRMProcessor.from_pretrained(tmp_path / "a").image_processor
    assert (recipe.crop_size.height, list(recipe.image_std)) == (32, [0.25] * 3)
    start = {"from_scratch": None, "text_config": None, "vision_config": None, "model_name_or_path": tmp_path / "a"}
    run(posts, tmp_path / "b", **settings, **start, freeze_vision=True, cache_visual_features=tmp_path / "features")
    before, after = (I2SRMForTokenClassification.from_pretrained(tmp_path / name) for name in "ab")
    assert torch.equal(*(m.model.vision_encoder.stem.convolution.weight for m in (before, after)))
    assert not torch.equal(*(m.model.visual_prompt.gates.weight for m in (before, after)))
    processor = I2SRMProcessor.from_pretrained(tmp_path / "b")
    assert len(VisualFeatureCache.for_model(tmp_path / "features", after, processor)) >= 8


def test_its_code_counts_for_the_cache(encoders, tmp_path, monkeypatch):
    model, processor = build(encoders)
    before = VisualFeatureCache.for_model(tmp_path, model, processor).folder
    assert VisualFeatureCache.for_model(tmp_path, model, processor).folder == before
    (tmp_path / "edited.py").write_text("# another file")
    monkeypatch.setattr(efficientnet_lite, "__file__", str(tmp_path / "edited.py"))
    assert VisualFeatureCache.for_model(tmp_path, model, processor).folder != before


def test_its_batch_norm_is_not_folded():
    model = I2SRMModel(tiny_config(vision_config=TINY_LITE)).eval()
    layers = [type(layer) for layer in model.modules()]
    assert [type(layer) for layer in fold_batch_norm(model).modules()] == layers


@pytest.mark.parametrize(
    "load",
    [
        lambda e, _: I2SRMForTokenClassification.from_encoders(e.text, e.vision),
        lambda e, _: I2SRMProcessor.from_encoders(e.text, e.vision),
        lambda _, saved: I2SRMForTokenClassification.from_pretrained(saved),
        lambda *_: I2SRMConfig(text_config=text_config(), vision_config=TINY_LITE),
    ],
    ids=["model", "processor", "checkpoint", "configuration"],
)
def test_without_its_module_the_import_is_named(encoders, tmp_path, unregistered, load):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "i2srm", "vision_config": TINY_LITE}))
    with pytest.raises(ValueError) as error:
        load(encoders, str(tmp_path))
    for words in ("efficientnet_lite", "import my_backbone", "AutoConfig.register", "AutoBackbone.register"):
        assert words in str(error.value)


def test_a_configuration_without_a_backbone_is_refused(monkeypatch):
    class Headless(efficientnet_lite.EfficientNetLiteConfig):
        model_type = "headless"

    with pytest.raises(
        ValueError, match=r"'headless', which is not a vision backbone.*register\(Headless, MyBackbone\)"
    ):
        I2SRMModel(tiny_config(vision_config=Headless()))


def test_maps_with_their_channels_last_are_refused(monkeypatch):
    model, inputs = I2SRMModel(tiny_config(vision_config=TINY_LITE)).eval(), tiny_inputs()
    forward = efficientnet_lite.EfficientNetLiteBackbone.forward

    def channels_last(self, pixels):
        outputs = forward(self, pixels)
        outputs.feature_maps = tuple(feature_map.permute(0, 2, 3, 1) for feature_map in outputs.feature_maps)
        return outputs

    monkeypatch.setattr(efficientnet_lite.EfficientNetLiteBackbone, "forward", channels_last)
    with pytest.raises(ValueError, match=r"\(8, 8, 8, 6\).*channels \[6, 8, 8, 12\].*permute"):
        model.get_visual_features(inputs["pixel_values"])


@pytest.mark.parametrize("shapes", [[(2, 3, 4, 4)], [(2, 3, 4, 4), (2, 5, 9)], [(2, 3, 4, 4), (2, 6, 2, 2)]])
def test_missing_flat_and_other_maps_are_refused(shapes):
    check_feature_maps([torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 1, 1)], [3, 5])
    with pytest.raises(ValueError, match="the backbone gives feature maps of the shapes"):
        check_feature_maps([torch.zeros(shape) for shape in shapes], [3, 5])


# Recipes


@pytest.mark.parametrize(
    ("recipe", "image_size", "size", "crop", "resample"),
    [
        ({}, None, {"shortest_edge": 256}, 224, 2),
        ({"input_size": (3, 96, 96), "interpolation": "bicubic"}, None, {"shortest_edge": 109}, 96, 3),
        ({"input_size": [3, 240, 240], "crop_pct": 1.0}, 64, {"shortest_edge": 64}, 64, 2),
        ({"crop_pct": 0.5, "crop_mode": "squash"}, 64, {"height": 128, "width": 128}, 64, 2),
    ],
)
def test_recipes_of_timm(recipe, image_size, size, crop, resample):
    processor = recipe_image_processor(recipe, image_size)
    assert {name: side for name, side in dict(processor.size).items() if side} == size
    assert dict(processor.crop_size)["height"] == dict(processor.crop_size)["width"] == crop
    assert processor.resample == resample
    assert processor([noise(1)], return_tensors="pt")["pixel_values"].shape == (1, 3, crop, crop)


@pytest.mark.parametrize(
    "recipe",
    [
        {"input_size": [3, 224, 192]},
        {"input_size": [1, 224, 224]},
        {"crop_pct": 0},
        {"crop_pct": 1.1},
        {"crop_mode": "border"},
        {"interpolation": "random"},
    ],
    ids=str,
)
def test_recipes_that_cannot_be_followed(recipe):
    with pytest.raises(ValueError, match="e.g. pretrained_cfg="):
        recipe_image_processor(recipe)


# timm


def test_names_of_timm(tmp_path, monkeypatch):
    assert timm_name("timm/resnet18.a1_in1k") == "resnet18.a1_in1k"
    assert timm_name("microsoft/resnet-50") is timm_name("timm") is timm_name("timm/") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm/mine").mkdir(parents=True)
    assert timm_name("timm/mine") is None


@pytest.mark.parametrize("make", [I2SRMForTokenClassification, I2SRMProcessor])
def test_without_timm_the_installation_is_named(encoders, monkeypatch, make):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CheckpointError, match=r"'timm/resnet18'.*torchvision.*pip install timm"):
        make.from_encoders(encoders.text, "timm/resnet18")


def test_a_timm_backbone_keeps_its_stages():
    """Its configuration names all stages once it is built, so that a saved one must not get other stages."""
    new = I2SRMConfig(text_config=text_config(), vision_config={"model_type": "timm_backbone", "backbone": "resnet18"})
    assert new.vision_config.out_indices == [-4, -3, -2, -1] and new.vision_out_features is None
    stages = ["act1", "layer1", "layer2", "layer3", "layer4"]
    built = TimmBackboneConfig(backbone="resnet18", out_indices=[-2, -1], out_features=stages[-2:], stage_names=stages)
    saved = I2SRMConfig(text_config=text_config(), vision_config=built.to_dict())
    assert saved.vision_config.out_features == stages[-2:] and saved.vision_config.out_indices == [-2, -1]


def test_a_backbone_of_timm(encoders, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm", reason="needs timm and torchvision", exc_type=(ImportError, RuntimeError))
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: create(*args, **{**kwargs, "pretrained": False}))
    names = encoders.text, "timm/resnet18.a1_in1k"
    model, processor = I2SRMForTokenClassification.from_encoders(*names).eval(), I2SRMProcessor.from_encoders(*names)
    assert model.model.vision_encoder.out_features == ["layer1", "layer2", "layer3", "layer4"]
    assert dict(processor.image_processor.size)["shortest_edge"] == 235  # 224 / 0.95
    model.save_pretrained(tmp_path)
    loaded, inputs = I2SRMForTokenClassification.from_pretrained(tmp_path), tiny_inputs()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
