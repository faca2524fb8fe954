"""A processor splits raw text into the words that its training data has, in every use, and saves how."""

import json
import logging

import pytest
from datasets import Dataset
from tiny import bert_tokenizer, roberta_tokenizer, tiny_pipeline, tiny_processor
from transformers import AutoProcessor

from modeling_i2srm.data.word_splitting import choose_splitting, fit_splitting, write_text
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.processing_i2srm import I2SRMProcessor
from modeling_i2srm.words import SPLITTINGS, split_text

TEXTS = [
    "RT @ann: Kobe (Halcyon), lands in #Paris!",
    "“Jordan” says: it's over, 3.5 km...",
    'He said "Phoenix, Arizona" twice (really?) #nba',
    "no signs here",
    "@bob $5 for 50% of it; ok?",
]
CHINESE = ["昨天Nelson去了伦敦。", "中国国家主席访问美国", "我在Jordan看球"]


def splits(texts: list[str], splitting: str) -> list[list[str]]:
    return [[word for word, *_ in split_text(text, splitting)] for text in texts]


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities", roberta_tokenizer())


# What a data set was split by


@pytest.mark.parametrize("preferred", SPLITTINGS)
@pytest.mark.parametrize("splitting", ["spaces", "multilingual", "hashtags_apart", "signs_apart"])
@pytest.mark.parametrize("known", [True, False], ids=["with-text", "without"])
def test_the_splitting_of_tokens_is_recognised(splitting, preferred, known):
    texts = TEXTS + CHINESE
    choice = choose_splitting(splits(texts, splitting), texts if known else None, preferred)
    assert choice.splitting == splitting
    assert choice.shares[splitting] == max(choice.shares.values())
    assert choice.shares[splitting] == 1 or not known


@pytest.mark.parametrize("preferred", ["words", "multilingual"])
def test_a_splitting_stays_where_no_other_is_better(preferred):
    assert choose_splitting(splits(TEXTS, "words"), None, preferred).splitting == preferred
    assert choose_splitting([["Kobe", "lands"]], None, preferred).splitting == preferred
    # One token in two hundred is not enough to give up names in Chinese.
    posts = [["Kobe", "lands", "in", "Paris"]] * 50 + [["昨天去了伦敦"]]
    assert choose_splitting(posts, None, preferred).splitting == preferred


def test_a_data_set_without_tokens_has_no_shares():
    choice = choose_splitting([[], []])
    assert (choice.splitting, choice.shares) == ("multilingual", {})


def test_a_text_of_other_words_is_not_used():
    assert choose_splitting([["(Paris),"]], ["in Rome"]) == choose_splitting([["(Paris),"]])


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("RT @ ann : it 's # 1 , ok ?", "RT @ann: it's #1, ok?"),
        ("he does n't pay $ 5 ( or 50 % ) ...", "he doesn't pay $5 (or 50%)..."),
        ('" Paris " and " Rome "', '"Paris" and "Rome"'),
        ("我 在 Michael Jordan 家 。", "我在Michael Jordan家。"),
    ],
)
def test_tokens_are_written_as_people_write(tokens, text):
    written, spans = write_text(tokens.split(" "))
    assert written == text
    assert [written[start:end] for start, end in sorted(spans)] == tokens.split(" ")


# What a processor does with it


def rows(splitting: str, **columns) -> Dataset:
    return Dataset.from_dict({"tokens": splits(TEXTS + CHINESE, splitting), **columns})


@pytest.mark.parametrize("splitting", ["spaces", "multilingual", "signs_apart"])
def test_a_pipeline_splits_as_the_training_data_is(ner, tmp_path, caplog, monkeypatch, splitting):
    processor = tiny_processor(roberta_tokenizer())
    with caplog.at_level(logging.INFO, "modeling_i2srm"):
        fit_splitting(processor, rows(splitting))
    assert f"word_splitting={splitting!r}" in caplog.text and "--word_splitting overrides it" in caplog.text
    processor.save_pretrained(tmp_path)
    monkeypatch.setattr(ner, "processor", AutoProcessor.from_pretrained(tmp_path))
    for text, words in zip(TEXTS + CHINESE, splits(TEXTS + CHINESE, splitting), strict=True):
        tagged = ner(text, aggregation_strategy="none", ignore_labels=[])
        assert [word["word"] for word in tagged] == words
        features = ner.processor(text=text, return_word_offsets=True)
        assert features["words"] == [words]
        assert [(word["start"], word["end"]) for word in tagged] == features["word_offsets"][0]
        assert ner.processor.encode_row({"text": text}) == ner.processor.encode_row({"tokens": words})


