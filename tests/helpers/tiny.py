"""Small models, tokenizers and inputs for the tests: real components, few parameters."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    BertTokenizerLegacy,
    BertweetTokenizer,
    PreTrainedModel,
    RobertaTokenizer,
    TokenizersBackend,
    pipeline,
    set_seed,
)

from modeling_i2srm import (
    I2SRMConfig,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMProcessor,
)
from modeling_i2srm.processing_i2srm import resnet_image_processor
from modeling_i2srm.support.detectors import ObjectCrop

VOCAB, SIDE, TAGS = 120, 32, ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-MISC", "I-MISC"]
SENTENCES = [
    "RT @JayKenMinaj : Me outside of where George Zimmerman got shot at .",
    "Swan upping : first stop Hermitage Warf , Tower Bridge",
    "Kobe lands in Paris with Jordan and Phoenix ! #NWM7 http://t.co/x",
    "don't cross the Mercedes in Chelsea , says Amazon",
]
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


# What checkpointing is called in methods of models and in training arguments: transformers 5.24 renamed it.
RENAMED = hasattr(PreTrainedModel, "activation_checkpointing_enable")
CHECKPOINTING = f"{'activation' if RENAMED else 'gradient'}_checkpointing"

# torch 2.7 cannot trace how transformers reads its configurations; torch.compile without fullgraph works there.
needs_fullgraph = pytest.mark.skipif(torch.__version__.startswith("2.7."), reason="torch 2.7 breaks the graph")


def enable_checkpointing(model: PreTrainedModel, use_reentrant: bool | None = None):
    """Checkpoint the layers of a model, by default as the model does by itself."""
    settings = None if use_reentrant is None else {"use_reentrant": use_reentrant}
    getattr(model, f"{CHECKPOINTING}_enable")(**{f"{CHECKPOINTING}_kwargs": settings})


def disable_checkpointing(model: PreTrainedModel):
    getattr(model, f"{CHECKPOINTING}_disable")()


def text_config(model_type: str = "bert", **overrides) -> dict:
    roberta_like = model_type in ("roberta", "xlm-roberta", "camembert")
    return {
        "model_type": model_type,
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 66 if roberta_like else 64,
        **({"type_vocab_size": 1} if roberta_like else {}),
        **({"embedding_size": 16} if model_type == "electra" else {}),
        **overrides,
    }


def tiny_config(model_type: str = "bert", text: dict | None = None, **overrides) -> I2SRMConfig:
    """A configuration with MNER labels; `text` overrides fields of the text encoder."""
    settings = {
        "text_config": text_config(model_type, **(text or {})),
        "vision_config": RESNET,
        "prompt_hidden_size": 20,
        "id2label": dict(enumerate(TAGS)),
        **overrides,
    }
    return I2SRMConfig(**settings)


def tiny_inputs(batch: int = 3, length: int = 9, pictures: int = 4, labels: bool = False) -> dict:
    """Random inputs; the second post is shorter than the others, [CLS] and [SEP] are no words."""
    inputs = {"input_ids": torch.randint(5, VOCAB, (batch, length)), "attention_mask": torch.ones(batch, length).long()}
    inputs["attention_mask"][1:2, length - 3 :] = 0
    inputs["word_mask"] = inputs["attention_mask"].clone()
    inputs["word_mask"][:, [0, 3]] = 0
    inputs["pixel_values"] = torch.randn(batch, pictures, 3, SIDE, SIDE)
    if labels:
        tags = torch.randint(0, len(TAGS), (batch, length))
        inputs["labels"] = tags.masked_fill(inputs["word_mask"] == 0, -100)
    return inputs


def bert_tokenizer(lowercase: bool = True) -> BertTokenizer:
    """A WordPiece tokenizer, uncased or cased: every character of `SENTENCES` and some starts and ends of words.

    Built by hand: the trainers of WordPiece and Unigram give another vocabulary at each call.
    """
    words = " ".join(SENTENCES).lower().split() if lowercase else " ".join(SENTENCES).split()
    chars = sorted(set("".join(words)))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *chars, *(f"##{char}" for char in chars)]
    longer = sorted(
        {piece for word in words if word.isalpha() and len(word) > 4 for piece in (word[:3], f"##{word[3:]}")}
    )
    vocabulary = {piece: i for i, piece in enumerate((pieces + longer)[:VOCAB])}
    return BertTokenizer(vocab=vocabulary, do_lower_case=lowercase, model_max_length=64)


def roberta_tokenizer(add_prefix_space: bool = False) -> RobertaTokenizer:
    """A byte-level BPE tokenizer trained on `SENTENCES`."""
    tokenizer = RobertaTokenizer(add_prefix_space=add_prefix_space)
    tokenizer = tokenizer.train_new_from_iterator(SENTENCES, 400, show_progress=False)
    tokenizer.model_max_length = 64
    return tokenizer


def sentencepiece_tokenizer() -> TokenizersBackend:
    """A unigram tokenizer with the pipeline of XLM-RoBERTa (metaspace), of characters and starts of words."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = " ".join(SENTENCES).split()
    pieces = {piece: 0.0 for piece in special}
    pieces |= {char: -9.0 for char in ["\u2581", *sorted(set("".join(words)))]}
    pieces |= {f"\u2581{word[:3]}": -3.0 for word in words if word.isalpha()}
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return TokenizersBackend(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=64, **names
    )


def slow_tokenizer() -> BertTokenizerLegacy:
    """`bert_tokenizer` as plain Python."""
    vocabulary = bert_tokenizer().get_vocab()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
        return BertTokenizerLegacy(str(path), model_max_length=64)


