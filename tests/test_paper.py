"""Published numbers, and ours beside them."""

import math

import pandas as pd
import pytest
import run_folder

from cicy_utils import models, paper, paper_tables, records
from cicy_utils.data import HODGE_NAMES
from cicy_utils.metrics import ACCURACIES, constant_prediction, evaluate
from cicy_utils.verification import recorded_statistics

LABELS = [[1, 0, 426, 1752], [2, 0, 350, 1452], [2, 0, 350, 1452], [4, 0, 108, 492]]


def sections(model="LSTM-448", label="quick run: 4 of 905,684 configurations"):
    """A metrics.json in which every second test configuration is right."""
    predictions = [list(row) for row in LABELS]
    predictions[0][3] += 2
    predictions[1][3] -= 4
    test = evaluate(predictions, LABELS)
    constant = evaluate(constant_prediction(LABELS, 4), LABELS)
    return {
        "notebook": "11_lstm_448",
        "model": model,
        "variant": "seed-42",
        "label": label,
        "seed": 42,
        "settings": {},
        "data": {"fingerprint": "dada"},
        "split": {"fingerprints": {"test": "72aa"}},
        "weights": 12,
        "training": {"epochs": 3, "seconds": 90.0},
        "metrics": {
            "test": test.to_dict(orient="index"),
            "constant": constant.to_dict(orient="index"),
        },
        "environment": {},
    }


def test_published_numbers_as_in_the_abstract():
    accuracies = paper.published()[ACCURACIES].round(2)
    assert list(accuracies.loc["CNN-LSTM-400", 72]) == [99.74, 98.07, 95.19, 81.01]
    assert list(accuracies.loc["LSTM-448-d80", 80]) == [99.85, 98.66, 96.26, 84.77]


def test_every_model_of_the_paper_is_published():
    known = paper.published().xs(72, level="split").index
    assert set(models.MODELS) - set(known) == {"ResNet-LSTM-256", "ResNet-LSTM-400", "Graph-64"}


def test_our_own_network_is_set_beside_the_paper_s_best():
    own, best = (
        paper.headline(name, sections()["metrics"]) for name in ("Graph-64", "CNN-LSTM-400")
    )
    assert own.loc["published", "accuracy_h22"] == best.loc["published", "accuracy_h22"] > 81
    fast = paper.headline("Graph-64-fast", sections()["metrics"])
    assert fast.loc["published"].equals(own.loc["published"])
    single = paper.published().xs(72, level="split")
    single = single[single["parameters_millions"].notna()]["accuracy_h22"]
    assert single.idxmax() == "CNN-LSTM-400"


def test_folds_stand_in_the_rows_of_the_72_split():
    for name, share in (("72", 72), ("80", 80), ("fold-0", 72)):
        assert paper.key({"model": "LSTM-448", "split": {"name": name}}) == ("LSTM-448", share)


def test_beside_ours_are_all_measures():
    table = paper.beside_ours("LSTM-448", sections()["metrics"])
    assert list(table.columns) == ["published", "ours"]
    assert len(table) == 4 + 3 * 5
    assert table.loc["accuracy_h22"].tolist() == [pytest.approx(78.62612276895389), 50.0]
    assert table.loc["mse_h22", "ours"] == (2**2 + 4**2) / 4
    assert table.loc["mse_mean", "published"] == pytest.approx(0.92074233)


def test_unpublished_measures_stay_empty():
    table = paper.beside_ours("CNN-LSTM-416", sections("CNN-LSTM-416")["metrics"])
    assert table["published"].isna().sum() == 15
    assert table["ours"].notna().all()


def test_headline_has_the_constant_prediction():
    table = paper.headline("LSTM-448", sections()["metrics"])
    assert list(table.index) == ["published", "this run", "difference", "constant prediction"]
    assert table.loc["this run"].tolist() == [100, 100, 100, 50, 50]
    assert table.loc["constant prediction"].tolist() == [50, 100, 50, 50, 50]
    assert math.isnan(table.loc["published", "accuracy_all"])


def test_results_without_a_published_counterpart_stand_alone():
    table = paper.beside_ours("LSTM-424-f0", sections()["metrics"])
    assert table["published"].isna().all()
    assert table["ours"].notna().all()
    at_80 = paper.headline("LSTM-448-d80", sections()["metrics"], split=80)
    assert at_80.loc["published", "accuracy_h22"] == pytest.approx(84.77024714304116)