def test_a_wanted_splitting_is_taken_and_words_of_a_segmenter_are_warned_of(caplog):
    processor = tiny_processor()
    fit_splitting(processor, rows("spaces"), wanted="words")
    assert processor.word_splitting == "words"
    fit_splitting(processor, Dataset.from_dict({"tokens": [["中国", "国家", "主席", "访问", "美国"]] * 3}))
    assert processor.word_splitting == "words"
    assert "restores only 0 % of the training tokens: give posts as tokens" in caplog.text


def test_a_processor_that_was_saved_without_a_splitting_splits_as_it_did(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings.pop("word_splitting") == "multilingual"
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    processor = I2SRMProcessor.from_pretrained(tmp_path)
    assert processor(text=CHINESE[2], return_word_offsets=True)["words"] == [[CHINESE[2]]]
    assert I2SRMProcessor.from_pretrained(tmp_path, word_splitting="spaces").word_splitting == "spaces"
    processor.save_pretrained(tmp_path)
    assert I2SRMProcessor.from_pretrained(tmp_path).word_splitting == "words"


def test_a_processor_refuses_an_unknown_splitting():
    with pytest.raises(ValueError, match="word_splitting='jieba' must be one of spaces, .*, signs_apart, e.g. word_sp"):
        tiny_processor(word_splitting="jieba")


def test_each_model_of_an_extractor_gets_the_words_of_its_own_processor(monkeypatch):
    ner, re = tiny_pipeline("entities", bert_tokenizer()), tiny_pipeline("relations", bert_tokenizer())
    ner.processor.word_splitting, re.processor.word_splitting = "spaces", "multilingual"
    words = []
    encode_pair = re.processor.encode_pair
    monkeypatch.setattr(
        re.processor, "encode_pair", lambda tokens, *a, **k: words.append(tokens) or encode_pair(tokens, *a, **k)
    )
    post = {"text": "Kobe lands in Paris, with Jordan"}
    extraction = Extractor(ner, re)(post)
    assert {tuple(tokens) for tokens in words} == {("Kobe", "lands", "in", "Paris", ",", "with", "Jordan")}
    spaced = {(word.start, word.end) for word in split_text(post["text"], "spaces")}
    starts, ends = zip(*spaced, strict=True)
    assert all(entity.start in starts and entity.end in ends for entity in extraction.entities)


# Text and tokens together


def test_offsets_of_text_and_tokens_refer_to_the_text(ner):
    text, tokens = "Michael  Jordan,看球 in Paris", ["Michael", "Jordan", ",", "看球", "in", "Paris"]
    tagged = ner({"text": text, "tokens": tokens}, aggregation_strategy="none", ignore_labels=[])
    assert [word["word"] for word in tagged] == tokens
    assert [text[word["start"] : word["end"]] for word in tagged] == tokens
    alone = ner({"tokens": tokens}, aggregation_strategy="none", ignore_labels=[])
    assert [word["score"] for word in alone] == [word["score"] for word in tagged]
    many = ner.processor(text=[text, "Kobe!"], tokens=[tokens, ["Kobe", "!"]], return_word_offsets=True)
    assert many["word_offsets"] == [[(word["start"], word["end"]) for word in tagged], [(0, 4), (4, 5)]]


def test_entities_of_text_and_tokens_are_spans_of_tokens():
    processor = tiny_processor()
    processor.add_entity_markers()
    pair = {"head": (0, 1), "tail": (3, 4)}
    both = processor(text="Kobe lands inParis", tokens=["Kobe", "lands", "in", "Paris"], **pair)
    alone = processor(tokens=["Kobe", "lands", "in", "Paris"], **pair)
    assert both["input_ids"].tolist() == alone["input_ids"].tolist()
    assert both["tail_mask"].tolist() == alone["tail_mask"].tolist()
