"""Tables of a report: styled for a browser, read from the record of a run (metrics.json).

Every table of anything but the paper's recipe carries the label of its run in the caption.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.io.formats.style import Styler
from torch import nn

from cicy_utils import (
    cross_validation,
    ensembles,
    metrics,
    paper,
    prediction,
    provenance,
    recipes,
    records,
    topology,
)
from cicy_utils.data import HODGE_NAMES, Cicy4, crop
from cicy_utils.durations import duration
from cicy_utils.models import describe
from cicy_utils.records import Predictions
from cicy_utils.splits import Split

# Superscripts in plain HTML: a page opens without a network, so without a formula renderer.
SYMBOLS = {name: f"<i>h</i><sup>{name[1]},{name[2]}</sup>" for name in HODGE_NAMES}
PARTS = {
    "train": "training",
    "out_of_fold": "out of fold",
    "validation": "validation",
    "test": "test",
    "constant": f"{paper.CONSTANT} (test)",
}
STOP_REASONS = {
    "converged": "no better validation loss for the whole patience",
    "max_epochs": "all epochs done",
    "time_limit": "time limit",
    "interrupted": "interrupted",
}
# Sizes of an error that share a row: edges, the lower one excluded.
ERRORS = [-1, 0, 1, 2, 5, 10, 20, 50, float("inf")]
ERROR_NAMES = ["right", "1", "2", "3 to 5", "6 to 10", "11 to 20", "21 to 50", "more than 50"]
H22 = HODGE_NAMES.index("h22")
FARTHEST = 10  # test configurations in the table of the largest errors
NOTATION_WIDTH = 40  # characters of a configuration matrix in a table
LABEL_WIDTH = 100  # characters of a line of a caption: tables are narrow
NAMES_WIDTH = 60  # likewise, of names in a cell
CSS = [
    {
        "selector": "caption",
        "props": "caption-side: top; text-align: left; padding: 0.3em 0; white-space: nowrap;",
    },
    {"selector": "th, td", "props": "padding: 0.25em 0.9em; white-space: nowrap;"},
    {"selector": "th.row_heading", "props": "text-align: left; font-weight: normal;"},
    {"selector": "th.col_heading", "props": "text-align: right;"},
    {"selector": "th.col_heading[colspan]", "props": "text-align: center;"},
]


def style(frame: pd.DataFrame, caption: str, label: str = "", *, decimals: int = 2) -> Styler:
    """A table to show: Hodge symbols in the headers, aligned numbers, the run's label on top.

    Columns and rows named after a Hodge number (h11) show its symbol; a RangeIndex is hidden.
    """
    if label:
        caption = f"{caption}<br><b>{_wrapped(label, LABEL_WIDTH)}</b>"
    shown = frame.rename(columns=_symbol, index=_symbol).rename_axis(None)
    floats = shown.select_dtypes("float").columns
    styled = (
        shown.style.format(precision=decimals, thousands=",", na_rep="–")
        .format(lambda value: f"{_rounded(value, decimals):,.{decimals}f}", floats, na_rep="–")
        .set_caption(caption)
        .set_table_styles(CSS)
        .set_properties(**{"text-align": "right"})
    )
    words = [column for column in shown if shown[column].map(lambda v: isinstance(v, str)).any()]
    left = [{"selector": "th.col_heading, td", "props": "text-align: left !important;"}]
    styled = styled.set_table_styles({column: left for column in words}, overwrite=False)
    return styled.hide(axis="index") if isinstance(frame.index, pd.RangeIndex) else styled


def _wrapped(text: str, width: int) -> str:
    """In lines of so many characters at most, as neither captions nor cells wrap by themselves."""
    return "<br>".join(textwrap.wrap(text, width))


def headline(record: dict[str, Any]) -> Styler:
    """Test accuracies: published, this run, and always the same answer.

    Of retrained weights also those of the checkpoint that they started from.
    """
    table = paper.headline(record["model"], record["metrics"], paper.key(record)[1])
    if before := record["metrics"].get("test_before"):
        row = pd.Series(before["raw"]).reindex(table.columns)
        table = pd.concat([table.iloc[:3], row.to_frame("before retraining").T, table.iloc[3:]])
    size = record["split"]["sizes"]["test"]
    caption = f"{record['model']}: exactly right of {size:,} test configurations, in percent"
    return style(_accuracies(table), caption, record["label"])


def beside_paper(record: dict[str, Any]) -> Styler:
    """Accuracy, MSE, MAE and R2 of the test part: published, ours, and the constant prediction."""
    table = paper.beside_ours(record["model"], record["metrics"], paper.key(record)[1])
    table["constant"] = pd.Series(record["metrics"]["constant"]["raw"])
    names = {"accuracy": "accuracy (%)", "mse": "MSE", "mae": "MAE", "r2": "R<sup>2</sup>"}
    table.index = pd.MultiIndex.from_tuples(row.split("_") for row in table.index)
    table = table.unstack(0).swaplevel(axis=1)
    table = table.loc[[*HODGE_NAMES, "mean"], [(m, who) for m in names for who in table[m]]]
    table = table.rename(columns=names)
    return style(table, "Test part, rounded predictions", record["label"], decimals=3)


def decodings(record: dict[str, Any]) -> Styler:
    """Test accuracies of the decodings, for this run and for the constant prediction.

    The last column is what each adds, for all four numbers, to rounding them one by one.
    """
    measured = record["metrics"]
    ours, constant = (_with_gain(measured[part]) for part in ("test", "constant"))
    table = pd.concat([ours, constant.rename(index=lambda name: f"{paper.CONSTANT}, {name}")])
    return style(table, "Test accuracy (%) by decoding", record["label"])


def published_weights(record: dict[str, Any]) -> Styler:
    """Test accuracies of the project's weights by decoding: those of their file, and measured."""
    sides = {"published": "in its file", "here": "measured here"}
    rows = {
        f"{_published_name(entry)}, {decoding}, {words}": entry[side][decoding]
        for entry in record["published"]
        for decoding in entry["here"]
        for side, words in sides.items()
    }
    table = pd.DataFrame(rows, index=metrics.EVERY_ACCURACY).T
    return style(_accuracies(table), "Test accuracy (%) of the project’s weights", record["label"])


