"""Figures. Every function returns a matplotlib Figure in one style that stays readable in grey.

A figure of anything but the paper's recipe carries the label of its run (`records.run_label`).
Figures are made without pyplot: nothing is global, nothing has to be closed.
"""

from __future__ import annotations

import base64
import html
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullFormatter

from cicy_utils.data import HODGE_NAMES, MAX_ENTRY, Cicy4

if TYPE_CHECKING:
    from IPython.display import HTML

SYMBOLS = {name: f"$h^{{{name[1]},{name[2]}}}$" for name in HODGE_NAMES}

# Colours differ in lightness as well as in hue, lines in dashes as well: grey prints stay clear.
DARK, MIDDLE, LIGHT = "#12355b", "#d1495b", "#8fa3b8"
LINES = (
    {"color": "black", "linestyle": "-", "linewidth": 1.0},
    {"color": DARK, "linestyle": "-", "linewidth": 2.0},
    {"color": MIDDLE, "linestyle": "--", "linewidth": 1.6},
    {"color": "#5c946e", "linestyle": ":", "linewidth": 2.2},
)
STYLE = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "legend.frameon": False,
}


def save(figure: Figure, run_dir: Path | str, name: str) -> HTML:
    """Write RUN_DIR/figures/<name>.png and return that picture for a notebook to show."""
    from IPython.display import HTML  # only notebooks need it

    path = Path(run_dir) / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    picture = base64.b64encode(path.read_bytes()).decode()
    width = round(figure.get_figwidth() * 96)  # CSS pixels an inch: figures show in their own size
    words = html.escape(figure.get_suptitle() or name.replace("_", " "), quote=True)
    return HTML(
        f'<img src="data:image/png;base64,{picture}" alt="{words}" '
        f'style="width:{width}px;max-width:100%">'
    )


