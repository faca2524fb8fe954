"""Picture files: only sound pictures are used, their bytes unchanged, and no name leads out of the folder."""

import io
import os
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_files import frames, jpeg, picture, png_header, write, write_index

from modeling_i2srm.prepare import picture_files
from modeling_i2srm.prepare.picture_files import (
    PictureFolder,
    find_picture_folder,
    folders_below,
    has_another_format,
    is_plain_name,
    natural_order,
    read_crop_index,
    read_picture,
    stamp_files,
)

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no picture of the formats"),
        (b"not found\n", "no picture of the formats"),
        (b"<!DOCTYPE html><title>404</title>", "no picture of the formats"),
        (EPS, "no picture of the formats"),
        (jpeg()[:20], "no picture of the formats"),
        (jpeg()[:-150], "Truncated"),
        (picture("PNG", (200, 200))[:-60], "OSError|SyntaxError"),
        (png_header(12, 8), "OSError|SyntaxError"),
        (png_header(50_000, 50_000), "2500000000 pixels"),
        (frames("GIF"), "animated, 2 frames"),
        (frames("GIF", 3), "animated, 3 frames"),
        (frames("WEBP"), "animated, 2 frames"),
        (frames("PNG"), "animated, 2 frames"),
    ],
    ids="empty text html eps stub cut cut-png header huge gif gif-of-three webp apng".split(),
)
def test_bad_files_are_not_used_and_the_reason_is_said(tmp_path, content, reason):
    path = write(tmp_path / "7.jpg", content)
    value, found = read_picture(path)
    assert value is None and re.search(reason, found)
    assert str(tmp_path) not in found and " at 0x" not in found


@pytest.mark.parametrize(
    "content",
    [
        jpeg(),
        frames("MPO"),
        picture("PNG"),
        picture("GIF"),
        picture("WEBP"),
        picture("BMP"),
        picture("TIFF"),
        jpeg() + b"trailing bytes",
    ],
    ids="jpeg mpo png gif webp bmp tiff trailing".split(),
)
def test_sound_pictures_are_used_unchanged_whatever_their_name(tmp_path, content):
    assert read_picture(write(tmp_path / "7.jpg", content)) == ({"bytes": content, "path": "7.jpg"}, None)


def test_another_format_than_the_name_says_is_noticed(tmp_path):
    assert Image.open(io.BytesIO(frames("MPO"))).format == "MPO"
    for name, content, other in [
        ("1.jpg", jpeg(), False),
        ("2.JPEG", jpeg(), False),
        ("3.jpg", frames("MPO"), False),
        ("4.tif", picture("TIFF"), False),
        ("5.png", picture("PNG"), False),
        ("6.jpg", picture("PNG"), True),
        ("7.png", jpeg(), True),
        ("8.jpg", b"no picture", False),
    ]:
        assert has_another_format(write(tmp_path / name, content)) is other, name


def test_large_pictures_are_left_out(tmp_path, monkeypatch):
    path = write(tmp_path / "1.jpg", jpeg(40, 30))
    assert read_picture(path, max_pixels=1199) == (None, "40x30 pixels, more than 1199")
    assert read_picture(path, max_pixels=1200)[1] is None
    size = len(jpeg(40, 30))
    monkeypatch.setattr(picture_files, "MAX_BYTES", size)
    assert read_picture(path)[1] is None
    monkeypatch.setattr(picture_files, "MAX_BYTES", size - 1)
    assert read_picture(path) == (None, f"{size} bytes, more than {size - 1}")


def test_an_absent_file_is_no_problem_but_what_is_no_file_is(tmp_path):
    assert read_picture(tmp_path / "1.jpg") == (None, None)
    (tmp_path / "2.jpg").mkdir()
    assert read_picture(tmp_path / "2.jpg") == (None, "not a file")


def test_an_unreadable_file_is_named_without_its_folder(tmp_path, monkeypatch):
    path = write(tmp_path / "1.jpg", jpeg())

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    value, reason = read_picture(path)
    assert value is None and reason.startswith("PermissionError: ") and str(tmp_path) not in reason


