"""The script for one's own posts: every row of every kind of file is stored or listed, and its help is true."""

import csv
import io
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
from raw_files import frames, jpeg, load, names_in, picture, read_report, read_stored, write, write_posts

from modeling_i2srm.prepare import post_rows
from modeling_i2srm.prepare.builder import MNER_FEATURES, NER_TAGS, mre_features
from modeling_i2srm.prepare.exchange import NOT_ANNOTATED
from modeling_i2srm.prepare.post_files import find_files, read_table
from modeling_i2srm.prepare.post_pictures import find_file
from modeling_i2srm.prepare.posts import main
from modeling_i2srm.words import split_text


def run(raw: Path, output: Path, *arguments: str) -> dict:
    main(["--data_dir", str(raw), "--output_dir", str(output), *arguments])
    return read_report(output)


def run_file(folder: Path, name: str, content: bytes | str, *arguments: str) -> tuple[dict, list[dict]]:
    """Make a data set of one file; return the report and the rows, tags and relations as their names."""
    write(folder / "raw" / name, content)
    report = run(folder / "raw", folder / "out", *arguments)
    rows = read_stored(folder / "out")
    features = datasets.DatasetInfo.from_directory(str(folder / "out")).features
    for row in rows:
        if "ner_tags" in row:
            row["ner_tags"] = [features["ner_tags"].feature.names[tag] for tag in row["ner_tags"]]
        if "relation" in row:
            row["relation"] = features["relation"].names[row["relation"]]
    return report, rows


def lines_of(rows: list[dict]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


KOBE = {"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"]}


def test_posts_with_tags_pictures_and_crops(tmp_path, capsys):
    report = run(write_posts(tmp_path / "raw"), tmp_path / "out")
    for split in ("train", "validation", "test"):
        rows = load(tmp_path / "out", tmp_path / "cache", split)
        assert rows.features == MNER_FEATURES
        assert rows["id"][:] == [f"{split}-0000{number}" for number in range(3)]
        assert rows["tokens"][:] == [["Kobe", "lands", "in", "Paris"], ["hello", "\u00a0"], ["no", "picture"]]
        assert [[NER_TAGS[tag] for tag in tags] for tags in rows["ner_tags"]] == [
            ["B-PER", "O", "O", "B-LOC"],
            ["O", "O"],
            ["O", "I-LOC"],
        ]
        assert [crop.size for crop in rows["objects"][0]] == [(10, 5), (2, 5)]  # the order of the row
        assert [image is not None for image in rows["image"]] == [True, False, False]
    assert read_stored(tmp_path / "out")[0]["image"] == {"bytes": jpeg(), "path": "7.jpg"}
    assert report["texts"] == {split: f"{split}.jsonl" for split in report["splits"]}
    assert "texts: train train.jsonl, validation validation.jsonl, test test.jsonl\n" in capsys.readouterr().out


def test_crops_may_be_left_out_or_come_from_a_folder(tmp_path):
    raw = write_posts(tmp_path / "raw")
    assert run(raw, tmp_path / "out", "--objects", "none")["objects"] == "none"
    assert [row["objects"] for row in read_stored(tmp_path / "out")] == [[], [], []]
    assert run(raw, tmp_path / "out", "--objects", str(raw / "crops"))["objects"] == "own"
    assert [crop["path"] for crop in read_stored(tmp_path / "out")[0]["objects"]] == ["c2.png", "c10.png"]
    with pytest.raises(SystemExit, match="no folder of crops"):
        run(raw, tmp_path / "out", "--objects", "released")


def example_blocks(capsys) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  [a-z, ]*\b{name}\b.*  ", shown, re.MULTILINE) for name in post_rows.COLUMNS)
    blocks = re.findall(r"(?:^  (?!text  |tokens  )\S.*\n)+", shown.partition("Three examples")[2], re.MULTILINE)
    return [re.sub("^  ", "", block, flags=re.MULTILINE) for block in blocks]


