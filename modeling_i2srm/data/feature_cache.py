"""Caches the features of a frozen backbone on disk: each distinct picture is computed once, for all runs and tasks."""

import copy
import hashlib
import inspect
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
import transformers
from datasets import Dataset, Features, List, Value, concatenate_datasets
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import distributed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..checks import check_whole_number
from ..modeling_i2srm import I2SRMModel
from ..pictures import MAX_ASPECT, PictureError, load_picture, read_bytes
from ..pretrained_model import I2SRMPreTrainedModel
from ..processing_i2srm import I2SRMProcessor
from ..support.atomic_files import check_writable, placing
from ..support.batch_norm import fold_batch_norm
from ..support.digests import add_weights, hash_file
from ..support.faults import RunError
from ..support.precision import bf16_is_fast
from ..support.processes import from_first, in_process_group
from ..version import __version__
from .picture_columns import regions_count_crops

logger = logging.getLogger(__name__)


FORMAT = 1  # increase it when a change of the code changes features
KEY_BYTES = 16
Place = tuple[str, int, int]  # split, row, slot
KEY = rf"[0-9a-f]{{{2 * KEY_BYTES}}}"
SHARD_PICTURES = 512
STALE_SECONDS = 3600  # writing a shard takes seconds, so an older temporary file was left by a killed run
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # and their names in safetensors

# Settings of a backbone's configuration that do not change its features.
INCIDENTAL = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "transformers_version",
)


