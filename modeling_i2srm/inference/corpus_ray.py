"""A corpus on a Ray cluster: an actor pool of Ray Data extracts from its shards, on any number of machines.

An actor writes the part of a shard and then its receipt, as a process of the local engine does, to a file system that
all nodes share. So the files, ids, errors and counts are the same, in whatever order the shards are done; one that is
done again, as its worker or node was lost, replaces its own part; and either engine resumes a run of the other.
"""

import json
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from ..pictures import single_picture
from ..support.faults import RunError, first_line
from ..support.picture_paths import locate
from . import corpus
from .corpus import BAD_POST, CorpusArguments, ShardWorker, kept_in, load_extractor
from .corpus_files import Shard, make_shards, read_manifest, read_receipt, receipt_path, remove_temporaries
from .extraction import Extractor

logger = logging.getLogger(__name__)

MOST_LOST = 5  # workers of one shard: a post that ends its worker would be tried for ever
SHARED = (
    "The folder in which the command runs, the inputs, their pictures, --output and models in folders must be at the "
    "same paths of a file system that all nodes share"
)
MOST_BLOCKS = 10_000  # of Ray's object store; with more shards a block is several


def check_engine(extractor: Extractor | None) -> None:
    """Check that this process can run a corpus on Ray.

    Raises:
        RunError: Ray is not installed.
        ValueError: an extractor is given, or a launcher has started several processes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    try:
        import ray.data  # noqa: F401
    except ModuleNotFoundError as error:
        raise RunError(f"--engine ray needs Ray ({error}): pip install 'modeling-i2srm[ray]' on every node") from error
    if extractor is not None:
        raise ValueError("the workers of engine='ray' load the models by name: leave out extractor=")
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        raise ValueError(
            f"{processes} processes were launched; --engine ray starts its own: python examples/extract.py"
        )


@dataclass(frozen=True)
class Job:
    """What an actor needs to know of a run.

    Args:
        manifest: of the output folder.
        folder: that relative paths start from.
        pictures: paths of some pictures of the posts, which every node has to see.
        gpu: whether each actor has a GPU.
    """

    arguments: CorpusArguments
    manifest: dict
    folder: str
    pictures: list[str]
    gpu: bool


class ShardActor:
    """Extracts from shards: what `map_batches` calls, in a process of its own on any node."""

    def __init__(self, job: Job):
        self.job = job
        self.worker: ShardWorker | None = None
        self.shards = make_shards(job.manifest["inputs"], job.arguments.shard_size)

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list]:
        """Extract from the shards of a batch, by position.

        Returns:
            The positions, and for each what is wrong with this node or run, "" if nothing is.
        """
        numbers = [int(number) for number in batch["shard"]]
        return {"shard": numbers, "fault": [self.extract(self.shards[number]) for number in numbers]}

    def extract(self, shard: Shard) -> str:
        output = Path(self.job.arguments.output)
        if missing := self.find_missing():
            return f"on node {socket.gethostname()}: {missing} is not there. {SHARED}. {kept_in(output)}"
        try:
            if read_receipt(output, shard.part) is None:
                with attempting(shard, output):
                    self.worker = self.worker or self.load()
                    corpus.run_shards(self.worker, [shard], output, kept_in(output), hidden=True)
        except (ValueError, OSError, RuntimeError) as error:
            return f"on node {socket.gethostname()}: {error}"
        return ""

    def load(self) -> ShardWorker:
        arguments, manifest = self.job.arguments, self.job.manifest
        device = torch.accelerator.current_accelerator() if self.job.gpu else None
        extractor = load_extractor(arguments, device or torch.device("cpu"))
        return ShardWorker(extractor, manifest["inputs"], arguments, manifest["settings"].get("format"))

    def find_missing(self) -> str:
        """The first file of the run that this node does not see, or sees another one of; "" if it sees all."""
        if not os.path.isdir(self.job.folder):
            return f"the folder {self.job.folder}, in which the run began,"
        os.chdir(self.job.folder)
        for entry in self.job.manifest["inputs"]:
            if not os.path.isfile(entry["path"]) or os.path.getsize(entry["path"]) != entry["size"]:
                return f"--input {entry['path']}, of {entry['size']:,} bytes,"
        for path in self.job.pictures:
            if not os.path.isfile(path):
                return f"the picture {path}"
        if read_manifest(Path(self.job.arguments.output)) != self.job.manifest:
            return f"the manifest of this run in --output {self.job.arguments.output}"
        return ""


@contextmanager
def attempting(shard: Shard, output: Path) -> Iterator[None]:
    """Keep a file beside the receipts while a shard is worked on; a worker that is killed leaves it.

    Raises:
        RuntimeError: `MOST_LOST` workers have left theirs.
    """
    receipt = receipt_path(output, shard.part)
    if (lost := len(list(receipt.parent.glob(f".{receipt.name}.*.tmp")))) >= MOST_LOST:
        raise RuntimeError(
            f"{lost} workers were lost over {shard.part}, rows {shard.start + 1} to {shard.stop}: a post may need more "
            f"memory than there is, e.g. for its picture; or give a smaller --batch_size. {kept_in(output)}"
        )
    mark = receipt.with_name(f".{receipt.name}.{secrets.token_hex(4)}.tmp")
    mark.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def run_shards(worker: ShardWorker, shards: list[Shard]) -> int:
    """Extract from shards on the Ray cluster that is there, or on one that is started on this machine.

    Args:
        worker: of this process, which reads the first rows for the names of pictures.

    Returns:
        The number of actors.

    Raises:
        RunError: whatever is not a post's fault, as `corpus.run_shards` raises it.
    """
    if not shards:
        return 1
    import ray

    arguments, output = worker.arguments, Path(worker.arguments.output)
    everything = make_shards(worker.inputs, arguments.shard_size)
    position = {shard.part: number for number, shard in enumerate(everything)}
    firsts = {shard.input: shard for shard in reversed(everything)}.values()
    pictures = [path for shard in firsts if (path := find_picture(worker, shard)) is not None]
    manifest = read_manifest(output)
    if manifest is None:
        raise RunError(f"{output}/manifest.json was deleted while the run began")
    with connecting(), corpus.show_progress(shards, arguments.disable_tqdm) as bar:
        there = ray.cluster_resources()
        gpus = 0 if arguments.use_cpu else int(there.get("GPU", 0))
        most = arguments.ray_workers or gpus or int(there.get("CPU", 1))
        actors = max(1, min(most, len(shards)))
        logger.info(f"Ray: {actors} workers, each with one {'GPU' if gpus else 'CPU'}")
        job = Job(arguments, manifest, os.getcwd(), pictures, gpu=gpus > 0)
        answers = ray.data.from_items(
            [{"shard": position[shard.part]} for shard in shards],
            override_num_blocks=min(len(shards), MOST_BLOCKS),
        ).map_batches(
            ShardActor,
            fn_constructor_args=[job],
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
        )
        try:
            for row in answers.iter_rows():
                if row["fault"]:
                    raise RunError(row["fault"])
                shard = everything[row["shard"]]
                bar.update(shard.stop - shard.start)
        except ray.exceptions.RayTaskError:
            raise  # a bug, with its traceback
        except ray.exceptions.RayError as error:
            raise RunError(f"Ray gave up: {first_line(error)}. {kept_in(output)}") from error
    remove_temporaries(output)  # of workers that were lost
    return actors


def find_picture(worker: ShardWorker, shard: Shard) -> str | None:
    """The path of a picture of a shard's first posts that is a file here."""
    folder = worker.picture_folder(shard)
    for _, values in islice(worker.read(shard), 1000):
        try:
            post = json.loads(values) if isinstance(values, bytes) else values
            path = locate(single_picture(post["image"]), folder)
        except BAD_POST:
            continue
        if isinstance(path, str) and os.path.isfile(path):
            return path
    return None


@contextmanager
def connecting() -> Iterator[None]:
    """Connect to the Ray cluster of this machine or of RAY_ADDRESS, or start one here; leave it at the end."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = MOST_LOST  # by default a node that leaves as its actor starts ends all
    if ray.is_initialized():
        yield
        return
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    if in_main:
        signal.signal(signal.SIGTERM, before)  # Ray's own would end this process without a message
    try:
        yield
    finally:
        ray.shutdown()


__all__: list[str] = []
