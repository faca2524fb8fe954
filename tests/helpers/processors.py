"""What the tests of processors share."""

import copy
import io
from functools import cache

import pytest
import torch
from hypothesis import strategies as st
from odd_texts import INVISIBLE, ODD
from PIL import Image
from tiny import (
    SENTENCES,
    bert_tokenizer,
    bertweet_tokenizer,
    roberta_tokenizer,
    sentencepiece_tokenizer,
    slow_tokenizer,
    tiny_processor,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import RobertaTokenizer

from modeling_i2srm import I2SRMProcessor
from modeling_i2srm.words import MARKERS

TOKENIZERS = {
    "uncased BERT": bert_tokenizer,
    "cased BERT": lambda: bert_tokenizer(lowercase=False),
    "RoBERTa": roberta_tokenizer,
    "RoBERTa with add_prefix_space": lambda: roberta_tokenizer(add_prefix_space=True),
    "sentencepiece": sentencepiece_tokenizer,
    "slow BERT": slow_tokenizer,
    "slow BERTweet": bertweet_tokenizer,
}
each_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)
LOOKALIKES = [*MARKERS, "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>"]
words_of_any_kind = st.lists(
    st.sampled_from(INVISIBLE + ODD + " ".join(SENTENCES).split())
    | st.text(st.characters(exclude_categories=()), max_size=6),
    max_size=12,
)


@cache
def processor_of(name: str) -> I2SRMProcessor:
    tokenizer = TOKENIZERS[name]()
    tokenizer.model_max_length = 999_999
    return tiny_processor(tokenizer)


@cache
def split_words_tokenizer(name: str):
    """The tokenizer as its makers mean it for words: with a space before each where spaces count."""
    tokenizer = copy.deepcopy(processor_of(name).tokenizer)
    if isinstance(tokenizer, RobertaTokenizer):
        tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    return tokenizer


def own_sub_tokens(name: str, words: list[str]) -> list[list[int]]:
    """What the tokenizer itself gives each word, the unknown token where that is nothing."""
    tokenizer, sub_tokens = split_words_tokenizer(name), [[] for _ in words]
    if not tokenizer.is_fast:
        sub_tokens = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) for word in words]
    elif words:
        own = tokenizer(words, is_split_into_words=True, verbose=False)
        for token, word in zip(own["input_ids"], own.word_ids(), strict=True):
            if word is not None:
                sub_tokens[word].append(token)
    return [tokens or [tokenizer.unk_token_id] for tokens in sub_tokens]


@cache
def pair_processor_of(name: str) -> I2SRMProcessor:
    tokenizer = TOKENIZERS[name]()
    tokenizer.model_max_length = 999_999
    return with_markers(tokenizer)


def with_markers(tokenizer=None, **settings) -> I2SRMProcessor:
    processor = tiny_processor(tokenizer, **settings)
    processor.add_entity_markers()
    return processor


def marker_ids(tokenizer) -> tuple[int, ...]:
    return tuple(tokenizer.convert_tokens_to_ids(list(MARKERS)))


def at_words(row: dict) -> list[int]:
    return [label for label, is_word in zip(row["labels"], row["word_mask"], strict=True) if is_word]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def assert_equal(ours: dict, expected: dict):
    assert list(ours) == list(expected)
    for name in expected:
        assert torch.equal(ours[name], expected[name]), name


# Pairs of entities

PAIR = {"tokens": ["Kobe", "lands", "in", "Paris"], "head": (0, 1), "tail": (3, 4)}
CUT_PAIRS = [(words, (5, 6), (4, 7)) for words in map(str.split, SENTENCES)]
