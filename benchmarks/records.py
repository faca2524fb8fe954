"""The records of measurements in `benchmarks/records`, and the tables that pages of the documentation take from them.

    python benchmarks/records.py write   # fills the pages
    python benchmarks/records.py check   # names the pages whose tables differ from the records

`results.jsonl` holds the records of the page `results.md`, one JSON object a line. A page shows a table where it says

    <!-- records: NAME -->
    <!-- end -->

Keys of a record; what is not known is null:
    name: Unique among all records.
    value: A number, a list, or a table: a list of rows of cells, the header first. A figure of another record is
        written `{NAME}`, an item of a list `{NAME | INDEX}`, a cell of a table `{NAME | ROW | COLUMN}`, where ROW is
        how the cells of the row begin, joined with " / ". `| round 1` at the end rounds to one decimal.
    unit: The unit of the value.
    command: The command, or list of commands, that measures it.
    seeds: List of seeds.
    versions: Package -> version.
    machine: The hardware, in words.
    date: The day on which the figure came into the repository.
    source: Where the figure is published, or which records it is computed from.
"""

import argparse
import json
import re
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("name", "value", "unit", "command", "seeds", "versions", "machine", "date", "source")
BLOCK = re.compile(r"(<!-- records: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
REFERENCE = re.compile(r"\{([^{}]+)\}")


def find_pages(root: Path = ROOT) -> list[Path]:
    """README.md and every page of the documentation."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def read_records(root: Path = ROOT) -> dict[str, dict[str, dict]]:
    """The records as they are stored: name of the page without suffix, in lower case -> name -> record."""
    files = sorted((root / "benchmarks/records").glob("*.jsonl"))
    lines = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in files}
    return {page: {record["name"]: record for record in map(json.loads, lines[page])} for page in lines}


def resolve_values(records: dict[str, dict[str, dict]]) -> dict[str, object]:
    """The value of each record by name, with the figures of other records in the place of references."""
    values = {name: record["value"] for page in records.values() for name, record in page.items()}
    return {name: resolve(value, values) for name, value in values.items()}


def resolve(value: object, values: dict[str, object]) -> object:
    """A value with the figures of other records in the place of references."""
    if isinstance(value, list):
        return [resolve(item, values) for item in value]
    return REFERENCE.sub(lambda match: look_up(match[1], values), value) if isinstance(value, str) else value


def look_up(reference: str, values: dict[str, object]) -> str:
    """The figure that a reference names, as text."""
    name, *place = (part.strip() for part in reference.split("|"))
    decimals = int(place.pop().removeprefix("round ")) if place and place[-1].startswith("round ") else None
    value = values[name]
    if len(place) == 1:
        value = value[int(place[0])]
    elif place:
        header, *rows = value
        matching = [row for row in rows if " / ".join(row).replace("*", "").startswith(f"{place[0]} / ")]
        if len(matching) != 1:
            raise ValueError(f"{{{reference}}} names {len(matching)} rows of {name}; it must name one")
        value = matching[0][header.index(place[1])].replace("*", "")
    value = resolve(str(value), values)
    return value if decimals is None else str(Decimal(value).quantize(Decimal(10) ** -decimals, ROUND_HALF_UP))


def format_table(rows: list[list[str]]) -> str:
    """A table in Markdown; the first row is the header."""
    header, *body = ("|" + "".join(f" {cell} |" if cell else " |" for cell in row) + "\n" for row in rows)
    return header + "|---" * len(rows[0]) + "|\n" + "".join(body)


def fill_page(text: str, values: dict[str, object]) -> str:
    """The text of a page with its tables written again."""
    return BLOCK.sub(lambda match: match[1] + format_table(values[match[2]]) + match[3], text)


def main():
    parser = argparse.ArgumentParser(description="Write or check the tables that pages take from the records.")
    parser.add_argument("action", choices=["write", "check"], help="write the tables, or name the pages that differ")
    action = parser.parse_args().action
    values = resolve_values(read_records())
    different = [page for page in find_pages() if page.read_text("utf-8") != fill_page(page.read_text("utf-8"), values)]
    for page in different:
        print(f"{'written' if action == 'write' else 'differs from the records'}: {page.relative_to(ROOT)}")
        if action == "write":
            page.write_text(fill_page(page.read_text("utf-8"), values), encoding="utf-8")
    sys.exit(bool(different) and action == "check")


if __name__ == "__main__":
    main()
