"""Exported folders: their extract.py as a module, and posts that it has to answer as torch does."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from odd_texts import ODD
from tiny import SENTENCES, noise


def load_extract(folder: Path) -> ModuleType:
    """The module of a folder's extract.py."""
    spec = importlib.util.spec_from_file_location(f"extract_{abs(hash(folder))}", folder / "extract.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def posts_of_all_kinds(folder: Path) -> list[dict]:
    """Posts with and without pictures, crops, tokens and odd characters; the last one is longer than a window."""
    noise(7, 90, 61).convert("RGBA").save(folder / "picture.png")
    return [
        {"text": SENTENCES[0], "image": noise(), "objects": [noise(1), noise(2)]},
        {"tokens": SENTENCES[1].split(), "image": str(folder / "picture.png"), "id": "7"},
        {"text": SENTENCES[2]},
        {"text": SENTENCES[3], "objects": [None, noise(3), noise(4, 30, 70)]},
        {"text": f"{SENTENCES[2]} {' '.join(ODD[:7])} 昨天Kobe去了東京", "image": noise(5)},
        {"tokens": ["昨", "天", "Kobe", "[MASK]", "\u200b"], "text": "昨天 Kobe[MASK]\u200b", "image": noise(6)},
        {"text": " ".join(SENTENCES * 2), "image": noise(8), "objects": [noise(9)]},
    ]
