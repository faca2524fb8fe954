"""Functions and scripts in forks of this process, which has imported everything: a new one takes seconds for that."""

import logging
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import torch
from accelerate.state import AcceleratorState, GradientState


def start(work: Callable[[], object], output: Path, **environment: str) -> int:
    """Call a function in a fork, which ends with its status as a script does.

    Args:
        output: The files OUTPUT.out and OUTPUT.err get what it prints.
        environment: Variables of the environment that differ from those of this process.

    Returns:
        The id of the process.
    """
    if child := os.fork():
        return child
    code = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{output}.{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        sys.excepthook = sys.__excepthook__  # a script that this process has run may have set another
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        os.environ.update(environment)
        logging.root.handlers.clear()  # those of pytest
        for logger in map(logging.getLogger, list(logging.root.manager.loggerDict)):
            for handler in logger.handlers:
                if type(handler) is logging.StreamHandler:
                    handler.setStream(sys.stderr)
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        try:
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush(), sys.stderr.flush()
    finally:
        os._exit(code)


def finish(child: int, output: Path, timeout: float = 200) -> CompletedProcess:
    """The status of a fork and what it printed, once it has ended; after `timeout` seconds it is killed."""
    deadline = time.monotonic() + timeout
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    printed = [Path(f"{output}.{name}").read_text() for name in ("out", "err")]
    return CompletedProcess([], os.waitstatus_to_exitcode(ended[1]), *printed)


def run(work: Callable[[], object], output: Path, **environment: str) -> CompletedProcess:
    """Call a function in a fork and wait for its end."""
    return finish(start(work, output, **environment), output)


def forget(*kept: str):
    """Forget this package and all installed ones but some, in a fork: they are imported again, or from elsewhere."""
    for name in list(sys.modules):
        top, file = name.partition(".")[0], getattr(sys.modules[name], "__file__", None) or ""
        if top == "modeling_i2srm" or "site-packages" in file and top not in kept:
            del sys.modules[name]
    if hasattr(torch.nn.Module, "smart_apply"):  # put there by transformers, it knows the class of its models
        del torch.nn.Module.smart_apply


def run_together(work: Callable[[], object], output: Path, processes: int = 2) -> list[CompletedProcess]:
    """Call a function in several forks that talk to each other, as `torchrun` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    shared |= {"LOCAL_WORLD_SIZE": str(processes), "TORCHELASTIC_RUN_ID": "forks"}
    outputs = [output.with_name(f"{output.name}-{rank}") for rank in range(processes)]
    children = [start(work, path, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank, path in enumerate(outputs)]
    return [finish(child, path) for child, path in zip(children, outputs, strict=True)]


def script(path: Path, *arguments: object, cwd: Path | None = None) -> Callable[[], object]:
    """A function that does what `python PATH ARGUMENTS` does."""
    return partial(run_script, path, list(map(str, arguments)), cwd)


def run_script(path: Path, arguments: Sequence[str], cwd: Path | None):
    os.chdir(cwd or os.getcwd())
    sys.argv, sys.path[0] = [str(path), *arguments], str(path.parent)
    runpy.run_path(str(path), run_name="__main__")
