import json
import shutil

import numpy as np
import pytest

from cicy_utils import checkpoint, topology, training
from cicy_utils.canonical import canonical_form
from cicy_utils.data import HODGE_NAMES, Cicy4, arrange
from cicy_utils.metrics import DECODINGS, decode
from cicy_utils.models import build_model
from cicy_utils.prediction import load_model, predict, predict_many
from cicy_utils.splits import split_72
from cicy_utils.training import TrainConfig, fit

MATRIX = [[1, 5], [1, 1]]  # P^5 above P^1: (h11, h21, h31, h22) = (2, 0, 350, 1452)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on random matrices, and the model that it left."""
    random = np.random.default_rng(0)
    data = Cicy4(
        random.integers(0, 3, (40, 16, 20)).astype(np.uint8),
        random.integers(0, 9, (40, 4)).astype(np.int16),
        source="random",
        layout="zeros-first",
        fingerprint="f" * 64,
    )
    run_dir = tmp_path_factory.mktemp("run")
    model = build_model("CNN-GRU-384", hidden_size=5, bidirectional=True, seed=1)
    fit(model, data, split_72(40), TrainConfig(max_epochs=1, device="cpu"), run_dir)
    return run_dir, model


def test_a_model_comes_back_with_its_overrides_and_weights(run):
    run_dir, trained = run
    model, metadata = load_model(run_dir)
    assert model.spec == trained.spec
    assert not model.training
    assert metadata["data"]["layout"] == "zeros-first"
    matrices = np.random.default_rng(1).integers(0, 3, (5, 16, 20)).astype(np.uint8)
    np.testing.assert_array_equal(
        training.predict(model, matrices, device="cpu"),
        training.predict(trained, matrices, device="cpu"),
    )


def test_prediction_stands_beside_the_exact_numbers(run):
    run_dir, model = run
    table = predict(MATRIX, run_dir)
    assert table.columns.tolist() == list(HODGE_NAMES)
    assert table.index.tolist() == ["output", "raw", "relation", "relation+chi", "exact"]
    assert table.loc["exact"].tolist() == [2, 0, 350, 1452]
    stored = np.zeros((1, 16, 20), dtype=np.uint8)
    stored[0, :2, :2] = canonical_form(MATRIX)
    output = training.predict(model, arrange(stored, "zeros-first"), device="cpu")[0]
    assert table.loc["output"].tolist() == output.tolist()
    assert table.loc["raw"].tolist() == np.rint(output).astype(int).tolist()
    h11, h21, h31, h22 = table.loc["relation+chi"]
    assert 6 * (8 + h11 + h31 - h21) == 4 + 2 * h11 - 4 * h21 + 2 * h31 + h22 == 2160


def test_the_last_decoding_comes_with_the_residuals(run, tmp_path):
    shutil.copy(run[0] / checkpoint.WEIGHTS_FILE, tmp_path)
    covariance = np.diag([0.1, 0.01, 4.0, 9.0])
    residuals = {"covariance": covariance.tolist()}
    (tmp_path / "metrics.json").write_text(json.dumps({"residuals": residuals}))
    for place in (tmp_path, tmp_path / checkpoint.WEIGHTS_FILE):
        table = predict(MATRIX, place)
        assert table.index.tolist() == ["output", *DECODINGS, "exact"]
    output = table.loc[["output"]].to_numpy(dtype=float)
    expected = decode(output, "consistent", np.array([2160]), covariance)
    assert table.loc["consistent"].tolist() == expected[0].tolist()


def test_weights_of_another_copy_of_the_list_may_know_another_order(run, tmp_path):
    shutil.copy(run[0] / checkpoint.WEIGHTS_FILE, tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"data": {"source": "/lists/own.npz"}}))
    for place in (tmp_path, tmp_path / checkpoint.WEIGHTS_FILE):
        with pytest.warns(UserWarning, match=r"was trained on /lists/own.npz, .* another order"):
            assert predict(MATRIX, place).equals(predict(MATRIX, run[0]))


