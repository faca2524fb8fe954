"""Finds texts and pictures that two splits share, the same and similar ones, and whether their labels agree, too."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from ..prepare.mvsa import find_near
from .audit_cues import labels_of_row
from .audit_data import Split

SIMILAR = 0.9  # cosine of the tf-idf of words
LEAST_WORDS = 5  # of texts that are compared so
LEAST_BITS = 13  # of 256; a picture with fewer bits of one kind has too little structure to be compared
TOGETHER = 1024  # texts
Links = Mapping[Hashable, set[Hashable]]


def words_of(row: dict) -> list[str]:
    """The words of a row."""
    return row["tokens"] if row.get("tokens") is not None else str(row.get("text") or "").split()


def near_text(tokens: list[str]) -> str:
    """Normalize a text for comparison: ignore capitals, URLs and names after an @."""
    text = re.sub(r"https?\s*:\s*/\s*/\s*\S+", "<url>", " ".join(tokens).lower())
    return re.sub(r"@\s*\w+", "<name>", text)


def own_text(tokens: list[str]) -> str | None:
    """The normalised text; `None` without a word beside URLs and names after an @, as two such posts share nothing."""
    text = near_text(tokens)
    return text if re.search(r"\w", re.sub("<name>|<url>", "", text)) else None


def overlaps(items: Mapping[str, Sequence[Hashable]]) -> dict[str, dict[str, int]]:
    """Count, for each two splits, the distinct items in both (without None) and the rows of the second with one."""
    counts = {}
    for a, b in combinations(items, 2):
        shared = set(items[a]) & set(items[b]) - {None}
        counts[f"{a}/{b}"] = {"distinct": len(shared), "rows of the second": sum(item in shared for item in items[b])}
    return counts


def audit_overlap(splits: dict[str, Split]) -> dict[str, dict]:
    """Count what two splits have in common: texts and pictures, equal and similar ones, and their labels.

    Returns:
        For each two splits, what is compared -> distinct items of the second that the first has too, and rows of the
        second with one. "rows with any of these" also says how many of these rows have all labels of such a row.
    """
    texts = {split: [words_of(row) for row in data.rows] for split, data in splits.items()}
    near = {split: [own_text(tokens) for tokens in rows] for split, rows in texts.items()}
    contents = {split: [image and image.digest for image in data.images] for split, data in splits.items()}
    compared: dict[str, Mapping[str, Sequence[Hashable]]] = {
        "texts": {split: [tuple(tokens) for tokens in rows] for split, rows in texts.items()},
        "texts but for capitals, URLs and @names": near,
        "pictures of the same name": {split: data.pictures for split, data in splits.items()},
    }
    results: defaultdict[str, dict] = defaultdict(dict)
    if number := sum(len(count_files(data)) for data in splits.values()):
        compared[f"pictures of the same content ({number} files)"] = contents
    for name, items in compared.items():
        for pair, entry in overlaps(items).items():
            results[pair][name] = entry
    similar, alike = similar_texts(near), similar_pictures(splits)
    for a, b in combinations(splits, 2):
        entries = results[f"{a}/{b}"]
        entries["similar texts"] = count_linked(similar, near[a], near[b])
        if number:
            entries["similar pictures"] = count_linked(alike, contents[a], contents[b])
        entries["rows with any of these"] = count_twins(
            splits[a], splits[b], [(similar, near[a], near[b]), (alike, contents[a], contents[b])]
        )
    return dict(results)


def count_files(split: Split) -> set[tuple[str | None, str]]:
    """The pictures of a split that could be read: name and content."""
    return {(image.name, image.digest) for image in split.images if image and image.digest}


def similar_texts(texts: Mapping[str, Sequence[str | None]]) -> Links:
    """Each text -> those of other splits that are similar; `None` is like no text."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for split, rows in texts.items():
        for text in rows:
            if text is not None and len(text.split()) >= LEAST_WORDS:
                owners[text].add(split)
    names = list(owners)
    links: defaultdict[Hashable, set[Hashable]] = defaultdict(set)
    if not names:
        return links
    vectors = TfidfVectorizer(token_pattern=r"\S+", lowercase=False, dtype=np.float32).fit_transform(names)
    for first, second in combinations(texts, 2):
        these, those = (np.array([i for i, n in enumerate(names) if split in owners[n]]) for split in (first, second))
        if not len(these) or not len(those):
            continue
        mine = vectors[these].T.tocsr()
        for start in range(0, len(those), TOGETHER):
            some = those[start : start + TOGETHER]
            product = (vectors[some] @ mine).tocoo()
            for row, column in zip(*(part[product.data >= SIMILAR] for part in product.coords), strict=True):
                link(links, names[some[row]], names[these[column]])
    return links


def similar_pictures(splits: Mapping[str, Split]) -> Links:
    """The content of each picture -> those whose difference hashes differ in 10 or fewer of 256 bits."""
    hashes = {
        image.digest: image.hash
        for data in splits.values()
        for image in data.images
        if image and image.hash is not None and LEAST_BITS <= image.hash.sum() <= len(image.hash) - LEAST_BITS
    }
    digests = list(hashes)
    links: defaultdict[Hashable, set[Hashable]] = defaultdict(set)
    for a, b in find_near([hashes[digest] for digest in digests]):
        link(links, digests[a], digests[b])
    return links


def link(links: defaultdict[Hashable, set[Hashable]], one: Hashable, other: Hashable) -> None:
    if one != other:
        links[one].add(other)
        links[other].add(one)


def count_linked(links: Links, first: Sequence[Hashable], second: Sequence[Hashable]) -> dict[str, int]:
    """Count the items of the second that are like another one of the first, but not in it."""
    known = set(first)
    shared = {item for item in set(second) - known if links.get(item, set()) & known}
    return {"distinct": len(shared), "rows of the second": sum(item in shared for item in second)}


def count_twins(
    first: Split, second: Split, compared: Iterable[tuple[Links, Sequence[Hashable], Sequence[Hashable]]]
) -> dict[str, int]:
    """Count the rows of the second with the text or picture, or a similar one, of a row of the first.

    Args:
        compared: links between items, and the items of the rows of both.
    """
    twins: list[set[int]] = [set() for _ in second.rows]
    for links, items, others in compared:
        places: defaultdict[Hashable, set[int]] = defaultdict(set)
        for number, item in enumerate(items):
            if item is not None:
                places[item].add(number)
        for mine, other in zip(twins, others, strict=True):
            for item in {other, *links.get(other, ())} & places.keys():
                mine |= places[item]
    labels = [labels_of_row(row) for row in first.rows]
    agreeing = sum(
        any(labels[twin] == labels_of_row(row) for twin in mine) for mine, row in zip(twins, second.rows, strict=True)
    )
    return {"rows of the second": sum(map(bool, twins)), "with its labels": agreeing, "of": len(twins)}


__all__ = ["audit_overlap", "near_text", "overlaps", "words_of"]
