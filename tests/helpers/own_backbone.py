"""The backbone of examples/efficientnet_lite.py, which importing this file registers, and a tiny configuration."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "examples"))

import efficientnet_lite  # noqa: E402, F401

TINY_LITE = {
    "model_type": "efficientnet_lite",
    "stem_channels": 4,
    "stages": [[[3, 1, 4, 1, 1], [3, 2, 6, 2, 2]], [[5, 2, 8, 1, 2]], [[3, 2, 8, 1, 2]], [[5, 2, 12, 1, 2]]],
    "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3},
}
