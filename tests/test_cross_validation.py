"""Five folds trained one at a time, put together from their folders."""

import dataclasses
import shutil

import numpy as np
import pytest

from cicy_utils import cross_validation, recipes, records, tables
from cicy_utils.data import Cicy4, load_cicy4
from cicy_utils.splits import cv_folds, split_72
from cicy_utils.training import TrainConfig

CONFIG = TrainConfig(max_epochs=1, batch_size=16, learning_rate=0.001, device="cpu")


@pytest.fixture(scope="module")
def data() -> Cicy4:
    return load_cicy4(subset=60)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """Folds 0, 1 and 4, trained in another order."""
    folder = tmp_path_factory.mktemp("13_cross_validation")
    for number in (4, 0, 1):
        train(data, number, folder / f"fold-{number}")
    return folder


def train(data, number, run_dir, **options):
    return cross_validation.train_fold(
        "LSTM-448", number, data, CONFIG, run_dir, notebook="13_cross_validation",
        **{"hidden_size": 3} | options,
    )  # fmt: skip


def test_a_fold_has_the_papers_name_and_its_own_split(folder, data):
    record = records.read_metrics(folder / "fold-1")
    assert (record["model"], record["architecture"]) == ("LSTM-448-f1", "LSTM-448")
    assert record["split"]["name"] == "fold-1"
    assert record["split"]["fingerprints"] == cv_folds(60)[1].fingerprints


def test_a_fold_of_another_layout_is_labelled(data, tmp_path):
    other = dataclasses.replace(data, layout="zeros-first")
    record = train(other, 0, tmp_path / "fold-0")
    assert "layout zeros-first instead of stored" in record["label"]


def test_a_fold_by_the_fast_recipe_has_a_name_of_its_own(data, tmp_path):
    arranged = load_cicy4(subset=60, layout="zeros-first")
    config = recipes.config("fast", "Graph-64", max_epochs=1, batch_size=16, device="cpu")
    record = cross_validation.train_fold(
        "Graph-64",
        1,
        arranged,
        config,
        tmp_path / "fold-1",
        notebook="13_cross_validation",
        recipe="fast",
    )
    assert (record["model"], record["architecture"]) == ("Graph-64-f1-fast", "Graph-64")
    assert "the fast recipe" in record["label"]
    for same in ("layout", "learning rate", "huber delta"):
        assert same not in record["label"]


def test_three_sets_of_predictions_are_kept(folder):
    fold, whole = cv_folds(60)[1], split_72(60)
    for part, indices in {
        "out_of_fold": fold.validation,
        "validation": whole.validation,
        "test": whole.test,
    }.items():
        saved = records.load_predictions(folder / "fold-1", part)
        np.testing.assert_array_equal(saved.indices, indices)


def test_what_a_fold_has_seen_is_no_validation(folder):
    """Folds 0 to 3 were trained on the whole validation set of the 72 % split."""
    for number, seen in ((0, 5), (1, 5), (4, 0)):
        record = records.read_metrics(folder / f"fold-{number}")
        assert record["seen"]["validation"] == seen
        assert record["seen"]["out_of_fold"] == record["seen"]["test"] == 0
        assert ("validation" in record["metrics"]) == (number == 4)
        assert "out_of_fold" in record["metrics"]
        assert "out of fold" in tables.parts(record).to_html()


def test_what_is_there_is_put_together_in_order(folder):
    for own in ("fold-0", "fold-4"):
        found = cross_validation.finished(folder / own)
        assert [path.name for path in found] == ["fold-0", "fold-1", "fold-4"]
        models = [record["model"] for record in found.values()]
        assert models == ["LSTM-448-f0", "LSTM-448-f1", "LSTM-448-f4"]


def test_out_of_fold_predictions_are_each_of_another_configuration(folder):
    found = cross_validation.finished(folder / "fold-0")
    together = cross_validation.out_of_fold(list(found))
    expected = np.concatenate([cv_folds(60)[number].validation for number in (0, 1, 4)])
    np.testing.assert_array_equal(together.indices, expected)
    with pytest.raises(ValueError, match="out of fold twice"):
        cross_validation.out_of_fold([*found, folder / "fold-1"])


