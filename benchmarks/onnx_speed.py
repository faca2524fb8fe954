"""ONNX against torch on the CPU: the graph alone, or whole posts through an exported folder.

    python benchmarks/onnx_speed.py --threads 1                                          # the graph of a tagger
    python benchmarks/onnx_speed.py --threads 1 --dataset data/visual_posts              # folders of the example model
    python benchmarks/onnx_speed.py --threads 1 --dataset data/visual_posts --model base # of a new model of base size

Without --dataset: random weights of the size of the quickstart (20 tokens, 3 pictures of 40x40) and of BERT-base with
ResNet-50 (42 tokens, 4 pictures of 224x224). Each row is a batch of posts with all their pictures present or with none;
both sides take the same inputs in turn, first one first and then the other, and the medians are printed with torch /
onnxruntime as the ratio. Decoding is left out.

With --dataset: a joint model is exported as a folder, in float32 and in int8, and answers the test posts with their
pictures beside `Extractor`. Printed are the size on disk; the seconds of a fresh process until it has answered one
post, imports included; the share of equal answers, the largest difference of the scores and F1 (entities and triples,
strict); and posts per second, sides in turn. Times are seconds of the processor, and beside them those of the clock.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, ResNetConfig, set_seed

from modeling_i2srm import (
    Extractor,
    I2SRMConfig,
    I2SRMForJointExtraction,
    I2SRMForTokenClassification,
    I2SRMProcessor,
    example_model,
)
from modeling_i2srm.crf import find_entities
from modeling_i2srm.onnx.export import export_onnx, random_inputs
from modeling_i2srm.onnx.session import OnnxSession
from modeling_i2srm.processing_i2srm import resnet_image_processor

sys.path[0] = str(Path(__file__).parent)
from stopwatch import in_turns  # noqa: E402

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
parser.add_argument("--dataset", help="folder of a joint data set, whose test posts are answered")
parser.add_argument("--model", default=None, help='folder of a joint model, or "base" (default the example model)')
parser.add_argument("--work", help="folder that keeps the exported ones for another run (default a temporary one)")
parser.add_argument("--posts", type=int, default=500, help="test posts that are answered (default %(default)s)")
parser.add_argument("--rounds", type=int, default=5, help="rounds and fresh processes (default %(default)s)")
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


def new_model(folder: Path) -> str:
    """A joint model of BERT-base and ResNet-50 with random weights, with the labels of the example model."""
    small = I2SRMConfig.from_pretrained(example_model())
    config = I2SRMConfig(
        text_config=BertConfig(),
        vision_config=ResNetConfig(),
        id2label=small.id2label,
        relation_labels=small.relation_labels,
        relation_types=small.relation_types,
        semantic_loss_weight=0.0,
        attn_mixup=False,
    )
    processor = I2SRMProcessor.from_pretrained(example_model())
    processor.image_processor = resnet_image_processor(224)
    I2SRMForJointExtraction(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def read_posts(dataset: str, count: int) -> tuple[list[dict], list[tuple[set, set]]]:
    """Test posts, and the entities and triples of each that are right."""
    from datasets import Image, List, load_dataset

    rows = load_dataset(dataset, split="test")
    tags, kinds = rows.features["ner_tags"].feature.names, rows.features["relations"].feature["label"].names
    rows = rows.cast_column("image", Image(decode=False)).cast_column("objects", List(Image(decode=False)))
    posts, gold = [], []
    for row in rows.select(range(min(count, len(rows)))):
        posts.append({name: row[name] for name in ("id", "tokens", "image", "objects")})
        entities = find_entities([tags[tag] for tag in row["ner_tags"]])
        triples = {(entities[r["head"]], kinds[r["label"]], entities[r["tail"]]) for r in row["relations"]}
        gold.append((set(entities), triples))
    return posts, gold


def sets_of(answer: dict) -> tuple[set, set]:
    """The entities and triples of an answer."""
    entities = [(one["start"], one["end"], one["label"]) for one in answer["entities"]]
    return set(entities), {(entities[r["head"]], r["label"], entities[r["tail"]]) for r in answer["relations"]}


def f1(found: list[set], gold: list[set]) -> float:
    """Micro F1 in per cent."""
    right = sum(len(one & other) for one, other in zip(found, gold, strict=True))
    return 100 * 2 * right / max(sum(map(len, found)) + sum(map(len, gold)), 1)


def scores_of(answer: dict) -> list[float]:
    return [one[key] for part in ("entities", "relations") for one in answer[part] for key in one if "score" in key]


def load_extractor(folder: Path, threads: int):
    """The extractor of an exported folder."""
    spec = importlib.util.spec_from_file_location(f"extract_{folder.name}", folder / "extract.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.OnnxExtractor(threads=threads)


def first_answer(code: str, arguments: list[str], rounds: int) -> dict[str, float]:
    """Median seconds of a fresh process, by the clock and of the processor."""
    environment, rows = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, []
    for _ in range(rounds):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment, capture_output=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        rows.append((time.perf_counter() - start, used))
    clock, used = (round(statistics.median(row), 2) for row in zip(*rows, strict=True))
    return {"clock": clock, "processor": used}


TORCH_CODE = (
    "import sys, torch; torch.set_num_threads(1); from modeling_i2srm import Extractor; "
    "Extractor.from_pretrained(sys.argv[1])('Kobe lands in Paris')"
)
FILE_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from extract import OnnxExtractor; "
    "OnnxExtractor(threads=1)('Kobe lands in Paris')"
)


def compare_folders(arguments: argparse.Namespace, work: Path) -> Iterator[dict]:
    """Yield the records of --dataset, one per part."""
    model = new_model(work / "model") if arguments.model == "base" else arguments.model or example_model()
    folders = {name: work / name for name in ("float32", "int8")}
    from modeling_i2srm.onnx.folder import export_folder

    for name, folder in folders.items():
        if not (folder / "extract.py").is_file():
            export_folder(model, folder, int8=name == "int8")
    posts, gold = read_posts(arguments.dataset, arguments.posts)
    torch_side = Extractor.from_pretrained(model)
    files = {name: load_extractor(folder, arguments.threads) for name, folder in folders.items()}
    answers = {"torch": [one.to_dict() for one in torch_side(posts)]}
    answers |= {name: [one.to_dict() for one in extractor(posts)] for name, extractor in files.items()}
    sizes = {name: Path(folder) for name, folder in {"torch": model, **folders}.items()}
    for name, mine in answers.items():
        found, expected = ([sets_of(one) for one in side] for side in (mine, answers["torch"]))
        equal = [one == other for one, other in zip(found, expected, strict=True)]
        pairs = zip(mine, answers["torch"], equal, strict=True)
        gaps = [abs(a - b) for m, t, same in pairs if same for a, b in zip(scores_of(m), scores_of(t), strict=False)]
        yield {
            "side": name,
            "posts": len(posts),
            "megabytes": round(sum(path.stat().st_size for path in sizes[name].iterdir()) / 1e6, 2),
            "equal_posts": sum(equal),
            "equal_entities": round(f1([one[0] for one in found], [one[0] for one in expected]), 2),
            "largest_difference": float(f"{max(gaps, default=0.0):.1e}"),
            "entity_f1": round(f1([one[0] for one in found], [one[0] for one in gold]), 2),
            "triple_f1": round(f1([one[1] for one in found], [one[1] for one in gold]), 2),
        }
    sides = {f"torch, batch {size}": lambda _, size=size: torch_side(part, batch_size=size) for size in (1, 8)}
    sides |= {name: lambda _, extractor=extractor: extractor(part) for name, extractor in files.items()}
    part = posts[:8] if arguments.model == "base" else posts[:64]
    times = in_turns(sides, arguments.rounds)
    for clock in ("cpu_seconds", "wall_seconds"):
        yield {"posts per": clock, **{name: round(len(part) / t[clock], 2) for name, t in times.items()}}
    commands = {"torch": (TORCH_CODE, model), **{name: (FILE_CODE, str(path)) for name, path in folders.items()}}
    for name, (code, at) in list(commands.items())[::-1]:
        yield {"first answer of": name, **first_answer(code, [at], arguments.rounds)}


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    set_seed(0)
    if arguments.dataset:
        with tempfile.TemporaryDirectory() as folder:
            for part in compare_folders(arguments, Path(arguments.work or folder)):
                print(json.dumps(part), flush=True)
        return
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
