"""Process a corpus: the entities and relations of files of posts, on any number of processes, resumable.

The processes are those of one machine, or actors of a Ray cluster (`corpus_ray`), on any number of machines.

The rows of the inputs are cut into shards of fixed length. A shard is read, extracted and written by one process, to a
part whose name depends on the inputs alone. A part takes its name when it is complete, and after it a receipt, with
what it holds and which rows were bad. A run works on the shards without a receipt; so none is lost or done twice.

    OUTPUT/part-00007.jsonl         what was found in the eighth shard, a post per line (`Extraction.to_dict`), in order
    OUTPUT/done/part-00007.json     its receipt
    OUTPUT/manifest.json            inputs, models and settings
    OUTPUT/errors.jsonl             the bad rows of all shards, in order, with reasons (at the end)
    OUTPUT/summary.json             counts and speed (at the end)
    OUTPUT/answers.parquet          all parts in one file, with output_format="parquet" (at the end)
    OUTPUT/inputs/                  inputs of other kinds than JSONL and Parquet, as such
"""

import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from tqdm.auto import tqdm

from ..batching import cut_windows, has_pictures
from ..checks import check_on_image_error, check_threshold
from ..pictures import PictureError, single_picture
from ..posts import COLUMNS, Post
from ..support.atomic_files import check_writable, replacing, write_json
from ..support.detectors import ObjectCropper, load_detector
from ..support.faults import LOST_PROCESS, RunError, first_line, lost_process
from ..support.parquet_rows import ParquetRows
from ..support.picture_paths import locate
from ..support.processes import from_first
from .answers import Entity, Extraction, FoundObject, Region, Relation, Withheld, picture_names
from .corpus_files import (
    COUNTS,
    EXAMPLE,
    KEYS,
    MODELS,
    PARQUET,
    Shard,
    count_posts,
    describe_inputs,
    finish,
    make_manifest,
    make_shards,
    prepare_output,
    read_lines,
    read_manifest,
    receipt_path,
)
from .corpus_inputs import prepare_inputs
from .corpus_table import TABLE, write_table
from .extraction import DECIMALS, Extractor

FORMAT = "exchange"  # of the parts; runs that began with version 0.1 have another one, and none in the manifest
BATCHES_AHEAD = 2  # whose pictures are read while the models are busy
BAD_POST = (ValueError, TypeError, LookupError, RecursionError)  # what a post can raise
LONGEST_WAIT = timedelta(days=30)  # of a process that is done, for the others; torch's default is minutes


