"""Make crops of objects that do not depend on the labels, for any data set in Parquet files.

    python dataset_scripts/crop_objects.py --dataset data/mnre --detector facebook/detr-resnet-50 \\
        --output data/mnre_objects
    python dataset_scripts/audit.py --parquet data/mnre_objects

A detector runs once on each distinct picture and sees nothing else; a zero-shot detector (Grounding DINO, OWLv2 ...)
also gets the phrases of the post's text. Entities and labels are not read before all crops are made. OUTPUT is a copy
of the data set in which the column objects holds the new crops, and the column object_boxes for each crop:

  box      left, top, right, bottom, in pixels of the upright picture
  score    the score of the detection
  label    the class or the phrase that was detected

OUTPUT.png shows 20 posts, their boxes and crops. --detector takes a folder or Hub id of transformers, or FILE.py:NAME
for a detector of your own (examples/own_detector.py). The same command resumes a run that was killed at any moment; the
result is that of an uninterrupted run.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from ..pictures import PictureError
from ..support.atomic_files import check_writable, placing, write_json
from ..support.detectors import OWN, Detector, load_detector, noun_chunks, text_phrases
from ..support.digests import add_weights, hash_file
from ..support.faults import Interrupted, run_script, stop_on_sigterm
from ..support.options import OptionParser, program
from ..support.parquet_rows import ParquetRows
from ..version import __version__
from .builder import BOXES, NO_CROP, check_replaceable, publish
from .crop_shards import (
    BOX,
    PICTURE,
    CropSettings,
    Detections,
    Look,
    Work,
    cut_shards,
    picture_bytes,
    plan_looks,
    run_in_processes,
    run_shards,
)
from .crop_sheet import write_sheet
from .mnre import LEAK
from .parquet import gather, write_files
from .push import push_folder
from .report import print_report

logger = logging.getLogger(__name__)

REPLACED = ("objects", "object_boxes", "regions")  # regions are positions in the objects that were there
ROWS = 32  # in memory at a time, with their pictures
SHOWN = 20  # posts on the contact sheet


class Dataset:
    """A data set in Parquet files: its splits, its columns and its report."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not folder.is_dir():
            raise ValueError(
                f"--dataset {folder} is not a folder; download a data set of the Hub with `hf download USER/NAME "
                "--repo-type dataset --local-dir data/NAME`, then give --dataset data/NAME"
            )
        with TemporaryDirectory() as cache:
            builder = datasets.load_dataset_builder(str(folder), cache_dir=cache)
        splits = {str(split): [Path(path) for path in paths] for split, paths in builder.config.data_files.items()}
        self.splits = {split: paths for split, paths in splits.items() if paths}
        if wrong := [path for path in self.files if path.suffix != ".parquet"]:
            raise ValueError(
                f"--dataset {folder} holds {wrong[0].name}, not a Parquet file; see dataset_scripts/posts.py"
            )
        schema = pq.read_schema(self.files[0])
        self.features = builder.info.features or datasets.Features.from_arrow_schema(schema)
        if not isinstance(self.features.get("image"), datasets.Image):
            raise ValueError(
                f"--dataset {folder} has no column image of pictures, only {', '.join(map(repr, self.features))}; "
                'e.g. dataset.cast_column("image", Image())'
            )
        self.text = next((name for name in ("tokens", "text") if name in self.features), None)
        stored = folder / "dataset_info.json"
        self.info = datasets.DatasetInfo.from_directory(str(folder)) if stored.is_file() else builder.info
        report = folder / "report.json"
        self.report = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}

    @property
    def license(self) -> str | None:
        """The licence as the data set card states it; dataset_info.json does not hold it."""
        card = self.folder / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        section = re.search(r"^## Licence\n\n(.*?)\n\n## ", text, re.DOTALL | re.MULTILINE)
        return section[1] if section else self.info.license

    @property
    def files(self) -> list[Path]:
        return [path for paths in self.splits.values() for path in paths]

    @property
    def rows(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.files)

    def digest(self) -> str:
        """The sha256 of all files that the result is made from, labels, texts, report and card included."""
        described = [self.folder / name for name in ("dataset_info.json", "report.json", "README.md")]
        splits = [(split, [hash_file(path) for path in paths]) for split, paths in self.splits.items()]
        others = [hash_file(path) if path.is_file() else None for path in described]
        return hashlib.sha256(json.dumps([splits, others]).encode()).hexdigest()


