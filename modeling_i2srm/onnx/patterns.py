"""Patterns of the package `regex` as patterns of `re`, for the file that an exported folder carries.

The word patterns use properties and set operations that `re` does not have. Here all characters beyond ASCII are
grouped into classes, so that two characters of a class are in the same sets of all patterns. A text in which each
character is replaced by the symbol of its class is matched by the same patterns, with these sets as lists of symbols.
"""

import re
from functools import cache
from itertools import pairwise

import regex

from ..words import ENDS_UNSPACED, HAS_UNSPACED, SPLITTINGS

FIRST_CLASS = 0x80  # symbols of classes; ASCII characters stand for themselves
# The extended grapheme clusters of Unicode (UAX #29) as `regex` reads them, which writes \X; {name} is a set below. A
# consonant joins after a linker whatever is before that: `regex` does not ask for a consonant there.
CLUSTER = (
    r"(?:\r\n|{control}|{prepend}*(?:{l}*(?:{v}+|{lv}{v}*|{lvt}){t}*|{l}+|{t}+|{ri}{ri}"
    r"|{pict}(?:{extend}*{zwj}{pict})*|{linker}{joins}*{consonant}|{other})"
    r"(?:{link_after}{joins}*{consonant}|{after})*)"
)
AFTER = r"[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]"
CLUSTER_SETS = {
    "control": r"[\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]",
    "other": r"[^\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]",
    "prepend": r"\p{GCB=Prepend}",
    "l": r"\p{GCB=L}",
    "v": r"\p{GCB=V}",
    "t": r"\p{GCB=T}",
    "lv": r"\p{GCB=LV}",
    "lvt": r"\p{GCB=LVT}",
    "ri": r"\p{GCB=RI}",
    "pict": r"\p{ExtPict}",
    "extend": r"\p{GCB=Extend}",
    "zwj": r"\p{GCB=ZWJ}",
    "after": AFTER,
    "consonant": r"\p{InCB=Consonant}",
    "linker": r"\p{InCB=Linker}",
    "link_after": rf"[\p{{InCB=Linker}}&&{AFTER}]",
    "joins": rf"[[\p{{InCB=Extend}}\p{{InCB=Linker}}]&&{AFTER}]",
}
TOKEN = re.compile(r"\\[pP]\{[^}]*\}|\\.|.", re.DOTALL)


def split_pattern(pattern: str) -> list[tuple[str, bool]]:
    """The parts of a pattern in order, and whether each is a set of characters: [...], a property, white space.

    >>> split_pattern(r"(?V1)a?[[\\p{L}\\p{N}]--[xy]]+\\X")
    [('a', False), ('?', False), ('[[\\\\p{L}\\\\p{N}]--[xy]]', True), ('+', False), ('\\\\X', False)]
    """
    parts, depth = list[tuple[str, bool]](), 0
    for match in TOKEN.finditer(pattern.removeprefix("(?V1)")):
        token = match.group()
        if depth:
            parts[-1] = parts[-1][0] + token, True
        else:
            parts.append((token, token == "[" or token[:2] in (r"\p", r"\P", r"\s", r"\S")))
        depth += (token == "[") - (token == "]")
    return parts


@cache
def translate_patterns() -> dict:
    """The word patterns of the package for `re`.

    Returns:
        "patterns": by the name of a splitting a pair as in `SPLITTINGS`, and those called has_unspaced and
        ends_unspaced; "starts" and "symbols": the first code points of the runs of characters of a class, from 128 on,
        and the symbol of each run.
    """
    sources = {name: [pattern.pattern for pattern in pair] for name, pair in SPLITTINGS.items()}
    sources |= {"has_unspaced": [HAS_UNSPACED.pattern], "ends_unspaced": [ENDS_UNSPACED.pattern]}
    split = {name: [split_pattern(pattern) for pattern in pair] for name, pair in sources.items()}
    found = [part for pair in split.values() for parts in pair for part, is_set in parts if is_set]
    sets = list(dict.fromkeys([*found, *CLUSTER_SETS.values()]))
    ascii_members, starts, classes = members(sets)
    numbers = {one: chr(FIRST_CLASS + n) for n, one in enumerate(dict.fromkeys(classes))}

    def write(name: str) -> str:  # a set as a list of symbols
        place = sets.index(name)
        symbols = ascii_members[place] + "".join(symbol for one, symbol in numbers.items() if place in one)
        return f"[{re.escape(symbols)}]" if symbols else "(?!)"

    cluster = CLUSTER.format(**{name: write(one) for name, one in CLUSTER_SETS.items()})
    patterns = {
        name: ["".join(write(p) if is_set else cluster if p == r"\X" else p for p, is_set in parts) for parts in pair]
        for name, pair in split.items()
    }
    return {"patterns": patterns, "starts": starts, "symbols": "".join(numbers[one] for one in classes)}


def members(sets: list[str]) -> tuple[list[str], list[int], list[frozenset[int]]]:
    """The ASCII members of sets of characters; the first code points of runs that are in the same sets, and these."""
    characters = "".join(map(chr, range(0x110000)))
    runs = [[match.span() for match in regex.finditer(rf"(?V1)(?:{one})+", characters)] for one in sets]
    ascii_members = ["".join(c for c in map(chr, range(128)) if regex.match(f"(?V1){one}", c)) for one in sets]
    bounds = sorted({128, 0x110000, *(side for spans in runs for span in spans for side in span if side > 128)})
    of_bound: dict[int, set[int]] = {bound: set() for bound in bounds}
    for place, spans in enumerate(runs):
        inside, at = iter(spans), (0, 0)
        for bound in bounds:
            while at[1] <= bound and (following := next(inside, None)):
                at = following
            if at[0] <= bound < at[1]:
                of_bound[bound].add(place)
    starts, classes = list[int](), list[frozenset[int]]()
    for start, _ in pairwise(bounds):
        if not classes or of_bound[start] != classes[-1]:
            starts.append(start)
            classes.append(frozenset(of_bound[start]))
    return ascii_members, starts, classes


__all__ = ["translate_patterns"]
