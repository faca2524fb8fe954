"""Wheel and source distribution: what they hold, and that the wheel works where the checkout is not.

With I2SRM_DIST_DIR they are built into that folder (make dist).
"""

import email
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from bare_site import bare_site, run_bare
from packaging.requirements import Requirement
from PIL import Image
from tiny import assert_same, bert_tokenizer, tiny_config, tiny_processor
from transformers import pipeline

import modeling_i2srm
from modeling_i2srm import I2SRMForTokenClassification

pytest.importorskip("setuptools", minversion="77", reason="setuptools builds the package: pip install setuptools")
ROOT = Path(__file__).resolve().parents[2]
NAME = f"modeling_i2srm-{modeling_i2srm.__version__}"
TEXT = "Kobe lands  in\tParis!"
# What building or working in a tree leaves there.
LEFT = shutil.ignore_patterns(".git", ".venv*", "*.egg-info", "__pycache__", ".*_cache", ".cache", ".hypothesis")
OWN = ("data", "runs", "site", "build", "dist", "PKG-INFO")  # at the top

USING = """
import json, sys
from importlib.util import find_spec

import modeling_i2srm
from transformers import pipeline

ABSENT = "datasets", "accelerate", "evaluate", "seqeval", "sklearn", "pyarrow", "onnx", "torchvision", "peft"
assert not [name for name in ABSENT if find_spec(name)]
said = {}
for name in modeling_i2srm.__all__:
    try:
        getattr(modeling_i2srm, name)
    except ModuleNotFoundError as error:
        said[name] = str(error)
answer = pipeline("multimodal-token-classification", model=sys.argv[1])({"text": sys.argv[2], "image": sys.argv[3]})
print(json.dumps([modeling_i2srm.__file__, answer, said]))
"""

COMMAND = """
import contextlib, io, json, sys
from importlib.metadata import entry_points

(command,) = entry_points(group="console_scripts", name="i2srm")
model, text, picture = sys.argv[1:]


def i2srm(*words):
    sys.argv, printed = ["i2srm", *words], io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            command.load()()
        except SystemExit:
            pass
        except ModuleNotFoundError:
            sys.excepthook(*sys.exc_info())
    return printed.getvalue()


help = [i2srm("--help"), i2srm("train", "--help")]
light = "modeling_i2srm" not in sys.modules
explained = i2srm("explain", "--model", model, "--text", text, "--image", picture, "-o", "post.html")
print(json.dumps([help, light, explained, i2srm("train", "joint", "data/mine"), i2srm("demo")]))
"""

IMPORTING = """
import importlib, json, pkgutil

import modeling_i2srm

for name in modeling_i2srm.__all__:
    getattr(modeling_i2srm, name)
names = [module.name for module in pkgutil.walk_packages(modeling_i2srm.__path__, "modeling_i2srm.")]
for name in names:
    importlib.import_module(name)
print(json.dumps([modeling_i2srm.__file__, sorted(names)]))
"""


def copy_tree(folder: Path) -> Path:
    """A copy of what belongs to the project: without git's folder, environments and what is built or trained."""

    def left(path: str, names: list[str]) -> set[str]:
        return set(LEFT(path, names)) | (set(OWN) & set(names) if Path(path) == ROOT else set())

    shutil.copytree(ROOT, folder, ignore=left)
    return folder


def build(kind: str, source: Path, output: Path) -> Path:
    """Build a `wheel` or an `sdist` with the environment's own setuptools, without the network."""
    output.mkdir(parents=True, exist_ok=True)
    code = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"
    command = [sys.executable, "-c", code, f"build_{kind}", str(output)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return output / (f"{NAME}-py3-none-any.whl" if kind == "wheel" else f"{NAME}.tar.gz")


def read_wheel(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def package_files() -> list[str]:
    """The files of the package, and the start of its command."""
    paths = [path for path in (ROOT / "modeling_i2srm").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    paths.append(ROOT / "i2srm_command.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    asked = os.environ.get("I2SRM_DIST_DIR")
    return Path(asked).resolve() if asked else tmp_path_factory.mktemp("dist")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory, output) -> Path:
    return build("sdist", copy_tree(tmp_path_factory.mktemp("tree") / "copy"), output)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, sdist) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def wheel(unpacked, output) -> Path:
    return build("wheel", unpacked, output)


def install(wheel: Path, folder: Path, *extras: str) -> Path:
    """A folder of packages with the wheel and what its metadata requires, linked from this environment."""
    metadata = read_wheel(wheel)[f"{NAME}.dist-info/METADATA"]
    requirements = map(Requirement, email.message_from_bytes(metadata).get_all("Requires-Dist"))
    names = [
        requirement.name
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
    ]
    site = bare_site(folder, *names)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(site), str(wheel)], check=True)
    return site


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("installed") / "site")


