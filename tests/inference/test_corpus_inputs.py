"""Corpora in files that are neither JSONL nor Parquet: their answers are those of the same posts as JSONL."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import arguments, errors, lines, png

from modeling_i2srm.inference.corpus import extract_corpus
from modeling_i2srm.inference.corpus_inputs import prepare_inputs
from modeling_i2srm.inference.corpus_table import write_table

TEXTS = ["Kobe lands in Paris", "Swan upping , Tower Bridge", 'so "big" says Amazon']


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A folder with three texts, two pictures, and the posts as JSONL."""
    folder = tmp_path / "posts"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text + "\n")
    for number in (0, 2):
        (folder / f"{number}.png").write_bytes(png(60 * number))
    rows = [{"id": str(n), "text": text} | ({} if n == 1 else {"image": f"{n}.png"}) for n, text in enumerate(TEXTS)]
    (folder / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_csv(folder: Path) -> Path:
    rows = [json.loads(line) for line in (folder / "posts.jsonl").read_text().splitlines()]
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "image"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"


def write_array(folder: Path) -> Path:
    values = ",".join((folder / "posts.jsonl").read_text().splitlines())
    (folder / "array.json").write_text(f"[{values}]")
    return folder / "array.json"


@pytest.mark.parametrize("write", [write_csv, write_array, lambda folder: folder], ids=["csv", "json", "folder"])
def test_other_files_give_what_jsonl_gives(corpus, tmp_path, extractor, write):
    extract_corpus(arguments(corpus / "posts.jsonl", tmp_path / "jsonl"), extractor)
    source = write(corpus)
    summary = extract_corpus(arguments(source, tmp_path / "other"), extractor)
    assert (summary["posts"], summary["errors"], summary["posts_without_picture"]) == (3, 0, 1)
    assert lines(tmp_path / "other") == lines(tmp_path / "jsonl")
    assert sum(len(post["entities"]) for post in lines(tmp_path / "other")) > 3
    (tmp_path / "other/done/part-00000.json").unlink()  # the same command resumes
    assert extract_corpus(arguments(source, tmp_path / "other"), extractor)["posts"] == 3


def test_rows_that_cannot_be_read_are_errors_with_their_lines(corpus, tmp_path, extractor):
    table = write_csv(corpus)
    table.write_text(table.read_text() + "9,one,two,three\n")
    shutil.copy(corpus / "0.png", corpus / "alone.png")
    summary = extract_corpus(arguments([table, corpus], tmp_path / "out"), extractor)
    assert (summary["posts"], summary["errors"]) == (6, 2)
    first, second = errors(tmp_path / "out")
    assert (first["input"], first["reason"]) == (str(table), "line 5: expected 3 cells, got 4")
    assert second["input"] == str(corpus) and second["reason"].startswith("alone.png has no text")
    table.write_text(table.read_text() + "10,Kobe,\n")
    with pytest.raises(ValueError, match="has changed since"):
        extract_corpus(arguments([table, corpus], tmp_path / "out"), extractor)


def test_data_sets_are_read_with_their_pictures(corpus, tmp_path, extractor):
    data = tmp_path / "data"
    data.mkdir()
    rows = {"id": ["a", "b"], "text": TEXTS[:2], "image": [{"bytes": png(0), "path": None}, None]}
    for split in ("train", "test"):
        pq.write_table(pa.table(rows), data / f"{split}.parquet")
    both = prepare_inputs([f"hf:{data}"], tmp_path / "inputs")
    assert [Path(source.file).stem.rpartition("-")[2] for source in both] == ["train", "test"]
    assert [pq.read_table(source.file).to_pylist() for source in both] == [pa.table(rows).to_pylist()] * 2
    summary = extract_corpus(arguments(f"hf:{data}:test", tmp_path / "out"), extractor)
    assert (summary["posts"], summary["posts_without_picture"]) == (2, 1)
    with pytest.raises(ValueError, match=r"hf:owner/none:test cannot be loaded: .*; e\.g\. hf:owner/posts:test"):
        prepare_inputs(["hf:owner/none:test"], tmp_path / "inputs")


def test_answers_are_also_one_parquet_file(corpus, tmp_path, extractor):
    with open(corpus / "posts.jsonl", "a") as file:
        file.write('{"id": "half\\ud83d", "text": "Kobe", "image": "http://127.0.0.1/none.png"}\n')
    settings = {"output_format": "parquet", "shard_size": 2}
    extract_corpus(arguments(corpus / "posts.jsonl", tmp_path / "out", **settings), extractor)
    rows = pq.read_table(tmp_path / "out/answers.parquet").to_pylist()
    expected = lines(tmp_path / "out")
    assert [row["id"] for row in rows] == ["0", "1", "2", "half\ufffd"]
    for row, answer in zip(rows, expected, strict=True):
        kept = [{name: value for name, value in one.items() if value is not None} for one in row["entities"]]
        assert (kept, row["relations"], row["text"]) == (answer["entities"], answer["relations"], answer.get("text"))
    assert sum(len(row["relations"]) for row in rows) > 0
    assert rows[3]["image_errors"][0]["picture"] == "image"
    boxes = [{"box": [1, 2, 3, 4], "score": 0.5, "label": "dog"}]
    part = tmp_path / "part.jsonl"
    part.write_text(json.dumps({**expected[0], "objects": [None, *boxes, "a.png"]}) + "\n")
    write_table([part], tmp_path / "boxes.parquet", boxes=True)
    assert pq.read_table(tmp_path / "boxes.parquet")["objects"].to_pylist() == [
        [None, {"path": None, **boxes[0]}, {"path": "a.png", "box": None, "score": None, "label": None}]
    ]
