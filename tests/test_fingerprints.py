"""Change one label, one index or one setting: the fingerprint that guards it changes.

And with it every table refuses to set the results side by side.
"""

import dataclasses
import re
import shutil

import numpy as np
import pytest
import run_folder

from cicy_utils import checkpoint, ensembles, paper, paper_tables, records, training
from cicy_utils.config import MAY_DIFFER_ON_RESUMING, TrainConfig
from cicy_utils.data import Cicy4, fingerprint, load_cicy4
from cicy_utils.evaluation import data_section, split_section
from cicy_utils.identity import require_same_run, run_identity
from cicy_utils.models import build_model
from cicy_utils.splits import Split, split_72

CONFIG = TrainConfig(max_epochs=1, batch_size=16, learning_rate=0.001, device="cpu")


@pytest.fixture(scope="module")
def data() -> Cicy4:
    return load_cicy4(subset=60)


@pytest.fixture(scope="module")
def split(data) -> Split:
    return split_72(len(data))


def with_one_label_changed(data: Cicy4, row: int, column: int) -> Cicy4:
    hodge = data.hodge.copy()
    hodge[row, column] += 1
    return dataclasses.replace(data, hodge=hodge, fingerprint=fingerprint(data.matrices, hodge))


def with_one_index_changed(split: Split, part: str) -> Split:
    """The last one of a part changes places with the last one of another."""
    other = "validation" if part == "train" else "train"
    parts = {name: indices.copy() for name, indices in split.parts.items()}
    parts[part][-1], parts[other][-1] = parts[other][-1], parts[part][-1]
    return Split(split.name, split.seed, **parts)


# Another valid value of every setting.
OTHER_VALUES = {
    "optimizer": "muon",
    "schedule": "one-cycle",
    "loss_weights": (1.0, 1.0, 1.0, 2.0),
    "device": "cuda",
    "precision": "tf32",
    "clip_norm": 1.0,
    "max_hours": 1.0,
}


def other_value(name: str) -> object:
    value = getattr(CONFIG, name)
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    return not value if isinstance(value, bool) else value + 1 if value >= 1 else value / 2 + 0.1


SETTINGS = [field.name for field in dataclasses.fields(TrainConfig)]
GUARDED = [name for name in SETTINGS if name not in MAY_DIFFER_ON_RESUMING]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (17, 3), (59, 1)])
def test_one_label_changes_the_fingerprint_of_the_list(data, row, column):
    other = with_one_label_changed(data, row, column)
    assert other.fingerprint != data.fingerprint
    assert data_section(other)["fingerprint"] != data_section(data)["fingerprint"]


def test_one_entry_of_one_matrix_changes_the_fingerprint_of_the_list(data):
    matrices = data.matrices.copy()
    matrices[31, 4, 5] += 1
    assert fingerprint(matrices, data.hodge) != data.fingerprint
    # A row of labels in another place is another list, too.
    assert fingerprint(data.matrices, np.roll(data.hodge, 1, axis=0)) != data.fingerprint


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_one_index_changes_the_fingerprint_of_its_part(split, part):
    other = with_one_index_changed(split, part)
    changed = {name for name in split.parts if other.fingerprints[name] != split.fingerprints[name]}
    assert changed == {part, "validation" if part == "train" else "train"}
    assert split_section(other)["fingerprints"] == other.fingerprints


@pytest.mark.parametrize("name", SETTINGS)
def test_one_setting_changes_the_fingerprint_of_the_settings(name):
    other = dataclasses.replace(CONFIG, **{name: other_value(name)})
    before, after = map(dataclasses.asdict, (CONFIG, other))
    assert records.settings_fingerprint(before) != records.settings_fingerprint(after)
    reordered = dict(reversed(before.items()))
    assert records.settings_fingerprint(before) == records.settings_fingerprint(reordered)


