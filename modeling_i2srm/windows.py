"""Overlapping windows over a post that is longer than the text encoder's limit."""


def overlapping_windows(lengths: list[int], room: int, stride: int) -> list[tuple[int, int]]:
    """Cover words with windows of at most `room` sub-tokens, neighbours sharing up to about `stride` of them.

    Args:
        lengths: sub-tokens of each word, at least 1.
        room: most sub-tokens of a window. A longer word has a window of its own.
        stride: sub-tokens that two neighbours share; less where whole words or progress do not allow it.

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
        first, start, shared = start, end, 0
        while start - 1 > first and shared + lengths[start - 1] <= min(stride, room - lengths[end]):
            start -= 1
            shared += lengths[start]


def best_windows(lengths: list[int], windows: list[tuple[int, int]]) -> list[int]:
    """For each word the window that shows most of what stands around it: its nearer edge is the farthest away.

    The beginning and the end of the post are no edges. Of equals the first window.
    """
    starts = [0]  # of each word, in sub-tokens
    for length in lengths:
        starts.append(starts[-1] + length)

    def context(word: int, window: tuple[int, int]) -> float:
        first, last = window
        left = starts[word] - starts[first] if first else float("inf")
        right = starts[last] - starts[word + 1] if last < len(lengths) else float("inf")
        return min(left, right)

    def best(word: int) -> int:
        holding = [n for n, (first, last) in enumerate(windows) if first <= word < last]
        return max(holding, key=lambda n: context(word, windows[n]))

    return [best(word) for word in range(len(lengths))]


__all__ = ["best_windows", "overlapping_windows"]
