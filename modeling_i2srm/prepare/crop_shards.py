"""Runs the detector of `crop_objects.py`: lists the distinct pictures and writes the detections in shards.

Only pictures and, for detectors that need them, phrases of the texts are read; no column of labels.
"""

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from ..pictures import PictureError, is_url, load_picture, read_bytes
from ..support.atomic_files import placing
from ..support.detectors import Detector, ObjectCropper, load_detector
from ..support.faults import RunError, leave_signals_to_parent
from ..support.parquet_rows import ParquetRows
from ..support.picture_paths import locate
from .picture_files import encode_crop

SHARD = 64  # pictures; a killed run loses at most these, per process
JPEG = b"\xff\xd8"
PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
BOX = pa.struct({"box": pa.list_(pa.int32(), 4), "score": pa.float32(), "label": pa.string()})
SCHEMA = pa.schema({"key": pa.string(), "reason": pa.string(), "objects": pa.list_(PICTURE), "boxes": pa.list_(BOX)})


@dataclass(frozen=True)
class Look:
    """One run of the detector: a distinct picture, and its phrases where the detector needs them.

    Args:
        key: sha256 of its content and phrases.
        file, row: place of the first post with it.
        phrases: to detect; `None` for a detector of fixed classes.
    """

    key: str
    file: int
    row: int
    phrases: list[str] | None


@dataclass(frozen=True)
class CropSettings:
    """All that the crops depend on besides the detector's weights."""

    detector: str  # for display, without folders
    threshold: float | None
    phrases: str | None
    num_objects: int
    max_overlap: float
    min_side: int
    padding: float


@dataclass(frozen=True)
class Work:
    """The settings of a process: where the pictures are, where shards go, and how to run the detector."""

    settings: CropSettings
    detector: str
    threshold: float | None  # of the command line
    files: list[Path]
    root: Path
    shards: Path
    batch_size: int
    threads: int
    device: str

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.shards / f"shard-{number:06d}.parquet"


def picture_bytes(picture: dict | None, root: Path) -> bytes | None:
    """Return the bytes of a value of an `Image` column.

    Raises:
        PictureError: the path leads out of the data set's folder or to no file, or is a URL.
    """
    if picture is None or (picture["bytes"] is None and not picture["path"]):
        return None
    if picture["bytes"] is None and is_url(picture["path"]):
        raise PictureError(f"{picture['path'][:300]!r} is a URL, which is not fetched")
    return read_bytes(locate(picture, root))


def plan_looks(
    files: list[Path], root: Path, text: str | None, phrases: Callable | None, progress: Callable[[int], object]
) -> tuple[list[Look], list[list[int | None]]]:
    """List the distinct pictures of a data set.

    Args:
        text: the column of the texts, for a detector that needs phrases.
        phrases: text -> phrases.

    Returns:
        The distinct pictures, in the order of the rows; and for each row of each file the index of its picture.
    """
    looks: list[Look] = []
    numbers: dict[str, int] = {}
    rows: list[list[int | None]] = []
    find = phrases or list
    known = lru_cache(maxsize=None)(lambda words: find(words if isinstance(words, str) else list(words)))
    for number, path in enumerate(files):
        reader = ParquetRows(path, ["image", *([text] if text else [])])
        rows.append([])
        for row, values in reader.read(0, reader.file.metadata.num_rows):
            progress(1)
            try:
                content = picture_bytes(values["image"], root)
            except PictureError as error:
                check_machine(error)
                content = f"unread {values['image']['path']}".encode()
            if content is None:
                rows[-1].append(None)
                continue
            wanted = None
            if phrases is not None:
                words = values[text]
                wanted = known(words if isinstance(words, str) else tuple(words))
            key = hashlib.sha256(hashlib.sha256(content).digest() + repr(wanted).encode()).hexdigest()
            if key not in numbers:
                numbers[key] = len(looks)
                looks.append(Look(key, number, row - 1, wanted))
            rows[-1].append(numbers[key])
        reader.close()
    return looks, rows


def check_machine(error: PictureError) -> None:
    """Raise a `RunError` if the machine is at fault, such as a broken disk: the picture may be readable later."""
    if error.is_machines_fault:
        raise RunError(f"stopped: {error}; the same command resumes the run") from error


