"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

from modeling_i2srm.support import allocator
from modeling_i2srm.support.allocator import keep_freed_memory

PAGES = """
import resource, runpy, sys
import numpy as np

if sys.argv[1] == "kept":
    assert runpy.run_path(sys.argv[2])["keep_freed_memory"]()
for count in range(7):
    if count == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**24, np.float32).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_pages_are_used_again():
    def faults(how: str) -> int:
        command = [sys.executable, "-c", PAGES, how, allocator.__file__]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 100 < faults("returned")


def test_other_systems_keep_their_ways(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not keep_freed_memory()
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
