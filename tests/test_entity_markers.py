"""Every pair of entities gets its four markers in one order, and a long post keeps the window around them."""

from functools import cache
from itertools import chain, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import roberta_tokenizer, tiny_processor

from modeling_i2srm.prepare.mnre import read_rows
from modeling_i2srm.words import MARKERS, EntityPairError, MarkedPair, check_span, mark_pair, window_of

quick = settings(max_examples=300, deadline=None, derandomize=True, database=None)
IDS = (101, 102, 103, 104)  # of the markers
KOBE = "Kobe lands in Paris with Jordan".split()


def spans_of(length: int) -> list[tuple[int, int]]:
    return [(start, end) for start in range(length) for end in range(start + 1, length + 1)]


def scan(lengths: list[int], start: int, end: int, room: int) -> tuple[int, int]:
    """The window, word by word from near to far; the first word that does not fit closes its side."""
    words = []
    for side, outwards in (("left", range(start - 1, -1, -1)), ("right", range(end, len(lengths)))):
        distance = 0
        for word in outwards:
            words.append((distance, side, word))
            distance += lengths[word]
    room, kept, closed = room - sum(lengths[start:end]), [*range(start, end)], set()
    for _, side, word in sorted(words):
        if side not in closed and lengths[word] <= room:
            kept.append(word)
            room -= lengths[word]
        else:
            closed.add(side)
    assert sorted(kept) == list(range(min(kept), max(kept) + 1))
    return min(kept), max(kept) + 1


def assert_marked(marked: MarkedPair, pieces: list, head: tuple, tail: tuple, ids: tuple, room: int):
    """All that holds of a marked pair; together it leaves one order of the markers."""
    first, last = marked.first_word, marked.last_word
    both = (min(head[0], tail[0]), max(head[1], tail[1]))
    assert (first, last) == scan([len(word) for word in pieces], *both, room - 4)
    assert 0 <= first <= both[0] < both[1] <= last <= len(pieces)
    assert len(marked.input_ids) == len(marked.head_mask) == len(marked.tail_mask) <= room

    places = [place for place, token in enumerate(marked.input_ids) if token not in ids]
    words = [word for word in range(first, last) for _ in pieces[word]]
    assert [marked.input_ids[place] for place in places] == list(chain(*pieces[first:last]))
    for (start, end), mask in ((head, marked.head_mask), (tail, marked.tail_mask)):
        own = [place for place, word in zip(places, words, strict=True) if start <= word < end]
        assert own and own == [place for place, bit in enumerate(mask) if bit] and set(mask) <= {0, 1}

    order, gaps = [], {}
    for place, token in enumerate(marked.input_ids):
        if token in ids:
            gaps[token] = place - len(order)  # sub-tokens before it
            order.append(token)
    assert sorted(order) == sorted(ids)
    bounds = (*head, *tail)
    assert [gaps[marker] for marker in ids] == [sum(len(word) for word in pieces[first:bound]) for bound in bounds]
    if head == tail:
        assert order == [ids[0], ids[2], ids[3], ids[1]]
    elif not (head[0] < tail[0] < head[1] < tail[1] or tail[0] < head[0] < tail[1] < head[1]):
        opened = []
        for marker in order:
            if marker in (ids[0], ids[2]):
                opened.append(marker)
            else:
                assert opened.pop() == ids[ids.index(marker) - 1]


# The window


