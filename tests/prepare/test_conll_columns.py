"""Users' CoNLL files: columns, comments, word numbers and line ends as they are in the wild; no post is shortened."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_i2srm.prepare.conll import ConllFile, ConllPost
from modeling_i2srm.prepare.conll_columns import LEFT_OUT, read_conll_columns


def parse(folder: Path, content: bytes | str, **options) -> ConllFile:
    path = folder / "posts.conll"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_conll_columns(path, **options)


def words_of(file: ConllFile) -> list[str]:
    """Each post as words and tags: "Mia/B-PER flew/O"."""
    return [" ".join(map("/".join, zip(post.tokens, post.tags, strict=True))) for post in file.posts]


TWO = ["Mia/B-PER flew/O", "Oslo/B-LOC"]


@pytest.mark.parametrize(
    "content",
    [
        "Mia B-PER\nflew O\n\nOslo B-LOC\n",
        "Mia\tB-PER\nflew\tO\n\t\nOslo\tB-LOC\n\t\n",  # WNUT-2017
        "Mia B-PER\nflew O\n  \t \nOslo B-LOC",
        "Mia B-PER\nflew O\n\u00a0\nOslo B-LOC\n",
        "Mia   B-PER \n  flew O\n\n\n\nOslo\tB-LOC\n",
        "Mia B-PER\r\nflew O\r\n\r\nOslo B-LOC\r\n",
        "Mia B-PER\rflew O\r\rOslo B-LOC\r",
        b"\xef\xbb\xbfMia B-PER\nflew O\n\n\xef\xbb\xbfOslo B-LOC\n",  # two files with byte order marks, joined
        "\ufeffMia B-PER\nflew O\n\nOslo B-LOC\n".encode("utf-16-le"),
        "\ufeffMia B-PER\r\nflew O\r\n\r\nOslo B-LOC\r\n".encode("utf-16-be"),
        "Mia B-PER\nflew O\n\nOslo B-LOC\n".encode("utf-16-le"),
        "Mia NNP B-NP B-PER\nflew VBD O O\n\nOslo NNP B-NP B-LOC\n",  # CoNLL-2003: the tags are last
        "-DOCSTART- -X- -X- O\n\nMia NNP B-NP B-PER\nflew VBD O O\n\n-DOCSTART- -X- -X- O\nOslo NNP B-NP B-LOC\n",
        "# id 1a domain=en\nMia _ _ B-PER\nflew _ _ O\n\n# id 1b domain=en\nOslo _ _ B-LOC\n",  # MultiCoNER
        "# newdoc\n# sent_id = 1\n# text = Mia flew O\nMia B-PER\nflew O\n\n# text = O\nOslo B-LOC\n",
        "#\thttp://x [2010]\n1\tMia\tB-PER\tO\n2\tflew\tO\tO\n\n#\ty\n1\tOslo\tB-LOC\tO\n",  # GermEval
        "1\tMia\tB-PER\tB-PERpart\n2\tflew\tO\tB-PER\n\n1\tOslo\tB-LOC\tO\n",
        "1 Mia B-PER\n2 flew O\n\n1 Oslo B-LOC\n",
        "0 Mia NNP B-PER\n1 flew VBD O\n\n0 Oslo NNP B-LOC\n",
        "1\tMia\tB-PER\t-\tann\n2\tflew\tO\t-\tann\n\n1\tOslo\tB-LOC\t-\tann\n",  # Universal NER
        "B-PER\tMia\nO\tflew\n\nB-LOC\tOslo\n",  # MIT's corpora
        "Mia B-PER B-PER\nflew O B-PER\n\nOslo B-LOC O\n",  # gold and predicted tags
    ],
)
def test_posts_are_read_in_every_dress(tmp_path, content):
    file = parse(tmp_path, content)
    assert words_of(file) == TWO and file.problems == []


CONLLU = """\
# sent_id = 1
1-2\tMia's\t_\t_\t_\t_\t_\t_\t_\t_
1\tMia\tMia\tPROPN\t_\t_\t2\tnsubj\t_\tNER=B-PER|SpaceAfter=No
2\tflew\tfly\tVERB\t_\t_\t0\troot\t_\t{outside}
2.1\t(was)\t_\t_\t_\t_\t_\t_\t_\t_

