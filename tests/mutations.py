"""Mutants of a Python file: texts of it with one change each; everything else stays as it is.

Changes: comparisons, arithmetic, `and` and `or`, negations, numbers and booleans, bounds of slices, the two sides of
`a if c else b` and of torch.where, and removed statements. Annotations, strings and the messages of errors and
loggers stay.
"""

import ast
import hashlib
import random
import textwrap
from dataclasses import dataclass
from itertools import accumulate

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
LOGIC = {ast.And: ast.Or, ast.Or: ast.And}
COMPOUND = (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.UnaryOp)  # put into brackets


@dataclass(frozen=True)
class Mutant:
    """A module with one change: the line where it begins, what becomes what, and the text of the whole file."""

    module: str
    line: str
    mutation: str
    source: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.module}\n{self.source}".encode()).hexdigest()[:16]


def replacements(node: ast.AST):
    """Yield the nodes that can replace a node."""
    match node:
        case ast.Compare(left, signs, operands):
            for place, sign in enumerate(signs):
                for other in COMPARISONS[type(sign)]:
                    yield ast.Compare(left, [*signs[:place], other(), *signs[place + 1 :]], operands)
        case ast.BinOp(left, sign, right) if type(sign) in ARITHMETIC and not any(map(is_text, (left, right))):
            yield ast.BinOp(left, ARITHMETIC[type(sign)](), right)
        case ast.BoolOp(sign, values):
            yield ast.BoolOp(LOGIC[type(sign)](), values)
        case ast.UnaryOp(ast.USub(), ast.Constant(int(value) | float(value))):
            yield from map(ast.Constant, (1 - value, -1 - value))
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Call(ast.Name("where") | ast.Attribute(attr="where"), [condition, yes, no]):
            yield ast.Call(node.func, [condition, no, yes], node.keywords)
        case ast.Slice(lower, upper, step) if lower or upper:
            bounds = [(None, upper)] * (lower is not None) + [(lower, None)] * (upper is not None)
            yield from (ast.Slice(*pair, step) for pair in bounds)
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from map(ast.Constant, (value + 1, value - 1) if value else (1,))
        case ast.Return(value) if value and not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(None)
        case ast.Raise() | ast.AugAssign() | ast.Delete() | ast.Break() | ast.Continue():
            yield ast.Pass()
        case ast.Expr(value) if not isinstance(value, (ast.Constant, ast.Yield, ast.YieldFrom)):
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, str)


def places(node: ast.AST):
    """Yield (node, replacement) below a node; annotations, messages and strings stay."""
    skipped = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.JoinedStr) or isinstance(node, ast.Call) and "logger" in ast.unparse(node.func):
        return
    if isinstance(node, ast.Raise):
        skipped.append(node.exc)
    if isinstance(node, (ast.If, ast.While)) and not isinstance(node.test, (ast.Compare, ast.UnaryOp)):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
    yield from ((node, other) for other in replacements(node))
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return  # -1 is one number
    for child in ast.iter_child_nodes(node):
        if not any(child is one for one in skipped):
            yield from places(child)


def list_mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its text."""
    data, mutants = source.encode(), {}
    lines = data.split(b"\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]  # in bytes, as ast counts columns
    for node, other in places(ast.parse(source)):
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        new = ast.unparse(ast.fix_missing_locations(other))
        inserted = f"({new})" if isinstance(other, COMPOUND) else new
        text = (data[:start] + inserted.encode() + data[end:]).decode()
        line = lines[node.lineno - 1].decode().strip()
        old, new = (textwrap.shorten(part, 70, placeholder="...") for part in (data[start:end].decode(), new))
        mutants.setdefault(text, Mutant(module, line, f"{old} -> {new}", text))
    return list(mutants.values())


def draw_mutants(sources: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """Draw mutants evenly over modules, name -> text; the same ones for the same seed and texts."""
    drawn = []
    for place, (module, source) in enumerate(sources.items()):
        mutants = list_mutants(module, source)
        size = count // len(sources) + (place < count % len(sources))
        drawn += random.Random(f"{seed} {module}").sample(mutants, min(size, len(mutants)))
    return drawn