def published_files(record: dict[str, Any]) -> Styler:
    """Folder and checksum of the published weights, and how much of the test set was drawn."""
    rows = {
        _published_name(entry): {
            "folder in results/reference": entry["folder"],
            "test configurations": f"{entry['part']:,} of {entry['test']:,}",
            "sha256": entry["sha256"][:16],
        }
        for entry in record["published"]
    }
    return style(pd.DataFrame(rows).T, "The project’s weights", record["label"])


def _published_name(entry: dict[str, Any]) -> str:
    """Result and variant, as one recipe can have several: "LSTM-448-fast (fast-42)"."""
    return f"{entry['name']} ({entry['folder'].rsplit('/', 1)[-1]})"


def permuted(record: dict[str, Any]) -> Styler:
    """Raw test accuracies with matrices as laid out and in random order."""
    parts = record["metrics"]
    table = pd.DataFrame(
        {
            "as laid out": parts["test"]["raw"],
            "rows and columns permuted": parts["test_permuted"]["raw"],
            paper.CONSTANT: parts["constant"]["raw"],
        }
    ).T
    return style(_accuracies(table), "Test accuracy (%) by order of the matrix", record["label"])


def parts(record: dict[str, Any]) -> Styler:
    """Raw accuracies of the parts of the split: the gap is what is learned by heart.

    Where weights were not trained on all of the training set, its row tells on how much.
    """
    measured, names = record["metrics"], dict(PARTS)
    size = record["split"]["sizes"]["train"]
    if (seen := record["seen"]["train"]) < size:
        names["train"] += f" ({seen:,} of {size:,} trained on)"
    rows = {name: measured[part]["raw"] for part, name in names.items() if part in measured}
    caption = "Accuracy (%) by part of the split, raw predictions"
    return style(_accuracies(pd.DataFrame(rows).T), caption, record["label"])


