import logging
from functools import cache
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from odd_pictures import picture
from odd_texts import INVISIBLE, ODD, PIECES, quick
from processors import (
    CUT_PAIRS,
    LOOKALIKES,
    PAIR,
    TOKENIZERS,
    assert_equal,
    at_words,
    each_tokenizer,
    marker_ids,
    own_sub_tokens,
    processor_of,
    with_markers,
    words_of_any_kind,
)
from tiny import (
    SENTENCES,
    SIDE,
    bert_tokenizer,
    roberta_tokenizer,
    tiny_processor,
)
from tokenizers import processors
from transformers import AutoProcessor

from modeling_i2srm import I2SRMProcessor
from modeling_i2srm.checks import IGNORE
from modeling_i2srm.prepare.conll import read_conll
from modeling_i2srm.processing_i2srm import resnet_image_processor
from modeling_i2srm.words import MARKERS, join_words, split_text

ODD += ["東京", " Kobe", "</s>", "[SEP]"]
LOOKALIKES += ["</S>", "＜/ｓ＞", "＜pad＞", " <s>", "a</s>b", "</s></s>", "#<#>", "<*></*>", "[[SEP]]"]


def assert_aligned(name: str, words: list[str]):
    """Every word has its sub-tokens, and its tag at the first of them."""
    expected = own_sub_tokens(name, words)
    row = processor_of(name).encode_tokens(words, list(range(len(words))))
    labels = chain(*([tag, *[IGNORE] * (len(tokens) - 1)] for tag, tokens in enumerate(expected)))
    assert row["input_ids"][1:-1] == list(chain(*expected))
    assert row["labels"] == [IGNORE, *labels, IGNORE]
    assert row["word_mask"] == [int(label != IGNORE) for label in row["labels"]]


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
    with pytest.raises(ValueError, match="0 special tokens to a text, expected 2"):
        tiny_processor(tokenizer)(text="Kobe")


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
    assert called and {*called, (backend.encode_special_tokens, backend.truncation, backend.padding)} == {before}
    processor.tokenizer("Kobe", split_special_tokens=False)
    assert called[-1] != before  # what is watched can change
