"""Tables of posts: the rows of data frames as dicts, and columns that seem to hold pictures under another name."""

import re
from difflib import get_close_matches
from typing import Any

from .checks import is_missing

IMAGE_WORDS = {"image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos", "thumbnail"}
IMAGE_WORDS |= {"jpg", "jpeg", "png"}
CROP_WORDS = {"objects", "objs", "crop", "crops", "regions"}


def read_rows(inputs: Any) -> Any:  # tables of any library; none of them is imported here
    """A table as the list of its rows, each a dict without the empty cells (`None`, NaN); anything else as it is.

    Tables are the data frames of pandas and polars, and the tables and record batches of pyarrow. A column of them is
    the list of its values. A Series of pandas with an entry "text" or "tokens" is a row: it is returned as a dict.

    Raises:
        ValueError: a table of another library, one that is not computed yet, or one with two columns of one name.

    Example:

    >>> import pyarrow
    >>> read_rows(pyarrow.table({"text": ["Kobe lands", "in Paris"], "image": ["kobe.jpg", None]}))
    [{'text': 'Kobe lands', 'image': 'kobe.jpg'}, {'text': 'in Paris'}]
    >>> read_rows("Kobe lands")
    'Kobe lands'
    """
    kinds = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(inputs).__mro__}
    if "pandas.DataFrame" in kinds:
        if not inputs.columns.is_unique:
            raise ValueError(f"the table has columns of one name: {', '.join(map(str, inputs.columns))}; rename them")
        return [_without_empty_cells(row) for row in inputs.to_dict("records")]
    if "pandas.Series" in kinds:
        is_row = bool({"text", "tokens"} & {name for name in inputs.index if isinstance(name, str)})
        return _without_empty_cells(inputs.to_dict()) if is_row else inputs.to_list()
    if "polars.DataFrame" in kinds:
        return [_without_empty_cells(row) for row in inputs.to_dicts()]
    if kinds & {"pyarrow.Table", "pyarrow.RecordBatch"}:
        return [_without_empty_cells(row) for row in inputs.to_pylist()]
    if kinds & {"polars.Series", "pyarrow.Array", "pyarrow.ChunkedArray"}:
        return inputs.to_pylist() if hasattr(inputs, "to_pylist") else inputs.to_list()
    if hasattr(type(inputs), "columns"):
        raise ValueError(
            f"a table of type {type(inputs).__module__}.{type(inputs).__name__} is not read: give its rows, a list of "
            'dicts, e.g. table.to_pandas().to_dict("records"), or table.collect().to_dicts() of a lazy frame'
        )
    return inputs


def likely_column(name: str) -> str | None:
    """Which of the columns "image" and "objects" a column or key of another name seems to be; `None` for neither.

    >>> [likely_column(name) for name in ("picture", "imageURL", "img_path", "iamge", "crops", "page", "image")]
    ['image', 'image', 'image', 'image', 'objects', None, None]
    """
    if name in ("image", "objects", "object_boxes"):
        return None
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    if words & CROP_WORDS or any(get_close_matches(word, ["objects"], cutoff=0.85) for word in words):
        return "objects"
    similar = any(get_close_matches(word, ["image", "images", "picture", "pictures"], cutoff=0.8) for word in words)
    return "image" if words & IMAGE_WORDS or similar else None


def _without_empty_cells(row: dict) -> dict:
    return {name: value for name, value in row.items() if not is_missing(value)}


__all__ = ["likely_column", "read_rows"]
