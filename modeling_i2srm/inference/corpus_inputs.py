"""Inputs of a corpus that are neither JSONL nor Parquet, written as such: tables, folders of texts, Hub data sets."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from datasets.table import embed_table_storage

from ..prepare.post_files import CONLL, TABLES, FileReader
from ..prepare.text_files import read_text
from ..support.atomic_files import placing, replacing

HUB = "hf:"  # before the id of a data set of the Hub
STREAMED = (".jsonl", ".ndjson", ".parquet")  # read as they are, however large
READ = tuple(suffix for suffix in (*TABLES, *CONLL) if suffix not in STREAMED)
PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm")
ROWS_TOGETHER = 100


@dataclass(frozen=True)
class Source:
    """Where an input comes from.

    Args:
        file: what the corpus is read from.
        name: what the user called it.
        folder: that paths of pictures are relative to; `None` for the folder of the file.
    """

    file: str
    name: str
    folder: str | None = None


def prepare_inputs(names: list[str], folder: Path) -> list[Source]:
    """Write inputs of other kinds than JSONL and Parquet as such to a folder, each time again.

    Args:
        names: files, folders, or `hf:` and the id of a data set of the Hub, with `:` and a split if it is not all.

    Raises:
        ValueError: a file, folder or data set that cannot be read.
    """
    sources = []
    for number, name in enumerate(names):
        path, place = Path(name), folder / str(number)
        if name.startswith(HUB):
            sources += [Source(str(file), name) for file in write_data_set(name.removeprefix(HUB), place)]
        elif path.is_file() and path.suffix.lower() in READ:
            file = write_lines(place / f"{path.stem}.jsonl", read_file(path))
            sources.append(Source(str(file), name, str(path.parent)))
        elif path.is_dir() and not any(path.rglob("*.parquet")) and (texts := find_texts(path)):
            file = write_lines(place / f"{path.resolve().name}.jsonl", read_folder(path, texts))
            sources.append(Source(str(file), name, name))
        else:
            sources.append(Source(name, name))
    return sources


def write_lines(path: Path, rows: Iterator[object]) -> Path:
    """Write values as JSON, one per line, in ASCII."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    return path


def read_file(path: Path) -> Iterator[object]:
    """Yield the rows of a table or a CoNLL file; one that cannot be read becomes the reason, a text."""
    reader, told = FileReader(), 0
    for _, row in reader.read(path, Counter()):
        for problem in reader.problems[told:]:
            yield f"line {problem.line}: {problem.reason}"
        told = len(reader.problems)
        yield {name: value for name, value in row.items() if value is not None and value != ""}
    for problem in reader.problems[told:]:
        yield f"line {problem.line}: {problem.reason}"


def find_texts(folder: Path) -> dict[str, Path]:
    """The text files in and below a folder by path without ending, if a picture is beside one of them."""
    texts = {path.with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.txt"))}
    return texts if texts.keys() & find_pictures(folder).keys() else {}


def find_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in and below a folder by path without ending; of several the first."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    return {path.with_suffix("").as_posix(): path for path in reversed(paths)}


def read_folder(folder: Path, texts: dict[str, Path]) -> Iterator[object]:
    """Yield a post for each text file, with the picture of the same name; a picture without text is a reason."""
    pictures = find_pictures(folder)
    for name in sorted(texts.keys() | pictures.keys()):
        text, picture = texts.get(name), pictures.get(name)
        if text is None:
            yield f"{pictures[name].relative_to(folder).as_posix()} has no text: expected a .txt file of that name"
            continue
        post = {"id": text.relative_to(folder).with_suffix("").as_posix(), "text": read_text(text).strip()}
        yield post if picture is None else {**post, "image": picture.relative_to(folder).as_posix()}


def write_data_set(name: str, folder: Path) -> list[Path]:
    """Write the splits of a data set of the Hub, or one of them, as Parquet files with the bytes of their pictures."""
    identifier, _, split = name.partition(":")
    try:
        data = datasets.load_dataset(identifier, split=split or None)
    except Exception as error:  # of the network, the Hub and the readers: nearly anything
        raise ValueError(f"{HUB}{name} cannot be loaded: {error!s:.300}; e.g. {HUB}owner/posts:test") from error
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for part, rows in {split: data}.items() if split else data.items():
        files.append(folder / f"{identifier.strip('/').replace('/', '--')}-{part}.parquet")
        schema = rows.features.arrow_schema
        with placing(files[-1]) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for table in rows.with_format("arrow").iter(ROWS_TOGETHER):
                writer.write_table(embed_table_storage(table.cast(schema)))
    return files


__all__ = ["Source", "prepare_inputs"]
