"""The base class of the data set scripts: the schema of the rows, raw posts -> rows, and how rows are written.

A script subclasses [`PostsBuilder`] (or `datasets.GeneratorBasedBuilder`) and passes the class to [`write_parquet`].
`datasets.load_dataset("path/to/folder")` reads the resulting folder.
"""

import json
import os
import shutil
import socket
import tempfile
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from .conll import Problem
from .dataset_card import write_dataset_card
from .parquet import join_files
from .picture_files import (
    MAX_PIXELS,
    PictureFolder,
    find_picture_folder,
    is_plain_name,
    natural_order,
    read_crop_index,
    read_picture,
    stamp_files,
)
from .report import make_report

NER_TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-MISC", "I-MISC"]
SPAN = {"start": datasets.Value("int32"), "end": datasets.Value("int32")}
PICTURES = {"image": datasets.Image(), "objects": datasets.List(datasets.Image())}

BOXES = datasets.List(  # the column object_boxes
    {
        "box": datasets.List(datasets.Value("int32"), length=4),
        "score": datasets.Value("float32"),
        "label": datasets.Value("string"),
    }
)


def mner_features(tag_names: list[str]) -> datasets.Features:
    """Return the columns of a data set for named entity recognition."""
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=tag_names)),
            **PICTURES,
        }
    )


def mre_features(relations: list[str]) -> datasets.Features:
    """Return the columns of a data set for relation extraction; spans count words, the end is exclusive."""
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            "head": SPAN,
            "tail": SPAN,
            "relation": datasets.ClassLabel(names=relations),
            **PICTURES,
        }
    )


def relation_features(relations: list[str]) -> datasets.Features:
    """Return the column of the relations of a post with tags: each has a label, head and tail.

    Head and tail are positions of entities, in the order of the words.
    """
    position = datasets.Value("int32")
    relation = {"head": position, "tail": position, "label": datasets.ClassLabel(names=relations)}
    return datasets.Features({"relations": datasets.List(relation)})


def joint_features(tag_names: list[str], relations: list[str]) -> datasets.Features:
    """Return the columns of a data set of posts with entities, their relations and the crops that show them.

    A region is the position of a crop in `objects`, or -1 for an entity that no crop shows.
    """
    regions = datasets.Features({"regions": datasets.List(datasets.Value("int32"))})
    return datasets.Features({**mner_features(tag_names), **relation_features(relations), **regions})


MNER_FEATURES = mner_features(NER_TAGS)
WRITTEN = {"data", "dataset_info.json", "report.json", "README.md"}
LEAST_CROPS = 0.1  # share of an index; splits and data sets share up to a twentieth of their crops' names by chance
NO_CROP = "no crop was found; every post is without crops"
NO_CROP_OF_REGION = "regions of crops that are absent or cannot be read, stored as not known"
AHEAD = 32  # posts whose pictures are read in advance


@dataclass
class RawPost:
    """A post before its pictures are read: the values of its other columns, and the files of its picture and crops."""

    columns: dict
    image: str | None = None
    image_file: Path | None = None
    crops: list[str] = field(default_factory=list)
    crop_files: list[Path | None] = field(default_factory=list)

    @property
    def files(self) -> set[Path]:
        """All files to read."""
        return {path for path in (self.image_file, *self.crop_files) if path is not None}


@dataclass
class RawData:
    """The parsed raw files of a data set.

    Args:
        splits: The posts of each split.
        problems: Raw lines that could not be read.
        irregularities: The counts of irregularities, for each split.
        pictures: The picture folder of each split.
        about: Entries of the report about the data as a whole: layout, edition, checksums, warnings.
        reasons: Why existing files cannot be used; filled while they are read.
    """

    splits: dict[str, list[RawPost]]
    problems: list[Problem]
    irregularities: dict[str, Counter]
    pictures: dict[str, PictureFolder]
    about: dict
    reasons: dict[Path, str] = field(default_factory=dict)


