"""Score a model on the validation and test posts of a data set: a table, results.json and predictions.jsonl.

    i2srm evaluate data/mine --model runs/mine

The checkpoint says which task it is for, and whether pictures are read: not if it was trained without them. All options
are those of the training scripts.
"""

import sys

from transformers import PreTrainedConfig

from ..data.dataset import read_splits
from ..processing_i2srm import I2SRMProcessor
from ..support.faults import run_script
from ..support.options import dict_to_argv, program, read_settings
from ..training.arguments import make_parser
from ..training.run import run_script as run_training_script
from ..training.tasks import TASKS


def main(argv: list[str] | None = None) -> None:
    """Evaluate as the command line says."""
    words = sys.argv[1:] if argv is None else argv
    run_script(lambda: evaluate(words), program("evaluate.py"))


def evaluate(argv: list[str]) -> None:
    """Complete the options and run the task of the checkpoint without training.

    Raises:
        ValueError: no data set or checkpoint, or a checkpoint without a head.
    """
    words = read_settings(argv, "--dataset")
    options = make_parser().parse_known_args(words)[0]
    checkpoint, dataset = options.model_name_or_path, options.dataset
    if not checkpoint or not dataset:
        raise ValueError("a data set and a model are needed, e.g. i2srm evaluate data/mine --model runs/mine")
    task = task_of(checkpoint)
    splits, processor = read_splits(dataset), I2SRMProcessor.from_pretrained(checkpoint)
    lengths = (processor.max_length, processor.tokenizer.model_max_length, 512)
    settings = {
        "output_dir": f"{checkpoint}/evaluation",
        "use_images": PreTrainedConfig.get_config_dict(checkpoint)[0].get("reads_pictures", True),
        "do_train": False,
        "do_eval": "validation" in splits,
        "do_predict": "test" in splits,
        "max_length": min(length for length in lengths if length),
        "per_device_eval_batch_size": 32,
        "report_to": "none",
    }
    run_training_script(TASKS[task], [*dict_to_argv(settings), *words])


def task_of(checkpoint: str) -> str:
    """The task of a checkpoint, "mner", "mre", "joint" or "classification".

    Raises:
        ValueError: a checkpoint of another class; `OSError` where there is none.
    """
    names = PreTrainedConfig.get_config_dict(checkpoint)[0].get("architectures") or ["no model"]
    for name, task in TASKS.items():
        if task.model_class.__name__ == names[0]:
            return name
    heads = ", ".join(task.model_class.__name__ for task in TASKS.values())
    raise ValueError(f"{checkpoint} is a checkpoint of {names[0]}; expected one of {heads}")


__all__ = ["evaluate", "task_of"]
