"""Reads ranges of rows of a Parquet file in little memory."""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_TOGETHER = 32  # in memory at a time
EMPTY = pa.RecordBatch.from_pylist([])
EMPTY = pa.RecordBatch.from_pylist([])


class ParquetRows:
    """Reads ranges of rows of one Parquet file, a few rows at a time, however large its row groups are.

    Ranges that come in their order are read in one pass; row groups between them are not read.
    """

    def __init__(self, path: Path, columns: Collection[str]):
        # Without these options pyarrow reads complete column chunks.
        self.path, self.file = path, pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)
        self.columns = [name for name in self.file.schema_arrow.names if name in columns]
        lengths = (self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups))
        self.group_starts = list(accumulate(lengths, initial=0))[:-1]
        self.batches: Iterator[pa.RecordBatch] = iter(())
        self.batch, self.first = EMPTY, 0

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

    def _seek(self, start: int) -> None:
        """Move to the batch that contains a row."""
        group = bisect_right(self.group_starts, start) - 1
        if start < self.first or self.group_starts[group] > self.first + len(self.batch) or not len(self.batch):
            groups = range(group, len(self.group_starts))
            self.batches = self.file.iter_batches(ROWS_TOGETHER, row_groups=groups, columns=self.columns)
            self.batch, self.first = EMPTY, self.group_starts[group]
        while start >= self.first + len(self.batch):
            self.first += len(self.batch)
            self.batch = next(self.batches)

    def close(self) -> None:
        self.file.close()