@pytest.mark.parametrize(
    ("lengths", "room", "window"),
    [
        ([1, 1, 1, 1, 1], 99, (0, 5)),
        ([1, 1, 1, 1, 1], 5, (0, 5)),
        ([1, 1, 1, 1, 1], 1, (2, 3)),
        ([1, 1, 1, 1, 1], 2, (1, 3)),  # of equally near ones the left
        ([1, 1, 1, 1, 1], 3, (1, 4)),
        ([1, 1, 1, 1, 1], 4, (0, 4)),
        ([1, 2, 1, 1, 1], 4, (1, 4)),
        ([1, 2, 1, 1, 1], 5, (1, 5)),  # the last word is one sub-token away, the first one two
        ([9, 9, 1, 1, 1], 5, (2, 5)),
        ([9, 1, 1, 9, 1], 9, (1, 3)),  # nothing behind a word that does not fit
        ([1, 1, 1, 9, 1], 9, (0, 3)),
        ([1, 1, 7, 1, 1], 7, (2, 3)),
    ],
)
def test_the_nearer_words_are_kept(lengths, room, window):
    assert window_of(lengths, 2, 3, room) == window == scan(lengths, 2, 3, room)


lengths_and_span = st.lists(st.integers(1, 6), min_size=1, max_size=24).flatmap(
    lambda lengths: st.tuples(st.just(lengths), st.sampled_from(spans_of(len(lengths))))
)


@quick
@given(post=lengths_and_span, room=st.integers(-3, 60))
def test_a_window_holds_the_span_and_all_that_fits(post, room):
    lengths, (start, end) = post
    fitting = [
        (first, last)
        for first, last in product(range(start + 1), range(end, len(lengths) + 1))
        if sum(lengths[first:last]) <= room
    ]
    if not fitting:
        with pytest.raises(EntityPairError):
            window_of(lengths, start, end, room)
        return
    first, last = window_of(lengths, start, end, room)
    assert [window for window in fitting if window[0] <= first and last <= window[1]] == [(first, last)]
    assert (first, last) == scan(lengths, start, end, room)


@pytest.mark.parametrize(
    ("room", "words"), [(5, ["words 1 to 3", "6 sub-tokens", "room for 5"]), (-2, ["room for 0", "raise max_length"])]
)
def test_a_span_that_does_not_fit_is_told(room, words):
    assert window_of([1, 2, 4, 1], 1, 3, 6) == (1, 3)
    with pytest.raises(EntityPairError) as error:
        window_of([1, 2, 4, 1], 1, 3, room)
    assert isinstance(error.value, ValueError)
    assert [word for word in words if word not in str(error.value)] == []


# The markers


def said(head: tuple, tail: tuple, room: int = 99) -> str:
    """A marked sentence in words."""
    marked = mark_pair([[i] for i in range(len(KOBE))], head, tail, IDS, room)
    return " ".join([*KOBE, *MARKERS][i if i < 100 else len(KOBE) + IDS.index(i)] for i in marked.input_ids)


@pytest.mark.parametrize(
    ("head", "tail", "sentence"),
    [
        ((0, 1), (3, 4), "<*> Kobe </*> lands in <#> Paris </#> with Jordan"),
        ((3, 4), (0, 1), "<#> Kobe </#> lands in <*> Paris </*> with Jordan"),
        ((0, 1), (5, 6), "<*> Kobe </*> lands in Paris with <#> Jordan </#>"),
        ((1, 3), (3, 5), "Kobe <*> lands in </*> <#> Paris with </#> Jordan"),
        ((3, 5), (1, 3), "Kobe <#> lands in </#> <*> Paris with </*> Jordan"),
        ((0, 6), (2, 4), "<*> Kobe lands <#> in Paris </#> with Jordan </*>"),
        ((2, 4), (0, 6), "<#> Kobe lands <*> in Paris </*> with Jordan </#>"),
        ((0, 3), (0, 1), "<*> <#> Kobe </#> lands in </*> Paris with Jordan"),
        ((0, 1), (0, 3), "<#> <*> Kobe </*> lands in </#> Paris with Jordan"),
        ((4, 6), (5, 6), "Kobe lands in Paris <*> with <#> Jordan </#> </*>"),
        ((5, 6), (4, 6), "Kobe lands in Paris <#> with <*> Jordan </*> </#>"),
        ((1, 4), (2, 5), "Kobe <*> lands <#> in Paris </*> with </#> Jordan"),
        ((2, 5), (1, 4), "Kobe <#> lands <*> in Paris </#> with </*> Jordan"),
        ((3, 4), (3, 4), "Kobe lands in <*> <#> Paris </#> </*> with Jordan"),
        ((0, 6), (0, 6), "<*> <#> Kobe lands in Paris with Jordan </#> </*>"),
    ],
)
def test_where_the_markers_stand(head, tail, sentence):
    assert said(head, tail) == sentence


