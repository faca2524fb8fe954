"""The training scripts, one for each task."""

from ..training.run import run_script
from ..training.tasks import TASKS


def main(task: str) -> None:
    """Train, evaluate and predict as the command line says.

    Args:
        task: "mner", "mre", "joint" or "classification".
    """
    run_script(TASKS[task])
