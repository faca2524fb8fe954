"""Imported first, ends a script in one line where a package that it needs is not installed.

examples/ has a copy, as a script imports from its own folder.
"""

import sys
from pathlib import Path

print_traceback = sys.excepthook


def report(kind, error, traceback):
    """Name the missing package and what installs it; other errors are printed as ever."""
    missing = error
    while isinstance(missing, ModuleNotFoundError) and missing.name is None and "pip install" not in str(missing):
        missing = missing.__cause__  # transformers wraps it
    if not isinstance(missing, ModuleNotFoundError):
        return print_traceback(kind, error, traceback)
    name = (missing.name or "").partition(".")[0]
    what = f"needs {name}: pip install 'modeling-i2srm[train]', in a clone pip install '.[train]'"
    print(f"{Path(sys.argv[0]).name}: {what if name else missing}", file=sys.stderr)


sys.excepthook = report
