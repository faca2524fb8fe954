import copy
import io
import json
import logging
from functools import cache
from itertools import chain

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from odd_pictures import picture
from odd_texts import INVISIBLE, ODD, PIECES, TWO_ENTITIES, character_span, quick, spans_of, with_spans
from PIL import Image
from tiny import (
    SENTENCES,
    SIDE,
    Corners,
    bert_tokenizer,
    bertweet_tokenizer,
    noise,
    roberta_tokenizer,
    sentencepiece_tokenizer,
    slow_tokenizer,
    tiny_processor,
)
from tokenizers import models, processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoProcessor, ConvNextImageProcessorPil, RobertaTokenizer, ViTImageProcessorPil

from modeling_i2srm import I2SRMProcessor, pictures
from modeling_i2srm.checks import IGNORE
from modeling_i2srm.pictures import PictureError, load_picture
from modeling_i2srm.prepare.conll import read_conll
from modeling_i2srm.processing_i2srm import resnet_image_processor
from modeling_i2srm.words import MARKERS, EntityPairError, join_words, mark_pair, split_pair, split_text

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

ODD += ["東京", " Kobe", "</s>", "[SEP]"]
LOOKALIKES = [*MARKERS, "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>"]
LOOKALIKES += ["</S>", "＜/ｓ＞", "＜pad＞", " <s>", "a</s>b", "</s></s>", "#<#>", "<*></*>", "[[SEP]]"]
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


def assert_aligned(name: str, words: list[str]):
    """Every word has its sub-tokens, and its tag at the first of them."""
    expected = own_sub_tokens(name, words)
    row = processor_of(name).encode_tokens(words, list(range(len(words))))
    labels = chain(*([tag, *[IGNORE] * (len(tokens) - 1)] for tag, tokens in enumerate(expected)))
    assert row["input_ids"][1:-1] == list(chain(*expected))
    assert row["labels"] == [IGNORE, *labels, IGNORE]
    assert row["word_mask"] == [int(label != IGNORE) for label in row["labels"]]


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


# Words, tags and sub-tokens


@pytest.mark.parametrize("key", ["text", "tokens"])
@pytest.mark.parametrize("posts", [1, 3])
def test_tensors_of_text_and_pictures(posts, key):
    texts, extra = SENTENCES[:posts], {}
    if key == "tokens":
        texts = [text.split() for text in texts]
        extra["ner_tags"] = [[1] * len(words) for words in texts]
    inputs = tiny_processor()(**{key: texts}, images=[picture()] * posts, objects=[[picture()]] * posts, **extra)
    length = max(len(ids) for ids in inputs["input_ids"])
    names = ["input_ids", "attention_mask", "word_mask", "token_type_ids", *(["labels"] if extra else [])]
    expected = dict.fromkeys(names, (posts, length))
    expected |= {"pixel_values": (posts, 4, 3, SIDE, SIDE), "image_mask": (posts, 4)}
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == expected
    assert inputs.pop("pixel_values").dtype == torch.float32
    assert {tensor.dtype for tensor in inputs.values()} == {torch.long}


@each_tokenizer
def test_a_batch_equals_its_posts_padded_on_the_right(name):
    processor = processor_of(name)
    tags = [[i % 9 for i, _ in enumerate(text.split())] for text in SENTENCES]
    batch = processor(tokens=[text.split() for text in SENTENCES], ner_tags=tags)
    padding = {"input_ids": processor.tokenizer.pad_token_id, "labels": IGNORE}
    for i, (text, row_tags) in enumerate(zip(SENTENCES, tags, strict=True)):
        post = processor(tokens=text.split(), ner_tags=row_tags)
        length = post["input_ids"].shape[1]
        for key, tensor in batch.items():
            assert torch.equal(tensor[i, :length], post[key][0])
            assert (tensor[i, length:] == padding.get(key, 0)).all()


@each_tokenizer
@quick
@given(words=words_of_any_kind)
@example(words=INVISIBLE)
@example(words=ODD)
@example(words=["Kobe", "", "\u200b", "lands", "\ufffd", "\u00a0"])
def test_no_label_is_lost_or_shifted(name, words):
    tags = list(range(len(words)))
    row = processor_of(name).encode_tokens(words, tags)
    assert at_words(row) == tags
    assert [label for label in row["labels"] if label != IGNORE] == tags
    assert row["num_truncated_words"] == 0
    assert row["word_mask"][0] == row["word_mask"][-1] == 0
    assert {len(row[key]) for key in row if key != "num_truncated_words"} == {len(row["input_ids"])}


@each_tokenizer
@quick
@given(words=words_of_any_kind)
@example(words=[" ", " Kobe", "  Kobe", "Kobe"])
@example(words=[*SENTENCES[0].split(), *INVISIBLE, *SENTENCES[1].split()])
def test_sub_tokens_are_those_of_the_tokenizer(name, words):
    special = processor_of(name).tokenizer.all_special_tokens
    assert_aligned(name, [word.encode("utf-8", "replace").decode() for word in words if word not in special])


@cache
def real_words(folder) -> list[str]:
    """Every word of Twitter-2015 and Twitter-2017 that is not ASCII, and some of the others."""
    files = sorted(folder.glob("NER_data/twitter201[57]/*.txt"))
    words = sorted({token for path in files for post in read_conll(path).posts for token in post.tokens})
    return [word for i, word in enumerate(words) if i % 20 == 0 or not word.isascii()]


@each_tokenizer
def test_words_of_the_real_data_keep_their_labels(name, shared_data):
    words = real_words(shared_data)
    assert {"\u00a0", "\ufffd", "\u200d"} <= set("".join(words))
    assert_aligned(name, words)


