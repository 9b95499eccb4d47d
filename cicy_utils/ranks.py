r"""Why the ranks that Hodge numbers rest on are the largest possible ones.

The Hodge numbers of X follow from the dimensions of cohomology groups and, where
:func:`topology.rests_on_rank` says so, from the rank of :math:`H^q(TA|_X) \to H^q(N)` for some
:math:`0 < q < d - 1`. :func:`are_maximal` shows of a configuration that for generic polynomials
these maps are injective, so that their ranks cannot be larger. Its condition is sufficient, not
necessary; every configuration of the lists in dimension 3 and 4 meets it. The argument is our own.

**The map.** As :math:`H^q(X, O) = H^{q+1}(X, O) = 0`, the Euler sequence makes the first group the
sum over all rows i of :math:`n_i + 1` copies of :math:`H^q(X, O(e_i))`. The map multiplies each
copy by the derivatives :math:`\partial p_b / \partial x_{i,k}` of all polynomials.

**Where it starts.** Without row i the columns fall into components, and X is the fibre product over
:math:`P^{n_i}` of what each of them defines. Let C be a component that meets row i in a single 1
and whose fibres F over :math:`P^{n_i}` have dimension q. These are Calabi-Yau, so that :math:`R^q`
of the structure sheaf is O(-1) by duality. It gives one element :math:`\eta_C` of
:math:`H^q(X, O(e_i))`, and these are a basis, as no two components fit into degree one. Let
:math:`f: X \to X'` forget the rows of C but i; X' is defined by the other columns. On it
:math:`R^q f_* O = O(-e_i)`, and :math:`\eta_C` becomes 1 in :math:`H^0(X', O(e_i - e_i))`.

**What sees C alone.** Let column b meet row i and not belong to C. Then it does not meet the other
rows of C, so :math:`O(q_b)` comes from X', and there is a map :math:`H^q(X, O(q_b)) \to H^0(X',
O(q_b - e_i))`, which is restriction to the fibres F. It takes :math:`\eta_C` times a derivative of
:math:`p_b` to that derivative on X'. And it takes :math:`\eta_D` times one to zero, for D another
component, of the same row or another, unless D contains C: :math:`\eta_D` comes from what D
defines, and to F that comes through the common zeros, in the rows of C but i, of the polynomials in
both C and D, as those of D alone are constant there, and zero. These zeros have no
:math:`H^q(O)`: by Koszul and Bott-Borel-Weil a set of columns contributes to it only if it contains
all columns or none that meet a row, and so all of C. (No other row has the component C, which has
all or nothing of any row but i.) Now let a sum of :math:`v_C \eta_C` with directions
:math:`v_C` in :math:`C^{n_i + 1}` be mapped to zero, and C be a largest one with
:math:`v_C \ne 0`. Then the derivatives in the direction :math:`v_C` of the polynomials of all such
columns b vanish on X'.

**There is no such direction.** The polynomials of degree :math:`q_b - e_i` that vanish on X' are
combinations of the determinants that components with :math:`d_C = -1` stand for (see
``topology._cohomology``; here those outside the rows of b). Up to these there are :math:`N_b`, so
that :math:`p_b` obeys :math:`N_b` independent conditions if its derivative in one direction
vanishes on X', as polynomials have all derivatives. Where :math:`q_{ib} = 1`, these determinants
contain no column that meets row i; of the columns with a larger degree one is taken, whose
polynomial is chosen last. So the conditions on different columns add up. If there are more than
:math:`n_i`, the dimension of the space of directions, generic polynomials leave no direction.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from cicy_utils.topology import (
    ambient_dimensions,
    checked_matrix,
    components,
    dimension_of,
    monomials,
    tangent_and_normal,
)


def are_maximal(matrix: ArrayLike) -> bool:
    """Whether the ranks that the Hodge numbers of one manifold rest on are shown to be maximal.

    Args:
        matrix: as of :func:`topology.hodge_numbers`.

    Raises:
        ValueError: as of :func:`topology.hodge_numbers`.

    >>> are_maximal([[1, 3, 0], [1, 0, 3]])
    True
    """
    matrix = checked_matrix(matrix)
    t, nu = tangent_and_normal(matrix)
    counting = [q for q in range(1, dimension_of(matrix) - 1) if t[q] and nu[q]]
    return all(_is_injective(matrix, q) for q in counting)


def _is_injective(matrix: np.ndarray, q: int) -> bool:
    """Whether H^q(TA|X) -> H^q(N) is shown to be injective."""
    n = ambient_dimensions(matrix)
    return all(
        _conditions(matrix, row, columns) > n[row]
        for row, unit in enumerate(np.eye(len(matrix), dtype=np.int64))
        for columns, degree, dimension in _parts(matrix, unit)
        if degree[row] == 1 and dimension == q
    )


def _conditions(matrix: np.ndarray, row: int, columns: np.ndarray) -> int:
    """The sum of N_b over the columns b outside C with q_ib = 1 and the best one with a larger.

    Each N_b is at least what is counted, as determinants may have multiples in common.
    """
    n = ambient_dimensions(matrix)
    linear, largest = 0, 0
    for b in np.flatnonzero((matrix[row] > 0) & ~columns):
        rest = matrix[:, b].copy()
        rest[row] -= 1
        number = monomials(n, rest) - sum(
            monomials(n, rest - degree)
            for _, degree, dimension in _parts(matrix, matrix[:, b], b)
            if dimension == -1 and (degree <= rest).all()
        )
        if matrix[row, b] == 1:
            linear += max(number, 0)
        else:
            largest = max(largest, number)
    return linear + largest


def _parts(
    matrix: np.ndarray, bundle: np.ndarray, own: int = -1
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """The components of all columns but one, outside the rows of a bundle.

    Yields:
        Which columns, bool (K,); deg(C), int64 (m,), zero outside the rows of the bundle; d_C.
    """
    n = ambient_dimensions(matrix)
    label = components(matrix, bundle, own)
    for smallest in np.unique(label[label >= 0]):
        columns = label == smallest
        degree = matrix[:, columns].sum(axis=1)
        outside = (bundle == 0) & (degree > 0)
        yield columns, np.where(bundle > 0, degree, 0), n[outside].sum() - columns.sum()
