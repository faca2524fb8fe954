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
    """The contents of a file: its posts, the lines that could not be read, and the counts of oddities."""

    posts: list[ConllPost]
    problems: list[Problem]
    irregularities: Counter


def read_conll(path: str | Path, tag_names: Collection[str] | None = None, columns: bool = False) -> ConllFile:
    """Read the posts of a file; tokens and tags stay as they are, except that OTHER becomes MISC.

    Only the line feed ends a line and only the last tab of a line separates token and tag: tokens may be or contain any
    other white space (one token of Twitter-2015 is a lone U+00A0), so nothing is stripped. An `I-` tag without its
    `B-` stays. Tokens without an `IMGID:` line before them are a post without a picture. A line that cannot be read is
    left out of its post and listed among the problems; a post without any token is listed, too.

    Args:
        path: The file, in UTF-8.
        tag_names: The tags that may occur; by default O and any `B-` and `I-`.
        columns: Read lines of two or more columns, separated by tabs or spaces: the first is the token, the last the
            tag, and OTHER stays OTHER.
    """
    path = Path(path)
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    posts, problems, irregularities = [], [], Counter()
    post = None

    def close():
        if post is not None and not post.tokens:
            problems.append(Problem(path.name, post.line, f"the post of picture {post.image_id} has no tokens"))
        elif post is not None:
            posts.append(post)

    for number, raw in enumerate(content.split(b"\n"), start=1):
        irregularities["lines that end in CR LF"] += raw.endswith(b"\r")
        raw = raw.removesuffix(b"\r")
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            problems.append(Problem(path.name, number, f"not UTF-8 ({error.reason}): {raw[:80]!r}"))
            if raw.startswith(b"IMGID:") and b"\t" not in raw:
                close()
                post = ConllPost(None, [], [], number)
            continue
        if line.startswith("IMGID:") and "\t" not in line:
            close()
            post = ConllPost(line.removeprefix("IMGID:"), [], [], number)
            if not is_plain_name(post.image_id):
                problems.append(Problem(path.name, number, f"{line[6:80]!r} cannot be the name of a picture"))
                post.image_id = None
        elif line == "":
            close()
            post = None
        else:
            token, _, tag = line.rpartition("\t")
            if columns:
                cells = line.split("\t") if "\t" in line else line.split()
                token, tag = (cells[0], cells[-1]) if len(cells) > 1 else ("", "")
                if token == "-DOCSTART-":
                    irregularities["-DOCSTART- lines, left out"] += 1
                    continue
            elif tag in SPELLINGS:
                irregularities["tags spelt OTHER, stored as MISC"] += 1
                tag = SPELLINGS[tag]
            known = tag in tag_names if tag_names is not None else BIO_TAG.fullmatch(tag)
            if not known or not token:
                problems.append(Problem(path.name, number, f"expected a token, a tab and a tag, got {line[:80]!r}"))
                continue
            if post is None:
                irregularities["posts without an IMGID line"] += 1
                post = ConllPost(None, [], [], number)
            post.tokens.append(token)
            post.tags.append(tag)
    close()
    irregularities["missing last line feed"] += bool(content) and not content.endswith(b"\n")
    irregularities["missing empty line after the last post"] += not content.replace(b"\r", b"").endswith(b"\n\n")
    return ConllFile(posts, problems, +irregularities)


def count_entities(tags: Sequence[str]) -> tuple[Counter, Counter]:
    """Count the entities of a post per type, first strictly (one per `B-`), then leniently.

    The lenient count is that of conlleval and seqeval's default: an `I-` after another type or after `O` begins an
    entity, too.
    """
    strict, lenient = Counter(), Counter()
    previous = None
    for tag in tags:
        prefix, _, type = tag.partition("-")
        strict[type] += prefix == "B"
        lenient[type] += prefix == "B" or (prefix == "I" and type != previous)
        previous = type
    return +strict, +lenient