@each_tokenizer
@quick
@given(words=words_of_any_kind, max_length=st.integers(3, 16))
@example(words=["Kobe", "Hermitage"], max_length=4)
def test_truncation_keeps_the_first_sub_tokens_and_counts_the_words_lost(name, words, max_length):
    tags = list(range(len(words)))
    whole = processor_of(name).encode_tokens(words, tags)
    row = processor_of(name).encode_tokens(words, tags, max_length=max_length)
    if len(whole["input_ids"]) <= max_length:
        assert row == whole
        return
    lost = sum(whole["word_mask"][max_length - 1 :])
    assert row["num_truncated_words"] == lost
    assert row["input_ids"] == [*whole["input_ids"][: max_length - 1], whole["input_ids"][-1]]
    assert row["labels"] == [*whole["labels"][: max_length - 1], IGNORE]
    assert at_words(row) == tags[: len(words) - lost]


def test_max_length_of_the_processor_the_call_and_the_tokenizer():
    post = {"tokens": ["Kobe"] * 100}
    assert tiny_processor()(**post)["input_ids"].shape == (1, 64)
    processor = tiny_processor(max_length=20)
    assert processor(**post)["input_ids"].shape == (1, 20)
    assert processor(**post, max_length=30)["input_ids"].shape == (1, 30)
    unlimited = bert_tokenizer()
    unlimited.model_max_length = int(1e30)
    assert tiny_processor(unlimited)(tokens=["Kobe"] * 1000)["input_ids"].shape == (1, 512)


def test_truncation_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        tiny_processor()(tokens=[["a"] * 10, ["a"] * 2, ["a"] * 11], max_length=7)
    assert "11 words of 2 of 3 posts" in caplog.text
    inputs = tiny_processor()(tokens=[["a"] * 10, ["a"] * 2], max_length=7, return_word_offsets=True)
    assert inputs["num_truncated_words"] == [5, 0]
    assert inputs["words"] == [["a"] * 5, ["a"] * 2]
    assert inputs["word_offsets"][0][-1] == (8, 9)


def test_tags_by_name_and_by_id():
    processor, tokens = tiny_processor(), ["Kobe", "lands"]
    by_name = processor(tokens=tokens, ner_tags=["B-PER", "O"], label2id={"O": 0, "B-PER": 1})
    assert_equal(by_name, processor(tokens=tokens, ner_tags=np.array([1, 0])))


@pytest.mark.parametrize("tags", [[[1, 0], None], [None, [1, 0]]])
def test_a_post_without_tags_among_tagged_ones_has_no_label(tags):
    inputs = tiny_processor()(tokens=[["Kobe", "lands"]] * 2, ner_tags=tags)
    for row, row_tags in enumerate(tags):
        labels = inputs["labels"][row][inputs["word_mask"][row] == 1].tolist()
        assert labels == (row_tags or [IGNORE, IGNORE])


@pytest.mark.parametrize("post", [{"text": ""}, {"tokens": [[]]}, {"text": " \n\u00a0"}])
def test_a_post_without_words(post):
    inputs = tiny_processor()(**post)
    assert inputs["input_ids"].tolist() == [[2, 3]]
    assert inputs["word_mask"].tolist() == [[0, 0]]


@pytest.mark.parametrize(("multiple", "length"), [(5, 5), (8, 8)])
def test_pad_to_multiple_of(multiple, length):
    inputs = tiny_processor()(tokens=["a", "a", "a"], ner_tags=[1, 2, 3], pad_to_multiple_of=multiple)
    assert {tensor.shape for tensor in inputs.values()} == {(1, length)}
    assert inputs["labels"][0].tolist() == [IGNORE, 1, 2, 3, *[IGNORE] * (length - 4)]


# Raw text


@each_tokenizer
@pytest.mark.parametrize("text", [*SENTENCES, "".join(PIECES)])
def test_raw_text_equals_its_words_and_says_where_they_are(name, text):
    processor, words = processor_of(name), [word for word, _, _ in split_text(text)]
    of_text = processor(text=text, return_word_offsets=True)
    of_words = processor(tokens=words, return_word_offsets=True)
    assert [text[start:end] for start, end in of_text.pop("word_offsets")[0]] == words
    joined, _ = join_words(words)
    assert [joined[start:end] for start, end in of_words.pop("word_offsets")[0]] == words
    for inputs in (of_text, of_words):
        assert inputs.pop("words") == [words]
        assert inputs.pop("num_truncated_words") == [0]
    assert_equal(of_text, of_words)


# Pairs of entities

PAIR = {"tokens": ["Kobe", "lands", "in", "Paris"], "head": (0, 1), "tail": (3, 4)}
PAIRS = [(words, (0, 2), (len(words) - 1, len(words))) for words in map(str.split, SENTENCES)]
PAIRS += [(words, (2, 4), (1, 3)) for words in map(str.split, SENTENCES[:2])]
CUT_PAIRS = [(words, (5, 6), (4, 7)) for words in map(str.split, SENTENCES)]


@each_tokenizer
@quick
@given(post=with_spans(words_of_any_kind, len), max_length=st.integers(7, 60))
@example(post=(["Kobe", "\u200b", "", "lands"], (1, 2), (2, 3)), max_length=40)
@example(post=(INVISIBLE, (3, 9), (5, 6)), max_length=60)
@example(post=(ODD, (0, 3), (2, 7)), max_length=60)
def test_a_pair_is_its_sub_tokens_and_markers_in_a_frame(name, post, max_length):
    processor, (words, head, tail) = pair_processor_of(name), post
    tokenizer = processor.tokenizer
    words = [word.encode("utf-8", "replace").decode() for word in words]
    words = ["Kobe" if word in LOOKALIKES else word for word in words]
    pieces = own_sub_tokens(name, words)
    try:
        marked = mark_pair(pieces, head, tail, marker_ids(tokenizer), max_length - 2)
    except EntityPairError:
        with pytest.raises(EntityPairError):
            processor.encode_pair(words, head, tail, max_length=max_length)
        return
    ids = [tokenizer.cls_token_id, *marked.input_ids, tokenizer.sep_token_id]
    expected = {"input_ids": ids, "attention_mask": [1] * len(ids)}
    expected |= {"head_mask": [0, *marked.head_mask, 0], "tail_mask": [0, *marked.tail_mask, 0]}
    if "token_type_ids" in tokenizer.model_input_names:
        expected["token_type_ids"] = [0] * len(ids)
    expected["first_word"] = marked.first_word
    expected["num_truncated_words"] = len(words) - (marked.last_word - marked.first_word)
    assert processor.encode_pair(words, head, tail, max_length=max_length) == expected
    assert len(ids) <= max_length


