import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import LONG, quick
from tiny import (
    SENTENCES,
    assert_same,
    bert_tokenizer,
    noise,
    roberta_tokenizer,
    sentencepiece_tokenizer,
    tiny_pipeline,
    tiny_processor,
)

from modeling_i2srm.batching import WINDOW, cut_by_length, read_windows
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.processing_i2srm import AS_WORDS


@quick
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200), st.integers(1, 9))
def test_batches_hold_every_row_once_and_no_more_than_fits(lengths, cells, rows):
    batches = cut_by_length(lengths, cells, rows)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= cells
        assert len(batch) <= rows and lengths[batch[0]] == max(lengths[place] for place in batch)
    in_order = [lengths[place] for batch in batches for place in batch]
    assert in_order == sorted(lengths, reverse=True)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("post", [{"text": "Kobe"}, {"text": "Kobe", "image": "kobe.jpg"}])
def test_windows_are_bounded_and_in_order(post, ahead):
    taken, threads = [], set()

    def posts():
        for number in range(500):
            taken.append(number)
            yield {**post, "id": number}

    def read(one):
        threads.add(threading.current_thread().name)
        return one["id"]

    seen, most = 0, 3 if "image" in post else WINDOW * 3
    for window in read_windows(posts(), read, 3, ahead):
        assert window == list(range(seen, seen + len(window))) and len(window) <= most
        seen += len(window)
        assert len(taken) <= (seen + most if ahead else seen)
    assert seen == len(taken) == 500
    assert ("MainThread" in threads) != ("image" in post)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("fails", ["the post", "the iterator"])
@pytest.mark.parametrize("image", [None, "kobe.jpg"])
def test_an_error_comes_after_all_posts_before_it(ahead, fails, image):
    def posts():
        for number in range(30):
            if (number, fails) == (20, "the iterator"):
                raise ValueError("post 20")
            yield {"id": number, "image": image}

    def read(post):
        if post["id"] >= 20:
            raise ValueError(f"post {post['id']}")
        return post["id"]

    seen = []
    with pytest.raises(ValueError, match="^post 20$"):
        for window in read_windows(posts(), read, 4, ahead):
            seen += window
    assert seen == list(range(20))


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities")


def posts_of_many_lengths() -> list[dict]:
    words, numbers = LONG.split(), random.Random(1)
    posts = [{"id": n, "text": " ".join(words[: numbers.choice([1, 3, 9, 14, 60])])} for n in range(40)]
    for number in (5, 6, 20, 39):
        posts[number]["image"] = noise(number)
    return posts


def test_answers_of_a_window_are_those_of_each_post_alone(ner):
    posts = posts_of_many_lengths()
    alone, extractor = [ner(post) for post in posts], Extractor(ner)
    for batch_size in (2, 7):
        assert_same(ner(posts, batch_size=batch_size), alone, 1e-6)
        assert_same(list(ner(iter(posts), batch_size=batch_size)), alone, 1e-6)
        found = list(extractor(iter(posts), batch_size=batch_size))
        assert [one.id for one in found] == [str(post["id"]) for post in posts]
        assert [[entity.word for entity in one.entities] for one in found] == [
            [entity["word"] for entity in answer] for answer in alone
        ]


def test_answers_before_a_bad_post_are_given(ner):
    answers = ner(iter([*SENTENCES, {"text": "Kobe", "image": b"no picture"}, *SENTENCES]), batch_size=8)
    for text in SENTENCES:
        assert_same(next(answers), ner(text))
    with pytest.raises(ValueError, match="picture"):
        next(answers)


def test_sub_tokens_are_those_of_a_call_of_the_tokenizer():
    words = ["Kobe", "[CLS]", "<s>", "\u200b", "", "#NWM7", "don't", "x" * 70]
    for tokenizer in (bert_tokenizer(), roberta_tokenizer(), sentencepiece_tokenizer()):
        processor = tiny_processor(tokenizer)
        fast = processor.sub_tokens(words)
        processor.tokenizer(["Kobe", "Kobe lands"], padding=True, truncation=True, max_length=4)
        assert processor.tokenizer.backend_tokenizer.padding  # so the next call goes through the tokenizer's own
        assert processor.sub_tokens(words) == fast
        assert AS_WORDS["split_special_tokens"] and len(fast) == len(words) and all(fast)
