"""Draw docs/figures/leakage.png: how many crops come with the pairs of MNRE. Run it with `make figures`.

    python docs/figures/draw_leakage.py --data_dir RAW

RAW holds the raw texts of MNRE and the index of its released crops.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.studies.audit import RULE, labels_of, read_raw, scores  # noqa: E402
from modeling_i2srm.support.figure_style import COLOURS, GREY, new_figure, styled  # noqa: E402

DATA = Path(os.environ.get("I2SRM_DATA_DIR", ROOT.parent / "shared" / "data"))
COLOUR = {False: COLOURS[5], True: COLOURS[1]}
NAMES = {False: "pairs without a relation", True: "related pairs"}
HATCHES = {False: "", True: "///"}


def draw(splits: dict, path: Path):
    """Draw the share of the pairs of each split that have 1, 2, 3 ... crops, related and unrelated apart."""
    figure, panels = new_figure(8, 1.8 + 2.4 * len(splits), rows=len(splits))
    figure.suptitle(
        "MNRE: the number of crops released with a pair\ntells whether it is related", fontsize=15, weight="bold"
    )
    numbers = sorted({count for data in splits.values() for count in data.counts})
    for axes, (split, data) in zip(panels, splits.items(), strict=True):
        labels = labels_of(data.rows)["related"]
        rule = scores([count >= RULE for count in data.counts], labels)
        for label, shift in ((False, -0.21), (True, 0.21)):
            found = Counter(count for count, answer in zip(data.counts, labels, strict=True) if answer == label)
            shares = [100 * found[number] / found.total() for number in numbers]
            axes.bar(
                [number + shift for number in numbers],
                shares,
                width=0.4,
                color=COLOUR[label],
                hatch=HATCHES[label],
                edgecolor="white",
                linewidth=0,
                label=NAMES[label],
            )
            for number, share in zip(numbers, shares, strict=True):
                if share:
                    text = "<0.1" if share < 0.05 else ">99.9" if 99.95 <= share < 100 else f"{share:.1f}"
                    axes.text(number + shift, share + 2, text, ha="center", fontsize=13, color=GREY)
        axes.axvspan(RULE - 0.5, max(numbers) + 0.5, color="#f0f0f0", zorder=0)
        axes.axvline(RULE - 0.5, color=GREY, linewidth=1, linestyle="--")
        axes.set_title(f"{split}: {len(labels):,} pairs", fontsize=14)
        said = f"rule {RULE} or more: related\nprecision {rule['P']:.1f}, recall {rule['R']:.1f}"
        axes.text(RULE - 0.42, 150, said, fontsize=12.5, va="top")
        axes.set(xticks=numbers, xlim=(min(numbers) - 0.5, max(numbers) + 0.5))
        axes.set(ylim=(0, 155), yticks=range(0, 101, 50), ylabel="% of a kind")
    panels[-1].set_xlabel("crops of the pair")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=13)
    figure.savefig(path)


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="default: $I2SRM_DATA_DIR, as for the tests")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("leakage.png"))
    args = parser.parse_args(arguments)
    try:
        splits = read_raw("mnre", args.data_dir or DATA)
        if any(data.counts is None for data in splits.values()):
            raise FileNotFoundError(f"{args.data_dir or DATA}: no index of MNRE's crops (mre_train_dict.pth and so on)")
    except FileNotFoundError as error:
        if args.data_dir:
            sys.exit(f"{parser.prog}: {error}")
        print(f"{args.output} is not drawn again, as data is missing: {error}")
        return
    with styled(axes_grid=False):
        draw(splits, args.output)


if __name__ == "__main__":
    main()