@each_tokenizer
@quick
@given(post=with_spans(st.lists(st.sampled_from([*LOOKALIKES, "Kobe"]), max_size=6), len))
@example(post=(LOOKALIKES, (0, 1), (1, 9)))
def test_a_word_that_looks_like_a_special_token_is_a_word(name, post):
    words, head, tail = post
    tags = list(range(len(words)))
    for processor in (processor_of(name), pair_processor_of(name)):
        tokenizer = processor.tokenizer
        special = {*tokenizer.all_special_ids, *map(tokenizer.convert_tokens_to_ids, MARKERS)}
        special.remove(tokenizer.unk_token_id)
        row = processor.encode_tokens(words, tags)
        assert special.isdisjoint(row["input_ids"][1:-1])
        assert at_words(row) == tags
    markers = marker_ids(tokenizer)
    pair = processor.encode_pair(words, head, tail)
    assert [i for i in pair["input_ids"][1:-1] if i not in markers] == row["input_ids"][1:-1]
    assert sorted(i for i in pair["input_ids"] if i in markers) == sorted(markers)


@pytest.mark.parametrize("name", ["RoBERTa", "RoBERTa with add_prefix_space"])
def test_no_character_of_such_words_is_lost(name):
    tokenizer = pair_processor_of(name).tokenizer
    ids = pair_processor_of(name).encode_tokens([*MARKERS, "</s>", "a<pad>"])["input_ids"][1:-1]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == " <*> </*> <#> </#> </s> a<pad>"


@each_tokenizer
def test_a_batch_of_pairs_equals_its_rows_padded_on_the_right(name):
    processor, (posts, heads, tails) = pair_processor_of(name), zip(*PAIRS, strict=True)
    relations = list(range(len(posts)))
    batch = processor(tokens=list(posts), head=list(heads), tail=list(tails), relation=relations)
    padding = {"input_ids": processor.tokenizer.pad_token_id}
    types = {"token_type_ids"} & set(processor.tokenizer.model_input_names)
    assert set(batch) == {"input_ids", "attention_mask", "head_mask", "tail_mask", "labels", *types}
    assert batch.pop("labels").tolist() == relations
    assert {tensor.dtype for tensor in batch.values()} == {torch.long}
    for i, (words, head, tail) in enumerate(PAIRS):
        row = processor.encode_pair(words, head, tail)
        for key, tensor in batch.items():
            missing = [padding.get(key, 0)] * (batch["input_ids"].shape[1] - len(row[key]))
            assert tensor[i].tolist() == row[key] + missing, key


@each_tokenizer
def test_every_pair_of_spans_has_its_own_input(name):
    pairs = [(head, tail) for head in spans_of(4) for tail in spans_of(4)]
    heads, tails = zip(*pairs, strict=True)
    words = ["Paris", "\u200b", "Paris", "Paris"]
    inputs = pair_processor_of(name)(tokens=[words] * len(pairs), head=list(heads), tail=list(tails))
    assert len(set(map(tuple, inputs["input_ids"].tolist()))) == len(pairs) == 100
    assert inputs["head_mask"].sum(1).min() >= 1 and inputs["tail_mask"].sum(1).min() >= 1


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ([0, 1], [3, 4]),
        ({"start": 0, "end": 1}, {"start": 3, "end": 4}),
        (np.array([0, 1]), (np.int64(3), np.int32(4))),
    ],
)
def test_forms_of_spans_and_batches_of_one(head, tail):
    processor = with_markers()
    expected = processor(**PAIR, relation=2)
    assert_equal(processor(tokens=PAIR["tokens"], head=head, tail=tail, relation=np.int64(2)), expected)
    assert_equal(processor(tokens=[PAIR["tokens"]], head=[head], tail=[tail], relation=[2]), expected)
    spans = {"head": np.array([[0, 1]]), "tail": np.array([[3, 4]])}
    assert_equal(processor(tokens=[PAIR["tokens"]], relation=np.array([2]), **spans), expected)


def test_relations_by_name_and_by_id():
    processor, names = with_markers(), {"None": 0, "/per/loc/place_of_residence": 10}
    assert processor(**PAIR, relation="/per/loc/place_of_residence", label2id=names)["labels"].tolist() == [10]
    assert processor(**PAIR, relation="None", label2id=names)["labels"].tolist() == [0]
    assert processor(**PAIR, relation=7, label2id=names)["labels"].tolist() == [7]
    assert "labels" not in processor(**PAIR)


@pytest.mark.parametrize(("relations", "labels"), [([None, 3], [IGNORE, 3]), ([3, None], [3, IGNORE])])
def test_a_pair_without_relation_among_others_has_no_label(relations, labels):
    pairs = {name: [values] * 2 for name, values in PAIR.items()}
    assert with_markers()(**pairs, relation=relations)["labels"].tolist() == labels
    assert "labels" not in with_markers()(**pairs, relation=[None, None])


@pytest.mark.parametrize(("multiple", "length"), [(5, 20), (16, 16), (None, 16)])
def test_pairs_padded_to_a_multiple(multiple, length):
    inputs = with_markers()(**PAIR, relation=1, pad_to_multiple_of=multiple)
    assert inputs.pop("labels").shape == (1,)
    assert {tensor.shape for tensor in inputs.values()} == {(1, length)}
    assert all(not tensor[0, 16:].any() for tensor in inputs.values())