def result(data: Cicy4, split: Split, config: TrainConfig = CONFIG) -> dict:
    """A record as a training on these would leave it."""
    return run_folder.record("LSTM-448") | {
        "data": data_section(data),
        "split": split_section(split),
        "settings": dataclasses.asdict(config),
    }


def refused(tmp_path, *results: dict) -> str:
    """Why no table is made of these; and they are in groups of their own."""
    for number, value in enumerate(results):
        run_folder.write(tmp_path, f"{number}_notebook/seed-42", value)
    found = [record for record in paper.collect(tmp_path) if record["kind"] == "model"]
    with pytest.raises(ValueError) as refusal:
        paper_tables.build(4, found)
    assert [len(group) for group in paper.comparable(found)] == [1] * len(results)
    groups = paper.results_table(tmp_path).query("kind == 'model'")["group"]
    assert groups.nunique() == len(results)
    return str(refusal.value)


def test_no_table_mixes_labels(data, split, tmp_path):
    other = with_one_label_changed(data, 3, 2)
    why = refused(tmp_path, result(data, split), result(other, split))
    assert why.startswith("the results rest on different configurations")


def test_no_table_mixes_test_sets(data, split, tmp_path):
    other = with_one_index_changed(split, "test")
    why = refused(tmp_path, result(data, split), result(data, other))
    assert why.startswith("the results rest on different test sets")


@pytest.mark.parametrize("name", [name for name in GUARDED if name != "seed"])
def test_no_table_mixes_settings_under_one_name(data, split, tmp_path, name):
    other = dataclasses.replace(CONFIG, **{name: other_value(name)})
    why = refused(tmp_path, result(data, split), result(data, split, other))
    assert why.startswith("runs of one name were made with different settings")


@pytest.fixture(scope="module")
def trained(data, split, tmp_path_factory):
    """A folder in which a training was finished."""
    folder = tmp_path_factory.mktemp("run")
    training.fit(model(), data, split, CONFIG, folder)
    return folder


def model():
    return build_model("LSTM-448", hidden_size=4, seed=1)


@pytest.mark.parametrize("name", GUARDED)
def test_no_training_goes_on_with_another_setting(data, split, trained, name):
    other = dataclasses.replace(CONFIG, **{name: other_value(name)})
    identity = run_identity(model(), data, split, CONFIG)
    changed = run_identity(model(), data, split, other)
    with pytest.raises(ValueError, match=rf"belongs to another run, with settings\.{name}"):
        require_same_run(trained / checkpoint.STATE_FILE, identity, changed)


def test_no_training_goes_on_with_another_label_or_index(data, split, trained):
    before = (trained / checkpoint.STATE_FILE).read_bytes()
    for others, named in (
        ((with_one_label_changed(data, 3, 2), split), "data.fingerprint"),
        ((data, with_one_index_changed(split, "test")), "split.fingerprints.test"),
        ((data, with_one_index_changed(split, "train")), "split.fingerprints.train"),
    ):
        with pytest.raises(ValueError, match=re.escape(named)):
            training.fit(model(), *others, CONFIG, trained)
    assert (trained / checkpoint.STATE_FILE).read_bytes() == before


def test_no_ensemble_mixes_labels_or_test_sets(data, split, trained, tmp_path):
    folder = tmp_path / "11_lstm_448" / "seed-42"
    shutil.copytree(trained, folder)
    for part in ("validation", "test"):
        labels = data.hodge[split.parts[part]]
        records.save_predictions(folder, part, split.parts[part], labels, labels)
    for name, record in (
        ("", result(data, split)),
        ("other configurations", result(with_one_label_changed(data, 3, 2), split)),
        ("another test set", result(data, with_one_index_changed(split, "test"))),
    ):
        training_section = record["training"] | {"best_validation_loss": 1.0}
        records.write_metrics(folder, **(record | {"training": training_section}))
        found = ensembles.find_members(tmp_path, data, split)
        assert list(found.members) == ([] if name else ["LSTM-448"])
        assert name in found.left_out.get("LSTM-448", "")