def test_results_table_reads_the_files_of_a_run(tmp_path):
    for name, model in (("10_lstm_424", "LSTM-424"), ("11_lstm_448", "LSTM-448")):
        records.write_metrics(tmp_path / name / "seed-42", **sections(model))
    data = {name: {} for name in ("data", "environment")}
    records.write_metrics(
        tmp_path / "00_data" / "list", notebook="00_data", variant="list", label="", **data
    )
    (tmp_path / "12_lstm_456" / "seed-42").mkdir(parents=True)  # unfinished
    table = paper.results_table(tmp_path)
    assert table["model"].tolist() == ["LSTM-424", "LSTM-448", "constant prediction"]
    assert table["label"].str.startswith("quick run").all()
    assert table["split"].tolist() == [72] * 3
    assert table["group"].tolist() == [0] * 3
    ours = table.set_index("model").loc["LSTM-448"]
    assert (ours["epochs"], ours["minutes"], ours["weights"]) == (3, 1.5, 12)
    assert (ours["notebook"], ours["variant"]) == ("11_lstm_448", "seed-42")
    assert ours["accuracy_h22"] == 50.0
    assert ours["published_h22"] == pytest.approx(78.62612276895389)
    constant = table.set_index("model").loc["constant prediction"]
    assert constant[[f"published_{name}" for name in HODGE_NAMES]].isna().all()
    assert constant["accuracy_h21"] == 100.0


def test_results_table_has_the_paper_s_numbers_beside_its_own_networks_only(tmp_path):
    for name, model in (("11_lstm_448", "LSTM-448-fast"), ("18_graph_64", "Graph-64-fast")):
        records.write_metrics(tmp_path / name / "fast-42", **sections(model))
    table = paper.results_table(tmp_path).set_index("model")
    columns = [f"published_{name}" for name in HODGE_NAMES]
    assert table.loc["LSTM-448-fast", "published_h22"] == pytest.approx(78.62612276895389)
    assert table.loc["Graph-64-fast", columns].isna().all()


def test_results_table_of_nothing_is_empty(tmp_path):
    table = paper.results_table(tmp_path)
    assert isinstance(table, pd.DataFrame) and table.empty
    assert "accuracy_h22" in table


def test_collect_finds_models_ensembles_and_baselines(tmp_path):
    found = paper.collect(run_folder.make(tmp_path / "try"))
    kinds = [(record["model"], record["kind"], paper.key(record)[1]) for record in found]
    assert kinds == [
        ("LSTM-400", "model", 72),
        ("LSTM-424", "model", 72),
        ("LSTM-448", "model", 72),
        ("LSTM-448", "model", 72),
        ("LSTM-448-f1", "model", 72),
        ("LSTM-448-d80", "model", 80),
        ("LSTM-448-f1", "model", 80),
        ("Ens-4", "ensemble", 72),
        ("hill climb", "ensemble", 72),
        ("ridge regression", "baseline", 72),
        ("constant prediction", "baseline", 72),
        ("constant prediction", "baseline", 72),
        ("constant prediction", "baseline", 80),
    ]
    assert all((record["folder"] / record["file"]).is_file() for record in found)


def test_what_cannot_be_read_is_left_out(tmp_path):
    (run_folder.write(tmp_path, "a/b", {}) / "metrics.json").write_text('{"model": ')
    assert paper.collect(tmp_path) == []
    assert paper.comparable([]) == []


def collected(tmp_path, *records):
    for number, value in enumerate(records):
        run_folder.write(tmp_path, f"{number}_notebook/seed-42", value)
    return [record for record in paper.collect(tmp_path) if record["kind"] == "model"]


OTHERS = [
    ("different configurations", {"data": {"fingerprint": "else"}}),
    ("different test sets", {"split": {"name": "72", "fingerprints": {"test": "else"}}}),
    ("different settings", {"settings": {"learning_rate": 0.5}}),
    ("different settings", {"label": "quick run: stopped by hand after 2 epochs"}),
    ("different settings", {"data": {"fingerprint": "dada", "layout": "descending"}}),
    (
        "different settings",
        {"split": {"name": "72", "fingerprints": {"test": "72aa", "train": "else"}}},
    ),
]


@pytest.mark.parametrize(("reason", "change"), OTHERS)
def test_what_cannot_be_compared_is_kept_apart(tmp_path, reason, change):
    same = run_folder.record("LSTM-448")
    found = collected(tmp_path, same | change, same, same)
    assert [len(group) for group in paper.comparable(found)] == [2, 1]
    with pytest.raises(ValueError, match=f"{reason}; sort the records with paper.comparable"):
        paper.require_comparable(found)
    with pytest.raises(ValueError, match=reason):
        paper_tables.build(4, found)
    with pytest.raises(ValueError, match=reason):
        paper_tables.ranking(72, found)
    if reason == "different settings":
        paper.require_same_test(found)
    else:
        with pytest.raises(ValueError, match=f"{reason}: show each by itself"):
            paper.require_same_test(found)