1\tOslo\tOslo\tPROPN\t_\t_\t0\troot\t_\tNER=B-LOC
"""


@pytest.mark.parametrize("outside", ["NER=O", "_", "SpaceAfter=No"])
def test_conllu_has_its_tags_in_misc(tmp_path, outside):
    file = parse(tmp_path, CONLLU.format(outside=outside))
    assert words_of(file) == TWO and file.problems == []
    assert file.irregularities["multiword tokens and empty nodes, left out"] == 2
    assert file.irregularities["comments, left out"] == 1
    assert file.notes == ["posts.conll: the tags are NER= of the last column (CoNLL-U)"]


def test_conllu_without_one_entry_of_tags_is_refused(tmp_path):
    for misc in ("_", "NER=B-PER|Name=B-PER", "Entity=(e1-person"):
        content = re.sub(r"NER=B-\w+|\{outside\}", misc, CONLLU)
        with pytest.raises(ValueError, match=r"posts\.conll is CoNLL-U, and [02] entries .* --tag_column 3"):
            parse(tmp_path, content)
    assert words_of(parse(tmp_path, CONLLU.format(outside="_"), tag_column=4))[0] == "Mia/PROPN flew/VERB"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("1 Mia B-PER O\n2 flew O O\n", "the tags are column 3 of 4 (others with tags: 4); choose with --tag_column"),
        ("Mia B-NP B-PER\nflew B-VP O\n", "the tags are column 3 of 3 (others with tags: 2); choose with --tag_column"),
        ("Mia B-PER me\nflew O me\n", "the tags are column 2 of 3 (others with tags: none); choose with --tag_column"),
        ("B-PER Mia\nO flew\n", "the first column holds the tags, the second the words"),
    ],
)
def test_the_choice_of_a_column_is_said(tmp_path, content, note):
    assert parse(tmp_path, content).notes == [f"posts.conll: {note}"]


def test_the_column_of_tags_can_be_named(tmp_path):
    content = "1 Mia B-PER O\n2 flew O B-X\n"
    assert words_of(parse(tmp_path, content, tag_column=4)) == ["Mia/O flew/B-X"]
    assert words_of(parse(tmp_path, "B-PER Mia\n", tag_column=1)) == ["Mia/B-PER"]
    for column in (0, 2, 5):
        with pytest.raises(ValueError, match=f"--tag_column {column}, but the file has 4 columns"):
            parse(tmp_path, content, tag_column=column)


@pytest.mark.parametrize("space", ["\u00a0", "\u2028", "\u3000", "\u0085", "\x1c", "\x0b", "\u200b"])
def test_only_tabs_and_spaces_part_columns(tmp_path, space):
    file = parse(tmp_path, f"New{space}York B-LOC\nis O\n{space}x\tO\n\n{space}\tO\n")
    assert [post.tokens for post in file.posts] == [[f"New{space}York", "is", f"{space}x"], [space]]
    assert file.problems == []


def test_words_that_begin_with_a_hash_are_no_comments(tmp_path):
    file = parse(tmp_path, "Mia B-PER\n#love O\n# O\n#\tO\n##a=b O\n# not a word O\n")
    assert file.posts[0].tokens == ["Mia", "#love", "#", "#", "##a=b"]
    assert file.irregularities["comments, left out"] == 1


def test_spaces_in_cells_between_tabs_stay(tmp_path):
    assert parse(tmp_path, "New York\tB-LOC\nis\tO\n").posts[0].tokens == ["New York", "is"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("New York B-LOC", "expected a token and a tag in 2 columns, got 3: 'New York B-LOC'; its post is left out"),
        ("Oslo", "in 2 columns, got 1: 'Oslo'"),
        ("\tO", "expected a token and a tag, got ' O'"),
        ("Oslo\t", "expected a token and a tag, got 'Oslo '"),
        ("Oslo\tB-A B", "expected a token and a tag"),
        (b"caf\xe9 O", r"not UTF-8: b'caf\xe9 O'; if the file is in another encoding, name it, e.g. --encoding cp1252"),
    ],
)
def test_a_line_that_cannot_be_read_costs_its_post(tmp_path, bad, message):
    bad = bad if isinstance(bad, bytes) else bad.encode()
    file = parse(tmp_path, b"Mia B-PER\nflew O\n\nto O\n" + bad + b"\nrocks O\n\nOslo B-LOC\n")
    assert words_of(file) == TWO
    [problem] = file.problems
    assert (problem.file, problem.line) == ("posts.conll", 5) and message in problem.reason
    assert file.irregularities[LEFT_OUT] == 1


def test_posts_whose_words_are_not_numbered_in_order_are_left_out(tmp_path):
    good = "1 Mia B-PER\n2 flew O\n\n1 Oslo B-LOC\n\n"
    file = parse(tmp_path, good + "1 a O\n3 b O\n\n1 a O\n1 b O\n")
    assert words_of(file) == TWO
    assert [(problem.line, problem.reason) for problem in file.problems] == [
        (6, "its words are not numbered 1, 2, 3; it is left out"),
        (9, "its words are not numbered 1, 2, 3; it is left out"),
    ]
    numbers = parse(tmp_path, "7 O\n\n1 O\n\n3 B-DATE\nMay I-DATE\n")  # words that are numbers
    assert words_of(numbers) == ["7/O", "1/O", "3/B-DATE May/I-DATE"]
    assert len(parse(tmp_path, "1 Mia\n2 flew\n").problems) == 2  # numbers and no tags


def test_pictures_are_named_before_posts(tmp_path):
    file = parse(tmp_path, "IMGID:7\nMia B-PER\n\nIMGID:8\nflew O\nIMGID:../x\nno O\nIMGID:9\n\nyes O\n")
    assert file.posts == [
        ConllPost("7", ["Mia"], ["B-PER"]),
        ConllPost("8", ["flew"], ["O"]),
        ConllPost(None, ["no"], ["O"]),
        ConllPost(None, ["yes"], ["O"]),
    ]
    assert [post.line for post in file.posts] == [1, 4, 6, 10]
    assert [problem.line for problem in file.problems] == [6, 8]
    assert file.irregularities["posts without an IMGID line"] == 1


def test_other_encodings_are_named(tmp_path):
    content = "Müller B-PER\nflew O\n".encode("cp1252")
    assert parse(tmp_path, content, encoding="cp1252").posts[0].tokens == ["Müller", "flew"]
    assert "--encoding cp1252" in parse(tmp_path, content).problems[0].reason
    with pytest.raises(ValueError, match=r"no encoding is called 'klingon'; e\.g\. --encoding cp1252"):
        parse(tmp_path, content, encoding="klingon")
    with pytest.raises(ValueError, match=r"posts\.conll is not in ascii: "):
        parse(tmp_path, content, encoding="ascii")


CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Nd"], exclude_characters=" #\ufeff")
TOKENS = st.text(CHARACTERS, min_size=1, max_size=5).filter(lambda token: token.strip("\u00a0\u2028"))
ROWS = st.lists(st.tuples(TOKENS, st.sampled_from(["O", "B-X", "PER"])), min_size=1, max_size=4)


@given(
    posts=st.lists(st.tuples(ROWS, st.sampled_from([None, "a b O", "alone", "\tO", "a\t", "caf\udce9 O"])), max_size=5),
    blank=st.sampled_from(["", "\t", "  ", "\u00a0"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    gap=st.sampled_from(["\t", " ", "   "]),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_post_is_whole_or_listed(tmp_path_factory, posts, blank, end, gap):
    posts = [([("Mia", "B-X"), ("flew", "O")], None), *posts]
    lines, bad = [], []
    for rows, damage in posts:
        lines += [f"{token}{gap}{tag}" for token, tag in rows]
        if damage is not None:
            lines.insert(len(lines) - 1, damage)
            bad.append(len(lines) - 1)
        lines.append(blank)
    file = parse(tmp_path_factory.getbasetemp(), end.join(lines).encode(errors="surrogateescape"))
    good = [rows for rows, damage in posts if damage is None]
    assert [list(zip(post.tokens, post.tags, strict=True)) for post in file.posts] == good
    assert [problem.line for problem in file.problems] == bad
    assert file.irregularities[LEFT_OUT] == len(bad)
