"""Corpora of small posts, and what a run over them writes."""

import io
import json
from pathlib import Path

from PIL import Image

from modeling_i2srm.inference.corpus import CorpusArguments

ROOT = Path(__file__).resolve().parents[2]
WORDS = "Kobe lands in Paris with Jordan and Phoenix don't cross the Mercedes Chelsea says Amazon".split()


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 40)).point(lambda level: (level + shade) % 256).save(file, "PNG")
    return file.getvalue()


def write_jsonl(folder: Path, count: int, name: str = "posts.jsonl") -> Path:
    """Posts with and without pictures, tokens and ids."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for shade in range(4):
        (folder / "pictures" / f"{shade}.png").write_bytes(png(60 * shade))
    lines = []
    for i in range(count):
        words = [WORDS[(i * 7 + j) % len(WORDS)] for j in range(2 + i % 6)]
        post = {"tokens": words} if i % 3 == 0 else {"text": " ".join(words)}
        if i % 2:
            post["image"] = f"pictures/{i % 4}.png"
        if i % 4 == 0:
            post |= {"image": "pictures/0.png", "objects": ["pictures/1.png", "pictures/2.png"]}
        if i % 5 == 0:
            post["id"] = f"own {i}"
        lines.append(json.dumps(post))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def arguments(inputs, output, models=("NER", "RE"), **settings) -> CorpusArguments:
    inputs = inputs if isinstance(inputs, list) else [inputs]
    settings = {"use_cpu": True, "disable_tqdm": True, "shard_size": 5, "batch_size": 4, **settings}
    return CorpusArguments([str(path) for path in inputs], str(output), *models, **settings)


def lines(output: Path) -> list[dict]:
    """The posts of all parts, in order."""
    return [json.loads(line) for part in sorted(output.glob("part-*")) for line in part.read_text().splitlines()]


def errors(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "errors.jsonl").read_text().splitlines()]


def results(output: Path) -> dict[str, bytes]:
    """All that must not depend on how a run went: parts, receipts and errors, byte by byte."""
    paths = [*output.glob("part-*"), *output.glob("done/*"), output / "errors.jsonl"]
    return {str(path.relative_to(output)): path.read_bytes() for path in paths}


def strays(output: Path) -> list[str]:
    return [path.name for path in output.rglob("*") if path.name.endswith(".tmp")]


def script(*given) -> list:
    """The path of the script, and its arguments."""
    return [ROOT / "examples" / "extract.py", *given]