def seeds(run_dirs: Sequence[Path]) -> Styler:
    """Raw test accuracies of the same training from several seeds, with median and range.

    ValueError when they were not judged by the same test set, or two have the same seed.
    """
    runs = [records.read_metrics(folder) | {"folder": folder} for folder in run_dirs]
    paper.require_same_test(runs)
    records.require_seeds([run["seed"] for run in runs])
    rows = {f"seed {run['seed']}": run["metrics"]["test"]["raw"] for run in runs}
    table = _accuracies(pd.DataFrame(rows).T)
    if len(runs) > 1:
        table = pd.concat([table, table.agg(["median", "min", "max"])])
        table = table.rename(index={"min": "lowest", "max": "highest"})
    constant = _accuracies(pd.DataFrame(runs[0]["metrics"]["constant"]).T).loc["raw"]
    table.loc[paper.CONSTANT] = constant
    label = provenance.joint_label(run["label"] for run in runs)
    return style(table, f"{runs[0]['model']}: test accuracy (%) by seed", label)


def published_and_ours(
    results: Mapping[str, Mapping[str, float]], split: int, caption: str, label: str = ""
) -> Styler:
    """Test accuracies of several results: published, ours and the difference, ours less published.

    results: name of a result to its raw metrics; None for one that is not there yet. Published is
        that of the paper's result of this name, whatever the recipe.
    split: 72 or 80, of the published ones.
    """
    ours = pd.DataFrame({name: row or {} for name, row in results.items()}).T
    ours = ours.reindex(columns=metrics.EVERY_ACCURACY).astype(float)
    theirs = paper.published().xs(split, level="split")
    theirs = theirs.reindex(index=map(recipes.network, ours.index), columns=metrics.ACCURACIES)
    theirs.index = ours.index
    difference = ours[metrics.ACCURACIES] - theirs
    sides = {"published": theirs, "ours": ours, "difference": difference}
    table = pd.concat({side: _short(part) for side, part in sides.items()}, axis=1)
    if not ours.notna().any(axis=None):
        return style(table[["published"]], caption, label)
    styled = style(table, f"{caption}; differences are of the numbers before rounding", label)
    return styled.format(_signed, subset=["difference"], na_rep="–")


def folds(found: Mapping[Path, dict[str, Any]]) -> Styler:
    """Test accuracies of the folds that are done, beside Table 6 of the paper.

    ValueError when they were not judged by the same test set.
    """
    paper.require_same_test(list(found.values()))
    results = {record["model"]: record["metrics"]["test"]["raw"] for record in found.values()}
    label = provenance.joint_label(record["label"] for record in found.values())
    return published_and_ours(results, 72, "Test accuracy (%) of each fold (paper, Table 6)", label)


def out_of_fold(found: Mapping[Path, dict[str, Any]]) -> Styler:
    """Accuracies of each fold on the piece it was not trained on, and of all pieces together."""
    rows = {
        record["model"]: {"configurations": record["split"]["sizes"]["validation"]}
        | record["metrics"]["out_of_fold"]["raw"]
        for record in found.values()
    }
    if len(found) > 1:
        together = cross_validation.out_of_fold(list(found))
        measured = metrics.evaluate(together.predictions, together.labels).loc["raw"]
        rows["together"] = {"configurations": len(together.indices), **measured}
    table = pd.DataFrame(rows).T
    shown = _accuracies(table)
    shown.insert(0, "configurations", table["configurations"].astype(int))
    label = provenance.joint_label(record["label"] for record in found.values())
    return style(shown, "Accuracy (%) out of fold", label)


def members(found: Mapping[str, ensembles.Members], label: str = "") -> Styler:
    """Which results may join the ensembles of each split, and what keeps the others out."""
    rows = []
    for split, there in found.items():
        alike: dict[str, list[str]] = {}  # a row for each reason, and not for each result
        for name, reason in there.left_out.items():
            alike.setdefault(reason, []).append(name)
        answers = [
            *((name, f"yes ({member.place})") for name, member in there.members.items()),
            *((_wrapped(", ".join(names), NAMES_WIDTH), reason) for reason, names in alike.items()),
        ]
        rows += [
            {"test set of": f"{split} %", "result": name, "takes part": answer}
            for name, answer in answers
        ]
    table = pd.DataFrame(rows, columns=["test set of", "result", "takes part"])
    return style(table, "Results of this run folder", label)


