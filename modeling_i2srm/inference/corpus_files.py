"""The files of a corpus: inputs cut into shards, and outputs with a manifest, and a receipt of each complete part."""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..configuration_i2srm import I2SRMConfig
from ..pictures import FAULT_KINDS
from ..pipeline_i2srm import MultimodalTokenClassificationPipeline, PostPipeline
from ..posts import COLUMNS
from ..support import detectors
from ..support.atomic_files import replacing, write_json
from ..support.digests import Digest, add_weights, hash_file
from ..support.faults import RunError
from ..version import __version__
from ..words import SAVED_SPLITTING
from .corpus_inputs import HUB, READ, Source
from .corpus_table import TABLE
from .extraction import Extractor

logger = logging.getLogger(__name__)

KEYS = ("id", *MultimodalTokenClassificationPipeline.keys)  # of a post
EXAMPLE = '{"id": "7", "text": "Kobe lands in Paris", "image": "pictures/7.jpg"}'
JSON_LINES, PARQUET = (".jsonl", ".ndjson"), ".parquet"


@dataclass(frozen=True)
class Shard:
    """Rows start to stop (from 0, the end exclusive) of an input; of JSONL also the byte at which they start."""

    part: str
    input: int
    start: int
    stop: int
    offset: int


def find_inputs(names: list[str]) -> list[Path]:
    """The files of the inputs, and those in the folders of the inputs, in the order of names."""
    paths = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = sorted(path.rglob(f"*{PARQUET}"))
            if not files:
                raise ValueError(
                    f"{path} holds neither Parquet files nor pictures with texts beside them (kobe.jpg, kobe.txt); "
                    f"name other files one by one: {path}/*.jsonl"
                )
            paths += files
        elif not path.is_file():
            raise ValueError(f"{path} is neither a file nor a folder; a data set of the Hub: {HUB}owner/posts:test")
        elif path.suffix.lower() not in (*JSON_LINES, PARQUET):
            kinds = ", ".join((*JSON_LINES, PARQUET, *READ))
            raise ValueError(f"{path} must be one of {kinds}; a line of JSONL: {EXAMPLE}")
        else:
            paths.append(path)
    if repeated := [str(path) for path, count in Counter(map(os.path.realpath, paths)).items() if count > 1]:
        raise ValueError(f"named twice: {', '.join(repeated)}")
    return paths


def name_inputs(paths: list[Path]) -> list[str]:
    """The prefix of the row ids of each file: its stem, with parent folders where several files have the same stem.

    >>> name_inputs([Path("posts.jsonl")]), name_inputs([Path("a/posts.jsonl"), Path("b/posts.jsonl")])
    (['posts'], ['a/posts.jsonl', 'b/posts.jsonl'])
    """
    names, depth = [path.stem for path in paths], 0
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(path.absolute().parts[-depth:]) for path in paths]
    return names


