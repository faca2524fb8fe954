"""Draw docs/figures/pictures.png: what pictures add on the data of the quickstart. Run it with `make figures`.

The values are those of the record pictures-quickstart.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.support.figure_style import COLOURS, GREY, new_figure, styled  # noqa: E402

RECORDS = ROOT / "benchmarks" / "records" / "pictures.jsonl"
# colour, marker, and the place of the label: points above, and its side that is at the value
STYLES = {
    "multimodal": (COLOURS[0], "o", 18, "center"),
    "pictures blanked": (COLOURS[1], "s", -18, "center"),
    "text-only twin": (GREY, "D", 18, "right"),
}


def main():
    records = {one["name"]: one["value"] for one in map(json.loads, RECORDS.read_text(encoding="utf-8").splitlines())}
    (_, *columns), *rows = records["pictures-quickstart"]
    with styled(axes_grid=False):
        figure, (axes,) = new_figure(8, 3.6)
        for place, (name, *cells) in enumerate(rows):
            values = dict(zip(columns, map(float, cells), strict=True))
            axes.plot(
                [min(values.values()), max(values.values())], [place, place], color="#c8c8c8", linewidth=5, zorder=1
            )
            for column, (colour, marker, above, side) in STYLES.items():
                axes.plot(values[column], place, marker, color=colour, markersize=12)
                text, style = f"{column} {values[column]:.1f}", {"color": colour, "weight": "bold", "va": "center"}
                at = (values[column], place)
                axes.annotate(text, at, (0, above), textcoords="offset points", ha=side, **style)
            axes.text(0, place, name, va="center", weight="bold")
        axes.set(xlim=(0, 102), ylim=(len(rows) - 0.4, -0.7), yticks=[], xlabel="test F1 (%), made-up posts, one seed")
        axes.spines["left"].set_visible(False)
        figure.suptitle("Where the picture holds the answer", fontsize=15, weight="bold")
        figure.savefig(Path(__file__).with_name("pictures.png"))


if __name__ == "__main__":
    main()