def paper_ensembles(record: dict[str, Any], entries: Sequence[dict], split: str) -> Styler:
    """The paper's ensembles on one split: published accuracies, ours, and what is missing."""
    ours = {entry["name"]: entry["metrics"]["test"]["raw"] for entry in entries}
    results = {name: ours.get(name) for name, e in ensembles.PAPER.items() if e.split == split}
    caption = f"Test accuracy (%) of the paper's ensembles, {split} % split"
    missing = {name: gone for name, gone in record["missing"].items() if name in results}
    if missing.keys() == results.keys():
        gone = ", ".join(dict.fromkeys(name for names in missing.values() for name in names))
        caption += "<br>" + _wrapped(f"None can be made here: there is no {gone}", LABEL_WIDTH)
    else:
        for name, gone in missing.items():
            caption += f"<br>{name} is missing: there is no {', no '.join(gone)}"
    label = _label(record, (entry["members"] for entry in entries if entry["name"] in results))
    return published_and_ours(results, int(split), caption, label)


def climbs(record: dict[str, Any]) -> Styler:
    """The weights that hill climbing chose, and which results it was not allowed to use."""
    rows = [
        {"ensemble": f"Climb-{split}", "member": name, "weight": weight, "why not": ""}
        for split, climb in record["climbs"].items()
        for name, weight in climb["weights"].items()
    ]
    rows += [
        {"ensemble": f"Climb-{split}", "member": name, "weight": None, "why not": reason}
        for split, climb in record["climbs"].items()
        for name, reason in climb["left_out"].items()
    ]
    table = pd.DataFrame(rows, columns=["ensemble", "member", "weight", "why not"])
    table["weight"] = table["weight"].astype(float)
    if not table["why not"].any():
        table = table.drop(columns="why not")
    label = _label(record, (climb["weights"] for climb in record["climbs"].values()))
    return style(table, "Hill climbing on the validation set", label, decimals=3)


def climbed(record: dict[str, Any], entries: Sequence[dict[str, Any]]) -> Styler:
    """Test accuracies of the ensembles that hill climbing found, in all decodings, with the gain.

    entries: of ensembles.json.
    """
    chosen = [entry for entry in entries if entry["chosen_by"] == "validation"]
    measured = {
        f"{entry['name']}, {decoding}": gained
        for entry in chosen
        for decoding, gained in _with_gain(entry["metrics"]["test"]).iterrows()
    }
    table = pd.DataFrame(measured).T
    label = _label(record, (entry["members"] for entry in chosen))
    return style(table, "Test accuracy (%) of hill climbing by decoding", label)


def picks(record: dict[str, Any]) -> Styler:
    """Test accuracies of what test accuracy would pick, and of what validation picked."""
    rows = [
        {"split": f"{split} %", "picked": how, "pick": pick["name"], **pick["test"]}
        for split, by in record["picks"].items()
        for how, pick in by.items()
    ]
    names = ["split", "picked", "pick"]
    table = pd.DataFrame(rows, columns=[*names, *metrics.EVERY_ACCURACY])
    shown = pd.concat([table[names], _accuracies(table)], axis=1)
    label = _label(
        record, (pick["members"] for by in record["picks"].values() for pick in by.values())
    )
    return style(shown, "Test accuracy (%) by how a result was picked", label)


def misses(predictions: Predictions, label: str = "") -> Styler:
    """How many test configurations are missed by how much, for each Hodge number."""
    counts = metrics.misses(predictions.predictions, predictions.labels)
    table = counts.groupby(pd.cut(counts.index, ERRORS, labels=ERROR_NAMES), observed=True).sum()
    return style(table, "Test configurations by size of the error", label)


def largest_errors(predictions: Predictions, data: Cicy4, label: str = "") -> Styler:
    """The test configurations farthest off in h22, and their shares of its mean squared error.

    data: the list that the indices of the predictions belong to.
    """
    rounded = metrics.decode(predictions.predictions, "raw")
    errors = rounded[:, H22] - predictions.labels[:, H22]
    squares = errors.astype(float) ** 2  # the sum of some is no 64-bit integer
    farthest = np.argsort(-squares, kind="stable")[: min(FARTHEST, np.count_nonzero(squares))]
    shares = 100 * squares[farthest] / max(squares.sum(), 1)
    table = pd.DataFrame(
        {
            "configuration": [*map(_notation, data.matrices[predictions.indices[farthest]])],
            "exact": [*map(_quadruple, predictions.labels[farthest])],
            "network": [*map(_quadruple, rounded[farthest])],
            "share (%)": shares,
        }
    )
    caption = (
        f"Test configurations with the largest error in {SYMBOLS['h22']}, and their shares of its "
        f"mean squared error: {shares.sum():.1f} % together"
    )
    return style(table, caption, label)


