"""Errors and signals that end a run: interrupts, full disks, lost processes; the messages say what to do."""

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import torch

logger = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
SAME_PRESS = 1.0  # seconds within which a second signal counts as the first one: launchers forward it
# Messages of gloo, NCCL and torch's store when another process has ended.
LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|remote process exited|failed to recv|recvvalue failed|"
    r"socket (error|closed)|timed out waiting|wait timeout|barrier.*timeout|ncclremoteerror|ncclsystemerror",
    re.IGNORECASE,
)


LOST_PROCESS = "another process of this run ended or cannot be reached; its message says why"


class RunError(RuntimeError):
    """A run has to stop, but not because of a bug: the message says what happened and what to do."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; the message says what was kept and how to resume."""

    def __init__(self, signum: int = signal.SIGINT, message: str = ""):
        super().__init__(message)
        self.signum = int(signum)


def lost_process(error: BaseException) -> bool:
    """Whether an error means that another process of the run has ended."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or isinstance(error, RunError):
        return False
    kinds = (torch.distributed.DistError,) if torch.distributed.is_available() else ()
    return isinstance(error, (RuntimeError, OSError)) and (isinstance(error, kinds) or bool(LOST.search(str(error))))


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


class Interruption:
    """Defers SIGINT and SIGTERM until the work can stop and be resumed.

    As a context manager, in the main thread, it catches the first signal and prints the announcement; a second signal,
    `SAME_PRESS` or more later, raises `Interrupted` at once. The work checks `signum`, which is 0 before a signal.
    """

    def __init__(self, announcement: str):
        self.announcement, self.signum = announcement, 0
        self._since = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._before = {kind: signal.signal(kind, self._caught) for kind in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
        self._before = {}

    def _caught(self, signum, _frame):
        if os.getpid() != self._process:  # in a forked worker: the training process decides
            return
        if self.signum and time.monotonic() - self._since > SAME_PRESS:
            raise Interrupted(signum)
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()
            os.write(2, f"\n{signal.Signals(signum).name}: {self.announcement}\n".encode())  # not logging: unsafe here


def leave_signals_to_parent() -> None:
    """Make a worker of a training process ignore SIGINT, and SIGTERM unless the parent sends it.

    Launchers and schedulers send signals to all processes, but the parent needs batches to the end of its step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS and Windows do not tell the sender
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait():
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def stop_on_sigterm() -> None:
    """Make SIGTERM raise `Interrupted`, as Ctrl-C does.

    Call it after the process group is initialized: while torch connects the processes no Python handler runs, and
    SIGTERM could not end the process.
    """

    def stop(signum, _frame):
        raise Interrupted(signum)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def run_script(run: Callable[[], object], name: str) -> None:
    """Run a script; if it is stopped, print one message with the reason and what to do, and exit with a fitting status.

    The status is 130 after SIGINT, 143 after SIGTERM, and 1 after a `RunError`, the end of another process, or a
    ValueError or OSError, which mean invalid input. `--log_level debug` logs the traceback.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        run()
    except KeyboardInterrupt as error:
        status, message = 128 + getattr(error, "signum", signal.SIGINT), str(error) or "interrupted"
    except (RuntimeError, ValueError, OSError) as error:
        status, message = 1, str(error)
        if lost_process(error):  # while the process group is initialized
            message = f"{LOST_PROCESS} ({first_line(error)}); start all of them again with the same command"
        elif not isinstance(error, (RunError, ValueError, OSError)):
            raise
        logger.debug("this ends the run:", exc_info=True)
    else:
        return
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # undoes `stop_on_sigterm`
    print(f"{name}: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        os._exit(status)  # at a normal exit torch would wait for processes that may have ended, or abort
    sys.exit(status)


__all__ = [
    "LOST_PROCESS",
    "NO_SPACE",
    "Interrupted",
    "Interruption",
    "RunError",
    "leave_signals_to_parent",
    "first_line",
    "lost_process",
    "run_script",
    "stop_on_sigterm",
]
