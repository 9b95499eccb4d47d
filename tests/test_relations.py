"""The two exact relations, on manifolds whose Hodge and Euler numbers are known."""

import numpy as np
import pytest

from cicy_utils.relations import euler_from_hodge, h22_from_others, h31_from_euler

KNOWN = {
    "P^5[6]": ((1, 0, 426, 1752), 2610),
    "P^1 x P^5[(1, 1), (1, 5)]": ((2, 0, 350, 1452), 2160),
    # Cubic curves over a quartic in P^4, which brings its own h21 of 30.
    "P^2 x P^4[(0, 4), (3, 1)]": ((2, 30, 86, 336), 396),
}


@pytest.mark.parametrize(("hodge", "euler"), KNOWN.values(), ids=KNOWN)
def test_known_manifolds_obey_both(hodge, euler):
    h11, h21, h31, h22 = hodge
    assert h22_from_others(h11, h21, h31) == h22
    assert h31_from_euler(euler, h11, h21) == h31
    assert euler_from_hodge(np.array([hodge])).tolist() == [euler]


def test_arrays_go_entry_by_entry():
    hodge = np.array([hodge for hodge, _ in KNOWN.values()])
    euler = np.array([euler for _, euler in KNOWN.values()])
    assert h22_from_others(*hodge[:, :3].T).tolist() == hodge[:, 3].tolist()
    assert h31_from_euler(euler, hodge[:, 0], hodge[:, 1]).tolist() == hodge[:, 2].tolist()
    assert euler_from_hodge(hodge).tolist() == euler.tolist()