@dataclass
class FreshConfig(datasets.BuilderConfig):
    """Configuration whose cache folder depends on the contents of the raw files as well as on the parameters.

    `datasets` names the cache folder after the parameters only, and would return the old rows after a raw file was
    edited.
    """

    version: datasets.Version = datasets.Version("1.0.0")

    def raw_fingerprint(self) -> str:
        """Return a hash that changes whenever the raw files do."""
        raise NotImplementedError

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name the cache folder after the parameters and the fingerprint."""
        return super().create_config_id({**config_kwargs, "raw": self.raw_fingerprint()}, custom_features)


@dataclass
class PostsConfig(FreshConfig):
    """Where the raw files are (`data_dir`) and how they are read.

    Args:
        image_dir: The folder of the pictures, if it is not in `data_dir`.
        objects: "none" for no crops, "released" for those that come with the data, or a folder with the crops of
            picture `NAME.jpg` in `NAME/`, in natural order of their names.
        max_pixels: Larger pictures are left out.
        strict: Raise an error for a raw line that cannot be read.
        num_proc: The number of threads that decode pictures (Pillow releases the GIL); it does not change the rows.
    """

    image_dir: str | None = None
    objects: str = "none"
    max_pixels: int = MAX_PIXELS
    strict: bool = False
    num_proc: int = 1

    @property
    def root(self) -> Path:
        """The folder of the raw files."""
        if self.data_dir is None:
            raise ValueError("data_dir is missing: the folder that holds the raw files")
        if not Path(self.data_dir).is_dir():
            raise FileNotFoundError(f"no folder {self.data_dir} (data_dir: the folder that holds the raw files)")
        return Path(self.data_dir)

    def relative(self, path: Path | None) -> str:
        """Return a path for the report: relative to the data, or only its name outside of it."""
        if path is None:
            return "none"
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name

    @property
    def objects_said(self) -> str:
        """The kind of crops, as the report names it."""
        return self.objects if self.objects in ("none", "released") else "own"

    def raw_fingerprint(self) -> str:
        """Return a hash of all raw files."""
        folders = [self.data_dir, self.image_dir, None if self.objects in ("none", "released") else self.objects]
        return "".join(stamp_files(Path(folder)) for folder in folders if folder and Path(folder).exists())


class PostsBuilder(datasets.GeneratorBasedBuilder):
    """Builder of posts from raw files; a subclass finds and parses them in `read_raw`."""

    BUILDER_CONFIG_CLASS = PostsConfig
    NAME: str
    raw: RawData

    @abstractmethod
    def read_raw(self) -> RawData:
        """Find and parse the raw files; pictures are not read yet."""

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        self.raw = self.read_raw()
        if self.config.strict and self.raw.problems:
            shown = "\n".join(f"  {problem}" for problem in self.raw.problems[:20])
            more = len(self.raw.problems) - 20
            raise ValueError(
                f"{len(self.raw.problems)} lines cannot be read:\n{shown}"
                + (f"\n  and {more} more" if more > 0 else "")
                + "\nCorrect them, or leave out strict: then the report lists them and the other lines are read."
            )
        generators = []
        for split, posts in self.raw.splits.items():
            if not any(post.image_file for post in posts):
                self.raw.about["warnings"].append(f"{split}: no picture was found; every post is without one")
            if any(post.crops for post in posts) and not any(path for post in posts for path in post.crop_files):
                self.raw.about["warnings"].append(f"{split}: {NO_CROP}")
            if not posts:
                shown = "".join(f"\n  {problem}" for problem in self.raw.problems[:20])
                raise ValueError(f"the {split} split has no readable posts, and load_dataset needs at least one{shown}")
            generators.append(
                datasets.SplitGenerator(
                    name=split, gen_kwargs={"posts": posts, "counts": self.raw.irregularities[split]}
                )
            )
        return generators

    def _generate_examples(self, posts: list[RawPost], counts: Counter) -> Iterator[tuple[str, dict]]:
        for post, read in read_ahead(posts, self.config.num_proc, self.config.max_pixels):
            self.raw.reasons.update((path, reason) for path, (_, reason) in read.items() if reason)
            crops = self.read_crops(post, read, counts)
            row = {
                **post.columns,
                "image": post.image_file and read[post.image_file][0],
                "objects": [crop for crop in crops if crop is not None],
            }
            if row.get("regions"):
                row["regions"] = renumber_regions(row["regions"], crops, counts)
            yield post.columns["id"], row

    def read_crops(self, post: RawPost, read: dict, counts: Counter) -> list[dict | None]:
        """The crops of a post, from the results of [`read_picture`] by path; `None` where one cannot be read."""
        return [None if path is None else read[path][0] for path in post.crop_files]

    def make_report(self, folder: Path) -> dict:
        """Count what the finished Parquet files hold."""
        return {"dataset": self.NAME, **make_report(self.raw, self.info.features, folder)}


def renumber_regions(regions: list[int | None], crops: Sequence[object], counts: Counter) -> list[int | None]:
    """The regions of entities as positions among the crops that were read; `None` for those of other crops.

    Args:
        regions: of each entity, the position in `crops`, -1 for no crop, or `None`.
        crops: what was read of each crop, `None` where it is absent or cannot be read.
        counts: the regions of such crops are added to it.
    """
    places = {place: number for number, place in enumerate(i for i, crop in enumerate(crops) if crop is not None)}
    numbers = [places.get(region) if region is not None and region >= 0 else region for region in regions]
    counts[NO_CROP_OF_REGION] += sum(new is None is not old for new, old in zip(numbers, regions, strict=True))
    return numbers


def read_ahead(posts: list[RawPost], num_proc: int, max_pixels: int) -> Iterator[tuple[RawPost, dict]]:
    """Yield posts in their order, each with the results of [`read_picture`] for its files, by path.

    The files of the next posts are read in advance. Posts of MNRE that share a picture are close together, so that
    nearly every file is read only once.
    """
    futures: dict[Path, Future[tuple[dict | None, str | None]]] = {}
    uses: Counter[Path] = Counter()
    waiting: deque[RawPost] = deque()

    def next_post() -> tuple[RawPost, dict]:
        post = waiting.popleft()
        read = {path: futures[path].result() for path in post.files}
        for path in post.files:
            uses[path] -= 1
            if not uses[path]:
                del futures[path], uses[path]
        return post, read

    with ThreadPoolExecutor(num_proc) as pool:
        for post in posts:
            for path in post.files:
                uses[path] += 1
                if path not in futures:
                    futures[path] = pool.submit(read_picture, path, max_pixels)
            waiting.append(post)
            if len(waiting) > AHEAD:
                yield next_post()
        while waiting:
            yield next_post()


def add_crops(posts: list[RawPost], keys: Sequence[str | int | None], index: Path, root: Path) -> Counter:
    """Add the released crops to posts; return how many posts the index lacks.

    Args:
        posts: The posts of a split.
        keys: The key of each post in the index: the name of its picture, or its row number.
        index: The file that lists the crops of each post.
        root: The folder in or below which the folder of the crops is searched.
    """
    crops = read_crop_index(index)
    names = {name for names in crops.values() for name in names}
    folder = find_picture_folder(root, names)
    if len(names & folder.names) < LEAST_CROPS * len(names):
        folder = PictureFolder(None)
    for post, key in zip(posts, keys, strict=True):
        post.crops = [] if key is None else crops.get(key, [])
        post.crop_files = [folder.file(name) for name in post.crops]
    return Counter({"posts that the crop index does not know": sum(key not in crops for key in keys)})


def add_own_crops(posts: list[RawPost], folder: Path) -> None:
    """Add the crops of a user's folder to posts: `NAME/*` for picture `NAME.jpg`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of crops {folder}; choose --objects none, released or a folder")
    for post in posts:
        stem = Path(post.image or "").stem
        if is_plain_name(stem) and (folder / stem).is_dir():
            names = sorted((name for name in os.listdir(folder / stem) if not name.startswith(".")), key=natural_order)
            post.crops = [f"{stem}/{name}" for name in names]
            post.crop_files = [folder / name for name in post.crops]


