"""The tables of the paper, and ours beside them."""

import math

import pytest
import run_folder

from cicy_utils import paper, paper_tables

NUMBERS = sorted(paper_tables.TABLES)


@pytest.fixture
def main(tmp_path):
    """The main group of a run folder with some of everything."""
    return paper.comparable(paper.collect(run_folder.make(tmp_path / "try")))[0]


def test_there_are_twenty_four_tables_of_published_results():
    assert list(range(1, 25)) == NUMBERS
    known = paper.published()
    for table in paper_tables.TABLES.values():
        assert known.loc[list(table.rows), list(table.measures)].notna().any(axis=1).all() or (
            ("CNN-LSTM-400-d80", 80) in table.rows
        )


def test_every_published_result_is_in_some_table():
    rows = {key for table in paper_tables.TABLES.values() for key in table.rows}
    assert rows == set(paper.published().index)


@pytest.mark.parametrize(
    ("number", "key", "measure", "printed"),
    [
        (1, ("LSTM-448", 72), "parameters_millions", "2.915"),
        (1, ("CNN-LSTM-416", 72), "train_hours_p100", "8.820"),
        (2, ("CNN-GRU-416", 72), "accuracy_h22", "45.371"),
        (6, ("LSTM-448-f2", 72), "accuracy_h22", "58.752"),
        (8, ("CNN-LSTM-400", 80), "accuracy_h22", "80.859"),
        (8, ("CNN-LSTM-400-d80", 80), "accuracy_h11", "99.668"),
        (12, ("Ens-80-4", 80), "accuracy_h31", "97.070"),
        (13, ("Ens-1", 72), "mse_mean", "0.708"),
        (15, ("LSTM-400", 72), "mae_h22", "0.782"),
        (17, ("LSTM-448-f1", 72), "mse_h22", "4.982"),
        (20, ("LSTM-448-5f", 72), "mse_mean", "0.828"),
        (23, ("LSTM-448-f1", 80), "r2_h21", "0.991"),
        (24, ("Ens-80-5", 80), "mae_mean", "0.078"),
    ],
)
def test_published_values_as_printed(number, key, measure, printed):
    assert f"{paper_tables.build(number, []).at[(*key, measure), 'published']:.3f}" == printed


@pytest.mark.parametrize("number", NUMBERS)
def test_every_table_stands_without_any_result(number):
    frame = paper_tables.build(number, [])
    table = paper_tables.TABLES[number]
    assert len(frame) == len(table.rows) * len(table.measures)
    assert (frame["runs"] == 0).all()
    assert frame[["ours", "lowest", "highest", "difference"]].isna().all(axis=None)


def test_median_range_and_difference_of_several_seeds(main):
    frame = paper_tables.build(4, main)
    row = frame.loc[("LSTM-448", 72, "accuracy_h22")]  # 32 and 36 of 40 are right
    assert (row["ours"], row["lowest"], row["highest"], row["runs"]) == (85.0, 80.0, 90.0, 2)
    assert row["difference"] == pytest.approx(85 - 78.62612276895389)
    assert frame.loc[("LSTM-424", 72, "accuracy_h11"), "ours"] == 70.0
    assert frame.loc[("LSTM-456", 72, "accuracy_h11"), "runs"] == 0


def test_baselines_are_the_last_rows_of_every_table_but_the_first(main):
    names = list(dict.fromkeys(paper_tables.build(14, main).index.get_level_values("name")))
    assert names[-2:] == ["constant prediction", "ridge regression"]
    assert "constant prediction" not in paper_tables.build(1, main).index.get_level_values("name")
    ridge = paper_tables.build(14, main).loc[("ridge regression", 72, "mse_h11")]
    assert ridge["ours"] == 30 / 40
    assert math.isnan(ridge["published"])


