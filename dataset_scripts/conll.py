"""Reads the text files of Twitter-2015 and Twitter-2017: one token and tag a line, an `IMGID:` line before each post.

IMGID:1015799
RT<tab>O
New<tab>B-LOC
Orleans<tab>I-LOC
<empty line>
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import NER_TAGS

SPELLINGS = {"B-OTHER": "B-MISC", "I-OTHER": "I-MISC"}


@dataclass
class ConllPost:
    """A post of the file: the name of its picture, its tokens and their tags."""

    image_id: str
    tokens: list[str]
    tags: list[str]


def read_conll(path: str | Path) -> Iterator[ConllPost]:
    """Yield the posts of a file with every token and every tag as they stand, except that OTHER is spelt MISC.

    Only the line feed ends a line and only the last tab of a line parts token and tag: tokens may be, or hold, any
    other white space (one token of Twitter-2015 is a lone U+00A0), so nothing is stripped. An `I-` tag without its
    `B-` stays. The empty line after the last post may be missing.

    Raises:
        ValueError: For a line that cannot be read, naming the file and the line.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason})") from None

    post, number, started = None, 0, 0
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        where = f"{path}, line {number}"
        if line.startswith("IMGID:") and "\t" not in line:
            if post is not None:
                yield checked(post, path, started)
            post, started = ConllPost(line.removeprefix("IMGID:"), [], []), number
            if not is_plain_name(post.image_id):
                raise ValueError(f"{where}: {post.image_id!r} cannot be the name of a picture")
        elif line == "":
            if post is not None:
                yield checked(post, path, started)
            post = None
        else:
            token, _, tag = line.rpartition("\t")
            tag = SPELLINGS.get(tag, tag)
            if tag not in NER_TAGS or not token:
                raise ValueError(f"{where}: expected a token, a tab and a tag, got {line[:80]!r}")
            if post is None:
                raise ValueError(f"{where}: a token before the IMGID line of its post: {line[:80]!r}")
            post.tokens.append(token)
            post.tags.append(tag)
    if post is not None:
        yield checked(post, path, started)


def checked(post: ConllPost, path: Path, line: int) -> ConllPost:
    """Return a post that has tokens, and raise `ValueError` for one that has none."""
    if not post.tokens:
        raise ValueError(f"{path}, line {line}: the post of picture {post.image_id} has no tokens")
    return post


def is_plain_name(name: str) -> bool:
    """Say whether a text can name a file in a folder and cannot lead out of that folder."""
    if not name.isprintable() or name.strip() != name or set(name) & set("/\\:"):
        return False
    return name not in ("", ".", "..") and len(name.encode()) <= 200


def count_entities(tags: Sequence[str]) -> tuple[Counter, Counter]:
    """Count the entities of a post per type, first strictly (a `B-` each), then leniently.

    The lenient count is the one of conlleval and of seqeval's default: an `I-` after another type, or after none,
    begins an entity too.
    """
    strict, lenient = Counter(), Counter()
    previous = None
    for tag in tags:
        prefix, _, type = tag.partition("-")
        strict[type] += prefix == "B"
        lenient[type] += prefix == "B" or (prefix == "I" and type != previous)
        previous = type
    return +strict, +lenient