def test_rows_of_two_kinds_are_not_padded_together():
    processor = with_markers()
    rows = [processor.encode_pair(**PAIR), processor.encode_tokens(PAIR["tokens"])]
    for mixed in (rows, rows[::-1]):
        with pytest.raises(ValueError, match="with and without head and tail are mixed"):
            processor.pad(mixed)


def test_pictures_of_pairs():
    inputs = with_markers()(**PAIR, images=picture(), objects=[picture(seed=1)])
    assert inputs["image_mask"].tolist() == [[1, 1, 0, 0]]
    assert inputs["pixel_values"].shape == (1, 4, 3, SIDE, SIDE)


@each_tokenizer
@pytest.mark.parametrize("key", ["tokens", "text"])
def test_the_window_of_a_long_post_is_the_post_that_it_shows(name, key):
    processor, text = pair_processor_of(name), "  ".join(SENTENCES)
    words = text.split() if key == "tokens" else [word for word, _, _ in split_text(text)]
    head, tail = (words.index("Tower"), words.index("Bridge") + 1), (words.index("Hermitage"), words.index("Warf") + 1)
    spans = {"head": head, "tail": tail}
    if key == "text":
        spans = {"head": character_span(text, "Tower Bridge"), "tail": character_span(text, "Hermitage Warf")}
        post = {"text": text}
    else:
        post = {"tokens": words}
    lost = []
    for max_length in (40, 50, 400):
        inputs = processor(**post, **spans, max_length=max_length, return_word_offsets=True)
        kept, offsets, cut = (inputs.pop(name) for name in ("words", "word_offsets", "num_truncated_words"))
        first = next(i for i in range(len(words)) if words[i : i + len(kept[0])] == kept[0])
        joined = text if key == "text" else " ".join(words)
        assert [joined[start:end] for start, end in offsets[0]] == kept[0]
        assert cut == [len(words) - len(kept[0])]
        moved = {"head": (head[0] - first, head[1] - first), "tail": (tail[0] - first, tail[1] - first)}
        assert_equal(inputs, processor(tokens=kept[0], **moved))
        lost += cut
    assert lost[0] > lost[1] > lost[2] == 0


def test_the_words_cut_from_pairs_are_told(caplog):
    posts = {"tokens": [["a"] * 10, ["a"] * 2, ["a"] * 11], "head": [(9, 10), (0, 1), (2, 3)], "tail": [(8, 9)] * 3}
    posts["tail"][1] = (0, 1)
    with caplog.at_level(logging.WARNING):
        with_markers()(**posts, max_length=13)
    assert "7 words of 2 of 3 posts" in caplog.text
    inputs = with_markers()(**posts, max_length=13, return_word_offsets=True)
    assert inputs["num_truncated_words"] == [3, 0, 4]
    assert inputs["word_offsets"][0] == [(2 * i, 2 * i + 1) for i in range(3, 10)]
    assert inputs["word_offsets"][2] == [(2 * i, 2 * i + 1) for i in range(2, 9)]


def test_max_length_for_pairs_of_the_processor_the_call_and_the_tokenizer():
    post = {"tokens": ["a"] * 100, "head": (50, 51), "tail": (52, 53)}
    assert with_markers()(**post)["input_ids"].shape == (1, 64)
    assert with_markers(max_length=20)(**post)["input_ids"].shape == (1, 20)
    assert with_markers(max_length=20)(**post, max_length=9)["input_ids"].shape == (1, 9)
    with pytest.raises(EntityPairError, match="words 50 to 53, with .* are 3 sub-tokens, but there is room for 2;"):
        with_markers(max_length=20)(**post, max_length=8)


# Pairs in raw text


@pytest.mark.parametrize(("text", "head", "tail", "words", "head_words", "tail_words"), TWO_ENTITIES)
def test_a_pair_of_characters_is_that_of_its_words(text, head, tail, words, head_words, tail_words):
    head, tail = character_span(text, head), character_span(text, tail)
    found = split_pair(text, head, tail)[0]
    of_text = with_markers()(text=text, head=head, tail=tail, return_word_offsets=True)
    of_words = with_markers()(tokens=words.split(" "), head=head_words, tail=tail_words)
    assert of_text.pop("words") == [words.split(" ")]
    assert of_text.pop("word_offsets") == [[(start, end) for _, start, end in found]]
    assert of_text.pop("num_truncated_words") == [0]
    assert_equal(of_text, of_words)


@each_tokenizer
@pytest.mark.parametrize("text", [*SENTENCES, "".join(PIECES), " ".join(LOOKALIKES)])
def test_a_pair_in_raw_text_is_a_pair_of_words(name, text):
    processor = pair_processor_of(name)
    spans = [((0, 5), (len(text) - 8, len(text))), ((2, 30), (1, 20)), ((0, 2), (1, 2)), ((1, 2), (1, 2))]
    for head, tail in spans:
        words, *in_words = split_pair(text, head, tail)
        of_words = processor(tokens=[word for word, _, _ in words], head=in_words[0], tail=in_words[1])
        assert_equal(processor(text=text, head=head, tail=tail), of_words)
    heads, tails = zip(*spans, strict=True)
    batch = processor(text=(text for _ in spans), head=list(heads), tail=list(tails))
    assert_equal(batch, processor(text=[text] * 4, head=heads, tail=tails))


# Entity markers of the tokenizer


