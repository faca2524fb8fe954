"""The answers of a corpus as one Parquet file."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..support.atomic_files import placing
from .answers import Extraction

logger = logging.getLogger(__name__)

TABLE = "answers.parquet"
BOX = pa.struct({"path": pa.string(), "box": pa.list_(pa.int32()), "score": pa.float64(), "label": pa.string()})
ENTITY = pa.struct({"start": pa.int32(), "end": pa.int32(), "label": pa.string(), "score": pa.float64()})
REGION = [pa.field("region", pa.int32()), pa.field("region_score", pa.float64())]
RELATION = pa.struct({"head": pa.int32(), "tail": pa.int32(), "label": pa.string(), "score": pa.float64()})
REASON = pa.struct({"picture": pa.string(), "reason": pa.string()})


def write_table(
    parts: list[Path], path: Path, boxes: bool, withheld: bool = False, picture_match: bool = False
) -> None:
    """Write the posts of JSONL parts as one Parquet file, a row group per part, in columns of the exchange format.

    Half a character (a lone surrogate), which Parquet cannot hold, becomes U+FFFD; a warning counts the posts.

    Args:
        boxes: objects are structs of path, box, score and label, as a cropper has found some; else paths.
        withheld: a column for the answers that a coverage withholds.
        picture_match: a column for the probability that the picture is the post's own.
    """
    columns = {"id": pa.string(), "text": pa.string(), "tokens": pa.list_(pa.string()), "image": pa.string()}
    columns |= {"objects": pa.list_(BOX if boxes else pa.string())}
    answers = {"entities": pa.list_(pa.struct([*ENTITY, *REGION])), "relations": pa.list_(RELATION)}
    columns |= {**answers, "image_errors": pa.list_(REASON), "pairs_left_out": pa.int32()}
    columns |= {"withheld": pa.struct(answers)} if withheld else {}
    columns |= {"picture_match": pa.float64()} if picture_match else {}
    schema, changed = pa.schema(columns), 0
    with placing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            rows: list[object] = []
            for line in part.read_text(encoding="utf-8").splitlines():
                row = Extraction.from_dict(json.loads(line)).to_dict()  # a run of version 0.1 has other keys
                if boxes:
                    row["objects"] = [{"path": one} if isinstance(one, str) else one for one in row["objects"]]
                row["image_errors"] = [{"picture": name, "reason": why} for name, why in row["image_errors"].items()]
                whole = replace_halves(row)
                changed += whole != row
                rows.append(whole)
            writer.write_table(pa.Table.from_pylist(rows, schema))
    if changed:
        logger.warning(f"{path}: half a character became U+FFFD in {changed} posts")


def replace_halves(value: object) -> object:
    """A value with U+FFFD for each lone surrogate in its texts, of the same length."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [replace_halves(one) for one in value]
    return {name: replace_halves(one) for name, one in value.items()} if isinstance(value, dict) else value


__all__ = ["write_table"]
