"""Batches of posts of about one length."""

from collections.abc import Mapping

import datasets
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedSampler(Sampler):
    """Rows of about one length side by side, in an order that depends on the seed and the epoch alone.

    transformers' own takes it from the state of the global generator, which is another one in the middle of an epoch,
    where a run may be resumed, and may be another one in each process.

    Args:
        lengths: of each row.
        batch_size: rows of a step.
        seed: of the order.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def row_lengths(rows: object, length_column: str = "length") -> list[int] | None:
    """The length of every row, read from one column so that no picture is touched; `None` where that is not known.

    Args:
        rows: a `datasets.Dataset`, or a list of dicts.
        length_column: the column of the lengths; else those of input_ids are counted, or of tokens.
    """
    for name in (length_column, "input_ids", "tokens"):
        if isinstance(rows, datasets.Dataset) and name in rows.column_names:
            values = rows.with_format(None).select_columns([name])[name]
        elif isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) and name in row for row in rows):
            values = (row[name] for row in rows)
        else:
            continue
        return [int(value) if name == length_column else len(value) for value in values]
    return None


__all__ = ["LengthGroupedSampler", "row_lengths"]
