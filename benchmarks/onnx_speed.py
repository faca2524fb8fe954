"""The speed of an exported tagger in onnxruntime against torch on the CPU, in one process and in turn.

    python benchmarks/onnx_speed.py --threads 1

Random weights, so no checkpoint is needed: the size of the quickstart (20 tokens, 3 pictures of 40x40) and BERT-base
with ResNet-50 (42 tokens, 4 pictures of 224x224). Each row is a batch of posts with all their pictures present or with
none; both sides take the same inputs in turn, first one first and then the other, and the medians are printed with
torch / onnxruntime as the ratio. Decoding is left out.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, ResNetConfig, set_seed

from modeling_i2srm import I2SRMConfig, I2SRMForTokenClassification
from modeling_i2srm.onnx.export import export_onnx, random_inputs
from modeling_i2srm.onnx.session import OnnxSession

LABELS = dict(enumerate(["O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC", "ORG", "MISC") for prefix in "BI")]))
SMALL_TEXT = {"vocab_size": 800, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL_VISION = {"embedding_size": 8, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1], "layer_type": "basic"}
# name: (configuration, side of the pictures, tokens)
SIZES = {
    "quickstart": (
        {
            "text_config": BertConfig(**SMALL_TEXT, intermediate_size=256, max_position_embeddings=128),
            "vision_config": ResNetConfig(**SMALL_VISION),
            "num_objects": 2,
            "prompt_hidden_size": 128,
        },
        40,
        20,
    ),
    "base": ({"text_config": BertConfig(), "vision_config": ResNetConfig(), "num_objects": 3}, 224, 42),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1, help="threads of either side (default %(default)s)")
parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 8])
parser.add_argument("--seconds", type=float, default=30, help="about how long a row takes (default %(default)s)")


def compare(model, session: OnnxSession, inputs: dict[str, torch.Tensor], seconds: float) -> tuple[list, list, float]:
    """Run both in turn for a while; return their times in seconds and the largest difference of the logits."""
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    sides = [lambda: model(**inputs).logits.numpy(), lambda: session(**arrays)]
    times: tuple[list, list] = ([], [])
    with torch.inference_mode():
        difference = float(np.abs(sides[0]() - sides[1]()).max())  # the first calls are not timed
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times[0]) < 5:
            first = len(times[0]) % 2
            for side in (first, 1 - first):
                start = time.perf_counter()
                sides[side]()
                times[side].append(time.perf_counter() - start)
    return *times, difference


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    set_seed(0)
    print("| size | batch | pictures | torch, ms | onnxruntime, ms | ratio | rounds | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.sizes:
        settings, side, length = SIZES[name]
        model = I2SRMForTokenClassification(I2SRMConfig(**settings, id2label=LABELS)).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path, side)
            session = OnnxSession(path, threads=arguments.threads)
        for batch in arguments.batch_sizes:
            inputs = random_inputs(model, batch, length, 1 + model.config.num_objects, (side, side))
            for present in ("present", "none"):
                if present == "none":
                    del inputs["pixel_values"], inputs["image_mask"]
                torch_times, onnx_times, difference = compare(model, session, inputs, arguments.seconds)
                ours, theirs = (1000 * statistics.median(times) for times in (torch_times, onnx_times))
                print(
                    f"| {name} | {batch} | {present} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} "
                    f"| {len(torch_times)} | {difference:.1e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