def test_order_and_padding_do_not_matter(run):
    expected = predict(MATRIX, run[0])
    padded = np.zeros((16, 20), dtype=np.uint8)
    padded[:2, :2] = np.array(MATRIX)[::-1, ::-1]
    assert predict(padded, run[0]).equals(expected)
    assert predict([[5, 1], [1, 1]], run[0]).equals(expected)


def test_matrices_that_do_not_fit_are_refused(run):
    with pytest.raises(ValueError, match="three-fold; the models know four-folds only"):
        predict([[5]], run[0])
    with pytest.raises(ValueError, match="configuration matrix: "):
        predict([[1]], run[0])
    # MATRIX with its column (1, 1) stretched to a chain of P^1 rows: valid, but 17 x 17.
    chain = np.zeros((17, 17), dtype=int)
    chain[0, [0, 16]] = 5, 1
    for row in range(1, 17):
        chain[row, row - 1 : row + 1] = 1
    assert topology.hodge_numbers(chain) == (2, 0, 350, 1452)
    with pytest.raises(ValueError, match="the models take at most 16 and 20"):
        predict(chain, run[0])


def test_many_are_answered_as_one_by_one(run):
    sextic = np.zeros((3, 3), dtype=np.uint8)
    sextic[0, 0] = 6
    table = predict_many([MATRIX, sextic, [[2], [5]]], run[0])
    for number, matrix in enumerate((MATRIX, sextic, [[2], [5]])):
        one, many = predict(matrix, run[0]), table.loc[number]
        np.testing.assert_allclose(*(t.loc["output"].astype(float) for t in (many, one)), rtol=1e-5)
        assert many.drop("output").equals(one.drop("output"))
    assert len(predict_many([], run[0])) == 0
    with pytest.raises(ValueError, match=r"^matrix 1: configuration matrix: row 0 sums to 1"):
        predict_many([MATRIX, [[1]]], run[0])


def damaged(run, tmp_path, change):
    weights, metadata = checkpoint.load_weights(run[0] / "weights.safetensors")
    change(weights, metadata)
    checkpoint.save_weights(tmp_path / "weights.safetensors", weights, metadata)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, m: m.pop("model"), "does not say in its metadata what model"),
        (lambda w, m: m["data"].pop("layout"), "does not say in its metadata what model"),
        (lambda w, m: m["model"].update(name="GPT"), "unknown model 'GPT'"),
        (lambda w, m: m["model"].update(hidden_size=6), "weights have other names or shapes"),
        (lambda w, m: m["model"].update(recurrent="lstm"), "but here it is"),
        (lambda w, m: m["model"].update(num_layers="two"), "num_layers must be a positive integer"),
        (lambda w, m: m["data"].update(layout="sideways"), "unknown layout 'sideways'"),
        (lambda w, m: w.pop("head.0.bias"), "weights have other names or shapes"),
    ],
)
def test_weights_that_contradict_their_metadata_are_refused(run, tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        load_model(damaged(run, tmp_path, change))
    assert "weights.safetensors" in str(error.value)


@pytest.mark.parametrize("settings", [{"name": "My", "layers": "My()"}, {"name": "My"}, None])
def test_weights_of_a_network_of_one_s_own_are_for_its_maker_to_load(run, tmp_path, settings):
    folder = damaged(run, tmp_path, lambda w, m: m.update(model=settings))
    with pytest.raises(ValueError, match="where it is a network of your own, build it"):
        load_model(folder)


def test_weights_are_found_from_the_top_folder_too(run, tmp_path, monkeypatch):
    for name in ("notebooks", "results"):
        (tmp_path / name).mkdir()
    shutil.copytree(run[0], tmp_path / "results" / "own")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert predict(MATRIX, "results/own").equals(predict(MATRIX, run[0]))


def test_missing_weights_are_named(run, tmp_path):
    folder = tmp_path / "11_lstm_448"
    with pytest.raises(FileNotFoundError, match="train the model first"):
        load_model(folder)
    for seed in (43, 42):
        shutil.copytree(run[0], folder / f"seed-{seed}")
    with pytest.raises(FileNotFoundError, match=f"in {folder} there are some of seed-42, seed-43"):
        load_model(folder)
