"""Errors of checkpoints that cannot be loaded: one message that names the folder, the file and the reason."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open


class CheckpointError(OSError, ValueError, RuntimeError):
    """A checkpoint cannot be loaded. The bases are the errors that transformers raises in such cases."""

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def loading(what: str, name_or_path: object) -> Iterator[None]:
    """Turn errors of the block into a `CheckpointError` that names the part, the checkpoint and the reason.

    >>> with loading("model", "/no/such/folder"):
    ...     raise OSError("Repo id must be in the form ...")
    Traceback (most recent call last):
    ...
    modeling_i2srm.loading.CheckpointError: cannot load the model of '/no/such/folder': there is no such folder
    """
    try:
        yield
    except (CheckpointError, TypeError, MemoryError):  # TypeError: a wrong call
        raise
    except Exception as error:  # readers of checkpoints raise nearly anything
        raise CheckpointError(
            f"cannot load the {what} of {str(name_or_path)!r}: {_reason(name_or_path, error)}"
        ) from error


def _reason(name_or_path: object, error: Exception) -> str:
    path = Path(str(name_or_path))
    if path.is_dir():
        if broken := _broken_file(path):
            return broken
        if not (path / "config.json").is_file() and not (path / "adapter_config.json").is_file():
            return f"the folder holds no config.json, only {', '.join(sorted(os.listdir(path))[:8]) or 'nothing'}"
    elif path.is_file():
        return "it is a file; give its folder"
    elif path.is_absolute() or str(name_or_path).startswith(".") or str(name_or_path).count("/") != 1:
        if not str(name_or_path).replace("-", "").isalnum():  # such as bert-base-uncased
            return "there is no such folder"
    return " ".join(str(error).split()) or type(error).__name__


def _broken_file(folder: Path) -> str | None:
    """The first truncated or damaged file of a folder, as a message."""
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        try:
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            else:
                with safe_open(path, "pt"):
                    pass
        except (SafetensorError, ValueError, RecursionError, OSError) as error:
            return f"{path.name} ({path.stat().st_size} bytes) is truncated or damaged ({error}); copy it again"
    return None


__all__ = ["CheckpointError", "loading"]
