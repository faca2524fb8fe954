"""Refuse phrases that a stranger stumbles over, and name plain ones (part of `make lint`).

    python tests/plain_words.py [FOLDER]

Reviewers add to PHRASES what they find. A tree without .git, such as an unpacked source distribution, is not checked.
"""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("*.py", "*.md", "*.cfg", "*.toml", "Makefile", "*/Makefile")
# Saved by older versions, and the lists themselves.
SKIPPED = ("tests/artifacts/*", "tests/plain_words.py", "tests/project/test_plain_words.py")
# Files that still hold such phrases: remove a line when its file is rewritten.
EXEMPT = (
    "docs/figures/draw_architecture.py",  # text inside a figure
    "tests/bad_inputs/make.py",  # bytes of broken pictures
)
OLD_CHANGES = "## 0.1.0"  # the sections of CHANGELOG.md from here on stay as they are
NOUNS = (
    "columns?|crops?|curves?|dicts?|gates?|labels?|lines?|lists?|models?|numbers?|pictures?|posts?|rows?|slots?|tags?"
)
UNITS = "answer|batch|call|crop|label|layer|line|number|pair|picture|post|row|run|second|sentence|setting|value|word"
THINGS = "checkpoint|dict|file|folder|JSON|list|number|Parquet|path|picture|post|setting|shard|span|str|text|whole|word"
# Regular expression without regard to capitals, a space for any gap -> what to write instead.
PHRASES = {
    r"gone on with": "resumed",
    r"(?<!\}\s)goes on|(?:to|can|then) go on|go on (?:with|from)": "continues, or is resumed",
    r"anew": "again",
    r"torn": "damaged",
    r"cut or broken": "truncated or damaged",
    r"cut off": "truncated, or interrupted",
    r"passe[ds] over": "skipped, or ignored",
    r"comes? by hand|how to come by": "get, or download",
    r"for want of": "without, or: as ... is missing",
    r"is none of": "must be one of",
    r"that (?:is|are) none": "invalid",
    rf"(?<!here\s)is no (?:{THINGS})": "is not a",
    r"(?:and|of) the like": "the things themselves",
    r"of equals": "among equal values",
    r"(?:so|as) far as": "if, or: until",
    r"what it raises": "its errors",
    rf"(?:an?|one) (?:{NOUNS}) an? (?:{UNITS})": "per: one dict per row",
    r"(?:bytes|seconds|values) an? (?:batch|number|picture|post|value)": "per: bytes per picture",
    r"posts a (?:batch|second)|(?:crops|pictures|slots) an? (?:batch|picture|post)": "per: crops per picture",
    r"stands? (?:before|beside|in|on|there)": "is",
    r"lies? (?:below|beside|in|outside|with)": "is",
    r"as (?:it stands|they stand)": "unchanged",
    r"of one's own": "your own, or: user-defined",
    r"guilty|what_is_\w+|where_it_\w+": "a noun: bad rows, damage, PROVENANCE_KEYS",
    rf"one an? (?:{UNITS}|core|entity|GPU|object|relation)|once an? (?:{UNITS})": "one per, or once per",
    r"all told": "in total",
    r"parted by": "separated by",
    r"(?:is|are|was|were) gone(?! on)|gone before": "removed, or missing",
    r"by heart": "memorise",
    r"of its like|of their like": "similar",
    r"however often|however \w+ interrupted": "resumable",
    r"(?:over|under|beyond) the bound of": "exceeds",
    r"must lie": "must be",
    r"all that is odd|oddities": "irregularities",
    r"goes? on to the same": "bit-identical",
    r"kept by all that": "cached by its settings",
    r"those that occur": "collected from your data",
    r"(?:would )?tell from chance|beyond the sample of": "significantly different",
    r"held against": "compared with",
    r"worth (?:its|their) place": "helps, or: improves the score",
    r"what the \w+ (?:is|are) worth": "the effect of",
    r"beside other work": "with other work running",
    r"said once": "shown once",
    r"asked (?:with|without) (?:its|their|the|any)? ?pictures?": "tested with, or without",
}
GAP = r"""(?:\s|#|"\s*f?")+"""  # also the end of a line of a comment or of a string


def find_phrases(text: str) -> list[tuple[int, str, str]]:
    """The phrases of a text that PHRASES names, as (line from 1, phrase, what to write instead), in their order."""
    places = [
        (match.start(), re.sub(GAP, " ", match[0]), better)
        for phrase, better in PHRASES.items()
        for match in re.finditer(rf"\b(?:{phrase})\b".replace(" ", GAP), text, re.IGNORECASE)
    ]
    return [(text.count("\n", 0, start) + 1, phrase, better) for start, phrase, better in sorted(places)]


def is_checked(path: str) -> bool:
    """Whether a tracked file is one of those that this project's own words are in."""
    return any(fnmatchcase(path, pattern) for pattern in FILES) and not any(
        fnmatchcase(path, pattern) for pattern in (*SKIPPED, *EXEMPT)
    )


def main(root: Path) -> int:
    """Print the phrases in the tracked files; 1 if there are any."""
    if not (root / ".git").exists():
        print(f"{root} is not a git repository: its words are not checked")
        return 0
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, stdout=subprocess.PIPE).stdout
    hits = 0
    for path in filter(is_checked, listed.decode().split("\0")):
        if not (root / path).is_file():
            continue
        text = (root / path).read_text(encoding="utf-8")
        if path == "CHANGELOG.md":
            text = text.partition(OLD_CHANGES)[0]
        for line, phrase, better in find_phrases(text):
            print(f'{path}:{line}: "{phrase}" -> {better}', file=sys.stderr)
            hits += 1
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
