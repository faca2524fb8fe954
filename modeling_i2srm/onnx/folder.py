"""Write a checkpoint as a folder that answers posts by itself, without torch: extract.py and what it reads."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
from PIL import Image
from transformers import PreTrainedConfig

from ..image_recipes import FILTERS
from ..processing_i2srm import I2SRMProcessor
from ..version import __version__
from ..words import MARKERS
from .bundle import bundle
from .export import JOINT, LABELS, LOWEST_OPSET, RELATIONS, export_checkpoint
from .inputs import PictureReader
from .patterns import translate_patterns
from .standalone import CHARACTERS, FORMAT, MODEL, SETTINGS, TOKENIZER

CODE = "extract.py"
UNFINISHED = ".unfinished"  # in the folder; its files are moved up when all are there
TEXT_ENCODER = ".text_encoder."  # in the names of its weights
TASKS = {JOINT: "joint", RELATIONS: "mre", LABELS: "classification"}  # other heads are of mner
SIZES = ((64, 64), (301, 200), (33, 40), (200, 1300))  # of pictures that the recipe is tried on


def export_folder(name_or_path: str, folder: str | os.PathLike, int8: bool = False, opset: int = LOWEST_OPSET) -> float:
    """Write a checkpoint as a folder with all that is needed to answer posts with onnxruntime.

    Files of an earlier export are replaced when all new ones are complete.

    Args:
        name_or_path: checkpoint folder or Hub id.
        folder: receives extract.py, model.onnx (of a joint model also model.spans.onnx), tokenizer.json, settings.json
            and characters.json; a new or empty folder, or one that was written so.
        int8: store the linear layers of the text encoder as int8, a scale an output channel; activations are quantised
            as they come. The graph is compared with torch before.
        opset: ONNX operator set.

    Returns:
        The largest difference of the scores of onnxruntime and torch, in float32.

    Raises:
        ValueError: a folder with other files; a tokenizer or an image processor that extract.py cannot follow; also as
            of `export_checkpoint`, as `RuntimeError`.
    """
    path, new = Path(folder), Path(folder, UNFINISHED)
    if path.is_dir() and {*path.iterdir()} - {new} and not (path / CODE).is_file():
        raise ValueError(f"{str(path)!r} holds other files: give a new folder, e.g. {str(path / 'onnx')!r}")
    processor = I2SRMProcessor.from_pretrained(name_or_path)
    config = PreTrainedConfig.get_config_dict(name_or_path)[0]
    head = TASKS.get((config.get("architectures") or [""])[0], "mner")
    settings = {**describe(processor, head, int8), "reads_pictures": config.get("reads_pictures", True)}
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        difference = export_checkpoint(name_or_path, new / MODEL, opset)
        if int8:
            quantise(new / MODEL)
        write_files(new, processor, settings)
        for file in sorted(new.iterdir(), key=lambda file: file.name != CODE):  # first what says whose folder it is
            os.replace(file, path / file.name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return difference


def describe(processor: I2SRMProcessor, head: str, int8: bool = False) -> dict:
    """What settings.json holds.

    Args:
        head: "joint", "mner", "mre" or "classification".

    Raises:
        ValueError: a tokenizer or an image processor that extract.py cannot follow.
    """
    if getattr(processor.tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(
            f"the tokenizer, a {type(processor.tokenizer).__name__}, is plain Python and has no tokenizer.json: export "
            "the graph alone, i2srm export --model MODEL -o model.onnx"
        )
    return {
        "format": FORMAT,
        "made_by": f"modeling-i2srm {__version__}",
        "head": head,
        "precision": "int8" if int8 else "float32",
        "word_splitting": processor.word_splitting,
        "text": text_settings(processor, markers=head == "mre"),
        "pictures": picture_settings(processor),
    }


def write_files(folder: Path, processor: I2SRMProcessor, settings: dict) -> None:
    """Write the other files of a folder: settings, as of `describe`, tokenizer, characters and code."""
    files = {SETTINGS: json.dumps(settings, indent=1), CHARACTERS: json.dumps(translate_patterns())}
    files |= {TOKENIZER: processor.tokenizer.backend_tokenizer.to_str(), CODE: bundle()}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def text_settings(processor: I2SRMProcessor, markers: bool) -> dict:
    """The settings of a `TextEncoder`."""
    first, last = processor._special_ids
    return {
        "limit": processor._limit(None),
        "prefix": processor._word_prefix,
        "first": first,
        "last": last,
        "unknown": processor.tokenizer.unk_token_id,
        "reserved": sorted(processor._reserved_ids),
        "markers": [processor.tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS] if markers else None,
    }


def picture_settings(processor: I2SRMProcessor) -> dict:
    """The settings of a `PictureReader`.

    Raises:
        ValueError: it would make other pixels than the image processor.
    """
    recipe = processor.image_processor
    size, crop = (dict(getattr(recipe, name, None) or {}) for name in ("size", "crop_size"))
    side, share = size.get("shortest_edge"), getattr(recipe, "crop_pct", None)
    window: list[int] | None = [crop["height"], crop["width"]] if getattr(recipe, "do_center_crop", False) else None
    if share and side:  # ConvNeXT's recipe
        window = [side, side] if side < 384 else None
        size, side = ({}, int(side / share)) if window else ({"height": side, "width": side}, None)
    resized = side or [size.get("height"), size.get("width")]
    settings = {
        "size": resized if getattr(recipe, "do_resize", True) else None,
        "resample": int(recipe.resample if recipe.resample is not None else FILTERS["bilinear"]),
        "crop": window,
        "scale": recipe.rescale_factor if recipe.do_rescale else 1.0,
        "mean": list(recipe.image_mean) if recipe.do_normalize else [0.0] * 3,
        "std": list(recipe.image_std) if recipe.do_normalize else [1.0] * 3,
        "max_pixels": processor.max_pixels,
        "min_side": processor._min_side(),
        "num_objects": processor.num_objects,
    }
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (*sides, 3), dtype=np.uint8)) for sides in SIZES]
    try:
        reader = PictureReader(settings)
        mine = np.stack([reader.encode(one, [])["pixel_values"][0, 0] for one in pictures])
        theirs = processor.encode_pictures(pictures)["pixel_values"][:, 0].numpy()
        same = mine.shape == theirs.shape and np.abs(mine - theirs).max() < 1e-5
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"the image processor {type(recipe).__name__} makes other pixels than resizing, cropping and normalising: "
            "export the graph alone, i2srm export --model MODEL -o model.onnx"
        )
    return settings


def quantise(path: Path) -> None:
    """Store the linear layers of the text encoder of an exported file as int8, with a scale per output channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # here: it puts folders of its own on sys.path

    nodes = onnx.load(path, load_external_data=False).graph.node
    products = {node.output[0]: node.name for node in nodes if node.op_type == "MatMul"}
    # The weights lose their names when they are transposed at export; the biases that are added keep theirs.
    sums = [n for n in nodes if n.op_type == "Add" and any(TEXT_ENCODER in name for name in n.input)]
    layers = [products[name] for node in sums for name in node.input if name in products]
    float32 = path.with_suffix(".float32.onnx")
    path.rename(float32)
    logging.disable(logging.WARNING)  # it advises preprocessing, which is for convolutions
    try:
        # Seven of the eight bits: with all of them sums overflow on processors without VNNI, and answers differ there.
        settings = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
        quantize_dynamic(float32, path, ["MatMul"], nodes_to_quantize=layers, **settings)
    finally:
        logging.disable(logging.NOTSET)
    float32.unlink()


__all__ = ["export_folder"]
