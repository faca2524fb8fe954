"""The training scripts, one for each task, and `i2srm train`, which chooses what is not given.

    i2srm train joint data/mine -o runs/mine
    i2srm train mner data/mine --preset small --num_processes 2

Without a settings file the options that are not given are those of a preset that suits the data and the machine. A
settings file without a preset is all there is, as of the scripts.
"""

import os
import sys

from ..support.faults import run_script
from ..support.options import SETTINGS_FILES, program, read_settings, take_option
from ..training.arguments import Arguments, make_parser
from ..training.presets import choose
from ..training.run import run_script as run_training_script
from ..training.tasks import TASKS
from .launch import PROCESSES, launch, take_processes


def main(task: str) -> None:
    """Train, evaluate and predict as the command line says; a joint run ends with a page of drawn test posts.

    Args:
        task: "mner", "mre", "joint" or "classification".
    """
    script = f"run_{task}.py"
    if program(script) == script or {"--help", "-h"} & {*sys.argv[1:]}:
        return run(task, None)
    if os.environ.get(PROCESSES):
        return run(task, sys.argv[1:])
    run_script(lambda: train(task, sys.argv[1:]), program(script))


def run(task: str, argv: list[str] | None) -> None:
    """Run a task with complete options."""
    run_training_script(TASKS[task], argv, draw_page if task == "joint" else None)


def train(task: str, argv: list[str]) -> None:
    """Choose the options that are not given, say which, and train on as many processes as asked for.

    Raises:
        ValueError: options that are not valid.
    """
    from_file = "--config" in argv or any(word.endswith(SETTINGS_FILES) for word in argv[:1])
    processes, words = take_processes(read_settings(argv, "--dataset"))
    if not from_file or take_option(words, "--preset")[0]:
        choice = choose(task, words, make_parser(task), processes)
        words = choice.argv
        print("\n".join(choice.lines), flush=True)
    if processes == 1:
        run(task, words)
    else:
        launch(["train", task], words, processes)


def draw_page(arguments: Arguments) -> None:
    """Draw test posts of a joint run, and print where the page is."""
    from .draw_predictions import draw_run

    print(f"drawn: {draw_run(arguments.output_dir, arguments.data.dataset, image_dir=arguments.data.image_dir)}")


__all__ = ["main", "train"]
