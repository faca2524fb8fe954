"""Atomic writes, and checks that folders can be written to."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .faults import NO_SPACE, RunError


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; at the end the file is synced and renamed to `path`, replacing an older one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a text file for an atomic write: it replaces `path` once it is complete and on disk."""
    with placing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        yield file


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(
    path: Path,
    values: Mapping,
    indent: int = 2,
    sort_keys: bool = False,
    default: Callable[[object], object] | None = None,
) -> None:
    """Write a dict as JSON; `indent`, `sort_keys` and `default` are those of `json.dumps`."""
    with replacing(path) as file:
        file.write(json.dumps(values, indent=indent, sort_keys=sort_keys, default=default) + "\n")


def not_writable(folder: str | os.PathLike, option: str, error: OSError) -> RunError:
    """The error for a folder that is full or cannot be written to."""
    what = "is full" if error.errno in NO_SPACE else "cannot be written to"
    return RunError(
        f"{option} {folder} {what} ({error.strerror or error}): free space there or allow writing, or give another "
        f"folder, e.g. {option} {Path.home() / 'runs'}"
    )


def check_writable(folder: str | os.PathLike, option: str, needed: int = 0) -> None:
    """Check before a long run that files can be written to a folder, existing or not.

    Args:
        option: the command line option of the folder, e.g. "--output_dir".
        needed: bytes that must be free.

    Raises:
        RunError: the folder cannot be created or written to, or has too little free space.
    """
    folder = Path(folder)
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        probe = there / f".writable.{secrets.token_hex(4)}.tmp"
        try:
            probe.write_bytes(b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(there).free
    except OSError as error:
        raise not_writable(folder, option, error) from error
    if free < needed:
        raise RunError(
            f"{option} {folder} has {free / 1e6:,.1f} MB free, and at least {needed / 1e6:,.1f} MB are needed: free "
            f"space there, or give another {option}"
        )


__all__ = ["check_writable", "not_writable", "placing", "replacing", "sync_folder", "write_json"]
