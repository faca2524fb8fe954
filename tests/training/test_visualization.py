import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from modeling_i2srm.training.figures import draw_confusion, draw_training_curves

LOSS = [
    {"step": step, "loss": 9 / step, "task_loss": 5 / step, "mixup_loss": 4 / step, "semantic_loss": 0.0}
    for step in (1, 2, 3)
]
SCORES = [
    {"step": step, "eval_lenient_f1": step / 4, "eval_lenient_f1_PER": step / 5, "eval_strict_f1": step / 6}
    | {"eval_strict_f1_PER": 0.1, "eval_loss": 1.0}
    for step in (2, 3)
]
HISTORY = [*LOSS, *SCORES, {"step": 3, "train_loss": 2.0, "train_runtime": 1.0}]


@pytest.fixture
def lines(monkeypatch) -> dict:
    """What is plotted, by label."""
    plotted, plot = {}, Axes.plot

    def record(self, xs, ys, *arguments, label, **settings):
        plotted[label] = list(zip(xs, ys, strict=True))
        return plot(self, xs, ys, *arguments, label=label, **settings)

    monkeypatch.setattr(Axes, "plot", record)
    return plotted


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_the_curves_are_those_of_the_log(tmp_path, lines):
    draw_training_curves(HISTORY, tmp_path / "curves.png")
    assert set(lines) == {"loss", "task loss", "mixup loss", "lenient f1", "lenient f1 PER", "strict f1"}  # no zero KL
    assert lines["loss"] == [(1, 9.0), (2, 4.5), (3, 3.0)]
    assert lines["mixup loss"] == [(1, 4.0), (2, 2.0), (3, 4 / 3)]
    assert lines["lenient f1"] == [(2, 50.0), (3, 75.0)]
    assert lines["strict f1"] == [(2, pytest.approx(100 / 3)), (3, 50.0)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> np.ndarray:
    """The picture of a log without any entry."""
    path = tmp_path_factory.mktemp("empty") / "empty.png"
    draw_training_curves([], path)
    return pixels(path)


@pytest.mark.parametrize("history", [HISTORY, LOSS, SCORES, HISTORY[:1]])
def test_the_picture_shows_more_than_empty_axes(tmp_path, empty, history):
    draw_training_curves(history, str(tmp_path / "curves.png"))
    drawn = pixels(tmp_path / "curves.png")
    assert drawn.shape[1:] == (1020, 3) and drawn.shape[0] >= empty.shape[0]  # a row of panels for two losses
    # Axes are black and grey; the colours are those of the curves and the legend.
    colourful = [(np.ptp(image.astype(int), axis=-1) > 60).sum() for image in (empty, drawn)]
    assert colourful[0] == 0 and colourful[1] > 50


def test_confusion_is_in_per_cent_of_the_gold_label(tmp_path, monkeypatch):
    drawn, imshow, text = {}, Axes.imshow, Axes.text

    def record_image(self, values, **settings):
        drawn["shares"] = values
        return imshow(self, values, **settings)

    def record_text(self, x, y, words, **settings):
        drawn[x, y] = words
        return text(self, x, y, words, **settings)

    monkeypatch.setattr(Axes, "imshow", record_image)
    monkeypatch.setattr(Axes, "text", record_text)
    pairs = [("None", "None")] * 3 + [("None", "peer"), ("peer", "peer"), ("couple", "peer")]
    records = [{"gold": gold, "predicted": predicted} for gold, predicted in pairs]
    draw_confusion(records, ["None", "parent", "peer", "couple"], tmp_path / "confusion.png")
    assert drawn.pop("shares") == [[75, 25, 0], [0, 100, 0], [0, 100, 0]]  # None, peer, couple; parent does not occur
    assert {place: words for place, words in drawn.items() if words} == {
        (0, 0): "3",
        (1, 0): "1",
        (1, 1): "1",
        (1, 2): "1",
    }
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300


def test_labels_are_no_formulas(tmp_path):
    labels = ["None", r"$\frac{$", "<script>alert(1)</script>", "a$b$c"]
    draw_confusion([{"gold": name, "predicted": labels[1]} for name in labels], labels, tmp_path / "confusion.png")
    draw_training_curves([{"step": 1, r"eval_lenient_f1_$\frac{$": 0.5}], tmp_path / "curves.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000 and (tmp_path / "curves.png").stat().st_size > 1000
