"""Texts that are hard to cut into words and sub-tokens."""

from hypothesis import settings
from hypothesis import strategies as st

INVISIBLE = ["", " ", "\u200b", "\u200d", "\ufeff", "\u00a0", "\u2028", "\t", "\x00", "\u0301", "\ufffd", "\ufe0f"]


ODD = ["\ud83d", "a\udc00", "e\u0301", "Zu\u0308rich", "👨\u200d👩\u200d👧", "#\ufe0f\u20e3", "مرحبا", "می\u200cخواهم"]


quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


PIECES = ["Kobe", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "!", "...", "@ann", "#NWM7", "#", "@", "don't"]


# text, head, tail; words, the words of head and tail
TWO_ENTITIES = [
    ("Kobe lands in #Paris!", "Kobe", "Paris", "Kobe lands in # Paris !", (0, 1), (4, 5)),
    ("Kobe lands in #Paris!", "#Paris", "Kobe lands", "Kobe lands in #Paris !", (3, 4), (0, 2)),
    ("unbelievable", "believ", "able", "un believ able", (1, 2), (2, 3)),
    ("via @JayKenMinaj's", "JayKen", "JayKenMinaj", "via @ JayKen Minaj ' s", (2, 3), (2, 4)),
    ("see http://nba.com/x", "nba", "com", "see http : / / nba . com / x", (5, 6), (7, 8)),
    ("\tKobe\tlands\n in\u00a0Paris", "\tlands\n ", "\u00a0Paris", "Kobe lands in Paris", (1, 2), (3, 4)),
    ("hi👨\u200d👩\u200d👧Kobe🇫🇷", "👨\u200d👩\u200d👧", "🇫🇷", "hi 👨\u200d👩\u200d👧 Kobe 🇫🇷", (1, 2), (3, 4)),
    ("hi👨\u200d👩 Kobe", "👨", "👩 Kobe", "hi 👨 \u200d 👩 Kobe", (1, 2), (3, 5)),
    ("Zu\u0308rich", "Zu\u0308", "rich", "Zu\u0308 rich", (0, 1), (1, 2)),
    ("Zu\u0308rich", "Zu", "\u0308", "Zu \u0308 rich", (0, 1), (1, 2)),
    ("مرحبا كوبي، باريس", "كوبي", "باريس", "مرحبا كوبي ، باريس", (1, 2), (3, 4)),
    ("کوبی می\u200cخواهم", "\u200c", "خواهم", "کوبی می \u200c خواهم", (2, 3), (3, 4)),
    ("コービー東京", "コービー", "東京", "コ ー ビ ー 東 京", (0, 4), (4, 6)),
    ("昨天Kobe去了東京", "Kobe", "東京", "昨 天 Kobe 去 了 東 京", (2, 3), (5, 7)),
    ("Kobe", "Kobe", "Kobe", "Kobe", (0, 1), (0, 1)),
    ("New York City", "New York", "York City", "New York City", (0, 2), (1, 3)),
    ("New York City", "New York City", "York", "New York City", (0, 3), (1, 2)),
    ("Kobe \u200b Paris", "\u200b", " \u200b Paris", "Kobe \u200b Paris", (1, 2), (1, 3)),
]


def spans_of(length: int) -> list[tuple[int, int]]:
    return [(start, end) for start in range(length) for end in range(start + 1, length + 1)]


def with_spans(values, length):
    """Values of a strategy with two spans in each."""
    return values.filter(length).flatmap(
        lambda value: st.tuples(st.just(value), *[st.sampled_from(spans_of(length(value)))] * 2)
    )


def character_span(text: str, part: str) -> tuple[int, int]:
    assert text.count(part) == 1
    return text.index(part), text.index(part) + len(part)
