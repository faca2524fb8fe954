"""Joining Parquet files: the rows stay as they are, and a picture that several rows share is stored once."""

import random
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from datasets.arrow_writer import ParquetWriter

from modeling_i2srm.prepare import parquet
from modeling_i2srm.prepare.builder import MNER_FEATURES, NER_TAGS
from modeling_i2srm.prepare.parquet import join_files, read_columns

KB = 1000


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def make_rows(pictures: list[bytes | None], crops: dict[int, list[bytes]] | None = None) -> list[dict]:
    return [
        {
            "id": str(number),
            "tokens": ["post", str(number)],
            "ner_tags": [0, number % len(NER_TAGS)],
            "image": content and {"bytes": content, "path": f"{number}.jpg"},
            "objects": [{"bytes": crop, "path": "crop.png"} for crop in (crops or {}).get(number, [])],
        }
        for number, content in enumerate(pictures)
    ]


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Write rows as `datasets` does, ten to a row group."""
    with ParquetWriter(features=MNER_FEATURES, path=str(path), writer_batch_size=10) as writer:
        for row in rows:
            writer.write(MNER_FEATURES.encode_example(row))
        writer.finalize()
    return path


def join(folder: Path, *files: list[dict]) -> tuple[list[int], list[Path]]:
    folder.mkdir()
    paths = [write_rows(folder / f"in-{number}", rows) for number, rows in enumerate(files)]
    lengths = join_files(paths, folder, "train")
    return lengths, sorted(folder.glob("train-*"))


def read(paths: list[Path]) -> list[dict]:
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_rows_and_types_stay_as_they_are(tmp_path):
    rows = make_rows([noise(50), None, noise(50), noise(60, 1)], {0: [noise(9), noise(9, 2)], 3: [noise(9)]})
    lengths, paths = join(tmp_path / "out", rows[:3], rows[3:])
    assert lengths == [4] and [path.name for path in paths] == ["train-00000-of-00001.parquet"]
    assert read(paths) == rows
    assert datasets.Features.from_arrow_schema(pq.read_schema(paths[0])) == MNER_FEATURES
    assert pq.read_schema(paths[0]).equals(pq.read_schema(tmp_path / "out/in-0"), check_metadata=True)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(paths[0]), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features == MNER_FEATURES


@pytest.mark.parametrize("size", [20 * KB, 700 * KB])
def test_a_shared_picture_is_stored_once(tmp_path, monkeypatch, size):
    monkeypatch.setattr(parquet, "BYTES_TOGETHER", 10**8)
    pictures = [noise(size, seed) for seed in range(4)]
    rows = make_rows([pictures[number % 4] for number in range(32)], {number: [noise(size, 9)] for number in range(32)})
    _, paths = join(tmp_path / "out", rows)
    assert sum(path.stat().st_size for path in paths) < 5 * size + 30 * KB
    assert read(paths) == rows


def test_many_shared_crops_are_stored_once(tmp_path):
    pictures = [noise(2 * KB, seed) for seed in range(600)]  # more than a dictionary of the default size holds
    crops = {number: [pictures[(8 * number + crop) % 600] for crop in range(8)] for number in range(300)}
    rows = make_rows([None] * 300, crops)
    _, paths = join(tmp_path / "out", rows)
    assert sum(path.stat().st_size for path in paths) < 600 * 2 * KB + 60 * KB
    assert read(paths) == rows


def test_pictures_that_nothing_shares_take_no_more_room(tmp_path):
    rows = make_rows([noise(200 * KB, seed) for seed in range(20)])
    _, paths = join(tmp_path / "out", rows)
    assert sum(path.stat().st_size for path in paths) < 20 * 200 * KB + 30 * KB
    assert read(paths) == rows


def test_posts_without_any_picture(tmp_path):
    rows = make_rows([None] * 25)
    lengths, paths = join(tmp_path / "out", rows)
    assert lengths == [25] and read(paths) == rows
    assert datasets.Features.from_arrow_schema(pq.read_schema(paths[0])) == MNER_FEATURES


def test_row_groups_and_files_have_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_TOGETHER", 30)
    monkeypatch.setattr(parquet, "BYTES_TOGETHER", 100 * KB)
    monkeypatch.setattr(parquet, "MAX_FILE_BYTES", 300 * KB)
    rows = make_rows([None] * 70 + [noise(10 * KB, seed) for seed in range(70)])
    lengths, paths = join(tmp_path / "out", rows)
    count = len(lengths)
    assert count > 1 and [path.name for path in paths] == [
        f"train-{i:05d}-of-{count:05d}.parquet" for i in range(count)
    ]
    assert [pq.read_metadata(path).num_rows for path in paths] == lengths
    assert read(paths) == rows
    groups = [
        pq.read_metadata(path).row_group(i) for path in paths for i in range(pq.read_metadata(path).num_row_groups)
    ]
    assert max(group.num_rows for group in groups) == 30
    assert max(group.total_byte_size for group in groups) < 200 * KB
    assert all(300 * KB <= path.stat().st_size < 500 * KB for path in paths[:-1])
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("cuts", [[0], [1, 37], [64, 64], [50], [99]])
def test_rows_of_several_files_are_joined_in_their_order(tmp_path, monkeypatch, cuts):
    monkeypatch.setattr(parquet, "ROWS_TOGETHER", 40)
    rows = make_rows([noise(3 * KB, number // 3) if number % 5 else None for number in range(100)])
    bounds = [0, *cuts, 100]
    lengths, paths = join(tmp_path / "out", *(rows[a:b] for a, b in zip(bounds, bounds[1:], strict=False)))
    assert lengths == [100] and read(paths) == rows


def test_some_columns_are_read_without_the_pictures(tmp_path):
    rows = make_rows([noise(50), None], {0: [noise(9)]})
    join(tmp_path / "out", rows)
    found = read_columns(tmp_path / "out", "train", ["tokens", "image.path", "objects.list.element.path"])
    assert found == [
        {"tokens": ["post", "0"], "image": {"path": "0.jpg"}, "objects": [{"path": "crop.png"}]},
        {"tokens": ["post", "1"], "image": None, "objects": []},
    ]
    assert read_columns(tmp_path / "out", "test", ["tokens"]) == []
