"""Updates the code in a checkpoint that an older version saved."""

import json
import os
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from ..configuration_i2srm import AUTO_MAP, I2SRMConfig
from ..loading import loading
from .atomic_files import placing, sync_folder

PACKAGE = Path(__file__).parents[1]
PROCESSOR = {"AutoProcessor": AUTO_MAP["AutoProcessor"]}
ENTRIES = sorted({f"{name.partition('.')[0]}.py" for name in AUTO_MAP.values()})
TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")  # see `placing`


def code_files(folder: Path, start: Iterable[str]) -> set[str]:
    """The names of the files in a folder that some files import, directly or not, by `from .name import Thing`."""
    names, waiting = set(), list(start)
    while waiting:
        name = waiting.pop()
        if name not in names and (folder / name).is_file():
            names.add(name)
            code = (folder / name).read_text(encoding="utf-8", errors="replace")
            waiting += [f"{module}.py" for module in re.findall(r"^\s*from\s+\.(\w+)\s+import", code, re.MULTILINE)]
    return names


def update_checkpoint_code(folder: str | os.PathLike) -> dict[str, str]:
    """Replace the code in a checkpoint with that of this package, as `save_pretrained` would write it.

    Every .py file of the model, the processor and the pipelines is replaced, even if you have edited it. The entries
    that name them (`auto_map` and `custom_pipelines` of config.json, `auto_map` of processor_config.json) are replaced,
    and modules that only the old code imports are removed. Your own classes in `auto_map` stay, with their files.
    Weights, tokenizer and all other settings are not changed. All new files are written before the first one is
    replaced, and each replacement is atomic. A kill in between can leave a mixture of old and new files; run it again
    then.

    Args:
        folder: of the checkpoint. Download a Hub repository first.

    Returns:
        The change of each file: "added", "changed" or "removed". Empty if the checkpoint is up to date.

    Raises:
        ValueError: not a folder, or not a checkpoint of I2SRM (a `CheckpointError`).

    Example:

    >>> update_checkpoint_code("runs/my_posts")  # doctest: +SKIP
    {'modeling_i2srm.py': 'changed', 'visual_prompt.py': 'changed'}
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{str(folder)!r} is not a folder; download a Hub repository first, e.g. "
            "hf download user/my-posts --local-dir my-posts"
        )
    config = I2SRMConfig.from_pretrained(folder)
    code = code_files(PACKAGE, ENTRIES)
    settings, custom = _settings(folder, config, code)
    new = {name: (PACKAGE / name).read_bytes() for name in code} | settings
    unused = code_files(folder, code) - code - code_files(folder, custom)
    done = {}
    with ExitStack() as stack:
        for name, data in sorted(new.items()):
            path = folder / name
            if not path.is_file() or path.read_bytes() != data:
                done[name] = "changed" if path.is_file() else "added"
                stack.enter_context(placing(path)).write_bytes(data)
        for name in unused:  # before the old code is replaced: after a kill that code is needed to find them
            (folder / name).unlink()
    for path in folder.iterdir():
        if (match := TEMPORARY.fullmatch(path.name)) and match[1] in new:  # a killed run left it
            path.unlink()
    sync_folder(folder)
    return {**done, **dict.fromkeys(sorted(unused), "removed")}


def _file(entry: object) -> str:
    """The file that an entry of `auto_map` names; it may be prefixed with a repository ("user/posts--module.Class")."""
    return f"{str(entry).rpartition('--')[2].partition('.')[0]}.py"


def _settings(folder: Path, config: I2SRMConfig, code: set[str]) -> tuple[dict[str, bytes], set[str]]:
    """The JSON files whose entries change, with new contents, and the code files of the user's own classes."""
    new: dict[str, bytes] = {}
    custom: set[str] = set()
    for name, ours in (("config.json", AUTO_MAP), ("processor_config.json", PROCESSOR)):
        if not (folder / name).is_file():  # a model was saved without its processor
            continue
        with loading("settings", folder):
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
        entries = {key: entry for key, entry in settings.get("auto_map", {}).items() if _file(entry) not in code}
        custom.update(map(_file, entries.values()))
        present = {**settings, "auto_map": {**ours, **entries}}
        if name == "config.json":
            config.auto_map = present["auto_map"]
            present |= {key: config.to_dict()[key] for key in ("auto_map", "custom_pipelines")}
        if present != settings:
            new[name] = (json.dumps(present, indent=2, sort_keys=True) + "\n").encode()  # as transformers writes it
    return new, custom


__all__ = ["update_checkpoint_code"]
