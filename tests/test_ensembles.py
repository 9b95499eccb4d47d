"""Ensembles: the paper's, and hill climbing that sees nothing it must not see."""

import dataclasses
import json
import zlib

import numpy as np
import pandas as pd
import pytest

from cicy_utils import ensembles, metrics, paper, records, tables
from cicy_utils.data import Cicy4, load_cicy4
from cicy_utils.ensembles import at, average, hill_climb
from cicy_utils.metrics import DECODINGS
from cicy_utils.records import Mask, Predictions
from cicy_utils.splits import Split, cv_folds, split_72, split_80

N = 40
INDICES = np.arange(30, 40)  # what the small climbs are on
UNSEEN = Mask(np.arange(N) < 20, "list")


def predictions(values, indices=(4, 7)) -> Predictions:
    values = np.array(values, dtype=float)
    return Predictions(np.array(indices), values, np.zeros(values.shape, dtype=int))


def same_in_all(column) -> np.ndarray:
    """The same prediction for each of the four Hodge numbers."""
    return np.tile(np.array(column, dtype=float)[:, None], (1, 4))


def climb(members, labels, **options):
    n = len(labels)
    options = {"trained_on": dict.fromkeys(members, UNSEEN), "indices": INDICES[:n]} | options
    return hill_climb(members, labels, **options)


def test_the_fourteen_are_those_of_the_published_table():
    published = paper.published()["members"].dropna()
    theirs = {name: (str(split), members) for (name, split), members in published.items()}
    ours = {name: (e.split, "+".join(e.members)) for name, e in ensembles.PAPER.items()}
    assert ours == theirs
    assert len(ours) == 14


def test_outputs_are_averaged_before_anything_is_rounded():
    low, high = predictions([[0.4] * 4, [1.0] * 4]), predictions([[0.8] * 4, [2.0] * 4])
    mean = average([low, high])
    np.testing.assert_allclose(mean.predictions, [[0.6] * 4, [1.5] * 4])
    # rounded first, 0.4 and 0.8 would make 0.5
    assert np.rint(mean.predictions)[0].tolist() == [1] * 4
    np.testing.assert_allclose(average([low, high], [3, 1]).predictions[1], [1.25] * 4)


def test_members_must_belong_together():
    one = predictions([[0] * 4, [1] * 4])
    with pytest.raises(ValueError, match="different configurations"):
        average([one, predictions([[0] * 4, [1] * 4], indices=(7, 4))])
    with pytest.raises(ValueError, match="different labels"):
        average([one, one._replace(labels=one.labels + 1)])
    with pytest.raises(ValueError, match="0 members"):
        average([])
    for wrong in ([2, -1], [0, 0], [1, np.nan], [1, np.inf]):
        with pytest.raises(ValueError, match="must be finite, not negative and not all 0"):
            average([one, one], wrong)


def test_predictions_are_aligned_by_configuration():
    found = at(predictions([[4] * 4, [7] * 4, [2] * 4], (4, 7, 2)), np.array([2, 4]))
    assert found.indices.tolist() == [2, 4]
    assert found.predictions[:, 0].tolist() == [2, 4]
    for unknown in ([4, 5], [9], [0]):
        with pytest.raises(ValueError, match="not predicted"):
            at(predictions([[4] * 4, [7] * 4]), np.array(unknown))


