"""Write the present code into a checkpoint that was saved by an older version."""

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
    """The names of the files in a folder that can be reached from some files by `from .name import Thing`."""
    found, waiting = set(), list(start)
    while waiting:
        name = waiting.pop()
        if name not in found and (folder / name).is_file():
            found.add(name)
            code = (folder / name).read_text(encoding="utf-8", errors="replace")
            waiting += [f"{module}.py" for module in re.findall(r"^\s*from\s+\.(\w+)\s+import", code, re.MULTILINE)]
    return found


def update_checkpoint_code(folder: str | os.PathLike) -> dict[str, str]:
    """Replace the code that a checkpoint carries with that of this package, as `save_pretrained` would write it.

    Every .py file of the model, the processor and the pipelines is replaced, changes of your own included. The entries
    that name them (`auto_map` and `custom_pipelines` of config.json, `auto_map` of processor_config.json) are replaced,
    and modules that only the old code imports are removed. Classes of your own in `auto_map` stay, with their files.
    Weights, tokenizer and all other settings are not touched. Nothing is replaced before everything new is written,
    and each file is replaced as a whole. A kill in between can leave old files beside new ones; run it again then.

    Args:
        folder: of the checkpoint. Download that of a Hub repository first.

    Returns:
        What was done to each file: "added", "changed" or "removed". Empty if the checkpoint is up to date.

    Raises:
        ValueError: no folder, or no checkpoint of I2SRM (a `CheckpointError`).

    Example:

    >>> update_checkpoint_code("runs/my_posts")  # doctest: +SKIP
    {'modeling_i2srm.py': 'changed', 'visual_prompt.py': 'changed'}
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{str(folder)!r} is no folder; download a Hub repository first, e.g. "
            "hf download user/my-posts --local-dir my-posts"
        )
    config = I2SRMConfig.from_pretrained(folder)
    code = code_files(PACKAGE, ENTRIES)
    settings, own = _settings(folder, config, code)
    new = {name: (PACKAGE / name).read_bytes() for name in code} | settings
    unused = code_files(folder, code) - code - code_files(folder, own)
    done = {}
    with ExitStack() as stack:
        for name, data in sorted(new.items()):
            path = folder / name
            if not path.is_file() or path.read_bytes() != data:
                done[name] = "changed" if path.is_file() else "added"
                stack.enter_context(placing(path)).write_bytes(data)
        for name in unused:  # while the old code still says which they are: a run after a kill must find them
            (folder / name).unlink()
    for path in folder.iterdir():
        if (match := TEMPORARY.fullmatch(path.name)) and match[1] in new:  # of a run that was killed
            path.unlink()
    sync_folder(folder)
    return {**done, **dict.fromkeys(sorted(unused), "removed")}


def _file(entry) -> str:
    """The file that an entry of `auto_map` names; it may be prefixed with a repository ("user/posts--module.Class")."""
    return f"{str(entry).rpartition('--')[2].partition('.')[0]}.py"


def _settings(folder: Path, config: I2SRMConfig, code: set[str]) -> tuple[dict[str, bytes], set[str]]:
    """The JSON files with the present entries, those that change alone, and the files of classes that are not ours."""
    new, own = {}, set()
    for name, ours in (("config.json", AUTO_MAP), ("processor_config.json", PROCESSOR)):
        if not (folder / name).is_file():  # a model was saved without its processor
            continue
        with loading("settings", folder):
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
        entries = {key: entry for key, entry in settings.get("auto_map", {}).items() if _file(entry) not in code}
        own.update(map(_file, entries.values()))
        present = {**settings, "auto_map": {**ours, **entries}}
        if name == "config.json":
            config.auto_map = present["auto_map"]
            present |= {key: config.to_dict()[key] for key in ("auto_map", "custom_pipelines")}
        if present != settings:
            new[name] = (json.dumps(present, indent=2, sort_keys=True) + "\n").encode()  # as transformers writes it
    return new, own


__all__ = ["update_checkpoint_code"]
