"""The start of the scripts in dataset_scripts/ and examples/."""

import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType

SERVE = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")  # of the extra serve; others are of train
print_traceback = sys.excepthook


def run(module: str, *arguments: object) -> None:
    """Call `main` of a module of this package; if an extra is missing, exit with one line that says what to install.

    Args:
        module: its name below modeling_i2srm, e.g. "prepare.mnre".
        arguments: of its `main`.
    """
    sys.excepthook = report
    import_module(f"modeling_i2srm.{module}").main(*arguments)


def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print the missing package and how to install it; other errors are printed with their traceback."""
    missing: BaseException | None = error
    while isinstance(missing, ModuleNotFoundError) and missing.name is None and "pip install" not in str(missing):
        missing = missing.__cause__  # transformers wraps it
    if not isinstance(missing, ModuleNotFoundError):
        return print_traceback(kind, error, traceback)
    name = (missing.name or "").partition(".")[0]
    extra = "serve" if name in SERVE else "train"
    what = f"needs {name}: pip install 'modeling-i2srm[{extra}]', in a clone pip install '.[{extra}]'"
    print(f"{Path(sys.argv[0]).name}: {what if name else missing}", file=sys.stderr)
