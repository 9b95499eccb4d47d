"""A configuration matrix as a graph, and a network whose messages run along its edges.

Rows and columns are the nodes and entries the edges, each with its degree. Permuting rows and
columns changes nothing in a graph, as it changes nothing in the manifold, so a network on graphs
has nothing to learn there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cicy_utils.data import MAX_ENTRY, SHAPE

ROWS, COLUMNS = SHAPE
USUAL_DEGREE = 4  # of a row or a column, so that what is divided by it is of order one
SHRINK = 10  # sums over a whole matrix are divided by this, which leaves them of order one


class Entries(NamedTuple):
    """The entries of B matrices as the edges of graphs whose nodes are their rows and columns.

    Attributes:
        values: int64 (E,), the entries, matrix after matrix.
        row, column: int64 (E,), to which of the R rows and C columns of all matrices each belongs.
        matrix_of_row, matrix_of_column: int64 (R,) and (C,), numbers below B.
        present: bool (E, 1), where zeros are among the entries, which are no edges; else None.
        matrices: B.
    """

    values: Tensor
    row: Tensor
    column: Tensor
    matrix_of_row: Tensor
    matrix_of_column: Tensor
    present: Tensor | None
    matrices: int


def graph_entries(matrices: Tensor, zeros: bool) -> Entries:
    """The graphs of configuration matrices.

    Args:
        matrices: integers (B, 16, 20).
        zeros: whether zeros come along. Only about 22 of 320 entries are others, so without zeros
            there is much less to compute; with them all sizes are known before the numbers are.
    """
    if zeros:
        place = torch.arange(matrices.numel(), device=matrices.device)
        row, column = place // COLUMNS, place // (ROWS * COLUMNS) * COLUMNS + place % COLUMNS
        rows = torch.arange(len(matrices) * ROWS, device=matrices.device)
        columns = torch.arange(len(matrices) * COLUMNS, device=matrices.device)
        values = matrices.flatten()
        present = (values != 0)[:, None]
    else:
        matrix, r, a = matrices.nonzero(as_tuple=True)
        rows, row = torch.unique(matrix * ROWS + r, return_inverse=True)
        columns, column = torch.unique(matrix * COLUMNS + a, return_inverse=True)
        values, present = matrices[matrix, r, a], None
    return Entries(
        values, row, column, rows // ROWS, columns // COLUMNS, present, matrices=len(matrices)
    )


def sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sum the rows of float (N, F) that belong to one group, int64 (N,), into (groups, F)."""
    return values.new_zeros(groups, values.shape[1]).index_add(0, group, values)


def degrees(entries: Entries) -> Tensor:
    """Sum and number of the entries in the row and in the column of each, float32 (E, 4).

    The sum of a row is n + 1 for a projective space P^n, that of a column the degree of its
    polynomial. A network could add them up by itself; given them, it learns sooner.
    """
    numbers = torch.stack([entries.values, entries.values != 0], dim=1).float()
    of_row = sums(numbers, entries.row, len(entries.matrix_of_row))
    of_column = sums(numbers, entries.column, len(entries.matrix_of_column))
    return torch.cat([of_row[entries.row], of_column[entries.column]], dim=1) / USUAL_DEGREE


class MessageLayer(nn.Module):
    """One round of messages: every entry learns the sums over its row, its column and its matrix.

    x' = x + A gelu(B y + C (sum of y in the row) + D (sum in the column) + E (sum in the matrix)),
    y = layer norm of x. Up to the residual form these are the layers that commute with all
    permutations of rows and columns (Hartford et al., arXiv 1803.02879).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.norm = nn.LayerNorm(size)
        self.own = nn.Linear(size, size)
        self.row = nn.Linear(size, size, bias=False)
        self.column = nn.Linear(size, size, bias=False)
        self.matrix = nn.Linear(size, size, bias=False)
        self.out = nn.Linear(size, size)
        nn.init.zeros_(self.out.weight)  # it begins as the identity, however many there are
        nn.init.zeros_(self.out.bias)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size})"

    def forward(self, x: Tensor, entries: Entries) -> Tensor:
        y = normalised(self.norm, x, entries)
        rows = sums(y, entries.row, len(entries.matrix_of_row))
        columns = sums(y, entries.column, len(entries.matrix_of_column))
        whole = self.matrix(sums(rows, entries.matrix_of_row, entries.matrices) / SHRINK)
        from_rows = self.row(rows) + whole.index_select(0, entries.matrix_of_row)
        message = (
            self.own(y)
            + from_rows.index_select(0, entries.row)
            + self.column(columns).index_select(0, entries.column)
        )
        return x + self.out(nn.functional.gelu(message))


def normalised(norm: nn.LayerNorm, x: Tensor, entries: Entries) -> Tensor:
    """What entries tell others: normalised, and nothing where there is a zero."""
    y = norm(x)
    return y if entries.present is None else y * entries.present


class GraphBlock(nn.Module):
    """A configuration matrix as a graph whose entries talk along rows and columns; 512 features.

    Whatever the order of rows and columns, the features are the same. The exact Hodge numbers are
    made of sums over rows and columns, as each line bundle O(e_r) and O(q_a) adds its cohomology;
    so are the features, of a function of every row, every column and every entry.

    Attributes:
        zeros: whether it computes with zeros, too, which changes nothing but the time it takes.
            None: on a GPU only, which sizes that depend on the numbers would keep waiting in every
            step, and which could not record that as a CUDA graph.
    """

    features = 512
    zeros: bool | None = None

    def __init__(self, size: int, num_layers: int) -> None:
        super().__init__()
        self.entry = nn.Embedding(MAX_ENTRY + 1, size)
        self.degrees = nn.Linear(4, size)
        self.layers = nn.ModuleList(MessageLayer(size) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)
        self.of_row = nn.Linear(size, size, bias=False)
        self.of_column = nn.Linear(size, size, bias=False)
        self.of_entry = nn.Linear(size, size, bias=False)
        self.together = nn.Linear(3 * size, self.features)

    def forward(self, inputs: Tensor) -> Tensor:
        zeros = inputs.is_cuda if self.zeros is None else self.zeros
        entries = graph_entries((inputs * MAX_ENTRY).round().long(), zeros)
        x = self.entry(entries.values) + self.degrees(degrees(entries))
        for layer in self.layers:
            x = layer(x, entries)
        y = normalised(self.norm, x, entries)
        rows = sums(y, entries.row, len(entries.matrix_of_row))
        columns = sums(y, entries.column, len(entries.matrix_of_column))
        parts = [
            (self.of_row(rows), entries.matrix_of_row),
            (self.of_column(columns), entries.matrix_of_column),
            (self.of_entry(y), entries.matrix_of_row[entries.row]),
        ]
        gelu = nn.functional.gelu
        whole = [sums(gelu(part), matrix, entries.matrices) for part, matrix in parts]
        return gelu(self.together(torch.cat(whole, dim=1) / SHRINK))
