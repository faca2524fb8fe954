"""Cuts posts into train, validation and test so that equal texts and equal pictures are in one split."""

import random
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

from ..support.digests import hash_file

SPLITS = ("train", "validation", "test")
SIZES = (0.8, 0.1, 0.1)


def text_key(tokens: Sequence[str]) -> str:
    """Return what equal texts share: the words without capitals, spaces and kinds of characters."""
    return "".join(unicodedata.normalize("NFKC", "".join(tokens)).casefold().split())


def picture_keys(names: Sequence[tuple[str | None, Path | None]]) -> list[str | None]:
    """Return what equal pictures share: the digest of the file, or the name of an absent picture.

    Args:
        names: name and file of the picture of each post. Only files of the same size are read.
    """
    sizes: dict[int, set[Path]] = defaultdict(set)
    for _, path in names:
        if path is not None:
            sizes[path.stat().st_size].add(path)
    digests = {path: hash_file(path) for paths in sizes.values() if len(paths) > 1 for path in paths}
    return [name if path is None else digests.get(path, str(path)) for name, path in names]


def group_posts(keys: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Return the numbers of posts in groups: posts that share a key, directly or through others, are in one group."""
    parents = list(range(len(keys)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    first: dict[Hashable, int] = {}
    for number, shared in enumerate(keys):
        for key in shared:
            parents[root(number)] = root(first.setdefault(key, number))
    groups: dict[int, list[int]] = defaultdict(list)
    for number in range(len(keys)):
        groups[root(number)].append(number)
    return list(groups.values())


def cut(groups: Sequence[Sequence[int]], sizes: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Distribute groups over splits; each split gets a group at least where there are enough.

    Args:
        groups: the numbers of the posts of each group.
        sizes: the share of each split; the first takes what does not fit into the others.
        seed: of the order of the groups.

    Returns:
        The numbers of the posts of each split, in their order; a split is empty where no group fits.
    """
    order = list(groups)
    random.Random(seed).shuffle(order)
    total, count = sum(sizes.values()), sum(map(len, groups))
    first, *others = sizes
    result: dict[str, list[int]] = {split: [] for split in sizes}
    for split in reversed(others):
        wanted = max(1, round(count * sizes[split] / total)) if sizes[split] else 0
        rest = []
        for group in order:
            if len(result[split]) + len(group) <= wanted:
                result[split].extend(group)
            else:
                rest.append(group)
        order = rest
    result[first] = [number for group in order for number in group]
    return {split: sorted(numbers) for split, numbers in result.items()}


def check_sizes(sizes: Sequence[float]) -> dict[str, float]:
    """Return the share of each split; raise `ValueError` for shares that are not three numbers or less than zero."""
    if len(sizes) != 3 or min(sizes) < 0 or not 0 < sizes[0] or not sum(sizes) < float("inf"):
        shown = " ".join(map(str, sizes))
        raise ValueError(f"--split_sizes {shown}: expected the shares of train, validation and test, e.g. 0.8 0.1 0.1")
    return dict(zip(SPLITS, sizes, strict=True))


def describe_cut(file: str, splits: dict[str, list[int]], groups: Sequence[Sequence[int]], seed: int) -> str:
    """Return a sentence about what was cut, and the largest group."""
    shown = ", ".join(f"{split} {len(numbers):,}" for split, numbers in splits.items())
    largest = max(map(len, groups))
    return (
        f"{file} was cut into {shown} posts (--split_seed {seed}); posts with the same text or picture are in the same "
        f"split: {len(groups):,} groups, the largest of {largest:,}"
    )
