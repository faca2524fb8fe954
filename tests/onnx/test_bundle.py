"""The one file of an exported folder: how it is put together, and its word patterns."""

import random

import pytest
import regex
from odd_texts import ODD, PIECES

from modeling_i2srm.onnx import standalone
from modeling_i2srm.onnx.bundle import bundle
from modeling_i2srm.onnx.patterns import translate_patterns
from modeling_i2srm.words import ENDS_UNSPACED, HAS_UNSPACED, SPLITTINGS

# Linkers and signs that `regex` has as such but does not join: it looks back for them before the place where it begins.
STRAY = regex.compile(r"(?V1)[[\p{InCB=Extend}\p{InCB=Linker}]--[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]]")


def odd_texts(count: int) -> list[str]:
    """Texts of characters of all classes beyond ASCII, with some words and signs of ASCII between."""
    table, choose = translate_patterns(), random.Random(0)
    runs: dict[str, list[tuple[int, int]]] = {}
    for start, end, symbol in zip(table["starts"], [*table["starts"][1:], 0x110000], table["symbols"], strict=True):
        runs.setdefault(symbol, []).append((start, end))
    texts = [" ".join([*ODD, *PIECES])]
    while len(texts) < count:
        letters = [chr(choose.randrange(*choose.choice(choose.choice(list(runs.values()))))) for _ in range(8)]
        text = "".join(one if choose.random() < 0.8 else choose.choice(PIECES) for one in letters)
        texts.append(STRAY.sub("", text))
    return texts


def test_translated_patterns_match_as_the_packages_do(monkeypatch):
    monkeypatch.setattr(standalone, "read_characters", translate_patterns)
    assert standalone.SPLITTINGS.keys() == SPLITTINGS.keys()
    pairs = [pair for name in SPLITTINGS for pair in zip(SPLITTINGS[name], standalone.SPLITTINGS[name], strict=True)]
    for text in odd_texts(150):
        for original, mine in pairs:
            assert [m.span() for m in mine.finditer(text)] == [m.span() for m in original.finditer(text)], ascii(text)
        for original, mine in ((HAS_UNSPACED, standalone.HAS_UNSPACED), (ENDS_UNSPACED, standalone.ENDS_UNSPACED)):
            assert bool(mine.search(text)) == bool(original.search(text)), ascii(text)
            assert bool(mine.match(text)) == bool(original.match(text)), ascii(text)


def test_the_file_imports_nothing_of_the_package_and_is_made_once():
    text = bundle()
    assert "import modeling_i2srm" not in text and "from ." not in text and text.count("\nFORMAT = ") == 1
    assert text.count("\nSPLITTINGS = ") == 1 and "\nclass OnnxExtractor:" in text and "urllib.request" not in text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("from .b import f\nimport torch\ndef g(x: torch.Tensor): return f(x)", None),  # annotations are not looked up
        ("from .b import f\nimport torch\ndef g(x): return torch.relu(f(x))", "entry.py uses torch .*import torch"),
        ("from .b import f\nfrom .c import LIMIT\ndef g(x): return f(x) + LIMIT", "LIMIT is in b.py and in c.py"),
        ("from .b import f as h\ndef g(x): return h(x)", "entry.py imports f as h: import it under its own name"),
    ],
)
def test_what_the_file_cannot_hold_is_named(tmp_path, entry, message):
    (tmp_path / "entry.py").write_text(f'"""A file."""\n{entry}\n')
    (tmp_path / "b.py").write_text("LIMIT = 3\nUNUSED = 4\ndef f(x):\n    return x + LIMIT\n")
    (tmp_path / "c.py").write_text("LIMIT = 5\n")
    if message is None:
        text = bundle(tmp_path / "entry.py")
        scope: dict = {}
        exec(text, scope)
        assert scope["g"](1) == 4 and "UNUSED" not in text and "torch\n" not in text
    else:
        with pytest.raises(RuntimeError, match=message):
            bundle(tmp_path / "entry.py")