def _notation(matrix: np.ndarray) -> str:
    """[1 | 1 1], [5 | 1 5], or how many rows and columns there are where that would be long."""
    matrix = crop(matrix)
    rows = (f"[{row.sum() - 1} | {' '.join(map(str, row))}]" for row in matrix)
    text = ", ".join(rows)
    return text if len(text) <= NOTATION_WIDTH else "{} × {} matrix".format(*matrix.shape)


def _quadruple(numbers: np.ndarray) -> str:
    return f"({', '.join(f'{number:,}' for number in numbers)})"


def architecture(model: nn.Module, label: str = "") -> Styler:
    """The layers in the order in which they run, with output shapes and trainable weights."""
    layers = describe(model)
    total = pd.DataFrame([{"layer": "total", "weights": layers["weights"].sum()}])
    table = pd.concat([layers, total], ignore_index=True).fillna("")
    table["output"] = table["output"].str.replace(" x ", " × ")
    return style(table, "Layers, output for one configuration, trainable weights", label)


def exact(configurations: Mapping[str, ArrayLike], label: str = "") -> Styler:
    """Exact Hodge and Euler numbers of four-folds, one row a configuration matrix."""
    rows = {
        name: [*topology.hodge_numbers(matrix), topology.euler_number(matrix)]
        for name, matrix in configurations.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*HODGE_NAMES, "χ"])
    return style(table, "Exact, computed from the configuration matrix", label)


def example(matrix: ArrayLike, run_dir: Path, label: str = "") -> Styler:
    """What a trained network says of one configuration matrix, beside the exact numbers."""
    table = prediction.predict(matrix, run_dir)
    return style(table, "One configuration, predicted and exact", label)


def splits(all_splits: Sequence[Split], label: str = "") -> Styler:
    """Sizes of the parts beside the published ones, shared configurations, start of each sha256."""
    rows = {}
    for split in all_splits:
        sizes = split.sizes
        distinct = len(np.unique(np.concatenate(list(split.parts.values()))))
        starts = " ".join(sha[:8] for sha in split.fingerprints.values())
        rows[split.name] = sizes | {
            "in two parts": sum(sizes.values()) - distinct,
            "sha256": starts,
        }
        if split.name in paper.SPLIT_SIZES:
            rows[f"{split.name}, published"] = paper.SPLIT_SIZES[split.name]
    table = pd.DataFrame.from_dict(rows, orient="index").astype(
        {name: "Int64" for name in ("train", "validation", "test", "in two parts")}
    )
    return style(table, "Number of configurations in each part", label)


def list_statistics(record: dict[str, Any]) -> Styler:
    """Hodge and Euler numbers of the list, beside what was published."""
    statistics = record["statistics"]
    rows = {}
    for name in ("mean", "minimum", "maximum"):
        rows[name] = statistics[name]
        rows[f"{name}, published"] = paper.LIST_STATISTICS[name]
    rows["distinct values"] = statistics["distinct"]
    table = pd.DataFrame.from_dict(rows, orient="index").rename(columns={"euler": "χ"})
    styled = style(table, f"{statistics['configurations']:,} configurations", record["label"])
    integers = [row for row in table.index if not row.startswith("mean")]
    styled = styled.format("{:,.0f}", subset=(integers, slice(None)), na_rep="–")
    # With the digits that were published.
    return styled.format("{:g}", subset=(["mean, published"], slice(None)), na_rep="–")


def list_sizes(record: dict[str, Any]) -> Styler:
    """How many matrices have so many rows, and so many columns."""
    statistics = record["statistics"]
    table = pd.DataFrame({kind: statistics[kind] for kind in ("rows", "columns")})
    table = table.fillna(0).astype(int).sort_index(key=lambda sizes: sizes.astype(int))
    caption = (
        "Matrices with so many rows, and with so many columns.<br>"
        f"Largest entry {statistics['largest_entry']}, "
        f"{100 * statistics['favourable']:.2f} % favourable, "
        f"{statistics['distinct_quadruples']:,} distinct quadruples of Hodge numbers"
    )
    return style(table, caption, record["label"])