@dataclass
class CorpusArguments:
    """What to extract from, with what, and where to."""

    input: list[str] = field(
        metadata={
            "help": "Files of posts (.jsonl, .parquet, .csv, .tsv, .json, .conll), folders of Parquet files, folders "
            "of pictures with a text beside each (kobe.jpg, kobe.txt), or data sets of the Hub (hf:owner/posts:test)."
        }
    )
    output: str = field(
        metadata={"aliases": ["-o"], "help": "Folder of the results. An unfinished run in it is resumed."}
    )
    ner: str = field(
        metadata={"aliases": ["--model"], "help": "A joint model, or one for entities (folder or Hub id)."}
    )
    re: str | None = field(
        default=None,
        metadata={"help": "A model for relations, if the other is one for entities."},
    )
    threshold: float = field(default=0.0, metadata={"help": "Leave out entities with a lower score."})
    relation_threshold: float = field(default=0.0, metadata={"help": "Leave out relations with a lower score."})
    coverage: float | None = field(
        default=None,
        metadata={
            "help": "Withhold what the models are not sure of, and keep this share of the right answers, e.g. 0.9; "
            "what is withheld is listed with each post and counted. Default: all answers are kept."
        },
    )
    picture_match: bool = field(
        default=False,
        metadata={
            "help": "State how probable it is that the picture of a post is its own; fit the map for this with "
            "examples/fit_picture_match.py first."
        },
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "A detector (folder or Hub id; DETR, YOLOS, Grounding DINO ...). It makes crops for posts with "
            "a picture and without crops."
        },
    )
    detector_threshold: float | None = field(
        default=None,
        metadata={"help": "Leave out objects with a lower score. Default: 0.3, for zero-shot detectors 0.1."},
    )
    max_objects: int | None = field(
        default=None, metadata={"help": "Most objects per post. Default, and at most: as many as the models read."}
    )
    on_image_error: str | None = field(
        default=None,
        metadata={
            "help": "Posts with a picture that cannot be read: 'warn' reads them without it, 'raise' lists them as "
            "errors. Default: warn for failed downloads, raise for unreadable files."
        },
    )
    image_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder that picture paths are relative to and must stay in; / allows any absolute path. Default: "
            "the folder of each input."
        },
    )
    allow_private_addresses: bool = field(
        default=False,
        metadata={
            "help": "Also download pictures from this machine and private networks, not only from public addresses."
        },
    )
    ignore: list[str] = field(
        default_factory=list, metadata={"help": "Columns or keys to ignore. Other unknown ones are errors."}
    )
    batch_size: int = field(default=8, metadata={"help": "Posts that go through the models together."})
    shard_size: int = field(
        default=1000,
        metadata={"help": "Rows per output file, and the most that a process repeats after an interruption."},
    )
    num_workers: int = field(default=2, metadata={"help": "Threads per process that read pictures in advance."})
    output_format: str = field(
        default="jsonl",
        metadata={"help": "'parquet' also writes all answers to one file, answers.parquet, when they are complete."},
    )
    use_cpu: bool = field(default=False, metadata={"help": "Do not use GPUs."})
    engine: str = field(
        default="local",
        metadata={
            "help": "'ray' extracts on a Ray cluster, 'local' on this machine, in the processes of the launcher."
        },
    )
    ray_workers: int | None = field(
        default=None,
        metadata={"help": "Processes of --engine ray; default one for each GPU, or for each CPU if there is no GPU."},
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Delete the results of an earlier run first; leave it out to resume one."}
    )
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bar."})

    def __post_init__(self):
        for name, example in (("batch_size", 8), ("shard_size", 1000), ("num_workers", 2)):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)} must be 1 or more, e.g. --{name} {example}")
        if self.output_format not in ("jsonl", "parquet"):
            raise ValueError(f"--output_format {self.output_format} must be jsonl or parquet")
        if self.engine not in ("local", "ray"):
            raise ValueError(f"--engine {self.engine} must be local or ray")
        if self.ray_workers is not None and (self.engine != "ray" or self.ray_workers < 1):
            raise ValueError(f"--ray_workers {self.ray_workers}: 1 or more, with --engine ray; e.g. --ray_workers 8")
        check_threshold("threshold", self.threshold)
        check_threshold("relation_threshold", self.relation_threshold)
        check_on_image_error(self.on_image_error)
        for name, value in (("detector_threshold", self.detector_threshold), ("max_objects", self.max_objects)):
            if value is not None and self.detector is None:
                raise ValueError(f"--{name} {value} needs a detector, e.g. --detector facebook/detr-resnet-50")
        if self.detector_threshold is not None:
            check_threshold("detector_threshold", self.detector_threshold)
        if self.image_dir is not None and not Path(self.image_dir).is_dir():
            raise ValueError(f"--image_dir {self.image_dir} is not a folder; e.g. --image_dir pictures")


