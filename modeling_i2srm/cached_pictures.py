"""The pictures of a data set -> features in a cache, and their keys in the rows."""

import copy
import hashlib
import logging
import time
from collections.abc import Mapping
from contextlib import contextmanager

import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets
from torch import distributed, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .faults import RunError
from .folding import fold_batch_norm
from .pictures import PictureError, load_picture, read_bytes
from .precision import bf16_is_fast
from .processing_i2srm import I2SRMProcessor
from .visual_feature_cache import KEY_BYTES, SHARD_PICTURES, VisualFeatureCache
from .whole_files import check_writable

logger = logging.getLogger(__name__)


def cache_pictures(
    cache: VisualFeatureCache,
    splits: dict[str, Dataset],
    model,
    processor: I2SRMProcessor,
    batch_size: int = 32,
    num_workers: int = 0,
    strict_pictures: bool = False,
    progress: bool = True,
) -> dict[str, Dataset]:
    """Put the features of all pictures of a data set into a cache, and their keys in the place of the pictures.

    Only what the cache lacks is computed. In a process group every process calls this and computes its share. All
    pictures are read anew each time, so that an edited file gets a new key.

    Args:
        cache: of `VisualFeatureCache.for_model`, for this model and processor.
        splits: data sets with the columns image and objects, by name.
        model: an I2SRM model; its backbone computes where it lies, in bfloat16 if the cache is in bfloat16 and the
            device is fast at that, else in float32.
        batch_size: pictures at a time.
        num_workers: processes that decode pictures; 0 decodes in this one.
        strict_pictures: raise for an unreadable picture. Otherwise it counts as absent, with a warning that names the
            post, as in `I2SRMDataCollator`.
        progress: show a bar, in the first process.

    Returns:
        The splits with a column picture_keys instead of image and objects, for
        `I2SRMDataCollator(processor, feature_cache=cache)`.

    Raises:
        PictureError: an unreadable picture, with `strict_pictures`.
        RunError: the folder is full or cannot be written to; what it holds is kept.
        RuntimeError: processes of a group that do not see one folder.
        ValueError: features that do not fit into the dtype of the cache.

    Example:

    >>> cache = VisualFeatureCache.for_model("features", model, processor)  # doctest: +SKIP
    >>> splits = cache_pictures(cache, {"train": dataset}, model, processor)  # doctest: +SKIP
    >>> splits["train"]["picture_keys"][0]  # doctest: +SKIP
    ['0a52730597fb4ffa01fc117d9e71e3a9', '5f0d2bbd7bd3c1a04e6b2f6ffc8ae6e4']
    """
    started = time.perf_counter()
    in_group = distributed.is_available() and distributed.is_initialized()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if in_group else (0, 1)
    progress = progress and rank == 0

    def first(value):
        """What the first process says; it decides for all, as a file or the cache may change between two looks."""
        shared = [value]
        if in_group:
            distributed.broadcast_object_list(shared)
        return shared[0]

    cache.drop_leftovers()
    rows = {name: picture_rows(split) for name, split in splits.items()}
    posts, places, unreadable = first(read_keys(rows, processor, progress) if rank == 0 else None)
    asked = set()
    while True:
        if strict_pictures and unreadable:
            (name, index, slot), reason = min((places[key], reason) for key, reason in unreadable.items())
            raise PictureError(f"{name_of(rows[name][index], slot)} is unreadable: {reason}")
        chosen = {
            name: [choose(keys, unreadable, processor.num_objects) for keys in split] for name, split in posts.items()
        }
        wanted = {key for split in chosen.values() for keys in split for key in keys if key is not None}
        cache.refresh()
        lacking = sorted(key for key in wanted if key not in cache)
        missing = first(lacking)
        if asked.intersection(lacking) or (lacking and not missing):
            raise RuntimeError(
                f"{len(lacking)} pictures that other processes computed are not in {cache.folder}: give a folder that "
                "all machines of the run share, e.g. --cache_visual_features /shared/features"
            )
        if not missing:
            break
        asked.update(missing)
        check_writable(cache.folder, "--cache_visual_features", len(missing) * cache.bytes_a_picture)
        share = sorted((places[key], key) for key in missing[rank::processes])
        reasons = [fill(cache, share, rows, model, processor, batch_size, num_workers, progress)]
        if in_group:
            own, reasons = reasons[0], [None] * processes
            distributed.all_gather_object(reasons, own)
        # A crop that cannot be decoded makes room for the next one of its post, which may be missing, too.
        unreadable.update(pair for found in reasons for pair in found.items())

    if rank == 0:
        found = [
            (key, name_of(rows[name][index], slot))
            for name, split in posts.items()
            for index, keys in enumerate(split)
            for slot, key in enumerate(keys)
            if key in unreadable
        ]
        for key, picture in found:
            logger.warning(f"{picture} is unreadable and counts as absent: {unreadable[key]}")
        computed = len(wanted & asked)
        logger.info(
            f"visual features: {sum(key is not None for split in posts.values() for keys in split for key in keys)} "
            f"pictures, {len(wanted)} distinct ones used: {len(wanted) - computed} found, {computed} computed; "
            f"{len(found)} unreadable; {time.perf_counter() - started:.1f} s; "
            f"{len(wanted) * cache.bytes_a_picture / 1e6:.1f} MB in {cache.folder}: delete the folder to drop it"
        )
    return {name: with_keys(split, chosen[name]) for name, split in splits.items()}


def picture_rows(split: Dataset) -> Dataset | list[dict]:
    """The columns of a split that have to do with pictures."""
    columns = [name for name in ("id", "image", "objects") if name in split.column_names]
    return split.select_columns(columns) if columns else [{}] * len(split)


