"""Draw docs/figures/pictures.png: what pictures add on the data of the quickstart. Run it with `make figures`.

make quickstart
python docs/figures/draw_pictures.py
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[2]
METRICS = {"lenient_f1": "made-up posts: entities, F1", "triple_f1": "made-up posts: triples, F1"}
COLUMNS = {"multimodal": "#0072b2", "pictures_blanked": "#e69f00", "text_only": "#999999"}
NAMES = ["multimodal", "the same, pictures blanked", "text-only twin"]


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / "runs" / "quickstart" / "results.json"
    parser.add_argument("--results", type=Path, default=default, help="of the run (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("pictures.png"))
    args = parser.parse_args(arguments)
    if not args.results.is_file():
        print(f"{args.output} is not drawn again, as {args.results} is missing: make quickstart")
        return
    results = json.loads(args.results.read_text())
    figure, panels = pyplot.subplots(1, len(METRICS), figsize=(9, 2.4), layout="constrained", sharex=True)
    for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
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
