"""The features of a frozen backbone on disk: each distinct picture is computed once, for all runs and tasks."""

import copy
import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from datasets import Dataset, Features, List, Value, concatenate_datasets
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import distributed, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..checks import check_whole_number
from ..pictures import MAX_ASPECT, PictureError, load_picture, read_bytes
from ..processing_i2srm import I2SRMProcessor
from ..support.atomic_files import check_writable, placing
from ..support.batch_norm import fold_batch_norm
from ..support.faults import RunError
from ..support.precision import bf16_is_fast
from ..version import __version__

logger = logging.getLogger(__name__)


FORMAT = 1  # raise it when the same picture, backbone and processor give other features than before
KEY_BYTES = 16
KEY = rf"[0-9a-f]{{{2 * KEY_BYTES}}}"
SHARD_PICTURES = 512
STALE_SECONDS = 3600  # writing a shard takes seconds: an older temporary file is that of a killed run
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # and their names in safetensors

# What a backbone's configuration says that does not change its features.
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
    """A folder of features, by the content of their pictures; memory-mapped, so it may be larger than the memory.

    A folder belongs to one backbone, one picture recipe and one dtype. It holds manifest.json, for people, and shards
    `*.safetensors` with `features` (N, F) and `keys` (N, 16) uint8. Shards appear whole or not at all, and several
    processes may write at a time. A file that is no whole shard of this cache is left out with a warning.

    Args:
        folder: of one backbone; made if it is not there. `for_model` finds it.
        size: F, numbers a picture.
        dtype: "bfloat16" (2 bytes a number), "float16" (2, up to 65,504) or "float32" (4).

    Raises:
        ValueError: an unknown dtype, a size that is none, a folder that is a file.

    Example:

    >>> cache = VisualFeatureCache.for_model("features", model, processor)  # doctest: +SKIP
    >>> splits = cache_pictures(cache, {"train": dataset}, model, processor)  # doctest: +SKIP
    >>> collator = I2SRMDataCollator(processor, feature_cache=cache)  # doctest: +SKIP
    >>> collator([splits["train"][0]])["visual_features"].shape  # doctest: +SKIP
    torch.Size([1, 4, 17408])
    """

    def __init__(self, folder: str | os.PathLike, size: int, dtype: str = "bfloat16"):
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r} is none of {', '.join(DTYPES)}; e.g. dtype='bfloat16'")
        check_whole_number("size", size, 1)
        if not isinstance(folder, (str, os.PathLike)) or Path(folder).is_file():
            raise ValueError(f"folder={folder!r} is no folder, e.g. VisualFeatureCache('features', size={size})")
        self.folder, self.size, self.dtype = Path(folder), size, dtype
        self._shards: list[Path] = []
        self._seen: set[str] = set()  # names of shards, and of files that are none
        self._places: dict[str, tuple[int, int]] = {}  # key -> shard, row
        self._mapped: dict[int, torch.Tensor] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    @classmethod
    def for_model(cls, directory: str | os.PathLike, model, processor: I2SRMProcessor, dtype: str = "bfloat16"):
        """The cache of a model's backbone and a processor's picture recipe, in a folder of its own in `directory`.

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
        text = json.dumps(description, sort_keys=True, default=str)
        name = hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()
        base = model.base_model
        cache = cls(Path(directory, name), 4 * base.pooled_channels + base.last_channels, dtype)
        manifest = {
            **description,
            "feature_size": cache.size,
            "bytes_a_picture": cache.bytes_a_picture,
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
    def bytes_a_picture(self) -> int:
        return self.size * getattr(torch, self.dtype).itemsize + KEY_BYTES

    def refresh(self) -> None:
        """Take in the shards that were written since, also by others."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            try:
                keys, _ = self._open(path)
            except ValueError as error:
                logger.warning(f"{error}; it is left out and its pictures are computed anew: delete it")
                continue
            for row, key in enumerate(keys):
                self._places.setdefault(key, (len(self._shards), row))
            self._shards.append(path)

    def add(self, keys: list[str], features: torch.Tensor) -> None:
        """Write features (N, F) of N pictures as one shard.

        Raises:
            ValueError: features that are not finite, or not in the dtype or of the size of the cache; a wrong key.
        """
        if tuple(features.shape) != (len(keys), self.size):
            raise ValueError(
                f"features of shape {tuple(features.shape)} for {len(keys)} keys, expected (N, {self.size})"
            )
        if wrong := [key for key in keys if not re.fullmatch(KEY, key)]:
            raise ValueError(f"key {wrong[0]!r} is none: expected {2 * KEY_BYTES} hexadecimal digits")
        stored = features.to("cpu", getattr(torch, self.dtype)).contiguous()
        if not stored.isfinite().all():
            if features.isfinite().all():
                raise ValueError(
                    f"features of up to {features.abs().max():.4g} do not fit into {self.dtype}; use "
                    "--visual_cache_dtype bfloat16 or float32"
                )
            raise ValueError("the backbone gives features that are not finite: are its weights whole?")
        codes = torch.frombuffer(bytearray.fromhex("".join(keys)), dtype=torch.uint8).view(-1, KEY_BYTES)
        self._write(f"{uuid.uuid4().hex}.safetensors", save({"features": stored, "keys": codes}))
        self.refresh()

    def read(self, keys: list[str]) -> torch.Tensor:
        """The features (N, F) of pictures that are in the cache; raises KeyError for another."""
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
        """The inputs of a model that stand for the pictures of a batch.

        Args:
            posts: the keys of each post: that of the main picture or `None`, then those of the crops.
            pictures: K, the pictures a post has room for.

        Returns:
            visual_features (B, K, F), zeros where absent, and image_mask (B, K); empty if no post has a picture.
        """
        for keys in posts:
            if not isinstance(keys, (list, tuple)) or len(keys) > pictures:
                raise ValueError(f"keys of a post {keys!r:.200}, expected a list of at most {pictures}: picture, crops")
        slots = [(post, slot) for post, keys in enumerate(posts) for slot, key in enumerate(keys) if key is not None]
        if not slots:
            return {}
        rows, columns = zip(*slots, strict=True)
        found = self.read([posts[post][slot] for post, slot in slots])
        features = found.new_zeros(len(posts), pictures, self.size)
        features[rows, columns] = found
        image_mask = torch.zeros(len(posts), pictures, dtype=torch.long)
        image_mask[rows, columns] = 1
        return {"visual_features": features, "image_mask": image_mask}

    def drop_leftovers(self) -> None:
        """Delete the temporary files of runs that were killed while they wrote."""
        for path in self.folder.glob("*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # renamed or deleted by another process
                pass

    def _write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole or not at all."""
        with placing(self.folder / name) as temporary:
            temporary.write_bytes(data)

    def _open(self, path: Path) -> tuple[list[str], torch.Tensor]:
        """The keys of a shard and its features, mapped: only what is looked at is read."""
        try:
            with safe_open(path, "pt") as shard:
                parts = {name: shard.get_slice(name) for name in shard.keys()}
                kinds = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
                count = kinds.get("keys", (None, [0]))[1][0]
                expected = {"features": (DTYPES[self.dtype], [count, self.size]), "keys": ("U8", [count, KEY_BYTES])}
                if kinds != expected:
                    raise ValueError(f"{path} is no shard of this cache: it holds {kinds}, expected {expected}")
                codes = shard.get_tensor("keys").numpy().tobytes().hex()
                features = shard.get_tensor("features")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is no whole shard ({error})") from error
        length = 2 * KEY_BYTES
        return [codes[start : start + length] for start in range(0, len(codes), length)], features


def describe(model, processor: I2SRMProcessor, dtype: str) -> dict:
    """All that the features of a picture depend on, but for the picture; equal only if the features are.

    Returns:
        A dict for JSON: format, dtype, the backbone's class, configuration and digest of its weights, the processor's
        settings. The head, the text encoder, the tokenizer and the number of crops have no part in it.
    """
    encoder = model.base_model.vision_encoder
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    config = {name: value for name, value in encoder.config.to_dict().items() if name not in INCIDENTAL}
    settings = {**processor.to_dict(), "max_aspect": MAX_ASPECT}
    for name in ("auto_map", "max_length", "num_objects", "processor_class", "tokenizer"):
        settings.pop(name, None)
    return {
        "format": FORMAT,
        "dtype": dtype,
        "backbone": {"class": type(encoder).__name__, "weights": digest.hexdigest(), "config": config},
        "processor": settings,
    }


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


__all__ = [
    "VisualFeatureCache",
    "cache_pictures",
    "describe",
]