def configuration_matrices(matrices: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Draw configuration matrices side by side, one square an entry, darker for higher degree.

    matrices: (m, K) each, rows and columns of zeros left out of the drawing. The projective
    space of every row stands at its left, the polynomials p_1 ... p_K above.
    """
    cropped = [_crop(np.asarray(matrix)) for matrix in matrices]
    rows = max(len(matrix) for matrix in cropped)
    widths = [max(matrix.shape[1], 4) for matrix in cropped]
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(0.3 * (sum(widths) + 2 * len(widths)), 0.3 * rows + 1.6))
        axes = figure.subplots(1, len(cropped), width_ratios=widths, squeeze=False)[0]
        for ax, matrix, width, title in zip(axes, cropped, widths, titles, strict=True):
            _draw_matrix(ax, matrix)
            # The same scale for all: room for the tallest and for a title over the narrowest.
            ax.set(xlim=(0, width), ylim=(rows, 0), aspect="equal", anchor="NW")
            ax.set_title(title, pad=8, loc="left")
    return figure


def examples(data: Cicy4, *, label: str = "") -> Figure:
    """Draw a small, a middling and the largest matrix of a list, with their Hodge numbers."""
    rows = data.matrices.any(axis=2).sum(axis=1)
    columns = data.matrices.any(axis=1).sum(axis=1)
    order = np.argsort(rows * columns, kind="stable")
    chosen = order[[len(order) // 1000, len(order) // 2, -1]]
    titles = [
        f"{rows[i]} × {columns[i]}\n({', '.join(str(h) for h in data.hodge[i])})" for i in chosen
    ]
    figure = configuration_matrices(data.matrices[chosen], titles)
    with rc_context(STYLE):
        _title(figure, "Configuration matrices", label)
    return figure


def hodge_distributions(
    samples: Mapping[str, np.ndarray], *, title: str = "Distribution of the Hodge numbers", label=""
) -> Figure:
    """How often each value of the four Hodge numbers occurs in up to four samples.

    samples: name to Hodge numbers (n, 4), at most four. Counts on a logarithmic axis, so equal
    shapes are parallel curves however large the samples are.
    """
    if len(samples) > len(LINES):
        raise ValueError(f"{len(samples)} samples in one figure: show at most {len(LINES)}")
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 6.4))
        for column, (name, ax) in enumerate(
            zip(HODGE_NAMES, figure.subplots(2, 2).flat, strict=True)
        ):
            values = [np.asarray(hodge)[:, column] for hodge in samples.values()]
            edges = _integer_edges(min(v.min() for v in values), max(v.max() for v in values), 60)
            for line, text, sample in zip(LINES, samples, values, strict=False):
                ax.stairs(
                    np.histogram(sample, edges)[0],
                    edges,
                    label=f"{text} ({len(sample):,})",
                    **line,
                    baseline=None,
                )
            ax.set(yscale="log", xlabel=SYMBOLS[name], ylabel="configurations")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.yaxis.set_major_formatter(PlainLogFormatter())
            ax.set_ylim(bottom=0.7)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=len(samples))  # fmt: skip
        _title(figure, title, label)
    return figure


def training_curve(history: pd.DataFrame, *, title: str = "Training", label: str = "") -> Figure:
    """Training and validation loss against the epoch (log scale), the learning rate below.

    history: columns epoch, train_loss, validation_loss, learning_rate, as in history.csv. The
    circle marks the lowest validation loss: the weights of that epoch are the ones evaluated.
    """
    best = history.loc[history["validation_loss"].idxmin()]
    marker = "." if len(history) <= 30 else None
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.8))
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        losses.plot(history["epoch"], history["train_loss"], label="training", color=MIDDLE,
                    linestyle="--", marker=marker)  # fmt: skip
        losses.plot(history["epoch"], history["validation_loss"], label="validation", color=DARK,
                    marker=marker)  # fmt: skip
        losses.plot(best["epoch"], best["validation_loss"], "o", markersize=10, color="black",
                    fillstyle="none", label=f"best: epoch {best['epoch']:.0f}")  # fmt: skip
        losses.set(yscale="log", ylabel="Huber loss")
        losses.yaxis.set_major_formatter(PlainLogFormatter())
        losses.yaxis.set_minor_formatter(PlainLogFormatter())
        losses.legend()
        rates.step(history["epoch"], history["learning_rate"], where="mid", color="black",
                   marker=marker)  # fmt: skip
        rates.set(yscale="log", xlabel="epoch", ylabel="learning rate")
        rates.yaxis.set_major_formatter(PlainLogFormatter())
        rates.yaxis.set_minor_formatter(NullFormatter())
        rates.set_ylim(history["learning_rate"].min() / 5, history["learning_rate"].max() * 5)
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        _title(figure, title, label)
    return figure


def errors(
    predictions: np.ndarray, labels: np.ndarray, *, title: str = "Errors", label: str = ""
) -> Figure:
    """Above, by how much rounded predictions miss; below, at which values they are right.

    predictions float (n, 4) raw; labels integer (n, 4). Bars at both ends of the upper panels
    collect everything beyond.
    """
    predictions, labels = np.rint(predictions), np.asarray(labels)
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 5.6))
        upper, lower = figure.subplots(2, 4)
        for column, name in enumerate(HODGE_NAMES):
            true = labels[:, column]
            difference = predictions[:, column] - true
            _error_histogram(upper[column], difference)
            upper[column].set(title=SYMBOLS[name], xlabel="predicted less true value")
            _accuracy_by_value(lower[column], true, difference == 0)
            lower[column].set(xlabel=f"true {SYMBOLS[name]}", ylim=(0, 105))
        upper[0].set_ylabel("share of test set (%)")
        lower[0].set_ylabel("exactly right (%)")
        _title(figure, title, label)
    return figure


def _title(figure: Figure, title: str, label: str) -> None:
    lines = textwrap.wrap(label, round(11 * figure.get_figwidth()))  # about 11 letters an inch
    figure.suptitle("\n".join([title, *lines]), fontsize=11)


def _crop(matrix: np.ndarray) -> np.ndarray:
    return matrix[matrix.any(axis=1)][:, matrix.any(axis=0)]


def _draw_matrix(ax: Axes, matrix: np.ndarray) -> None:
    rows, columns = matrix.shape
    ax.pcolormesh(matrix, cmap="Greys", vmin=0, vmax=MAX_ENTRY + 1, edgecolors="0.8", linewidth=0.6)
    for row, column in np.argwhere(matrix):
        value = matrix[row, column]
        ax.text(column + 0.5, row + 0.5, value, ha="center", va="center", fontsize=8,
                color="white" if value > MAX_ENTRY // 2 else "black")  # fmt: skip
    spaces = [f"ℙ$^{{{total - 1}}}$" for total in matrix.sum(axis=1)]
    ax.set_yticks(np.arange(rows) + 0.5, spaces)
    ax.set_xticks(
        np.arange(columns) + 0.5, [f"$p_{{{column}}}$" for column in range(1, columns + 1)]
    )
    ax.tick_params(length=0, labelsize=9)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)


def _integer_edges(low: float, high: float, most: int) -> np.ndarray:
    """Edges of at most `most` equal bins, each holding a whole number of integers."""
    width = max(1, int(np.ceil((high - low + 1) / most)))
    return np.arange(low, high + width + 1, width) - 0.5


def _error_histogram(ax: Axes, difference: np.ndarray) -> None:
    reach = int(np.clip(np.percentile(np.abs(difference), 99), 5, 200))
    difference = np.clip(difference, -reach, reach)
    edges = _integer_edges(min(difference.min(), -3), max(difference.max(), 3), 41)
    counts = np.histogram(difference, edges)[0]
    ax.stairs(100 * counts / len(difference), edges, fill=True, color=DARK)
    ax.set_yscale("log")
    ax.set_ylim(50 / len(difference), 150)  # half a configuration, and room above 100 %
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_formatter(PlainLogFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())


def _accuracy_by_value(ax: Axes, true: np.ndarray, right: np.ndarray) -> None:
    """A pale bar where there is data, filled as far as answers are right.

    One bar a value, or wider ones for larger values where there are many.
    """
    low, high = int(true.min()), int(true.max())
    if high - low < 40:
        edges = np.arange(low, high + 2) - 0.5
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    else:
        low = max(low, 1)
        edges = np.unique(np.geomspace(low, high + 1, 17).round()) - 0.5
        edges[0] = min(edges[0], true.min() - 0.5)
        ax.set_xscale("log" if edges[0] > 0 else "symlog")
        round_numbers = [m * 10**k for k in range(5) for m in (1, 2, 3, 5)]
        ticks = [number for number in round_numbers if low <= number <= high]
        ax.set_xticks(ticks, [f"{number:,}" for number in ticks])
        ax.set_xticks([], minor=True)
    totals = np.histogram(true, edges)[0]
    hits = np.histogram(true[right], edges)[0]
    filled = totals > 0
    starts, widths = edges[:-1][filled], np.diff(edges)[filled]
    ax.bar(starts, 100, widths, align="edge", color="0.92")
    ax.bar(starts, 100 * hits[filled] / totals[filled], widths, align="edge", color=DARK)


class PlainLogFormatter(LogFormatter):
    """Tick labels 0.001, 1, 1,000 on a logarithmic axis; between decades where there is room."""

    def __init__(self) -> None:
        super().__init__(labelOnlyBase=False)

    def __call__(self, value: float, position: int | None = None) -> str:
        return f"{value:,.10g}" if super().__call__(value, position) else ""