def test_a_cut_sentence():
    assert said((3, 4), (2, 3), room=8) == "lands <#> in </#> <*> Paris </*> with"
    assert said((3, 4), (2, 3), room=7) == "lands <#> in </#> <*> Paris </*>"
    assert said((0, 1), (2, 3), room=8) == "<*> Kobe </*> lands <#> in </#> Paris"
    assert said((5, 6), (5, 6), room=7) == "Paris with <*> <#> Jordan </#> </*>"


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (2, 1, 3, 1, 2), (1, 4, 1, 2, 1)])
def test_every_pair_of_spans_of_five_words(lengths):
    pieces = [[10 * word + i for i in range(length)] for word, length in enumerate(lengths)]
    for head, tail in product(spans_of(5), repeat=2):
        needed = sum(lengths[min(head[0], tail[0]) : max(head[1], tail[1])]) + 4
        for room in range(needed, sum(lengths) + 6):
            assert_marked(mark_pair(pieces, head, tail, IDS, room), pieces, head, tail, IDS, room)
        for room in (needed - 1, 0):
            with pytest.raises(EntityPairError):
                mark_pair(pieces, head, tail, IDS, room)


def test_other_spans_give_another_input():
    pairs = list(product(spans_of(5), repeat=2))
    inputs = {tuple(mark_pair([[7]] * 5, head, tail, IDS, 9).input_ids) for head, tail in pairs}
    assert len(inputs) == len(pairs) == 225


words_and_pair = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=30).flatmap(
    lambda pieces: st.tuples(
        st.just(pieces), *[st.sampled_from(spans_of(len(pieces)))] * 2, st.integers(5, 4 + sum(map(len, pieces)) + 2)
    )
)


@quick
@given(post=words_and_pair)
@example(post=([[0]], (0, 1), (0, 1), 5))
def test_posts_of_any_kind(post):
    pieces, head, tail, room = post
    needed = sum(len(word) for word in pieces[min(head[0], tail[0]) : max(head[1], tail[1])]) + 4
    if needed > room:
        with pytest.raises(EntityPairError, match=f"{needed - 4} sub-tokens, but there is room for {room - 4};"):
            mark_pair(pieces, head, tail, IDS, room)
    else:
        assert_marked(mark_pair(pieces, head, tail, IDS, room), pieces, head, tail, IDS, room)


# Spans


@pytest.mark.parametrize(
    "span",
    [(1, 3), [1, 3], np.array([1, 3]), (np.int64(1), np.uint8(3)), {"start": 1, "end": 3}, {"end": 3, "start": 1}],
)
def test_forms_of_a_span(span):
    start, end = check_span(span, "head", 3)
    assert (start, end, type(start), type(end)) == (1, 3, int, int)


@pytest.mark.parametrize("span", [(-1, 1), (0, 0), (2, 1), (3, 4), (0, 4), (2, -1), {"start": 3, "end": 3}])
def test_a_span_outside_the_post_is_an_error(span):
    with pytest.raises(ValueError) as error:
        check_span(span, "tail", 3)
    assert f"tail={span!r} is empty or not in the post of 3 words; e.g. processor(tokens=" in str(error.value)


@pytest.mark.parametrize(
    "span",
    [
        *(None, 1, 1.5, "01", "Kobe", b"\x00\x01", (), (1,), (0, 1, 2), (None, 1), ("0", "1")),
        *((0.0, 1.0), (0, 1.5), (False, True), (0, np.float32(1)), [[0, 1]], ([0], [1])),
        *({}, {"start": 0}, {"begin": 0, "end": 1}, {"start": 0, "end": None}, {"start": [0], "end": [1]}),
    ],
)
def test_what_is_no_span_is_an_error(span):
    with pytest.raises(ValueError) as error:
        check_span(span, "head", 3)
    assert f"head={span!r} is not a span (start, end) of words, the end exclusive; e.g. processor(" in str(error.value)


