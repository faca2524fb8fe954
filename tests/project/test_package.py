import subprocess
import sys
from pathlib import Path

import pytest

from modeling_i2srm.cli import scripts

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ["datasets", "accelerate", "evaluate", "seqeval", "sklearn", "scipy", "pyarrow", "matplotlib"]
EXTRAS += ["onnx", "onnxruntime", "onnxscript"]
NEED_NO_EXTRA = ["examples/update_checkpoint.py"]
SCRIPTS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("dataset_scripts", "examples")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
    if f"examples/{path.name}" not in NEED_NO_EXTRA
]


# Each in a fork of one process: importing what they need takes seconds.
NAME_MISSING = """
import os, sys
import modeling_i2srm
for missing in ("datasets", "evaluate"):
    if os.fork():
        os.wait()
        continue
    sys.modules[missing] = None
    try:
        modeling_i2srm.mner_compute_metrics
    except ModuleNotFoundError as error:
        print(error, flush=True)
    os._exit(0)
"""


def test_training_parts_name_the_extra_that_is_missing():
    done = subprocess.run([sys.executable, "-c", NAME_MISSING], capture_output=True, text=True, cwd=ROOT)
    install = "pip install 'modeling-i2srm[train]'"
    assert done.stdout.splitlines() == [
        f"mner_compute_metrics needs datasets: {install}",
        f"mner_compute_metrics needs evaluate: {install}",
    ]


# Scripts as `python SCRIPT` runs them, each in a fork of one process that has imported what all of them import.
RUN_WITHOUT = """
import os, runpy, sys
sys.modules.update(dict.fromkeys({missing}))
import modeling_i2srm.pipeline_i2srm
for number, (script, *arguments) in enumerate({commands}):
    if os.fork():
        code = os.waitstatus_to_exitcode(os.wait()[1])
        open(f"{folder}/{{number}}.code", "w").write(str(code))
        continue
    for stream in (1, 2):
        os.dup2(os.open(f"{folder}/{{number}}.{{stream}}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv, sys.path[0] = [script, *arguments], os.path.dirname(os.path.abspath(script))
    code = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as the interpreter does
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)  # at once: clearing up all imports takes a second
"""


def run_without(missing: list[str], commands: list[list[str]], folder: Path) -> list[tuple[int, str, str]]:
    """Run scripts where packages are not installed; exit status, output and errors of each."""
    code = RUN_WITHOUT.format(missing=missing, commands=commands, folder=folder)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    read = [[(folder / f"{i}.{what}").read_text() for what in ("code", 1, 2)] for i in range(len(commands))]
    return [(int(status), output, errors) for status, output, errors in read]


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit status, output and errors of each script where no package of an extra is installed."""
    # Without the extra, explain.py reads a post that is given with --text.
    arguments = {"examples/explain.py": ["--ner", "runs/none", "--dataset", "data/none"]}
    commands = [[script, *arguments.get(script, ())] for script in SCRIPTS]
    commands += [[script, "--help"] for script in NEED_NO_EXTRA]
    done = run_without(EXTRAS, commands, tmp_path_factory.mktemp("runs"))
    return dict(zip([command[0] for command in commands], done, strict=True))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_name_the_extra_that_is_missing(without_extras, script):
    code, _, errors = without_extras[script]
    assert code == 1 and len(lines := errors.splitlines()) == 1, errors
    extra = "onnx" if script == "examples/export_onnx.py" else "train"
    assert lines[0].startswith(f"{Path(script).name}: ") and f"pip install 'modeling-i2srm[{extra}]'" in lines[0]
    assert any(f" needs {name}: " in lines[0] for name in EXTRAS)


@pytest.mark.parametrize("script", NEED_NO_EXTRA)
def test_other_scripts_need_no_extra(without_extras, script):
    code, output, errors = without_extras[script]
    assert code == 0 and output.startswith("usage: "), errors


def test_scripts_name_the_package_that_is_missing(tmp_path):
    """transformers wraps the error for accelerate."""
    (done,) = run_without(["accelerate"], [["examples/run_mner.py"]], tmp_path)
    install = "pip install 'modeling-i2srm[train]', in a clone pip install '.[train]'"
    assert done == (1, "", f"run_mner.py: needs accelerate: {install}\n")


def test_other_errors_of_scripts_are_shown_in_full(capsys):
    try:
        scripts.run("version")
    except AttributeError as error:
        assert sys.excepthook is scripts.report
        scripts.report(type(error), error, error.__traceback__)
    finally:
        sys.excepthook = scripts.print_traceback
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "AttributeError: module 'modeling_i2srm.version' has no attribute 'main'" in shown
