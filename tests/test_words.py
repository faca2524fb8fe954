import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd_texts import PIECES, TWO_ENTITIES, character_span, quick, spans_of, with_spans

from modeling_i2srm.words import HAS_UNSPACED, SPLITTINGS, align_words, join_words, split_pair, split_text

PIECES += ["3.5", "http://t.co/x?a=1#b", "www.x.org", "👨\u200d👩\u200d👧", "🇫🇷", "👍🏽", "#\ufe0f\u20e3", "e\u0301"]
PIECES += ["\u0301", "مرحبا", "می\u200cخواهم", "\u202e", "\u0600", "\u200d", "\u200b", "東京", "हिन्दी", "_", "-", "’"]
PIECES += ["\x00", "\ud83d", "。", "สวัสดี", "コービー", "か\u3099", "〇", "２"]
texts = st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=()), max_size=4), max_size=10)


@pytest.mark.parametrize("splitting", SPLITTINGS)
@settings(quick, max_examples=60)
@given(st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=()), max_size=4)).map("".join))
@example("".join(PIECES))
@example(" ".join(PIECES))
def test_words_cover_every_character_but_white_space_once(splitting, text):
    end_before = 0
    for word, start, end in split_text(text, splitting):
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


@pytest.mark.parametrize(
    ("splitting", "words"),
    [
        ("spaces", "RT @ann: 我在(Paris), #nba3 don't 3.5!"),
        ("words", "RT @ann : 我在 ( Paris ) , #nba3 don't 3.5 !"),
        ("multilingual", "RT @ann : 我 在 ( Paris ) , #nba3 don't 3.5 !"),
        ("hashtags_apart", "RT @ann : 我 在 ( Paris ) , # nba3 don't 3.5 !"),
        ("signs_apart", "RT @ ann : 我 在 ( Paris ) , # nba3 don't 3.5 !"),
    ],
)
def test_words_of_each_splitting(splitting, words):
    assert [word for word, *_ in split_text("RT @ann: 我在(Paris), #nba3 don't 3.5!", splitting)] == words.split(" ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("昨天Nelson去了伦敦", "昨 天 Nelson 去 了 伦 敦"),
        ("#北京# @小明：你好", "# 北 京 # @ 小 明 ： 你 好"),
        ("2024年3.5万iPhone15发布", "2024 年 3.5 万 iPhone15 发 布"),
        ("看https://t.co/aB1你好 https://t.co/c。", "看 https://t.co/aB1 你 好 https://t.co/c 。"),
        ("https://t.co/c。", "https://t.co/c 。"),
        ("マイケル・ジョーダンとか\u3099", "マ イ ケ ル ・ ジ ョ ー ダ ン と か\u3099"),
        ("ﾏｲｸﾞ 時々 〇", "ﾏ ｲ ｸﾞ 時 々 〇"),
        ("ที่ Nelson อยู่", "ที่ Nelson อ ยู่"),
        ("ພາສາ ၂၀၂၄ မြန်မာ น้ำ", "ພ າ ສ າ ၂၀၂၄ မြ န် မာ น้ำ"),
        ("한국어 단어는 하나", "한국어 단어는 하나"),
        ("བོད་ཡིག", "བོད ་ ཡིག"),
    ],
)
def test_characters_of_scripts_without_spaces_are_words(text, words):
    assert [word for word, *_ in split_text(text)] == words.split(" ")


@settings(quick, max_examples=100)
@given(texts.map(" ".join).map(lambda text: HAS_UNSPACED.sub("", text)))
def test_texts_of_other_scripts_are_split_as_before(text):
    assert split_text(text, "multilingual") == split_text(text, "words")
    # The two patterns of a splitting, of which the slower one is for texts with characters of scripts without spaces.
    for splitting, (fast, full) in SPLITTINGS.items():
        assert [word.text for word in split_text(text, splitting)] == full.findall(text) == fast.findall(text)


@pytest.mark.parametrize("splitting", ["Words", None, 3, ["words"]])
def test_an_unknown_splitting_is_refused(splitting):
    with pytest.raises(ValueError, match='must be one of spaces, words, .* e.g. word_splitting="multilingual"'):
        split_text("Kobe", splitting)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["Kobe", "!", "in", "Paris"], "Kobe ! in Paris"),
        (["我", "在", "Jordan", "看", "球", "。"], "我在Jordan看球。"),
        (["看", "Michael", "Jordan", "！", "wow"], "看Michael Jordan！wow"),
        (["ที่", "อยู่", "#", "か\u3099", "x"], "ที่อยู่#か\u3099x"),
        (["", "我", "", "x"], " 我  x"),
        ([], ""),
    ],
)
def test_words_make_a_text(names, text):
    joined, words = join_words(names)
    assert joined == text and [word.text for word in words] == names
    assert all(text[start:end] == word for word, start, end in words)


@settings(quick, max_examples=100)
@given(texts.map(" ".join), st.sampled_from(list(SPLITTINGS)))
def test_words_are_found_in_their_text_and_in_the_one_that_they_make(text, splitting):
    words = split_text(text, splitting)
    names = [word.text for word in words]
    assert align_words(text, names) == words
    joined, others = join_words(names)
    assert align_words(joined, names) == others


def test_tokens_of_white_space_are_found_in_their_text():
    assert [word[1:] for word in align_words("a \u00a0 b", ["a", "\u00a0", "b"])] == [(0, 1), (2, 3), (4, 5)]


@pytest.mark.parametrize(("text", "head", "tail", "words", "head_words", "tail_words"), TWO_ENTITIES)
def test_words_of_raw_text_with_two_entities(text, head, tail, words, head_words, tail_words):
    found, *spans = split_pair(text, character_span(text, head), character_span(text, tail))
    assert [word for word, _, _ in found] == words.split(" ")
    assert spans == [head_words, tail_words]


@settings(quick, max_examples=100)
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


@settings(quick, max_examples=80)
@given(text=texts.map("".join).filter(split_text), data=st.data())
def test_entities_of_whole_words_leave_the_words_as_they_are(text, data):
    words = split_text(text)
    head, tail = (data.draw(st.sampled_from(spans_of(len(words)))) for _ in range(2))
    characters = [(words[start][1], words[end - 1][2]) for start, end in (head, tail)]
    assert split_pair(text, *characters) == (words, head, tail)


def test_words_that_leave_a_rest_of_the_text_are_refused():
    assert [word.text for word in align_words("a b  ", ["a", "b"])] == ["a", "b"]
    with pytest.raises(ValueError, match="text continues with 'b c' after the last of 1 tokens"):
        align_words("a b c ", ["a"])
