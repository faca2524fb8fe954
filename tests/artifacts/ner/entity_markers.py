"""Markers around the head and the tail entity of a post, and the window that is kept of a long one."""

import operator
from dataclasses import dataclass

# head start, head end, tail start, tail end (docs/concepts/method.md, section 7)
MARKERS = ("<*>", "</*>", "<#>", "</#>")
CALLS = {
    "words": 'processor(tokens=["Kobe", "lands", "in", "Paris"], head=(0, 1), tail=(3, 4))',
    "characters": 'processor(text="Kobe lands in Paris", head=(0, 4), tail=(14, 19))',
}


class EntityPairError(ValueError):
    """The two entities of a post and what stands between them are longer than the longest input."""


@dataclass
class MarkedPair:
    """A post with markers, without the special tokens that frame it."""

    input_ids: list[int]
    head_mask: list[int]  # 1 on the sub-tokens of the head, markers left out
    tail_mask: list[int]
    first_word: int  # the words from first_word to last_word (exclusive) are in
    last_word: int


def check_span(span, name: str, length: int, unit: str = "words") -> tuple[int, int]:
    """Return (start, end) of a span given as a pair or as {"start": ..., "end": ...}; the end is exclusive.

    Raises:
        ValueError: no such span, or one that is empty or does not lie in the post.
    """
    try:
        start, end = (span["start"], span["end"]) if isinstance(span, dict) else span
        if isinstance(span, (str, bytes)) or bool in (type(start), type(end)):
            raise TypeError
        start, end = operator.index(start), operator.index(end)
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            f"{name}={span!r:.200} is no span (start, end) of {unit}, the end exclusive; e.g. {CALLS[unit]}"
        ) from None
    if not 0 <= start < end <= length:
        raise ValueError(f"{name}={span!r:.200} is empty or not in the post of {length} {unit}; e.g. {CALLS[unit]}")
    return start, end


def window_of(lengths: list[int], start: int, end: int, room: int, offset: int = 0) -> tuple[int, int]:
    """Widen the words from `start` to `end` to as many neighbours as fit, the nearer ones (in sub-tokens) first.

    Args:
        lengths: sub-tokens of each word.
        start, end: the words that have to stay, the end exclusive.
        room: most sub-tokens.
        offset: words before these, for the message.

    Returns:
        First and last word (exclusive).

    Raises:
        EntityPairError: the words that have to stay do not fit.
    """
    needed = sum(lengths[start:end])
    if needed > room:
        raise EntityPairError(
            f"words {start + offset} to {end + offset}, with both entities, are {needed} sub-tokens, but there is room "
            f"for {max(room, 0)}; raise max_length"
        )
    room -= needed
    left = right = 0  # sub-tokens taken on either side, and so the distance of the next word
    while True:
        fits_left = start > 0 and lengths[start - 1] <= room
        fits_right = end < len(lengths) and lengths[end] <= room
        if fits_left and (left <= right or not fits_right):
            start -= 1
            left, room = left + lengths[start], room - lengths[start]
        elif fits_right:
            right, room = right + lengths[end], room - lengths[end]
            end += 1
        else:
            return start, end


def mark_pair(
    pieces: list[list[int]], head: tuple[int, int], tail: tuple[int, int], markers: tuple[int, ...], room: int
) -> MarkedPair:
    """Put markers around two entities of a post and cut it to a window that contains both.

    Where entities meet, the one that ended is closed before the other opens. Of nested ones the longer is outside, of
    equal ones the head. Overlapping ones keep their own starts and ends.

    Args:
        pieces: sub-tokens of each word, at least one a word.
        head, tail: words of the entities, the end exclusive.
        markers: ids of `MARKERS`.
        room: most sub-tokens, markers included.
    """
    first, last = min(head[0], tail[0]), max(head[1], tail[1])
    offset, reach = max(first - max(room, 0), 0), last + max(room, 0)  # farther words cannot be in
    lengths = [len(ids) for ids in pieces[offset:reach]]
    first, last = window_of(lengths, first - offset, last - offset, room - len(markers), offset)
    first, last = first + offset, last + offset
    spans = ((*head, markers[0], markers[1]), (*tail, markers[2], markers[3]))
    marked = MarkedPair([], [], [], first, last)

    def add(ids: list[int], in_head: bool = False, in_tail: bool = False):
        marked.input_ids.extend(ids)
        marked.head_mask.extend([int(in_head)] * len(ids))
        marked.tail_mask.extend([int(in_tail)] * len(ids))

    for word in range(first, last + 1):
        # First the one that began last is closed, of equal ones the tail; then the one that ends last is opened.
        for span in sorted((span for span in reversed(spans) if span[1] == word), key=lambda span: -span[0]):
            add([span[3]])
        for span in sorted((span for span in spans if span[0] == word), key=lambda span: -span[1]):
            add([span[2]])
        if word < last:
            add(pieces[word], head[0] <= word < head[1], tail[0] <= word < tail[1])
    return marked


__all__ = ["MARKERS", "EntityPairError", "MarkedPair", "check_span", "mark_pair", "window_of"]
