import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from odd_pictures import picture
from odd_texts import INVISIBLE, ODD, PIECES, TWO_ENTITIES, character_span, quick, spans_of, with_spans
from processors import (
    LOOKALIKES,
    PAIR,
    TOKENIZERS,
    assert_equal,
    at_words,
    each_tokenizer,
    marker_ids,
    own_sub_tokens,
    pair_processor_of,
    processor_of,
    with_markers,
    words_of_any_kind,
)
from tiny import (
    SENTENCES,
    SIDE,
    sentencepiece_tokenizer,
    tiny_processor,
)
from tokenizers import models

from modeling_i2srm.checks import IGNORE
from modeling_i2srm.words import MARKERS, EntityPairError, mark_pair, split_pair, split_text

PAIRS = [(words, (0, 2), (len(words) - 1, len(words))) for words in map(str.split, SENTENCES)]
PAIRS += [(words, (2, 4), (1, 3)) for words in map(str.split, SENTENCES[:2])]


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
