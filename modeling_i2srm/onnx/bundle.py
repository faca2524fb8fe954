"""One file from a module: its code with all that it uses of the package, so that it runs where the package is not."""

import ast
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from ..version import __version__

PACKAGE = Path(__file__).resolve().parents[1]
ENTRY = Path(__file__).with_name("standalone.py")
ALLOWED = {*sys.stdlib_module_names, "numpy", "onnxruntime", "PIL", "tokenizers"}


class Source:
    """The definitions and imports of a module.

    Args:
        path: of the module.
    """

    def __init__(self, path: Path):
        self.path, self.lines = path, path.read_text(encoding="utf-8").splitlines()
        self.body = ast.parse("\n".join(self.lines)).body
        self.definitions: dict[str, list[ast.stmt]] = {}  # a name may be extended where it is defined
        self.imports: dict[str, str | tuple[Path, str]] = {}  # a statement, or where in the package the name is from
        for node in self.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.read_import(node)
            for name in defined_names(node):
                self.definitions.setdefault(name, []).append(node)

    def read_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = self.path.parents[node.level - 1]
                self.imports[name] = folder / f"{(node.module or '').replace('.', '/')}.py", alias.name
            else:
                prefix = f"from {node.module} " if isinstance(node, ast.ImportFrom) else ""
                self.imports[name] = f"{prefix}import {ast.unparse(alias)}"

    def text(self, node: ast.stmt) -> str:
        """The source of a statement, with its decorators."""
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        return "\n".join(self.lines[first - 1 : node.end_lineno])

    @cached_property
    def main(self) -> list[ast.stmt]:
        """`if __name__ == "__main__"`."""
        return [node for node in self.body if isinstance(node, ast.If)]


def defined_names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement defines; imports apart."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    for target in targets:
        yield from (one.id for one in ast.walk(target or ast.Pass()) if isinstance(one, ast.Name))


def used_names(node: ast.AST) -> Iterator[str]:
    """The names that a statement uses; those of annotations are never looked up."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from used_names(child)


class Bundle:
    """The parts of the file while they are gathered, each after those that it uses."""

    def __init__(self, entry: Path):
        self.entry, self.sources = entry, dict[Path, Source]()
        self.imports, self.homes, self.parts = set[str](), dict[str, Path](), list[str]()
        self.seen = set[ast.stmt]()

    def source(self, path: Path) -> Source:
        if path not in self.sources:
            self.sources[path] = Source(path)
        return self.sources[path]

    def add(self, path: Path, name: str) -> None:
        """Add a name of a module; the entry's own definition goes before one of the same name elsewhere.

        Raises:
            RuntimeError: two modules define the name, or it needs a package that the file must do without.
        """
        source = self.source(self.entry if name in self.source(self.entry).definitions else path)
        if name in source.definitions:
            home = self.homes.setdefault(name, source.path)
            if home != source.path:
                raise RuntimeError(f"{name} is in {home.name} and in {source.path.name}: rename one of them")
            nodes = [node for node in source.definitions[name] if node not in self.seen]
            self.seen.update(nodes)
            self.follow(source, nodes)
            if nodes:
                self.parts.append("\n".join(map(source.text, nodes)))
        elif isinstance(found := source.imports.get(name), tuple):
            if found[1] != name:
                raise RuntimeError(f"{source.path.name} imports {found[1]} as {name}: import it under its own name")
            self.add(*found)
        elif found is not None:
            if (package := found.split()[1].partition(".")[0]) not in ALLOWED:
                raise RuntimeError(f"{source.path.name} uses {package} ({found}), which is not where the file runs")
            self.imports.add(found)

    def follow(self, source: Source, nodes: list[ast.stmt]) -> None:
        for name in dict.fromkeys(name for node in nodes for name in used_names(node)):
            self.add(source.path, name)


@cache
def bundle(entry: Path = ENTRY) -> str:
    """The text of the file: a module, and before it the definitions of the package that it uses, with theirs.

    Annotations are kept as text, and what only they name is left out. A name that the module defines itself stands for
    all of that name. From outside the package the file imports the standard library and `ALLOWED` alone.

    Args:
        entry: the module.

    Raises:
        RuntimeError: two modules define a name that is used, or something needs another package.
    """
    gathered = Bundle(entry)
    source = gathered.source(entry)
    for name in source.definitions:
        if name != "__all__":
            gathered.add(entry, name)
    gathered.follow(source, source.main)
    docstring = ast.get_docstring(ast.Module(source.body, []), clean=False)
    made = (
        f"# Made by modeling-i2srm {__version__} from its source; see modeling_i2srm/onnx/bundle.py there.\n# fmt: off"
    )
    imports = sorted(gathered.imports, key=lambda line: (line.startswith("from"), line))
    blocks = [f'"""{docstring}"""\n\n{made}', "from __future__ import annotations", "\n".join(imports)]
    blocks += gathered.parts
    return "\n\n\n".join([*blocks, *map(source.text, source.main)]) + "\n"


__all__ = ["bundle"]
