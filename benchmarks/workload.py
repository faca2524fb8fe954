"""What the speed benchmarks work on: new models of real sizes, made-up posts, and the floor of the work.

Posts are made up, but as long as those of the training splits of Twitter-2015 (NER, 42.1 +- 9.5 sub-tokens of a MiniLM
tokenizer) and MNRE (relations, 30.7 +- 6.4 with the markers), and come in batches as length grouping makes them. A post
has a main picture of 600x450 and crops of 160x160 pixels, as JPEGs.
"""

import argparse
import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import BertTokenizer

from modeling_i2srm import (
    I2SRMConfig,
    I2SRMDataCollator,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMProcessor,
)
from modeling_i2srm.processing_i2srm import resnet_image_processor

HEADS = {"ner": I2SRMForTokenClassification, "re": I2SRMForRelationClassification}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LABELS = {"ner": 9, "re": 23}
TEXT_LENGTHS = {"ner": (42.1, 9.5), "re": (30.7, 6.4)}  # mean and standard deviation
SHORTEST, LONGEST = 14, 78
GROUP = 50  # batches that are sorted by length together, as transformers' LengthGroupedSampler does

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
NARROW = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TINY_VISION = {"depths": [1, 1, 1, 1], "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32]}
# name: (text encoder, where it differs from BERT-base; backbone, where it differs from ResNet-50; projector; pictures)
SIZES = {
    "large": ({**LARGE, "vocab_size": 50265}, {}, 800, 224),  # RoBERTa-large has this vocabulary
    "base": ({}, {}, 800, 224),
    "minilm": (MINILM, {}, 800, 224),
    "width128": (NARROW, {}, 128, 224),
    "tiny": (TINY, TINY_VISION, 20, 32),
}
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # texts are made of ids, the tokenizer only pads them


def parser_of_sides(description: str) -> argparse.ArgumentParser:
    """The arguments of a benchmark that measures sides in turns."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=HEADS, default="ner")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sides", nargs="+", default=["recipe", "ours", "cached", "ours:bf16", "cached:bf16"])
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a side, after one that is not counted")
    return parser


def kind_and_dtype(side: str, kinds: tuple[str, ...]) -> tuple[str, torch.dtype]:
    """What a side such as "cached:bf16" means; float32 unless it says otherwise."""
    kind, _, dtype = side.partition(":")
    if kind not in kinds or dtype not in ("", *DTYPES):
        raise SystemExit(f"unknown side {side!r}; e.g. cached or cached:bf16, of {', '.join(kinds)}")
    return kind, DTYPES[dtype or "fp32"]


def build(task: str, size: str, **settings) -> tuple[nn.Module, I2SRMProcessor]:
    """A new model of a size in training mode, and a processor for it; settings are fields of the configuration."""
    text, vision, width, side = SIZES[size]
    config = I2SRMConfig(
        text_config={"model_type": "bert", **text, **settings.pop("text_config", {})},
        vision_config={"model_type": "resnet", **vision},
        prompt_hidden_size=width,
        num_labels=LABELS[task],
        **settings,
    )
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(SPECIAL_TOKENS)})
    processor = I2SRMProcessor(resnet_image_processor(side), tokenizer, num_objects=config.num_objects)
    return HEADS[task](config).train(), processor


def jpeg(generator: np.random.Generator, width: int, height: int) -> dict:
    """A JPEG of smooth random colours with a little noise."""
    colours = generator.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = (smooth + generator.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=85)
    return {"bytes": file.getvalue(), "path": None}


def make_words(count: int) -> list[list[str]]:
    """The words of posts, 4 to 35 a post."""
    generator = np.random.default_rng(2)
    words = ["".join(generator.choice(list("abcdefghijklmnop"), generator.integers(1, 9))) for _ in range(3000)]
    ranks = (generator.random((count, 35)) ** 3 * len(words)).astype(int)  # few words are frequent
    return [[words[i] for i in row[: generator.integers(4, 36)]] for row in ranks]


def grouped_lengths(task: str, batch_size: int, batches: int, generator: np.random.Generator) -> list[list[int]]:
    """The text lengths of some of the batches that length grouping makes, from the shortest to the longest."""
    mean, deviation = TEXT_LENGTHS[task]
    drawn = generator.normal(mean, deviation, GROUP * batch_size).round().astype(int).clip(SHORTEST, LONGEST)
    rows = np.sort(drawn).reshape(GROUP, batch_size)
    return [rows[int((i + 0.5) * GROUP / batches)].tolist() for i in range(batches)]


def make_text(task: str, config: I2SRMConfig, length: int, generator: np.random.Generator) -> dict:
    """An encoded text with labels."""
    ids = generator.integers(len(SPECIAL_TOKENS), config.text_config.vocab_size, length - 2).tolist()
    post = {"input_ids": [2, *ids, 3], "attention_mask": [1] * length, "token_type_ids": [0] * length}
    if task == "ner":  # four sub-tokens of five begin a word
        first = [0, 1, *(generator.random(length - 3) < 0.8).astype(int).tolist(), 0]
        tags = generator.integers(0, config.num_labels, length).tolist()
        post["word_mask"] = first
        post["labels"] = [tag if is_first else -100 for tag, is_first in zip(tags, first, strict=True)]
    else:
        head = int(generator.integers(2, length - 8))
        post["head_mask"] = [int(head <= i < head + 2) for i in range(length)]
        post["tail_mask"] = [int(head + 4 <= i < head + 5) for i in range(length)]
        post["labels"] = int(generator.integers(0, config.num_labels))
    return post


def make_batches(task: str, config: I2SRMConfig, batch_size: int, batches: int) -> list[list[dict]]:
    """Batches of encoded posts with all their pictures, in random order."""
    generator = np.random.default_rng(0)
    made = []
    for lengths in grouped_lengths(task, batch_size, batches, generator):
        made.append([])
        for length in lengths:
            post = make_text(task, config, length, generator)
            post["image"] = jpeg(generator, 600, 450)
            post["objects"] = [jpeg(generator, 160, 160) for _ in range(config.num_objects)]
            made[-1].append(post)
    return [made[i] for i in generator.permutation(batches)]


def random_features(model: nn.Module, batches: list[list[dict]]) -> None:
    """Give each post visual features that are not those of its pictures, where their values do not matter."""
    size = 4 * model.model.pooled_channels + model.model.last_channels
    for post in (post for batch in batches for post in batch):
        post["visual_features"] = torch.rand(1 + model.config.num_objects, size)


def without_features(posts: list[dict]) -> list[dict]:
    """Posts whose pictures are read, which have no features beside them."""
    return [{name: value for name, value in post.items() if name != "visual_features"} for post in posts]


class CachedCollator:
    """Encoded posts with their visual features -> a batch."""

    def __init__(self, processor: I2SRMProcessor):
        self.collator = I2SRMDataCollator(processor, use_images=False)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        return {**self.collator(rows), "visual_features": torch.stack([row["visual_features"] for row in rows])}


class MatrixProducts:
    """The matrix products of a text encoder with prompts and nothing else: what a step cannot do without.

    For each layer the four projections of the attention, its scores and weighted values over the prompts and the text,
    and the two products of the feed-forward part; with `backward` also those of their gradients.

    Args:
        config: of the model.
        backward: of a training step.
    """

    def __init__(self, config: I2SRMConfig, dtype: torch.dtype, device: str, backward: bool):
        text = config.text_config
        self.heads, self.size = text.num_attention_heads, text.hidden_size
        self.prompts = (1 + config.num_objects) * config.prompt_length
        self.kind = {"dtype": dtype, "device": device}
        self.backward = backward
        shapes = [(self.size, self.size)] * 4 + [
            (self.size, text.intermediate_size),
            (text.intermediate_size, self.size),
        ]
        self.weights = [[torch.randn(shape, **self.kind) for shape in shapes] for _ in range(text.num_hidden_layers)]

    @torch.no_grad()
    def __call__(self, posts: int, tokens: int) -> None:
        states = {
            size: torch.ones(posts * tokens, size, **self.kind)
            for size in {n for shape in self.weights[0] for n in shape.shape}
        }
        query = torch.ones(posts * self.heads, tokens, self.size // self.heads, **self.kind)
        keys = torch.ones(posts * self.heads, self.prompts + tokens, self.size // self.heads, **self.kind)
        scores = torch.ones(posts * self.heads, tokens, self.prompts + tokens, **self.kind)
        for layer in self.weights:
            for weight in layer:
                given, found = (states[size] for size in weight.shape)
                given @ weight
                if self.backward:
                    found @ weight.T, given.T @ found
            query @ keys.mT, scores @ keys
            if self.backward:  # each of the two products has two gradients
                query @ keys.mT, scores @ keys, scores.mT @ query, scores.mT @ query