def test_a_fold_trained_on_what_it_calls_out_of_fold_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder / "fold-1", tmp_path / "fold-1")
    mask = records.load_trained_on(copy)
    mask.indices[cv_folds(60)[1].validation[0]] = True
    records.save_trained_on(copy, mask.indices, 60, mask.fingerprint)
    with pytest.raises(ValueError, match="was trained on 1 configurations called out of fold"):
        cross_validation.out_of_fold([copy])


def test_folds_of_another_list_or_split_are_not_mixed_in(folder, data, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "13")
    train(data, 2, copy / "fold-2", split_seed=7)
    train(load_cicy4(subset=50), 3, copy / "fold-3")
    found = cross_validation.finished(copy / "fold-0")
    assert [path.name for path in found] == ["fold-0", "fold-1", "fold-4"]
    assert [path.name for path in cross_validation.finished(copy / "fold-2")] == ["fold-2"]


@pytest.mark.parametrize("change", ["architecture", "weights", "layout", "recipe"])
def test_folds_of_another_network_layout_or_recipe_are_not_mixed_in(folder, tmp_path, change):
    for name in ("fold-0", "fold-1"):
        shutil.copytree(folder / name, tmp_path / name)
    record = records.read_metrics(tmp_path / "fold-1")
    assert len(cross_validation.finished(tmp_path / "fold-0")) == 2
    changed = {
        "architecture": {"architecture": "LSTM-424"},
        "weights": {"weights": 1},
        "layout": {"data": record["data"] | {"layout": "descending"}},
        "recipe": {"settings": record["settings"] | {"huber_delta": 0.5}},
    }
    records.write_metrics(tmp_path / "fold-1", **(record | changed[change]))
    assert list(cross_validation.finished(tmp_path / "fold-0")) == [tmp_path / "fold-0"]


def test_a_fold_whose_settings_were_saved_as_integers_belongs_to_the_others(folder, tmp_path):
    for name in ("fold-0", "fold-1"):
        shutil.copytree(folder / name, tmp_path / name)
    record = records.read_metrics(tmp_path / "fold-1")
    integers = {"huber_delta": 1, "averaging": 0, "loss_weights": [1, 1, 1, 1]}
    record["settings"] |= integers
    records.write_metrics(tmp_path / "fold-1", **record)
    assert len(cross_validation.finished(tmp_path / "fold-0")) == 2


def test_another_run_of_this_fold_is_left_out(folder, tmp_path):
    again = [tmp_path / "fold-0", tmp_path / "fold-0-again"]
    for other in again:
        shutil.copytree(folder / "fold-0", other)
    for other in again:
        assert list(cross_validation.finished(other)) == [other]


def test_a_fold_whose_record_is_damaged_is_left_out(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "all")
    (copy / "fold-1" / "metrics.json").write_text("{")
    assert list(cross_validation.finished(copy / "fold-4")) == [copy / "fold-0", copy / "fold-4"]


def test_tables_of_the_folds(folder):
    found = cross_validation.finished(folder / "fold-0")
    table = tables.folds(found).data
    assert table.loc["LSTM-448-f1", ("published", "<i>h</i><sup>2,2</sup>")] == pytest.approx(
        81.98325
    )
    assert list(table.index) == ["LSTM-448-f0", "LSTM-448-f1", "LSTM-448-f4"]
    fast = {path: one | {"model": f"{one['model']}-fast"} for path, one in found.items()}
    same = tables.folds(fast).data.loc["LSTM-448-f1-fast"]
    assert same["published"].equals(table.loc["LSTM-448-f1", "published"])
    held_out = tables.out_of_fold(found).data
    assert held_out["configurations"].tolist() == [10, 10, 9, 29]
    first = dict([next(iter(found.items()))])
    assert tables.out_of_fold(first).data.index.tolist() == ["LSTM-448-f0"]  # nothing together
    assert "quick run: 60 of 905,684" in tables.out_of_fold(found).to_html()


@pytest.mark.parametrize("number", [-1, 5, 1.5])
def test_there_are_five_folds(data, tmp_path, number):
    with pytest.raises(ValueError, match=r"the splits are .* fold-0, .* fold-4, not 'fold-"):
        train(data, number, tmp_path)
    assert not list(tmp_path.iterdir())
