import importlib
import sys
from pathlib import Path

import forked
import pytest

from modeling_i2srm.cli import scripts

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ["datasets", "accelerate", "evaluate", "seqeval", "sklearn", "scipy", "pyarrow", "matplotlib"]
EXTRAS += ["onnx", "onnxruntime", "onnxscript"]
EXTRAS += ["fastapi", "uvicorn", "prometheus_client"]
METRICS_NEED = ["datasets", "evaluate"]
NEED_NO_EXTRA = ["examples/update_checkpoint.py", "examples/efficientnet_lite.py"]
SCRIPTS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("dataset_scripts", "examples")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
    if f"examples/{path.name}" not in NEED_NO_EXTRA
]


Outcomes = dict[str, tuple[int, str, str]]


def run_without(missing: list[list[str]], commands: list[list[list[str]]], folder: Path) -> list[Outcomes]:
    """Run scripts where some packages are not installed; exit status, output and errors by script.

    Each script runs in a fork of a process that has imported what all of them import, and nothing that knows the
    missing packages: a fork of this one that forgets this package and all that are installed but a few.

    Args:
        missing: the packages that are missing, for one list of commands after the other. All are among the first ones.
    """

    def run_all():
        # The others are slow to import again, or cannot be, and know of no missing package that would be there.
        forked.forget("torch", "numpy", "scipy", "sympy", "PIL", "regex", "pyarrow", "pandas", "datasets")
        installed = {name: sys.modules[name] for name in missing[0] if name in sys.modules}
        for case, (names, scripts_of_case) in enumerate(zip(missing, commands, strict=True)):
            for name in missing[0]:
                sys.modules.pop(name, None)
            sys.modules.update(installed | dict.fromkeys(names))
            import modeling_i2srm.pipeline_i2srm  # noqa: F401

            for number, (script, *arguments) in enumerate(scripts_of_case):
                done = forked.run(forked.script(ROOT / script, *arguments), folder / f"{case}-{number}")
                (folder / f"{case}-{number}.code").write_text(str(done.returncode))

    done = forked.run(run_all, folder / "all")
    assert done.returncode == 0, done.stderr

    def read(number: str) -> tuple[int, str, str]:
        status, output, errors = ((folder / f"{number}.{what}").read_text() for what in ("code", "out", "err"))
        return int(status), output, errors

    return [
        {script: read(f"{case}-{number}") for number, (script, *_) in enumerate(scripts_of_case)}
        for case, scripts_of_case in enumerate(commands)
    ]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[Outcomes]:
    """Of each script where no package of an extra is installed, and of some where one is missing."""
    folder = tmp_path_factory.mktemp("runs")
    for name in METRICS_NEED:
        code = f"import sys\nsys.modules[{name!r}] = None\nimport modeling_i2srm\nmodeling_i2srm.mner_compute_metrics\n"
        (folder / f"without_{name}.py").write_text(code)
    # Without the extra, explain.py reads a post that is given with --text.
    arguments = {"examples/explain.py": ["--ner", "runs/none", "--dataset", "data/none"]}
    commands = [[script, *arguments.get(script, ())] for script in SCRIPTS]
    commands += [[script, "--help"] for script in NEED_NO_EXTRA]
    metrics = [[str(folder / f"without_{name}.py")] for name in METRICS_NEED]
    return run_without([EXTRAS, ["accelerate"]], [commands, [["examples/run_mner.py"], *metrics]], folder)


def test_training_parts_name_the_extra_that_is_missing(outcomes):
    runs = {Path(script).stem: outcome for script, outcome in outcomes[1].items()}
    for missing in METRICS_NEED:
        code, _, errors = runs[f"without_{missing}"]
        said = f"mner_compute_metrics needs {missing}: pip install 'modeling-i2srm[train]'"
        assert code == 1 and errors.splitlines()[-1] == f"ModuleNotFoundError: {said}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_name_the_extra_that_is_missing(outcomes, script):
    code, _, errors = outcomes[0][script]
    assert code == 1 and len(lines := errors.splitlines()) == 1, errors
    extra = {"examples/export_onnx.py": "onnx", "examples/serve.py": "serve"}.get(script, "train")
    assert lines[0].startswith(f"{Path(script).name}: ") and f"pip install 'modeling-i2srm[{extra}]'" in lines[0]
    assert any(f" needs {name}: " in lines[0] for name in EXTRAS)


@pytest.mark.parametrize("script", NEED_NO_EXTRA)
def test_other_scripts_need_no_extra(outcomes, script):
    code, output, errors = outcomes[0][script]
    assert code == 0 and output.startswith("usage: "), errors


def test_scripts_name_the_package_that_is_missing(outcomes):
    """transformers wraps the error for accelerate."""
    done = outcomes[1]["examples/run_mner.py"]
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


def test_scripts_in_this_process_leave_forks_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", scripts.report)
    done = forked.run(lambda: importlib.import_module("modeling_i2srm.none"), tmp_path / "fork")
    assert done.returncode == 1 and done.stderr.splitlines()[0] == "Traceback (most recent call last):"
