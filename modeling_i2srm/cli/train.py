"""The training scripts, one for each task, and `i2srm train`, which chooses what is not given.

    i2srm train joint data/mine -o runs/mine
    i2srm train mner data/mine --preset small --num_processes 2

Without a settings file the options that are not given are those of a preset that suits the data and the machine. A
settings file without a preset is all there is, as of the scripts.
"""

import logging
import os
import sys

import torch

from ..support.faults import run_script
from ..support.options import SETTINGS_FILES, program, read_settings
from ..training.arguments import Arguments, make_parser
from ..training.presets import choose, take_option
from ..training.run import run_script as run_training_script
from ..training.tasks import TASKS

PROCESSES = "I2SRM_NUM_PROCESSES"  # set for the processes that `launch` starts


def main(task: str) -> None:
    """Train, evaluate and predict as the command line says; a joint run ends with a page of drawn test posts.

    Args:
        task: "mner", "mre", "joint" or "classification".
    """
    script = f"run_{task}.py"
    if program(script) == script or {"--help", "-h"} & {*sys.argv[1:]}:
        return run(task, None)
    if launched := os.environ.get(PROCESSES):
        return run(task, sys.argv[1:], int(launched))
    run_script(lambda: train(task, sys.argv[1:]), program(script))


def run(task: str, argv: list[str] | None, processes: int | None = None) -> None:
    """Run a task with complete options; with a number of processes, in one of so many."""
    run_training_script(TASKS[task], argv, draw_page if task == "joint" else None, processes)


def train(task: str, argv: list[str]) -> None:
    """Choose the options that are not given, say which, and train on as many processes as asked for.

    Raises:
        ValueError: options that are not valid.
    """
    number, words = take_option(argv, "--num_processes")
    processes = count_processes(number)
    from_file = "--config" in words or any(word.endswith(SETTINGS_FILES) for word in words[:1])
    words = read_settings(words, "--dataset")
    if not from_file or take_option(words, "--preset")[0]:
        choice = choose(task, words, make_parser(task), processes)
        words = choice.argv
        print("\n".join(choice.lines), flush=True)
    if processes == 1:
        run(task, words)
    else:
        launch(task, words, processes)


def count_processes(number: str | None) -> int:
    """The number of processes that train, 1 by default; raises `ValueError` for what is not a number above 0."""
    if number is not None and not (number.isdecimal() and int(number)):
        raise ValueError(f"--num_processes {number} is not a number of processes, e.g. --num_processes 2")
    return int(number or 1)


def launch(task: str, argv: list[str], processes: int) -> None:
    """Train in several processes of this machine, one per GPU, else on the CPU, where `accelerate launch` starts one.

    Raises:
        ValueError: more processes than GPUs.
        SystemExit: with the status of a process that failed, which has said why.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    gpus = torch.cuda.device_count()
    on_cpu = not gpus or make_parser(task).parse_known_args(["--use_cpu", "false", *read_settings(argv)])[0].use_cpu
    if not on_cpu and processes > gpus:
        raise ValueError(f"--num_processes {processes}: there are {gpus} GPUs; fewer, or --use_cpu true")
    os.environ[PROCESSES] = str(processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    for name in ("torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the process that failed has said why
    words = [*argv, "--use_cpu", "true"] if on_cpu else argv
    try:
        torchrun(["--standalone", "--nproc_per_node", str(processes), "-m", "modeling_i2srm", "train", task, *words])
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    finally:
        os.environ.pop(PROCESSES)


def draw_page(arguments: Arguments) -> None:
    """Draw test posts of a joint run, and print where the page is."""
    from .draw_predictions import draw_run

    print(f"drawn: {draw_run(arguments.output_dir, arguments.data.dataset, image_dir=arguments.data.image_dir)}")


__all__ = ["launch", "main", "train"]
