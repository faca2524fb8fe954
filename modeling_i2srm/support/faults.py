"""What ends a run from outside: signals, disks, and other processes. Each gets a message that says what to do."""

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
SAME_PRESS = 1.0  # seconds within which a second signal is the first one once more: launchers pass them on
# What gloo, NCCL and torch's store say where another process is gone.
LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|remote process exited|failed to recv|recvvalue failed|"
    r"socket (error|closed)|timed out waiting|wait timeout|barrier.*timeout|ncclremoteerror|ncclsystemerror",
    re.IGNORECASE,
)


LOST_PROCESS = "another process of this run ended or cannot be reached, and its own message says why"


class RunError(RuntimeError):
    """What ends a run and is no fault in the program: its message says what happened and what to do."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; `str()` says what was kept and how to go on."""

    def __init__(self, signum: int = signal.SIGINT, message: str = ""):
        super().__init__(message)
        self.signum = int(signum)


def lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of the run is gone."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or isinstance(error, RunError):
        return False
    kinds = (torch.distributed.DistError,) if torch.distributed.is_available() else ()
    return isinstance(error, (RuntimeError, OSError)) and (isinstance(error, kinds) or bool(LOST.search(str(error))))


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


class Interruption:
    """Holds a signal back until the work is at a point where it can be taken up again.

    As a context it catches SIGINT and SIGTERM, in the main thread, and says so; a second one, `SAME_PRESS` or more
    later, raises `Interrupted` at once. The work asks for `signum`, which is 0 until then.
    """

    def __init__(self, announcement: str):
        self.announcement, self.signum = announcement, 0
        self._since, self._before = 0.0, {}

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
        if os.getpid() != self._process:  # a worker that was forked: the process that trains decides
            return
        if self.signum and time.monotonic() - self._since > SAME_PRESS:
            raise Interrupted(signum)
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()
            os.write(2, f"\n{signal.Signals(signum).name}: {self.announcement}\n".encode())  # logging may be at work


def leave_signals_to_parent():
    """For a worker of a process that trains, which needs its batches to the end of the step: Ctrl-C and the SIGTERM of
    launchers and schedulers, which send it to all processes, are passed over; that of the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # who sent it is not known: macOS, Windows
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait():
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def stop_on_sigterm():
    """Have SIGTERM end a run as Ctrl-C does. Not before the processes of a run have found each other: while torch looks
    for them no handler runs, and SIGTERM could not end it."""

    def stop(signum, _frame):
        raise Interrupted(signum)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def run_script(run: Callable[[], object], name: str):
    """Run a script; where it is stopped, say why and what to do in one message and end with a status that fits.

    The status is 130 after SIGINT, 143 after SIGTERM, and 1 after a `RunError`, the end of another process, or a
    ValueError or OSError: something is wrong with what the script was given. `--log_level debug` shows where in the
    code that was found.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        run()
    except KeyboardInterrupt as error:
        status, message = 128 + getattr(error, "signum", signal.SIGINT), str(error) or "interrupted"
    except (RuntimeError, ValueError, OSError) as error:
        status, message = 1, str(error)
        if lost_process(error):  # while the processes look for each other
            message = f"{LOST_PROCESS} ({first_line(error)}); start all of them again with the same command"
        elif not isinstance(error, (RunError, ValueError, OSError)):
            raise
        logger.debug("this ends the run:", exc_info=True)
    else:
        return
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # `stop_on_sigterm` is for the run alone
    print(f"{name}: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        os._exit(status)  # at a normal exit torch would wait for processes that may be gone, or abort
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
