"""Draw docs/figures/pictures.png: what pictures add on the data of the quickstarts. Run it with `make figures`.

make quickstart-mner quickstart-mre
python docs/figures/draw_pictures.py
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[2]
RUNS = {"visual posts: entities, F1": ("quickstart_mner", "lenient_f1")}
RUNS["visual posts: relations, micro-F1"] = ("quickstart_mre", "micro_f1")
COLUMNS = {"multimodal": "#0072b2", "pictures_blanked": "#e69f00", "text_only": "#999999"}
NAMES = ["multimodal", "the same, pictures blanked", "text-only twin"]


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the runs (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("pictures.png"))
    args = parser.parse_args(arguments)
    files = {title: (args.runs / run / "results.json", metric) for title, (run, metric) in RUNS.items()}
    if absent := [str(path) for path, _ in files.values() if not path.is_file()]:
        print(
            f"{args.output} is not drawn again, as {', '.join(absent)} is missing: make quickstart-mner quickstart-mre"
        )
        return
    figure, panels = pyplot.subplots(1, len(files), figsize=(9, 2.4), layout="constrained", sharex=True)
    for panel, (title, (path, metric)) in zip(panels, files.items(), strict=True):
        results = json.loads(path.read_text())
        values = [100 * results[column][metric] for column in COLUMNS]
        panel.barh(NAMES, values, color=list(COLUMNS.values()))
        for place, value in enumerate(values):
            panel.text(value + 1, place, f"{value:.1f}", va="center", fontsize=10)
        panel.set(xlim=(0, 108), title=title)
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_yticklabels([])
    figure.savefig(args.output, dpi=160)


if __name__ == "__main__":
    main()
