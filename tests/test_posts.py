"""What kind of post or row a dict is."""

import importlib.util
import sys

import pytest
from tiny import noise, tiny_pipeline, tiny_processor

from modeling_i2srm import posts as posts_module
from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.posts import Post, kind_of, read_post
from modeling_i2srm.words import Word

KEYS = ("text", "tokens", "image", "objects", "head", "tail")


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"input_ids": [1, 2], "labels": 0, "text": "Kobe"}, "encoded"),
        ({"tokens": ["Kobe"], "ner_tags": [1]}, "words"),
        ({"tokens": ["Kobe"], "ner_tags": [1], "label": 2}, "words"),
        ({"text": "Kobe"}, "words"),
        ({"text": "Kobe", "label": None}, "labelled"),
        ({"tokens": ["Kobe"], "label": 2, "head": None, "tail": None}, "labelled"),
        ({"tokens": ["Kobe"], "head": (0, 1), "tail": (0, 1), "ner_tags": [1]}, "pair"),
        ({"tokens": ["Kobe"], "tail": (0, 1)}, "pair"),
        ({"image": None, "label": 2}, None),
        ({}, None),
    ],
)
def test_kinds_of_rows(row, kind):
    assert kind_of(row) == kind


def test_the_spans_of_a_row_with_text_are_characters():
    processor = tiny_processor()
    processor.add_entity_markers()
    collate = I2SRMDataCollator(processor)
    text = collate([{"text": "Kobe lands in #Paris", "head": (0, 4), "tail": (15, 20), "relation": 1}])
    tokens = ["Kobe", "lands", "in", "#", "Paris"]
    words = collate([{"tokens": tokens, "head": (0, 1), "tail": (4, 5), "relation": 1}])
    assert text.keys() == words.keys()
    assert all((text[name] == words[name]).all() for name in text)


def test_a_post_is_read_from_its_parts():
    image = noise()
    post = read_post({"id": 7, "tokens": ("Kobe", "lands"), "head": (0, 1), "image": image, "label": 3}, KEYS, "")
    assert (post.text, post.tokens, post.source) == ("Kobe lands", ["Kobe", "lands"], ["Kobe", "lands"])
    assert post.words == [Word("Kobe", 0, 4), Word("lands", 5, 10)] == [("Kobe", 0, 4), ("lands", 5, 10)]
    assert (post.id, post.head, post.tail, post.image) == ("7", (0, 1), None, image)
    assert read_post({"text": "Kobe", "head": (0, 1)}, KEYS[:4], "").head is None  # a column that is not asked for
    assert read_post("Kobe", KEYS, "") == Post("Kobe", [Word("Kobe", 0, 4)], splitting="multilingual")


def test_which_posts_need_crops():
    needs = [Post("", [], image="a.jpg", objects=objects).needs_crops for objects in (None, [], (), ["b.jpg"], "b.jpg")]
    assert needs == [True, True, True, False, False]
    assert not Post("", [], objects=[]).needs_crops


def test_pipelines_take_posts_of_the_code_of_another_checkpoint(monkeypatch):
    name = "modeling_i2srm.posts_of_another_checkpoint"
    spec = importlib.util.spec_from_file_location(name, posts_module.__file__)
    other = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, other)
    spec.loader.exec_module(other)
    pipe, image = tiny_pipeline("entities"), noise()
    post = other.read_post({"text": "Kobe lands in Paris", "image": image}, KEYS, "")
    assert not isinstance(post, Post)
    assert pipe([post]) == pipe([{"text": "Kobe lands in Paris", "image": image}])