def describe_inputs(sources: list[Source], shard_size: int, ignore: list[str], known: dict | None = None) -> list[dict]:
    """Name, path, size, sha256, rows and empty lines of each input and, of JSONL, the byte at which each shard starts.

    Of one that was written from another kind also `source`, what the user called it, and the `folder` of its pictures.

    Args:
        sources: of JSONL and Parquet files, and folders of Parquet files.
        ignore: columns that may be there.
        known: the manifest of an earlier run; a file with the size and time it had then is not read again.
    """
    paths = find_inputs([source.file for source in sources])
    origins: dict[str, dict] = {}
    for source in sources:
        if source.file != source.name:
            origins[source.file] = {"source": source.name} | ({"folder": source.folder} if source.folder else {})
    earlier = {}
    if known is not None and known["settings"].get("shard_size") == shard_size:
        earlier = {entry["name"]: entry for entry in known["inputs"] if "empty_lines" in entry}
    inputs = []
    for path, name in zip(paths, name_inputs(paths), strict=True):
        stat = path.stat()
        entry = {"name": name, "path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        entry |= origins.get(str(path), {})
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
    digest, rows, position, offsets, empty = hashlib.sha256(), 0, 0, [], 0
    with open(path, "rb") as file:
        for line in file:
            if rows % shard_size == 0:
                offsets.append(position)
            digest.update(line)
            empty += not strip_line(line, rows + 1)
            rows, position = rows + 1, position + len(line)
    return {"sha256": digest.hexdigest(), "rows": rows, "empty_lines": empty, "offsets": offsets}


def strip_line(line: bytes, number: int) -> bytes:
    """A line without white space around it, and the first one without a byte order mark."""
    return (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()


def scan_parquet(path: Path, ignore: list[str]) -> dict:
    try:
        with pq.ParquetFile(path) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from None
    if unknown := [name for name in names if name not in (*KEYS, *COLUMNS, *ignore)]:
        raise ValueError(
            f"{path}: unknown columns {', '.join(map(repr, unknown))}; posts have {', '.join(KEYS)}. "
            f"To ignore them: --ignore {' '.join([*ignore, *unknown])}"
        )
    if not {"text", "tokens"} & set(names):
        raise ValueError(f"{path} has neither a column text nor tokens, only {', '.join(map(repr, names))}")
    return {"sha256": hash_file(path), "rows": rows, "empty_lines": 0}


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
    """Yield the lines of a shard with their numbers, from 1; empty ones are skipped."""
    with open(path, "rb") as file:
        file.seek(shard.offset)
        for number in range(shard.start + 1, shard.stop + 1):
            line = file.readline()
            if not line:
                raise RuntimeError(f"{path} is shorter than it was when the run began")
            if line := strip_line(line, number):
                yield number, line


TEMPORARY = re.compile(
    r"\.(part-\d{5,}\.jsonl?|(manifest|summary)\.json|errors\.jsonl|answers\.parquet)\.[0-9a-f]{8}\.tmp"
)
PART = re.compile(r"part-\d{5,}\.jsonl")
COUNTS: tuple[str, ...] = (
    "posts",
    "entities",
    "relations",
    "posts_without_picture",
    "pictures_failed",
    "pairs_left_out",
)
COUNTS += ("objects", "pictures_without_object")  # what a cropper found, and the pictures in which it found nothing
COUNTS += ("entities_withheld", "relations_withheld")  # with a coverage
# Pictures that cannot be read, of posts that are read without them and of rows that are errors, by `PictureError.kind`.
COUNTS += tuple(f"pictures_{kind}" for kind in FAULT_KINDS)
MODELS = ("ner", "re", "detector")


def receipt_path(output: Path, part: str) -> Path:
    return output / "done" / Path(part).with_suffix(".json")


def read_receipt(output: Path, part: str) -> dict | None:
    """The receipt of a part that is complete."""
    try:
        receipt = json.loads(receipt_path(output, part).read_text(encoding="utf-8"))
        return receipt if (output / part).stat().st_size == receipt["bytes"] else None
    except FileNotFoundError:
        return None


def read_manifest(output: Path) -> dict | None:
    """The manifest of the run that an output folder holds, if it holds one."""
    path = output / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); give another --output") from None
    if not isinstance(manifest, dict) or not {"settings", "models", "inputs"} <= manifest.keys():
        raise ValueError(f"{path} is not a manifest of a run of this script; give another --output")
    return manifest


def make_manifest(settings: dict, inputs: list[dict], extractor: Extractor) -> dict:
    """Everything that results depend on; not the batch size, on which they depend by rounding only."""
    models = {"ner": fingerprint(extractor.ner), "re": None if extractor.re is None else fingerprint(extractor.re)}
    models["detector"] = None if extractor.cropper is None else cropper_fingerprint(extractor.cropper)
    return {"version": __version__, "settings": settings, "models": models, "inputs": inputs}


def fingerprint(pipe: PostPipeline) -> str:
    """The sha256 of a pipeline's weights, configuration, processor and vocabulary."""
    digest = hashlib.sha256()
    config = add_model(digest, pipe.model)
    processor: Any = pipe.processor
    settings = processor.to_dict()
    if settings.get("word_splitting") == SAVED_SPLITTING:  # runs of earlier versions resume
        del settings["word_splitting"]
    vocabulary = sorted(processor.tokenizer.get_vocab().items())
    digest.update(json.dumps([config, settings, vocabulary], sort_keys=True, default=str).encode())
    return digest.hexdigest()


# Fields that were added later, at their defaults not part of a digest: runs that began before resume.
ADDED = {
    name: getattr(I2SRMConfig, name)
    for name in (
        "relation_labels",
        "relation_types",
        "relation_loss_weight",
        "region_loss_weight",
        "crop_attention",
        "coherent_decoding",
        "entity_type_embeddings",
        "attn_mixup_pairs",
        "temperatures",
        "abstention",
        "reads_pictures",
    )
}


def add_model(digest: Digest, model: torch.nn.Module) -> dict | None:
    """Add the weights of a model to a digest; return its configuration, if it has one."""
    add_weights(digest, model)
    settings: Any = getattr(model, "config", None)
    if settings is None:
        return None
    config = settings.to_diff_dict()
    config.pop("transformers_version", None)
    return {name: value for name, value in config.items() if name not in ADDED or value != ADDED[name]}


def cropper_fingerprint(cropper: object) -> str:
    """The sha256 of a cropper: its kind, its settings, and the same of its detector, with the detector's weights."""
    digest = hashlib.sha256()
    parts: list[object] = []
    for part in (cropper, getattr(cropper, "detector", None)):
        parts.append(name_of(part))
        for name, value in sorted(getattr(part, "__dict__", {}).items()):
            if isinstance(value, torch.nn.Module):
                parts.append([name, add_model(digest, value)])
            elif hasattr(value, "to_dict"):
                parts.append([name, value.to_dict()])
            elif callable(value):
                parts.append([name, name_of(value)])
            elif isinstance(value, (bool, int, float, str, type(None))):
                parts.append([name, value])
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def name_of(part: object) -> str:
    """The name of a function, or of the class of anything else.

    Detectors of this package keep the name that their module had when the first runs were recorded: those resume.
    """
    named = part if hasattr(part, "__qualname__") else type(part)
    module = getattr(named, "__module__", None)
    return f"{'modeling_i2srm.objects' if module == detectors.__name__ else module}.{named.__qualname__}"


def differences(there: dict, here: dict) -> list[str]:
    """In which ways two manifests are of different runs, in words."""
    changes = [
        f"--{name} {there['settings'].get(name)!r} there, {value!r} here"
        for name, value in here["settings"].items()
        if name not in MODELS and there["settings"].get(name) != value
    ]
    for name, digest in here["models"].items():
        if there["models"].get(name) != digest:
            names = there["settings"].get(name), here["settings"].get(name)
            changes.append(f"--{name} {names[0]} there, {names[1]} here, of other contents")
    before, now = ([entry["name"] for entry in manifest["inputs"]] for manifest in (there, here))
    if before != now:
        return [*changes, f"--input {', '.join(before)} there, {', '.join(now)} here"]
    for old, new in zip(there["inputs"], here["inputs"], strict=True):
        if old["sha256"] != new["sha256"]:
            changes.append(f"{new['path']} has changed since")
    return changes


def prepare_output(output: Path, manifest: dict, shards: list[Shard], overwrite: bool = False) -> list[str]:
    """Make the output folder, or check that it belongs to this run; return the parts that are not done."""
    path = output / "manifest.json"
    (output / "done").mkdir(parents=True, exist_ok=True)
    parts = [part for part in output.iterdir() if PART.fullmatch(part.name)]
    if overwrite:
        receipts = list((output / "done").glob("part-*.json"))  # first, so that no part counts as done
        for old in [*receipts, *parts, *(output / name for name in ("errors.jsonl", "summary.json", TABLE)), path]:
            old.unlink(missing_ok=True)
    earlier = read_manifest(output)
    advice = "give another --output, or --overwrite true to delete what is there"
    if earlier is None and parts and not overwrite:
        raise ValueError(f"{output} holds {parts[0].name}, but no manifest.json; {advice}")
    if earlier is not None and (changes := differences(earlier, manifest)):
        raise ValueError(
            f"{path} is of another run: {'; '.join(changes)}. To resume that one, give its settings; else {advice}"
        )
    remove_temporaries(output)
    write_json(path, manifest)
    left = [shard.part for shard in shards if read_receipt(output, shard.part) is None]
    logger.info(f"{output}: {len(shards)} parts, {len(shards) - len(left)} of them done already, {len(left)} left")
    return left


def remove_temporaries(output: Path) -> None:
    """Delete what processes that were killed have left half written."""
    for folder in (output, output / "done"):
        for file in folder.iterdir():
            if TEMPORARY.fullmatch(file.name):
                file.unlink(missing_ok=True)


def count_posts(inputs: list[dict]) -> int:
    return sum(entry["rows"] - entry["empty_lines"] for entry in inputs)


def count_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(1 for _ in file)


def finish(output: Path, shards: list[Shard], left: set[str], posts: int, processes: int, seconds: float) -> dict:
    """Write errors.jsonl and summary.json from the receipts.

    Args:
        posts: how many the inputs hold, as counted before the run.

    Raises:
        RunError: a part is missing, or the answers and the errors are not as many as the posts.
    """
    totals: Counter[str] = Counter()
    now: Counter[str] = Counter()
    missing: list[str] = []
    with replacing(output / "errors.jsonl") as file:
        for shard in shards:
            receipt = read_receipt(output, shard.part)
            if receipt is None:
                missing.append(shard.part)
                continue
            if (answers := count_lines(output / shard.part)) != receipt["posts"]:
                raise RunError(
                    f"{output / shard.part} holds {answers} answers, and its receipt names {receipt['posts']}; without "
                    f"{receipt_path(output, shard.part)} the same command extracts them again"
                )
            for error in receipt["errors"]:
                file.write(json.dumps(error) + "\n")
            counts = {name: int(receipt.get(name, 0)) for name in COUNTS} | {"errors": len(receipt["errors"])}
            counts["empty_lines"] = shard.stop - shard.start - counts["posts"] - counts["errors"]
            totals.update(counts)
            if shard.part in left:
                now.update(counts)
        if missing:
            raise RunError(
                f"{len(missing)} parts are not in {output}, e.g. {missing[0]}. The same command resumes with them"
            )
        if (found := totals["posts"] + totals["errors"]) != posts:
            raise RunError(
                f"{output} holds {totals['posts']} answers and {totals['errors']} errors, {found} together, of {posts} "
                "posts; the same command with --overwrite true extracts them again"
            )
    summary: dict[str, float] = {
        **totals,
        "parts": len(shards),
        "posts_in_this_run": now["posts"],
        "processes": processes,
    }
    summary |= {"seconds": round(seconds, 2), "posts_per_second": round(now["posts"] / seconds, 2)}
    write_json(output / "summary.json", summary)
    return summary
