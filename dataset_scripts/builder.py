"""What all data set scripts share: the schema of the rows and the way they are written.

A script subclasses `datasets.GeneratorBasedBuilder`, as a data set loading script always did, and hands the class to
[`write_parquet`]. The folder that comes out is read with `datasets.load_dataset("path/to/folder")`.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import datasets

NER_TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-MISC", "I-MISC"]

MNER_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "tokens": datasets.List(datasets.Value("string")),
        "ner_tags": datasets.List(datasets.ClassLabel(names=NER_TAGS)),
        "image": datasets.Image(),
        "objects": datasets.List(datasets.Image()),
    }
)

WRITTEN = {"data", "dataset_info.json", "report.json"}


@dataclass
class PostsConfig(datasets.BuilderConfig):
    """Configuration whose cache folder depends on the raw files as well as on the parameters.

    `datasets` names the cache folder after the parameters alone, and so would serve the old rows after a raw file was
    edited. Subclasses say in `raw_fingerprint` what else the rows are made from.
    """

    version: datasets.Version = datasets.Version("1.0.0")

    def raw_fingerprint(self) -> str:
        """Return a string that changes whenever the same parameters would give other rows."""
        raise NotImplementedError

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name the cache folder after the parameters and the fingerprint."""
        return super().create_config_id({**config_kwargs, "raw": self.raw_fingerprint()}, custom_features)


def hash_files(paths: Iterable[Path]) -> str:
    """Return one sha256 over the names and contents of files, in the order given; an absent file counts as such."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def write_parquet(builder_class: type[datasets.GeneratorBasedBuilder], output_dir: str | Path, **config):
    """Run a builder and leave its splits as Parquet files, pictures embedded, in `output_dir`.

    Everything is made in a temporary folder beside `output_dir` and moved there at the end: a run that fails leaves
    what was there before. A folder that holds anything other than an earlier result is refused, never replaced.
    The files are called `data/train-00000-of-00001.parquet` and so on, the first layout `load_dataset` looks for.

    Args:
        builder_class: The builder; where its instance has a `report`, that is written to `report.json`.
        output_dir: The folder to make.
        **config: `data_dir` and the fields of the builder's configuration.

    Returns:
        The builder after its run: `builder.info` has the number of rows of each split.
    """
    output_dir = Path(output_dir).resolve()
    check_replaceable(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=f".{output_dir.name}-") as temporary:
        new = Path(temporary) / "new"
        cache = str(Path(temporary) / "cache")
        builder = builder_class(cache_dir=cache, dataset_name=builder_class.__name__, **config)
        try:
            builder.download_and_prepare(str(new), file_format="parquet")
        except datasets.exceptions.DatasetGenerationError as error:
            raise error.__cause__ from None  # the script's own message, not "An error occurred"

        (new / "data").mkdir()
        for split, split_info in builder.info.splits.items():
            if not split_info.num_examples:
                raise ValueError(f"the {split} split has no rows, and load_dataset refuses such a file")
            shards = len(split_info.shard_lengths or [0])
            for shard in range(shards):
                part = f"-{shard:05d}-of-{shards:05d}"
                written = f"{builder.dataset_name}-{split}{part if shards > 1 else ''}.parquet"
                (new / written).rename(new / "data" / f"{split}{part}.parquet")
        report = getattr(builder, "report", None)
        if report is not None:
            text = json.dumps(report, indent=2, ensure_ascii=False)
            (new / "report.json").write_text(text + "\n", encoding="utf-8")

        check_replaceable(output_dir)
        if output_dir.exists():
            output_dir.rename(Path(temporary) / "replaced")
        new.rename(output_dir)
    return builder


def check_replaceable(output_dir: Path):
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