def pictures_of(row: Mapping) -> list:
    """The main picture of a post, or `None`, and its crops."""
    return [row.get("image"), *(row.get("objects") or [])]


def read_picture(picture, processor: I2SRMProcessor) -> tuple:
    """The key of a picture as it is now, and its bytes or image, from which the processor may load it.

    The key is a digest of the bytes of the file, or of the pixels of a picture that is no file.

    Raises:
        PictureError: there is nothing to read.
    """
    content = read_bytes(picture, allow_private_addresses=processor.allow_private_addresses)
    if content is None:
        content = load_picture(picture, max_pixels=processor.max_pixels)
        data, kind = b"%d %d " % content.size + content.tobytes(), b"pixels"
    else:
        data, kind = content, b"file"
    return hashlib.blake2b(data, digest_size=KEY_BYTES, person=kind).hexdigest(), content


def read_keys(rows: dict, processor: I2SRMProcessor, progress: bool) -> tuple[dict, dict, dict]:
    """The keys of each post's pictures by split, where each key is found first, and what is unreadable and why."""
    posts, places, unreadable = {}, {}, {}
    for name, split in rows.items():
        posts[name] = []
        for index, row in enumerate(tqdm(split, f"reading the pictures of {name}", disable=not progress)):
            keys = []
            for slot, picture in enumerate(pictures_of(row)):
                key = None
                if picture is not None:
                    try:
                        key, _ = read_picture(picture, processor)
                    except PictureError as error:
                        key = f"{name} {index} {slot}"
                        unreadable[key] = str(error)
                    places.setdefault(key, (name, index, slot))
                keys.append(key)
            posts[name].append(keys)
    return posts, places, unreadable


def choose(keys: list[str | None], unreadable: dict[str, str], num_objects: int) -> list[str | None]:
    """The keys of a post that its batch will hold: the main picture's or `None`, and the first readable crops'."""
    main, *crops = (None if key in unreadable else key for key in keys)
    return [main, *[key for key in crops if key is not None][:num_objects]]


def name_of(row: Mapping, slot: int) -> str:
    return f"post {row.get('id', '?')}: {'image' if slot == 0 else f'objects[{slot - 1}]'}"


class MissingPictures(torch.utils.data.Dataset):
    """Pictures to compute, each as (key, pixels (3, H, W), None) or (key, None, why it cannot be read)."""

    def __init__(self, share: list[tuple], rows: dict, processor: I2SRMProcessor):
        self.share, self.rows, self.processor = share, rows, processor

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> tuple:
        (name, post, slot), key = self.share[index]
        try:
            now, content = read_picture(pictures_of(self.rows[name][post])[slot], self.processor)
            if now != key:
                raise PictureError("it was changed while the features were computed: run again")
            picture = self.processor.load_picture(content)
        except PictureError as error:
            return key, None, str(error)
        return key, self.processor.image_processor([picture], return_tensors="pt")["pixel_values"][0], None


@contextmanager
def folded_backbone(base: nn.Module):
    """Have a copy of the backbone compute, with batch-norm folded."""
    encoder = base.vision_encoder
    base.vision_encoder = fold_batch_norm(copy.deepcopy(encoder))
    try:
        yield
    finally:
        base.vision_encoder = encoder


@torch.no_grad()
def fill(
    cache: VisualFeatureCache,
    share: list[tuple],
    rows: dict,
    model,
    processor: I2SRMProcessor,
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> dict[str, str]:
    """Compute and store the features of a share of the pictures, a shard at a time; return why some are unreadable."""
    base = model.base_model
    device = base.vision_encoder.device
    # float16 keeps more digits than bfloat16 computes.
    in_bf16 = cache.dtype == "bfloat16" and bf16_is_fast(device)
    logger.info(f"computing {len(share)} pictures in {'bfloat16' if in_bf16 else 'float32'} on {device}")
    # A generator of its own, so that a run draws the same random numbers whether or not it has to compute.
    loader = DataLoader(
        MissingPictures(share, rows, processor),
        batch_size,
        num_workers=num_workers,
        collate_fn=list,
        generator=torch.Generator().manual_seed(0),
    )
    keys, features, unreadable = [], [], {}

    def write():
        if keys:
            try:
                cache.add(keys, torch.cat(features))
            except OSError as error:
                raise RunError(
                    f"features could not be written to {cache.folder} ({error.strerror or error}). Those of "
                    f"{len(cache)} pictures are kept there: free space, or give another --cache_visual_features; the "
                    "same command goes on with the other pictures"
                ) from error
            keys.clear(), features.clear()

    with (
        folded_backbone(base),
        tqdm(total=len(share), desc="visual features", unit=" pictures", disable=not progress) as bar,
    ):
        for batch in loader:
            unreadable.update((key, reason) for key, _, reason in batch if reason is not None)
            read = [(key, found) for key, found, reason in batch if reason is None]
            if read:
                pixels = torch.stack([found for _, found in read]).to(device, memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
                    computed = base.get_visual_features(pixels[:, None])[:, 0]
                keys += [key for key, _ in read]
                features.append(computed.float().cpu())
            if len(keys) >= SHARD_PICTURES:
                write()
            bar.update(len(batch))
        write()
    return unreadable


def with_keys(split: Dataset, keys: list[list[str | None]]) -> Dataset:
    """A split with the keys of its pictures instead of the pictures."""
    column = Dataset.from_dict({"picture_keys": keys}, Features({"picture_keys": List(Value("string"))}))
    kept = split.remove_columns([name for name in ("image", "objects") if name in split.column_names])
    return concatenate_datasets([kept, column], axis=1)


__all__ = ["cache_pictures"]
