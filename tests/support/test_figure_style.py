import matplotlib
import pytest
from PIL import Image

from modeling_i2srm.support.figure_style import COLOURS, new_figure, styled


def luminance(colour: str) -> float:
    """Relative luminance, 0 black to 1 white (WCAG)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def test_the_style_holds_inside_the_block_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    with styled(axes_grid=False):
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == COLOURS
        assert not matplotlib.rcParams["axes.grid"]
        figure, axes = new_figure(8, 3, rows=2, columns=2)
        axes[3].plot([0, 1], [0, 1])
        figure.savefig(tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before
    assert len(axes) == 4
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size == (960, 360)


def test_colours_differ_and_all_but_the_last_are_seen_on_white():
    assert len({round(luminance(colour), 2) for colour in COLOURS}) == len(COLOURS)
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in COLOURS[:-1])


def test_a_parameter_that_is_none_is_refused():
    with pytest.raises(KeyError), styled(axes_gird=False):
        pass
