import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd_texts import PIECES, TWO_ENTITIES, character_span, quick, spans_of, with_spans

from modeling_i2srm.words import split_pair, split_text

PIECES += ["3.5", "http://t.co/x?a=1#b", "www.x.org", "👨\u200d👩\u200d👧", "🇫🇷", "👍🏽", "#\ufe0f\u20e3", "e\u0301"]
PIECES += ["\u0301", "مرحبا", "می\u200cخواهم", "\u202e", "\u0600", "\u200d", "\u200b", "東京", "हिन्दी", "_", "-", "’"]
PIECES += ["\x00", "\ud83d"]
texts = st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=()), max_size=4), max_size=10)


@settings(quick, max_examples=300)
@given(st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=()), max_size=4)).map("".join))
@example("".join(PIECES))
@example(" ".join(PIECES))
def test_words_cover_every_character_but_white_space_once(text):
    end_before = 0
    for word, start, end in split_text(text):
        assert text[start:end] == word != ""
        assert text[end_before:start].strip() == ""  # also: words are in order and do not overlap
        assert start >= end_before
        assert not regex.search(r"\s", word)
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


@pytest.mark.parametrize(("text", "head", "tail", "words", "head_words", "tail_words"), TWO_ENTITIES)
def test_words_of_raw_text_with_two_entities(text, head, tail, words, head_words, tail_words):
    found, *spans = split_pair(text, character_span(text, head), character_span(text, tail))
    assert [word for word, _, _ in found] == words.split(" ")
    assert spans == [head_words, tail_words]


@settings(quick, max_examples=300)
@given(post=with_spans(texts.map("".join), len))
@example(post=("a \t b", (1, 4), (0, 1)))
@example(post=("a\x1cb", (1, 2), (0, 1)))
def test_the_words_of_an_entity_are_its_characters(post):
    text, head, tail = post
    if any(regex.fullmatch(r"\s+", text[start:end]) for start, end in (head, tail)):
        with pytest.raises(ValueError, match="holds no word"):
            split_pair(text, head, tail)
        return
    words, *spans = split_pair(text, head, tail)
    signs = [i for i, sign in enumerate(text) if not regex.match(r"\s", sign)]
    assert [i for word, start, end in words for i in range(start, end)] == signs
    assert all(word == text[start:end] != "" for word, start, end in words)
    for (start, end), (first, last) in zip((head, tail), spans, strict=True):
        inside = [i for _, *bounds in words[first:last] for i in range(*bounds)]
        assert inside == [i for i in signs if start <= i < end] != []


@settings(quick, max_examples=200)
@given(text=texts.map("".join).filter(split_text), data=st.data())
def test_entities_of_whole_words_leave_the_words_as_they_are(text, data):
    words = split_text(text)
    head, tail = (data.draw(st.sampled_from(spans_of(len(words)))) for _ in range(2))
    characters = [(words[start][1], words[end - 1][2]) for start, end in (head, tail)]
    assert split_pair(text, *characters) == (words, head, tail)
