"""Tables in Markdown."""

from collections.abc import Iterable


def markdown_table(header: Iterable, rows: Iterable[Iterable]) -> str:
    """A table; pipes in cells are escaped.

    >>> print(markdown_table(["a", "b"], [[1, "x|y"]]))
    | a | b |
    | --- | --- |
    | 1 | x\\|y |
    """
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)


__all__ = ["markdown_table"]