def test_the_examples_of_the_help_work(tmp_path, capsys):
    jsonl, table, conll = example_blocks(capsys)[:3]
    with_tags, with_entities, with_pair = jsonl.splitlines()
    report, [row] = run_file(tmp_path / "a", "train.jsonl", with_tags)
    assert row["tokens"] == KOBE["text"].split() and row["ner_tags"] == KOBE["ner_tags"]
    assert report["unparsed_lines"] == [] and json.loads(with_tags) == json.loads(post_rows.EXAMPLE)
    report, [row] = run_file(tmp_path / "e", "train.jsonl", with_entities)
    assert row["tokens"] == KOBE["text"].split() and row["ner_tags"] == ["B-PER", "O", "O", "O"]
    report, [row] = run_file(tmp_path / "b", "train.jsonl", with_pair)
    assert (row["head"], row["tail"], row["relation"]) == ({"start": 0, "end": 1}, {"start": 3, "end": 4}, "None")
    write(tmp_path / "c/raw/pictures/7.jpg", jpeg())
    report, [row] = run_file(tmp_path / "c", "train.csv", table)
    assert row["tokens"] == KOBE["text"].split() and row["ner_tags"] == KOBE["ner_tags"] and row["image"]
    write(tmp_path / "d/raw/7.jpg", jpeg())
    report, [row] = run_file(tmp_path / "d", "train.conll", conll)
    assert (row["tokens"], row["ner_tags"]) == (["Kobe", "lands"], ["B-PER", "O"]) and row["image"]


def test_texts_are_split_as_pipelines_split_them_or_as_their_tags_are(tmp_path):
    text, pieces = "(Paris), 3.5 km!", ["(Paris),", "3.5", "km!"]
    words = [word.text for word in split_text(text)]
    rows = [
        {"text": text, "ner_tags": ["O", "B-LOC", "O", "O", "O", "O", "O"]},
        {"text": text, "ner_tags": ["B-LOC", "O", "O"]},
        {"text": "no signs", "ner_tags": ["O", "O"]},
        {"text": text, "ner_tags": ["B-LOC", "O"]},
    ]
    report, found = run_file(tmp_path / "a", "train.jsonl", lines_of(rows))
    assert [row["tokens"] for row in found] == [words, pieces, ["no", "signs"]]
    assert [row["ner_tags"] for row in found] == [row["ner_tags"] for row in rows[:3]]
    counts = report["splits"]["train"]["irregularities"]
    assert counts["texts split at white space alone, as their labels are"] == 1
    assert [line["line"] for line in report["unparsed_lines"]] == [4]
    assert "ner_tags must be 7 BIO tags, one for each of" in report["unparsed_lines"][0]["reason"]
    report, [row] = run_file(tmp_path / "b", "train.jsonl", json.dumps({"text": "昨天Nelson去了伦敦。"}))
    assert row["tokens"] == ["昨", "天", "Nelson", "去", "了", "伦", "敦", "。"]


def test_pairs(tmp_path):
    rows = [
        {"tokens": ["Kobe", "of", "LA"], "head": [0, 1], "tail": {"start": 2, "end": 3}, "relation": "plays_for"},
        {"tokens": ["Kobe", "of", "LA"], "head": [2, 3], "tail": [0, 3], "relation": "None"},
    ]
    report, found = run_file(tmp_path, "train.jsonl", lines_of(rows))
    assert [(row["head"], row["tail"], row["relation"]) for row in found] == [
        ({"start": 0, "end": 1}, {"start": 2, "end": 3}, "plays_for"),
        ({"start": 2, "end": 3}, {"start": 0, "end": 3}, "None"),
    ]
    assert load(tmp_path / "out", tmp_path / "cache").features == mre_features(["None", "plays_for"])
    assert report["splits"]["train"]["relations"] == {"None": 1, "plays_for": 1}


def test_posts_without_labels_and_with_both_kinds(tmp_path):
    report, [row] = run_file(tmp_path / "a", "train.jsonl", '{"text": "just text"}')
    assert set(row) == {"id", "tokens", "image", "objects"}
    assert "strict_entities" not in report["splits"]["train"]
    both = {**KOBE, "head": [0, 4], "tail": [14, 19], "relation": "visits"}
    report, [row] = run_file(tmp_path / "b", "train.jsonl", lines_of([both]))
    assert row["ner_tags"] == KOBE["ner_tags"] and row["relation"] == "visits"