def fingerprint(detector: Detector, name: str) -> str:
    """Return the sha256 of a detector's weights, or of the Python file of a user-defined detector."""
    digest = hashlib.sha256()
    if isinstance(model := getattr(detector, "model", None), torch.nn.Module):
        add_weights(digest, model)
    elif (match := OWN.fullmatch(name)) and Path(match["place"]).is_file():
        digest.update(hash_file(Path(match["place"])).encode())
    return digest.hexdigest()


def check_work(work: Path, manifest: dict, overwrite: bool) -> None:
    """Create the folder of an unfinished run, or check that the one there has the same settings."""
    path = work / "manifest.json"
    if overwrite:
        shutil.rmtree(work, ignore_errors=True)
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != manifest:
            old, new = (
                {**m["settings"], "detector's weights": m["detector"], "posts": m["posts"]} for m in (there, manifest)
            )
            differs = "; ".join(
                f"{name}: {old[name]} there, {new[name]} here" for name in new if old.get(name) != new[name]
            )
            raise ValueError(
                f"{work} holds an unfinished run with other settings ({differs or there['version']}): give those to "
                "resume it, or --overwrite to start again"
            )
    for left in work.rglob(".*.tmp"):  # a killed run left it
        left.unlink(missing_ok=True)
    (work / "shards").mkdir(parents=True, exist_ok=True)
    write_json(path, manifest)


def detect(work: Work, looks: list[Look], detector: Detector, processes: int) -> None:
    """Run the detector on all pictures that are in no shard yet."""
    shards = dict(cut_shards(looks))
    left = {number: some for number, some in shards.items() if not work.path(number).is_file()}
    logger.info(
        f"{len(looks)} distinct pictures to process, {len(shards) - len(left)} of {len(shards)} shards are done"
    )
    seconds = 0.2 if sys.stderr.isatty() else 30  # between the lines of a log
    with tqdm(total=sum(map(len, left.values())), unit=" pictures", mininterval=seconds) as bar:
        if processes > 1:
            run_in_processes(work, processes, left, bar.update)
        else:
            run_shards(work, detector, left, bar.update)


def new_tables(
    dataset: Dataset, split: str, rows: list[list[int | None]], detections: Detections
) -> Iterator[pa.Table]:
    """Yield the rows of a split with the new crops; pictures that are paths become bytes."""
    schema = dataset.features.arrow_schema
    for path in dataset.splits[split]:
        numbers, start = rows[dataset.files.index(path)], 0
        with pq.ParquetFile(path, pre_buffer=False) as file:
            kept = [name for name in file.schema_arrow.names if name not in REPLACED]
            for batch in file.iter_batches(ROWS, columns=kept):
                here = numbers[start : start + len(batch)]
                looks = [None if number is None else detections[number] for number in here]
                start += len(batch)
                columns = {name: batch.column(name) for name in kept}
                pictures = [embed(value, dataset.folder) for value in batch.column("image").to_pylist()]
                columns["image"] = pa.array(pictures, PICTURE)
                columns["objects"] = pa.array([one["objects"] if one else [] for one in looks], pa.list_(PICTURE))
                columns["object_boxes"] = pa.array([one["boxes"] if one else [] for one in looks], pa.list_(BOX))
                yield pa.table([columns[name] for name in schema.names], schema.names).cast(schema)


