"""What mypy does not ask for (`make lint` runs it): signatures without Any, and a reason beside each ignored error."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "modeling_i2srm").rglob("*.py"))
IGNORED = re.compile(r"# type: ignore\[[a-z-]+\]  # \w.*")


def annotations(function: ast.FunctionDef) -> list[ast.expr]:
    arguments = ast.walk(function.args)
    return [*filter(None, [arg.annotation for arg in arguments if isinstance(arg, ast.arg)]), function.returns]


def takes_any(function: ast.FunctionDef) -> bool:
    names = (node for part in annotations(function) if part is not None for node in ast.walk(part))
    return any(isinstance(node, ast.Name) and node.id == "Any" for node in names)


def test_no_public_function_takes_or_returns_any():
    functions = [
        (path.name, node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert [f"{name}: {function.name}" for name, function in functions if takes_any(function)] == []
    assert takes_any(ast.parse("def f(a: list[Any]): ...").body[0])


def test_an_ignored_error_has_a_code_and_a_reason():
    lines = [line for path in FILES for line in path.read_text().splitlines() if "type: ignore" in line]
    assert [line for line in lines if not IGNORED.search(line)] == []
    overrides = [line for line in lines if line.endswith(("as Pipeline allows", "Pipeline says None"))]
    assert len(lines) - len(overrides) < 10