def test_own_types_become_the_tags(tmp_path):
    rows = [{"text": "a b", "ner_tags": ["I-team", "B-X"]}, {"text": "a b", "ner_tags": ["B-OTHER", "O"]}]
    run_file(tmp_path, "train.jsonl", lines_of(rows))
    names = load(tmp_path / "out", tmp_path / "cache").features["ner_tags"].feature.names
    assert names == ["O", "B-OTHER", "I-OTHER", "B-X", "I-X", "B-team", "I-team"]
    _, rows = run_file(tmp_path / "conll", "train.conll", "a B-OTHER\nb B-MISC\n")
    assert rows[0]["ner_tags"] == ["B-OTHER", "B-MISC"]


def test_labels_may_have_odd_names(tmp_path):
    names = ["a: b", "#x", "nulls", "1", "é", 'q"u', " lead", "{a}", "'", "---", "yes", "a|b", "😀", "~", "- x", "0x1"]
    rows = [{"tokens": ["a", "b"], "head": [0, 1], "tail": [1, 2], "relation": name} for name in names]
    report, found = run_file(tmp_path, "train.jsonl", lines_of(rows))
    assert [row["relation"] for row in found] == names and report["unparsed_lines"] == []
    assert load(tmp_path / "out", tmp_path / "cache").features["relation"].names == ["None", *sorted(names)]
    assert r"| relations, a\|b | 1 |" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


TABLE = [
    ["text", "ner_tags", "image", "objects", "id", "note"],
    ["Kobe lands", "B-PER O", "7.jpg", "c 1.png", "x", ""],
    ['he said "no, no"\nand left', '["O", "O", "O", "O", "O", "O"]', "", '["c 1.png", "c2.png"]', "x", "kept out"],
    ["caf\u00e9 \u00a0 x", "O O", "gone.jpg", "", "", ""],
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("name", "delimiter"), [("train.csv", ","), ("VAL.TSV", "\t")])
def test_tables(tmp_path, name, delimiter, end):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(TABLE)
    for picture_name in ("7.jpg", "c 1.png", "c2.png"):
        write(tmp_path / "raw" / picture_name, jpeg())
    write(tmp_path / "raw" / name, b"\xef\xbb\xbf" + file.getvalue().encode())
    split = "train" if delimiter == "," else "validation"
    report = run(tmp_path / "raw", tmp_path / "out")
    rows = read_stored(tmp_path / "out", split)
    assert report["unparsed_lines"] == [] and report["warnings"][-1] == "columns that are not used: note"
    assert [row["id"] for row in rows] == ["x", "x#2", f"{split}-00002"]
    assert [row["tokens"] for row in rows] == [
        ["Kobe", "lands"],
        ["he", "said", '"no,', 'no"', "and", "left"],
        ["caf\u00e9", "x"],
    ]
    assert [[crop["path"] for crop in row["objects"]] for row in rows] == [[], ["c 1.png", "c2.png"], []]
    assert [row["image"] is not None for row in rows] == [True, False, False]
    assert report["splits"][split]["irregularities"]["posts whose id repeats, made unique"] == 1


