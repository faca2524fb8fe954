"""The figures of the documentation come from the records, and the tables are those that the records make.

On a page that has records, every number with a decimal point, a per cent sign or at least two digits is in a record of
that page, unless it is in ALLOWED. Every such number of a record that is not a table is on its page.
"""

import datetime
import functools
import json
import re
import shutil
import subprocess
import sys
from decimal import Decimal

import pytest
from pages import FENCE, ROOT

from benchmarks import records as tool

RECORDS = tool.read_records()
VALUES = tool.resolve_values(RECORDS)
PAGES = {p.stem.lower(): p for p in tool.find_pages() if p.stem.lower() in RECORDS and p.parent.name != "reference"}
# Phrases whose numbers are no measurements, by reason.
ALLOWED = {
    "versions and dates": r"Python [\d.]+ to [\d.]+|(?:transformers|torch|Python|datasets) \d[\d.]*|Pillow below 13"
    r"|3\.12 in either kind|on 3\.13|\d+ November 2026",
    "names and exit codes": r"arXiv 2310\.06326|with 130 and 143",
    "settings of what is measured": r"batch 16|batches of 64|width 384|(?:at|to) 80(?= sub-tokens| tokens|,)|quality 90"
    r"|16 bit|16 random bits|60 epochs|(?:30|5) rounds|and 42 tokens|seeds 42 and 2|40 times each|95\s?% interval",
    "sizes of the work, beside the figure": r"32 pictures|43 real pictures|10,000 (?:pictures|made-up posts)"
    r"|400 test posts|1,200 posts|1,000 rows|100,000 rows|with 100,000|256 to 512|64 to 128|64 posts|pictures of 224"
    r"|shorter side of 1024|from 0 to 255|4,000 (?:posts in batches|divided by)",
    "sizes and limits of the code": r"up to 32|at most 1,024 sub-tokens"
    r"|and 22 relations|up to 1,000 absent|50,000,000|beyond 10,000|40 lines",
    "aims and thresholds": r"Aims were 2\.5, 8 and 14|The aim was 1\.3|score above 80",
}
NUMBER = re.compile(r"(?<![\w.,#/-])\d[\d,]*(?:\.\d+)?(?!\.?\d)(?![\w/]|-\d)(?: ?%)?")


def find_figures(text: str) -> list[Decimal]:
    """The numbers of a text that look like measurements."""
    numbers = (match.rstrip(",") for match in NUMBER.findall(text))
    return [Decimal(re.sub(r"[ ,%]", "", n)) for n in numbers if re.search(r"[.%]", n) or len(n.replace(",", "")) > 1]


def split_prose(page: str) -> list[str]:
    """The paragraphs of a page, without its generated tables, code, titles and links."""
    for left_out in (tool.BLOCK, FENCE, r"`[^`\n]*`", r"\]\([^)]*\)", r"(?m)^#+ .*$"):
        page = re.sub(left_out, " ", page)
    return page.split("\n\n")


def find_prose_figures(paragraph: str) -> list[Decimal]:
    """Those of a paragraph that are not allowed."""
    return find_figures(re.sub("|".join(ALLOWED.values()), " ", " ".join(paragraph.split())))


