"""How the fast recipe was found: every candidate, every seed, one table.

``python -m cicy_utils.exploration`` trains a small LSTM once for each candidate and seed, on part
of the list, and prints one table of everything tried, judged on the validation set; with
``--model Graph-64`` the graph network. It can be stopped and called again; every training goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cicy_utils import data, metrics, models, splits, training
from cicy_utils.data import HODGE_NAMES
from cicy_utils.markdown import markdown_table
from cicy_utils.metrics import ACCURACIES, EVERY_ACCURACY
from cicy_utils.recipes import FAST, GRAPH, PAPER, Recipe
from cicy_utils.records import LIST_SIZE


@dataclass(frozen=True)
class Candidate:
    """A recipe, and the shape of the network, to try.

    Attributes:
        recipe: cut to the length of the exploration.
        shape: of the network, as for ``models.build_model``; what is not named is the model's own.
    """

    recipe: Recipe
    shape: Mapping[str, int] = field(default_factory=dict)


# From the paper's recipe to the fast one, and every change of that one that was tried.
_OF_AN_LSTM: dict[str, Recipe] = {
    "paper": PAPER,
    "paper, learning rate 0.001": PAPER.changed(learning_rate=0.001),
    "paper, learning rate 0.001, targets scaled": PAPER.changed(
        learning_rate=0.001, scale_targets=True
    ),
    "fast": FAST,
    "fast, AdamW": FAST.changed(optimizer="adamw"),
    "fast, AdamW, learning rate 0.006": FAST.changed(optimizer="adamw", learning_rate=0.006),
    "fast, AdamW, learning rate 0.024": FAST.changed(optimizer="adamw", learning_rate=0.024),
    "fast, Huber delta 1": FAST.changed(huber_delta=1.0),
    "fast, Huber delta 0.1": FAST.changed(huber_delta=0.1),
    "fast, Huber delta 0.01": FAST.changed(huber_delta=0.01),
    "fast, Huber delta 0.003, loss weights 1 1 2 8": FAST.changed(
        huber_delta=0.003, loss_weights=(1, 1, 2, 8)
    ),
    "fast, targets as they are": FAST.changed(scale_targets=False),
    "fast, plateau schedule": FAST.changed(schedule="plateau"),
    "fast, plateau schedule, learning rate 0.003": FAST.changed(
        schedule="plateau", learning_rate=0.003
    ),
    "fast, zero rows last": FAST.changed(layout="stored"),
    "fast, descending n": FAST.changed(layout="descending"),
    "fast, descending n, zero rows first": FAST.changed(layout="descending-zeros-first"),
    "fast, learning rate 0.006": FAST.changed(learning_rate=0.006),
    "fast, learning rate 0.024": FAST.changed(learning_rate=0.024),
    "fast, batch 64": FAST.changed(batch_size=64),
    "fast, batch 256": FAST.changed(batch_size=256),
    "fast, batch 512": FAST.changed(batch_size=512),
    "fast, loss weights 1 1 2 2": FAST.changed(loss_weights=(1, 1, 2, 2)),
    "fast, loss weights 2 2 1 1": FAST.changed(loss_weights=(2, 2, 1, 1)),
    "fast, gradients clipped at 0.1": FAST.changed(clip_norm=0.1),
    "fast, weight decay 0": FAST.changed(weight_decay=0.0),
    "fast, weight decay 0.1": FAST.changed(weight_decay=0.1),
    "fast, weights averaged (0.99)": FAST.changed(averaging=0.99),
    "fast, rows and columns shuffled": FAST.changed(shuffle=True),
    "fast, ties shuffled": FAST.changed(shuffle="ties"),
    "fast, bfloat16": FAST.changed(precision="bfloat16"),
}
# What is tried, by the model that it is tried with.
CANDIDATES: dict[str, dict[str, Candidate]] = {
    "LSTM-448": {
        name: Candidate(recipe, {"hidden_size": 128}) for name, recipe in _OF_AN_LSTM.items()
    },
    "Graph-64": {
        "fast": Candidate(GRAPH),
        "fast, AdamW, learning rate 0.001": Candidate(
            GRAPH.changed(optimizer="adamw", learning_rate=0.001)
        ),
        "fast, AdamW, learning rate 0.002": Candidate(
            GRAPH.changed(optimizer="adamw", learning_rate=0.002)
        ),
        "fast, AdamW, learning rate 0.004": Candidate(
            GRAPH.changed(optimizer="adamw", learning_rate=0.004)
        ),
        "fast, learning rate 0.003": Candidate(GRAPH.changed(learning_rate=0.003)),
        "fast, learning rate 0.012": Candidate(GRAPH.changed(learning_rate=0.012)),
        "fast, batch 64": Candidate(GRAPH.changed(batch_size=64)),
        "fast, batch 256": Candidate(GRAPH.changed(batch_size=256)),
        "fast, Huber delta 0.01": Candidate(GRAPH.changed(huber_delta=0.01)),
        "fast, Huber delta 0.03": Candidate(GRAPH.changed(huber_delta=0.03)),
        "fast, loss weights 1 1 1 1": Candidate(GRAPH.changed(loss_weights=(1, 1, 1, 1))),
        "fast, weights averaged (0.99)": Candidate(GRAPH.changed(averaging=0.99)),
        "fast, 32 numbers an entry": Candidate(GRAPH, {"hidden_size": 32}),
        "fast, 6 rounds": Candidate(GRAPH, {"num_layers": 6}),
        "fast, 18 rounds": Candidate(GRAPH, {"num_layers": 18}),
    },
}


def explore(
    candidates: Mapping[str, Candidate],
    seeds: Sequence[int],
    folder: Path,
    *,
    model: str = "LSTM-448",
    hidden_size: int | None = None,
    subset: int = 32_000,
    epochs: int = 5,
    precision: str = "float32",
) -> pd.DataFrame:
    """Train a model by every candidate with every seed, and judge it on the validation set.

    Args:
        candidates: by name; all are cut to the same number of epochs.
        seeds: of the initial weights and the order of the batches; the configurations and their
            split are always the same.
        folder: of the trainings; called again, each goes on where it stopped.
        model: name of a network in ``models.MODELS``.
        hidden_size: of every network; None for that of the candidate.
        subset, epochs: size of the exploration. Its configurations are all of the training set of
            the 72 % split, so that a recipe is not chosen by what will test it.
        precision: where a candidate does not say.

    Returns:
        One row for each candidate and seed: candidate, seed, accuracy_h11, ... accuracy_h22 and
        accuracy_all (percent of the validation set, raw), seconds (of its training); all of these
        NaN where the training has diverged.
    """
    size = "" if hidden_size is None else f", hidden size {hidden_size}"
    kind = f"{subset} configurations, {epochs} epochs, {precision}{size}"
    known = splits.split_72(LIST_SIZE).train  # in random order
    if not 0 < subset <= len(known):
        raise ValueError(f"an exploration has 1 to {len(known):,} configurations, not {subset:,}")
    chosen = np.sort(known[:subset])
    layouts = {candidate.recipe.layout for candidate in candidates.values()}
    lists = {layout: data.load_cicy4(layout=layout, subset=chosen) for layout in layouts}
    split = splits.split_72(subset)
    rows = []
    for seed in seeds:
        for name, candidate in candidates.items():
            recipe, shape = candidate.recipe, dict(candidate.shape)
            if hidden_size is not None:
                shape["hidden_size"] = hidden_size
            cicy4 = lists[recipe.layout]
            cut = {"precision": precision, **recipe.settings, "max_epochs": epochs, "seed": seed}
            network = models.build_model(model, **shape, seed=seed)
            tried = "".join(c if c.isalnum() else "_" for c in f"{name} ({kind})")
            place = folder / model / tried / f"seed-{seed}"
            row = {"candidate": name, "seed": seed}
            try:
                result = training.fit(network, cicy4, split, training.TrainConfig(**cut), place)
            except training.Diverged as error:  # the others can still be compared
                rows.append(row | dict.fromkeys((*EVERY_ACCURACY, "seconds"), np.nan))
                print(f"{name}, seed {seed}: {error}", flush=True)
                if error.interrupted:
                    raise KeyboardInterrupt from error
                continue
            if result.interrupted or result.stop_reason not in training.STOPPED_FOR_GOOD:
                raise KeyboardInterrupt  # called again, it goes on; half a training tells nothing
            predicted = training.predict(network, cicy4.matrices[split.validation])
            table = metrics.evaluate(predicted, cicy4.hodge[split.validation])
            measures = {key: table.loc["raw", key] for key in EVERY_ACCURACY}
            rows.append(row | measures | {"seconds": result.seconds})
            print(f"{name}, seed {seed}: {measures['accuracy_h11']:.1f} % of h11", flush=True)
    return pd.DataFrame(rows)


def summary(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds for every candidate, in the order of its mean over h11, h21, h31, h22.

    Columns besides: seeds (how many), mean (of the four accuracies) and spread (of that mean over
    the seeds: the highest less the lowest). Where a seed has diverged all but their number is NaN.
    """
    trials = trials.assign(mean=trials[ACCURACIES].mean(axis=1))
    groups = trials.groupby("candidate", sort=False)
    table = groups[[*EVERY_ACCURACY, "mean", "seconds"]].agg(lambda each: each.mean(skipna=False))
    table["spread"] = groups["mean"].agg(lambda each: np.ptp(each.to_numpy()))
    table["seeds"] = groups.size()
    return table.sort_values("mean", ascending=False)