def test_spans_in_tables(tmp_path):
    first = '"[""New York"", ""is""]",0 1,"{""start"": 1, ""end"": 2}",is'
    _, found = run_file(tmp_path, "pairs.csv", f'tokens,head,tail,relation\n{first}\na b c,"[0, 2]",2 3,None\n')
    assert [(row["tokens"], row["head"], row["tail"]) for row in found] == [
        (["New York", "is"], {"start": 0, "end": 1}, {"start": 1, "end": 2}),
        (["a", "b", "c"], {"start": 0, "end": 2}, {"start": 2, "end": 3}),
    ]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("good\n", 4, "expected 2 cells, got 1"),
        ("a,b,c\n", 4, "expected 2 cells, got 3"),
        (",7.jpg\n", 4, "expected text, or tokens"),
        ('"so "big" a cat",7.jpg\n', 4, "quote a cell that holds quotes, and double these"),
        (
            b"caf\xe9,7.jpg\n",
            4,
            r"not UTF-8: b'caf\xe9,7.jpg'; if the file is in another encoding, name it, e.g. --encoding",
        ),
        ("two\nwords,7.jpg\n", 4, "expected 2 cells, got 1"),
    ],
)
def test_table_rows_that_cannot_be_read_are_listed(tmp_path, content, line, message):
    content = content if isinstance(content, bytes) else content.encode()
    report, rows = run_file(tmp_path, "train.csv", b'text,image\n"first\npost",7.jpg\n' + content + b"last,7.jpg\n")
    assert report["unparsed_lines"][0]["line"] == line and message in report["unparsed_lines"][0]["reason"]
    assert rows[0]["tokens"] == ["first", "post"] and rows[-1]["tokens"] == ["last"]


def test_a_quote_that_does_not_end_is_listed_with_all_its_lines(tmp_path):
    report, rows = run_file(tmp_path, "train.csv", 'text,image\ngood,7.jpg\n"bad,7.jpg\nlost,7.jpg\nlost too,7.jpg\n')
    [entry] = report["unparsed_lines"]
    assert entry["line"] == 3 and entry["reason"].startswith("lines 3 to 5 are one row: unexpected end of data")
    assert [row["tokens"] for row in rows] == [["good"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,image,text\na,b,c\n", r"train\.csv, line 1: several columns are called 'text'"),
        ('\n"text,image\na,b\n', r"train\.csv, line 2: no names of columns"),
        ("note,image\na,b\n", r"no readable posts[^\0]*train\.csv, line 2: expected text, or tokens"),
        ("", r"train split has no readable posts"),
        ("text,image\n", r"train split has no readable posts"),
    ],
)
def test_tables_of_which_nothing_can_be_read_are_an_error(tmp_path, content, message):
    with pytest.raises(SystemExit, match=message):
        run_file(tmp_path, "train.csv", content)
    assert names_in(tmp_path) == ["raw"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "JSONDecodeError: "),
        (b'{"text": "caf\xe9"}', "not UTF-8: "),
        ('["a"]', "expected a JSON object, e.g. {"),
        ("[" * 100_000, "RecursionError: "),
        ({"ner_tags": ["O"]}, "expected text, or tokens as a list of words, got None; e.g. {"),
        ({"text": " ", "ner_tags": []}, "the post has no words: its text is empty or white space"),
        ({"text": 3}, "expected text, or tokens as a list of words, got 3"),
        ({"tokens": "Kobe lands"}, "expected text, or tokens as a list of words, got 'Kobe lands'"),
        ({"tokens": ["a", ""]}, "expected text, or tokens"),
        ({"tokens": ["a", None]}, "expected text, or tokens"),
        ({"text": "\ud800"}, r"expected text, or tokens as a list of words, got ['\ud800']"),
        ({"text": "a"}, "no ner_tags or entities, which other rows have"),
        ({"text": "a", "ner_tags": ["O", "O"]}, "ner_tags must be 1 BIO tags, one for each of ['a'], got ['O', 'O']"),
        ({"text": "a", "ner_tags": ["PER"]}, "ner_tags must be BIO tags: the tag 'PER' does not fit the other tags"),
        ({"text": "a", "ner_tags": ["B-P R"]}, "ner_tags must be 1 BIO tags"),
        ({"text": "a", "ner_tags": [0]}, "ner_tags must be 1 BIO tags"),
        ({"text": "a", "ner_tags": "O"}, "ner_tags must be 1 BIO tags"),
        ({"text": "a", "ner_tags": ["O"], "image": ["7.jpg"]}, "image must be a text, got ['7.jpg']"),
        ({"text": "a", "ner_tags": ["O"], "id": 1.5}, "id must be a text, got 1.5"),
        ({"text": "a", "ner_tags": ["O"], "id": "\udc00"}, "id must be a text"),
        ({"text": "a", "ner_tags": ["O"], "objects": "7.jpg"}, "objects must be a list of paths, got '7.jpg'"),
        ({"text": "a", "ner_tags": ["O"], "objects": [7]}, "objects must be a list of paths, got [7]"),
    ],
)
def test_rows_that_cannot_be_read_are_listed_or_with_strict_an_error(tmp_path, capsys, row, message):
    row = json.dumps(row) if isinstance(row, dict) else row
    row = row if isinstance(row, bytes) else row.encode()
    good = json.dumps(KOBE).encode()
    report, rows = run_file(tmp_path, "train.jsonl", b"\xef\xbb\xbf" + good + b"\r\n\n" + row + b"\n" + good)
    assert [row["id"] for row in rows] == ["train-00000", "train-00001"]
    [entry] = report["unparsed_lines"]
    assert (entry["file"], entry["line"]) == ("train.jsonl", 3) and message in entry["reason"]
    assert len(entry["reason"]) <= 300
    assert "lines that could not be read: 1\n  train.jsonl, 3, " in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"1 lines cannot be read:\n  train\.jsonl, line 3: "):
        run(tmp_path / "raw", tmp_path / "out", "--strict")
    assert read_report(tmp_path / "out") == report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": None}, "no head, which other rows have"),
        ({"relation": 3}, "relation must be a printable text, got 3"),
        ({"relation": "a\nb"}, "relation must be a printable text"),
        ({"head": 3}, 'head must be {"start": 0, "end": 2}, got 3'),
        ({"head": [0]}, "head must be {"),
        ({"tail": {"start": 0}}, "tail must be {"),
        ({"tail": [False, True]}, "tail must be {"),
        ({"tail": [0, 1.0]}, "tail must be {"),
        ({"tail": [1, 1]}, "tail must be within the 2 words, got [1, 1]"),
        ({"tail": [-1, 1]}, "tail must be within the 2 words"),
        ({"tail": [0, 3]}, "tail must be within the 2 words, got [0, 3]"),
        ({"tail": [0, 10**30]}, "tail must be within the 2 words"),
    ],
)
def test_pairs_that_cannot_be_read_are_listed(tmp_path, change, message):
    good = {"tokens": ["a", "b"], "head": [0, 1], "tail": [1, 2], "relation": "r"}
    report, rows = run_file(tmp_path, "train.jsonl", lines_of([good, {**good, **change}]))
    [entry] = report["unparsed_lines"]
    assert entry["line"] == 2 and message in entry["reason"] and len(rows) == 1