def test_spans_of_characters_have_their_own_example():
    for span in ((0, 9), None):
        with pytest.raises(ValueError, match=r'characters.* processor\(text="Kobe lands in Paris", head=\(0, 4\)'):
            check_span(span, "head", 8, "characters")


# Real posts


@cache
def real_rows(folder, splits: tuple = ("train", "val", "test")) -> list[tuple]:
    paths = [folder / f"RE_data/txt/ours_{split}.txt" for split in splits]
    rows = [row for path in paths for _, row in read_rows(path)[0]]
    return [(tuple(row["token"]), tuple(row["h"]["pos"]), tuple(row["t"]["pos"])) for row in rows]


@cache
def real_processor(folder, kind: str):
    """With a byte-level tokenizer trained on the posts themselves, or one that knows few words."""
    tokenizer = roberta_tokenizer()
    if kind == "trained":
        posts = sorted({" ".join(tokens) for tokens, _, _ in real_rows(folder)})
        tokenizer = tokenizer.train_new_from_iterator(posts, 6000, show_progress=False)
    tokenizer.model_max_length = 512
    processor = tiny_processor(tokenizer)
    processor.add_entity_markers()
    return processor


EVERY_ROW = [
    pytest.param(kind, length, ("train", "val", "test"), 15_485, marks=pytest.mark.slow)
    for kind, length in (("trained", 80), ("trained", 32), ("small", 80))
]


@pytest.mark.parametrize(("kind", "max_length", "splits", "count"), [*EVERY_ROW, ("small", 80, ("val", "test"), 3_238)])
def test_rows_of_mnre(shared_data, kind, max_length, splits, count):
    rows, processor = real_rows(shared_data, splits), real_processor(shared_data, kind)
    assert len(rows) == count
    words = sorted({word for tokens, _, _ in rows for word in tokens})
    spaced = [word if word.startswith(" ") else f" {word}" for word in words]
    pieces_of_words = processor.tokenizer(spaced, add_special_tokens=False)["input_ids"]
    sub_tokens, vocabulary = dict(zip(words, pieces_of_words, strict=True)), processor.tokenizer.get_vocab()
    ids, frame = tuple(vocabulary[marker] for marker in MARKERS), (vocabulary["<s>"], vocabulary["</s>"])
    too_long, cut, inputs = 0, 0, {}
    for tokens, head, tail in rows:
        pieces = [sub_tokens[word] for word in tokens]
        needed = sum(len(word) for word in pieces[min(head[0], tail[0]) : max(head[1], tail[1])])
        if needed + 6 > max_length:
            with pytest.raises(EntityPairError, match=f"are {needed} sub-tokens"):
                processor.encode_pair(tokens, head, tail, max_length=max_length)
            too_long += 1
            continue
        row = processor.encode_pair(tokens, head, tail, max_length=max_length)
        lost = row["num_truncated_words"]
        cut += lost > 0
        assert (row["input_ids"][0], row["input_ids"][-1]) == frame
        assert row["head_mask"][0] == row["head_mask"][-1] == row["tail_mask"][0] == row["tail_mask"][-1] == 0
        masks = [row[name][1:-1] for name in ("input_ids", "head_mask", "tail_mask")]
        marked = MarkedPair(*masks, row["first_word"], row["first_word"] + len(tokens) - lost)
        assert_marked(marked, pieces, head, tail, ids, max_length - 2)
        assert inputs.setdefault((tokens, *row["input_ids"]), (head, tail)) == (head, tail)
    assert (too_long > 0, cut > 0) == ((False, False) if (kind, max_length) == ("trained", 80) else (True, True))