def test_links_do_not_lead_out_of_the_folder(tmp_path):
    secret = write(tmp_path / "secret.jpg", jpeg())
    folder = tmp_path / "pictures"
    write(folder / "1.jpg", jpeg())
    for name, target in {"2": secret, "3": "../secret.jpg", "4": "1.jpg", "5": "gone.jpg", "6": "6.jpg"}.items():
        (folder / f"{name}.jpg").symlink_to(target)
    reasons = {name: read_picture(folder / f"{name}.jpg")[1] for name in "123456"}
    assert reasons["1"] is None and reasons["4"] is None
    assert "leads out of its folder" in reasons["2"] and reasons["3"] == reasons["2"]
    assert reasons["5"] == "not a file" and reasons["6"] and str(tmp_path) not in reasons["6"]
    (tmp_path / "link").symlink_to(folder)
    assert read_picture(tmp_path / "link/1.jpg")[1] is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("7.jpg", True),
        ("twitter_19_31_16_6.jpg", True),
        ("naïve picture ①.png", True),
        ("..jpg", True),
        ("", False),
        (".", False),
        ("..", False),
        ("../7.jpg", False),
        ("/etc/passwd", False),
        ("a/b.jpg", False),
        ("..\\7.jpg", False),
        ("C:7.jpg", False),
        (" 7.jpg", False),
        ("7.jpg\n", False),
        ("7\x00.jpg", False),
        ("7\u202e.jpg", False),
        ("\ud800.jpg", False),
        ("9" * 200, True),
        ("9" * 201, False),
        ("é" * 101, False),
    ],
)
def test_plain_names(name, plain):
    assert is_plain_name(name) is plain


def test_files_under_another_name_are_found(tmp_path):
    for name in ("7.png", "7.JPG", "70.jpg", "8.jpg", "8.png", "Ä.jpg"):
        write(tmp_path / name, b"")
    folder = PictureFolder(tmp_path)
    assert folder.file("7.jpg") is None and folder.other_names("7.jpg") == ["7.JPG", "7.png"]
    assert folder.file("8.jpg") == tmp_path / "8.jpg" and folder.other_names("8.jpg") == []
    assert folder.other_names("ä.jpeg") == ["Ä.jpg"]
    assert folder.file(None) is None and folder.other_names(None) == [] and folder.other_names("9.jpg") == []
    for empty in (PictureFolder(None), PictureFolder(tmp_path / "gone")):
        assert empty.file("7.jpg") is None and empty.other_names("7.jpg") == []


def test_pictures_of_another_data_set_with_the_same_names_are_not_taken(tmp_path):
    names = [f"{number}.jpg" for number in range(6)]
    for folder, count in {"mvsa/images": 2, "NER_data/Twitter2015_images": 1}.items():
        for name in names[:count]:
            write(tmp_path / folder / name, b"")
    found = find_picture_folder(tmp_path, names, "twitter2015")
    assert found.path == tmp_path / "NER_data/Twitter2015_images" and found.refused is None
    found = find_picture_folder(tmp_path / "mvsa", names, "twitter2015")
    assert found.path is None and found.names == set() and found.refused == tmp_path / "mvsa/images"
    assert find_picture_folder(tmp_path / "mvsa", names).path == tmp_path / "mvsa/images"
    write(tmp_path / "twitter2015/pictures" / names[0], b"")  # data_dir itself may be called like the data set
    found = find_picture_folder(tmp_path / "twitter2015", names, "twitter2015")
    assert found.path == tmp_path / "twitter2015/pictures"
    for name in names:  # nearly all pictures in another folder are better than a few in one of that name
        write(tmp_path / "all" / name, b"")
    assert find_picture_folder(tmp_path, names, "twitter2015").path == tmp_path / "all"


