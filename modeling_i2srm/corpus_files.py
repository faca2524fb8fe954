"""The files of a corpus: inputs of posts, cut into shards of rows, and outputs that are complete or not there."""

import hashlib
import logging
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .pictures import PictureError, is_url
from .pipeline_i2srm import COLUMNS, MultimodalTokenClassificationPipeline

logger = logging.getLogger(__name__)

KEYS = ("id", *MultimodalTokenClassificationPipeline.keys)  # of a post
EXAMPLE = '{"id": "7", "text": "Kobe lands in Paris", "image": "pictures/7.jpg"}'
JSON_LINES, PARQUET = (".jsonl", ".ndjson"), ".parquet"
ROWS_TOGETHER = 32  # of a Parquet file, in memory at a time


@dataclass(frozen=True)
class Shard:
    """Rows start to stop (from 0, the end exclusive) of an input; of JSONL also the byte at which they start."""

    part: str
    input: int
    start: int
    stop: int
    offset: int


def find_inputs(given: list[str]) -> list[Path]:
    """The files that are given or lie in folders that are, folders in the order of names."""
    paths = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            found = sorted(path.rglob(f"*{PARQUET}"))
            if not found:
                raise ValueError(f"{path} holds no Parquet files; JSONL files are given one by one: {path}/*.jsonl")
            paths += found
        elif not path.is_file():
            raise ValueError(f"{path} is neither a file nor a folder")
        elif path.suffix.lower() not in (*JSON_LINES, PARQUET):
            raise ValueError(f"{path} is neither {', '.join(JSON_LINES)} nor {PARQUET}; a line of JSONL: {EXAMPLE}")
        else:
            paths.append(path)
    if repeated := [str(path) for path, count in Counter(map(os.path.realpath, paths)).items() if count > 1]:
        raise ValueError(f"given twice: {', '.join(repeated)}")
    return paths


def name_inputs(paths: list[Path]) -> list[str]:
    """What the ids of rows begin with: the stem of the file, with as much of its path as tells it from the others.

    >>> name_inputs([Path("posts.jsonl")]), name_inputs([Path("a/posts.jsonl"), Path("b/posts.jsonl")])
    (['posts'], ['a/posts.jsonl', 'b/posts.jsonl'])
    """
    names, depth = [path.stem for path in paths], 0
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
    return names


def describe_inputs(given: list[str], shard_size: int, ignore: list[str], known: dict | None = None) -> list[dict]:
    """Name, path, size, sha256 and rows of each input and, of JSONL, the byte at which each shard starts.

    Args:
        given: files, or folders of Parquet files.
        ignore: columns that may be there.
        known: the manifest of an earlier run; a file with the size and time it had then is not read again.
    """
    paths = find_inputs(given)
    earlier = {}
    if known is not None and known["settings"].get("shard_size") == shard_size:
        earlier = {entry["name"]: entry for entry in known["inputs"]}
    inputs = []
    for path, name in zip(paths, name_inputs(paths), strict=True):
        stat = path.stat()
        entry = {"name": name, "path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        before = earlier.get(name, {})
        if all(before.get(key) == entry[key] for key in ("size", "mtime_ns")):
            inputs.append({**before, **entry})
            continue
        logger.info(f"{path}: reading it once for its sha256 and its number of rows")
        if path.suffix.lower() == PARQUET:
            inputs.append({**entry, **scan_parquet(path, ignore)})
        else:
            inputs.append({**entry, **scan_lines(path, shard_size)})
    if not sum(entry["rows"] for entry in inputs):
        raise ValueError(f"no posts in {', '.join(map(str, paths))}; a line of JSONL: {EXAMPLE}")
    return inputs


def scan_lines(path: Path, shard_size: int) -> dict:
    digest, rows, position, offsets = hashlib.sha256(), 0, 0, []
    with open(path, "rb") as file:
        for line in file:
            if rows % shard_size == 0:
                offsets.append(position)
            digest.update(line)
            rows, position = rows + 1, position + len(line)
    return {"sha256": digest.hexdigest(), "rows": rows, "offsets": offsets}


def scan_parquet(path: Path, ignore: list[str]) -> dict:
    try:
        with pq.ParquetFile(path) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from None
    if unknown := [name for name in names if name not in (*KEYS, *COLUMNS, *ignore)]:
        raise ValueError(
            f"{path}: unknown columns {', '.join(map(repr, unknown))}; posts have {', '.join(KEYS)}. "
            f"To pass over them: --ignore {' '.join([*ignore, *unknown])}"
        )
    if not {"text", "tokens"} & set(names):
        raise ValueError(f"{path} has neither a column text nor tokens, only {', '.join(map(repr, names))}")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "rows": rows}


