"""Measure the gap between text and pictures of models, before and after training: a table, a picture and a JSON file.

    python examples/modality_gap.py --model runs/quickstart_mner runs/no_kl --names "with KL" "without KL" \
        --dataset data/visual_posts --output gap

The first row is an untrained model with the configuration of the first one: its parameters are new, except for the
pretrained encoders of --text_encoder and --vision_encoder, if given. modeling_i2srm/studies/modality_gap.py explains
the columns.
"""

import argparse
import logging
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import PreTrainedConfig, set_seed

from ..data.dataset import check_picture_paths
from ..modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
)
from ..processing_i2srm import I2SRMProcessor
from ..studies.modality_gap import ModalityGap, draw_modality_gap, modality_gap, untrained
from ..support.atomic_files import write_json
from ..support.options import OptionParser

HEADS = (I2SRMForRelationClassification, I2SRMForSequenceClassification, I2SRMForTokenClassification)

COLUMNS = {
    "centroid_distance": "centres",
    "separability": "separable",
    "mean_kl": "KL",
    "mean_kl_other": "KL other",
    "alignment": "align",
    "alignment_other": "align other",
    "uniformity_text": "uniform text",
    "uniformity_picture": "uniform pict",
    "entropy_text": "entropy text",
    "entropy_picture": "entropy pict",
}

parser = OptionParser("modality_gap.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", nargs="+", required=True, help="checkpoints with a head, folders or Hub ids")
parser.add_argument("--names", nargs="+", help="their names in the table (default: their folders)")
parser.add_argument("--dataset", required=True, help="Parquet folder or Hub id, with the columns of the training data")
parser.add_argument("--split", default="test", help="split of the data set (default: %(default)s)")
parser.add_argument("--image_dir", help="folder of pictures that are paths in the data set (default: the data set's)")
parser.add_argument("--output", default="modality_gap", help="path of the files to write, without their endings")
parser.add_argument(
    "--picture", choices=("png", "svg"), default="png", help="kind of the picture (default %(default)s)"
)
parser.add_argument("--text_encoder", help="pretrained text encoder that the first model started from")
parser.add_argument("--vision_encoder", help="pretrained vision backbone that the first model started from")
parser.add_argument("--no_untrained", action="store_true", help="leave out the untrained model")
parser.add_argument("--max_posts", type=int, help="use only this many rows of the split")
parser.add_argument("--batch_size", type=int, default=32, help="posts per batch (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="seed of new parameters and of the folds (default %(default)s)")


def load(name: str) -> tuple:
    """Load a checkpoint with the head that its configuration names, and its processor."""
    architectures = PreTrainedConfig.get_config_dict(name)[0].get("architectures") or ["none"]
    heads = {head.__name__: head for head in HEADS}
    if architectures[0] not in heads:
        raise ValueError(f"{name} is a checkpoint of {architectures[0]}; expected one of {', '.join(heads)}")
    model = heads[architectures[0]].from_pretrained(name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), I2SRMProcessor.from_pretrained(name)


def table(gaps: dict[str, ModalityGap]) -> str:
    """A table with one row per model; * where W is new."""
    names = [name + ("" if gap.projection_trained else " *") for name, gap in gaps.items()]
    width = max(map(len, names)) + 2
    lines = [" " * width + "".join(title.rjust(13) for title in COLUMNS.values())]
    for name, gap in zip(names, gaps.values(), strict=True):
        lines.append(name.ljust(width) + "".join(f"{getattr(gap, column):13.3f}" for column in COLUMNS))
    first = next(iter(gaps.values()))
    lines.append(
        f"{first.posts} posts with a picture; {first.posts_without_picture} without one left out. KL and entropies in "
        f"nats, entropies at most {first.largest_entropy:.2f}."
    )
    if not all(gap.projection_trained for gap in gaps.values()):
        lines.append("* has no projection W of its own (trained without semantic loss): a new one was drawn.")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> dict[str, ModalityGap]:
    names = arguments.names or [Path(model).name for model in arguments.model]
    if len(names) != len(arguments.model) or len({"untrained", *names}) != 1 + len(names):
        raise ValueError(f"--names {' '.join(names)}: give {len(arguments.model)} different names, one per model")
    rows = load_dataset(arguments.dataset, split=arguments.split)
    check_picture_paths(arguments.dataset, {arguments.split: rows}, arguments.image_dir)
    options = {"batch_size": arguments.batch_size, "max_posts": arguments.max_posts, "seed": arguments.seed}
    set_seed(arguments.seed)
    gaps: dict[str, ModalityGap] = {}
    for name, path in zip(names, arguments.model, strict=True):
        model, processor = load(path)
        if not gaps and not arguments.no_untrained:
            before = untrained(model, arguments.text_encoder, arguments.vision_encoder, arguments.seed)
            gaps["untrained"] = modality_gap(before, rows, processor, **options)
        gaps[name] = modality_gap(model, rows, processor, **options)
    return gaps


def main(argv: list[str] | None = None) -> None:
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    picture, numbers = f"{arguments.output}.{arguments.picture}", f"{arguments.output}.json"
    try:
        gaps = run(arguments)
        Path(numbers).parent.mkdir(parents=True, exist_ok=True)
        draw_modality_gap(gaps, picture)
        write_json(Path(numbers), {name: gap.to_dict() for name, gap in gaps.items()})
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(table(gaps))
    print(f"picture: {picture}\nnumbers: {numbers}")
