"""Rows of a data set -> a padded batch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers.utils import logging

from ..checks import IGNORE, is_listing, label_id
from ..pictures import PictureError, is_absent, single_picture
from ..posts import kind_of
from ..processing_i2srm import I2SRMProcessor
from ..words import EntityPairError
from .feature_cache import VisualFeatureCache
from .picture_columns import TEXT_COLUMNS, check_picture_columns
from .picture_memory import PictureMemory

logger = logging.get_logger(__name__)


@dataclass
class I2SRMDataCollator:
    """Pad the text of rows, load and normalise their pictures.

    Rows are those of the Parquet data (tokens; ner_tags, or head, tail and relation, or label, which will do with text
    instead of tokens; image, objects), encoded here, or rows that `processor.encode_tokens`, `encode_pair`,
    `encode_post` or `encode_graph` has encoded before. Pictures are read at this point, so that a data set stays small
    in memory and data loader workers share the decoding.

    Args:
        processor: the model's processor.
        use_images: read pictures at all; `False` trains and evaluates on text alone, and `True` refuses rows that have
            no column of pictures. Default: the pictures that the rows have; a warning says where they have none.
        strict_pictures: raise for an unreadable picture. Otherwise it counts as absent, with a warning that names the
            post, and `skipped_pictures` is increased (in the data loader's own process).
        skipped_pictures, truncated_words: counts; words beyond the processor's `max_length` of rows encoded here.
        pad_to_multiple_of: pad the text to a multiple of this length.
        label2id: of the model. With it names of labels become ids, and ids that the model does not have are refused;
            `I2SRMTrainer` sets it.
        relation2id: of a joint model, likewise for relations. Without it the relations and regions of rows with
            ner_tags are not read.
        feature_cache: where the features of rows with picture_keys lie (`cache_pictures` makes both). Such rows give
            visual_features (B, 1+M, F) in the dtype of the cache instead of pixel_values.
        picture_memory: keeps the pixel values of rows, so that later epochs need not read and prepare their pictures
            again.

    Raises:
        ValueError: what is not a list of rows with tokens, or rows with picture_keys and no `feature_cache`; a row
            that cannot be encoded, by its id or its place in the batch; a column that seems to hold pictures or crops
            and has another name than image or objects.

    Example:

    >>> loader = DataLoader(dataset, batch_size=8, collate_fn=I2SRMDataCollator(processor))  # doctest: +SKIP
    """

    processor: I2SRMProcessor
    use_images: bool | None = None
    strict_pictures: bool = False
    pad_to_multiple_of: int | None = None
    skipped_pictures: int = 0
    truncated_words: int = 0
    feature_cache: VisualFeatureCache | None = None
    picture_memory: PictureMemory | None = None
    label2id: dict[str, int] | None = None
    relation2id: dict[str, int] | None = None
    _checked: set[frozenset[str]] = field(default_factory=set, init=False, repr=False, compare=False)

    def check_columns(self, names: Iterable[str], known: Collection[str] = ()) -> None:
        """Check the columns of rows for pictures that would not be read, once for each combination of columns.

        Args:
            names: of the columns.
            known: columns that something else reads, of which no warning is needed.

        Raises:
            ValueError: as for a batch of such rows.
        """
        columns = list(names)
        if frozenset(columns) not in self._checked:
            self._checked.add(frozenset(columns))
            check_picture_columns("rows", columns, self.use_images, "I2SRMDataCollator(..., use_images=False)", known)

    def __call__(self, rows: list[dict]) -> dict:
        self._check(rows)
        self.check_columns(rows[0])
        batch = self.processor.pad([self._text(row, place) for place, row in enumerate(rows)], self.pad_to_multiple_of)
        if self.use_images is not False and "picture_keys" in rows[0]:
            if self.feature_cache is None:
                raise ValueError(
                    "the rows hold picture_keys instead of pictures: give the cache they belong to, "
                    "I2SRMDataCollator(processor, feature_cache=cache)"
                )
            if bare := [row.get("id", place) for place, row in enumerate(rows) if "picture_keys" not in row]:
                raise ValueError(f"rows with and without picture_keys are mixed: {bare[0]!r} has none; cache all rows")
            keys = [row["picture_keys"] for row in rows]
            batch.update(self.feature_cache.encode(keys, 1 + self.processor.num_objects))
        elif self.use_images is not False:
            memory = self.picture_memory
            batch.update(self._read_pictures(rows)[0] if memory is None else memory.encode(rows, self._read_pictures))
        return batch

    def _read_pictures(self, rows: list[dict]) -> tuple[dict[str, torch.Tensor], bool]:
        """The pixel values and the mask of the pictures of rows, and whether all pictures were readable."""
        skipped = self.skipped_pictures
        images, objects = zip(*(self._pictures(row) for row in rows), strict=True)
        return self.processor.encode_pictures(list(images), list(objects)), self.skipped_pictures == skipped

    @staticmethod
    def _check(rows: object) -> None:
        """Raise a `ValueError` unless rows are a list of dicts, each with the text of a post."""
        example = 'e.g. collator([{"tokens": ["Kobe", "lands"], "ner_tags": [1, 0]}])'
        if not isinstance(rows, (list, tuple)) or not rows:
            raise ValueError(f"rows={rows!r:.100} is not a list of rows; {example}")
        for place, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise ValueError(f"row {place} is {row!r:.100}, expected a dict; {example}")
            if kind_of(row) is None:
                raise ValueError(
                    f"row {row.get('id', place)!r} has no tokens, only {', '.join(map(str, row))}; {example}"
                )

    def _kind(self, row: Mapping) -> str | None:
        """The kind of a row as this model reads it: one of tags is a graph to a joint model, and to no other."""
        kind = kind_of(row)
        if kind not in ("words", "graph") or row.get("ner_tags") is None:
            return kind
        return "words" if self.relation2id is None else "graph"

    def _text(self, row: Mapping, place: int) -> dict:
        kind = self._kind(row)
        try:
            encoded = self.processor.encode_row(row, self.label2id, kind=kind, relation2id=self.relation2id)
            if kind == "encoded" and self.label2id is not None:
                labels = np.asarray(encoded.get("labels", IGNORE)).ravel()
                wrong = labels[(labels != IGNORE) & ~np.isin(labels, list(self.label2id.values()))]
                for label in wrong[:1].tolist():
                    label_id(label, self.label2id)
        except ValueError as error:
            name = f"row {row['id']!r}" if row.get("id") is not None else f"row {place} of the batch"
            error_class = EntityPairError if isinstance(error, EntityPairError) else ValueError
            raise error_class(f"{name}: {error}") from error
        if kind != "encoded" and (lost := encoded["num_truncated_words"]):
            self.truncated_words += lost
            logger.warning(f"post {row.get('id', '?')}: {lost} words do not fit and are left out; raise max_length")
        return {name: encoded[name] for name in TEXT_COLUMNS if name in encoded}

    def _pictures(self, row: dict) -> tuple[object, list]:
        name = f"post {row.get('id', '?')}: image"
        image = self._load(single_picture(row.get("image"), name), row, "image")
        crops = None if is_absent(row.get("objects")) else row["objects"]
        if crops is not None and not is_listing(crops):
            raise ValueError(f"post {row.get('id', '?')}: objects is {crops!r:.60}, expected a list of crops or None")
        crops = [] if crops is None else [self._load(crop, row, f"objects[{i}]") for i, crop in enumerate(crops)]
        # Regions count the crops: there an absent one keeps its place, else the next one takes it.
        keep_places = "region_labels" in row or self._kind(row) == "graph"
        return image, [crop for crop in crops if keep_places or crop is not None]

    def _load(self, picture: object, row: dict, name: str) -> object:
        if is_absent(picture):
            return None
        try:
            return self.processor.load_picture(picture)
        except PictureError as error:
            if self.strict_pictures:
                raise
            self.skipped_pictures += 1
            logger.warning(f"post {row.get('id', '?')}: {name} is unreadable and counts as absent: {error}")
            return None


__all__ = ["I2SRMDataCollator"]
