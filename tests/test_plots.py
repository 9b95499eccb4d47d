"""Figures carry labels, symbols and the numbers they are given."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from cicy_utils import plots
from cicy_utils.data import Cicy4
from cicy_utils.records import Predictions

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


def answers(predictions) -> Predictions:
    return Predictions(np.arange(len(HODGE)), predictions, HODGE)


def small_list() -> Cicy4:
    matrices = np.zeros((3, 16, 20), np.uint8)
    matrices[0, 0, 0] = 6
    matrices[1, :2, 0] = 2, 5
    matrices[2, :2, :2] = [[2, 0], [1, 4]]
    return Cicy4(matrices, HODGE[:3].astype(np.int16), "test", "stored", "")


RUNS = [("LSTM-448", HISTORY), ("LSTM-456", HISTORY.iloc[:2] * [1, 2, 2, 1, 1])]
NAMES = ["LSTM-448", "LSTM-456", "Ens-1"]
PUBLISHED = pd.DataFrame(
    {
        "accuracy_h11": [99.7, 99.4, np.nan],
        "accuracy_h21": [97.5, 94.0, 98.3],
        "accuracy_h31": [94.2, 87.8, 95.7],
        "accuracy_h22": [78.6, 64.6, 82.9],
    },
    index=NAMES,
)
OURS = pd.DataFrame(
    [[99.0, 96.0, 90.0, 50.0], [98.0, 100.0, 80.0, 0.0], [97.0, 60.0, 70.0, 40.0]],
    index=["LSTM-448", "LSTM-456", "LSTM-448"],
    columns=PUBLISHED.columns,
)
TRIALS = pd.DataFrame(
    {
        "state": ["finished", "pruned", "finished", "diverged"],
        "hidden_size": [8, 16, 24, 32],
        "weights": [1_000, 2_000, 3_000, 4_000],
        "best_validation_loss": [0.3, 0.01, 0.2, np.nan],
    }
)
PATH = pd.DataFrame(
    {
        "step": [1, 2, 3],
        "member": ["LSTM-448", "CNN-LSTM-400", "LSTM-448"],
        "accuracy": [50.0, 60.0, 55.0],
        "loss": [0.5, 0.4, 0.45],
        "kept": [True, True, False],
    }
)
LONG = "quick run: " + "long words " * 30
FIGURES = {
    "training_curves": lambda label=LABEL: plots.training_curves(RUNS, label=label),
    "loss_curves": lambda label=LABEL: plots.loss_curves(RUNS, label=label),
    "accuracies": lambda label=LABEL: plots.accuracies(
        {"training set": OURS, "test set": OURS * 0.9},
        {"training set": PUBLISHED, "test set": PUBLISHED},
        label=label,
    ),
    "rankings": lambda label=LABEL: plots.rankings(OURS, PUBLISHED, label=label),
    "scan": lambda label=LABEL: plots.scan(TRIALS, label=label),
    "examples": lambda label=LABEL: plots.examples(small_list(), label=label),
    "distributions": lambda label=LABEL: plots.hodge_distributions({"all": HODGE}, label=label),
    "training": lambda label=LABEL: plots.training_curve(HISTORY, label=label),
    "errors": lambda label=LABEL: plots.errors(answers(HODGE + 0.4), label=label),
    "climb": lambda label=LABEL: plots.climb(PATH, label=label),
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


@pytest.mark.parametrize("name", FIGURES)
def test_a_long_label_is_wrapped_and_takes_no_room_from_the_panels(name):
    heights = []
    for label in (LABEL, LONG):
        figure = FIGURES[name](label)
        assert is_inside(figure)
        heights.append(figure.axes[0].get_window_extent().height / figure.dpi)
    assert heights[1] > 0.9 * heights[0]


@pytest.mark.parametrize("name", FIGURES)
def test_no_label_of_an_axis_lies_on_another(name):
    figure = FIGURES[name](LONG)
    assert is_inside(figure)
    boxes = [
        axis.label.get_window_extent()
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        if axis.label.get_text()
    ]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


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
    axes = plots.errors(answers(predictions)).axes
    for ax in axes[:4]:
        values, edges, _ = ax.patches[0].get_data()
        assert values.sum() == pytest.approx(100)
        np.testing.assert_array_equal(edges, -edges[::-1])  # zero is in the middle of a bar
        width = edges[1] - edges[0]
        assert width % 2 == 1 and len(values) <= 43
        assert ("to a bar" in ax.get_xlabel()) == (width > 1)
    heights = {bar.get_x() + 0.5: bar.get_height() for bar in axes[4].containers[1]}
    assert heights == {1: 0, 2: 50, 4: 100}  # h11: exactly right by true value


def test_matrices_are_drawn_without_padding():
    figure = plots.configuration_matrices(small_list().matrices, ["a", "b", "c"])
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert texts == [["6"], ["2", "5"], ["2", "1", "4"]]
    spaces = [[text.get_text() for text in ax.get_yticklabels()] for ax in figure.axes]
    assert spaces == [["ℙ$^{5}$"], ["ℙ$^{1}$", "ℙ$^{4}$"], ["ℙ$^{1}$", "ℙ$^{4}$"]]


def names_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def points(line) -> list[tuple[float, float]]:
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_rankings_rank_ours_by_the_median_and_then_the_published():
    h11, h21, h31, h22 = plots.rankings(OURS, PUBLISHED).axes
    assert names_of(h11) == ["LSTM-448", "LSTM-456"]  # medians 98 and 98; Ens-1 has no value
    assert names_of(h21) == ["LSTM-456", "LSTM-448", "Ens-1"]
    assert names_of(h31) == ["LSTM-448", "LSTM-456", "Ens-1"]
    assert h22.get_title() == "accuracy (%) of $h^{2,2}$"
    published, ours = h21.lines[-2:]
    assert points(published) == [(94.0, 0), (97.5, 1), (98.3, 2)]
    assert points(ours) == [(100.0, 0), (78.0, 1)]
    ranges = [segment.tolist() for segment in h21.collections[0].get_segments()]
    assert ranges == [[[100, 0], [100, 0]], [[60, 1], [96, 1]]]
    colours = [text.get_color() for text in h21.get_yticklabels()]
    assert colours == ["black", "black", "0.5"]


@pytest.mark.parametrize(
    ("measure", "best"), [("mse_mean", "small"), ("mae_h11", "small"), ("r2_h22", "large")]
)
def test_the_best_is_on_top(measure, best):
    ours = pd.DataFrame({measure: [0.9, 0.1]}, index=["large", "small"])
    ax = plots.rankings(ours, ours * np.nan).axes[0]
    assert names_of(ax) == [best, "small" if best == "large" else "large"]
    assert ax.yaxis_inverted()


def test_axes_near_a_best_value_hold_every_value_in_order():
    ours = pd.DataFrame({"accuracy_h11": [100, 99.95, 50, 0]}, index=list("abcd"))
    ax = plots.rankings(ours, ours * np.nan).axes[0]
    places = ax.transData.transform([(value, 0) for value in ours["accuracy_h11"]])[:, 0]
    left, right = ax.get_window_extent().intervalx
    assert (np.diff(places) < 0).all()
    assert left < places[-1] < places[0] < right
    negative = pd.DataFrame({"r2_h11": [-300.0, 0.9999]}, index=list("ab"))
    low, high = plots.rankings(negative, negative * np.nan).axes[0].get_xlim()
    assert low < -300
    assert 0.9999 < high < 1


def test_perfect_errors_can_be_drawn():
    ours = pd.DataFrame({"mse_h11": [0.0, 1.0]}, index=list("ab"))
    assert is_inside(plots.rankings(ours, ours * np.nan))


def test_rankings_without_any_result_of_ours_show_the_published():
    ax = plots.rankings(OURS[:0], PUBLISHED).axes[1]
    assert names_of(ax) == ["Ens-1", "LSTM-448", "LSTM-456"]


def test_accuracies_keep_the_order_and_the_median_of_seeds():
    training, test = plots.accuracies(
        {"training set": OURS, "test set": OURS}, {"training set": PUBLISHED, "test set": PUBLISHED}
    ).axes
    assert training.get_title() == "training set"
    assert [text.get_text() for text in test.get_xticklabels()] == NAMES
    published, ours = test.lines[2:4]  # of h21
    np.testing.assert_array_equal(published.get_ydata(), [97.5, 94.0, 98.3])
    np.testing.assert_array_equal(ours.get_ydata(), [78.0, 100.0, np.nan])


def test_loss_curves_are_named_once_and_mark_the_best_epoch():
    figure = plots.loss_curves([*RUNS, ("LSTM-448", HISTORY * 1.5)])
    ax = figure.axes[0]
    assert ax.get_yscale() == "log"
    assert sorted(text.get_text() for text in ax.texts if text.get_text()) == NAMES[:2]
    assert points(ax.lines[1]) == [(2, 0.8)]
    first, other, again = (ax.lines[index] for index in (0, 2, 4))
    assert first.get_linestyle() == again.get_linestyle() != other.get_linestyle()
    assert first.get_marker() == again.get_marker() != other.get_marker()


def test_names_of_curves_that_end_together_do_not_overlap():
    figure = plots.loss_curves([(f"model {number}", HISTORY) for number in range(6)])
    figure.savefig(io.BytesIO())
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_loss_curves_refuse_more_names_than_looks():
    with pytest.raises(ValueError, match="at most 6"):
        plots.loss_curves([(str(number), HISTORY) for number in range(7)])


@pytest.mark.parametrize("number", range(1, 6))
def test_training_curves_have_a_panel_each(number):
    runs = [(f"fold {fold}", HISTORY) for fold in range(number)]
    figure = plots.training_curves(runs)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [f"fold {fold} (best: epoch 2)" for fold in range(number)]
    assert all(ax.get_ylabel() or index % 2 for index, ax in enumerate(figure.axes))


def test_the_scan_marks_pruned_trials_and_the_best_finished_one():
    sizes, weights = plots.scan(TRIALS).axes
    finished, pruned, best = (points(line) for line in sizes.lines)
    assert finished == [(8, 0.3), (24, 0.2)]
    assert pruned == [(16, 0.01)]
    assert best == [(24, 0.2)]
    assert weights.lines[2].get_xdata() == pytest.approx([0.003])


def test_a_scan_without_a_finished_trial_can_be_drawn():
    assert is_inside(plots.loss_curves([]))
    assert is_inside(plots.scan(TRIALS[1:2]))
    assert is_inside(plots.scan(TRIALS[:0]))


def test_a_climb_marks_where_it_ends():
    figure = plots.climb(PATH, title="Climb", label="quick run: a label")
    accuracy, loss, members = figure.axes
    assert accuracy.lines[0].get_ydata().tolist() == [50, 60, 55]
    assert loss.lines[0].get_ydata().tolist() == [0.5, 0.4, 0.45]
    names = [text.get_text() for text in members.get_yticklabels()]
    assert names == ["LSTM-448", "CNN-LSTM-400"]
    assert members.lines[0].get_ydata().tolist() == [0, 1, 0]
    assert all(ax.lines[-1].get_xdata() == [2, 2] for ax in figure.axes)
    assert "quick run: a label" in figure.get_suptitle()


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    figure = plots.training_curve(HISTORY, label=LABEL)
    plots.save(figure, tmp_path, "training_curve")
    path = tmp_path / "figures" / "training_curve.png"
    before = path.read_bytes()

    def savefig(file, **options):
        file.write(before[:100])
        raise OSError("no space left on device")

    monkeypatch.setattr(figure, "savefig", savefig)
    with pytest.raises(OSError, match="no space left"):
        plots.save(figure, tmp_path, "training_curve")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("rates", "limits"), [([0.01, 0.002, 0.0], (0.0004, 0.05)), ([0.0] * 3, None)]
)
def test_a_learning_rate_of_zero_has_no_place_on_a_logarithmic_scale(tmp_path, rates, limits):
    history = HISTORY.assign(learning_rate=rates)
    figure = plots.training_curve(history, label=LABEL)
    plots.save(figure, tmp_path, "training_curve")  # and nothing warns
    axis = figure.axes[1]
    assert axis.get_yscale() == ("log" if limits else "linear")
    if limits:
        assert axis.get_ylim() == pytest.approx(limits)
