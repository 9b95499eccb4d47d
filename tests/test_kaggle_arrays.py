"""The arrays of the Kaggle data set: values, marks, own splits, refusals."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from cicy_utils import baselines, figures, splits, tables
from cicy_utils.archives import Folder, Refused
from cicy_utils.batch import status
from cicy_utils.cross_validation import finished, train_fold
from cicy_utils.data import LAYOUTS, arrange, load_cicy4, write_npz
from cicy_utils.evaluation import record_list
from cicy_utils.kaggle_arrays import kaggle_split, open_container, read_arrays
from cicy_utils.training import TrainConfig
from cicy_utils.validation import validate

PRODUCT = np.zeros((16, 20))
PRODUCT[:2, :2] = [[4, 0], [0, 4]]
PARTS = {
    "Xtrain": range(0, 30, 2),
    "Xvalid": (1, 3, 5),
    "Xtest": range(7, 30, 2),
    "Xtrain_80": [*range(0, 30, 2), 7, 9],
    "Xtest_80": range(11, 30, 2),
}


def save_arrays(folder, few, dtype="f4"):
    """The data set for a few configurations with a product in front, splits without it."""
    folder.mkdir(exist_ok=True)
    conf = np.concatenate([PRODUCT[None], few.matrices]) / 6
    hodge = np.concatenate([np.zeros((1, 4)), few.hodge])
    np.save(folder / "conf.npy", conf.astype(dtype))
    np.save(folder / "hodge.npy", hodge.astype("i8"))
    np.save(folder / "direct.npy", np.arange(len(conf)) == 0)
    for name, indices in PARTS.items():
        np.save(folder / f"conf_{name}.npy", conf[1:][list(indices)].astype(dtype))
        np.save(folder / f"hodge_{name.replace('X', 'y')}.npy", few.hodge[list(indices)])
    return folder


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8"])
def test_arrays_are_read(tmp_path, cicy4_few, dtype):
    entries = read_arrays(Folder(save_arrays(tmp_path / "set", cicy4_few, dtype)))
    assert (entries.matrices[0] == PRODUCT).all()
    assert (entries.matrices[1:] == cicy4_few.matrices).all()
    assert (entries.hodge[1:] == cicy4_few.hodge).all()
    assert entries.product.tolist() == [True] + [False] * 30
    report = validate(entries, "set")
    assert (report.products, len(report.kept), len(report.faults)) == (1, 30, 0)


def test_integers_are_degrees(tmp_path, cicy4_few):
    folder = save_arrays(tmp_path / "set", cicy4_few)
    np.save(folder / "conf.npy", np.concatenate([PRODUCT[None], cicy4_few.matrices]).astype("i8"))
    (folder / "direct.npy").unlink()
    entries = read_arrays(Folder(folder))
    assert (entries.matrices[1:] == cicy4_few.matrices).all()
    assert not entries.product.any()


def test_a_channel_axis_is_ignored(tmp_path, cicy4_few):
    folder = save_arrays(tmp_path / "set", cicy4_few)
    np.save(folder / "conf.npy", np.load(folder / "conf.npy")[:, None])
    assert (read_arrays(Folder(folder)).matrices[1:] == cicy4_few.matrices).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1 / 6, 0.3, 43.0, 1e300])
def test_numbers_that_are_no_degrees(tmp_path, cicy4_few, value):
    folder = save_arrays(tmp_path / "set", cicy4_few, "f8")
    conf = np.load(folder / "conf.npy")
    conf[5, 1, 2] = value
    np.save(folder / "conf.npy", conf)
    report = validate(read_arrays(Folder(folder)), "set")
    assert report.broken.tolist() == [5]
    assert "entry 5: row 1, column 2 is no integer from 0 to 255" in report.text()


@pytest.mark.parametrize("value", [np.nan, -3.0, 0.5, 40_000.0])
def test_numbers_that_are_no_labels(tmp_path, cicy4_few, value):
    folder = save_arrays(tmp_path / "set", cicy4_few)
    hodge = np.load(folder / "hodge.npy").astype(float)
    hodge[0, 0] = hodge[6, 2] = value  # entry 0 is a product, whose labels are not judged
    np.save(folder / "hodge.npy", hodge)
    report = validate(read_arrays(Folder(folder)), "set")
    assert report.broken.tolist() == [6]
    assert "h31 is no integer" in report.text()


def test_marks_that_are_none(tmp_path, cicy4_few):
    folder = save_arrays(tmp_path / "set", cicy4_few)
    np.save(folder / "direct.npy", np.array([1, 0, 2] + [0] * 28))
    assert validate(read_arrays(Folder(folder)), "set").broken.tolist() == [2]


def test_arrays_of_other_shapes(tmp_path, cicy4_few):
    for name, array, message in (
        ("conf", np.zeros((31, 16, 19)), r"not \(N, 16, 20\)"),
        ("hodge", np.zeros((30, 4)), r"not \(31, 4\)"),
        ("direct", np.zeros(30), r"not \(31,\)"),
    ):
        folder = save_arrays(tmp_path / "set", cicy4_few)
        np.save(folder / f"{name}.npy", array)
        with pytest.raises(Refused, match=message):
            read_arrays(Folder(folder))
    (folder / "hodge.npy").unlink()
    with pytest.raises(Refused, match=r"has no hodge\.npy"):
        read_arrays(Folder(folder))


def zip_of(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for child in folder.iterdir():
            archive.write(child, f"archive/{child.name}")
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_own_splits(tmp_path, cicy4_few, zipped, layout):
    source = save_arrays(tmp_path / "set", cicy4_few)
    if zipped:
        source = zip_of(source, tmp_path / "set.zip")
    data = load_cicy4(source, layout=layout)
    assert (data.matrices == arrange(cicy4_few.matrices, layout)).all()
    split = kaggle_split(source, data)
    assert (split.name, split.seed) == ("72", None)
    assert {part: found.tolist() for part, found in split.parts.items()} == {
        "train": list(PARTS["Xtrain"]),
        "validation": list(PARTS["Xvalid"]),
        "test": list(PARTS["Xtest"]),
    }
    larger = kaggle_split(source, data, "80")
    assert larger.sizes == {"train": 17, "validation": 3, "test": 10}
    assert larger.train.tolist() == list(PARTS["Xtrain_80"])


@pytest.fixture
def published(tmp_path, cicy4_few):
    """The arrays, the list in them and, by name, the splits that they hold."""
    source = save_arrays(tmp_path / "set", cicy4_few)
    data = load_cicy4(source)
    return source, data, {name: kaggle_split(source, data, name) for name in ("72", "80")}


def test_without_a_seed_the_split_is_the_published_one(published):
    source, data, expected = published
    for name, split in expected.items():
        assert splits.split_of(data, name, seed=None).fingerprints == split.fingerprints
    old = expected["72"]
    pool = np.concatenate([old.train, old.validation])
    folds = [splits.split_of(data, f"fold-{number}", seed=None) for number in range(5)]
    assert np.concatenate([fold.validation for fold in folds]).tolist() == pool.tolist()
    assert all(fold.test.tolist() == old.test.tolist() for fold in folds)
    # What has been read stays known; of a subset the split is what it has of the published one.
    (source / "conf_Xtrain.npy").rename(source / "elsewhere.npy")
    assert splits.split_of(data, "72", seed=None).fingerprints == old.fingerprints
    few = load_cicy4(source, subset=20)
    with pytest.raises(Refused, match=r"has no conf_Xtrain\.npy; get the complete data set"):
        splits.split_of(few, "72", seed=None)
    (source / "elsewhere.npy").rename(source / "conf_Xtrain.npy")
    assert sum(splits.split_of(few, "72", seed=None).sizes.values()) == 20


def test_a_subset_without_a_part_of_the_published_split_is_refused(published):
    source, _, expected = published
    few = load_cicy4(source, subset=np.delete(np.arange(30), expected["72"].validation))
    with pytest.raises(ValueError, match="these 27 configurations have nothing in the validation"):
        splits.split_of(few, "72", seed=None)


def test_a_published_split_with_an_empty_part_is_refused(tmp_path, cicy4_few):
    folder = save_arrays(tmp_path / "set", cicy4_few)
    for name in ("conf_Xvalid", "hodge_yvalid"):
        np.save(folder / f"{name}.npy", np.load(folder / f"{name}.npy")[:0])
    with pytest.raises(ValueError, match="these 30 configurations have nothing in the validation"):
        splits.split_of(load_cicy4(folder), "72", seed=None)


def test_a_source_without_a_split_says_so(tmp_path, cicy4_few):
    write_npz(tmp_path / "cicy4.npz", cicy4_few.matrices, cicy4_few.hodge)
    with pytest.raises(Refused, match=r"cicy4\.npz has no conf_Xtrain\.npy"):
        splits.split_of(load_cicy4(tmp_path / "cicy4.npz"), "72", seed=None)


def test_trainings_baselines_and_figures_follow_the_published_split(published, tmp_path):
    _, data, expected = published
    test = expected["72"].fingerprints["test"]
    config = TrainConfig(max_epochs=1, batch_size=8, device="cpu")
    run = {"notebook": "13_cross_validation", "split_seed": None, "hidden_size": 4}
    record = train_fold("LSTM-448", 4, data, config, tmp_path / "fold-4", **run)
    assert (record["split"]["seed"], record["split"]["fingerprints"]["test"]) == (None, test)
    assert finished(tmp_path / "fold-4") == {tmp_path / "fold-4": record}
    assert "as published: " in tables.run_facts(record).to_html()
    asked = {"SPLIT_SEED": 42}, {"SPLIT_SEED": None}
    faults = [status.fault_of_results(tmp_path / "fold-4", "", settings) for settings in asked]
    assert faults == ["metrics.json has SPLIT_SEED None, and 42 was asked for", ""]
    for entry in baselines.record(data, tmp_path, None, tree_rows=5):
        split = expected[entry["split"]["name"]]
        assert entry["split"]["fingerprints"] == split.fingerprints
    again = baselines.evaluate(data, None, tree_rows=5)  # who is drawn does not change
    assert [entry["metrics"] for entry in again] == [
        entry["metrics"] for entry in baselines.evaluate(data, None, tree_rows=5)
    ]
    record_list(
        data,
        [splits.split_of(data, name, seed=None) for name in splits.NAMES],
        tmp_path / "run/00_data/list",
    )
    made = figures.make_figures(tmp_path / "run", tmp_path / "figures")
    assert list(made) == ["1", "2", "38", "39", "40", "41", "42"]


def test_split_of_another_list(tmp_path, cicy4_few):
    source = save_arrays(tmp_path / "set", cicy4_few)
    part = load_cicy4(source, subset=20)
    with pytest.raises(Refused, match=r"conf_Xtrain\.npy: \d+ of 15 entries, .* not in the list"):
        kaggle_split(source, part)
    assert sum(kaggle_split(source, part, drop=True).sizes.values()) == 20
    with pytest.raises(ValueError, match="the splits 72 and 80, not '73'"):
        kaggle_split(source, part, "73")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        kaggle_split(tmp_path / "none", part)


def test_split_with_other_labels_or_twice(tmp_path, cicy4_few):
    source = save_arrays(tmp_path / "set", cicy4_few)
    data = load_cicy4(source)
    labels = np.load(source / "hodge_ytest.npy")
    np.save(source / "hodge_ytest.npy", labels + np.eye(12, 4, dtype=labels.dtype))
    with pytest.raises(Refused, match="the labels of 4 entries are not those of the list"):
        kaggle_split(source, data)
    np.save(source / "hodge_ytest.npy", labels)
    np.save(source / "conf_Xvalid.npy", np.load(source / "conf_Xtrain.npy")[:3])
    np.save(source / "hodge_yvalid.npy", np.load(source / "hodge_ytrain.npy")[:3])
    with pytest.raises(Refused, match="the split 72 has an entry twice"):
        kaggle_split(source, data)
    broken = np.load(source / "conf_Xvalid.npy")
    broken[1] = np.nan
    np.save(source / "conf_Xvalid.npy", broken)
    with pytest.raises(Refused, match="entry 1 has a degree or label that is no integer"):
        kaggle_split(source, data)
    np.save(source / "conf_Xvalid.npy", np.full_like(broken, np.nan))
    assert kaggle_split(source, data, drop=True).sizes == {"train": 15, "validation": 0, "test": 12}


def test_container_of_a_zip_file(tmp_path, cicy4_few):
    folder = save_arrays(tmp_path / "set", cicy4_few)
    with open_container(zip_of(folder, tmp_path / "set.zip")) as container:
        entries = read_arrays(container)
    assert (entries.matrices[1:] == cicy4_few.matrices).all()
