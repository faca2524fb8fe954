"""Checks of arguments and scores: labels, the label for no relation, words, lists, numbers that are whole or finite."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import SupportsIndex, TypeGuard

import torch

NO_RELATION = "None"  # label of a pair without a relation
ON_IMAGE_ERROR = (None, "warn", "raise")  # what pipelines may do about a picture that cannot be read
IGNORE = -100  # label of positions that are not the first sub-token of a word

# What data sets call a pair without a relation, in lower case and without spaces, hyphens, points and slashes.
NO_RELATION_NAMES = {"", "na", "nan", "nil", "none", "null", "norel", "norelation", "norelations", "norelationship"}
NO_RELATION_NAMES |= {"nonrelation", "notrelated", "unrelated", "negative"}
PERHAPS_NO_RELATION = {"other", "others"}  # only where no label has one of those names


def names_no_relation(label: str) -> bool:
    """Whether a label is one of the names for no relation: no_relation, NA, N/A, none, null, "" ... in any case."""
    return short_name(label) in NO_RELATION_NAMES


def short_name(label: str) -> str:
    return re.sub(r"[\s_./-]+", "", label).lower() or label.strip()


def no_relation_labels(names: Iterable[str], none_label: str | None = None) -> set[str]:
    """The labels that stand for no relation: no metric counts them, and an Extractor gives no triple of them.

    These are None; without a label None those that `names_no_relation` knows; and without these Other.

    Args:
        names: all labels.
        none_label: the label to take instead, if the names do not say which it is.

    Raises:
        ValueError: `none_label` is not one of the labels.

    >>> no_relation_labels(["peer", "no_relation"]), no_relation_labels(["Other", "peer"])
    ({'no_relation'}, {'Other'})
    >>> no_relation_labels(["Other", "None", "peer"]), no_relation_labels(["peer", "rest"], "rest")
    ({'None'}, {'rest'})
    """
    names = list(dict.fromkeys(names))
    if none_label is not None and none_label not in names:
        raise ValueError(f"none_label {none_label!r} is not one of the labels {names!r:.300}")
    if none_label is not None or NO_RELATION in names:
        return {NO_RELATION if none_label is None else none_label}
    certain = {name for name in names if names_no_relation(name)}
    return certain or {name for name in names if short_name(name) in PERHAPS_NO_RELATION}


def label_id(tag: str | SupportsIndex, label2id: Mapping[str, int] | None = None) -> int:
    """The id of a label given as an id or, with `label2id`, as a name.

    Raises:
        ValueError: an unknown name, or an id that is neither -100 nor, with `label2id`, one of its ids.
    """
    if isinstance(tag, str):
        if label2id is None or tag not in label2id:
            if label2id is None:
                raise ValueError(
                    f"label {str(tag)!r} is a name and no label2id was given; e.g. label2id=model.config.label2id"
                )
            raise ValueError(f"unknown label {str(tag)!r} (known: {', '.join(label2id)})")
        return label2id[tag]
    try:
        label = operator.index(tag)
        if isinstance(tag, bool):
            raise TypeError
    except TypeError:
        raise ValueError(f"label {tag!r} is neither an id nor a name, e.g. ner_tags=[1, 0] or relation=1") from None
    highest = 2**31 - 1 if label2id is None else max(label2id.values(), default=-1)
    if label != IGNORE and not 0 <= label <= highest:
        known = "" if label2id is None else f" to {highest} ({', '.join(label2id)})"
        raise ValueError(f"label {label} is not an id: expected 0{known or ' or more'}, or {IGNORE} for no label")
    return label


def check_words(tokens: object) -> list[str]:
    """The words of a list or an array of words; raises a `ValueError` for anything else."""
    if not is_listing(tokens) or not all(isinstance(word, str) for word in tokens):
        raise ValueError(f'tokens={tokens!r:.200} is not a list of words, e.g. tokens=["Kobe", "lands", "in", "Paris"]')
    return tokens if isinstance(tokens, list) else [str(word) for word in tokens]


def check_whole_number(name: str, value: object, low: int) -> None:
    """Raise a `ValueError` unless a setting is an integer of `low` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name}={value!r} must be an integer of {low} or more, e.g. {name}={max(low, 3)}")


def check_threshold(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name}={value!r} must be between 0 and 1, e.g. {name}=0.5")


def check_sub_tokens(**values: object) -> None:
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{name}={value!r} must be a number of sub-tokens, e.g. {name}=32")


def check_on_image_error(on_image_error: object) -> None:
    if on_image_error not in ON_IMAGE_ERROR:
        raise ValueError(f"on_image_error={on_image_error!r} must be one of {', '.join(map(repr, ON_IMAGE_ERROR))}")


def is_missing(value: object) -> bool:
    """Whether a value stands for no value: `None`, NaN, or what pandas has for them.

    >>> [is_missing(value) for value in (None, float("nan"), 0, "", [])]
    [True, True, False, False, False]
    """
    if isinstance(value, Real):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def is_listing(values: object) -> TypeGuard[Sequence]:
    """Whether something is a list, tuple or array, not one picture given as a path, bytes or a dict."""
    return hasattr(values, "__len__") and not isinstance(values, (str, bytes, dict))


def check_finite(scores: torch.Tensor, mask: torch.Tensor | None = None, names: Callable | None = None) -> None:
    """Raise a `ValueError` where scores are NaN or infinite: no label could be told from them.

    Args:
        scores: (B, N), or (B, W, N) of words.
        mask: (B, W), 1 on the words; the others may hold anything.
        names: gives what the error calls each of the B posts; default their places in the batch.
    """
    finite = scores.isfinite().all(-1)
    if mask is not None:
        finite = finite | ~mask.bool()
    rows = (~finite.view(len(finite), -1).all(1)).nonzero()[:, 0].tolist()
    if rows:
        called = names and names()
        posts = ", ".join(f"{called[row]!r:.100}" for row in rows) if called else f"{rows} of the batch"
        raise ValueError(
            f"the logits of the posts {posts} are NaN or infinite: check their pictures (pixel_values, "
            "visual_features) and the model's weights for such numbers, or compute in float32, e.g. model.float()"
        )


__all__ = [
    "IGNORE",
    "NO_RELATION",
    "check_finite",
    "check_on_image_error",
    "check_sub_tokens",
    "check_threshold",
    "check_whole_number",
    "check_words",
    "is_listing",
    "is_missing",
    "label_id",
    "names_no_relation",
    "no_relation_labels",
]
