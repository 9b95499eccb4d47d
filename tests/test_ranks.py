"""Ranks are shown to be maximal, for every configuration of both lists that rests on them."""

import numpy as np
import pytest
from explicit_ranks import Manifold

from cicy_utils import ranks
from cicy_utils.enumeration import enumerate_configurations
from cicy_utils.topology import hodge_numbers, rests_on_rank, tangent_and_normal

TIAN_YAU = [[1, 3, 0], [1, 0, 3]]


def test_every_threefold():
    resting = [matrix for matrix in enumerate_configurations(3) if rests_on_rank(matrix)]
    assert len(resting) == 48
    assert all(map(ranks.shown_maximal, resting))


@pytest.mark.parametrize(
    ("step", "number"), [(30, 1_027), pytest.param(1, 30_130, marks=pytest.mark.long)]
)
def test_every_fourfold(cicy4, step, number):
    resting = [matrix for matrix in cicy4.matrices[::step] if rests_on_rank(matrix)]
    assert len(resting) == number
    assert all(map(ranks.shown_maximal, resting))


@pytest.mark.parametrize(
    ("matrix", "q"),
    [
        (TIAN_YAU, 1),
        ([[2, 0, 0], [2, 1, 0], [0, 2, 2]], 1),
        ([[0, 3], [4, 1]], 1),
        ([[3, 0, 0, 1], [0, 3, 2, 1]], 1),
        ([[1, 0, 1], [0, 3, 0], [3, 1, 1]], 1),
        ([[1, 0, 1], [3, 0, 1], [1, 3, 0]], 2),
        ([[0, 0, 2], [3, 0, 1], [1, 3, 0]], 2),
    ],
)
def test_ranks_of_random_polynomials(matrix, q):
    assert ranks.shown_maximal(matrix)
    dimension = tangent_and_normal(np.array(matrix))[0][q]
    assert Manifold(matrix, seed=0).rank(q) == (dimension, dimension)


def test_the_rank_of_special_polynomials_is_smaller():
    """The quartic does not know one of its coordinates."""
    manifold = Manifold([[0, 3], [4, 1]], seed=0)
    quartic = manifold.polynomials[0]
    manifold.polynomials[0] = {m: value for m, value in quartic.items() if m[-1] == 0}
    assert manifold.rank(1) == (5, 4)


def test_conditions_are_counted():
    """On the Tian-Yau manifold, the ten quadrics that a cubic in P3 may have as its derivative."""
    assert ranks._conditions(np.array(TIAN_YAU), 0, np.array([True, False, True])) == 10


def test_the_condition_is_sufficient_but_not_necessary():
    """Linear polynomials in one space only make it smaller, and what they leave is shown."""
    matrix = [[2, 0, 0], [2, 1, 0], [0, 2, 2]]
    larger = [[2, 0, 0, 1, 1, 0, 0], [2, 1, 0, 0, 0, 1, 0], [0, 2, 2, 0, 0, 0, 1]]
    assert hodge_numbers(matrix) == hodge_numbers(larger) == (10, 26)
    assert ranks.shown_maximal(matrix)
    assert ranks.shown_maximal(larger)  # once they are left out
    assert not ranks._is_injective(np.array(larger), 1)


def test_without_a_rank_there_is_nothing_to_show():
    assert not rests_on_rank([[6]])
    assert ranks.shown_maximal([[6]])


def test_refusals():
    with pytest.raises(ValueError, match="sums to 1"):
        ranks.shown_maximal([[1]])
