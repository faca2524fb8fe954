import configparser

import matrix
import pytest
import version_lock
from packaging.requirements import Requirement
from packaging.version import Version
from version_lock import BUILD_TOOLS, LOCK, LOWEST, ROOT, canonical, find_differences, list_installed, read_lock


def direct_requirements() -> list[Requirement]:
    """The requirements in setup.cfg, those of all extras included."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    requirements = [Requirement(line) for text in lists for line in text.split("\n") if line.strip()]
    return [one for one in requirements if canonical(one.name) != "modeling-i2srm"]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_both_locks_follow_setup_cfg(requirement):
    name = canonical(requirement.name)
    assert Version(read_lock(LOCK)[name]) in requirement.specifier, "run make lock"
    (lowest,) = (one.version for one in requirement.specifier if one.operator == ">=")
    assert Version(read_lock(LOWEST)[name]) == Version(lowest), "run make lock"


def test_the_lock_holds_exact_versions_of_build_tools_and_torch():
    pins = read_lock()
    assert pins["torch"] == "2.13.0"
    assert set(BUILD_TOOLS) <= pins.keys()
    assert all(str(Version(version)) for version in pins.values())


def test_pins_of_other_pythons_and_platforms_do_not_apply(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text(
        "# comment\nnumpy==1.0 ; python_version < '3'\nnumpy==2.4.6 ; python_version >= '3'\nPy_Arrow.x==26.0.1\n"
        "colorama==0.4.6 ; sys_platform == 'amiga'\n"
    )
    assert read_lock(path) == {"numpy": "2.4.6", "py-arrow-x": "26.0.1"}


def test_an_environment_that_differs_from_the_lock_is_reported(monkeypatch, capsys):
    installed = list_installed()
    pins = {name: version for name, version in installed.items() if name != "tqdm"} | {"torch": "1.0"}
    assert find_differences("train", pins, installed) == [
        f"torch: installed {installed['torch']}, locked 1.0",
        f"tqdm: installed {installed['tqdm']}, locked nothing",
    ]
    missing = {name: version for name, version in installed.items() if name != "xxhash"}  # datasets requires it
    assert find_differences("train", installed, missing) == [f"xxhash: installed nothing, locked {installed['xxhash']}"]
    monkeypatch.setattr(version_lock, "read_lock", lambda: pins)
    assert version_lock.check("train") == 1
    assert "torch: installed" in capsys.readouterr().err
    monkeypatch.setattr(version_lock, "read_lock", lambda: installed)
    assert version_lock.check("train") == 0


def test_what_is_not_required_may_be_installed_too():
    installed = list_installed() | {"ipython": "9.0"}
    assert find_differences("train", list_installed(), installed) == []


def test_local_versions_are_the_same_version(monkeypatch):
    class Built:
        metadata, version = {"Name": "torch"}, "2.13.0+cpu"

    monkeypatch.setattr(version_lock, "distributions", lambda: [Built])
    assert list_installed() == {"torch": "2.13.0"}


def test_cells(monkeypatch, capsys):
    monkeypatch.setattr(matrix.shutil, "which", lambda name: None if name == "python3.12" else f"/usr/bin/{name}")
    monkeypatch.setattr(matrix.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 0}))
    assert list(matrix.find_cells()) == [
        "py3.11-lowest", "py3.11-locked", "py3.11-latest", "py3.13-locked", "py3.13-latest"
    ]  # fmt: skip
    assert "python3.12 is not on the PATH" in capsys.readouterr().out


def test_a_cell_names_the_tests_that_failed(tmp_path):
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\necho 'FAILED tests/test_a.py::test_b - assert 1 == 2'\necho '=== 1 failed ==='\nexit 1\n"
    )
    script.chmod(0o755)
    assert matrix.run_tests(script, []) == "failed: 1 failed; tests/test_a.py::test_b"
    script.write_text("#!/bin/sh\necho '=== 3 passed in 1s ==='\n")
    assert matrix.run_tests(script, []) == "3 passed in 1s"
