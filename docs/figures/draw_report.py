"""Draw the figures whose values are recorded: those of docs/report.md and of docs/measured/real-photos.md.

    python docs/figures/draw_report.py

`make report` and benchmarks/real_pictures.py draw the same figures from their runs; this needs the tables alone.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.studies.report import draw_study  # noqa: E402
from modeling_i2srm.studies.settings import STUDIES  # noqa: E402
from modeling_i2srm.support.figure_style import save_differences  # noqa: E402

REPORT = ROOT / "docs" / "report.md"
RECORDS = ROOT / "benchmarks" / "records" / "real-photos.jsonl"
REAL = {
    "real-mvsa": "MVSA-Single: sentiment of a tweet, accuracy",
    "real-heads_masked": "Flickr30k Entities, last words masked, F1",
}


def read_tables(part: str) -> list[list[str]]:
    """The rows of the table in a part of a page, without its header."""
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def read_score(cell: str) -> dict:
    """The mean and standard deviation of a cell such as "75.35 ± 1.65 *", between 0 and 1."""
    mean, _, std = cell.rstrip(" *").partition(" ± ")
    values = [float(mean) / 100]
    return {"mean": values[0], "std": float(std or 0) / 100, "values": values}


def read_settings(part: str) -> list[dict]:
    """The rows of an ablation, as of `summarize`."""
    rows = []
    for setting, score, _, reference, difference, p, adjusted in read_tables(part):
        row = {"setting": setting, "mismatch": None, "reference": reference or None, **read_score(score)}
        if reference:
            middle, low, high = (float(value) / 100 for value in re.findall(r"[+-][\d.]+", difference))
            row |= {"difference": middle, "low": low, "high": high, "p": p}
            row["adjusted_p"] = float(adjusted.removeprefix("< "))
        rows.append(row)
    return rows


def read_mismatch(part: str) -> list[dict]:
    """The rows of a study of wrong pictures, as of `summarize`."""
    header = next(line for line in part.splitlines() if line.startswith("|"))
    names = [cell.strip() for cell in header.strip("|").split("|")][2:]
    rows = []
    for kind, percent, *scores in read_tables(part):
        mismatch = None if kind == "as they are" else f"{kind}:{percent}"
        rows += [
            {"setting": name, "mismatch": mismatch, **read_score(one)} for name, one in zip(names, scores, strict=True)
        ]
    return rows


def main():
    for part in re.split(r"^### ", REPORT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        study, target = part.split()[0], re.search(r"!\[.*?\]\((.*?)\)", part)[1]
        metric = re.search(r"^Test (.*?);", part, re.MULTILINE)[1]
        rows = (read_mismatch if study == "mismatch" else read_settings)(part)
        draw_study(rows, STUDIES[study], metric, REPORT.parent / target)
        print(f"wrote {REPORT.parent / target}")
    records = {one["name"]: one["value"] for one in map(json.loads, RECORDS.read_text(encoding="utf-8").splitlines())}
    for name, title in REAL.items():
        rows = []
        for difference, middle, interval, p in records[f"{name.replace('_', '-')}-differences"][1:]:
            low, high = interval.split(" to ")
            name_of_row = difference.replace(", above ", " against ")
            rows.append((name_of_row, float(middle), float(low), float(high), float(p) < 0.05))
        save_differences(rows, title, Path(__file__).with_name(f"{name}.png"))


if __name__ == "__main__":
    main()
