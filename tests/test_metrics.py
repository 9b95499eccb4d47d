import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error, r2_score

from cicy_utils.data import HODGE_NAMES
from cicy_utils.metrics import (
    DECODINGS,
    constant_prediction,
    decode,
    evaluate,
    misses,
    possible_decodings,
    residual_covariance,
)

# Worked values: [5|6] and [[1|2],[4|5]], with their Euler numbers.
EXACT = np.array([[1, 0, 426, 1752], [2, 0, 350, 1452]], dtype=np.int16)
EULER = np.array([2610, 2160])


def test_exact_numbers_decode_to_themselves():
    for decoding in DECODINGS:
        np.testing.assert_array_equal(decode(EXACT, decoding, EULER, np.eye(4)), EXACT)


def test_decodings_use_what_they_may():
    output = np.array([[1.2, -0.4, 425.4, 1700.0]])
    assert decode(output, "raw").tolist() == [[1, 0, 425, 1700]]
    assert decode(output, "relation").tolist() == [[1, 0, 425, 2 * (22 + 2 + 850)]]
    assert decode(output, "relation+chi", EULER[:1]).tolist() == [[1, 0, 426, 1752]]


@given(arrays(np.int64, (5, 3), elements=st.integers(0, 500)))
def test_relations_hold_after_decoding(numbers):
    h11, h21, h31 = numbers.T
    euler = 6 * (8 + h11 + h31 - h21)
    h22 = 2 * (22 + 2 * h11 + 2 * h31 - h21)
    decoded = decode(np.column_stack([h11, h21, 0 * h31, 0 * h22]), "relation+chi", euler)
    np.testing.assert_array_equal(decoded, np.column_stack([h11, h21, h31, h22]))
    # chi as the alternating sum of all Hodge numbers, paper eq. (11)
    np.testing.assert_array_equal(4 + 2 * h11 - 4 * h21 + 2 * h31 + h22, euler)


def covariance(seed: int, rank: int = 4) -> np.ndarray:
    """Errors that differ in size and come together, like those of a network."""
    mixing = np.random.default_rng(seed).normal(size=(rank, 4)) * [0.3, 0.1, 2.0, 6.0]
    return mixing.T @ mixing


def consistent_quadruples(h11: np.ndarray, h21: np.ndarray, euler: int) -> np.ndarray:
    h31 = euler // 6 - 8 - h11 + h21
    return np.stack([h11, h21, h31, 2 * (22 + 2 * h11 + 2 * h31 - h21)], axis=-1)


