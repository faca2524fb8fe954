"""Reads users' CoNLL files: a word a line, its columns between tabs or spaces, and an empty line after each post."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.tag_schemes import FORMS, OUTSIDE
from .conll import ConllFile, ConllPost, Problem
from .picture_files import is_plain_name
from .text_files import read_text, split_lines, undecodable

COMMENT = re.compile(r"#[ \t]*[\w.:-]+[ \t]+=([ \t]|$)")  # `# sent_id = 3` of CoNLL-U
NUMBER = re.compile(r"\d{1,9}")
NOT_A_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # the multiword tokens and empty nodes of CoNLL-U
CONLLU_COLUMNS = 10
LEFT_OUT = "posts left out for a line that cannot be read"


@dataclass
class Line:
    """A line of a word: its number (from 1) and its columns."""

    number: int
    cells: list[str]


@dataclass
class Block:
    """The lines of a post, from its first to the empty line that ends it."""

    number: int
    image_id: str | None = None
    lines: list[Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    has_head: bool = False


def read_conll_columns(path: str | Path, encoding: str | None = None, tag_column: int | None = None) -> ConllFile:
    """Read the posts of a file of two or more columns; words and tags stay as they are.

    The word is in the first column and its tag in the last, except in the cases that `choose_columns` knows. Columns
    are separated by tabs, in lines without a tab by spaces. A line of white space ends a post. Comments, `-DOCSTART-`
    lines, a first column of word numbers, and the multiword tokens and empty nodes of CoNLL-U are left out. A post with
    a line that cannot be read or has another number of columns than most lines is left out and listed.

    Args:
        path: The file.
        encoding: Its encoding, where it is known; see `read_text`.
        tag_column: The number of the tags' column, from 1; by default it is recognised.

    Raises:
        ValueError: The file has no such column, or is CoNLL-U without entity tags.
    """
    path = Path(path)
    irregularities: Counter = Counter()
    text = read_text(path, encoding, irregularities)
    irregularities["lines that end in CR LF"] += text.count("\r\n")
    blocks = find_blocks(path.name, split_lines(text), irregularities)
    lines = [line for block in blocks for line in block.lines]
    width = most_common_width(lines)
    numbered = has_numbers(blocks, width)
    notes: list[str] = []
    word, tag = find_columns(path.name, lines, width, numbered, tag_column, notes)
    if numbered:
        irregularities["word numbers in the first column, left out"] += len(lines)
    posts, problems = [], []
    for block in blocks:
        post = make_post(path.name, block, width, word, tag, numbered, irregularities)
        problems += block.problems
        if post is not None:
            posts.append(post)
    columns = (width, tag % width + 1) if posts and tag_column is None else None
    return ConllFile(posts, problems, +irregularities, [f"{path.name}: {note}" for note in notes], columns)


def find_columns(
    file: str, lines: Sequence[Line], width: int, numbered: bool, tag_column: int | None, notes: list[str]
) -> tuple[int, int]:
    """Return the columns of words and tags, from 0, and add a note where others are possible.

    Args:
        tag_column: the column of the tags, from 1, where it is known.
    """
    word, rows = int(numbered), [line.cells for line in lines if len(line.cells) == width]
    if tag_column is not None:
        word, tag = word or int(tag_column == 1), tag_column - 1
        if not 0 <= tag < width or tag == word:
            raise ValueError(f"{file}: --tag_column {tag_column}, but the file has {width} columns")
        return word, tag
    if not rows:
        return word, width - 1
    if not numbered:
        return choose_columns(rows, notes)
    words = [cells for cells in rows if NUMBER.fullmatch(cells[0])] or rows
    if width == CONLLU_COLUMNS and not is_tag_column(words, width - 1):
        notes.append(f"the tags are {move_misc_tags(file, lines, words)}= of the last column (CoNLL-U)")
        return word, width - 1
    return word, choose_tag_column(words, 2, notes)


def find_blocks(file: str, lines: Sequence[str], irregularities: Counter) -> list[Block]:
    """Return the posts of a file with the columns of their lines; comments and -DOCSTART- lines are left out."""
    rows = [split_cells(line) for line in lines]
    words = [cells for line, cells in zip(lines, rows, strict=True) if line.strip() and line[0] != "#"]
    width, tags = most_common_width([Line(0, cells) for cells in words]), {*OUTSIDE, *(cells[-1] for cells in words)}
    blocks: list[Block] = []
    block = None

    def begin(number: int, has_head: bool = False) -> Block:
        blocks.append(Block(number, has_head=has_head))
        return blocks[-1]

    for number, (line, cells) in enumerate(zip(lines, rows, strict=True), start=1):
        if line.startswith("\ufeff"):
            irregularities["byte order marks inside a file, left out"] += 1
            line = line.removeprefix("\ufeff")
            cells = split_cells(line)
        if line.startswith("IMGID:") and "\t" not in line:
            block = begin(number, has_head=True)
            name = line.removeprefix("IMGID:").strip(" ")
            if is_plain_name(name) and not undecodable(name):
                block.image_id = name
            else:
                shown = undecodable(line) or f"{name[:80]!a} cannot be the name of a picture"
                block.problems.append(Problem(file, number, shown))
        elif not line.strip():
            irregularities["lines of white space that end a post"] += line != "" and block is not None
            block = None
        elif is_comment(line, cells, width, tags):
            irregularities["comments, left out"] += 1
        elif cells[0].startswith("-DOCSTART-"):
            irregularities["-DOCSTART- lines, left out"] += 1
            block = None
        else:
            block = block or begin(number)
            block.lines.append(Line(number, cells))
            if reason := undecodable(line):
                block.problems.append(Problem(file, number, reason))
    return blocks


def split_cells(line: str) -> list[str]:
    """Split a line at its tabs, or without any at its spaces; no other white space parts columns."""
    line = line.strip(" ")
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return re.split(" +", line) if line else []


def most_common_width(lines: Sequence[Line]) -> int:
    """Return the number of columns of most lines, 2 or more."""
    widths = Counter(len(line.cells) for line in lines if len(line.cells) > 1)
    return widths.most_common(1)[0][0] if widths else 2


def is_comment(line: str, cells: Sequence[str], width: int, tags: set[str]) -> bool:
    """Whether a line is a comment, as `# newdoc`; `# O` and `#love O` are words with their tags."""
    if not line.startswith("#"):
        return False
    is_word = len(cells) == width and cells[-1] in tags
    return COMMENT.match(line) is not None or line[1:2] in ("", " ", "\t") and not is_word


def has_numbers(blocks: Sequence[Block], width: int) -> bool:
    """Whether the first column numbers the words of each post, from 1 or 0."""
    counts = [[line.cells[0] for line in block.lines] for block in blocks if block.lines]
    if width < 3 and all(len(cells) < 2 for cells in counts):
        return False
    return bool(counts) and 2 * sum(map(are_numbers, counts)) >= len(counts)


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether the first cells of a post are 1, 2, 3 and so on, apart from those of CoNLL-U that are not words."""
    numbers = [cell for cell in cells if not NOT_A_WORD.fullmatch(cell)]
    if not numbers or not all(NUMBER.fullmatch(cell) and cell.isascii() for cell in numbers):
        return False
    first = int(numbers[0])
    return first in (0, 1) and list(map(int, numbers)) == list(range(first, first + len(numbers)))


