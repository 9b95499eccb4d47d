"""Every entry of a list against every rule it must obey, and a report of what breaks which.

A reader (:mod:`cicy_utils.published`) gives the entries as arrays and marks what it could not even
store. :func:`validate` adds the rules of configuration matrices and those of labels:

* the matrix is that of a connected, non-empty Calabi-Yau four-fold (rows sum to n + 1, and so on:
  :mod:`cicy_utils.topology`), or block-diagonal where the entry is marked as a product;
* h22 = 2 (22 + 2 h11 + 2 h31 - h21) (arXiv 2405.17406, eq. 12);
* chi = 4 + 2 h11 - 4 h21 + 2 h31 + h22 (eq. 11) is the Euler number of the matrix, computed from
  its top Chern class.

Labels of products are not judged: products are left out of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cicy_utils import chunks, files
from cicy_utils.archives import Refused
from cicy_utils.compilation import njit
from cicy_utils.data import HODGE_NAMES
from cicy_utils.relations import euler_from_hodge, h22_from_others
from cicy_utils.topology import (
    PRODUCT,
    VALID,
    broken_rule,
    dimension_of,
    euler_numbers_batch,
    hodge_numbers_batch,
    rule_message,
    trimmed,
)

# What a reader may find wrong with an entry; the codes are compiled into the parser.
SOUND = 0
FEW_FIELDS, NO_MATRIX, RAGGED, TOO_LARGE, DEGREE, ZERO_ROW, ZERO_COLUMN, DECLARED, MARK, LABEL = (
    range(1, 11)
)
# What validate() adds; codes from CONFIGURATION on are those of topology.broken_rule.
DIMENSION, NOT_PRODUCT, RELATION, CHI, EULER_FIELD = range(11, 16)
CONFIGURATION = 20

_CONFIGURATION_RULE = "the matrix is that of a connected Calabi-Yau four-fold"
RULES = {
    FEW_FIELDS: "an entry has at least 10 fields",
    NO_MATRIX: "field 3 is a list of rows",
    RAGGED: "all rows have equally many columns",
    TOO_LARGE: "a matrix has at most 16 rows and 20 columns",
    DEGREE: "degrees are integers from 0 to 255",
    ZERO_ROW: "no row is zero",
    ZERO_COLUMN: "no column is zero",
    DECLARED: "fields 1 and 2 are the numbers of rows and columns",
    MARK: "the mark of products is True, False or Null",
    LABEL: "Hodge numbers are integers from 0 to 32,767",
    DIMENSION: _CONFIGURATION_RULE,
    NOT_PRODUCT: "what is marked as a product is one",
    RELATION: "h22 = 2 (22 + 2 h11 + 2 h31 - h21)",
    CHI: "chi of the Hodge numbers is the Euler number of the matrix",
    EULER_FIELD: "field 4 is the Euler number of the matrix",
}
_DETAILS = {
    FEW_FIELDS: "it has {value} fields",
    NO_MATRIX: "field 3 is no list of rows of degrees (row {row})",
    RAGGED: "row {row} has {value} columns, unlike row 0",
    TOO_LARGE: "row {row}, column {column} is outside 16 x 20",
    DEGREE: "row {row}, column {column} is no integer from 0 to 255",
    ZERO_ROW: "row {row} is zero",
    ZERO_COLUMN: "column {column} is zero",
    DECLARED: "field {row} does not say {value}",
    MARK: "the mark of products is something else",
    LABEL: "{label} is no integer from 0 to 32,767",
    DIMENSION: "the manifold has dimension {value}, not 4",
    NOT_PRODUCT: "it is marked as a product, but its matrix is connected",
    RELATION: "h22 should be {value}",
    CHI: "the Hodge numbers give chi {other}, the matrix {value}",
    EULER_FIELD: "field 4 says {other}, the matrix {value}",
}
NO_EULER = np.iinfo(np.int64).min  # field 4 of an entry is no integer
LARGEST_LABEL = np.iinfo(np.int16).max

_SHOWN = 3  # examples of each rule in a text
FAULT_COLUMNS = ("entry", "line", "code", "row", "column", "value", "other")


@dataclass(frozen=True)
class Entries:
    """A list as a reader found it, products and broken entries included.

    Attributes:
        matrices: uint8 (N, 16, 20).
        hodge: int16 (N, 4), in the order of ``HODGE_NAMES``; -1 where a label is Null.
        product: bool (N,), what the file marks as a product.
        faults: int64 (N, 4): a code of this module (SOUND, or the first thing wrong), then the
            row, column and value that go with it.
        euler: int64 (N,) of a field that probably is the Euler number, or None.
        lines: int64 (N,), the line on which an entry begins, from 1; None where there are none.
    """

    matrices: np.ndarray
    hodge: np.ndarray
    product: np.ndarray
    faults: np.ndarray
    euler: np.ndarray | None = None
    lines: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.matrices)


@dataclass(frozen=True)
class Report:
    """What :func:`validate` found.

    Attributes:
        source: the file or folder.
        entries: how many there are.
        products: how many of them are sound products.
        faults: one row for every broken rule of an entry, with ``FAULT_COLUMNS``; ``entry`` counts
            from 0, ``line`` from 1 (0: the source has no lines).
        notes: sentences on what is remarkable and breaks no rule.
        kept: int64, the sound entries that are no products.
        unlike: int64, those of the entries that break no rule on Hodge numbers, and have others
            than ``cicy_utils.topology`` computes.
    """

    source: str
    entries: int
    products: int
    faults: pd.DataFrame
    notes: tuple[str, ...]
    kept: np.ndarray
    unlike: np.ndarray

    @property
    def broken(self) -> np.ndarray:
        """int64, the entries that break a rule, in order."""
        return np.unique(self.faults["entry"].to_numpy(np.int64))

    def sentence(self, fault: pd.Series) -> str:
        """Where one row of ``faults`` is and what is wrong there."""
        where = f"entry {fault['entry']}"
        if fault["line"]:
            where += f" (line {fault['line']})"
        return f"{where}: {_detail(fault)}"

    def text(self) -> str:
        """A few lines: counts, and for every broken rule the first entries that break it."""
        lines = [
            f"{self.source}: {self.entries:,} entries, {self.products:,} products, "
            f"{len(self.kept):,} sound, {len(self.broken):,} broken (entries count from 0)"
        ]
        rules = self.faults["code"].map(rule_of)
        for rule, rows in self.faults.groupby(rules, sort=False):
            lines.append(f"  {len(rows):,} break the rule: {rule}")
            lines += [f"    {self.sentence(row)}" for _, row in rows.head(_SHOWN).iterrows()]
            if len(rows) > _SHOWN:
                lines.append(f"    and {len(rows) - _SHOWN:,} more")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def write_csv(self, path: Path) -> None:
        """All faults as a table: entry, line, rule, what is wrong."""
        table = self.faults[["entry", "line"]].copy()
        table["rule"] = self.faults["code"].map(rule_of)
        table["fault"] = [_detail(row) for row in self.faults.to_dict("records")]
        files.write_text(path, table.to_csv(index=False))

    def require_sound(self) -> None:
        """Nothing if no entry breaks a rule.

        Raises:
            Refused: some do; the message names the first.
        """
        if len(self.faults):
            raise Refused(
                f"{self.source}: {len(self.broken):,} of {self.entries:,} entries break a rule, "
                f"the first is {self.sentence(self.faults.iloc[0])}; list them with `python -m "
                f"cicy_utils.data check`, leave them out with drop=True or by `convert --drop`"
            )


def rule_of(code: int) -> str:
    """The rule that goes with a code of the column ``code`` of a report's faults."""
    return RULES.get(code, _CONFIGURATION_RULE)


