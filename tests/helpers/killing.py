"""Runs in processes of their own that are killed: after a time, or before the n-th thing they do to files."""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def run(
    work: Callable[[], object], folders: tuple = (), before: int | None = None, after: float | None = None
) -> tuple:
    """Run in a fork of this process.

    Args:
        folders: where files are watched; what is written there counts.
        before: SIGKILL before the file operation of this number, from 0.
        after: SIGKILL after this many seconds.

    Returns:
        The status: 0, or minus the number of a signal; the file operations that were counted; the seconds it took.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            watched = tuple(os.path.abspath(folder) for folder in folders)
            seen = [0]

            def hook(event, arguments):
                if event not in FILE_EVENTS or not isinstance(arguments[0], (str, Path)):
                    return
                flags = arguments[2] if event == "open" else None
                reads = isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR)
                if not reads and os.path.abspath(arguments[0]).startswith(watched):
                    if seen[0] == before:
                        os.kill(os.getpid(), signal.SIGKILL)
                    seen[0] += 1

            if watched:
                sys.addaudithook(hook)
            work()
            os.write(writing, str(seen[0]).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    status = None
    while status is None:
        found, code = os.waitpid(child, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(code)
        elif after is not None and time.monotonic() - started > after:
            os.kill(child, signal.SIGKILL)
            after = None
        else:
            time.sleep(0.005)
    with os.fdopen(reading) as pipe:
        count = pipe.read()
    return status, int(count or 0), time.monotonic() - started


def kill_again_and_again(work: Callable[[], object], folder: Path, rounds: int, seed: int) -> list[str]:
    """Kill a run and start it again, until it was killed `rounds` times; half of them while it does something to files.

    Whenever it ends before it is killed, all it left is deleted. At the end it runs through.

    Args:
        work: starts or resumes the run in a folder.

    Returns:
        Where it was killed, in words.
    """
    shutil.rmtree(folder, ignore_errors=True)
    status, operations, seconds = run(work, (folder,))
    assert status == 0
    shutil.rmtree(folder)
    chance, points = random.Random(seed), []
    while len(points) < rounds:
        if len(points) % 2:
            place = {"after": chance.uniform(0, seconds)}
        else:
            place = {"before": chance.randrange(operations)}
        status, _, _ = run(work, (folder,), **place)
        if status == -signal.SIGKILL:
            points.append(" ".join(f"{name} {value:.4g}" for name, value in place.items()))
        else:
            assert status == 0
            shutil.rmtree(folder)
    assert run(work)[0] == 0
    return points
