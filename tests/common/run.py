"""Fetch transformers' own common model tests for the installed version and run them on our models.

The tests come with the source distribution of transformers, without three helper modules; empty stand-ins are written
for those. Everything lands in .cache/common_tests and is used again the next time.
"""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import transformers

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "common_tests" / transformers.__version__
PACKAGE = CACHE / "transformers_tests"
STANDINS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def pip(*arguments: str):
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def fetch():
    if PACKAGE.is_dir():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    requirement = f"transformers=={transformers.__version__}"
    pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE), requirement)
    (archive,) = CACHE.glob("transformers-*.tar.gz")
    unpacked = CACHE / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (tests,) = unpacked.glob("transformers-*/tests")
    for name, text in STANDINS.items():
        path = tests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        (path.parent / "__init__.py").touch()
    (tests / "__init__.py").touch()
    tests.rename(PACKAGE)
    shutil.rmtree(unpacked)


def main() -> int:
    fetch()
    if importlib.util.find_spec("parameterized") is None:
        pip("install", "--constraint", str(ROOT / "constraints.txt"), "parameterized")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["-o", f"pythonpath={ROOT} {ROOT / 'tests'} {ROOT / 'tests/helpers'} {CACHE}"]
    command += [str(ROOT / "tests/common/common_models.py"), *sys.argv[1:]]
    return subprocess.call(command, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
