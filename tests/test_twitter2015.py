"""The Twitter-2015 script: every token and tag is kept, whatever cannot be read is said, pictures stay as they are."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from builder import MNER_FEATURES, NER_TAGS, write_parquet
from conll import ConllPost, count_entities, read_conll
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import read_picture
from PIL import Image
from twitter2015 import Twitter2015

ROOT = Path(__file__).parents[1]
TEXT = (
    "IMGID:7\nRT\tO\n@x\tO\nSt.\tB-PER\nJames\tI-PER\n\u00a0\tO\n\n"
    "IMGID:8\nSuper\tI-OTHER\nBowl\tI-OTHER\na\tb\tB-OTHER\n\u2028\tO\n\n"
    "IMGID:9\nParis\tB-LOC\nIMGID:\tO\nend\tO"
)
SPLITS = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}


def jpeg(width: int = 12, height: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(file, "JPEG", comment=b"as downloaded")
    return file.getvalue()


@pytest.fixture
def raw(tmp_path) -> Path:
    """A folder in the layout of the download: pictures 7 (good), 8 (cut short); 9 is absent."""
    texts, images = tmp_path / "raw/NER_data/twitter2015", tmp_path / "raw/NER_data/twitter2015_images"
    texts.mkdir(parents=True)
    images.mkdir()
    for name in SPLITS.values():
        (texts / name).write_bytes(TEXT.encode())
    (images / "7.jpg").write_bytes(jpeg())
    (images / "8.jpg").write_bytes(jpeg()[:-150])
    return tmp_path / "raw"


def parse(folder: Path, content: bytes) -> list[ConllPost]:
    path = folder / "posts.txt"
    path.write_bytes(content)
    return list(read_conll(path))


def test_every_token_and_tag_is_kept(tmp_path):
    posts = parse(tmp_path, TEXT.encode())
    assert posts == [
        ConllPost("7", ["RT", "@x", "St.", "James", "\u00a0"], ["O", "O", "B-PER", "I-PER", "O"]),
        ConllPost("8", ["Super", "Bowl", "a\tb", "\u2028"], ["I-MISC", "I-MISC", "B-MISC", "O"]),
        ConllPost("9", ["Paris", "IMGID:", "end"], ["B-LOC", "O", "O"]),
    ]
    windows = b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    assert parse(tmp_path, windows) == posts


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("IMGID:1\nhello O\n", 2, "expected a token, a tab and a tag"),
        ("IMGID:1\na\tO\nhello\tB-CITY\n", 3, "B-CITY"),
        ("IMGID:1\n\tO\n", 2, "expected a token"),
        ("IMGID:1\na\tO\n\u00a0\n", 3, "expected a token"),
        ("a\tO\n", 1, "before the IMGID line"),
        ("IMGID:1\na\tO\n\nb\tO\n", 4, "before the IMGID line"),
        ("IMGID:1\n\nIMGID:2\na\tO\n", 1, "no tokens"),
        ("IMGID:1\na\tO\n\nIMGID:2", 4, "no tokens"),
        ("IMGID:../../secret\na\tO\n", 1, "name of a picture"),
        ("IMGID:\na\tO\n", 1, "name of a picture"),
        ("IMGID:" + "9" * 300 + "\na\tO\n", 1, "name of a picture"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, line, message):
    with pytest.raises(ValueError, match=rf"posts\.txt, line {line}: .*{message}"):
        parse(tmp_path, content.encode())


def test_text_that_is_not_utf8_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"posts\.txt, line 3: not UTF-8"):
        parse(tmp_path, b"IMGID:1\na\tO\ncaf\xe9\tO\n")


PIECES = st.sampled_from(
    ["IMGID:", "IMGID:3", "\n", "\n\n", "\r\n", "\t", "O", "\tO\n", "\tB-PER\n", "\tI-OTHER\n", "\u00a0"]
)
CONTENTS = st.binary() | st.lists(PIECES | st.text(max_size=4)).map(lambda parts: "".join(parts).encode())


@given(content=CONTENTS)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_all_their_tokens_or_an_error(tmp_path_factory, content):
    try:
        posts = parse(tmp_path_factory.getbasetemp(), content)
    except ValueError as error:
        assert re.search(r"posts\.txt, line \d+: ", str(error))
        return
    lines = [line.removesuffix("\r") for line in content.decode("utf-8-sig").split("\n")]
    expected = [line for line in lines if line and ("\t" in line or not line.startswith("IMGID:"))]
    found = [f"{token}\t{tag}" for post in posts for token, tag in zip(post.tokens, post.tags, strict=True)]
    assert found == [line.replace("-OTHER", "-MISC") if line.endswith("-OTHER") else line for line in expected]
    assert sum(line.startswith("IMGID:") and "\t" not in line for line in lines) == len(posts)


TOKENS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=6)
ROWS = st.lists(st.tuples(TOKENS, st.sampled_from(NER_TAGS)), min_size=1, max_size=6)


@given(
    posts=st.lists(st.tuples(st.from_regex(r"[A-Z0-9_]{1,9}", fullmatch=True), ROWS), max_size=4), last=st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, posts, last):
    blocks = [f"IMGID:{name}\n" + "".join(f"{token}\t{tag}\n" for token, tag in rows) for name, rows in posts]
    content = "\n".join(blocks) + ("\n" if last else "")
    found = parse(tmp_path_factory.getbasetemp(), content.encode())
    assert [(post.image_id, list(zip(post.tokens, post.tags, strict=True))) for post in found] == posts


@given(tags=st.lists(st.sampled_from(NER_TAGS), max_size=8))
@settings(deadline=None)
def test_lenient_count_is_that_of_seqeval(tags):
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    strict, lenient = count_entities(tags)
    assert strict.total() == sum(tag.startswith("B-") for tag in tags)
    assert sorted(lenient.elements()) == sorted(type for type, _, _ in seqeval.get_entities(tags))


def test_script(raw, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, str(ROOT / "dataset_scripts/twitter2015.py"), "--data_dir", str(raw)]
    done = subprocess.run([*command, "--output_dir", str(output)], check=True, capture_output=True, encoding="utf-8")
    assert "7.jpg" not in done.stdout and "8.jpg: OSError" in done.stdout

    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert list(report) == list(SPLITS)
    assert report["test"]["posts"] == 3 and report["test"]["tokens"] == 12
    assert report["test"]["strict_entities"] == {"all": 3, "LOC": 1, "MISC": 1, "PER": 1}
    assert report["test"]["lenient_entities"] == {"all": 4, "LOC": 1, "MISC": 2, "PER": 1}
    assert report["test"]["pictures"] == {"present": 1, "absent": 1, "unreadable": 1}

    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == list(SPLITS)
    rows = loaded["train"]
    assert rows.features == MNER_FEATURES
    assert rows["id"][:] == ["7", "8", "9"] and rows["objects"][:] == [[], [], []]
    assert rows["tokens"][0][-1] == "\u00a0"
    assert [NER_TAGS[tag] for tag in rows["ner_tags"][1]] == ["I-MISC", "I-MISC", "B-MISC", "O"]
    assert rows["image"][0].size == (12, 8) and rows["image"][1:] == [None, None]
    stored = rows.cast_column("image", datasets.Image(decode=False))["image"][0]
    assert stored == {"bytes": jpeg(), "path": "7.jpg"}


def test_pictures_are_checked(tmp_path):
    path = tmp_path / "1.jpg"
    assert read_picture(path) == (None, None)
    path.write_bytes(b"<html>404</html>")
    assert read_picture(path)[0] is None and "UnidentifiedImageError" in read_picture(path)[1]
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    assert read_picture(path)[0] is None and "UnidentifiedImageError" in read_picture(path)[1]
    path.write_bytes(b"")
    assert read_picture(path)[0] is None and read_picture(path)[1]
    path.write_bytes(jpeg(40, 30))
    assert read_picture(path, max_pixels=1199) == (None, "40x30 pixels, more than 1199")
    assert read_picture(path, max_pixels=1200) == ({"bytes": jpeg(40, 30), "path": "1.jpg"}, None)


def test_an_edited_raw_file_is_never_served_from_the_cache(raw, tmp_path):
    def build():
        builder = Twitter2015(data_dir=str(raw), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        return builder.as_dataset("test")

    assert build()["tokens"][0][0] == "RT"
    text = raw / "NER_data/twitter2015/test.txt"
    text.write_bytes(text.read_bytes().replace(b"RT", b"QT"))
    assert build()["tokens"][0][0] == "QT"
    assert build()["image"][2] is None
    (raw / "NER_data/twitter2015_images/9.jpg").write_bytes(jpeg(9, 9))
    assert build()["image"][2].size == (9, 9)


def test_problems_with_the_raw_folder_are_said(raw, tmp_path):
    with pytest.raises(ValueError, match="data_dir is missing"):
        write_parquet(Twitter2015, tmp_path / "out")
    text = raw / "NER_data/twitter2015/valid.txt"
    text.write_bytes(b"IMGID:1\nbroken\n")
    with pytest.raises(ValueError, match=r"valid\.txt, line 2"):
        write_parquet(Twitter2015, tmp_path / "out", data_dir=str(raw))
    text.unlink()
    with pytest.raises(FileNotFoundError, match=r"valid\.txt"):
        write_parquet(Twitter2015, tmp_path / "out", data_dir=str(raw))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_real_files(tmp_path):
    data_dir = Path(os.environ.get("I2SRM_DATA_DIR", ROOT / "../shared/data"))
    if not (data_dir / "NER_data/twitter2015/train.txt").is_file():
        pytest.skip(f"the real data is not there: no NER_data/twitter2015 in {data_dir} (I2SRM_DATA_DIR)")
    report = write_parquet(Twitter2015, tmp_path / "out", data_dir=str(data_dir)).report
    keys = ("posts", "tokens")
    entities = ("strict_entities", "lenient_entities")
    found = {s: tuple(r[k] for k in keys) + tuple(r[k]["all"] for k in entities) for s, r in report.items()}
    assert found == {
        "train": (4000, 64439, 6166, 6352),
        "validation": (1000, 16178, 1541, 1594),
        "test": (3257, 52822, 5072, 5207),
    }
    for split, name in SPLITS.items():
        rows = datasets.load_dataset(str(tmp_path / "out"), split=split, cache_dir=str(tmp_path / "cache"))
        lines = (data_dir / "NER_data/twitter2015" / name).read_bytes().decode().split("\n")
        tokens = [line.rpartition("\t")[0] for line in lines if "\t" in line]
        assert [token for row in rows["tokens"] for token in row] == tokens
        assert sum(image is not None for image in rows["image"]) == report[split]["pictures"]["present"]