def embed(picture: dict | None, root: Path) -> dict | None:
    """Return a picture with its bytes if it is a path that can be read."""
    if picture is None or picture["bytes"] is not None:
        return picture
    try:
        return {"bytes": picture_bytes(picture, root), "path": Path(picture["path"] or "").name}
    except PictureError:
        return picture


def count_posts(numbers: list[int | None], detections: Detections) -> dict:
    """Count the posts of a split by their picture and by their crops."""
    pictures, crops = Counter(present=0, absent=0, unreadable=0, distinct=len(set(numbers) - {None})), Counter(all=0)
    for number in numbers:
        one = None if number is None else detections[number]
        unreadable = one is not None and one["reason"] is not None
        pictures["absent" if one is None else "unreadable" if unreadable else "present"] += 1
        count = len(one["boxes"]) if one else 0
        crops["all"] += count
        crops[f"posts with {count}"] += 1
    return {"pictures": dict(pictures), "crops": dict(sorted(crops.items()))}


def describe(settings: CropSettings) -> str:
    """Describe how crops were made, for the report, the card and every result."""
    seen = "the picture only"
    if settings.phrases:
        seen = f"the picture and the phrases of the text ({settings.phrases})"
    least = "" if settings.threshold is None else f", score {settings.threshold} or more"
    return (
        f"label-free: the best {settings.num_objects} detections of {settings.detector}, which saw {seen}{least}; "
        f"overlap at most {settings.max_overlap}, sides of {settings.min_side} pixels or more, padding "
        f"{settings.padding}"
    )


def make_report(dataset: Dataset, name: str, manifest: dict, rows: dict[str, list], detections: Detections) -> dict:
    """Return the report of the data set with new entries about crops."""
    report, method = dict(dataset.report), describe(CropSettings(**manifest["settings"]))
    splits = {}
    for split, numbers in rows.items():
        counts = count_posts(numbers, detections)
        before = report.get("splits", {}).get(split) or {"posts": len(numbers)}
        irregular = {k: v for k, v in before.get("irregularities", {}).items() if "crop index" not in k}
        splits[split] = {**before, **counts} | ({"irregularities": irregular} if irregular else {})
    unread = [
        {"split": split, "file": f"picture {detections.looks[number].key[:16]}", "reason": detections[number]["reason"]}
        for split, numbers in rows.items()
        for number in dict.fromkeys(numbers)
        if number is not None and detections[number]["reason"] is not None
    ]
    warnings = [text for text in report.get("warnings", []) if text != LEAK and not text.endswith(NO_CROP)]
    if "regions" in (dataset.info.features or {}):
        warnings.append("the column regions is left out: it named objects that are not there any more")
    every = [detections[number] for number in range(len(detections.looks))]
    return {
        **report,
        "dataset": name,
        "objects": method,
        "distinct pictures processed": len(every),
        "distinct pictures without an object": sum(not one["boxes"] and one["reason"] is None for one in every),
        "distinct pictures that cannot be read": sum(one["reason"] is not None for one in every),
        "splits": splits,
        "warnings": warnings,
        "unparsed_lines": report.get("unparsed_lines", []),
        "unused_pictures": report.get("unused_pictures", []) + unread,
        "object_crops": manifest,
    }


