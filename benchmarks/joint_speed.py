"""Posts per second of an Extractor with the joint model and of one with an entity and a relation model, on the CPU.

    python benchmarks/joint_speed.py --threads 1 --rounds 7 --output runs/joint_speed.json

All models have random weights, base size (BERT-base and ResNet-50) or the quickstart's. So that they do the same work,
the tags that are decoded are replaced in both systems by those of a given number of entities, all of one type that has
relations with itself: the joint model scores all ordered pairs of them, and the relation model is asked of the same.
Posts have 28 words (the length of MNRE's), a picture of 600x450 and all crops of 160x160 pixels, in memory. Batch-norm
is folded in all models. The systems answer in turns; figures are medians of the rounds.

Prints, and writes to --output, a JSON list: size, batch, entities, pairs, posts per second of both, and their ratio.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertTokenizer, pipeline, set_seed

sys.path.insert(0, str(Path(__file__).parent))
from stopwatch import in_turns  # noqa: E402
from workload import SIZES, SPECIAL_TOKENS  # noqa: E402

from modeling_i2srm import (  # noqa: E402
    Extraction,
    Extractor,
    I2SRMConfig,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMProcessor,
)
from modeling_i2srm.prepare.builder import NER_TAGS  # noqa: E402
from modeling_i2srm.prepare.mnre import RELATIONS  # noqa: E402
from modeling_i2srm.processing_i2srm import resnet_image_processor  # noqa: E402
from modeling_i2srm.support.batch_norm import fold_batch_norm  # noqa: E402
from modeling_i2srm.training.presets import read_config  # noqa: E402

WORDS = 28
QUICKSTART = Path(__file__).resolve().parent.parent / "examples/configs/quickstart.json"
HEADS = {
    "multimodal-joint-extraction": I2SRMForJointExtraction,
    "multimodal-token-classification": I2SRMForTokenClassification,
    "multimodal-relation-classification": I2SRMForRelationClassification,
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sizes", nargs="+", choices=("quickstart", *SIZES), default=["base", "quickstart"])
parser.add_argument("--entities", type=int, nargs="+", default=[2, 3, 5])
parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8])
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=7, help="counted rounds, after one that is not")
parser.add_argument("--output", type=Path)


def settings_of(size: str) -> tuple[dict, int]:
    """The fields of the configuration of a size, and the side of its pictures."""
    if size != "quickstart":
        text, vision, width, side = SIZES[size]
        encoders = {"text_config": {"model_type": "bert", **text}, "vision_config": {"model_type": "resnet", **vision}}
        return {**encoders, "prompt_hidden_size": width, **({"num_objects": 1} if size == "tiny" else {})}, side
    values = read_config(QUICKSTART, "joint")
    names = ("text_config", "vision_config", "prompt_hidden_size", "num_objects")
    return {name: values[name] for name in names}, values["image_size"]


def make_pipeline(task: str, size: str, device: str = "cpu") -> object:
    """The pipeline of a new model, as `Extractor.from_pretrained` makes it."""
    settings, side = settings_of(size)
    vocabulary = [*SPECIAL_TOKENS, *(f"word{n}" for n in range(800 - 9 if size == "quickstart" else 2000))]
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)})
    objects = settings.get("num_objects", I2SRMConfig().num_objects)
    processor = I2SRMProcessor(resnet_image_processor(side), tokenizer, max_length=80, num_objects=objects)
    if task == "multimodal-relation-classification":
        processor.add_entity_markers()
        settings |= {"id2label": dict(enumerate(RELATIONS))}
    else:
        settings |= {"id2label": dict(enumerate(NER_TAGS))}
    if task == "multimodal-joint-extraction":
        triples = [[*(kind.upper() for kind in name.split("/")[1:3]), name] for name in RELATIONS[1:]]
        settings |= {"relation_labels": RELATIONS, "relation_types": [[h, name, t] for h, t, name in triples]}
    settings["text_config"] = {"vocab_size": len(processor.tokenizer), **settings["text_config"]}
    model = HEADS[task](I2SRMConfig(**settings)).eval()
    fold_batch_norm(model)
    make: Callable = pipeline
    return make(task, model=model, processor=processor, device=device)


def fix_entities(model: I2SRMForTokenClassification, count: int) -> None:
    """Let a model decode so many entities of one word, of one type, evenly spread, whatever the scores are."""
    tags = ["O"] * WORDS
    for place in range(count):
        tags[place * WORDS // count] = "B-PER"
    ids = [NER_TAGS.index(tag) for tag in tags]
    model.decode = lambda logits, word_mask: [list(ids) for _ in logits]


def make_posts(count: int, objects: int) -> list[dict]:
    """Posts of made-up words with all their pictures."""
    generator = np.random.default_rng(0)

    def picture(width: int, height: int) -> Image.Image:
        return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))

    return [
        {
            "tokens": [f"word{n}" for n in generator.integers(0, 700, WORDS)],
            "image": picture(600, 450),
            "objects": [picture(160, 160) for _ in range(objects)],
        }
        for _ in range(count)
    ]


def answer(system: Extractor, posts: list[dict], number: int) -> list[Extraction]:
    """What a system extracts from posts, in any round."""
    return system(posts, batch_size=len(posts))


def measure(size: str, batch_sizes: list[int], entities: list[int], rounds: int) -> list[dict]:
    """A row for each batch size and number of entities."""
    set_seed(0)
    pipes = {task: make_pipeline(task, size) for task in HEADS}
    joint, ner, re = pipes.values()
    systems = {"one": Extractor(joint), "two": Extractor(ner, re)}
    rows = []
    for batch_size in batch_sizes:
        posts = make_posts(batch_size, joint.model.config.num_objects)
        for count in entities:
            for pipe in (joint, ner):
                fix_entities(pipe.model, count)
            sides = {name: partial(answer, system, posts) for name, system in systems.items()}
            for side in sides.values():
                if any(len(extraction.entities) != count for extraction in side(0)):
                    raise RuntimeError(f"a system does not answer with the {count} entities that are set")
            times = in_turns(sides, rounds)
            rows.append(
                {
                    "size": size,
                    "batch": batch_size,
                    "entities": count,
                    "pairs": count * (count - 1),
                    **{
                        f"{name}_posts_per_second": round(batch_size / times[name]["wall_seconds"], 2) for name in sides
                    },
                    "ratio": round(times["two"]["wall_seconds"] / times["one"]["wall_seconds"], 2),
                    "cpu_ratio": round(times["two"]["cpu_seconds"] / times["one"]["cpu_seconds"], 2),
                    "threads": torch.get_num_threads(),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [
        row for size in options.sizes for row in measure(size, options.batch_sizes, options.entities, options.rounds)
    ]
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
