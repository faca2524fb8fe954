"""Digests of files and of the weights of models."""

import hashlib
from pathlib import Path
from typing import Protocol

import torch


class Digest(Protocol):
    """What `hashlib` returns."""

    def update(self, data: bytes, /) -> None: ...


def hash_file(path: Path) -> str:
    """The sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_weights(digest: Digest, model: torch.nn.Module) -> None:
    """Add names, dtypes, shapes and values of all weights of a model to a digest."""
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


__all__ = ["Digest", "add_weights", "hash_file"]
