"""Corpora in Parquet files."""

import base64
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import arguments, errors, lines, write_jsonl

from modeling_i2srm.inference.corpus import extract_corpus
from modeling_i2srm.support import parquet_rows
from modeling_i2srm.support.parquet_rows import ParquetRows


def to_parquet(path: Path, jsonl: Path, **options) -> Path:
    """The posts of a JSONL file as a data set has them, pictures inside."""
    rows = []
    for line in jsonl.read_text().splitlines():
        post = {"id": None, "text": None, "tokens": None, "image": None, "objects": [], **json.loads(line)}
        for name in ("image", "objects"):
            crops = [
                {"bytes": (jsonl.parent / p).read_bytes(), "path": None} for p in [post[name]] if isinstance(p, str)
            ]
            if name == "objects":
                crops = [{"bytes": (jsonl.parent / p).read_bytes(), "path": None} for p in post[name]]
            post[name] = crops if name == "objects" else crops[0] if crops else None
        rows.append({**post, "ner_tags": [0]})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_parquet_with_pictures_inside_gives_what_jsonl_gives(tmp_path, extractor):
    jsonl = write_jsonl(tmp_path / "in", 23)
    to_parquet(tmp_path / "data" / "b" / "posts.parquet", jsonl, row_group_size=7)
    extract_corpus(arguments(jsonl, tmp_path / "jsonl"), extractor)
    extract_corpus(arguments(tmp_path / "data", tmp_path / "parquet"), extractor)
    found, expected = lines(tmp_path / "parquet"), lines(tmp_path / "jsonl")
    assert any("image" in post for post in expected) and not any("image" in post for post in found)
    assert [{**post, "objects": []} for post in found] == [
        {name: value for name, value in post.items() if name != "image"} | {"objects": []} for post in expected
    ]
    assert errors(tmp_path / "parquet") == errors(tmp_path / "jsonl") == []
    # A path in place of bytes is one in the folder of the file.
    pq.write_table(
        pa.table({"text": ["Kobe", "Kobe"], "image": ["pictures/0.png", "none.png"]}), jsonl.parent / "x.parquet"
    )
    summary = extract_corpus(arguments(jsonl.parent / "x.parquet", tmp_path / "paths"), extractor)
    assert (summary["posts"], summary["errors"], summary["posts_without_picture"]) == (1, 1, 0)


@pytest.mark.parametrize("row_group_size", [3, 70, 1000])
def test_ranges_of_parquet_rows_are_read_in_any_order(tmp_path, row_group_size, monkeypatch):
    monkeypatch.setattr(parquet_rows, "ROWS_TOGETHER", 8)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [f"post {i}" for i in range(200)]}), path, row_group_size=row_group_size)
    rows = ParquetRows(path, ("text",))
    for start, stop in [(0, 5), (5, 6), (50, 90), (190, 200), (10, 30), (30, 30), (31, 75), (199, 200), (0, 200)]:
        expected = [(i + 1, {"text": f"post {i}"}) for i in range(start, stop)]
        assert list(rows.read(start, stop)) == expected
    rows.close()


def test_row_groups_between_two_ranges_are_not_read(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"text": [base64.b64encode(random.Random(i).randbytes(50)).decode() for i in range(300)]})
    pq.write_table(table, path, row_group_size=100, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(data)
    rows = ParquetRows(path, ("text",))
    for start, stop in ((0, 40), (200, 300)):
        assert [row["text"] for _, row in rows.read(start, stop)] == table["text"].to_pylist()[start:stop]
    with pytest.raises(RuntimeError, match="x.parquet: row 101 cannot be read"):
        list(rows.read(100, 101))
    rows.close()


def test_a_row_group_is_never_in_memory_as_a_whole(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"text": ["Kobe"] * 400, "image": [os.urandom(100_000) for _ in range(400)]})
    pq.write_table(table, path, use_dictionary=False, write_batch_size=10)
    del table
    before, most = pa.total_allocated_bytes(), 0
    rows = ParquetRows(path, ("text", "image"))
    for _ in rows.read(0, 400):
        most = max(most, pa.total_allocated_bytes() - before)
    rows.close()
    assert path.stat().st_size > 40_000_000 and 3_000_000 < most < 15_000_000


def test_a_damaged_parquet_file_stops_the_run(tmp_path, extractor):
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"text": [base64.b64encode(random.Random(i).randbytes(50)).decode() for i in range(400)]}), path
    )
    data = bytearray(path.read_bytes())
    data[200:2000] = bytes(1800)
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"stopped at part-00000.*x.parquet: row 1 cannot be read"):
        extract_corpus(arguments(path, tmp_path / "out"), extractor)
