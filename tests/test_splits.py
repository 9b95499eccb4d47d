import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cicy_utils.data import load_cicy4
from cicy_utils.splits import NAMES, Split, cv_folds, split_72, split_80, split_of

LIST = 905_684


@pytest.fixture(scope="module")
def whole_list():
    return {"72": split_72(LIST), "80": split_80(LIST), "folds": cv_folds(LIST)}


def covers(split: Split, n: int) -> bool:
    together = np.concatenate(list(split.parts.values()))
    return np.array_equal(np.sort(together), np.arange(n))


def test_published_sizes(whole_list):
    assert whole_list["72"].sizes == {"train": 652_092, "validation": 72_455, "test": 181_137}
    assert whole_list["80"].sizes == {"train": 724_547, "validation": 72_455, "test": 108_682}
    folds = [(fold.sizes["train"], fold.sizes["validation"]) for fold in whole_list["folds"]]
    assert folds == [(579_637, 144_910)] * 2 + [(579_638, 144_909)] * 3


def test_every_split_uses_every_configuration_once(whole_list):
    for split in (whole_list["72"], whole_list["80"], *whole_list["folds"]):
        assert covers(split, LIST)
        assert all(indices.dtype == np.int64 for indices in split.parts.values())


def test_the_80_split_only_moves_test_configurations(whole_list):
    old, new = whole_list["72"], whole_list["80"]
    np.testing.assert_array_equal(new.validation, old.validation)
    np.testing.assert_array_equal(new.train[: len(old.train)], old.train)
    assert np.isin(new.test, old.test).all()


def test_folds_validate_each_configuration_once_and_keep_the_test_set(whole_list):
    old, folds = whole_list["72"], whole_list["folds"]
    validated = np.concatenate([fold.validation for fold in folds])
    np.testing.assert_array_equal(validated, np.concatenate([old.train, old.validation]))
    for number, fold in enumerate(folds):
        assert fold.name == f"fold-{number}"
        np.testing.assert_array_equal(fold.test, old.test)


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 5000), st.integers(0, 2**32 - 1))
def test_subsets_are_split_in_proportion(n, seed):
    for split in (split_72(n, seed), split_80(n, seed), *cv_folds(n, seed)):
        assert covers(split, n)
    sizes = split_72(n, seed).sizes
    assert abs(sizes["test"] - 0.2 * n) <= 1
    assert abs(sizes["validation"] - 0.08 * n) <= 1


def test_a_seed_gives_one_split():
    assert split_80(1000, seed=7).fingerprints == split_80(1000, seed=7).fingerprints
    other = split_72(1000, seed=8).fingerprints
    assert not set(split_72(1000, seed=7).fingerprints.values()) & set(other.values())


def test_the_splits_of_a_list_have_names(cicy4_few):
    n = len(cicy4_few)
    expected = {"72": split_72(n, 7), "80": split_80(n, 7)}
    expected |= {fold.name: fold for fold in cv_folds(n, 7)}
    found = {name: split_of(cicy4_few, name, seed=7) for name in NAMES}
    assert list(found) == list(expected)
    for name, split in found.items():
        assert (split.name, split.seed) == (name, 7)
        assert split.fingerprints == expected[name].fingerprints
    with pytest.raises(ValueError, match=r"the splits are 72, 80, fold-0, .*, fold-4, not '73'"):
        split_of(cicy4_few, "73")
    with pytest.raises(ValueError, match="the bundled list has no split of its own: give a seed"):
        split_of(load_cicy4(subset=20), "72", seed=None)


def test_a_seed_of_numpy_becomes_a_plain_one():
    splits = [make(50, np.int64(7)) for make in (split_72, split_80)]
    assert {type(split.seed) for split in (*splits, *cv_folds(50, np.int64(7)))} == {int}
    assert splits[0].fingerprints == split_72(50, 7).fingerprints


def test_fingerprints_tell_the_order_apart():
    indices = np.arange(5)
    one = Split("x", 0, indices, indices, indices[::-1])
    assert one.fingerprints["train"] == one.fingerprints["validation"]
    assert one.fingerprints["train"] != one.fingerprints["test"]
    # sha256 of the integers 0 to 4 as 8 little-endian bytes each
    assert one.fingerprints["train"].startswith("281b02b1")


@pytest.mark.parametrize("make", [split_72, split_80, cv_folds])
def test_too_few_configurations_are_refused(make):
    with pytest.raises(ValueError, match="at least 10 configurations, not 9"):
        make(9)


def test_the_80_split_is_that_of_the_published_training():
    folder = Path(__file__).resolve().parents[1] / "results/reference/14_retraining"
    record = json.loads((folder / "Graph-64-d80-fast/metrics.json").read_text())
    assert split_80(LIST).fingerprints == record["split"]["fingerprints"]
