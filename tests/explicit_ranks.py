"""The rank of H^q(TA|X) -> H^q(N) for random polynomials over a finite field, by explicit cochains.

Nothing of the package is used. A bundle L on X is resolved by the Koszul complex of the
polynomials, and each of its terms by the Čech complex of the standard charts of the ambient space.
A cochain is a dict of coefficients; its keys are

    (S, charts, exponents): the columns in the Koszul term, as the bits of an integer; for each row
    the coordinates that are inverted, as bits; the exponents of a Laurent monomial,

and a class of the ambient space's cohomology, which is known, is a dict with keys (S, exponents).
The homological perturbation lemma takes the one to the other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

PRIME = 1_000_003
Sum = dict[tuple, int]  # of monomials of some kind, with coefficients that are not zero


class Manifold:
    """Random polynomials of the degrees of a configuration matrix, a list of rows."""

    def __init__(self, matrix: list[list[int]], seed: int) -> None:
        self.matrix, self.columns = matrix, range(len(matrix[0]))
        self.n = [sum(row) - 1 for row in matrix]
        self.first = [sum(self.n[:r]) + r for r in range(len(matrix))]  # coordinate of each row
        drawn = random.Random(seed)
        self.polynomials = [
            {monomial: drawn.randrange(1, PRIME) for monomial in self._monomials(degrees)}
            for degrees in zip(*matrix, strict=True)
        ]

    def rank(self, q: int) -> tuple[int, int]:
        """The dimension of H^q(TA|X), for 0 < q < d - 1, and the rank of its map to H^q(N)."""
        images = Span()
        for column in self.columns:  # what is zero in H^q(X, O(q_b))
            classes = self._classes([row[column] for row in self.matrix])
            for one in classes.get(q - 1, []):
                images.take(_tagged(column, self._projected(self._koszul(self._included(one)))))
        dimension = rank = 0
        for row, n in enumerate(self.n):
            for one in self._classes([int(r == row) for r in range(len(self.n))]).get(q, []):
                cochain = self._included(one)
                for coordinate in range(self.first[row], self.first[row] + n + 1):
                    image: Sum = {}
                    for column in self.columns:
                        derivative = self._derivative(column, coordinate)
                        found = self._reduced(_product(derivative, cochain))
                        image |= _tagged(column, found)
                    dimension += 1
                    rank += images.take(image)
        return dimension, rank

    def _monomials(self, degrees: tuple[int, ...]) -> list[tuple[int, ...]]:
        each = (_exponents(n + 1, degree) for n, degree in zip(self.n, degrees, strict=True))
        return [sum(parts, ()) for parts in product(*map(list, each))]

    def _classes(self, bundle: list[int]) -> dict[int, list[tuple]]:
        """The cohomology of the ambient space in all Koszul terms, by the degree on X."""
        found: dict[int, list[tuple]] = {}
        for chosen in range(1 << len(self.columns)):
            total, choices = -chosen.bit_count(), []
            for row, n, degree in zip(self.matrix, self.n, bundle, strict=True):
                left = degree - sum(row[a] for a in self.columns if chosen >> a & 1)
                if left < 0:  # only of degree n, and if it is at most -n - 1
                    total += n
                    powers = _exponents(n + 1, -n - 1 - left)
                    choices.append([tuple(-1 - power for power in one) for one in powers])
                else:
                    choices.append(list(_exponents(n + 1, left)))
            for parts in product(*choices):
                found.setdefault(total, []).append((chosen, sum(parts, ())))
        return found

    def _koszul(self, cochain: Sum) -> Sum:
        result: Sum = {}
        for (chosen, charts, exponents), value in cochain.items():
            degree = sum(chart.bit_count() - 1 for chart in charts)
            for a in self.columns:
                if chosen >> a & 1:
                    sign = (-1) ** ((chosen & ((1 << a) - 1)).bit_count() + degree)
                    for monomial, factor in self.polynomials[a].items():
                        key = chosen & ~(1 << a), charts, _times(exponents, monomial)
                        _add(result, key, sign * value * factor)
        return result

    def _negative(self, exponents: tuple[int, ...], row: int) -> tuple[int, int]:
        """The coordinates of a row with negative exponents, and all of its coordinates, as bits."""
        own = exponents[self.first[row] : self.first[row] + self.n[row] + 1]
        return sum(1 << j for j, power in enumerate(own) if power < 0), (1 << len(own)) - 1

    def _contracted(self, cochain: Sum) -> Sum:
        """A homotopy of the Čech complex: it makes each row harmonic after those before it."""
        result: Sum = {}
        for (chosen, charts, exponents), value in cochain.items():
            before, harmonic = 0, [()]
            for row, chart in enumerate(charts):
                negative, every = self._negative(exponents, row)
                if negative != every:
                    free = ~negative & (negative + 1)  # the first coordinate that is not negative
                    if chart & free and chart != free:
                        sign = (-1) ** (before + (chart & (free - 1)).bit_count())
                        for others in harmonic:
                            key = chosen, (*others, chart & ~free, *charts[row + 1 :]), exponents
                            _add(result, key, sign * value)
                if negative == every:
                    harmonic = [(*others, chart) for others in harmonic]
                elif negative == 0 and chart == 1:
                    charts_of_row = [1 << j for j in range(self.n[row] + 1)]
                    harmonic = [(*others, one) for others in harmonic for one in charts_of_row]
                else:
                    break
                before += chart.bit_count() - 1
        return result

    def _projected(self, cochain: Sum) -> Sum:
        result: Sum = {}
        for (chosen, charts, exponents), value in cochain.items():
            kinds = (self._negative(exponents, row) for row in range(len(charts)))
            if all(
                negative == every or (negative == 0 and chart == 1)
                for chart, (negative, every) in zip(charts, kinds, strict=True)
            ):
                _add(result, (chosen, exponents), value)
        return result

    def _included(self, one: tuple) -> Sum:
        """A cocycle of X for a class, if it has one."""
        chosen, exponents = one
        choices = []
        for row, n in enumerate(self.n):
            negative, every = self._negative(exponents, row)
            choices.append([every] if negative else [1 << j for j in range(n + 1)])
        step: Sum = {(chosen, charts, exponents): 1 for charts in product(*choices)}
        whole: Sum = {}
        while step:
            for key, value in step.items():
                _add(whole, key, value)
            step = {key: -value for key, value in self._contracted(self._koszul(step)).items()}
        return whole

    def _reduced(self, cochain: Sum) -> Sum:
        """The class of a cocycle of X."""
        whole: Sum = {}
        while cochain:
            for key, value in self._projected(cochain).items():
                _add(whole, key, value)
            cochain = {
                key: -value for key, value in self._koszul(self._contracted(cochain)).items()
            }
        return whole

    def _derivative(self, column: int, coordinate: int) -> Sum:
        return {
            (*m[:coordinate], m[coordinate] - 1, *m[coordinate + 1 :]): value * m[coordinate]
            for m, value in self.polynomials[column].items()
            if m[coordinate]
        }


class Span:
    """Vectors over the finite field, in echelon form."""

    def __init__(self) -> None:
        self.rows: dict[tuple, Sum] = {}

    def take(self, vector: Sum) -> bool:
        """Whether it is independent of those taken before."""
        vector = {key: value % PRIME for key, value in vector.items() if value % PRIME}
        while vector:
            pivot = max(vector)
            if pivot not in self.rows:
                inverse = pow(vector[pivot], -1, PRIME)
                self.rows[pivot] = {key: value * inverse for key, value in vector.items()}
                return True
            factor = vector[pivot]
            for key, value in self.rows[pivot].items():
                _add(vector, key, -factor * value)
        return False


def _exponents(variables: int, degree: int) -> Iterator[tuple[int, ...]]:
    """Of all monomials of a degree, none if it is negative."""
    if variables == 1:
        if degree >= 0:
            yield (degree,)
        return
    for power in range(degree + 1):
        for others in _exponents(variables - 1, degree - power):
            yield (power, *others)


def _times(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(first, second, strict=True)))


def _product(polynomial: Sum, cochain: Sum) -> Sum:
    result: Sum = {}
    for (chosen, charts, exponents), value in cochain.items():
        for monomial, factor in polynomial.items():
            _add(result, (chosen, charts, _times(exponents, monomial)), value * factor)
    return result


def _tagged(column: int, classes: Sum) -> Sum:
    return {(column, *key): value for key, value in classes.items()}


def _add(result: Sum, key: tuple, value: int) -> None:
    total = (result.get(key, 0) + value) % PRIME
    if total:
        result[key] = total
    else:
        result.pop(key, None)
