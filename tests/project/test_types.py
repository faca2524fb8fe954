"""What mypy does not ask for (`make lint` runs it): signatures without Any, and a reason beside each ignored error."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "modeling_i2srm").rglob("*.py"))
IGNORED = re.compile(r"# type: ignore\[[a-z-]+\]  # \w.*")


def unchecked_modules() -> set[str]:
    """The modules that pyproject.toml leaves out for now."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    return {module for section in overrides if section.get("ignore_errors") for module in section["module"]}


def annotations(function: ast.FunctionDef) -> list[ast.expr]:
    arguments = ast.walk(function.args)
    return [*filter(None, [arg.annotation for arg in arguments if isinstance(arg, ast.arg)]), function.returns]


def takes_any(function: ast.FunctionDef) -> bool:
    names = (node for part in annotations(function) if part is not None for node in ast.walk(part))
    return any(isinstance(node, ast.Name) and node.id == "Any" for node in names)


def test_no_function_takes_or_returns_any():
    unchecked, found = unchecked_modules(), []
    for path in FILES:
        if ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") not in unchecked:
            functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
            found += [f"{path.name}: {function.name}" for function in functions if takes_any(function)]
    assert found == []
    assert takes_any(ast.parse("def f(a: list[Any]): ...").body[0])


def test_an_ignored_error_has_a_code_and_a_reason():
    lines = [line for path in FILES for line in path.read_text().splitlines() if "type: ignore" in line]
    assert [line for line in lines if not IGNORED.search(line)] == []
    assert len(lines) < 10