@pytest.mark.parametrize("seed", range(12))
def test_consistent_is_the_nearest_of_all_consistent_quadruples(seed):
    random = np.random.default_rng(seed)
    errors = covariance(seed)
    exact = consistent_quadruples(random.integers(1, 20, 20), random.integers(0, 20, 20), 1440)
    output = exact + random.multivariate_normal(np.zeros(4), errors, 20)
    decoded = decode(output, "consistent", np.full(20, 1440), errors)
    np.testing.assert_array_equal(consistent_quadruples(*decoded.T[:2], 1440), decoded)

    # Wide enough: no consistent quadruple outside is as near as the exact one.
    grid = np.stack(np.meshgrid(np.arange(-60, 80), np.arange(-60, 80)), axis=-1).reshape(-1, 2)
    all_there_are = consistent_quadruples(*grid.T, 1440)
    metric = np.linalg.inv(errors)
    for answer, wanted in zip(decoded, output, strict=True):
        away = all_there_are - wanted
        distances = np.einsum("ni,ij,nj->n", away, metric, away)
        assert (answer - wanted) @ metric @ (answer - wanted) <= distances.min() * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_consistent_has_no_negative_hodge_number(seed):
    """Outputs far below zero, and Euler numbers down to where h21 cannot be small."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(4, 4)) * np.exp(random.normal(size=4))
    errors, rest = mixing.T @ mixing + np.eye(4) / 1000, int(random.integers(-10, 60))
    output = random.normal(size=(20, 4)) * [10, 10, 20, 60] + [3, 0, rest, 44 + 4 * rest]
    decoded = decode(output, "consistent", np.full(20, 6 * (rest + 8)), errors)
    grid = np.stack(np.meshgrid(np.arange(1, 200), np.arange(200)), axis=-1).reshape(-1, 2)
    allowed = consistent_quadruples(*grid.T, 6 * (rest + 8))
    allowed = allowed[allowed[:, 2] >= 0]
    assert (decoded >= [1, 0, 0, 0]).all()
    for answer, wanted in zip(decoded, output, strict=True):
        away = allowed - wanted
        distances = np.einsum("ni,ij,nj->n", away, np.linalg.inv(errors), away)
        np.testing.assert_array_equal(answer, allowed[distances.argmin()])


def test_consistent_weighs_outputs_by_how_far_off_they_are():
    euler = np.array([2610])
    output = np.array([[1.0, 0.0, 420.0, 1752.0]])  # h31 is off, or h11, or both
    trusted = decode(output, "consistent", euler, np.diag([0.01, 0.01, 100.0, 1.0]))
    assert trusted.tolist() == [[1, 0, 426, 1752]]
    doubted = decode(output, "consistent", euler, np.diag([100.0, 0.01, 0.01, 1.0]))
    assert doubted.tolist() == [[7, 0, 420, 1752]]


def test_consistent_uses_that_errors_come_together():
    """One cause shifts three outputs; how far h31 is off the relations tells its size."""
    random = np.random.default_rng(3)
    h11, h21 = random.integers(1, 20, 4000), random.integers(0, 20, 4000)
    labels = consistent_quadruples(h11, h21, 1440)
    shared = random.normal(size=(4000, 1)) * [0.4, 0.0, 4.0, 4.0]
    output = labels + shared + random.normal(size=(4000, 4)) * [0.05, 0.05, 0.2, 0.2]
    euler = np.full(4000, 1440)
    measured = residual_covariance(output[:2000], labels[:2000])
    table = evaluate(output[2000:], labels[2000:], euler[2000:], measured)
    assert table.loc["consistent", "accuracy_all"] == 100
    assert table.loc["relation+chi", "accuracy_all"] < 90
    separately = decode(output[2000:], "consistent", euler[2000:], np.diag(np.diag(measured)))
    assert (separately == labels[2000:]).all(axis=1).mean() < 0.9


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_consistent_bears_a_singular_covariance(rank):
    errors = covariance(rank, rank) if rank else np.zeros((4, 4))
    decoded = decode(EXACT + 0.2, "consistent", EULER, errors)
    assert (consistent_quadruples(*decoded[0, :2], EULER[0]) == decoded[0]).all()
    np.testing.assert_array_equal(decode(EXACT, "consistent", EULER, errors), EXACT)


def test_nearest_is_found_however_skew_the_metric():
    """A nearly flat metric, in which what is nearest is far away in one coordinate."""
    skew = np.diag([1e6, 1e6, 1e-4, 1e-4]) + 1e-9
    decoded = decode(EXACT + np.array([40.0, -7.0, 0.1, 0.3]), "consistent", EULER, skew)
    np.testing.assert_array_equal(decoded, EXACT)  # h31 and h22 tell everything


@pytest.mark.parametrize("direction", [(5, 2, 0, 0), (7, 3, 0, 0), (12, 5, 0, 0)])
def test_nearest_is_found_among_those_far_off_in_a_narrow_valley(direction):
    """The nearest pair (h11, h21) is several steps from the best pair of real numbers, rounded."""
    random = np.random.default_rng(0)
    errors = np.linalg.inv(100 * np.outer(direction, direction) + np.eye(4) / 100)
    exact = consistent_quadruples(random.integers(10, 30, 200), random.integers(10, 30, 200), 1440)
    output = exact + 0.3 * random.multivariate_normal(np.zeros(4), errors, 200)
    grid = np.stack(np.meshgrid(np.arange(1, 120), np.arange(120)), axis=-1).reshape(-1, 2)
    allowed = consistent_quadruples(*grid.T, 1440)
    allowed = allowed[allowed[:, 2] >= 0]
    metric = np.linalg.inv(errors + np.diag(1e-6 * (1 + np.diag(errors))))
    decoded = decode(output, "consistent", np.full(200, 1440), errors)
    for answer, wanted in zip(decoded, output, strict=True):
        away = allowed - wanted
        distances = np.einsum("ni,ij,nj->n", away, metric, away)
        np.testing.assert_array_equal(answer, allowed[distances.argmin()])


def test_residual_covariance_has_the_shape_of_the_true_one():
    errors = covariance(5)
    residuals = np.random.default_rng(5).multivariate_normal(np.zeros(4), errors, 20_000)
    labels = np.tile(EXACT[:1], (20_000, 1))
    found = residual_covariance(labels + residuals, labels)
    scale = np.sqrt(np.diag(errors))
    ratio = np.trace(found) / np.trace(errors)
    np.testing.assert_allclose(found / ratio / np.outer(scale, scale),
                               errors / np.outer(scale, scale), atol=0.03)  # fmt: skip
    # It is at its fixed point, the most likely one (Lange, Little and Taylor 1989).
    distances = np.einsum("ni,ij,nj->n", residuals, np.linalg.inv(found), residuals)
    likely = (residuals.T * (5 / (1 + distances))) @ residuals / len(residuals)
    np.testing.assert_allclose(likely, found, rtol=1e-3)


def test_a_few_large_errors_do_not_rule_the_covariance():
    """As in networks: the plain covariance would trust the output with the smallest outliers."""
    random = np.random.default_rng(6)
    n = 4000
    labels = consistent_quadruples(random.integers(1, 20, n), random.integers(0, 20, n), 1440)
    output = labels + random.normal(size=(n, 4)) * [1.0, 0.1, 0.3, 3.0]
    rare = random.random(n) < 0.05
    output[rare, 1] += 40 * random.normal(size=rare.sum())  # h21, else the best of all
    euler = np.full(n, 1440)
    residuals = output - labels
    plain, robust = residuals.T @ residuals / n, residual_covariance(output, labels)
    right = {
        name: 100 * (decode(output, "consistent", euler, c) == labels).all(axis=1)[~rare].mean()
        for name, c in {"plain": plain, "robust": robust}.items()
    }
    assert right["robust"] > right["plain"] + 20


def test_residual_covariance_of_few_or_perfect_predictions():
    assert residual_covariance(EXACT, EXACT).tolist() == np.zeros((4, 4)).tolist()
    few = residual_covariance(EXACT + 0.25, EXACT)
    np.testing.assert_allclose(few, np.full((4, 4), few[0, 0]))
    with pytest.raises(ValueError, match="at least one"):
        residual_covariance(EXACT[:0], EXACT[:0])


def test_what_is_known_decides_what_can_be_decoded():
    assert possible_decodings(None, None) == ["raw", "relation"]
    assert possible_decodings(None, np.eye(4)) == ["raw", "relation"]
    assert possible_decodings(EULER, None) == ["raw", "relation", "relation+chi"]
    assert possible_decodings(EULER, np.eye(4)) == list(DECODINGS)


def test_decode_refuses_what_it_cannot_decode():
    with pytest.raises(ValueError, match="'consistent' needs the Euler numbers"):
        decode(EXACT, "consistent", covariance=np.eye(4))
    with pytest.raises(ValueError, match="'consistent' needs the covariance of the residuals"):
        decode(EXACT, "consistent", EULER)
    with pytest.raises(ValueError, match="covariance must be 4 x 4 finite numbers"):
        decode(EXACT, "consistent", EULER, np.eye(3))
    with pytest.raises(ValueError, match="covariance must be 4 x 4 finite numbers"):
        decode(EXACT, "consistent", EULER, np.full((4, 4), np.nan))
    for wrong in (np.eye(4) + np.triu(np.ones((4, 4)), 1), -np.eye(4)):
        with pytest.raises(ValueError, match="covariance must be symmetric, with no variance"):
            decode(EXACT, "consistent", EULER, wrong)
    with pytest.raises(ValueError, match="unknown decoding 'best'; choose one of raw"):
        decode(EXACT, "best")
    with pytest.raises(ValueError, match="needs the Euler numbers"):
        decode(EXACT, "relation+chi")
    with pytest.raises(ValueError, match="2 integers, multiples of 6"):
        decode(EXACT, "relation+chi", EULER + 1)
    with pytest.raises(ValueError, match="2 integers, multiples of 6"):
        decode(EXACT, "relation+chi", EULER[:1])
    with pytest.raises(ValueError, match="2 integers, multiples of 6"):
        decode(EXACT, "relation+chi", EULER.astype(float))
    with pytest.raises(ValueError, match=r"predictions must have shape \(N, 4\), not \(4,\)"):
        decode(EXACT[0])
    for endless in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="predictions must be finite"):
            decode(np.full((1, 4), endless))
    with pytest.raises(ValueError, match=r"predictions go up to 1e\+20.*has diverged"):
        decode(np.full((1, 4), -1e20))


def test_measures_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.integers(0, 40, (200, 4))
    output = labels + random.normal(0, 1, (200, 4))
    row = evaluate(output, labels).loc["raw"]
    rounded = np.rint(output)
    for name, predicted, exact in zip(HODGE_NAMES, rounded.T, labels.T, strict=True):
        assert row[f"accuracy_{name}"] == pytest.approx(100 * accuracy_score(exact, predicted))
        assert row[f"mse_{name}"] == pytest.approx(mean_squared_error(exact, predicted))
        assert row[f"mae_{name}"] == pytest.approx(mean_absolute_error(exact, predicted))
        assert row[f"r2_{name}"] == pytest.approx(r2_score(exact, predicted))
    for measure in ("mse", "mae", "r2"):
        columns = [f"{measure}_{name}" for name in HODGE_NAMES]
        assert row[f"{measure}_mean"] == pytest.approx(row[columns].mean())
    assert row["accuracy_all"] == 100 * (rounded == labels).all(axis=1).mean()


def test_evaluate_has_a_row_per_decoding_and_percent():
    output = EXACT + np.array([[0.3, 0.3, 1.0, 0.3], [0.1, 0.1, 0.1, 9.0]])
    assert evaluate(output, EXACT).index.tolist() == ["raw", "relation"]
    assert evaluate(output, EXACT, EULER).index.tolist() == ["raw", "relation", "relation+chi"]
    table = evaluate(output, EXACT, EULER, np.diag([0.01, 0.01, 1, 100]))
    assert table.index.tolist() == list(DECODINGS)
    assert table["accuracy_h31"].tolist() == [50, 50, 100, 100]
    assert table["accuracy_h22"].tolist() == [50, 50, 100, 100]
    assert table["accuracy_all"].tolist() == [0, 50, 100, 100]
    assert table.loc["raw", "mse_h22"] == 40.5
    assert np.isfinite(table).all(axis=None)


def test_large_errors_have_large_squares():
    row = evaluate(EXACT + np.array([0, 0, 2e9, 0]), EXACT).loc["relation"]
    assert row["mse_h22"] == pytest.approx(6.4e19)
    assert row["r2_h22"] < -1e10


def test_constant_labels_need_no_spread():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = evaluate(EXACT[:1], EXACT[:1]).loc["raw"]
        wrong = evaluate(EXACT[:1] + 1, EXACT[:1]).loc["raw"]
    assert right["r2_mean"] == 1
    assert wrong["r2_mean"] == 0
    assert wrong["r2_h11"] == r2_score([1, 1], [2, 2])


def test_evaluate_refuses_what_does_not_match():
    with pytest.raises(ValueError, match="as many predictions as labels"):
        evaluate(EXACT, EXACT[:1])
    with pytest.raises(ValueError, match="at least one"):
        evaluate(EXACT[:0], EXACT[:0])
    for measure in (evaluate, misses):
        with pytest.raises(ValueError, match="labels must be whole numbers; the predictions come"):
            measure(EXACT, EXACT + 0.4)


def test_constant_prediction_is_the_mode():
    labels = np.array([[1, 0, 5, 9], [2, 0, 5, 7], [2, 3, 6, 9], [1, 0, 5, 7]])
    assert constant_prediction(labels, 2).tolist() == [[1, 0, 5, 7]] * 2
    with pytest.raises(ValueError, match="train_labels is empty"):
        constant_prediction(labels[:0], 2)


def test_misses_count_every_configuration():
    labels = np.array([[1, 0, 5, 9], [2, 0, 5, 7], [2, 3, 6, 9]])
    table = misses(labels + np.array([[0.2, 0, 2, -7], [0, 0, -2, 0], [0, 0, 0, 7]]), labels)
    assert table.index.tolist() == [0, 2, 7]
    assert table.columns.tolist() == list(HODGE_NAMES)
    assert table.to_numpy().tolist() == [[3, 3, 1, 1], [0, 0, 2, 0], [0, 0, 0, 2]]
