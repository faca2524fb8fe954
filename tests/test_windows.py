import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeling_i2srm.words import best_windows, overlapping_windows

quick = settings(max_examples=300, deadline=None, derandomize=True, database=None)
posts = st.tuples(
    st.lists(st.integers(1, 7) | st.integers(1, 40), min_size=1, max_size=40), st.integers(1, 20), st.integers(0, 25)
)


def brute_force_context(lengths: list[int], word: int, window: tuple[int, int]) -> float:
    """Sub-tokens from a word to the nearer edge of a window, where the ends of the post are no edges."""
    first, last = window
    left = float("inf") if first == 0 else sum(lengths[first:word])
    right = float("inf") if last == len(lengths) else sum(lengths[word + 1 : last])
    return min(left, right)


@quick
@given(posts)
@example(([1], 1, 0))
@example(([40], 1, 25))
@example(([40, 40, 40], 3, 2))
@example(([1] * 40, 2, 25))
@example(([1, 40, 1, 1, 40], 3, 2))
def test_windows_are_whole_words_in_order_and_none_is_too_long(post):
    lengths, room, stride = post
    windows = overlapping_windows(lengths, room, stride)
    assert windows[0][0] == 0 and windows[-1][1] == len(lengths)
    for first, last in windows:
        assert first < last
        assert sum(lengths[first:last]) <= room or last == first + 1
    for (first, last), (next_first, next_last) in zip(windows, windows[1:], strict=False):
        assert first < next_first <= last < next_last  # so every word is in
        assert sum(lengths[next_first:last]) <= stride


@quick
@given(posts)
@example(([1, 1, 2, 1, 1, 1], 4, 1))
def test_windows_are_as_long_and_overlap_as_far_as_they_may(post):
    lengths, room, stride = post
    windows = overlapping_windows(lengths, room, stride)
    for (first, last), (next_first, _) in zip(windows, windows[1:], strict=False):
        assert sum(lengths[first : last + 1]) > room
        wider = next_first - 1
        assert sum(lengths[wider:last]) > stride or sum(lengths[wider : last + 1]) > room


def test_a_post_that_fits_is_one_window():
    assert overlapping_windows([2, 3, 1], room=6, stride=5) == [(0, 3)]
    assert best_windows([2, 3, 1], [(0, 3)]) == [0, 0, 0]


def test_without_stride_windows_do_not_overlap():
    assert overlapping_windows([1] * 7, room=3, stride=0) == [(0, 3), (3, 6), (6, 7)]


@quick
@given(posts)
@example(([1] * 12, 6, 5))
def test_a_word_is_read_where_it_has_most_context(post):
    lengths, room, stride = post
    windows = overlapping_windows(lengths, room, stride)
    owners = best_windows(lengths, windows)
    assert len(owners) == len(lengths)
    for word, owner in enumerate(owners):
        contexts = {
            n: brute_force_context(lengths, word, window)
            for n, window in enumerate(windows)
            if window[0] <= word < window[1]
        }
        assert owner == next(n for n in contexts if contexts[n] == max(contexts.values()))
    assert owners == sorted(owners)


@pytest.mark.parametrize("stride", [0, 2, 4, 6])
def test_every_word_has_half_a_stride_around_it(stride):
    lengths = [1] * 100
    windows = overlapping_windows(lengths, 12, stride)
    owners = best_windows(lengths, windows)
    contexts = [brute_force_context(lengths, word, windows[owner]) for word, owner in enumerate(owners)]
    assert min(contexts) == stride // 2


def test_a_long_post_takes_time_in_proportion():
    lengths, start = [1, 2, 3] * 20_000, time.process_time()
    windows = overlapping_windows(lengths, 510, 127)
    owners = best_windows(lengths, windows)
    assert time.process_time() - start < 3
    assert set(owners) == set(range(len(windows)))
