"""Writes small raw folders in the layouts that circulate, and pictures of every kind, for the tests of the scripts."""

import io
import json
import struct
import zlib
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import torch
from PIL import Image

from modeling_i2srm.prepare.conll import read_conll
from modeling_i2srm.prepare.known_files import KNOWN_FILES, KnownFile
from modeling_i2srm.prepare.mnre import RELATIONS
from modeling_i2srm.prepare.twitter import digests
from modeling_i2srm.support.digests import hash_file

TEXT = (
    "IMGID:7\nRT\tO\n@x\tO\nSt.\tB-PER\nJames\tI-PER\n\u00a0\tO\n\n"
    "IMGID:8\nSuper\tI-OTHER\nBowl\tI-OTHER\na\tb\tB-OTHER\n\u2028\tO\n\n"
    "IMGID:9\nParis\tB-LOC\nIMGID:\tO\nend\tO\n\n"
)
TENS = {"train": "", "validation": "1", "test": "2"}  # picture 7 is called 17 and 27 in the other splits
TEXT_FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
SHORT = {"train": "train", "validation": "val", "test": "test"}


def picture(format: str = "JPEG", size: tuple[int, int] = (12, 8), colour: str = "orange", **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format, **options)
    return file.getvalue()


def jpeg(width: int = 12, height: int = 8, colour: str = "orange") -> bytes:
    return picture(size=(width, height), colour=colour, comment=b"as downloaded")


def frames(format: str, count: int = 2) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.new("RGB", (12, 8), (80 * number, 9, 9)) for number in range(count)]
    first.save(file, format, save_all=True, append_images=others)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that is truncated where the pixels begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">II", zlib.crc32(chunk), 999) + b"IDAT"


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_index(path: Path, index: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(index, path)
    return path


def twitter_text(split: str) -> str:
    return TEXT.replace("IMGID:", f"IMGID:{TENS[split]}").replace(f"IMGID:{TENS[split]}\t", "IMGID:\t")


def write_twitter(texts: Path, pictures: Path | None):
    """Write the three text files, and the pictures 7 (good) and 8 (cut short) of each; 9 is absent."""
    for split, name in TEXT_FILES.items():
        write(texts / name, twitter_text(split))
        if pictures:
            write(pictures / f"{TENS[split]}7.jpg", jpeg())
            write(pictures / f"{TENS[split]}8.jpg", jpeg()[:-150])


def write_hvpnet_twitter(root: Path, name: str = "twitter2015") -> Path:
    """Write the layout of HVPNeT's download, with crops of picture 7 whose order is not that of their names."""
    texts = root / "NER_data" / name
    write_twitter(texts, root / "NER_data" / f"{name}_images")
    for split, short in SHORT.items():
        crops = [f"0_pred_yolo_crop_{TENS[split]}{number}.png" for number in (30, 4, 22)]
        write_index(
            texts / f"{name}_{short}_dict.pth",
            {f"{TENS[split]}7.jpg": crops, f"{TENS[split]}8.jpg": [f"1_pred_yolo_crop_{TENS[split]}1.png"]},
        )
        for number, crop in enumerate(crops, start=1):
            folder = root / "NER_data" / f"{name}_aux_images" / short / "crops"
            write(folder / crop, picture("PNG", (number, 5)))
    return root


def write_umt_twitter(root: Path, texts: str = "twitter2015", pictures: str = "ner_img") -> Path:
    """Write the layout of UMT: the texts and one folder of pictures, which may be called anything."""
    write_twitter(root / texts, root / pictures)
    return root


def mnre_row(tokens: str, head: tuple[int, int], tail: tuple[int, int], relation: str, img_id: str) -> dict:
    words = tokens.split()
    names = {"h": head, "t": tail}
    spans = {key: {"name": " ".join(words[slice(*span)]), "pos": list(span)} for key, span in names.items()}
    return {"token": words, **spans, "img_id": img_id, "relation": relation}


def mnre_rows(split: str) -> list[dict]:
    """Rows of which the first two share the picture a.jpg; the second overlaps, the third ends the post."""
    name = f"{split}_a.jpg"
    return [
        mnre_row("Kobe Bryant of the LA Lakers wins", (0, 2), (4, 6), "/per/org/member_of", name),
        mnre_row("Kobe Bryant of the LA Lakers wins", (4, 6), (4, 5), "None", name),
        mnre_row("it's \\o/ time in Paris", (4, 5), (0, 2), "/loc/loc/contain", f"{split}_b.jpg"),
    ]


def mnre_text(split: str) -> str:
    return "".join(f"{row}\n" for row in mnre_rows(split))


def write_hvpnet_mnre(root: Path) -> Path:
    """Write the layout of HVPNeT's download, with crops of the rows 0 and 1."""
    texts = root / "RE_data/txt"
    for split, short in SHORT.items():
        write(texts / f"ours_{short}.txt", mnre_text(split))
        write(root / "RE_data/img_org" / short / f"{split}_a.jpg", jpeg())
        crops = [f"0_pred_yolo_crop_{TENS[split]}{number}.png" for number in (9, 10, 1)]
        write_index(
            texts / f"mre_{short}_dict.pth", {0: crops, 1: crops[:1], 2: [f"2_pred_yolo_crop_{TENS[split]}5.png"]}
        )
        for number, crop in enumerate(crops, start=1):
            write(root / "RE_data/img_vg" / short / "crops" / crop, picture("PNG", (number, 5)))
    write(root / "RE_data/ours_rel2id.json", json.dumps({relation: id for id, relation in enumerate(RELATIONS)}))
    return root


def write_original_mnre(root: Path) -> Path:
    """Write the original layout of MNRE, in which the name of the validation file has a space in it."""
    for split, name in {"train": "mnre_train.txt", "validation": "mnre_val .txt", "test": "mnre_test.txt"}.items():
        write(root / "mnre_txt" / name, mnre_text(split))
        write(root / "mnre_image/img_org" / SHORT[split] / f"{split}_a.jpg", jpeg())
    return root


def write_posts(root: Path) -> Path:
    """Write a user's posts with tags: a good, an absent and no picture, and crops 2 and 10 of the first."""
    rows = [
        {"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"], "image": "pictures/7.jpg"},
        {"tokens": ["hello", "\u00a0"], "ner_tags": ["O", "O"], "image": "pictures/8.jpg"},
        {"text": "no picture", "ner_tags": ["O", "I-LOC"]},
    ]
    rows[0]["objects"] = ["crops/7/c10.png", "crops/7/c2.png"]
    for split in SHORT:
        write(root / f"{split}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    write(root / "pictures/7.jpg", jpeg())
    for number in (2, 10):
        write(root / f"crops/7/c{number}.png", picture("PNG", (number, 5)))
    return root


def make_known(monkeypatch, name: str, paths: dict[str, Path]):
    """Let these files be the ones that are published."""
    entries = {}
    for split, path in paths.items():
        twitter = digests(read_conll(path).posts) if name != "mnre" else ()
        entries[split] = KnownFile("https://example.org/" + path.name, path.name, hash_file(path), *twitter)
    monkeypatch.setitem(KNOWN_FILES, name, entries)


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def read_stored(folder: Path, split: str = "train") -> list[dict]:
    """Return the raw rows of the Parquet files, pictures as bytes and path."""
    files = sorted(folder.glob(f"data/{split}-*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def load(folder: Path, cache: Path, split: str = "train") -> datasets.Dataset:
    return datasets.load_dataset(str(folder), split=split, cache_dir=str(cache))


def read_all(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
