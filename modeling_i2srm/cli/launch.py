"""Several processes of a subcommand of `i2srm` on this machine: `--num_processes`."""

import argparse
import logging
import os
import sys

import torch
from transformers.hf_argparser import string_to_bool

from ..support.options import take_option

PROCESSES = "I2SRM_NUM_PROCESSES"  # set for the processes that `launch` starts


def take_processes(argv: list[str]) -> tuple[int, list[str]]:
    """The value of --num_processes in a command line, 1 by default, and the command line without it.

    Raises:
        ValueError: not a number above 0.
    """
    number, words = take_option(argv, "--num_processes")
    if number is not None and not (number.isdecimal() and int(number)):
        raise ValueError(f"--num_processes {number} is not a number of processes, e.g. --num_processes 2")
    return int(number or 1), words


def launch(subcommand: list[str], argv: list[str], processes: int) -> None:
    """Run a subcommand in several processes, one per GPU, else on the CPU, where `accelerate launch` starts one.

    Args:
        subcommand: its words, e.g. ["train", "mner"].
        argv: its options, those of settings files included; --use_cpu is one of them.

    Raises:
        ValueError: more processes than GPUs, or a launcher has started this one.
        SystemExit: with the status of a process that failed, which has said why.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    if "LOCAL_RANK" in os.environ:
        raise ValueError(f"--num_processes {processes}: a launcher has started this process; give the number to it")
    gpus = torch.cuda.device_count()
    on_cpu = not gpus or wants_cpu(argv)
    if not on_cpu and processes > gpus:
        raise ValueError(f"--num_processes {processes}: there are {gpus} GPUs; fewer, or --use_cpu true")
    os.environ[PROCESSES] = str(processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    for name in ("torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the process that failed has said why
    words = [*subcommand, *argv, *(["--use_cpu", "true"] if on_cpu else [])]
    try:
        torchrun(["--standalone", "--nproc_per_node", str(processes), "-m", "modeling_i2srm", *words])
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    finally:
        os.environ.pop(PROCESSES)


def wants_cpu(argv: list[str]) -> bool:
    """Return whether the options set --use_cpu."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--use_cpu", nargs="?", const=True, default=False, type=string_to_bool)
    return parser.parse_known_args(argv)[0].use_cpu


__all__ = ["PROCESSES", "launch", "take_processes"]