def _detail(fault: Mapping[str, int]) -> str:
    code, row, column, value, other = (int(fault[name]) for name in FAULT_COLUMNS[2:])
    if code >= CONFIGURATION:
        return rule_message(code - CONFIGURATION, row, column, value)
    label = HODGE_NAMES[row] if code == LABEL else ""
    return _DETAILS[code].format(row=row, column=column, value=value, other=other, label=label)


def validate(entries: Entries, source: str | Path) -> Report:
    """Check every entry; the complete list takes a minute or two, most of it for Euler numbers.

    Args:
        entries: what a reader found.
        source: its name in messages.
    """
    found: list[np.ndarray] = []

    def note_faults(where: np.ndarray, *columns: np.ndarray | int) -> None:
        rows = np.zeros((len(where), 6), np.int64)
        rows[:, 0] = where
        for position, column in enumerate(columns, start=1):
            rows[:, position] = column
        found.append(rows)

    unread = np.flatnonzero(entries.faults[:, 0] != SOUND)
    note_faults(unread, *entries.faults[unread].T)

    readable = np.flatnonzero(entries.faults[:, 0] == SOUND)
    checked = _in_chunks(_check_configurations, entries.matrices, readable)
    code, dimension = checked[:, 0], checked[:, 4]
    product = entries.product[readable]
    four = dimension == 4
    block_diagonal = product & (code == PRODUCT)
    # broken_rule looks for products before anything that only connected matrices can break
    connected = product & ((code == VALID) | (code > PRODUCT))
    wrong = (code != VALID) & ~block_diagonal & ~connected
    unfit = ~wrong & ~connected & ~four
    note_faults(readable[wrong], code[wrong] + CONFIGURATION, *checked[wrong, 1:4].T)
    note_faults(readable[connected], NOT_PRODUCT)
    note_faults(readable[unfit], DIMENSION, 0, 0, dimension[unfit])

    fit = readable[~product & (code == VALID) & four]
    hodge = entries.hodge[fit].astype(np.int64)
    missing = (hodge < 0).any(axis=1)
    note_faults(fit[missing], LABEL, np.argmax(hodge[missing] < 0, axis=1))
    fit, hodge = fit[~missing], hodge[~missing]
    expected = h22_from_others(*hodge[:, :3].T)
    chi = euler_from_hodge(hodge)
    euler = _in_chunks(euler_numbers_batch, entries.matrices, fit)
    unrelated, unequal = hodge[:, 3] != expected, chi != euler
    note_faults(fit[unrelated], RELATION, 0, 0, expected[unrelated])
    note_faults(fit[unequal], CHI, 0, 0, euler[unequal], chi[unequal])

    notes = []
    if entries.euler is not None:
        field = entries.euler[fit]
        given = field != NO_EULER
        differs = given & (field != euler)
        # What the field is, the file does not say: it is the Euler number if it mostly is.
        if 2 * differs.sum() < given.sum():
            note_faults(fit[differs], EULER_FIELD, 0, 0, euler[differs], field[differs])
        elif given.any():
            notes.append("field 4 is not the Euler number here and was ignored")
    computed = _in_chunks(hodge_numbers_batch, entries.matrices, fit)
    sound = ~unrelated & ~unequal
    unlike = fit[sound & (computed != hodge).any(axis=1)]
    if len(unlike):
        notes.append(describe_unlike(unlike))

    rows = np.concatenate(found)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    lines = np.zeros(len(rows), np.int64) if entries.lines is None else entries.lines[rows[:, 0]]
    table = pd.DataFrame(np.insert(rows, 1, lines, axis=1), columns=list(FAULT_COLUMNS))
    kept = np.setdiff1d(np.flatnonzero(~entries.product), rows[:, 0])
    products = int((block_diagonal & four).sum())
    return Report(str(source), len(entries), products, table, tuple(notes), kept, unlike)


def describe_unlike(unlike: np.ndarray) -> str:
    """What to tell of ``Report.unlike``, int64, where there are some."""
    return (
        f"{len(unlike):,} entries have other Hodge numbers than cicy_utils.topology computes, "
        f"with the same Euler number; the first is entry {unlike[0]}"
    )


def _in_chunks(
    function: Callable[[np.ndarray], np.ndarray], matrices: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """A function of matrices for some of them, in threads."""
    return chunks.joined(lambda part: function(matrices[part]), where)


@njit(cache=True, nogil=True)
def _check_configurations(matrices):
    """Code, row, column and value of the first broken rule of each matrix, and its dimension."""
    result = np.zeros((len(matrices), 5), np.int64)
    for index in range(len(matrices)):
        matrix = matrices[index].astype(np.int64)
        code, row, column, value = broken_rule(matrix)
        result[index] = np.array([code, row, column, value, dimension_of(trimmed(matrix))])
    return result