def is_text(word: str) -> bool:
    """Whether a string can be stored as UTF-8: escapes in a literal can produce lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


def unique(ids: list[str]) -> list[str]:
    """Return the ids with a number appended to repetitions."""
    seen = Counter(ids)
    result: dict[str, None] = {}
    for id in ids:
        number = 1
        while (name := id if number == 1 else f"{id}#{number}") in result or (number > 1 and name in seen):
            number += 1
        result[name] = None
    return list(result)


def write_parquet(
    builder_class: type[datasets.GeneratorBasedBuilder], output_dir: str | Path, **config: object
) -> datasets.GeneratorBasedBuilder:
    """Run a builder and write its splits as Parquet files, pictures embedded, to `output_dir`.

    The write is atomic: everything is made in a temporary folder next to `output_dir` and moved at the end, so that a
    run that fails or is killed leaves an earlier result as it was. A folder that holds anything else is refused, never
    replaced. The files are named `data/train-00000-of-00001.parquet` and so on, as `load_dataset` expects.

    Args:
        builder_class: The builder; its `make_report` returns the contents of `report.json` and `README.md`.
        output_dir: The folder to write.
        **config: `data_dir` and the fields of the builder's configuration.

    Returns:
        The builder: `builder.info` has the number of rows of each split, `builder.report` the report.
    """
    output_dir = Path(output_dir).resolve()
    check_replaceable(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(output_dir) as work:
        builder = builder_class(cache_dir=str(work / "cache"), dataset_name=builder_class.__name__, **config)
        try:
            builder.download_and_prepare(str(work / "rows"), file_format="parquet")
        except datasets.exceptions.DatasetGenerationError as error:
            raise error.__cause__ from None  # the script's own message, not "An error occurred"

        new = work / "new"
        (new / "data").mkdir(parents=True)
        for split, split_info in builder.info.splits.items():
            written = sorted((work / "rows").glob(f"{builder.dataset_name}-{split}*.parquet"))
            if not split_info.num_examples:
                raise ValueError(f"the {split} split has no rows, and load_dataset refuses such a file")
            split_info.shard_lengths = join_files(written, new / "data", split)
            split_info.dataset_name = None
            for path in written:
                path.unlink()
        builder.report = builder.make_report(new / "data")
        builder.report = publish(new, output_dir, builder.info, builder.report, work)
    return builder


def publish(new: Path, output_dir: Path, info: datasets.DatasetInfo, report: dict, work: Path) -> dict:
    """Add report, card and `dataset_info.json` to a folder of rows, and move it to `output_dir`.

    Args:
        new: the folder, with `data/*.parquet`.
        output_dir: the destination; an earlier result is moved to `work`.
        report: names of files and columns in it may be invalid UTF-8.

    Returns:
        The report as it was written.
    """
    text = json.dumps(report, indent=2, ensure_ascii=False).encode(errors="replace").decode()
    report = json.loads(text)
    (new / "report.json").write_text(text + "\n", encoding="utf-8")
    write_dataset_card(new, info, report)
    published = ("description", "citation", "features", "splits", "dataset_size")
    kept = datasets.DatasetInfo(**{name: getattr(info, name) for name in published})
    kept.write_to_directory(str(new), pretty_print=True)

    check_replaceable(output_dir)
    if output_dir.exists():
        output_dir.rename(work / "replaced")
    new.rename(output_dir)
    return report


@contextmanager
def work_folder(output_dir: Path) -> Iterator[Path]:
    """A temporary folder next to `output_dir`; those that killed runs left behind are removed, too."""
    prefix = f".{output_dir.name}-{socket.gethostname()}-"
    for left in list(output_dir.parent.iterdir()):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if left.name.startswith(prefix) and owner.isdecimal() and not is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=f"{prefix}{os.getpid()}-") as temporary:
        yield Path(temporary)


def is_running(pid: int) -> bool:
    """Whether a process of this machine may still be running."""
    if os.name != "posix":
        return True  # on Windows os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def check_replaceable(output_dir: Path) -> None:
    """Raise `FileExistsError` when a folder holds anything that [`write_parquet`] did not write."""
    if not output_dir.exists():
        return
    if not output_dir.is_dir():
        raise FileExistsError(f"{output_dir} is not a folder")
    names = {path.name for path in output_dir.iterdir()}
    others = names - WRITTEN if "dataset_info.json" in names else names
    others |= {f"data/{path.name}" for path in output_dir.glob("data/*") if path.suffix != ".parquet"}
    if others:
        raise FileExistsError(
            f"{output_dir} holds {', '.join(sorted(others)[:5])}, which no data set script wrote: "
            "give a new folder, or empty this one yourself"
        )
