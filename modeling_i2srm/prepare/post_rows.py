"""Checks one row of a user's posts: its words, labels, picture and crops."""

from ..words import DEFAULT_SPLITTING, split_text
from .builder import is_text

COLUMNS = ("id", "text", "tokens", "ner_tags", "head", "tail", "relation", "image", "objects")
EXAMPLE = '{"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"], "image": "pictures/7.jpg"}'


def check_row(row: dict, labels: set[str]) -> dict:
    """Return the tokens, labels, picture and crops of a row; raise `ValueError` that names what is wrong."""
    tokens = row.get("tokens") or row.get("text")
    at_spaces = False
    if isinstance(tokens, str) and not row.get("tokens"):
        tokens, at_spaces = words_of_text(tokens, row, labels) if is_text(tokens) else ([tokens], False)
    if not is_word_list(tokens) or not tokens:
        raise ValueError(f"expected text, or tokens as a list of words, got {tokens!a:.80}; e.g. {EXAMPLE}")
    checked = {"tokens": tokens, "split_at_spaces": at_spaces}
    for name in ("id", "image"):
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int)) or not is_text(str(value)):
            raise ValueError(f"{name} must be a text, got {value!a:.80}")
        checked[name] = str(value) if value not in (None, "") else None
    checked["objects"] = row.get("objects") or []
    if not is_word_list(checked["objects"]):
        raise ValueError(f"objects must be a list of paths, got {checked['objects']!a:.80}")
    for name in labels:
        value = row.get(name)
        if value in (None, ""):
            raise ValueError(f"no {name}, which other rows have")
        if name == "ner_tags":
            if not is_word_list(value) or len(value) != len(tokens) or any(len(tag.split()) != 1 for tag in value):
                raise ValueError(
                    f"ner_tags must be {len(tokens)} BIO tags, one for each of {tokens!a:.80}, got {value!a:.80}"
                )
        elif name == "relation":
            if not isinstance(value, str) or not value.isprintable():
                raise ValueError(f"relation must be a printable text, got {value!a:.80}")
        else:
            bounds = [value.get("start"), value.get("end")] if isinstance(value, dict) else value
            if not isinstance(bounds, list) or [type(bound) for bound in bounds] != [int, int]:
                raise ValueError(f'{name} must be {{"start": 0, "end": 2}}, got {value!a:.80}')
            if not 0 <= bounds[0] < bounds[1] <= len(tokens):
                raise ValueError(f"{name} must be within the {len(tokens)} words, got {bounds}")
            value = dict(zip(("start", "end"), bounds, strict=True))
        checked[name] = value
    return checked


def words_of_text(text: str, row: dict, labels: set[str]) -> tuple[list[str], bool]:
    """The words of a text, and whether they are those between white space because the labels of the row are.

    The words are those of `split_text`. Where they are more than those between white space, as in "(Paris),", and the
    row has a tag for each of the latter, the annotator's words are kept; head and tail count these words too.
    """
    words, pieces = ([word.text for word in split_text(text, name)] for name in (DEFAULT_SPLITTING, "spaces"))
    tags = row.get("ner_tags") if "ner_tags" in labels else None
    tagged = isinstance(tags, list) and len(tags) == len(pieces)
    at_spaces = words != pieces and (tagged or "head" in labels)
    return (pieces if at_spaces else words), at_spaces


def is_word_list(words) -> bool:
    """Whether a value is a list of texts that can be stored."""
    return isinstance(words, list) and all(isinstance(word, str) and word and is_text(word) for word in words)
