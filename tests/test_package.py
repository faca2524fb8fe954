import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ["datasets", "accelerate", "evaluate", "seqeval", "sklearn", "scipy", "pyarrow", "matplotlib"]
EXTRAS += ["onnx", "onnxruntime", "onnxscript"]
NEED_NO_EXTRA = ["update_checkpoint.py"]
SCRIPTS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("dataset_scripts", "examples")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '__name__ == "__main__"' in path.read_text() or path.name == "attn_mixup_in_a_stock_classifier.py"
    if path.name not in NEED_NO_EXTRA
]


@pytest.mark.parametrize("missing", ["datasets", "evaluate"])
def test_training_parts_name_the_extra_that_is_missing(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; import modeling_i2srm\n"
        "try: modeling_i2srm.mner_compute_metrics\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == f"mner_compute_metrics needs {missing}: pip install 'modeling-i2srm[train]'"


def run_without(missing: list[str], script: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a script where packages are not installed."""
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({missing}))\n"
        f"sys.argv = {[script, *arguments]}\n"
        f"sys.path[0] = {str((ROOT / script).parent)!r}\n"  # as python SCRIPT has it
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_name_the_extra_that_is_missing(script):
    arguments = []
    if script == "examples/explain.py":  # reads a post that is given with --text without the extra
        arguments = ["--ner", "runs/none", "--dataset", "data/none"]
    done = run_without(EXTRAS, script, *arguments)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    extra = "onnx" if script == "examples/export_onnx.py" else "train"
    assert lines[0].startswith(f"{Path(script).name}: ") and f"pip install 'modeling-i2srm[{extra}]'" in lines[0]
    assert any(f" needs {name}: " in lines[0] for name in EXTRAS)


@pytest.mark.parametrize("script", NEED_NO_EXTRA)
def test_other_scripts_need_no_extra(script):
    done = run_without(EXTRAS, f"examples/{script}", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr


@pytest.mark.parametrize("missing", ["accelerate", "evaluate"])
def test_scripts_name_the_package_that_is_missing(missing):
    done = run_without([missing], "examples/run_mner.py")
    expected = f"run_mner.py: needs {missing}: pip install 'modeling-i2srm[train]', in a clone pip install '.[train]'\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_other_errors_of_scripts_are_shown_in_full():
    code = "import clear_import_errors; 1 / 0"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "examples")
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr


def test_both_folders_of_scripts_report_missing_packages_alike():
    copies = {(ROOT / folder / "clear_import_errors.py").read_text() for folder in ("dataset_scripts", "examples")}
    assert len(copies) == 1