def run(site: Path, folder: Path, code: str, *arguments) -> list:
    """Run a script with only the packages in `site`, and return the JSON of its last line."""
    script = folder / "script.py"
    script.write_text(code)
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    # transformers loads weights in threads, in which torch rarely fails: "pool INTERNAL ASSERT FAILED", ParallelOpenMP.
    environment["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    done = run_bare(site, script, *arguments, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    about = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    files = read_wheel(wheel)
    assert sorted(files) == sorted([*package_files(), *(f"{NAME}.dist-info/{name}" for name in about)])
    for name in package_files():
        assert files[name] == (ROOT / name).read_bytes(), name
    assert files[f"{NAME}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_a_wheel_from_the_checkout_is_that_from_the_sdist(wheel, tmp_path):
    direct = build("wheel", copy_tree(tmp_path / "tree"), tmp_path / "dist")
    assert read_wheel(direct) == read_wheel(wheel)


def test_the_sdist_holds_every_tracked_file(unpacked):
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
        wanted = {name for name in listed if (ROOT / name).is_file()}
    else:  # this is an unpacked one itself
        tree = copy_tree(unpacked.parent / "wanted")
        wanted = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert {"setup.cfg", "pyproject.toml", "MANIFEST.in", "CITATION.cff", "tests/helpers/tiny.py", ".ci/run"} <= wanted
    assert sorted(name for name in wanted if not (unpacked / name).is_file()) == []
    changed = {name for name in wanted if (unpacked / name).read_bytes() != (ROOT / name).read_bytes()}
    assert changed <= {"setup.cfg"}  # setuptools writes it again
    assert os.access(unpacked / ".ci/run", os.X_OK)


def test_an_installed_wheel_says_what_it_is(site, tmp_path):
    code = (
        "import json\nfrom importlib.metadata import metadata, version\n"
        "print(json.dumps([version('modeling-i2srm'), list(metadata('modeling-i2srm').items())]))"
    )
    version, fields = run(site, tmp_path, code)
    assert version == modeling_i2srm.__version__ == "0.2.0"
    once = dict(fields)
    assert once["Name"] == "modeling-i2srm" and once["License-Expression"] == "Apache-2.0"
    assert once["Requires-Python"] == ">=3.11" and once["License-File"] == "LICENSE"
    extras = sorted(value for name, value in fields if name == "Provides-Extra")
    assert extras == ["demo", "dev", "docs", "onnx", "phrases", "ray", "serve", "train"]
    pythons = [value.rpartition(" ")[2] for name, value in fields if "Python :: 3." in value and name == "Classifier"]
    assert pythons == ["3.11", "3.12", "3.13"]


def test_without_extras_a_checkpoint_answers(site, tmp_path):
    torch.manual_seed(1)
    processor, picture = tiny_processor(bert_tokenizer()), tmp_path / "picture.png"
    model = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)})).eval()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "checkpoint")
    Image.linear_gradient("L").convert("RGB").save(picture)
    tagger = pipeline("multimodal-token-classification", model=model, processor=processor)

    found, answer, said = run(site, tmp_path, USING, tmp_path / "checkpoint", TEXT, picture)
    assert found == str(site / "modeling_i2srm/__init__.py")
    assert answer
    assert_same(answer, tagger({"text": TEXT, "image": str(picture)}))
    assert {"I2SRMTrainer", "MNERMetric", "mre_compute_metrics", "OnnxSession"} <= set(said)
    for name, message in said.items():
        extra = modeling_i2srm._LAZY[name][1]
        assert message.startswith(f"{name} needs ") and message.endswith(f": pip install 'modeling-i2srm[{extra}]'")

    pages, light, explained, refused, demo = run(site, tmp_path, COMMAND, tmp_path / "checkpoint", TEXT, picture)
    assert light and pages[0].startswith("i2srm: entities") and "  --preset tiny|small|base|paper" in pages[1]
    assert "drawn: post.html" in explained and "Traceback" not in explained
    assert demo.count("  model:  ") == 6 and "drawn: demo.html" in demo
    assert refused.startswith("i2srm train joint: needs ") and "pip install 'modeling-i2srm[train]'" in refused


@pytest.mark.slow  # imports all packages of the extras in a new process; make dist runs it
def test_with_its_extras_everything_public_imports(wheel, tmp_path):
    site = install(wheel, tmp_path / "site", "train", "onnx", "serve")
    found, modules = run(site, tmp_path, IMPORTING)
    assert found == str(site / "modeling_i2srm/__init__.py")
    code = [name for name in package_files() if name.endswith(".py") and "/" in name]
    files = {name.removesuffix(".py").removesuffix("/__init__") for name in code}
    assert modules == sorted(name.replace("/", ".") for name in files - {"modeling_i2srm"})
