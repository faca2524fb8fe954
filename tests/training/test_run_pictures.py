"""A run that is asked for pictures and would read none ends before it begins."""

import shutil
from pathlib import Path

import datasets
import pytest
from tiny import tiny_processor
from tiny_runs import command_line

from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import encode_data, prepare_data
from modeling_i2srm.training.tasks import MNER


def changed(posts, folder: Path, change) -> Path:
    """A copy of a data set whose splits are changed."""
    shutil.copytree(posts, folder, ignore=shutil.ignore_patterns("*.json", "*.md"))
    for name in ("train", "validation", "test"):
        (path,) = folder.glob(f"data/{name}-*.parquet")
        rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(folder.parent / "cache"))
        path.unlink()
        change(rows).to_parquet(path)
    return folder


def prepare(dataset, folder, **settings):
    return prepare_data(MNER, parse_arguments(command_line(str(dataset), folder / "out", **settings)))


def test_a_column_of_another_name_is_refused(posts, tmp_path):
    rename = {"image": "picture", "objects": "crops"}
    dataset = changed(posts, tmp_path / "posts", lambda rows: rows.rename_columns(rename))
    with pytest.raises(
        ValueError, match=r"split 'train': .*rename_column\(\"picture\", \"image\"\).*--use_images false"
    ):
        prepare(dataset, tmp_path)
    assert prepare(dataset, tmp_path, use_images=False).splits.keys() == {"train", "validation", "test"}
    with pytest.raises(ValueError, match="split 'validation'"):
        prepare(dataset, tmp_path, do_train=False)


@pytest.mark.parametrize("columns", [["image", "objects"], ["image"]])
def test_data_without_pictures_need_to_be_asked_for(posts, tmp_path, columns):
    def change(rows):
        if columns == ["image"]:  # the other one stays, without a crop
            empty = [[] for _ in rows]
            objects = datasets.Dataset.from_dict({"objects": empty}, rows.select_columns("objects").features)
            rows = datasets.concatenate_datasets([rows.remove_columns("objects"), objects], axis=1)
        return rows.remove_columns(columns)

    dataset = changed(posts, tmp_path / "posts", change)
    reason = "no post has a picture" if columns == ["image"] else "no column 'image' or 'objects'"
    with pytest.raises(ValueError, match=f"split 'train': .*{reason}.*--use_images false"):
        prepare(dataset, tmp_path)
    prepare(dataset, tmp_path, use_images=False)


@pytest.mark.parametrize("use_images", [True, False])
def test_the_pictures_of_the_posts_that_are_used_are_counted(posts, tmp_path, use_images):
    limits = {"max_train_samples": 8, "max_eval_samples": 4, "max_predict_samples": 4}
    arguments = parse_arguments(command_line(posts, tmp_path / "out", use_images=use_images, **limits))
    data = prepare_data(MNER, arguments)
    expected = {
        name: sum(row["image"] is not None or bool(row["objects"]) for row in data.splits[name].select(range(count)))
        for name, count in (("train", 8), ("validation", 4), ("test", 4))
    }
    assert 0 < sum(expected.values()) < 16
    encoded = encode_data(MNER, arguments, data, tiny_processor())
    assert encoded.pictures == (expected if use_images else {})