def choose_columns(rows: Sequence[Sequence[str]], notes: list[str]) -> tuple[int, int]:
    """Return the columns of words and tags, by default the first and the last; add a note for another choice."""
    if len(rows[0]) == 2 and is_tag_column(rows, 0) and not is_tag_column(rows, 1) and types_of(rows, 0):
        notes.append("the first column holds the tags, the second the words")
        return 1, 0
    return 0, choose_tag_column(rows, 1, notes)


def choose_tag_column(rows: Sequence[Sequence[str]], first: int, notes: list[str]) -> int:
    """Return the column of the tags, by default the last; add a note if others hold tags, too.

    Of neighbouring columns with the same types, as the outer and inner entities of GermEval or gold and predicted tags,
    it is the first. It is another than the last only where that one is not of tags.
    """
    last = len(rows[0]) - 1
    if last <= first:
        return last
    columns = [column for column in range(first, last + 1) if is_tag_column(rows, column)]
    if not columns or columns[-1] != last and any(cells[last] in OUTSIDE for cells in rows):
        return last
    chosen = columns[-1]
    types = types_of(rows, last)
    while chosen - 1 in columns and (types & types_of(rows, chosen - 1) or not types and first == 2 == chosen - 1):
        chosen -= 1
    if len(columns) > 1 or chosen != last:
        others = ", ".join(str(column + 1) for column in columns if column != chosen) or "none"
        notes.append(
            f"the tags are column {chosen + 1} of {last + 1} (others with tags: {others}); choose with --tag_column"
        )
    return chosen