def find_record_figures(value: object) -> set[Decimal]:
    """All numbers of a value."""
    if isinstance(value, list):
        return set().union(*map(find_record_figures, value))
    return {Decimal(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", str(value))}


def is_table(value: object) -> bool:
    return isinstance(value, list) and isinstance(value[0], list) and isinstance(value[0][0], str)


def compare(stem: str, figures: list[Decimal]) -> list[str]:
    """What the text of a page says that its records do not, and the other way round."""
    known, shown = find_known_figures(stem)
    faults = [f"{figure} is in no record" for figure in figures if figure not in known]
    return faults + [f"{figure} of a record is not on the page" for figure in sorted(shown - set(figures))]


@functools.cache
def find_known_figures(stem: str) -> tuple[set[Decimal], set[Decimal]]:
    """All figures of the records of a page, and those that its text must show."""
    values = [VALUES[name] for name in RECORDS[stem]]
    known = set().union(*map(find_record_figures, values))
    return known, {figure for value in values if not is_table(value) for figure in find_figures(json.dumps(value))}


def test_records_are_well_formed():
    names = [name for page in RECORDS.values() for name in page]
    lines = [
        line for path in (ROOT / "benchmarks/records").glob("*.jsonl") for line in path.read_text("utf-8").splitlines()
    ]
    assert len(names) == len(set(names)) == len(lines)
    for record in map(json.loads, lines):
        assert tuple(record) == tool.KEYS, record["name"]
        assert re.fullmatch(r"[a-z0-9.-]+", record["name"]) and datetime.date.fromisoformat(record["date"])
        assert record["value"] not in (None, [], ""), record["name"]
        types = {"unit": str, "command": str | list, "seeds": list, "versions": dict, "machine": str, "source": str}
        assert all(record[key] is None or record[key] and isinstance(record[key], types[key]) for key in types), record
        if is_table(record["value"]):
            assert len({len(row) for row in record["value"]}) == 1, record["name"]
        else:
            assert record["unit"], record["name"]


def test_every_record_belongs_to_a_page_and_every_table_stands_on_one():
    assert set(PAGES) == set(RECORDS)
    shown = {match[2] for page in tool.find_pages() for match in tool.BLOCK.finditer(page.read_text("utf-8"))}
    assert shown == {name for name, value in VALUES.items() if is_table(value)}


@pytest.mark.parametrize("stem", PAGES)
def test_figures_of_a_page_are_those_of_its_records(stem):
    page = PAGES[stem].read_text("utf-8")
    assert tool.fill_page(page, VALUES) == page
    assert compare(stem, [figure for part in split_prose(page) for figure in find_prose_figures(part)]) == []


def change_digit(text: str) -> str:
    """A text with another last digit."""
    return re.sub(r"\d(?=\D*$)", lambda digit: str(9 - int(digit[0])), text, count=1)


@pytest.mark.parametrize("stem", PAGES)
def test_a_changed_digit_is_a_fault(stem):
    """In each row of a table, and in all but a few of the figures of the text."""
    for block in tool.BLOCK.finditer(PAGES[stem].read_text("utf-8")):
        for line in re.findall(r"^\| .*\d.*$", block[0], re.MULTILINE):
            changed = block[0].replace(line, change_digit(line), 1)
            assert tool.fill_page(changed, VALUES) != changed, line
    paragraphs = split_prose(PAGES[stem].read_text("utf-8"))
    figures = [find_prose_figures(paragraph) for paragraph in paragraphs]
    caught = []
    for i, paragraph in enumerate(paragraphs):
        others = [figure for part in figures[:i] + figures[i + 1 :] for figure in part]
        for match in NUMBER.finditer(paragraph):
            changed = paragraph[: match.start()] + change_digit(match[0]) + paragraph[match.end() :]
            if (found := find_prose_figures(changed)) != figures[i]:
                caught.append(bool(compare(stem, others + found)))
    assert caught and sum(caught) >= 0.9 * len(caught)


def test_check_names_a_changed_page_and_write_mends_it(tmp_path):
    for folder in ("benchmarks/records", "docs/measured"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("README.md", "benchmarks/records.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    page = tmp_path / "docs/measured/results.md"
    text = page.read_text("utf-8")
    page.write_text(text.replace("| 92.25 |", "| 92.35 |", 1), "utf-8")

    def run(action: str) -> tuple[int, str]:
        command = [sys.executable, tmp_path / "benchmarks/records.py", action]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert run("check") == (1, "differs from the records: docs/measured/results.md\n")
    assert run("write") == (0, "written: docs/measured/results.md\n")
    assert page.read_text("utf-8") == text and run("check") == (0, "")


def test_a_reference_names_a_record_an_item_or_a_cell():
    table = [
        ["model", "size", "F1"],
        ["ours", "base", "**92.25**"],
        ["ours", "large", "93.1"],
        ["twin", "base", "{one}"],
    ]
    values = {"one": 8.25, "list": [1, 2.5], "table": table}
    for reference, expected in (
        ("one", "8.25"),
        ("list | 1", "2.5"),
        ("table | ours / base | F1", "92.25"),
        ("table | ours / base | F1 | round 1", "92.3"),
        ("table | twin | F1 | round 0", "8"),
    ):
        assert tool.look_up(reference, values) == expected
    with pytest.raises(ValueError, match=r"names 2 rows of table; it must name one"):
        tool.look_up("table | ours | F1", values)
    with pytest.raises(KeyError):
        tool.look_up("two", values)


def test_what_looks_like_a_measurement():
    text = "In 3 runs 4 % and 12 of 1,024 posts, 8.70 times (0.5); ResNet-50, Twitter-2015, 224x224, 2.15.0, bf16, #12"
    assert find_figures(text) == [Decimal(figure) for figure in ("4", "12", "1024", "8.70", "0.5")]
