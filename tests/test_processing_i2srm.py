import copy
import io
import logging
from functools import cache
from itertools import chain

import numpy as np
import pytest
import torch
import transformers
from conll import read_conll
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import (
    SENTENCES,
    SIDE,
    bert_tokenizer,
    bertweet_tokenizer,
    roberta_tokenizer,
    sentencepiece_tokenizer,
    slow_tokenizer,
    tiny_processor,
)
from tokenizers import processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoProcessor, RobertaTokenizer

from modeling_i2srm import I2SRMProcessor
from modeling_i2srm.pictures import PictureError
from modeling_i2srm.processing_i2srm import IGNORE, pil_backed, resnet_image_processor, split_text

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
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

INVISIBLE = ["", " ", "\u200b", "\u200d", "\ufeff", "\u00a0", "\u2028", "\t", "\x00", "\u0301", "\ufffd", "\ufe0f"]
ODD = ["\ud83d", "a\udc00", "e\u0301", "Zu\u0308rich", "👨\u200d👩\u200d👧", "#\ufe0f\u20e3", "مرحبا", "می\u200cخواهم"]
ODD += ["東京", " Kobe", "</s>", "[SEP]"]
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


def at_words(row: dict) -> list[int]:
    return [label for label, is_word in zip(row["labels"], row["word_mask"], strict=True) if is_word]


def picture(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


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

PIECES = ["Kobe", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "!", "...", "@ann", "#NWM7", "#", "@", "don't"]
PIECES += ["3.5", "http://t.co/x?a=1#b", "www.x.org", "👨\u200d👩\u200d👧", "🇫🇷", "👍🏽", "#\ufe0f\u20e3", "e\u0301"]
PIECES += ["\u0301", "مرحبا", "می\u200cخواهم", "\u202e", "\u0600", "\u200d", "\u200b", "東京", "हिन्दी", "_", "-", "’"]
PIECES += ["\x00", "\ud83d"]


@settings(quick, max_examples=300)
@given(st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=()), max_size=4)).map("".join))
@example("".join(PIECES))
@example(" ".join(PIECES))
def test_words_cover_every_character_but_white_space_once(text):
    end_before = 0
    for word, start, end in split_text(text):
        assert text[start:end] == word != ""
        assert text[end_before:start].strip() == ""  # also: words stand in order and do not overlap
        assert start >= end_before
        assert word.split() == [word] or not word.strip("\x1c\x1d\x1e\x1f")
        end_before = end
    assert text[end_before:].strip() == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Kobe  lands\tin\nParis!", ["Kobe", "lands", "in", "Paris", "!"]),
        ("RT @JayKenMinaj: #NWM7's", ["RT", "@JayKenMinaj", ":", "#NWM7's"]),
        ("see http://t.co/x?a=1#b now", ["see", "http://t.co/x?a=1#b", "now"]),
        ("don’t rock-n-roll - 3,000.5 km.", ["don’t", "rock-n-roll", "-", "3,000.5", "km", "."]),
        ("hi👨‍👩‍👧👍🏽🇫🇷", ["hi", "👨‍👩‍👧", "👍🏽", "🇫🇷"]),
        ("# @ #️⃣ 1️⃣", ["#", "@", "#️⃣", "1️⃣"]),
        ("Zu\u0308rich cafe\u0301", ["Zu\u0308rich", "cafe\u0301"]),
        ("مرحبا بكم", ["مرحبا", "بكم"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("हिन्दी", ["हिन्दी"]),
        ("\u0600 a", ["\u0600", "a"]),
        ("", []),
    ],
)
def test_words_of_raw_text(text, words):
    assert [word for word, _, _ in split_text(text)] == words


@each_tokenizer
@pytest.mark.parametrize("text", [*SENTENCES, "".join(PIECES)])
def test_raw_text_equals_its_words_and_says_where_they_are(name, text):
    processor, words = processor_of(name), [word for word, _, _ in split_text(text)]
    of_text = processor(text=text, return_word_offsets=True)
    of_words = processor(tokens=words, return_word_offsets=True)
    assert [text[start:end] for start, end in of_text.pop("word_offsets")[0]] == words
    assert [" ".join(words)[start:end] for start, end in of_words.pop("word_offsets")[0]] == words
    for inputs in (of_text, of_words):
        assert inputs.pop("words") == [words]
        assert inputs.pop("num_truncated_words") == [0]
    assert_equal(of_text, of_words)


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


def test_resnet_recipe():
    image = picture(300, 400)
    resized = np.asarray(image.resize((341, 256), Image.Resampling.BILINEAR), dtype=np.float64) / 255
    cropped = resized[16:240, 58:282]
    expected = (cropped - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pixels = resnet_image_processor()(image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(pixels, torch.tensor(expected).permute(2, 0, 1).float(), atol=1e-5)


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


@pytest.mark.parametrize("name", ["BitImageProcessor", "BitImageProcessorFast", "ConvNextImageProcessor"])
def test_a_torchvision_image_processor_becomes_its_pil_twin(name):
    twin = getattr(transformers, f"{name.removesuffix('Fast')}Pil")
    recipe = twin(size={"shortest_edge": 36}, image_mean=[0.1, 0.2, 0.3]).to_dict()
    converted = pil_backed(type(name, (), {"to_dict": lambda self: recipe})())
    assert type(converted) is twin
    assert converted.to_dict() == recipe
    assert pil_backed(converted) is converted
    assert pil_backed(None) is None


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
        ({"text": "Kobe", "tokens": ["Kobe"]}, ["either text or tokens", "processor(tokens="]),
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
        ({"tokens": ["Kobe"], "ner_tags": ["B-X"], "label2id": {"O": 0}}, ["'B-X'", "known: O", "label2id="]),
        ({"tokens": ["Kobe"], "ner_tags": ["O"]}, ["'O'", "no label2id", "label2id="]),
        ({"tokens": ["Kobe", "lands"], "ner_tags": [1]}, ["2 tokens but 1 ner_tags", "'lands'", "ner_tags=["]),
        ({"tokens": [["Kobe"]], "ner_tags": [1]}, ["1 tokens but no list of ner_tags", "['Kobe'] 1", "ner_tags=["]),
        ({"tokens": ["Kobe"], "ner_tags": [None]}, ["tag None", "ner_tags=["]),
        ({"tokens": ["Kobe"], "ner_tags": [1.5]}, ["tag 1.5", "ner_tags=["]),
        ({"text": "Kobe", "images": b"nonsense"}, ["b'nonsense'", "JPEG"]),
        ({"text": "Kobe", "images": "/no/such.jpg"}, ["'/no/such.jpg'", "No such file"]),
        ({"text": "Kobe", "objects": [3]}, ["int", "expected a PIL image"]),
        ({"text": "Kobe", "max_length": 2}, ["max_length=2", "between 3 and", "64"]),
        ({"text": "Kobe", "max_length": 65}, ["max_length=65", "between 3 and", "64"]),
        ({"text": "Kobe", "return_tensors": "np"}, ["return_tensors='np'", "return_tensors='pt'"]),
    ],
)
def test_errors_name_the_value_and_show_a_corrected_call(call, words):
    with pytest.raises(ValueError) as error:
        tiny_processor()(**call)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_tokenizer_with_another_frame_is_refused():
    tokenizer = bert_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    with pytest.raises(ValueError, match="0 special tokens, expected 2"):
        tiny_processor(tokenizer)(text="Kobe")
