"""What ties the Hodge numbers of a Calabi-Yau four-fold to each other and to its Euler number.

Two relations leave two of the four numbers free, given the Euler number chi, which is a function of
the configuration matrix. They are for manifolds with h10 = h20 = h30 = 0, as all of the list are,
and products with a torus or a K3 surface are not. All functions take integers or integer arrays,
which must be wide enough.
"""

from __future__ import annotations

import numpy as np

Integers = int | np.ndarray


def h22_from_others(h11: Integers, h21: Integers, h31: Integers) -> Integers:
    """h22 = 2 (22 + 2 h11 + 2 h31 - h21); arXiv 2405.17406, eq. (12)."""
    return 2 * (22 + 2 * h11 + 2 * h31 - h21)


def euler_from_hodge(hodge: np.ndarray) -> np.ndarray:
    """chi = 4 + 2 h11 - 4 h21 + 2 h31 + h22 of int64 (N, 4); arXiv 2405.17406, eq. (11)."""
    h11, h21, h31, h22 = hodge.T
    return 4 + 2 * h11 - 4 * h21 + 2 * h31 + h22


def h31_from_euler(euler: Integers, h11: Integers, h21: Integers) -> Integers:
    """h31 = chi / 6 - 8 - h11 + h21, which follows from both; chi is a multiple of 6."""
    return euler // 6 - 8 - h11 + h21