def extract_corpus(arguments: CorpusArguments, extractor: Extractor | None = None) -> dict:
    """Extract from all posts of the inputs, on all processes that were launched, and resume an interrupted run.

    Args:
        extractor: instead of one that is loaded as the arguments say, with a cropper of its own or none; on every
            process the same. Not with the engine "ray", whose workers load theirs.

    Returns:
        What summary.json holds, on the main process; {} on the others.

    Raises:
        ValueError: inputs that are missing or of no known kind; an output folder that belongs to another run.
        RunError: whatever is not a post's fault, such as a full disk, an output folder that cannot be written to, or
            another process that ended; the engine "ray" without Ray. Finished parts stay; the same call resumes.
    """
    if on_ray := arguments.engine == "ray":
        from . import corpus_ray  # here: most runs do not need it

        corpus_ray.check_engine(extractor)
    state = start_processes(arguments.use_cpu or on_ray)  # the GPUs are for the workers
    output, size = Path(arguments.output), arguments.shard_size

    def look() -> tuple[list[dict], str | None]:
        check_writable(output, "--output")
        known = None if arguments.overwrite else read_manifest(output)
        format = FORMAT if known is None else known["settings"].get("format")  # a run ends in the format it began in
        sources = prepare_inputs(arguments.input, output / "inputs")
        return describe_inputs(sources, size, arguments.ignore, known), format

    inputs, format = make_on_main(state, look)
    shards = make_shards(inputs, size)
    if extractor is None:
        extractor = load_extractor(arguments, state.device)
    settings = settings_of(arguments, extractor, format)

    def prepare() -> list[str]:
        return prepare_output(output, make_manifest(settings, inputs, extractor), shards, arguments.overwrite)

    left = set(make_on_main(state, prepare))
    kept, started, processes = kept_in(output), time.perf_counter(), state.num_processes
    waiting = [shard for shard in shards if shard.part in left]
    worker = ShardWorker(extractor, inputs, arguments, format)
    hidden = arguments.disable_tqdm or not state.is_main_process
    try:
        if on_ray:
            processes = corpus_ray.run_shards(worker, waiting)
        else:
            run_shards(worker, waiting[state.process_index :: processes], output, kept, hidden)
    finally:
        worker.close()
    wait_for_all(state, kept)
    if not state.is_main_process:
        return {}
    try:
        summary = finish(output, shards, left, count_posts(inputs), processes, time.perf_counter() - started)
        if arguments.output_format == "parquet":
            optional = {"withheld": extractor.coverage is not None}
            optional["picture_match"] = extractor.picture_match is not None
            parts = [output / shard.part for shard in shards]
            write_table(parts, output / TABLE, summary["objects"] > 0, **optional)
        return summary
    except OSError as error:
        raise RunError(f"the summary could not be written: {error}. {kept}") from error


def wait_for_all(state: PartialState, kept: str) -> None:
    """Wait until all processes are here; `kept` is what the error for one that ended says of the finished parts."""
    try:
        state.wait_for_everyone()
    except RuntimeError as error:
        if lost_process(error):
            raise RunError(f"{LOST_PROCESS} ({first_line(error)}). {kept}") from error
        raise


def kept_in(output: Path) -> str:
    """The sentence about finished parts that ends each error message."""
    return f"Finished parts are kept in {output}; the same command, without --overwrite, resumes with the others"


SETTINGS = ("threshold", "relation_threshold", "coverage", "on_image_error")


def load_extractor(arguments: CorpusArguments, device: torch.device) -> Extractor:
    """The models and the cropper that the arguments name."""
    options = {name: getattr(arguments, name) for name in (*SETTINGS, "allow_private_addresses", "picture_match")}
    extractor = Extractor.from_pretrained(arguments.ner, arguments.re, device=device, **options)
    if arguments.detector is not None:
        extractor.cropper = load_cropper(arguments, extractor.num_objects, str(device))
    return extractor


def settings_of(arguments: CorpusArguments, extractor: Extractor, format: str | None) -> dict:
    """What the answers of a run depend on, beside its inputs and the weights."""
    settings = {name: getattr(arguments, name) for name in MODELS}
    settings |= {name: getattr(extractor, name) for name in SETTINGS}
    settings["max_objects"] = getattr(extractor.cropper, "num_objects", None)
    settings["detector_threshold"] = getattr(getattr(extractor.cropper, "detector", None), "threshold", None)
    settings |= {"ignore": sorted(arguments.ignore), "shard_size": arguments.shard_size}
    settings |= {"image_dir": arguments.image_dir, "format": format}
    settings["allow_private_addresses"] = extractor.allow_private_addresses or None
    settings["picture_match"] = None if extractor.picture_match is None else extractor.picture_match.digest()
    return settings


