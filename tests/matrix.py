"""Run the tests on every Python at hand, with the lowest versions that setup.cfg allows and with the latest ones.

    make test-matrix                                                   # the whole suite in every cell
    make test-matrix TESTS="tests/test_trainer.py -k resume"           # other arguments of pytest
    python tests/matrix.py --cells py3.11-latest -- tests/test_crf.py

A cell is a virtual environment, .venv-matrix/py3.N-lowest or -latest, made anew each time. The lowest versions are
those of constraints-lowest.txt, the latest what pip finds under constraints.txt. Pythons are looked for on the PATH, as
python3.10 and so on; with pyenv, PYENV_VERSION=3.10.13:3.11.7:3.13.0 puts several there. Prints a table, and ends with
1 if a cell failed or there was none.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
CONSTRAINTS = {"lowest": "constraints-lowest.txt", "latest": "constraints.txt"}
TOO_NEW_FOR_LOWEST = ("3.13", "3.14")  # numpy 2.0 and others of that time do not install there
SHOWN = ("transformers", "datasets", "accelerate", "huggingface_hub", "numpy", "torch")


def find_cells() -> dict[str, tuple[str, str]]:
    """The interpreter and the constraints of each cell; says which Pythons are not there."""
    cells = {}
    for version in PYTHONS:
        python = shutil.which(f"python{version}")
        if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:  # a shim of pyenv
            print(f"python{version} is not on the PATH: no cell for it", flush=True)
            continue
        for kind in CONSTRAINTS:
            if kind == "latest" or version not in TOO_NEW_FOR_LOWEST:
                cells[f"py{version}-{kind}"] = python, CONSTRAINTS[kind]
    return cells


def run_cell(name: str, python: str, constraints: str, tests: list[str]) -> dict:
    """Make the environment of a cell and run the tests in it; its versions and how it ended."""
    folder = ROOT / ".venv-matrix" / name
    own = folder / "bin" / "python"
    pip = [own, "-m", "pip", "install", "--quiet"]
    newest = [*pip, "--upgrade", "pip"]  # that of Python 3.10 cannot build seqeval
    install = [*pip, "--constraint", constraints, "--editable", ".[dev]"]
    for command in ([python, "-m", "venv", "--clear", folder], newest, install):
        if subprocess.run(command, cwd=ROOT).returncode:
            return {"cell": name, "outcome": f"failed: {' '.join(map(str, command[1:4]))}"}
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    versions = json.loads(subprocess.run([own, "-c", code, *SHOWN], check=True, stdout=subprocess.PIPE).stdout)
    # Only the environment of the cell, whatever that of who asks is.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    last = "no output"
    with subprocess.Popen(
        [own, "-m", "pytest", "-q", *tests], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.strip():
                last = line.strip()
    outcome = last.strip("= ") if process.returncode == 0 else f"failed: {last}"
    return {"cell": name, **versions, "outcome": outcome}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", help="names of cells (default: all there are)")
    parser.add_argument("tests", nargs="*", help="arguments of pytest, after --")
    arguments = parser.parse_args()
    cells = find_cells()
    if unknown := set(arguments.cells or ()) - set(cells):
        parser.error(f"--cells {' '.join(sorted(unknown))}: there are {', '.join(cells)}")
    rows = []
    for name in arguments.cells or cells:
        print(f"\n{name}", flush=True)
        rows.append(run_cell(name, *cells[name], arguments.tests))
    columns = ("cell", *SHOWN, "outcome")
    table = [columns, *(tuple(row.get(column, "") for column in columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if rows and not any(row["outcome"].startswith("failed") for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
