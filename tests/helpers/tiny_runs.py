"""Training runs of a tiny model of entities."""

from tiny import run_arguments

from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MNER


def command_line(posts, output_dir, **settings) -> list[str]:
    defaults = {
        "num_train_epochs": 2,
        "logging_steps": 1,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "lenient_f1",
    }
    return run_arguments(posts, output_dir, **{**defaults, **settings})


def run(posts, output_dir, **settings) -> dict:
    return run_task(MNER, parse_arguments(command_line(posts, output_dir, **settings)))