@pytest.mark.parametrize("section", ["data", "split"])
def test_what_does_not_tell_what_it_rests_on_stands_alone(tmp_path, section):
    same = run_folder.record("LSTM-448")
    found = collected(tmp_path, *[same | {section: {}}] * 2, same)
    assert sorted(len(group) for group in paper.comparable(found)) == [1, 1, 1]
    with pytest.raises(ValueError, match="rest on different"):
        paper.require_comparable(found[:2])


def test_seeds_machines_and_the_two_test_sets_can_be_compared(tmp_path):
    there = {"learning_rate": 0.01, "seed": 43, "device": "cuda", "max_hours": 2.0}
    found = collected(
        tmp_path,
        run_folder.record("LSTM-448"),
        run_folder.record("LSTM-448", seed=43, settings=there),
        run_folder.record("LSTM-448-f1", split="fold-1"),
        run_folder.record("LSTM-448-d80", split="80"),
    )
    paper.require_comparable(found)
    assert paper.comparable(found) == [found]


def test_a_setting_saved_as_an_integer_is_that_of_a_float(tmp_path):
    given = {"weight_decay": 0, "loss_weights": [1, 1, 2, 8]}
    floats = {"weight_decay": 0.0, "loss_weights": [1.0, 1.0, 2.0, 8.0]}
    found = collected(
        tmp_path,
        run_folder.record("LSTM-448", settings=given),
        run_folder.record("LSTM-448", settings=floats),
    )
    assert paper.comparable(found) == [found]
    other = floats | {"loss_weights": [1, 1, 2, 4]}
    found += [run_folder.record("LSTM-448", settings=other) | {"kind": "model"}]
    assert [len(group) for group in paper.comparable(found)] == [2, 1]


def test_published_shares_are_numbers_of_configurations():
    """A wrong digit would make a fraction of a configuration; some have two decimals only."""
    for (name, split), row in paper.published().iterrows():
        configurations = paper.SPLIT_SIZES[str(split)]["test"]
        for share in row[ACCURACIES].dropna():
            right = share * configurations / 100
            rounding = 0.005 * configurations / 100 if round(share, 2) == share else 2e-3
            assert abs(right - round(right)) <= rounding, name
        for measure in ("mse", "mae", "r2"):
            four = row[[f"{measure}_{hodge}" for hodge in HODGE_NAMES]]
            if four.notna().all():
                assert row[f"{measure}_mean"] == pytest.approx(four.mean(), rel=1e-5), name


def test_titles_tell_the_measure_of_their_columns():
    words = {"accuracy": "accuracy", "mse": "MSE", "mae": "MAE", "r2": "R²"}
    for number, table in paper_tables.TABLES.items():
        if number >= 13 and not table.title.startswith("Mean"):
            for measure, word in words.items():
                is_it = table.measures[0].startswith(f"{measure}_")
                assert table.title.startswith(word) == is_it, number


def test_the_published_statistics_are_those_of_the_list():
    found = recorded_statistics()
    for name in HODGE_NAMES:
        published, digits = paper.LIST_STATISTICS["mean"][name], 0 if name == "h22" else 1
        assert published == pytest.approx(found["mean"][name], abs=0.5 * 10**-digits)
        for side in ("minimum", "maximum"):
            assert paper.LIST_STATISTICS[side][name] == found[side][name]


@pytest.mark.parametrize("change", [{"weights": 7}, {"architecture": "LSTM-424"}])
def test_results_of_another_network_are_no_repetitions(tmp_path, change):
    same = run_folder.record("LSTM-448")
    found = collected(tmp_path, same | change, same, same)
    with pytest.raises(ValueError, match="different settings"):
        paper.require_comparable(found)


@pytest.mark.parametrize(
    "change",
    [{"members": ["LSTM-448", "LSTM-456"]}, {"weights": [0.9, 0.1]}, {"chosen_by": "hand"}],
)
def test_ensembles_of_other_members_are_no_repetitions(tmp_path, change):
    entries = [run_folder.ensemble("Ens-4"), run_folder.ensemble("Ens-4", **change)]
    run_folder.write(tmp_path, "15_ensembles/all", entries, "ensembles.json")
    with pytest.raises(ValueError, match="different settings"):
        paper.require_comparable(paper.collect(tmp_path))
