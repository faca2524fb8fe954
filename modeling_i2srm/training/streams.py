"""Streamed data sets on several processes: each reads the whole stream and takes its share of the rows."""

from collections.abc import Iterator

from accelerate.data_loader import IterableDatasetShard
from accelerate.state import GradientState
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainingArguments


class CountedStream(IterableDataset):
    """A stream that counts the rows of its last pass.

    Args:
        stream: the data set; attributes and methods other than iteration are its own.
    """

    def __init__(self, stream: IterableDataset):
        self.stream, self.rows = stream, 0

    def __iter__(self) -> Iterator:
        self.rows = 0
        for row in self.stream:
            self.rows += 1
            yield row

    def __getattr__(self, name: str) -> object:
        if name == "stream" or name.startswith("__"):  # a copy that is being made has no attributes yet
            raise AttributeError(name)
        return getattr(self.stream, name)


def is_stream(rows: object) -> bool:
    """Whether rows come one after the other, without an index."""
    return isinstance(rows, IterableDataset)


def check_stream(name: str, rows: object, args: TrainingArguments) -> None:
    """Raise a `ValueError` for a stream that several processes cannot share so that each row counts once."""
    if args.world_size <= 1 or not is_stream(rows):
        return
    if getattr(args.accelerator_config, "dispatch_batches", None):
        raise ValueError(
            f"{name} is a stream, and with dispatch_batches=True one process would join batches of different widths: "
            'use accelerator_config={"dispatch_batches": False}, so that each process reads its own share'
        )
    if getattr(rows, "_distributed", None) is not None:
        raise ValueError(
            f"{name} is split by split_dataset_by_node, and the trainer shares a stream among the processes too: "
            f"give the whole stream, {name}=stream"
        )


def count_rows(loader: DataLoader) -> None:
    """Have a loader of a stream that several processes share count its rows."""
    shard = loader.dataset
    if isinstance(shard, IterableDatasetShard) and not isinstance(shard.dataset, CountedStream):
        shard.dataset = CountedStream(shard.dataset)


def set_remainder(state: GradientState) -> None:
    """Tell accelerate how many rows of the last joint batch of a stream are not repeated: it cannot know the length.

    `IterableDatasetShard` fills up the last batch with rows of the first. With the remainder, losses and predictions of
    these are left out as they are of data sets of known length.
    """
    loader = state.active_dataloader
    shard = getattr(loader, "dataset", None)
    if isinstance(shard, IterableDatasetShard) and isinstance(shard.dataset, CountedStream):
        if state.end_of_dataloader and not shard.drop_last:
            processes = 1 if shard.split_batches else shard.num_processes
            loader.remainder = shard.dataset.rows % (shard.batch_size * processes)


__all__ = ["CountedStream", "check_stream", "count_rows", "is_stream", "set_remainder"]
