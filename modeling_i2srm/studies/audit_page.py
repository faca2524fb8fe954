"""Writes the results of an audit as one HTML page, for a person."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..support.atomic_files import placing
from ..support.html_page import GREY, INK, TRACK, escape, write_page
from .audit_verdicts import LEVELS

NOTHING = "not measured"  # in the place of a level
COLOURS = {"red": "#c0392b", "yellow": "#e6b800", "green": "#00855f"}
SUMMARY = {
    "red": "Do not trust scores on this data before you have read why:",
    "yellow": "Usable, with these figures reported beside the scores:",
    "green": "Nothing that misleads was measured.",
    NOTHING: "No verdict: there are too few rows or answers, or nothing to compare.",
}
STYLE = f"""
body {{ max-width: 60rem; }}
.verdict {{ display: flex; gap: .7rem; margin: .5rem 0; }}
.light {{ flex: none; width: 4.2rem; text-align: center; font: bold .8rem/1.6 sans-serif; border-radius: .25rem;
  height: 1.3rem; color: #fff; }}
.light.yellow {{ color: {INK}; }}
.light.not {{ background: {GREY}; width: 7rem; padding: 0 .4rem; }}
{"".join(f".light.{level} {{ background: {colour}; }}" for level, colour in COLOURS.items())}
table {{ border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }}
th, td {{ padding: .15rem .6rem; text-align: left; border-bottom: 1px solid {TRACK}; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
.scroll {{ overflow-x: auto; }} .note {{ color: {GREY}; font-size: .85rem; }}
"""
CUES_NOTE = (
    "A ridge regression on each cue, which never sees a pixel or a word; rows of different pictures of the training "
    "split, five-fold cross-validation. AUC: .5 is chance, 1 tells all. p: permutation test, corrected for the number "
    "of labels and cues. test: fitted on these rows, on the test split."
)
OVERLAP_NOTE = "Rows of the second split; in brackets distinct texts or pictures."
Report = Mapping[str, dict]


def write_audit(reports: Report, path: Path) -> None:
    """Write the page of an audit.

    Args:
        reports: name of a data set or of predictions -> what `audit` or `audit_predictions` returned.
        path: the file, which is replaced.
    """
    body = ["<h1>Audit</h1>"]
    for name, report in reports.items():
        body += section(name, report)
    with placing(path) as temporary:
        temporary.write_bytes(write_page("Audit", STYLE, body))


def section(name: str, report: dict) -> list[str]:
    """The verdicts on a data set, and the figures they come from."""
    verdicts = report["verdicts"]
    worst = worst_level(verdicts)
    body = [f"<h2>{escape(name)}</h2>", f"<p>{light(worst)} {escape(SUMMARY[worst])}</p>"]
    for one in verdicts:
        body.append(f'<div class="verdict">{light(one["level"])}<div>{escape(one["sentence"])}</div></div>')
    if missing := not_measured(report):
        body.append(note(missing))
    body += cue_table(report.get("cues", []))
    body += baseline_table(report.get("baselines", []))
    body += overlap_table(report.get("overlap", {}))
    body += picture_table(report.get("pictures", {}))
    body += comparison_table(report.get("conditions", []))
    return body


def worst_level(verdicts: Sequence[Mapping[str, str]]) -> str:
    """The worst of the levels of verdicts; "not measured" without any."""
    return min((one["level"] for one in verdicts), key=LEVELS.index, default=NOTHING)


def light(level: str) -> str:
    return f'<span class="light {level}">{level}</span>'


def cue_table(cues: Sequence[dict]) -> list[str]:
    if not cues:
        return []
    rows = [
        [c["cue"], c["label"], f"{c['rows']:,}", f"{c['positive']:,}", f"{c['auc']:.3f}", f"{c['p']:.3f}"]
        + ["–" if c["test_auc"] is None else f"{c['test_auc']:.3f}"]
        for c in sorted(cues, key=lambda c: -c["auc"])
    ]
    head = ["cue", "tells from others", "rows", "with the label", "AUC", "p", "AUC, test"]
    return ["<h3>What gives the labels away</h3>", table(head, rows, 2), note(CUES_NOTE)]


def baseline_table(baselines: Sequence[dict]) -> list[str]:
    if not baselines:
        return []
    rows = [[one["answer"], f"{one['percent']:.1f} %", f"{one['of']:,}", one["what"]] for one in baselines]
    return ["<h3>Answers that look at nothing</h3>", table(["answer", "right", "of", ""], rows, 1, 3)]


def overlap_table(overlap: Mapping[str, dict]) -> list[str]:
    if not overlap:
        return []
    names = list(next(iter(overlap.values())))
    rows = [
        [name, *(f"{cell['rows of the second']:,}" + distinct(cell) for cell in (o[name] for o in overlap.values()))]
        for name in names
    ]
    return ["<h3>What two splits share</h3>", table(["", *overlap], rows, 1), note(OVERLAP_NOTE)]


def distinct(cell: Mapping[str, int]) -> str:
    return f" ({cell['distinct']:,})" if "distinct" in cell else f" of {cell['of']:,}"


def picture_table(pictures: Mapping[str, dict]) -> list[str]:
    if not pictures:
        return []
    names = list(next(iter(pictures.values())))
    rows = [[split, *(f"{counts[name]:,}" for name in names)] for split, counts in pictures.items()]
    return ["<h3>Rows and pictures</h3>", table(["split", *names], rows, 1)]


def comparison_table(conditions: Sequence[dict]) -> list[str]:
    if not conditions:
        return []
    rows = [
        [one["condition"], one["metric"], f"{100 * one['score']:.2f}"]
        + (
            [f"{100 * one['difference']:+.2f} [{100 * one['low']:+.2f}, {100 * one['high']:+.2f}]", f"{one['p']:.3f}"]
            if "p" in one
            else ["", ""]
        )
        for one in conditions
    ]
    head = ["pictures", "score", "%", "less than as they are by [95 % interval]", "p"]
    return ["<h3>With other pictures</h3>", table(head, rows, 2)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int, words_again: int | None = None) -> str:
    """HTML of a table.

    Args:
        words: columns before this one are words, the others numbers.
        words_again: this column and those after it are words, too.
    """
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for row in rows:
        cells = [
            f"<td>{escape(cell)}</td>"
            if place < words or (words_again is not None and place >= words_again)
            else f'<td class="number">{escape(cell)}</td>'
            for place, cell in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def traffic_lights(name: str, report: dict) -> str:
    """The verdicts as lines of text."""
    lines = [f"{name}: {worst_level(report['verdicts'])}"]
    lines += [f"  {one['level']:6}  {one['sentence']}" for one in report["verdicts"]]
    return "\n".join([*lines, *filter(None, [not_measured(report)])])


def not_measured(report: dict) -> str:
    """The cues of a report that could not be measured, as a sentence; empty if there are none."""
    cues = report.get("not measured")
    return f"Not measured (absent, always the same, or too few rows): {', '.join(cues)}." if cues else ""


__all__ = ["traffic_lights", "worst_level", "write_audit"]
