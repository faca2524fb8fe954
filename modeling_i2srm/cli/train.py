"""The training scripts, one for each task."""

from ..training.arguments import Arguments
from ..training.run import run_script
from ..training.tasks import TASKS


def main(task: str) -> None:
    """Train, evaluate and predict as the command line says; a joint run ends with a page of drawn test posts.

    Args:
        task: "mner", "mre", "joint" or "classification".
    """
    run_script(TASKS[task], finish=draw_page if task == "joint" else None)


def draw_page(arguments: Arguments) -> None:
    """Draw test posts of a joint run, and print where the page is."""
    from .draw_predictions import draw_run

    print(f"drawn: {draw_run(arguments.output_dir, arguments.data.dataset, image_dir=arguments.data.image_dir)}")