def test_conll_posts(tmp_path):
    for name in ("7.jpg", "b.png"):
        write(tmp_path / "raw" / name, jpeg())
    text = "-DOCSTART- O\n\nIMGID:7\nKobe B-PER\nwon O\n\nIMGID:b.png\nyes\tO\n\nIMGID:../x\nno\tO\n\nso O\nbroken\n"
    report, rows = run_file(tmp_path, "my posts.txt", text, "--split_sizes", "1", "0", "0")
    assert [row["tokens"] for row in rows] == [["Kobe", "won"], ["yes"], ["no"]]
    assert [row["ner_tags"] for row in rows] == [["B-PER", "O"], ["O"], ["O"]]
    assert [row["image"] and row["image"]["path"] for row in rows] == ["7.jpg", "b.png", None]
    assert [entry["line"] for entry in report["unparsed_lines"]] == [10, 14]
    assert report["splits"]["train"]["irregularities"]["posts left out for a line that cannot be read"] == 1
    assert report["texts"] == {"train": "my posts.txt"}
    assert report["splits"]["train"]["irregularities"]["-DOCSTART- lines, left out"] == 1


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["tweets.jsonl"], {"all": "tweets.jsonl"}),
        (["tweets.jsonl", "readme.md", "7.jpg", "about.json"], {"all": "tweets.jsonl"}),
        (["tweets.json"], {"all": "tweets.json"}),
        (["train.parquet", "test.iob2"], {"train": "train.parquet", "test": "test.iob2"}),
        (
            ["TRAIN.JSONL", "dev.csv", "test.conll", "notes.txt"],
            {"train": "TRAIN.JSONL", "validation": "dev.csv", "test": "test.conll"},
        ),
        (["val.bio"], {"validation": "val.bio"}),
        (["valid.tsv", "train.txt"], {"train": "train.txt", "validation": "valid.tsv"}),
    ],
)
def test_files_become_splits(tmp_path, files, found):
    for name in files:
        write(tmp_path / name, b"")
    assert {split: path.name for split, path in find_files(tmp_path).items()} == found
    assert list(find_files(tmp_path)) == sorted(found, key=["all", "train", "validation", "test"].index)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ([], FileNotFoundError, r"no train\.jsonl, validation\.jsonl or test\.jsonl .* e\.g\. with \{\"text\""),
        (["a.jsonl", "b.jsonl"], FileNotFoundError, r"no train\.jsonl.*, only a\.jsonl, b\.jsonl"),
        (["train.xlsx"], FileNotFoundError, r"no train\.jsonl"),
        (["dev.jsonl", "valid.csv"], ValueError, r"both dev\.jsonl and valid\.csv are the validation split"),
        (["train.jsonl", "train.csv"], ValueError, r"both train\.csv and train\.jsonl are the train split"),
    ],
)
def test_files_that_are_no_splits_are_an_error(tmp_path, files, error, message):
    for name in files:
        write(tmp_path / name, b"")
    with pytest.raises(error, match=message):
        find_files(tmp_path)


