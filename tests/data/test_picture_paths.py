"""Data sets whose rows name files."""

import pytest
from datasets import Dataset, Features, Image, List, Value
from tiny import noise

from modeling_i2srm.data.dataset import check_picture_paths, paths_of

FEATURES = Features({"id": Value("string"), "image": Image(), "objects": List(Image())})


@pytest.fixture
def folder(tmp_path):
    """A data set's folder with a picture, links, and a secret beside it."""
    (tmp_path / "data").mkdir()
    noise().save(tmp_path / "secret.png")
    noise().save(tmp_path / "data" / "1.png")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    return tmp_path / "data"


def dataset(*rows) -> dict[str, Dataset]:
    columns = {"id": list(map(str, range(len(rows)))), "image": [row[0] for row in rows]}
    return {"train": Dataset.from_dict(columns | {"objects": [list(row[1:]) for row in rows]}, FEATURES)}


@pytest.mark.parametrize("decode", [True, False])
def test_bytes_and_paths_inside_are_good(folder, decode):
    data = (folder / "1.png").read_bytes()
    splits = dataset(
        [{"bytes": data, "path": "/gone/1.png"}, {"bytes": data, "path": None}],
        [str(folder / "1.png"), str(folder / "x" / ".." / "1.png"), "https://example.com/../a.png"],
        [None],
    )
    if not decode:
        splits = {"train": splits["train"].cast_column("image", Image(decode=False))}
    assert paths_of(splits["train"], "image") == [str(folder / "1.png")]
    check_picture_paths(str(folder), splits)
    check_picture_paths(str(folder), {"train": Dataset.from_dict({"tokens": [["a"]]})})
    check_picture_paths(str(folder), {"train": Dataset.from_dict({"image": [None, None]})})


@pytest.mark.parametrize("bad", ["{}/../secret.png", "{}/link.png", "/etc/hostname", "secret.png"])
def test_paths_outside_are_counted_and_named(folder, bad):
    bad = bad.format(folder)
    with pytest.raises(ValueError, match=r"1 pictures of the train split .*--image_dir") as caught:
        check_picture_paths(str(folder), dataset([str(folder / "1.png")], [None, bad]))
    assert repr(bad) in str(caught.value)
    with pytest.raises(ValueError, match="1 pictures"):
        check_picture_paths("user/name", dataset([bad], [bad]))
    check_picture_paths(str(folder), dataset([bad]), image_dir="/")


def test_another_folder_may_be_named(folder):
    rows = dataset([str(folder / "1.png")], [str(folder.parent / "secret.png")])
    check_picture_paths(str(folder), rows, image_dir=str(folder.parent))
    with pytest.raises(ValueError, match="1 pictures"):
        check_picture_paths("user/name", rows, image_dir=str(folder))
