"""The figures of arXiv 2405.17406, each built from the results of a run beside the published ones.

One literal table says what each of them shows; one function builds all that a run folder allows.
Figures 3 to 15 are drawings of networks, for which the notebooks have tables instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cicy_utils import paper, plots, provenance, records
from cicy_utils.data import Cicy4, load_cicy4
from cicy_utils.metrics import ACCURACIES
from cicy_utils.paper_tables import (
    AT_80,
    CNN_LSTM,
    CONVERGED,
    ENSEMBLES,
    ENSEMBLES_80,
    FOLD_ENSEMBLES,
    FOLDS,
    GRU,
    LSTM,
    MAE,
    MEANS,
    MSE,
    R2,
    TABLES,
    Key,
    left_out,
)
from cicy_utils.splits import split_of

DATA_NOTEBOOK = "00_data"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper.

    Attributes:
        kind: what is drawn, one of KINDS.
        title: what it shows.
        members: keys of the results in it, in the paper's order; none for distributions.
        measures: of a ranking, a panel each, as in `paper.published`.
        fold: whose distribution is shown.
    """

    kind: str
    title: str
    members: tuple[Key, ...] = ()
    measures: tuple[str, ...] = ()
    fold: int | None = None


@dataclass(frozen=True)
class FigureFile:
    """A figure on the disk, as PNG.

    Attributes:
        path: of the file.
        title: what it shows.
        caption: how to read it, and which results are not in it yet.
        label: what keeps its results from being the paper's (`provenance.run_label`), or "".
    """

    path: Path
    title: str
    caption: str
    label: str


COUNTED = (
    "How many configurations there are at each value of the Hodge numbers, or in each range of "
    "values where there are more than 60 (logarithmic scale)"
)

# How to read each kind of figure.
KINDS = {
    "list and split": f"{COUNTED}, in the complete list and in the parts of the 72 % split.",
    "two splits": f"{COUNTED}, in the training and test sets of the 72 % and the 80 % split.",
    "fold": f"{COUNTED}, in the complete list and in the training and validation sets of one fold.",
    "losses": "Huber loss on the validation set after each epoch, on a logarithmic scale. A large "
    "marker is the best epoch of a training, whose weights were kept. The paper's curves are not "
    "published as numbers.",
    "training": "Huber loss on the training and the validation set, on a logarithmic scale. The "
    "ring is the best epoch, whose weights were kept. The paper's curves are not published as "
    "numbers.",
    "accuracies": "Share of exactly right answers in the training and the test set, in the order "
    "of the paper. The axis is logarithmic in the distance from 100 %.",
    "ranking": "Ranked by our results on the test set, the best on top; names in grey have none "
    "yet. A line through a dot spans the runs with different seeds, and the dot is their median. "
    "Axes are logarithmic, those of accuracy and R² in the distance from 100 % and 1.",
}

RETRAINED = (("CNN-LSTM-400-d80", 80), ("LSTM-424-d80", 80), ("LSTM-448-d80", 80))
BEST_AT_72 = (("Ens-2", 72), ("Ens-3", 72), ("Ens-1", 72), ("CNN-LSTM-400", 72))
FOUR = tuple(ACCURACIES)