def run_shards(worker: "ShardWorker", shards: list[Shard], output: Path, kept: str, hidden: bool) -> None:
    """Extract from shards, one after the other.

    Args:
        kept: what an error says of the parts that are finished.
        hidden: show no bar.

    Raises:
        RunError: whatever is not a post's fault.
    """
    with show_progress(shards, hidden) as bar:
        for shard in shards:
            try:
                worker.run(shard, output, bar.update)
            except (OSError, MemoryError, RuntimeError) as error:
                where = f"rows {shard.start + 1} to {shard.stop} of {worker.inputs[shard.input]['path']}"
                hint = " (a smaller --batch_size may do)" if isinstance(error, torch.OutOfMemoryError) else ""
                reason = f"{type(error).__name__}: {error}{hint}"
                raise RunError(f"stopped at {shard.part}, {where}: {reason}. {kept}") from error


def show_progress(shards: list[Shard], hidden: bool) -> tqdm:
    """A progress bar over the rows of shards."""
    rows = sum(shard.stop - shard.start for shard in shards)
    seconds = 0.2 if sys.stderr.isatty() else 30  # between the lines of a log
    return tqdm(total=rows, unit=" posts", disable=hidden, mininterval=seconds)


def load_cropper(arguments: CorpusArguments, num_objects: int, device: str) -> ObjectCropper:
    """The cropper that the arguments name, of at most as many objects as the models see."""
    most = num_objects if arguments.max_objects is None else arguments.max_objects
    if not 1 <= most <= num_objects:
        raise ValueError(
            f"--max_objects {most}: these models see at most {num_objects} crops of a post"
            + (f"; e.g. --max_objects {num_objects}" if num_objects else "; leave out --detector")
        )
    return ObjectCropper(load_detector(str(arguments.detector), arguments.detector_threshold, device), num_objects=most)


# Processes


T = TypeVar("T")


