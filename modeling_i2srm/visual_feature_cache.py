"""The features of a frozen backbone on disk: each distinct picture is computed once, for all runs and tasks."""

import hashlib
import json
import logging
import os
import re
import time
import uuid
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .checks import check_whole_number
from .pictures import MAX_ASPECT
from .processing_i2srm import I2SRMProcessor
from .version import __version__
from .whole_files import placing

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


__all__ = ["VisualFeatureCache", "describe"]