FIGURES: dict[int, PaperFigure] = {
    1: PaperFigure("list and split", "The list and its 72 % split"),
    2: PaperFigure("two splits", "The 72 % and the 80 % split"),
    16: PaperFigure("losses", "Validation loss: CNN-GRU and ResNet-GRU models", GRU),
    17: PaperFigure("losses", "Validation loss: LSTM against GRU beside a convolutional block",
                    CNN_LSTM[:2] + GRU[:2]),
    18: PaperFigure("losses", "Validation loss: CNN-LSTM models", CNN_LSTM),
    19: PaperFigure("losses", "Validation loss: LSTM models", LSTM),
    20: PaperFigure("accuracies", "Accuracies of models and ensembles at 72 %",
                    CONVERGED + ENSEMBLES, FOUR),
    21: PaperFigure("ranking", "Accuracy at 72 %", CONVERGED + ENSEMBLES, FOUR),
    22: PaperFigure("losses", "Validation loss: the five folds of LSTM-448", FOLDS),
    23: PaperFigure("ranking", "Accuracy in cross-validation",
                    FOLDS + FOLD_ENSEMBLES + BEST_AT_72, FOUR),
    24: PaperFigure("losses", "Validation loss: retraining at 80 %", RETRAINED),
    25: PaperFigure("ranking", "Accuracy at 80 %", TABLES[8].rows + ENSEMBLES_80, FOUR),
    26: PaperFigure("ranking", "Mean MSE, MAE and R² at 72 %", CONVERGED + ENSEMBLES, MEANS),
    27: PaperFigure("ranking", "MSE at 72 %", CONVERGED + ENSEMBLES, MSE),
    28: PaperFigure("ranking", "MAE at 72 %", CONVERGED + ENSEMBLES, MAE),
    29: PaperFigure("ranking", "R² at 72 %", CONVERGED + ENSEMBLES, R2),
    30: PaperFigure("ranking", "MSE in cross-validation", FOLDS + FOLD_ENSEMBLES, MSE),
    31: PaperFigure("ranking", "MAE in cross-validation", FOLDS + FOLD_ENSEMBLES, MAE),
    32: PaperFigure("ranking", "R² in cross-validation", FOLDS + FOLD_ENSEMBLES, R2),
    33: PaperFigure("ranking", "Mean MSE, MAE and R² in cross-validation",
                    FOLDS + FOLD_ENSEMBLES, MEANS),
    34: PaperFigure("ranking", "MSE at 80 %", AT_80 + ENSEMBLES_80, MSE),
    35: PaperFigure("ranking", "MAE at 80 %", AT_80 + ENSEMBLES_80, MAE),
    36: PaperFigure("ranking", "R² at 80 %", AT_80 + ENSEMBLES_80, R2),
    37: PaperFigure("ranking", "Mean MSE, MAE and R² at 80 %", AT_80 + ENSEMBLES_80, MEANS),
    38: PaperFigure("fold", "The Hodge numbers in fold 0", fold=0),
    39: PaperFigure("fold", "The Hodge numbers in fold 1", fold=1),
    40: PaperFigure("fold", "The Hodge numbers in fold 2", fold=2),
    41: PaperFigure("fold", "The Hodge numbers in fold 3", fold=3),
    42: PaperFigure("fold", "The Hodge numbers in fold 4", fold=4),
    43: PaperFigure("training", "Training: CNN-GRU and ResNet-GRU models", GRU),
    44: PaperFigure("training", "Training: CNN-LSTM models", CNN_LSTM),
    45: PaperFigure("training", "Training: LSTM models", LSTM),
    46: PaperFigure("training", "Training: the five folds of LSTM-448", FOLDS),
    47: PaperFigure("training", "Retraining at 80 %", RETRAINED),
}  # fmt: skip
NOTES = {
    17: "The paper's caption speaks of validation accuracies; what a training writes down, and "
    "what is shown here, are validation losses.",
}


def make_figures(run_folder: Path | str, target: Path | str) -> dict[str, FigureFile]:
    """Build every figure of the paper for which a run folder has at least one result.

    Args:
        run_folder: results/<run>, finished or not.
        target: folder for figure_01.png and so on, made if missing.

    Returns:
        The number of each figure, as text, and its file. In one figure are only results that may
        be compared (`paper.comparable`). Figures 1, 2 and 38 to 42 show the list of the run's data
        notebook, and are left out when that has not run or its list is not to be had any more. For
        the others see `missing`.
    """
    run_folder, target = Path(run_folder), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    groups = paper.comparable(
        [record for record in paper.collect(run_folder) if record["kind"] != "baseline"]
    )
    data, seed = _list_of(run_folder)
    made = {}
    for number, figure in FIGURES.items():
        if figure.members:
            used, left = _choose(figure, groups)
            label = provenance.joint_label(record["label"] for record in used)
            drawn = _draw_results(number, used, label) if used else None
            caption = _caption(number, used, left)
        else:
            label = provenance.run_label(len(data)) if data else ""
            drawn = distribution(number, data, seed, label) if data else None
            caption = KINDS[figure.kind]
        if drawn is not None:
            path = target / f"figure_{number:02d}.png"
            plots.write(drawn, path)
            made[str(number)] = FigureFile(path, figure.title, caption, label)
    return made


def distribution(number: int, data: Cicy4, seed: int | None, label: str = "") -> Figure:
    """Figure 1, 2 or 38 to 42: the Hodge numbers in a list and in parts of it.

    seed: of the splits, as of ``splits.split_of``.
    """
    figure = FIGURES[number]
    if figure.kind == "two splits":
        both = [split_of(data, name, seed=seed) for name in ("72", "80")]
        parts = {
            f"{part}, {split.name} %": split.parts[part]
            for part in ("train", "test")
            for split in both
        }
        samples = {}
    else:
        samples = {"all": data.hodge}
        if figure.kind == "fold":
            fold = split_of(data, f"fold-{figure.fold}", seed=seed)
            parts = {"training": fold.train, "validation": fold.validation}
        else:
            parts = split_of(data, "72", seed=seed).parts
    samples |= {name: data.hodge[indices] for name, indices in parts.items()}
    return plots.hodge_distributions(samples, title=_title(number), label=label)


def _title(number: int) -> str:
    return f"{FIGURES[number].title} (paper, Fig. {number})"