def start_processes(use_cpu: bool = False) -> PartialState:
    """Join the processes that a launcher started, if any.

    Raises:
        ValueError: the launcher started several, and they cannot talk to each other, or are on several machines.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if (here := int(os.environ.get("LOCAL_WORLD_SIZE", processes))) != processes:
        raise ValueError(
            f"{processes} processes were launched, {here} of them on this machine; a corpus is extracted on one "
            "machine, or without a launcher on several: --engine ray"
        )
    # Without this, processes on a machine without GPU would each take itself for the only one.
    use_cpu = use_cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=use_cpu, timeout=LONGEST_WAIT)
    if state.num_processes != processes:
        raise ValueError(
            f"{processes} processes were launched, but they do not find each other on "
            f"{state.device.type}; add --use_cpu true"
        )
    return state


def make_on_main(state: PartialState, make: Callable[[], T]) -> T:
    """Call a function on the main process and broadcast its result, as JSON; its errors stop all processes."""
    text, error = None, None
    if state.is_main_process:
        try:
            text = json.dumps(make())
        except Exception as raised:
            error = raised
    text = from_first(text)
    if error is not None:
        raise error
    if text is None:
        raise SystemExit(1)  # the main process prints the error
    return json.loads(text)


# Extraction


class ShardWorker:
    """Extracts from shards, one after the other; pictures are read by threads, some batches ahead of the models."""

    def __init__(
        self, extractor: Extractor, inputs: list[dict], arguments: CorpusArguments, format: str | None = FORMAT
    ):
        self.extractor, self.inputs, self.arguments, self.format = extractor, inputs, arguments, format
        self.pool = ThreadPoolExecutor(arguments.num_workers)
        self.parquet: ParquetRows | None = None

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        if self.parquet is not None:
            self.parquet.close()

    def run(self, shard: Shard, output: Path, progress: Callable[[int], object]) -> None:
        """Write the part of a shard and then its receipt."""
        counts: Counter[str] = Counter()
        errors: list[dict] = []
        seen = 0
        with replacing(output / shard.part) as file:
            for records, posts in self.windows(shard):
                for record, post, extraction in zip(records, posts, self.extract(records, posts), strict=True):
                    if post is None or extraction is None:
                        errors.append(record)
                        counts.update(fault_counts([record["picture_fault"]] if "picture_fault" in record else []))
                        continue
                    counts.update(count(post, extraction))
                    record = extraction.to_dict() if self.format == FORMAT else extraction.to_earlier_dict()
                    file.write(json.dumps(record) + "\n")
                progress(len(records))
                seen += len(records)
        receipt = {"bytes": (output / shard.part).stat().st_size, **{name: counts[name] for name in COUNTS}}
        write_json(receipt_path(output, shard.part), {**receipt, "errors": errors})
        progress(shard.stop - shard.start - seen)  # empty lines

    def windows(self, shard: Shard) -> Iterator[tuple[tuple[dict, ...], tuple[Post | None, ...]]]:
        """Yield the rows of a shard, as of `prepare`, in windows whose posts the pipelines sort by length."""
        batches = (zip(*batch, strict=True) for batch in self.batches(shard))
        rows = ((has_pictures(post), (record, post)) for batch in batches for record, post in batch)
        for window in cut_windows(rows, self.arguments.batch_size, grow=False):
            records, posts = zip(*window, strict=True)
            yield records, posts

    def batches(self, shard: Shard) -> Iterator[tuple[tuple[dict, ...], tuple[Post | None, ...]]]:
        """Yield the rows of a shard in batches, as of `prepare`."""
        rows = self.read(shard)
        waiting: deque[list[Future[tuple[dict, Post | None]]]] = deque()
        while True:
            while len(waiting) <= BATCHES_AHEAD and (batch := list(islice(rows, self.arguments.batch_size))):
                waiting.append([self.pool.submit(self.prepare, shard, *row) for row in batch])
            if not waiting:
                return
            records, posts = zip(*(future.result() for future in waiting.popleft()), strict=True)
            yield records, posts

    def read(self, shard: Shard) -> Iterator[tuple[int, bytes | dict]]:
        path = Path(self.inputs[shard.input]["path"])
        if path.suffix.lower() != PARQUET:
            return read_lines(path, shard)
        if self.parquet is None or self.parquet.path != path:
            if self.parquet is not None:
                self.parquet.close()
            self.parquet = ParquetRows(path, KEYS)
        return self.parquet.read(shard.start, shard.stop)

    def picture_folder(self, shard: Shard) -> Path:
        """The folder that picture paths are relative to."""
        entry = self.inputs[shard.input]
        return Path(self.arguments.image_dir or entry.get("folder") or Path(entry["path"]).parent)

    def prepare(self, shard: Shard, number: int, values: bytes | dict) -> tuple[dict, Post | None]:
        """Check a row and read its pictures.

        Returns:
            What errors.jsonl says of the row if it is bad, and its post, `None` if it is.
        """
        entry = self.inputs[shard.input]
        record = {
            "input": entry.get("source", entry["path"]),
            "row": number,
            "id": f"{entry['name']}-{number}",
            "reason": None,
        }
        try:
            if isinstance(values, bytes):
                values = json.loads(values.decode())
            if isinstance(values, str) and "source" in entry:
                raise ValueError(values)  # why a row of another kind of file could not be read
            if not isinstance(values, dict):
                raise ValueError(f"{values!r:.100} is not a post; e.g. {EXAMPLE}")
            values = {name: value for name, value in values.items() if name not in self.arguments.ignore}
            record["id"] = check_id(values.get("id"), record["id"])
            return record, self.load({**values, "id": record["id"]}, self.picture_folder(shard))
        except BAD_POST as error:
            record["reason"] = explain(error)
            if isinstance(error, PictureError):
                record["picture_fault"] = error.kind
            return record, None

    def load(self, values: dict, folder: Path) -> Post:
        """The post that a row is, with its pictures read."""
        if unknown := [name for name in values if name not in (*KEYS, *COLUMNS)]:
            raise ValueError(
                f"unknown keys {', '.join(map(repr, unknown))}; posts have {', '.join(KEYS)}, e.g. {EXAMPLE}. "
                f"To ignore them: --ignore {' '.join([*self.arguments.ignore, *unknown])}"
            )
        errors, faults = {}, []

        def find(picture: object, name: str) -> object:
            try:
                return locate(picture, folder)
            except PictureError as error:
                if self.arguments.on_image_error != "warn":
                    raise
                errors[name] = str(error)
                faults.append(error.kind)
                return None

        located = {"image": find(single_picture(values.get("image")), "image")}
        if isinstance(values.get("objects"), list):
            located["objects"] = [find(crop, f"objects[{i}]") for i, crop in enumerate(values["objects"])]
        post = self.extractor.load({**values, **located})
        post.image_name, post.crop_names = picture_names({**values, "image": single_picture(values.get("image"))})
        post.image_errors, post.picture_faults = errors | post.image_errors, faults + post.picture_faults
        return post

    def extract(self, records: Sequence[dict], posts: Sequence[Post | None]) -> list[Extraction | None]:
        """Extract from the posts of rows; where one cannot be, its record gets the reason.

        Where they fail together, each half is tried by itself.
        """
        good = {n: post for n, post in enumerate(posts) if post is not None}
        extractions: list[Extraction | None] = [None] * len(posts)
        try:
            answers = self.extractor.extract(list(good.values()), self.arguments.batch_size) if good else []
        except BAD_POST as error:
            if len(posts) == 1:
                records[0]["reason"] = explain(error)
                return extractions
            half = len(posts) // 2
            return self.extract(records[:half], posts[:half]) + self.extract(records[half:], posts[half:])
        for n, extraction in zip(good, answers, strict=True):
            objects = extraction.objects
            extraction.objects = [rounded(one) if isinstance(one, FoundObject) else one for one in objects]
            graphs: list[Extraction | Withheld] = [extraction, *filter(None, [extraction.withheld])]
            for graph in graphs:
                graph.entities = [rounded(part) for part in graph.entities]
                graph.relations = [rounded(part) for part in graph.relations]
            extractions[n] = extraction
        return extractions


Part = TypeVar("Part", Entity, Relation, FoundObject, Region)


def rounded(part: Part) -> Part:
    """A part of an extraction with `DECIMALS` of its score, and of its region's."""
    changes: dict[str, Any] = {"score": round(part.score, DECIMALS)}
    if isinstance(part, Entity) and part.region is not None:
        changes["region"] = rounded(part.region)
    return replace(part, **changes)


