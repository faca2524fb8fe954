"""Which columns of a data set hold pictures: columns that only look so are refused, and pictures are counted."""

import logging
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..padding import GRAPH_COLUMNS
from ..posts import COLUMNS, TEXT_KEYS
from ..tables import likely_column

logger = logging.getLogger(__name__)

PICTURE_COLUMNS = ("image", "objects")
CACHED = "picture_keys"
# Pictures as a model takes them: rows hold keys of a cache instead.
TENSORS = ("visual_features", "pixel_values")
TEXT_COLUMNS: tuple[str, ...] = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "word_mask",
    "head_mask",
    "tail_mask",
    "labels",
)
TEXT_COLUMNS += GRAPH_COLUMNS
KNOWN = {*COLUMNS, *TEXT_KEYS, *PICTURE_COLUMNS, CACHED, *TEXT_COLUMNS}
KNOWN |= {"pairs", "entities", "relations", "regions", "num_truncated_words", "first_word", "length"}
KNOWN |= {"num_truncated_entities", "num_truncated_relations", "num_regions_left_out"}


def check_picture_columns(
    where: str, names: Collection[str], use_images: bool | None, turn_off: str, known: Collection[str] = ()
) -> None:
    """Refuse columns that seem to hold pictures and are not read, and say which other columns are not read.

    Args:
        where: the data set or split, for messages.
        names: of the columns.
        use_images: whether pictures are asked for; `None` where they are read if there are any.
        turn_off: the call that leaves pictures out, for messages.
        known: other columns that are read.

    Raises:
        ValueError: `use_images` is true and no column holds pictures; a column seems to hold pictures or crops under
            another name; columns hold tensors instead of pictures.
    """
    if use_images is False:
        return
    read = [name for name in (*PICTURE_COLUMNS, CACHED) if name in names]
    unknown = [name for name in names if name not in KNOWN and name not in known]
    if CACHED not in names:
        if tensors := [name for name in TENSORS if name in names]:
            raise ValueError(
                f"{where}: the column {tensors[0]!r} is not read: give pictures in a column 'image', or the rows of "
                f"cache_pictures(cache, splits, model, processor); for the text alone: {turn_off}"
            )
        for name in names:
            target = None if name == "regions" and "relations" in names else likely_column(name)  # those of entities
            if target is not None and target not in names and (name in unknown or not read):
                what = "pictures" if target == "image" else "crops"
                otherwise = f'rows.remove_columns("{name}")' if read else turn_off
                raise ValueError(
                    f"{where}: there is no column {target!r}, and the column {name!r} is not read. If it holds the "
                    f'{what}: rows.rename_column("{name}", "{target}"); to leave it out: {otherwise}'
                )
    if not read:
        if use_images:
            raise ValueError(
                f"{where}: there is no column 'image' or 'objects', only {', '.join(map(repr, names))}; add the "
                f"pictures, or use the text alone: {turn_off}"
            )
        logger.warning(f"{where}: no column 'image' or 'objects', so no pictures are read, only the text")
    if unknown:
        logger.warning(f"{where}: the columns {', '.join(map(repr, unknown))} are not read")


def count_pictures(split: Dataset) -> int:
    """The number of rows that have a main picture or a crop, readable or not."""
    masks = [_present(split.data.column(name)) for name in PICTURE_COLUMNS if name in split.column_names]
    if not masks:
        return 0
    mask = masks[0] if len(masks) == 1 else pc.or_(*masks)
    if split._indices is not None:  # the rows of a selection
        mask = mask.take(split._indices.column(0))
    return pc.sum(mask).as_py() or 0


def _present(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which values of a column are there: pictures, or lists with at least one."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pc.fill_null(pc.greater(pc.list_value_length(column), 0), False)
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        parts = (pc.is_valid(pc.struct_field(column, name)) for name in ("bytes", "path"))
        return pc.and_(pc.is_valid(column), pc.or_(*parts))
    return pc.is_valid(column)


def regions_count_crops(columns: Collection[str], joint: bool) -> bool:
    """Whether an absent crop keeps its place, because regions count the crops (see `I2SRMDataCollator`).

    Args:
        columns: of encoded rows, or of rows as they are in a data set.
        joint: whether a joint model reads them.
    """
    return "region_labels" in columns or (joint and "ner_tags" in columns and "input_ids" not in columns)


__all__ = ["check_picture_columns", "count_pictures", "regions_count_crops"]
