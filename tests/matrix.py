"""Run the tests on every supported Python that is installed, with the lowest, the locked and the latest versions.

    make test-matrix                                                   # the whole suite in every cell
    make test-matrix TESTS="tests/training/test_trainer.py -k resume"           # other arguments of pytest
    make test-latest                                                   # the latest versions on one Python
    python tests/matrix.py --cells py3.11-latest -- tests/test_crf.py

A cell is a virtual environment, .venv-matrix/py3.N-KIND, created and removed afterwards (--keep leaves it):

    lowest   constraints-lowest.txt, the lowest versions that setup.cfg allows; on the lowest Python only
    locked   constraints.txt, what make test installs
    latest   no constraints: the newest versions that setup.cfg allows and pip finds, today

Pythons are looked for on the PATH, as python3.11 and so on; with pyenv, PYENV_VERSION=3.11.7:3.12.1:3.13.0 puts several
there. Each cell reports the versions that differ from the lock and the tests that failed. Prints a table at the end,
and exits with 1 if a cell failed or there was none.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from version_lock import BUILD_TOOLS, LOCK, LOWEST, LOWEST_PYTHON, ROOT

PYTHONS = ("3.11", "3.12", "3.13")
CONSTRAINTS = {"lowest": ["--constraint", LOWEST], "locked": ["--constraint", LOCK], "latest": ["--upgrade"]}
BUILDS = {"locked": ["--build-constraint", LOCK]}
COLUMNS = ("cell", "torch", "transformers", "datasets", "accelerate", "peft", "numpy", "minutes", "outcome")


def find_cells() -> dict[str, tuple[str, str]]:
    """Name of each cell -> its interpreter and kind; prints which Pythons are absent."""
    cells = {}
    for version in PYTHONS:
        python = shutil.which(f"python{version}")
        if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:  # a shim of pyenv
            print(f"python{version} is not on the PATH: no cell for it", flush=True)
            continue
        for kind in CONSTRAINTS:
            if kind != "lowest" or version == LOWEST_PYTHON:  # numpy 2.0 and others of that time need it
                cells[f"py{version}-{kind}"] = python, kind
    return cells


def report_versions(python: Path) -> dict[str, str]:
    """Print which packages of an environment differ from the lock, and return the version of each package."""
    code = "import json, version_lock as lock; print(json.dumps([lock.list_installed(), lock.read_lock()]))"
    done = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, cwd=ROOT / "tests")
    installed, locked = json.loads(done.stdout)
    moved = {
        name: (locked.get(name, "not locked"), version)
        for name, version in sorted(installed.items())
        if locked.get(name) != version and name != "modeling-i2srm"
    }
    for name, (old, new) in moved.items():
        print(f"    {name:28} {old} -> {new}", flush=True)
    print(f"{len(moved)} of {len(installed)} packages differ from constraints.txt", flush=True)
    return installed


def run_tests(python: Path, tests: list[str]) -> str:
    """Run pytest, show what it prints, and return its closing line after the tests that failed."""
    # Only the environment of the cell, whatever that of the caller is.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *tests]
    failed, last = [], "no output"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(("FAILED ", "ERROR ")):
                failed.append(line.split(" - ")[0].split()[1])
            last = line.strip("= \n") or last
    return last if process.returncode == 0 else f"failed: {last}; {' '.join(failed)}"


def run_cell(name: str, python: str, kind: str, tests: list[str], keep: bool) -> dict:
    """Make the environment of a cell and run the tests in it; its versions and its outcome."""
    folder = ROOT / ".venv-matrix" / name
    cell = folder / "bin" / "python"
    pip = [cell, "-m", "pip", "install", "--quiet", *CONSTRAINTS[kind]]
    commands = [[python, "-m", "venv", "--clear", folder], [*pip, "--upgrade", *BUILD_TOOLS]]
    commands.append([*pip, *BUILDS.get(kind, ()), "--editable", ".[dev]"])
    try:
        for command in commands:
            if subprocess.run(command, cwd=ROOT).returncode:
                return {"cell": name, "outcome": f"failed: {' '.join(map(str, command))}"}
        start = time.monotonic()
        row = {"cell": name, **report_versions(cell), "outcome": run_tests(cell, tests)}
        return {**row, "minutes": f"{(time.monotonic() - start) / 60:.1f}"}
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", help="names of cells (default: all there are)")
    parser.add_argument("--latest", action="store_true", help="only the latest versions, on the Python that runs this")
    parser.add_argument("--keep", action="store_true", help="keep the environments (gigabytes each)")
    parser.add_argument("tests", nargs="*", help="arguments of pytest, after --")
    arguments = parser.parse_args()
    if arguments.latest:
        name = f"py{sys.version_info.major}.{sys.version_info.minor}-latest"
        cells = {name: (sys.executable, "latest")}
    else:
        cells = find_cells()
    if unknown := set(arguments.cells or ()) - set(cells):
        parser.error(f"--cells {' '.join(sorted(unknown))}: there are {', '.join(cells)}")
    rows = []
    for name in arguments.cells or cells:
        print(f"\n{name}", flush=True)
        rows.append(run_cell(name, *cells[name], arguments.tests, arguments.keep))
    table = [COLUMNS, *(tuple(str(row.get(column, "")) for column in COLUMNS) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if rows and not any(row["outcome"].startswith("failed") for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
