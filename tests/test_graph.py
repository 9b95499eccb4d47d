"""The graph network: no order of rows and columns, and no difference between its three ways."""

import numpy as np
import pytest
import torch

from cicy_utils.benchmark_training import Everything
from cicy_utils.graph import Filled, Room, degrees, fixed_sizes, room_for
from cicy_utils.models import build_model
from cicy_utils.steps import permute_matrices, scale


@pytest.fixture
def graph():
    """A small graph network whose layers do something, which fresh ones do not yet."""
    model = build_model("Graph-64", hidden_size=8, num_layers=3, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.graph.layers.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 3)
    return model.eval()


def test_a_graph_has_no_order_of_rows_and_columns(graph, cicy4_sample):
    matrices = cicy4_sample.matrices
    other = permute_matrices(matrices, seed=1)
    moved = np.roll(matrices, (3, 5), axis=(1, 2))  # zero rows and columns anywhere, too
    answers = graph(scale(torch.tensor(matrices)))
    assert answers.std() > 0.05
    for same in (other, moved):
        torch.testing.assert_close(graph(scale(torch.tensor(same))), answers, rtol=1e-4, atol=1e-5)


def test_a_graph_with_zeros_among_its_entries_is_the_same(graph, cicy4_sample):
    """Gradients are the same, too."""
    inputs = scale(torch.tensor(cicy4_sample.matrices[:50]))
    expected = answers_and_gradients(graph, inputs)
    graph.graph.entries = Everything
    for one, other in zip(answers_and_gradients(graph, inputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def answers_and_gradients(model, inputs):
    model.zero_grad()
    answers = model(inputs)
    answers.square().mean().backward()
    return [answers.detach(), *(weight.grad.clone() for weight in model.parameters())]


@pytest.mark.parametrize("spare", [0, 1, 50])
def test_room_for_more_entries_than_there_are_changes_nothing(graph, cicy4_sample, spare):
    matrices = torch.tensor(cicy4_sample.matrices[:50])
    matrices[7] = 0  # has neither
    expected = answers_and_gradients(graph, scale(matrices))
    filled = matrices != 0
    enough = Room(*(int(n.sum()) for n in (filled, filled.any(2), filled.any(1))))
    graph.graph.room = Room(*(number + spare for number in enough))
    for one, other in zip(answers_and_gradients(graph, scale(matrices)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for part, number in enough._asdict().items():
        graph.graph.room = enough._replace(**{part: number - 1})
        assert graph(scale(matrices)).isnan().all()


@pytest.mark.parametrize("batch_size", [1, 16, 128, 300, 1024])
def test_there_is_room_for_every_batch(graph, cicy4_sample, batch_size):
    matrices = torch.tensor(cicy4_sample.matrices)
    drawn_from = torch.arange(0, 300, 2)
    generator = torch.Generator().manual_seed(0)
    with fixed_sizes(graph, matrices, drawn_from, batch_size) as others:
        assert others
        for _ in range(5):
            batch = drawn_from[torch.randint(150, (batch_size,), generator=generator)]
            assert graph(scale(matrices[batch])).isfinite().all()


def test_how_much_room_there_is(monkeypatch):
    """That of the fullest ones for small batches; for large ones little more than the mean."""
    monkeypatch.setattr("cicy_utils.graph.PIECE", 30)
    matrices = torch.zeros(100, 16, 20, dtype=torch.uint8)
    matrices[:, 0, :2] = 1
    matrices[50:, :3, :2] = 1
    matrices[99] = 1  # in no batch
    drawn_from = torch.arange(99)
    assert room_for(matrices, drawn_from, 2) == (12, 6, 4)
    entries, rows, columns = room_for(matrices, drawn_from, 10_000)
    assert columns == 20_000  # all have two
    sizes, drawn = np.r_[np.full(50, 2), np.full(49, 6)], np.random.default_rng(0)
    totals = drawn.choice(sizes, (200, 10_000)).sum(axis=1)
    beyond = (entries - totals.mean()) / totals.std()
    assert 7 < beyond < 10  # standard deviations, where one in 10^15 batches would have more
    assert entries - totals.mean() == pytest.approx(2 * (rows - totals.mean() / 2), abs=3)


def test_only_a_graph_has_fixed_sizes_and_only_within(graph):
    matrices, some = torch.ones(3, 16, 20, dtype=torch.uint8), torch.arange(3)
    with fixed_sizes(build_model("LSTM-448", hidden_size=2), matrices, some, 2) as others:
        assert not others
    with pytest.raises(KeyError), fixed_sizes(graph, matrices, some, 1):
        assert graph.graph.room.entries == 320
        raise KeyError
    assert graph.graph.room is None


def test_entries_know_their_rows_and_columns():
    matrices = torch.zeros(2, 16, 20, dtype=torch.long)
    matrices[0, 0, 0] = 6
    matrices[1, :2, :2] = torch.tensor([[1, 1], [1, 5]])
    entries = Filled(matrices)
    assert entries.values.tolist() == [6, 1, 1, 1, 5]
    assert entries.row.tolist() == [0, 1, 1, 2, 2]
    assert entries.column.tolist() == [0, 1, 2, 1, 2]
    assert entries.matrix.tolist() == [0, 1, 1, 1, 1]
    assert entries.matrix_of_row.tolist() == entries.matrix_of_column.tolist() == [0, 1, 1]
    sums_and_numbers = [[6, 1, 6, 1], [2, 2, 2, 2], [2, 2, 6, 2], [6, 2, 2, 2], [6, 2, 6, 2]]
    assert (4 * degrees(entries)).tolist() == sums_and_numbers
    assert torch.equal(degrees(Everything(matrices))[matrices != 0], degrees(entries))


def test_a_matrix_does_not_depend_on_its_batch(graph, cicy4_sample):
    inputs = scale(torch.tensor(cicy4_sample.matrices[:20]))
    alone = torch.cat([graph(one[None]) for one in inputs])
    torch.testing.assert_close(graph(inputs), alone, rtol=1e-4, atol=1e-5)


def test_most_entries_are_zeros(cicy4):
    """What makes it worth while to leave them out."""
    filled = np.count_nonzero(cicy4.matrices) / len(cicy4)
    assert round(filled) == 22
