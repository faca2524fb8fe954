"""A run whose checkpoints are counted."""

from tiny import run_arguments

from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MNER

STEPS = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2, "num_train_epochs": 2}


def run(posts, output_dir, **settings) -> dict:
    return run_task(MNER, parse_arguments(run_arguments(posts, output_dir, **{**STEPS, **settings})))
