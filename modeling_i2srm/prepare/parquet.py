"""Writes the Parquet files of a data set, storing a picture that several rows share once."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_TOGETHER = 1000
BYTES_TOGETHER = 16_000_000
MAX_FILE_BYTES = 500_000_000


def join_files(paths: list[Path], folder: Path, split: str) -> list[int]:
    """Write the rows of several files, in their order, to `folder/SPLIT-00000-of-0000N.parquet`; see `write_files`."""
    return write_files(row_groups(paths), pq.read_schema(paths[0]), folder, split)


def write_files(tables: Iterable[pa.Table], schema: pa.Schema, folder: Path, split: str) -> list[int]:
    """Write tables, one row group each, to `folder/SPLIT-00000-of-0000N.parquet`.

    Picture columns are dictionary-encoded: a row group stores equal bytes once. Any Parquet reader decodes them, and
    the columns keep their types.

    Returns:
        The number of rows of each file written.
    """
    lengths: list[int] = []
    writer = None
    for table in tables:
        if writer is None:
            path = folder / f"{split}-{len(lengths):05d}.part"
            sink = pa.OSFile(str(path), "wb")
            writer = pq.ParquetWriter(
                sink,
                schema,
                dictionary_pagesize_limit=2**30,  # the default of 1 MiB holds a few pictures
                compression={leaf: "none" if leaf.endswith("bytes") else "zstd" for leaf in leaves(schema)},
            )
            lengths.append(0)
        writer.write_table(table)
        lengths[-1] += len(table)
        if sink.tell() >= MAX_FILE_BYTES:
            writer.close()
            sink.close()
            writer = None
    if writer is not None:
        writer.close()
        sink.close()
    for number in range(len(lengths)):
        part = folder / f"{split}-{number:05d}.part"
        part.rename(folder / f"{split}-{number:05d}-of-{len(lengths):05d}.parquet")
    return lengths


def row_groups(paths: list[Path]) -> Iterator[pa.Table]:
    """Yield the rows of files as tables of the size of a row group."""
    files = (pq.ParquetFile(path) for path in paths)
    return gather(table for file in files for table in tables_of(file))


def tables_of(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield the row groups of a file, and close it."""
    with file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def gather(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows as tables of about `ROWS_TOGETHER` rows or `BYTES_TOGETHER` bytes, whichever is less."""
    waiting, rows, size = [], 0, 0
    for table in tables:
        waiting.append(table)
        rows, size = rows + len(table), size + table.nbytes
        if rows >= ROWS_TOGETHER or size >= BYTES_TOGETHER:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def leaves(schema: pa.Schema) -> list[str]:
    """Return the paths of the leaf columns, such as `image.bytes`."""
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    with pq.ParquetFile(pa.BufferReader(empty.getvalue())) as file:
        return [file.schema.column(i).path for i in range(len(file.schema))]


def read_columns(folder: Path, split: str, columns: list[str]) -> list[dict]:
    """Return the rows of a split with some of its leaf columns, without reading pictures."""
    files = sorted(folder.glob(f"{split}-*.parquet"))
    return [row for path in files for row in pq.ParquetFile(path).read(columns=columns).to_pylist()]