def test_a_climb_computed_by_hand():
    """A is best alone; half of A and half of B is right everywhere; C never helps.

    Labels 0. A: 0.0, 0.0, 0.8 (two right). B: 0.6, 0.6, -0.8 (none). (A + B) / 2: 0.3, 0.3, 0.
    Then (2 A + B) / 3: 0.2, 0.2, 0.267 is right too, with a loss of (0.04 + 0.04 + 0.0711) / 6 =
    0.02519, smaller than (0.09 + 0.09) / 6 = 0.03. (3 A + B) / 4 has 0.15, 0.15, 0.4: 0.03417;
    (2 A + 2 B) / 4 is (A + B) / 2 again: 0.03, the better of the two.
    """
    labels = np.zeros((3, 4), dtype=int)
    members = {
        "C": same_in_all([5, 5, 5]),
        "B": same_in_all([0.6, 0.6, -0.8]),
        "A": same_in_all([0.0, 0.0, 0.8]),
    }
    result = climb(members, labels, rounds=1)
    assert result.weights == pytest.approx({"A": 2 / 3, "B": 1 / 3})
    assert result.path["member"].tolist() == ["A", "B", "A", "B"]
    assert result.path["accuracy"].tolist() == pytest.approx([200 / 3, 100, 100, 100])
    losses = [0.64 / 6, 0.03, (0.2**2 * 2 + (0.8 / 3) ** 2) / 6, 0.03]
    assert result.path["loss"].tolist() == pytest.approx(losses)
    assert result.path["kept"].tolist() == [True, True, True, False]


def test_accuracy_counts_more_than_loss():
    labels = np.zeros((2, 4), dtype=int)
    right_once = same_in_all([0.0, 30.0])
    close_never = same_in_all([0.6, 0.6])
    result = climb({"close": close_never, "right": right_once}, labels, rounds=1)
    assert result.path["member"].iloc[0] == "right"


def test_a_climb_is_never_worse_than_its_best_member():
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, (10, 4))
    members = {str(k): labels + random.normal(0, 0.3 + 0.1 * k, (10, 4)) for k in range(6)}
    result = climb(members, labels)
    best = max(ensembles.score(values, labels) for values in members.values())
    mean = sum(share * members[name] for name, share in result.weights.items())
    assert ensembles.score(mean, labels) >= best
    assert sum(result.weights.values()) == pytest.approx(1)
    kept = result.path[result.path["kept"]]
    assert kept["accuracy"].iloc[-1] == pytest.approx(ensembles.score(mean, labels)[0])
    assert len(result.path) == min(len(kept) + ensembles.ROUNDS, ensembles.MOST_ROUNDS)


def test_a_leaking_member_is_refused():
    labels = np.zeros((10, 4), dtype=int)
    members = {"honest": labels + 0.7, "leaking": labels + 0.0}
    leak = UNSEEN.indices.copy()
    leak[INDICES[3]] = True  # one configuration is enough
    masks = {"honest": UNSEEN, "leaking": Mask(leak, "list")}
    with pytest.raises(ValueError, match="leaking was trained on 1 of the 10 configurations"):
        climb(members, labels, trained_on=masks)
    with pytest.raises(ValueError, match="nobody knows what leaking was trained on"):
        climb(members, labels, trained_on={"honest": UNSEEN})


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ({}, {}, "no member"),
        ({"a": np.zeros((3, 4))}, {}, r"shape \(3, 4\) for 2"),
        ({"a": np.zeros((2, 4))}, {"rounds": 0}, "at least 1"),
    ],
)
def test_climbs_that_make_no_sense_are_refused(members, options, message):
    with pytest.raises(ValueError, match=message):
        climb(members, np.zeros((2, 4), dtype=int), **options)