def write_output(
    dataset: Dataset, output: Path, manifest: dict, rows: list[list], detections: Detections, sheet: Path
) -> dict:
    """Write the data set with the new crops, its card, report and contact sheet; return the report."""
    work = detections.work.shards.parent
    for left in ("new", "replaced"):
        shutil.rmtree(work / left, ignore_errors=True)
    new = work / "new"
    (new / "data").mkdir(parents=True)
    columns = {name: kind for name, kind in dataset.features.items() if name not in REPLACED}
    crops = {"objects": datasets.List(datasets.Image()), "object_boxes": BOXES}
    dataset.features = datasets.Features({**columns, **crops})
    by_split, splits = {}, datasets.SplitDict()
    for split, paths in dataset.splits.items():
        by_split[split] = [number for path in paths for number in rows[dataset.files.index(path)]]
        tables = gather(new_tables(dataset, split, rows, detections))
        lengths = write_files(tables, dataset.features.arrow_schema, new / "data", split)
        size = sum(path.stat().st_size for path in (new / "data").glob(f"{split}-*.parquet"))
        splits.add(datasets.SplitInfo(split, size, len(by_split[split]), lengths))
    report = make_report(dataset, output.name, manifest, by_split, detections)
    info = datasets.DatasetInfo(
        description=f"{dataset.info.description or f'{dataset.folder.name}: posts with pictures.'}".strip(),
        citation=dataset.info.citation,
        license=dataset.license,
        features=dataset.features,
        splits=splits,
        dataset_size=sum(split.num_bytes for split in splits.values()),
    )
    chosen = [number for number in range(len(detections.looks)) if detections[number]["reason"] is None]
    chosen = [chosen[i * len(chosen) // SHOWN] for i in range(SHOWN)] if len(chosen) > SHOWN else chosen
    with placing(sheet) as temporary:
        write_sheet([show(dataset, detections, number) for number in chosen], report["objects"], temporary)
    report = publish(new, output, info, report, work)
    shutil.rmtree(work)
    return report


def show(dataset: Dataset, detections: Detections, number: int) -> dict:
    """Return what the contact sheet shows of a picture: the text of its first post, and the detections."""
    look = detections.looks[number]
    columns = [name for name in ("image", dataset.text) if name]
    group = ParquetRows(dataset.files[look.file], columns)
    ((_, values),) = group.read(look.row, look.row + 1)
    group.close()
    text = values.get(dataset.text) or ""
    return {
        "text": text if isinstance(text, str) else " ".join(text),
        "image": picture_bytes(values["image"], dataset.folder),
        **detections[number],
    }


def crop(args: argparse.Namespace) -> dict:
    """Make the crops of a data set as the command line says; return the report."""
    output, sheet = args.output.resolve(), args.contact_sheet or args.output.with_name(f"{args.output.name}.html")
    dataset = Dataset(args.dataset.resolve())
    if output.is_relative_to(dataset.folder) or dataset.folder.is_relative_to(output):
        raise ValueError(
            f"--output {args.output} must be outside of --dataset {args.dataset}, e.g. {args.dataset}_objects"
        )
    check_replaceable(output)
    check_writable(output.parent, "--output", needed=sum(path.stat().st_size for path in dataset.files))
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    args.device = args.device or str(here)
    detector = load_detector(args.detector, args.threshold, args.device)
    phrases = None
    if detector.needs_phrases:
        if dataset.text is None:
            raise ValueError(f"--detector {args.detector} needs phrases, and the data has neither tokens nor text")
        phrases = text_phrases if args.phrases == "rule" else noun_chunks(args.spacy_model)
    with tqdm(total=dataset.rows, unit=" posts", desc="listing pictures", mininterval=1) as bar:
        looks, rows = plan_looks(dataset.files, dataset.folder, dataset.text, phrases, bar.update)
    source = {"rule": "by rule", "spacy": f"noun chunks of {args.spacy_model}"}[args.phrases] if phrases else None
    settings = CropSettings(
        detector=Path(args.detector).name
        if OWN.fullmatch(args.detector) or Path(args.detector).exists()
        else args.detector,
        threshold=getattr(detector, "threshold", args.threshold),
        phrases=source,
        num_objects=args.num_objects,
        max_overlap=args.max_overlap,
        min_side=args.min_side,
        padding=args.padding,
    )
    listed = hashlib.sha256(json.dumps([[look.key for look in looks], rows]).encode()).hexdigest()
    manifest = {"version": __version__, "settings": asdict(settings), "detector": fingerprint(detector, args.detector)}
    manifest["posts"] = listed
    whole = {**manifest, "dataset": dataset.digest()}  # the crops depend on less: shards outlive a change of labels
    folder = output.with_name(f".{output.name}.unfinished")
    if not args.overwrite and not folder.exists() and (earlier := read_complete(output, whole)):
        logger.info(f"{output} is complete already; --overwrite makes it again")
        return earlier
    check_work(folder, manifest, args.overwrite)
    work = Work(
        settings,
        args.detector,
        args.threshold,
        files=dataset.files,
        root=dataset.folder,
        shards=folder / "shards",
        batch_size=args.batch_size,
        threads=args.threads or max(1, (os.cpu_count() or 1) // args.num_processes),
        device=args.device,
    )
    detect(work, looks, detector, args.num_processes)
    return write_output(dataset, output, whole, rows, Detections(work, looks), sheet)


def read_complete(output: Path, manifest: dict) -> dict | None:
    """The report of a data set that is there already, if it was made from the same files in the same way."""
    path = output / "report.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return report if report.get("object_crops") == manifest else None


def make_parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        "crop_objects.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", type=Path, required=True, help="the data set, a folder of Parquet files")
    parser.add_argument("--detector", required=True, help="a detector: folder, Hub id, or FILE.py:NAME for your own")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the data set to write")
    parser.add_argument(
        "--threshold",
        type=float,
        help="leave out objects with a lower score (default: 0.3, for zero-shot detectors 0.1)",
    )
    parser.add_argument(
        "--phrases",
        choices=("rule", "spacy"),
        default="rule",
        help="how phrases are taken from the text, for zero-shot detectors",
    )
    parser.add_argument(
        "--spacy_model", default="en_core_web_sm", help="the model for --phrases spacy (default: %(default)s)"
    )
    parser.add_argument("--num_objects", type=int, default=3, help="most crops per picture (default: 3)")
    parser.add_argument(
        "--max_overlap", type=float, default=0.5, help="highest intersection over union of two crops (default: 0.5)"
    )
    parser.add_argument("--min_side", type=int, default=16, help="shortest side of an object in pixels (default: 16)")
    parser.add_argument(
        "--padding", type=float, default=0.05, help="margin on each side, as a share of the box (default: 0.05)"
    )
    parser.add_argument("--batch_size", type=int, default=8, help="pictures per batch of the detector (default: 8)")
    parser.add_argument("--num_processes", type=int, default=1, help="processes with a detector each (default: 1)")
    parser.add_argument("--threads", type=int, help="threads per process (default: the cores divided by the processes)")
    parser.add_argument("--device", help="where the detector runs, e.g. cuda:0 (default: a GPU, if any)")
    parser.add_argument("--contact_sheet", type=Path, help="HTML page of 20 posts to write (default: OUTPUT.html)")
    parser.add_argument("--overwrite", action="store_true", help="start again instead of resuming")
    parser.add_argument("--push_to_hub", metavar="USER/NAME", help="also put the result on the Hub")
    parser.add_argument("--private", action="store_true", help="make the data set on the Hub a private one")
    return parser


def run(arguments: list[str] | None) -> None:
    args = make_parser().parse_args(arguments)
    for name in ("batch_size", "num_processes", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f"--{name} {value} must be 1 or more, e.g. --{name} 1")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logger.setLevel(logging.INFO)
    stop_on_sigterm()
    try:
        report = crop(args)
    except KeyboardInterrupt as error:
        message = "interrupted; finished shards are kept, and the same command resumes the run"
        raise Interrupted(getattr(error, "signum", signal.SIGINT), message) from None
    print_report(report)
    print(f"wrote {args.output}")
    if args.push_to_hub:
        print(f"pushed to {push_folder(args.output, args.push_to_hub, private=args.private)}")


def main(arguments: list[str] | None = None) -> None:
    run_script(lambda: run(arguments), program("crop_objects.py"))