def check_id(value: object, default: str) -> str:
    """The id of a post as a text."""
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"id={value!r:.100} is neither a text nor a whole number; e.g. {EXAMPLE}")
    return str(value)


def explain(error: Exception) -> str:
    """The reason to give for a bad row; raises the error again where the post is not to blame for it."""
    if isinstance(error, PictureError) and error.is_machines_fault:
        raise error.__cause__ or error
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"{kind}{error}"[:500]


def count(post: Post, extraction: Extraction) -> dict[str, int]:
    """What a post adds to the counts of its part."""
    objects: Any = post.objects  # a list, once the post is read
    return {
        "posts": 1,
        "entities": len(extraction.entities),
        "relations": len(extraction.relations),
        "posts_without_picture": int(post.image is None and not any(objects)),
        "pictures_failed": len(extraction.image_errors),
        "pairs_left_out": extraction.pairs_left_out,
        "entities_withheld": len(extraction.withheld.entities) if extraction.withheld else 0,
        "relations_withheld": len(extraction.withheld.relations) if extraction.withheld else 0,
        "objects": sum(isinstance(one, FoundObject) for one in extraction.objects),
        "pictures_without_object": int(post.crops == []),
        **fault_counts(post.picture_faults),
    }


def fault_counts(kinds: list[str]) -> dict[str, int]:
    """What pictures that cannot be read, each of a `PictureError.kind`, add to the counts of a part."""
    return {f"pictures_{kind}": number for kind, number in Counter(kinds).items()}


__all__ = ["CorpusArguments", "extract_corpus"]
