"""The script for one's own posts: every row of every kind of file is stored or listed, and its help is true."""

import csv
import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from raw_files import write

from modeling_i2srm.prepare import post_rows
from modeling_i2srm.prepare.posts import Posts
from modeling_i2srm.prepare.text_files import guess_utf16

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["start", "end", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
WORDS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4)


@st.composite
def good_rows(draw, pairs: bool) -> dict:
    tokens = draw(WORDS)
    row = {
        "tokens": tokens,
        "id": draw(st.none() | st.text(max_size=3)),
        "image": draw(st.none() | st.text(max_size=4)),
    }
    if pairs:
        for name in ("head", "tail"):
            start = draw(st.integers(0, len(tokens) - 1))
            row[name] = {"start": start, "end": draw(st.integers(start + 1, len(tokens)))}
        row["relation"] = draw(st.sampled_from(["None", "r", 'é "r"']))
    else:
        tags = st.sampled_from(["O", "B-PER", "B-é", "B-None"])
        row["ner_tags"] = draw(st.lists(tags, min_size=len(tokens), max_size=len(tokens)))
    return row


@st.composite
def any_rows(draw, good: st.SearchStrategy) -> list:
    """Rows that are good, changed, or anything."""
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["good", "changed", "any"]))
        row = draw(good)
        if kind == "changed":
            row[draw(st.sampled_from(sorted(post_rows.COLUMNS) + ["\ud800"]))] = draw(VALUES)
        rows.append(draw(VALUES) if kind == "any" else row)
    return rows


def build(folder: Path, name: str, content: bytes):
    """Read a file as the script does, without pictures; return what was read and a table of it."""
    for path in folder.iterdir():
        path.unlink()
    write(folder / name, content)
    builder = Posts(data_dir=str(folder), cache_dir=str(folder.parent / "cache"), objects="column")
    raw = builder.read_raw()
    features = builder.info.features
    rows = [features.encode_example({**post.columns, "image": None, "objects": []}) for post in raw.splits["train"]]
    return raw, pa.Table.from_pylist(rows, schema=features.arrow_schema)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("any") / "raw"
    path.mkdir()
    return path


@given(data=st.data(), end=st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_any_jsonl_line_is_a_row_or_listed(folder, data, end):
    rows = data.draw(any_rows(good_rows(data.draw(st.booleans()))))
    lines = [json.dumps(row, ensure_ascii=data.draw(st.booleans())).encode(errors="surrogatepass") for row in rows]
    junk = data.draw(st.lists(st.tuples(st.integers(0, len(lines)), st.binary(max_size=9)), max_size=2))
    for place, line in junk:
        lines.insert(place, line)
    content = end.join(lines)
    assume(not content.lstrip().startswith(b"["))  # an array of posts, or spaCy's pairs
    try:
        raw, table = build(folder, "train.jsonl", content)
    except ValueError as error:
        assert re.search(r"tags (fit no scheme|are a mixture).*train\.jsonl, line \d", str(error))
        return
    content = (folder / "train.jsonl").read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbers = [n for n, line in enumerate(content, start=1) if line.decode(errors="replace").strip()]
    listed = [problem.line for problem in raw.problems]
    assert len(listed) == len(set(listed)) and set(listed) <= set(numbers)
    read = [json.loads(content[number - 1]) for number in numbers if number not in listed]
    assert table["tokens"].to_pylist() == [row.get("tokens") or row["text"].split() for row in read]
    for post, row in zip(raw.splits["train"], read, strict=True):
        assert post.image == (str(row["image"]) if row.get("image") not in (None, "") else None)
        for name in ("ner_tags", "relation"):
            assert name not in post.columns or post.columns[name] == row[name] or "tags are" in str(raw.about)
    assert len(set(table["id"].to_pylist())) == len(read)


def to_table(rows: list[dict], delimiter: str, end: str) -> str:
    file = io.StringIO()
    # In quotes: before Python 3.13 the writer leaves "\r" bare, which its reader then takes for the end of a line.
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([json.dumps(v) if isinstance(v, (list, dict)) else v for v in row.values()])
    return file.getvalue()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
@given(data=st.data(), end=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_written_is_read(folder, kind, data, end):
    rows = data.draw(st.lists(good_rows(data.draw(st.booleans())), min_size=1, max_size=4))
    if kind == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)
    else:
        content = to_table(rows, {"csv": ",", "tsv": "\t"}[kind], end)
    raw, table = build(folder, f"train.{kind}", content.encode())
    assert raw.problems == []
    for post, row in zip(raw.splits["train"], rows, strict=True):
        labels = {name: value for name, value in row.items() if name not in ("id", "image", "tokens")}
        assert post.columns == {"id": post.columns["id"], "tokens": row["tokens"], **labels}
        assert post.image == (row["image"] or None)
    assert table["tokens"].to_pylist() == [row["tokens"] for row in rows]


PIECES = st.sampled_from(
    ["text", "tokens", "ner_tags", "image", ",", "\n", "\r\n", "\r", '"', '""', "O", " ", "a", "[", "\x00"]
)


@given(
    head=st.sampled_from(["", "text,ner_tags\n", "text\n", "tokens,head,tail,relation\n", '"text","image"\r\n']),
    body=st.binary(max_size=30) | st.lists(PIECES, max_size=15).map("".join).map(str.encode),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_table_row_is_a_post_or_listed(folder, head, body):
    content = head.encode() + body
    assume(guess_utf16(content) is None)
    try:
        raw, table = build(folder, "train.csv", content)
    except ValueError as error:
        names = r"train\.csv, line \d+: (no names of columns|several columns are called)"
        assert re.match(rf"{names}|train\.csv is not in utf-|the tags fit no", str(error))
        return
    text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    reader, count = csv.reader(io.StringIO(text, newline=""), strict=True), 0
    while True:
        begin = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            row = ["error"]
        count += row != [] and not (len(row) == 1 and row[0].isspace())
    assert begin == reader.line_num
    assert len(raw.splits["train"]) + len(raw.problems) == max(count - 1, 0) == table.num_rows + len(raw.problems)
    assert all(1 < problem.line <= reader.line_num for problem in raw.problems)