class VisualFeatureCache:
    """A folder of picture features, looked up by a hash of the picture; memory-mapped, so it may exceed the memory.

    A folder belongs to one backbone, one picture recipe and one dtype. It holds manifest.json, for people, and shards
    `*.safetensors` with `features` (N, F) and `keys` (N, 16) uint8. Shards are written atomically, by several
    processes at a time if need be. A damaged or foreign file is skipped with a warning.

    Args:
        folder: of one backbone, created if missing. `for_model` chooses it.
        size: F, values per picture.
        dtype: "bfloat16" (2 bytes per value), "float16" (2, up to 65,504) or "float32" (4).

    Raises:
        ValueError: an unknown dtype, an invalid size, or a folder that is a file.

    Example:

    >>> cache = VisualFeatureCache.for_model("features", model, processor)  # doctest: +SKIP
    >>> splits = cache_pictures(cache, {"train": dataset}, model, processor)  # doctest: +SKIP
    >>> collator = I2SRMDataCollator(processor, feature_cache=cache)  # doctest: +SKIP
    >>> collator([splits["train"][0]])["visual_features"].shape  # doctest: +SKIP
    torch.Size([1, 4, 17408])
    """

    def __init__(self, folder: str | os.PathLike, size: int, dtype: str = "bfloat16"):
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}; e.g. dtype='bfloat16'")
        check_whole_number("size", size, 1)
        if not isinstance(folder, (str, os.PathLike)) or Path(folder).is_file():
            raise ValueError(f"folder={folder!r} is not a folder, e.g. VisualFeatureCache('features', size={size})")
        self.folder, self.size, self.dtype = Path(folder), size, dtype
        self._shards: list[Path] = []
        self._seen: set[str] = set()  # names of shards, and of files that are not shards
        self._places: dict[str, tuple[int, int]] = {}  # key -> shard, row
        self._mapped: dict[int, torch.Tensor] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    @classmethod
    def for_model(
        cls,
        directory: str | os.PathLike,
        model: I2SRMPreTrainedModel,
        processor: I2SRMProcessor,
        dtype: str = "bfloat16",
    ) -> Self:
        """Open the cache of a model's backbone and a processor's picture recipe, a sub-folder of `directory`.

        Args:
            directory: shared by any number of backbones, recipes, tasks and runs.
            model: an I2SRM model with or without a head; only its frozen backbone counts.
            dtype: as for `VisualFeatureCache`.

        Raises:
            ValueError: the backbone is not frozen.
        """
        if any(parameter.requires_grad for parameter in model.base_model.vision_encoder.parameters()):
            raise ValueError(
                f"the backbone is trained, so the features in {os.fspath(directory)!r} would go stale with every step; "
                f"freeze it: --cache_visual_features {os.fspath(directory)} --freeze_vision true, or leave "
                "--cache_visual_features out"
            )
        description = describe(model, processor, dtype)
        folder, earlier = Path(directory, name_of_folder(description)), dict(description)
        earlier["processor"] = {**description["processor"], "image_processor": processor.to_dict()["image_processor"]}
        if not folder.exists() and (known := Path(directory, name_of_folder(earlier))).exists():
            folder = known  # made from a saved checkpoint by a version that counted its auto_map
        base = model.base_model
        cache = cls(folder, 4 * base.pooled_channels + base.last_channels, dtype)
        manifest = {
            **description,
            "feature_size": cache.size,
            "bytes_a_picture": cache.bytes_per_picture,
            "made_with": {
                "modeling_i2srm": __version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }
        if not (cache.folder / "manifest.json").exists():
            cache._write("manifest.json", (json.dumps(manifest, indent=2, default=str) + "\n").encode())
        return cache

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_mapped": {}}  # a worker process maps the shards itself

    @property
    def bytes_per_picture(self) -> int:
        """Bytes on disk per picture: its features and its key."""
        return self.size * getattr(torch, self.dtype).itemsize + KEY_BYTES

    def refresh(self) -> None:
        """Read the names and keys of shards that were added to the folder since, by this process or others."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            try:
                keys, _ = self._open(path)
            except ValueError as error:
                logger.warning(f"{error}; it is skipped and its pictures are computed again: delete it")
                continue
            for row, key in enumerate(keys):
                self._places.setdefault(key, (len(self._shards), row))
            self._shards.append(path)

    def add(self, keys: list[str], features: torch.Tensor) -> None:
        """Write features (N, F) of N pictures as one shard.

        Raises:
            ValueError: features that are not finite or do not have the dtype and size of the cache; an invalid key.
        """
        if tuple(features.shape) != (len(keys), self.size):
            raise ValueError(
                f"features of shape {tuple(features.shape)} for {len(keys)} keys, expected (N, {self.size})"
            )
        if wrong := [key for key in keys if not re.fullmatch(KEY, key)]:
            raise ValueError(f"key {wrong[0]!r} is invalid: expected {2 * KEY_BYTES} hexadecimal digits")
        stored = features.to("cpu", getattr(torch, self.dtype)).contiguous()
        if not stored.isfinite().all():
            if features.isfinite().all():
                raise ValueError(
                    f"features of up to {features.abs().max():.4g} do not fit into {self.dtype}; use "
                    "--visual_cache_dtype bfloat16 or float32"
                )
            raise ValueError("the backbone gives features that are not finite: are its weights damaged?")
        codes = torch.frombuffer(bytearray.fromhex("".join(keys)), dtype=torch.uint8).view(-1, KEY_BYTES)
        self._write(f"{uuid.uuid4().hex}.safetensors", save({"features": stored, "keys": codes}))
        self.refresh()

    def read(self, keys: list[str]) -> torch.Tensor:
        """The features (N, F) of pictures by their keys; raises KeyError for one that is not in the cache."""
        if missing := [key for key in keys if key not in self._places]:
            raise KeyError(
                f"{len(missing)} pictures are not in the cache {self.folder}, e.g. {missing[0]!r}: fill it first"
            )
        features = torch.empty(len(keys), self.size, dtype=getattr(torch, self.dtype))
        for i, key in enumerate(keys):
            shard, row = self._places[key]
            if shard not in self._mapped:
                _, self._mapped[shard] = self._open(self._shards[shard])
            features[i] = self._mapped[shard][row]
        return features

    def encode(self, posts: list[list[str | None]], pictures: int) -> dict[str, torch.Tensor]:
        """Build the model inputs that replace pixel_values.

        Args:
            posts: the keys of each post: that of the main picture or `None`, then those of the crops.
            pictures: K, the most pictures per post.

        Returns:
            visual_features (B, K, F), zeros where absent, and image_mask (B, K); empty if no post has a picture.
        """
        for keys in posts:
            if not isinstance(keys, (list, tuple)) or len(keys) > pictures:
                raise ValueError(f"keys of a post {keys!r:.200}, expected a list of at most {pictures}: picture, crops")
        present = [
            (post, slot, key) for post, keys in enumerate(posts) for slot, key in enumerate(keys) if key is not None
        ]
        if not present:
            return {}
        rows, columns, names = map(list, zip(*present, strict=True))
        values = self.read(names)
        features = values.new_zeros(len(posts), pictures, self.size)
        features[rows, columns] = values
        image_mask = torch.zeros(len(posts), pictures, dtype=torch.long)
        image_mask[rows, columns] = 1
        return {"visual_features": features, "image_mask": image_mask}

    def drop_leftovers(self) -> None:
        """Delete temporary files that killed runs left behind."""
        for path in self.folder.glob("*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # renamed or deleted by another process
                pass

    def _write(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        with placing(self.folder / name) as temporary:
            temporary.write_bytes(data)

    def _open(self, path: Path) -> tuple[list[str], torch.Tensor]:
        """The keys of a shard and its features, memory-mapped."""
        try:
            with safe_open(path, "pt") as shard:
                parts = {name: shard.get_slice(name) for name in shard.keys()}
                kinds = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
                count = kinds.get("keys", (None, [0]))[1][0]
                expected = {"features": (DTYPES[self.dtype], [count, self.size]), "keys": ("U8", [count, KEY_BYTES])}
                if kinds != expected:
                    raise ValueError(f"{path} is not a shard of this cache: it holds {kinds}, expected {expected}")
                codes = shard.get_tensor("keys").numpy().tobytes().hex()
                features = shard.get_tensor("features")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is a damaged shard ({error})") from error
        length = 2 * KEY_BYTES
        return [codes[start : start + length] for start in range(0, len(codes), length)], features


def name_of_folder(description: dict) -> str:
    """The name of the folder of features with a description."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()


def describe(model: I2SRMPreTrainedModel, processor: I2SRMProcessor, dtype: str) -> dict:
    """Describe all that features depend on besides the picture; caches are shared where descriptions are equal.

    Returns:
        A dict for JSON: format, dtype, the backbone's class, configuration and digest of its weights, the processor's
        settings; of a class that is not of transformers also the digest of its file. Features do not depend on the
        head, the text encoder, the tokenizer and the number of crops.
    """
    encoder = model.base_model.vision_encoder
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    add_weights(digest, encoder)
    config = {name: value for name, value in encoder.config.to_dict().items() if name not in INCIDENTAL}
    settings = {**processor.to_dict(), "max_aspect": MAX_ASPECT}
    for name in ("auto_map", "max_length", "num_objects", "processor_class", "tokenizer", "word_splitting"):
        settings.pop(name, None)
    # The recipe of a saved checkpoint also names the code that the checkpoint carries.
    settings["image_processor"] = {**settings["image_processor"]}
    settings["image_processor"].pop("auto_map", None)
    backbone = {"class": type(encoder).__name__, "weights": digest.hexdigest(), "config": config}
    if not type(encoder).__module__.startswith("transformers."):
        backbone["code"] = hash_file(Path(inspect.getfile(type(encoder))))
    return {
        "format": FORMAT,
        "dtype": dtype,
        "backbone": backbone,
        "processor": settings,
    }


def log_cached(
    cache: VisualFeatureCache, pictures: int, failed: int, used: set[str], attempted: set[str], seconds: float
) -> None:
    """Log how many features were in the cache and how many were computed.

    Args:
        pictures, failed: numbers of all pictures and of the unreadable ones.
        used, attempted: the keys of the pictures that are used, and of those that were not in the cache.
    """
    computed = len(used & attempted)
    logger.info(
        f"visual features: {pictures} pictures, {len(used)} distinct ones used: {len(used) - computed} found, "
        f"{computed} computed; {failed} unreadable; {seconds:.1f} s; "
        f"{len(used) * cache.bytes_per_picture / 1e6:.1f} MB in {cache.folder}: delete the folder to drop it"
    )


def cache_pictures(
    cache: VisualFeatureCache,
    splits: dict[str, Dataset],
    model: I2SRMPreTrainedModel,
    processor: I2SRMProcessor,
    batch_size: int = 32,
    num_workers: int = 0,
    strict_pictures: bool = False,
    progress: bool = True,
) -> dict[str, Dataset]:
    """Compute the features of all pictures of a data set into a cache, and replace the pictures by their keys.

    Only features that the cache lacks are computed. In a process group every process calls this and computes its
    share. All picture files are read and hashed each time, so that an edited file gets a new key.

    Args:
        cache: of `VisualFeatureCache.for_model`, for this model and processor.
        splits: data sets with the columns image and objects, by name.
        model: an I2SRM model; its backbone computes on the model's device, in bfloat16 if the cache is in bfloat16 and
            the device is fast at that, else in float32.
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
        RunError: the disk is full or the folder cannot be written to; features written so far are kept.
        RuntimeError: the processes of a group do not share the folder.
        ValueError: features do not fit into the dtype of the cache.

    Example:

    >>> cache = VisualFeatureCache.for_model("features", model, processor)  # doctest: +SKIP
    >>> splits = cache_pictures(cache, {"train": dataset}, model, processor)  # doctest: +SKIP
    >>> splits["train"]["picture_keys"][0]  # doctest: +SKIP
    ['0a52730597fb4ffa01fc117d9e71e3a9', '5f0d2bbd7bd3c1a04e6b2f6ffc8ae6e4']
    """
    started = time.perf_counter()
    in_group = in_process_group()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if in_group else (0, 1)
    progress = progress and rank == 0

    cache.drop_leftovers()
    rows = {name: picture_rows(split) for name, split in splits.items()}
    posts, places, unreadable = from_first(read_keys(rows, processor, progress) if rank == 0 else None)
    attempted: set[str] = set()
    joint = bool(model.config.relation_labels)
    counted = {name: regions_count_crops(split.column_names, joint) for name, split in splits.items()}
    while True:
        if strict_pictures and unreadable:
            (name, index, slot), reason = min((places[key], reason) for key, reason in unreadable.items())
            raise PictureError(f"{name_of(rows[name][index], slot)} is unreadable: {reason}")
        chosen = {
            name: [choose(keys, unreadable, processor.num_objects, counted[name]) for keys in posts[name]]
            for name in splits
        }
        wanted = {key for split in chosen.values() for keys in split for key in keys if key is not None}
        cache.refresh()
        lacking = sorted(key for key in wanted if key not in cache)
        missing = from_first(lacking)
        if attempted.intersection(lacking) or (lacking and not missing):
            raise RuntimeError(
                f"{len(lacking)} pictures that other processes computed are not in {cache.folder}: give a folder that "
                "all machines of the run share, e.g. --cache_visual_features /shared/features"
            )
        if not missing:
            break
        attempted.update(missing)
        check_writable(cache.folder, "--cache_visual_features", len(missing) * cache.bytes_per_picture)
        share = sorted((places[key], key) for key in missing[rank::processes])
        reasons = fill(cache, share, rows, model, processor, batch_size, num_workers, progress)
        gathered = [reasons] * processes
        if in_group:
            distributed.all_gather_object(gathered, reasons)
        # The next crop of a post replaces one that cannot be decoded, and the cache may lack that one, too.
        unreadable.update(pair for reasons in gathered for pair in reasons.items())

    if rank == 0:
        failed = [
            (key, name_of(rows[name][index], slot))
            for name, split in posts.items()
            for index, keys in enumerate(split)
            for slot, key in enumerate(keys)
            if key in unreadable
        ]
        for key, picture in failed:
            logger.warning(f"{picture} is unreadable and counts as absent: {unreadable[key]}")
        pictures = sum(key is not None for split in posts.values() for keys in split for key in keys)
        log_cached(cache, pictures, len(failed), wanted, attempted, time.perf_counter() - started)
    return {name: with_keys(split, chosen[name]) for name, split in splits.items()}


def picture_rows(split: Dataset) -> Dataset | list[dict]:
    """A split without the columns that do not concern pictures."""
    columns = [name for name in ("id", "image", "objects") if name in split.column_names]
    return split.select_columns(columns) if columns else [{}] * len(split)


def pictures_of(row: Mapping) -> list:
    """The main picture of a post, or `None`, and its crops."""
    return [row.get("image"), *(row.get("objects") or [])]


def read_picture(picture: object, processor: I2SRMProcessor) -> tuple[str, bytes | Image.Image]:
    """Read a picture and hash it: its key, and its bytes or image, from which the processor may load it.

    The key is a digest of the bytes of the file, or of the pixels of a picture that is not a file.

    Raises:
        PictureError: the picture cannot be read.
    """
    content = read_bytes(picture, allow_private_addresses=processor.allow_private_addresses)
    if content is not None:
        return hashlib.blake2b(content, digest_size=KEY_BYTES, person=b"file").hexdigest(), content
    image = load_picture(picture, max_pixels=processor.max_pixels)
    data = b"%d %d " % image.size + image.tobytes()
    return hashlib.blake2b(data, digest_size=KEY_BYTES, person=b"pixels").hexdigest(), image


def read_keys(
    rows: Mapping[str, Iterable[dict]], processor: I2SRMProcessor, progress: bool
) -> tuple[dict[str, list[list[str | None]]], dict[str, Place], dict[str, str]]:
    """The keys of each post's pictures by split, the first place of each key, and the reason of each unreadable one."""
    posts: dict[str, list[list[str | None]]] = {}
    places: dict[str, Place] = {}
    unreadable: dict[str, str] = {}
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


def choose(
    keys: list[str | None], unreadable: dict[str, str], num_objects: int, keep_places: bool = False
) -> list[str | None]:
    """The keys of the pictures that the model sees: that of the main picture or `None`, and of the first crops.

    Args:
        keep_places: whether an absent crop keeps its place, as regions count the crops; else the next one takes it.
    """
    main, *crops = (None if key in unreadable else key for key in keys)
    return [main, *[key for key in crops if keep_places or key is not None][:num_objects]]


def name_of(row: Mapping, slot: int) -> str:
    return f"post {row.get('id', '?')}: {'image' if slot == 0 else f'objects[{slot - 1}]'}"


class MissingPictures(torch.utils.data.Dataset):
    """Pictures to compute, each as (key, pixels (3, H, W), None) or (key, None, why it cannot be read)."""

    def __init__(self, share: list[tuple[Place, str]], rows: Mapping[str, Sequence[dict]], processor: I2SRMProcessor):
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
def folded_backbone(base: I2SRMModel) -> Iterator[None]:
    """Replace the backbone by a copy with folded batch-norm inside of the block."""
    encoder = base.vision_encoder
    base.vision_encoder = fold_batch_norm(copy.deepcopy(encoder))
    try:
        yield
    finally:
        base.vision_encoder = encoder


@torch.no_grad()
def fill(
    cache: VisualFeatureCache,
    share: list[tuple[Place, str]],
    rows: Mapping[str, Sequence[dict]],
    model: I2SRMPreTrainedModel,
    processor: I2SRMProcessor,
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> dict[str, str]:
    """Compute and store the features of this process's pictures, shard by shard; return why some are unreadable."""
    base = model.base_model
    device = base.vision_encoder.device
    # float16 keeps more digits than bfloat16 computes.
    in_bf16 = cache.dtype == "bfloat16" and bf16_is_fast(device)
    logger.info(f"computing {len(share)} pictures in {'bfloat16' if in_bf16 else 'float32'} on {device}")
    # A separate generator, so that training draws the same random numbers whether or not features are computed.
    loader = DataLoader(
        MissingPictures(share, rows, processor),
        batch_size,
        num_workers=num_workers,
        collate_fn=list,
        generator=torch.Generator().manual_seed(0),
    )
    keys: list[str] = []
    features: list[torch.Tensor] = []
    unreadable: dict[str, str] = {}

    def write():
        if keys:
            try:
                cache.add(keys, torch.cat(features))
            except OSError as error:
                raise RunError(
                    f"features could not be written to {cache.folder} ({error.strerror or error}). Those of "
                    f"{len(cache)} pictures are kept there: free space, or give another --cache_visual_features; the "
                    "same command continues with the other pictures"
                ) from error
            keys.clear()
            features.clear()

    with (
        folded_backbone(base),
        tqdm(total=len(share), desc="visual features", unit=" pictures", disable=not progress) as bar,
    ):
        for batch in loader:
            unreadable.update((key, reason) for key, _, reason in batch if reason is not None)
            read = [(key, picture) for key, picture, reason in batch if reason is None]
            if read:
                pixels = torch.stack([picture for _, picture in read]).to(device, memory_format=torch.channels_last)
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
    """Replace the pictures of a split by their keys."""
    column = Dataset.from_dict({"picture_keys": keys}, Features({"picture_keys": List(Value("string"))}))
    kept = split.remove_columns([name for name in ("image", "objects") if name in split.column_names])
    return concatenate_datasets([kept, column], axis=1)


__all__ = [
    "VisualFeatureCache",
    "cache_pictures",
    "describe",
]