def bertweet_tokenizer() -> BertweetTokenizer:
    """BERTweet's tokenizer (plain Python, normalises posts), with a few merges."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder) / "vocab.txt", Path(folder) / "bpe.codes"
        vocabulary.write_text(
            "".join(f"{char} 1\n{char}@@ 1\n" for char in [*sorted(set("".join(SENTENCES)) - {" "}), "Pa", "Par", "an"])
        )
        merges.write_text("P a 9\nPa r 8\na n 7\n")
        return BertweetTokenizer(str(vocabulary), str(merges), normalization=True, model_max_length=64)


def tiny_processor(tokenizer=None, **settings) -> I2SRMProcessor:
    return I2SRMProcessor(resnet_image_processor(SIDE), tokenizer or bert_tokenizer(), **settings)


def run_arguments(dataset, output_dir, **settings) -> list[str]:
    """The command line of a training script for a tiny model from scratch; `None` leaves a setting out."""
    settings = {
        "dataset": dataset,
        "output_dir": output_dir,
        "from_scratch": True,
        "text_config": json.dumps(text_config(max_position_embeddings=128)),
        "vision_config": json.dumps(RESNET),
        "freeze_vision": False,
        "image_size": 32,
        "prompt_hidden_size": 16,
        "vocab_size": 300,
        "max_length": 64,
        "do_train": True,
        "do_eval": True,
        "do_predict": True,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "dataloader_num_workers": 0,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        **settings,
    }
    if not settings["from_scratch"]:
        settings["vocab_size"] = None
        settings["image_size"] = settings["vision_config"] and settings["image_size"]
    given = {name: value for name, value in settings.items() if value is not None}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


TRIPLES = [["PER", "visits", "LOC"], ["LOC", "in", "LOC"], ["ORG", "near", "MISC"], ["PER", "met", "PER"]]
RELATIONS = ["None", "/per/loc/place_of_residence", "/per/org/member_of", "/loc/loc/contain", "/per/per/peer", "met"]


def tiny_pipeline(task: str, tokenizer=None, max_length: int = 64, seed: int = 0, dtype=torch.float32, **overrides):
    """The pipeline of a model with large random weights: what it finds differs from word to word and with pictures.

    Args:
        task: "entities", "relations" or "joint".
        max_length: longest input of the model.
        overrides: fields of the configuration.
    """
    set_seed(seed or {"joint": 3}.get(task, 0))  # of 3 entities, regions and relations are of several labels
    tokenizer = tokenizer or bert_tokenizer()
    tokenizer.model_max_length = max_length
    processor = tiny_processor(tokenizer)
    if task == "relations":
        processor.add_entity_markers()
        overrides = {"id2label": dict(enumerate(RELATIONS)), **overrides}
    if task == "joint":
        labels = ["None", *dict.fromkeys(label for _, label, _ in TRIPLES)]
        overrides = {"relation_labels": labels, "relation_types": TRIPLES, "crop_attention": False, **overrides}
    text = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": max_length}
    classes = {"entities": I2SRMForTokenClassification, "relations": I2SRMForRelationClassification}
    model_class = classes.get(task, I2SRMForJointExtraction)
    model = model_class(tiny_config(text=text, **overrides)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "classifier" in name or "crf" in name or "visual_prompt" in name or "joint_head" in name:
                # Large ones before the encoder's states are read again would make rounding show.
                parameter.normal_(std=0.05 if "crop_attention" in name else 0.4)
            elif "text_encoder" in name and parameter.dim() == 2:
                parameter.normal_(std=0.2)
        if task != "relations":
            labels = model.config.id2label.values()
            model.classifier.bias[:] = torch.tensor([name.startswith("I-") - 0.5 * (name == "O") for name in labels])
        else:  # no relation is the best one of most pairs
            pairs = {"head": [(i, i + 1) for i in range(7)], "tail": [(i + 1, i + 3) for i in range(7)]}
            model.pair_classifier.bias -= model(**processor(tokens=[SENTENCES[2].split()] * 7, **pairs)).logits.mean(0)
    tasks = {"entities": "token-classification", "relations": "relation-classification", "joint": "joint-extraction"}
    return pipeline(f"multimodal-{tasks[task]}", model=model.to(dtype), processor=processor, device="cpu")


def assert_same(found, expected, tolerance: float = 1e-5):
    """The same answers, nested lists, dicts and dataclasses with `to_dict`, but for rounding of numbers."""
    found, expected = (value.to_dict() if hasattr(value, "to_dict") else value for value in (found, expected))
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = [found[name] for name in expected], list(expected.values())
    if isinstance(expected, (list, tuple)):
        assert isinstance(found, (list, tuple)) and len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_same(*pair, tolerance)
    else:
        assert found == (pytest.approx(expected, abs=tolerance) if isinstance(expected, float) else expected)


class Corners:
    """A cropper: the upper left and the lower right quarter of every picture but those that are square.

    Args:
        count: how often the two are repeated.

    `asked` remembers the calls: the sizes of the pictures and the texts.
    """

    def __init__(self, count: int = 1):
        self.count, self.asked = count, []

    def __call__(self, pictures, texts):
        self.asked.append(([picture.size for picture in pictures], texts))
        return [[] if picture.width == picture.height else self.of(picture) for picture in pictures]

    def of(self, picture) -> list[ObjectCrop]:
        width, height = picture.size
        boxes = {"upper": (0, 0, width // 2, height // 2), "lower": (width // 2, height // 2, width, height)}
        return [ObjectCrop(box, 0.9123456, label, picture.crop(box)) for label, box in boxes.items()] * self.count


def noise(seed: int = 0, height: int = 40, width: int = 50) -> Image.Image:
    """A picture of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
