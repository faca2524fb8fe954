"""Overlapping windows over a post that is longer than the text encoder's limit."""


def overlapping_windows(lengths: list[int], room: int, stride: int) -> list[tuple[int, int]]:
    """Cover words with windows of at most `room` sub-tokens, neighbours sharing up to about `stride` of them.

    Args:
        lengths: sub-tokens of each word, at least 1; at least one word.
        room: most sub-tokens of a window. A longer word has a window of its own.
        stride: sub-tokens that two neighbours share; less where whole words or `room` do not allow it.

    Returns:
        (first word, last word exclusive) of each window; their starts and ends increase.

    >>> overlapping_windows([1, 1, 2, 1, 1, 1], room=4, stride=1)
    [(0, 3), (3, 6)]
    >>> overlapping_windows([1, 1, 1, 1, 1, 1], room=4, stride=2)
    [(0, 4), (2, 6)]
    """
    windows, start = [], 0
    while True:
        end, used = start + 1, lengths[start]
        while end < len(lengths) and used + lengths[end] <= room:
            used += lengths[end]
            end += 1
        windows.append((start, end))
        if end == len(lengths):
            return windows
        start, shared = end, 0
        # This ends before it comes to the first word again: with that and the next one the window was too long.
        while shared + lengths[start - 1] <= min(stride, room - lengths[end]):
            start -= 1
            shared += lengths[start]


def best_windows(lengths: list[int], windows: list[tuple[int, int]]) -> list[int]:
    """For each word the window that shows most of what stands around it: its nearer edge is the farthest away.

    The beginning and the end of the post are no edges. Of equals the first window.
    """
    starts = [0]  # of each word, in sub-tokens
    for length in lengths:
        starts.append(starts[-1] + length)

    best, farthest = [0] * len(lengths), [-1.0] * len(lengths)
    for n, (first, last) in enumerate(windows):
        for word in range(first, last):
            left = starts[word] - starts[first] if first else float("inf")
            right = starts[last] - starts[word + 1] if last < len(lengths) else float("inf")
            if min(left, right) > farthest[word]:
                best[word], farthest[word] = n, min(left, right)
    return best


__all__ = ["best_windows", "overlapping_windows"]
