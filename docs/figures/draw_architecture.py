"""Draw docs/figures/architecture.png: how a post goes through the model. Run it with `make figures`."""

import sys
from pathlib import Path

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from modeling_i2srm.support.figure_style import GREY, new_figure, styled  # noqa: E402

TEXT, VISION, FUSION, LOSS = "#dbe9f6", "#fde5cf", "#e3f1dd", "#f6dcea"

# name: (x, y, width, height, colour, text)
BOXES = {
    "post": (0.2, 3.2, 2.2, 1.3, TEXT, 'words of the post\n"nothing beats Jordan"'),
    "text": (
        8.9,
        2.3,
        2.9,
        3.1,
        TEXT,
        "text encoder\n(RoBERTa, BERT, ...)\n\nin every layer n:\nself-attention over\n[prompt n ; words]",
    ),
    "pictures": (0.2, 6.2, 2.2, 1.3, VISION, "picture and\nup to M object crops"),
    "backbone": (3.0, 6.2, 2.3, 1.3, VISION, "vision backbone\n(ResNet-50, frozen)\n4 stages"),
    "pool": (3.0, 4.2, 2.3, 1.1, FUSION, "2x2 cells of each stage\nflattened, P slots"),
    "prompt": (5.9, 4.2, 2.4, 1.1, FUSION, "projector: linear, tanh,\nlinear: 4 pieces a slot"),
    "gates": (5.9, 2.5, 2.4, 1.1, FUSION, "a gate a layer mixes the\npieces: keys and values"),
    "mixup": (12.5, 4.6, 2.6, 1.3, LOSS, "AttnMixup (training)\nattend across the batch,\nthen mix pairs of posts"),
    "head": (12.5, 2.3, 2.6, 1.5, TEXT, "first sub-token of each\nword: linear, CRF\nViterbi + marginals"),
    "kl": (8.9, 6.2, 2.9, 1.3, LOSS, "semantic loss (training)\nKL( softmax(t) ||\nsoftmax(W v) )"),
    "out": (12.5, 0.4, 2.6, 1.1, TEXT, "Jordan = PER\nwith offsets and score"),
}
# (from, side, to, side, label)
ARROWS = [
    ("pictures", "right", "backbone", "left", ""),
    ("backbone", "bottom", "pool", "top", ""),
    ("backbone", "right", "kl", "left", "v: global average, last stage, main picture"),
    ("pool", "right", "prompt", "left", ""),
    ("prompt", "bottom", "gates", "top", ""),
    ("gates", "right", "text", "left", ""),
    ("text", "top", "kl", "bottom", ""),
    ("text", "right", "mixup", "left", ""),
    ("text", "right", "head", "left", ""),
    ("mixup", "bottom", "head", "top", ""),
    ("head", "bottom", "out", "top", ""),
]


def anchor(name: str, side: str) -> tuple[float, float]:
    x, y, width, height, *_ = BOXES[name]
    dx, dy = {"left": (0, 0.5), "right": (1, 0.5), "top": (0.5, 1), "bottom": (0.5, 0)}[side]
    return x + dx * width, y + dy * height


def arrow(axes, start, end):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=GREY, linewidth=1.3))


def main():
    with styled():
        draw().savefig(Path(__file__).with_name("architecture.png"), dpi=100)


def draw():
    figure, (axes,) = new_figure(12.8, 6.8)
    axes.set(xlim=(0, 15.4), ylim=(0, 8.2))
    axes.axis("off")
    for x, y, width, height, colour, text in BOXES.values():
        style = "round,pad=0,rounding_size=0.12"
        axes.add_patch(
            FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor=GREY, linewidth=1.2)
        )
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=11)
    for source, side, target, target_side, label in ARROWS:
        start, end = anchor(source, side), anchor(target, target_side)
        arrow(axes, start, end)
        if label:
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            axes.text(
                middle[0],
                middle[1] + 0.12,
                label,
                ha="center",
                va="bottom",
                fontsize=9.5,
                style="italic",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    axes.text(10.5, 5.75, "t: first token", ha="left", fontsize=9.5, style="italic")
    # The words pass below the fusion parts into the text encoder.
    x, y = anchor("post", "bottom")
    axes.plot([x, x, 10.35], [y, 1.6, 1.6], color=GREY, linewidth=1.3)
    arrow(axes, (10.35, 1.6), (10.35, 2.3))
    axes.text(5.6, 1.72, "sub-tokens", ha="center", fontsize=9.5, style="italic")
    axes.text(
        0.2,
        0.45,
        "A picture that is absent is masked in every layer: the post then gives exactly the text-only result.",
        fontsize=11,
    )
    for i, (colour, name) in enumerate(
        [(TEXT, "text"), (VISION, "vision"), (FUSION, "visual prompts"), (LOSS, "training only")]
    ):
        axes.add_patch(
            FancyBboxPatch((0.2 + 2.1 * i, 7.85), 0.25, 0.2, boxstyle="square,pad=0", facecolor=colour, edgecolor=GREY)
        )
        axes.text(0.55 + 2.1 * i, 7.95, name, va="center", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