def missing(made: Iterable[str]) -> dict[str, str]:
    """The figures that are not among those made, and what each of them waits for."""
    made = set(made)
    return {
        str(number): f"{figure.title}; waits for " + _waits_for(figure)
        for number, figure in FIGURES.items()
        if str(number) not in made
    }


def _waits_for(figure: PaperFigure) -> str:
    if not figure.members:
        return f"the notebook {DATA_NOTEBOOK}, and the list that it had"
    names = dict.fromkeys(name for name, _ in figure.members)
    return f"any result of {', '.join(names)}"


def _choose(figure: PaperFigure, groups: list[list[dict]]) -> tuple[list[dict], list[dict]]:
    """The comparable records that a figure can show, in its order, and those that it leaves out.

    Curves need a history, which ensembles and models that were not trained here have not.
    """
    curves = figure.kind in ("losses", "training")
    order = {key: place for place, key in enumerate(figure.members)}
    found = [
        [
            record
            for record in group
            if paper.key(record) in order
            and (not curves or (record["folder"] / records.HISTORY_FILE).is_file())
        ]
        for group in groups
    ]
    found = [group for group in found if group]
    if not found:
        return [], []
    used = sorted(found[0], key=lambda record: order[paper.key(record)])
    return used, [record for group in found[1:] for record in group]


def _draw_results(number: int, used: list[dict], label: str) -> Figure:
    figure, words = FIGURES[number], {"title": _title(number), "label": label}
    if figure.kind in ("losses", "training"):
        runs = [(_name(record), record) for record in used]
        if figure.kind == "training":
            several = len({name for name, _ in runs}) < len(runs)
            runs = [
                (f"{name}, seed {record['seed']}" if several else name, record)
                for name, record in runs
            ]
        histories = [(name, records.read_history(record["folder"])) for name, record in runs]
        draw = plots.loss_curves if figure.kind == "losses" else plots.training_curves
        return draw(histories, **words)
    if figure.kind == "accuracies":
        parts = {"train": "training set", "test": "test set"}
        ours = {text: _ours(used, figure.measures, part) for part, text in parts.items()}
        theirs = {text: _published(figure, part) for part, text in parts.items()}
        return plots.accuracies(ours, theirs, **words)
    return plots.rankings(_ours(used, figure.measures), _published(figure), **words)


def _ours(used: list[dict], measures: tuple[str, ...], part: str = "test") -> pd.DataFrame:
    """One row for every run, NaN where a result has no such part or measure."""
    rows = [record["metrics"].get(part, {}).get("raw", {}) for record in used]
    values = [[row.get(measure) for measure in measures] for row in rows]
    index = [_name(record) for record in used]
    return pd.DataFrame(values, index=index, columns=list(measures), dtype=float)


def _published(figure: PaperFigure, part: str = "test") -> pd.DataFrame:
    """One row for every member of a figure, NaN where nothing was published."""
    table = paper.published()
    prefix = "train_" if part == "train" else ""
    columns = [prefix + measure for measure in figure.measures]
    rows = table.reindex(index=list(figure.members), columns=columns)
    rows = rows.set_axis([name for name, _ in figure.members]).astype(float)
    return rows.rename(columns=lambda name: name.removeprefix("train_"))


def _name(record: dict[str, Any]) -> str:
    return paper.key(record)[0]


def _caption(number: int, used: list[dict], left: list[dict]) -> str:
    """How to read the figure, what is not in it yet, and what may not be compared with it."""
    figure = FIGURES[number]
    sentences = [KINDS[figure.kind], NOTES.get(number, ""), left_out(figure.members)]
    present = {paper.key(record) for record in used}
    if absent := [name for name, share in figure.members if (name, share) not in present]:
        sentences.append(f"No result yet of {', '.join(absent)}.")
    if left:
        names = ", ".join(dict.fromkeys(_name(record) for record in left))
        sentences.append(
            f"Left out, as the configurations, test sets or recipes differ: some of {names}."
        )
    return " ".join(filter(None, sentences))


def _list_of(run_folder: Path) -> tuple[Cicy4 | None, int | None]:
    """The list of the run's data notebook, if it is still to be had, and the seed of its splits."""
    for path in sorted((run_folder / DATA_NOTEBOOK).glob(f"*/{records.METRICS_FILE}")):
        record = records.found_metrics(path.parent)
        if "splits" in record:
            seed = record["splits"]["72"]["seed"]
            return _load(record, seed), seed
    return None, None


def _load(record: dict[str, Any], seed: int | None) -> Cicy4 | None:
    """The list that a record speaks of, if it and its splits are still to be had."""
    try:
        data = load_cicy4(record["data"]["source"], subset=record["data"]["subset"])
        for name in ("72", "80"):
            split_of(data, name, seed=seed)
    except (OSError, ValueError):
        return None
    return data if data.fingerprint == record["data"]["fingerprint"] else None
