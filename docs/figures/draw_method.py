"""Draw docs/figures/prefix.png, attn_mixup.png and joint_head.png: who sees which picture, who is mixed, who is paired.

Run it with `make figures`.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modeling_i2srm.support.figure_style import COLOURS, GREY, new_figure, styled  # noqa: E402

PICTURES = [COLOURS[0], COLOURS[3], COLOURS[2], COLOURS[4]]
HERE = Path(__file__).parent
TEXT, ATTENDED, MIXED = "#dbe9f6", "#f6dcea", "#e3f1dd"


def draw_prefix(slots: int = 4):
    """The picture of each chunk: of an encoder of base size with three crops, and of the quickstart's with two."""
    figure, panels = new_figure(8, 8.6, rows=2)
    for panel, (h, pictures) in zip(panels, ((12, 4), (4, 3)), strict=True):
        length = pictures * slots
        chunks = np.arange(length * h).reshape(h, length)
        picture = chunks // (h * slots)
        for head in range(h):
            for position in range(length):
                colour = PICTURES[picture[head, position]]
                panel.add_patch(Rectangle((position, head), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.6))
        panel.set(xlim=(0, length), ylim=(h, 0), xlabel="position in the prefix", ylabel="head")
        panel.set(xticks=np.arange(length) + 0.5, yticks=np.arange(h) + 0.5)
        panel.set_xticklabels(range(length))
        panel.set_yticklabels(range(h))
        panel.set_title(f"{h} heads, {pictures} pictures of {slots} slots each")
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    names = ["picture", *(f"crop {i}" for i in range(1, len(PICTURES)))]
    handles = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in PICTURES]
    figure.legend(handles, names, loc="outside lower center", ncols=len(PICTURES), frameon=False)
    figure.savefig(HERE / "prefix.png")


def draw_attn_mixup(batch: int = 10, delta: float = 0.7, ratio: float = 0.6):
    """The rows of a batch: Z = [H; H*], those that are scored as they are, the pool, and the mixed ones."""
    n = 2 * batch
    front, back = int(delta / 2 * n), int((1 - delta / 2) * n)
    scored, pool = int((0.5 + ratio * 0.5) * n), front + n - back
    kept = int((1 - ratio) * pool)
    figure, (axes,) = new_figure(8, 9)
    axes.set(xlim=(0, 16.2), ylim=(n + 4.2, -2.4))
    axes.axis("off")

    def column(x, rows, title, colour):
        for place, row in rows:
            fill = colour or (TEXT if row < batch else ATTENDED)
            axes.add_patch(Rectangle((x, place), 1.3, 0.9, facecolor=fill, edgecolor=GREY, linewidth=0.8))
            axes.text(x + 0.65, place + 0.48, name(row), ha="center", va="center", fontsize=12)
        axes.text(x + 0.65, -0.6, title, ha="center", fontsize=13)

    def name(row):
        return f"{row + 1}" if row < batch else f"{row - batch + 1}*"

    def arrow(x, y, to_x, to_y):
        axes.add_patch(FancyArrowPatch((x, y), (to_x, to_y), arrowstyle="-|>", mutation_scale=12, color=GREY))

    column(0.2, [(i + batch / 2, i) for i in range(batch)], "H: the\nbatch", None)
    column(4.2, [(i, i) for i in range(n)], "Z =\n[H; H*]", None)
    arrow(1.6, batch * 0.75, 4.1, batch / 2)
    arrow(1.6, batch * 1.25, 4.1, batch * 1.5)
    axes.text(2.85, batch * 1.62, "attention\nacross the\nbatch", ha="center", va="top", fontsize=13)
    column(8.2, [(i, i) for i in [*range(front), *range(back, n)]], f"pool,\nδ = {delta}", None)
    column(8.2 - 1.9, [(i, i) for i in range(scored)], "scored\nas is", None)
    partners = np.random.default_rng(3).permutation([*range(front), *range(back, n)])
    for place in range(kept):
        row = [*range(front), *range(back, n)][place]
        axes.add_patch(Rectangle((11.4, 2 * place), 4.6, 1.5, facecolor=MIXED, edgecolor=GREY, linewidth=0.8))
        axes.text(
            13.7,
            2 * place + 0.8,
            f"λ · {name(row)} + (1 − λ) · {name(partners[place])}",
            ha="center",
            va="center",
            fontsize=12,
        )
    arrow(9.6, front / 2, 11.3, kept)
    axes.text(13.7, -0.6, f"mixed, the first\n1 − {ratio} of them", ha="center", fontsize=13)
    axes.text(
        13.7,
        2 * kept + 1.2,
        "two label sets each:\nλ L(y)\n+ (1 − λ) L(y of the\npartner)",
        ha="center",
        va="top",
        fontsize=13,
    )
    axes.text(
        0.2,
        n + 3.4,
        f"A batch of {batch}: n = {n} rows, {scored} scored as they are,\na pool of {pool}, {kept} mixed.",
        fontsize=13,
    )
    figure.savefig(HERE / "attn_mixup.png")


