"""The README: its examples run, its numbers come from files, its files exist."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from cicy_utils import (
    baselines,
    benchmark,
    checkpoint,
    config,
    exploration,
    metrics,
    models,
    paper,
    prediction,
    recipes,
    records,
    reference,
    topology,
    training,
)
from cicy_utils.data import HODGE_NAMES, Cicy4, crop, load_cicy4
from cicy_utils.durations import duration
from cicy_utils.markdown import markdown_table
from cicy_utils.metrics import ACCURACIES
from cicy_utils.splits import split_72
from cicy_utils.verification import recorded_statistics

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    page: (ROOT / page).read_text(encoding="utf-8")
    for page in (
        "README.md",
        "cicy_utils/README.md",
        "cicy_utils/batch/README.md",
        "data/README.md",
        "results/README.md",
        "results/reference/README.md",
        "tests/README.md",
    )
}
README, REFERENCE = PAGES["README.md"], PAGES["results/reference/README.md"]
WORDS, REFERENCE_WORDS = (" ".join(page.split()) for page in (README, REFERENCE))
BEST, LSTM = "18_graph_64/fast-57", "11_lstm_448/fast-65"
WITH_ADAMW, FIRST_WITH_MUON = "11_lstm_448/fast-43", "11_lstm_448/fast-64"  # its stages before
LATE = ["18_graph_64/fast-53", "18_graph_64/fast-55", BEST]  # the last of its stages
ANEW = "18_graph_64/fast-56"  # from fresh weights on one core, with Muon
AGAIN = "18_graph_64/fast-58"  # likewise, with another seed
QUICKEST = "18_graph_64/fast-51"  # on an H100, without
RETRAINED = "14_retraining/Graph-64-d80-fast"
LONGER = "18_graph_64/fast-61"  # likewise trained on, without the larger training set
ON_THE_FRONT_PAGE = ("training", "steps", "graph", "topology")  # the other tables: REFERENCE
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}
WITH_MUON = "11_lstm_448/fast-59"  # LSTM-448 from fresh weights
TRAININGS = [LSTM, WITH_MUON, BEST, ANEW, AGAIN, QUICKEST, RETRAINED, LONGER]


def test_examples_give_what_is_shown():
    examples = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    result = runner.run(parser.get_doctest(examples, {}, "README.md", "README.md", 0))
    assert result.attempted >= 8
    assert result.failed == 0


def test_a_network_of_one_s_own_trains_as_shown(tmp_path, monkeypatch, capsys):
    (script,) = (
        code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if ">>>" not in code
    )
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[-4:]} == set(metrics.DECODINGS)
    assert (tmp_path / "results" / "small" / checkpoint.WEIGHTS_FILE).exists()


def test_a_network_of_the_paper_s_kinds_needs_a_line(monkeypatch):
    line = re.search(r"`(models.MODELS\[.*?\))`", WORDS)[1]
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    exec(line, {"models": models})
    assert models.build_model("My-GRU").spec == models.ModelSpec("cnn", "gru", 320)


def statistics_table(found: dict) -> str:
    """Mean, extremes and number of values of every Hodge number."""
    rows = {
        "mean": [f"{found['mean'][name]:.4f}" for name in HODGE_NAMES],
        "least": [f"{found['minimum'][name]:,}" for name in HODGE_NAMES],
        "most": [f"{found['maximum'][name]:,}" for name in HODGE_NAMES],
        "distinct values": [f"{found['distinct'][name]:,}" for name in HODGE_NAMES],
    }
    symbols = [f"$h^{{{name[1]},{name[2]}}}$" for name in HODGE_NAMES]
    head = [f"{found['configurations']:,} configurations", *symbols]
    return markdown_table(head, [[name, *row] for name, row in rows.items()], words=head[:1])


def test_statistics_are_the_recorded_ones():
    assert between("statistics") == statistics_table(recorded_statistics())


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("training on a gpu", "benchmark_gpu_training.json"),
        ("steps on a gpu", "benchmark_gpu_steps.json"),
    ],
)
def test_speed_on_a_gpu_is_the_benchmark_s_own_output(part, file):
    content = json.loads((ROOT / "results" / "reference" / file).read_text())
    assert between(part) == benchmark.markdown(content)


def test_speed_is_the_benchmark_s_own_output():
    content = json.loads((ROOT / "results" / "reference" / "benchmark.json").read_text())
    front = {part: content.pop(part) for part in ON_THE_FRONT_PAGE}
    of_both = {part: content[part] for part in ("machine", "notes")}
    assert between("speed") == benchmark.markdown(front | of_both)
    assert between("speed", REFERENCE) == benchmark.markdown(content)


@pytest.mark.parametrize(
    ("part", "file", "model"),
    [
        ("recipes", "recipes.csv", "LSTM-448"),
        ("recipes of the graph", "recipes_graph.csv", "Graph-64"),
    ],
)
def test_recipes_are_the_exploration_s_own_table(part, file, model):
    trials = pd.read_csv(ROOT / "results" / "reference" / file)
    assert between(part, REFERENCE) == exploration.markdown(trials)
    assert exploration.summary(trials)["seeds"].min() >= 3
    assert set(trials["candidate"]) == set(exploration.CANDIDATES[model])


def test_what_the_text_says_of_a_longer_exploration_is_in_its_table():
    short, longer = (
        pd.read_csv(ROOT / "results" / "reference" / file)
        for file in ("recipes.csv", "recipes_longer.csv")
    )
    assert between("recipes, longer", REFERENCE) == exploration.markdown(longer)
    loss = "fast, Huber delta 0.003, loss weights 1 1 2 8"
    (before, _), (after, seeds) = (
        exploration.summary(trials).loc[["fast", loss], ["mean", "seeds"]].T.to_numpy()
        for trials in (short, longer)
    )
    assert seeds.tolist() == [3, 3]
    assert before[0] - before[1] > after[0] - after[1] > 0  # "costs less, and is still no gain"


def test_what_the_text_says_of_ties_is_in_the_tables():
    files = ("recipes.csv", "recipes_longer.csv", "recipes_longest.csv")
    tables = [pd.read_csv(ROOT / "results" / "reference" / file) for file in files]
    assert between("recipes, longest", REFERENCE) == exploration.markdown(tables[-1])
    summaries = [exploration.summary(trials) for trials in tables]
    assert all((table["seeds"] == 3).all() for table in summaries)
    fast, ties = ([t["mean"][name] for t in summaries] for name in ("fast", "fast, ties shuffled"))
    five, twenty, sixty = (one - other for one, other in zip(ties, fast, strict=True))
    assert (
        f"costs {-five:.1f} points of the mean in 5 epochs and {-twenty:.1f} in 20, and gains "
        f"{sixty:.1f} in 60"
    ) in REFERENCE_WORDS
    assert abs(fast[2] - fast[1]) < 0.5  # "does nothing more for *fast*"
    assert "all of it on $h^{1,1}$ and $h^{2,1}$, and costs" in WORDS
    assert "all of the gain is on $h^{1,1}$ and $h^{2,1}$:" in REFERENCE_WORDS
    gains = summaries[-1].loc["fast, ties shuffled"] - summaries[-1].loc["fast"]
    assert [gains[name] > 0 for name in ACCURACIES] == [True, True, False, False]
    assert f"gains {sixty:.1f} points of the mean in 60 epochs" in WORDS
    assert f"and costs {-five:.1f} in 5;" in WORDS


def test_the_few_recipes_of_the_front_page_are_rows_of_that_table():
    trials = pd.read_csv(ROOT / "results" / "reference" / "recipes.csv")
    names = re.findall(r"^\| (\w.*?) \|", between("recipes"), re.MULTILINE)[1:]
    assert {"fast", "paper"} < set(names)
    assert between("recipes") == exploration.markdown(trials[trials["candidate"].isin(names)])


def trainings_table() -> str:
    """The trainings on the complete list, of stages all together."""
    rows = []
    for folder in TRAININGS:
        stages = stages_of(folder)
        begun = "fresh weights" if len(stages) == 1 else f"fresh weights, {len(stages)} stages"
        if folder in (RETRAINED, LONGER):
            begun, stages = f"`{Path(stages[-1]['checkpoint']).name}`", stages[-1:]
        optimizers = dict.fromkeys(config.complete(s["settings"])["optimizer"] for s in stages)
        kept = (ROOT / "results/reference" / folder / checkpoint.SMALL_WEIGHTS_FILE).exists()
        rows.append(
            {
                "training": f"[`{Path(folder).name}`](results/reference/{folder}/notebook.ipynb)",
                "network": recipes.network(stages[-1]["model"]).removesuffix("-d80"),
                "begun from": begun,
                "optimizer": ", then ".join(OPTIMIZERS[name] for name in optimizers),
                "epochs": str(sum(stage["training"]["epochs"] for stage in stages)),
                "time": duration(sum(stage["training"]["seconds"] for stage in stages)),
                "device": {"cpu": "CPU"}.get(stages[-1]["training"]["device"], "H100"),
                "weights here": "yes" if kept else "no",
            }
        )
    words = ["training", "network", "begun from", "optimizer", "device", "weights here"]
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows], words=words)


def test_the_trainings_are_those_of_the_files():
    assert between("trainings") == trainings_table()


def test_published_weights_are_the_committed_ones():
    assert between("reference") == reference.markdown(reference.find(ROOT / "results/reference"))


def stages_table(folder: str) -> str:
    """The trainings that led to some weights, with raw accuracies on the validation set."""
    rows = []
    for record in stages_of(folder):
        settings, training = config.complete(record["settings"]), record["training"]
        right = record["metrics"]["validation"]["raw"]
        rows.append(
            {
                "stage": f"`{record['variant']}`",
                "epochs": str(training["epochs"]),
                "optimizer": OPTIMIZERS[settings["optimizer"]],
                "learning rate": f"{settings['learning_rate']:g}",
                "Huber delta": f"{settings['huber_delta']:g}",
                "loss weights": " ".join(f"{weight:g}" for weight in settings["loss_weights"]),
                "hours": f"{training['seconds'] / 3600:.1f}",
                **{name: f"{right[f'accuracy_{name}']:.2f}" for name in HODGE_NAMES},
            }
        )
    cells = [list(row.values()) for row in rows]
    return markdown_table(list(rows[0]), cells, words=["stage", "optimizer", "loss weights"])


@pytest.mark.parametrize(
    ("part", "folder"), [("stages", BEST), ("stages of the LSTM", LSTM)], ids=["graph", "LSTM"]
)
def test_the_stages_are_those_of_the_weights(part, folder):
    assert between(part, REFERENCE) == stages_table(folder)


def test_the_table_of_accuracies_has_published_and_measured_ones():
    at_72, at_80 = (paper.published().xs(split, level="split") for split in (72, 80))
    alone = at_72["parameters_millions"].notna()  # the others are ensembles, or folds
    at_72, at_80 = at_72[ACCURACIES], at_80[ACCURACIES]
    twelve, ensembles = at_72[alone], at_72.index.str.startswith("Ens")
    folds = at_72[at_72.index.str.contains(r"-f\d$")]
    alone_at_80 = at_80[~at_80.index.str.startswith("Ens")]
    assert len(twelve) == 12
    rows = {
        "always the most frequent value | 72 %": accuracies_of(BEST, "constant"),
        "the best of the paper's twelve networks, CNN-LSTM-400 | 72 %": twelve.max(),
        "its best fold, LSTM-448-f1 | 64 %": folds.max(),
        "its best network on the 80 % split, LSTM-448 | 80 %": alone_at_80.max(),
        "its best ensemble, Ens-0f1f4-CL400 | 72 %": at_72[ensembles].max(),
        "its best ensemble on the 80 % split, Ens-80-4 | 80 %": at_80.max(),
        f"**ours**, [`Graph-64`](results/reference/{BEST}/notebook.ipynb), one network, "
        f"{epochs_of_training(BEST)} epochs in stages, {hours_of_training(BEST):.0f} hours on CPUs "
        "| 72 %": published_accuracies(BEST),
        f"**ours**, [{epochs_of_training(ANEW)} epochs anew]"
        f"(results/reference/{ANEW}/notebook.ipynb), {hours_of_training(ANEW):.1f} hours on one "
        "core of a CPU | 72 %": published_accuracies(ANEW),
        f"**ours**, [{epochs_of_training(QUICKEST)} epochs anew]"
        f"(results/reference/{QUICKEST}/notebook.ipynb), six minutes on one H100, without Muon "
        "| 72 %": accuracies_of(QUICKEST, "test"),
        "**ours**, [an ensemble](results/reference/15_ensembles/all/notebook.ipynb) of the first "
        "two of these, and a little of LSTM-448 | 72 %": ensemble()["raw"][ACCURACIES],
        "**ours**, the first of these, [trained on]"
        f"(results/reference/{RETRAINED}/notebook.ipynb) for the 80 % split | 80 %": (
            accuracies_of(RETRAINED, "test")
        ),
        f"**ours**, [the paper's LSTM-448](results/reference/{LSTM}/notebook.ipynb), "
        f"{epochs_of_training(LSTM)} epochs in stages, {hours_of_training(LSTM):.1f} hours on CPUs "
        "| 72 %": published_accuracies(LSTM),
    }
    for name, accuracies in rows.items():
        assert f"| {name} | {percent(accuracies).replace(' /', ' |')} |" in between("accuracies")
    # The best by each Hodge number is one network, or one ensemble.
    for best, name, found in (
        (twelve.max(), "CNN-LSTM-400", at_72),
        (folds.max(), "LSTM-448-f1", at_72),
        (alone_at_80.max(), "LSTM-448-d80", at_80),
        (at_72[ensembles].max(), "Ens-0f1f4-CL400", at_72),
        (at_80.max(), "Ens-80-4", at_80),
    ):
        assert (best == found.loc[name]).all()


def test_what_the_text_says_beside_that_table_is_so():
    ours, every = published_accuracies(BEST), paper.published()[ACCURACIES]
    errors = standard_errors(ours, paper.SPLIT_SIZES["72"]["test"])
    ensemble = every.loc[("Ens-80-4", 80)]
    its_errors = standard_errors(ensemble, paper.SPLIT_SIZES["80"]["test"])

    def lead(shares: pd.Series, rounding: float = 0) -> pd.Series:
        """In standard errors of the difference; rounding: by how much the published shares are."""
        errors = standard_errors(shares, paper.SPLIT_SIZES["72"]["test"])
        return (shares - ensemble - rounding) / np.hypot(errors, its_errors)

    least, most = lead(ours, 0.005), lead(ours, -0.005)
    anew = [lead(accuracies_of(folder, "test")).iloc[0] for folder in (ANEW, AGAIN, QUICKEST)]
    for sentence in (
        "**`Graph-64` is right more often than every network and ensemble of the paper on "
        "$h^{2,1}$, $h^{3,1}$ and $h^{2,2}$, and on $h^{1,1}$ about as often as the best of them**",
        f"standard errors of its shares: {percent(errors).replace(' /', ',')};",
        f"of those of Ens-80-4: {percent(its_errors).replace(' /', ',')}, so that its lead on "
        f"$h^{{1,1}}$ is {least.iloc[0]:.0f} to {most.iloc[0]:.0f} standard errors of the "
        "difference, and on the others more than ten;",
        "The three trainings of it without stages (`fast-51`, `fast-56`, and `fast-58`, which is "
        "`fast-56` with another seed) lead on $h^{1,1}$ by "
        f"{min(anew):.1f} to {max(anew):.1f} standard errors.",
        f"LSTM-448 (after {epochs_of_training(LSTM)} epochs) falls from "
        f"{percent(accuracies_of(LSTM, 'test'), 1)} % to "
        f"{percent(accuracies_of(LSTM, 'test_permuted'), 1)} %",
    ):
        assert sentence in WORDS
    assert (ours - every.max() > 2 * errors).all()
    assert all(Path(folder).name in WORDS for folder in (ANEW, AGAIN, QUICKEST))
    assert (least.iloc[1:] > 10).all()
    assert percent(accuracies_of(BEST, "test")) == percent(accuracies_of(BEST, "test_permuted"))


def test_what_the_text_says_of_reading_these_numbers_is_so(cicy4):
    rows = json.loads((ROOT / "results/reference/benchmark.json").read_text())
    hodge, euler = (row["us_each"] for row in rows["topology"])
    graph, lstm = (
        min(1000 / row["ours"] for row in rows["inference"] if row["model"] == model)
        for model in ("Graph-64", "LSTM-448")
    )
    split = split_72(len(cicy4))
    answers = baselines.look_up(cicy4.matrices[split.train], cicy4.hodge[split.train])
    right = (answers(cicy4.matrices[split.test]) == cicy4.hodge[split.test]).all(axis=1)
    quadruples, number = np.unique(cicy4.hodge, axis=0, return_inverse=True)
    seen = np.zeros(len(quadruples), dtype=bool)
    seen[number.ravel()[split.train]] = True
    new = split.test[~seen[number.ravel()[split.test]]]
    of_new = all_right_by_the_best(load_cicy4(layout="zeros-first"), new)
    retrained = paper.SPLIT_SIZES["80"]["train"] + paper.SPLIT_SIZES["80"]["validation"]
    for sentence in (
        f"{share_of_misses_by_one():.0f} % of the misses of `Graph-64` are by one",
        f"gives them exactly, in about {hodge:.0f} microseconds a matrix;",
        f"(`Graph-64` on two cores: {graph:.1f} milliseconds; LSTM-448: {lstm:.1f}).",
    ):
        assert sentence in WORDS
    assert 5 < 1000 * graph / hodge < 15  # "ten times as long"
    for sentence in (
        f"takes {euler / hodge:.0f} times as long to compute as all four exact Hodge numbers",
        f"are all right for {100 * right.mean():.1f} % of the test set",
        f"Of all {len(split.test):,}, all but {len(new)} have Hodge numbers, all four together, "
        "that occur in the training set. "
        f"(Of the {len(new)}, `Graph-64` has {of_new['raw']:.0f} % right raw, "
        f"{of_new['relation']:.0f} % with the relation, and "
        f"{of_new['consistent']:.0f} % with $\\chi$ as well.)",
        f"Ens-80-4 {100 * retrained / len(cicy4):.0f} %",
    ):
        assert sentence in REFERENCE_WORDS


def test_what_the_text_says_of_the_best_weights_is_in_their_file():
    raw, relation, consistent = map(published(BEST).get, ("raw", "relation", "consistent"))
    validated = published_entry(BEST)["metrics"]["validation"]["raw"]
    network = paper.published().loc[("CNN-LSTM-400", 72)]
    lstm, other = paper.published().loc[("LSTM-448", 72)], published(LSTM)["raw"]
    answer = answer_for_the_sextic(LSTM)
    for sentence in (
        f"all four right for {relation['accuracy_all']:.2f} % of the test set; with that to the "
        "Euler number, which is computed from the matrix, as well, for "
        f"{consistent['accuracy_all']:.2f} %.",
        f"its mean squared error on $h^{{2,2}}$ is {raw['mse_h22']:.1f} (CNN-LSTM-400: "
        f"{network['mse_h22']:.1f}), nearly all of it of [ten rare matrices]",
        f"has {percent(lstm[ACCURACIES])} % for it",
        f"after {hours_of_training(BEST):.1f} hours on a CPU it has all: "
        f"{percent(raw[ACCURACIES])}",
    ):
        assert sentence in WORDS
    for sentence in (
        f"on $h^{{2,2}}$ its mean absolute error is {raw['mae_h22']:.2f} (CNN-LSTM-400: "
        f"{network['mae_h22']:.2f}), but its mean squared error {raw['mse_h22']:.1f} "
        f"({network['mse_h22']:.1f}), and on $h^{{3,1}}$ that is {raw['mse_h31']:.2f} "
        f"({network['mse_h31']:.2f}). Ten configurations make {share_of_the_largest_errors()} % of "
        f"the {raw['mse_h22']:.1f}, and the sextic alone {share_of_the_sextic()} %,",
        f"the two means of squares are {validated['mse_h22']:.1f} and {validated['mse_h31']:.2f}.",
        f"has {other['mse_h22']:.1f} and {other['mse_h31']:.2f}, as the paper's has "
        f"{lstm['mse_h22']:.1f} and {lstm['mse_h31']:.2f}, and says {answer} of the sextic.",
        "Decoded consistently, the mean squared error of `fast-57` on $h^{2,2}$ is "
        f"{consistent['mse_h22']:.2f}.",
    ):
        assert sentence in REFERENCE_WORDS
    alone = paper.published().xs(72, level="split").dropna(subset="parameters_millions")
    assert raw["mae_h22"] < alone["mae_h22"].min()
    anew, again = (
        json.loads((ROOT / "results/reference" / folder / "metrics.json").read_text())["metrics"]
        for folder in (ANEW, AGAIN)
    )
    first, second = (
        [found["test"]["raw"][f"mse_{name}"] for name in ("h22", "h31")] for found in (anew, again)
    )
    assert (
        f"`fast-56` has mean squared errors of {first[0]:.1f} and {first[1]:.2f}, and `fast-58`, "
        f"which differs in its seed only, {second[0]:.1f} and {second[1]:.2f}, less than every "
        "single network of the paper."
    ) in REFERENCE_WORDS
    at_both = paper.published().dropna(subset="parameters_millions")
    assert (second < at_both[["mse_h22", "mse_h31"]].min()).all()
    assert (raw[ACCURACIES] > [99.9, 99.5, 98.5, 95]).all()


def test_what_the_nearest_quadruple_adds_is_in_their_files():
    gains = {
        folder: published(folder)["consistent"]["accuracy_all"]
        - published(folder)["relation+chi"]["accuracy_all"]
        for folder in (LSTM, BEST)
    }
    assert f"adds {gains[LSTM]:.2f} points to LSTM-448 (all four right)" in WORDS
    assert f"{gains[BEST]:.2f}" == "0.00"  # "nothing to `Graph-64`"


def test_what_the_text_says_of_both_networks_by_one_recipe_is_in_their_files():
    for folder, rate, sentence in (
        ("18_graph_64/fast-43", 0.002, "after {} epochs has {} % of the test set right"),
        (WITH_ADAMW, 0.012, "LSTM-448 after {}, in bfloat16, {} %."),
    ):
        stages = stages_of(folder)
        epochs = sum(stage["training"]["epochs"] for stage in stages)
        assert sentence.format(epochs, percent(accuracies_of(folder, "test"))) in REFERENCE_WORDS
        assert [stage["settings"]["learning_rate"] for stage in stages] == [rate, rate / 2]
        recipe = recipes.FAST.settings
        for settings in (config.complete(stage["settings"]) for stage in stages):
            assert settings["optimizer"] == "adamw"
            assert settings["loss_weights"] == [1, 1, 1, 1]
            assert all(settings[name] == recipe[name] for name in ("huber_delta", "schedule"))


def test_what_the_text_says_of_the_last_stages_of_the_lstm_is_in_their_files():
    stages = [WITH_ADAMW, FIRST_WITH_MUON, LSTM]
    first, last = (records.read_metrics(ROOT / "results/reference" / s) for s in stages[1:])
    assert [record["checkpoint"] for record in (first, last)] == stages[:2]
    before, settings = (config.complete(record["settings"]) for record in (first, last))
    assert settings == before | {"huber_delta": 0.003, "loss_weights": [1, 1, 2, 8], "seed": 65}
    assert before["optimizer"] == "muon" and before["loss_weights"] == [1, 1, 1, 1]
    epochs = [record["training"]["epochs"] for record in (first, last)]
    assert epochs == [16, 16]  # "the 16 epochs", "thirty-two more"
    tested, theirs = accuracies_of(LSTM, "test"), paper.published()[ACCURACIES]
    assert f"Thirty-two more, with Muon, took LSTM-448 to {percent(tested)} %," in REFERENCE_WORDS
    assert (tested > theirs.loc[("LSTM-448", 72)]).tolist() == [True, False, False, False]
    histories = [
        pd.read_csv(ROOT / "results/reference" / stage / "history.csv") for stage in stages[1:]
    ]
    shorter, longer = (history["seconds"].agg(["min", "max"]) for history in histories)
    end = histories[0].iloc[-1]
    assert histories[0]["validation_loss"].idxmin() == len(histories[0]) - 1  # "fell to the end"
    start, middle, final = (accuracies_of(stage, "validation") for stage in stages)
    gains = final - middle
    learned = [accuracies_of(stage, "train") for stage in stages[1:]]
    for sentence in (
        f"an epoch took {shorter['min']:.0f} to {shorter['max']:.0f} s. On the validation set it "
        f"has {percent(middle)} %, where `fast-43` had {percent(start)}, and on the training set "
        f"{learned[0]['accuracy_h22']:.2f} % of $h^{{2,2}}$.",
        f"by then {end['validation_loss'] / end['train_loss']:.1f} times the training loss.",
        f"An epoch took {longer['min']:.0f} to {longer['max']:.0f} s;",
        f"On the validation set it has {percent(final)} %: "
        f"$h^{{3,1}}$ and $h^{{2,2}}$ gain {gains['accuracy_h31']:.1f} and "
        f"{gains['accuracy_h22']:.1f} points, and the two others",
        f"On the training set it has {percent(learned[1])} %, far more",
        f"has all four right for {published(LSTM)['consistent']['accuracy_all']:.2f} % of the",
    ):
        assert sentence in REFERENCE_WORDS
    assert (gains[["accuracy_h11", "accuracy_h21"]].abs() < 0.03).all()  # "nothing"
    network = paper.published().loc[("LSTM-448", 72)]
    assert (
        f"({network['train_accuracy_h22']:.1f} % of $h^{{2,2}}$ there, and "
        f"{network['accuracy_h22']:.1f} on the test set)"
    ) in REFERENCE_WORDS


def test_what_the_text_says_of_even_numbers_and_of_large_ones_is_so():
    cicy4 = load_cicy4(layout="zeros-first")
    split = split_72(len(cicy4))
    assert not (cicy4.hodge[:, 3] % 2).any()
    tenth = split.test[::10]
    rounded = 2 * np.rint(outputs_of_the_best(cicy4.matrices[tenth])[:, 3] / 2)
    right = 100 * (rounded == cicy4.hodge[tenth, 3]).mean()
    largest = cicy4.hodge[split.train, 3].max()
    found = cicy4.matrices[split.train[cicy4.hodge[split.train, 3] == largest]]
    ((*_, answer),) = outputs_of_the_best(found)
    share = f"{right:.1f} % (measured on every tenth test matrix) instead of "
    whole = f"{published(BEST)['raw']['accuracy_h22']:.1f} %."
    assert f"are right for {share}{whole}" in WORDS
    for sentence in (
        f"The answer for the sextic is {answer_for_the_sextic(BEST)}:",
        f"the largest $h^{{2,2}}$ in the training set, {largest:,}, the answer is {answer:,.0f}.",
    ):
        assert sentence in REFERENCE_WORDS


def test_what_the_text_says_of_small_matrices_is_so():
    cicy4 = load_cicy4(layout="zeros-first")
    test = split_72(len(cicy4)).test
    few = test[(cicy4.matrices[test] != 0).any(2).sum(1) <= 3]
    right = all_right_by_the_best(cicy4, few)
    assert (
        f"of the {len(few)} with at most three rows there, {right['raw']:.0f} % are right raw, "
        f"{right['relation']:.0f} % with the relation, and {right['consistent']:.0f} % consistently"
    ) in WORDS
    (example,) = [n for n in few if np.array_equal(crop(cicy4.matrices[n]), [[1, 1], [3, 3]])]
    assert cicy4.hodge[example].tolist() == [2, 0, 182, 780]


def test_what_the_text_says_of_the_ensemble_is_in_its_file():
    weights = dict(zip(climbed()["places"], climbed()["weights"], strict=True))
    first, second, little = (60 * weights[place] for place in (BEST, ANEW, LSTM))
    assert len(weights) == 3 and little == pytest.approx(1)
    every = ensemble()["consistent"]["accuracy_all"]
    sentence = (
        f"gives {first:.0f} of 60 parts of the weight to `fast-57`, {second:.0f} to `fast-56` "
        f"and one to LSTM-448. Decoded consistently it has all four right for {every:.2f} % of "
        "the test set (the target was 99), as `fast-57` alone has;"
    )
    assert sentence in REFERENCE_WORDS
    assert f"{published(BEST)['consistent']['accuracy_all']:.2f}" == f"{every:.2f}"
    assert every > 99  # the target
    gain = (ensemble()["raw"] - published(BEST)["raw"])["accuracy_h22"]
    assert f"raw, it adds {gain:.2f} points to $h^{{2,2}}$" in REFERENCE_WORDS


def test_what_the_text_says_of_the_80_split_is_in_its_file():
    record, longer = (
        records.read_metrics(ROOT / "results/reference" / folder) for folder in (RETRAINED, LONGER)
    )
    assert record["checkpoint"] == longer["checkpoint"] == BEST and record["split"]["name"] == "80"
    assert record["settings"] | {"seed": longer["seed"]} == longer["settings"] | {
        "min_learning_rate": record["settings"]["min_learning_rate"]  # which one cycle has none of
    }
    before, after = (record["metrics"][part] for part in ("test_before", "test"))
    all_before, all_after = (part["consistent"]["accuracy_all"] for part in (before, after))
    start, came, alone = (
        accuracies_of(folder, "validation")["accuracy_h22"] for folder in (BEST, RETRAINED, LONGER)
    )
    training = record["training"]
    for sentence in (
        f"for {training['epochs']} epochs or {training['seconds'] / 3600:.1f} hours on one core",
        f"it has {percent(accuracies_of(RETRAINED, 'test'))} % right, and before it had "
        f"{percent(accuracies_of(RETRAINED, 'test_before'))} %; consistently, all four for "
        f"{all_after:.2f} % and {all_before:.2f} %",
    ):
        assert sentence in REFERENCE_WORDS
    seconds = pd.read_csv(ROOT / "results/reference" / LONGER / "history.csv")["seconds"]
    learned = accuracies_of(LONGER, "train")["accuracy_h22"]
    seeds = abs(accuracies_of(ANEW, "validation") - accuracies_of(AGAIN, "validation")).iloc[-1]
    for sentence in (
        f"it comes from {start:.2f} to {came:.2f} % of",
        f"in the same way without the larger training set, to {alone:.2f} %.",
        f"one training each, {came - alone:.2f} points apart, and `fast-56` and `fast-58`, which "
        f"differ in their seed only, are {seeds:.2f} apart on that set.",
        f"at a rate of 0.003 for {longer['training']['epochs']} epochs of {seconds.min():.0f} to "
        f"{seconds.max():.0f} s, came to {alone:.2f} % on the validation set and {learned:.2f} on",
    ):
        assert sentence in REFERENCE_WORDS
    assert alone < start < came  # "no gain"
    at_80 = paper.published().xs(80, level="split")[ACCURACIES]
    assert (accuracies_of(RETRAINED, "test") > at_80.max()).all()


def test_what_the_text_says_of_an_h100_is_in_its_files():
    rows = json.loads((ROOT / "results/reference/benchmark_gpu_training.json").read_text())
    found = {
        (row["precision"], row["batch_size"]): row
        for row in rows["training"]
        if row["model"] == "LSTM-448"
    }
    tf32, single, larger = found["tf32", 128], found["float32", 128], found["tf32", 1024]
    rows = json.loads((ROOT / "results/reference/benchmark_gpu_steps.json").read_text())["steps"]
    together = {r["precision"]: r["gain"] for r in rows if "together" in r["variant"]}
    overlap = {precision: gain_of_steps_alone(rows, precision) for precision in together}
    record = json.loads((ROOT / "results/reference" / QUICKEST / "metrics.json").read_text())
    training, right = record["training"], accuracies_of(QUICKEST, "validation")
    right_there = accuracies_of(QUICKEST, "test")
    log = (ROOT / "results/reference" / QUICKEST / "training.log").read_text()
    whole = float(re.search(r"WALL ([\d.]+) s from the start of Python to the last file", log)[1])
    minutes, precision = f"{training['seconds'] / 60:.1f} minutes", record["settings"]["precision"]
    assert training["device"] == "NVIDIA H100 80GB HBM3" and "checkpoint" not in record
    network = paper.published().loc[("LSTM-448", 72)]
    for sentence in (
        f"from fresh weights for {minutes} in {precision}",
        f"predictions and metrics included, it took {whole / 60:.1f} minutes",
        f"PyTorch {record['environment']['packages']['torch']} and CUDA "
        f"{record['environment']['cuda']}",
        f"met by `Graph-64`: {percent(right_there)} |",
        f"| met: {record['metrics']['test']['consistent']['accuracy_all']:.2f} % |",
        f"in TF32, {tf32['ratio']:.1f} times; missed in float32, {single['ratio']:.1f} times",
        f"{tf32['epoch_seconds']:.1f} s in TF32, {single['epoch_seconds']:.1f} in float32, without "
        f"saving; {larger['epoch_seconds']:.1f} s in TF32 at batch 1,024",
        f"{together['float32']:.1f} times in float32, {together['tf32']:.1f} in TF32;",
        f"with what an epoch takes beside them subtracted, {overlap['float32']:.1f} and "
        f"{overlap['tf32']:.1f} times",
        f"{network['train_accuracy_h22']:.1f} % of $h^{{2,2}}$ right on its training set and "
        f"{network['accuracy_h22']:.1f} on its test set",
        f"Ours has {accuracies_of(LSTM, 'train')['accuracy_h22']:.1f} and "
        f"{accuracies_of(LSTM, 'test')['accuracy_h22']:.1f} so far.",
    ):
        assert sentence in WORDS
    for sentence in (
        f"it trained for {training['seconds']:.0f} seconds; from the start of Python to the last "
        f"file it took {whole:.0f}",
        f"On the validation set it has {percent(right)} %",
    ):
        assert sentence in REFERENCE_WORDS
    alone = paper.published().xs(72, level="split").dropna(subset="parameters_millions")
    assert (right_there > alone[ACCURACIES].max()).all()


def test_what_the_text_says_of_the_training_with_muon_is_in_its_files():
    record = json.loads((ROOT / "results/reference" / ANEW / "metrics.json").read_text())
    history = pd.read_csv(ROOT / "results/reference" / ANEW / "history.csv")
    assert record["settings"]["optimizer"] == "muon" and "checkpoint" not in record
    before, epochs = "18_graph_64/fast-43", len(history)
    assert (
        f"one cycle of {epochs} epochs in place of two of 8 and 7 are worth together: with AdamW, "
        "and the loss that the recipe had before, `fast-43` has "
        f"{percent(accuracies_of(before, 'test'))} %."
    ) in REFERENCE_WORDS
    sizes = [stage["training"]["epochs"] for stage in stages_of("18_graph_64/fast-49")]
    assert sizes[:2] == [8, 7] and sum(sizes[:2]) == epochs
    validated = accuracies_of("18_graph_64/fast-49", "validation")["accuracy_h22"]
    for sentence in (
        f"an epoch took {history['seconds'].min():.0f} to {history['seconds'].max():.0f} s while",
        f"On the validation set it has {percent(accuracies_of(ANEW, 'validation'))} %, and on the "
        f"training set {accuracies_of(ANEW, 'train')['accuracy_h22']:.2f} % of $h^{{2,2}}$. The "
        f"stages above had as much, {validated:.2f} % on the validation set, after {sum(sizes)} "
        f"epochs and {hours_of_training('18_graph_64/fast-49'):.0f} hours (`fast-49`): "
        f"{sum(sizes) / epochs:.1f} times the epochs,",
    ):
        assert sentence in REFERENCE_WORDS
    every = paper.published()[ACCURACIES]
    assert (accuracies_of(ANEW, "test") > every.max()).all()


def test_what_the_text_says_of_the_lstm_with_muon_is_in_its_files():
    with_adamw = "11_lstm_448/fast-42"
    first, *_ = stages_of(LSTM)
    (ours,) = stages_of(WITH_MUON)
    assert first["variant"] == Path(with_adamw).name
    theirs, settings = (config.complete(record["settings"]) for record in (first, ours))
    assert theirs | {"optimizer": "muon", "max_epochs": 8, "seed": 59} == settings
    assert [record["training"]["epochs"] for record in (ours, first)] == [8, 10]
    history = pd.read_csv(ROOT / "results/reference" / WITH_MUON / "history.csv")
    muon, adamw = (
        percent(accuracies_of(folder, "validation")) for folder in (WITH_MUON, with_adamw)
    )
    learned = accuracies_of(WITH_MUON, "train")["accuracy_h22"]
    for sentence in (
        f"an epoch took {history['seconds'].min():.0f} to {history['seconds'].max():.0f} s. On the "
        f"validation set it has {muon} %, and on the training set {learned:.2f} % of $h^{{2,2}}$.",
        f"`fast-42`, with AdamW, had {adamw} % after 10 epochs.",
    ):
        assert sentence in REFERENCE_WORDS


def test_what_the_text_says_of_another_seed_is_in_its_file():
    first, second = (
        records.read_metrics(ROOT / "results/reference" / folder) for folder in (ANEW, AGAIN)
    )
    assert first["settings"] | {"seed": 58} == second["settings"]
    assert "checkpoint" not in second and first["split"] == second["split"]
    apart = (accuracies_of(ANEW, "test") - accuracies_of(AGAIN, "test")).abs()
    shares = percent(apart).replace(" /", ",")
    last = shares.rfind(",")
    assert f"end {shares[:last]} and{shares[last + 1 :]} points apart (before rounding)." in WORDS
    assert (
        f"{percent(accuracies_of(AGAIN, 'validation'))} % on the validation set and, where "
        f"`fast-56` has {percent(accuracies_of(ANEW, 'test'))} % of the test set right, "
        f"{percent(accuracies_of(AGAIN, 'test'))} %."
    ) in REFERENCE_WORDS


def test_what_the_text_says_of_the_cost_of_muon_is_in_its_file():
    content = json.loads((ROOT / "results/reference/benchmark.json").read_text())
    rate = {(r["model"], r["precision"], r["variant"]): r["rate"] for r in content["optimizers"]}
    cases = [("Graph-64", "float32"), ("LSTM-448", "float32"), ("LSTM-448", "bfloat16")]
    (_, large, rounded), theirs, ours = (
        [rate[(*case, way)] for case in cases]
        for way in ("AdamW", "Muon as PyTorch has it", "Muon as it is here")
    )
    longer = f"{large / ours[1]:.1f} times as long with it on a processor"
    assert f"{longer}, and in bfloat16 {rounded / ours[2]:.1f} times" in WORDS
    # "quicker for many small matrices and, in float32, slower for a few large ones"
    assert ours[0] > theirs[0] and ours[1] < theirs[1]
    quicker = f"in bfloat16 it is {ours[2] / ours[1]:.1f} times as quick as in float32"
    assert quicker in REFERENCE_WORDS
    training = {
        row["precision"]: row["ours"]
        for row in content["training"]
        if (row["model"], row["batch_size"]) == ("LSTM-448", 128)
    }
    ratio = training["bfloat16"] / training["float32"]
    words = f"takes {ratio:.1f} times as many training configurations of LSTM-448 a second in bfl"
    assert words in WORDS


def test_what_the_text_says_of_the_explorations_is_in_their_tables():
    lstm, graph = (
        exploration.summary(pd.read_csv(ROOT / "results" / "reference" / file))["mean"]
        for file in ("recipes.csv", "recipes_graph.csv")
    )
    adamw = "fast, AdamW, learning rate 0.002"  # the best of three, as the next one is
    assert adamw == graph[graph.index.str.contains("AdamW")].idxmax()
    assert lstm[lstm.index.str.contains("AdamW")].idxmax() == "fast, AdamW"
    of_each = f"{graph['fast']:.1f}, and of {graph[adamw]:.1f} with AdamW"
    other = f"LSTM-128 one of {lstm['fast']:.1f}, and of {lstm['fast, AdamW']:.1f} with AdamW"
    assert f"On the same subset it reaches a mean of {of_each}; {other}." in WORDS
    gains = lstm - lstm["fast"]
    trials = pd.read_csv(ROOT / "results" / "reference" / "recipes_graph.csv")
    spread = exploration.summary(trials).loc["fast", "spread"]
    for sentence in (
        f"*fast* falls by {-gains['fast, AdamW']:.1f} points with AdamW,",
        f"twice the learning rate gains {gains['fast, learning rate 0.024']:.1f} points, and "
        f"batches of 64, which are twice as many steps, gain {gains['fast, batch 64']:.1f};",
        f"by {abs(gains['fast, bfloat16']):.1f} points here, less than seeds do.",
        f"With AdamW it loses {graph['fast'] - graph[adamw]:.1f} points,",
        f"is at least as good here ({graph['fast, learning rate 0.003']:.1f}, with less spread)",
        f"Batches of 256 lose {graph['fast'] - graph['fast, batch 256']:.1f} points,",
        f"(6 rounds) lose {graph['fast'] - graph['fast, 6 rounds']:.1f} points,",
        f"half the width loses {graph['fast'] - graph['fast, 32 numbers an entry']:.1f}, less than "
        f"the {spread:.1f} that the seeds of *fast* differ by;",
        f"are worth {graph['fast'] - graph['fast, loss weights 1 1 1 1']:.1f} points, again less",
    ):
        assert sentence in REFERENCE_WORDS
    settings = recipes.GRAPH.settings
    assert f"at a learning rate of {settings['learning_rate']:g}" in WORDS
    assert f"linear beyond {settings['huber_delta']:g} standard deviations" in WORDS
    assert settings["loss_weights"] == (1, 1, 2, 8)  # "twice", "eight times"


def test_every_folder_is_in_the_tree():
    tree = re.search(r"## Files\n\n```\n(.*?)```", README, re.DOTALL)[1]
    named = re.findall(r"^(\S+\.\S+|\S+/)", tree, re.MULTILINE)
    assert {"README.md", "cicy_utils/", "data/", "notebooks/", "results/", "tests/"} <= set(named)
    assert all((ROOT / name).exists() for name in named)


def test_every_module_is_on_the_page_of_the_package():
    package = ROOT / "cicy_utils"
    modules = [path for folder in (package, package / "batch") for path in folder.glob("*.py")]
    names = [str(m.relative_to(package)) for m in modules if m.name != "__init__.py"]
    linked = re.findall(r"\]\((\S+\.py)\)(?: \||,)", PAGES["cicy_utils/README.md"])
    assert sorted(linked) == sorted(names)  # each once


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_no_line_is_a_stray_fence_or_quote(text):
    # After the code blocks are taken out, nothing is left that opens or closes one.
    prose, blocks = re.subn(r"^```\w*\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks >= (8 if text == README else 0)
    assert not re.search(r"^\W*(`{3,}|'{2,}|\"{2,}|~{3,})", prose, re.MULTILINE)


def test_promised_tests_exist():
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", PAGES["tests/README.md"])
    assert len(named) > 20
    for path, name in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in text if name else "def test_" in text, name


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_repository_resolve(page):
    targets = re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page])
    assert targets or page != "README.md"
    for target in targets:
        path, _, heading = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), target
        if heading:
            found = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in found]


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_modules_that_exist(page):
    for module in re.findall(r"python -m (cicy_utils[\w.]*)", PAGES[page]):
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file(), module


def percent(values: Iterable[float], digits: int = 2) -> str:
    """As the text has them: 99.92 / 99.59 / 97.66 / 81.90."""
    return " / ".join(f"{value:.{digits}f}" for value in values)


def standard_errors(shares: pd.Series, configurations: int) -> pd.Series:
    """Of shares of right answers; both in percent."""
    return 100 * np.sqrt(shares / 100 * (1 - shares / 100) / configurations)


def published_entry(folder: str) -> dict:
    """What the project tells of weights that come with it."""
    return json.loads((ROOT / "results/reference" / folder / "reference.json").read_text())


def published(folder: str) -> dict[str, pd.Series]:
    """Test metrics of published weights by decoding, as their file has them, in 16 bits."""
    metrics = published_entry(folder)["metrics"]["test"]
    return {name: pd.Series(row) for name, row in metrics.items()}


def published_accuracies(folder: str) -> pd.Series:
    return published(folder)["raw"][ACCURACIES]


def climbed() -> dict:
    """The ensemble of published weights that hill climbing found for the 72 % split."""
    entries = json.loads((ROOT / "results/reference/15_ensembles/all/ensembles.json").read_text())
    (found,) = [entry for entry in entries if entry["name"] == "Climb-72"]
    return found


def ensemble() -> dict[str, pd.Series]:
    """Its test metrics by decoding."""
    return {name: pd.Series(row) for name, row in climbed()["metrics"]["test"].items()}


def accuracies_of(folder: str, part: str) -> pd.Series:
    """Raw accuracies of a training, as measured after it."""
    record = json.loads((ROOT / "results/reference" / folder / "metrics.json").read_text())
    return pd.Series(record["metrics"][part]["raw"])[ACCURACIES]


def test_what_the_stage_without_a_gain_came_to_is_in_its_file():
    folder, start = "18_graph_64/fast-50", "18_graph_64/fast-49"
    record = json.loads((ROOT / "results/reference" / folder / "metrics.json").read_text())
    assert record["checkpoint"] == start and record["settings"]["huber_delta"] == 0.001
    after, before = (accuracies_of(name, "validation")["accuracy_h22"] for name in (folder, start))
    sentence = f"{after:.2f} % of $h^{{2,2}}$ on the validation set, and {before:.2f} before."
    assert sentence in REFERENCE_WORDS


def test_what_a_longer_cycle_came_to_is_in_its_file():
    before, after = "18_graph_64/fast-49", "18_graph_64/fast-52"
    record = json.loads((ROOT / "results/reference" / after / "metrics.json").read_text())
    assert record["checkpoint"] == before
    known, validated, learned = (
        accuracies_of(folder, part)["accuracy_h22"]
        for folder, part in ((before, "train"), (after, "validation"), (after, "train"))
    )
    seconds = pd.read_csv(ROOT / "results/reference" / after / "history.csv")["seconds"]
    for sentence in (
        f"which had {known:.2f} % right on its training set",
        f"for {record['training']['epochs']} epochs, comes to {validated:.2f} % on the validation "
        f"set and {learned:.2f} on the training set",
        f"an epoch took {seconds.min():.0f} to {seconds.max():.0f} s",
    ):
        assert sentence in REFERENCE_WORDS


def test_what_the_last_stages_came_to_is_in_their_files():
    gains = []
    sentences = (
        "where an epoch took {} to {} s.)",
        "for 18 epochs, of {} to {} s:",
        "14 epochs of {} to {} s:",
    )
    for stage, epochs in zip(LATE, sentences, strict=True):
        record = json.loads((ROOT / "results/reference" / stage / "metrics.json").read_text())
        validated, learned, known = (
            accuracies_of(folder, part)["accuracy_h22"]
            for folder, part in (
                (stage, "validation"),
                (stage, "train"),
                (record["checkpoint"], "validation"),
            )
        )
        gains.append(validated - known)
        seconds = pd.read_csv(ROOT / "results/reference" / stage / "history.csv")["seconds"]
        for sentence in (
            f"{validated:.2f} % on the validation set, {learned:.2f} on the training set.",
            epochs.format(f"{seconds.min():.0f}", f"{seconds.max():.0f}"),
        ):
            assert sentence in REFERENCE_WORDS
    assert gains[1] < gains[0] / 5  # less than a fifth
    assert gains[2] > 3 * gains[1]  # three times


def stages_of(folder: str) -> list[dict]:
    """The records of the training of these weights, and before it of all it was started from."""
    stages = reference.stages(ROOT / "results/reference" / folder)
    return [records.read_metrics(stage) for stage in stages]


def hours_of_training(folder: str) -> float:
    return sum(stage["training"]["seconds"] for stage in stages_of(folder)) / 3600


def epochs_of_training(folder: str) -> int:
    return sum(stage["training"]["epochs"] for stage in stages_of(folder))


def outputs_of_the_best(matrices: np.ndarray) -> np.ndarray:
    """What it answers, float32 (n, 4)."""
    # The file that is in a clone: where it was trained, weights in 32 bits lie beside it.
    file = ROOT / "results/reference" / BEST / checkpoint.SMALL_WEIGHTS_FILE
    network, _ = prediction.load_model(file)
    return training.predict(network, matrices, device="cpu")


def all_right_by_the_best(cicy4: Cicy4, places: np.ndarray) -> pd.Series:
    """For which share of these configurations it has all four right, in percent, by decoding."""
    outputs = outputs_of_the_best(cicy4.matrices[places])
    covariance = np.array(published_entry(BEST)["residuals"]["covariance"])
    euler = topology.euler_numbers_batch(cicy4.matrices[places])
    return metrics.evaluate(outputs, cicy4.hodge[places], euler, covariance)["accuracy_all"]


def gain_of_steps_alone(rows: list[dict], precision: str) -> float:
    """Of models side by side, with what one epoch takes beside its steps taken out of each."""
    alone, with_rest, together = (
        1 / next(r["rate"] for r in rows if words in r["variant"] and r["precision"] == precision)
        for words in ("one CUDA graph", "validating and saving", "together")
    )
    return alone / (together - (with_rest - alone))


def output_of(cell: str, folder: str = BEST) -> str:
    """What a cell of the executed notebook shows, as text."""
    notebook = nbformat.read(ROOT / "results/reference" / folder / "notebook.ipynb", 4)
    (found,) = [other for other in notebook.cells if other.id == cell]
    html = "".join(output.get("data", {}).get("text/html", "") for output in found.outputs)
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def share_of_misses_by_one() -> float:
    """In percent, on h22; the last column of the table."""
    table = output_of("misses").partition(" right ")[2]
    right, by_one = (
        int(re.match(r"(?:[\d,]+ ){3}([\d,]+)", part)[1].replace(",", ""))
        for part in table.split(" 1 ", maxsplit=1)
    )
    return 100 * by_one / (paper.SPLIT_SIZES["72"]["test"] - right)


def share_of_the_largest_errors() -> str:
    return re.search(r"mean squared error: ([\d.]+) % together", output_of("largest"))[1]


def answer_for_the_sextic(folder: str) -> str:
    return re.search(r"1,752\) (\([^)]*\))", output_of("largest", folder))[1]


def share_of_the_sextic() -> str:
    found = re.search(r"1,752[)] [(][^)]*[)] ([0-9.]+)", output_of("largest"))
    return f"{float(found[1]):.1f}"


def between(name: str, page: str = README) -> str:
    """The part of a page between two marks."""
    return re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)[1].strip()