def is_tag_column(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds tags with prefixes, and O, in nearly all lines."""
    return sum(cells[column] in OUTSIDE or read_type(cells[column]) is not None for cells in rows) >= 0.95 * len(rows)


def types_of(rows: Sequence[Sequence[str]], column: int) -> set[str]:
    """Return the entity types of a column of tags."""
    return {type for type in (read_type(cells[column]) for cells in rows) if type is not None}


def read_type(tag: str) -> str | None:
    """Return the type of a tag with a prefix, else `None`."""
    return next((read[1] for form in FORMS[:2] if (read := form.read(tag))), None)


def move_misc_tags(file: str, lines: Sequence[Line], words: Sequence[Sequence[str]]) -> str:
    """Replace the last column of CoNLL-U by the tags that it holds, e.g. NER=B-PER; return their name, e.g. NER.

    Where only entities have one, other words are O. Where words outside have one, too, a word without is left without.
    """
    values: dict[str, list[str]] = {}
    for cells in words:
        for key, value in read_misc(cells[-1]).items():
            values.setdefault(key, []).append(value)
    tags = {
        key: set(used)
        for key, used in values.items()
        if any(map(read_type, used)) and all(value in OUTSIDE or read_type(value) for value in used)
    }
    if len(tags) != 1:
        raise ValueError(
            f"{file} is CoNLL-U, and {len(tags)} entries of its last column MISC hold entity tags, e.g. NER=B-PER; "
            "expected one: write two columns, word and tag, or name the column, e.g. --tag_column 3"
        )
    [(key, used)] = tags.items()
    absent = "" if used & set(OUTSIDE) else "O"
    for line in lines:
        if len(line.cells) == CONLLU_COLUMNS:
            line.cells[-1] = read_misc(line.cells[-1]).get(key, absent)
    return key


def read_misc(cell: str) -> dict[str, str]:
    """Return the entries of a cell of MISC, e.g. SpaceAfter=No|NER=O."""
    return dict(part.split("=", 1) for part in cell.split("|") if "=" in part)


def make_post(
    file: str, block: Block, width: int, word: int, tag: int, numbered: bool, irregularities: Counter
) -> ConllPost | None:
    """Return the post of a block; add to its problems and return `None` where it cannot be read."""
    broken = len(block.problems) > (block.has_head and block.image_id is None)
    lines = [line for line in block.lines if not (numbered and NOT_A_WORD.fullmatch(line.cells[0]))]
    for line in lines:
        shown = " ".join(line.cells)[:80]
        if len(line.cells) != width:
            reason = f"expected a token and a tag in {width} columns, got {len(line.cells)}: {shown!a}"
        elif not line.cells[word] or re.fullmatch(r"\S+", line.cells[tag]) is None or word == tag % width:
            reason = f"expected a token and a tag, got {shown!a}"
        else:
            continue
        if not undecodable(shown):
            block.problems.append(Problem(file, line.number, f"{reason}; its post is left out"))
        broken = True
    if numbered and block.lines and not are_numbers([line.cells[0] for line in block.lines]):
        block.problems.append(Problem(file, block.number, "its words are not numbered 1, 2, 3; it is left out"))
        broken = True
    if not lines:
        name = "" if block.image_id is None else f" of picture {block.image_id}"
        block.problems.append(Problem(file, block.number, f"the post{name} has no tokens"))
        return None
    if broken:
        irregularities[LEFT_OUT] += 1
        return None
    irregularities["multiword tokens and empty nodes, left out"] += len(block.lines) - len(lines)
    irregularities["posts without an IMGID line"] += not block.has_head
    words, tags = [line.cells[word] for line in lines], [line.cells[tag] for line in lines]
    return ConllPost(block.image_id, words, tags, block.number)
