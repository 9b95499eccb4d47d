"""Figures carry labels, symbols and the numbers they are given."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from cicy_utils import plots
from cicy_utils.data import Cicy4

LABEL = "quick run: 4 of 905,684 configurations"
HODGE = np.array([[1, 0, 426, 1752], [2, 0, 350, 1452], [2, 0, 350, 1452], [4, 0, 108, 492]])
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [10.0, 1.0, 0.1],
        "validation_loss": [9.0, 0.8, 1.2],
        "learning_rate": [0.01, 0.01, 0.001],
        "seconds": [1.0, 1.0, 1.0],
    }
)


def small_list() -> Cicy4:
    matrices = np.zeros((3, 16, 20), np.uint8)
    matrices[0, 0, 0] = 6
    matrices[1, :2, 0] = 2, 5
    matrices[2, :2, :2] = [[2, 0], [1, 4]]
    return Cicy4(matrices, HODGE[:3].astype(np.int16), "test", "stored", "")


FIGURES = {
    "examples": lambda: plots.examples(small_list(), label=LABEL),
    "distributions": lambda: plots.hodge_distributions({"all": HODGE}, label=LABEL),
    "training": lambda: plots.training_curve(HISTORY, label=LABEL),
    "errors": lambda: plots.errors(HODGE + 0.4, HODGE, label=LABEL),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_carries_the_label_and_can_be_saved(name, tmp_path):
    figure = FIGURES[name]()
    assert " ".join(figure.get_suptitle().split("\n")[1:]) == LABEL
    shown = plots.save(figure, tmp_path, name)
    height, width, _ = imread(tmp_path / "figures" / f"{name}.png").shape
    np.testing.assert_allclose((width, height), figure.get_size_inches() * figure.dpi, atol=1)
    assert LABEL in shown.data.replace("\n", " ")  # as the alternative text


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped(name):
    figure = FIGURES[name]()
    assert is_inside(figure)


def test_a_long_label_is_wrapped():
    assert is_inside(plots.training_curve(HISTORY, label="quick run: " + "long words " * 30))


def is_inside(figure) -> bool:
    """Whether all that is drawn lies on the page."""
    figure.savefig(io.BytesIO())  # this lays it out
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return bool(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height)


def test_axes_show_hodge_symbols():
    figure = plots.hodge_distributions({"all": HODGE})
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert labels == ["$h^{1,1}$", "$h^{2,1}$", "$h^{3,1}$", "$h^{2,2}$"]


def test_distributions_count_every_configuration():
    figure = plots.hodge_distributions({"all": HODGE, "some": HODGE[:3]})
    for ax in figure.axes:
        totals = [patch.get_data().values.sum() for patch in ax.patches]
        assert totals == [4, 3]


def test_distributions_refuse_more_samples_than_lines():
    with pytest.raises(ValueError, match="at most 4"):
        plots.hodge_distributions({str(number): HODGE for number in range(5)})


def test_training_curve_marks_the_best_epoch():
    losses, rates = plots.training_curve(HISTORY).axes
    assert losses.get_yscale() == "log"
    marker = losses.lines[-1]
    assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (2, 0.8)
    assert rates.get_xlabel() == "epoch"


def test_errors_show_shares_of_the_test_set():
    predictions = HODGE.astype(float)
    predictions[0] += 3
    predictions[1] += 10_000  # beyond the last bar
    axes = plots.errors(predictions, HODGE).axes
    for ax in axes[:4]:
        assert ax.patches[0].get_data().values.sum() == pytest.approx(100)
    heights = {bar.get_x() + 0.5: bar.get_height() for bar in axes[4].containers[1]}
    assert heights == {1: 0, 2: 50, 4: 100}  # h11: exactly right by true value


def test_matrices_are_drawn_without_padding():
    figure = plots.configuration_matrices(small_list().matrices, ["a", "b", "c"])
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert texts == [["6"], ["2", "5"], ["2", "1", "4"]]
    spaces = [[text.get_text() for text in ax.get_yticklabels()] for ax in figure.axes]
    assert spaces == [["ℙ$^{5}$"], ["ℙ$^{1}$", "ℙ$^{4}$"], ["ℙ$^{1}$", "ℙ$^{4}$"]]