def list_faults(record: dict[str, Any]) -> Styler:
    """How many configurations break a rule: zeros, if all is well."""
    table = pd.DataFrame({"configurations": record["faults"]})
    for name, symbol in SYMBOLS.items():
        table.index = table.index.str.replace(name, symbol)
    return style(table, "Number of configurations whose", record["label"])


def baselines(found: Sequence[dict[str, Any]]) -> Styler:
    """Test accuracies of what needs no network, at the 72 % split, in all decodings."""
    chosen = [record for record in found if paper.key(record)[1] == 72]
    shown = pd.concat(
        _with_gain(record["metrics"]["test"])
        .assign(**{"learned from": record["training"]["configurations"]})
        .rename(index=lambda decoding, model=record["model"]: f"{model}, {decoding}")
        for record in chosen
    )
    return style(shown, "Test accuracy (%), and number of configurations learned from",
                 chosen[0]["label"])  # fmt: skip


def run_facts(record: dict[str, Any]) -> Styler:
    """Run time, hardware, versions, sizes and fingerprints of a run that trained a model."""
    training, split = record["training"], record["split"]
    reason = STOP_REASONS.get(training["stop_reason"], training["stop_reason"])
    sizes = ", ".join(f"{size:,} {part}" for part, size in split["sizes"].items())
    name = f"{split['name']} %" if split["name"].isdigit() else split["name"]
    drawn = "as published" if split["seed"] is None else f"seed {split['seed']}"
    facts = {
        "training": f"{training['epochs']:,} epochs in {duration(training['seconds'])}: {reason}",
        "best epoch": f"{training['best_epoch']:,}, "
        f"validation loss {training['best_validation_loss']:.4g}",
        "device": f"{training['device']}, {record['settings']['precision']}",
        "seed": record["seed"],
        "split": f"{name}, {drawn}: {sizes}",
        **{f"{part}, sha256": sha for part, sha in split["fingerprints"].items()},
    }
    if "checkpoint" in record:
        facts = {"checkpoint": record["checkpoint"]} | facts
    return _facts(facts | _machine(record), record["label"])


def machine_facts(record: dict[str, Any]) -> Styler:
    """Data, hardware and versions of a run."""
    return _facts(_machine(record), record["label"])


def _machine(record: dict[str, Any]) -> dict[str, str]:
    data = record["data"]
    return {
        "configurations": f"{data['configurations']:,} ({data['source']}, layout {data['layout']})",
        "fingerprint of the list": data["fingerprint"],
        **provenance.machine_facts(record["environment"]),
    }


def _label(record: dict[str, Any], groups: Iterable[Iterable[str]]) -> str:
    """Of a table of ensembles: how much of the list was drawn, and the labels of their members."""
    drawn = provenance.run_label(record["data"]["configurations"])
    names = dict.fromkeys(itertools.chain.from_iterable(groups))
    own = provenance.members_label({name: record["members"][name] for name in names})
    return provenance.joint_label([drawn, own])


def _signed(number: float) -> str:
    number = _rounded(number, 2)
    return f"{number:+.2f}".replace("-", "−") if number else "0.00"


def _rounded(number: float, decimals: int) -> float:
    return round(number, decimals) + 0.0  # which makes a zero of -0.0


def _facts(facts: dict[str, Any], label: str) -> Styler:
    return style(pd.DataFrame({"": facts}), "This run", label).hide(axis="columns")


def _with_gain(measured: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Accuracies by decoding; "gain" is in all four right, in percentage points, over raw."""
    table = _accuracies(pd.DataFrame(measured).T)
    return table.assign(gain=table["all four"] - table["all four"].get("raw", math.nan))


def _accuracies(table: pd.DataFrame) -> pd.DataFrame:
    return _short(table[metrics.EVERY_ACCURACY].astype(float))


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """With columns h11, ... and "all four" instead of accuracy_h11, ... and accuracy_all."""
    table = table.rename(columns={"accuracy_all": "all four"})
    return table.rename(columns=lambda name: name.removeprefix("accuracy_"))


def _symbol(name: Any) -> Any:
    return SYMBOLS.get(name, name) if isinstance(name, str) else name
