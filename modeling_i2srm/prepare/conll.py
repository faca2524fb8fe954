"""Reads the text files of Twitter-2015 and Twitter-2017: one token and tag per line, an `IMGID:` line before each post.

IMGID:1015799
RT<tab>O
New<tab>B-LOC
Orleans<tab>I-LOC
<empty line>
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .picture_files import is_plain_name

SPELLINGS = {"B-OTHER": "B-MISC", "I-OTHER": "I-MISC"}
BIO_TAG = re.compile(r"O|[BI]-[^\s]+")


@dataclass
class Problem:
    """A raw line that could not be read: its file, its number (from 1) and the reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass
class ConllPost:
    """A post of the file: the name of its picture, its tokens and tags, and its first line."""

    image_id: str | None
    tokens: list[str]
    tags: list[str]
    line: int = field(default=0, compare=False)


@dataclass
class ConllFile:
    """The contents of a file: its posts, the lines that could not be read, the counts of irregularities, and notes.

    The columns are the number of columns and the position of the tags, from 1, where they were recognised.
    """

    posts: list[ConllPost]
    problems: list[Problem]
    irregularities: Counter
    notes: list[str] = field(default_factory=list)
    columns: tuple[int, int] | None = None


def read_conll(path: str | Path, tag_names: Collection[str] | None = None) -> ConllFile:
    """Read the posts of a file; tokens and tags stay as they are, except that OTHER becomes MISC.

    Only the line feed ends a line and only the last tab of a line separates token and tag: tokens may be or contain any
    other white space (one token of Twitter-2015 is a lone U+00A0), so nothing is stripped. An `I-` tag without its
    `B-` stays. Tokens without an `IMGID:` line before them are a post without a picture. A line that cannot be read is
    left out of its post and listed among the problems; a post without any token is listed, too. For other files see
    `read_conll_columns`.

    Args:
        path: The file, in UTF-8.
        tag_names: The tags that may occur; by default O and any `B-` and `I-`.
    """
    path = Path(path)
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    file = ConllFile([], [], Counter())
    post = None
    for number, raw in enumerate(content.split(b"\n"), start=1):
        file.irregularities["lines that end in CR LF"] += raw.endswith(b"\r")
        raw = raw.removesuffix(b"\r")
        if raw.startswith(b"IMGID:") and b"\t" not in raw:
            close_post(path.name, post, file)
            post = begin_post(path.name, number, raw, file)
        elif raw == b"":
            close_post(path.name, post, file)
            post = None
        elif word := read_word(path.name, number, raw, tag_names, file):
            if post is None:
                file.irregularities["posts without an IMGID line"] += 1
                post = ConllPost(None, [], [], number)
            post.tokens.append(word[0])
            post.tags.append(word[1])
    close_post(path.name, post, file)
    file.irregularities["missing last line feed"] += bool(content) and not content.endswith(b"\n")
    file.irregularities["missing empty line after the last post"] += not content.replace(b"\r", b"").endswith(b"\n\n")
    file.irregularities = +file.irregularities
    return file


def begin_post(name: str, number: int, raw: bytes, file: ConllFile) -> ConllPost:
    """Return the post that an `IMGID:` line begins; a picture name that cannot be one is listed and left out."""
    try:
        image_id = raw.decode().removeprefix("IMGID:")
    except UnicodeDecodeError as error:
        file.problems.append(Problem(name, number, f"not UTF-8 ({error.reason}): {raw[:80]!r}"))
        return ConllPost(None, [], [], number)
    if not is_plain_name(image_id):
        file.problems.append(Problem(name, number, f"{image_id[:74]!r} cannot be the name of a picture"))
        return ConllPost(None, [], [], number)
    return ConllPost(image_id, [], [], number)


def read_word(
    name: str, number: int, raw: bytes, tag_names: Collection[str] | None, file: ConllFile
) -> tuple[str, str] | None:
    """Return token and tag of a line, or list the line and return `None`."""
    try:
        token, _, tag = raw.decode().rpartition("\t")
    except UnicodeDecodeError as error:
        file.problems.append(Problem(name, number, f"not UTF-8 ({error.reason}): {raw[:80]!r}"))
        return None
    if tag in SPELLINGS:
        file.irregularities["tags spelt OTHER, stored as MISC"] += 1
        tag = SPELLINGS[tag]
    if token and (tag in tag_names if tag_names is not None else BIO_TAG.fullmatch(tag)):
        return token, tag
    file.problems.append(Problem(name, number, f"expected a token, a tab and a tag, got {raw.decode()[:80]!r}"))
    return None


def close_post(name: str, post: ConllPost | None, file: ConllFile) -> None:
    """Add a post to those of the file; one without tokens is listed."""
    if post is not None and not post.tokens:
        file.problems.append(Problem(name, post.line, f"the post of picture {post.image_id} has no tokens"))
    elif post is not None:
        file.posts.append(post)


def count_entities(tags: Sequence[str]) -> tuple[Counter, Counter]:
    """Count the entities of a post per type, first strictly (one per `B-`), then leniently.

    The lenient count is that of conlleval and seqeval's default: an `I-` after another type or after `O` begins an
    entity, too.
    """
    strict: Counter = Counter()
    lenient: Counter = Counter()
    previous = None
    for tag in tags:
        prefix, _, type = tag.partition("-")
        strict[type] += prefix == "B"
        lenient[type] += prefix == "B" or (prefix == "I" and type != previous)
        previous = type
    return +strict, +lenient
