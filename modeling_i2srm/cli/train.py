"""The training scripts, one for each task."""

from ..training.classification import CLASSIFICATION
from ..training.mner import MNER
from ..training.mre import MRE
from ..training.run import run_script

TASKS = {task.name: task for task in (MNER, MRE, CLASSIFICATION)}


def main(task: str):
    """Train, evaluate and predict as the command line says.

    Args:
        task: "mner", "mre" or "classification".
    """
    run_script(TASKS[task])