class ShardWorker:
    """Runs the detector on shards, one after the other."""

    def __init__(self, work: Work, detector: Detector):
        self.work = work
        self.readers: dict[int, ParquetRows] = {}
        limits = {name: getattr(work.settings, name) for name in ("num_objects", "max_overlap", "min_side", "padding")}
        self.cropper = ObjectCropper(detector, **limits, phrases=list)  # the texts are phrases already
        torch.set_num_threads(work.threads)
        torch.manual_seed(0)  # a user-defined detector may draw random numbers

    def run(self, number: int, looks: list[Look], progress: Callable[[int], object]) -> None:
        """Write a shard atomically."""
        detections = []
        for start in range(0, len(looks), self.work.batch_size):
            batch = looks[start : start + self.work.batch_size]
            detections += self.look(batch)
            progress(len(batch))
        with placing(self.work.path(number)) as temporary:
            pq.write_table(pa.Table.from_pylist(detections, schema=SCHEMA), temporary, compression="none")

    def look(self, looks: list[Look]) -> list[dict]:
        """Return the detections in each picture, or why it cannot be read."""
        detections: list[dict] = []
        pictures: list[tuple[int, Image.Image, str, bool]] = []
        for look in looks:
            detections.append({"key": look.key, "reason": None, "objects": [], "boxes": []})
            value = self.read(look)
            try:
                content = picture_bytes(value, self.work.root)
                name = Path(value["path"] or look.key[:16]).stem
                jpeg = content is not None and content.startswith(JPEG)
                pictures.append((len(detections) - 1, load_picture(content), name, jpeg))
            except PictureError as error:
                check_machine(error)
                detections[-1]["reason"] = str(error)
        texts = [looks[place].phrases for place, *_ in pictures] if self.cropper.detector.needs_phrases else None
        crops = self.cropper([picture for _, picture, *_ in pictures], texts)
        for (place, _, name, jpeg), some in zip(pictures, crops, strict=True):
            detections[place]["objects"] = [
                encode_crop(crop.picture, f"{name}_{i}", jpeg) for i, crop in enumerate(some)
            ]
            detections[place]["boxes"] = [{"box": list(c.box), "score": c.score, "label": c.label} for c in some]
        return detections

    def read(self, look: Look) -> dict:
        if look.file not in self.readers:
            for reader in self.readers.values():
                reader.close()
            self.readers = {look.file: ParquetRows(self.work.files[look.file], ("image",))}
        ((_, values),) = self.readers[look.file].read(look.row, look.row + 1)
        return values["image"]


# Processes


def run_shards(
    work: Work, detector: Detector, shards: dict[int, list[Look]], progress: Callable[[int], object]
) -> None:
    """Run shards in this process."""
    worker = ShardWorker(work, detector)
    for number, looks in shards.items():
        worker.run(number, looks, progress)


def run_in_processes(
    work: Work, processes: int, shards: dict[int, list[Look]], progress: Callable[[int], object]
) -> None:
    """Run shards in several processes; all of them end when one fails or when this process ends.

    Raises:
        RunError: a process failed or was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    lists = [dict(list(shards.items())[i::processes]) for i in range(processes)]
    started = {}
    try:
        for mine in filter(None, lists):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=work_in_process, args=(work, mine, theirs), daemon=True)
            process.start()
            theirs.close()
            started[ours] = process
        left = dict(started)
        while left:
            ready: list[Any] = wait(list(left))
            for pipe in ready:
                try:
                    message = pipe.recv()
                except EOFError:
                    left[pipe].join()
                    if status := left.pop(pipe).exitcode:
                        raise RunError(f"a process of the run was killed (status {status})") from None
                    continue
                if isinstance(message, str):
                    raise RunError(message)
                progress(message)
    finally:
        for process in started.values():
            process.terminate()
            process.join()


def work_in_process(work: Work, shards: dict[int, list[Look]], pipe: Connection) -> None:
    """Load the detector and run shards in a worker process; send the progress, or an error, through the pipe."""
    leave_signals_to_parent()
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        torch.set_num_threads(work.threads)
        detector = load_detector(work.detector, work.threshold, work.device)
        run_shards(work, detector, shards, pipe.send)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # of a worker
    wait([parent.sentinel])
    os._exit(1)


# Results


class Detections:
    """The detections in each picture, by its index; shards are read on demand."""

    def __init__(self, work: Work, looks: list[Look]):
        self.work, self.looks = work, looks
        self.shard = lru_cache(maxsize=4)(lambda number: pq.read_table(work.path(number), schema=SCHEMA).to_pylist())

    def __getitem__(self, number: int) -> dict:
        row = self.shard(number // SHARD)[number % SHARD]
        if row["key"] != self.looks[number].key:
            raise RunError(f"{self.work.path(number // SHARD)} belongs to another run: delete {self.work.shards}")
        return row


def cut_shards(looks: list[Look]) -> Iterator[tuple[int, list[Look]]]:
    """Yield the shards with their indices."""
    for start in range(0, len(looks), SHARD):
        yield start // SHARD, looks[start : start + SHARD]