def test_names_do_not_lead_out_of_the_picture_folder(tmp_path):
    base = tmp_path.resolve() / "raw"
    for path in (base / "a/7.jpg", tmp_path / "secret.jpg", tmp_path / "raw2/7.jpg"):
        write(path, jpeg())
    (base / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (base / "up").symlink_to(tmp_path)
    (base / "inside.jpg").symlink_to("a/7.jpg")
    (base / "loop.jpg").symlink_to("loop.jpg")
    outside = [
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "link.jpg",
        "up/secret.jpg",
        "a/../../secret.jpg",
        "../raw2/7.jpg",
        "..",
    ]
    counts = Counter()
    assert [find_file(base, name, counts) for name in outside] == [None] * len(outside)
    assert counts == {"pictures outside of the picture folder, not read (--image_dir)": len(outside)}
    for name in ("a", "gone.jpg", "a\x00b", "x" * 5000, "loop.jpg", ""):
        assert find_file(base, name, counts) is None
    for name in ("a/7.jpg", "inside.jpg", "a/../a/7.jpg", str(base / "a/7.jpg")):
        assert find_file(base, name, counts) == base / "a/7.jpg"
    assert find_file(base, "https://example.org/7.jpg", counts) is None
    assert counts["pictures given as a URL, not fetched"] == 1 and counts.total() == len(outside) + 1


def test_escaping_pictures_and_crops_are_counted_and_not_stored(tmp_path):
    write(tmp_path / "secret.jpg", jpeg())
    rows = [
        {"text": "a", "image": "../secret.jpg", "objects": ["../secret.jpg", "7.jpg"]},
        {"text": "b", "image": ".."},
    ]
    write(tmp_path / "raw/7.jpg", jpeg())
    report, found = run_file(tmp_path, "train.jsonl", lines_of(rows))
    assert [row["image"] for row in found] == [None, None]
    assert [crop["path"] for crop in found[0]["objects"]] == ["7.jpg"]
    odd = report["splits"]["train"]["irregularities"]
    assert odd["pictures outside of the picture folder, not read (--image_dir)"] == 3
    write(tmp_path / "own/7/1.png", picture("PNG"))
    run(tmp_path / "raw", tmp_path / "out", "--objects", str(tmp_path / "own/7"))
    assert [row["objects"] for row in read_stored(tmp_path / "out")] == [[], []]


def test_pictures_elsewhere(tmp_path):
    write(tmp_path / "pictures/a/7.jpg", jpeg())
    rows = lines_of([{"text": "x", "image": "a/7.jpg"}])
    report, [row] = run_file(tmp_path, "train.jsonl", rows, "--image_dir", str(tmp_path / "pictures"))
    assert row["image"]["path"] == "7.jpg" and report["absent_pictures"] == {"total": 0, "first": []}


def test_unusable_crops_are_dropped_and_the_others_keep_their_order(tmp_path):
    contents = {
        "9.png": picture("PNG"),
        "8.png": b"",
        "7.gif": frames("GIF"),
        "10.png": jpeg(),
        "1.png": picture("PNG"),
    }
    for name, content in contents.items():
        write(tmp_path / "raw" / name, content)
    rows = [{"text": "x", "objects": [*contents, "gone.png"]}]
    report, [row] = run_file(tmp_path, "train.jsonl", lines_of(rows))
    assert [crop["path"] for crop in row["objects"]] == ["9.png", "10.png", "1.png"]
    assert report["splits"]["train"]["crops"] == {"present": 3, "absent": 1, "unreadable": 2}
    assert [entry["file"] for entry in report["unused_pictures"]] == ["8.png", "7.gif"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are texts there")
def test_crops_whose_file_names_are_no_texts_can_be_stored(tmp_path):
    write(tmp_path / "own/7/1.png", b"")
    for name, content in ((b"a\xff.png", picture("PNG")), (b"b\xff.png", b"damaged")):
        (tmp_path / "own/7" / name.decode(errors="surrogateescape")).write_bytes(content)
    rows = lines_of([{"text": "x", "image": "7.jpg"}])
    report, [row] = run_file(tmp_path, "train.jsonl", rows, "--objects", str(tmp_path / "own"))
    assert [crop["path"] for crop in row["objects"]] == ["a?.png"]
    assert [entry["file"] for entry in report["unused_pictures"]] == ["7/1.png", "7/b?.png"]


def test_large_cells_are_listed(tmp_path, monkeypatch):
    problems = []
    before = csv.field_size_limit(1000)
    try:
        path = write(tmp_path / "x.csv", "text\n" + "a" * 2000 + "\nb\n")
        assert list(read_table(path, path.read_text(), problems)) == [(3, {"text": "b"})]
    finally:
        csv.field_size_limit(before)
    assert [problem.line for problem in problems] == [2] and before >= 10_000_000
    word = "".join(random.Random(0).choices("abc", k=200_000))
    _, [row] = run_file(tmp_path, "train.csv", f"text\n{word}\n")
    assert row["tokens"] == [word]
    _, [row] = run_file(
        tmp_path / "numbers", "train.csv", f"tokens,head,tail,relation\na b,0 1,1 2,r\na b,0 {'9' * 5000},1 2,r\n"
    )
    assert row["tokens"] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "options", "stored"),
    [
        (["no_relation", "peer"], [], ["None", "peer"]),
        (["NA", "None", "", None, "Other"], [], ["None", "None", "None", "None", "Other"]),
        (["Other", "peer"], [], ["None", "peer"]),
        (["rest", "NA"], ["--none_label", "rest"], ["None", "NA"]),
        (["peer", "couple"], [], ["peer", "couple"]),
    ],
)
def test_no_relation_has_many_names_and_one_class(tmp_path, names, options, stored):
    pair = {"tokens": ["a", "b"], "head": [0, 1], "tail": [1, 2]}
    report, rows = run_file(tmp_path, "train.jsonl", lines_of([{**pair, "relation": name} for name in names]), *options)
    assert [row["relation"] for row in rows] == stored
    warnings = " ".join(report["warnings"])
    assert ("are stored as 'None'" in warnings) == ("None" in stored)
    assert ("no label stands for no relation" in warnings) == ("None" not in stored)