def test_weights_and_hours(main):
    frame = paper_tables.build(1, main)
    assert frame.loc[("LSTM-448", 72, "parameters_millions"), "ours"] == 2.915332
    assert frame.loc[("LSTM-448", 72, "train_hours_p100"), "ours"] == 2.0


def test_what_the_paper_leaves_out_is_told():
    without = {n for n, table in paper_tables.TABLES.items() if paper_tables.left_out(table.rows)}
    assert without == {13, 14, 15, 16}
    assert "CNN-LSTM-416" in paper_tables.left_out(paper_tables.CONVERGED)
    assert not paper_tables.left_out(paper_tables.MODELS)


def test_one_name_on_two_test_sets_is_two_results(main):
    assert paper_tables.build(6, main).loc[("LSTM-448-f1", 72, "accuracy_h11"), "ours"] == 85.0
    assert paper_tables.build(8, main).loc[("LSTM-448-f1", 80, "accuracy_h11"), "ours"] == 82.5


def test_unknown_tables_are_refused():
    with pytest.raises(ValueError, match="no Table 25; it has 1 to 24"):
        paper_tables.build(25, [])
    with pytest.raises(ValueError, match="Table 2 is not one of best results"):
        paper_tables.best(2, [])


def test_the_best_are_chosen_by_validation_and_never_by_test(tmp_path):
    luck = run_folder.record("LSTM-424", miss=0)  # best on the test set
    luck["metrics"]["validation"] = run_folder.measures(20)
    good = run_folder.record("LSTM-448", miss=9)
    fold = run_folder.record("LSTM-448-f1", split="fold-1", miss=3)
    fold["metrics"]["out_of_fold"] = fold["metrics"].pop("validation")
    unknown = run_folder.record("LSTM-448-f0", split="fold-0", miss=1)
    del unknown["metrics"]["validation"]
    for number, record in enumerate((luck, good, fold, unknown)):
        run_folder.write(tmp_path, f"{number}_notebook/a", record)
    records = paper.collect(tmp_path)
    chosen = {
        number: [(rank, record["model"]) for rank, record in paper_tables.best(number, records)]
        for number in (10, 11, 12)
    }
    assert chosen[10] == [(1, "LSTM-448"), (2, "LSTM-424")]
    assert chosen[11] == [(1, "LSTM-448-f1"), (2, "LSTM-448"), (3, "LSTM-424")]
    assert chosen[12] == []
    for name in ("LSTM-448-f4", "Graph-64-f4-fast", "Graph-64-f4-d80-fast"):  # judged on 80 %
        fold = run_folder.record(name, split="80") | {"kind": "model"}
        assert [r["model"] for _, r in paper_tables.best(10, [*records, fold])] == [
            "LSTM-448",
            "LSTM-424",
        ]
    for record in records:
        record["metrics"]["test"] = {}  # nobody looks
    assert [record["model"] for _, record in paper_tables.best(10, records)] == [
        "LSTM-448",
        "LSTM-424",
    ]


def test_the_best_seed_stands_for_its_name(main):
    chosen = [(record["model"], record["seed"]) for _, record in paper_tables.best(10, main)]
    assert chosen == [("LSTM-448", 43), ("LSTM-424", 42), ("LSTM-448-d80", 42)]


def test_ranking_by_mean_accuracy(main):
    names = list(dict.fromkeys(paper_tables.ranking(72, main).index.get_level_values("name")))
    assert names == [
        "hill climb",
        "Ens-4",
        "LSTM-448",
        "LSTM-448-f1",
        "LSTM-424",
        "ridge regression",
        "constant prediction",
    ]
    assert paper_tables.ranking(80, main).index[0] == ("LSTM-448-d80", 80, "accuracy_h11")
    assert paper_tables.ranking(72, []).empty


def test_missing_results_are_named(main):
    absent = paper_tables.missing(main)
    assert ("LSTM-456", 72) in absent
    assert ("LSTM-448-f1", 80) not in absent
    assert len(absent) == len(paper.published()) - 6
