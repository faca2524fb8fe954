"""Words of posts: splitting raw text, markers around two entities, and windows over long posts."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import regex

# Letters of scripts that are written without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese ...
UNSPACED = r"[[\p{L}\p{Nl}]&&[\p{Script=Bopomofo}\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{LB=SA}]]"
# The punctuation of these scripts, which has no spaces around it either.
UNSPACED_SIGN = r"[[\u3001-\u303f\uff01-\uff65]&&[\p{P}\p{S}]]"
HAS_UNSPACED = regex.compile(rf"(?V1){UNSPACED}|{UNSPACED_SIGN}")
ENDS_UNSPACED = regex.compile(rf"(?V1)(?:{UNSPACED}|{UNSPACED_SIGN})[\p{{M}}\u200c\u200d]*\Z")


def word_pattern(signs: str, unspaced: bool) -> regex.Pattern:
    """Web addresses, then words with inner apostrophes, hyphens and decimal points, then single graphemes.

    Args:
        signs: that belong to the word after them, of # and @.
        unspaced: whether letters of scripts without spaces are single graphemes.
    """
    cut = rf"--{UNSPACED}" if unspaced else ""
    inner = (
        rf"[[\p{{L}}\p{{M}}\p{{N}}_\u200c\u200d]{cut}]"  # the joiners stand inside words of Persian and Indic scripts
    )
    first, next_to = rf"[[\p{{L}}\p{{N}}_]{cut}]", rf"[[\p{{L}}\p{{N}}]{cut}]"
    address = rf"[\S{cut}--{UNSPACED_SIGN}]" if unspaced else r"\S"
    sign = f"[{signs}]?" if signs else ""
    character = rf"|(?={UNSPACED})\X[\p{{M}}\u200c\u200d]*" if unspaced else ""  # all vowel signs stay with a letter
    return regex.compile(
        rf"(?V1)https?://{address}+|www\.{address}+"
        rf"|{sign}{first}{inner}*(?:(?:['’-](?={next_to})|(?<=\p{{N}})[.,](?=\p{{N}})){inner}+)*"
        rf"{character}|\p{{GCB=Prepend}}|(?!\s)\X"  # a prepended sign would take white space along
    )


# For each splitting the patterns of a text without letters of unspaced scripts, which is faster, and of one with them.
SPLITTINGS = {
    "spaces": (regex.compile(r"\S+"),) * 2,
    "words": (word_pattern("@#", False),) * 2,
    "multilingual": (word_pattern("@#", False), word_pattern("@#", True)),
    "hashtags_apart": (word_pattern("@", False), word_pattern("@", True)),
    "signs_apart": (word_pattern("", False), word_pattern("", True)),
}
DEFAULT_SPLITTING = "multilingual"
SAVED_SPLITTING = "words"  # of processors that were saved before they had a choice


class Word(NamedTuple):
    """A word of a post, with its character offsets in the text, the end exclusive."""

    text: str
    start: int
    end: int


def check_splitting(splitting: object) -> str:
    """Return the name of a splitting; raise a `ValueError` for one that is not in `SPLITTINGS`."""
    if not isinstance(splitting, str) or splitting not in SPLITTINGS:
        raise ValueError(
            f"word_splitting={splitting!r:.200} must be one of {', '.join(SPLITTINGS)}, e.g. "
            f'word_splitting="{DEFAULT_SPLITTING}"'
        )
    return splitting


def split_text(text: str, splitting: str = DEFAULT_SPLITTING) -> list[Word]:
    """Split raw text into words; only white space is left out.

    Args:
        text: any text.
        splitting: "spaces" splits at white space alone. "words" also splits punctuation and other signs off words, but
            not # and @ from the word after them, and keeps web addresses. "multilingual" does the same, and makes each
            character of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese ...) a word.
            "hashtags_apart" is as "multilingual", but a # is a word of its own, as in MNRE; "signs_apart" is too, but #
            and @ are words of their own, as in Twitter-2017.

    Raises:
        ValueError: an unknown splitting.

    >>> split_text("@ann: Paris")
    [Word(text='@ann', start=0, end=4), Word(text=':', start=4, end=5), Word(text='Paris', start=6, end=11)]
    >>> [word.text for word in split_text("RT @ann: Paris, 3.5 km")]
    ['RT', '@ann', ':', 'Paris', ',', '3.5', 'km']
    >>> for splitting in SPLITTINGS:
    ...     print(f"{splitting:15}", *(word.text for word in split_text("@ann: (Paris), 去了Rome #nba", splitting)))
    spaces          @ann: (Paris), 去了Rome #nba
    words           @ann : ( Paris ) , 去了Rome #nba
    multilingual    @ann : ( Paris ) , 去 了 Rome #nba
    hashtags_apart  @ann : ( Paris ) , 去 了 Rome # nba
    signs_apart     @ ann : ( Paris ) , 去 了 Rome # nba
    """
    try:
        spaced, unspaced = SPLITTINGS[splitting]
    except (KeyError, TypeError):
        check_splitting(splitting)
        raise
    pattern = spaced if text.isascii() or not HAS_UNSPACED.search(text) else unspaced
    return [Word(text[start:end], start, end) for start, end in (match.span() for match in pattern.finditer(text))]


def join_words(names: list[str]) -> tuple[str, list[Word]]:
    """Join words to a text: single spaces between, but none beside a character of a script without spaces.

    >>> join_words(["Kobe", "!"])
    ('Kobe !', [Word(text='Kobe', start=0, end=4), Word(text='!', start=5, end=6)])
    >>> join_words(["我", "在", "Michael", "Jordan", "家", "。"])[0]
    '我在Michael Jordan家。'
    """
    text = " ".join(names)
    spaced = text.isascii() or not HAS_UNSPACED.search(text)  # as most texts are
    words, start = [], 0
    for name, next_name in zip_longest(names, names[1:], fillvalue=""):
        words.append(Word(name, start, start + len(name)))
        start += len(name) + (spaced or are_spaced(name, next_name))
    if not spaced:
        signs = [" "] * words[-1].end
        for word in words:
            signs[word.start : word.end] = word.text
        text = "".join(signs)
    return text, words


def are_spaced(word: str, next_word: str) -> bool:
    """Whether a space stands between two words: not beside a character of a script without spaces."""
    return not (word and next_word and (ENDS_UNSPACED.search(word) or HAS_UNSPACED.match(next_word)))


def align_words(text: str, names: list[str]) -> list[Word]:
    """Find the words of a text in it, in order.

    >>> align_words("我在Jordan看球", ["我在", "Jordan", "看球"])
    [Word(text='我在', start=0, end=2), Word(text='Jordan', start=2, end=8), Word(text='看球', start=8, end=10)]

    Raises:
        ValueError: the words, with white space between them, are not the text.
    """
    words, start = [], 0
    for n, name in enumerate(names):
        while not text.startswith(name, start) and text[start : start + 1].isspace():
            start += 1
        if not name or not text.startswith(name, start):
            raise ValueError(
                f"tokens[{n}]={name!r:.80} is not what text continues with, {text[start : start + 40]!r}: give words "
                "that text consists of, or leave out one of the two"
            )
        words.append(Word(name, start, start + len(name)))
        start += len(name)
    if rest := text[start:].strip():
        raise ValueError(
            f"text continues with {rest!r:.80} after the last of {len(names)} tokens: leave out one of them"
        )
    return words


def split_pair(
    text: str, head: object, tail: object, splitting: str = DEFAULT_SPLITTING
) -> tuple[list[Word], tuple[int, int], tuple[int, int]]:
    """Split raw text so that two spans of characters begin and end at words.

    >>> words, head, tail = split_pair("Kobe in #Paris!", (0, 4), (9, 14))
    >>> [word.text for word in words], head, tail
    (['Kobe', 'in', '#', 'Paris', '!'], (0, 1), (3, 4))

    Returns:
        The words as `split_text` gives them, and the spans in words.

    Raises:
        ValueError: a span that is not in the text or holds white space alone.
    """
    spans = [check_span(span, name, len(text), "characters") for name, span in (("head", head), ("tail", tail))]
    cuts = sorted({0, len(text), *spans[0], *spans[1]})
    words = [
        Word(word, start + offset, end + offset)
        for offset, stop in zip(cuts, cuts[1:], strict=False)
        for word, start, end in split_text(text[offset:stop], splitting)
    ]
    in_words = []
    for name, (start, end) in zip(("head", "tail"), spans, strict=True):
        inside = [i for i, word in enumerate(words) if start <= word.start and word.end <= end]
        if not inside:
            raise ValueError(f"{name}={(start, end)} holds no word: {text[start:end]!r}; e.g. {CALLS['characters']}")
        in_words.append((inside[0], inside[-1] + 1))
    return words, in_words[0], in_words[1]


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


def check_span(span: object, name: str, length: int, unit: str = "words") -> tuple[int, int]:
    """Return (start, end) of a span given as a pair or as {"start": ..., "end": ...}; the end is exclusive.

    Raises:
        ValueError: no such span, or one that is empty or outside of the post.
    """
    try:
        bounds = (span["start"], span["end"]) if isinstance(span, dict) else span
        if not isinstance(bounds, Iterable) or isinstance(span, (str, bytes)):
            raise TypeError
        start, end = bounds
        if bool in (type(start), type(end)):
            raise TypeError
        start, end = operator.index(start), operator.index(end)
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            f"{name}={span!r:.200} is not a span (start, end) of {unit}, the end exclusive; e.g. {CALLS[unit]}"
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
        pieces: sub-tokens of each word, at least one per word.
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

    def add(ids: list[int], in_head: bool = False, in_tail: bool = False) -> None:
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

    The beginning and the end of the post are no edges. Among equals it is the first window.
    """
    if len(windows) == 1:
        return [0] * len(lengths)
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


__all__ = [
    "DEFAULT_SPLITTING",
    "MARKERS",
    "SAVED_SPLITTING",
    "SPLITTINGS",
    "EntityPairError",
    "MarkedPair",
    "Word",
    "align_words",
    "are_spaced",
    "best_windows",
    "check_span",
    "check_splitting",
    "join_words",
    "mark_pair",
    "overlapping_windows",
    "split_pair",
    "split_text",
    "window_of",
]