def test_entities_and_relations_become_rows_with_tags_or_pairs(tmp_path):
    entities = [{"start": 0, "end": 4, "label": "PER"}, {"start": 14, "end": 19, "label": "LOC"}]
    relation = {"head": 0, "tail": 1, "label": "visits"}
    posts = [
        {"id": 7, "text": KOBE["text"], "entities": entities, "relations": [relation]},
        {"id": 8, "text": KOBE["text"], "entities": entities[:1]},
        {"id": 9, "text": KOBE["text"], "entities": [{"start": 0, "end": 40, "label": "PER"}]},
    ]
    report, rows = run_file(tmp_path / "a", "train.jsonl", lines_of(posts))
    assert [row["ner_tags"] for row in rows] == [KOBE["ner_tags"], ["B-PER", "O", "O", "O"]]
    spans = {"head": {"start": 0, "end": 1}, "tail": {"start": 3, "end": 4}}
    assert [row["relations"] for row in rows] == [[{"head": 0, "tail": 1, "label": 1}], []]
    assert [(entry["line"], entry["reason"][:12]) for entry in report["unparsed_lines"]] == [(3, "entity 0 ('P")]
    assert report["splits"]["train"]["relations"] == {"None": 0, "visits": 1}
    report, rows = run_file(tmp_path / "b", "train.jsonl", lines_of(posts), "--task", "mre")
    assert [(row["id"], row["relation"]) for row in rows] == [("7/0-1", "visits"), ("7/1-0", "None")]
    assert {name: rows[0][name] for name in spans} == spans and rows[0]["tokens"] == KOBE["text"].split()
    assert (
        "posts with fewer than two entities, which have no pair, left out"
        in report["splits"]["train"]["irregularities"]
    )
    unknown = {**posts[0], "id": 10, "relations": None}
    report, rows = run_file(tmp_path / "d", "train.jsonl", lines_of([*posts, unknown]))
    assert [row["relations"] for row in rows][1:] == [[], None]
    assert report["splits"]["train"]["posts whose relations are not annotated"] == 1
    report, rows = run_file(tmp_path / "e", "train.jsonl", lines_of([*posts, unknown]), "--task", "mre")
    assert [row["id"] for row in rows] == ["7/0-1", "7/1-0"]
    assert report["splits"]["train"]["irregularities"][NOT_ANNOTATED] == 1
    with pytest.raises(SystemExit, match="--task mre needs relations, but no row has one"):
        run_file(tmp_path / "c", "train.jsonl", lines_of([{**posts[0], "relations": []}]), "--task", "mre")