@each_tokenizer
def test_markers_are_added_once_and_change_nothing_else(name):
    processor = tiny_processor(TOKENIZERS[name]())
    size, before = len(processor.tokenizer), processor(text=SENTENCES)
    assert processor.add_entity_markers() == 4
    ids = marker_ids(processor.tokenizer)
    assert sorted(ids) == list(range(size, size + 4))
    assert processor.add_entity_markers() == 0
    assert len(processor.tokenizer) == size + 4
    assert marker_ids(processor.tokenizer) == ids
    assert_equal(processor(text=SENTENCES), before)
    row = processor.encode_pair(["Kobe", "lands"], (0, 1), (1, 2))
    assert [i for i in row["input_ids"] if i >= size] == list(ids)


def test_a_tokenizer_without_markers_is_told_what_to_do():
    processor = tiny_processor()
    for added in ([], MARKERS[:3]):
        processor.tokenizer.add_tokens(list(added), special_tokens=True)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"processor.add_entity_markers\(\) .*resize_token_embeddings"):
                processor(**PAIR)
    assert processor.add_entity_markers() == 1
    assert len(processor(**PAIR)["input_ids"][0]) == 16


def test_markers_that_the_vocabulary_has_already_are_kept_for_entities():
    tokenizer = sentencepiece_tokenizer()
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["vocab"]
    pieces += [[marker, -1.0] for marker in MARKERS]
    tokenizer.backend_tokenizer.model = models.Unigram([tuple(piece) for piece in pieces], unk_id=3)
    assert set(MARKERS) < set(tokenizer.tokenize(" ".join(MARKERS)))
    processor = tiny_processor(tokenizer)
    processor(tokens=list(MARKERS))
    processor.add_entity_markers()
    row = processor.encode_pair(list(MARKERS), (0, 1), (1, 4))
    assert [row["input_ids"].count(i) for i in marker_ids(tokenizer)] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["uncased BERT", "RoBERTa", "sentencepiece"])
def test_an_added_word_that_is_no_special_token_stays(name):
    processor = with_markers(TOKENIZERS[name]())
    processor.tokenizer.add_tokens(["covid"])
    row = processor.encode_pair(["covid", "in", "Paris"], (0, 1), (2, 3))
    assert row["input_ids"].count(processor.tokenizer.convert_tokens_to_ids("covid")) == 1


# Pictures


@pytest.mark.parametrize("kind", ["PIL", "path", "str", "bytes", "array", "bytes dict", "path dict"])
def test_every_kind_of_picture_gives_the_pixels_of_the_image_processor(tmp_path, kind):
    image, path = picture(), tmp_path / "picture.png"
    path.write_bytes(png(image))
    wrapped = {
        "PIL": image,
        "path": path,
        "str": str(path),
        "bytes": png(image),
        "array": np.asarray(image),
        "bytes dict": {"bytes": png(image), "path": None},
        "path dict": {"bytes": None, "path": str(path)},
    }[kind]
    expected = resnet_image_processor(SIDE)(image, return_tensors="pt")["pixel_values"]
    inputs = tiny_processor()(text="Kobe", images=wrapped, objects=[wrapped])
    assert torch.equal(inputs["pixel_values"][0, :2], expected.expand(2, -1, -1, -1))