def test_the_picture_folder_is_the_one_with_most_of_the_names(tmp_path):
    names = [f"{number}.jpg" for number in range(6)]
    for folder, count in {"a": 2, "a/few": 3, "b c/pictures": 5, ".hidden": 6, "x/1/2/3/4/deep": 6}.items():
        for name in names[:count]:
            write(tmp_path / folder / name, b"")
    for number in range(20):
        write(tmp_path / f"crops/{number}.png", b"")
    assert find_picture_folder(tmp_path, names).path == tmp_path / "b c/pictures"
    assert find_picture_folder(tmp_path / "x", names).path is None
    assert find_picture_folder(tmp_path / "x/1", names).path == tmp_path / "x/1/2/3/4/deep"
    assert find_picture_folder(tmp_path, ["none.jpg"]).path is None
    assert find_picture_folder(tmp_path, []).names == set()
    assert find_picture_folder(tmp_path, names, "twitter2015").path == tmp_path / "b c/pictures"  # at least half
    depths = {len(folder.relative_to(tmp_path).parts) for folder, _ in folders_below(tmp_path)}
    assert depths == {0, 1, 2, 3, 4}


def test_numbers_in_names_count_as_numbers():
    names = ["crop_1.png", "crop_2.png", "crop_10.png", "crop_10b.png", "crop_010.png", "x.png", "10", "9", "٣"]
    found = []
    for seed in range(20):
        random.Random(seed).shuffle(names)
        found.append(sorted(names, key=natural_order))
    assert all(order == found[0] for order in found)
    order = [name for name in found[0] if name.startswith("crop_")]
    assert order == ["crop_1.png", "crop_2.png", "crop_010.png", "crop_10.png", "crop_10b.png"]


@given(names=st.lists(st.text(max_size=5) | st.from_regex(r"[a0-9²]{0,4}", fullmatch=True), unique=True))
@settings(deadline=None, derandomize=True)
def test_any_names_have_one_order(names):
    assert sorted(names, key=natural_order) == sorted(reversed(names), key=natural_order)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["7.jpg"], "expected a dict of crop names, got list"),
        ({"7.jpg": "0.png"}, "expected a list of file names for '7.jpg', got 0.png"),
        ({"7.jpg": ["0.png", 3]}, "file names for '7.jpg'"),
        ({3: ["../../secret.png"]}, "file names for 3"),
        ({3: ["/etc/passwd"]}, "file names for 3"),
        ({3: [Trap()]}, "cannot be read"),
    ],
)
def test_a_wrong_crop_index_is_an_error_that_names_the_entry(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = write_index(tmp_path / "index.pth", content)
    with pytest.raises(ValueError, match=message) as error:
        read_crop_index(path)
    assert str(error.value).startswith(str(path)) and not (tmp_path / "trapped").exists()


def test_a_damaged_crop_index_is_an_error(tmp_path):
    path = write_index(tmp_path / "index.pth", {"7.jpg": ["3.png", "1.png"]})
    assert read_crop_index(path) == {"7.jpg": ["3.png", "1.png"]}
    for content in (b"", b"text", path.read_bytes()[:-100], bytes(100)):
        with pytest.raises(ValueError, match=r"broken\.pth: cannot be read as an index of crops"):
            read_crop_index(write(tmp_path / "broken.pth", content))


def test_the_old_format_of_torch_is_read_too(tmp_path):
    torch.save({0: ["1.png"]}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_crop_index(tmp_path / "old.pth") == {0: ["1.png"]}


@pytest.mark.parametrize("name", ["train.txt", "train.JSONL", "a/index.pth", "x.csv"])
def test_a_text_that_changes_changes_the_stamp_whatever_its_size_and_time(tmp_path, name):
    path = write(tmp_path / "raw" / name, b"one")
    os.utime(path, ns=(10**18, 10**18))
    before = stamp_files(tmp_path / "raw")
    assert stamp_files(tmp_path / "raw") == before
    path.write_bytes(b"two")
    os.utime(path, ns=(10**18, 10**18))
    assert stamp_files(tmp_path / "raw") != before


def test_a_picture_that_changes_changes_the_stamp(tmp_path):
    path = write(tmp_path / "raw/a/b/c/d/e/1.jpg", b"one")
    os.utime(path, ns=(10**18, 10**18))
    stamps = [stamp_files(tmp_path / "raw")]
    os.utime(path, ns=(10**18, 10**18 + 1))
    stamps.append(stamp_files(tmp_path / "raw"))
    path.rename(path.with_name("2.jpg"))
    stamps.append(stamp_files(tmp_path / "raw"))
    path.with_name("2.jpg").unlink()
    stamps.append(stamp_files(tmp_path / "raw"))
    assert len(set(stamps)) == 4
