"""Raw text -> words with their offsets."""

import regex

from .entity_markers import CALLS, check_span

# Web addresses, then words with their @ or # and inner apostrophes, hyphens and decimal points, then single graphemes.
INNER = r"[\p{L}\p{M}\p{N}_\u200c\u200d]"  # the zero-width joiners stand inside words of Persian and Indic scripts
WORD = regex.compile(
    r"https?://\S+|www\.\S+"
    rf"|[@#]?[\p{{L}}\p{{N}}_]{INNER}*(?:(?:['’-](?=[\p{{L}}\p{{N}}])|(?<=\p{{N}})[.,](?=\p{{N}})){INNER}+)*"
    r"|\p{GCB=Prepend}|(?!\s)\X"  # a prepended sign would take white space along
)


def split_text(text: str) -> list[tuple[str, int, int]]:
    """Split raw text into (word, start, end), character offsets with the end exclusive; only white space is left out.

    >>> split_text("RT @ann: Paris, 3.5 km")
    [('RT', 0, 2), ('@ann', 3, 7), (':', 7, 8), ('Paris', 9, 14), (',', 14, 15), ('3.5', 16, 19), ('km', 20, 22)]
    """
    return [(match.group(), match.start(), match.end()) for match in WORD.finditer(text)]


def split_pair(text: str, head, tail) -> tuple[list[tuple[str, int, int]], tuple[int, int], tuple[int, int]]:
    """Split raw text so that two spans of characters begin and end at words.

    >>> split_pair("Kobe in #Paris!", (0, 4), (9, 14))
    ([('Kobe', 0, 4), ('in', 5, 7), ('#', 8, 9), ('Paris', 9, 14), ('!', 14, 15)], (0, 1), (3, 4))

    Returns:
        The words as `split_text` gives them, and the spans in words.

    Raises:
        ValueError: a span that is not in the text or holds white space alone.
    """
    spans = [check_span(span, name, len(text), "characters") for name, span in (("head", head), ("tail", tail))]
    cuts = sorted({0, len(text), *spans[0], *spans[1]})
    words = [
        (word, start + offset, end + offset)
        for offset, stop in zip(cuts, cuts[1:], strict=False)
        for word, start, end in split_text(text[offset:stop])
    ]
    found = []
    for name, (start, end) in zip(("head", "tail"), spans, strict=True):
        inside = [i for i, (_, word_start, word_end) in enumerate(words) if start <= word_start and word_end <= end]
        if not inside:
            raise ValueError(f"{name}={(start, end)} holds no word: {text[start:end]!r}; e.g. {CALLS['characters']}")
        found.append((inside[0], inside[-1] + 1))
    return words, *found


__all__ = ["split_pair", "split_text"]
