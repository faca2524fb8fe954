"""The layout: the top level is what a checkpoint carries, and folders import only those before them."""

import ast
import re
from pathlib import Path

import pytest
from tiny import tiny_pipeline

PACKAGE = Path(__file__).resolve().parents[2] / "modeling_i2srm"
FOLDERS = ["support", "data", "prepare", "training", "inference", "onnx", "studies", "cli"]
CARRIED = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__", "version"))
TOP = [*CARRIED, "version"]
IN_FOLDERS = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).glob("*.py"))


def imports(path: Path) -> list[ast.ImportFrom | ast.Import]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]


def test_the_top_level_is_what_a_checkpoint_carries(tmp_path):
    for task in ("entities", "relations", "joint"):
        tiny_pipeline(task).save_pretrained(tmp_path / task)
        assert sorted(path.stem for path in (tmp_path / task).glob("*.py")) == CARRIED


def test_there_are_no_other_folders():
    folders = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py")))
    assert folders == sorted(FOLDERS)
    assert [path for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 2] == []


@pytest.mark.parametrize("name", CARRIED)
def test_a_file_of_the_top_level_imports_only_such_files(name):
    for node in imports(PACKAGE / f"{name}.py"):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module in CARRIED, ast.unparse(node)  # how transformers finds them
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any(name.startswith("modeling_i2srm") for name in names), ast.unparse(node)


@pytest.mark.parametrize("path", IN_FOLDERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_folder_imports_only_what_stands_before_it(path):
    allowed = {*TOP, *FOLDERS[: FOLDERS.index(path.parent.name)]}
    for node in imports(path):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            first = (node.module or "").partition(".")[0]
            assert first in allowed or not first and {alias.name for alias in node.names} <= allowed, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2 and not re.match(r"modeling_i2srm\b", node.module or ""), ast.unparse(node)
        else:
            assert not any(alias.name.startswith("modeling_i2srm") for alias in node.names), ast.unparse(node)
