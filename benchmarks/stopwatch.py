"""Time and memory for the benchmarks: sides measured in turns in one process, memory in a process of their own."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def in_turns(sides: dict[str, Callable[[int], None]], rounds: int, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Run each side once a round, and who goes first alternates, so that what else the machine does hits all alike.

    Args:
        sides: functions of the round's number by name.
        rounds: counted rounds, after one that is not.

    Returns:
        For each side its median wall_seconds, and cpu_seconds: what this process used of all cores, which on a machine
        with other work says more, if there is one thread.
    """
    times = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            synchronize(device)
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name](number)
            synchronize(device)
            if number:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: dict(zip(("wall_seconds", "cpu_seconds"), map(statistics.median, zip(*rows, strict=True)), strict=True))
        for name, rows in times.items()
    }


def synchronize(device: str) -> None:
    """Wait until an accelerator has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def own_peak_memory(device: str = "cpu") -> float:
    """The peak memory in MB (1e6 bytes) of this process, or what it had allocated on its accelerator."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its getrusage starts from the peak of the process that started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def run_alone(script: str, **settings) -> dict:
    """What a benchmark prints in a process of its own, e.g. run_alone(__file__, task="re", sides="ours")."""
    words = [
        word
        for name, value in settings.items()
        for word in (f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value]))
    ]
    return json.loads(subprocess.run([sys.executable, script, *words], check=True, stdout=subprocess.PIPE).stdout)