def test_regions_are_those_of_the_crops_that_are_there(tmp_path):
    for name in ("a.png", "b.png"):
        write(tmp_path / "raw" / name, picture("PNG"))
    spans = [(0, 4, 2), (14, 19, 0), (5, 10, -1), (11, 13, 1), (20, 22, None)]
    entities = [{"start": start, "end": end, "label": "X", "region": region} for start, end, region in spans]
    posts = [
        {"text": "Kobe lands in Paris ok", "entities": entities, "objects": ["a.png", "gone.png", "b.png"]},
        {"text": "Kobe", "entities": [{"start": 0, "end": 4, "label": "X"}]},
        {"text": "Kobe", "entities": [{"start": 0, "end": 4, "label": "X", "region": 1}], "objects": [None, "a.png"]},
    ]
    report, rows = run_file(tmp_path, "train.jsonl", lines_of(posts))
    assert [row["regions"] for row in rows] == [[1, -1, None, 0, None], [None], [0]]  # in the order of the words
    counts = report["splits"]["train"]["irregularities"]
    assert counts["regions of crops that are absent or cannot be read, stored as not known"] == 1
    report = run(tmp_path / "raw", tmp_path / "out", "--objects", "none")
    assert "regions" not in read_stored(tmp_path / "out")[0]
    assert [note for note in report["warnings"] if note.startswith("regions are left out")]


def test_an_array_of_pairs_as_spacy_has_them_is_read(tmp_path):
    pairs = [["Kobe lands", {"entities": [[0, 4, "PER"]]}], ["in Paris", {"entities": []}]]
    for name, text in (("a", json.dumps(pairs, indent=1)), ("b", "".join(f"{json.dumps(pair)}\n" for pair in pairs))):
        report, rows = run_file(tmp_path / name, "train.json", text)
        assert [row["ner_tags"] for row in rows] == [["B-PER", "O"], ["O", "O"]] and report["unparsed_lines"] == []
