"""Draw docs/figures/architecture.png: how a post goes through the joint model. Run it with `make figures`.

The pictures are drawn by the code of the made-up posts, and the shapes are those of a batch of B posts.
"""

import random
import sys
from pathlib import Path

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.prepare.pictograms import cut_objects, draw_picture  # noqa: E402
from modeling_i2srm.support.figure_style import GREY, new_figure, styled  # noqa: E402

TEXT, VISION, FUSION, LOSS = "#dbe9f6", "#fde5cf", "#e3f1dd", "#f6dcea"
FONT, NOTE = 15, 13

# name: (left, bottom, width, height, colour, text)
BOXES = {
    "backbone": (0.2, 9.6, 3.3, 1.1, VISION, "vision backbone\nfrozen, 4 stages"),
    "prompt": (0.2, 7.3, 3.3, 1.2, FUSION, "projector, gates:\na prompt per layer"),
    "encoder": (4.6, 7.3, 5.2, 1.2, TEXT, "text encoder; each layer attends\nto [prompt ; words]"),
    "head": (4.6, 3.2, 5.2, 2.2, TEXT, ""),
}
OUTPUTS = {
    "tags": (4.75, 3.35, 1.55, 1.3, "tags\nCRF"),
    "relations": (6.4, 3.35, 1.7, 1.3, "relations\nof pairs"),
    "regions": (8.2, 3.35, 1.45, 1.3, "object\nshown"),
}
LOSSES = {
    "kl": (0.2, 5.0, 3.3, 1.1, "semantic loss\nKL(t || W v)"),
    "task": (4.6, 0.7, 2.5, 1.1, "task loss"),
    "mixup": (7.3, 0.7, 2.5, 1.1, "AttnMixup loss"),
}


def box(axes, left, bottom, width, height, colour, text, **style):
    patch = FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        **{"facecolor": colour, "edgecolor": GREY, "linewidth": 1.3, **style},
    )
    axes.add_patch(patch)
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=FONT)


def arrow(axes, start, end, label="", place=(0, 0), **text):
    style = {"arrowstyle": "-|>", "mutation_scale": 18, "color": GREY, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, **style))
    axes.text(*place, label, fontsize=NOTE, color=GREY, **{"va": "center", **text})


def show(axes, picture, left, bottom, side):
    axes.imshow(picture, extent=(left, left + side, bottom, bottom + side), interpolation="bilinear", zorder=2)
    axes.add_patch(FancyBboxPatch((left, bottom), side, side, boxstyle="square,pad=0", fill=False, edgecolor=GREY))


def draw_post(axes):
    """The picture with its crops at the left, the words at the right."""
    rng = random.Random(4)
    picture = draw_picture(rng, frozenset(["ORG", "/org/loc/locate_at"]))
    crops, _ = cut_objects(rng, picture)
    show(axes, picture.image, 0.2, 11.9, 1.55)
    for place, crop in enumerate(crops[:3]):
        show(axes, crop, 1.95 + 0.55 * (place % 3), 12.45, 0.5)
    axes.text(1.95, 12.15, "crops 1 to M", fontsize=NOTE, va="center")
    axes.text(0.2, 13.65, "picture", fontsize=NOTE)
    axes.text(4.6, 13.65, "text", fontsize=NOTE)
    box(axes, 4.6, 12.1, 5.2, 1.2, "white", "northern Delaware and Titan")


def draw():
    figure, (axes,) = new_figure(8, 11.2)
    axes.axis("off")
    draw_post(axes)
    for one in BOXES.values():
        box(axes, *one)
    axes.text(7.2, 5.05, "joint head, one pass", ha="center", va="center", fontsize=FONT, weight="bold")
    for left, bottom, width, height, text in OUTPUTS.values():
        box(axes, left, bottom, width, height, "white", text)
    for left, bottom, width, height, text in LOSSES.values():
        box(axes, left, bottom, width, height, LOSS, text, linestyle="--")
    arrow(axes, (1.0, 11.8), (1.0, 10.75), "(B, 1+M, 3, H, W)", (1.15, 11.25))
    arrow(axes, (1.0, 9.55), (1.0, 8.55), "2x2 cells a stage:\n(B, 1+M, 4C)", (1.15, 9.05))
    arrow(axes, (3.5, 7.9), (4.55, 7.9))
    axes.text(4.0, 9.05, "keys, values\n(B, h, (1+M)P, d/h)", fontsize=NOTE, color=GREY, va="center")
    axes.plot([4.02, 4.02], [7.95, 8.65], color=GREY, linewidth=0.8)
    arrow(axes, (7.2, 12.05), (7.2, 8.55))
    axes.text(7.35, 10.6, "sub-tokens (B, T)", fontsize=NOTE, color=GREY, va="center")
    arrow(axes, (7.2, 7.25), (7.2, 5.45), "states (B, T, d)", (7.35, 6.35))
    arrow(axes, (4.6, 7.3), (3.55, 6.0), "t: first token\n(B, d)", (4.3, 6.35))
    axes.plot([0.1, -0.1, -0.1], [10.1, 10.1, 5.5], color=GREY, linewidth=1.6)
    arrow(axes, (-0.1, 5.5), (0.18, 5.5))
    axes.text(0.05, 6.55, "v: last stage\n(B, C$_4$)", fontsize=NOTE, color=GREY, va="center")
    shapes = {"tags": "(B, T, N)", "relations": "(B, E, E, R)", "regions": "(B, E, M+1)"}
    for (left, _, width, *_), shape in zip(OUTPUTS.values(), shapes.values(), strict=True):
        axes.text(left + width / 2, 2.85, shape, ha="center", fontsize=NOTE - 1, color=GREY)
    arrow(axes, (5.85, 2.7), (5.85, 1.85))
    arrow(axes, (8.55, 2.7), (8.55, 1.85), "two posts mixed", (8.4, 2.25), ha="right")
    box(axes, 0.2, 2.9, 3.3, 1.2, "white", "Titan (ORG, crop 1)\nlocate_at Delaware")
    arrow(axes, (4.55, 3.6), (3.55, 3.5))
    axes.text(0.2, 4.25, "answer", fontsize=NOTE)
    for place, (colour, name) in enumerate(
        [(TEXT, "text"), (VISION, "vision"), (FUSION, "prompts"), (LOSS, "training")]
    ):
        axes.add_patch(
            FancyBboxPatch((2.5 * place, 0.0), 0.3, 0.25, boxstyle="square,pad=0", facecolor=colour, edgecolor=GREY)
        )
        axes.text(2.5 * place + 0.4, 0.12, name, va="center", fontsize=NOTE)
    axes.set(xlim=(-0.25, 9.95), ylim=(-0.1, 14.1), aspect="auto")
    return figure


def main():
    with styled(axes_grid=False):
        draw().savefig(path := Path(__file__).with_name("architecture.png"))
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
