"""Figures. Every function returns a matplotlib Figure in one style that stays readable in grey.

A figure of anything but the paper's recipe carries the label of its run (`provenance.run_label`).
Figures are made without pyplot: nothing is global, nothing has to be closed.
"""

from __future__ import annotations

import base64
import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogFormatter,
    MaxNLocator,
    NullFormatter,
)

from cicy_utils import files
from cicy_utils.data import HODGE_NAMES, MAX_ENTRY, Cicy4, crop

if TYPE_CHECKING:
    from IPython.display import HTML

    from cicy_utils.records import Predictions

SYMBOLS = {name: f"$h^{{{name[1]},{name[2]}}}$" for name in HODGE_NAMES}

# Colours differ in lightness as well as in hue, lines in dashes as well: grey prints stay clear.
DARK, MIDDLE = "#12355b", "#d1495b"
LINES = (
    {"color": "black", "linestyle": "-", "linewidth": 1.0},
    {"color": DARK, "linestyle": "-", "linewidth": 2.0},
    {"color": MIDDLE, "linestyle": "--", "linewidth": 1.6},
    {"color": "#5c946e", "linestyle": ":", "linewidth": 2.2},
)
# One for each of the curves in a figure, told apart by dashes and markers as well.
CURVES = (
    {"color": "black", "linestyle": "-", "marker": "o"},
    {"color": MIDDLE, "linestyle": "--", "marker": "s"},
    {"color": DARK, "linestyle": "-.", "marker": "^"},
    {"color": "#7fb08d", "linestyle": (0, (1, 1)), "marker": "D"},
    {"color": "#7a6fac", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#c98b2b", "linestyle": (0, (8, 2)), "marker": "P"},
)
# Measures of a prediction: their name, and the best value where more is better (else None).
MEASURES = {"accuracy": ("accuracy (%)", 100), "mse": ("MSE", None), "mae": ("MAE", None),
            "r2": ("$R^2$", 1)}  # fmt: skip
OURS_AND_PUBLISHED = {
    "ours": {"marker": "o", "color": DARK, "markersize": 6},
    "published": {"marker": "D", "color": MIDDLE, "markersize": 7, "fillstyle": "none"},
}
NEAREST = 1e-5  # share of a best value that can still be told from it on a logarithmic axis
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
    write(figure, path)
    picture = base64.b64encode(path.read_bytes()).decode()
    width = round(figure.get_figwidth() * 96)  # CSS pixels an inch: figures show in their own size
    words = html.escape(figure.get_suptitle() or name.replace("_", " "), quote=True)
    return HTML(
        f'<img src="data:image/png;base64,{picture}" alt="{words}" '
        f'style="width:{width}px;max-width:100%">'
    )


def write(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG that is whole or absent; OSError where it cannot be written."""
    files.write_atomically(path, lambda file: figure.savefig(file, format="png"))


def configuration_matrices(matrices: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Draw configuration matrices side by side, one square an entry, darker for higher degree.

    matrices: (m, K) each, rows and columns of zeros left out of the drawing. The projective
    space of every row stands at its left, the polynomials p_1 ... p_K above.
    """
    cropped = [crop(np.asarray(matrix)) for matrix in matrices]
    rows = max(len(matrix) for matrix in cropped)
    widths = [max(matrix.shape[1], 4) for matrix in cropped]
    with rc_context(STYLE | {"axes.grid": False}):
        lines = max(title.count("\n") + 1 for title in titles)
        size = 0.3 * (sum(widths) + 2 * len(widths)), 0.3 * (rows + 1) + 0.2 * (lines + 1)
        figure = Figure(figsize=size)
        axes = figure.subplots(1, len(cropped), width_ratios=widths, squeeze=False)[0]
        for ax, matrix, width, title in zip(axes, cropped, widths, titles, strict=True):
            _draw_matrix(ax, matrix)
            # The same scale for all: room for the tallest and for a title over the narrowest.
            ax.set(xlim=(0, width), ylim=(rows, 0), aspect="equal", anchor="NW")
            ax.set_title(title, pad=8, loc="left")
    return figure


def examples(data: Cicy4, *, label: str = "") -> Figure:
    """Draw a small, a middling and one of the largest matrices, with their Hodge numbers."""
    rows = data.matrices.any(axis=2).sum(axis=1)
    columns = data.matrices.any(axis=1).sum(axis=1)
    order = np.argsort(rows * columns, kind="stable")
    chosen = order[[len(order) // 1000, len(order) // 2, -1]]
    titles = [
        f"{rows[i]} × {columns[i]}\n({', '.join(str(h) for h in data.hodge[i])})" for i in chosen
    ]
    figure = configuration_matrices(data.matrices[chosen], titles)
    figure.set_figheight(figure.get_figheight() + 0.5)  # for a title of its own
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
            width = int(edges[1] - edges[0])
            counted = "configurations" if width == 1 else f"configurations per {width} values"
            ax.set(yscale="log", xlabel=SYMBOLS[name], ylabel=counted)
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
    marker = "." if len(history) <= 30 else None
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.8))
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw_losses(losses, history)
        losses.set_ylabel("Huber loss")
        losses.legend()
        rates.step(history["epoch"], history["learning_rate"], where="mid", color="black",
                   marker=marker)  # fmt: skip
        # A cycle of few steps ends with a rate of zero, which has no place on a logarithmic scale.
        positive = history["learning_rate"][history["learning_rate"] > 0]
        if len(positive):
            rates.set(yscale="log", ylim=(positive.min() / 5, positive.max() * 5))
            rates.yaxis.set_major_formatter(PlainLogFormatter())
            rates.yaxis.set_minor_formatter(NullFormatter())
        rates.set(xlabel="epoch", ylabel="learning\nrate")
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        _title(figure, title, label)
    return figure


def training_curves(
    runs: Sequence[tuple[str, pd.DataFrame]], *, title: str = "Training", label: str = ""
) -> Figure:
    """Training and validation loss of several runs, a panel each, all on the same scales.

    runs: (name, history) each, the history as in history.csv.
    """
    columns = min(len(runs), 2)
    rows = -(-len(runs) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns + 0.4, 2.7 * rows + 1))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, (name, history) in zip(grid.flat, runs, strict=False):
            best = _draw_losses(ax, history)
            ax.set_title(f"{name} (best: epoch {best['epoch']:.0f})")
            ax.tick_params(labelbottom=True)
        for ax in grid.flat[len(runs) :]:
            ax.remove()
        for ax in grid[:, 0]:
            ax.set_ylabel("Huber loss")
        for column in range(columns):
            grid[(len(runs) - 1 - column) // columns, column].set_xlabel("epoch")
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = grid[0, 0].get_legend_handles_labels()[0]
        figure.legend(handles, ["training", "validation", "best validation"],
                      loc="outside lower center", ncols=3)  # fmt: skip
        _title(figure, title, label)
    return figure


def loss_curves(
    runs: Sequence[tuple[str, pd.DataFrame]], *, title: str = "Validation losses", label: str = ""
) -> Figure:
    """Validation loss of several runs against the epoch (log scale), named at their ends.

    runs: (name, history) each, the history as in history.csv; runs of the same name, with
    different seeds, look the same. At most six names. Large markers are the best epochs.
    """
    names = list(dict.fromkeys(name for name, _ in runs))
    if len(names) > len(CURVES):
        raise ValueError(f"{len(names)} models in one figure: show at most {len(CURVES)}")
    styles = dict(zip(names, CURVES, strict=False))
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 4.8))
        ax = figure.subplots()
        ends = {}
        for name, history in runs:
            look, epochs, losses = styles[name], history["epoch"], history["validation_loss"]
            ax.plot(epochs, losses, **look, markersize=4, markevery=max(1, len(history) // 12))
            best = losses.idxmin()
            ax.plot(epochs[best], losses[best], marker=look["marker"], color=look["color"],
                    markersize=9)  # fmt: skip
            ends.setdefault(name, (epochs.iloc[-1], losses.iloc[-1]))
        ax.set(yscale="log", xlabel="epoch", ylabel="validation loss (Huber)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain_log(ax)
        _name_ends(ax, ends, styles)
        _title(figure, title, label)
    return figure


def accuracies(
    ours: Mapping[str, pd.DataFrame],
    published: Mapping[str, pd.DataFrame],
    *,
    title: str = "Accuracies",
    label: str = "",
) -> Figure:
    """Accuracies of many models on several parts of the list, in the order given.

    ours, published: part ("training set") to a frame with the columns accuracy_h11 ... in percent.
    published has a row for every model, NaN where nothing is known; ours a row for every run, so
    perhaps several of a model, whose median is drawn, or none. The axis is logarithmic in the
    distance from 100 %.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.2 * len(ours) + 1.8))
        axes = figure.subplots(len(ours), 1, sharex=True, squeeze=False)[:, 0]
        for ax, part in zip(axes, ours, strict=True):
            theirs = published[part]
            medians = ours[part].groupby(level=0).median().reindex(theirs.index)
            places = np.arange(len(theirs))
            for name, look in zip(HODGE_NAMES, CURVES, strict=False):
                column, look = f"accuracy_{name}", {**look, "linewidth": 1}
                ax.plot(places, theirs[column], **look | {"linestyle": ":", "fillstyle": "none"})
                ax.plot(places, medians[column], **look | {"linestyle": "-"}, label=SYMBOLS[name])
            _near(ax, "y", pd.concat([theirs, medians]).to_numpy(), 100)
            ax.set(title=part, ylabel="exactly right (%)")
        axes[-1].set_xticks(places, theirs.index, rotation=40, ha="right", rotation_mode="anchor")
        handles, texts = axes[0].get_legend_handles_labels()
        sources = {"ours": ("-", "full"), "published": (":", "none")}
        for line, fill in sources.values():
            handles.append(
                Line2D([], [], color="0.4", linestyle=line, linewidth=1, marker="o", fillstyle=fill)
            )
        texts += sources
        figure.legend(handles, texts, loc="outside lower center", ncols=len(texts))
        _title(figure, title, label)
    return figure


def rankings(
    ours: pd.DataFrame, published: pd.DataFrame, *, title: str = "Ranking", label: str = ""
) -> Figure:
    """Models ranked by each of several measures, a panel each, the best on top.

    published: a row for every model, a column for every measure ("mse_h11", "r2_mean"), NaN where
    nothing is known. ours: the same columns, a row for every run, so perhaps several of a model,
    whose median is drawn with a line from the least to the largest; or none. Ranked are our
    results; models without any, their names in grey, follow in the published order.
    """
    measures = list(published.columns)
    columns = {1: 1, 3: 3}.get(len(measures), 2)
    rows = -(-len(measures) // columns)
    width, height = {1: 7, 2: 10, 3: 12}[columns], rows * (0.24 * len(published) + 0.9) + 1
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for ax in axes[len(measures) :]:
            ax.remove()
        for ax, measure in zip(axes, measures, strict=False):
            _draw_ranking(ax, ours[measure].dropna(), published[measure], measure)
        handles = [Line2D([], [], linestyle="none", **look) for look in OURS_AND_PUBLISHED.values()]
        figure.legend(handles, OURS_AND_PUBLISHED, loc="outside lower center", ncols=2)
        _title(figure, title, label)
    return figure


def scan(trials: pd.DataFrame, *, title: str = "Scan", label: str = "") -> Figure:
    """Best validation loss of the trials of a scan, against hidden size and number of weights.

    trials: a row each with the columns state ("finished", "pruned", others are not drawn),
    hidden_size, weights, best_validation_loss, as in trials.csv. The ring is the best of the
    finished ones.
    """
    looks = {
        "finished": {"marker": "o", "color": DARK},
        "pruned": {"marker": "x", "color": MIDDLE},
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2))
        axes = figure.subplots(1, 2, sharey=True)
        finished = trials[trials["state"] == "finished"]
        for ax, column, scale in zip(axes, ("hidden_size", "weights"), (1, 1e6), strict=True):
            for state, look in looks.items():
                rows = trials[trials["state"] == state]
                ax.plot(rows[column] / scale, rows["best_validation_loss"], linestyle="none",
                        **look, label=f"{state} ({len(rows)})")  # fmt: skip
            if len(finished):
                best = finished.loc[finished["best_validation_loss"].idxmin()]
                ax.plot(best[column] / scale, best["best_validation_loss"], "o", color="black",
                        markersize=12, fillstyle="none",
                        label=f"best: hidden size {best['hidden_size']:.0f}")  # fmt: skip
            ax.set_yscale("log")
            ax.margins(0.08)
            _plain_log(ax)
        axes[0].set(xlabel="hidden size", ylabel="best validation loss (Huber)")
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1].set_xlabel("weights (millions)")
        handles, texts = axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=len(texts))
        _title(figure, title, label)
    return figure


def errors(test: Predictions, *, title: str = "Errors", label: str = "") -> Figure:
    """Above, by how much rounded predictions miss; below, at which values they are right.

    Bars at both ends of the upper panels collect everything beyond.
    """
    rounded = np.rint(test.predictions)
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 5.6))
        upper, lower = figure.subplots(2, 4)
        for column, name in enumerate(HODGE_NAMES):
            true = test.labels[:, column]
            difference = rounded[:, column] - true
            _error_histogram(upper[column], difference)
            upper[column].set_title(SYMBOLS[name])
            _accuracy_by_value(lower[column], true, difference == 0)
            lower[column].set(xlabel=f"true {SYMBOLS[name]}", ylim=(0, 105))
        upper[0].set_ylabel("share of test set (%)")
        lower[0].set_ylabel("exactly right (%)")
        _title(figure, title, label)
    return figure


def _draw_losses(ax: Axes, history: pd.DataFrame) -> pd.Series:
    """Both losses on a logarithmic axis, with a ring at the best epoch, which is returned."""
    best = history.loc[history["validation_loss"].idxmin()]
    marker = "." if len(history) <= 30 else None
    ax.plot(history["epoch"], history["train_loss"], label="training", color=MIDDLE,
            linestyle="--", marker=marker)  # fmt: skip
    ax.plot(history["epoch"], history["validation_loss"], label="validation", color=DARK,
            marker=marker)  # fmt: skip
    ax.plot(best["epoch"], best["validation_loss"], "o", markersize=10, color="black",
            fillstyle="none", label=f"best: epoch {best['epoch']:.0f}")  # fmt: skip
    ax.set_yscale("log")
    _plain_log(ax)
    return best


def _plain_log(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(PlainLogFormatter())
    ax.yaxis.set_minor_formatter(PlainLogFormatter())


def _name_ends(ax: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping) -> None:
    """Write the name of each curve at the right margin, as high as it ends, none over another."""
    apart = 0.065  # of the height of the axes: a line of text
    to_share = ax.transScale + ax.transLimits
    heights = {name: to_share.transform(end)[1] for name, end in ends.items()}
    order = sorted(heights, key=heights.get)
    places: list[float] = []
    for name in order:
        places.append(max(heights[name], places[-1] + apart if places else 0))
    for index in range(len(places) - 1, -1, -1):  # what was pushed above the top comes down
        highest = places[index + 1] - apart if index + 1 < len(places) else 1
        places[index] = min(places[index], highest)
    for name, place in zip(order, places, strict=True):
        ax.plot(1.03, place, transform=ax.transAxes, clip_on=False, markersize=6,
                marker=looks[name]["marker"], color=looks[name]["color"])  # fmt: skip
        line = {"arrowstyle": "-", "color": looks[name]["color"], "linewidth": 0.6, "alpha": 0.6}
        ax.annotate("", (1.03, place), ends[name], xycoords="axes fraction", textcoords="data",
                    arrowprops=line | {"shrinkA": 0, "shrinkB": 0},
                    annotation_clip=False)  # fmt: skip
        ax.annotate(name, (1.045, place), xycoords="axes fraction", va="center",
                    annotation_clip=False)  # fmt: skip


def _draw_ranking(ax: Axes, ours: pd.Series, published: pd.Series, measure: str) -> None:
    """ours: a value for every run; published: one for every model, or NaN."""
    kind, what = measure.split("_")
    text, top = MEASURES[kind]
    if top is None:  # a logarithmic axis has no zero
        ours, published = ours.clip(lower=NEAREST), published.clip(lower=NEAREST)
    by_model = ours.groupby(level=0)
    medians = by_model.median()
    ranked = list(medians.sort_values(ascending=top is None).index)
    waiting = published.drop(ranked).dropna().sort_values(ascending=top is None)
    names = [*ranked, *waiting.index]
    places = {name: place for place, name in enumerate(names)}
    for name in names:
        ax.axhline(places[name], color="0.9", linewidth=0.8, zorder=0)
    theirs = published.reindex(names).dropna()
    values = np.concatenate([ours, theirs])
    if top is None:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(PlainLogFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(values.min() / 1.5, values.max() * 1.5)
    else:
        _near(ax, "x", values, top)
    looks = OURS_AND_PUBLISHED
    rows = [places[name] for name in ranked]
    ax.hlines(rows, by_model.min()[ranked], by_model.max()[ranked], color=DARK, linewidth=2)
    ax.plot(theirs, [places[name] for name in theirs.index], linestyle="none",
            **looks["published"])  # fmt: skip
    ax.plot(medians[ranked], rows, linestyle="none", **looks["ours"])
    ax.set(title=f"{text} of {SYMBOLS[what]}" if what in SYMBOLS else f"mean {text}")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), names)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    for name, tick in zip(names, ax.get_yticklabels(), strict=True):
        tick.set_color("black" if name in medians.index else "0.5")


def _near(ax: Axes, axis: str, values: np.ndarray, top: float) -> None:
    """Make an axis logarithmic in the distance from a best value, which lies beyond its end."""
    nearest = NEAREST * top  # added to every distance, so that the best value itself has a place

    def forward(value: np.ndarray) -> np.ndarray:
        return -np.log10(np.maximum(top + nearest - np.asarray(value, float), nearest / 2))

    def back(place: np.ndarray) -> np.ndarray:
        return top + nearest - 10.0 ** -np.asarray(place, float)

    places = forward(values[np.isfinite(values)])
    low, high = places.min() - 0.1, places.max() + 0.1
    getattr(ax, f"set_{axis}scale")("function", functions=(forward, back))
    getattr(ax, f"set_{axis}lim")(back(low), back(high))
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    for steps in ((1,), (1, 5), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = sorted(step * 10.0**-decade for decade in decades for step in steps)
        ticks = [tick for tick in ticks if low <= -np.log10(tick) <= high]
        if len(ticks) >= 3:
            break
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_major_locator(FixedLocator([top - tick for tick in ticks]))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
    target.set_minor_formatter(NullFormatter())


def climb(path: pd.DataFrame, *, title: str = "Hill climbing", label: str = "") -> Figure:
    """What hill climbing added, round by round, and how good the ensemble was then.

    path: as `ensembles.Climb.path`. Above, the mean accuracy on the validation set and, below, the
    Huber loss; the vertical line marks the end of the ensemble returned. Beside each round stands
    the member it added.
    """
    steps, kept = path["step"], int(path["kept"].sum())
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 5.6))
        axes = figure.subplots(3, 1, sharex=True)
        names = list(dict.fromkeys(path["member"]))
        heights = path["member"].map(names.index)
        for ax, column, words in (
            (axes[0], "accuracy", "mean accuracy (%)"),
            (axes[1], "loss", "Huber loss (paper’s)"),
        ):
            ax.plot(steps, path[column], color=DARK, marker=".")
            ax.set_ylabel(words)
        axes[2].plot(steps, heights, "s", color=MIDDLE, markersize=4)
        axes[2].set_yticks(range(len(names)), names, fontsize=8)
        axes[2].set(xlabel="round", ylim=(len(names) - 0.5, -0.5))
        axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
        for ax in axes:
            ax.axvline(kept, color="black", linestyle=":", linewidth=1)
        _title(figure, title, label)
    return figure


def _title(figure: Figure, title: str, label: str) -> None:
    lines = textwrap.wrap(label, round(11 * figure.get_figwidth()))  # about 11 letters an inch
    # The label has room of its own: it takes none from the panels, whose axes need theirs.
    figure.set_figheight(figure.get_figheight() + 0.19 * len(lines))
    figure.suptitle("\n".join([title, *lines]), fontsize=11)


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
    reach = int(max(np.abs(difference).max(), 3))
    width = math.ceil((2 * reach + 1) / 41) | 1  # odd, so that zero is in the middle of a bar
    beside = math.ceil(reach / width)
    edges = width * (np.arange(-beside, beside + 2) - 0.5)
    counts = np.histogram(difference, edges)[0]
    ax.stairs(100 * counts / len(difference), edges, fill=True, color=DARK)
    ax.set_xlabel("predicted − true" + ("" if width == 1 else f", {width} to a bar"))
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
        for leading in ((1, 2, 3, 5), (1, 2, 5)):
            round_numbers = [m * 10**k for k in range(5) for m in leading]
            ticks = [number for number in round_numbers if low <= number <= high]
            if len(ticks) <= 5:  # more would run into each other
                break
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
