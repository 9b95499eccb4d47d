import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from cicy_utils import metrics
from cicy_utils.models import (
    MODELS,
    CNNBlock,
    ModelSpec,
    ResNetBlock,
    build_model,
    changes,
    count_weights,
    degrees,
    describe,
    graph_entries,
)
from cicy_utils.steps import scale

PUBLISHED = Path(__file__).parents[1] / "data" / "paper_results.csv"
UNUSED = 384  # weights of two batch norms that the reference counts and never calls

WEIGHTS = {
    "CNN-GRU-384": 2_222_276,
    "CNN-GRU-416": 2_487_748,
    "ResNet-GRU-256": 1_328_452,
    "ResNet-GRU-400": 2_336_452,
    "CNN-LSTM-256": 1_547_460,
    "CNN-LSTM-384": 2_673_860,
    "CNN-LSTM-400": 2_842_308,
    "CNN-LSTM-416": 3_016_900,
    "LSTM-400": 2_373_124,
    "LSTM-424": 2_637_316,
    "LSTM-448": 2_915_332,
    "LSTM-456": 3_011_076,
    "ResNet-LSTM-256": 1_531_204,
    "ResNet-LSTM-400": 2_826_052,
    "Graph-64": 890_244,
}


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_output_of_every_model(name):
    model = build_model(name, seed=1)
    assert count_weights(model) == WEIGHTS[name]
    output = model(torch.rand(3, 16, 20))
    assert output.shape == (3, 4)
    assert output.dtype == torch.float32


def test_weights_agree_with_the_published_table():
    with PUBLISHED.open() as file:
        published = {
            row["name"]: row["parameters_millions"]
            for row in csv.DictReader(file)
            if row["parameters_millions"]
        }
    assert len(published) == 12
    for name, millions in published.items():
        counted = WEIGHTS[name] + (UNUSED if name.startswith("ResNet") else 0)
        assert f"{counted / 1e6:.3f}" == millions


def test_feature_blocks():
    inputs = torch.rand(2, 16, 20)
    assert CNNBlock()(inputs).shape == (2, 384)
    assert ResNetBlock()(inputs).shape == (2, 256)
    assert count_weights(CNNBlock()) == 75_968
    assert count_weights(ResNetBlock()) == 190_784


def test_the_recurrent_block_ends_on_the_last_row():
    block = build_model("LSTM-400", hidden_size=5, seed=0).recurrent
    inputs = torch.rand(2, 16, 20)
    _, (last, _) = block.layers(inputs)
    torch.testing.assert_close(block(inputs), last[-1])


def test_both_directions_end_on_their_last_row():
    block = build_model("CNN-GRU-384", hidden_size=5, bidirectional=True, seed=0).recurrent
    inputs = torch.rand(2, 16, 20)
    _, last = block.layers(inputs)
    torch.testing.assert_close(block(inputs), torch.cat([last[-2], last[-1]], dim=1))


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
    other = metrics.permute_matrices(matrices, seed=1)
    moved = np.roll(matrices, (3, 5), axis=(1, 2))  # zero rows and columns anywhere, too
    answers = graph(scale(torch.tensor(matrices)))
    assert answers.std() > 0.05
    for same in (other, moved):
        torch.testing.assert_close(graph(scale(torch.tensor(same))), answers, rtol=1e-4, atol=1e-5)