@pytest.mark.parametrize("shape", [(2, 3), (3, 4), (2,)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"labels must have shape \(n, 4\)"):
        climb({"a": np.zeros((2, 4))}, np.zeros(shape, dtype=int), indices=INDICES[:2])


# A run folder of models that were never trained: their predictions are labels and noise.


@pytest.fixture(scope="module")
def data() -> Cicy4:
    return load_cicy4(subset=200)


def save_member(run_folder, place, name, data: Cicy4, split: Split, noise, trained_on=None):
    """A finished model: exact predictions with noise of that size."""
    run_dir = run_folder / place
    random = np.random.default_rng(zlib.crc32(place.encode()))
    measured = {}
    base = split_72(len(data), 42 if split.seed is None else split.seed)
    validation = split.validation if split.name == "80" else base.validation
    for part, indices in {
        "train": split.train,
        "validation": validation,
        "test": split.test,
    }.items():
        values = data.hodge[indices] + random.normal(0, noise, (len(indices), 4))
        records.save_predictions(run_dir, part, indices, values, data.hodge[indices])
        measured[part] = metrics.evaluate(values, data.hodge[indices]).to_dict(orient="index")
    trained_on = split.train if trained_on is None else trained_on
    records.save_trained_on(run_dir, trained_on, len(data), data.fingerprint)
    records.write_metrics(
        run_dir,
        notebook=place.split("/")[0],
        model=name,
        variant=place.split("/")[1],
        label="quick run: 200 of 905,684 configurations",
        seed=42,
        settings={},
        data={"fingerprint": data.fingerprint, "configurations": len(data)},
        split={"name": split.name, "seed": split.seed, "fingerprints": split.fingerprints},
        weights=1,
        training={"best_validation_loss": noise},
        metrics=measured,
        environment={},
    )
    return run_dir


@pytest.fixture
def run_folder(data, tmp_path):
    n = len(data)
    first, later, folds = split_72(n), split_80(n), cv_folds(n)
    for place, name, noise in (
        ("07_cnn_lstm_400/seed-42", "CNN-LSTM-400", 0.5),
        ("11_lstm_448/seed-42", "LSTM-448", 0.6),
        ("11_lstm_448/seed-43", "LSTM-448", 0.4),
    ):
        save_member(tmp_path, place, name, data, first, noise)
    for number in (1, 4):
        name = f"LSTM-448-f{number}"
        save_member(tmp_path, f"13_cross_validation/fold-{number}", name, data, folds[number], 0.1)
    grown = np.concatenate([first.train, later.train])
    save_member(tmp_path, "14_retraining/d80", "LSTM-448-d80", data, later, 0.3, grown)
    return tmp_path


def everything(run_folder, data):
    splits = [split_72(len(data)), split_80(len(data))]
    found = {s.name: ensembles.find_members(run_folder, data, s) for s in splits}
    climbs = {s.name: ensembles.climb(found[s.name], s) for s in splits}
    run_dir = run_folder / "15_ensembles" / "all"
    record, entries = ensembles.record_ensembles(
        found, climbs, data, splits, run_dir, notebook="15_ensembles"
    )
    return found, climbs, record, entries


def test_a_killed_evaluation_leaves_nothing_of_an_earlier_one(run_folder, data, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    everything(run_folder, data)
    written = [
        run_folder / "15_ensembles" / "all" / name for name in ("metrics.json", "ensembles.json")
    ]
    assert all(path.exists() for path in written)
    monkeypatch.setattr(ensembles, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        everything(run_folder, data)
    assert not any(path.exists() for path in written)


def test_fold_four_alone_has_not_seen_the_validation_set():
    """For every size of list, the piece that it keeps out holds the whole validation set."""
    for n in (10, 50, 203, 905_684):
        validation = split_72(n).validation
        for number, fold in enumerate(cv_folds(n)):
            inside = np.isin(validation, fold.validation)
            assert inside.all() if number == 4 else not inside.any()


def test_who_is_found_and_who_may_climb(run_folder, data):
    found, climbs, _, _ = everything(run_folder, data)
    singles = {"CNN-LSTM-400", "LSTM-448", "LSTM-448 (seed-42)"}
    assert set(found["72"].members) == {*singles, "LSTM-448-f1", "LSTM-448-f4"}
    assert set(found["80"].members) == {*found["72"].members, "LSTM-448-d80"}
    # of two seeds the one that validates better has the name
    assert found["72"].members["LSTM-448"].place == "11_lstm_448/seed-43"
    for split in ("72", "80"):
        assert list(climbs[split].left_out) == ["LSTM-448-f1"]
        assert "16 of the 16 validation configurations" in climbs[split].left_out["LSTM-448-f1"]
        assert set(climbs[split].weights) <= set(found[split].members) - {"LSTM-448-f1"}


def test_of_two_seeds_the_more_accurate_joins_whatever_its_loss_is_measured_in(run_folder, data):
    folder = run_folder / "11_lstm_448" / "seed-42"
    record = records.read_metrics(folder)
    record["training"]["best_validation_loss"] = 1e-6  # by a loss in larger units
    records.write_metrics(folder, **record)
    found = ensembles.find_members(run_folder, data, split_72(len(data)))
    assert found.members["LSTM-448"].place == "11_lstm_448/seed-43"


def test_a_run_folder_that_is_not_there_is_named(run_folder, data):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*mine to read results from"):
        ensembles.find_members(run_folder / "mine", data, split_72(len(data)))


def test_published_weights_without_predictions_stay_outside(run_folder, data):
    for path in (run_folder / "11_lstm_448" / "seed-43").glob("predictions_*.npz"):
        path.unlink()
    split = split_72(len(data))
    found = ensembles.find_members(run_folder, data, split)
    assert found.members["LSTM-448"].place == "11_lstm_448/seed-42"
    assert "no predictions" in found.left_out["LSTM-448 (seed-43)"]
    (run_folder / "07_cnn_lstm_400" / "seed-42" / "predictions_validation.npz").unlink()
    found = ensembles.find_members(run_folder, data, split)
    assert "no predictions of part 'validation'" in found.left_out["CNN-LSTM-400"]
    (run_folder / "13_cross_validation" / "fold-1" / "predictions_test.npz").unlink()
    found = ensembles.find_members(run_folder, data, split)
    assert "no predictions of part 'test'" in found.left_out["LSTM-448-f1"]
    assert ensembles.climb(found, split).weights


def test_several_trainings_of_one_model_make_an_ensemble(run_folder, data):
    """Two seeds that are off in opposite directions, and by little in the mean."""
    split = split_72(len(data))
    for seed, shift in ((44, 0.55), (45, -0.6)):
        folder = save_member(run_folder, f"09_lstm_400/seed-{seed}", "LSTM-400", data, split, 0.01)
        for part in ("validation", "test"):
            values = records.load_predictions(folder, part)
            shifted = values.predictions + shift
            records.save_predictions(folder, part, values.indices, shifted, values.labels)
    found = ensembles.find_members(run_folder, data, split)
    pair = {name for name in found.members if name.startswith("LSTM-400")}
    assert pair == {"LSTM-400", "LSTM-400 (seed-45)"}
    only = ensembles.Members({name: found.members[name] for name in pair}, {})
    reached = ensembles.climb(only, split)
    assert reached.weights.keys() == pair
    assert min(reached.weights.values()) > 0.4
    assert reached.path["accuracy"].max() == 100


def test_weights_that_were_only_judged_again_are_one_member(run_folder, data):
    """As CNN-LSTM-400 on the 80 % split, whose folder is of notebook 14."""
    later, place = split_80(len(data)), "14_retraining/CNN-LSTM-400"
    first = split_72(len(data)).train
    folder = save_member(run_folder, place, "CNN-LSTM-400", data, later, 0.5, first)
    record = records.read_metrics(folder)
    record["training"]["retrained"] = False
    records.write_metrics(folder, **record, checkpoint="07_cnn_lstm_400/seed-42")
    found = ensembles.find_members(run_folder, data, later)
    same = {name: m.place for name, m in found.members.items() if "CNN-LSTM-400" in name}
    assert same == {"CNN-LSTM-400": place}
    # The checkpoint may be that of another run, in a folder of the same name.
    record["training"]["best_validation_loss"] += 1
    records.write_metrics(folder, **record, checkpoint="07_cnn_lstm_400/seed-42")
    found = ensembles.find_members(run_folder, data, later)
    both = {name: m.place for name, m in found.members.items() if "CNN-LSTM-400" in name}
    assert both == {"CNN-LSTM-400": place, "CNN-LSTM-400 (seed-42)": "07_cnn_lstm_400/seed-42"}


def test_no_result_takes_the_name_of_another(run_folder, data):
    split, folders = split_72(len(data)), ("09_lstm_400", "10_lstm_424", "12_lstm_456")
    for folder in folders:
        save_member(run_folder, f"{folder}/seed-44", "LSTM-448", data, split, 0.9)
    found = ensembles.find_members(run_folder, data, split)
    alike = {m.place for m in found.members.values() if m.place.endswith("seed-44")}
    assert alike == {f"{folder}/seed-44" for folder in folders}


def test_results_of_another_list_split_or_test_set_stay_outside(run_folder, data):
    n = len(data)
    other = Cicy4(data.matrices, data.hodge, "test", "stored", "e" * 64)
    save_member(run_folder, "09_lstm_400/seed-42", "LSTM-400", other, split_72(n), 0.1)
    save_member(run_folder, "12_lstm_456/seed-42", "LSTM-456", data, split_72(n, 7), 0.1)
    published = dataclasses.replace(split_72(n), seed=None)
    save_member(run_folder, "05_cnn_lstm_256/seed-42", "CNN-LSTM-256", data, published, 0.1)
    leaking = np.concatenate([split_72(n).train, split_72(n).test[:3]])
    save_member(run_folder, "10_lstm_424/seed-42", "LSTM-424", data, split_72(n), 0.1, leaking)
    unknown = save_member(
        run_folder, "06_cnn_lstm_384/seed-42", "CNN-LSTM-384", data, split_72(n), 0.1
    )
    (unknown / "trained_on.npz").unlink()
    found = ensembles.find_members(run_folder, data, split_72(n))
    assert "other configurations" in found.left_out.pop("LSTM-400")
    assert "another split, of seed 7" in found.left_out.pop("LSTM-456")
    assert "another split, the published one" in found.left_out.pop("CNN-LSTM-256")
    assert "was trained on 3 of the 40 configurations" in found.left_out.pop("LSTM-424")
    assert "trained on is not kept here" in found.left_out.pop("CNN-LSTM-384")
    assert not found.left_out


def test_ensembles_json_has_what_can_be_made_and_names_what_cannot(run_folder, data):
    _, climbs, record, entries = everything(run_folder, data)
    run_dir = run_folder / "15_ensembles" / "all"
    assert json.loads((run_dir / "ensembles.json").read_text()) == entries
    assert record == records.read_metrics(run_dir)
    by_name = {entry["name"]: entry for entry in entries}
    made = {"Ens-1", "LSTM-448-f1f4", "Ens-f1f4-CL400", "Ens-0f1f4-CL400", "Ens-80-2"}
    assert set(by_name) == made | {"Climb-72", "Climb-80"}
    assert set(record["missing"]) == set(ensembles.PAPER) - made
    assert record["missing"]["Ens-2"] == ["LSTM-424"]
    assert "model" not in record
    assert record["label"] == "quick run: 200 of 905,684 configurations"

    first = by_name["Ens-1"]
    assert (first["members"], first["weights"]) == (["CNN-LSTM-400", "LSTM-448"], [0.5, 0.5])
    assert first["places"] == ["07_cnn_lstm_400/seed-42", "11_lstm_448/seed-43"]
    climbed = by_name["Climb-72"]
    names, places = climbed["members"], climbed["places"]
    assert dict(zip(names, record["climbs"]["72"]["places"], strict=True)) == dict(
        zip(names, places, strict=True)
    )
    assert (first["split"], first["chosen_by"]) == ("72", "paper")
    assert first["data_fingerprint"] == data.fingerprint
    assert first["test_fingerprint"] == split_72(200).fingerprints["test"]
    assert set(first["metrics"]) == {"train", "validation", "test"}
    assert list(first["metrics"]["test"]) == list(DECODINGS)
    assert first["residuals"]["configurations"] == 16
    assert first["residuals"]["covariance"][0][0] < 0.5**2  # two members, noise 0.5 and 0.4
    # f1 was trained on the validation set, and folds do not share a training set
    assert set(by_name["LSTM-448-f1f4"]["metrics"]) == {"test"}
    assert by_name["LSTM-448-f1f4"]["residuals"] is None
    assert "consistent" not in by_name["LSTM-448-f1f4"]["metrics"]["test"]
    assert by_name["Climb-80"]["chosen_by"] == "validation"
    assert by_name["Climb-80"]["members"] == list(climbs["80"].weights)

    collected = {r["model"]: r for r in paper.collect(run_folder) if r["kind"] == "ensemble"}
    assert set(collected) == set(by_name)


def test_an_ensemble_is_measured_on_the_mean_of_its_members(run_folder, data):
    _, _, _, entries = everything(run_folder, data)
    (entry,) = [entry for entry in entries if entry["name"] == "Ens-80-2"]
    test = split_80(len(data)).test
    means = []
    for place in ("14_retraining/d80", "07_cnn_lstm_400/seed-42"):
        saved = records.load_predictions(run_folder / place, "test")
        rows = {index: row for index, row in zip(saved.indices, saved.predictions, strict=True)}
        means.append([rows[index] for index in test])
    right = np.rint(np.mean(means, axis=0)) == data.hodge[test]
    raw = entry["metrics"]["test"]["raw"]
    ours = [raw[f"accuracy_{name}"] for name in ("h11", "h21", "h31", "h22")]
    assert ours == pytest.approx(100 * right.mean(axis=0))


def test_choices_never_see_the_test_set(run_folder, data, monkeypatch):
    """The climbs read validation predictions only, and other test labels do not change them."""
    split = split_72(len(data))
    read = []
    load = records.load_predictions
    monkeypatch.setattr(
        records, "load_predictions", lambda folder, part: read.append(part) or load(folder, part)
    )
    before = ensembles.climb(ensembles.find_members(run_folder, data, split), split)
    assert set(read) == {"validation"}
    for path in run_folder.glob("*/*/predictions_test.npz"):
        path.write_bytes(b"nobody looks")
    after = ensembles.climb(ensembles.find_members(run_folder, data, split), split)
    pd.testing.assert_frame_equal(before.path, after.path)


def test_picks_stand_beside_each_other(run_folder, data):
    _, _, record, _ = everything(run_folder, data)
    picks = record["picks"]["72"]
    # f1 has as little noise, and validation knows nothing about it
    assert picks["paper's single models, by test accuracy"]["name"] == "LSTM-448-f4"
    assert picks["paper's single models, by validation"]["name"] == "LSTM-448-f4"
    assert picks["paper's ensembles, by test accuracy"]["name"] == "Ens-1"
    assert picks["paper's ensembles, by validation"]["name"] == "Ens-1"
    assert picks["hill climbing, by validation"]["name"] == "Climb-72"


def test_an_empty_folder_gives_an_empty_result(data, tmp_path):
    found, climbs, record, entries = everything(tmp_path, data)
    assert climbs == {"72": None, "80": None}
    assert entries == []
    assert set(record["missing"]) == set(ensembles.PAPER)
    assert tables.members(found).to_html()
    for table in (tables.climbs(record), tables.picks(record), tables.climbed(record, entries)):
        assert "quick run: 200 of 905,684 configurations" in table.to_html()
    page = tables.paper_ensembles(record, entries, "72").to_html()
    assert "None can be made here: there is no CNN-LSTM-400, LSTM-448, LSTM-424" in page
    assert "ours" not in page and "82.93" in page


def test_tables_show_published_beside_ours(run_folder, data):
    found, _, record, entries = everything(run_folder, data)
    table = tables.paper_ensembles(record, entries, "72").data
    assert len(table) == 9
    page = tables.paper_ensembles(record, entries, "72").to_html()
    lacking = record["missing"]["Ens-2"]
    assert f"Ens-2 is missing: there is no {', no '.join(lacking)}" in page
    assert table.loc["Ens-1", ("published", "<i>h</i><sup>2,2</sup>")] == pytest.approx(82.92507881)
    assert table.loc["Ens-2", ("ours", "all four")] != table.loc["Ens-2", ("ours", "all four")]
    assert "07_cnn_lstm_400/seed-42" in tables.members(found, "quick").to_html()
    assert "Climb-72" in tables.picks(record).to_html()
    (climb,) = [entry for entry in entries if entry["name"] == "Climb-80"]
    shown = tables.climbed(record, entries).data
    assert len(shown) == 2 * 4
    right = climb["metrics"]["test"]["consistent"]["accuracy_all"]
    assert shown.loc["Climb-80, consistent", "all four"] == right
    assert "LSTM-448-f1" in tables.climbs(record).to_html()


def test_labels_are_of_those_that_a_table_shows(run_folder, data):
    """A member with a recipe of its own labels the climbs that chose it, and nothing else."""
    quick, own = "quick run: 200 of 905,684 configurations", "changed recipe: the fast recipe"
    split = split_72(len(data))
    save_member(run_folder, "18_graph_64/fast-42", "Graph-64-fast", data, split, 0.01)
    path = run_folder / "18_graph_64" / "fast-42" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label": own}))
    _, climbs, record, entries = everything(run_folder, data)
    assert list(climbs["72"].weights) == ["Graph-64-fast"]  # it has the least noise by far
    assert climbs["72"].label == own
    # The paper's own selection is among the paper's names.
    assert "Graph-64-fast" not in {pick["name"] for pick in record["picks"]["72"].values()}
    for split in ("72", "80"):
        table = tables.paper_ensembles(record, entries, split)
        assert table.caption.endswith(f"<b>{quick}</b>")
    assert tables.climbs(record).caption.endswith(f"<b>{quick}, the fast recipe</b>")


def test_what_validation_picks_may_not_be_what_the_test_set_would(data, tmp_path):
    split = split_72(len(data))
    for place, name, noises in (
        ("07_cnn_lstm_400/seed-42", "CNN-LSTM-400", {"validation": 0.1, "test": 0.9}),
        ("11_lstm_448/seed-42", "LSTM-448", {"validation": 0.9, "test": 0.1}),
    ):
        folder = save_member(tmp_path, place, name, data, split, 0.5)
        for part, noise in noises.items():
            indices = split.parts[part]
            labels = data.hodge[indices]
            outputs = labels + np.random.default_rng(1).normal(0, noise, labels.shape)
            records.save_predictions(folder, part, indices, outputs, labels)
    _, _, record, _ = everything(tmp_path, data)
    picks = record["picks"]["72"]
    assert picks["paper's single models, by validation"]["name"] == "CNN-LSTM-400"
    assert picks["paper's single models, by test accuracy"]["name"] == "LSTM-448"


def test_the_weights_of_members_count_when_an_ensemble_is_measured(data, tmp_path):
    split = split_72(len(data))
    for place, name, noise in (
        ("07_cnn_lstm_400/seed-42", "CNN-LSTM-400", 0.5),
        ("11_lstm_448/seed-42", "LSTM-448", 0.3),
    ):
        save_member(tmp_path, place, name, data, split, noise)
    found = ensembles.find_members(tmp_path, data, split)
    weights = {"LSTM-448": 3.0, "CNN-LSTM-400": 1.0}
    euler = np.zeros(len(split.test), int)
    options = {"chosen_by": "validation", "euler": euler}
    entry = ensembles.measure("x", weights, found, data, split, **options)

    def mean(part: str) -> np.ndarray:
        first, second = (
            found.members[name].predict(part, split.parts[part]).predictions.astype(float)
            for name in weights
        )
        return 0.75 * first + 0.25 * second

    right = np.rint(mean("test")) == data.hodge[split.test]
    raw = entry["metrics"]["test"]["raw"]
    assert [raw[name] for name in metrics.ACCURACIES] == pytest.approx(100 * right.mean(axis=0))
    covariance = metrics.residual_covariance(mean("validation"), data.hodge[split.validation])
    np.testing.assert_allclose(entry["residuals"]["covariance"], covariance)