def markdown(trials: pd.DataFrame) -> str:
    """The summary as a Markdown table, accuracies in percent, "–" where a seed has diverged."""
    heads = ["recipe", *HODGE_NAMES, "all four", "mean of the four", "spread", "seeds"]
    rows = [
        [
            name,
            *(f"{value:.1f}" for value in row[[*EVERY_ACCURACY, "mean", "spread"]]),
            f"{row['seeds']:.0f}",
        ]
        for name, row in summary(trials).iterrows()
    ]
    rows = [["–" if cell == "nan" else cell for cell in row] for row in rows]
    return markdown_table(heads, rows, words=["recipe"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore, print the table, and write every trial as CSV where asked; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.exploration", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--model", choices=CANDIDATES, default="LSTM-448", help="(%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="CANDIDATE")
    parser.add_argument("--subset", type=int, default=32_000, help="configurations (%(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="of each training (%(default)s)")
    parser.add_argument("--hidden-size", type=int, help="of every network (the candidate's)")
    parser.add_argument("--precision", default="float32", help="as of TrainConfig (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("results/recipes"))
    parser.add_argument("--output", type=Path, help="a CSV file for every trial")
    options = parser.parse_args(arguments)
    candidates = CANDIDATES[options.model]
    if unknown := set(options.only or ()) - set(candidates):
        parser.error(f"no candidates {sorted(unknown)}; choose of {list(candidates)}")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"there is no folder {options.output.parent}")
    try:
        trials = explore(
            {name: candidates[name] for name in options.only or candidates},
            options.seeds,
            options.folder,
            model=options.model,
            hidden_size=options.hidden_size,
            subset=options.subset,
            epochs=options.epochs,
            precision=options.precision,
        )
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    print(markdown(trials))
    if options.output:
        trials.round(4).to_csv(options.output, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