def main():
    with styled(axes_grid=False):
        draw_prefix()
        draw_attn_mixup()
        draw_joint_head()


def draw_joint_head():
    """Draw the parts of the joint head for a post of two entities with a picture and two crops."""
    figure, (axes,) = new_figure(8, 7.4)
    axes.set(xlim=(-0.1, 18.1), ylim=(9.1, 0))
    axes.axis("off")

    def box(x, y, width, text, colour, height=0.8):
        axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=GREY, linewidth=0.8))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=12.5)

    def arrow(start, end):
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=GREY, linewidth=1))

    words = ["Kobe", "lands", "in", "New", "York", "today"]
    for place, word in enumerate(words):
        box(0.2 + 1.75 * place, 8.1, 1.6, word, TEXT if place in (0, 3, 4) else "white")
    axes.text(
        5.4,
        7.75,
        "one pass of the text encoder: $h_t$ (B, T, d)",
        ha="center",
        fontsize=12.5,
    )
    box(0.2, 5.6, 1.6, "$e_1$", TEXT)
    box(5.45, 5.6, 3.35, "$e_2$", TEXT)
    box(2.2, 5.6, 2.85, "$b_{12}$ between", "white")
    box(9.2, 5.6, 0.8, "$g_{12}$", "white")
    box(10.1, 5.6, 0.8, "$c_{12}$", ATTENDED)
    for start, end in ((1, 1), (3.5, 3.6), (7.1, 7.1), (9.6, 9.6)):
        arrow((start, 7.4), (end, 6.5))
    axes.text(10.05, 5.35, "attention", ha="center", fontsize=12)
    box(
        0.2,
        3.2,
        10.7,
        "$z_{ij}$ = GELU(W [$e_i$ ; $e_j$ ; $e_i * e_j$ ; $b_{ij}$ ; $g_{ij}$ ; $c_{ij}$ ; 1(i < j)])\n(B, E, E, 2d)",
        MIXED,
        height=1.2,
    )
    for x in (1, 3.6, 7.1, 9.6, 10.5):
        arrow((x, 5.1 if x > 9 else 5.5), (x, 4.5))
    box(0.2, 0.8, 4.6, "tags: linear + CRF\n(B, T, N)", TEXT, height=1.1)
    box(5.4, 0.8, 5.5, "relations of all pairs\n(B, E, E, R)", MIXED, height=1.1)
    box(11.9, 0.8, 5.9, "region of each entity\n(B, E, M+1)", ATTENDED, height=1.1)
    arrow((8.1, 3.1), (8.1, 2.0))
    axes.plot([0.05, 0.05], [8.5, 1.3], color=GREY, linewidth=1)
    arrow((0.05, 1.3), (0.2, 1.3))
    for place, name in enumerate(("crop 1", "crop 2", "none")):
        box(11.9 + 2 * place, 5.6, 1.8, name, ATTENDED if place < 2 else "white")
        arrow((12.8 + 2 * place, 5.5), (12.8 + 2 * place, 4.1))
    box(11.9, 3.2, 5.9, "$(W_a e_i)^T u_k / \\sqrt{d}$", ATTENDED)
    arrow((14.9, 3.1), (14.9, 2.0))
    axes.plot([8.4, 8.4, 11.4, 11.4], [6.4, 6.75, 6.75, 3.6], color=GREY, linewidth=1)
    arrow((11.4, 3.6), (11.9, 3.6))
    axes.text(15.2, 7.0, "keys $u_k = W_v v_k$ of the\npictures, a learned one for none", ha="center", fontsize=12)
    axes.text(9, 0.45, "one choice of types and relations that fit each other", ha="center", fontsize=12.5)
    figure.savefig(HERE / "joint_head.png")


if __name__ == "__main__":
    main()
