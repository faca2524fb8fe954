"""Which way of splitting raw text gives the words that a data set has."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import regex
from datasets import Dataset

from ..processing_i2srm import I2SRMProcessor
from ..words import DEFAULT_SPLITTING, SPLITTINGS, align_words, are_spaced, check_splitting, split_text

logger = logging.getLogger(__name__)

SAMPLE = 1000  # rows that are looked at, spread over the data set
MARGIN = 0.01  # by how much a larger share of the tokens another splitting has to give back to be chosen
ENOUGH = 0.9  # share of the tokens; below, a model gets other words in use than in training
# How English is written: what has no space before it, and what has none after it.
CLOSING = regex.compile(r"[\p{Pe}\p{Pf}.,!?;:…%]+|['’]\p{L}{0,2}|n['’]t")
OPENING = regex.compile(r"[\p{Ps}\p{Pi}#@$£€]+")
QUOTES = ('"', "``", "''")  # the first of a post opens, the next one closes ...


@dataclass(frozen=True)
class SplittingChoice:
    """The splitting that restores most tokens of a data set.

    Args:
        splitting: its name, one of `SPLITTINGS`.
        shares: by splitting, the share of the tokens that it restores; empty for a data set without tokens.
    """

    splitting: str
    shares: dict[str, float]

    def describe(self) -> str:
        """What to tell the user, in a sentence."""
        others = ", ".join(
            f"{name} {100 * share:.1f} %" for name, share in self.shares.items() if name != self.splitting
        )
        return (
            f"the model will split raw text with word_splitting={self.splitting!r}, which restores "
            f"{100 * self.shares[self.splitting]:.1f} % of the training tokens ({others}); it is saved with the "
            "processor, and --word_splitting overrides it"
        )


def choose_splitting(
    posts: Iterable[list[str]], texts: Iterable[str] | None = None, preferred: str = DEFAULT_SPLITTING
) -> SplittingChoice:
    """Choose the splitting of raw text that restores most tokens of a data set.

    Args:
        posts: the tokens of each post.
        texts: the text of each post; default the text that `write_text` makes of the tokens.
        preferred: is chosen unless another one restores 1 % of the tokens more.

    >>> choose_splitting([["(Halcyon),", "twice"], ["Kobe!"]]).splitting
    'spaces'
    >>> choose_splitting([["RT", "@ann", ":", "#Paris", "!"]]).splitting
    'multilingual'
    >>> choose_splitting([["RT", "@", "ann", ":", "#", "Paris", "!"]]).splitting
    'signs_apart'
    """
    check_splitting(preferred)
    tokens, same, posts = 0, dict.fromkeys(SPLITTINGS, 0), list(posts)
    for post, known in zip(posts, [None] * len(posts) if texts is None else texts, strict=True):
        text, spans = locate(post, known)
        tokens += len(spans)
        for splitting in SPLITTINGS:
            same[splitting] += len(spans & {(word.start, word.end) for word in split_text(text, splitting)})
    if not tokens:
        return SplittingChoice(preferred, {})
    shares = {splitting: same[splitting] / tokens for splitting in SPLITTINGS}
    best = max(shares, key=lambda splitting: shares[splitting])
    return SplittingChoice(best if shares[best] >= shares[preferred] + MARGIN else preferred, shares)


def locate(tokens: list[str], text: str | None) -> tuple[str, set[tuple[int, int]]]:
    """The text of a post and the span of each token in it; a text that does not consist of the tokens is left out."""
    if isinstance(text, str):
        try:
            return text, {(word.start, word.end) for word in align_words(text, tokens)}
        except ValueError:
            pass
    return write_text(tokens)


def write_text(tokens: list[str]) -> tuple[str, set[tuple[int, int]]]:
    """The text that tokens probably come from, with punctuation at the words, and the span of each token in it.

    >>> write_text(["RT", "@", "ann", ":", "it", "'s", '"', "Paris", '"', "(", "again", ")", "!"])[0]
    'RT @ann: it\\'s "Paris" (again)!'
    """
    text, spans, quotes = "", set(), Counter[str]()
    for n, token in enumerate(tokens):
        before = tokens[n - 1] if n else ""
        closes, follows = CLOSING.fullmatch(token), OPENING.fullmatch(before)
        if before in QUOTES:
            follows = quotes[before] % 2
        if token in QUOTES:
            closes = quotes[token] % 2
            quotes[token] += 1
        if n and not closes and not follows and are_spaced(before, token):
            text += " "
        spans.add((len(text), len(text) + len(token)))
        text += token
    return text, spans


def fit_splitting(processor: I2SRMProcessor, split: Dataset, wanted: str | None = None) -> None:
    """Set the word_splitting of a processor to the one that restores the tokens of a training split, and say so.

    Args:
        split: with a column tokens; a column text is used where it is there.
        wanted: is taken instead, whatever the tokens are.
    """
    rows = split.select(range(0, len(split), max(len(split) // SAMPLE, 1)))
    columns = rows.select_columns([name for name in ("tokens", "text") if name in rows.column_names])[:]
    choice = choose_splitting(columns["tokens"], columns.get("text"), wanted or processor.word_splitting)
    processor.word_splitting = choice.splitting if wanted is None else wanted
    if not choice.shares:
        return
    choice = SplittingChoice(processor.word_splitting, choice.shares)
    logger.info(choice.describe())
    if choice.shares[choice.splitting] < ENOUGH:
        logger.warning(
            f"word_splitting={choice.splitting!r} restores only {100 * choice.shares[choice.splitting]:.0f} % of the "
            "training tokens: give posts as tokens made in the same way, e.g. "
            'pipe({"text": text, "tokens": tokens})'
        )


__all__ = ["SplittingChoice", "choose_splitting", "fit_splitting", "write_text"]
