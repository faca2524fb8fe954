"""Reading CoNLL files: every token and tag is kept unchanged, and every line that cannot be read is listed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from raw_files import TEXT

from modeling_i2srm.prepare.builder import NER_TAGS
from modeling_i2srm.prepare.conll import BIO_TAG, ConllFile, ConllPost, count_entities, read_conll
from modeling_i2srm.prepare.picture_files import is_plain_name

OTHER = {"B-OTHER": "B-MISC", "I-OTHER": "I-MISC"}


def parse(folder: Path, content: bytes, **options) -> ConllFile:
    path = folder / "posts.txt"
    path.write_bytes(content)
    return read_conll(path, **options)


def test_every_token_and_tag_is_kept(tmp_path):
    file = parse(tmp_path, TEXT.encode())
    assert file.posts == [
        ConllPost("7", ["RT", "@x", "St.", "James", "\u00a0"], ["O", "O", "B-PER", "I-PER", "O"]),
        ConllPost("8", ["Super", "Bowl", "a\tb", "\u2028"], ["I-MISC", "I-MISC", "B-MISC", "O"]),
        ConllPost("9", ["Paris", "IMGID:", "end"], ["B-LOC", "O", "O"]),
    ]
    assert [post.line for post in file.posts] == [1, 8, 14]
    assert file.problems == [] and file.irregularities == {"tags spelt OTHER, stored as MISC": 3}


def test_line_ends_do_not_matter_and_are_counted(tmp_path):
    posts = parse(tmp_path, TEXT.encode()).posts
    windows = parse(tmp_path, b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert windows.posts == posts and windows.problems == []
    assert windows.irregularities["lines that end in CR LF"] == TEXT.count("\n")
    cut = parse(tmp_path, TEXT.encode().rstrip(b"\n"))
    assert cut.posts == posts
    assert cut.irregularities["missing last line feed"] == 1
    assert cut.irregularities["missing empty line after the last post"] == 1
    assert parse(tmp_path, TEXT.encode()[:-1]).irregularities["missing last line feed"] == 0


def test_carriage_returns_inside_a_line_are_part_of_the_token(tmp_path):
    assert parse(tmp_path, b"a\rb\tO\r\n\r\tO\n").posts == [ConllPost(None, ["a\rb", "\r"], ["O", "O"])]


@pytest.mark.parametrize(
    ("content", "line", "message", "tokens"),
    [
        (b"IMGID:1\nhello O\nb\tO\n", 2, "expected a token, a tab and a tag, got 'hello O'", ["b"]),
        (b"IMGID:1\na\tO\nhello\tB-CITY\nb\tO\n", 3, "got 'hello\\tB-CITY'", ["a", "b"]),
        (b"IMGID:1\na\tO\n\tO\n", 3, "expected a token", ["a"]),
        (b"IMGID:1\na\tO\n\xc2\xa0\n", 3, "expected a token", ["a"]),
        (b"IMGID:1\na\tO\ncaf\xe9\tO\nb\tO\n", 3, "not UTF-8", ["a", "b"]),
        (b"IMGID:1\na\tO\nIMGID:\xe9\nb\tO\n", 3, "not UTF-8", ["a", "b"]),
        (b"IMGID:1\n\nIMGID:2\na\tO\n", 1, "picture 1 has no tokens", ["a"]),
        (b"IMGID:1\na\tO\n\nIMGID:2", 4, "picture 2 has no tokens", ["a"]),
        (b"IMGID:../../secret\na\tO\n", 1, "'../../secret' cannot be the name of a picture", ["a"]),
        (b"IMGID:\na\tO\n", 1, "name of a picture", ["a"]),
        (b"IMGID:" + b"9" * 300 + b"\na\tO\n", 1, "name of a picture", ["a"]),
    ],
)
def test_lines_that_cannot_be_read_are_listed_and_the_others_kept(tmp_path, content, line, message, tokens):
    file = parse(tmp_path, content, tag_names=NER_TAGS)
    assert [(problem.file, problem.line) for problem in file.problems] == [("posts.txt", line)]
    assert message in file.problems[0].reason
    assert str(file.problems[0]).startswith(f"posts.txt, line {line}: ")
    assert [token for post in file.posts for token in post.tokens] == tokens


def test_any_bio_tag_will_do_unless_some_are_asked_for(tmp_path):
    content = b"a\tB-city\nb\tI-x_y-z\nc\tE-PER\nd\tB-\n"
    file = parse(tmp_path, content)
    assert file.posts[0].tags == ["B-city", "I-x_y-z"] and [problem.line for problem in file.problems] == [3, 4]
    assert [problem.line for problem in parse(tmp_path, content, tag_names=NER_TAGS).problems] == [1, 2, 3, 4]


def test_posts_need_no_picture_name(tmp_path):
    file = parse(tmp_path, b"a\tO\n\n\nb\tO\nIMGID:3\nc\tO\nIMGID:../4\nd\tO\n")
    assert [(post.image_id, post.tokens, post.line) for post in file.posts] == [
        (None, ["a"], 1),
        (None, ["b"], 4),
        ("3", ["c"], 5),
        (None, ["d"], 7),
    ]
    assert file.irregularities["posts without an IMGID line"] == 2
    assert [post.image_id for post in parse(tmp_path, b"IMGID:1\na\tO\nIMGID:\xe9\nb\tO\n").posts] == ["1", None]


def test_orphan_tags_stay(tmp_path):
    file = parse(tmp_path, b"IMGID:1\na\tI-PER\nb\tO\nc\tB-LOC\nd\tI-ORG\n")
    assert file.posts[0].tags == ["I-PER", "O", "B-LOC", "I-ORG"]


PIECES = st.sampled_from(
    [
        "IMGID:",
        "IMGID:3",
        "IMGID:../x",
        "-DOCSTART-",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        " ",
        "O",
        "\tO\n",
        " O\n",
        "\tB-PER\n",
    ]
    + ["\tI-OTHER\n", " x B-y\n", "\u00a0", "\ufeff"]
)
CONTENTS = st.binary() | st.lists(
    PIECES.map(str.encode) | st.text(max_size=4).map(str.encode) | st.binary(max_size=2)
).map(b"".join)


@given(content=CONTENTS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_line_is_in_a_post_or_listed(tmp_path_factory, content):
    file = parse(tmp_path_factory.getbasetemp(), content)
    listed = {problem.line for problem in file.problems}
    lines = dict(enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1))
    lines = {number: line.removesuffix(b"\r").decode(errors="replace") for number, line in lines.items()}
    heads = {number for number, line in lines.items() if line.startswith("IMGID:") and "\t" not in line}
    assert all(is_plain_name(lines[number][6:]) for number in heads - listed)
    assert {post.line for post in file.posts} >= heads - listed
    rest = [number for number, line in lines.items() if line and number not in heads | listed]
    found = [(post.line, token, tag) for post in file.posts for token, tag in zip(post.tokens, post.tags, strict=True)]
    assert len(rest) == len(found)
    before = None
    for number, (begin, token, tag) in zip(rest, found, strict=True):
        raw_token, _, raw_tag = lines[number].rpartition("\t")
        assert token == raw_token != "" and tag == OTHER.get(raw_tag, raw_tag) and BIO_TAG.fullmatch(tag)
        inner = range(begin + 1, number) if begin in heads else range(begin, number)
        assert begin <= number and not any(lines[between] == "" or between in heads for between in inner)
        if before is not None and begin != before[0]:
            assert any(lines[between] == "" or between in heads for between in range(before[1] + 1, number))
        before = begin, number


NAMES = st.none() | st.from_regex(r"[A-Z0-9_]{1,9}", fullmatch=True)
TOKENS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=6)


def posts_of(tokens: st.SearchStrategy) -> st.SearchStrategy:
    rows = st.lists(st.tuples(tokens, st.sampled_from(NER_TAGS)), min_size=1, max_size=6)
    return st.lists(st.tuples(NAMES, rows), max_size=4)


@given(data=st.data(), last=st.booleans(), bom=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_what_is_written_is_read(tmp_path_factory, data, last, bom, end):
    posts = data.draw(posts_of(TOKENS))
    blocks = []
    for name, rows in posts:
        head = "" if name is None else f"IMGID:{name}{end}"
        blocks.append(head + "".join(f"{token}\t{tag}{end}" for token, tag in rows))
    content = (b"\xef\xbb\xbf" if bom else b"") + (end.join(blocks) + (end if last else "")).encode()
    assume(bom or not content.startswith(b"\xef\xbb\xbf"))
    file = parse(tmp_path_factory.getbasetemp(), content)
    assert file.problems == []
    assert [(post.image_id, list(zip(post.tokens, post.tags, strict=True))) for post in file.posts] == posts


@given(tags=st.lists(st.sampled_from(NER_TAGS), max_size=8))
@settings(deadline=None, derandomize=True)
def test_lenient_count_is_that_of_seqeval(tags):
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    strict, lenient = count_entities(tags)
    assert strict == Counter(tag[2:] for tag in tags if tag.startswith("B-"))
    assert sorted(lenient.elements()) == sorted(type for type, _, _ in seqeval.get_entities(tags))
