"""A configuration matrix as a graph, and a network whose messages run along its edges.

Rows and columns are the nodes and entries the edges, each with its degree. Permuting rows and
columns changes nothing in a graph, as it changes nothing in the manifold, so a network on graphs
has nothing to learn there.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cicy_utils.data import MAX_ENTRY, SHAPE

ROWS, COLUMNS = SHAPE
USUAL_DEGREE = 4  # of a row or a column, so that what is divided by it is of order one
SHRINK = 10  # sums over a whole matrix are divided by this, which leaves them of order one
MARGIN = 8  # standard deviations by which a batch drawn at random does not exceed the mean
PIECE = 65_536  # matrices that are counted at a time


class Filled:
    """The E entries of B matrices that are not zero, and the R rows and C columns that they fill.

    What is known of each is a row of a float tensor: (E, F) for entries, (R, F) for rows, (C, F)
    for columns, (B, F) for matrices.

    Attributes:
        values: int64 (E,), the entries, matrix after matrix.
        row, column: int64 (E,), to which row and column each belongs.
        matrix_of_row, matrix_of_column, matrix: int64 (R,), (C,) and (E,), numbers below B.
    """

    def __init__(self, matrices: Tensor) -> None:
        self.matrix, row, column = matrices.nonzero(as_tuple=True)
        self.values = matrices[self.matrix, row, column]
        rows, self.row = torch.unique(self.matrix * ROWS + row, return_inverse=True)
        columns, self.column = torch.unique(self.matrix * COLUMNS + column, return_inverse=True)
        self.matrix_of_row, self.matrix_of_column = rows // ROWS, columns // COLUMNS
        self.matrices = len(matrices)

    def of_matrices(self, x: Tensor) -> Tensor:
        """What is known of the matrices asked for."""
        return x

    def row_sums(self, x: Tensor) -> Tensor:
        return sums(x, self.row, len(self.matrix_of_row))

    def column_sums(self, x: Tensor) -> Tensor:
        return sums(x, self.column, len(self.matrix_of_column))

    def sum_of_rows(self, rows: Tensor) -> Tensor:
        return sums(rows, self.matrix_of_row, self.matrices)

    def sum_of_columns(self, columns: Tensor) -> Tensor:
        return sums(columns, self.matrix_of_column, self.matrices)

    def sum_of_entries(self, x: Tensor) -> Tensor:
        return sums(x, self.matrix, self.matrices)

    def of_matrix(self, whole: Tensor) -> Tensor:
        """What every row knows of its matrix."""
        return whole.index_select(0, self.matrix_of_row)

    def of_row(self, rows: Tensor) -> Tensor:
        """What every entry knows of its row."""
        return rows.index_select(0, self.row)

    def of_column(self, columns: Tensor) -> Tensor:
        return columns.index_select(0, self.column)


class Room(NamedTuple):
    """How many entries, rows and columns of a batch can be filled; tensors have room for these."""

    entries: int
    rows: int
    columns: int


def room_for(matrices: Tensor, drawn_from: Tensor, batch_size: int) -> Room:
    """Room for batches of this size drawn at random from part of (N, 16, 20) matrices.

    It is what so many of the fullest one would need, or that one and eight standard deviations
    more than an average batch, whichever is less.
    """
    counts = torch.cat([_filled(piece) for piece in matrices.split(PIECE)])[drawn_from].double()
    spread, mean = torch.std_mean(counts, dim=0, correction=0)
    most = counts.amax(0)
    usual = mean * batch_size + MARGIN * spread * math.sqrt(batch_size) + most
    return Room(*torch.minimum(most * batch_size, usual.ceil()).int().tolist())


def _filled(matrices: Tensor) -> Tensor:
    """How many entries, rows and columns of each matrix are not zero, int64 (N, 3)."""
    filled = matrices != 0
    counts = filled.sum((1, 2)), filled.any(2).sum(1), filled.any(1).sum(1)
    return torch.stack(counts, dim=1)


class Padded(Filled):
    """The same in tensors whose sizes do not depend on the numbers, so that a GPU need not wait
    to know them and can repeat what it has recorded.

    What is left of the room belongs to one more row, column and matrix, which are left out in the
    end. Should the room not do, all that is known of the matrices is not a number.
    """

    def __init__(self, matrices: Tensor, room: Room) -> None:
        filled = matrices != 0
        rows, columns = filled.any(2).flatten(), filled.any(1).flatten()
        row_numbers, row_places = numbered(rows, room.rows)
        column_numbers, column_places = numbered(columns, room.columns)
        entry_numbers, _ = numbered(filled.flatten(), room.entries)
        self.matrix = entry_numbers // (ROWS * COLUMNS)
        self.values = nn.functional.pad(matrices.flatten(), (0, 1))[entry_numbers]
        self.row = row_places[entry_numbers // COLUMNS]
        self.column = column_places[self.matrix * COLUMNS + entry_numbers % COLUMNS]
        self.matrix_of_row, self.matrix_of_column = row_numbers // ROWS, column_numbers // COLUMNS
        self.matrices = len(matrices) + 1
        counts = zip((filled, rows, columns), room, strict=True)
        self.enough = torch.stack([flags.sum() <= most for flags, most in counts]).all()

    def of_matrices(self, x: Tensor) -> Tensor:
        return torch.where(self.enough, x[:-1], torch.nan)


def numbered(flags: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Which of N flags are up, and where each of these is found, if there are no more than room.

    Returns:
        The numbers of the flags that are up, int64 (room + 1,), what is left filled with N; and
        for each flag where its number is, int64 (N + 1,), the last place if it is down.
    """
    place = torch.where(flags, flags.cumsum(0) - 1, room).clamp(max=room)
    numbers = place.new_full((room + 1,), len(flags))
    numbers.scatter_(0, place, torch.arange(len(flags), device=flags.device))
    numbers[-1:].fill_(len(flags))  # where all that are down have left theirs
    return numbers, nn.functional.pad(place, (0, 1), value=room)


def sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sum the rows of float (N, F) that belong to one group, int64 (N,), into (groups, F)."""
    return values.new_zeros(groups, values.shape[1]).index_add_(0, group, values)


def degrees(entries: Filled) -> Tensor:
    """Sum and number of the entries in the row and in the column of each, float32 (..., 4).

    The sum of a row is n + 1 for a projective space P^n, that of a column the degree of its
    polynomial. A network could add them up by itself; given them, it learns sooner.
    """
    numbers = torch.stack([entries.values, entries.values != 0], dim=-1).float()
    of_row = entries.of_row(entries.row_sums(numbers))
    of_column = entries.of_column(entries.column_sums(numbers))
    return torch.cat([of_row, of_column], dim=-1) / USUAL_DEGREE


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

    def forward(self, x: Tensor, entries: Filled) -> Tensor:
        y = self.norm(x)
        rows, columns = entries.row_sums(y), entries.column_sums(y)
        whole = self.matrix(entries.sum_of_rows(rows) / SHRINK)
        from_rows = self.row(rows) + entries.of_matrix(whole)
        from_columns = self.column(columns)
        message = self.own(y) + entries.of_row(from_rows) + entries.of_column(from_columns)
        return x + self.out(nn.functional.gelu(message))


class GraphBlock(nn.Module):
    """A configuration matrix as a graph whose entries talk along rows and columns; 512 features.

    Whatever the order of rows and columns, the features are the same. The exact Hodge numbers are
    made of sums over rows and columns, as each line bundle O(e_r) and O(q_a) adds its cohomology;
    so are the features, of a function of every row, every column and every entry.

    Attributes:
        room: for what is not zero; None for as much as there is. See ``fixed_sizes``.
    """

    features = 512
    room: Room | None = None

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
        entries = self.entries((inputs * MAX_ENTRY).round().long())
        x = self.entry(entries.values) + self.degrees(degrees(entries))
        for layer in self.layers:
            x = layer(x, entries)
        y = self.norm(x)
        gelu = nn.functional.gelu
        parts = [
            entries.sum_of_rows(gelu(self.of_row(entries.row_sums(y)))),
            entries.sum_of_columns(gelu(self.of_column(entries.column_sums(y)))),
            entries.sum_of_entries(gelu(self.of_entry(y))),
        ]
        return entries.of_matrices(gelu(self.together(torch.cat(parts, dim=1) / SHRINK)))

    def hidden_matrices(self) -> list[tuple[nn.Parameter, int]]:
        """Those of its rounds of messages."""
        weights = (weight for weight in self.layers.parameters() if weight.ndim == 2)
        return [(weight, 1) for weight in weights]

    def entries(self, matrices: Tensor) -> Filled:
        """What is computed with of int64 (B, 16, 20) matrices."""
        return Filled(matrices) if self.room is None else Padded(matrices, self.room)


@contextlib.contextmanager
def fixed_sizes(
    model: nn.Module, matrices: Tensor, drawn_from: Tensor, batch_size: int
) -> Iterator[bool]:
    """Within it, a network computes with tensors of the same sizes for every batch of this size.

    Yields whether that makes a difference: for other networks it does not.

    matrices, drawn_from: (N, 16, 20), and the numbers of those that batches are drawn from.
    """
    blocks = [module for module in model.modules() if isinstance(module, GraphBlock)]
    before = [block.room for block in blocks]
    room = room_for(matrices, drawn_from, batch_size) if blocks else None
    try:
        for block in blocks:
            block.room = room
        yield bool(blocks)
    finally:
        for block, earlier in zip(blocks, before, strict=True):
            block.room = earlier
