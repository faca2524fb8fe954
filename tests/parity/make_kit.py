"""Write the small kit of reference numbers, this folder's kit.json and *.safetensors, out of the full one.

    python tests/parity/make_kit.py ../shared/parity

Weights that both models have are stored once. What the models do not use (poolers, the backbone's classifier) and full
gradients are left out; of a gradient its norm is kept.
"""

import argparse
import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
CASE = "b2"
UNUSED = re.compile(r"pooler|resnet\.fc\.|position_ids")
TENSORS = ("pooled", "gates", "prompt_keys", "prompt_values", "last_hidden_state", "logits")
LISTS = ("classifier_in", "classifier_out")  # of one tensor


def write_kit(full: Path, folder: Path):
    """Write the kit: weights.safetensors, case.safetensors and kit.json.

    Args:
        full: the folder of ner.pt and re.pt.
        folder: where the kit goes.
    """
    references = {task: torch.load(full / f"{task}.pt", weights_only=True) for task in ("ner", "re")}
    weights, case_tensors, kit = shared_weights(references), {}, {}
    for task, reference in references.items():
        case = reference["cases"][CASE]
        expected = case["eval_layers"]
        tensors = {f"inputs/{name}": tensor for name, tensor in case["inputs"].items()}
        tensors |= {f"eval_layers/{name}": expected[name] for name in TENSORS if name in expected}
        tensors |= {f"eval_layers/{name}": expected[name][0] for name in LISTS if name in expected}
        tensors["text_only_last_hidden"] = case["text_only_last_hidden"]
        case_tensors |= {f"{task}/{name}": tensor.contiguous() for name, tensor in tensors.items()}
        kit[task] = {
            "config": reference["config"],
            "case": CASE,
            "loss": float(expected["loss"]),
            "decode": expected.get("decode"),
            "gradient_norms": {
                name: float(gradient.double().norm())
                for name, gradient in sorted(expected["grads"].items())
                if not UNUSED.search(name)
            },
        }
    save_file(weights, folder / "weights.safetensors")
    save_file(case_tensors, folder / "case.safetensors")
    text = json.dumps(kit, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text)  # a list of numbers on one line
    (folder / "kit.json").write_text(text + "\n", encoding="utf-8")


def shared_weights(references: dict[str, dict]) -> dict[str, torch.Tensor]:
    """The used weights of the models by TASK/NAME, or both/NAME where they are equal."""
    ner, re_ = (references[task]["weights"] for task in ("ner", "re"))
    weights = {}
    for task, own, other in (("ner", ner, re_), ("re", re_, ner)):
        for name, tensor in own.items():
            if not UNUSED.search(name):
                equal = name in other and torch.equal(tensor, other[name])
                weights[f"{'both' if equal else task}/{name}"] = tensor.contiguous()
    return weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("full", type=Path, help="the folder of the full kit, with ner.pt and re.pt")
    write_kit(parser.parse_args().full, HERE)