def test_absent_pictures_are_zero_and_masked():
    a, b, c, d = (picture(seed=seed) for seed in range(4))
    processor = tiny_processor(num_objects=2)
    inputs = processor(text=["x"] * 4, images=[a, None, None, d], objects=[[b, c], None, [c], []])
    assert inputs["image_mask"].tolist() == [[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    expected = resnet_image_processor(SIDE)([a, b, c, c, d], return_tensors="pt")["pixel_values"]
    assert torch.equal(inputs["pixel_values"][inputs["image_mask"] == 1], expected)
    assert not inputs["pixel_values"][inputs["image_mask"] == 0].any()


@pytest.mark.parametrize("pictures", [{}, {"images": [None, None]}, {"images": [None, None], "objects": [[], None]}])
def test_no_picture_in_the_batch_gives_no_pixel_values(pictures):
    inputs = tiny_processor()(text=["Kobe", "lands"], **pictures)
    assert not {"pixel_values", "image_mask"} & set(inputs)


@pytest.mark.parametrize("num_objects", [0, 1, 3, 5])
def test_further_crops_are_left_out_with_a_warning(num_objects, caplog):
    crops = [picture(seed=seed) for seed in range(4)]
    transformers.utils.logging.warning_once.cache_clear()
    inputs = tiny_processor(num_objects=num_objects)(text="Kobe", images=crops[0], objects=crops)
    kept = resnet_image_processor(SIDE)([crops[0], *crops[:num_objects]], return_tensors="pt")["pixel_values"]
    assert inputs["pixel_values"].shape == (1, 1 + num_objects, 3, SIDE, SIDE)
    assert torch.equal(inputs["pixel_values"][inputs["image_mask"] == 1], kept)
    told = "4 object crops" in caplog.text and f"num_objects={num_objects}" in caplog.text
    assert told == (num_objects < 4)


@pytest.mark.parametrize("size", [(1000, 2), (2, 1000), (16, 256)])
def test_the_centre_of_a_very_long_picture_is_kept(size):
    (width, height), bound = size, 16 * min(size)
    image = Image.new("RGB", size, "red")
    box = [max((side - bound) // 2, 0) for side in size]
    image.paste("blue", (*box, min(width, box[0] + bound), min(height, box[1] + bound)))
    assert tiny_processor().load_picture(image).getcolors() == [(min(size) * bound, (0, 0, 255))]
    assert tiny_processor()(text="Kobe", images=image)["pixel_values"][0, 0, 2].min() > 2  # all blue


def test_max_pixels_bounds_what_is_decoded():
    with pytest.raises(PictureError, match="max_pixels=2399"):
        tiny_processor(max_pixels=2399)(text="Kobe", images=picture(40, 60))
    assert tiny_processor(max_pixels=2400)(text="Kobe", images=picture(40, 60))["image_mask"].sum() == 1


# Croppers


@pytest.mark.parametrize("form", ["text", "tokens"])
def test_crops_of_a_cropper_are_as_crops_given_by_hand(form):
    images = [noise(1, 40, 60), noise(2, 40, 60), None, noise(3, 50, 50), noise(4, 30, 20), None]
    objects = [None, [noise(5)], [noise(6)], None, [], None]
    posts = {"text": [f"Kobe {i}" for i in range(6)], "images": images}
    if form == "tokens":
        posts["tokens"] = [post.split() for post in posts.pop("text")]
    cropper, processor = Corners(), tiny_processor()
    found = processor(**posts, objects=objects, cropper=cropper, return_objects=True)
    crops = found.pop("objects")
    assert cropper.asked == [([(60, 40), (50, 50), (20, 30)], [posts[form][i] for i in (0, 3, 4)])]
    assert [[crop.label for crop in some] for some in crops] == [["upper", "lower"], [], [], [], ["upper", "lower"], []]
    assert np.array_equal(np.asarray(crops[0][1].picture), np.asarray(images[0].crop((30, 20, 60, 40))))
    objects[0], objects[4] = ([crop.picture for crop in cropper.of(images[i])] for i in (0, 4))
    by_hand = processor(**posts, objects=objects)
    assert found.keys() == by_hand.keys() and all(torch.equal(found[name], by_hand[name]) for name in by_hand)
    assert by_hand["image_mask"].tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 0],
        [0] * 4,
    ]


def test_a_cropper_is_not_asked_where_there_is_no_picture():
    cropper = Corners()
    for posts in ({"text": "Kobe"}, {"text": ["Kobe", "lands"], "objects": [[noise()], None]}):
        expected, found = tiny_processor()(**posts), tiny_processor()(**posts, cropper=cropper)
        assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert cropper.asked == []
    assert tiny_processor()(text="Kobe", images=noise(), return_objects=True)["objects"] == [[]]


@pytest.mark.parametrize("size", [(300, 400), (100, 120), (2000, 60)])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_croppers_see_pictures_upright_at_full_size_and_models_as_ever(tmp_path, monkeypatch, size, as_bytes):
    picture = noise(1, *size).resize((size[1] // 4, size[0] // 4)).resize((size[1], size[0]))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    given = (tmp_path / "turned.jpg").read_bytes() if as_bytes else str(tmp_path / "turned.jpg")
    whole, processor, cropper = load_picture(given), tiny_processor(), Corners()
    by_hand = processor(text="Kobe", images=given, objects=[crop.picture for crop in cropper.of(whole)])
    if not as_bytes:
        monkeypatch.setattr("modeling_i2srm.pictures._read_file", once := Once(pictures._read_file))
    found = processor(text="Kobe", images=given, cropper=cropper)
    assert as_bytes or once.calls == 1
    assert cropper.asked == [([size], ["Kobe"])] and whole.size == size
    assert torch.equal(found["pixel_values"], by_hand["pixel_values"])
    assert torch.equal(found["image_mask"], by_hand["image_mask"])


class Once:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


def test_crops_beyond_the_models_number_are_told_and_not_returned(caplog):
    transformers.utils.logging.warning_once.cache_clear()
    inputs = tiny_processor()(text="Kobe", images=noise(), cropper=Corners(count=2), return_objects=True)
    assert len(inputs["objects"][0]) == 3 and inputs["image_mask"].tolist() == [[1] * 4]
    assert "4 object crops" in caplog.text


def test_pairs_and_tags_have_crops_too():
    processor = tiny_processor()
    processor.add_entity_markers()
    cropper = Corners()
    pair = processor(text="Kobe lands in Paris", images=noise(), head=(0, 4), tail=(14, 19), cropper=cropper)
    tagged = processor(tokens=["Kobe", "lands"], images=noise(), ner_tags=[1, 0], cropper=cropper)
    assert pair["image_mask"].tolist() == tagged["image_mask"].tolist() == [[1, 1, 1, 0]]
    assert [texts for _, texts in cropper.asked] == [["Kobe lands in Paris"], [["Kobe", "lands"]]]
    with pytest.raises(ValueError, match="cropper='detr' cannot be called"):
        processor(text="Kobe", images=noise(), cropper="detr")
    with pytest.raises(PictureError, match="gone.jpg"):
        processor(text="Kobe", images="gone.jpg", cropper=cropper)


# Saving and loading


@each_tokenizer
@pytest.mark.parametrize("loader", [I2SRMProcessor, AutoProcessor])
def test_round_trip(tmp_path, name, loader):
    processor = tiny_processor(TOKENIZERS[name](), num_objects=2, max_length=12, max_pixels=5000)
    posts = {"text": SENTENCES, "images": [picture()] * 4, "objects": [[picture(seed=1)] * 2] * 4}
    expected = processor(**posts)
    processor.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is I2SRMProcessor
    assert (loaded.num_objects, loaded.max_length, loaded.max_pixels) == (2, 12, 5000)
    assert type(loaded.image_processor).__name__.endswith("Pil")
    assert type(loaded.tokenizer) is type(processor.tokenizer)
    assert_equal(loaded(**posts), expected)


@each_tokenizer
@pytest.mark.parametrize("loader", [I2SRMProcessor, AutoProcessor])
def test_round_trip_with_markers(tmp_path, name, loader):
    processor = with_markers(TOKENIZERS[name]())
    posts, heads, tails = (list(values) for values in zip(*CUT_PAIRS, strict=True))
    pairs = {"tokens": posts, "head": heads, "tail": tails, "relation": [3] * len(posts), "max_length": 30}
    lookalikes = {"tokens": LOOKALIKES[:6], "head": (0, 3), "tail": (2, 5)}
    expected = [processor(**pairs), processor(**lookalikes), processor(text=SENTENCES)]
    processor.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert loaded.add_entity_markers() == 0
    assert len(loaded.tokenizer) == len(processor.tokenizer)
    assert marker_ids(loaded.tokenizer) == marker_ids(processor.tokenizer)
    for ours, inputs in zip((loaded(**pairs), loaded(**lookalikes), loaded(text=SENTENCES)), expected, strict=True):
        assert_equal(ours, inputs)


def test_from_encoders(tmp_path, caplog):
    text, vision, bare = tmp_path / "text", tmp_path / "vision", tmp_path / "bare"
    roberta_tokenizer().save_pretrained(text)
    resnet_image_processor(48).save_pretrained(vision)
    bare.mkdir()
    processor = I2SRMProcessor.from_encoders(str(text), str(vision), num_objects=1)
    assert processor(text="Kobe", images=picture())["pixel_values"].shape == (1, 2, 3, 48, 48)
    assert "recipe" not in caplog.text
    for name in (str(bare), None):
        processor = I2SRMProcessor.from_encoders(str(text), name)
        assert processor(text="Kobe", images=picture())["pixel_values"].shape == (1, 4, 3, 224, 224)
    assert str(bare) in caplog.text and "ResNet recipe" in caplog.text
    marked = I2SRMProcessor.from_encoders(str(text), str(vision), entity_markers=True)
    assert_equal(marked(**PAIR), with_markers(roberta_tokenizer())(**PAIR))
    assert not set(MARKERS) & set(processor.tokenizer.get_vocab())


@each_tokenizer
def test_model_input_names_say_what_comes_out(name):
    processor = processor_of(name)
    assert processor.model_input_names[0] == "input_ids"  # length grouping reads the first one
    assert set(processor.model_input_names) == set(processor(text="Kobe", images=picture()))


# Errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({}, ["either text or tokens", "processor(text="]),
        ({"text": "Kobe!", "tokens": ["Kobe"]}, ["text continues with '!'", "leave out one"]),
        ({"text": ["Kobe"], "tokens": ["Kobe"]}, ["1 texts, but tokens of 1 posts", "processor(text="]),
        ({"text": ["a", "b"], "tokens": [["a"]]}, ["2 texts, but tokens of 1 posts", "processor(text="]),
        ({"text": []}, ["no post", "processor(text="]),
        ({"text": ["Kobe", None]}, ["None", "expected str", "processor(tokens="]),
        ({"text": 3}, ["3", "expected str", "processor(tokens="]),
        ({"tokens": 3}, ["tokens=3", "processor(text="]),
        ({"tokens": [3]}, ["3 among posts", "tokens=[["]),
        ({"tokens": "Kobe lands"}, ["'Kobe lands'", "processor(text="]),
        ({"tokens": ["Kobe", ["lands"]]}, ["['lands']", "tokens=["]),
        ({"tokens": [["Kobe"], "lands"]}, ["'lands'", "tokens=["]),
        ({"tokens": ["Kobe", None]}, ["None", "tokens=["]),
        ({"text": ["a", "b"], "images": [None]}, ["2 posts", "images is 1", "list of 2", "images=["]),
        ({"text": ["a", "b"], "images": "kobe.jpg"}, ["2 posts", "kobe.jpg", "list of 2"]),
        ({"text": ["a", "b"], "objects": [None] * 3}, ["2 posts", "objects is 3", "list of 2", "objects=["]),
        ({"text": ["a", "b"], "ner_tags": [[0]]}, ["2 posts", "ner_tags is 1"]),
        ({"text": "a", "images": [picture(), picture()]}, ["1 post,", "images is 2", "images=[None]"]),
        ({"text": "a", "objects": picture()}, ["objects", "Image", "objects=["]),
        ({"tokens": ["Kobe"], "ner_tags": ["B-X"], "label2id": {"O": 0}}, ["'B-X'", "known: O"]),
        ({"tokens": ["Kobe"], "ner_tags": ["O"]}, ["'O'", "no label2id", "label2id="]),
        ({"tokens": ["Kobe", "lands"], "ner_tags": [1]}, ["2 tokens but 1 ner_tags", "'lands'", "ner_tags=["]),
        ({"tokens": [["Kobe"]], "ner_tags": [1]}, ["1 tokens but no list of ner_tags", "['Kobe'] 1", "ner_tags=["]),
        ({"tokens": ["Kobe"], "ner_tags": [None]}, ["label None", "ner_tags=["]),
        ({"tokens": ["Kobe"], "ner_tags": [1.5]}, ["label 1.5", "ner_tags=["]),
        ({"text": "Kobe", "images": b"nonsense"}, ["b'nonsense'", "JPEG"]),
        ({"text": "Kobe", "images": "/no/such.jpg"}, ["'/no/such.jpg'", "No such file"]),
        ({"text": "Kobe", "objects": [3]}, ["int", "expected a PIL image"]),
        ({"text": "Kobe", "max_length": 2}, ["max_length=2", "between 3 and", "64"]),
        ({"text": "Kobe", "max_length": 65}, ["max_length=65", "between 3 and", "64"]),
        ({"text": "Kobe", "return_tensors": "np"}, ["return_tensors='np'", "return_tensors='pt'"]),
        ({"text": "Kobe", "head": (0, 4)}, ["head and tail", "processor(..., head=(0, 1), tail=(3, 4))"]),
        ({"text": "Kobe", "tail": (0, 4)}, ["head and tail", "processor(..., head=(0, 1), tail=(3, 4))"]),
        ({"text": "Kobe", "relation": 1}, ["head and tail (and relation)", "tail=(3, 4)"]),
        ({"tokens": ["Kobe"], "relation": 1, "ner_tags": [0]}, ["or ner_tags", "tail=(3, 4)"]),
        ({**PAIR, "ner_tags": [0] * 4}, ["or ner_tags", "tail=(3, 4)"]),
        ({**PAIR, "tail": (3, 5)}, ["tail=(3, 5)", "4 words", "processor(tokens=["]),
        ({**PAIR, "head": (1, 1)}, ["head=(1, 1) is empty", "processor(tokens=["]),
        ({**PAIR, "head": "Kobe"}, ["head='Kobe'", "(start, end) of words", "processor(tokens=["]),
        ({**PAIR, "head": 0}, ["head=0", "(start, end) of words", "head=(0, 1)"]),
        ({"text": "Kobe in", "head": (0, 4), "tail": (5, 8)}, ["tail=(5, 8)", "7 characters", "processor(text="]),
        ({"text": "a  b", "head": (0, 1), "tail": (1, 3)}, ["tail=(1, 3)", "no word: '  '", "processor(text="]),
        ({"text": "", "head": (0, 1), "tail": (0, 1)}, ["head=(0, 1)", "0 characters", "processor(text="]),
        ({"tokens": [[]], "head": [(0, 1)], "tail": [(0, 1)]}, ["head=(0, 1)", "0 words"]),
        ({"tokens": [["a"]], "head": (0, 1), "tail": (0, 1)}, ["1 post,", "head is 2", "head=[(0, 1)]"]),
        ({"tokens": [["a"]] * 2, "head": (0, 1), "tail": [(0, 1)] * 2}, ["head=0 is not a span", "head=(0, 1)"]),
        ({"tokens": [["a"]] * 2, "head": [(0, 1)] * 2, "tail": [(0, 1)]}, ["2 posts", "tail=[(0, 1), (0, 1)]"]),
        ({"tokens": [["a"]], "head": [(0, 1)], "tail": [None]}, ["tail=None is not a span"]),
        ({**{name: [PAIR[name]] * 2 for name in PAIR}, "relation": 1}, ["2 posts", "relation is 1", "[None, None]"]),
        ({**PAIR, "relation": "met"}, ["'met'", "no label2id", "label2id=model.config.label2id"]),
        ({**PAIR, "relation": "met", "label2id": {"None": 0}}, ["'met'", "known: None"]),
        ({**PAIR, "relation": 1.5}, ["label 1.5", "relation=1"]),
        ({**PAIR, "max_length": 15}, ["words 0 to 4", "10 sub-tokens", "room for 9", "max_length"]),
    ],
)
def test_errors_name_the_value_and_show_a_corrected_call(call, words):
    with pytest.raises(ValueError) as error:
        with_markers()(**call)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_tokenizer_with_another_frame_is_refused():
    tokenizer = bert_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    with pytest.raises(ValueError, match="0 special tokens, expected 2"):
        tiny_processor(tokenizer)(text="Kobe")


@pytest.mark.parametrize(
    "image_processor, settings, size",
    [
        (resnet_image_processor(SIDE), {}, (100, 75)),  # to 36: decoded at 1/4, with at least 72
        (resnet_image_processor(SIDE), {"reduced_decode": 1}, (50, 38)),
        (resnet_image_processor(SIDE), {"reduced_decode": 3}, (200, 150)),
        (resnet_image_processor(SIDE), {"reduced_decode": None}, (400, 300)),
        (ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.8), {}, (200, 150)),  # to 40, cut to 32
        (ViTImageProcessorPil(size={"height": 20, "width": 32}), {}, (100, 75)),
        (ViTImageProcessorPil(do_resize=False), {}, (400, 300)),
    ],
)
def test_large_jpegs_are_decoded_at_a_part_of_their_size(image_processor, settings, size, tmp_path):
    data = io.BytesIO()
    noise(height=300, width=400).save(data, "JPEG")
    processor = I2SRMProcessor(image_processor, bert_tokenizer(), **settings)
    assert processor.load_picture(data.getvalue()).size == size
    processor.save_pretrained(tmp_path)
    again = I2SRMProcessor.from_pretrained(tmp_path)
    assert again.reduced_decode == processor.reduced_decode
    assert again.load_picture({"bytes": data.getvalue(), "path": None}).size == size


def test_crops_are_reduced_like_pictures_and_long_ones_by_their_shorter_side():
    processor = tiny_processor()  # to 36
    data = io.BytesIO()
    noise(height=100, width=6400).save(data, "JPEG")
    assert processor.load_picture(data.getvalue()).size == (1600, 100)
    data = io.BytesIO()
    noise(height=300, width=400).save(data, "JPEG")
    inputs = processor(tokens=["Kobe"], images=data.getvalue(), objects=[data.getvalue()])
    assert torch.equal(inputs["pixel_values"][0, 0], inputs["pixel_values"][0, 1])
    small = load_picture(data.getvalue(), min_side=72)
    assert torch.equal(inputs["pixel_values"][0, 0], processor(tokens=["a"], images=small)["pixel_values"][0, 0])


@pytest.mark.parametrize("factor", [0, 0.5, -1, float("nan")])
def test_a_factor_that_would_enlarge_is_refused(factor):
    with pytest.raises(ValueError, match=f"reduced_decode={factor} would enlarge pictures again; use 2, or None"):
        tiny_processor(reduced_decode=factor)


def test_a_tokenizer_is_never_changed_after_the_processor_is_made():
    """It takes options by changing itself, which threads that share it would see in the middle of their work."""
    processor = tiny_processor(bert_tokenizer())
    backend = processor.tokenizer.backend_tokenizer
    before, called = (backend.encode_special_tokens, backend.truncation, backend.padding), []
    call = type(processor.tokenizer).__call__

    class Watched(type(processor.tokenizer)):
        def __call__(self, *arguments, **options):
            found = call(self, *arguments, **options)
            called.append((backend.encode_special_tokens, backend.truncation, backend.padding))
            return found

    processor.tokenizer.__class__ = Watched
    processor.encode_windows("[SEP] Kobe lands in Paris".split())
    processor(text=["Kobe", "Paris [MASK]"])
    assert len(called) >= 3 and set(called) == {before}
    processor.tokenizer("Kobe", split_special_tokens=False)
    assert called[-1] != before  # what is watched can change