def test_a_graph_with_zeros_among_its_entries_is_the_same(graph, cicy4_sample):
    """What a GPU computes; gradients are the same, too."""
    inputs = scale(torch.tensor(cicy4_sample.matrices[:50]))
    found = []
    for graph.graph.zeros in (False, True):
        graph.zero_grad()
        answers = graph(inputs)
        answers.square().mean().backward()
        found.append([answers, *(weight.grad.clone() for weight in graph.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_entries_know_their_rows_and_columns():
    matrices = torch.zeros(2, 16, 20, dtype=torch.long)
    matrices[0, 0, 0] = 6
    matrices[1, :2, :2] = torch.tensor([[1, 1], [1, 5]])
    entries = graph_entries(matrices, zeros=False)
    assert entries.values.tolist() == [6, 1, 1, 1, 5]
    assert entries.row.tolist() == [0, 1, 1, 2, 2]
    assert entries.column.tolist() == [0, 1, 2, 1, 2]
    assert entries.matrix_of_row.tolist() == entries.matrix_of_column.tolist() == [0, 1, 1]
    sums_and_numbers = [[6, 1, 6, 1], [2, 2, 2, 2], [2, 2, 6, 2], [6, 2, 2, 2], [6, 2, 6, 2]]
    assert (4 * degrees(entries)).tolist() == sums_and_numbers
    everywhere = degrees(graph_entries(matrices, zeros=True))
    assert torch.equal(everywhere[matrices.flatten() != 0], degrees(entries))


def test_a_matrix_does_not_depend_on_its_batch(graph, cicy4_sample):
    inputs = scale(torch.tensor(cicy4_sample.matrices[:20]))
    alone = torch.cat([graph(one[None]) for one in inputs])
    torch.testing.assert_close(graph(inputs), alone, rtol=1e-4, atol=1e-5)


def test_overrides_replace_the_table():
    model = build_model("LSTM-448", hidden_size=8, num_layers=3, bidirectional=True)
    assert model.spec == ModelSpec(None, "lstm", 8, 3, True)
    assert model(torch.rand(1, 16, 20)).shape == (1, 4)
    assert MODELS["LSTM-448"] == ModelSpec(None, "lstm", 448)


def test_a_seed_gives_one_set_of_weights_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, second = (build_model("LSTM-400", hidden_size=4, seed=3) for _ in range(2))
    other = build_model("LSTM-400", hidden_size=4, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_unknown_names_and_bad_sizes_are_refused():
    with pytest.raises(ValueError, match=r"unknown model 'LSTM-449'; choose one of CNN-GRU-384"):
        build_model("LSTM-449")
    for bad in ({"hidden_size": 0}, {"num_layers": 1.5}, {"hidden_size": True}):
        with pytest.raises(ValueError, match="must be a positive integer"):
            build_model("LSTM-448", **bad)
    with pytest.raises(ValueError, match="bidirectional must be True or False"):
        build_model("LSTM-448", bidirectional="yes")
    with pytest.raises(ValueError, match="block must be one of"):
        ModelSpec("vgg", "gru", 3)
    with pytest.raises(ValueError, match="recurrent must be one of"):
        ModelSpec(None, "rnn", 3)
    with pytest.raises(ValueError, match=r"one of \[None\] beside the block 'graph', not 'lstm'"):
        ModelSpec("graph", "lstm", 3)
    with pytest.raises(ValueError, match="a graph block has no direction"):
        build_model("Graph-64", bidirectional=True)


@pytest.mark.parametrize("name", ["CNN-LSTM-400", "ResNet-GRU-256", "LSTM-448", "Graph-64"])
def test_describe_accounts_for_every_weight(name):
    table = describe(build_model(name))
    assert table["weights"].sum() == WEIGHTS[name]
    assert table["output"].iloc[-1] == "4"
    assert table["layer"].is_unique


def test_describe_shows_shapes():
    table = describe(build_model("CNN-LSTM-400")).set_index("layer")
    assert table.loc["recurrent.layers", "output"] == "16 x 400"
    convolutions = table[table["type"].str.startswith("Conv2d")]
    assert convolutions["output"].tolist() == ["128 x 13 x 17", "64 x 4 x 6"]
    assert convolutions["weights"].tolist() == [2176, 73_792]
    graph = describe(build_model("Graph-64")).set_index("layer")
    assert graph.loc["graph.layers.11", "type"] == "MessageLayer(64)"
    assert graph.loc["graph.together", "output"] == "512"


def test_a_changed_network_says_what_is_changed():
    assert changes(build_model("LSTM-448", num_layers=2)) == []
    changed = build_model("LSTM-448", hidden_size=3, num_layers=1, bidirectional=True)
    assert changes(changed) == [
        "hidden size 3 instead of 448",
        "num layers 1 instead of 2",
        "bidirectional True instead of False",
    ]
