"""Building a data set: nothing stale is served, nothing half done is left, nothing of others is replaced."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import datasets
import forked
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import (
    jpeg,
    load,
    names_in,
    picture,
    read_all,
    read_report,
    read_stored,
    write,
    write_hvpnet_mnre,
    write_hvpnet_twitter,
    write_index,
    write_posts,
)

from modeling_i2srm.prepare import builder, parquet, posts
from modeling_i2srm.prepare.builder import (
    PostsConfig,
    RawPost,
    add_crops,
    add_own_crops,
    read_ahead,
    unique,
    work_folder,
    write_parquet,
)
from modeling_i2srm.prepare.mnre import Mnre
from modeling_i2srm.prepare.picture_files import read_picture
from modeling_i2srm.prepare.posts import Posts
from modeling_i2srm.prepare.twitter2015 import Twitter2015

SCRIPTS = Path(__file__).parents[2] / "dataset_scripts"


def replace(path: Path, old: bytes, new: bytes):
    """Edit a file so that neither its size nor its time tell."""
    status = path.stat()
    assert old in path.read_bytes() and len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("builder_class", "write_raw", "text", "picture_file"),
    [
        (Twitter2015, write_hvpnet_twitter, "NER_data/twitter2015/train.txt", "NER_data/twitter2015_images/9.jpg"),
        (Mnre, write_hvpnet_mnre, "RE_data/txt/ours_train.txt", "RE_data/img_org/train/train_b.jpg"),
        (Posts, write_posts, "train.jsonl", "pictures/8.jpg"),
    ],
)
def test_a_changed_raw_file_is_never_served_from_the_cache(tmp_path, builder_class, write_raw, text, picture_file):
    raw = write_raw(tmp_path / "raw")

    def build(**config) -> datasets.Dataset:
        made = builder_class(data_dir=str(raw), cache_dir=str(tmp_path / "cache"), **config)
        made.download_and_prepare()
        folders.append(made.cache_dir)
        return made.as_dataset("train")

    folders = []
    before = build()
    old = next(token for token in before["tokens"][0] if len(token.encode()) > 3).encode()
    assert build()["tokens"][0] == before["tokens"][0] and folders[0] == folders[1]
    replace(raw / text, old, b"Z" * len(old))
    assert build()["tokens"][0] == ["Z" * len(old) if token == old.decode() else token for token in before["tokens"][0]]

    sizes = [image and image.size for image in build()["image"]]
    write(raw / picture_file, jpeg(9, 9))
    assert [image and image.size for image in build()["image"]].count((9, 9)) == 1 and (9, 9) not in sizes
    status = (raw / picture_file).stat()
    write(raw / picture_file, jpeg(9, 9, "blue"))
    os.utime(raw / picture_file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    blue = next(image for image in build()["image"] if image and image.size == (9, 9)).getpixel((4, 4))
    assert blue[2] > 200 > blue[0]
    (raw / picture_file).unlink()
    assert [image and image.size for image in build()["image"]] == sizes
    assert build(max_pixels=10)["image"][:] == [None] * len(sizes)


def test_pictures_and_crops_elsewhere_are_not_served_from_the_cache_either(tmp_path):
    raw = write_posts(tmp_path / "raw")
    config = {"image_dir": str(tmp_path / "elsewhere"), "objects": str(tmp_path / "own")}
    write(tmp_path / "own/7/1.png", picture("PNG", (3, 3)))
    write(tmp_path / "elsewhere/text.md", "nothing yet")

    def sizes() -> tuple:
        made = Posts(data_dir=str(raw), cache_dir=str(tmp_path / "cache"), **config)
        made.download_and_prepare()
        row = made.as_dataset("train")[0]
        return row["image"] and row["image"].size, [crop.size for crop in row["objects"]]

    assert sizes() == (None, [(3, 3)])
    write(tmp_path / "elsewhere/pictures/7.jpg", jpeg(7, 7))
    assert sizes() == ((7, 7), [(3, 3)])
    write(tmp_path / "own/7/2.png", picture("PNG", (4, 4)))
    assert sizes() == ((7, 7), [(3, 3), (4, 4)])


def write_slow_posts(root: Path, count: int = 60) -> Path:
    """Write posts with pictures that take tens of milliseconds each to decode."""
    large = jpeg(3000, 2000)
    for number in range(count):
        write(root / f"{number}.jpg", large)
    rows = [{"text": f"new {number}", "image": f"{number}.jpg"} for number in range(count)]
    write(root / "train.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    return root


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_a_killed_run_is_simply_started_again(tmp_path, tmp_path_factory):
    raw, output = tmp_path / "raw", tmp_path / "out"
    write(raw / "train.jsonl", '{"text": "old"}\n')
    posts.main(["--data_dir", str(raw), "--output_dir", str(output)])
    earlier = read_all(output)
    write_slow_posts(raw)
    printed = tmp_path_factory.mktemp("printed") / "posts"
    process = forked.start(lambda: posts.main(["--data_dir", str(raw), "--output_dir", str(output)]), printed)
    prefix = f".out-{socket.gethostname()}-{process}-"
    deadline = time.monotonic() + 60
    while not any(name.startswith(prefix) for name in names_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert forked.finish(process, printed).returncode == -signal.SIGKILL
    assert read_all(output) == earlier
    assert [name for name in names_in(tmp_path) if name.startswith(prefix)]

    for number in range(60):
        write(raw / f"{number}.jpg", jpeg())
    posts.main(["--data_dir", str(raw), "--output_dir", str(output)])
    assert names_in(tmp_path) == ["out", "raw"]
    rows = load(output, tmp_path / "cache")
    assert rows["tokens"][:] == [["new", str(number)] for number in range(60)] and None not in rows["image"][:]


def test_only_work_folders_of_processes_that_are_gone_are_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    host = socket.gethostname()
    names = {
        f".out[1]-{host}-{process.pid}-abc": False,
        f".out[1]-{host}-{os.getpid()}-abc": True,
        f".out[1]-{host}-{os.getppid()}-abc": True,
        f".out[1]-{host}x-{process.pid}-abc": True,
        f".out[1]-{host}-mine": True,
        f".other-{host}-{process.pid}-abc": True,
        "out[1]": True,
    }
    for name in names:
        write(tmp_path / name / "file", b"")
    with work_folder(tmp_path / "out[1]") as work:
        assert work.parent == tmp_path and work.name.startswith(f".out[1]-{host}-{os.getpid()}-")
        assert {name for name in names if (tmp_path / name).exists()} == {name for name in names if names[name]}
    assert not work.exists()


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    raw, output = write_posts(tmp_path / "raw"), tmp_path / "out"
    write_parquet(Posts, output, data_dir=str(raw))
    before = read_all(output)

    def fail(*args, **options):
        raise OSError("no room left")

    for module, name in ((builder, "read_picture"), (builder, "join_files"), (builder, "write_dataset_card")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(OSError, match="no room left"):
                write_parquet(Posts, output, data_dir=str(raw))
        assert read_all(output) == before and names_in(tmp_path) == ["out", "raw"]
    write(raw / "train.jsonl", "")
    with pytest.raises(ValueError, match="the train split has no readable posts"):
        write_parquet(Posts, output, data_dir=str(raw))
    assert read_all(output) == before and names_in(tmp_path) == ["out", "raw"]


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path):
    raw, output = write_posts(tmp_path / "raw"), tmp_path / "out"
    write_parquet(Posts, output, data_dir=str(raw))
    (raw / "test.jsonl").unlink()
    write_parquet(Posts, output, data_dir=str(raw))
    assert names_in(output / "data") == ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"]
    assert names_in(output) == ["README.md", "data", "dataset_info.json", "report.json"]
    assert list(read_report(output)["splits"]) == ["train", "validation"]


@pytest.mark.parametrize("name", ["notes.txt", "data/model.bin", "data2/train.parquet"])
def test_a_folder_with_anything_else_in_it_is_refused(tmp_path, name):
    raw, output = write_posts(tmp_path / "raw"), tmp_path / "out"
    write_parquet(Posts, output, data_dir=str(raw))
    write(output / name, "mine")
    before = read_all(output)
    with pytest.raises(FileExistsError, match="give a new folder"):
        write_parquet(Posts, output, data_dir=str(tmp_path / "not even looked at"))
    assert read_all(output) == before and names_in(tmp_path) == ["out", "raw"]


def test_what_is_put_into_the_folder_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    raw, output = write_posts(tmp_path / "raw"), tmp_path / "out"
    monkeypatch.setattr(builder, "write_dataset_card", lambda *args: write(output / "notes.txt", "mine"))
    with pytest.raises(FileExistsError, match="notes.txt"):
        write_parquet(Posts, output, data_dir=str(raw))
    assert read_all(output) == {"notes.txt": b"mine"} and names_in(tmp_path) == ["out", "raw"]


def test_folders_and_files_of_others_are_refused(tmp_path):
    raw = write_posts(tmp_path / "raw")
    write(tmp_path / "mine/README.md", "mine")
    write(tmp_path / "file", "mine")
    (tmp_path / "empty").mkdir()
    for name in ("mine", "file", "raw"):
        before = read_all(tmp_path)
        with pytest.raises(FileExistsError):
            write_parquet(Posts, tmp_path / name, data_dir=str(raw))
        assert read_all(tmp_path) == before
    write_parquet(Posts, tmp_path / "empty", data_dir=str(raw))
    assert "data" in names_in(tmp_path / "empty")


def write_many_posts(root: Path, count: int = 260) -> Path:
    """Write posts that share pictures, some of them unusable, and have crops."""
    for number in range(60):
        content = jpeg(10 + number, 9) if number % 7 else b"no picture"
        write(root / f"pictures/{number}.jpg", content)
        write(root / f"pictures/{number}.png", picture("PNG", (number + 1, 4)))
    rows = [
        {
            "text": f"post number {number}",
            "ner_tags": ["O", "O", "B-MISC"],
            "image": f"pictures/{number // 3 % 60}.jpg",
            "objects": [f"pictures/{(number + crop) % 60}.png" for crop in range(number % 4)],
        }
        for number in range(count)
    ]
    write(root / "train.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    return root


def test_the_number_of_processes_does_not_show(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BYTES_TOGETHER", 40_000)
    raw = write_many_posts(tmp_path / "raw")
    for number in ("1", "2", "5"):
        posts.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / number), "--num_proc", number])
    assert read_all(tmp_path / "2") == read_all(tmp_path / "1") == read_all(tmp_path / "5")
    rows = read_stored(tmp_path / "2")
    assert [row["tokens"][2] for row in rows] == [str(number) for number in range(260)]
    for number, row in enumerate(rows):
        name = f"{number // 3 % 60}.jpg"
        content = (raw / "pictures" / name).read_bytes()
        assert row["image"] == (None if content == b"no picture" else {"bytes": content, "path": name})
        assert [crop["path"] for crop in row["objects"]] == [
            f"{(number + crop) % 60}.png" for crop in range(number % 4)
        ]


def test_shared_pictures_are_stored_once_and_load_in_every_row(tmp_path):
    content = jpeg(8, 8) + bytes(range(256)) * 800
    write(tmp_path / "raw/a.jpg", content)
    rows = [{"text": f"post {number}", "image": "a.jpg", "objects": ["a.jpg"]} for number in range(50)]
    write(tmp_path / "raw/train.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    posts.main(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")])
    [path] = (tmp_path / "out/data").iterdir()
    assert path.stat().st_size < 2 * len(content) + 20_000  # a copy in each of the two columns
    loaded = load(tmp_path / "out", tmp_path / "cache").cast_column("image", datasets.Image(decode=False))
    assert [image["bytes"] for image in loaded["image"]] == [content] * 50


def test_large_splits_are_written_in_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(Posts, "DEFAULT_WRITER_BATCH_SIZE", 10)
    monkeypatch.setattr(parquet, "BYTES_TOGETHER", 20_000)
    monkeypatch.setattr(parquet, "MAX_FILE_BYTES", 20_000)
    raw = write_many_posts(tmp_path / "raw")
    made = write_parquet(Posts, tmp_path / "out", data_dir=str(raw), objects="column")
    names = names_in(tmp_path / "out/data")
    assert (
        names == [f"train-{number:05d}-of-{len(names):05d}.parquet" for number in range(len(names))] and len(names) > 2
    )
    assert sum(made.info.splits["train"].shard_lengths) == 260
    rows = load(tmp_path / "out", tmp_path / "cache")
    assert [tokens[2] for tokens in rows["tokens"]] == [str(number) for number in range(260)]


def test_pictures_are_read_ahead_once_and_come_in_order(tmp_path, monkeypatch):
    reads = Counter()

    def read_slowly(path: Path, max_pixels: int):
        reads[path.name] += 1
        time.sleep(0.002 * (int(path.stem) % 3))
        return read_picture(path, max_pixels)

    monkeypatch.setattr(builder, "read_picture", read_slowly)
    for number in range(40):
        write(tmp_path / f"{number}.jpg", jpeg(number + 1, 2))
    raw = [RawPost({"id": i}, "", tmp_path / f"{i // 3}.jpg", ["x"], [None, tmp_path / "0.jpg"]) for i in range(120)]
    found = list(read_ahead(raw, 4, 10**6))
    assert [post.columns["id"] for post, _ in found] == list(range(120))
    assert all(read[post.image_file][0]["path"] == post.image_file.name for post, read in found)
    assert set(reads.values()) == {1} and len(reads) == 40
    assert [post for post, _ in read_ahead(raw[:3], 1, 10**6)] == raw[:3] and list(read_ahead([], 1, 1)) == []


@given(ids=st.lists(st.sampled_from(["a", "a#2", "a#2#2", "b", "a#3"]), max_size=12))
@settings(deadline=None, derandomize=True)
def test_unique_ids(ids):
    found = unique(ids)
    assert len(found) == len(ids) == len(set(found))
    for number, (id, name) in enumerate(zip(ids, found, strict=True)):
        assert name == id if id not in ids[:number] else name.startswith(f"{id}#")


def test_own_crops_come_in_natural_order_and_from_their_folder_alone(tmp_path):
    for name in ("7/10.png", "7/2.png", "7/1b.png", "7/.hidden.png", "8/1.png", "x.png"):
        write(tmp_path / "crops" / name, b"")
    write(tmp_path / "secret.png", b"")
    names = ["7.jpg", "a/8.png", "9.jpg", None, "..", "a/..", "", "/"]
    raw = [RawPost({}, name) for name in names]
    add_own_crops(raw, tmp_path / "crops")
    assert [post.crops for post in raw] == [["7/1b.png", "7/2.png", "7/10.png"], ["8/1.png"], *[[]] * 6]
    assert raw[0].crop_files == [tmp_path / "crops" / name for name in raw[0].crops]
    with pytest.raises(FileNotFoundError, match="no folder of crops .*gone.*released or a folder"):
        add_own_crops(raw, tmp_path / "gone")


def test_released_crops_come_in_the_order_of_their_index(tmp_path):
    for name in ("3.png", "1.png", "20.png"):
        write(tmp_path / "aux/train/crops" / name, b"")
    index = write_index(tmp_path / "index.pth", {"7.jpg": ["20.png", "3.png", "gone.png", "1.png"], "8.jpg": []})
    raw = [RawPost({}, f"{number}.jpg") for number in (7, 8, 9)]
    counts = add_crops(raw, [post.image for post in raw], index, tmp_path)
    assert raw[0].crops == ["20.png", "3.png", "gone.png", "1.png"]
    assert [path and path.name for path in raw[0].crop_files] == ["20.png", "3.png", None, "1.png"]
    assert raw[1].crops == raw[2].crops == []
    assert counts == {"posts that the crop index does not know": 1}


def test_crops_of_another_split_or_data_set_are_not_taken(tmp_path):
    names = [f"{number}_pred_yolo_crop_{number}.png" for number in range(40)]
    for name in [*names[:3], "other.png"]:
        write(tmp_path / "RE_data/img_vg/val/crops" / name, b"")
    index = write_index(tmp_path / "index.pth", {f"{number}.jpg": [name] for number, name in enumerate(names)})
    raw = [RawPost({}, f"{number}.jpg") for number in range(40)]
    add_crops(raw, [post.image for post in raw], index, tmp_path)
    assert [post.crop_files for post in raw] == [[None]] * 40
    write(tmp_path / "RE_data/img_vg/val/crops" / names[3], b"")
    add_crops(raw, [post.image for post in raw], index, tmp_path)
    assert [post.crop_files != [None] for post in raw] == [True] * 4 + [False] * 36


def test_paths_outside_of_the_data_are_shown_by_name_alone(tmp_path):
    config = PostsConfig(data_dir=str(tmp_path))
    assert config.relative(tmp_path / "a/b") == str(Path("a/b")) and config.relative(None) == "none"
    assert config.relative(tmp_path.parent / "other/pictures") == "pictures"
    assert [PostsConfig(objects=name).objects_said for name in ("none", "released", "/home/me")] == [
        "none",
        "released",
        "own",
    ]


def test_a_missing_data_dir_is_said(tmp_path):
    with pytest.raises(ValueError, match="data_dir is missing"):
        write_parquet(Twitter2015, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no folder .*gone"):
        write_parquet(Posts, tmp_path / "out", data_dir=str(tmp_path / "gone"))
    assert names_in(tmp_path) == []
