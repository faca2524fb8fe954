"""Small models, tokenizers and inputs for the tests: real components, few parameters."""

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, RobertaTokenizer, TokenizersBackend

from modeling_i2srm import I2SRMConfig, I2SRMProcessor
from modeling_i2srm.processing_i2srm import resnet_image_processor

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
    """A WordPiece tokenizer trained on `SENTENCES`, uncased or cased."""
    tokenizer = BertTokenizer(do_lower_case=lowercase)
    tokenizer = tokenizer.train_new_from_iterator(SENTENCES, VOCAB, show_progress=False)
    tokenizer.model_max_length = 64
    return tokenizer


def roberta_tokenizer(add_prefix_space: bool = False) -> RobertaTokenizer:
    """A byte-level BPE tokenizer trained on `SENTENCES`."""
    tokenizer = RobertaTokenizer(add_prefix_space=add_prefix_space)
    tokenizer = tokenizer.train_new_from_iterator(SENTENCES, 400, show_progress=False)
    tokenizer.model_max_length = 64
    return tokenizer


def sentencepiece_tokenizer() -> TokenizersBackend:
    """A unigram tokenizer with the pipeline of XLM-RoBERTa (metaspace), trained on `SENTENCES`."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return TokenizersBackend(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=64, **names
    )


def tiny_processor(tokenizer=None, **settings) -> I2SRMProcessor:
    return I2SRMProcessor(resnet_image_processor(SIDE), tokenizer or bert_tokenizer(), **settings)