def make_shards(inputs: list[dict], shard_size: int) -> list[Shard]:
    """Cut the inputs into shards; names of parts sort as the rows do."""
    spans = [
        (number, start, min(start + shard_size, entry["rows"]), entry.get("offsets", {}))
        for number, entry in enumerate(inputs)
        for start in range(0, entry["rows"], shard_size)
    ]
    width = max(5, len(str(len(spans) - 1)))
    return [
        Shard(f"part-{n:0{width}d}.jsonl", number, start, stop, offsets[start // shard_size] if offsets else 0)
        for n, (number, start, stop, offsets) in enumerate(spans)
    ]


def read_lines(path: Path, shard: Shard) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a shard with their numbers, from 1; empty ones are passed over."""
    with open(path, "rb") as file:
        file.seek(shard.offset)
        for number in range(shard.start + 1, shard.stop + 1):
            line = file.readline()
            if not line:
                raise RuntimeError(f"{path} is shorter than it was when the run began")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line := line.strip():
                yield number, line


class ParquetRows:
    """Reads ranges of rows of one Parquet file, a few rows at a time, however large its row groups are.

    Ranges that come in their order are read in one pass; row groups between them are not read.
    """

    def __init__(self, path: Path, columns: Collection[str] = KEYS):
        # Else whole column chunks are read.
        self.path, self.file = path, pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
        self.columns = [name for name in self.file.schema_arrow.names if name in columns]
        lengths = (self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups))
        self.group_starts = list(accumulate(lengths, initial=0))[:-1]
        self.batches, self.batch, self.first = iter(()), [], 0

    def read(self, start: int, stop: int) -> Iterator[tuple[int, dict]]:
        """Yield rows start to stop (from 0) with their numbers, from 1."""
        while start < stop:
            try:
                self._seek(start)
                rows = self.batch.slice(start - self.first, stop - start).to_pylist()
            except (pa.ArrowException, OSError, StopIteration) as error:
                raise RuntimeError(f"{self.path}: row {start + 1} cannot be read: {error}") from error
            for row in rows:
                start += 1
                yield start, row

    def _seek(self, start: int):
        """Make the batch one that holds a row."""
        group = bisect_right(self.group_starts, start) - 1
        if start < self.first or self.group_starts[group] > self.first + len(self.batch) or not len(self.batch):
            groups = range(group, len(self.group_starts))
            self.batches = self.file.iter_batches(ROWS_TOGETHER, row_groups=groups, columns=self.columns)
            self.batch, self.first = [], self.group_starts[group]
        while start >= self.first + len(self.batch):
            self.first += len(self.batch)
            self.batch = next(self.batches)

    def close(self):
        self.file.close()


def locate(picture, folder: Path):
    """A picture as `load_picture` takes it; paths are relative to a folder, and lie in it.

    Raises:
        PictureError: the path leads out of the folder: by "..", as an absolute one, or by a link.
    """
    if isinstance(picture, dict):
        picture = picture["bytes"] if isinstance(picture.get("bytes"), bytes) else picture.get("path")
    if not isinstance(picture, str) or is_url(picture):
        return picture
    if not picture:
        return None
    path = folder / picture
    try:
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError) as error:  # characters that no file system takes
        raise PictureError(f"{picture[:300]!r} is no path: {error}") from error
    if not inside:
        raise PictureError(
            f"the path {picture[:300]!r} leads out of {folder}, and is not read; if it may be: --image_dir DIR, with a "
            "folder that holds all pictures, or --image_dir / for any path"
        )
    return str(path)
