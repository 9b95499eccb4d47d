r"""Why the ranks that Hodge numbers rest on are the largest possible ones.

The Hodge numbers of X follow from the dimensions of cohomology groups and, where
:func:`topology.rests_on_rank` says so, from the rank of :math:`H^q(TA|_X) \to H^q(N)` for some
:math:`0 < q < d - 1`. :func:`shown_maximal` shows of a configuration that for generic polynomials
these maps are injective, so that their ranks cannot be larger. Its condition is sufficient, not
necessary: False does not say that a rank is smaller. Every configuration of the lists in dimension
3 and 4 meets it. The argument is our own. (The tests compute some of the ranks from random
polynomials, too.)

**The map.** As :math:`H^q(X, O) = H^{q+1}(X, O) = 0`, the Euler sequence makes the first group the
sum over all rows i of :math:`n_i + 1` copies of :math:`H^q(X, O(e_i))`. The map multiplies each
copy by the derivatives :math:`\partial p_b / \partial x_{i,k}` of all polynomials.

**Where it starts.** Without row i the columns fall into components, and X is the fibre product over
:math:`P^{n_i}` of what each of them defines. Let C be a component that meets row i in a single 1
and whose fibres F over :math:`P^{n_i}` have dimension q. On the other rows of C only no column or
all of C contribute to the Koszul resolution (Bott-Borel-Weil), so that the direct image of the
structure sheaf is :math:`O \oplus O(-1)[-q]`; it splits, as :math:`H^{q+1}(P^{n_i}, O(1)) = 0`.
This gives one element :math:`\eta_C` of :math:`H^q(X, O(e_i))`, and these are a basis, as every
component meets row i and no two of them fit into degree one. Let :math:`f: X \to X'` forget the
other rows of C; X' is defined by the other columns. On it, too, :math:`R^q f_* O = O(-e_i)`, and
:math:`\eta_C` becomes 1 in :math:`H^0(X', O(e_i - e_i))`.

**What sees C alone.** Let column b meet row i and not belong to C. Then it does not meet the other
rows of C, so :math:`O(q_b)` comes from X', and there is a map :math:`H^q(X, O(q_b)) \to H^0(X',
O(q_b - e_i))`. It takes :math:`\eta_C` times a derivative of :math:`p_b` to that derivative on X'.
And it takes :math:`\eta_D` times one to zero, for any other component D of any row j, unless D
contains C. For if b does not meet row j, the derivative is zero; else j is not one of the other
rows of C, and :math:`O(e_j)` is trivial along them. Fix a generic point of X', then the polynomials
of C, and let F be the fibre over it, Z the common zeros, in the other rows of C, of the polynomials
in both C and D. On Z the polynomials of D that are not in C are constant and zero, as the point
lies on X'. So what :math:`\eta_D` is on F comes from :math:`H^q(Z, O)`, which is zero, as again no
column or all of C would have to contribute. As X' is connected, one generic point is enough. (C is
a component for row i only: for another row it would contain all columns that meet row i, or none.)
Now let a sum of :math:`v_C \eta_C` with directions :math:`v_C` in :math:`\mathbb{C}^{n_i + 1}` be
mapped to zero, and let C be one with most columns among those with :math:`v_C \ne 0`. Then the
derivatives along :math:`v_C` of the polynomials of all such columns b vanish on X'.

**There is no such direction.** For generic polynomials, those of degree :math:`q_b - e_i` that
vanish on X' are combinations, with polynomials as coefficients, of the determinants that stand for
components T of the columns of X', outside the rows of b, with :math:`d_T = -1` (see
``topology._cohomology``). (Components with :math:`d_T \ge 0` split off; and as the columns of X'
add up to :math:`n_i` only in row i, no term of the Koszul complex has a degree below :math:`-n_i`
there, so that only polynomials occur.) So it is enough that along no direction all derivatives are
such combinations, and this can be counted for all polynomials, generic or not. Let :math:`N_b` be
the dimension of the quotient by them. The derivative along a direction is onto, and the
determinants do not involve :math:`p_b`; so for a fixed direction the :math:`p_b` whose derivative
is such a combination have codimension :math:`N_b`. Where :math:`q_{ib} = 1`, the determinants
involve no column that meets row i; of the columns with a larger degree one is taken, whose
polynomial is chosen last. (What is counted for :math:`N_b` bounds it from below for special
polynomials, too.) So the conditions on different columns add up. If there are more than
:math:`n_i`, the dimension of the projective space of directions, generic polynomials leave no
direction, for any of the finitely many C.
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
    without_linear,
)


def shown_maximal(matrix: ArrayLike) -> bool:
    """Whether the ranks that the Hodge numbers of one manifold rest on are shown to be maximal.

    Args:
        matrix: as of :func:`topology.hodge_numbers`.

    Raises:
        ValueError: as of :func:`topology.hodge_numbers`.

    >>> shown_maximal([[1, 3, 0], [1, 0, 3]])
    True
    """
    matrix = without_linear(checked_matrix(matrix))
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
