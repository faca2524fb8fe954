"""The files of a user's posts as spreadsheets, editors and annotation tools save them."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_files import jpeg, read_report, read_stored, write

from modeling_i2srm.prepare.post_files import parse_cell, read_json
from modeling_i2srm.prepare.posts import main

MIA = {"text": "Mia flew", "ner_tags": ["B-PER", "O"]}
OSLO = {"text": "in Oslo", "ner_tags": ["O", "B-LOC"]}


def convert(folder: Path, name: str, content: bytes | str | None, *arguments: str) -> tuple[dict, list[dict]]:
    """Make a data set of one file; return the report and the rows of the train split, tags as their names."""
    if content is not None:
        write(folder / "raw" / name, content)
    main(["--data_dir", str(folder / "raw"), "--output_dir", str(folder / "out"), *arguments])
    features = datasets.DatasetInfo.from_directory(str(folder / "out")).features
    rows = read_stored(folder / "out")
    for row in rows:
        if "ner_tags" in row:
            row["ner_tags"] = [features["ner_tags"].feature.names[tag] for tag in row["ner_tags"]]
    return read_report(folder / "out"), rows


def posts_of(rows: list[dict]) -> list[dict]:
    return [{"text": " ".join(row["tokens"]), "ner_tags": row["ner_tags"]} for row in rows]


ROW = json.dumps(MIA)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.json", json.dumps([MIA, OSLO])),
        ("train.jsonl", json.dumps([MIA, OSLO], indent=2)),
        ("train.json", f"{json.dumps(MIA)}\n{json.dumps(OSLO)}\n"),
        ("train.jsonl", f"{json.dumps(MIA, indent=1)}\n{json.dumps(OSLO, indent=1)}"),
        ("train.json", json.dumps([MIA, OSLO]).encode("utf-8-sig")),
        ("train.jsonl", f"{json.dumps(MIA)}\r{json.dumps(OSLO)}\r"),
        ("train.jsonl", f"{json.dumps(MIA)}\r\n{json.dumps(OSLO)}\r\n".encode("utf-16")),
        ("train.csv", "text;ner_tags\nMia flew;B-PER O\nin Oslo;O B-LOC\n"),
        ("train.csv", "text\tner_tags\nMia flew\tB-PER O\nin Oslo\tO B-LOC\n"),
        ("train.csv", "ner_tags|text\nB-PER O|Mia flew\nO B-LOC|in Oslo\n"),
        ("train.tsv", "text,ner_tags\nMia flew,B-PER O\nin Oslo,O B-LOC\n"),
        ("train.csv", "sep=;\r\ntext;ner_tags\r\nMia flew;B-PER O\r\nin Oslo;O B-LOC\r\n".encode("utf-8-sig")),
        ("train.csv", "sep=,\ntext,ner_tags,,\nMia flew,B-PER O,,\nin Oslo,O B-LOC,,\n"),
        ("train.csv", ' text , "ner_tags"\nMia flew,B-PER O\nin Oslo,O B-LOC\n'.replace(' "ner_tags"', "ner_tags")),
        ("train.txt", "text\tner_tags\r\nMia flew\tB-PER O\r\nin Oslo\tO B-LOC\r\n".encode("utf-16")),
        ("train.csv", "text,ner_tags\nMia flew,\"['B-PER', 'O']\"\nin Oslo,\"['O',\n 'B-LOC']\"\n"),
        (
            "train.csv",
            'tokens,ner_tags\n"[\'Mia\', ""flew""]",B-PER O\n"(\'in\', \'Oslo\')",O B-LOC\n'.replace("(", "[").replace(
                ")", "]"
            ),
        ),
        ("train.iob2", "Mia B-PER\nflew O\n\nin O\nOslo B-LOC\n"),
    ],
)
def test_files_are_read_in_every_dress(tmp_path, name, content):
    report, rows = convert(tmp_path, name, content)
    assert posts_of(rows) == [MIA, OSLO] and report["unparsed_lines"] == []


def test_another_encoding_is_named_and_its_rows_are_listed(tmp_path):
    content = "text,ner_tags\nMüller flew,B-PER O\nMia flew,B-PER O\n".encode("cp1252")
    report, rows = convert(tmp_path, "train.csv", content)
    assert posts_of(rows) == [MIA]
    assert "not UTF-8" in report["unparsed_lines"][0]["reason"] and report["unparsed_lines"][0]["line"] == 2
    assert "--encoding cp1252" in report["unparsed_lines"][0]["reason"]
    report, rows = convert(tmp_path, "train.csv", content, "--encoding", "cp1252")
    assert [row["tokens"][0] for row in rows] == ["Müller", "Mia"] and report["unparsed_lines"] == []
    assert report["splits"]["train"]["irregularities"]["files in cp1252, read"] == 1
    with pytest.raises(SystemExit, match=r"train\.csv is not in utf-16-le: .*--encoding cp1252"):
        convert(tmp_path, "train.csv", b"\xff\xfea")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (f"[{ROW},\n{ROW},\n3,\n{ROW}]", 3, "expected a JSON object"),
        (f"[{ROW},\n{ROW},\n{ROW},\n{{broken}}, {ROW}]", 4, "nothing after this place can be read"),
        (f"[\n{ROW}, {ROW}, {ROW}, " + "[" * 100_000, 2, "nothing after this place can be read"),
        (f"[{ROW}, {ROW}, {ROW},\n".encode() + b'{"text": "caf\xe9"}]', 2, "not UTF-8"),
    ],
)
def test_what_an_array_holds_that_is_no_post_is_listed(tmp_path, content, line, message):
    report, rows = convert(tmp_path, "train.json", content)
    [entry] = report["unparsed_lines"]
    assert entry["line"] == line and message in entry["reason"]
    assert len(rows) == 3 or entry["line"] == 3 == len(rows)


def test_lines_after_an_empty_list_are_read(tmp_path):
    problems = []
    rows = list(read_json(tmp_path / "train.jsonl", '[]\n{"text": "Kobe"}\n', problems))
    assert rows == [(2, {"text": "Kobe"})] and [problem.line for problem in problems] == [1]
    assert list(read_json(tmp_path / "train.json", "[]\n", problems)) == [] and len(problems) == 1


def test_python_lists_are_told_from_numpy_arrays(tmp_path):
    assert parse_cell("tokens", "['a', 'b\\'s']") == ["a", "b's"]
    assert parse_cell("head", "{'start': 0, 'end': 1}") == {"start": 0, "end": 1}
    for cell in ("['a' 'b']", "['a'\n 'b']", "[open('x')]", "['a'", "[" * 10_000):  # the first would become ["ab"]
        assert parse_cell("tokens", cell) == cell
    content = "tokens,ner_tags\n\"['Mia' 'flew']\",\"['B-PER' 'O']\"\nMia flew,B-PER O\n"
    report, rows = convert(tmp_path, "train.csv", content)
    assert posts_of(rows) == [MIA] and "tokens as a list of words" in report["unparsed_lines"][0]["reason"]


def test_parquet_files_of_texts(tmp_path):
    write(tmp_path / "raw/7.jpg", jpeg())
    rows = [{**MIA, "image": "7.jpg", "note": 1}, {**OSLO, "image": None, "note": 2}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "raw/train.parquet")
    report, found = convert(tmp_path, "train.parquet", None)
    assert posts_of(found) == [MIA, OSLO] and [row["image"] is not None for row in found] == [True, False]
    assert "train.parquet: columns that are not used: note" in report["warnings"]


def test_class_labels_in_parquet_files_become_their_names(tmp_path):
    labels = datasets.List(datasets.ClassLabel(names=["O", "S-PER", "S-LOC"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": labels})
    rows = {"tokens": [["Mia", "flew"], ["in", "Oslo"]], "ner_tags": [[1, 0], [0, 2]]}
    (tmp_path / "raw").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "raw/train.parquet")
    assert posts_of(convert(tmp_path, "train.parquet", None)[1]) == [MIA, OSLO]


def test_parquet_files_that_are_damaged_or_hold_pictures_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"train\.parquet cannot be read as Parquet"):
        convert(tmp_path, "train.parquet", b"PAR1")
    table = pa.Table.from_pylist([{"text": "a", "image": {"bytes": b"1", "path": "7.jpg"}}])
    pq.write_table(table, tmp_path / "raw/train.parquet")
    with pytest.raises(SystemExit, match=r"the column image holds pictures; .* --dataset raw"):
        convert(tmp_path, "train.parquet", None)


@pytest.mark.parametrize("name", ["train.conll", "train.csv", "train.jsonl"])
def test_tags_are_converted_and_this_is_said(tmp_path, capsys, name):
    posts = [(["Mia", "Lee", "flew"], ["I-PER", "I-PER", "O"]), (["in", "Oslo", "Rome"], ["O", "I-LOC", "B-LOC"])]
    content = {
        "train.conll": "\n".join("".join(f"{a} {b}\n" for a, b in zip(*post, strict=True)) for post in posts),
        "train.csv": "text,ner_tags\n" + "".join(f"{' '.join(words)},{' '.join(tags)}\n" for words, tags in posts),
        "train.jsonl": "".join(json.dumps({"tokens": words, "ner_tags": tags}) + "\n" for words, tags in posts),
    }[name]
    report, rows = convert(tmp_path, name, content)
    assert [row["ner_tags"] for row in rows] == [["B-PER", "I-PER", "O"], ["O", "B-LOC", "B-LOC"]]
    assert "tags are IOB1: 2 changed to BIO" in report["warnings"]
    assert "WARNING: tags are IOB1: 2 changed to BIO\n" in capsys.readouterr().out


def test_a_mixture_of_tags_is_refused_unless_the_scheme_is_named(tmp_path):
    write(tmp_path / "raw/test.conll", "Mia I-PER\n")
    with pytest.raises(
        SystemExit, match=r"'B-PER' in train\.conll, line 3 is BIO, 'I-PER' in test\.conll, line 1 is IOB1"
    ):
        convert(tmp_path, "train.conll", "flew O\n\nMia B-PER\n")
    report, rows = convert(tmp_path, "train.conll", None, "--tag_scheme", "BIO")
    assert report["splits"]["test"]["irregularities"]["I- tags without their B-, kept"] == 1
    report, _ = convert(tmp_path, "train.conll", None, "--tag_scheme", "IOB1")
    assert report["splits"]["test"]["strict_entities"]["all"] == 1
    assert report["splits"]["train"]["irregularities"]["entities that break IOB1, kept"] == 1


def test_posts_with_a_tag_of_another_form_are_listed(tmp_path):
    content = "Mia B-PER\n\nOslo B-LOC\n\nRome B-LOC\n\nflew O\nto O\nParis LOC\n"
    report, rows = convert(tmp_path, "train.conll", content)
    assert [row["tokens"] for row in rows] == [["Mia"], ["Oslo"], ["Rome"]]
    [entry] = report["unparsed_lines"]
    assert entry["line"] == 7 and "the tag 'LOC' does not fit the other tags, which are BIO" in entry["reason"]


def test_files_whose_tags_seem_to_be_in_other_columns_are_refused(tmp_path):
    write(tmp_path / "raw/train.conll", "Mia\tB-PER\tB-PER\nflew\tO\tO\n")
    with pytest.raises(SystemExit, match="column 2 in train.conll and column 3 in test.conll; .* --tag_column 2"):
        convert(tmp_path, "test.conll", "Ann\tB-PER\tO\nflew\tO\tO\n")
    report, _ = convert(tmp_path, "test.conll", None, "--tag_column", "2")
    assert report["splits"]["test"]["strict_entities"]["PER"] == 1


def test_the_column_of_tags_is_chosen_and_said(tmp_path):
    content = "1\tMia\tB-PER\tO\n2\tflew\tO\tO\n"
    report, rows = convert(tmp_path, "train.conll", content)
    assert posts_of(rows) == [MIA]
    assert any("the tags are column 3 of 4 (others with tags: 4)" in warning for warning in report["warnings"])
    report, rows = convert(tmp_path, "train.conll", content, "--tag_column", "4")
    assert posts_of(rows) == [{**MIA, "ner_tags": ["O", "O"]}]
